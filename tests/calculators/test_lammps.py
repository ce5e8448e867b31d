"""Any pair style of LAMMPS as an ASE calculator."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds

from argyase.calculators import calculator, identity
from argyase.errors import CalculatorError, ConfigError

ARGON = {
    "lines": ["pair_style lj/cut 7.0", "pair_coeff * * 0.0103 3.4", "pair_modify shift yes"],
    "species": ["Ar"],
}


@given(seeds, st.booleans())
@settings(max_examples=5, deadline=None)
def test_lennard_jones_is_that_of_ase(seed: int, skewed: bool) -> None:
    atoms = bulk("Ar", "fcc", 5.4, cubic=True) * (3, 3, 3)
    rng = np.random.default_rng(seed)
    strain = 0.05 * rng.normal(size=(3, 3)) if skewed else np.zeros((3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.1, rng=rng)
    results = []
    for engine in (calculator("lammps", **ARGON), LennardJones(epsilon=0.0103, sigma=3.4, rc=7.0)):
        atoms.calc = engine
        results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    # Sums of some 5000 pairs in another order; pressures go through LAMMPS' rounded constant, 1e-7 of them.
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-10)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-11)
    np.testing.assert_allclose(results[0][2], results[1][2], atol=1e-7 * np.abs(results[1][2]).max() + 1e-12)


def test_identities_tell_apart(tmp_path: object) -> None:
    assert identity("lammps", **ARGON) == identity("lammps", **ARGON)
    assert identity("lammps", **ARGON) != identity("lammps", lines=ARGON["lines"][:2], species=["Ar"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"species": []}, "name the chemical symbols"),
        ({"species": ["Ar", "Ar"]}, "given twice"),
        ({"lines": ["pair_coeff * * 1 1"]}, "the first line, and no other, must be a pair_style"),
        ({"lines": ["pair_style lj/cut 5.0", "shell rm"]}, "'shell rm': allowed are pair_style"),
    ],
)
def test_wrong_lines(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        calculator("lammps", **{**ARGON, **change})


def test_what_lammps_refuses() -> None:
    wrong = calculator("lammps", lines=["pair_style lj/kut 5.0"], species=["Ar"])
    with pytest.raises(CalculatorError, match=r"LAMMPS refuses 'pair_style lj/kut 5\.0'"):
        wrong.get_potential_energy(bulk("Ar", "fcc", 5.4, cubic=True))
    with pytest.raises(CalculatorError, match=r"species \['Kr'\]"):
        calculator("lammps", **ARGON).get_potential_energy(Atoms("Kr", cell=[5, 5, 5], pbc=True))
    with pytest.raises(CalculatorError, match="periodic"):
        calculator("lammps", **ARGON).get_potential_energy(Atoms("Ar", cell=[5, 5, 5]))
