"""G_s: normalised, equal to its definition, Gaussian for Brownian motion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import seeds
from walks import brownian

from argyase.errors import TrajectoryError
from argyase.physics.vanhove import default_lags, van_hove_self


@given(seeds, st.integers(2, 60), st.integers(1, 8), st.floats(0.05, 0.5), st.floats(1.0, 15.0), st.integers(1, 4))
def test_integrates_to_one(seed: int, frames: int, ions: int, width: float, r_max: float, stride: int) -> None:
    paths = brownian(np.random.default_rng(seed), frames, ions)
    found = van_hove_self(paths, 0.1, r_max=r_max, width=width, stride=stride)
    edges = np.concatenate([[0.0], found.r.values + width / 2])
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    total = (found.g_self.values * shells).sum(axis=1) + found.fraction_beyond.values
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.radial_probability.sum("r") * width + found.fraction_beyond, 1.0, rtol=1e-12)


@given(seeds, st.integers(2, 25), st.integers(1, 5))
def test_equals_the_definition(seed: int, frames: int, ions: int) -> None:
    paths = brownian(np.random.default_rng(seed), frames, ions, d=0.5)
    found = van_hove_self(paths, 1.0, r_max=5.0, width=0.25)
    for lag in default_lags(frames):
        distances = np.linalg.norm(paths[lag:] - paths[:-lag], axis=2).ravel()
        counts, _ = np.histogram(distances, bins=np.arange(0, 5.01, 0.25))
        ours = found.radial_probability.sel(lag=float(lag)).values * 0.25 * len(distances)
        # A distance on an edge of a bin, to rounding, may fall to either side.
        assert (
            np.abs(ours - counts).sum()
            <= 2 * (np.abs(distances / 0.25 - np.rint(distances / 0.25)) < 1e-9).sum() + 1e-6
        )


@pytest.mark.statistical
def test_brownian_motion_is_gaussian() -> None:
    """4 pi r^2 G_s is the Maxwell distribution of width sqrt(2 D t)."""
    paths = brownian(np.random.default_rng(0), 20001, 10, d=0.1)
    lag, width = 20, 0.2
    found = van_hove_self(paths[::1], 1.0, lags=[lag], width=width, stride=lag).isel(lag=0)
    count = 10 * len(range(0, 20001 - lag, lag))  # independent displacements
    edges = np.concatenate([found.r - width / 2, [found.r[-1] + width / 2]])
    expected = count * np.diff(stats.maxwell(scale=np.sqrt(2 * 0.1 * lag)).cdf(edges))
    seen = found.radial_probability.values * width * count
    kept = expected > 10
    chi2 = ((seen - expected)[kept] ** 2 / expected[kept]).sum()
    assert stats.chi2(kept.sum() - 1).sf(chi2) > 1e-3  # at this seed; true in 999 of 1000 cases


@pytest.mark.parametrize(
    "wrong", [{"lags": [0]}, {"lags": [10]}, {"lags": []}, {"width": 0.0}, {"width": 20.0}, {"stride": 0}]
)
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(TrajectoryError, match=r"must be between|need r_max"):
        van_hove_self(np.zeros((10, 2, 3)), 1.0, **wrong)  # type: ignore[arg-type]
