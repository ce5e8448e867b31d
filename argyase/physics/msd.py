"""Mean squared displacement and tracer diffusion coefficient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft, stats

from argyase.errors import StatisticsError, TrajectoryError
from argyase.physics.statistics import Estimate, mean_of_series, undetermined
from argyase.schemas import MSD
from argyase.units import A2_PER_PS_TO_CM2_PER_S

_IONS_AT_ONCE = 64


def mean_squared_displacement(paths: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""MSD along each axis for all lags, averaged over all ions and time origins.

    .. math:: \mathrm{MSD}_a(l) = \frac{1}{N (T-l)} \sum_{i=1}^{N} \sum_{t=0}^{T-l-1} [r_{ia}(t+l) - r_{ia}(t)]^2

    The cross term comes from the autocorrelation by FFT; the power spectra are summed over ions before the one inverse
    transform, and the mean of each path is removed first, so that rounding is relative to the displacements (about
    1e-12 of the squared extent of a path).

    Parameters
    ----------
    paths
        Unwrapped, shape (frame, ion, 3), A.

    Returns
    -------
    ndarray
        Shape (lag, 3), A^2, lags 0 ... frame - 1.

    References
    ----------
    V. Calandrini et al., Ecole thematique de la Societe Francaise de la Neutronique 12, 201 (2011).

    Examples
    --------
    >>> straight = np.arange(4.0)[:, None, None] * np.array([1.0, 0.0, 0.0])
    >>> mean_squared_displacement(straight)[:, 0]
    array([0., 1., 4., 9.])
    """
    frames, ions, _ = paths.shape
    size = fft.next_fast_len(2 * frames, real=True)
    spectrum = np.zeros((size // 2 + 1, 3))
    squares = np.zeros((frames, 3))
    for first in range(0, ions, _IONS_AT_ONCE):
        part = paths[:, first : first + _IONS_AT_ONCE]
        part = part - part.mean(axis=0)
        squares += (part**2).sum(axis=1)
        transform = fft.rfft(part, n=size, axis=0)
        spectrum += (transform.real**2 + transform.imag**2).sum(axis=1)
    correlation = fft.irfft(spectrum, n=size, axis=0)[:frames]
    total = np.concatenate([np.zeros((1, 3)), np.cumsum(squares, axis=0)])
    origins = np.arange(frames, 0, -1)
    # sum_t r(t+l)^2 + r(t)^2 over the origins of lag l
    both = (total[-1] - total[:frames]) + total[origins]
    msd = (both - 2 * correlation) / (origins[:, None] * ions)
    msd[0] = 0.0
    return np.asarray(np.maximum(msd, 0.0))


@dataclass(frozen=True)
class Diffusion:
    """Tracer diffusion coefficient, A^2/ps, and the lags (ps) of the fit."""

    estimate: Estimate
    start: float
    stop: float


WINDOWS = (40, 20, 10)
"""The fit ends at the run's length divided by one of these: the first at which the motion is diffusive."""

_LAGS = 12

_FEWEST = 100


def diffusivity(paths: NDArray[np.float64], time_step: float, dimensions: int = 3) -> Diffusion:
    r"""Tracer D from the slope of the MSD, with an interval that accounts for correlated data.

    .. math:: D = \frac{1}{2d} \frac{\mathrm{d}}{\mathrm{d}t} \langle |r(t+t_0) - r(t_0)|^2 \rangle

    The slope over the lags t2/2 ... t2 (straight line with free intercept, which takes up rattling) is linear in the
    squared displacements, so it is the time average of one series y(t0), the slope seen from the origin t0 averaged
    over ions. That series is correlated over about t2; its error comes from overlapping batch means. No independence of
    ions is assumed: y is already averaged over them, concerted motion included.

    Motion that is not yet diffusive (jumps back into the cage) shows as a slope that falls with the lag: the fall is
    the slope over t2/4 ... t2/2 minus that over t2/2 ... t2. t2 is the shortest of the run's length / 40, / 20, / 10 at
    which it is not above zero (one-sided, 20 %), and the last in any case. A fall that is left is what the slope may
    still lose: it is added to the standard error in quadrature, so that an interval is wide where the run is too short.

    Parameters
    ----------
    paths
        Unwrapped, without drift, shape (frame, ion, 3), A.
    time_step
        Time between frames, ps.
    dimensions
        d.

    Raises
    ------
    StatisticsError
        If the run has fewer than 100 frames, or the interval of D includes zero; the message gives what was found and
        what would help, `upper` the upper end of the interval of the late slope (A^2/ps), which bounds D.

    References
    ----------
    Jang et al., J. Mater. Chem. A 13, 16547 (2025), eq. 1. Why regression errors are wrong: X. He, Y. Zhu, A. Epstein,
    Y. Mo, npj Comput. Mater. 4, 18 (2018); S. W. Coles et al., kinisi.
    """
    frames = len(paths)
    length = frames * time_step
    if frames < _FEWEST:
        raise StatisticsError(
            f"{frames} frames ({length:g} ps): at least {_FEWEST} are needed for a diffusion coefficient with an "
            "error bar; run longer, or store frames more often"
        )
    for part in WINDOWS:
        last = max(8, frames // part)
        early, late = (last // 4, last // 2), (last // 2, last)
        found = _slope(paths, time_step, dimensions, late)
        fall = _slope(paths, time_step, dimensions, early, minus=late)
        if fall.value <= float(stats.t.ppf(0.8, fall.dof)) * fall.stderr:
            break
    estimate = _widened(found, max(0.0, fall.value))
    if estimate.interval[0] <= 0.0:
        upper = found.interval[1]
        still = ""
        if fall.value > found.stderr:
            by = fall.value / (found.value + fall.value)
            still = f" (up to a lag of {last * time_step:g} ps the slope of the MSD still falls, by {by:.0%})"
        raise StatisticsError(
            f"no diffusion beyond the error bar in {length:g} ps{still}: D is at most "
            f"{upper * A2_PER_PS_TO_CM2_PER_S:.2g} cm2/s (95 %). Run longer, hotter, or in a larger cell",
            upper,
        )
    return Diffusion(estimate, late[0] * time_step, last * time_step)


def _widened(estimate: Estimate, systematic: float) -> Estimate:
    """Add an uncertainty that is not of a sample; degrees of freedom by Welch and Satterthwaite."""
    stderr = math.hypot(estimate.stderr, systematic)
    if stderr == 0.0:
        return estimate
    return Estimate(estimate.value, stderr, estimate.dof * (stderr / max(estimate.stderr, 1e-300)) ** 4)


def _slope(
    paths: NDArray[np.float64],
    time_step: float,
    dimensions: int,
    window: tuple[int, int],
    minus: tuple[int, int] | None = None,
) -> Estimate:
    """Slope / 2d over the lags (frames) of `window`, or its difference to the slope over the lags `minus`."""
    from argyase.physics._kernels import squared_displacements

    weights: dict[int, float] = {}
    for sign, part in ((1.0, window), (-1.0, minus)):
        if part is not None:
            lags = np.unique(np.linspace(*part, _LAGS).round().astype(int))
            centred = lags - lags.mean()
            for lag, w in zip(lags, centred / (centred**2).sum(), strict=True):
                weights[int(lag)] = weights.get(int(lag), 0.0) + sign * float(w)
    longest = max(weights)
    origins = len(paths) - longest
    series = np.zeros(origins)
    for lag, w in weights.items():
        series += w * squared_displacements(paths, lag)[:origins]
    return mean_of_series(series / (2 * dimensions * time_step), longest)


def msd(paths: NDArray[np.float64], time_step: float) -> xr.Dataset:
    """MSD of all lags with its error, and the tracer diffusion coefficient.

    Parameters
    ----------
    paths
        Unwrapped, without drift (`argyase.physics.unwrap.diffusing_paths`), shape (frame, ion, 3), A.
    time_step
        Time between frames, ps.

    Returns
    -------
    Dataset
        Schema ``msd``. Where the run does not determine D (`StatisticsError` of `diffusivity`), it is NaN, its interval
        goes from zero to the upper bound, and the attribute ``not_determined`` says why. The
        standard error of the MSD is given up to 1/11 of the run, NaN beyond.

    Raises
    ------
    TrajectoryError
        If the paths have the wrong shape or hold NaN.
    """
    if paths.ndim != 3 or paths.shape[2] != 3 or paths.shape[1] == 0:
        raise TrajectoryError(f"paths of shape {paths.shape}: expected (frame, ion, 3) with at least one ion")
    if not np.isfinite(paths).all():
        raise TrajectoryError("paths: some coordinates are not finite")
    from argyase.physics._kernels import squared_displacements

    attrs, units = {}, A2_PER_PS_TO_CM2_PER_S
    try:
        found = diffusivity(paths, time_step)
        start, stop = found.start, found.stop
        d = found.estimate.scaled(units).variables("diffusivity", floor=0.0)
    except StatisticsError as error:
        attrs["not_determined"] = str(error)
        start = stop = np.nan
        d = undetermined("diffusivity", error.upper * units)
    axes = mean_squared_displacement(paths)
    frames = len(paths)
    lags = np.arange(frames)
    limit = max(1, frames // 11)
    sampled = np.unique(np.geomspace(1, limit, 40).round().astype(int))
    errors = [mean_of_series(squared_displacements(paths, int(lag)), int(lag)).stderr for lag in sampled]
    stderr = np.interp(lags, [0, *sampled], [0.0, *errors], right=np.nan)
    return MSD.dataset(
        attrs=attrs,
        lag=lags * time_step,
        xyz=["x", "y", "z"],
        msd=axes.sum(axis=1),
        msd_stderr=stderr,
        msd_xyz=axes,
        **d,
        fit_start=start,
        fit_stop=stop,
        ions=paths.shape[1],
    )
