"""Studies: experiments as data, run by a resumable queue, each run kept as a record.

A study is a frozen configuration: arms, data and seeds. Each pair of arm and seed gives one record, a JSON file; what
is shown in the book is computed from records alone.
"""

from __future__ import annotations

from cnnhw.studies.store import Record
from cnnhw.studies.store import read as records
from cnnhw.studies.study import Arm, Job, Study

__all__ = ["Arm", "Job", "Record", "Study", "records"]
