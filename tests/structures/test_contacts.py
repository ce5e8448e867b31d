"""Structures in which two atoms stand for one."""

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from strategies import seeds

from argyase.errors import StructureError
from argyase.structures.argyrodite import argyrodite
from argyase.structures.contacts import check_contacts


@given(seeds)
def test_one_atom_too_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = argyrodite(0.0, 0.5)
    check_contacts(atoms)
    a, b = rng.choice(52, 2, replace=False)
    direction = rng.normal(size=3)
    # Across a face of the cell, too.
    shift = rng.integers(-1, 2, 3) @ atoms.cell.array
    atoms.positions[a] = atoms.positions[b] + 0.4 * direction / np.linalg.norm(direction) + shift
    with pytest.raises(StructureError, match=r"are 0\.40 A apart; below \d\.\d\d A two atoms stand for one"):
        check_contacts(atoms)


def test_molecules_and_single_atoms() -> None:
    check_contacts(Atoms("Li"))
    check_contacts(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    with pytest.raises(StructureError, match=r"atoms 0 \(H\) and 1 \(H\)"):
        check_contacts(Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]))
