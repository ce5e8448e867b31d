"""Protocols: what is laid out on the step counter, and what is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argyase.dynamics.protocols import Segment, schedule
from argyase.errors import ConfigError

HEAT, PRODUCE = Segment("heat", "nvt", start_K=100.0, rate_K_fs=0.5), Segment("produce", duration_ps=1.0)


@given(st.lists(st.floats(0.001, 5.0), max_size=3), st.floats(0.1, 5.0), st.floats(0.5, 4.0), st.integers(1, 50))
def test_segments_follow_each_other(lengths: list[float], last: float, timestep: float, sample: int) -> None:
    segments = [*(Segment("equilibrate", duration_ps=d) for d in lengths), Segment("produce", duration_ps=last)]
    steps = schedule(segments, 300.0, timestep, sample)
    assert steps[0].first == 0
    for a, b in itertools.pairwise(steps):
        assert a.last == b.first
    for step in steps:
        length = (step.last - step.first) * timestep * 1e-3
        assert (step.last - step.first) % sample == 0
        # Rounded up to whole samples, never by more than one (and half a step of rounding).
        assert -0.6 * timestep * 1e-3 <= length - step.segment.duration_ps <= (sample + 0.6) * timestep * 1e-3


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([], "exactly one 'produce'"),
        ([PRODUCE, HEAT], "as the last segment"),
        ([PRODUCE, PRODUCE], "exactly one 'produce'"),
        ([Segment("produce", duration_ps=0.0)], r"segments\[0\]\.duration_ps = 0\.0: must be positive"),
        ([Segment("heat", rate_K_fs=-1.0), PRODUCE], r"segments\[0\]\.rate_K_fs = -1\.0: must be positive"),
        ([Segment("produce", duration_ps=float("nan"))], "duration_ps = nan"),
    ],
)
def test_wrong_protocols(segments: list[Segment], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        schedule(segments, 300.0, 2.0, 50)
