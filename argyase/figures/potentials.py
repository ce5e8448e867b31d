"""Figures of a potential beside its teacher: parity, scans of pairs, radial distributions, equations of state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from argyase.figures.style import COLOURS, new_figure, style

_FACES = (("energy", "energy", "eV/atom"), ("force", "force", "eV/Å"), ("stress", "stress", "GPa"))


def plot_parity(data: xr.Dataset) -> Figure:
    """Predictions over labels of all frames: energies, force and stress components.

    Parameters
    ----------
    data
        Of schema ``errors`` or ``fit``.
    """
    with style():
        figure = new_figure(6.8, 2.5)
        for ax, (name, label, unit) in zip(figure.subplots(1, 3), _FACES, strict=True):
            both = data[name].transpose(..., "source").values.reshape(-1, 2)
            both = both[np.isfinite(both).all(axis=1)]
            if len(both):
                ends = [both.min(), both.max()]
                ax.plot(ends, ends, color="0.6", lw=0.6)
                ax.plot(both[:, 0], both[:, 1], ".", ms=1.5, color=COLOURS[0], rasterized=True)
                rmse = float(np.sqrt(((both[:, 1] - both[:, 0]) ** 2).mean()))
                ax.set_title(f"RMSE {rmse:.3g} {unit}")
            ax.set(xlabel=f"{label} of the teacher ({unit})", ylabel=f"of the potential ({unit})")
    return figure


def _grid(count: int, width: float = 1.7, height: float = 1.5) -> tuple[Figure, list[Axes]]:
    columns = min(4, count)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows + 0.3)
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count].tolist()


def plot_scans(potential: xr.Dataset, teacher: xr.Dataset, top: float = 15.0) -> Figure:
    """Energies of two atoms alone over their distance; from `top` (eV) on not shown.

    Parameters
    ----------
    potential, teacher
        Of schema ``scan``.
    """
    with style():
        figure, axes = _grid(potential.sizes["pair"])
        for ax, pair in zip(axes, potential["pair"].values.tolist(), strict=True):
            lowest = 0.0
            for data, colour, label in ((teacher, COLOURS[1], "teacher"), (potential, COLOURS[0], "potential")):
                energy = data["energy"].sel(pair=pair)
                shown = energy.where(energy < top)
                lowest = min(lowest, float(shown.min()))
                ax.plot(data["r"], shown, color=colour, label=label, lw=1.0)
            ax.set(title=pair, ylim=(lowest - 0.5, top), xlim=(0.8, float(potential["r"].max())))
        axes[0].legend()
        figure.supxlabel("distance (Å)", fontsize=8)
        figure.supylabel("energy (eV)", fontsize=8)
    return figure


def plot_rdf(potential: xr.Dataset, teacher: xr.Dataset) -> Figure:
    """Radial distribution functions of dynamics with either.

    Parameters
    ----------
    potential, teacher
        Of schema ``rdf``.
    """
    with style():
        figure, axes = _grid(potential.sizes["pair"])
        for ax, pair in zip(axes, potential["pair"].values.tolist(), strict=True):
            ax.plot(teacher["r"], teacher["rdf"].sel(pair=pair), color=COLOURS[1], lw=1.0, label="teacher")
            ax.plot(potential["r"], potential["rdf"].sel(pair=pair), color=COLOURS[0], lw=1.0, label="potential")
            ax.set(title=pair, xlim=(1, 6), ylim=(0, None))
        axes[0].legend()
        figure.supxlabel("distance (Å)", fontsize=8)
        figure.supylabel("$g(r)$", fontsize=8)
    return figure


def plot_elasticity(crystals: Sequence[tuple[str, xr.Dataset, xr.Dataset]]) -> Figure:
    """Energies over volume, each less its minimum.

    Parameters
    ----------
    crystals
        Name, then datasets of schema ``elasticity`` of the potential and of the teacher.
    """
    with style():
        figure, axes = _grid(len(crystals))
        for ax, (name, potential, teacher) in zip(axes, crystals, strict=True):
            for data, colour, label in ((teacher, COLOURS[1], "teacher"), (potential, COLOURS[0], "potential")):
                energy = 1000 * (data["energy"] - data["equilibrium_energy"])
                ax.plot(data["volume"], energy, "o-", ms=2, lw=0.8, color=colour, label=label)
            ax.set_title(name, fontsize=6)
        axes[0].legend()
        figure.supxlabel("volume (Å$^3$/atom)", fontsize=8)
        figure.supylabel("energy above the minimum (meV/atom)", fontsize=8)
    return figure
