"""One look for all figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe-Ito: told apart by all kinds of colour vision, and in grey."""

COLUMN = 3.35
"""Width of a journal column, inches."""

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "errorbar.capsize": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "argyase",
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of argyase's figures."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float = COLUMN, height: float = 2.6) -> Figure:
    """An empty figure that needs no display; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def footnote(figure: Figure, note: str) -> None:
    """Print a small note under the figure, wrapped to its width."""
    if note:
        import textwrap

        text = "\n".join(textwrap.wrap(note, int(figure.get_figwidth() * 22)))
        figure.supxlabel(text, fontsize=5.5, color="0.35", x=0.01, ha="left")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` (300 dpi), ``stem.svg`` and ``stem.pdf``; the same figure gives the same bytes."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg, pdf = (stem.with_name(stem.name + suffix) for suffix in (".png", ".svg", ".pdf"))
    with style():
        figure.savefig(png, dpi=300, metadata={"Software": None})
        figure.savefig(svg, dpi=300, metadata={"Date": None})
        figure.savefig(pdf, dpi=300, metadata={"CreationDate": None})
    return [png, svg, pdf]
