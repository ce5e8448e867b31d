"""Datasets made small for a page: what is left are numbers of the dataset, and means are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from argyase.report.curves import coarse, rounded, spread


@given(st.integers(1, 5000), st.integers(2, 300), st.booleans())
def test_spread_keeps_the_ends_and_the_order(n: int, points: int, log: bool) -> None:
    where = spread(n, points, log)
    assert where[0] == 0
    assert where[-1] == n - 1
    assert (np.diff(where) > 0).all()
    assert len(where) <= max(points, min(n, points))


@given(st.floats(-1e300, 1e300, allow_subnormal=False), st.integers(1, 8))
def test_rounded_is_near(value: float, digits: int) -> None:
    # Half a unit of the last digit, and an ulp of the decimal text.
    assert abs(rounded(value, digits) - value) <= 0.5000001 * 10.0 ** (1 - digits) * abs(value)


def test_rounded_has_no_number_that_json_has_not() -> None:
    assert rounded([np.nan, np.inf, -np.inf, 1.0]) == [None, None, None, 1.0]
    assert rounded(np.array([3, 123456])) == [3, 123456]


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(0, 2))
def test_coarse_is_the_mean_of_a_finer_grid(seed: int, n: int, m: int, axis: int) -> None:
    """The twin: each voxel cut into 2 m pieces (edges of the wide ones are at half voxels of m n), then plain means."""
    values = np.random.default_rng(seed).random((n, n, n))
    fine = np.moveaxis(np.repeat(values, 2 * m, axis=axis), axis, 0)
    # A wide voxel has 2 n pieces, the first of them n to the left of the origin.
    shifted = np.roll(fine, n, axis=0)
    expected = np.moveaxis(shifted.reshape(m, 2 * n, n, n).mean(axis=1), 0, axis)
    found = coarse(values, m, axis)
    np.testing.assert_allclose(found, expected, atol=1e-12)  # round-off of sums of some hundred numbers below 1
    assert found.mean() == pytest.approx(values.mean())
