"""How a quantity is drawn where it is known, where only a bound of it is, and where there is no run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from argyase.physics.intervals import Interval


def arrow_length(found: Sequence[Interval | None]) -> float:
    """Of the arrows of bounds: a part of the highest end of all intervals."""
    return 0.07 * max((q.high for q in found if q is not None and math.isfinite(q.high)), default=0.0)


def mark_values(
    ax: Axes, x: Sequence[float], found: Sequence[Interval | None], fmt: str, colour: str, label: str | None
) -> None:
    """What is determined, with its 95 % intervals, in the order of x."""
    known = [(a, q) for a, q in zip(x, found, strict=True) if q is not None and math.isfinite(q.value)]
    known.sort(key=lambda point: point[0])
    value = np.array([q.value for _, q in known])
    spread = [value - [q.low for _, q in known], [q.high for _, q in known] - value]
    ax.errorbar([a for a, _ in known], value, spread, fmt=fmt, color=colour, lw=0.8, elinewidth=0.8, label=label)


def mark_bounds(
    ax: Axes, x: Sequence[float], found: Sequence[Interval | None], arrow: float, colour: str, label: str | None = None
) -> None:
    """Of what is not determined, an arrow down from its bound."""
    bounded = [
        (a, q.high)
        for a, q in zip(x, found, strict=True)
        if q is not None and not math.isfinite(q.value) and math.isfinite(q.high)
    ]
    ax.errorbar(
        [a for a, _ in bounded], [high for _, high in bounded], arrow, uplims=True, fmt="_", color=colour,
        elinewidth=0.8, label=label if bounded else None,
    )  # fmt: skip


def mark_missing(ax: Axes, x: Sequence[float], found: Sequence[Interval | None]) -> None:
    """Crosses at the bottom where there is no run."""
    gone = [a for a, q in zip(x, found, strict=True) if q is None]
    if gone:
        ax.plot(
            gone, np.full(len(gone), 0.02), "x", color="0.5", ms=4, transform=ax.get_xaxis_transform(), clip_on=False,
            label="no run",
        )  # fmt: skip
