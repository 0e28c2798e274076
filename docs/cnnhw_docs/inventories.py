"""Links to the documentation of other projects, from plain lists of the few objects that are referred to.

``docs/inventories/<project>.txt`` starts with the address of the project's documentation; each further line is an
object, its type and its page. They become the inventories that ``sphinx.ext.intersphinx`` reads, without network.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "api" / "index.rst"


def write(source: Path, target: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for each list."""
    target.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for path in sorted(source.glob("*.txt")):
        address, *lines = path.read_text(encoding="utf-8").splitlines()
        entries = (line.split() for line in lines)
        body = "".join(f"{name} {kind} 1 {page} -\n" for name, kind, page in entries)
        head = f"# Sphinx inventory version 2\n# Project: {path.stem}\n# Version: \n# compressed using zlib\n"
        file = target / f"{path.stem}.inv"
        file.write_bytes(head.encode() + zlib.compress(body.encode()))
        mapping[path.stem] = (address, str(file))
    return mapping


def aliases() -> dict[str, str]:
    """Return the objects that types in docstrings stand for, by the names used there."""
    ours: dict[str, str] = {}
    module = ""
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif re.fullmatch(r"   [A-Z]\w*", line):  # of two classes with one name, the lower room's
            ours.setdefault(line.strip(), f"{module}.{line.strip()}")
    return ours | {
        "Tensor": "torch.Tensor",
        "array": "numpy.ndarray",
        "nn.Module": "torch.nn.Module",
        "Figure": "matplotlib.figure.Figure",
        "Path": "pathlib.Path",
        "bool": ":class:`python:bool`",
    }
