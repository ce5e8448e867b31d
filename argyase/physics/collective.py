"""Conductivity from the motion of all ions together: charge current, Onsager coefficients, Haven ratio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from argyase.errors import StatisticsError, TrajectoryError
from argyase.physics.intervals import Interval
from argyase.physics.msd import diffusivity, slope_weights
from argyase.physics.statistics import mean_of_series, undetermined
from argyase.physics.unwrap import check_unwrapped
from argyase.schemas import COLLECTIVE
from argyase.units import A2_PER_PS_TO_CM2_PER_S, BOLTZMANN_EV_K, E2_PER_A_PS_EV_TO_MS_PER_CM

CHARGES = {"Li": 1.0, "P": 5.0, "S": -2.0, "Cl": -1.0, "Br": -1.0, "I": -1.0}
"""Formal charges, e."""

Chunk = tuple[NDArray[np.float64], NDArray[np.float64]]

_PARTS = (80, 40, 20, 10)  # the longest lags of slopes, as parts of the run's length


@dataclass(frozen=True)
class Sums:
    """Positions of all atoms of each species together, in the mean cell: what remains of a trajectory in one pass."""

    symbols: tuple[str, ...]
    counts: NDArray[np.int64]
    """Atoms of each, shape (species,)."""
    positions: NDArray[np.float64]
    """Sum over the atoms, A, shape (frame, species, 3)."""
    cell: NDArray[np.float64]
    """Mean cell, A, shape (3, 3)."""
    volume: float
    """Mean volume, A^3."""

    def drift(self, ion: str) -> NDArray[np.float64]:
        """Mean displacement of all atoms of other species since the first frame, A, shape (frame, 3)."""
        others = [k for k, symbol in enumerate(self.symbols) if symbol != ion]
        total = self.positions[:, others].sum(axis=1)
        return np.asarray((total - total[0]) / self.counts[others].sum())


def species_sums(chunks: Iterable[Chunk], species: NDArray[np.str_], ion: str = "Li") -> Sums:
    """Sum the positions of each species, chunk by chunk.

    Parameters
    ----------
    chunks
        Unwrapped positions of all atoms, (frame, atom, 3) in A, and cells, (frame, 3, 3), in order.
    species
        Symbols, shape (atom,).
    ion
        The diffusing species.

    Raises
    ------
    TrajectoryError
        If there is no such species, or nothing else, or the coordinates are wrapped.
    """
    symbols = np.asarray(species)
    names, counts = np.unique(symbols, return_counts=True)
    if ion not in names:
        raise TrajectoryError(f"no {ion} in the trajectory; it has {', '.join(map(str, names))}")
    if len(names) == 1:
        raise TrajectoryError(f"all atoms are {ion}: there is no framework to measure displacements against")
    member = (symbols[None] == names[:, None]).astype(float)
    parts, cells = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    last: Chunk | None = None
    for positions, h in chunks:
        if last is not None:
            check_unwrapped(np.concatenate([last[0], positions[:1]]), np.concatenate([last[1], h[:1]]))
        check_unwrapped(positions, h)
        last = positions[-1:], h[-1:]
        # Linear in the positions, so that the mean cell, known at the end, can wait.
        parts.append((member @ positions) @ np.linalg.inv(h))
        cells.append(h)
    every = np.concatenate(cells)
    mean = every.mean(axis=0)
    volume = float(np.abs(np.linalg.det(every)).mean())
    return Sums(tuple(names.tolist()), counts, np.concatenate(parts) @ mean, mean, volume)


def collective(
    sums: Sums,
    path_blocks: Iterable[NDArray[np.float64]],
    time_step: float,
    temperature: float,
    *,
    ion: str = "Li",
    charges: Mapping[str, float] = CHARGES,
) -> xr.Dataset:
    r"""Collective conductivity, Haven ratio and Onsager coefficients.

    .. math:: \sigma = \frac{e^2}{6 V k_B T} \frac{\mathrm d}{\mathrm dt}
              \left\langle \Big| z \sum_i \Delta \mathbf r_i(t) \Big|^2 \right\rangle, \qquad
              H_R = \frac{D}{D_\sigma}, \qquad D_\sigma = \frac{\sigma k_B T}{(z e)^2 c}

    over the ions, relative to the framework (mean displacement of all other atoms): the frame in which current is
    measured, and the only one that makes sense for a cell with a net charge. The slope and its error are those of
    `argyase.physics.msd.diffusivity` for the one path of the sum.

    The Haven ratio compares slopes of tracer and charge over the same lags t2/2 ... t2: t2 is the shortest of the run's
    length / 40, / 20, / 10 at which neither slope is below that over t2/4 ... t2/2 (one-sided, 20 %), and the last in
    any case. Its interval (Fieller's) takes into account that both are of one trajectory; it has no upper end (inf)
    where the collective slope may be zero. Where the tracer's slope still falls the ratio is NaN, with an upper bound:
    a run in which Li has only moved inside its cage does not tell it (attribute ``haven_not_determined``).

    Onsager coefficients are given in the barycentric frame as conductivities of unit charges,

    .. math:: \Lambda_{ab} = \frac{e^2}{6 V k_B T} \frac{\mathrm d}{\mathrm dt}
              \langle \Delta \mathbf R_a(t) \cdot \Delta \mathbf R_b(t) \rangle, \qquad
              \mathbf R_a = \sum_{i \in a} (\mathbf r_i - \mathbf r_\mathrm{centre\ of\ mass})

    so that :math:`\sum_{ab} z_a z_b \Lambda_{ab}` is the conductivity of a neutral cell. That of the ion splits into
    self (the tracer) and distinct (the rest: below zero when ions get in each other's way, above when they push).

    Parameters
    ----------
    sums
        Of `species_sums`.
    path_blocks
        Paths of all ions, some at a time: unwrapped, in the mean cell, without drift, (frame, ions of the block, 3), A.
    time_step
        Time between frames, ps.
    temperature
        K.
    ion
        The diffusing species.
    charges
        Of each species, e.

    Returns
    -------
    Dataset
        Schema ``collective``. Where the run does not determine sigma, it is NaN with an upper bound, and the attribute
        ``not_determined`` says why.

    Raises
    ------
    TrajectoryError
        If a species has no charge, or there are fewer than 100 frames.

    References
    ----------
    Haven ratio and Einstein relation: A. Marcolongo, N. Marzari, Phys. Rev. Mater. 1, 025402 (2017), eqs. 3-6. Onsager
    coefficients: K. D. Fong, H. K. Bergstrom, B. D. McCloskey, K. K. Mandadapu, AIChE J. 66, e17091 (2020). E. C.
    Fieller, J. R. Stat. Soc. B 16, 175 (1954).
    """
    if unknown := [s for s in sums.symbols if s not in charges]:
        raise TrajectoryError(f"no charge for {', '.join(unknown)}; give it in charges")
    frames = len(sums.positions)
    if frames < 100:
        raise TrajectoryError(f"{frames} frames: at least 100 are needed for a conductivity with an error bar")
    here = sums.symbols.index(ion)
    ions, z = int(sums.counts[here]), charges[ion]
    total = sums.positions[:, here] - ions * sums.drift(ion)
    # One path that diffuses with D_sigma.
    current = (total - total[0]) / math.sqrt(ions)
    attrs = {}
    try:
        found = diffusivity(current[:, None], time_step)
        charge = found.estimate.scaled(A2_PER_PS_TO_CM2_PER_S).variables("diffusivity_charge", floor=0.0)
    except StatisticsError as error:
        attrs["not_determined"] = str(error)
        charge = undetermined("diffusivity_charge", error.upper * A2_PER_PS_TO_CM2_PER_S)
    slopes = [Slope.over(max(8, frames // part), time_step) for part in _PARTS]
    series = [np.zeros(frames - slope.last) for slope in slopes]
    seen = 0
    for block in path_blocks:
        for slope, sum_of_ions in zip(slopes, series, strict=True):
            sum_of_ions += slope.of_ions(block) / ions
        seen += block.shape[1]
    if seen != ions:
        raise TrajectoryError(f"paths of {seen} {ion}, but the trajectory has {ions}")
    currents = [slope.of_pairs(current[:, None])[:, 0, 0] for slope in slopes]
    for k in range(1, len(slopes)):
        slope, own, together = slopes[k], series[k], currents[k]
        falls = [_fall(s[k - 1], s[k], slope.last) for s in (series, currents)]
        if not any(falls):
            break
    tracer = mean_of_series(own, slope.last)
    haven = fieller(own, together, slope.last)
    if falls[0]:
        haven = Interval(math.nan, math.nan, 0.0, haven.high)
        attrs["haven_not_determined"] = (
            f"up to a lag of {slope.last * time_step:g} ps the slope of the tracer's MSD still falls: {ion} has moved "
            "inside its cage, or not far beyond; run longer or hotter"
        )

    to_sigma = E2_PER_A_PS_EV_TO_MS_PER_CM / (sums.volume * BOLTZMANN_EV_K * temperature)
    sigma_of_d = to_sigma * ions * z**2 / A2_PER_PS_TO_CM2_PER_S
    sigma = {k.replace("diffusivity_charge", "conductivity"): v * sigma_of_d for k, v in charge.items()}

    from ase.data import atomic_masses, atomic_numbers

    masses = np.array([atomic_masses[atomic_numbers[s]] for s in sums.symbols])
    centre = (sums.positions * masses[:, None]).sum(axis=1) / (masses * sums.counts).sum()
    barycentric = sums.positions - sums.counts[:, None] * centre[:, None]
    kinds = len(sums.symbols)
    onsager = {end: np.empty((kinds, kinds)) for end in ("", "_stderr", "_low", "_high")}
    pairs = slope.of_pairs(barycentric)
    for a, b in np.ndindex(kinds, kinds):
        value = mean_of_series(pairs[:, a, b], slope.last).scaled(to_sigma)
        for end, number in value.variables("").items():
            onsager[end][a, b] = number
    weights = to_sigma * ions
    distinct = mean_of_series(pairs[:, here, here] / ions - own, slope.last).scaled(weights)

    curve = np.unique(np.geomspace(1, frames // 2, 60).round().astype(int))
    return COLLECTIVE.dataset(
        attrs=attrs,
        species_a=sums.symbols,
        species_b=sums.symbols,
        lag=curve * time_step,
        **sigma,
        **charge,
        **tracer.scaled(weights * z**2).variables("conductivity_tracer"),
        **haven.variables("haven_ratio"),
        **{f"onsager{end}": matrix for end, matrix in onsager.items()},
        **tracer.scaled(weights).variables("onsager_self"),
        **distinct.variables("onsager_distinct"),
        charge=[charges[s] for s in sums.symbols],
        charge_msd=[float(((current[n:] - current[:-n]) ** 2).sum(axis=1).mean()) for n in curve],
        fit_start=slope.first * time_step,
        fit_stop=slope.last * time_step,
        temperature=temperature,
        volume=sums.volume,
        ions=ions,
    )


@dataclass(frozen=True)
class Slope:
    """Slope / 6 of a mean squared displacement over some lags, as a series over time origins."""

    weights: Mapping[int, float]
    """Of each lag, frames."""

    @classmethod
    def over(cls, last: int, time_step: float) -> Slope:
        """Over the later half of the lags up to `last`."""
        return cls(slope_weights(last, 1.0 / (6 * time_step)))

    @property
    def first(self) -> int:
        """The shortest lag, in frames."""
        return min(self.weights)

    @property
    def last(self) -> int:
        """The longest lag, in frames."""
        return max(self.weights)

    def of_pairs(self, paths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the products of the displacements of each two paths, (frame, path, 3); (origin, path, path), A^2/ps."""
        origins, count = len(paths) - self.last, paths.shape[1]
        series = np.zeros((origins, count, count))
        for lag, w in self.weights.items():
            moved = paths[lag : lag + origins] - paths[:origins]
            series += w * (moved @ moved.transpose(0, 2, 1))
        return series

    def of_ions(self, paths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over ions of their own, paths (frame, ion, 3); shape (origin,), A^2/ps."""
        from argyase.physics._kernels import squared_displacements

        lags = np.array(sorted(self.weights))
        squares = np.zeros((len(lags), len(paths)))
        squared_displacements(paths, lags, squares, np.zeros((len(lags), paths.shape[1])))
        return np.array([self.weights[lag] for lag in lags.tolist()]) @ squares[:, : len(paths) - self.last]


def _fall(early: NDArray[np.float64], late: NDArray[np.float64], correlation: int) -> float:
    """By how much the slope falls from earlier to later lags, A^2/ps; zero if it does not beyond its error."""
    fall = mean_of_series(early[: len(late)] - late, correlation)
    return fall.value if fall.value > float(stats.t.ppf(0.8, fall.dof)) * fall.stderr else 0.0


def fieller(a: NDArray[np.float64], b: NDArray[np.float64], correlation: int) -> Interval:
    r"""Ratio of the means of two series of one trajectory, both correlated over so many steps.

    All R with :math:`(\bar a - R \bar b)^2 \le t^2 (s_a^2 - 2 R s_{ab} + R^2 s_b^2)`; no upper end (inf) where b may be
    zero, NaN where its mean is not above it.

    References
    ----------
    E. C. Fieller, J. R. Stat. Soc. B 16, 175 (1954).
    """
    p, q, both = (mean_of_series(series, correlation) for series in (a, b, a + b))
    covariance = (both.stderr**2 - p.stderr**2 - q.stderr**2) / 2
    t2 = float(stats.t.ppf(0.975, p.dof)) ** 2
    quadratic = q.value**2 - t2 * q.stderr**2
    linear = p.value * q.value - t2 * covariance
    constant = p.value**2 - t2 * p.stderr**2
    root = math.sqrt(max(0.0, linear**2 - quadratic * constant))
    if q.value <= 0:
        return Interval(math.nan, math.nan, math.nan, math.inf)
    ratio = p.value / q.value
    variance = p.stderr**2 - 2 * ratio * covariance + ratio**2 * q.stderr**2
    stderr = math.sqrt(max(0.0, variance)) / q.value
    if quadratic <= 0:
        # The set is what lies outside of the two roots, or everything: from the upper one on.
        low = (linear - root) / quadratic if quadratic < 0 and linear**2 > quadratic * constant else 0.0
        return Interval(ratio, stderr, max(0.0, min(low, ratio)), math.inf)
    return Interval(ratio, stderr, (linear - root) / quadratic, (linear + root) / quadratic)
