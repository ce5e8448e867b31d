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

from argyase.calculators import calculator
from argyase.dynamics.relaxation import relax
from argyase.errors import CalculatorError, StructureError
from argyase.potentials.validation import (
    Barrier,
    barrier,
    climb,
    equation_of_state,
    inward_fall,
    mismatch,
    nearest_pair,
    pair_scan,
    same_path,
)
from argyase.structures.argyrodite import argyrodite


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


def test_equation_of_state_with_mobile_ions_held() -> None:
    # With all atoms held it is the energy of the scaled crystal and nothing else.
    brass = bulk("Cu", cubic=True, a=3.6)
    brass.symbols[0] = "Pd"
    clamped = equation_of_state(brass, EMT(), held=["Cu", "Pd"])
    scaled = brass.copy()
    scaled.set_cell(brass.cell.array * 0.96, scale_atoms=True)
    scaled.calc = EMT()
    assert 4 * clamped.energies[0] == pytest.approx(scaled.get_potential_energy())
    # An argyrodite: never below the modulus of the crystal at rest, all atoms free, which here is of another quantity,
    # -V dp/dV by stresses at strains so small that no ion leaves its minimum. The measured excess is 0 to 12 %.
    potential = calculator("mtp", potential="LiPSCl-optB88-L10")
    rest = relax(argyrodite(0.0, 0.0, seed=0), potential, fmax=0.02, steps=3000, cell=True)
    rest = relax(rest, potential, fmax=0.002, steps=3000)
    held = equation_of_state(rest, potential, held=["Li"], fmax=0.005)
    volume, pressure = [], []
    for scale in (0.999, 1.001):
        strained = rest.copy()
        strained.set_cell(rest.cell.array * scale, scale_atoms=True)
        strained = relax(strained, potential, fmax=0.002, steps=3000)
        moved = (strained.get_scaled_positions() - rest.get_scaled_positions() + 0.5) % 1.0 - 0.5
        assert np.abs(moved).max() < 0.02
        volume.append(strained.get_volume())
        pressure.append(-strained.get_stress()[:3].mean())
    free = -rest.get_volume() * np.diff(pressure)[0] / np.diff(volume)[0] * 160.2177
    assert free <= held.bulk_modulus <= 1.2 * free


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


class Hills(Calculator):
    """Minima at all integers x, at 0 eV, between hills each of which is higher than the one before."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    @staticmethod
    def height(x):
        return (0.2 + 0.05 * x) * (1 - np.cos(2 * np.pi * x))

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, y, z = atoms.positions.T
        self.results["energy"] = float((self.height(x) + y**2 + z**2).sum())
        slope = 0.05 * (1 - np.cos(2 * np.pi * x)) + (0.2 + 0.05 * x) * 2 * np.pi * np.sin(2 * np.pi * x)
        self.results["forces"] = -np.stack([slope, 2 * y, 2 * z], axis=1)


def test_a_path_past_other_minima_is_cut_there() -> None:
    ends = [Atoms("H", [[x, 0.1, 0]], cell=[10, 10, 10]) for x in (0.0, 4.0)]
    path = barrier(*ends, Hills(), images=7, fmax=0.02)
    assert len(path.images) == 4 * 8 + 1
    hills = path.energies[:-1].reshape(4, 8)
    # Minima within fmax / 2 of rest, and summits within fmax, where the curvature is at least 0.2 (2 pi)^2 = 8 eV/A^2:
    # 0.02^2 / (2 x 8) = 3e-5 eV.
    np.testing.assert_allclose(hills[:, 0], 0.0, atol=5e-5)
    summits = [Hills.height(n + np.linspace(0, 1, 10001)).max() for n in range(4)]
    np.testing.assert_allclose(hills.max(axis=1), summits, atol=5e-5)
    assert path.forward == pytest.approx(summits[-1], abs=1e-4)


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


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_climb_is_the_largest_rise(energies: list[float]) -> None:
    rises = [b - a for n, a in enumerate(energies) for b in energies[n:]]
    assert climb(energies) == pytest.approx(max(rises), abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_one_path_however_it_is_written(seed: int) -> None:
    """Other numbers of the atoms, other images of them, begun at the other end: it is one path. Any of the three places
    elsewhere, or another energy, and it is not."""
    rng = np.random.default_rng(seed)
    rest = bulk("LiCl", "rocksalt", a=5.14, cubic=True)
    jump = np.linspace(0, 1, 5)[:, None, None] * np.eye(1, 8, 0).reshape(8, 1) * [2.57, 2.57, 0.0]
    images = [rest.copy() for _ in jump]
    for image, step in zip(images, jump, strict=True):
        image.positions += step
    energies = np.array([0.0, 0.2, 0.5, 0.3, 0.1])
    path = Barrier(images, energies, np.zeros((5, 8, 3)))

    order = rng.permutation(8)
    others = [image[order] for image in images]
    for image in others:
        image.positions += rng.integers(-2, 3, (8, 3)) @ rest.cell.array
        image.positions += rng.uniform(-0.1, 0.1, (8, 3))
    assert same_path(path, Barrier(others, energies + 0.005, path.forces))
    assert same_path(path, Barrier(others[::-1], energies[::-1] - energies[-1], path.forces))
    assert mismatch(images[0], others[0]) < 0.1 * np.sqrt(3)

    for station in (0, 2, 4):
        moved = [image.copy() for image in others]
        moved[station].positions[rng.integers(8)] += [0.0, 0.0, 0.9]
        assert not same_path(path, Barrier(moved, energies, path.forces))
    higher = energies + 0.05 * (energies == 0.5)
    assert not same_path(path, Barrier(others, higher, path.forces))


def test_forces_of_a_path_are_those_of_the_potential() -> None:
    start, end = (Atoms("H", [[x, 0, 0]], cell=[10, 10, 10]) for x in (-0.9, 1.1))
    path = barrier(start, end, TwoWells(), images=3, fmax=0.01)
    x = np.array([image.positions[0, 0] for image in path.images])
    np.testing.assert_allclose(path.forces[:, 0, 0], -1.2 * x * (x**2 - 1), atol=1e-12)
    assert path.displacements == pytest.approx([2.0], abs=0.02)  # ends at rest but for 0.005 eV/A
