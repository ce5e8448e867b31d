"""Quantities over the composition x and the S/halide inversion: ranges, maps, and the series with added Li."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from argyase.figures.marks import arrow_length, mark_bounds, mark_missing, mark_values
from argyase.figures.style import COLOURS, footnote, new_figure, style
from argyase.physics.intervals import Interval

_MAP = "cividis"


class Point(NamedTuple):
    """A quantity at one composition and inversion; `found` is None where there is no run."""

    x: float
    inversion: float
    found: Interval | None


def plot_ranges(points: Sequence[Point], ylabel: str, note: str = "") -> Figure:
    """A quantity over x: a bar from the lowest to the highest inversion's value, and every inversion as a point.

    A value that is not determined is an arrow down from its bound; a point without a run is a cross at the bottom.

    Parameters
    ----------
    points
        Of all x and inversions that were planned.
    ylabel
        Quantity with its unit.
    note
        Printed small under the figure.
    """
    with style():
        figure = new_figure()
        ax = figure.subplots()
        width = 0.5 * _step([p.x for p in points])
        shown = [(p.x, p.inversion, p.found) for p in points if p.found is not None]
        known = [(x, y, q) for x, y, q in shown if math.isfinite(q.value)]
        for x in sorted({x for x, _, _ in known}):
            values = [q.value for other, _, q in known if other == x]
            ax.bar(x, max(values) - min(values), width, min(values), color="0.85", edgecolor="0.6", lw=0.5, zorder=0)
        for x, _, q in known:
            if q.high > q.low:
                ax.plot([x, x], [q.low, q.high], "-", color="0.3", lw=0.7, zorder=1)
        if known:
            dots = ax.scatter(
                [x for x, _, _ in known], [q.value for _, _, q in known], c=[100 * y for _, y, _ in known],
                cmap=_MAP, vmin=0, vmax=100, s=14, edgecolors="k", linewidths=0.3, zorder=2,
            )  # fmt: skip
            figure.colorbar(dots, ax=ax, aspect=30).set_label("S/halide inversion (%)")
        places, found = [p.x for p in points], [p.found for p in points]
        mark_bounds(ax, places, found, arrow_length(found), "k", "upper bound")
        mark_missing(ax, places, found)
        ax.set(xlabel="$x$ in Li$_{6-x}$PS$_{5-x}$Cl$_{1+x}$", ylabel=ylabel)
        ax.set_ylim(bottom=0)
        if ax.get_legend_handles_labels()[1]:
            ax.legend()
        footnote(figure, note)
    return figure


def plot_map(points: Sequence[Point], label: str, note: str = "") -> Figure:
    """A quantity over x and inversion: a heat map with its values, and beside it contours.

    A cell with a bound says so, one without a run is hatched; contours are drawn only between points that are
    determined, by linear interpolation.

    Parameters
    ----------
    points
        Of all x and inversions that were planned.
    label
        Quantity with its unit.
    note
        Printed small under the figure.
    """
    xs, ys = sorted({p.x for p in points}), sorted({p.inversion for p in points})
    value = np.full((len(ys), len(xs)), np.nan)
    for p in points:
        if p.found is not None:
            value[ys.index(p.inversion), xs.index(p.x)] = p.found.value
    with style():
        figure = new_figure(6.8, 2.9)
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        low, high = (float(f(value)) for f in (np.nanmin, np.nanmax)) if np.isfinite(value).any() else (0.0, 1.0)
        edges = [_edges(np.array(ticks)) for ticks in (xs, [100 * y for y in ys])]
        mesh = left.pcolormesh(*edges, value, cmap=_MAP, vmin=low, vmax=high, rasterized=False)
        few = len(xs) <= 6 and len(ys) <= 6  # room for numbers
        for p in points:
            i, j = xs.index(p.x), ys.index(p.inversion)
            corner, size = (edges[0][i], edges[1][j]), (np.diff(edges[0])[i], np.diff(edges[1])[j])
            if p.found is None:
                left.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor="0.6", hatch="////", lw=0))
            elif not math.isfinite(p.found.value):
                left.text(p.x, 100 * p.inversion, f"<{p.found.high:.3g}", ha="center", va="center", fontsize=5.5)
            elif few:
                half = (p.found.high - p.found.low) / 2
                text = f"{p.found.value:.4g}" + (f"\n±{float(f'{half:.2g}'):g}" if half > 0 else "")
                dark = p.found.value < (low + high) / 2
                left.text(
                    p.x, 100 * p.inversion, text, ha="center", va="center", fontsize=5.5, color="w" if dark else "k"
                )
        triangles = _between(points)
        if triangles is not None and high > low:
            place, known = triangles
            levels = np.linspace(low, high, 9)
            right.tricontourf(place, known, levels, cmap=_MAP, vmin=low, vmax=high)
            right.tricontour(place, known, levels, colors="k", linewidths=0.4)
        for ax in (left, right):
            ax.set(xlabel="$x$ in Li$_{6-x}$PS$_{5-x}$Cl$_{1+x}$", xlim=(edges[0][0], edges[0][-1]))
            ax.plot([0, 1], [0, 100], ":", color="0.4", lw=0.8)
        right.plot([p.x for p in points if p.found], [100 * p.inversion for p in points if p.found], "k.", ms=3)
        gone = [p for p in points if p.found is None]
        right.plot([p.x for p in gone], [100 * p.inversion for p in gone], "x", color="0.5", ms=4)
        left.set(ylabel="S/halide inversion (%)", ylim=(edges[1][0], edges[1][-1]))
        figure.colorbar(mesh, ax=[left, right], aspect=30).set_label(label)
        footnote(figure, note)
    return figure


def plot_added(series: Sequence[tuple[str, Sequence[Point]]], ylabel: str, note: str = "") -> Figure:
    """A quantity over x of the Li-deficient and the Li-added series, and below it the configurational entropy.

    Parameters
    ----------
    series
        Name and points of each.
    ylabel
        Quantity with its unit.
    note
        Printed small under the figure.
    """
    from argyase.structures.entropy import configurational_entropy

    with style():
        figure = new_figure(3.35, 3.6)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        arrow = arrow_length([p.found for _, points in series for p in points])
        for n, (name, points) in enumerate(series):
            places, found = [p.x for p in points], [p.found for p in points]
            mark_values(ax, places, found, "os"[n % 2] + "-", COLOURS[n], name)
            mark_bounds(ax, places, found, arrow, COLOURS[n])
            mark_missing(ax, places, found)
        where = sorted({(p.x, p.inversion) for _, points in series for p in points})
        below.plot(
            [x for x, _ in where], [float(configurational_entropy(x, y)) for x, y in where], "o-", color="k", lw=0.8
        )
        below.set(xlabel="$x$", ylabel="$\\Delta S_{conf}$ ($R$)", ylim=(-0.05, 1.5))
        ax.set(ylabel=ylabel)
        ax.set_ylim(bottom=0)
        ax.legend()
        footnote(figure, note)
    return figure


def _step(values: Sequence[float]) -> float:
    ticks = np.unique(values)
    return float(np.diff(ticks).min()) if len(ticks) > 1 else 1.0


def _edges(ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders half way between the ticks."""
    if len(ticks) == 1:
        return np.array([ticks[0] - 0.5, ticks[0] + 0.5])
    middle = (ticks[1:] + ticks[:-1]) / 2
    return np.concatenate([[2 * ticks[0] - middle[0]], middle, [2 * ticks[-1] - middle[-1]]])


def _between(points: Sequence[Point]) -> tuple[Triangulation, NDArray[np.float64]] | None:
    """Triangles between points that are neighbours in the plan, those with an undetermined corner masked; values."""
    away = np.array([(p.x - points[0].x, p.inversion - points[0].inversion) for p in points]).reshape(-1, 2)
    if np.linalg.matrix_rank(away, tol=1e-6) < 2:  # on a line
        return None
    value = np.array([math.nan if p.found is None else p.found.value for p in points])
    place = Triangulation([p.x for p in points], [100 * p.inversion for p in points])
    place.set_mask(~np.isfinite(value[place.triangles]).all(axis=1))
    if place.mask is not None and place.mask.all():
        return None
    return place, np.where(np.isfinite(value), value, 0.0)
