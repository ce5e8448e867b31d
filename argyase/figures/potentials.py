"""Figures of a potential beside its teacher: parity, scans of pairs, radial distributions, equations of state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from argyase.figures.style import COLOURS, footnote, new_figure, style

_FACES = (
    ("energy", "energy", "eV/atom", "meV/atom", 1000.0, "frames"),
    ("force", "force", "eV/Å", "eV/Å", 1.0, "components"),
    ("stress", "stress", "GPa", "GPa", 1.0, "components"),
)
"""Variable, words and unit of the axes, unit of the errors and how many of it the other has, what is counted."""

_DOTS = 2000
"""More than these are drawn as their density, which keeps vector graphics small and shows where they are."""


def plot_parity(data: xr.Dataset, note: str = "") -> Figure:
    r"""Predictions over labels of all frames: energies, force and stress components (fig. S2 of the paper).

    In each panel the root mean square and the mean absolute error, the correlation coefficient R, the number n of what
    is compared, and of forces F and their predictions F' the slope

    .. math:: \sum F F' \Big/ \sum F F,

    which is below 1 where the potential is softer than what labelled the frames. No panel for what has no labels.

    Parameters
    ----------
    data
        Of schema ``errors`` or ``fit``.
    note
        Printed small under the figure.
    """
    panels = []
    for face in _FACES:
        both = data[face[0]].transpose(..., "source").values.reshape(-1, 2)
        both = both[np.isfinite(both).all(axis=1)]
        if len(both):
            panels.append((face, both))
    with style():
        figure = new_figure(2.35 * len(panels), 2.5)
        for ax, ((name, label, unit, small, factor, counted), both) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            edge = 0.05 * np.ptp(both) or 1.0
            ends = (both.min() - edge, both.max() + edge)
            ax.plot(ends, ends, color="0.6", lw=0.6)
            if len(both) <= _DOTS:
                ax.plot(both[:, 0], both[:, 1], ".", ms=2, mew=0, color=COLOURS[0])
            else:
                ax.hexbin(
                    both[:, 0], both[:, 1], gridsize=80, extent=(*ends, *ends), bins="log", mincnt=1, cmap="viridis_r",
                    lw=0,
                )  # fmt: skip
            difference = factor * (both[:, 1] - both[:, 0])
            said = [
                f"RMSE {np.sqrt((difference**2).mean()):.3g} {small}",
                f"MAE {np.abs(difference).mean():.3g} {small}",
            ]
            if len(both) > 1 and both.std(axis=0).all():
                said.append(f"R {np.corrcoef(both.T)[0, 1]:.4f}")
            if name == "force":
                said.append(f"slope {both.prod(axis=1).sum() / (both[:, 0] ** 2).sum():.3f}")
            said.append(f"n = {len(both)} {counted}")
            ax.text(0.04, 0.96, "\n".join(said), transform=ax.transAxes, va="top", fontsize=6)
            ax.set(xlabel=f"{label} of the label ({unit})", ylabel=f"of the potential ({unit})")
            ax.set(xlim=ends, ylim=ends, aspect="equal")
        if any(len(both) > _DOTS for _, both in panels):
            note = f"{note} Darker where there are more (logarithmic).".strip()
        footnote(figure, note)
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
        figure.supylabel("energy (meV/atom)", fontsize=8)
    return figure
