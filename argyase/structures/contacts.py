"""Atoms that are too near to each other to be meant."""

from __future__ import annotations

from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list

from argyase.errors import StructureError

FRACTION = 0.5
"""Of the sum of two covalent radii: no bond is that short, and no potential learned it."""


def check_contacts(atoms: Atoms) -> None:
    """Refuse a structure in which two atoms are nearer than half the sum of their covalent radii.

    Raises
    ------
    StructureError
        Names the nearest such pair, their distance and what is allowed.
    """
    radii = covalent_radii[atoms.numbers]
    reach = 2 * FRACTION * float(radii.max(initial=0.0))
    cell = complete_cell(atoms.cell)
    i, j, d = neighbour_list("ijd", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=max(reach, 1e-3))
    short = d / (radii[i] + radii[j])
    if len(short) and short.min() < FRACTION:
        n = int(short.argmin())
        a, b = int(i[n]), int(j[n])
        raise StructureError(
            f"structure: atoms {a} ({atoms.symbols[a]}) and {b} ({atoms.symbols[b]}) are {d[n]:.2f} A apart; below "
            f"{FRACTION * (radii[a] + radii[b]):.2f} A two atoms stand for one: check the file and its cell"
        )
