"""Density against a potential that is known, symmetry, and percolation levels of analytic landscapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import seeds

from argyase.errors import TrajectoryError
from argyase.physics.density import density, percolation_levels
from argyase.structures import sites
from argyase.structures.argyrodite import argyrodite

KT = 8.617333262e-5 * 600.0  # eV


def cosine_samples(rng: np.random.Generator, height: float, count: int) -> np.ndarray:
    """Numbers in [0, 1) from exp(-U / kT), U = height (1 - cos 4 pi x) / 2: two wells a period."""
    grid = np.linspace(0, 1, 4001)
    weight = np.exp(-height * (1 - np.cos(4 * np.pi * grid)) / 2 / KT)
    total = np.concatenate([[0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    return np.interp(rng.random(count), total / total[-1], grid)


def gas(
    rng: np.random.Generator, heights: tuple[float, float, float], frames: int, ions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ions in a potential, their cell breathing and all of it adrift; two atoms that stay."""
    s = np.stack([cosine_samples(rng, h, frames * ions).reshape(frames, ions) for h in heights], axis=-1)
    rest = np.tile([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], (frames, 1, 1))
    place = np.concatenate([s, rest], axis=1) + np.cumsum(rng.normal(0, 0.01, (frames, 1, 3)), axis=0) * 0.1
    cells = np.diag([8.0, 9.0, 10.0]) * (1 + rng.normal(0, 0.01, (frames, 1, 1)))
    return place @ cells, cells, np.array(["Li"] * ions + ["P", "S"])


def test_barriers_of_a_known_landscape() -> None:
    """Wells on a lattice: the way in one direction is over the lowest of three barriers, in two over the next ...

    A voxel of an 8th of a period: its mean over a well or a saddle is off by U'' h^2 / 24, 3 % of the height in all.
    """
    rng, heights = np.random.default_rng(0), (0.05, 0.10, 0.15)
    positions, cells, species = gas(rng, heights, 80, 4000)
    half = [(positions[:30], cells[:30]), (positions[30:], cells[30:])]
    found = density(half, species, 80, 600.0, spacing=0.5, smoothing=0.0)
    # 320,000 positions on 5760 voxels, 500 in a well: the largest of 64 wells is high by three of their errors, 13 %.
    for n, height in enumerate(heights):
        value, error = float(found.barrier[n]), float(found.barrier_stderr[n])
        assert error < 0.02
        assert abs(value - height) < 4 * error + 0.03 * height + KT * 0.15
    assert float(found.density.mean()) == pytest.approx(4000 / (8 * 9 * 10), rel=0.01)
    assert float(found.barrier[0]) < float(found.barrier[1]) < float(found.barrier[2])
    # The free energy is that of the density; the ions inside of isosurfaces are all of them in the end.
    seen = found.density.values > 0
    expected = -KT * np.log(found.density.values[seen] / float(found.density.max()))
    np.testing.assert_allclose(found.free_energy.values[seen], expected, atol=1e-6)
    assert np.isinf(found.free_energy.values[~seen]).all()
    assert (np.diff(found.volume_fraction) <= 0).all()
    assert (np.diff(found.directions) <= 0).all()


@pytest.mark.statistical
def test_the_error_of_the_barrier_is_what_repeats_show() -> None:
    """Sixty trajectories: the standard error is the spread within a factor of two, the interval holds their mean."""
    heights, found = (0.05, 0.08, 0.11), []
    for seed in range(60):
        positions, cells, species = gas(np.random.default_rng(seed), heights, 40, 300)
        found.append(density([(positions, cells)], species, 40, 600.0, spacing=1.0, smoothing=0.6))
    values = np.array([f.barrier.values for f in found])
    errors = np.array([f.barrier_stderr.values for f in found])
    assert (np.abs(np.log2(errors.mean(axis=0) / values.std(axis=0))) < 1).all()
    low = np.array([f.barrier_low.values for f in found])
    high = np.array([f.barrier_high.values for f in found])
    hits = ((low <= values.mean(axis=0)) & (values.mean(axis=0) <= high)).sum()
    assert hits >= stats.binom(180, 0.95).ppf(0.001) - 6  # three levels of one trajectory are not independent


@given(seeds)
@settings(max_examples=10)
def test_grid_by_histogram(seed: int) -> None:
    rng = np.random.default_rng(seed)
    s = rng.uniform(-2, 2, (9, 4, 3))
    s[:, 2:] = rng.uniform(-2, 2, (1, 2, 3))
    cell = np.diag([4.0, 5.0, 6.0])
    found = density([(s @ cell, np.tile(cell, (9, 1, 1)))], np.array(["Li", "Li", "P", "S"]), 9, 300.0, spacing=1.0,
                    smoothing=0.0)  # fmt: skip
    expected, _ = np.histogramdd((s[:, :2] % 1).reshape(-1, 3), (4, 5, 6), [(0, 1)] * 3)
    np.testing.assert_allclose(found.density, expected / 9, rtol=1e-6)  # voxels of 1 A^3


def test_folded_and_symmetric() -> None:
    """Half of the 48h sites of a supercell hold Li: folded and averaged, all 48 places of one cell do, alike."""
    rng = np.random.default_rng(0)
    atoms = argyrodite(0.0, 0.5, (2, 2, 1), 1, a=10.0)
    frames = 64
    shift = np.array([0.07, -0.03, 0.02])
    positions = atoms.positions + rng.normal(0, 0.15, (frames, len(atoms), 3)) + shift * 10
    cells = np.tile(atoms.cell.array, (frames, 1, 1))
    species = np.array(atoms.get_chemical_symbols())
    for sign in (1, -1):
        found = density([(sign * positions, cells)], species, frames, 300.0, fold=True, symmetry=True, spacing=0.4)
        rho = found.density
        assert float(rho.mean()) == pytest.approx(24 / 1000.0, rel=1e-5)
        n = rho.sizes["grid_a"]
        at = (sites.wyckoff("48h") * n).astype(int)
        here = rho.values[at[:, 0], at[:, 1], at[:, 2]]
        # The origin is found from shaken anions to 0.01 A or so.
        np.testing.assert_allclose(here, here.mean(), rtol=1e-4)
        assert here.mean() > 10 * rho.mean()
        anion = (sites.wyckoff("4a") * n).astype(int)
        assert rho.values[anion[:, 0], anion[:, 1], anion[:, 2]].max() < 0.01 * here.mean()
        np.testing.assert_allclose(rho, rho.values.transpose(1, 2, 0), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(rho, np.roll(rho.values, (n // 2, n // 2), (0, 1)), rtol=1e-4, atol=1e-7)
    plain = density([(positions, cells)], species, frames, 300.0, fold=True, spacing=0.4)
    assert float(plain.density.mean()) == pytest.approx(24 / 1000.0, rel=1e-5)


@given(st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0), st.floats(0.1, 1.0)))
def test_levels_of_saddles(heights: tuple[float, float, float]) -> None:
    """exp(-sum of h (1 - cos) / 2): the levels are those of its saddles, exp(-h), from the lowest h on."""
    s = np.arange(16) / 16  # wells and saddles are points of the grid
    parts = [np.exp(-h * (1 - np.cos(4 * np.pi * s)) / 2) for h in heights]
    rho = (parts[0][:, None, None] * parts[1][:, None] * parts[2]).astype(np.float32)
    by_rank, _ = percolation_levels(rho)
    np.testing.assert_allclose(by_rank, np.sort(np.exp(-np.array(heights)))[::-1], rtol=1e-5)


def test_what_is_wrong_is_named() -> None:
    positions, cells, species = gas(np.random.default_rng(0), (0.1, 0.1, 0.1), 10, 3)
    whole = [(positions, cells)]
    with pytest.raises(TrajectoryError, match="needs fold"):
        density(whole, species, 10, 300.0, symmetry=True)
    with pytest.raises(TrajectoryError, match="10 frames, but 12 were announced"):
        density(whole, species, 12, 300.0)
    with pytest.raises(TrajectoryError, match="more than the 9 frames"):
        density(whole, species, 9, 300.0)
    with pytest.raises(TrajectoryError, match="7 frames: at least 8"):
        density(whole, species, 7, 300.0)
    with pytest.raises(TrajectoryError, match="0 Na of 5"):
        density(whole, species, 10, 300.0, ion="Na")
    with pytest.raises(TrajectoryError, match="an argyrodite has"):
        density(whole, species, 10, 300.0, fold=True)
    with pytest.raises(TrajectoryError, match="spacing = 0"):
        density(whole, species, 10, 300.0, spacing=0.0)
