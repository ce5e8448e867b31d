"""The registry of calculators."""

import sys
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from argyase.calculators import ENGINES, calculator, identity
from argyase.errors import CalculatorError, ConfigError
from argyase.potentials.model_card import find_potential
from argyase.structures.argyrodite import argyrodite


def test_mtp_is_that_of_its_card() -> None:
    made = calculator("mtp", potential="LiPSCl-study")
    atoms = argyrodite(a=10.0)
    atoms.calc = made
    assert np.isfinite(atoms.get_potential_energy())
    assert made.results["grades"].shape == (52,)
    found = find_potential("LiPSCl-study")
    who = identity("mtp", potential="LiPSCl-study", threads=2)
    assert who["sha256"] == found.sha256
    assert set(who["repulsion"]) == set(found.repulsion)
    # Threads do not change what it is; the repulsion does.
    assert who == identity("mtp", potential="LiPSCl-study")
    assert who != identity("mtp", potential="LiPSCl-study", repulsion=False)


def test_any_factory() -> None:
    atoms = bulk("Cu")
    atoms.calc = calculator("ase.calculators.emt:EMT")
    again = bulk("Cu")
    again.calc = EMT()
    assert atoms.get_potential_energy() == again.get_potential_energy()
    who = identity("ase.calculators.lj:LennardJones", rc=5.0)
    assert who["settings"] == {"rc": 5.0}
    assert who["version"]
    assert who != identity("ase.calculators.lj:LennardJones", rc=6.0)


@pytest.mark.parametrize(
    ("name", "settings", "error", "said"),
    [
        ("vsap", {}, ConfigError, "known are mtp, lammps, sevennet, chgnet, and module:factory"),
        ("no.such.module:X", {}, CalculatorError, "cannot import no.such.module"),
        ("ase.calculators.emt:ETM", {}, ConfigError, "has no 'ETM'"),
        ("mtp", {"potental": "x"}, ConfigError, "calculator mtp: settings {'potental': 'x'}"),
        ("mtp", {}, ConfigError, "potential"),
    ],
)
def test_wrong_names(name: str, settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        calculator(name, **settings)


@pytest.mark.parametrize("name", [e for e in ENGINES if e not in ("mtp", "lammps")])
def test_what_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without it, whether or not this one has it.
    for module in {"sevennet": ("sevenn", "sevenn.util"), "chgnet": ("chgnet", "chgnet.model")}[name]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CalculatorError, match=rf"pip install 'argyase\[{name}\]'"):
        calculator(name)
