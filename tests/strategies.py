"""What hypothesis draws from: cells, atoms, potentials, trajectories."""

import gzip
import itertools
import lzma
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import get_distances
from hypothesis import strategies as st
from numpy.typing import NDArray

from argyase.potentials.basis import untrained
from argyase.potentials.mtp_file import MTPFile, parse_mtp

DATA = Path(__file__).parent / "data"
SPECIES = ("Li", "P", "S", "Cl")

seeds = st.integers(0, 2**32 - 1)


@cache
def mlip_potential(name: str) -> MTPFile:
    """A potential trained by MLIP, from tests/data/mlip; those above level 20 are packed by xz."""
    packed = DATA / "mlip" / f"{name}.mtp.gz"
    if packed.exists():
        return parse_mtp(gzip.decompress(packed.read_bytes()), name)
    return parse_mtp(lzma.decompress(packed.with_suffix(".xz").read_bytes()), name)


def random_potential(level: int, species: int, rng: np.random.Generator, cutoff: float = 5.0) -> MTPFile:
    """The moments of a level as MLIP defines them, with random coefficients for any number of species."""
    return _with_random_coefficients(mlip_potential(f"cubic-{level:02d}"), species, rng, cutoff)


def own_potential(level: int, species: int, rng: np.random.Generator) -> MTPFile:
    """The same scalars made by the products of this package's files, which are others."""
    return _with_random_coefficients(untrained(level), species, rng, 5.0)


def _with_random_coefficients(template: MTPFile, species: int, rng: np.random.Generator, cutoff: float) -> MTPFile:
    functions, basis = template.radial_funcs_count, template.radial_basis_size
    return replace(
        template,
        species_count=species,
        min_dist=1.5,
        max_dist=cutoff,
        # Moments of about 1, so that products of several do not overwhelm the rest.
        scaling=0.01,
        radial_coeffs=rng.normal(size=(species, species, functions, basis)),
        species_coeffs=rng.normal(size=species),
        moment_coeffs=rng.normal(size=len(template.alpha_moment_mapping)),
    )


def level_28(species: int, rng: np.random.Generator) -> MTPFile:
    """All basic moments of level 28 (2 + 4 mu + nu each) and their contractions in pairs, with random coefficients.

    MLIP's own template adds moments of three and more factors; it is not free to copy.
    """
    ranks = (10, 10, 8, 6, 4, 2)  # highest nu of each mu in that template
    basic = [
        (mu, a, b, nu - a - b)
        for mu, rank in enumerate(ranks)
        for nu in range(rank + 1)
        for a in range(nu, -1, -1)
        for b in range(nu - a, -1, -1)
    ]
    place = {moment: k for k, moment in enumerate(basic)}
    times, scalars = list[tuple[int, int, int, int]](), [place[mu, 0, 0, 0] for mu in range(len(ranks))]
    for first, second in itertools.combinations_with_replacement(range(len(ranks)), 2):
        for nu in range(min(ranks[first], ranks[second]) + 1):
            if 2 * (2 + nu) + 4 * (first + second) > 28:
                break
            scalars.append(target := len(basic) + len(scalars) - len(ranks))
            for mu, a, b, c in basic:
                if mu == first and a + b + c == nu:
                    often = math.factorial(nu) // (math.factorial(a) * math.factorial(b) * math.factorial(c))
                    times.append((place[first, a, b, c], place[second, a, b, c], often, target))
    return replace(
        random_potential(2, species, rng),
        radial_funcs_count=len(ranks),
        radial_coeffs=rng.normal(size=(species, species, len(ranks), 8)),
        alpha_moments_count=len(basic) + len(scalars) - len(ranks),
        alpha_index_basic=np.array(basic, dtype=np.int32),
        alpha_index_times=np.array(times, dtype=np.int32),
        alpha_moment_mapping=np.array(scalars, dtype=np.int32),
        moment_coeffs=rng.normal(size=len(scalars)),
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
