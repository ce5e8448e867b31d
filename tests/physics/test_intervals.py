"""Intervals of rates and quotients hold the truth as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from argyase.physics.intervals import Interval, event_rate, in_blocks, quotient, ratio_of_sums

TRIALS = 400
LOW, HIGH = stats.binom(TRIALS, 0.95).ppf([0.001, 0.999])  # 366, 392 of 400: 91.5 to 98 %


@pytest.mark.statistical
@pytest.mark.parametrize("bunch", [1, 4])
@pytest.mark.parametrize("mean", [2000, 200, 60])
def test_rates_hold_the_truth(mean: float, bunch: int) -> None:
    """Poisson events, and events in bunches of up to four: the scatter is then larger than Poisson's."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(TRIALS):
        bunches = rng.poisson(mean / bunch / 10, 10)
        counts = np.array([rng.integers(1, bunch + 1, n).sum() for n in bunches])
        found = event_rate(counts, np.full(10, 2.0))
        truth = mean / bunch * (bunch + 1) / 2 / 20
        hits += found.low <= truth <= found.high
    assert LOW <= hits <= HIGH


@pytest.mark.statistical
@pytest.mark.parametrize("mean", [0.5, 3.0, 10.0])
def test_rare_events_are_held_at_least_as_often(mean: float) -> None:
    """Discrete counts: Garwood's interval never holds less than it says."""
    rng = np.random.default_rng(2)
    hits = sum(
        found.low <= mean / 10 <= found.high
        for found in (event_rate(rng.poisson(mean / 10, 10), np.ones(10)) for _ in range(TRIALS))
    )
    assert hits >= LOW


@pytest.mark.statistical
def test_quotients_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(TRIALS):
        a, b = rng.normal(3.0, 0.3), rng.normal(2.0, 0.3)
        found = quotient(
            Interval(a, 0.3, a - 1.96 * 0.3, a + 1.96 * 0.3), Interval(b, 0.3, b - 1.96 * 0.3, b + 1.96 * 0.3)
        )
        hits += found.low <= 1.5 <= found.high
    assert LOW <= hits <= HIGH


positive = st.floats(0.1, 10.0)
relative = st.floats(0.01, 0.4)


@given(positive, positive, relative, relative)
def test_quotient_is_fiellers(a: float, b: float, s: float, r: float) -> None:
    """For symmetric intervals the ends are the roots of (a - q b)^2 = da^2 + q^2 db^2."""
    da, db = s * a, r * b
    found = quotient(Interval(a, da / 2, a - da, a + da), Interval(b, db / 2, b - db, b + db))
    roots = np.sort(np.roots([b**2 - db**2, -2 * a * b, a**2 - da**2]).real)
    assert (found.low, found.high) == (pytest.approx(roots[0]), pytest.approx(roots[1]))


def test_without_an_end() -> None:
    found = quotient(Interval(1.0, 0.1, 0.8, 1.2), Interval(1.0, 1.0, -1.0, 3.0))
    assert found.high == math.inf
    assert 0 <= found.low < 1
    assert math.isnan(quotient(Interval(1.0, 0.1, 0.8, 1.2), Interval(0.0, 0.0, 0.0, 1.0)).value)
    nothing = event_rate(np.zeros(10), np.full(10, 3.0)).inverse()
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (pytest.approx(30 / 3.689, rel=1e-3), math.inf)
    assert math.isnan(event_rate(np.zeros(10), np.zeros(10)).value)


def test_ratio_and_blocks_by_hand() -> None:
    # R = 6 / 4; residuals -0.5, 0.5; s^2 = 2 / 1 x 0.5 / 16.
    found = ratio_of_sums([1.0, 5.0], [1.0, 3.0])
    assert (found.value, found.stderr) == (1.5, pytest.approx(0.25))
    np.testing.assert_array_equal(in_blocks(np.ones((25, 2)), 10).sum(axis=0), [25, 25])
    turned = Interval(2.0, 0.5, 1.0, 4.0).scaled(-1.0)
    assert (turned.value, turned.stderr, turned.low, turned.high) == (-2.0, 0.5, -4.0, -1.0)
