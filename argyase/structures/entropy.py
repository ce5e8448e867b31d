"""Configurational entropy of the S/halide disorder on 4a and 4d."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from argyase.errors import StructureError

_SLACK = 1e-9


def configurational_entropy(x: ArrayLike, inversion: ArrayLike) -> NDArray[np.float64]:
    r"""dS_conf / R per formula unit of Li6-xPS5-xCl1+x with a fraction y (inversion) of Cl on 4d.

    .. math:: \Delta S / R = -[(1+x-y)\ln(1+x-y) + (y-x)\ln(y-x) + y\ln y + (1-y)\ln(1-y)]

    Parameters
    ----------
    x, inversion
        Composition and degree of inversion, 0 <= x <= inversion <= 1; they are broadcast.

    Returns
    -------
    ndarray
        Dimensionless (in units of R), the shape of the broadcast arguments.

    Raises
    ------
    StructureError
        If x or inversion is out of its range.

    References
    ----------
    Jang et al., J. Mater. Chem. A 13, 16547 (2025), eq. 3.

    Examples
    --------
    >>> round(float(configurational_entropy(0.0, 0.5)), 3)  # 2 ln 2
    1.386
    >>> float(configurational_entropy(0.0, 0.0))
    0.0
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(inversion, dtype=float))
    bad = (x < -_SLACK) | (y < x - _SLACK) | (y > 1 + _SLACK) | ~np.isfinite(x + y)
    if bad.any():
        n = np.flatnonzero(bad.ravel())[0]
        raise StructureError(
            f"x = {x.ravel()[n]:g}, inversion = {y.ravel()[n]:g}: need 0 <= x <= inversion <= 1 "
            "(all extra halide is on 4a and 4d, and 4a holds a fraction 1 + x - inversion)"
        )
    occupations = [1 + x - y, y - x, y, 1 - y]
    return np.asarray(sum(entr(np.clip(p, 0.0, 1.0)) for p in occupations))


def configurational_entropy_of(atoms: Atoms) -> float:
    """dS_conf / R per formula unit from the species that really sit on 4a and 4d.

    Parameters
    ----------
    atoms
        A structure with the array ``site`` (see `argyrodite`).

    Raises
    ------
    StructureError
        If the atoms carry no site labels.
    """
    if "site" not in atoms.arrays:
        raise StructureError("the atoms have no array 'site': build them with argyrodite()")
    return entropy_of_sites(np.array(atoms.get_chemical_symbols()), atoms.arrays["site"])


def entropy_of_sites(species: NDArray[np.str_], site: NDArray[np.str_]) -> float:
    """dS_conf / R per formula unit from the species on 4a and 4d.

    Parameters
    ----------
    species
        Symbols, shape (atom,).
    site
        Wyckoff site of each atom, shape (atom,).

    Examples
    --------
    >>> round(entropy_of_sites(np.array(["S", "Cl", "Cl", "Cl"]), np.array(["4d", "4d", "4a", "4a"])), 3)  # ln 2
    0.693
    """
    total = 0.0
    for letter in ("4a", "4d"):
        here = species[site == letter]
        _, counts = np.unique(here, return_counts=True)
        total += float(entr(counts / max(1, len(here))).sum())
    return total
