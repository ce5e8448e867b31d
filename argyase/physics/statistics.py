"""Error bars of averages over correlated time series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and its 95 % interval (Student t with `dof` degrees of freedom)."""

    value: float
    stderr: float
    dof: float

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        half = float(stats.t.ppf(0.975, self.dof)) * self.stderr
        return self.value - half, self.value + half

    def scaled(self, factor: float) -> Estimate:
        """The estimate in other units."""
        return Estimate(self.value * factor, self.stderr * factor, self.dof)

    def variables(self, name: str, floor: float = -np.inf) -> dict[str, float]:
        """The four variables of a schema; the interval is cut at `floor`."""
        low, high = self.interval
        return {
            name: self.value,
            f"{name}_stderr": self.stderr,
            f"{name}_low": float(np.maximum(low, floor)),
            f"{name}_high": high,
        }


def undetermined(name: str, upper: float) -> dict[str, float]:
    """The four variables of a positive quantity of which at most an upper bound is known (NaN: not even that)."""
    low = 0.0 if np.isfinite(upper) else np.nan
    return {name: np.nan, f"{name}_stderr": np.nan, f"{name}_low": low, f"{name}_high": upper}


def mean_of_series(series: ArrayLike, correlation: int) -> Estimate:
    r"""Mean of a stationary series that is correlated over a known number of steps, by overlapping batch means.

    .. math:: s^2 = \frac{n b}{(n-b)(n-b+1)} \frac{1}{n} \sum_j (\bar y_j(b) - \bar y)^2
              \Big/ \Big(1 - \frac{c}{4b}\Big)

    with the means over all n - b + 1 windows of length b = 3 c. The last factor takes back the bias that remains: the
    squared displacement of Brownian motion over a lag c is correlated as (1 - h/c)^2, h < c, and
    sum |h| rho(h) / (b sum rho(h)) = c / 4b. The degrees of freedom are 1.5 (n/b - 1).

    Parameters
    ----------
    series
        Shape (n,).
    correlation
        Steps c over which it is correlated.

    References
    ----------
    M. S. Meketon, B. Schmeiser, Proc. Winter Simulation Conf. 1984, 227; K.-C. Song, B. Schmeiser, Manag. Sci. 41,
    110 (1995) (bias, degrees of freedom).
    """
    y = np.asarray(series, dtype=float)
    n, b = len(y), 3 * max(1, correlation)
    sums = np.concatenate([[0.0], np.cumsum(y - y.mean())])
    means = (sums[b:] - sums[:-b]) / b
    variance = n * b / ((n - b) * (n - b + 1)) * float((means**2).sum()) / n / (1 - max(1, correlation) / (4 * b))
    return Estimate(float(y.mean()), float(np.sqrt(variance)), 1.5 * (n / b - 1))


def blocks(values: NDArray[np.float64]) -> Estimate:
    """Mean of independent block values, shape (block,)."""
    n = len(values)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)), n - 1)
