"""Isosurfaces: closed, of the right volume, the right way round; what is drawn says whether it goes on."""

import math

import numpy as np
import pytest
import xarray as xr

from argyase.figures.density import isosurface, plot_density
from argyase.schemas import DENSITY


def dataset(rho: np.ndarray, cell: np.ndarray, level: float) -> xr.Dataset:
    nan3 = [math.nan] * 3
    ends = {f"percolation_level{e}": [level] * 3 for e in ("", "_stderr", "_low", "_high")}
    barrier = {f"barrier{e}": nan3 for e in ("", "_stderr", "_low", "_high")}
    axes = {f"grid_{k}": (np.arange(n) + 0.5) / n for k, n in zip("abc", rho.shape, strict=True)}
    return DENSITY.dataset(
        density=rho, free_energy=rho, mean_density=rho.mean(), **ends, **barrier, **axes, axis_level=nan3,
        volume_fraction=[0.0], ion_fraction=[0.0], parts=[1], directions=[0], multiple=[1.0], cell=cell,
        framework=[[0.0, 0.0, 0.0], [0.01, 0.99, 0.0], [0.5, 0.5, 0.5]], species=["S", "Cl", "P"],
        temperature=600.0, smoothing=0.3, ions=1, dimension=[1, 2, 3], xyz=["x", "y", "z"],
    )  # fmt: skip


def ball(centre: tuple[float, float, float], n: int = 24) -> np.ndarray:
    """A density that falls with the periodic distance from a centre, in a unit cube."""
    ticks = (np.arange(n) + 0.5) / n
    away = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1) - centre
    return np.asarray(np.exp(-20 * ((away - np.round(away)) ** 2).sum(axis=-1)), dtype=np.float32)


@pytest.mark.parametrize("centre", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (0.0, 0.0, 0.0), (0.9, 0.1, 0.3)])
@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_the_surface_of_a_ball(centre: tuple[float, float, float], hand: float) -> None:
    cell = np.diag([8.0, 8.0, hand * 8.0])
    data = dataset(ball(centre), cell, 1.0)
    radius = 0.3
    t = isosurface(data, float(np.exp(-20 * radius**2)) / float(data["mean_density"]))
    # By the theorem of Gauss; of all pieces together, whatever faces of the cell cut it. One percent: the grid.
    normals = np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]) / 2
    volume = float((t.mean(axis=1) * normals).sum() / 3)
    assert volume == pytest.approx(4 / 3 * math.pi * (8 * radius) ** 3, rel=0.01)
    np.testing.assert_allclose(normals.sum(axis=0), 0.0, atol=1e-6)  # closed
    low, high = np.sort([np.zeros(3), np.diag(cell)], axis=0)
    assert (t >= low - 1e-9).all()
    assert (t <= high + 1e-9).all()


def test_no_surface_above_the_highest_density() -> None:
    assert len(isosurface(dataset(ball((0.5, 0.5, 0.5)), np.eye(3), 1.0), 1e6)) == 0


def test_the_panels_say_what_they_show() -> None:
    cell = 10.0 * np.eye(3)
    runs = [
        ("0 %", dataset(ball((0.5, 0.5, 0.5), 8), cell, 0.2)),
        ("50 %", dataset(ball((0.5, 0.5, 0.5), 8), cell, 1.4)),
    ]
    figure = plot_density(runs, level=0.5, note="a note")
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["0 %: isolated", "50 %: goes on in 3 directions"]
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words == ["P", "S", "Cl", "Li density at 0.5 times its mean"]
    assert all(len(ax.collections) == 1 for ax in figure.axes)
