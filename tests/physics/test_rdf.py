"""Radial distribution functions against those of ASE, an ideal gas and a lattice."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry.rdf import get_rdf
from hypothesis import given, settings
from hypothesis import strategies as st
from matscipy.neighbours import neighbour_list
from scipy import stats
from strategies import seeds

from argyase.errors import StatisticsError
from argyase.physics._pairs import pair_counts
from argyase.physics.rdf import coordination, radial_distribution, site_labels


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


@given(seeds, st.integers(1, 60), st.floats(1.0, 9.0))
@settings(max_examples=40)
def test_pairs_are_those_of_a_slow_search(seed: int, atoms: int, r_max: float) -> None:
    """Any cell, also one that is much smaller than r_max: all images, each pair once, no image of the atom itself."""
    rng = np.random.default_rng(seed)
    cell = rng.uniform(3.0, 12.0) * (np.diag(rng.uniform(0.7, 1.4, 3)) + rng.uniform(-0.2, 0.2, (3, 3)) * (seed % 2))
    places = rng.uniform(-20, 20, (atoms, 3))
    kinds = rng.integers(0, 3, atoms)
    i, j, d = neighbour_list("ijd", positions=places, cell=cell, pbc=[True] * 3, cutoff=r_max)
    kept = (i < j) & (d < r_max)
    found = pair_counts(places, cell, kinds, 3, r_max, 20)
    assert found.sum() == kept.sum()
    for a in range(3):
        for b in range(a, 3):
            own = kept & ((kinds[i] == a) & (kinds[j] == b) | (kinds[i] == b) & (kinds[j] == a))
            ours = found[a, b] + (found[b, a] if a != b else 0)
            theirs = np.histogram(d[own], bins=20, range=(0, r_max))[0]
            # Single precision puts a distance on the other side of an edge once in 10^5 times.
            assert np.abs(ours - theirs).sum() <= 2 * (np.abs(d * 20 / r_max - np.rint(d * 20 / r_max)) < 1e-5).sum()


def test_shells_of_rock_salt() -> None:
    atoms = bulk("LiCl", "rocksalt", a=5.0, cubic=True).repeat(2)
    rng = np.random.default_rng(0)
    places = atoms.positions + rng.normal(0, 0.1, (40, len(atoms), 3))
    cells = np.tile(atoms.cell.array, (40, 1, 1))
    labels = np.array(atoms.get_chemical_symbols())
    whole = [("Li", "Cl"), ("Cl", "Li"), ("Li", "Li")]
    found = coordination([(places[:13], cells[:13]), (places[13:], cells[13:])], labels, whole, 40, r_max=8.0)
    np.testing.assert_allclose(found.coordination, [6, 6, 12], atol=0.05)
    np.testing.assert_allclose(found.peak, [2.5, 2.5, 3.54], atol=0.1)
    assert (found.shell > found.peak).all()
    r, g = radial_distribution(places, cells, labels.tolist(), whole, 8.0, 200)
    np.testing.assert_allclose(found.rdf, g, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.r, r)


@pytest.mark.statistical
def test_the_interval_of_a_coordination_number_holds_the_truth() -> None:
    """Atoms thrown into a box around one: neighbours within r are binomial. Of 200 trajectories 92 to 98 %."""
    low, high = stats.binom(200, 0.95).ppf([0.001, 0.999])
    hits, exact = 0, 30 * 4 / 3 * np.pi * 3.0**3 / 1000.0
    labels = np.array(["Li"] + ["S"] * 30)
    for seed in range(200):
        places, cells = random_frames(seed, 60, labels.tolist(), 10.0)
        found = coordination([(places, cells)], labels, [("Li", "S")], 60, r_max=4.0, bins=4).sel(pair="Li-S")
        value, error = float(found.neighbours[2]), float(found.neighbours_stderr[2])  # up to r = 3 A
        hits += abs(value - exact) < stats.t.ppf(0.975, 9) * error
    assert low <= hits <= high


def test_labels_and_what_is_wrong() -> None:
    labels = site_labels(np.array(["Li", "P", "Cl", "S", "S"]), np.array(["48h", "4b", "4a", "16e", "4d"]))
    assert labels.tolist() == ["Li", "P", "Cl(4a)", "S(16e)", "S(4d)"]
    places, cells = random_frames(0, 20, labels.tolist(), 8.0)
    whole = [(places, cells)]
    with pytest.raises(StatisticsError, match=r"Li-Cl\(4d\): no two such atoms; there are Cl\(4a\)"):
        coordination(whole, labels, [("Li", "Cl(4d)")], 20)
    with pytest.raises(StatisticsError, match="20 frames, but 30"):
        coordination(whole, labels, [("Li", "P")], 30)
    with pytest.raises(StatisticsError, match="more than the 15"):
        coordination(whole, labels, [("Li", "P")], 15)
    with pytest.raises(StatisticsError, match="9 frames: at least 10"):
        coordination(whole, labels, [("Li", "P")], 9)
