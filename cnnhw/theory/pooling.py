"""What pooling keeps of a signal, by formula."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["average_signal", "max_signal"]


def max_signal(active: int, amplitude: float, cells: int = 4) -> float:
    """Return how well the maximum of a window tells a signal from noise.

    Parameters
    ----------
    active : int
        In how many cells the signal is, 1 to `cells`.
    amplitude : float
        The signal in units of the noise's standard deviation; the noise is normal and independent.
    cells : int
        Cells of the window.

    Returns
    -------
    float
        d', the difference of the means with and without signal, in units of the root mean square of both standard
        deviations, by numerical integration.
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
    """Return how well the average of a window tells a signal from noise: amplitude times active, over sqrt(cells).

    Parameters
    ----------
    active, amplitude, cells
        As for :func:`max_signal`.

    Returns
    -------
    float
        d', the difference of the means in units of the standard deviation.
    """
    return amplitude * active / math.sqrt(cells)
