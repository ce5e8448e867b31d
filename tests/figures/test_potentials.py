"""Parity of a potential with its labels: what is drawn are the data, and what is said of them is right."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection

from argyase.figures.potentials import plot_parity


def predictions(frames: int, atoms: int, stress: bool) -> xr.Dataset:
    """Labels, and predictions whose forces are 0.9 of them, with noise."""
    rng = np.random.default_rng(frames)
    energy, force, tensor = (
        rng.normal(-4.0, 0.1, frames),
        rng.normal(size=(frames * atoms, 3)),
        rng.normal(size=(frames, 6)),
    )
    said = {
        "energy": np.stack([energy, energy + rng.normal(0.0, 0.01, frames)], axis=-1),
        "force": np.stack([force, 0.9 * force + rng.normal(0.0, 0.1, force.shape)], axis=-1),
        "stress": np.stack([tensor if stress else np.full_like(tensor, np.nan), tensor + 0.2], axis=-1),
    }
    dims = {"energy": "frame", "force": "atom xyz", "stress": "frame voigt"}
    return xr.Dataset({name: ((*dims[name].split(), "source"), values) for name, values in said.items()})


def words(text: str) -> dict[str, float]:
    """Numbers of a panel by what they are."""
    rows = (line.replace("= ", "").split() for line in text.splitlines())
    return {row[0]: float(row[1]) for row in rows}


@pytest.mark.parametrize(("frames", "stress"), [(30, True), (300, False)])
def test_parity_draws_the_data(frames: int, stress: bool) -> None:
    data = predictions(frames, 10, stress)
    axes = plot_parity(data, "a note").axes
    assert len(axes) == 2 + stress  # no panel where there are no labels
    for ax, (name, unit, small, factor) in zip(
        axes, [("energy", "eV/atom", "meV/atom", 1e3), ("force", "eV/Å", "eV/Å", 1.0), ("stress", "GPa", "GPa", 1.0)],
        strict=False,
    ):  # fmt: skip
        label, found = data[name].values.reshape(-1, 2).T
        assert ax.get_xlabel() == f"{name} of the label ({unit})"
        diagonal, *dots = ax.lines
        np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
        if len(label) > 2000:
            (hexagons,) = (c for c in ax.collections if isinstance(c, PolyCollection))
            assert hexagons.get_array().sum() == len(label)  # all of them are in some hexagon
            assert ax.figure.get_supxlabel().startswith("a note Darker")
        else:
            np.testing.assert_array_equal(dots[0].get_xdata(), label)
            np.testing.assert_array_equal(dots[0].get_ydata(), found)
        # Printed with three digits.
        text = ax.texts[0].get_text()
        said = words(text)
        assert f" {small}\n" in text
        assert said["RMSE"] == pytest.approx(factor * np.sqrt(np.mean((found - label) ** 2)), rel=6e-3)
        assert said["MAE"] == pytest.approx(factor * np.mean(np.abs(found - label)), rel=6e-3)
        assert said["R"] == pytest.approx(np.corrcoef(label, found)[0, 1], abs=6e-5)
        assert said["n"] == len(label)
        # Least squares through the origin; sqrt(900) x 0.1 of noise leave an error of 0.003.
        assert ("slope" in said) == (name == "force")
        if name == "force":
            assert said["slope"] == pytest.approx(np.linalg.lstsq(label[:, None], found, rcond=None)[0][0], abs=6e-4)
            assert said["slope"] == pytest.approx(0.9, abs=0.012)
