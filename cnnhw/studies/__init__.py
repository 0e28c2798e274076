"""Studies: experiments as data, run by a resumable queue, each run kept as a record.

A study is a frozen configuration: arms, data and seeds. Each pair of arm and seed gives one record, a JSON file; what
is shown in the book is computed from records alone.
"""

from __future__ import annotations

from cnnhw.errors import UnknownNameError
from cnnhw.studies.plans import STUDIES
from cnnhw.studies.store import Record
from cnnhw.studies.store import read as records
from cnnhw.studies.study import Arm, Job, Study

__all__ = ["Arm", "Job", "Record", "Study", "get", "names", "records"]

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
