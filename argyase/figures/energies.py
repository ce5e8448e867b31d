"""Figures of static energies: above the convex hull, and of Li on its sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from argyase.figures.style import COLOURS, footnote, new_figure, style

Labelled = tuple[str, xr.Dataset]

_WORDS = {
    "charged_site_energy": "energy of Li$^+$ on the site, no other Li (eV)",
    "lattice_site_energy": "energy of Li on the site of the full lattice (eV)",
}


def plot_hull(data: xr.Dataset, note: str = "") -> Figure:
    """Energies above the hull over inversion, a line for each x; with the free energies of one temperature beside.

    Parameters
    ----------
    data
        Of schema ``hull``; of its temperatures the first is drawn.
    note
        Printed small under the figure.
    """
    from argyase.structures.argyrodite import formula

    temperature = float(data["temperature"][0])
    free = data["free_energy_above_hull"].isel(temperature=0)
    with style():
        figure = new_figure(6.8, 2.6)
        left, right = figure.subplots(1, 2, sharey=True)
        for n, x in enumerate(data["x"].values.tolist()):
            colour = COLOURS[n % len(COLOURS)]
            for ax, values in ((left, data["energy_above_hull"]), (right, free)):
                line = values.sel(x=x).dropna("inversion")
                ax.plot(100 * line["inversion"], line, "o-", color=colour, label=formula(x))
        left.set(ylabel="above the hull (meV/atom)", title="energy, lowest ordering")
        right.set(title=f"with $-T\\Delta S_{{conf}}$, {temperature:g} K")
        for ax in (left, right):
            ax.set(xlabel="S/Cl site inversion (%)", xlim=(-4, 104))
            ax.axhline(0, color="0.6", lw=0.6)
        right.legend(fontsize=6)
        footnote(figure, note)
    return figure


def plot_site_energies(runs: Sequence[Labelled], note: str = "") -> Figure:
    """Densities of site energies of each kind of site, per site, a panel for each run; overlaps in the panels.

    Parameters
    ----------
    runs
        Labels and datasets of schema ``site_energies``, all of one quantity.
    note
        Printed small under the figure.
    """
    (quantity,) = {name for _, data in runs for name in _WORDS if name in data}
    low = min(float(data["energy"].where((data["density"] > 1e-2).any("kind")).min()) for _, data in runs)
    high = max(float(data["energy"].where((data["density"] > 1e-2).any("kind")).max()) for _, data in runs)
    with style():
        figure = new_figure(4.2, 1.05 * len(runs) + 0.7)
        axes = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (label, data) in zip(axes, runs, strict=True):
            for n, kind in enumerate(data["kind"].values.tolist()):
                line = data["density"].sel(kind=kind)
                ax.plot(data["energy"], line, color=COLOURS[n], label=kind)
                ax.fill_between(data["energy"], line, color=COLOURS[n], alpha=0.2, lw=0)
            overlaps = zip(data["pair"].values.tolist(), data["overlap"].values.tolist(), strict=True)
            words = "\n".join(["overlap", *(f"{pair}: {value:.2f}" for pair, value in overlaps)])
            ax.text(1.02, 0.95, words, transform=ax.transAxes, ha="left", va="top", fontsize=6)
            ax.text(0.015, 0.93, label, transform=ax.transAxes, ha="left", va="top")
            ax.set(ylim=(0, 1.08 * float(np.max(data["density"]))), xlim=(low, high))
        axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)  # peaks may be anywhere
        axes[-1].set_xlabel(_WORDS[quantity])
        figure.supylabel("density per site (1/eV)", fontsize=8)
        footnote(figure, note)
    return figure
