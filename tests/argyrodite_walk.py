"""Trajectories of an argyrodite in which each Li goes from tetrahedron to tetrahedron as it is told."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.structures.argyrodite import argyrodite
from argyase.structures.tetrahedra import KINDS, Topology

A = 10.0
Site = tuple[int, tuple[int, int, int]]  # number of a tetrahedron, image of the supercell


def host(supercell: tuple[int, int, int], inversion: float = 0.5, seed: int = 1) -> Atoms:
    """The anions and P."""
    atoms = argyrodite(0.0, inversion, supercell, seed, a=A)
    kept = atoms[[k for k, symbol in enumerate(atoms.symbols) if symbol != "Li"]]
    assert isinstance(kept, Atoms)
    return kept


def neighbours(ideal: Topology, site: Site) -> list[Site]:
    """The sites beyond the four faces."""
    tet, image = site
    found = []
    for k in range(4):
        x, y, z = (int(v) for v in np.array(image) + ideal.neighbour_image[tet, k])
        found.append((int(ideal.neighbour[tet, k]), (x, y, z)))
    return found


def of_kind(ideal: Topology, kind: str) -> list[int]:
    return np.flatnonzero(ideal.kind == KINDS.index(kind)).tolist()


def centres(ideal: Topology, sites: list[list[Site]]) -> NDArray[np.float64]:
    """Centres of the ideal tetrahedra, (frame, ion, 3) in A; sites: one list of frames for each ion."""
    shape = np.asarray(ideal.supercell)
    where = ideal.centres()
    paths = [[where[tet] + np.array(image) * shape for tet, image in path] for path in sites]
    return np.array(paths).transpose(1, 0, 2) * A


def trajectory(
    supercell: tuple[int, int, int],
    lithium: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    shake: float = 0.05,
    breathe: float = 0.01,
    inversion: float = 0.5,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    """Positions, cells, species: the host shaken about its sites, Li where it is told, all in a cell that breathes."""
    atoms = host(supercell, inversion)
    frames = len(lithium)
    rest = atoms.positions + rng.normal(0.0, shake, (frames, len(atoms), 3))
    positions = np.concatenate([lithium, rest], axis=1)
    strain = np.eye(3) + rng.normal(0.0, breathe, (frames, 3, 3))
    cells = atoms.cell.array @ strain
    species = np.array(["Li"] * lithium.shape[1] + atoms.get_chemical_symbols())
    return positions @ strain, cells, species
