"""The house: the package's modules, what each imports, and the floors on which they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "cnnhw"

FLOORS = (
    ("errors", "files", "outputs", "system", "web"),
    ("data", "models"),
    ("features", "theory"),
    ("evaluation", "plots"),
    ("training",),
    ("transfer",),
    ("studies",),
    ("book",),
    ("cli",),
)
"""The rooms, floor by floor from the ground: a module may import from its own floor and from those below."""


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the file of each module by its dotted name; a package's is its ``__init__.py``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return which modules of the package each module imports, inside functions and for type checking, too."""
    files = modules(package)
    return {
        name: {*_imported(ast.parse(path.read_text(encoding="utf-8")), files)} - {name} for name, path in files.items()
    }


def _imported(tree: ast.AST, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in files:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in files else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)


def floor(module: str) -> int:
    """Return the floor of a module, from 0; the package itself and its command line are at the top."""
    room = module.split(".")[1] if "." in module else ""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def upward(arrows: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that run from a floor to a higher one."""
    return sorted((one, other) for one, others in arrows.items() for other in others if floor(other) > floor(one))


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return groups of modules that reach each other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in arrows[module]:
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for module in arrows:
        if module not in order:
            visit(module)
    return found
