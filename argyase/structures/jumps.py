"""Jumps of Li into a vacancy, through given tetrahedra: where barriers are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.errors import StructureError
from argyase.structures import sites

ROUTES = {"T5-T4-T5": ("T4",), "T5-T2-T2-T5": ("T2", "T2"), "T5-T2-T5": ("T2",)}
"""Voids between one T5 and the next: the first two routes lead to another cage, the last stays inside one."""


@dataclass(frozen=True)
class Jump:
    """A jump of one Li, unrelaxed."""

    initial: Atoms
    final: Atoms
    through: list[Atoms]
    """With the Li in each void of the route."""
    ion: int
    """Number of the Li that jumps."""


def jumps(atoms: Atoms, route: str) -> list[Jump]:
    """All jumps along a route that the Li of an ideal argyrodite can take if the Li in their way is removed.

    The Li starts from its 48h site and ends on that site of the next doublet which the route reaches; the Li of that
    doublet is taken out (charge is not balanced: a potential does not mind, a DFT calculation needs charge -1).

    Parameters
    ----------
    atoms
        As `argyrodite` makes them, at their ideal sites.
    route
        One of `ROUTES`.

    Returns
    -------
    list of Jump
        In the order of the Li, then of the sites; the same seed, the same list.

    Raises
    ------
    StructureError
        If the route is unknown, or the atoms do not have the labels of `argyrodite`.

    Examples
    --------
    >>> from argyase.structures.argyrodite import argyrodite
    >>> jump = jumps(argyrodite(), "T5-T4-T5")[0]
    >>> len(jump.initial), len(jump.through)
    (51, 1)
    """
    if route not in ROUTES:
        raise StructureError(f"route {route!r}: allowed are {', '.join(ROUTES)}")
    if "supercell" not in atoms.info or "site" not in atoms.arrays:
        raise StructureError("jumps: need an argyrodite with its labels, as argyrodite(...) makes it")
    supercell = atoms.info["supercell"]
    shape = np.asarray(supercell, dtype=float)
    a = atoms.cell.lengths() / shape

    h48 = sites.tile(sites.wyckoff("48h"), supercell)
    s4d = sites.tile(sites.wyckoff("4d"), supercell)
    cage = sites.nearest(h48, s4d, supercell)
    doublet = _doublets(supercell)
    lithium = np.flatnonzero(atoms.arrays["site"] == "48h")
    at = sites.nearest(atoms.positions[lithium] / a, h48, supercell)
    ion_in = dict(zip(doublet[at].tolist(), lithium.tolist(), strict=True))

    voids = [sites.tile(sites.orbit(sites.TETRAHEDRAL_SITES[name]), supercell) for name in ROUTES[route]]
    found = []
    for ion, start in zip(lithium.tolist(), at.tolist(), strict=True):
        for path, end in _paths(h48, voids, start, shape):
            same_cage = cage[end] == cage[start]
            if doublet[end] == doublet[start] or same_cage != (route == "T5-T2-T5"):
                continue
            blocking = ion_in.get(int(doublet[end]))
            if blocking is None:
                continue  # already empty; such a jump has no vacancy of its own
            keep = np.arange(len(atoms)) != blocking
            initial = atoms[keep]
            number = ion - int(blocking < ion)
            visited = [_moved(initial, number, place * a) for place in path]
            found.append(Jump(initial, _moved(initial, number, h48[end] * a), visited, number))
    return found


def _moved(atoms: Atoms, ion: int, position: NDArray[np.float64]) -> Atoms:
    """The ion at the image of a position that is nearest to where it is."""
    copy = atoms.copy()
    step = np.linalg.solve(atoms.cell.array.T, position - copy.positions[ion])
    copy.positions[ion] += (step - np.rint(step)) @ atoms.cell.array
    return copy


def _doublets(supercell: tuple[int, int, int]) -> NDArray[np.int64]:
    """Number of the doublet of each 48h site of a supercell, shape (site,)."""
    h48 = sites.tile(sites.wyckoff("48h"), supercell)
    shape = np.asarray(supercell, dtype=float)
    distance = _distances(h48, h48, shape)
    np.fill_diagonal(distance, np.inf)
    partner = distance.argmin(axis=1)
    return np.asarray(np.minimum(np.arange(len(h48)), partner), dtype=np.int64)


def _paths(
    h48: NDArray[np.float64], voids: list[NDArray[np.float64]], start: int, shape: NDArray[np.float64]
) -> list[tuple[list[NDArray[np.float64]], int]]:
    """Places of the voids passed and the site at the end, for all ways from a site through neighbouring voids."""
    ways: list[tuple[list[NDArray[np.float64]], NDArray[np.float64]]] = [([], h48[start])]
    for centres in [*voids, h48]:
        ways = [
            ([*path, centres[n]], centres[n])
            for path, place in ways
            for n in _neighbours(centres, place, shape, between_voids=bool(path) and centres is not h48)
        ]
    numbers = _distances(np.array([place for _, place in ways]), h48, shape).argmin(axis=1)
    return [(path[:-1], int(n)) for (path, _), n in zip(ways, numbers, strict=True) if n != start]


def _neighbours(
    centres: NDArray[np.float64], place: NDArray[np.float64], shape: NDArray[np.float64], *, between_voids: bool
) -> list[int]:
    """Voids that share a face with the one at `place`."""
    # Face to face, the ideal places are 1.3-1.6 A apart (T5-T2, T5-T4), those of two T2 of different cages 2.23 A; the
    # next T2, of the same cage, is nearer (2.09 A) but shares only an edge.
    distance = _distances(place[None], centres, shape)[0]
    low, high = (0.215, 0.24) if between_voids else (0.05, 0.17)
    return np.flatnonzero((distance > low) & (distance < high)).tolist()


def _distances(p: NDArray[np.float64], q: NDArray[np.float64], shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances in units of the lattice constant, across the faces of the supercell."""
    d = p[:, None] - q[None]
    return np.asarray(np.linalg.norm(d - shape * np.rint(d / shape), axis=2))
