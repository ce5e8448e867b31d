"""Figures: what is drawn are the data, axes have units, the same data give the same bytes."""

import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from walks import brownian

from argyase.figures.style import save
from argyase.figures.transport import plot_hops, plot_msd, plot_over, plot_vanhove, weighted_line
from argyase.physics.hops import hops
from argyase.physics.intervals import Interval
from argyase.physics.msd import msd
from argyase.physics.vanhove import van_hove_self


def runs(make: object) -> list[tuple[str, xr.Dataset]]:
    paths = [brownian(np.random.default_rng(seed), 300, 6, d=0.02) for seed in (1, 2)]
    return [(f"run {n}", make(p, 0.1)) for n, p in enumerate(paths)]  # type: ignore[operator]


def test_msd_draws_the_data() -> None:
    data = runs(msd)
    (ax,) = plot_msd(data, note="a note").axes
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_ydata(), data[0][1].msd.values[1:150])
    assert ax.get_xlabel() == "lag time (ps)"
    assert "Å" in ax.get_ylabel()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["run 0", "run 1"]


def test_vanhove_and_hops() -> None:
    figure = plot_vanhove(runs(van_hove_self))
    assert [ax.get_title() for ax in figure.axes[:2]] == ["run 0", "run 1"]
    assert "Å$^{-1}$" in figure.axes[-1].get_ylabel()
    (ax,) = plot_hops(runs(hops)).axes
    assert "ever beyond 3 Å" in ax.get_ylabel()


def test_conductivity_with_gaps_and_bounds() -> None:
    nan = math.nan
    found = [Interval(2.0, 0.5, 1.0, 3.0), Interval(nan, nan, 0.0, 5.0), None, Interval(4.0, 0.5, 3.0, 5.0)]
    (ax,) = plot_over([0, 25, 50, 75], found, "inversion (%)", line=True).axes
    known = ax.containers[0].lines[0]
    assert known.get_xdata().tolist() == [0, 75]
    assert known.get_ydata().tolist() == [2.0, 4.0]
    bound = ax.containers[1].lines[0]
    assert (bound.get_xdata().tolist(), bound.get_ydata().tolist()) == ([25], [5.0])
    (gone,) = [line for line in ax.lines if line.get_label() == "no run"]
    assert gone.get_xdata().tolist() == [50]
    assert "mS cm$^{-1}$" in ax.get_ylabel()


def test_the_line_is_that_of_the_first_series() -> None:
    found = [Interval(v, 0.1, v - 0.2, v + 0.2) for v in (1.0, 2.0, 3.0, 9.0)]
    (ax,) = plot_over([0, 1, 2, 2], found, "x", "y", ["a", "a", "a", "b"], line=True).axes
    (fit,) = [line for line in ax.lines if str(line.get_label()).startswith("slope 1 ")]
    np.testing.assert_allclose(fit.get_ydata(), [1.0, 3.0])


def test_nothing_determined_is_still_a_figure() -> None:
    (ax,) = plot_over([0.0, 1.0], [None, None], "x", line=True).axes
    assert ax.get_xlabel() == "x"


@given(seeds, st.integers(4, 30))
def test_the_line_is_that_of_an_independent_fit(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, sigma = rng.random(n), rng.uniform(0.1, 1.0, n)
    y = 2.0 * x + 1.0 + rng.normal(size=n) * sigma
    slope, error, intercept = weighted_line(x, y, sigma)
    theirs, covariance = np.polyfit(x, y, 1, w=1 / sigma, cov="unscaled")
    assert (slope, intercept) == (pytest.approx(theirs[0]), pytest.approx(theirs[1]))
    # The larger of the error from sigma, and that scaled by the scatter about the line.
    scatter = ((y - np.polyval(theirs, x)) ** 2 / sigma**2).sum() / (n - 2)
    assert error == pytest.approx(math.sqrt(covariance[0, 0]) * max(1.0, math.sqrt(scatter)))


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(plot_msd(runs(msd), note="note"), tmp_path / folder / "msd")
    for name in ("msd.png", "msd.svg", "msd.pdf"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
