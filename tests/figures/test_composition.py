"""Figures over composition and inversion: what is drawn are the data; bounds and missing runs are shown as such."""

import math

import numpy as np

from argyase.figures.composition import Point, plot_added, plot_map, plot_ranges
from argyase.figures.coordination import plot_coordination
from argyase.physics.intervals import Interval
from argyase.schemas import COORDINATION

BOUND = Interval(math.nan, math.nan, 0.0, 7.0)


def known(value: float) -> Interval:
    return Interval(value, 0.5, value - 1.0, value + 1.0)


POINTS = [
    Point(0.0, 0.0, known(2.0)), Point(0.0, 0.5, known(6.0)), Point(0.0, 1.0, BOUND),
    Point(0.5, 0.5, known(3.0)), Point(0.5, 1.0, None),
]  # fmt: skip


def test_ranges() -> None:
    ax = plot_ranges(POINTS, "sigma (mS/cm)").axes[0]
    bars = [(b.get_x() + b.get_width() / 2, b.get_y(), b.get_height()) for b in ax.patches]
    assert bars == [(0.0, 2.0, 4.0), (0.5, 3.0, 0.0)]
    dots = next(c for c in ax.collections if c.get_array() is not None)
    assert dots.get_offsets().tolist() == [[0.0, 2.0], [0.0, 6.0], [0.5, 3.0]]
    assert dots.get_array().tolist() == [0.0, 50.0, 50.0]
    (gone,) = [line for line in ax.lines if line.get_label() == "no run"]
    assert gone.get_xdata().tolist() == [0.5]
    bound = ax.containers[-1].lines[0]
    assert (bound.get_xdata().tolist(), bound.get_ydata().tolist()) == ([0.0], [7.0])
    assert ax.get_ylabel() == "sigma (mS/cm)"


def test_map() -> None:
    left, right = plot_map(POINTS, "sigma (mS/cm)").axes[:2]
    np.testing.assert_array_equal(
        left.collections[0].get_array().filled(np.nan), [[2.0, np.nan], [6.0, 3.0], [np.nan, np.nan]]
    )
    assert [t.get_text() for t in left.texts] == ["2\n±1", "6\n±1", "<7", "3\n±1"]
    (hatched,) = left.patches
    assert hatched.get_hatch() == "////"
    assert hatched.get_xy() == (0.25, 75.0)
    gone = right.lines[-1]
    assert (gone.get_xdata(), gone.get_ydata()) == ([0.5], [100.0])


def test_a_map_of_what_is_not_known_is_still_a_figure() -> None:
    assert plot_map([Point(0.0, 0.0, None), Point(0.5, 0.5, BOUND)], "q").axes
    on_a_line = [Point(x, (1 + x) / 2, known(1.0 + x)) for x in (0.0, 0.5, 1.0)]
    assert len(plot_map(on_a_line, "q").axes[1].collections) == 0  # no contours


def test_added_lithium() -> None:
    poor = [Point(0.0, 0.5, known(5.0)), Point(0.5, 0.75, known(3.0)), Point(1.0, 1.0, None)]
    rich = [Point(0.0, 0.5, known(5.0)), Point(0.5, 0.75, BOUND), Point(1.0, 1.0, known(4.0))]
    ax, below = plot_added([("deficient", poor), ("added", rich)], "sigma (mS/cm)").axes
    first, _, second, bound = (c.lines[0] for c in ax.containers)
    assert (first.get_xdata().tolist(), first.get_ydata().tolist()) == ([0.0, 0.5], [5.0, 3.0])
    assert (second.get_xdata().tolist(), second.get_ydata().tolist()) == ([0.0, 1.0], [5.0, 4.0])
    assert bound.get_ydata().tolist() == [7.0]
    # 2 ln 2; then 4a and 4d both with 3/4 Cl; then full of Cl.
    np.testing.assert_allclose(below.lines[0].get_ydata(), [1.386294, 2 * 0.562335, 0.0], atol=1e-6)


def test_radial_distributions() -> None:
    r = np.linspace(0.1, 9.9, 50)
    names = ("peak", "shell", "coordination", "coordination_stderr", "coordination_low", "coordination_high")
    data = COORDINATION.dataset(
        pair=["Li-Cl(4d)"], r=r, rdf=[np.sin(r) + 1], rdf_stderr=[0.1 + 0 * r], neighbours=[r], neighbours_stderr=[r],
        **{name: [math.nan] for name in names},
    )  # fmt: skip
    (ax,) = plot_coordination([("before", data), ("after", data)], "Li-Cl(4d)").axes
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["before", "after"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.sin(r[r <= 6]) + 1)
