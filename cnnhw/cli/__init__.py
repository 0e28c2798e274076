"""The ``cnnhw`` command."""

from __future__ import annotations

from cnnhw.cli import book, data, look, train  # each adds its commands
from cnnhw.cli.command import cli, main

__all__ = ["book", "cli", "data", "look", "main", "train"]
