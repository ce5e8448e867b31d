"""G_s: normalised, equal to its definition, Gaussian for Brownian motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import seeds
from walks import brownian

from argyase.errors import TrajectoryError
from argyase.physics.vanhove import default_lags, snapshot_frames, van_hove_distinct, van_hove_self


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
        # A distance on an edge of a bin, to the rounding of single precision, may fall to either side.
        edge = np.abs(distances / 0.25 - np.rint(distances / 0.25)) < 1e-4
        assert np.abs(ours - counts).sum() <= 2 * edge.sum() + 1e-6
        two, four = (distances**2).mean(), (distances**4).mean()
        alpha = float(found.non_gaussian.sel(lag=float(lag)))
        assert alpha == pytest.approx(0.6 * four / two**2 - 1, abs=1e-4)
    some, others = paths[:, : ions // 2], paths[:, ions // 2 :]
    again = van_hove_self((p for p in (some, others) if p.shape[1]), 1.0, r_max=5.0, width=0.25)
    for name in ("g_self", "fraction_beyond", "non_gaussian"):
        np.testing.assert_allclose(again[name], found[name], rtol=1e-4, atol=1e-5)


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


@pytest.mark.statistical
def test_the_interval_of_alpha_holds_the_truth() -> None:
    """Brownian: 0. Each ion with a D of its own, d or 3 d: 5/4 - 1 = 1/4. Of 200 trajectories 92 to 99 %.

    The larger of two errors makes it more than 95 %; lags of a hundredth and a tenth of the run.
    """
    for mixed, truth in ((False, 0.0), (True, 0.25)):
        hits = np.zeros(2)
        for seed in range(200):
            rng = np.random.default_rng(seed)
            paths = brownian(rng, 400, 60)
            if mixed:  # in turn, so that each group of ions has as many of both
                paths[:, ::2] *= np.sqrt(3.0)
            found = van_hove_self(paths, 1.0, lags=[4, 40])
            # <d^2> / <d>^2 = (1 + 9) / 2 / 4 = 5/4.
            hits += (found.non_gaussian_low <= truth) & (truth <= found.non_gaussian_high)
        assert (hits >= stats.binom(200, 0.95).ppf(0.001)).all()
        assert (hits <= 199).all()


def test_rattling_ions_are_not_gaussian_for_a_while() -> None:
    """Rare jumps of one length: <r^4> / <r^2>^2 = 1 / (rate t) for short times."""
    rng = np.random.default_rng(0)
    steps = (rng.random((4000, 100, 1)) < 0.01) * np.array([3.0, 0, 0]) * rng.choice([-1, 1], (4000, 100, 1))
    found = van_hove_self(np.cumsum(steps, axis=0), 1.0, lags=[1]).isel(lag=0)
    assert abs(float(found.non_gaussian) - (0.6 / 0.01 - 1)) < 4 * float(found.non_gaussian_stderr)


@given(seeds)
@settings(max_examples=15)
def test_distinct_equals_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = 9 * np.eye(3) + rng.uniform(-1, 1, (3, 3))
    paths = rng.uniform(-10, 10, (12, 5, 3))
    lags, width, bins = [0, 3], 0.5, 6
    kept = {n: paths[n] for n in snapshot_frames(12, lags, 4).tolist()}
    found = van_hove_distinct(kept, 12, 2.0, cell, lags=lags, origins=4, r_max=3.0, width=width)
    shells = 4 / 3 * np.pi * np.diff((width * np.arange(bins + 1)) ** 3)
    for n, lag in enumerate(lags):
        counts = np.zeros(bins)
        for start in (0, 3, 5, 8):
            for i in range(5):
                for j in range(5):
                    if i != j:
                        # All images: those within 3 A are at most one.
                        images = np.array(list(np.ndindex(9, 9, 9))) - 4
                        d = np.linalg.norm(paths[start + lag, j] - paths[start, i] + images @ cell, axis=1)
                        counts += np.histogram(d, bins=width * np.arange(bins + 1))[0]
        expected = counts / 4 * abs(np.linalg.det(cell)) / (shells * 5 * 4)
        np.testing.assert_allclose(found.g_distinct[n], expected)


@pytest.mark.statistical
def test_an_ideal_gas_is_the_same_everywhere() -> None:
    rng = np.random.default_rng(0)
    paths = rng.uniform(0, 12, (40, 60, 3))
    found = van_hove_distinct(dict(enumerate(paths)), 40, 1.0, 12 * np.eye(3), lags=[0, 7], r_max=6.0, width=1.0)
    z = (found.g_distinct - 1) / found.g_distinct_stderr
    assert float(abs(z).max()) < 5  # nine degrees of freedom, twelve numbers: 1 in 100


def test_distinct_settings() -> None:
    kept = dict(enumerate(np.zeros((10, 2, 3))))
    with pytest.raises(TrajectoryError, match=r"r_max <= 5.00 A"):
        van_hove_distinct(kept, 10, 1.0, 10 * np.eye(3), lags=[1], r_max=6.0)
    with pytest.raises(TrajectoryError, match="between 0 and 9"):
        van_hove_distinct(kept, 10, 1.0, 10 * np.eye(3), lags=[10], r_max=4.0)
    with pytest.raises(TrajectoryError, match="1 ions"):
        van_hove_distinct({k: v[:1] for k, v in kept.items()}, 10, 1.0, 10 * np.eye(3), lags=[1], r_max=4.0)


@pytest.mark.parametrize(
    "wrong", [{"lags": [0]}, {"lags": [10]}, {"lags": []}, {"width": 0.0}, {"width": 20.0}, {"stride": 0}]
)
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(TrajectoryError, match=r"must be between|need r_max"):
        van_hove_self(np.zeros((10, 2, 3)), 1.0, **wrong)  # type: ignore[arg-type]
