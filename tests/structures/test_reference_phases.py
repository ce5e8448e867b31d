"""Bond lengths, coordination, density and symmetry of the reference phases."""

import numpy as np
import pytest
import spglib
from matscipy.neighbours import neighbour_list

from argyase.errors import StructureError
from argyase.structures.reference_phases import REFERENCE_PHASES, reference_phase

# Space group, formula of the cell, density (g/cm3) and, for each pair of species: neighbours of an atom of the first
# within a distance (A), the shortest and the longest. Textbook values: CRC Handbook (densities; of black P and of
# Li3PS4 from the X-ray cells of the papers named in the module); S-S 2.04-2.06 A in S8, P-P 2.22-2.24 A in black P,
# P-S 2.03-2.08 A in PS4 (here up to 2.13: the published coordinates of gamma-Li3PS4 are of a powder), Li-Cl a/2, Li-S
# sqrt(3) a/4.
KNOWN = {
    "Li": (229, "Li2", 0.534, [("Li", "Li", 3.2, 8, 3.04, 3.04)]),
    "P": (64, "P8", 2.70, [("P", "P", 2.5, 3, 2.22, 2.25)]),
    "S": (70, "S128", 2.07, [("S", "S", 2.4, 2, 2.03, 2.06)]),
    "LiCl": (225, "Cl4Li4", 2.07, [("Li", "Cl", 3.0, 6, 2.57, 2.57)]),
    "Li2S": (225, "Li8S4", 1.64, [("Li", "S", 3.0, 4, 2.472, 2.473), ("S", "Li", 3.0, 8, 2.472, 2.473)]),
    "Li3PS4": (31, "Li6P2S8", 1.93, [("P", "S", 2.5, 4, 2.02, 2.13), ("Li", "S", 2.9, 4, 2.3, 2.6)]),
}


def test_all_are_known() -> None:
    assert set(KNOWN) == set(REFERENCE_PHASES)


@pytest.mark.parametrize("name", REFERENCE_PHASES)
def test_crystal(name: str) -> None:
    group, formula, density, bonds = KNOWN[name]
    atoms = reference_phase(name)
    assert atoms.get_chemical_formula("hill") == formula
    data = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    assert data.number == group
    # Cells of X-ray diffraction at room temperature against tabulated densities: 1 %.
    assert atoms.get_masses().sum() / atoms.get_volume() * 1.66053907 == pytest.approx(density, rel=0.01)
    symbols = np.array(atoms.get_chemical_symbols())
    for centre, other, reach, coordination, shortest, longest in bonds:
        i, j, d = neighbour_list("ijd", atoms, reach)
        chosen = (symbols[i] == centre) & (symbols[j] == other)
        assert (np.bincount(i[chosen], minlength=len(atoms))[symbols == centre] == coordination).all()
        assert shortest - 5e-3 < d[chosen].min() <= d[chosen].max() < longest + 5e-3


def test_supercells() -> None:
    atoms = reference_phase("Li3PS4", (2, 1, 3))
    assert len(atoms) == 16 * 6
    assert atoms.info["formula"] == "Li3PS4"
    assert (np.diff(atoms.numbers) >= 0).all()


def test_wrong_requests() -> None:
    with pytest.raises(StructureError, match="allowed are Li, P, S, LiCl"):
        reference_phase("Cl")
    with pytest.raises(StructureError, match="three whole numbers"):
        reference_phase("Li", (0, 1, 1))
