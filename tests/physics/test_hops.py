"""The three readings of "displaced by more than 3 A" on motion written out by hand."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from walks import brownian

from argyase.errors import TrajectoryError
from argyase.physics.hops import hops


def along_x(*paths: list[float]) -> np.ndarray:
    out = np.zeros((len(paths[0]), len(paths), 3))
    out[:, :, 0] = np.array(paths).T
    return out


def test_by_hand() -> None:
    stays, leaves = [0.0] * 20, [0.0] * 10 + [4.0] * 10
    comes_back = [0.0] * 5 + [3.5] * 5 + [0.0] * 10
    rattles = [0.0, 3.1] * 10
    found = hops(along_x(stays, leaves, comes_back, rattles), 0.5)
    assert int(found.ever_beyond) == 3
    assert int(found.end_beyond) == 2  # the one that left, and the one that rattles
    assert int(found.crossings) == 1 + 1 + 10
    assert found.cumulative_ever.values.tolist() == [0] + [1] * 4 + [2] * 5 + [3] * 10
    assert float(found.duration) == 9.5


def test_exactly_at_the_threshold_is_not_beyond() -> None:
    found = hops(along_x([0.0] + [3.0] * 19), 0.5)
    assert int(found.ever_beyond) == 0


@given(seeds, st.integers(20, 80), st.integers(1, 6), st.floats(0.5, 5.0))
def test_equals_a_loop(seed: int, frames: int, ions: int, threshold: float) -> None:
    paths = brownian(np.random.default_rng(seed), frames, ions, d=0.3)
    ever, crossings, beyond = set(), 0, [False] * ions
    for t in range(frames):
        for i in range(ions):
            now = bool(np.sqrt(((paths[t, i] - paths[0, i]) ** 2).sum()) > threshold)
            crossings += now and not beyond[i]
            beyond[i] = now
            if now:
                ever.add(i)
    found = hops(paths, 0.1, threshold)
    assert (int(found.ever_beyond), int(found.end_beyond), int(found.crossings)) == (len(ever), sum(beyond), crossings)
    rate = crossings / (ions * (frames - 1) * 0.1e-3)
    some = hops((paths[:, first : first + 2] for first in range(0, ions, 2)), 0.1, threshold)
    xr.testing.assert_equal(some, found)
    # Blocks of nearly equal length: their mean is the rate up to one frame in a block.
    assert float(found.crossing_rate) == pytest.approx(rate, rel=10 / frames, abs=1e-9)


def test_what_cannot_be_counted() -> None:
    with pytest.raises(TrajectoryError, match="19 frames: at least 20"):
        hops(np.zeros((19, 2, 3)), 0.1)
    with pytest.raises(TrajectoryError, match="threshold = 0"):
        hops(np.zeros((30, 2, 3)), 0.1, 0.0)
    with pytest.raises(TrajectoryError, match="none; expected"):
        hops(iter([]), 0.1)
