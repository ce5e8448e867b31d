"""Haven ratios that are known, conductivity in another frame, and intervals that hold the truth."""

from collections.abc import Iterator

import numpy as np
import pytest
from ase.data import atomic_masses, atomic_numbers
from hypothesis import given, settings
from scipy import stats
from strategies import seeds
from walks import brownian, concerted

from argyase.errors import TrajectoryError
from argyase.physics.collective import CHARGES, collective, fieller, species_sums
from argyase.physics.conductivity import nernst_einstein
from argyase.physics.unwrap import diffusing_paths

SIDE = 400.0  # A; wide enough that no step is half of it


def crystal(lithium: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Li of some paths among P, S and Cl that rattle, all of it adrift in a cell that breathes."""
    frames, ions, _ = lithium.shape
    rest = rng.uniform(0, SIDE, (1, ions, 3)) + rng.normal(0, 0.1, (frames, ions, 3))
    everything = np.concatenate([lithium, rest], axis=1) + np.cumsum(rng.normal(0, 0.01, (frames, 1, 3)), axis=0)
    breath = 1 + rng.normal(0, 1e-4, (frames, 1, 1))
    species = np.array(["Li"] * ions + (["P", "S", "S", "Cl"] * ions)[:ions])
    return everything * breath, SIDE * np.eye(3) * breath, species


def analysed(lithium: np.ndarray, rng: np.random.Generator, temperature: float = 500.0) -> object:
    positions, cells, species = crystal(lithium, rng)
    half = len(positions) // 2
    sums = species_sums([(positions[:half], cells[:half]), (positions[half:], cells[half:])], species)
    paths = diffusing_paths(positions, cells, species)

    def blocks() -> Iterator[np.ndarray]:
        yield paths[:, :3]
        yield paths[:, 3:]

    return collective(sums, blocks(), 1.0, temperature)


def half_common(rng: np.random.Generator, frames: int, ions: int, d: float = 0.1) -> np.ndarray:
    """Each ion has a part of its own and a part that all share, of D = d/2 each: D_sigma = d/2 (1 + N)."""
    return brownian(rng, frames, ions, d / 2) + brownian(rng, frames, 1, d / 2)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("walk", "haven"), [(brownian, 1.0), (concerted, 1 / 8), (half_common, 1 / 8.5)], ids=["independent", "8", "common"]
)
def test_known_haven_ratios(walk: object, haven: float) -> None:
    """Independent walkers: 1. Groups of 8 that move as one: 1/8. The interval of 200 trajectories: 92 to 98 %.

    A binomial of 200 x 0.95 is between 180 and 198 in 998 of 1000 cases.
    """
    low, high = stats.binom(200, 0.95).ppf([0.001, 0.999])
    hits, halves = 0, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = analysed(walk(rng, 400, 16), rng)  # type: ignore[operator]
        hits += float(found.haven_ratio_low) <= haven <= float(found.haven_ratio_high)  # type: ignore[attr-defined]
        halves.append(float(found.haven_ratio_high) / haven)  # type: ignore[attr-defined]
    assert low <= hits <= max(high, 198)
    assert np.median(halves) < 3


def test_equals_nernst_einstein_for_independent_ions() -> None:
    rng = np.random.default_rng(1)
    lithium = brownian(rng, 4000, 32, d=0.1)
    found = analysed(lithium, rng)
    exact = nernst_einstein(0.1e-4, 32 / SIDE**3, 500.0)
    for name in ("conductivity", "conductivity_tracer"):
        assert abs(float(found[name]) - exact) < 4 * float(found[f"{name}_stderr"])
    assert float(found.conductivity_tracer_stderr) < 0.05 * exact
    # Ions do nothing to each other; but the centre of mass follows Li by its share w of the mass: (1 - w)^2 - 1.
    _, _, species = crystal(lithium[:2], rng)
    w = 32 * 6.94 / sum(atomic_masses[atomic_numbers[s]] for s in species)
    expected = ((1 - w) ** 2 - 1) * float(found.onsager_self)
    assert abs(float(found.onsager_distinct) - expected) < 4 * float(found.onsager_distinct_stderr)
    # An independent slope: the charge MSD at a lag is 6 D_sigma t.
    np.testing.assert_allclose(found.charge_msd[:10], 0.6 * found.lag[:10], rtol=0.2)


def test_opposite_pairs_conduct_nothing() -> None:
    rng = np.random.default_rng(2)
    half = brownian(rng, 600, 8)
    found = analysed(np.concatenate([half, -half], axis=1), rng)
    assert np.isnan(found.conductivity)
    assert found.attrs["not_determined"]
    assert float(found.onsager_distinct) == pytest.approx(-float(found.onsager_self), rel=0.05)


def test_motion_inside_a_cage_tells_no_haven_ratio() -> None:
    """Jumps to and fro that are forgotten after hundreds of frames: the slope of the MSD falls for the whole run."""
    rng = np.random.default_rng(4)
    lithium = np.empty((1000, 32, 3))
    lithium[0] = rng.normal(0, 3.0, (32, 3))
    for t in range(1, 1000):
        lithium[t] = 0.99 * lithium[t - 1] + rng.normal(0, 3.0 * np.sqrt(1 - 0.99**2), (32, 3))
    found = analysed(lithium, rng)
    assert np.isnan(found.haven_ratio)
    assert float(found.haven_ratio_low) == 0.0
    assert "still falls" in found.attrs["haven_not_determined"]


@given(seeds)
@settings(max_examples=5)
def test_onsager_coefficients_of_a_neutral_cell_add_up(seed: int) -> None:
    """Sum of z_a z_b L_ab is the slope of the whole charge, which no frame of reference changes."""
    rng = np.random.default_rng(seed)
    positions, cells, _ = crystal(brownian(rng, 200, 12), rng)
    species = np.array(["Li"] * 7 + ["P"] + ["S"] * 5 + ["Cl"] * 2 + ["Li"] * 9)  # 16 + 5 - 10 - 2 = 9: not neutral
    charges = {**CHARGES, "P": 5 - 9.0}  # now it is
    sums = species_sums([(positions, cells)], species)
    paths = diffusing_paths(positions, cells, species)
    found = collective(sums, [paths], 1.0, 400.0, charges=charges)
    z = found.charge.values
    total = z @ found.onsager.values @ z
    np.testing.assert_allclose(found.onsager, found.onsager.T, rtol=0, atol=1e-9 * np.abs(found.onsager).max())
    # The charge of all atoms in the mean cell, in the frame of the cell itself.
    q = np.array([charges[s] for s in species])
    everywhere = np.einsum("a,tac->tc", q, positions @ np.linalg.inv(cells) @ cells.mean(axis=0))
    lags = np.unique(np.linspace(float(found.fit_start), float(found.fit_stop), 12).round().astype(int))
    origins = len(everywhere) - lags[-1]
    msd = [((everywhere[n : n + origins] - everywhere[:origins]) ** 2).sum(axis=1).mean() for n in lags]
    slope = np.polyfit(lags, msd, 1)[0] / 6
    exact = nernst_einstein(slope * 1e-4, 1 / sums.volume, 400.0)
    assert total == pytest.approx(exact, rel=1e-6, abs=1e-6 * np.abs(found.onsager.values).max())


def test_fiellers_set_is_where_the_difference_may_be_zero() -> None:
    from argyase.physics.statistics import mean_of_series

    rng = np.random.default_rng(0)
    b = 2 + rng.normal(0, 1, 300)
    a = 0.7 * b + rng.normal(0, 0.5, 300)
    found = fieller(a, b, 1)
    for end in (found.low, found.high):
        low, high = mean_of_series(a - end * b, 1).interval
        assert min(abs(low), abs(high)) < 1e-3 * (high - low)  # zero is an end of the interval of the difference
    assert fieller(a, b - b.mean() + 0.01, 1).high == np.inf
    assert np.isnan(fieller(a, -b, 1).value)


def test_what_is_wrong_is_named() -> None:
    rng = np.random.default_rng(0)
    positions, cells, species = crystal(brownian(rng, 120, 8), rng)
    sums = species_sums([(positions, cells)], species)
    with pytest.raises(TrajectoryError, match="no charge for S"):
        collective(sums, [], 1.0, 300.0, charges={"Li": 1, "P": 5, "Cl": -1})
    with pytest.raises(TrajectoryError, match="paths of 2 Li, but the trajectory has 8"):
        collective(sums, [np.zeros((120, 2, 3))], 1.0, 300.0)
    with pytest.raises(TrajectoryError, match="60 frames: at least 100"):
        collective(species_sums([(positions[:60], cells[:60])], species), [], 1.0, 300.0)
    with pytest.raises(TrajectoryError, match="no Na"):
        species_sums([(positions, cells)], species, "Na")
    with pytest.raises(TrajectoryError, match="no framework"):
        species_sums([(positions, cells)], np.full(16, "Li"))
    jump = positions.copy()
    jump[50:, 3, 0] += 0.9 * SIDE
    with pytest.raises(TrajectoryError, match="wrapped"):
        species_sums([(jump[:50], cells[:50]), (jump[50:], cells[50:])], species)
