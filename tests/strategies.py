"""What hypothesis draws from: cells, atoms, potentials, trajectories."""

import gzip
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import get_distances
from hypothesis import strategies as st
from numpy.typing import NDArray

from argyase.potentials.mtp_file import MTPFile, parse_mtp

DATA = Path(__file__).parent / "data"
SPECIES = ("Li", "P", "S", "Cl")

seeds = st.integers(0, 2**32 - 1)


@cache
def mlip_potential(name: str) -> MTPFile:
    """A potential trained by MLIP, from tests/data/mlip."""
    return parse_mtp(gzip.decompress((DATA / "mlip" / f"{name}.mtp.gz").read_bytes()), name)


def random_potential(level: int, species: int, rng: np.random.Generator, cutoff: float = 5.0) -> MTPFile:
    """The moments of a level as MLIP defines them, with random coefficients for any number of species."""
    template = mlip_potential(f"cubic-{level:02d}")
    basis, functions, scalars = (
        template.radial_basis_size,
        template.radial_funcs_count,
        len(template.alpha_moment_mapping),
    )
    return replace(
        template,
        species_count=species,
        min_dist=1.5,
        max_dist=cutoff,
        # Moments of about 1, so that products of several do not overwhelm the rest.
        scaling=0.01,
        radial_coeffs=rng.normal(size=(species, species, functions, basis)),
        species_coeffs=rng.normal(size=species),
        moment_coeffs=rng.normal(size=scalars),
    )


def random_atoms(
    rng: np.random.Generator, n: int, species: int = 4, *, periodic: bool = True, apart: float = 1.2
) -> Atoms:
    """Atoms in a triclinic cell of about 20 A^3 an atom, no two (nor an atom and its image) nearer than `apart`."""
    side = (20.0 * n) ** (1 / 3)
    positions = np.empty((0, 3))
    while len(positions) < n:  # a cell drawn too flat or filled too badly is drawn again
        cell = side * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
        positions = rng.random((1, 3)) @ cell
        for _ in range(100 * n):
            trial = rng.random((1, 3)) @ cell
            if len(positions) < n and get_distances(positions, trial, cell=cell, pbc=periodic)[1].min() > apart:
                positions = np.concatenate([positions, trial])
    symbols = [SPECIES[k] for k in rng.integers(0, species, n)]
    return Atoms(symbols, positions, cell=cell, pbc=periodic)


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random rotation, sometimes with an inversion."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))
