"""Isosurfaces of the Li density with the framework around them, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.typing import NDArray

from argyase.figures.style import COLOURS, footnote, new_figure, style

Labelled = tuple[str, xr.Dataset]
Floats = NDArray[np.float64]

SURFACE = COLOURS[5]
ATOM_COLOURS = {"P": COLOURS[3], "S": COLOURS[4], "Cl": COLOURS[2], "Br": COLOURS[1], "I": COLOURS[6]}
_RADII = {"P": 0.35, "S": 0.45}
_RADIUS = 0.55  # of halides, A
_ELEVATION, _AZIMUTH = 14.0, -72.0  # of the eye, degrees
_SAME_SITE = 1.0  # A: copies of a site in a folded cell are nearer than this
_BOND = 2.5  # A: P-S
_FINE = 64  # grid points along an edge above which the grid is drawn as it is


def plot_density(runs: Sequence[Labelled], level: float = 0.5, note: str = "") -> Figure:
    """Isosurfaces of the Li density of several runs at one level, with cell edges, PS4 and the other anions.

    In a density that is averaged over unit cells (``fold``), a site that holds S in some and a halide in others has the
    mixed colour.

    Parameters
    ----------
    runs
        Labels and datasets of schema ``density``.
    level
        In multiples of the mean density of each.
    note
        Printed small under the figure.
    """
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    with style():
        figure = new_figure(2.25 * columns + (1.4 if columns < 3 else 0.0), 2.25 * rows + 0.45)
        present = set[str]()
        for n, (label, data) in enumerate(runs):
            ax = figure.add_subplot(rows, columns, n + 1, projection="3d")
            assert isinstance(ax, Axes3D)
            _draw(ax, data, level)
            ways = int((data["percolation_level"] >= level).sum())
            joined = {0: "isolated", 1: "goes on in 1 direction"}.get(ways, f"goes on in {ways} directions")
            last = data.sel(dimension=3)
            ends = [float(last[f"percolation_level{end}"]) for end in ("_low", "_high")]
            ax.set_title(f"{label}: {joined}\n(in 3 below {ends[0]:.2f} ... {ends[1]:.2f})", fontsize=7, pad=0)
            present |= set(data["species"].values.tolist())
        for name in (k for k in ATOM_COLOURS if k in present):
            figure.axes[0].plot([], [], "o", color=ATOM_COLOURS[name], ms=5, label=name)
        text = f"Li density at {level:g} times its mean"
        figure.axes[0].plot([], [], "s", color=SURFACE, ms=6, label=text)
        figure.legend(loc="outside upper center", ncols=len(present) + 1, handletextpad=0.2, columnspacing=1.2)
        footnote(figure, note)
    return figure


def _draw(ax: Axes3D, data: xr.Dataset, level: float) -> None:
    cell = data["cell"].values.astype(float)
    parts = [(isosurface(data, level), to_rgb(SURFACE))]
    parts += [(_tube(a @ cell, b @ cell, 0.06), (0.25, 0.25, 0.25)) for a, b in _edges()]
    places, colours, radii = _atoms(data, cell)
    parts += [(_sphere(p, r), c) for p, c, r in zip(places, colours, radii, strict=True)]
    phosphorus = [p for p, r in zip(places, radii, strict=True) if r == _RADII["P"]]
    sulphur = [p for p, r in zip(places, radii, strict=True) if r == _RADII["S"]]
    parts += [
        (_tube(p, s, 0.12), to_rgb(ATOM_COLOURS["S"])) for p, s in product(phosphorus, sulphur)
        if np.linalg.norm(p - s) < _BOND
    ]  # fmt: skip
    triangles = np.concatenate([mesh for mesh, _ in parts])
    base = np.concatenate([np.tile(colour, (len(mesh), 1)) for mesh, colour in parts])
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    size = np.linalg.norm(normals, axis=1)
    eye = _direction(_ELEVATION, _AZIMUTH)
    # All bodies are closed: what faces away is hidden.
    seen = (size > 0) & (normals @ eye > 0)
    normals = normals[seen] / size[seen, None]
    light = _direction(_ELEVATION + 35, _AZIMUTH - 30)
    half = (light + eye) / np.linalg.norm(light + eye)
    bright = 0.5 + 0.5 * np.clip(normals @ light, 0, 1)
    gloss = 0.25 * np.clip(normals @ half, 0, 1) ** 25
    shade = np.clip(base[seen] * bright[:, None] + gloss[:, None], 0, 1)
    bodies = Poly3DCollection(
        triangles[seen], facecolors=shade, edgecolors=shade, linewidths=0.15, rasterized=True, clip_on=False
    )
    ax.add_collection3d(bodies)
    ax.set_proj_type("ortho")
    ax.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    corners = np.array(list(product((0, 1), repeat=3))) @ cell
    low, high = corners.min(axis=0) - _RADIUS, corners.max(axis=0) + _RADIUS
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    ax.set_box_aspect(high - low, zoom=1.25)
    ax.set_axis_off()


def isosurface(data: xr.Dataset, level: float) -> Floats:
    """Triangles of the surface where the density has this multiple of its mean, (triangle, corner, xyz), A.

    Cut and closed at the faces of the cell; corners turn anticlockwise, seen from outside. None where the density is
    everywhere below, or above, the level.
    """
    from scipy.ndimage import zoom
    from skimage.measure import marching_cubes

    rho = data["density"].values.astype(float) / float(data["mean_density"])
    if max(rho.shape) <= _FINE:  # smoother to the eye, the same function
        rho = zoom(rho, 2, order=3, mode="grid-wrap", grid_mode=True)
    ticks = []
    for axis, n in enumerate(rho.shape):
        # Density at the two faces of the cell, then nothing beyond.
        face = (rho.take([0], axis) + rho.take([-1], axis)) / 2
        nothing = np.zeros_like(face)
        rho = np.concatenate([nothing, face, rho, face, nothing], axis)
        ticks.append(np.concatenate([[0, 0], (np.arange(n) + 0.5) / n, [1, 1]]))
    if not rho.max() > level:
        return np.empty((0, 3, 3))
    corners, faces, _, _ = marching_cubes(rho, level, gradient_direction="ascent")
    place = np.stack([np.interp(c, np.arange(len(t)), t) for c, t in zip(corners.T, ticks, strict=True)], axis=1)
    triangles = (place @ data["cell"].values)[faces]
    # Left-handed cells turn everything round.
    return np.asarray(triangles if np.linalg.det(data["cell"].values) > 0 else triangles[:, ::-1])


def _atoms(data: xr.Dataset, cell: Floats) -> tuple[list[Floats], list[tuple[float, float, float]], list[float]]:
    """Places (A), colours and radii of the framework, copies of a site as one, with the images on the faces."""
    fractions = data["framework"].values % 1.0
    symbols = data["species"].values.astype(str)
    left = np.ones(len(symbols), dtype=bool)
    places, colours, radii = list[Floats](), list[tuple[float, float, float]](), list[float]()
    while left.any():
        first = int(left.argmax())
        away = fractions - fractions[first]
        away -= np.round(away)
        here = left & (np.linalg.norm(away @ cell, axis=1) < _SAME_SITE)
        left &= ~here
        middle = (fractions[first] + away[here].mean(axis=0)) % 1.0
        mixed = np.mean([to_rgb(ATOM_COLOURS[s]) for s in symbols[here]], axis=0)
        radius = max(_RADII.get(s, _RADIUS) for s in symbols[here])
        near = [[0, 1] if f < 0.02 else [0, -1] if f > 0.98 else [0] for f in middle]
        for shift in product(*near):
            places.append((middle + shift) @ cell)
            colours.append((float(mixed[0]), float(mixed[1]), float(mixed[2])))
            radii.append(radius)
    return places, colours, radii


def _direction(elevation: float, azimuth: float) -> Floats:
    e, a = np.radians(elevation), np.radians(azimuth)
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def _edges() -> list[tuple[Floats, Floats]]:
    corners = [np.array(c, dtype=float) for c in product((0, 1), repeat=3)]
    return [(a, b) for a in corners for b in corners if (b - a).sum() == 1 and (b >= a).all()]


def _grid(points: Floats) -> Floats:
    """Triangles of a sheet of points (row, column, xyz)."""
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    return np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 3)


def _sphere(centre: Floats, radius: float) -> Floats:
    theta, phi = np.linspace(0, np.pi, 13)[:, None], np.linspace(0, 2 * np.pi, 25)[None, :]
    z = np.broadcast_to(np.cos(theta), (13, 25))
    return _grid(centre + radius * np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), z], axis=2))


def _tube(a: Floats, b: Floats, radius: float) -> Floats:
    along = (b - a) / np.linalg.norm(b - a)
    side = np.cross(along, [1.0, 0.0, 0.0] if abs(along[0]) < 0.9 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    phi = np.linspace(0, 2 * np.pi, 9)[:, None]
    ring = radius * (np.cos(phi) * side + np.sin(phi) * np.cross(along, side))
    # In short pieces, so that each is sorted by its own depth.
    steps = np.linspace(0, 1, max(2, int(np.linalg.norm(b - a) / 0.6)))
    return _grid(np.stack([a + t * (b - a) + ring for t in steps], axis=1))
