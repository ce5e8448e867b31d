"""Figures of radial distributions in dynamics."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from argyase.figures.style import COLOURS, footnote, new_figure, style


def plot_coordination(runs: Sequence[tuple[str, xr.Dataset]], pair: str, r_max: float = 6.0, note: str = "") -> Figure:
    """Radial distribution of one pair in several runs, with its standard error as a band.

    Parameters
    ----------
    runs
        Labels and datasets of schema ``coordination``.
    pair
        Such as ``Li-Cl(4d)``.
    r_max
        Largest distance shown, A.
    note
        Printed small under the figure.
    """
    with style():
        figure = new_figure()
        ax = figure.subplots()
        for n, (label, data) in enumerate(runs):
            line = data.sel(pair=pair, r=slice(0, r_max))
            ax.plot(line["r"], line["rdf"], color=COLOURS[n], label=label)
            ends = (line["rdf"] - line["rdf_stderr"], line["rdf"] + line["rdf_stderr"])
            ax.fill_between(line["r"], *ends, color=COLOURS[n], alpha=0.3, lw=0)
        ax.set(xlabel="distance (Å)", ylabel=f"$g(r)$, {pair}", xlim=(1.5, r_max), ylim=(0, None))
        ax.legend()
        footnote(figure, note)
    return figure
