"""All that the chapters have, by name: studies, questions and measures."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from cnnhw import book
from cnnhw.errors import UnknownNameError
from cnnhw.studies import measures, questions, soundness, store, tuning
from cnnhw.studies.measures import Measure
from cnnhw.studies.questions import Answer, Question
from cnnhw.studies.store import Record
from cnnhw.studies.study import Study

__all__ = ["MEASURES", "QUESTIONS", "answers", "chapter", "chapters", "file", "get", "names", "stated"]


def chapters() -> list[ModuleType]:
    """Return the modules of the book that define `STUDIES`; the others are not imported."""
    files = [path for folder in book.__path__ for path in Path(folder).glob("*.py")]
    found = {path.stem for path in files if re.search(r"^STUDIES\b", path.read_text(encoding="utf-8"), re.MULTILINE)}
    ordered = sorted(found, key=lambda name: (len(name), name))  # numbered chapters before those with a word
    return [importlib.import_module(f"{book.__name__}.{name}") for name in ordered]


_CHAPTERS = chapters()
_STUDIES: dict[str, Study] = {study.name: study for chapter in _CHAPTERS for study in chapter.STUDIES}

QUESTIONS: tuple[Question, ...] = tuple(question for study in _STUDIES.values() for question in study.questions)
"""All questions, chapter by chapter."""

MEASURES: dict[str, Measure] = measures.MEASURES | {
    measure.name: measure for chapter in _CHAPTERS for measure in getattr(chapter, "MEASURES", ())
}
"""What any study has and what chapters measure, by name."""

questions.check(QUESTIONS, {study.name: [arm.name for arm in study.arms] for study in _STUDIES.values()}, MEASURES)


def answers(records: Sequence[Record]) -> list[Answer]:
    """Answer all questions from records; a study that is not sound gives no verdicts."""
    asked = [study for study in _STUDIES.values() if study.questions]
    return questions.answers(QUESTIONS, records, {study.name: soundness.unsound(study, records) for study in asked})


def stated(identifier: str) -> str:
    """Return the effect of a question in a few words, from the book's records."""
    study = next(one.study for one in QUESTIONS if one.id == identifier)
    one = next(one.summary() for one in answers(store.read(study)) if one.question.id == identifier)
    if one["effect"] is None:
        return f"{identifier}, not run yet"
    return f"{identifier}, {one['effect']:+z.1f} {one['unit']} ({one['low']:+z.1f} to {one['high']:+z.1f})"


def names() -> list[str]:
    """Return the names of all studies, sorted."""
    return sorted(_STUDIES)


def get(name: str) -> Study:
    """Return a study, or by ``NAME-tune`` that which tunes it; UnknownNameError suggests the nearest."""
    base = name.removesuffix(tuning.SUFFIX)
    if base not in _STUDIES:
        raise UnknownNameError("study", name, _STUDIES)
    return _STUDIES[base] if base == name else tuning.of(_STUDIES[base])


def file(name: str) -> str:
    """Return the file that defines a study, as seen from the root of the repository."""
    return f"cnnhw/book/{chapter(name)}.py"


def chapter(name: str) -> str:
    """Return the chapter that a study belongs to, such as ``"q2"``."""
    base = name.removesuffix(tuning.SUFFIX)
    found = next(module for module in _CHAPTERS if any(study.name == base for study in module.STUDIES))
    return found.__name__.rpartition(".")[2]
