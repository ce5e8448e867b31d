"""Densities of site energies and their overlaps: analytic, scipy's, and what a bootstrap must give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde, norm
from strategies import seeds

from argyase.errors import StatisticsError
from argyase.physics.site_energy import density, overlap, site_energies


def dataset(energies: np.ndarray, kinds: list[str], weights: np.ndarray | None = None, **more: float):  # type: ignore[no-untyped-def]
    n = len(energies)
    sites = dict.fromkeys(dict.fromkeys(kinds), 4)
    shares = np.ones(n) if weights is None else weights
    return site_energies("lattice_site_energy", energies, kinds, shares, [0] * n, [0] * n, sites, **more)


@settings(max_examples=25)
@given(st.floats(0, 4), st.floats(0.01, 0.5))
def test_two_gaussians(distance: float, width: float) -> None:
    """Overlap 2 Phi(-d / 2) of unit Gaussians at a distance d: here those of two single sites."""
    data = dataset(np.array([1.0, 1.0 + distance * width]), ["T2", "T5"], bandwidth=width)
    # The kink of the minimum costs 6e-4 on a grid of a tenth of the bandwidth.
    assert float(data["overlap"][0]) == pytest.approx(2 * norm.cdf(-distance / 2), abs=1e-3)
    grid = np.linspace(-8, 8 + distance, 20_001)
    both = norm.pdf(grid), norm.pdf(grid, distance)
    assert overlap(grid, *both) == pytest.approx(2 * norm.cdf(-distance / 2), abs=1e-6)
    assert float(data["overlap_stderr"][0]) < 1e-12  # a single energy cannot scatter: rounding


@given(seeds, st.integers(3, 40))
def test_density_is_that_of_scipy(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    energies, weights = rng.normal(size=n), rng.random(n) + 0.1
    theirs = gaussian_kde(energies, bw_method=0.3, weights=weights)
    width = float(np.sqrt(theirs.covariance[0, 0]))
    grid = np.linspace(-5, 5, 50)
    np.testing.assert_allclose(density(grid, energies, weights, width), theirs(grid), rtol=1e-9, atol=1e-12)


@settings(max_examples=15)
@given(seeds, st.floats(0.02, 0.2), st.integers(-500, 500))
def test_integrals_shifts_and_weights(seed: int, width: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = ["T2"] * 7 + ["T4"] * 3 + ["T5"] * 5
    energies, weights = rng.normal(scale=0.3, size=15), rng.integers(1, 4, 15)
    data = dataset(energies, kinds, weights, bandwidth=width)
    # Each kind integrates to one, however many sites it has; 6e-7 lies beyond the grid.
    np.testing.assert_allclose(data["density"].integrate("energy"), 1.0, atol=2e-6)
    shift = steps * width / 10  # of the grid: where it meets the kinks of the minimum does not change
    moved = dataset(energies + shift, kinds, weights, bandwidth=width)
    np.testing.assert_allclose(moved["overlap"], data["overlap"], atol=1e-6)
    np.testing.assert_allclose(moved["mean"], data["mean"] + shift)
    # A weight of k is k sites.
    repeated = dataset(np.repeat(energies, weights), np.repeat(kinds, weights).tolist(), bandwidth=width)
    np.testing.assert_allclose(repeated["overlap"], data["overlap"], atol=1e-9)
    np.testing.assert_allclose(repeated["spread"], data["spread"])
    assert (data["overlap_low"] <= data["overlap_high"]).all()
    assert ((data["overlap"] >= 0) & (data["overlap"] <= 1 + 1e-6)).all()
    assert data["pair"].values.tolist() == ["T2-T4", "T2-T5", "T4-T5"]


@pytest.mark.statistical
def test_the_bootstrap_knows_its_error() -> None:
    """Its standard error against the scatter of overlaps of fresh samples, at a fixed seed."""
    rng = np.random.default_rng(3)
    values, errors = [], []
    for _ in range(60):
        energies = np.concatenate([rng.normal(0, 0.2, 48), rng.normal(0.3, 0.2, 48)])
        data = dataset(energies, ["T2"] * 48 + ["T5"] * 48)
        values.append(float(data["overlap"][0]))
        errors.append(float(data["overlap_stderr"][0]))
    # A standard deviation of 60 numbers is known to 9 %; the bootstrap of a smoothed overlap is biased by some 10 %.
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)
    # The truth: both widened by the kernel, 2 Phi(-0.3 / 2 / sqrt(0.2^2 + 0.05^2)).
    truth = 2 * norm.cdf(-0.15 / np.hypot(0.2, 0.05))
    assert abs(np.mean(values) - truth) < 0.04  # ragged samples overlap a little less than smooth ones


def test_what_is_refused() -> None:
    with pytest.raises(StatisticsError, match="no sample of T4"):
        site_energies("lattice_site_energy", [0.0], ["T2"], [1], [0], [0], {"T2": 48, "T4": 16})
    with pytest.raises(StatisticsError, match="allowed are charged_site_energy, lattice_site_energy"):
        site_energies("site_energy", [0.0], ["T2"], [1], [0], [0], {"T2": 48})
    with pytest.raises(StatisticsError, match="all energies finite"):
        dataset(np.array([np.nan, 0.0]), ["T2", "T4"])
    with pytest.raises(StatisticsError, match="bandwidth = 0 eV must be positive"):
        dataset(np.array([0.0, 0.0]), ["T2", "T4"], bandwidth=0.0)
