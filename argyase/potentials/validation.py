"""What a potential must pass before it is shipped: pair scans, equations of state, barriers of hops.

Each takes any ASE calculator, so that a potential and its teacher go through the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.eos import EquationOfState
from ase.mep import NEB
from ase.mep.neb import idpp_interpolate
from ase.optimize import FIRE
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from argyase.dynamics.relaxation import relax
from argyase.errors import CalculatorError, StructureError
from argyase.units import EV_PER_A3_TO_GPA

SCAN_DISTANCES_A = np.round(np.arange(0.8, 4.001, 0.02), 6)
"""Distances of a pair scan, A."""


def nearest_pair(atoms: Atoms, a: str, b: str, reach: float = 8.0) -> tuple[int, int]:
    """Numbers of the two atoms of species `a` and `b` that are nearest to each other.

    Raises
    ------
    StructureError
        If no two are within `reach` (A).
    """
    symbols = np.array(atoms.get_chemical_symbols())
    i, j, d = neighbour_list("ijd", atoms, reach)
    chosen = np.flatnonzero((symbols[i] == a) & (symbols[j] == b) & (i != j))
    if len(chosen) == 0:
        raise StructureError(
            f"pair scan {a}-{b}: no two such atoms within {reach:g} A in {atoms.get_chemical_formula()}"
        )
    best = chosen[np.argmin(d[chosen])]
    return int(i[best]), int(j[best])


def pair_scan(
    atoms: Atoms, calculator: Calculator, i: int, j: int, distances: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Energy while atom `j` is moved towards atom `i` along the line between them, all others at rest.

    Parameters
    ----------
    atoms
        A crystal, or two atoms alone.
    i, j
        Numbers of the atoms.
    distances
        Distances of the two, A, shape (r,).

    Returns
    -------
    ndarray, shape (r,)
        Energies, eV, less that of `atoms` as given.
    """
    squeezed = atoms.copy()
    line = squeezed.get_distance(i, j, mic=True, vector=True)
    line /= np.linalg.norm(line)
    squeezed.calc = calculator
    start = squeezed.get_potential_energy()
    anchor = squeezed.positions[i].copy()
    energies = np.empty(len(distances))
    for k, distance in enumerate(distances):
        squeezed.positions[j] = anchor + distance * line
        energies[k] = squeezed.get_potential_energy() - start
    return energies


def inward_fall(
    distances: Sequence[float] | NDArray[np.float64], energies: Sequence[float] | NDArray[np.float64], start: float
) -> tuple[float, float]:
    """The deepest fall of the energy on the way inward: of a hole, into which a pair of atoms can drop.

    Walking from `start` inward, the largest difference between the energy passed before and the energy now,
    max over r < r' <= start of E(r') - E(r). Zero if the energy only rises.

    Parameters
    ----------
    distances, energies
        Of a scan, in any order; A and eV, shape (r,).
    start
        Where the walk begins, A: the distance of the pair at rest.

    Returns
    -------
    tuple of float
        Depth, eV, and the energy passed before the fall, eV: how much it takes to get there.

    Examples
    --------
    >>> inward_fall([1.0, 1.5, 2.0, 2.5], [-3.0, 5.0, 1.0, 0.0], 2.5)
    (8.0, 5.0)
    """
    order = np.argsort(distances)[::-1]
    r, energy = np.asarray(distances, dtype=float)[order], np.asarray(energies, dtype=float)[order]
    energy = energy[r <= start + 1e-9]
    if len(energy) == 0:
        return 0.0, 0.0
    passed = np.maximum.accumulate(energy)
    deepest = int(np.argmax(passed - energy))
    return float(passed[deepest] - energy[deepest]), float(passed[deepest])


@dataclass(frozen=True)
class Elasticity:
    """Equation of state of a crystal (see `equation_of_state`)."""

    volumes: NDArray[np.float64]
    """A^3 per atom, shape (volume,)."""
    energies: NDArray[np.float64]
    """eV per atom, shape (volume,)."""
    volume: float
    """At the minimum, A^3 per atom."""
    energy: float
    """At the minimum, eV per atom."""
    bulk_modulus: float
    """GPa."""


def equation_of_state(
    atoms: Atoms,
    calculator: Calculator,
    scales: Sequence[float] = (0.96, 0.975, 0.99, 1.0, 1.01, 1.025, 1.04),
    *,
    fmax: float = 0.02,
    steps: int = 500,
) -> Elasticity:
    """Energy against volume, all lengths scaled alike and the atoms relaxed, and the Birch-Murnaghan fit to it.

    Parameters
    ----------
    atoms
        A crystal near its minimum.
    scales
        Factors of the lengths; at least five.
    fmax, steps
        As in `relax`.

    Raises
    ------
    CalculatorError
        If a relaxation does not converge, or the energy has no minimum between the smallest and the largest volume.

    Notes
    -----
    F. Birch, Phys. Rev. 71, 809 (1947), through `ase.eos`.
    """
    n = len(atoms)
    volumes, energies = np.empty(len(scales)), np.empty(len(scales))
    # From the middle outward, each from the atoms of the one before: they stay in the same minimum.
    order = np.argsort(np.abs(np.asarray(scales) - 1.0), kind="stable")
    rest = relax(atoms, calculator, fmax=fmax, steps=steps)
    for k in order:
        strained = rest.copy()
        strained.set_cell(atoms.cell.array * scales[k], scale_atoms=True)
        strained = relax(strained, calculator, fmax=fmax, steps=steps)
        volumes[k], energies[k] = strained.get_volume() / n, strained.get_potential_energy() / n
    lowest = int(np.argmin(energies))
    if lowest in (int(np.argmin(volumes)), int(np.argmax(volumes))):
        raise CalculatorError(
            f"equation of state of {atoms.get_chemical_formula()}: the lowest energy is at the edge, "
            f"{volumes[lowest]:.3f} A^3 per atom of {volumes.min():.3f} ... {volumes.max():.3f}; shift the scales"
        )
    volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    return Elasticity(volumes, energies, float(volume), float(energy), float(modulus) * EV_PER_A3_TO_GPA)


@dataclass(frozen=True)
class Barrier:
    """Path of least energy between two minima (see `barrier`)."""

    images: list[Atoms]
    energies: NDArray[np.float64]
    """Of the images, eV, less that of the first, shape (image,)."""

    @property
    def forward(self) -> float:
        """Height of the path above its first image, eV."""
        return float(self.energies.max())

    @property
    def backward(self) -> float:
        """Height of the path above its last image, eV."""
        return float(self.energies.max() - self.energies[-1])


def barrier(
    initial: Atoms,
    final: Atoms,
    calculator: Calculator,
    *,
    ion: int = 0,
    through: Sequence[Sequence[float]] | NDArray[np.float64] = (),
    images: int = 5,
    fmax: float = 0.05,
    steps: int = 300,
    report: Callable[[int], None] = lambda step: None,
) -> Barrier:
    """Minimum-energy path from one minimum to another: both ends relaxed, then a climbing nudged elastic band.

    Parameters
    ----------
    initial, final
        The same atoms in the same order and cell, before and after the hop.
    ion, through
        Places, A, that this atom passes on its way, shape (place, 3): where the band is laid first. Straight without.
    images
        Images between the ends.
    fmax
        Largest force that is left, eV/A, at the ends and across the band.
    steps
        Most steps of each of the relaxations.
    report
        Called with the number of the step of the band.

    Raises
    ------
    StructureError
        If the two are not the same atoms in the same cell.
    CalculatorError
        If the ends or the band do not converge, or both ends relax into the same minimum.

    Notes
    -----
    G. Henkelman, B. P. Uberuaga, H. Jonsson, J. Chem. Phys. 113, 9901 (2000), through `ase.mep`.
    """
    if (initial.numbers != final.numbers).any() or not np.allclose(initial.cell.array, final.cell.array):
        raise StructureError("barrier: the two ends must be the same atoms in the same order and the same cell")
    # Ends twice as tight as the band, so that the band's ends do not move.
    ends = [relax(atoms, calculator, fmax=fmax / 2, steps=2 * steps) for atoms in (initial, final)]
    moved = np.linalg.norm(ends[1].positions - ends[0].positions, axis=1).max()
    if moved < 0.5:
        raise CalculatorError(
            f"barrier: both ends relax into the same minimum (no atom moves by more than {moved:.2f} A); "
            "one of the sites does not hold the ion here"
        )
    band = _band(ends[0], ends[1], ion, np.reshape(through, (-1, 3)), images)
    for image in band:
        image.calc = calculator
    path = NEB(band, climb=False, allow_shared_calculator=True, method="improvedtangent")
    taken = 0
    for climb in (False, True):
        path.climb = climb
        optimizer = FIRE(path, logfile=None)
        optimizer.attach(lambda done=taken, o=optimizer: report(done + o.nsteps))
        # The band first comes near, then its highest image climbs.
        converged = optimizer.run(fmax=fmax if climb else 4 * fmax, steps=steps)
        taken += optimizer.nsteps
    if not converged:
        raise CalculatorError(
            f"barrier: the band has forces above {fmax:g} eV/A after {taken} steps; allow more, or more images"
        )
    energies = np.array([image.get_potential_energy() for image in band])
    return Barrier(band, energies - energies[0])


def _band(initial: Atoms, final: Atoms, ion: int, through: NDArray[np.float64], images: int) -> list[Atoms]:
    """Images evenly along the way of the ion, all other atoms in between; then no atoms too near each other."""
    corners = np.array([initial.positions[ion], *through, final.positions[ion]])
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    band = [initial]
    for part in np.linspace(0, 1, images + 2)[1:-1]:
        image = initial.copy()
        image.positions += part * (final.positions - initial.positions)
        image.positions[ion] = [np.interp(part * way[-1], way, corners[:, c]) for c in range(3)]
        band.append(image)
    band.append(final)
    # Image-dependent pair potential: S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014).
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The default method has changed")  # of the band in there
        idpp_interpolate(band, traj=None, log=None, mic=True)
    return band
