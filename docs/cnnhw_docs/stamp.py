"""A hash of all that the pages depend on, so that none of them is ever stale."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
STAMP = DOCS / "_build" / "stamp"


def current() -> str:
    """Return the hash of package and site with their sources, weights and records, and of the libraries' versions."""
    digest = hashlib.sha256(sys.version.encode())
    for library in ("torch", "numpy", "matplotlib", "pillow", "sphinx-gallery"):
        digest.update(importlib.metadata.version(library).encode())
    package = DOCS.parent / "cnnhw"
    sources = [*package.rglob("*.py"), *package.glob("*.json"), *(DOCS / "cnnhw_docs").glob("*.py")]
    weights = package.glob("weights/*.safetensors")
    records = [file for end in ("json", "json.gz") for file in (DOCS / "records").rglob(f"*.{end}")]
    for file in sorted([*sources, *weights, *records]):
        digest.update(f"{file.relative_to(DOCS.parent)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def stored() -> str:
    """Return the hash of the last build without warnings, or an empty string."""
    return STAMP.read_text(encoding="utf-8") if STAMP.exists() else ""
