"""Fingerprints of code: a hash of every definition that a run can reach, and of nothing else.

A record keeps the fingerprint of the code that made it. It is computed from syntax trees: from the functions that a run
starts with, names are followed to the definitions that they stand for, through imports and modules. Comments,
docstrings, annotations, layout, imports, and the files that definitions lie in do not enter; every other change of a
definition that is reached does. Of a class, methods enter that something reached may call. The result is the same under
every version of Python that the package runs on.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

__all__ = ["Code", "fingerprint"]

_PACKAGE = "cnnhw"
# what decides nothing that is measured (files, messages, a finished run's report), or only looks a name up: what is
# found there is a root of its own; which files could be read, the photos' own fingerprint tells
_ENDS = (
    "cnnhw.errors",
    "cnnhw.files",
    "cnnhw.data.cache",
    "cnnhw.data.decode.FORMATS",
    "cnnhw.data.decode._reason",
    "cnnhw.data.subsets._PROTOCOLS",
    "cnnhw.models.registry.builder",
    "cnnhw.training.checkpoint",
    "cnnhw.training.run.Run",
    "cnnhw.models.weights._find",
)
_UNSEEN = {"ctx", "type_comment", "type_params", "kind", "annotation", "returns", "simple"}  # decide nothing in a run
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPE = _FUNCTION | ast.Lambda | ast.ClassDef | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_IMPORT = ast.Import | ast.ImportFrom

Source = Callable[[str], str | None]


def _source(module: str) -> str | None:
    """Return the source text of a module of the package, or None if there is no such module."""
    place = Path(__file__).resolve().parents[2].joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


@dataclass(frozen=True)
class _Module:
    """A module's top-level definitions, and what the names that it imports stand for."""

    definitions: dict[str, ast.stmt]
    imports: dict[str, str]


@dataclass
class _Text:
    """A definition as text, and what it refers to."""

    text: str = ""
    names: set[tuple[str, str]] = field(default_factory=set)  # definitions: module and name
    attributes: set[str] = field(default_factory=set)  # of objects of any class
    outside: bool = False  # a class whose base is none of the package's
    methods: dict[str, _Text] = field(default_factory=dict)


class Code:
    """The package's code as definitions that refer to each other, but for the dotted names in `ends`."""

    def __init__(self, source: Source | None = None, ends: Iterable[str] = _ENDS) -> None:
        self._source = source or _source
        self._ends = frozenset(ends)
        self._modules: dict[str, _Module | None] = {}
        self._texts: dict[tuple[str, str], _Text] = {}

    def fingerprint(self, roots: Iterable[str], given: Iterable[str] = ()) -> str:
        """Return 16 hexadecimal digits for all definitions reached from `roots`, and the arguments `given` to them."""
        texts = sorted(f"{name} {text}" for (_, name), text in self.reached(roots).items())
        return hashlib.sha256("\n".join([*texts, *given]).encode()).hexdigest()[:16]

    def reached(self, roots: Iterable[str]) -> dict[tuple[str, str], str]:
        """Return the normalised text of each definition that can be reached, by its module and name."""
        waiting = begins = {self._root(name) for name in roots}
        seen: dict[tuple[str, str], set[str]] = {}  # the methods of each definition that are reached
        attributes: set[str] = set()
        while waiting:
            for key in waiting:
                seen.setdefault(key, set())
            found: list[_Text] = [self._text(key) for key in waiting]
            attributes |= {name for part in found for name in part.attributes}
            while True:  # methods call methods
                called = [
                    (key, name)
                    for key, known in seen.items()
                    for name in self._text(key).methods
                    if name not in known
                    and (name in attributes or name.startswith("__") or key in begins or self._text(key).outside)
                ]
                if not called:
                    break
                for key, name in called:
                    seen[key].add(name)
                    method = self._text(key).methods[name]
                    found.append(method)
                    attributes |= method.attributes
            waiting = {name for part in found for name in part.names} - seen.keys()
        return {
            key: " ".join([self._text(key).text, *(self._text(key).methods[name].text for name in sorted(methods))])
            for key, methods in seen.items()
        }

    def _root(self, dotted: str) -> tuple[str, str]:
        found, _ = self._resolve(dotted)
        if found is None:
            raise LookupError(f"{dotted} is no definition of {_PACKAGE}")
        return found

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            text = self._source(name) if name.split(".")[0] == _PACKAGE else None
            self._modules[name] = None if text is None else _read(text)
        return self._modules[name]

    def _resolve(self, dotted: str) -> tuple[tuple[str, str] | None, list[str]]:
        """Return the definition that a dotted name stands for, if it is one of the package's, and what follows it."""
        parts = dotted.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            name, rest = ".".join(parts[:cut]), parts[cut:]
            module = self._module(name)
            if module is None:
                continue
            if rest[0] in module.definitions:
                return (name, rest[0]), rest[1:]
            if rest[0] in module.imports:
                return self._resolve(".".join([module.imports[rest[0]], *rest[1:]]))
            return None, rest
        return None, parts

    def _ended(self, key: tuple[str, str]) -> bool:
        return key[0] in self._ends or ".".join(key) in self._ends

    def _text(self, key: tuple[str, str]) -> _Text:
        if key not in self._texts:
            module = self._module(key[0])
            assert module is not None
            self._texts[key] = self._written(module.definitions[key[1]], key[0], module)
        return self._texts[key]

    def _written(self, node: ast.stmt, name: str, module: _Module) -> _Text:
        writer = _Writer(self, name, module)
        if not isinstance(node, ast.ClassDef):
            return writer.result(node)
        methods = [part for part in node.body if isinstance(part, _FUNCTION)]
        fields = [part for part in _without_docstring(node.body) if not isinstance(part, _FUNCTION)]
        bare = ast.ClassDef(
            name=node.name, bases=node.bases, keywords=node.keywords, decorator_list=node.decorator_list, body=fields
        )
        whole = writer.result(bare)
        whole.outside = any(self._outside(base, module, name) for base in node.bases)
        for method in methods:  # a property and its setter have one name
            part = _Writer(self, name, module).result(method)
            known = whole.methods.setdefault(method.name, _Text())
            known.text += part.text
            known.names |= part.names
            known.attributes |= part.attributes
        return whole

    def _outside(self, base: ast.expr, module: _Module, name: str) -> bool:
        """Whether a base class, or one that it builds on, is none of the package's."""
        chain = _chain(base)
        if chain is None:
            return True
        found = self.meaning(chain, module, name)[0]
        if found is None:
            return chain != ["Exception"]
        node = self._module(found[0]).definitions[found[1]]  # type: ignore[union-attr]
        return isinstance(node, ast.ClassDef) and self._text(found).outside

    def meaning(self, chain: list[str], module: _Module, name: str) -> tuple[tuple[str, str] | None, list[str]]:
        """Return what a chain of names, such as ``nn.Conv2d``, means in a module: a definition, or another name."""
        if chain[0] in module.definitions:
            return (name, chain[0]), chain[1:]
        if chain[0] in module.imports:
            return self._resolve(".".join([module.imports[chain[0]], *chain[1:]]))
        return None, chain


def fingerprint(*roots: Callable[..., object]) -> str:
    """Return 16 hexadecimal digits for the code that functions reach; of a partial, arguments count, too."""
    given = sorted(
        f"{root.func.__qualname__} {root.args} {root.keywords}" for root in roots if isinstance(root, partial)
    )
    functions = [root.func if isinstance(root, partial) else root for root in roots]
    return _fingerprint(tuple(sorted({f"{root.__module__}.{root.__qualname__}" for root in functions})), tuple(given))


@functools.cache
def _present() -> Code:
    return Code()


@functools.cache
def _fingerprint(roots: tuple[str, ...], given: tuple[str, ...]) -> str:
    return _present().fingerprint(roots, given)


class _Writer:
    """Writes one definition as text and notes what it refers to."""

    def __init__(self, code: Code, name: str, module: _Module) -> None:
        self.code, self.name, self.module = code, name, module
        self.found = _Text()
        self.scopes: list[tuple[set[str], dict[str, str]]] = []  # local names, and names imported locally

    def result(self, node: ast.stmt) -> _Text:
        self.found.text = self.write(node)
        for annotation in _annotations(node):  # objects come with the methods of their classes
            for part in ast.walk(annotation):
                chain = _chain(part) if isinstance(part, ast.Name | ast.Attribute) else None
                meant = self.code.meaning(chain, self.module, self.name)[0] if chain else None
                if meant and not self.code._ended(meant):
                    self.found.names.add(meant)
        return self.found

    def write(self, node: object) -> str:
        if isinstance(node, list):
            return "[" + ",".join(self.write(part) for part in node if not isinstance(part, _IMPORT)) + "]"
        if isinstance(node, ast.Constant):
            return ascii(node.value)
        if not isinstance(node, ast.AST):
            return ascii(node)
        chain = _chain(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if chain is not None:
            return self.reference(chain)
        if isinstance(node, ast.Attribute):
            self.found.attributes.add(node.attr)
        if isinstance(node, _SCOPE):
            return self.scope(node)
        return self.fields(node)

    def fields(self, node: ast.AST, left_out: Sequence[str] = ()) -> str:
        parts = []
        for name, value in ast.iter_fields(node):
            if name in _UNSEEN or name in left_out or value is None or value == []:
                continue
            if name == "body" and isinstance(value, list):
                value = _without_docstring(value) if isinstance(node, _FUNCTION | ast.ClassDef) else value
            parts.append(f"{name}={self.write(value)}")
        return f"{type(node).__name__}({','.join(parts)})"

    def scope(self, node: ast.AST) -> str:
        """Write what has local names; decorators and defaults are evaluated outside of it."""
        outer = ""
        if isinstance(node, _FUNCTION | ast.ClassDef):
            outer = self.write(node.decorator_list)
            if isinstance(node, ast.ClassDef):
                outer += self.write(node.bases) + self.write(node.keywords)
        if isinstance(node, _FUNCTION | ast.Lambda):
            outer += self.write(node.args.defaults) + self.write(node.args.kw_defaults)
        self.scopes.append(_local(node))
        inner = self.fields(node, ("decorator_list", "bases", "keywords", "defaults", "kw_defaults"))
        self.scopes.pop()
        return outer + inner

    def reference(self, chain: list[str]) -> str:
        for local, imported in reversed(self.scopes):
            if chain[0] in imported:
                return self.named(*self.code._resolve(".".join([imported[chain[0]], *chain[1:]])))
            if chain[0] in local:
                self.found.attributes.update(chain[1:])
                return ".".join(chain)
        return self.named(*self.code.meaning(chain, self.module, self.name), imported=chain[0] in self.module.imports)

    def named(self, found: tuple[str, str] | None, rest: list[str], imported: bool = True) -> str:
        if found is None:
            if not imported:
                self.found.attributes.update(rest[1:])
            return ".".join(rest)
        if not self.code._ended(found):
            self.found.names.add(found)
        self.found.attributes.update(rest)
        return ".".join([found[1], *rest])


def _read(text: str) -> _Module:
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, str] = {}
    for node in _flat(ast.parse(text).body):
        if isinstance(node, _IMPORT):
            imports |= _imported(node)
        elif isinstance(node, _FUNCTION | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for part in (part for target in targets for part in ast.walk(target)):
                if isinstance(part, ast.Name):
                    definitions[part.id] = node
    return _Module(definitions, imports)


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of a module, those under a condition among them."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _flat([part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)])
        else:
            yield node


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Return the names that an import binds, with the dotted names that they stand for."""
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {
        alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
        for alias in node.names
    }


def _local(node: ast.AST) -> tuple[set[str], dict[str, str]]:
    """Return the names that a function, class or comprehension binds, and those that it imports."""
    bound: set[str] = set()
    imported: dict[str, str] = {}
    free: set[str] = set()
    if isinstance(node, _FUNCTION | ast.Lambda):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        bound |= {argument.arg for argument in every if argument is not None}
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        part = waiting.pop()
        if isinstance(part, _IMPORT):
            imported |= _imported(part)
        elif isinstance(part, ast.Global):
            free |= {*part.names}
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            bound.add(part.id)
        elif isinstance(part, ast.ExceptHandler) and part.name:
            bound.add(part.name)
        if isinstance(part, _FUNCTION | ast.ClassDef):
            bound.add(part.name)
        elif not isinstance(part, _SCOPE):
            waiting += ast.iter_child_nodes(part)
    return bound - free, imported


def _annotations(node: ast.stmt) -> list[ast.expr]:
    """Return all annotations in a definition."""
    found: list[ast.expr | None] = []
    for part in ast.walk(node):
        found += [getattr(part, "annotation", None), getattr(part, "returns", None)]
    return [annotation for annotation in found if annotation is not None]


def _chain(node: ast.AST) -> list[str] | None:
    """Return the names of an expression such as ``a.b.c``; None if it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else None


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body
