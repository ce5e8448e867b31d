"""Nernst-Einstein: a value by hand, scaling, and what is not determined."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import constants
from walks import brownian

from argyase.errors import StatisticsError
from argyase.physics.conductivity import conductivity, nernst_einstein
from argyase.physics.msd import msd


def test_by_hand_in_si_units() -> None:
    """24 Li in (10 A)^3 at 300 K with D = 1e-7 cm^2/s, all in SI: c e^2 D / (kB T)."""
    c, d = 24 / 1e-27, 1e-7 * 1e-4
    siemens_per_metre = c * constants.e**2 * d / (constants.k * 300.0)
    assert siemens_per_metre == pytest.approx(1.4875, rel=1e-4)
    assert nernst_einstein(1e-7, 24 / 1000, 300.0) == pytest.approx(10 * siemens_per_metre, rel=1e-12)


positive = st.floats(1e-3, 1e3)


@given(positive, positive, positive, positive)
def test_scaling(d: float, density: float, temperature: float, factor: float) -> None:
    base = nernst_einstein(d, density, temperature)
    assert nernst_einstein(factor * d, density, temperature) == pytest.approx(factor * base)
    assert nernst_einstein(d, factor * density, temperature) == pytest.approx(factor * base)
    assert nernst_einstein(d, density, factor * temperature) == pytest.approx(base / factor)
    assert nernst_einstein(d, density, temperature, charge=2.0) == pytest.approx(4 * base)


def test_the_interval_is_that_of_d() -> None:
    transport = msd(brownian(np.random.default_rng(0), 500, 24), 0.1)
    found = conductivity(transport, volume=1000.0, temperature=300.0)
    for end in ("", "_low", "_high", "_stderr"):
        expected = nernst_einstein(float(transport[f"diffusivity{end}"]), 0.024, 300.0)
        assert float(found[f"conductivity{end}"]) == pytest.approx(expected)
    assert found.conductivity.attrs["units"] == "mS cm-1"


def test_not_determined_keeps_its_bound() -> None:
    transport = msd(np.random.default_rng(0).normal(scale=0.2, size=(300, 10, 3)), 0.1)
    found = conductivity(transport, volume=1000.0, temperature=300.0)
    assert math.isnan(float(found.conductivity))
    assert float(found.conductivity_high) > 0
    assert found.attrs["not_determined"] == transport.attrs["not_determined"]


@pytest.mark.parametrize(("density", "temperature"), [(0.0, 300.0), (1.0, 0.0), (1.0, -5.0), (1.0, math.nan)])
def test_impossible_conditions(density: float, temperature: float) -> None:
    with pytest.raises(StatisticsError, match="must be positive"):
        nernst_einstein(1e-7, density, temperature)
