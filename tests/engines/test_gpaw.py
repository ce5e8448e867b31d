"""GPAW for real. Not part of the ordinary tests: `pip install '.[gpaw]'`, then `pytest tests/engines`."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from argyase.calculators import calculator, identity
from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError
from argyase.stages import label
from argyase.structures.argyrodite import argyrodite


def primitive() -> Atoms:
    """Ordered Li6PS5Cl, 13 atoms: of the cubic cell every fourth, by the centring translations."""
    cubic = argyrodite(0.0, 0.0, (1, 1, 1), decoration="ewald", a=10.0)
    cell = 5.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]])
    fractional = np.round(cubic.positions @ np.linalg.inv(cell), 6) % 1.0
    _, first = np.unique(np.round(fractional, 3) % 1.0, axis=0, return_index=True)
    framework = [n for n in sorted(first) if cubic.symbols[n] != "Li"]
    # The Li of the cubic cell break the centring: six of them, one of each doublet of one cage, as far apart as any.
    cage = cubic.arrays["cage"]
    lithium = [n for n in range(len(cubic)) if cubic.symbols[n] == "Li" and cage[n] == cage[cubic.symbols == "Li"][0]]
    chosen = [*lithium[:6], *framework]
    atoms = Atoms(cubic.symbols[chosen], cubic.positions[chosen], cell=cell, pbc=True)
    atoms.wrap()
    return atoms


def test_a_single_point_and_the_slope_of_its_energy() -> None:
    """Li6PS5Cl, PBE at Gamma: by the same numbers given to GPAW itself, and forces by differences of the energy."""
    from gpaw import GPAW, PW

    atoms = primitive()
    assert atoms.get_chemical_formula() == "ClLi6PS5"
    atoms.calc = calculator("gpaw", preset="aimd", energy_tolerance=1e-6)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    direct = Atoms(atoms)
    direct.calc = GPAW(
        mode=PW(350), xc="PBE", txt=None, occupations={"name": "fermi-dirac", "width": 0.05},
        convergence={"energy": {"name": "energy", "tol": 1e-6, "relative": False}},
    )  # fmt: skip
    # The same computation: equal but for the order of sums in threads.
    assert energy == pytest.approx(direct.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(forces, direct.get_forces(), atol=1e-5)
    n, axis = np.unravel_index(np.abs(forces).argmax(), forces.shape)
    slope = []
    for step in (0.01, -0.01):
        moved = Atoms(atoms)
        moved.positions[n, axis] += step
        moved.calc = calculator("gpaw", preset="aimd", energy_tolerance=1e-6)
        slope.append(moved.get_potential_energy(force_consistent=True))
    # Of third order in the step, and what is left of the self-consistency: some 1e-3 eV/A.
    assert forces[n, axis] == pytest.approx(-(slope[0] - slope[1]) / 0.02, abs=5e-3)


def test_charged_cells_have_that_many_electrons(tmp_path: Path) -> None:
    """One Li+ in the lattice of anions: closed shells, so a gap, and the charge that the site energies need."""
    atoms = primitive()
    lithium = np.flatnonzero(atoms.symbols == "Li")
    del atoms[lithium[1:]]  # P5+ 5 S2- Cl- and one Li+
    settings = {"preset": "site_energy", "ecut": 300.0, "k_density": 0.0, "charge": -5.0}
    atoms.calc = calculator("gpaw", **settings, log=str(tmp_path / "logs"))
    assert np.isfinite(atoms.get_potential_energy())
    # The 1s of Li is in the core. Two electrons in each band up to the gap.
    electrons = sum({"Li": 1, "P": 5, "S": 6, "Cl": 7}[s] for s in atoms.symbols) + 5
    (log,) = (tmp_path / "logs").iterdir()
    highest = re.search(r"Transition \(v -> c\):\s+\(s=0, k=0, n=(\d+)", log.read_text())
    assert highest
    assert 2 * (int(highest[1]) + 1) == electrons


def test_stress_by_differences_is_the_analytic_one() -> None:
    """Of PBE, where both are right: LiCl, compressed."""
    atoms = bulk("LiCl", "rocksalt", a=4.9)
    settings = {"preset": "aimd", "kpts": [2, 2, 2], "energy_tolerance": 1e-6}
    stresses = []
    for how in ("analytic", "differences"):
        atoms.calc = calculator("gpaw", **settings, stress=how)
        atoms.get_forces()
        first = atoms.calc._converged
        stresses.append(atoms.get_stress())
        assert atoms.calc._converged is first  # not computed twice
    analytic, differences = stresses
    assert analytic[0] < -0.01
    # Pulay stress of 350 eV, which differences at fixed plane waves do not have, is some 2 %.
    np.testing.assert_allclose(differences, analytic, atol=0.05 * abs(analytic[0]))


def test_what_does_not_converge_is_no_label(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    config = label.Config(frames=("",), calculator="gpaw", settings=("preset=aimd", "maxiter=3", f"log={tmp_path}"))
    path = tmp_path / "licl.extxyz"
    bulk("LiCl", "rocksalt", a=5.1).write(path)
    with pytest.raises(CalculatorError, match=rf"not converged in 3 cycles .*; see {tmp_path}/ClLi-\w+\.txt"):
        label.run(replace(config, frames=(str(path),)), lake)


def test_a_molecule_without_a_cell() -> None:
    with pytest.raises(CalculatorError, match="plane waves need a cell"):
        calculator("gpaw").get_potential_energy(Atoms("LiCl", [[0, 0, 0], [0, 0, 2.0]]))


def test_van_der_waals_labels_have_no_stress() -> None:
    assert "stress" not in calculator("gpaw").implemented_properties
    assert identity("gpaw")["xc"] == "optB88-vdW"
