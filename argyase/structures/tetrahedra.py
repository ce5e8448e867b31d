"""Delaunay tetrahedra of the anions of the argyrodite: the polyhedra T0 ... T5 that Li can be in, and their faces.

The 24 anions of a cell (4a, 4d, 16e) span 136 tetrahedra that fill space: 4 T0 (around P), 16 T1, 48 T2, 4 T3, 16 T4,
48 T5. Which anions span a tetrahedron, and what lies beyond each face, is a matter of topology: it stays while the
anions vibrate, so that it is worked out once, of the ideal cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

from argyase.errors import TrajectoryError
from argyase.structures import sites

KINDS = ("T0", "T1", "T2", "T3", "T4", "T5")
"""T0 holds P; T1, T2 and T5 belong to the cage of a 4d site, T3 and T4 to none."""

_LETTERS = ("4a", "4d", "16e")
_SHORTEST = 3.0  # A; half of it is the farthest that an anion of the crystal can be from its site


@dataclass(frozen=True)
class Topology:
    """Tetrahedra of a supercell. Images count supercells; the face k lies opposite to the vertex k."""

    anion_sites: NDArray[np.float64]
    """Ideal sites of the anions, 4a first, then 4d, then 16e, in units of the unit cell, shape (anion, 3)."""
    letters: NDArray[np.str_]
    """Wyckoff site of each, shape (anion,)."""
    kind: NDArray[np.int64]
    """Index in `KINDS`, shape (tetrahedron,)."""
    vertex: NDArray[np.int64]
    """Numbers of the anions, positively oriented, shape (tetrahedron, 4)."""
    vertex_image: NDArray[np.int64]
    """Image of each vertex, shape (tetrahedron, 4, 3)."""
    neighbour: NDArray[np.int64]
    """Number of the tetrahedron beyond each face, shape (tetrahedron, 4)."""
    neighbour_image: NDArray[np.int64]
    """Image of it, shape (tetrahedron, 4, 3)."""
    cage: NDArray[np.int64]
    """Number of the 4d site whose cage it is of, -1 for none, shape (tetrahedron,)."""
    cage_image: NDArray[np.int64]
    """Image of that 4d site, shape (tetrahedron, 3)."""
    supercell: tuple[int, int, int]

    def centres(self) -> NDArray[np.float64]:
        """Centres of the ideal tetrahedra in units of the unit cell, shape (tetrahedron, 3)."""
        shape = np.asarray(self.supercell)
        return np.asarray((self.anion_sites[self.vertex] + self.vertex_image * shape).mean(axis=1))

    def inverted(self) -> Topology:
        """The same for coordinates of opposite sign (the other of the two settings of F-43m)."""
        order = [1, 0, 2, 3]
        return Topology(
            -self.anion_sites, self.letters, self.kind, self.vertex[:, order], -self.vertex_image[:, order],
            self.neighbour[:, order], -self.neighbour_image[:, order], self.cage, -self.cage_image, self.supercell,
        )  # fmt: skip


@cache
def _unit_cell() -> tuple[NDArray[np.int64], ...]:
    """Kind, vertices (site, cell) and neighbours (tetrahedron, cell) of the 136 tetrahedra of the ideal cell."""
    anions = np.concatenate([sites.wyckoff(letter) for letter in _LETTERS])
    cells = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    mesh = Delaunay((anions[None] + cells[:, None]).reshape(-1, 3))
    centre = mesh.points[mesh.simplices].mean(axis=1)
    inside = np.flatnonzero((np.floor(centre + 1e-6) == 0).all(axis=1))
    home = {int(s): k for k, s in enumerate(inside)}
    key = {tuple(np.round(centre[s], 6)): k for s, k in home.items()}

    ideal = np.concatenate([sites.wyckoff("4b"), *(sites.orbit(r) for r in sites.TETRAHEDRAL_SITES.values())])
    of_kind = np.repeat(np.arange(6), [4, *(len(sites.orbit(r)) for r in sites.TETRAHEDRAL_SITES.values())])
    kind = of_kind[sites.nearest(centre[inside], ideal, (1, 1, 1))]
    vertex, vertex_cell = np.empty((len(inside), 4), np.int64), np.empty((len(inside), 4, 3), np.int64)
    beyond, beyond_cell = np.empty_like(vertex), np.empty_like(vertex_cell)
    for s, k in home.items():
        corner, across = mesh.simplices[s].copy(), mesh.neighbors[s].copy()
        if np.linalg.det(mesh.points[corner[1:]] - mesh.points[corner[0]]) < 0:
            corner[[0, 1]], across[[0, 1]] = corner[[1, 0]], across[[1, 0]]
        vertex[k], vertex_cell[k] = corner % len(anions), cells[corner // len(anions)]
        for face, other in enumerate(across):
            cell = np.floor(centre[other] + 1e-6).astype(int)
            beyond[k, face], beyond_cell[k, face] = key[tuple(np.round(centre[other] - cell, 6) + 0.0)], cell
    return kind, vertex, vertex_cell, beyond, beyond_cell


@cache
def topology(supercell: tuple[int, int, int]) -> Topology:
    """The tetrahedra of a supercell.

    Examples
    --------
    >>> found = topology((1, 1, 1))
    >>> np.bincount(found.kind).tolist()
    [4, 16, 48, 4, 16, 48]
    """
    kind, vertex, vertex_cell, beyond, beyond_cell = _unit_cell()
    shape = np.asarray(supercell)
    corners = sites.tile(np.zeros((1, 3)), supercell).astype(np.int64)

    def number(cell: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of a cell in the order of `sites.tile`, and its image."""
        image = np.floor_divide(cell, shape)
        inside = cell - image * shape
        return (inside[..., 0] * shape[1] + inside[..., 1]) * shape[2] + inside[..., 2], image

    each = np.array([len(sites.wyckoff(letter)) for letter in _LETTERS])
    first = np.concatenate([[0], np.cumsum(each)])
    block = np.searchsorted(first, np.arange(first[-1]), side="right") - 1  # letter of each anion of the unit cell
    cell, vertex_image = number(corners[:, None, None] + vertex_cell[None])
    here = block[vertex][None]
    anion = first[here] * len(corners) + cell * each[here] + (vertex - first[block[vertex]])[None]
    cell, neighbour_image = number(corners[:, None, None] + beyond_cell[None])
    of_cage = block[vertex] == 1
    has, which = of_cage.any(axis=1), of_cage.argmax(axis=1)
    rows = np.arange(len(kind))
    cage = np.where(has[None], anion[:, rows, which] - first[1] * len(corners), -1)
    found = Topology(
        np.concatenate([sites.tile(sites.wyckoff(letter), supercell) for letter in _LETTERS]),
        np.repeat(_LETTERS, each * len(corners)),
        np.tile(kind, len(corners)),
        anion.reshape(-1, 4),
        vertex_image.reshape(-1, 4, 3),
        (cell * len(kind) + beyond[None]).reshape(-1, 4),
        neighbour_image.reshape(-1, 4, 3),
        cage.reshape(-1),
        (vertex_image[:, rows, which] * has[None, :, None]).reshape(-1, 3),
        supercell,
    )
    for array in vars(found).values():
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    return found


@dataclass(frozen=True)
class Framework:
    """The anions of a trajectory on the sites of a topology."""

    topology: Topology
    atoms: NDArray[np.int64]
    """Number of the atom on each anion site, shape (anion,)."""
    images: NDArray[np.int64]
    """Supercell image in which its unwrapped path is, shape (anion, 3)."""
    origin: NDArray[np.float64]
    """Where the origin of the setting lies, in units of the unit cell, shape (3,)."""

    def rematched(self, anions: NDArray[np.float64], cell: NDArray[np.float64]) -> tuple[Framework, NDArray[np.int64]]:
        """The anions on their sites again, and their new order: the S of a PS4 that has turned change places.

        Parameters
        ----------
        anions
            Positions in the order of the sites so far, each in image 0, A, shape (anion, 3); averages over a while.
        cell
            Cell vectors as rows, A.

        Raises
        ------
        TrajectoryError
            If they are no longer one on each site.
        """
        shape = np.asarray(self.topology.supercell, dtype=float)
        place = anions @ np.linalg.inv(cell) * shape
        drift = place - self.topology.anion_sites - self.origin
        middle = np.median(drift - shape * np.rint(drift / shape), axis=0)
        found = _matched(self.topology, place - middle, self.origin)
        if found is None:
            raise TrajectoryError(_LEFT)
        order, images = found
        if (order == np.arange(len(order))).all() and (images == 0).all():
            return self, order
        return Framework(self.topology, self.atoms[order], self.images[order] + images, self.origin), order


def nearest_periodic(
    points: NDArray[np.float64], centres: NDArray[np.float64], shape: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Number of the centre next to each point in a box of that shape, periodic; anywhere in space."""

    def inside(place: NDArray[np.float64]) -> NDArray[np.float64]:
        rest = place % shape
        return np.where(rest < shape, rest, 0.0)  # -1e-17 % 2.0 is 2.0

    return np.asarray(cKDTree(inside(centres), boxsize=shape).query(inside(points))[1], dtype=np.int64)


_LEFT = (
    "the anions are not, or no longer, one on each 4a, 4d and 16e site of an argyrodite: melted, another structure, or "
    "frames too few to average over their vibrations; site-resolved jumps are defined in the crystal only"
)


def find_framework(positions: NDArray[np.float64], cell: NDArray[np.float64], species: NDArray[np.str_]) -> Framework:
    """Find the argyrodite in a structure: its supercell, origin and setting, and the anion on each site.

    No labels are needed, so that trajectories of other programs will do: P gives the origin (up to a translation of
    the lattice; that nearest to zero is taken), the orientation of the PS4 tetrahedra the setting.

    Parameters
    ----------
    positions
        A, shape (atom, 3); one frame, or better an average over some.
    cell
        Cell vectors as rows, A, shape (3, 3); a supercell of the cubic cell.
    species
        Symbols, shape (atom,); all that is neither Li nor P is an anion.

    Raises
    ------
    TrajectoryError
        If it is no argyrodite, or melted.
    """
    symbols = np.asarray(species)
    phosphorus = np.flatnonzero(symbols == "P")
    anions = np.flatnonzero((symbols != "Li") & (symbols != "P"))
    if len(phosphorus) == 0 or len(phosphorus) % 4 or len(anions) != 6 * len(phosphorus):
        raise TrajectoryError(
            f"{len(phosphorus)} P and {len(anions)} anions: an argyrodite has 4 P and 24 anions in each cubic cell"
        )
    cells = len(phosphorus) // 4
    side = (abs(float(np.linalg.det(cell))) / cells) ** (1 / 3)
    na, nb, nc = (max(1, round(float(length) / side)) for length in np.linalg.norm(cell, axis=1))
    if na * nb * nc != cells:
        raise TrajectoryError(
            f"a cell of {np.round(np.linalg.norm(cell, axis=1), 2)} A for {cells} unit cells: not a supercell of the "
            "cubic argyrodite cell along its axes"
        )
    shape = np.array([na, nb, nc], dtype=float)
    place = positions @ np.linalg.inv(cell) * shape
    for candidate in (topology((na, nb, nc)), topology((na, nb, nc)).inverted()):
        sign = -1.0 if candidate.anion_sites.min() < -1e-9 else 1.0
        ideal = sites.tile(sites.wyckoff("4b"), (na, nb, nc)) * sign
        origin = place[phosphorus[0]] - ideal[0]
        # All P, each by the site next to it; twice, because the first one vibrates.
        for _ in range(2):
            near = nearest_periodic(place[phosphorus], ideal + origin, shape)
            off = place[phosphorus] - ideal[near] - origin
            origin = origin + np.median(off - shape * np.rint(off / shape), axis=0)
        equivalent = origin - sites.tile(sites.orbit((0.0, 0.0, 0.0)), (1, 1, 1)) * sign
        equivalent = equivalent - np.rint(equivalent)
        origin = equivalent[np.linalg.norm(equivalent, axis=1).argmin()]
        if (found := _matched(candidate, place[anions], origin, side)) is not None:
            which, images = found
            return Framework(candidate, anions[which], images, origin)
    raise TrajectoryError(_LEFT)


def _matched(
    ideal: Topology, place: NDArray[np.float64], origin: NDArray[np.float64], side: float = np.inf
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Which anion is on each site, and its image; None if they are not one on each."""
    shape = np.asarray(ideal.supercell, dtype=float)
    sites_here = ideal.anion_sites + origin
    near = nearest_periodic(place, sites_here, shape)
    if len(np.unique(near)) != len(sites_here):
        return None
    images = np.rint((place - sites_here[near]) / shape).astype(np.int64)
    if np.isfinite(side):
        far = np.linalg.norm(place - sites_here[near] - images * shape, axis=1).max() * side
        if far > _SHORTEST / 2:
            return None
    order = np.argsort(near)
    return order, images[order]
