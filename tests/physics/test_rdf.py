"""Radial distribution functions against those of ASE, an ideal gas and a lattice."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry.rdf import get_rdf
from hypothesis import given
from hypothesis import strategies as st

from argyase.errors import StatisticsError
from argyase.physics.rdf import radial_distribution


def random_frames(seed: int, frames: int, symbols: list[str], a: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, a, (frames, len(symbols), 3)), np.tile(a * np.eye(3), (frames, 1, 1))


def test_equals_that_of_ase() -> None:
    symbols = ["Li"] * 20 + ["S"] * 12
    positions, cells = random_frames(1, 3, symbols, 11.0)
    r, g = radial_distribution(positions, cells, symbols, [("Li", "S"), ("Li", "Li")], 5.0, 25)
    expected = np.zeros((2, 25))
    for place, cell in zip(positions, cells, strict=True):
        atoms = Atoms(symbols, place, cell=cell, pbc=True)
        for k, elements in enumerate(([3, 16], [3, 3])):
            theirs, theirs_r = get_rdf(atoms, 5.0, 25, elements=elements)
            np.testing.assert_allclose(r, theirs_r)
            # Theirs counts an atom of the pair among its own surroundings: N / V instead of (N - 1) / V.
            expected[k] += theirs / 3 * ((20 / 19) if k else 1.0)
    np.testing.assert_allclose(g, expected, rtol=1e-10)


def test_an_ideal_gas_has_one() -> None:
    symbols = ["Li"] * 400 + ["S"] * 200
    positions, cells = random_frames(2, 40, symbols, 20.0)
    _, g = radial_distribution(positions, cells, symbols, [("Li", "Li"), ("Li", "S"), ("S", "S")], 6.0, 6)
    # The smallest bin holds some 40 * 200 * 199 / 2 * 4.19 / 8000 = 417 pairs: 5 %, four standard deviations are 20 %.
    np.testing.assert_allclose(g, 1.0, atol=0.2)


def test_coordination_numbers_of_rock_salt() -> None:
    atoms = bulk("LiCl", "rocksalt", a=5.0, cubic=True).repeat(2)
    r, g = radial_distribution(
        atoms.positions[None], atoms.cell.array[None], atoms.get_chemical_symbols(), [("Li", "Cl")], 4.5, 450
    )
    shell = 4 / 3 * np.pi * ((r + 0.005) ** 3 - (r - 0.005) ** 3)
    neighbours = np.cumsum(g[0] * shell) * 32 / atoms.get_volume()
    assert neighbours[r > 2.6][0] == pytest.approx(6)
    assert neighbours[r > 4.4][0] == pytest.approx(6 + 8)


@given(st.integers(0, 1000), st.floats(-20, 20))
def test_it_sees_distances_only(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    symbols = ["Li", "Li", "S", "S", "S"]
    positions, cells = random_frames(seed, 2, symbols, 5.0)
    cells = cells + rng.normal(0, 0.3, (2, 3, 3))
    pairs = [("Li", "S"), ("S", "S"), ("S", "Li")]
    _, g = radial_distribution(positions, cells, symbols, pairs, 4.0, 8)
    np.testing.assert_array_equal(g[0], g[2])
    order = rng.permutation(5)
    moved = positions[:, order] + shift * cells[:, :1]  # along a cell vector, out of the cell
    _, again = radial_distribution(moved, cells, [symbols[k] for k in order], pairs, 4.0, 8)
    # A pair on the edge between two bins may fall on either side by rounding: then the sum stays.
    shell = np.diff(np.linspace(0, 4, 9) ** 3)
    np.testing.assert_allclose((again * shell).sum(axis=1), (g * shell).sum(axis=1), rtol=1e-9)


def test_what_is_wrong_is_named() -> None:
    positions, cells = random_frames(0, 1, ["Li", "S"], 5.0)
    with pytest.raises(StatisticsError, match="Li-Li: no two such atoms"):
        radial_distribution(positions, cells, ["Li", "S"], [("Li", "Li")], 3.0, 3)
    with pytest.raises(StatisticsError, match="Li-P: no two such atoms"):
        radial_distribution(positions, cells, ["Li", "S"], [("Li", "P")], 3.0, 3)
    with pytest.raises(StatisticsError, match="no frames"):
        radial_distribution(positions[:0], cells[:0], ["Li", "S"], [("Li", "S")], 3.0, 3)
