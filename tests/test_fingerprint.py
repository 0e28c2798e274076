"""The fingerprint of a run's code: what changes it, and what does not."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_photos

import cnnhw
from cnnhw import models, training, transfer
from cnnhw.book import registry
from cnnhw.data import decode, subsets
from cnnhw.studies import fingerprint as fingerprints
from cnnhw.studies.fingerprint import Code, fingerprint

PACKAGE = Path(cnnhw.__file__).parent
NOT_MEASURED = ("errors.py", "files.py")  # messages, and the disk


def dotted(functions):
    return sorted({f"{getattr(f, 'func', f).__module__}.{getattr(f, 'func', f).__qualname__}" for f in functions})


def changed(files, **texts):
    """Return the code of a package of several files, some of them changed."""
    return Code({f"cnnhw.{name}": text for name, text in (files | texts).items()}.get, ends=())


FILES = {
    "a": '''
from cnnhw import b
from cnnhw.c import Base, scale as s
import torch.nn.functional as F
from torch import nn

LEVEL = 3

def run(x: "Base", layers):
    """What it does."""
    parts = layers  # a local name is no definition, whatever else bears it
    return F.relu(b.half(x)) + s(x.value()) + LEVEL, parts

def parts():
    return 1
''',
    "b": "def half(x):\n    return x / 2\n\n\ndef other(x):\n    return x\n",
    "c": "class Base:\n    def value(self):\n        return 1\n\n    def unused(self):\n        return 2\n\n\n"
    "def scale(x):\n    return 2 * x\n",
}
ROOT = ["cnnhw.a.run"]


def test_what_is_followed():
    assert {name for _, name in changed(FILES).reached(ROOT)} == {"run", "half", "scale", "LEVEL"}
    typed = FILES["a"].replace('"Base"', "Base")
    reached = changed(FILES, a=typed).reached(ROOT)
    assert ("cnnhw.c", "Base") in reached  # an object comes with its class
    assert "value" in reached["cnnhw.c", "Base"]
    assert "unused" not in reached["cnnhw.c", "Base"]
    with pytest.raises(LookupError, match=r"cnnhw\.a\.walk is no definition"):
        changed(FILES).fingerprint(["cnnhw.a.walk"])


SAME = {
    "comments, docstrings and layout": {
        "a": FILES["a"].replace("What it does.", "Other words.").replace("LEVEL = 3", "LEVEL = (\n    3\n)  # why")
    },
    "annotations": {"b": FILES["b"].replace("half(x)", "half(x: float) -> float")},
    "what is not reached": {"b": FILES["b"].replace("return x\n", "return x + 1\n"), "d": "def half(x): return x"},
    "how it is imported": {
        "a": FILES["a"].replace("from cnnhw import b\n", "from cnnhw.b import half as h\nimport torch\n")
        .replace("b.half", "h").replace("F.relu", "torch.nn.functional.relu")
    },
    "an import inside the function": {
        "a": FILES["a"].replace("from cnnhw import b\n", "").replace('does."""', 'does."""\n    from cnnhw import b')
    },
    "a file's name": {
        "a": FILES["a"].replace("from cnnhw import b", "from cnnhw import e as b"), "e": FILES["b"], "b": "",
    },
    "the file that something lies in": {
        "a": FILES["a"].replace("import Base, scale as s", "import Base\nfrom cnnhw.b import scale as s"),
        "b": FILES["b"] + "\n\ndef scale(x):\n    return 2 * x\n",
        "c": FILES["c"].partition("def scale")[0],
    },
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_what_changes_nothing(what):
    assert changed(FILES, **SAME[what]).fingerprint(ROOT) == changed(FILES).fingerprint(ROOT)


DIFFERENT = {
    "a constant": {"a": FILES["a"].replace("LEVEL = 3", "LEVEL = 4")},
    "a body": {"b": FILES["b"].replace("x / 2", "x / 3")},
    "what a name stands for": {"a": FILES["a"].replace("b.half", "b.other")},
    "a function from elsewhere": {"a": FILES["a"].replace("F.relu", "F.gelu")},
    "a default": {"b": FILES["b"].replace("half(x)", "half(x, y=1)")},
    "a decorator": {"b": "import functools\n" + FILES["b"].replace("def half", "@functools.cache\ndef half")},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_changes_it(what):
    assert changed(FILES, **DIFFERENT[what]).fingerprint(ROOT) != changed(FILES).fingerprint(ROOT)


def called(work):
    """Return the functions of the package that are called meanwhile: file, name and line of each."""
    seen = set()

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and Path(code.co_filename).is_relative_to(PACKAGE):
            seen.add((code.co_filename, code.co_name, code.co_firstlineno))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


class Mutation(ast.NodeTransformer):
    """Puts a statement that does nothing at the end of the function that begins on a line."""

    def __init__(self, line):
        self.line, self.found = line, False

    def visit(self, node):
        if isinstance(node, ast.FunctionDef) and self.line in {
            node.lineno, *(one.lineno for one in node.decorator_list)
        }:  # fmt: skip
            self.found = True
            node.body.append(ast.Expr(ast.Constant(...)))
            return node
        return self.generic_visit(node)


def run_of(model, recipe, photos, options):
    cnnhw.fit(models.create(model, 5, size=photos.size, **options), photos, recipe, progress=False)


RUNS = {
    "fast_inception": (cnnhw.Recipe.fast(1), {}),
    "resnet": (cnnhw.Recipe(epochs=1, optimizer="sgd", mixup=0.2, cutout=0.2, class_weights=True), {"depth": 8}),
    "q1_deep_residual": (cnnhw.Recipe(epochs=1, raw=True, flip=True, shift=1), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast_inception", "transfer", "resnet", "q1_deep_residual"])
def test_a_change_in_any_function_that_a_run_calls_changes_it(name):
    few = make_photos(64, 32, 5)
    if name == "transfer":
        model = models.create("first_layer", 5, size=32)
        begins = [models.create, models.builder("first_layer"), transfer.transfer]
        stages = transfer.two_stages(transfer.recipe(1), head_epochs=1)
        functions = called(lambda: transfer.transfer(model, few, stages, head=cnnhw.transfer.Head(), progress=False))
    else:
        recipe, options = RUNS[name]
        begins = [models.create, models.builder(name), training.fit]
        functions = called(lambda: run_of(name, recipe, few, options))
    roots = dotted(begins)
    whole = Code().fingerprint(roots)
    assert whole == fingerprint(*begins)
    tried = 0
    for file, function, line in sorted(functions):
        path = Path(file).relative_to(PACKAGE.parent)
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        end = any(f"{module}.{function}" == end or module == end for end in fingerprints._ENDS)
        if function.startswith("<") or end or file.endswith("runs.py"):  # comprehensions, and a finished run's report
            continue
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        mutation = Mutation(line)
        text = ast.unparse(ast.fix_missing_locations(mutation.visit(tree)))
        assert mutation.found, (file, function)
        code = Code(lambda name, module=module, text=text: text if name == module else fingerprints._source(name))
        assert code.fingerprint(roots) != whole, f"{function} in {module}"
        tried += 1
    assert tried > 40


def test_layout_comments_and_names_of_files_change_nothing_in_the_package():
    begins = [models.create, models.builder("fast_inception"), training.fit, transfer.transfer, decode.decode]
    bare = Code(lambda name: (text := fingerprints._source(name)) and ast.unparse(ast.parse(text)))
    assert bare.fingerprint(dotted(begins)) == fingerprint(*begins)

    def renamed(name):
        if name == "cnnhw.models.fast":
            return None
        text = fingerprints._source(name.replace("cnnhw.models.quick", "cnnhw.models.fast"))
        if text and name == "cnnhw.models.inception":
            return text.replace("from cnnhw.models import fast", "from cnnhw.models import quick").replace(
                "fast.", "quick."
            )
        return text

    assert Code(renamed).fingerprint(dotted(begins)) == fingerprint(*begins)


def test_it_covers_what_a_run_uses():
    def prints(study, arm):
        return registry.get(study).job(arm, registry.get(study).jobs()[0].seed).code

    base = fingerprint(models.create, models.builder("q1_deep"), decode.decode, training.fit)
    assert registry.get("q1").job("q1_deep", 1).code == base
    half = fingerprint(models.create, subsets.prepare, subsets.function("train_50"))
    assert half != fingerprint(models.create, subsets.prepare, subsets.function("train_10"))
    models_of = {arm.model: prints("q4_modules", arm.name) for arm in registry.get("q4_modules").arms}
    assert len(set(models_of.values())) == len(models_of)
    measured = registry.get("ii_pooling").jobs()[0]
    assert measured.code != fingerprint(*[begin for begin in measured.begins if begin.__module__ != "cnnhw.book.ii"])


def pythons():
    """Return the interpreters of the supported versions that can be found."""
    found = {}
    roots = [Path(sys.base_prefix).parent, *Path("/opt/hostedtoolcache/Python").glob("*")]
    for minor in range(11, 15):
        paths = [shutil.which(f"python3.{minor}"), *(p for root in roots for p in root.glob(f"3.{minor}*/bin/python3"))]
        for path in filter(None, paths):
            asked = subprocess.run(
                [path, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True
            )
            if asked.stdout.strip() == str(minor):  # a shim may stand for a version that is not there
                found[minor] = str(path)
                break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(11, 15))
def test_it_is_the_same_under_every_python(minor):
    python = pythons().get(minor)
    if python is None:
        pytest.skip(f"Python 3.{minor} is not installed")
    jobs = [study.jobs()[0] for study in map(registry.get, registry.names())]
    roots = [dotted(job.begins) for job in jobs]
    script = (
        "import importlib.util, json, sys; spec = importlib.util.spec_from_file_location('f', sys.argv[1]);"
        "module = importlib.util.module_from_spec(spec); sys.modules['f'] = module; spec.loader.exec_module(module);"
        "code = module.Code(); print(json.dumps([code.fingerprint(roots) for roots in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [python, "-c", script, fingerprints.__file__],
        input=json.dumps(roots),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [Code().fingerprint(names) for names in roots]
