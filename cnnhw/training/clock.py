"""The time that a run was given, and how much of it is used: what its schedule follows instead of its steps."""

from __future__ import annotations

import math
import time

__all__ = []


class Clock:
    """A clock that runs from the start of training, validation included, to the end of a recipe's minutes.

    Parameters
    ----------
    minutes : float
        The time that training may take; 0 means any.
    """

    def __init__(self, minutes: float) -> None:
        self.limit = 60 * minutes or math.inf  # seconds
        self.validation = 0.0  # seconds that the next validation is expected to take
        self._begun = time.perf_counter()

    @property
    def spent(self) -> float:
        """The seconds that training has taken so far, interruptions left out."""
        return time.perf_counter() - self._begun

    @spent.setter
    def spent(self, seconds: float) -> None:
        self._begun = time.perf_counter() - seconds

    @property
    def share(self) -> float:
        """How much of the time for steps is used: 0 at the start, 1 or more when only a last validation fits in."""
        left = self.limit - self.validation
        return self.spent / left if left > 0 else math.inf
