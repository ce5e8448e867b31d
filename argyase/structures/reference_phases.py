"""Crystals beside the argyrodites: the elements, and what argyrodites are made of and decompose into.

Hull: Li6-xPS5-xCl1+x = Li3PS4 + (1 - x) Li2S + (1 + x) LiCl.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal

from argyase.errors import StructureError


@dataclass(frozen=True)
class _Phase:
    spacegroup: int
    cell: tuple[float, float, float]  # of orthogonal axes, A
    sites: tuple[tuple[str, tuple[float, float, float]], ...]
    setting: int = 1


_PHASES = {
    # bcc; ASM handbook
    "Li": _Phase(229, (3.51, 3.51, 3.51), (("Li", (0, 0, 0)),)),
    # black phosphorus, Cmce: A. Brown, S. Rundqvist, Acta Cryst. 19, 684 (1965)
    "P": _Phase(64, (3.314, 10.478, 4.376), (("P", (0, 0.1017, 0.0806)),)),
    # alpha-S8, Fddd: S. J. Rettig, J. Trotter, Acta Cryst. C 43, 2260 (1987)
    "S": _Phase(
        70,
        (10.4646, 12.8660, 24.4860),
        (
            ("S", (0.8554, 0.9526, 0.9516)),
            ("S", (0.7844, 0.0301, 0.0763)),
            ("S", (0.7069, 0.9795, 0.0040)),
            ("S", (0.7862, 0.9073, 0.1290)),
        ),
        setting=2,
    ),
    "LiCl": _Phase(225, (5.14, 5.14, 5.14), (("Li", (0, 0, 0)), ("Cl", (0.5, 0.5, 0.5)))),
    "Li2S": _Phase(225, (5.71, 5.71, 5.71), (("S", (0, 0, 0)), ("Li", (0.25, 0.25, 0.25)))),
    # gamma, Pmn2_1: K. Homma et al., Solid State Ionics 182, 53 (2011)
    "Li3PS4": _Phase(
        31,
        (7.708, 6.535, 6.136),
        (
            ("Li", (0.244, 0.328, 0.990)),
            ("Li", (0, 0.151, 0.500)),
            ("P", (0, 0.8208, 0)),
            ("S", (0.2196, 0.6685, 0.8866)),
            ("S", (0, 0.115, 0.8926)),
            ("S", (0, 0.8090, 0.3459)),
        ),
    ),
}

REFERENCE_PHASES = tuple(_PHASES)
"""Names that `reference_phase` knows."""


def reference_phase(name: str, supercell: tuple[int, int, int] = (1, 1, 1)) -> Atoms:
    """A conventional cell of a reference phase as measured, repeated.

    Parameters
    ----------
    name
        One of `REFERENCE_PHASES`: Li (bcc), P (black), S (alpha-S8), LiCl, Li2S, Li3PS4 (gamma).
    supercell
        Conventional cells along a, b, c.

    Returns
    -------
    Atoms
        Sorted by species; ``info["formula"]`` is the name.

    Raises
    ------
    StructureError
        If the name is unknown, or the supercell is not three whole numbers of 1 or more.

    Examples
    --------
    >>> reference_phase("Li2S").get_chemical_formula()
    'Li8S4'
    """
    if name not in _PHASES:
        raise StructureError(f"phase = {name!r}: allowed are {', '.join(_PHASES)}")
    if len(supercell) != 3 or any(int(n) != n or n < 1 for n in supercell):
        raise StructureError(f"supercell = {tuple(supercell)}: need three whole numbers of 1 or more")
    phase = _PHASES[name]
    cell = crystal(
        [symbol for symbol, _ in phase.sites],
        [place for _, place in phase.sites],
        spacegroup=phase.spacegroup,
        setting=phase.setting,
        cellpar=[*phase.cell, 90, 90, 90],
    )
    plain = Atoms(cell.get_chemical_symbols(), cell.get_positions(), cell=cell.cell, pbc=True).repeat(supercell)
    atoms = plain[np.argsort(plain.numbers, kind="stable")]
    atoms.info["formula"] = name
    return atoms
