"""Repulsion of nuclei below the distances of the training data: the table, and where it comes from.

phi(r) = S(r) ZBL(r; Z_i, Z_j), ZBL the universal screened Coulomb potential of J. F. Ziegler, J. P. Biersack and
U. Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985), S a quintic step from 1 below `inner` to 0 from
`outer` on (see ``native/core/repulsion.h``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list

from argyase.errors import ConfigError

INNER_FRACTION = 0.8
"""Of `outer`, where the whole repulsion acts (see `propose`)."""

LONGEST = 3.0
"""The largest `outer` that is proposed, A: beyond it the screened repulsion of light nuclei is below 0.3 eV."""

Ranges = Mapping[str, Sequence[float]]
"""``{"Li-S": (inner, outer), ...}``, A: below `inner` the whole repulsion, from `outer` on none."""


def check_ranges(ranges: Ranges, species: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The table with every pair in the order of `species`.

    Raises
    ------
    ConfigError
        If a pair is unknown or given twice, or not 0 < inner < outer.

    >>> check_ranges({"S-Li": [0.8, 1.3]}, ["Li", "P", "S", "Cl"])
    {'Li-S': (0.8, 1.3)}
    """
    found: dict[str, tuple[float, float]] = {}
    values: Any  # from a card: anything
    for key, values in ranges.items():
        pair = str(key).split("-")
        if len(pair) != 2 or not set(pair) <= set(species):
            raise ConfigError(f"repulsion.{key}: expected a pair of {list(species)}, e.g. {species[0]}-{species[-1]}")
        name = "-".join(sorted(pair, key=list(species).index))
        if name in found:
            raise ConfigError(f"repulsion.{key}: the pair {name} is given twice")
        if (
            isinstance(values, str)
            or not isinstance(values, Sequence)
            or len(values) != 2
            or not all(isinstance(v, int | float) and math.isfinite(v) for v in values)
            or not 0 < values[0] < values[1]
        ):
            raise ConfigError(f"repulsion.{key} = {values!r}: expected [inner, outer] in A with 0 < inner < outer")
        found[name] = (float(values[0]), float(values[1]))
    return found


def entries(ranges: Ranges, species: Sequence[str]) -> list[tuple[int, int, float, float, float, float]]:
    """For each pair: numbers of the two species, their nuclear charges (e), inner and outer (A)."""
    table = []
    for name, (inner, outer) in check_ranges(ranges, species).items():
        a, b = name.split("-")
        z = float(atomic_numbers[a]), float(atomic_numbers[b])
        table.append((list(species).index(a), list(species).index(b), *z, inner, outer))
    return table


def pair_coeffs(ranges: Ranges, species: Sequence[str]) -> list[str]:
    """The lines for LAMMPS after ``pair_coeff * *``, atom type n being species n - 1.

    >>> pair_coeffs({"Li-S": [0.8, 1.3]}, ["Li", "P", "S", "Cl"])
    ['pair_coeff 1 3 repulsion 3 16 0.8 1.3']
    """
    return [
        f"pair_coeff {i + 1} {j + 1} repulsion {z_i:g} {z_j:g} {inner:.10g} {outer:.10g}"
        for i, j, z_i, z_j, inner, outer in entries(ranges, species)
    ]


def smallest_distances(frames: Iterable[Atoms], species: Sequence[str], cutoff: float) -> dict[str, float]:
    """The smallest distance of each pair of species in any of the frames, A; infinite if none is below `cutoff`.

    >>> frames = [Atoms("LiS", [[0, 0, 0], [0, 0, 2.5]]), Atoms("LiS", [[0, 0, 0], [0, 0, 2.25]])]
    >>> smallest_distances(frames, ["Li", "S"], 6.0)
    {'Li-Li': inf, 'Li-S': 2.25, 'S-S': inf}
    """
    number = {symbol: k for k, symbol in enumerate(species)}
    kinds = len(species)
    nearest = np.full((kinds, kinds), np.inf)
    for atoms in frames:
        i, j, d = neighbour_list(
            "ijd", positions=atoms.positions, cell=complete_cell(atoms.cell), pbc=atoms.pbc, cutoff=cutoff
        )
        types = np.array([number[s] for s in atoms.symbols])
        np.minimum.at(nearest, (types[i], types[j]), d)
    pairs = itertools.combinations_with_replacement(range(kinds), 2)
    return {f"{species[a]}-{species[b]}": float(nearest[a, b]) for a, b in pairs}


def propose(
    distances: Mapping[str, float], fraction: float = INNER_FRACTION, longest: float = LONGEST
) -> dict[str, tuple[float, float]]:
    """A table from the smallest distances of the training data.

    `outer` is the smallest distance, rounded down at 0.01 A and at most `longest`: where there are data, nothing is
    added. `inner` is that fraction of it: nearer to 1 the step is so steep that time steps of MD become too long for
    it, nearer to 0 the repulsion comes too late to fill the wells that a potential has where it was never trained.

    >>> propose({"Li-Li": float("inf"), "Li-S": 2.259})
    {'Li-Li': (2.4, 3.0), 'Li-S': (1.8, 2.25)}
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"inner_fraction = {fraction}: need 0 < inner_fraction < 1")
    table = {}
    for pair, distance in distances.items():
        outer = min(math.floor(100 * distance) / 100 if math.isfinite(distance) else math.inf, longest)
        table[pair] = (round(fraction * outer, 2), outer)
    return table


def format_table(table: Mapping[str, tuple[float, float]]) -> str:
    """The table as TOML, for a model card."""
    lines = [
        "[repulsion]",
        "# [inner, outer] in A: repulsion of the nuclei (ZBL), whole below inner, none from outer on.",
        "# outer: the smallest distance of the pair in the training data, rounded down; at most 3 A.",
    ]
    return "\n".join([*lines, *(f"{pair} = [{inner:g}, {outer:g}]" for pair, (inner, outer) in table.items())])
