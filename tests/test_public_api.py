"""The public interface, word for word: what changes shows in ``public_api.txt``, and is decided, not missed.

``python tests/test_public_api.py --write`` writes the file anew.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import cnnhw
from cnnhw.cli.command import cli

PUBLIC = Path(__file__).with_name("public_api.txt")
REFERENCE = Path(__file__).parents[1] / "docs" / "api" / "index.rst"
SPOKEN = ("__call__", "__contains__", "__enter__", "__getitem__", "__iter__", "__len__")
"""Special methods that are called by name of an operator, not inherited from a base class or made by a decorator."""

CHANGED = """\
the public interface has changed:

{difference}

If that is meant: `python tests/test_public_api.py --write`, and a line in CHANGELOG.md. What was removed or renamed, or
now means something else, must have been deprecated in an earlier release: see docs/deprecations.rst."""


class Bare(str):
    """An annotation that is shown without quotes, by every version of Python."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def modules() -> list[ModuleType]:
    """Return all modules with an ``__all__``: all but those that are run and never imported."""
    names = ["cnnhw", *(found.name for found in pkgutil.walk_packages(cnnhw.__path__, "cnnhw."))]
    found = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    return [module for module in found if hasattr(module, "__all__")]


def signature(function: object) -> str:
    """Return parameters, annotations and defaults as written."""
    found = inspect.signature(function)

    def bare(annotation: object) -> object:
        return annotation if annotation is found.empty else Bare(getattr(annotation, "__forward_arg__", annotation))

    parameters = [one.replace(annotation=bare(one.annotation)) for one in found.parameters.values()]
    return str(found.replace(parameters=parameters, return_annotation=bare(found.return_annotation)))


def of_class(name: str, made: type) -> Iterator[str]:
    """List a class with its bases, its parameters, and what of ours it can do."""
    ours = [base for base in made.__mro__ if base.__module__.partition(".")[0] == "cnnhw"]
    bases = ", ".join(base.__name__ for base in made.__bases__ if base is not object)
    takes = any({"__init__", "__new__"} & set(vars(base)) for base in ours)
    yield f"{name}: class({bases}){' ' + signature(made) if takes else ''}"
    members = {key: member for base in reversed(ours) for key, member in vars(base).items()}
    for key, member in members.items():
        if key.startswith("_") and key not in SPOKEN:
            continue
        if isinstance(member, property):
            yield f"{name}.{key}: property {signature(member.fget).partition(' -> ')[2]}".rstrip()
        elif isinstance(member, classmethod | staticmethod):
            yield f"{name}.{key}: {type(member).__name__} {signature(member.__func__)}"
        elif inspect.isfunction(member):
            yield f"{name}.{key}{signature(member)}"


def of_module(module: ModuleType, homes: dict[str, ModuleType]) -> Iterator[str]:
    """List what a module exports; what is at home in another module is listed there."""
    for key in module.__all__:
        name, value = f"{module.__name__}.{key}", getattr(module, key)
        home = homes.get(getattr(value, "__module__", None) or "")
        if inspect.ismodule(value):
            yield f"{name}: module"
        elif home not in (None, module) and getattr(home, getattr(value, "__name__", ""), None) is value:
            yield f"{name} = {home.__name__}.{value.__name__}"
        elif inspect.isclass(value):
            yield from of_class(name, value)
        elif callable(value):
            yield f"{name}{signature(value)}"
        else:
            yield f"{name}: {type(value).__name__}"


def of_command(words: str, command: click.Command) -> Iterator[str]:
    """List a command of the command line with its arguments and options, their types and defaults."""
    yield f"$ {words}"
    for parameter in command.params:
        spelt = "/".join([*parameter.opts, *parameter.secondary_opts])
        if isinstance(parameter, click.Argument):
            spelt = f"{(parameter.name or '').upper()}{'...' if parameter.nargs == -1 else ''}"
        kind = parameter.type
        takes = "|".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name
        if getattr(parameter, "is_flag", False):
            takes = "flag"
        default = parameter.default
        shown = f" = {default!r}" if isinstance(default, str | int | float) and default is not False else ""
        yield f"$ {words} {spelt}: {takes}{shown}{', required' if parameter.required else ''}"
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from of_command(f"{words} {name}", below)


def interface() -> list[str]:
    """Return the lines of ``public_api.txt``."""
    found = modules()
    homes = {module.__name__: module for module in found}
    return sorted([*(line for module in found for line in of_module(module, homes)), *of_command("cnnhw", cli)])


def test_interface_is_the_one_agreed_on():
    agreed, present = PUBLIC.read_text(encoding="utf-8").splitlines(), interface()
    difference = "\n".join(difflib.unified_diff(agreed, present, "agreed", "present", lineterm="", n=0))
    if difference:
        pytest.fail(CHANGED.format(difference=difference), pytrace=False)


def test_listing_is_the_same_on_every_machine():
    lines = interface()
    assert len(lines) == len(set(lines))
    assert not [line for line in lines if re.search(r" at 0x|/home/|\\", line)]


def test_listing_notices_changes():
    class Thing:
        def __init__(self, a: int, *, b: str = "x") -> None: ...
        def go(self, far: float = 1.0) -> bool: ...
        @property
        def size(self) -> int: ...
        @classmethod
        def make(cls) -> Thing: ...
        def _hidden(self) -> None: ...

    Thing.__module__ = "cnnhw.thing"
    assert list(of_class("Thing", Thing)) == [
        "Thing: class() (a: int, *, b: str = 'x') -> None",
        "Thing.go(self, far: float = 1.0) -> bool",
        "Thing.size: property int",
        "Thing.make: classmethod (cls) -> Thing",
    ]

    @click.command()
    @click.argument("photos", nargs=-1)
    @click.option("--size", type=int, default=64)
    @click.option("--kind", type=click.Choice(["a", "b"]), required=True)
    @click.option("--all/--one", default=False)
    def look() -> None: ...

    assert list(of_command("cnnhw look", look)) == [
        "$ cnnhw look",
        "$ cnnhw look PHOTOS...: text",
        "$ cnnhw look --size: integer = 64",
        "$ cnnhw look --kind: a|b, required",
        "$ cnnhw look --all/--one: flag",
    ]


INTERNAL = (
    "cnnhw.book", "cnnhw.cli", "cnnhw.data.archives", "cnnhw.data.cache", "cnnhw.data.layout",
    "cnnhw.data.sources",
    "cnnhw.files", "cnnhw.outputs", "cnnhw.studies.drift", "cnnhw.studies.fingerprint", "cnnhw.studies.queue",
    "cnnhw.studies.store", "cnnhw.training.checkpoint", "cnnhw.training.distributed", "cnnhw.training.throughput",
)  # fmt: skip
"""Modules whose names other rooms use, and nobody else: the reference lists none of them."""


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs the repository")
def test_reference_lists_every_public_name_once():
    listed, module = [], ""
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            listed.append((module, line.strip()))
    assert [f"{module}.{name}" for module, name in listed if name not in importlib.import_module(module).__all__] == []
    objects = [getattr(importlib.import_module(module), name) for module, name in listed]
    assert len({id(one) for one in objects}) == len(objects)
    exported = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules()
        if not module.__name__.startswith(INTERNAL)
        for name in module.__all__
    }
    functions = {name: one for name, one in exported.items() if inspect.isfunction(one) or inspect.isclass(one)}
    documented = {id(one) for one in objects}
    assert [name for name, one in functions.items() if id(one) not in documented] == []


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_public_api.py --write")
    PUBLIC.write_text("\n".join(interface()) + "\n", encoding="utf-8")
