"""Atoms, and their cell, at rest."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from argyase.errors import CalculatorError


def descend(atoms: Atoms, *, fmax: float, steps: int, cell: bool) -> int | None:
    """Move atoms that have a calculator, and their cell, until no force is above `fmax`; the steps taken.

    The gradient of the cell counts as a force, as `ase.filters.FrechetCellFilter` scales it. A calculator that moves
    the atoms itself (``moves_atoms``) is called once, and its own settings hold.

    Parameters
    ----------
    fmax
        eV/A.
    steps
        Most steps.
    cell
        Whether the cell is free, too: all six strains.

    Returns
    -------
    int or None
        None if the forces are still above `fmax`.

    Notes
    -----
    FIRE: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), through ASE.
    """
    if getattr(atoms.calc, "moves_atoms", False):
        atoms.get_potential_energy()
        return 1
    with warnings.catch_warnings():
        # Of the logarithm of a deformation, to 5e-13 of it.
        warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
        optimizer = FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
        return int(optimizer.nsteps) if optimizer.run(fmax=fmax, steps=steps) else None


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
    if descend(relaxed, fmax=fmax, steps=steps, cell=cell) is None:
        raise CalculatorError(unconverged(relaxed, fmax=fmax, steps=steps))
    return relaxed


def unconverged(atoms: Atoms, *, fmax: float, steps: int) -> str:
    """What to say of atoms that `descend` did not bring to rest."""
    left = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    return (
        f"relaxation of {atoms.get_chemical_formula()}: forces of {left:.3g} eV/A after {steps} steps, {fmax:g} "
        "were asked for (of the cell, too, if it is free); allow more steps, or a larger fmax"
    )
