"""How well max and average pooling preserve a signal in noise."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["average_signal", "max_signal"]


def max_signal(active: int, amplitude: float, cells: int = 4) -> float:
    """Return the detectability d' of a signal in noise after max pooling.

    Parameters
    ----------
    active : int
        Number of cells that hold the signal, 1 to `cells`.
    amplitude : float
        The signal in units of the noise's standard deviation; the noise is normal and independent.
    cells : int
        Cells of the window.

    Returns
    -------
    float
        d', the difference of the means with and without signal, in units of the root mean square of both standard
        deviations, by numerical integration.

    Examples
    --------
    >>> round(max_signal(active=1, amplitude=3.0), 2), round(average_signal(active=1, amplitude=3.0), 2)
    (2.36, 1.5)
    """
    from scipy import stats  # slow to import

    def moments(shifted: int) -> tuple[float, float]:
        grid = np.linspace(-8, amplitude + 8, 8001)
        below = stats.norm.cdf(grid - amplitude) ** shifted * stats.norm.cdf(grid) ** (cells - shifted)
        density = np.gradient(below, grid)
        mean = float(np.trapezoid(grid * density, grid))
        return mean, float(np.trapezoid((grid - mean) ** 2 * density, grid))

    (mean, variance), (mean0, variance0) = moments(active), moments(0)
    return (mean - mean0) / math.sqrt((variance + variance0) / 2)


def average_signal(active: int, amplitude: float, cells: int = 4) -> float:
    """Return the detectability d' of a signal in noise after average pooling: amplitude * active / sqrt(cells).

    Parameters
    ----------
    active, amplitude, cells
        As for :func:`max_signal`.

    Returns
    -------
    float
        d', the difference of the means in units of the standard deviation.

    Examples
    --------
    >>> average_signal(active=4, amplitude=1.0)
    2.0
    """
    return amplitude * active / math.sqrt(cells)
