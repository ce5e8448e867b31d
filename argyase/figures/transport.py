"""Figures of Li transport: MSD, conductivity over inversion and entropy, van Hove maps, hops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from argyase.figures.marks import arrow_length, mark_bounds, mark_missing, mark_values
from argyase.figures.style import COLOURS, COLUMN, footnote, new_figure, style
from argyase.physics.intervals import Interval

Labelled = Sequence[tuple[str, xr.Dataset]]


def plot_msd(runs: Labelled, note: str = "") -> Figure:
    """MSD over lag with its standard error as a band; the lags of the fit are drawn thick.

    Parameters
    ----------
    runs
        Labels and datasets of schema ``msd``.
    note
        Printed small under the figure.
    """
    with style():
        figure = new_figure(COLUMN, 3.0)
        ax = figure.subplots()
        for n, (label, data) in enumerate(runs):
            colour = COLOURS[n % len(COLOURS)]
            half = data.isel(lag=slice(1, data.sizes["lag"] // 2))
            ax.plot(half.lag, half.msd, color=colour, lw=0.8, label=label)
            known = half.where(np.isfinite(half.msd_stderr), drop=True)
            ax.fill_between(
                known.lag, known.msd - known.msd_stderr, known.msd + known.msd_stderr, color=colour, alpha=0.25, lw=0
            )
            fit = data.where((data.lag >= data.fit_start) & (data.lag <= data.fit_stop), drop=True)
            ax.plot(fit.lag, fit.msd, color=colour, lw=2.2)
        ax.set(xscale="log", yscale="log", xlabel="lag time (ps)", ylabel="mean squared displacement (Å$^2$)")
        ax.legend(title="thick: lags of the fit", title_fontsize=6.5)
        footnote(figure, note)
    return figure


CONDUCTIVITY = "Li$^+$ conductivity (mS cm$^{-1}$)"


def plot_over(
    horizontal: ArrayLike,
    found: Sequence[Interval | None],
    xlabel: str,
    ylabel: str = CONDUCTIVITY,
    groups: Sequence[str] | None = None,
    line: bool = False,
    note: str = "",
) -> Figure:
    """A quantity with 95 % intervals over another; not determined: an arrow down from its bound; no run: a cross.

    Parameters
    ----------
    horizontal
        Value of each point on the horizontal axis.
    found
        The quantity there; None where there is no run.
    xlabel, ylabel
        Labels of the axes, with their units.
    groups
        Label of the series that each point belongs to.
    line
        Draw a weighted straight line through the points of the first series that are determined, if they are at three
        places or more, with the standard error of its slope.
    note
        Printed small under the figure.
    """
    x = np.asarray(horizontal, dtype=float)
    value, low, high = (
        np.array([math.nan if q is None else getattr(q, name) for q in found]) for name in ("value", "low", "high")
    )
    labels = np.array(groups if groups is not None else [""] * len(x))
    arrow = arrow_length(found)
    with style():
        figure = new_figure()
        ax = figure.subplots()
        for n, label in enumerate(dict.fromkeys(labels.tolist())):
            here = np.flatnonzero(labels == label)
            places, own, colour = x[here].tolist(), [found[i] for i in here.tolist()], COLOURS[n % len(COLOURS)]
            mark_values(ax, places, own, "o" if line else "o-", colour, label or None)
            mark_bounds(ax, places, own, arrow, colour)
        mark_missing(ax, x.tolist(), found)
        known = np.isfinite(value) & (labels == labels[0]) if len(labels) else np.isfinite(value)
        if line and len(np.unique(x[known])) > 2:
            slope, error, intercept = weighted_line(x[known], value[known], (high - low)[known] / 4)
            ends = np.array([x[known].min(), x[known].max()])
            text = f"slope {slope:.3g} ± {float(f'{error:.2g}'):g} (standard error)"
            ax.plot(ends, intercept + slope * ends, "--", color="0.4", lw=0.8, label=text)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.set_ylim(bottom=0)
        if entries := len(ax.get_legend_handles_labels()[1]):
            if entries > 2:  # beside the points, whatever they are
                ax.legend(loc="lower left", bbox_to_anchor=(-0.15, 1.0), ncols=2, fontsize=6, columnspacing=1.0)
            else:
                ax.legend()
        footnote(figure, note)
    return figure


def weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Slope, its standard error and intercept of a weighted straight line.

    The error is the larger of that from `sigma` and that from the scatter about the line (chi^2 per degree of freedom):
    points scatter by their disorder beyond their error bars.
    """
    w = 1 / sigma**2
    mean = (w * x).sum() / w.sum()
    spread = (w * (x - mean) ** 2).sum()
    slope = (w * (x - mean) * y).sum() / spread
    intercept = (w * y).sum() / w.sum() - slope * mean
    chi2 = (w * (y - intercept - slope * x) ** 2).sum() / max(1, len(x) - 2)
    return float(slope), float(np.sqrt(max(1.0, chi2) / spread)), float(intercept)


def plot_vanhove(runs: Labelled, r_max: float = 10.0, note: str = "") -> Figure:
    """Maps of 4 pi r^2 G_s(r, t), one a run, with one colour scale.

    Parameters
    ----------
    runs
        Labels and datasets of schema ``vanhove``.
    r_max
        Largest displacement shown, A.
    note
        Printed small under the figure.
    """
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    with style():
        figure = new_figure(2.2 * columns + 0.8, 1.9 * rows + 0.5)
        axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)).ravel()
        shown = [(label, data.sel(r=slice(0, r_max))) for label, data in runs]
        # Above the short-time rattling peak, which would leave no colour for the hops.
        top = max(float(d.radial_probability.where(d.r > 1.5).max()) for _, d in shown) or 1.0
        mesh = None
        for ax, (label, data) in zip(axes, shown, strict=False):
            mesh = ax.pcolormesh(
                data.lag, data.r, data.radial_probability.T, cmap="cividis", vmin=0, vmax=top, rasterized=True
            )
            ax.set(xscale="log", title=label)
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
        for n, ax in enumerate(axes[: len(shown)]):
            if n % columns == 0:
                ax.set_ylabel("displacement $r$ (Å)")
            if n + columns >= len(shown):
                ax.set_xlabel("lag time (ps)")
                ax.tick_params(labelbottom=True)
        assert mesh is not None
        bar = figure.colorbar(mesh, ax=axes.tolist(), extend="max", aspect=30)
        bar.set_label("$4\\pi r^2 G_s(r, t)$ (Å$^{-1}$)")
        footnote(figure, note)
    return figure


def plot_hops(runs: Labelled, note: str = "") -> Figure:
    """Fraction of ions that were ever beyond the threshold, over time."""
    with style():
        figure = new_figure()
        ax = figure.subplots()
        for n, (label, data) in enumerate(runs):
            ax.plot(data.time, data.cumulative_ever / int(data.ions), color=COLOURS[n % len(COLOURS)], label=label)
        threshold = float(runs[0][1].threshold)
        ax.set(xlabel="time (ps)", ylabel=f"Li ever beyond {threshold:g} Å (fraction)", ylim=(0, None))
        ax.margins(x=0)
        ax.legend()
        footnote(figure, note)
    return figure
