"""Ideal sites of the argyrodite cell.

Space group F-43m (216), origin at -43m: halide 4a (0, 0, 0), P 4b (0, 0, 1/2), free S 4d (1/4, 1/4, 3/4), S of the PS4
tetrahedra 16e (u, u, 1/2 - u), Li 48h (x, x, z), half occupied. The 48h sites come in 24 doublets 1.9 A apart, only one
of which a Li can take at a time; six doublets surround each 4d site and make one of the four Li cages of a cell.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from argyase.errors import StructureError

U_16E = 0.1198
"""Free coordinate of S on 16e: P-S 2.05 A at a = 9.86 A."""

XZ_48H = (0.183, 0.024)
"""Free coordinates (x, z) of Li on 48h (H.-J. Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008))."""

TETRAHEDRAL_SITES = {
    "T1": (0.9, 0.9, 0.6),
    "T2": (0.23, 0.92, 0.08),
    "T3": (0.25, 0.25, 0.25),
    "T4": (0.15, 0.15, 0.15),
    "T5": (0.0, 0.183, 0.183),
}
"""Representatives of the tetrahedral voids of the anion framework that Li can take, in this setting."""

_FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


@cache
def point_operations() -> NDArray[np.float64]:
    """The 24 operations of -43m about the origin: permutations with an even number of minus signs."""
    operations = []
    for axes in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)):
        for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
            operation = np.zeros((3, 3))
            operation[np.arange(3), axes] = signs
            operations.append(operation)
    return np.array(operations)


def orbit(representative: tuple[float, float, float]) -> NDArray[np.float64]:
    """All sites equivalent to one, as fractional coordinates in [0, 1), shape (site, 3).

    >>> [len(orbit(TETRAHEDRAL_SITES[name])) for name in ("T1", "T2", "T3", "T4", "T5")]
    [16, 48, 4, 16, 48]
    """
    images = point_operations() @ np.asarray(representative)
    everywhere = (images[:, None, :] + _FCC[None, :, :]).reshape(-1, 3)
    rounded = np.round(everywhere % 1.0, 9) % 1.0
    return np.unique(rounded, axis=0)


@cache
def wyckoff(letter: str) -> NDArray[np.float64]:
    """Fractional coordinates of the sites 4a, 4b, 4d, 16e or 48h of one cell, shape (site, 3).

    Raises
    ------
    StructureError
        If there is no such site.
    """
    x, z = XZ_48H
    representatives = {
        "4a": (0.0, 0.0, 0.0),
        "4b": (0.0, 0.0, 0.5),
        "4d": (0.25, 0.25, 0.75),
        "16e": (U_16E, U_16E, 0.5 - U_16E),
        "48h": (x, x, z),
    }
    if letter not in representatives:
        raise StructureError(f"site {letter!r}: the argyrodite has {', '.join(representatives)}")
    sites = orbit(representatives[letter])
    sites.setflags(write=False)
    return sites


def minimum_image(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shortest equivalent of differences of fractional coordinates of an orthogonal cell."""
    return difference - np.rint(difference)


@cache
def doublets() -> NDArray[np.int64]:
    """The 24 doublets of 48h, as pairs of site numbers, shape (24, 2)."""
    h = wyckoff("48h")
    distance = np.linalg.norm(minimum_image(h[:, None] - h[None, :]), axis=2)
    np.fill_diagonal(distance, np.inf)
    partner = distance.argmin(axis=1)
    return np.array(sorted({tuple(sorted((i, int(j)))) for i, j in enumerate(partner)}))


def nearest(
    points: NDArray[np.float64], centres: NDArray[np.float64], supercell: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Number of the centre next to each point, across the faces of the supercell; in units of the unit cell."""
    shape = np.asarray(supercell, dtype=float)
    _, number = cKDTree(centres % shape, boxsize=shape).query(points % shape)
    return np.asarray(number, dtype=np.int64)


def tile(sites: NDArray[np.float64], supercell: tuple[int, int, int]) -> NDArray[np.float64]:
    """Sites of all unit cells of a supercell in units of the unit cell, cell by cell, shape (cell x site, 3)."""
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in supercell), indexing="ij"), axis=-1).reshape(-1, 3)
    return (corners[:, None, :] + sites[None, :, :]).reshape(-1, 3)
