"""Lines, averages and correlations: against polyfit and exact lines, and intervals that hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import seeds

from argyase.errors import StatisticsError
from argyase.physics.intervals import Interval
from argyase.physics.trends import arrhenius, average, correlation, sizes, weighted_regression

K = 8.617333262e-5  # eV/K, CODATA 2018
LOW, HIGH = stats.binom(400, 0.95).ppf([0.001, 0.999])


def near(value: float, error: float) -> Interval:
    return Interval(value, error, value - 1.96 * error, value + 1.96 * error)


@given(st.floats(0.05, 1.0), st.floats(1e3, 1e7), st.floats(200, 400))
def test_an_exact_line(ea: float, prefactor: float, at: float) -> None:
    t = np.array([450.0, 500.0, 600.0, 750.0])
    sigma = prefactor / t * np.exp(-ea / (K * t))
    found = arrhenius(t, [near(s, 0.1 * s) for s in sigma], at)
    assert float(found.activation_energy) == pytest.approx(ea, rel=1e-6)
    assert float(found.conductivity_at) == pytest.approx(prefactor / at * math.exp(-ea / (K * at)), rel=1e-6)
    assert float(found.log_prefactor) == pytest.approx(math.log(prefactor), rel=1e-6)
    assert bool(found.extrapolated)
    assert float(found.conductivity_at_low) < float(found.conductivity_at) < float(found.conductivity_at_high)


@pytest.mark.statistical
def test_the_extrapolation_holds_the_truth() -> None:
    """400 lines of four temperatures, points with 10 % errors: 95 % (binomial: 366 to 392)."""
    t, ea = np.array([400.0, 500.0, 600.0, 800.0]), 0.3
    exact = 1e5 / t * np.exp(-ea / (K * t))
    at_300 = 1e5 / 300 * math.exp(-ea / (K * 300))
    rng, hits, hits_ea = np.random.default_rng(0), 0, 0
    for _ in range(400):
        seen = exact * np.exp(rng.normal(0, 0.1, 4))
        found = arrhenius(t, [near(s, 0.1 * s) for s in seen])
        hits += float(found.conductivity_at_low) < at_300 < float(found.conductivity_at_high)
        hits_ea += float(found.activation_energy_low) < ea < float(found.activation_energy_high)
    # Points that scatter by chance make some intervals wider than they need to be: above 95 %, below 99.
    assert LOW <= hits <= 396
    assert LOW <= hits_ea <= 396


@given(seeds, st.integers(3, 20))
def test_regression_is_that_of_polyfit(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, sigma = rng.random(n), rng.uniform(0.1, 1.0, n)
    y = 2 * x + rng.normal(size=n) * sigma
    found, covariance, chi2, t = weighted_regression(x, y, sigma)
    theirs, unscaled = np.polyfit(x, y, 1, w=1 / sigma, cov="unscaled")
    np.testing.assert_allclose(found[::-1], theirs, rtol=1e-6, atol=1e-9)
    scale = max(1.0, chi2 / (n - 2))
    np.testing.assert_allclose(covariance[::-1, ::-1], unscaled * scale, rtol=1e-6)
    assert t == pytest.approx(1.96 if scale == 1.0 else stats.t.ppf(0.975, n - 2))


@pytest.mark.statistical
@pytest.mark.parametrize(("within", "between"), [(1.0, 0.0), (0.2, 1.0)])
def test_the_average_holds_the_truth(within: float, between: float) -> None:
    """Four seeds, whose errors are of the runs, or mostly of the disorder."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        runs = 10 + rng.normal(0, math.hypot(within, between), 4)
        found = average([near(v, within) for v in runs])
        hits += found.low < 10 < found.high
    # The larger of two errors: above 95 % where both are alike.
    assert hits >= LOW


def test_averages_with_gaps() -> None:
    nan = math.nan
    one = near(3.0, 0.5)
    bound = Interval(nan, nan, 0.0, 2.0)
    unknown, far = Interval(nan, nan, nan, nan), Interval(nan, nan, 0.0, 3.5)
    assert average([one, unknown, far]) == one
    # Of one there is a bound only, and it is below the other, which so came out high.
    mixed = average([one, bound, unknown])
    assert math.isnan(mixed.value)
    assert (mixed.low, mixed.high) == (0.0, (one.high + 2.0) / 2)
    assert average([bound, Interval(nan, nan, 0.0, 5.0)]).high == 5.0
    assert math.isnan(average([]).high)


def test_sizes_by_rising_number() -> None:
    found = sizes([416, 52, 3328], [near(11.0, 1.0), near(20.0, 3.0), near(10.0, 0.0)])
    assert found.size.values.tolist() == [52, 416, 3328]
    np.testing.assert_allclose(found.deviation, [10 / 3, 1.0, 0.0])
    with pytest.raises(StatisticsError, match="needs two"):
        sizes([52, 52], [near(1.0, 1.0)] * 2)


def test_correlation_of_what_rises_together() -> None:
    x = np.linspace(0, 1.4, 8)
    found = correlation(x, [near(3 + 5 * v, 0.01) for v in x])
    assert float(found.slope) == pytest.approx(5.0)
    assert float(found.intercept) == pytest.approx(3.0)
    assert float(found.rank_correlation) == pytest.approx(1.0)
    assert float(found.rank_correlation_low) > 0.8
    assert int(found.left_out) == 0


@pytest.mark.statistical
def test_correlation_of_nothing() -> None:
    """Independent numbers: the interval of the rank correlation holds zero, the slope's too, in 95 % of 200 cases."""
    low, _ = stats.binom(200, 0.95).ppf([0.001, 0.999])
    rng, hits, slopes = np.random.default_rng(1), 0, 0
    for _ in range(200):
        x = rng.random(12)
        found = correlation(x, [near(v, 0.5) for v in rng.normal(0, 0.5, 12)])
        hits += float(found.rank_correlation_low) <= 0 <= float(found.rank_correlation_high)
        slopes += float(found.slope_low) <= 0 <= float(found.slope_high)
    assert hits >= low
    assert slopes >= low


def test_too_little() -> None:
    with pytest.raises(StatisticsError, match="at 1 temperatures"):
        arrhenius([300.0, 400.0], [near(1.0, 0.1), Interval(math.nan, math.nan, 0.0, 1.0)])
    with pytest.raises(StatisticsError, match="3 of 3 runs"):
        correlation([0.0, 1.0, 2.0], [near(1.0, 0.1)] * 3)
    with pytest.raises(StatisticsError, match="1 different values"):
        correlation([1.0] * 5, [near(1.0, 0.1)] * 5)
