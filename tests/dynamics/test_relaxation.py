"""Atoms and cells at rest."""

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from argyase.dynamics.relaxation import Descent, relax
from argyase.errors import CalculatorError
from argyase.potentials.validation import equation_of_state


def test_relax_says_what_is_left() -> None:
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.4]])
    with pytest.raises(CalculatorError, match=r"Ar2: forces of .* after 2 steps, 1e-05 were asked for"):
        relax(atoms, LennardJones(rc=10.0), fmax=1e-5, steps=2)


def test_a_cell_finds_the_minimum_of_its_equation_of_state() -> None:
    atoms = bulk("Cu", cubic=True)
    expected = equation_of_state(atoms, EMT(), (0.98, 0.99, 1.0, 1.01, 1.02))
    squeezed = atoms.copy()
    squeezed.set_cell(atoms.cell.array @ np.diag([0.97, 1.0, 1.04]), scale_atoms=True)
    squeezed.rattle(0.05, seed=1)
    relaxed = relax(squeezed, EMT(), fmax=0.003, cell=True)
    # The fit of the equation of state to five volumes is good to 1e-4 of the volume; cubic again to the same.
    assert relaxed.get_volume() / 4 == pytest.approx(expected.volume, rel=1e-3)
    assert np.ptp(relaxed.cell.lengths()) < 5e-3
    assert np.abs(relaxed.get_stress()).max() < 1e-3
    kept = relax(squeezed, EMT(), fmax=0.03)
    np.testing.assert_array_equal(kept.cell.array, squeezed.cell.array)
    np.testing.assert_array_equal(squeezed.cell.lengths().round(6), (atoms.cell.lengths() * [0.97, 1, 1.04]).round(6))


class Mover(Calculator):
    """An engine that moves the atoms itself, as VASP does."""

    implemented_properties = ("energy", "forces")
    moves_atoms = True
    calls = 0

    def calculate(self, atoms: Atoms, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        Mover.calls += 1
        atoms.positions[:] = [1.0, 2.0, 3.0]
        self.atoms = atoms.copy()
        self.results = {"energy": -1.0, "forces": np.ones((len(atoms), 3))}


def test_what_moves_atoms_itself_is_called_once_and_believed_if_it_is_true() -> None:
    atoms = Atoms("Ar", cell=[9, 9, 9])
    relaxed = relax(atoms, Mover(), fmax=1.74)
    assert Mover.calls == 1
    np.testing.assert_array_equal(relaxed.positions, [[1.0, 2.0, 3.0]])
    with pytest.raises(CalculatorError, match=r"forces of 1\.73 eV/A after 1 steps, 1 were asked for"):
        relax(atoms, Mover(), fmax=1.0)


@pytest.mark.parametrize(
    ("force", "gradient", "rests"),
    [
        (0.03, None, True), (0.032, None, True), (0.04, None, False), (np.nan, None, False), (0.01, 0.03, True),
        (0.01, 0.04, False), (0.01, np.nan, False), (0.04, 0.0, False),
    ],
)  # fmt: skip
def test_at_rest_is_what_has_no_force_left(force: float, gradient: float | None, rests: bool) -> None:
    assert Descent(1, 0.03, force, gradient).at_rest == rests
