"""Scans, equations of state and barriers, on potentials whose answers are known."""

from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st

from argyase.errors import CalculatorError, StructureError
from argyase.potentials.validation import barrier, equation_of_state, inward_fall, nearest_pair, pair_scan


def lennard_jones(r: np.ndarray) -> np.ndarray:
    return 4.0 * ((1.0 / r) ** 12 - (1.0 / r) ** 6)


def test_scan_of_two_atoms_is_their_potential() -> None:
    pair = Atoms("Ar2", [[0, 0, 0], [0.0, 0.9, 1.2]])
    calculator = LennardJones(sigma=1.0, epsilon=1.0, rc=50.0)
    r = np.arange(0.9, 2.0, 0.1)
    # The potential of ase is shifted by its value at 50 A: differences are not.
    np.testing.assert_allclose(pair_scan(pair, calculator, 0, 1, r), lennard_jones(r) - lennard_jones(1.5), rtol=1e-10)
    assert pair.positions[1].tolist() == [0.0, 0.9, 1.2]


def test_nearest_pair_sees_images() -> None:
    atoms = Atoms("LiSLi", [[0.2, 0, 0], [9.5, 0, 0], [4.0, 0, 0]], cell=[10, 10, 10], pbc=True)
    assert nearest_pair(atoms, "Li", "S") == (0, 1)
    assert nearest_pair(atoms, "S", "Li") == (1, 0)
    with pytest.raises(StructureError, match="P-S: no two such atoms within 8 A"):
        nearest_pair(atoms, "P", "S")


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.floats(0.5, 3.5))
def test_inward_fall_equals_the_definition(energies: list[float], start: float) -> None:
    r = np.linspace(1.0, 3.0, len(energies))
    pairs = [
        energies[outer] - energies[inner]
        for inner in range(len(r))
        for outer in range(inner, len(r))
        if r[outer] <= start + 1e-9
    ]
    depth, passed = inward_fall(r, energies, start)
    assert depth == pytest.approx(max(pairs, default=0.0), abs=1e-12)
    # Order does not matter, and what rises all the way has no fall.
    assert inward_fall(r[::-1], energies[::-1], start) == (depth, passed)
    assert inward_fall(r, np.sort(energies)[::-1], start)[0] == 0.0


def test_equation_of_state_of_copper() -> None:
    # Properties of copper in effective-medium theory: a = 3.61 A and B = 134 GPa (K. W. Jacobsen, P. Stoltze,
    # J. K. Norskov, Surf. Sci. 366, 394 (1996): fitted to experiment, 142 GPa and 3.61 A, within a few per cent).
    state = equation_of_state(bulk("Cu", cubic=True, a=3.58), EMT())
    assert (4 * state.volume) ** (1 / 3) == pytest.approx(3.60, abs=0.02)
    assert state.bulk_modulus == pytest.approx(137, rel=0.05)
    # And the second derivative of the energy: B = V d2E/dV2, by differences of 1e-3 (error 1e-5 of B), against a fit
    # over +-12 % of the volume, whose fourth-order terms are left out: 2 %.
    atoms = bulk("Cu", cubic=True, a=(4 * state.volume) ** (1 / 3))
    volume, energy = atoms.get_volume(), []
    for step in (-1e-3, 0.0, 1e-3):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + step) ** (1 / 3), scale_atoms=True)
        strained.calc = EMT()
        energy.append(strained.get_potential_energy())
    curvature = (energy[0] - 2 * energy[1] + energy[2]) / (1e-3 * volume) ** 2
    assert state.bulk_modulus == pytest.approx(volume * curvature * 160.2177, rel=0.02)
    assert state.energy <= state.energies.min() + 1e-6


def test_equation_of_state_refuses_an_edge() -> None:
    with pytest.raises(CalculatorError, match="lowest energy is at the edge"):
        equation_of_state(bulk("Cu", cubic=True, a=3.2), EMT())


class TwoWells(Calculator):
    """(x^2 - 1)^2 along x with height 0.3 eV, springs along y and z, for every atom."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, y, z = atoms.positions.T
        self.results["energy"] = float((0.3 * (x**2 - 1) ** 2 + y**2 + z**2).sum())
        self.results["forces"] = -np.stack([1.2 * x * (x**2 - 1), 2 * y, 2 * z], axis=1)


def test_barrier_of_two_wells() -> None:
    start = Atoms("H", [[-0.9, 0.1, 0]], cell=[10, 10, 10])
    end = Atoms("H", [[1.1, 0, 0.1]], cell=[10, 10, 10])
    steps: list[int] = []
    path = barrier(start, end, TwoWells(), images=3, fmax=0.01, report=steps.append)
    # The climbing image stops within fmax of the top, where the curvature is 1.2 eV/A^2: 0.01^2 / (2 x 1.2) = 4e-5 eV.
    assert path.forward == pytest.approx(0.3, abs=1e-4)
    assert path.backward == pytest.approx(0.3, abs=1e-4)
    assert len(path.images) == 5
    assert steps == sorted(steps)


def test_barrier_of_gold_on_aluminium() -> None:
    # The tutorial of ASE on nudged elastic bands: Au from hollow to hollow of Al(001), 0.37 eV with EMT, PW91: 0.35.
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in slab]))
    end = slab.copy()
    end[-1].x += slab.get_cell()[0, 0] / 2
    path = barrier(slab, end, EMT(), images=3)
    assert path.forward == pytest.approx(0.37, abs=0.01)
    assert path.energies[-1] == pytest.approx(0.0, abs=0.01)


class Ring(Calculator):
    """Least energy on a circle of radius 1 A, with minima at -x and +x: two ways round, lower by 0.2 eV below y = 0."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, y, z = atoms.positions.T
        radius = np.hypot(x, y)
        self.results["energy"] = float((5 * (radius - 1) ** 2 + 0.5 * y**2 + 0.1 * y**3 + z**2).sum())
        pull = 10 * (radius - 1) / radius
        self.results["forces"] = -np.stack([pull * x, pull * y + y + 0.3 * y**2, 2 * z], axis=1)


@pytest.mark.parametrize("side", [1, -1])
def test_barrier_goes_through_where_it_is_told(side: int) -> None:
    start, end = (Atoms("H", [[x, 0, 0]], cell=[10, 10, 10]) for x in (-1.0, 1.0))
    path = barrier(
        start, end, Ring(), images=5, fmax=0.005, ion=0, through=[[-0.7, side * 0.7, 0], [0.7, side * 0.7, 0]]
    )
    # The saddle lies on x = 0, where E(y) = 5 (|y| - 1)^2 + y^2 / 2 + y^3 / 10 is least.
    y = side * np.linspace(0.5, 1.5, 100001)
    expected = (5 * (np.abs(y) - 1) ** 2 + 0.5 * y**2 + 0.1 * y**3).min()
    assert path.forward == pytest.approx(expected, abs=1e-3)
    assert np.sign(path.images[3].positions[0, 1]) == side


def test_barrier_refuses() -> None:
    here = Atoms("H", [[-1.0, 0, 0]], cell=[10, 10, 10])
    near = Atoms("H", [[-0.7, 0, 0]], cell=[10, 10, 10])
    with pytest.raises(CalculatorError, match="same minimum"):
        barrier(here, near, TwoWells())
    with pytest.raises(StructureError, match="same atoms"):
        barrier(here, Atoms("He", [[1.0, 0, 0]], cell=[10, 10, 10]), TwoWells())
