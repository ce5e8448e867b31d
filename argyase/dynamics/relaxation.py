"""Atoms, and their cell, at rest."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from argyase.errors import CalculatorError

TURNS = 3
"""Most relaxations of a cell by an engine that keeps its plane waves: VASP's manual advises two."""

LEEWAY = 1.1
"""Times `fmax` that is still at rest: forces computed anew differ by what was left of self-consistency (a few meV/A at
EDIFF = 1e-5 eV), and the gradient of the cell by the way in which its strain is measured (of first order in it)."""


@dataclass(frozen=True)
class Descent:
    """What `descend` did, and what is left."""

    steps: int
    """Of ASE; of an engine that moves the atoms itself, its runs."""
    fmax: float
    """eV/A."""
    force: float
    """Largest force, eV/A."""
    cell_gradient: float | None
    """Largest component of volume times stress, per atom, eV; None if the cell is kept."""
    energy_less_last_step: float | None = None
    """Energy in plane waves of the final cell, less that of the last ionic step, which had those of the cell that it
    began with, eV; None if there are no two such steps."""
    corrections: tuple[str, ...] = ()
    """How runs of an engine that moves the atoms itself were mended."""

    @property
    def at_rest(self) -> bool:
        """Whether nothing above `fmax` is left."""
        most = LEEWAY * self.fmax
        return self.force <= most and (self.cell_gradient is None or self.cell_gradient <= most)

    def __str__(self) -> str:
        """What is left."""
        cell = "" if self.cell_gradient is None else f" (of the cell {self.cell_gradient:.3g} eV)"
        return f"forces of {self.force:.3g} eV/A{cell} after {self.steps} steps, {self.fmax:g} were asked for"


def descend(atoms: Atoms, *, fmax: float, steps: int, cell: bool) -> Descent:
    """Move atoms that have a calculator, and their cell, until no force is above `fmax`.

    The gradient of the cell counts as a force: volume times stress, per atom. ASE moves the atoms, unless the
    calculator does so itself (``moves_atoms``); then its own settings have to say `fmax` and `cell` (see
    `argyase.calculators.relaxing`). Such an engine keeps the plane waves of the cell that it was given (VASP): what it
    says of the last step is of neither cell. The atoms are left with its ``single_point`` instead, and it is started
    again if forces are left there, up to `TURNS` times.

    Parameters
    ----------
    fmax
        eV/A.
    steps
        Most steps of ASE.
    cell
        Whether the cell is free, too: all six strains.

    Returns
    -------
    Descent
        Look whether it is `Descent.at_rest`.

    Notes
    -----
    FIRE: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), through ASE. VASP, too, stops at volume times stress,
    per atom, as its forum says of its code (vasp.at/forum, topics 16781 and 20553), not its manual.
    """
    if getattr(atoms.calc, "moves_atoms", False):
        return _moved_by_engine(atoms, fmax, cell)
    with warnings.catch_warnings():
        # Of the logarithm of a deformation, to 5e-13 of it.
        warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
        optimizer = FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
        optimizer.run(fmax=fmax, steps=steps)
    return Descent(int(optimizer.nsteps), fmax, *_left(atoms, cell))


def _moved_by_engine(atoms: Atoms, fmax: float, cell: bool) -> Descent:
    mover, change, corrections = atoms.calc, None, list[str]()
    for turn in range(1, TURNS + 1):
        before = atoms.copy()
        last = atoms.get_potential_energy()
        corrections += getattr(mover, "corrections", [])
        if cell:
            atoms.calc = mover.single_point()
            change = float(atoms.get_potential_energy() - last)
            corrections += getattr(atoms.calc, "corrections", [])
        found = Descent(turn, fmax, *_left(atoms, cell), change, tuple(corrections))
        stays = np.allclose(atoms.positions, before.positions) and np.allclose(atoms.cell.array, before.cell.array)
        if not cell or found.at_rest or stays or turn == TURNS:
            break
        mover.reset()
        atoms.calc = mover
    return found


def _left(atoms: Atoms, cell: bool) -> tuple[float, float | None]:
    force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    return force, float(np.abs(atoms.get_stress()).max() * atoms.get_volume() / len(atoms)) if cell else None


def relax(
    atoms: Atoms, calculator: BaseCalculator, *, fmax: float = 0.02, steps: int = 500, cell: bool = False
) -> Atoms:
    """A copy with the atoms at rest, in the same cell or in one at rest, too (see `descend`).

    Raises
    ------
    CalculatorError
        If the forces are not that small after so many steps.
    """
    relaxed = atoms.copy()
    relaxed.calc = calculator
    found = descend(relaxed, fmax=fmax, steps=steps, cell=cell)
    if not found.at_rest:
        raise CalculatorError(unconverged(relaxed, found))
    return relaxed


def unconverged(atoms: Atoms, found: Descent) -> str:
    """What to say of atoms that `descend` did not bring to rest."""
    return f"relaxation of {atoms.get_chemical_formula()}: {found}; allow more steps, or a larger fmax"
