"""From runs to trends: averages over seeds, Arrhenius lines, series of sizes, correlation with the entropy."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from argyase.errors import StatisticsError
from argyase.physics.intervals import Interval, columns
from argyase.schemas import ARRHENIUS, CORRELATION, SERIES, Schema
from argyase.units import BOLTZMANN_EV_K


def average(runs: list[Interval]) -> Interval:
    r"""Mean over runs that differ by their seed, with the larger of two errors.

    That of the runs' own errors, :math:`\sqrt{\sum s_i^2} / n` (normal), and that of their scatter,
    :math:`\sqrt{\sum (x_i - \bar x)^2 / n (n-1)}` (Student, n - 1 degrees of freedom): seeds differ by their disorder,
    too, which no run's own error knows of. Runs of which nothing is known are left out, and so are those of which there
    is an upper bound, if it is above the mean of the others. If it is below, these came out high, and the mean has a
    bound only, the mean of all upper ends. Without any other, the largest upper bound is that of the mean.

    References
    ----------
    R. C. Paule, J. Mandel, J. Res. Natl. Bur. Stand. 87, 377 (1982) (scatter between and within).

    Examples
    --------
    >>> found = average([Interval(1.0, 0.1, 0.8, 1.2), Interval(3.0, 0.1, 2.8, 3.2)])
    >>> found.value, found.stderr
    (2.0, 1.0)
    """
    known = [r for r in runs if math.isfinite(r.value)]
    if not known:
        highs = [r.high for r in runs if math.isfinite(r.high)]
        return Interval(math.nan, math.nan, 0.0 if highs else math.nan, max(highs, default=math.nan))
    values = np.array([r.value for r in known])
    mean, n = float(values.mean()), len(values)
    if below := [r.high for r in runs if not math.isfinite(r.value) and r.high < mean]:
        return Interval(math.nan, math.nan, 0.0, float(np.mean([r.high for r in known] + below)))
    if n == 1:
        return known[0]
    # Half of an interval is t times the error, with the degrees of freedom of each.
    halves = np.array([(r.high - r.low) / 2 for r in known])
    within = float(np.hypot.reduce([r.stderr for r in known])) / n
    between = float(values.std(ddof=1)) / math.sqrt(n)
    half = max(float(np.hypot.reduce(halves)) / n, float(stats.t.ppf(0.975, n - 1)) * between)
    return Interval(mean, max(within, between), mean - half, mean + half)


def weighted_regression(
    x: NDArray[np.float64], y: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    r"""Straight line through points with errors: coefficients (intercept, slope), their covariance, chi^2, and t.

    The covariance is that of the errors, or, if the points scatter more than they should
    (:math:`\chi^2 > n - 2`), that times :math:`\chi^2 / (n - 2)`; t is the quantile that makes 95 % intervals: normal,
    or Student's with n - 2 degrees of freedom.

    References
    ----------
    R. T. Birge, Phys. Rev. 40, 207 (1932).
    """
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = 1 / sigma**2
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    found = covariance @ (design.T @ (weights * y))
    chi2 = float((weights * (y - design @ found) ** 2).sum())
    free = len(x) - 2
    t = 1.96
    if free > 0 and chi2 > free:
        covariance, t = covariance * (chi2 / free), float(stats.t.ppf(0.975, free))
    return np.asarray(found, dtype=np.float64), np.asarray(covariance, dtype=np.float64), chi2, t


def arrhenius(temperature: ArrayLike, conductivity: list[Interval], at: float = 300.0) -> xr.Dataset:
    r"""Activation energy, and conductivity at another temperature.

    .. math:: \ln(\sigma T) = \ln A - \frac{E_a}{k_B T}

    by weighted least squares; the error of :math:`\ln(\sigma T)` is :math:`s_\sigma / \sigma`. The interval of the
    conductivity at `at` is that of the line there, errors of both coefficients with their covariance; it does not know
    whether the line bends on the way (a change of mechanism, an order-disorder transition).

    Parameters
    ----------
    temperature
        K, shape (temperature,).
    conductivity
        mS/cm at each; what is not determined is left out of the fit.
    at
        K.

    Returns
    -------
    Dataset
        Schema ``arrhenius``.

    Raises
    ------
    StatisticsError
        If fewer than two temperatures have a conductivity.

    References
    ----------
    The T in ln(sigma T): Nernst-Einstein with an activated D. P. R. Bevington, D. K. Robinson, Data Reduction, 3rd ed.
    (2003), ch. 6.
    """
    t = np.asarray(temperature, dtype=float)
    value = np.array([c.value for c in conductivity])
    error = np.array([c.stderr for c in conductivity])
    known = np.isfinite(value) & (value > 0) & (error > 0)
    if len(np.unique(t[known])) < 2:
        raise StatisticsError(
            f"conductivities at {len(np.unique(t[known]))} temperatures are determined (of {len(t)}): an Arrhenius "
            "line needs two, and three to know whether it is one"
        )
    x = -1 / (BOLTZMANN_EV_K * t[known])
    # About the middle, so that the two coefficients do not cancel each other.
    middle = float(x.mean())
    found, covariance, chi2, quantile = weighted_regression(
        x - middle, np.log(value[known] * t[known]), error[known] / value[known]
    )
    there = np.array([1.0, -1 / (BOLTZMANN_EV_K * at) - middle])
    log_there = float(there @ found)
    log_error = math.sqrt(float(there @ covariance @ there))
    sigma = math.exp(log_there) / at
    spread = math.exp(quantile * log_error)
    ea, ea_error = float(found[1]), math.sqrt(float(covariance[1, 1]))
    origin = np.array([1.0, -middle])
    return ARRHENIUS.dataset(
        temperature=t,
        **columns("conductivity", conductivity),
        **Interval(ea, ea_error, ea - quantile * ea_error, ea + quantile * ea_error).variables("activation_energy"),
        **Interval(sigma, sigma * log_error, sigma / spread, sigma * spread).variables("conductivity_at"),
        log_prefactor=float(origin @ found),
        log_prefactor_stderr=math.sqrt(float(origin @ covariance @ origin)),
        at=at,
        chi_squared=chi2,
        fitted=known,
        extrapolated=not (t[known].min() <= at <= t[known].max()),
    )


def sizes(atoms: ArrayLike, quantity: list[Interval]) -> xr.Dataset:
    """A quantity over the number of atoms of the cell, and how far each is from that of the largest cell.

    Parameters
    ----------
    atoms
        Shape (size,).
    quantity
        mS/cm, one for each size.

    Returns
    -------
    Dataset
        Schema ``series``, by rising size; ``deviation`` is the difference to the largest cell in standard errors of the
        difference (of independent runs).

    Raises
    ------
    StatisticsError
        If there are fewer than two sizes.
    """
    n = np.asarray(atoms)
    if len(np.unique(n)) < 2:
        raise StatisticsError(f"runs of {len(np.unique(n))} cell size: a series needs two")
    order = np.argsort(n, kind="stable")
    rows = [quantity[k] for k in order]
    last = rows[-1]
    error = [math.hypot(r.stderr, last.stderr) for r in rows[:-1]]
    deviation = [(r.value - last.value) / e if e > 0 else math.nan for r, e in zip(rows[:-1], error, strict=True)]
    return SERIES.dataset(
        size=n[order],
        **columns("conductivity", rows),
        deviation=[*deviation, 0.0],
    )


_RESAMPLES = 2000


def correlation(x: ArrayLike, quantity: list[Interval], schema: Schema = CORRELATION) -> xr.Dataset:
    r"""How a quantity goes with another one (dS_conf): a weighted line, and the rank correlation, with errors.

    The line's slope has the error of `weighted_regression`. Spearman's rank correlation asks only whether both rise
    together; its interval is that of the percentiles of a bootstrap over runs, whose scatter has their errors in it.
    Runs that are not determined are left out.

    Parameters
    ----------
    x
        Of each run, shape (run,).
    quantity
        Of each run, in the units of the schema.
    schema
        ``correlation`` for conductivities, ``hop_correlation`` for rates.

    Returns
    -------
    Dataset
        Of that schema.

    Raises
    ------
    StatisticsError
        If fewer than four runs are determined, or x is the same for all.

    References
    ----------
    B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
    """
    every = np.asarray(x, dtype=float)
    value = np.array([q.value for q in quantity])
    error = np.array([q.stderr for q in quantity])
    known = np.isfinite(every) & np.isfinite(value) & (error > 0)
    n = int(known.sum())
    if n < 4 or len(np.unique(every[known])) < 2:
        raise StatisticsError(
            f"{n} of {len(every)} runs are determined, at {len(np.unique(every[known]))} different values: a "
            "correlation needs four runs, and two values"
        )
    a, b, s = every[known], value[known], error[known]
    (intercept, slope), covariance, chi2, t = weighted_regression(a - a.mean(), b, s)
    slope_error = math.sqrt(float(covariance[1, 1]))
    rank = float(stats.spearmanr(a, b).statistic)
    chosen = np.random.default_rng(0).integers(0, n, (_RESAMPLES, n))
    chosen = chosen[np.ptp(a[chosen], axis=1) > 0]
    ranks = [stats.rankdata(v[chosen], axis=1) for v in (a, b)]
    first, second = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    with np.errstate(invalid="ignore"):  # the same run only, again and again: of no use
        draws = (first * second).sum(axis=1) / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return schema.dataset(
        x=a,
        value=b,
        value_stderr=s,
        **Interval(float(slope), slope_error, float(slope) - t * slope_error, float(slope) + t * slope_error).variables(
            "slope"
        ),
        intercept=float(intercept - slope * a.mean()),
        **Interval(rank, float(draws.std(ddof=1)), min(float(low), rank), max(float(high), rank)).variables(
            "rank_correlation"
        ),
        chi_squared=chi2,
        left_out=len(every) - n,
    )
