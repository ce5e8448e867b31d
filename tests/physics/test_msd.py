"""MSD against loops and exact motion; the error bar of D against what many runs show."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinisi_example import XDATCAR, direct_msd
from strategies import seeds
from walks import WALKS, brownian, caged

from argyase.errors import StatisticsError, TrajectoryError
from argyase.physics.msd import diffusivity, mean_squared_displacement, msd
from argyase.physics.statistics import mean_of_series


def naive(paths: np.ndarray) -> np.ndarray:
    """The definition, written out."""
    frames = len(paths)
    return np.array([((paths[lag:] - paths[: frames - lag]) ** 2).mean(axis=(0, 1)) for lag in range(frames)])


@given(seeds, st.integers(1, 40), st.integers(1, 70))
def test_equals_the_definition(seed: int, frames: int, ions: int) -> None:
    paths = np.random.default_rng(seed).normal(size=(frames, ions, 3)).cumsum(axis=0) + 1000.0
    expected = naive(paths)
    # FFT rounding: 1e-16 of the squared extent of a path, times log2 of its length.
    np.testing.assert_allclose(mean_squared_displacement(paths), expected, atol=1e-11 * (1 + expected.max()))


@given(seeds, st.integers(2, 200))
def test_straight_motion(seed: int, frames: int) -> None:
    """r = v t: MSD = v^2 t^2 for every lag."""
    velocities = np.random.default_rng(seed).normal(size=(5, 3))
    paths = np.arange(frames)[:, None, None] * velocities
    exact = np.arange(frames)[:, None] ** 2 * (velocities**2).mean(axis=0)
    np.testing.assert_allclose(mean_squared_displacement(paths), exact, rtol=0, atol=1e-11 * (1 + exact.max()))


def test_a_published_trajectory_by_a_direct_loop() -> None:
    """140 frames of Li6PS5Cl by VASP."""
    from argyase.dynamics.readers import read_frames
    from argyase.physics.unwrap import diffusing_paths, unwrap

    frames = list(read_frames(XDATCAR))
    cells = np.array([f.cell for f in frames])
    ours = mean_squared_displacement(
        diffusing_paths(unwrap(np.array([f.positions for f in frames]), cells), cells, frames[0].species)
    ).sum(axis=1)
    np.testing.assert_allclose(ours, direct_msd(), atol=1e-9)


# ---- error bars ----


def test_mean_of_white_noise() -> None:
    """The standard error is sigma / sqrt(n), within the 4 % that its own degrees of freedom (1000) leave."""
    series = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    found = mean_of_series(series, 1)
    assert found.stderr == pytest.approx(2.0 / math.sqrt(2000), rel=0.1)
    assert abs(found.value - 3.0) < 4 * found.stderr


@pytest.mark.statistical
@pytest.mark.parametrize("name", sorted(WALKS))
def test_the_interval_of_d_covers_the_truth(name: str) -> None:
    """95 % intervals of 60 independent runs: a binomial of 60 x 0.95 falls below 52 once in 130 times."""
    covered, half, values = 0, [], []
    for seed in range(60):
        found = diffusivity(WALKS[name](np.random.default_rng(seed), 600, 32), 1.0).estimate
        low, high = found.interval
        covered += low <= 0.1 <= high
        half.append((high - low) / 2)
        values.append(found.value)
    assert covered >= 52
    # An interval that covers because it is wide is of no use: at most three times the spread that is there.
    if name in ("brownian", "concerted"):
        assert np.mean(half) < 3 * np.std(values)


@given(seeds)
def test_units_and_scaling(seed: int) -> None:
    """D scales as length^2 / time, and does not depend on where the motion starts."""
    paths = brownian(np.random.default_rng(seed), 300, 8)
    base = diffusivity(paths, 1.0)
    other = diffusivity(3.0 * paths + 50.0, 0.5)
    assert other.estimate.value == pytest.approx(18 * base.estimate.value, rel=1e-9)
    assert other.estimate.stderr == pytest.approx(18 * base.estimate.stderr, rel=1e-9)
    assert other.stop == pytest.approx(0.5 * base.stop)
    dataset = msd(paths, 1.0)
    assert float(dataset.diffusivity) == pytest.approx(1e-4 * base.estimate.value)  # 1 A^2/ps = 1e-4 cm^2/s


def test_one_dimension() -> None:
    rng = np.random.default_rng(2)
    paths = brownian(rng, 2000, 40)
    paths[:, :, 1:] = 0.0
    low, high = diffusivity(paths, 1.0, dimensions=1).estimate.interval
    assert low < 0.1 < high


def test_no_diffusion_is_said_with_a_bound() -> None:
    rng = np.random.default_rng(0)
    rattling_only = rng.normal(scale=0.3, size=(500, 20, 3))
    with pytest.raises(
        StatisticsError, match=r"no diffusion beyond the error bar .* D is at most .* Run longer"
    ) as caught:
        diffusivity(rattling_only, 0.1)
    assert 0 < caught.value.upper < 0.1
    dataset = msd(rattling_only, 0.1)
    assert np.isnan(dataset.diffusivity)
    assert float(dataset.diffusivity_low) == 0.0
    assert float(dataset.diffusivity_high) == pytest.approx(1e-4 * caught.value.upper)
    assert "no diffusion" in dataset.attrs["not_determined"]


def test_short_runs_keep_their_msd() -> None:
    paths = brownian(np.random.default_rng(0), 30, 5)
    with pytest.raises(StatisticsError, match=r"30 frames .* at least 100 are needed"):
        diffusivity(paths, 1.0)
    dataset = msd(paths, 1.0)
    np.testing.assert_allclose(dataset.msd, naive(paths).sum(axis=1), atol=1e-9)
    assert np.isnan(dataset.diffusivity_high)


def test_motion_that_is_not_yet_diffusive_has_a_wide_interval() -> None:
    short = diffusivity(caged(np.random.default_rng(4), 200, 64), 1.0).estimate
    long = diffusivity(caged(np.random.default_rng(4), 4000, 64), 1.0).estimate
    assert short.interval[0] < 0.1 < short.interval[1]
    assert long.interval[0] < 0.1 < long.interval[1]
    assert short.stderr > 4 * long.stderr


def test_bad_paths() -> None:
    with pytest.raises(TrajectoryError, match="at least one ion"):
        msd(np.zeros((10, 0, 3)), 1.0)
    with pytest.raises(TrajectoryError, match="not finite"):
        msd(np.full((10, 2, 3), np.nan), 1.0)
