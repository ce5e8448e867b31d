"""Trajectories of an argyrodite in which each Li goes from tetrahedron to tetrahedron as it is told."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.structures.argyrodite import argyrodite
from argyase.structures.tetrahedra import KINDS, Topology, topology

A = 10.0
STEP = 0.1  # ps
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


def cage_walk(
    rng: np.random.Generator,
    supercell: tuple[int, int, int],
    ions: int,
    frames: int,
    rate: float,
    back: float = 0.0,
    seats: int = 12,
) -> tuple[NDArray[np.float64], int]:
    """Ions that jump between cages at a rate (1/ps), straight back with an extra probability, to random T5 sites.

    Their paths, and the number of jumps. With one seat, it is the same T5 in each cage.
    """
    ideal = topology(supercell)
    middle = ideal.anion_sites[ideal.letters == "4d"]
    # The twelve T5 of one cage; all cages are alike.
    own = np.flatnonzero((ideal.cage == 0) & (ideal.kind == KINDS.index("T5")))
    relative = ideal.centres()[own] - middle[0] - ideal.cage_image[own] * np.asarray(supercell)
    grid = np.array(list(np.ndindex(3, 3, 3))) - 1
    steps = grid[np.abs(grid).sum(axis=1) == 2] / 2
    place = middle[rng.integers(0, len(middle), ions)].astype(float)
    last = np.zeros((ions, 3))
    seat = rng.integers(0, seats, ions)
    path, made = np.empty((frames, ions, 3)), 0
    for t in range(frames):
        for i in np.flatnonzero(rng.random(ions) < rate * STEP * (t > 0)):
            made += 1
            step = steps[rng.integers(12)]
            if last[i].any() and rng.random() < back:
                step = -last[i]
            place[i] += step
            last[i] = step
            seat[i] = rng.integers(seats)
        path[t] = place + relative[seat]
    return path * A, made
