"""Mean squared displacement and tracer diffusion coefficient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from argyase.errors import StatisticsError, TrajectoryError
from argyase.physics.statistics import Estimate, blocks, mean_of_series, undetermined
from argyase.schemas import MSD
from argyase.units import A2_PER_PS_TO_CM2_PER_S


def mean_squared_displacement(paths: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""MSD along each axis for all lags, averaged over all ions and time origins.

    .. math:: \mathrm{MSD}_a(l) = \frac{1}{N (T-l)} \sum_{i=1}^{N} \sum_{t=0}^{T-l-1} [r_{ia}(t+l) - r_{ia}(t)]^2

    The cross term comes from the autocorrelation by FFT; the power spectra are summed over ions before the one inverse
    transform, and about the mean of each path is removed first, so that rounding is relative to the displacements (less
    than 1e-12 of the squared extent of a path).

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
    spectrum = _Spectrum(len(paths))
    spectrum.add(paths)
    return spectrum.msd()


class _Spectrum:
    """What `mean_squared_displacement` needs of the paths, some ions at a time."""

    def __init__(self, frames: int) -> None:
        from argyase.physics import _spectrum

        pieces, length = _spectrum.shape(frames)
        self._waves = _spectrum.waves(pieces, length)
        self._power = np.zeros((pieces, length, 3))
        self._squares = np.zeros((frames, 3))
        self._ions = 0

    def add(self, paths: NDArray[np.float64]) -> None:
        from argyase.physics._spectrum import add_power

        paths = np.ascontiguousarray(paths, dtype=np.float64)
        # The MSD is the same whatever is taken off; about the mean, which some frames tell, the squares are small.
        middle = paths[:: 1 + len(paths) // 100].mean(axis=0)
        add_power(paths, middle, *self._waves, self._power, self._squares)
        self._ions += paths.shape[1]

    def msd(self) -> NDArray[np.float64]:
        from argyase.physics._spectrum import autocorrelation

        frames = len(self._squares)
        correlation = autocorrelation(self._power, frames)
        total = np.concatenate([np.zeros((1, 3)), np.cumsum(self._squares, axis=0)])
        origins = np.arange(frames, 0, -1)
        # sum_t r(t+l)^2 + r(t)^2 over the origins of lag l
        both = (total[-1] - total[:frames]) + total[origins]
        msd = (both - 2 * correlation) / (origins[:, None] * self._ions)
        msd[0] = 0.0
        return np.asarray(np.maximum(msd, 0.0))


@dataclass(frozen=True)
class Diffusion:
    """Tracer diffusion coefficient, A^2/ps, and the lags (ps) of the fit."""

    estimate: Estimate
    start: float
    stop: float


_LAGS = 12
"""Lags of a window through which the straight line is laid."""

_SHORTEST = 8
"""Frames: the last lag of the shortest window is at least this."""

_FEWEST = 100

_TOLERATED = 0.1
"""Fall of the slope, as a part of it, that counts as none however well it is seen: it is in the error bar instead."""


class _Displacements:
    """Squared displacements of all ions over single lags, and averages of linear combinations of them.

    Two marginals of the table (origin, ion) are kept for each lag, the first where the run is long enough for its use.
    The variance of an average comes from either:

    - over origins, from overlapping batch means of the series averaged over ions: nothing is assumed of ions, but the
      run must be many times as long as the lag;
    - over ions, s^2 / N from their averages over origins, times the factor by which ions that move together make this
      too small: measured, at lags at which both are known, and not below 1. It serves up to half the run.

    The one with more degrees of freedom is taken.
    """

    def __init__(self, frames: int, more_lags: Sequence[int] = ()) -> None:
        self.frames, self.ions = frames, 0
        self.ends: list[int] = []  # last lags of the windows, from the shortest to half the run
        end = frames // 2
        while end >= _SHORTEST:
            self.ends.insert(0, end)
            end //= 2
        self._lags = np.array(sorted({lag for end in self.ends for lag in slope_weights(end)} | set(more_lags)), int)
        self._row = {lag: n for n, lag in enumerate(self._lags.tolist())}
        self._of_origins = np.zeros((sum(self._origins_serve({lag: 1.0}) for lag in self._row), frames))
        self._of_ions = np.zeros((len(self._lags), 0))
        self._together = (math.nan, 0.0)

    def add(self, paths: NDArray[np.float64]) -> None:
        """The paths of some more ions, (frame, ion, 3)."""
        from argyase.physics._kernels import squared_displacements

        of_ions = np.zeros((len(self._lags), paths.shape[1]))
        squared_displacements(paths, self._lags, self._of_origins, of_ions)
        self._of_ions = np.hstack([self._of_ions, of_ions / (self.frames - self._lags)[:, None]])
        self.ions += paths.shape[1]

    def _over_origins(self, weights: Mapping[int, float]) -> Estimate:
        longest = max(weights)
        series = np.zeros(self.frames - longest)
        for lag, w in weights.items():
            series += w * (self._of_origins[self._row[lag], : len(series)] / self.ions)
        return mean_of_series(series, longest)

    def _over_ions(self, weights: Mapping[int, float]) -> Estimate:
        """Without the factor."""
        return blocks(np.asarray(sum(w * self._of_ions[self._row[lag]] for lag, w in weights.items())))

    def calibrate(self, statistics: Sequence[Mapping[int, float]]) -> None:
        """Measure the factor on these, as far as the run is long enough."""
        ratios, dofs = [], []
        for weights in statistics:
            if self._origins_serve(weights) and self.ions > 1 and (alone := self._over_ions(weights)).stderr > 0:
                series = self._over_origins(weights)
                ratios.append((series.stderr / alone.stderr) ** 2)
                dofs.append(series.dof)
        if ratios:
            self._together = max(1.0, float(np.average(ratios, weights=dofs))), max(dofs)

    def _origins_serve(self, weights: Mapping[int, float]) -> bool:
        return bool(self.frames >= 8 * max(weights))

    def average(self, weights: Mapping[int, float]) -> Estimate:
        """Of sum_l w_l |r(t + l) - r(t)|^2 over ions and origins."""
        found = []
        factor, dof = self._together
        if self._origins_serve(weights):
            found.append(self._over_origins(weights))
        if self.ions > factor:
            alone = self._over_ions(weights)
            # As many independent ions as the factor leaves; and the factor itself is uncertain.
            dof = 1.0 / (1.0 / dof + 1.0 / max(1.0, self.ions / factor - 1.0))
            found.append(Estimate(alone.value, alone.stderr * math.sqrt(factor), dof))
        if not found:
            value = sum(w * float(self._of_ions[self._row[lag]].mean()) for lag, w in weights.items())
            return Estimate(value, math.inf, 1.0)
        return max(found, key=lambda e: e.dof)


def slope_weights(end: int, scale: float = 1.0) -> dict[int, float]:
    """Weights whose sum over the MSD at lags end/2 ... end is `scale` times the slope of its straight line."""
    lags = np.unique(np.linspace(end // 2, end, _LAGS).round().astype(int))
    centred = lags - lags.mean()
    return {int(lag): scale * float(w) for lag, w in zip(lags, centred / (centred**2).sum(), strict=True)}


def _minus(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    return {lag: a.get(lag, 0.0) - b.get(lag, 0.0) for lag in sorted({*a, *b})}


@dataclass(frozen=True)
class _Window:
    """Lags end/2 ... end, frames: weights of the MSD in its slope / 2d, and what comes out, A^2/ps."""

    end: int
    line: dict[int, float]
    slope: Estimate


def _windows(moved: _Displacements, time_step: float, dimensions: int) -> list[_Window]:
    """The windows from the shortest to the one that ends at half the run, or the longest that has an error."""
    lines = [slope_weights(end, 1.0 / (2 * dimensions * time_step)) for end in moved.ends]
    moved.calibrate(lines)
    windows = [_Window(end, line, moved.average(line)) for end, line in zip(moved.ends, lines, strict=True)]
    return [w for w in windows if np.isfinite(w.slope.stderr)]


def diffusivity(paths: NDArray[np.float64], time_step: float, dimensions: int = 3, confined: float = 0.0) -> Diffusion:
    r"""Tracer D from the slope of the MSD where the motion is diffusive, with an interval, or a bound where it is not.

    .. math:: D = \frac{1}{2d} \frac{\mathrm{d}}{\mathrm{d}t} \langle |r(t+t_0) - r(t_0)|^2 \rangle

    The slope is looked at over windows of lags t/2 ... t, for t = half the run, a quarter, an eighth ... (straight line
    with free intercept, which takes up rattling). It falls with the lag as long as ions still jump back into the cage
    they came from, and settles where they forget it. It counts as settled from the first window after which no later
    one is below it (by more than a tenth, and by a one-sided test at 5 %), and the next one gives D, because a fall may
    hide in noise; one more must come after that. What the slope still falls from there to the next may be lost: it is
    added to the standard error in quadrature. Where the slope has not settled, the run is too short; the slope of the
    MSD of reversible motion only falls, so that the last window bounds D from above.

    Within a cage an MSD may rise as straight as a line, and what it does beyond, a run that did not see it cannot tell.
    So there is a value only if the MSD at the last lag of the last window is more than `confined`.

    The error accounts for data that overlap in time and for ions that move together (see `_Displacements`); it is
    calibrated on walks in the tests. Slopes over t/2 ... t weigh lags nearly as generalised least squares would, whose
    weight is all on the shortest lags of the diffusive regime.

    Parameters
    ----------
    paths
        Unwrapped, without drift, shape (frame, ion, 3), A.
    time_step
        Time between frames, ps.
    dimensions
        d.
    confined
        MSD that ions may reach without diffusing, A^2.

    Raises
    ------
    StatisticsError
        If the run has fewer than 100 frames, if the slope of the MSD has not settled or the MSD has not gone beyond
        `confined`, or if the interval of D includes zero; the message gives what was found and what would help, `upper`
        the upper bound of D from the last slope (95 %, A^2/ps).

    References
    ----------
    Jang et al., J. Mater. Chem. A 13, 16547 (2025), eq. 1. Why regression errors are wrong: X. He, Y. Zhu, A. Epstein,
    Y. Mo, npj Comput. Mater. 4, 18 (2018); A. R. McCluskey, S. W. Coles, B. J. Morgan, J. Chem. Theory Comput. 21, 79
    (2025) (generalised least squares). Why the slope falls: the velocity autocorrelation of overdamped reversible
    motion is minus a sum of decaying exponentials; of back-jumps, R. Kutner, Phys. Lett. A 81, 239 (1981).
    """
    moved = _Displacements(len(paths))
    moved.add(paths)
    return _diffusivity(moved, _windows(moved, time_step, dimensions), time_step, confined)


def _diffusivity(moved: _Displacements, windows: Sequence[_Window], time_step: float, confined: float) -> Diffusion:
    frames = moved.frames
    length = frames * time_step
    if frames < _FEWEST:
        raise StatisticsError(
            f"{frames} frames ({length:g} ps): at least {_FEWEST} are needed for a diffusion coefficient with an "
            "error bar; run longer, or store frames more often"
        )
    ends, lines, slopes = [w.end for w in windows], [w.line for w in windows], [w.slope for w in windows]

    def still_falls(early: int, late: int) -> bool:
        fall = moved.average(_minus(lines[early], lines[late]))
        seen = fall.value > float(stats.t.ppf(0.95, fall.dof)) * fall.stderr
        return seen and fall.value > _TOLERATED * slopes[early].value

    last = len(lines) - 1
    settled = next((n for n in range(last - 1) if not any(still_falls(n, m) for m in range(n + 1, last + 1))), None)
    # 99.5 % for a bound of 95 %: it is asked for where the last slope turned out low, by chance or not.
    upper = slopes[last].value + float(stats.t.ppf(0.995, slopes[last].dof)) * slopes[last].stderr
    bound = f"D is at most {upper * A2_PER_PS_TO_CM2_PER_S:.2g} cm2/s (95 %). Run longer, hotter, or in a larger cell"
    if settled is None:
        seen = ", ".join(
            f"{slope.value * A2_PER_PS_TO_CM2_PER_S:.2g} at {end * time_step:g} ps"
            for end, slope in list(zip(ends, slopes, strict=True))[-3:]
        )
        raise StatisticsError(
            f"not yet diffusive in {length:g} ps: the slope of the MSD has not settled ({seen}, cm2/s); {bound}",
            upper,
        )
    if (reached := moved.average({ends[last]: 1.0}).value) < confined:
        raise StatisticsError(
            f"not yet diffusive in {length:g} ps: the MSD is {reached:.3g} A^2 at {ends[last] * time_step:g} ps, and "
            f"up to {confined:g} A^2 it may be motion within a cage; {bound}",
            upper,
        )
    chosen = settled + 1
    fall = moved.average(_minus(lines[chosen], lines[chosen + 1]))
    estimate = _widened(slopes[chosen], max(0.0, fall.value))
    if estimate.interval[0] <= 0.0:
        raise StatisticsError(f"no diffusion beyond the error bar in {length:g} ps: {bound}", upper)
    return Diffusion(estimate, ends[chosen] // 2 * time_step, ends[chosen] * time_step)


def _widened(estimate: Estimate, systematic: float) -> Estimate:
    """Add an uncertainty that is not of a sample; degrees of freedom by Welch and Satterthwaite."""
    stderr = math.hypot(estimate.stderr, systematic)
    if stderr == 0.0:
        return estimate
    return Estimate(estimate.value, stderr, estimate.dof * (stderr / max(estimate.stderr, 1e-300)) ** 4)


def msd(
    paths: NDArray[np.float64] | Iterable[NDArray[np.float64]], time_step: float, confined: float = 0.0
) -> xr.Dataset:
    """MSD of all lags with its error, and the tracer diffusion coefficient.

    Parameters
    ----------
    paths
        Unwrapped, without drift (`argyase.physics.unwrap.diffusing_paths`), shape (frame, ion, 3), A; or some ions at a
        time, arrays of that shape.
    time_step
        Time between frames, ps.
    confined
        MSD that ions may reach without diffusing, A^2 (see `diffusivity`).

    Returns
    -------
    Dataset
        Schema ``msd``. Where the run does not determine D (`StatisticsError` of `diffusivity`), it is NaN, its interval
        goes from zero to the upper bound, and the attribute ``not_determined`` says why. The
        standard error of the MSD is given up to half the run, NaN beyond.

    Raises
    ------
    TrajectoryError
        If the paths have the wrong shape or hold NaN.
    """
    blocks_of_ions = [paths] if isinstance(paths, np.ndarray) else paths
    moved: _Displacements | None = None
    for block in blocks_of_ions:
        if block.ndim != 3 or block.shape[2] != 3 or block.shape[1] == 0:
            raise TrajectoryError(f"paths of shape {block.shape}: expected (frame, ion, 3) with at least one ion")
        if not np.isfinite(block).all():
            raise TrajectoryError("paths: some coordinates are not finite")
        if moved is None:
            frames = len(block)
            sampled = np.unique(np.geomspace(1, max(1, frames // 2), 40).round().astype(int)).tolist()
            moved, spectrum = _Displacements(frames, sampled), _Spectrum(frames)
        moved.add(block)
        spectrum.add(block)
    if moved is None:
        raise TrajectoryError("paths: none; expected (frame, ion, 3) with at least one ion")
    attrs, units = {}, A2_PER_PS_TO_CM2_PER_S
    windows = _windows(moved, time_step, 3)
    try:
        found = _diffusivity(moved, windows, time_step, confined)
        start, stop = found.start, found.stop
        d = found.estimate.scaled(units).variables("diffusivity", floor=0.0)
    except StatisticsError as error:
        attrs["not_determined"] = str(error)
        start = stop = np.nan
        d = undetermined("diffusivity", error.upper * units)
    axes = spectrum.msd()
    lags = np.arange(frames)
    errors = [moved.average({lag: 1.0}).stderr for lag in sampled]
    stderr = np.interp(lags, [0, *sampled], [0.0, *errors], right=np.nan)
    return MSD.dataset(
        attrs=attrs,
        lag=lags * time_step,
        xyz=["x", "y", "z"],
        msd=axes.sum(axis=1),
        msd_stderr=np.where(np.isfinite(stderr), stderr, np.nan),
        msd_xyz=axes,
        window=[w.end * time_step for w in windows],
        running_diffusivity=[w.slope.value * units for w in windows],
        running_diffusivity_stderr=[w.slope.stderr * units for w in windows],
        **d,
        fit_start=start,
        fit_stop=stop,
        ions=moved.ions,
    )
