"""Energies above the hull: by hand, and by linear programming."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import constants
from scipy.optimize import linprog
from strategies import seeds

from argyase.errors import StatisticsError
from argyase.physics.hull import decompose, hull, reaction_energy

STABLE = {"Li": -1.9, "P": -5.4, "S": -4.1, "LiCl": -3.7, "Li2S": -4.0, "Li3PS4": -4.4}
CONTENT = {
    "Li": (1, 0, 0, 0), "P": (0, 1, 0, 0), "S": (0, 0, 1, 0), "LiCl": (1, 0, 0, 1), "Li2S": (2, 0, 1, 0),
    "Li3PS4": (3, 1, 4, 0),
}  # fmt: skip


def content(x: float) -> tuple[float, ...]:
    return (6 - x, 1.0, 5 - x, 1 + x)


def above_by_linear_programming(
    energies: dict[str, float], contents: dict[str, tuple[float, ...]], whole: tuple[float, ...], energy: float
) -> float:
    """Energy per formula unit, less the least that any mixture of the same content has."""
    names = list(energies)
    cost = [energies[n] * sum(contents[n]) for n in names]
    lowest = linprog(cost, A_eq=np.array([contents[n] for n in names]).T, b_eq=whole, bounds=(0, None))
    assert lowest.success
    return energy * sum(whole) - float(lowest.fun)


@given(st.floats(0, 1), st.floats(-0.5, 0.5))
def test_argyrodites_are_three_compounds_exactly(x: float, per_unit: float) -> None:
    """Li6-xPS5-xCl1+x = Li3PS4 + (1 - x) Li2S + (1 + x) LiCl: the energy is put above by hand, and found."""
    parts = np.array([1.0, 1 - x, 1 + x])
    np.testing.assert_allclose(parts @ np.array([CONTENT[n] for n in ("Li3PS4", "Li2S", "LiCl")]), content(x))
    energy = (parts @ [8 * -4.4, 3 * -4.0, 2 * -3.7] + per_unit) / (13 - x)
    assert float(reaction_energy(x, energy, STABLE)) * (13 - x) == pytest.approx(per_unit, abs=1e-9)


@settings(max_examples=10)
@given(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(-0.5, 0.5), st.booleans())
def test_decomposition_by_hand(x: float, per_unit: float, elements: bool) -> None:
    energy = (8 * -4.4 + 3 * (1 - x) * -4.0 + 2 * (1 + x) * -3.7 + per_unit) / (13 - x)
    references = {k: v for k, v in STABLE.items() if elements or k not in ("Li", "P", "S")}
    data = hull([x], [1.0], [[energy]], references, temperatures=[])
    amounts = dict(zip(references, data["reference_amount"].values[0, 0].tolist(), strict=True))
    for name, amount in (("Li3PS4", 1.0), ("Li2S", 1 - x), ("LiCl", 1 + x)):
        # pymatgen drops amounts below 1e-5 of the atoms or so.
        assert amounts.pop(name) == pytest.approx(amount, abs=1e-4)
    assert all(value == 0 for value in amounts.values())
    assert float(data["energy_above_references"][0, 0]) == pytest.approx(1000 * per_unit / (13 - x), abs=1e-3)
    assert float(data["reaction_energy"][0, 0]) == pytest.approx(1000 * per_unit / (13 - x), abs=1e-6)
    stable = per_unit < -1e-6
    assert float(data["energy_above_hull"][0, 0]) == pytest.approx(
        0 if stable else 1000 * per_unit / (13 - x), abs=1e-3
    )
    own = float(data["amount"][0, 0, -1])
    if abs(per_unit) > 1e-3:
        assert own == pytest.approx(1.0 if stable else 0.0)


@settings(max_examples=8)
@given(seeds)
def test_any_energies_by_linear_programming(seed: int) -> None:
    """Whatever is stable: elements, some of the compounds, some of the argyrodites."""
    rng = np.random.default_rng(seed)
    references = {k: v + rng.normal(scale=0.1) for k, v in STABLE.items()}
    x, y = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0])
    energy = np.where(y[None, :] >= x[:, None], -4.15 + rng.normal(scale=0.05, size=(3, 3)), np.nan)
    data = hull(x, y, energy, references, temperatures=[500.0])
    entropy = data["configurational_entropy"].values
    kt = constants.k / constants.e * 500.0
    for temperature in (0, 1):
        free = energy - temperature * kt * entropy / (13 - x)[:, None]
        everything, contents = dict(references), dict(CONTENT)
        for i, j in np.argwhere(np.isfinite(energy)):
            everything[f"{i}{j}"], contents[f"{i}{j}"] = free[i, j], content(x[i])
        found = data["free_energy_above_hull"][0] if temperature else data["energy_above_hull"]
        for i, j in np.argwhere(np.isfinite(energy)):
            expected = above_by_linear_programming(everything, contents, content(x[i]), free[i, j]) / (13 - x[i])
            # meV; both solve to 1e-8 eV or so.
            assert float(found[i, j]) == pytest.approx(1000 * expected, abs=1e-3)
            assert float(found[i, j]) > -1e-3
    for i, j in np.argwhere(np.isfinite(energy)):
        alone = above_by_linear_programming(references, CONTENT, content(x[i]), energy[i, j]) / (13 - x[i])
        assert float(data["energy_above_references"][i, j]) == pytest.approx(1000 * alone, abs=1e-3)
        # What it decomposes into has its atoms.
        names = list(references)
        made = data["reference_amount"].values[i, j] @ np.array([CONTENT[n] for n in names])
        np.testing.assert_allclose(made, content(x[i]), atol=2e-3)
    assert np.isnan(data["energy_above_hull"].values[np.isnan(energy)]).all()


def test_entropy_lowers_disorder_only() -> None:
    energy = [[-4.10, -4.09, -4.10]]
    data = hull([0.0], [0.0, 0.5, 1.0], energy, STABLE, temperatures=[0.0, 600.0])
    zero, hot = data["free_energy_above_hull"].values[:, 0]
    np.testing.assert_allclose(zero, data["energy_above_hull"].values[0], atol=1e-9)
    # -T dS = kB T 2 ln 2 / 13 per atom, both unstable here against the compounds.
    lowered = 1000 * constants.k / constants.e * 600 * 2 * math.log(2) / 13
    np.testing.assert_allclose(zero - hot, [0, lowered, 0], atol=1e-6)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(StatisticsError, match="Li2S is missing among the phases"):
        decompose([("LiCl", "LiCl", -3.7), ("Li3PS4", "Li3PS4", -4.4)], [])
    known = [(n, n, STABLE[n]) for n in ("LiCl", "Li2S", "Li3PS4")]
    with pytest.raises(StatisticsError, match="P2S5 is no mixture of Li3PS4, Li2S, LiCl"):
        decompose(known, [("P2S5", "P2S5", -4.6)])
