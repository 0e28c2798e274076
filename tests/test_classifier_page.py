"""`cnnhw export --out classifier.html`: one page that classifies as `cnnhw predict` does, and that anybody can use."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnnhw
from cnnhw import models
from cnnhw.data import scenes
from cnnhw.errors import CnnhwError
from cnnhw.evaluation import interpreter
from cnnhw.evaluation.export import read_threshold, to_html
from cnnhw.models import ensemble, pretrained, weights
from cnnhw.models.heads import Head, replace_head

pytestmark = pytest.mark.xdist_group("classifier")  # one browser for all

HOSTILE = (
    "<img src=x onerror=alert(1)>", '=HYPERLINK("http://example.org")', 'a "b", c', "\u202eevil",
    "</script><script>alert(2)</script> and a name so long that no phone can show it in one line",
)  # fmt: skip
THRESHOLD = {"accuracy": 0.95, "probability": 0.655, "validation": {"photos": 40, "answered": 30, "correct": 29}}
CHANGE = 2e-3  # of a probability: kernels are rounded, and the table of `predict` is


def small(classes=("cat", "dog", "fox"), size=16):
    model = models.create("q1_shallow", len(classes), size=size)
    model.classes = tuple(classes)
    return model.eval()


class Read(HTMLParser):
    """Finds the scripts of a page, and its title."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.key = {}, ""
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.key = dict(attrs).get("id", tag)

    def handle_data(self, data):
        self.texts[self.key] = self.texts.get(self.key, "") + data

    def handle_endtag(self, tag):
        self.key = ""


def held(path):
    return json.loads(Read(path.read_text(encoding="utf-8")).texts["data"])


# ---- what is written ---------------------------------------------------------------------------------------------


def test_the_page_holds_the_network_and_what_is_known_of_it(tmp_path):
    model = small(HOSTILE)
    model.licence = "for </title> research"
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    difference = to_html(model, tmp_path / "new" / "page.html", crop=True, threshold=THRESHOLD)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["page.html"]
    found = held(tmp_path / "new" / "page.html")
    assert found["about"] == {
        "classes": list(HOSTILE), "size": 16, "crop": True, "threshold": THRESHOLD, "licence": "for </title> research",
        "network": "q1_shallow", "difference": difference, "version": cnnhw.__version__,
    }  # fmt: skip
    for ours, theirs in zip(interpreter.unpack(found["program"]), model.state_dict().values(), strict=True):
        limit = 0 if theirs.dim() == 1 else float(theirs.abs().max()) / 2**16  # half a unit
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=limit)
    to_html(model, tmp_path / "again.html", crop=True, threshold=THRESHOLD)
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "new" / "page.html").read_bytes()


@pytest.mark.parametrize(
    ("classes", "title"),
    [
        (("cat",), "cat?"),
        (("cat", "dog"), "cat or dog?"),
        (("a", "b", "c"), "a, b or c?"),
        (tuple(f"class of some length {i}" for i in range(4)), "Which of 4 classes?"),
        (("<b>&", "</title>"), "<b>& or </title>?"),
        (("\ud800", "dög"), "? or dög?"),  # what is no Unicode cannot be written
    ],
)
def test_the_title_asks_for_the_classes_and_nothing_in_them_is_read_as_html(tmp_path, classes, title):
    to_html(small(classes), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    read = Read(text)
    assert read.texts["title"] == title
    assert read.scripts == 4  # data, engine, photos, page
    assert text.count("http-equiv") == 1


def test_classes_without_names_have_numbers(tmp_path):
    model = models.create("q1_shallow", 2, size=16).eval()
    to_html(model, tmp_path / "page.html")
    assert held(tmp_path / "page.html")["about"]["classes"] == ["class 0", "class 1"]


def test_kernels_that_16_bits_cannot_hold_are_written_in_single_precision(tmp_path):
    model = small()
    with torch.no_grad():
        model.head.dense1.weight[:, 0] = 1e7  # beside it all others vanish
        model.features.conv3.weight[0] = 0  # and it is multiplied by nothing
        model.features.conv3.bias[0] = -1
    assert to_html(model, tmp_path / "page.html") < 1e-5
    program = held(tmp_path / "page.html")["program"]
    assert not any("units" in one for one in program["weights"])
    assert max(float(one.max()) for one in interpreter.unpack(program)) > 1e4


@pytest.mark.parametrize("wrong", [1.0, np.nan])
def test_a_page_that_computes_otherwise_is_not_written(tmp_path, monkeypatch, wrong):
    true = interpreter.compute
    shift = torch.tensor([wrong, 0, 0])
    monkeypatch.setattr(interpreter, "compute", lambda described, photo: true(described, photo) + shift)
    with pytest.raises(CnnhwError, match=r"the page's q1_shallow does not compute the same: .*Nothing was written"):
        to_html(small(), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


# ---- the threshold -----------------------------------------------------------------------------------------------


def test_the_threshold_is_that_of_the_run_beside_the_weights(tmp_path):
    run = {"threshold": THRESHOLD | {"test": {"photos": 1, "answered": 1, "correct": 1}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert read_threshold(tmp_path) == read_threshold(tmp_path / "weights.safetensors") == THRESHOLD
    assert read_threshold(tmp_path / "other.safetensors") is None  # of another run, perhaps
    run["threshold"]["probability"] = None
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert read_threshold(tmp_path)["probability"] is None


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"threshold": null}', '{"threshold": 0.5}', "[" * 100_000, "\ud800",
        json.dumps({"threshold": THRESHOLD | {"probability": 2}}),
        json.dumps({"threshold": THRESHOLD | {"accuracy": "a"}}),
        json.dumps({"threshold": THRESHOLD | {"probability": float("nan")}}),
        json.dumps({"threshold": THRESHOLD | {"validation": {"photos": "many"}}}),
        json.dumps({"threshold": THRESHOLD | {"validation": {"photos": float("inf"), "answered": 1, "correct": 1}}}),
        json.dumps({"threshold": THRESHOLD | {"accuracy": None}}),
    ],
)  # fmt: skip
def test_a_run_that_says_nothing_of_it_has_none(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode(errors="surrogatepass"))
    assert read_threshold(tmp_path) is None


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    weights.save_weights(small(), tmp_path / "run" / "weights.safetensors", licence="CC BY 2.0")
    return tmp_path


def test_the_suffix_decides(saved, run):
    (saved / "run" / "run.json").write_text(json.dumps({"threshold": THRESHOLD}))
    code, out, err = run("export", "run", "--out", "new/Pets.HTML", "--crop")
    assert (code, err) == (0, "")
    first, second, third, fourth = out.splitlines()
    assert first.startswith("new/Pets.HTML: the middle square of a photo, of 16x16 pixels, to 3 classes; ")
    assert second.startswith("Checked: on random photos its probabilities differ from the network's by ")
    assert third == 'It says "not sure" below 65.5%, as the validation photos had it.'
    assert fourth == "Licence of the weights: CC BY 2.0"
    assert held(saved / "new" / "Pets.HTML")["about"]["threshold"] == THRESHOLD


def test_without_a_threshold_the_command_says_that_it_is_a_guess(saved, run):
    code, out, _ = run("export", "run/weights.safetensors", "--out", "page.html")
    assert code == 0
    assert "is a guess: the run has chosen none" in out
    assert held(saved / "page.html")["about"]["crop"] is False


@pytest.mark.parametrize("out", ["page.htm", "page", "page.html.txt", "."])
def test_another_suffix_is_one_clear_error(saved, run, out):
    code, _, err = run("export", "run", "--out", out)
    assert code == 2
    assert err.splitlines()[-1].startswith("Error: ")
    assert out == "." or "let its name end in .onnx or .html" in err
    assert {one.name for one in saved.iterdir()} == {"run"}


def test_an_onnx_file_takes_no_crop(saved, run):
    code, _, err = run("export", "run", "--crop")
    assert code == 2
    assert "--crop is for pages (.html)" in err


def test_a_page_does_not_write_over(saved, run):
    (saved / "page.html").write_text("mine")
    code, _, err = run("export", "run", "--out", "page.html")
    assert code == 2
    assert "page.html already exists: choose another file with --out" in err
    assert (saved / "page.html").read_text() == "mine"


# ---- in a browser ------------------------------------------------------------------------------------------------

in_browser = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"),
]
AXE = """async tags => (await axe.run(document, {runOnly: {type: 'tag', values: tags}, preload: false})).violations
  .map(({id, impact, nodes}) => [id, impact, nodes.map(node => node.target.join(' '))])"""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
GIVE = """([event, files]) => {
  const transfer = new DataTransfer();
  for (const [name, text, type] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name, {type}));
  }
  const given = event === 'paste' ? {clipboardData: transfer} : {dataTransfer: transfer};
  const kind = event === 'paste' ? ClipboardEvent : DragEvent;
  document.body.dispatchEvent(new kind(event, {...given, bubbles: true, cancelable: true}));
}"""


@pytest.fixture
def visit(browser):
    """Open a page from its folder; in the end, nothing may have gone wrong and nothing been asked of anybody."""
    contexts, wrong = [], []

    def call(path, **options):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "blob:", "data:")) else wrong.append(asked.url),
        )
        page.goto(path.as_uri())
        return page

    yield call
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export the network `fast`, its classes called as nobody would."""
    folder = tmp_path_factory.mktemp("exported")

    def call(**options):
        path = folder / f"{len(list(folder.iterdir()))}.html"
        model = cnnhw.load("fast")
        model.classes = HOSTILE
        to_html(model, path, **options)
        return path

    return call


@pytest.fixture(scope="module")
def plain(exported):
    return exported()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Write 20 photos, half of them as PNG, so small that Pillow does not shrink them while it decodes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, image in enumerate(scenes.draw(20, size=128, first=10**6).images):
        width, height = rng.integers(90, 240, 2)
        photo = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((int(width), int(height)))
        photo.save(folder / f"photo {number:02}.{'png' if number % 2 else 'jpg'}", quality=90)
    return sorted(folder.iterdir())


def give(page, event, files):
    page.evaluate(GIVE, [event, [[one.name, base64.b64encode(one.read_bytes()).decode(), ""] for one in files]])


def settled(page, text):
    page.locator("#status", has_text=text).wait_for()


def table(page):
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "classes.csv"
    text = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text)))


def fast():
    return cnnhw.load("fast")


def two():
    """An ensemble of the shipped network and of one like it."""
    members = [cnnhw.load("fast"), cnnhw.load("fast")]
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in members[1].parameters():
            weight += 0.02 * weight.std(correction=0) * torch.randn_like(weight)
    return ensemble.joined(members)


def hidden():
    """A transfer with another head, which answers as if it had been trained: not all alike."""
    model = cnnhw.load("fast")
    torch.manual_seed(0)
    replace_head(model, Head(hidden=32, dropout=0.5, pool="flatten"), 5)
    with torch.no_grad():
        model.head[-1].weight *= 10
    return model.eval()


def imagenet():
    return pretrained.load("efficientnet_lite0", size=96)


class TestInTheBrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize(
        ("make", "crop"), [(fast, False), (fast, True), (two, False), (hidden, True), (imagenet, False)]
    )
    def test_it_answers_as_predict_does(self, visit, photos, run, tmp_path, make, crop, figures):
        weights.save_weights(make(), tmp_path / "own.safetensors")
        more = ["--crop"] if crop else []
        assert run("export", tmp_path / "own.safetensors", "--out", tmp_path / "page.html", *more)[0] == 0
        code, out, _ = run("predict", tmp_path / "own.safetensors", *photos, "--csv", *more)
        assert code == 0
        head, *expected = list(csv.reader(io.StringIO(out)))
        page = visit(tmp_path / "page.html")
        page.set_input_files("#files", photos)
        settled(page, "20 photos classified")
        found_head, *found = table(page)
        assert found_head == [*head[:2], "sure", *head[2:]]
        assert [row[0] for row in found] == [path.name for path in photos]
        ours, theirs = (np.array([row[skip:] for row in rows], float) for skip, rows in ((3, found), (2, expected)))
        worst = float(np.abs(ours - theirs).max())
        figures("site", photos_classified_in_the_browser=20, worst_probability_in_the_browser=worst)
        assert worst <= CHANGE
        certain = np.sort(theirs)[:, -1] - np.sort(theirs)[:, -2] > 2 * CHANGE  # else either may be on top
        assert certain.sum() >= 15
        assert [row[1] for row in np.array(found)[certain]] == [row[1] for row in np.array(expected)[certain]]
        assert len(set(ours.argmax(1))) > 1

    def test_names_are_texts(self, visit, plain, photos):
        page = visit(plain)
        assert page.locator("h1").inner_text() == page.title()
        assert page.locator("#classes li").all_text_contents() == list(HOSTILE)
        odd = [(f"{name}.jpg", path.read_bytes()) for name, path in zip(HOSTILE, photos, strict=False)]
        page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": data} for name, data in odd])
        settled(page, "5 photos classified")
        shown = page.locator(".file").all_text_contents()
        assert sorted(shown) == sorted(name for name, _ in odd)
        assert set(page.locator(".bars li span:first-child").all_text_contents()) - {""} <= set(HOSTILE)
        assert page.locator("img:not(.thumbnail), script[src]").count() == 0
        head, *rows = table(page)
        assert head[3:] == [HOSTILE[0], f"'{HOSTILE[1]}", *HOSTILE[2:]]  # no formula for a spreadsheet
        assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)

    def test_drop_paste_and_files_that_are_no_photos(self, visit, plain, photos, tmp_path):
        page = visit(plain)
        give(page, "drop", photos[:3])
        settled(page, "3 photos classified")
        (tmp_path / "image.png").write_bytes(photos[1].read_bytes())
        give(page, "paste", [tmp_path / "image.png"])
        settled(page, "pasted 1.png: ")
        assert page.locator(".file").first.inner_text() == "pasted 1.png"  # the last lot comes first
        give(page, "paste", [])
        settled(page, "no photo on the clipboard")
        give(page, "drop", [])
        settled(page, "No file was dropped")
        for name, data in {
            "IMG_1.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0", "notes.txt": b"hello", "cut.jpg": photos[0].read_bytes()[:60],
            "empty.png": b"", "scan.tif": b"II*\0" + bytes(40), "a.txt": b"a", "b.txt": b"b", "c.txt": b"c",
        }.items():  # fmt: skip
            (tmp_path / name).write_bytes(data)
        odd = [path for path in sorted(tmp_path.iterdir()) if path.name != "image.png"]
        give(page, "drop", [*odd, photos[4]])
        settled(page, "8 files left out")
        assert page.locator("#left h2").inner_text() == "8 files left out"
        lines = "\n".join(page.locator("#left li").all_text_contents())
        assert "IMG_1.HEIC: HEIC, as iPhones take them, which this browser cannot read: save it as JPEG" in lines
        assert "cut.jpg: damaged, or too large" in lines
        assert "empty.png: empty" in lines
        assert "scan.tif: TIFF" in lines
        assert "a.txt, b.txt, c.txt and 1 more: no photo" in lines
        assert page.locator("#list > li").count() == 5
        page.locator("#clear").click()
        assert page.locator("#list > li").count() == 0
        assert page.locator("#left").is_hidden()

    def test_keyboard_alone(self, visit, plain, photos):
        page = visit(plain)
        page.on("filechooser", lambda _: None)  # from now on none is shown, but told
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "known"
        page.keyboard.press("Enter")
        page.locator("#classes li").first.wait_for()
        page.wait_for_timeout(500)
        page.locator("#choose").focus()
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        assert chooser.value.is_multiple()
        chooser.value.set_files(photos[:6])
        settled(page, "6 photos classified")
        page.locator("#threshold").focus()
        page.keyboard.press("End")
        assert page.locator("#level").inner_text() == "100\u00a0%"
        assert page.locator(".unsure").count() == 6
        assert page.locator(".verdict").first.inner_text().startswith("Not sure: ")
        page.keyboard.press("Home")
        assert page.locator(".unsure").count() == 0
        page.locator("#reset").press("Enter")
        assert page.locator("#level").inner_text() == "60\u00a0%"
        assert page.evaluate("document.activeElement.id") == "threshold"

    def test_only_some_results_are_shown(self, visit, plain, photos):
        page = visit(plain)
        page.set_input_files("#files", photos)
        settled(page, "20 photos classified")
        unsure = page.locator(".unsure").count()
        assert 0 < unsure < 20
        page.locator("#show").select_option("-1")
        assert page.locator("#list > li:visible").count() == unsure
        assert f"not sure ({unsure})" in page.locator("#show").inner_text()
        assert len(table(page)) == 21  # the table is whole

    def test_the_camera(self, visit, plain):
        page = visit(plain)
        page.locator("#camera").click()
        page.locator("#viewer[open]").wait_for()
        page.locator("video").evaluate(
            "video => video.videoWidth || new Promise(done => { video.onloadeddata = done; })"
        )
        page.locator("#shoot").click()
        page.locator("#taken", has_text="1 photo taken").wait_for()
        page.keyboard.press("Escape")
        assert not page.locator("#viewer").is_visible()
        assert page.locator("video").evaluate("video => video.srcObject") is None
        settled(page, "camera 1.png: ")

    def test_a_phone(self, visit, plain, photos):
        page = visit(plain, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
        with page.expect_file_chooser() as chooser:
            page.locator("#camera").tap()
        assert chooser.value.element.get_attribute("capture") == "environment"
        with page.expect_file_chooser() as chooser:
            page.locator("#choose").tap()
        chooser.value.set_files(photos[:4])
        settled(page, "4 photos classified")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        sides = page.evaluate(
            """[...document.querySelectorAll('button, select, summary, #threshold')]
              .filter(one => one.checkVisibility()).map(one => one.offsetHeight)"""
        )
        assert min(sides) >= 44

    def test_a_threshold_that_was_chosen(self, visit, exported, photos):
        page = visit(exported(threshold=THRESHOLD))
        page.set_input_files("#files", photos)
        settled(page, "20 photos classified")
        assert page.locator("#level").inner_text() == "65.5\u00a0%"
        assert page.locator("#origin").inner_text() == (
            "Chosen on the 40 validation photos: it answered 30 of them, and at least 95\u00a0% of these answers were "
            "correct."
        )
        rows = table(page)[1:]
        assert [row[2] for row in rows] == ["yes" if max(map(float, row[3:])) >= 0.655 else "no" for row in rows]
        assert {row[2] for row in rows} == {"yes", "no"}

    def test_a_threshold_that_none_is_good_enough_for(self, visit, exported, photos):
        page = visit(exported(threshold=THRESHOLD | {"probability": None}))
        page.set_input_files("#files", photos[:1])
        settled(page, "photo 00.jpg: ")
        assert page.locator("#level").inner_text() == "60\u00a0%"
        assert (
            page.locator("#origin")
            .inner_text()
            .startswith("60\u00a0% is a guess: on the 40 validation photos, no thre")
        )

    def test_many_photos_never_stall_the_page_and_can_be_stopped(self, visit, plain, photos):
        page = visit(plain)
        page.evaluate(
            """() => {
              window.longest = 0;
              let last = performance.now();
              setInterval(() => {
                window.longest = Math.max(window.longest, performance.now() - last);
                last = performance.now();
              }, 10);
            }"""
        )
        page.set_input_files("#files", photos * 10)
        page.locator("#count", has_text="of 200 photos").wait_for()
        page.locator("#list > li").nth(20).wait_for()
        page.locator("#stop").click()
        settled(page, "photos classified")
        assert 20 < page.locator("#list > li").count() < 200
        assert page.locator("#working").is_hidden()
        assert page.evaluate("longest") < 500  # ms, while other work goes on beside

    def test_a_very_large_photo_is_read_at_a_part_of_its_size(self, visit, plain, tmp_path):
        page = visit(plain)
        fine = np.linspace(0, 255, 5000, dtype=np.float32)[None, :] * np.ones((4000, 1), np.float32)
        Image.fromarray(np.dstack([fine, fine[:, ::-1], fine // 2]).astype(np.uint8)).save(tmp_path / "large.png")
        text = base64.b64encode((tmp_path / "large.png").read_bytes()).decode()
        sides, square = page.evaluate(
            """async text => {
              const tools = photoTools();
              const file = new Blob([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))]);
              const pixels = await tools.read(file);
              return [[pixels.width, pixels.height], Array.from(tools.resize(pixels, 32))];
            }""",
            text,
        )
        assert sides == [2500, 2000]
        ours = np.array(square).reshape(32, 32, 4)[:, :, :3]
        expected = cnnhw.data.read_photo(tmp_path / "large.png", size=32).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(ours - expected).max() <= 1

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1280])
    def test_axe_finds_nothing(self, visit, plain, photos, tmp_path, scheme, width):
        package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
        axe = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
        (tmp_path / "notes.txt").write_text("hello")
        page = visit(plain, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(axe)
        assert page.evaluate(AXE, TAGS) == []
        page.set_input_files("#files", [*photos[:5], tmp_path / "notes.txt"])
        settled(page, "5 photos classified")
        page.locator("#threshold").press("ArrowRight")
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate(AXE, TAGS) == []
        page.locator("#camera").click()
        page.locator("#viewer[open]").wait_for()
        assert page.evaluate(AXE, TAGS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_without_script_the_page_says_what_it_needs(self, browser, plain):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(plain.as_uri())
        assert "needs JavaScript" in page.locator("noscript").inner_text()
        context.close()
