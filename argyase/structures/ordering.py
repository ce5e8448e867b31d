"""Who sits where: S and halide on 4a and 4d, Li on 48h."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

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


@dataclass(frozen=True)
class Ordering:
    """One of the distributions of S and halide over 4a and 4d of the unit cell that no symmetry turns into another."""

    halide_4a: NDArray[np.bool_]
    """Shape (4,), in the order of `sites.wyckoff`."""
    halide_4d: NDArray[np.bool_]
    multiplicity: int
    """How many distributions symmetry makes of it."""


@cache
def _operations() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The 96 operations of the framework, F-43m with its centring translations: rotations and translations."""
    import spglib

    letters = ("4a", "4b", "4d", "16e")
    where = [sites.wyckoff(letter) for letter in letters]
    kinds = np.repeat(np.arange(len(letters)), [len(w) for w in where])
    crystal = np.eye(3).tolist(), np.concatenate(where).tolist(), kinds.tolist()
    found = spglib.get_symmetry(crystal, symprec=1e-5)
    assert found is not None
    return np.asarray(found["rotations"], dtype=np.int64), np.asarray(found["translations"])


def permutations(where: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where each operation of the framework takes each of some sites of the unit cell.

    Parameters
    ----------
    where
        Fractional coordinates of a whole number of Wyckoff sites, shape (site, 3).

    Returns
    -------
    ndarray
        Numbers of sites, shape (operation, site).

    Raises
    ------
    StructureError
        If an operation leads to none of the sites.
    """
    rotations, translations = _operations()
    images = np.einsum("oij,sj->osi", rotations, where) + translations[:, None]
    distance = np.linalg.norm(sites.minimum_image(images[:, :, None] - where), axis=3)
    if distance.min(axis=2).max() > 1e-4:
        raise StructureError("the sites are not whole Wyckoff positions of F-43m: symmetry leads to others")
    return np.asarray(distance.argmin(axis=2), dtype=np.int64)


def distinct_orderings(on_4a: int, on_4d: int) -> list[Ordering]:
    """All symmetry-distinct ways to put so many halides on the 4a and 4d sites of one unit cell.

    Examples
    --------
    >>> [o.multiplicity for o in distinct_orderings(2, 2)]
    [12, 24]
    """
    group = permutations(np.concatenate([sites.wyckoff("4a"), sites.wyckoff("4d")]))
    found, seen = [], set[tuple[bool, ...]]()
    for chosen_a, chosen_d in itertools.product(
        itertools.combinations(range(4), on_4a), itertools.combinations(range(4, 8), on_4d)
    ):
        mask = np.zeros(8, dtype=bool)
        mask[[*chosen_a, *chosen_d]] = True
        if tuple(mask.tolist()) not in seen:
            images = {tuple(image) for image in mask[group].tolist()}
            seen |= images
            found.append(Ordering(mask[:4], mask[4:], len(images)))
    return found


def inequivalent(ordering: Ordering, where: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Of some sites, one of each class that the symmetry of the ordering makes equivalent, and how many are in it.

    Parameters
    ----------
    where
        As in `permutations`.

    Returns
    -------
    list of (number of the site, number of sites in its class)
    """
    group = permutations(np.concatenate([sites.wyckoff("4a"), sites.wyckoff("4d")]))
    mask = np.concatenate([ordering.halide_4a, ordering.halide_4d])
    keeps = (mask[group] == mask).all(axis=1)
    images = permutations(where)[keeps]
    first, counts = np.unique(images.min(axis=0), return_counts=True)
    return list(zip(first.tolist(), counts.tolist(), strict=True))


_EWALD_CELL_A = 10.0
_LETTERS = ("48h", "4b", "16e", "4a", "4d")
_BLOCKED_EV = 1e4


@cache
def _ewald_matrix(void: str = "") -> NDArray[np.float64]:
    """Energies (eV) of unit charges on all pairs of sites of a cell of 10 A: 48h, 4b, 16e, 4a, 4d, and a void's."""
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Lattice, Structure

    where = np.concatenate([sites.wyckoff(letter) for letter in _LETTERS])
    if void:
        where = np.concatenate([where, sites.orbit(sites.TETRAHEDRAL_SITES[void])])
    # One unit of charge on every site: the pair matrix then is of the geometry alone.
    structure = Structure(Lattice.cubic(_EWALD_CELL_A), ["Li+"] * len(where), where)
    return np.asarray(EwaldSummation(structure).total_energy_matrix)


def ewald_arrangements(
    halide_4a: NDArray[np.bool_],
    halide_4d: NDArray[np.bool_],
    lithium: int,
    *,
    starts: int = 4,
    beside: tuple[str, int] | None = None,
    a: float = _EWALD_CELL_A,
) -> list[tuple[float, NDArray[np.int64]]]:
    """Arrangements of Li on 48h of the unit cell, by their Ewald energy of formal charges, lowest first.

    Li starts on random sites of the doublets and moves to the partner site or to an empty doublet as long as that
    lowers the energy. Where starts end at the same energy, the first is kept. The energy is a ranking, not a physical
    energy.

    Parameters
    ----------
    halide_4a, halide_4d
        Where the halide is, shape (4,).
    lithium
        How many Li on 48h.
    starts
        Number of starts.
    beside
        One more Li, which stays: the name of a tetrahedral site (`sites.TETRAHEDRAL_SITES`) and the number of the site
        in its `sites.orbit`; 48h sites nearer than 0.2 a (2 A) remain empty.
    a
        Lattice constant, A.

    Returns
    -------
    list
        Energy of the cell, eV, and the 48h sites taken, ascending.
    """
    matrix = _ewald_matrix(beside[0] if beside else "")
    charge = np.zeros(len(matrix))
    charge[48:52], charge[52:76] = 5.0, -2.0
    charge[68 + np.flatnonzero(halide_4a)] = -1.0
    charge[72 + np.flatnonzero(halide_4d)] = -1.0
    blocked = np.zeros(48)
    if beside is not None:
        name, number = beside
        void = sites.orbit(sites.TETRAHEDRAL_SITES[name])[number]
        charge[76 + number] = 1.0
        distance = np.linalg.norm(sites.minimum_image(sites.wyckoff("48h") - void), axis=1)
        blocked[distance < 0.2] = _BLOCKED_EV
    field = 2 * matrix @ charge
    fixed = float(charge @ matrix @ charge)
    found: list[tuple[float, NDArray[np.int64]]] = []
    for start in range(starts):
        taken, energy = _settle(matrix[:48, :48], field[:48] + blocked, sites.doublets(), lithium, start)
        total = (fixed + energy) * _EWALD_CELL_A / a
        if all(abs(total - other) > 1e-4 for other, _ in found):  # rounding is 1e-9 eV
            found.append((total, taken))
    return sorted(found, key=lambda pair: pair[0])


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
    best: tuple[float, tuple[int, ...], tuple[int, ...], NDArray[np.int64]] | None = None
    for chosen_a in itertools.combinations(range(4), on_4a):
        for chosen_d in itertools.combinations(range(4), on_4d):
            mask_4a, mask_4d = np.zeros(4, dtype=bool), np.zeros(4, dtype=bool)
            mask_4a[list(chosen_a)], mask_4d[list(chosen_d)] = True, True
            energy, taken = ewald_arrangements(mask_4a, mask_4d, lithium)[0]
            # Compared with a margin: rounding must not decide between equivalent orderings.
            if best is None or energy < best[0] - 1e-6:
                best = (energy, chosen_a, chosen_d, taken)
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
        here, there = np.flatnonzero(taken), np.flatnonzero(taken == 0)
        i, j = here[:, None], there[None, :]
        change = slope[j] - slope[i] + self_energy[j] + self_energy[i] - 2 * matrix[i, j]
        change[np.isin(doublet[there], doublet[here])[None, :] & (doublet[j] != doublet[i])] = np.inf
        best = int(np.argmin(change))
        if not change.flat[best] < -1e-9:
            return here, float(field @ taken + taken @ matrix @ taken)
        taken[here[best // len(there)]], taken[there[best % len(there)]] = 0.0, 1.0
