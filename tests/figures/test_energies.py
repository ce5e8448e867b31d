"""Figures of hulls and site energies: what is drawn are the data."""

import numpy as np
import pytest

from argyase.figures.energies import plot_hull, plot_site_energies
from argyase.physics.hull import hull
from argyase.physics.site_energy import site_energies


def test_hull_draws_the_data() -> None:
    references = {"LiCl": -3.7, "Li2S": -4.0, "Li3PS4": -4.4}
    energy = np.array([[-4.1, -4.11, -4.09], [np.nan, -4.1, -4.12]])
    data = hull([0.0, 0.5], [0.0, 0.5, 1.0], energy, references, [400.0, 600.0])
    left, right = plot_hull(data, note="a note").axes
    assert left.get_xlabel() == "S/Cl site inversion (%)"
    assert "meV/atom" in left.get_ylabel()
    assert "400 K" in right.get_title()
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["Li6PS5Cl", "Li5.5PS4.5Cl1.5"]
    np.testing.assert_allclose(left.lines[0].get_ydata(), data["energy_above_hull"].values[0])
    assert left.lines[1].get_xdata().tolist() == [50, 100]
    np.testing.assert_allclose(right.lines[1].get_ydata(), data["free_energy_above_hull"].values[0, 1, 1:])


def test_site_energies_draw_the_data() -> None:
    rng = np.random.default_rng(1)
    kinds = ["T2"] * 5 + ["T4"] * 5 + ["T5"] * 5
    runs = []
    for name in ("charged_site_energy", "lattice_site_energy"):
        sites = dict.fromkeys(("T2", "T4", "T5"), 5)
        data = site_energies(name, rng.normal(size=15), kinds, np.ones(15), [0] * 15, [0] * 15, sites)
        runs.append((name, data))
    first, second = plot_site_energies([runs[0]] * 2).axes
    for ax in (first, second):
        for n, kind in enumerate(("T2", "T4", "T5")):
            np.testing.assert_allclose(ax.lines[n].get_ydata(), runs[0][1]["density"].sel(kind=kind))
    assert "no other Li (eV)" in second.get_xlabel()
    words = first.texts[0].get_text()
    assert f"T2-T4: {float(runs[0][1]['overlap'][0]):.2f}" in words
    with pytest.raises(ValueError, match="too many values"):  # never both in one figure
        plot_site_energies(runs)
