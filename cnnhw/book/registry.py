"""All studies of the book, by name."""

from __future__ import annotations

from cnnhw.book.plans import STUDIES
from cnnhw.errors import UnknownNameError
from cnnhw.studies.study import Study

__all__ = ["get", "names"]

_STUDIES = {study.name: study for study in STUDIES}


def names() -> list[str]:
    """Return the names of all studies, sorted."""
    return sorted(_STUDIES)


def get(name: str) -> Study:
    """Return a study by name.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    Study
        The study.

    Raises
    ------
    UnknownNameError
        If there is no such study.
    """
    if name not in _STUDIES:
        raise UnknownNameError("study", name, _STUDIES)
    return _STUDIES[name]
