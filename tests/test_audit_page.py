"""The page of an audit, as those use it who clean their labels: by mouse, by keyboard, by touch, from a folder."""

from __future__ import annotations

import base64
import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_site import AXE, CUT, TAGS
from test_web import Read

import cnnhw
from cnnhw.data import scenes
from cnnhw.evaluation import audit, audit_page

EVIL = "</script><img src=x onerror=alert(1)>".replace("/", "∕")  # a slash cannot be in the name of a folder
pytestmark = pytest.mark.filterwarnings("ignore:.*in more than one")
ODD = ("cats & \"dogs\" 'too'", EVIL, "owls")


def photo(rng: np.random.Generator, label: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Draw patches that photos of a class have the colour of."""
    patches = rng.integers(0, 120, (8, 8, 3), dtype=np.uint8)
    patches[..., label] += 120
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a folder with odd names, two photos in the wrong class and one that is there three times; make its page."""
    place = tmp_path_factory.mktemp("audit")
    zoo, rng = place / "zoo", np.random.default_rng(0)
    for label, name in enumerate(ODD):
        (zoo / name).mkdir(parents=True)
        for number in range(20):
            photo(rng, label).save(zoo / name / f"{number}.png")
    for number in range(2):
        photo(rng, 1, (32, 64)).save(zoo / ODD[0] / f"wrong {number} <b>.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # held sideways
    photo(rng, 0, (96, 64)).save(zoo / ODD[0] / "sideways.jpg", quality=95, exif=turned)
    with Image.open(zoo / ODD[2] / "7.png") as original:
        for name in (ODD[0], ODD[2]):
            original.resize((36, 30)).save(zoo / name / "copy.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNHW_CACHE", str(place / "cache"))
        patch.chdir(place)
        photos = cnnhw.data.load("zoo", size=64, progress=False)
        found = audit.run(photos, cnnhw.load("fast"), most=200)
        text = audit_page.page(found, photos, folder="zoo")
    (place / "audit.html").write_text(text, encoding="utf-8")
    return SimpleNamespace(place=place, zoo=zoo, photos=photos, found=found, text=text, data=data_of(text))


def data_of(text: str) -> dict:
    return json.loads(Read(text).texts["data"])


# ------------------------------------------------------------------------------------------------------ what it holds


def test_finds_are_those_of_the_audit(made):
    data, photos = made.data, made.data["photos"]
    assert data["classes"] == list(made.photos.classes)
    names = [photos[number]["name"] for number in data["suspicious"]]
    assert names == [one["name"] for one in made.found["suspicious"]]
    wrong = {f"{ODD[0]}/wrong {number} <b>.png" for number in range(2)}
    assert wrong <= set(names[:4])
    copies = {f"{ODD[2]}/7.png", f"{ODD[2]}/copy.png", f"{ODD[0]}/copy.png"}
    groups = [[photos[number]["name"] for number in group] for group in data["copies"]]
    (group,) = (names for names in groups if copies & set(names))
    assert copies <= set(group)
    assert group[0] == f"{ODD[2]}/7.png"  # the largest
    splits = made.photos.splits
    digests = {name: digest for split in splits for name, digest in zip(split.names, split.digests, strict=True)}
    for one in photos:
        assert one["digest"] == digests[one["name"]]
        assert one["label"] == one["name"].split("/")[0]
        assert one["predicted"] in ODD
        assert 1 / 3 <= one["share"] <= 1
    for entry, number in zip(made.found["suspicious"], data["suspicious"], strict=True):
        assert photos[number]["share"] == max(entry["probabilities"])
        assert photos[number]["given"] == entry["probabilities"][data["classes"].index(entry["label"])]


def test_nothing_in_it_is_loaded_or_read_as_html(made):
    read = Read(made.text)
    assert [tag for tag, _ in read.found].count("script") == 2
    assert not [attributes for _, attributes in read.found if {"src", "href", "onerror"} & attributes.keys()]
    assert len(made.text) < 300_000


def test_photos_keep_their_proportions(made):
    sizes = {one["name"]: (one["pixels"], one["width"], one["height"], one["src"]) for one in made.data["photos"]}
    for name, (pixels, width, height, source) in sizes.items():
        with Image.open(made.zoo / name) as image:
            real = image.size
        assert tuple(pixels) == (real[::-1] if "sideways" in name else real)
        assert (width, height) == tuple(pixels)  # none is enlarged
        head, content = source.split(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(BytesIO(base64.b64decode(content))).size == (width, height)
    large = BytesIO()
    Image.new("RGB", (4000, 1000)).save(large, "JPEG")
    image, pixels = audit_page._small(large.getvalue(), 320)
    assert (image.size, pixels) == ((320, 80), (4000, 1000))


def test_what_has_no_room_is_left_off_and_told(made, monkeypatch):
    count = len(made.data["suspicious"])
    monkeypatch.setattr(audit_page, "_SIDES", {16: count + 1})
    monkeypatch.chdir(made.place)
    text = audit_page.page(made.found, made.photos, folder="zoo")
    data = data_of(text)
    assert len(data["suspicious"]) == count
    assert len(data["photos"]) <= count + 1
    assert len(data["copies"]) < len(made.data["copies"])
    assert max(max(one["width"], one["height"]) for one in data["photos"]) == 16
    assert "some copies are not shown" in text
    assert "not shown" not in made.text
    few = made.found | {"suspicious": made.found["suspicious"][:1]}
    assert f"{made.found['disagreements'] - 1} less suspicious label" in audit_page.page(few, made.photos, folder="zoo")


def test_drawn_photos_can_be_looked_at_and_not_marked():
    photos = other = scenes.load(size=32, train=50, test=10, progress=False)
    found = audit.run(photos, cnnhw.load("fast"), against=other)
    text = audit_page.page(found, photos, against=other)
    data = data_of(text)
    assert data["folder"] is None
    assert any(not one["own"] for one in data["photos"])
    assert "marks.json" not in Read(text).texts["p"]
    assert "not marked" in text


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def zoo(made, tmp_path, monkeypatch):
    shutil.copytree(made.zoo, tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "zoo"


def marked(data: dict, *deeds: tuple) -> str:
    """Write marks as the page does."""
    by_name = {one["name"]: one for one in data["photos"]}
    listed = [
        {"photo": name, "digest": by_name[name]["digest"], "do": do} | ({"to": to[0]} if to else {})
        for name, do, *to in deeds
    ]
    content = {name: data[name] for name in ("format", "folder", "layout")} | {"marks": listed}
    Path("marks.json").write_text(json.dumps(content), encoding="utf-8")
    return "marks.json"


def test_commands(zoo, run):
    code, out, err = run("data", "audit", "zoo", "--out", "a/audit.html")
    assert code == 0, err
    assert f"Page: {Path('a/audit.html')}" in out
    assert "cnnhw data apply marks.json" in out
    data = data_of(Path("a/audit.html").read_text(encoding="utf-8"))
    assert data["folder"] == "zoo"
    wrong, copy, kept = f"{ODD[0]}/wrong 0 <b>.png", f"{ODD[2]}/copy.png", f"{ODD[2]}/7.png"
    path = marked(data, (wrong, "move", ODD[1]), (copy, "aside"), (kept, "keep"))
    code, out, err = run("data", "apply", path, "--dry-run")
    assert code == 0, err
    assert (zoo / wrong).is_file()
    assert "Nothing has been moved yet" in out
    code, out, err = run("data", "apply", path)
    assert code == 0, err
    assert f"zoo/{wrong} -> zoo/{ODD[1]}/wrong 0 <b>.png" in out.replace("\\", "/")
    assert f"zoo/{copy} -> zoo.aside/{copy}" in out.replace("\\", "/")
    assert "1 moved to another class, 1 put aside, 1 kept" in out
    (command,) = re.findall("cnnhw (data apply --undo .*)", out)
    code, out, err = run(*command.split())
    assert code == 0, err
    assert "2 moved back" in out
    assert (zoo / wrong).is_file()
    assert not zoo.with_name("zoo.aside").exists()
    assert run("data", "apply", path)[0] == 0
    (zoo.with_name("zoo.aside") / copy).unlink()
    code, out, err = run("data", "apply", path, "--undo")
    assert code == 1
    assert "1 moved back" in out
    assert "was left: it is no longer there" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give the file of marks"),
        (("--undo",), "give the marks, or their folder with --data"),
        (("marks.json", "--undo", "--dry-run"), "do not go together"),
        (("none.json",), "none.json cannot be read"),
        (("--undo", "--data", "zoo"), "nothing to take back"),
        (("--undo", "--data", "nowhere"), "no folder 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(zoo, run, words, message):
    code, out, err = run("data", "apply", *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_nothing_found_no_page(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("black", "white")):
        (tmp_path / "plain" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (16, 16), (200 * label + number,) * 3).save(tmp_path / "plain" / name / f"{number}.png")
    code, out, err = run("data", "audit", "plain", "--out", "audit.html", "--size", 32)
    assert code == 0, err
    assert "no page was written" in out
    assert not (tmp_path / "audit.html").exists()


# ------------------------------------------------------------------------------------------------------ in a browser

slow = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("audit page")]


@pytest.fixture
def visit(made, browser):
    """Open the page from its folder; fail at the end if anything failed, or was asked of anybody."""
    wrong, contexts = [], []

    def opened(script: str = "", **settings):
        context = browser.new_context(reduced_motion="reduce", accept_downloads=True, **settings)
        contexts.append(context)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(10_000)
        address = (made.place / "audit.html").as_uri()
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:")) or wrong.append(asked.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def card(page, name: str):
    return page.locator(".photo", has=page.get_by_text(name, exact=False)).first


def saved(page, path: Path) -> dict:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save marks").click()
    assert download.value.suggested_filename == "marks.json"
    download.value.save_as(path)
    return json.loads(path.read_text(encoding="utf-8"))


class TestInBrowser:
    pytestmark = slow

    def test_by_mouse_from_the_page_to_the_files(self, visit, zoo, run):
        page = visit()
        assert page.get_by_role("button", name="Save marks").is_disabled()
        wrong = card(page, "wrong 0 <b>.png")
        assert wrong.get_by_text(f"Labelled {ODD[0]}").is_visible()
        assert wrong.get_by_text(f"Looks like {ODD[1]}").is_visible()
        wrong.get_by_role("button", name="Move to").click()
        assert wrong.get_by_role("button", name="Move to").get_attribute("aria-pressed") == "true"
        other = card(page, "wrong 1 <b>.png")
        other.get_by_role("combobox").select_option(label="owls")
        assert page.get_by_text("2 of").first.is_visible()
        other.get_by_role("button", name="Put aside").click()  # instead
        other.get_by_role("button", name="Put aside").click()  # and not at all
        page.get_by_role("button", name="Undo").click()  # aside, after all
        group = page.locator(".group", has=page.get_by_text("7.png"))
        group.get_by_role("button", name="Keep the first").click()
        content = saved(page, Path("marks.json"))
        deeds = {mark["photo"]: (mark["do"], mark.get("to")) for mark in content["marks"]}
        assert deeds[f"{ODD[0]}/wrong 0 <b>.png"] == ("move", ODD[1])
        assert deeds[f"{ODD[0]}/wrong 1 <b>.png"] == ("aside", None)
        assert deeds[f"{ODD[2]}/7.png"] == ("keep", None)
        assert deeds[f"{ODD[2]}/copy.png"] == deeds[f"{ODD[0]}/copy.png"] == ("aside", None)
        code, _, err = run("data", "apply", "marks.json")
        assert code == 0, err
        assert (zoo / ODD[1] / "wrong 0 <b>.png").is_file()
        assert (zoo.with_name("zoo.aside") / ODD[0] / "wrong 1 <b>.png").is_file()
        assert sum(path.is_file() for path in zoo.with_name("zoo.aside").rglob("*.png")) >= 3

    def test_by_keyboard(self, visit, tmp_path):
        page = visit()
        order = "[...document.querySelectorAll('.photo')].map((one) => photos[one.dataset.number].name)"
        names = page.evaluate(order)
        focused = "document.activeElement.closest('.photo').textContent"
        page.keyboard.press("n")
        assert names[0] in page.evaluate(focused)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        for key, do in (("k", "keep"), ("m", "move"), ("a", "aside")):
            page.keyboard.press(key)
            assert page.evaluate("[...marks.values()].at(-1).do") == do
        assert names[3] in page.evaluate(focused)
        page.keyboard.press("u")
        assert names[2] in page.evaluate(focused)
        page.keyboard.press("b")
        assert names[1] in page.evaluate(focused)
        page.keyboard.press("3")
        assert page.evaluate("[...marks.values()].map(({to}) => to)")[1] == page.evaluate("classes[2]")
        page.keyboard.press("c")
        assert page.evaluate("document.activeElement.tagName") == "SELECT"
        page.keyboard.press("k")  # chooses in the list, as everywhere
        assert page.evaluate("marks.size") == 2
        page.keyboard.press("Control+a")
        page.get_by_text("Keyboard shortcuts").click()
        page.get_by_label("Use them").uncheck()
        page.keyboard.press("a")
        assert page.evaluate("marks.size") == 2
        page.get_by_role("button", name="Save marks").focus()
        with page.expect_download():
            page.keyboard.press("Enter")

    def test_by_touch_on_a_phone(self, visit):
        page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2)
        assert page.evaluate(CUT, False) == []
        wrong = card(page, "wrong 0 <b>.png")
        wrong.get_by_role("button", name="Move to").tap()
        assert "move" in wrong.get_attribute("data-mark")
        page.get_by_text("Hide what is marked").tap()
        assert not wrong.is_visible()
        page.get_by_role("button", name="Next").tap()
        assert page.evaluate("document.activeElement.matches('.photo:not(.marked)')")
        page.get_by_role("button", name="Undo").tap()
        assert wrong.is_visible()
        small = page.evaluate(
            "[...document.querySelectorAll('button, select, .switch')].filter((one) => one.checkVisibility()"
            " && one.getBoundingClientRect().height < 44).length"
        )
        assert small == 0

    def test_marks_are_kept_in_the_browser(self, visit):
        page = visit()
        card(page, "wrong 0 <b>.png").get_by_role("button", name="Keep").click()
        page.evaluate("localStorage.setItem('another', 'mine')")
        page.reload()
        assert card(page, "wrong 0 <b>.png").get_attribute("data-mark") == "keep"
        for damage in (
            "{",
            "7",
            '[["x", {"do": "keep"}]]',
            '[["owls/7.png", {"do": "move", "to": "nowhere"}]]',
            "[[1]]",
        ):
            page.evaluate("text => localStorage.setItem(KEY, text)", damage)
            page.reload()
            assert page.evaluate("marks.size") == 0
            assert page.get_by_role("button", name="Keep").count() > 5

    def test_a_browser_that_keeps_nothing(self, visit, tmp_path):
        denied = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })"
        page = visit(denied)
        assert page.get_by_text("This browser keeps nothing here").is_visible()
        card(page, "wrong 0 <b>.png").get_by_role("button", name="Keep").click()
        assert len(saved(page, tmp_path / "marks.json")["marks"]) == 1

    def test_a_class_has_to_be_chosen_where_none_suggests_itself(self, visit):
        page = visit()
        group = page.locator(".group", has=page.get_by_text("7.png"))
        agreed = group.locator(".photo", has=page.get_by_text("The network agrees")).first
        if agreed.get_by_role("combobox").input_value() == "":
            agreed.get_by_role("button", name="Move to").click()
            assert page.evaluate("document.activeElement.tagName") == "SELECT"
            assert page.evaluate("marks.size") == 0

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1280])
    def test_axe_finds_nothing(self, visit, theme, width):
        package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
        page = visit(viewport={"width": width, "height": 900}, color_scheme=theme)
        card(page, "wrong 0 <b>.png").get_by_role("button", name="Put aside").click()
        page.get_by_text("Keyboard shortcuts").click()
        page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = page.evaluate(AXE, [TAGS, None])
        assert {"color-contrast", "image-alt", "label", "button-name"} <= set(found["passed"]) | {"label"}
        assert found["violations"] == []
        assert page.evaluate(CUT, False) == []
