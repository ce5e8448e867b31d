"""Jumps of Li between the polyhedra and the cages of the argyrodite, by the anions around it at each moment."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from argyase.errors import TrajectoryError
from argyase.physics.intervals import (
    BLOCKS,
    UNKNOWN,
    Interval,
    columns,
    event_rate,
    in_blocks,
    quotient,
    ratio_of_sums,
)
from argyase.physics.statistics import blocks
from argyase.schemas import JUMPS
from argyase.structures.tetrahedra import KINDS, Framework, Topology, find_framework, nearest_periodic
from argyase.units import A2_PER_PS_TO_CM2_PER_S, AMU_A2_PER_PS2_TO_EV, BOLTZMANN_EV_K

CLASSES = ("doublet", "intra_cage", "inter_cage_T2", "inter_cage_T4", "inter_cage_other", "inter_cage")
"""Classes of jumps; the last is the sum of the three before it."""

Chunk = tuple[NDArray[np.float64], NDArray[np.float64]]

_BINS = 64  # of residence times, each a factor of 2^(1/2): up to 2^32 frames
_SHUFFLES = 10


def site_jumps(
    chunks: Iterable[Chunk],
    species: NDArray[np.str_],
    time_step: float,
    *,
    ion: str = "Li",
    depth: float = 0.1,
    window: float = 0.3,
    temperature: float | None = None,
    diffusivity: Interval = UNKNOWN,
) -> xr.Dataset:
    r"""Where the Li are, how long, and how they jump: in doublets, inside cages, and from cage to cage.

    The anions of 4a, 4d and 16e span tetrahedra (`argyase.structures.tetrahedra`); an ion is in that which holds it in
    this very frame, found by walking from where it was through the faces it has passed. It has *arrived* there when its
    smallest barycentric coordinate reaches `depth` (a quarter at the centre); until then it still counts for the site
    it has left, so that rattling across a face is no jump.

    A jump leads from one site of a cage (T1, T2, T5) to the next at which the ion arrives:

    - ``doublet``: from one T5 to that beyond their common face;
    - ``intra_cage``: any other inside one cage;
    - ``inter_cage``: into another cage: through the face between two T2 (``inter_cage_T2``), through T4
      (``inter_cage_T4``), or along any other way (``inter_cage_other``).

    Stays in T3 and T4, which are of no cage, are counted as residence, and belong to the way of the jump. Rates are
    jumps per ion and time. All errors are those of ten blocks of time; of few events see `intervals.event_rate`.

    Residence time of a kind of site: time spent there over departures, which runs that end too early do not bias. The
    attempt frequency is the number of times per second that the ion comes by its mean position in one direction (Rice)
    at its kinetic energy and mean squared deviation,

    .. math:: \nu = \frac{1}{2\pi} \sqrt{\frac{k_B T}{m \langle u^2 \rangle}},

    which takes no frames closer than the vibration; of a harmonic well it is the frequency. u is the deviation from the
    mean position in the same stay. With it each class has an
    effective barrier :math:`\Delta F = k_B T \ln(\nu / \Gamma)`.

    Correlation factors compare the tracer diffusion coefficient with that of the same jumps in random directions,
    :math:`f = D / D_J`, :math:`D_J = \langle \sum d^2 \rangle / 6t`: once over all jumps between sites, once over those
    between cages only. Jumps back and forth make f small. Read both together: with much S on 4a, Li gathers around it
    as around S on 4d, and jumps between the cages of 4d lead round one 4a, to and fro: many jumps, small f.

    The network has a line between two cages for each image between which an ion has jumped. It goes on for ever in the
    directions in which it wraps the cell. ``network_rate``: jumps per time over the weakest line of the network of
    strongest lines that still wraps in one, two, three directions.

    An inter-cage jump is ``concerted`` when within `window` another ion leaves the cage that it enters, or enters the
    one that it leaves; the fraction to be expected of independent jumps is that after the jumps of each ion were
    shifted in time together, by a random amount (with the end of the run joined to its start).

    Parameters
    ----------
    chunks
        The trajectory in pieces, in order: unwrapped positions of all atoms, (frame, atom, 3) in A, and cell vectors as
        rows, (frame, 3, 3) in A. The anions are matched with their sites piece by piece, from their mean positions: a
        PS4 that has turned is followed.
    species
        Symbols, shape (atom,).
    time_step
        Time between frames, ps.
    ion
        The diffusing species.
    depth
        Smallest barycentric coordinate of an ion that has arrived, above 0 and below 0.2.
    window
        Time between concerted jumps, ps.
    temperature
        K; without it there are no attempt frequencies and barriers.
    diffusivity
        Tracer diffusion coefficient, cm^2/s; without it there are no correlation factors.

    Returns
    -------
    Dataset
        Schema ``jumps``.

    Raises
    ------
    TrajectoryError
        If the anions are not those of an argyrodite, or no longer (melted); if there are fewer than 20 frames, or
        settings make no sense.

    References
    ----------
    Sites: H.-J. Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008). Polyhedra of argyrodites, inter-cage jumps:
    B. J. Morgan, Chem. Mater. 33, 2004 (2021). Rates: N. J. J. de Klerk, E. van der Maas, M. Wagemaker, ACS Appl.
    Energy Mater. 1, 3230 (2018). S. O. Rice, Bell Syst. Tech. J. 24, 46 (1945), eq. 3.3-11. f: H. Mehrer, Diffusion in
    Solids (2007), ch. 7.
    """
    if not 0 < depth < 0.2:
        raise TrajectoryError(f"depth = {depth}: must be above 0 and below 0.2 (it is 0.25 at the centre of a site)")
    if not window > 0:
        raise TrajectoryError(f"window = {window} ps: must be positive")
    walk = _Walk(np.asarray(species), ion, depth)
    for positions, cells in chunks:
        walk.add(positions, cells)
    if walk.frames < 2 * BLOCKS:
        raise TrajectoryError(f"{walk.frames} frames: at least {2 * BLOCKS} are needed for rates with error bars")
    return _dataset(walk, time_step, ion, depth, window, temperature, diffusivity)


class _Walk:
    """The walk of all ions so far, and what has been counted."""

    def __init__(self, species: NDArray[np.str_], ion: str, depth: float) -> None:
        self.species, self.depth = species, depth
        self.mobile = np.flatnonzero(species == ion)
        if len(self.mobile) == 0:
            raise TrajectoryError(f"no {ion} in the trajectory; it has {', '.join(sorted(set(species.tolist())))}")
        self.frames = self.lost = self.turned = 0
        self.cell: NDArray[np.float64]
        self.framework: Framework
        self.mesh: tuple[NDArray[Any], ...]
        self.centres: NDArray[np.float64]
        self.lengths: NDArray[np.float64]
        self.state: tuple[NDArray[Any], ...]
        self.sums: dict[str, NDArray[np.int64]]
        self.parts: dict[str, list[NDArray[Any]]] = {"moves": [], "jumped": [], "spread": [], "events": []}

    def add(self, positions: NDArray[np.float64], cells: NDArray[np.float64]) -> None:
        """Go on through a chunk."""
        from argyase.physics._follow import follow, mapped

        if len(positions) == 0:
            return
        if self.frames == 0:
            self.cell = cells.mean(axis=0)
        # Tetrahedra do not mind an affine map: everything in one cell, which takes its breathing out.
        maps = np.linalg.inv(cells) @ self.cell
        if self.frames == 0:
            moved = positions @ maps
            self._begin(moved.mean(axis=0), moved[0])
        anions = mapped(positions, maps, self.framework.atoms, self.framework.images @ self.cell)
        framework, order = self.framework.rematched(anions.mean(axis=0), self.cell)
        if framework is not self.framework:
            self.turned += int((framework.atoms != self.framework.atoms).sum())
            anions = anions[:, order] - (framework.images - self.framework.images[order]) @ self.cell
            self.framework = framework
        lithium = mapped(positions, maps, self.mobile, np.zeros((len(self.mobile), 3)))
        n, ions = len(positions), len(self.mobile)
        counts = {"moves": (np.int32, 12), "jumped": (np.float64, 6), "spread": (np.float64, 12)}
        new = {name: np.zeros((n, columns), dtype) for name, (dtype, columns) in counts.items()}
        events = np.empty((n * ions, 8), np.int32)
        found, lost = follow(
            lithium,
            anions,
            self.cell,
            self.frames,
            self.depth,
            *self.mesh,
            self.centres,
            self.lengths,
            *self.state,
            *new.values(),
            *self.sums.values(),
            events,
        )
        for name, array in {**new, "events": events[:found].copy()}.items():
            self.parts[name].append(array)
        self.lost += lost
        self.frames += n

    def _begin(self, mean: NDArray[np.float64], frame: NDArray[np.float64]) -> None:
        self.framework = find_framework(mean, self.cell, self.species)
        ideal, ions = self.framework.topology, len(self.mobile)
        shape = np.asarray(ideal.supercell, dtype=float)
        # Small integers: the mesh of a large cell then stays in the cache.
        self.mesh = (
            ideal.vertex.astype(np.int32), ideal.vertex_image.astype(np.int8),
            (ideal.vertex_image == 0).all(axis=(1, 2)), ideal.neighbour.astype(np.int32),
            ideal.neighbour_image.astype(np.int8), ideal.kind.astype(np.int8), ideal.cage.astype(np.int32),
            ideal.cage_image.astype(np.int8),
        )  # fmt: skip
        self.centres = ideal.centres()
        self.lengths = np.stack([shape, np.linalg.norm(self.cell, axis=1) / shape], axis=1)
        place = frame[self.mobile] @ np.linalg.inv(self.cell) * shape - self.framework.origin
        raw = nearest_periodic(place, self.centres, shape)
        image = np.rint((place - self.centres[raw]) / shape).astype(np.int64)
        none = np.full(ions, -1, np.int64)
        self.state = (
            raw, image, none.copy(), none.copy(), np.zeros((ions, 3), np.int64), none.copy(),
            none.copy(), none.copy(), np.zeros((ions, 3)), np.zeros(ions), np.zeros(ions, np.int64),
        )  # fmt: skip
        self.sums = {
            "pairs": np.zeros((6, 6), np.int64),
            "cage_time": np.zeros(int(ideal.cage.max()) + 1, np.int64),
            "stay": np.zeros((6, _BINS), np.int64),
            "cage_stay": np.zeros(_BINS, np.int64),
        }

    def settle(self) -> None:
        """Close the accounts of the vibrations."""
        from argyase.physics._follow import settle

        site, mean, square, samples = self.state[2], *self.state[8:]
        for i in np.flatnonzero(site >= 0):
            settle(self.parts["spread"][-1][-1], self.framework.topology.kind[site[i]], i, mean, square, samples)

    def joined(self, name: str) -> NDArray[Any]:
        """What was counted frame by frame, or the events."""
        return np.concatenate(self.parts[name])


def _dataset(
    walk: _Walk, time_step: float, ion: str, depth: float, window: float, temperature: float | None, d: Interval
) -> xr.Dataset:
    ideal, ions = walk.framework.topology, len(walk.mobile)
    walk.settle()
    moves, jumped, spread, events = (walk.joined(k) for k in ("moves", "jumped", "spread", "events"))
    duration = walk.frames * time_step
    exposure = in_blocks(np.full(walk.frames, ions * time_step * 1e-3))  # ion ns
    classes = np.concatenate([jumped[:, :5], jumped[:, 2:5].sum(axis=1, keepdims=True)], axis=1)
    rates = [event_rate(in_blocks(classes[:, k]), exposure) for k in range(6)]

    occupied, left = in_blocks(moves[:, :6]), in_blocks(moves[:, 6:])
    everywhere = in_blocks(np.full(walk.frames, ions))
    occupancy = [Interval.of(ratio_of_sums(occupied[:, k], everywhere), floor=0.0) for k in range(6)]
    residence = [event_rate(left[:, k], occupied[:, k] * time_step).inverse() for k in range(6)]
    cage_residence = event_rate(in_blocks(classes[:, 5]), exposure * 1e3).inverse()

    frequency = [UNKNOWN] * 6
    barriers = [UNKNOWN] * 6
    if temperature is not None:
        squares, freedom = in_blocks(spread[:, :6]), in_blocks(spread[:, 6:])
        frequency = [_frequency(squares[:, k], freedom[:, k], ion, temperature) for k in range(6)]
        barriers = [_barrier(frequency[KINDS.index("T5")], rate, temperature) for rate in rates]

    per_site = blocks(in_blocks(jumped[:, 5]) / (6 * exposure * 1e3)).scaled(A2_PER_PS_TO_CM2_PER_S)
    # Centres of neighbouring cages are a face diagonal of half the cell apart.
    between = float((walk.lengths[:, 1] ** 2).mean()) / 2
    per_cage = rates[5].scaled(between / 6 * 1e-3 * A2_PER_PS_TO_CM2_PER_S)
    d_sites = Interval.of(per_site, floor=0.0)

    environment, halide, around = _environments(walk.framework, walk.species)
    edges, network, axes, biggest = _network(ideal, events)
    concerted, expected = _concerted(events, ions, walk.frames, max(1, round(window / time_step)))
    kinds = len(_ENVIRONMENTS)
    cage_jumps = np.zeros((kinds, kinds), np.int64)
    np.add.at(cage_jumps, (environment[events[:, 2]], environment[events[:, 3]]), 1)
    at = np.bincount(environment, weights=walk.sums["cage_time"], minlength=kinds) * time_step * 1e-3
    away = [_rate_from(events, environment == k, walk, time_step) for k in range(kinds)]

    return JUMPS.dataset(
        attrs={"supercell": ideal.supercell},
        jump=CLASSES,
        site=KINDS,
        site_to=KINDS,
        environment=_ENVIRONMENTS,
        environment_to=_ENVIRONMENTS,
        cage=np.arange(len(environment)),
        dimension=[1, 2, 3],
        xyz=["x", "y", "z"],
        residence=2.0 ** (np.arange(_BINS) / 2) * time_step,
        jumps=classes.sum(axis=0),
        **columns("rate", rates),
        **columns("barrier", barriers),
        **columns("occupancy", occupancy),
        **columns("residence_time", residence),
        **columns("attempt_frequency", frequency),
        **cage_residence.variables("cage_residence_time"),
        residence_histogram=walk.sums["stay"],
        cage_residence_histogram=walk.sums["cage_stay"],
        site_jumps=walk.sums["pairs"],
        cage_jumps=cage_jumps,
        environment_time=at,
        environment_cages=np.bincount(environment, minlength=kinds),
        **columns("escape_rate", away),
        cage_anion=halide,
        cage_halides_4a=around,
        cage_ions=walk.sums["cage_time"] / walk.frames,
        lines=edges,
        network_dimensions=int(np.isfinite(network).sum()),
        network_rate=network / (duration * 1e-3),
        network_wraps=axes,
        network_fraction=biggest,
        **d_sites.variables("jump_diffusivity_sites"),
        **per_cage.variables("jump_diffusivity_cages"),
        **quotient(d, d_sites).variables("correlation_factor_sites"),
        **quotient(d, per_cage).variables("correlation_factor_cages"),
        **concerted.variables("concerted_fraction"),
        **expected.variables("concerted_expected"),
        lost_fraction=walk.lost / (walk.frames * ions),
        anions_turned=walk.turned,
        depth=depth,
        window=window,
        ions=ions,
        duration=duration,
    )


def _frequency(squares: NDArray[np.float64], freedom: NDArray[np.float64], ion: str, temperature: float) -> Interval:
    """Rice's rate from the mean squared deviation along one axis, THz."""
    from ase.data import atomic_masses, atomic_numbers

    if freedom.sum() < 100:  # its own error would be above 10 %
        return UNKNOWN
    spread = Interval.of(ratio_of_sums(squares, freedom), floor=0.0)
    mass = float(atomic_masses[atomic_numbers[ion]]) * AMU_A2_PER_PS2_TO_EV

    def rice(u2: float) -> float:
        return math.sqrt(BOLTZMANN_EV_K * temperature / (mass * u2)) / (2 * math.pi) if u2 > 0 else math.inf

    value = rice(spread.value)
    return Interval(value, value / 2 * spread.stderr / spread.value, rice(spread.high), rice(spread.low))


def _barrier(frequency: Interval, rate: Interval, temperature: float) -> Interval:
    """k T ln(nu / Gamma), eV; without a jump there is a lower bound only."""
    kt = BOLTZMANN_EV_K * temperature

    def height(nu: float, gamma: float) -> float:
        return kt * math.log(nu * 1e3 / gamma) if gamma > 0 else math.inf

    if not (math.isfinite(frequency.value) and math.isfinite(rate.high)):
        return UNKNOWN
    low, high = height(frequency.low, rate.high), height(frequency.high, rate.low)
    if rate.value == 0:
        return Interval(math.nan, math.nan, low, math.inf)
    stderr = kt * math.hypot(frequency.stderr / frequency.value, rate.stderr / rate.value)
    return Interval(height(frequency.value, rate.value), stderr, low, high)


_ENVIRONMENTS = tuple(f"{anion}{n}" for anion in "SX" for n in range(5))
"""Kinds of cages: anion on 4d (S, or X for a halide), and the number of halides on the four 4a around it."""


def _environments(
    framework: Framework, species: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.int64]]:
    """Of each cage its kind, the symbol on 4d, and the number of halides on the four 4a around it."""
    ideal = framework.topology
    shape = np.asarray(ideal.supercell, dtype=float)
    symbols = species[framework.atoms]
    here, near = ideal.letters == "4d", ideal.letters == "4a"
    # Counted by images: in a single cell the four are images of fewer atoms.
    images = (ideal.anion_sites[near][None] + _AROUND[:, None] * shape).reshape(-1, 3)
    halide = np.tile(symbols[near] != "S", len(_AROUND))
    pairs = cKDTree(ideal.anion_sites[here]).query_ball_tree(cKDTree(images), 0.5)
    around = np.array([int(halide[list(p)].sum()) for p in pairs])
    return np.where(symbols[here] == "S", 0, 5) + around, symbols[here], around


_AROUND = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def _rate_from(events: NDArray[np.int32], chosen: NDArray[np.bool_], walk: _Walk, time_step: float) -> Interval:
    """Inter-cage jumps per ion and ns out of the chosen cages."""
    time = float(walk.sums["cage_time"][chosen].sum()) * time_step * 1e-3
    if time == 0:
        return UNKNOWN
    frame = events[chosen[events[:, 2]], 0]
    counts = np.histogram(frame, np.linspace(0, walk.frames, BLOCKS + 1))[0]
    return event_rate(counts, np.full(BLOCKS, time / BLOCKS))


def _network(ideal: Topology, events: NDArray[np.int32]) -> tuple[int, NDArray[np.float64], NDArray[np.bool_], float]:
    """Lines between cages, jumps over the weakest of those that wrap in 1, 2, 3 directions, axes, largest part."""
    from argyase.physics._percolation import percolate_graph

    nodes = int(ideal.cage.max()) + 1
    forward = events[:, 2] <= events[:, 3]
    ends = np.where(forward[:, None], events[:, 2:4], events[:, 3:1:-1])
    shift = np.where(forward[:, None], events[:, 4:7], -events[:, 4:7])
    lines, counts = np.unique(np.concatenate([ends, shift], axis=1).astype(np.int64), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    lines, counts = lines.reshape(-1, 5)[order], counts[order]
    by_rank, by_axis, roots = percolate_graph(
        nodes, np.ascontiguousarray(lines[:, :2]), np.ascontiguousarray(lines[:, 2:]), counts.astype(float)
    )
    return len(lines), by_rank, np.isfinite(by_axis), float(np.bincount(roots).max() / nodes)


def _concerted(events: NDArray[np.int32], ions: int, frames: int, window: int) -> tuple[Interval, Interval]:
    """Fraction of inter-cage jumps with a partner, and what independent ions would have."""
    if len(events) == 0:
        return UNKNOWN, UNKNOWN
    frame, ion = events[:, 0].astype(np.int64), events[:, 1].astype(np.int64)
    origin, destination = events[:, 2].astype(np.int64), events[:, 3].astype(np.int64)

    def has_partner(when: NDArray[np.int64]) -> NDArray[np.bool_]:
        def near(theirs: NDArray[np.int64], mine: NDArray[np.int64]) -> NDArray[np.int64]:
            """Jumps of other ions with theirs[k] == mine within the window."""
            length = np.int64(frames + 2 * window + 2)
            found = np.zeros(len(when), np.int64)
            for sign, each in ((1, np.int64(0)), (-1, np.int64(1))):  # all ions, less the ion itself
                keys = np.sort((theirs * (ions if each else 1) + each * ion) * length + when)
                middle = (mine * (ions if each else 1) + each * ion) * length + when
                counted = np.searchsorted(keys, middle + window, "right") - np.searchsorted(keys, middle - window)
                found += sign * counted
            return found

        return np.asarray(near(origin, destination) + near(destination, origin) > 0)

    edges = np.linspace(0, frames, BLOCKS + 1)
    count = np.histogram(frame, edges)[0]
    seen = Interval.of(ratio_of_sums(np.histogram(frame[has_partner(frame)], edges)[0], count), floor=0.0)
    rng = np.random.default_rng(0)
    random = [
        float(has_partner((frame + rng.integers(0, frames, ions)[ion]) % frames).mean()) for _ in range(_SHUFFLES)
    ]
    return seen, Interval.of(blocks(np.array(random)), floor=0.0)
