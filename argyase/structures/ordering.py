"""Who sits where: S and halide on 4a and 4d, Li on 48h."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from argyase.errors import StructureError
from argyase.structures import sites

SHORT_CONTACT = 0.25
"""Li-Li contacts below this (in units of a: 2.5 A) are avoided where the occupation allows it: 2.2 A between cages."""

_SHELLS = (0.75, 1.05)
"""Pairs closer than these (in units of a) count in `pair_deviation`: 4a-4d within the first, like sites the second."""


def place_lithium(supercell: tuple[int, int, int], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose 48h sites for `count` Li: never both of a doublet, and few contacts below `SHORT_CONTACT`.

    Starts from random doublets and random sites in them; then, as long as it lowers the number of short contacts, a
    Li flips to the other site of its doublet or moves to an empty doublet (random order, at most 50 sweeps).

    Returns
    -------
    ndarray
        Site numbers in the tiled cell (`sites.tile`), ascending.
    """
    cells = math.prod(supercell)
    pairs = (48 * np.arange(cells)[:, None, None] + sites.doublets()[None]).reshape(-1, 2)
    where = sites.tile(sites.wyckoff("48h"), supercell)
    tree = cKDTree(where, boxsize=np.asarray(supercell, dtype=float))
    doublet = np.empty(len(where), dtype=int)
    doublet[pairs.ravel()] = np.repeat(np.arange(len(pairs)), 2)
    near = [
        [k for k in group if doublet[k] != doublet[site]]
        for site, group in enumerate(tree.query_ball_point(where, SHORT_CONTACT))
    ]
    full = np.zeros(len(pairs), dtype=bool)
    full[rng.permutation(len(pairs))[:count]] = True
    choice = rng.integers(0, 2, len(pairs))
    taken = np.zeros(len(where), dtype=bool)
    taken[pairs[full, choice[full]]] = True

    def contacts(site: int) -> int:
        return int(sum(taken[k] for k in near[site]))

    for _ in range(50):
        changed = False
        for d in rng.permutation(np.flatnonzero(full)):
            site = pairs[d][taken[pairs[d]]][0]
            now = contacts(site)
            if now == 0:
                continue
            taken[site] = False
            empty = rng.permutation(np.flatnonzero(~full))[:8]
            other = pairs[d][pairs[d] != site][0]
            options = [other, *pairs[empty].ravel()]
            best = min(options, key=contacts)
            if contacts(best) < now:
                taken[best] = True
                full[d], full[doublet[best]] = False, True
                changed = True
            else:
                taken[site] = True
        if not changed:
            break
    return np.flatnonzero(taken)


def _neighbour_pairs(
    s4a: NDArray[np.float64], s4d: NDArray[np.float64], shape: NDArray[np.float64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of sites (numbered 4a first) in each class: 4a-4a and 4d-4d shells and 4a-4d shells, told by distance."""
    where = np.concatenate([s4a, s4d]) % shape
    kind = np.repeat([0, 1], [len(s4a), len(s4d)])
    tree = cKDTree(where, boxsize=shape)
    i, j = np.array(sorted(tree.query_pairs(max(_SHELLS)))).T
    difference = where[i] - where[j]
    distance = np.round(np.linalg.norm(difference - shape * np.rint(difference / shape), axis=1), 3)
    classes = {}
    for key in sorted(set(zip(kind[i] + kind[j], distance, strict=True))):
        if key[1] <= (_SHELLS[0] if key[0] == 1 else _SHELLS[1]):
            select = (kind[i] + kind[j] == key[0]) & (distance == key[1])
            classes[key] = (i[select], j[select])
    return list(classes.values())


def pair_deviation(
    s4a: NDArray[np.float64],
    s4d: NDArray[np.float64],
    halide_4a: NDArray[np.bool_],
    halide_4d: NDArray[np.bool_],
    shape: NDArray[np.float64],
) -> float:
    """Mean squared deviation of the halide-halide pair fractions from the product of the site fractions.

    Over the shells 4a-4a and 4d-4d up to a, and 4a-4d up to 0.75 a; zero for the ideal random alloy, whose pair
    fractions are c_A c_B.
    """
    value = np.concatenate([halide_4a - halide_4a.mean(), halide_4d - halide_4d.mean()])
    return float(np.mean([np.mean(value[i] * value[j]) ** 2 for i, j in _neighbour_pairs(s4a, s4d, shape)]))


def decorrelate(
    s4a: NDArray[np.float64],
    s4d: NDArray[np.float64],
    halide_4a: NDArray[np.bool_],
    halide_4d: NDArray[np.bool_],
    shape: NDArray[np.float64],
    rng: np.random.Generator,
    trials: int = 4000,
) -> None:
    """Swap S and halide within 4a and within 4d, in place, as long as `pair_deviation` falls."""
    value = np.concatenate([halide_4a - halide_4a.mean(), halide_4d - halide_4d.mean()])
    mask = np.concatenate([halide_4a, halide_4d])
    n = len(s4a)
    pairs = _neighbour_pairs(s4a, s4d, shape)
    # Sum over the pairs of class k that contain a site = (table of class k) @ value.
    if n > 256:
        raise StructureError(f"decoration = 'quasirandom': {n} sites of a kind; at most 256 (4x4x4 cells)")
    tables = np.zeros((len(pairs), 2 * n, 2 * n), dtype=np.int8)
    for table, (i, j) in zip(tables, pairs, strict=True):
        np.add.at(table, (i, j), 1)
        np.add.at(table, (j, i), 1)
    counts = np.array([len(i) for i, _ in pairs])
    sums = np.array([np.sum(value[i] * value[j]) for i, j in pairs])
    sublattices = [s for s in (np.arange(n), np.arange(n, 2 * n)) if 0 < mask[s].sum() < n]
    for _ in range(trials if sublattices else 0):
        part = sublattices[rng.integers(len(sublattices))]
        p, q = rng.choice(part[mask[part]]), rng.choice(part[~mask[part]])
        delta = value[q] - value[p]
        # Only the values at p and q change, by +delta and -delta; their own pair takes the cross term.
        change = delta * ((tables[:, p] - tables[:, q].astype(float)) @ value) - delta**2 * tables[:, p, q]
        if np.sum(((sums + change) / counts) ** 2) < np.sum((sums / counts) ** 2):
            sums = sums + change
            value[p], value[q] = value[q], value[p]
            mask[p], mask[q] = False, True
    halide_4a[:], halide_4d[:] = mask[:n], mask[n:]


def lowest_ewald(
    on_4a: int, on_4d: int, lithium: int, halide: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """The S/halide ordering and Li arrangement of the unit cell with the lowest Ewald energy of formal charges.

    All orderings of 4a and 4d are tried (at most 36); for each, Li starts on every second site of the doublets and
    moves to the partner site or to an empty doublet as long as that lowers the energy, from four starts. Energies come
    from one Ewald matrix over all candidate sites (pymatgen). Deterministic; the energy is a ranking, not a physical
    energy.

    Returns
    -------
    tuple
        Masks of the halide on 4a and 4d, shape (4,), and the 48h sites taken, ascending.
    """
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Lattice, Structure

    letters = ["48h", "4b", "16e", "4a", "4d"]
    where = np.concatenate([sites.wyckoff(letter) for letter in letters])
    # One unit of charge on every site: the pair matrix then is of the geometry alone.
    structure = Structure(Lattice.cubic(10.0), ["Li+"] * len(where), where)
    matrix = EwaldSummation(structure).total_energy_matrix
    pairs = sites.doublets()
    best: tuple[float, tuple[int, ...], tuple[int, ...], NDArray[np.int64]] | None = None
    for chosen_a in itertools.combinations(range(4), on_4a):
        for chosen_d in itertools.combinations(range(4), on_4d):
            charge = np.concatenate([np.zeros(48), np.full(4, 5.0), np.full(24, -2.0)])
            charge[68 + np.array(chosen_a, dtype=int)] = -1.0
            charge[72 + np.array(chosen_d, dtype=int)] = -1.0
            field = 2 * matrix @ charge
            fixed = float(charge @ matrix @ charge)
            for start in range(4):
                taken, energy = _settle(matrix[:48, :48], field[:48], pairs, lithium, start)
                # Compared with a margin: rounding must not decide between equivalent orderings.
                if best is None or fixed + energy < best[0] - 1e-6:
                    best = (fixed + energy, chosen_a, chosen_d, taken)
    assert best is not None
    mask_4a, mask_4d = np.zeros(4, dtype=bool), np.zeros(4, dtype=bool)
    mask_4a[list(best[1])], mask_4d[list(best[2])] = True, True
    return mask_4a, mask_4d, best[3]


def _settle(
    matrix: NDArray[np.float64], field: NDArray[np.float64], pairs: NDArray[np.int64], count: int, start: int
) -> tuple[NDArray[np.int64], float]:
    """Descend over single moves of Li between the sites of 48h; the sites taken and the energy."""
    rng = np.random.default_rng(start)
    doublet = np.empty(48, dtype=int)
    doublet[pairs.ravel()] = np.repeat(np.arange(24), 2)
    full = rng.permutation(24)[:count]
    taken = np.zeros(48)
    taken[pairs[full, rng.integers(0, 2, len(full))]] = 1.0
    self_energy = np.diag(matrix)
    while True:
        slope = field + 2 * matrix @ taken  # energy of a Li more, but for its self term
        full_doublets = set(doublet[taken > 0].tolist())
        gain, move = -1e-9, None
        for i in np.flatnonzero(taken):
            for j in np.flatnonzero(taken == 0):
                if doublet[j] != doublet[i] and int(doublet[j]) in full_doublets:
                    continue
                change = slope[j] - slope[i] + self_energy[j] + self_energy[i] - 2 * matrix[i, j]
                if change < gain:
                    gain, move = change, (i, j)
        if move is None:
            return np.flatnonzero(taken), float(field @ taken + taken @ matrix @ taken)
        taken[move[0]], taken[move[1]] = 0.0, 1.0
