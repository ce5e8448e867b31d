"""95 % intervals of counts, of ratios and of regressions, where they are not symmetric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from argyase.physics.statistics import Estimate

BLOCKS = 10
"""Blocks of time that errors come from."""

_FEW = 20  # events; below it the scatter of ten blocks says too little


@dataclass(frozen=True)
class Interval:
    """A value, its standard error, and its 95 % interval, which need not be symmetric; NaN and inf: not known."""

    value: float
    stderr: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: Estimate, floor: float = -np.inf) -> Interval:
        """The interval of an estimate, cut at `floor`."""
        low, high = estimate.interval
        return cls(estimate.value, estimate.stderr, max(low, floor), high)

    @classmethod
    def read(cls, dataset: xr.Dataset, name: str) -> Interval:
        """The interval of an estimate in a dataset."""
        return cls(*(float(dataset[f"{name}{end}"]) for end in ("", "_stderr", "_low", "_high")))

    def scaled(self, factor: float) -> Interval:
        """The interval in other units; a negative factor turns it round."""
        ends = sorted((self.low * factor, self.high * factor))
        return Interval(self.value * factor, self.stderr * abs(factor), ends[0], ends[1])

    def inverse(self) -> Interval:
        """Of 1/q, for q that is not negative."""
        low, high = (math.inf if q == 0 else 1 / q for q in (self.high, self.low))
        if self.value == 0:
            return Interval(math.nan, math.nan, low, high)
        return Interval(1 / self.value, self.stderr / self.value**2, low, high)

    def variables(self, name: str) -> dict[str, Any]:
        """The four variables of a schema."""
        return {name: self.value, f"{name}_stderr": self.stderr, f"{name}_low": self.low, f"{name}_high": self.high}


def columns(name: str, rows: Sequence[Interval]) -> dict[str, Any]:
    """The four variables of a schema, of several intervals."""
    every = [row.variables(name) for row in rows]
    return {key: [row[key] for row in every] for key in every[0]}


UNKNOWN = Interval(math.nan, math.nan, math.nan, math.nan)


def in_blocks(series: ArrayLike, count: int = BLOCKS) -> NDArray[np.float64]:
    """Sums over blocks of frames, shape (block, ...), of a series of shape (frame, ...)."""
    parts = np.array_split(np.asarray(series, dtype=float), count)
    return np.array([part.sum(axis=0) for part in parts])


def ratio_of_sums(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    r"""Sum over sum, with the error of independent blocks.

    .. math:: R = \frac{\sum_b a_b}{\sum_b c_b}, \qquad
              s^2 = \frac{B}{B-1} \frac{\sum_b (a_b - R c_b)^2}{(\sum_b c_b)^2}

    Parameters
    ----------
    numerators, denominators
        Of each block, shape (block,).

    References
    ----------
    W. G. Cochran, Sampling Techniques, 3rd ed. (1977), eq. 6.13.

    Examples
    --------
    >>> ratio_of_sums([1.0, 3.0], [2.0, 2.0]).value
    1.0
    """
    a, c = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if c.sum() == 0:
        return Estimate(math.nan, math.nan, len(a) - 1)
    ratio = a.sum() / c.sum()
    variance = len(a) / (len(a) - 1) * float(((a - ratio * c) ** 2).sum()) / c.sum() ** 2
    return Estimate(float(ratio), math.sqrt(variance), len(a) - 1)


def event_rate(counts: ArrayLike, exposures: ArrayLike) -> Interval:
    """Events per exposure, from blocks of time.

    The error is that of the scatter of the blocks, which holds events that come in bunches, too; the interval is
    symmetric in the square root, as counts of events are. Below twenty events that scatter says too little: the
    interval is then at least Garwood's for a Poisson count, which is also what bounds a rate of which no event was
    seen.

    Parameters
    ----------
    counts, exposures
        Of each block, shape (block,).

    References
    ----------
    F. Garwood, Biometrika 28, 437 (1936); M. S. Bartlett, J. R. Stat. Soc. Suppl. 3, 68 (1936) (square roots).

    Examples
    --------
    >>> found = event_rate([0] * 10, [1.0] * 10)
    >>> found.value, round(found.high, 3)
    (0.0, 0.369)
    """
    n, exposure = float(np.sum(counts)), float(np.sum(exposures))
    if exposure == 0:
        return UNKNOWN
    estimate = ratio_of_sums(counts, exposures)
    half = (estimate.interval[1] - estimate.value) / (2 * math.sqrt(estimate.value)) if n else 0.0
    root = math.sqrt(estimate.value)
    found = Interval(estimate.value, estimate.stderr, max(0.0, root - half) ** 2, (root + half) ** 2)
    if n >= _FEW:
        return found
    low = stats.chi2.ppf(0.025, 2 * n) / 2 if n else 0.0
    high = stats.chi2.ppf(0.975, 2 * n + 2) / 2
    return Interval(
        found.value,
        max(found.stderr, math.sqrt(n) / exposure),
        min(found.low, float(low) / exposure),
        max(found.high, float(high) / exposure),
    )


def quotient(a: Interval, b: Interval) -> Interval:
    """Of a / b for positive, independent quantities, from their own intervals (MOVER; Fieller's for symmetric ones).

    Where b may be zero, the interval has no upper end (inf). Where only an upper bound of a is known (its value is
    NaN), the same goes for the quotient.

    References
    ----------
    A. Donner, G. Y. Zou, Stat. Methods Med. Res. 21, 347 (2012), eq. 6.

    Examples
    --------
    >>> found = quotient(Interval(2.0, 0.05, 1.9, 2.1), Interval(1.0, 0.0, 1.0, 1.0))
    >>> round(found.low, 6), round(found.high, 6)
    (1.9, 2.1)
    """
    p, q = a.value, b.value
    if math.isnan(p) and math.isfinite(a.high) and b.low > 0:
        return Interval(math.nan, math.nan, 0.0, a.high / b.low)
    if not (math.isfinite(p) and math.isfinite(q) and p > 0 and q > 0):
        return UNKNOWN
    # Each end takes the part of the error of a and of b that moves the quotient that way.
    if b.high < 2 * q:
        root = (p * q) ** 2 - a.low * b.high * (2 * p - a.low) * (2 * q - b.high)
        low = max(0.0, (p * q - math.sqrt(max(0.0, root))) / (b.high * (2 * q - b.high)))
    else:
        low = max(0.0, a.low / b.high)
    high = math.inf
    if b.low > 0 and math.isfinite(a.high):
        root = (p * q) ** 2 - a.high * b.low * (2 * p - a.high) * (2 * q - b.low)
        high = (p * q + math.sqrt(max(0.0, root))) / (b.low * (2 * q - b.low))
    stderr = p / q * math.hypot(a.stderr / p, b.stderr / q)
    return Interval(p / q, stderr, low, high)
