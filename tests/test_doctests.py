"""The examples in docstrings are run, and what readers call first has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
from matplotlib import pyplot as plt

import cnnhw

SHOWN = (
    cnnhw.data.load,
    cnnhw.data.PhotoSet,
    cnnhw.data.Split,
    cnnhw.models.create,
    cnnhw.models.names,
    cnnhw.models.Classifier,
    cnnhw.models.Classifier.forward_features,
    cnnhw.models.Classifier.forward_head,
    cnnhw.models.Classifier.reset_classifier,
    cnnhw.fit,
    cnnhw.Recipe,
    cnnhw.Run,
    cnnhw.Run.save,
    cnnhw.load,
    cnnhw.features.maps,
    cnnhw.transfer.transfer,
)
"""What readers and checks rely on: it is never renamed."""

FINDER = doctest.DocTestFinder(exclude_empty=True)
NAMES = [found.name for found in pkgutil.walk_packages(cnnhw.__path__, "cnnhw.") if not found.name.endswith("__main__")]
EXAMPLES = {
    name: found for name in ("cnnhw", *NAMES)
    if (found := [one for one in FINDER.find(importlib.import_module(name)) if one.examples])
}  # fmt: skip

SLOW = {"cnnhw.training.ensembles", "cnnhw.transfer.best"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Keep the few scenes of the examples, which would else be drawn for each module."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("module", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in EXAMPLES])
def test_examples(module, cache, monkeypatch):
    monkeypatch.setenv("CNNHW_CACHE", str(cache))
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in EXAMPLES[module]:
        runner.run(example, out=said.append)
    plt.close("all")  # of examples of charts
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.parametrize("name", SHOWN, ids=lambda name: name.__qualname__)
def test_what_readers_call_has_an_example(name):
    section = inspect.cleandoc(name.__doc__).partition("\nExamples\n--------\n")[2]
    assert ">>> " in section
