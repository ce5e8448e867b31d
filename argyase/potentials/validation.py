"""What a potential must pass before it is shipped: pair scans, equations of state, barriers of hops.

Each takes any ASE calculator, so that a potential and its teacher go through the same.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.eos import EquationOfState
from ase.geometry import find_mic, get_distances
from ase.mep import NEB
from ase.mep.neb import idpp_interpolate
from ase.optimize import FIRE
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

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
    held: Sequence[str] = (),
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
    held
        Species that, once at rest in the cell as it is, keep their fractional coordinates at the other volumes. Mobile
        ions would go to other minima there, a kink in the curve that makes a modulus of anything. What a held ion would
        give way is missing: the modulus is an upper bound of that of the crystal at rest, for five argyrodites with Li
        held by 0 to 12 %.
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
    rest = relax(atoms, calculator, fmax=fmax, steps=steps)
    rest.set_constraint(FixAtoms([i for i, s in enumerate(rest.symbols) if s in held]))
    for k, scale in enumerate(scales):
        strained = rest.copy()
        strained.set_cell(atoms.cell.array * scale, scale_atoms=True)
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
    forces: NDArray[np.float64]
    """Of the potential alone, not of the band, eV/A, shape (image, atom, 3)."""

    @property
    def forward(self) -> float:
        """Largest climb on the way, eV (see `climb`)."""
        return climb(self.energies)

    @property
    def backward(self) -> float:
        """Largest climb on the way back, eV."""
        return climb(self.energies[::-1])

    @property
    def displacements(self) -> NDArray[np.float64]:
        """How far each atom is at the end from where it began, A, shape (atom,)."""
        vectors = self.images[-1].positions - self.images[0].positions
        return find_mic(vectors, self.images[0].cell, pbc=True)[1]  # type: ignore[no-any-return]


def climb(energies: Sequence[float] | NDArray[np.float64]) -> float:
    """The largest rise of the energy along a path: what must be climbed, wherever on the way that begins.

    max over i <= j of E_j - E_i. Of a path with one summit and its lowest points at its ends it is the height above the
    first; of one that passes a deeper minimum on its way, the height above that.

    >>> climb([0.0, 0.3, 0.1]), climb([0.0, -0.5, 0.25, 0.0])
    (0.3, 0.75)
    """
    values = np.asarray(energies, dtype=float)
    return float((values - np.minimum.accumulate(values)).max())


SAME_PATH_A, SAME_PATH_EV = 0.5, 0.02
"""Two paths are one if ends and summit differ by less: bands at rest but for 0.05 eV/A put the same soft Li up to some
0.2 A apart and 2 meV (level 10, argyrodites), other arrangements of Li have one of them 1.3 A off at least."""


def same_path(one: Barrier, other: Barrier) -> bool:
    """Whether two paths, perhaps in opposite directions, have the same ends and the same highest image.

    Atoms of a species are not told apart, and places are those of a crystal, which goes on for ever. Compared are the
    largest distance of an atom from its counterpart (`SAME_PATH_A`) and energies above the first image
    (`SAME_PATH_EV`).
    """
    turned = Barrier(other.images[::-1], other.energies[::-1] - other.energies[-1], other.forces[::-1])
    return _alike(one, other) or _alike(one, turned)


def _alike(one: Barrier, other: Barrier) -> bool:
    stations = [(path.images, path.energies, (0, int(np.argmax(path.energies)), -1)) for path in (one, other)]
    return all(
        abs(e[i] - f[j]) < SAME_PATH_EV and mismatch(a[i], b[j]) < SAME_PATH_A
        for (a, e, first), (b, f, second) in [stations]
        for i, j in zip(first, second, strict=True)
    )


def mismatch(one: Atoms, other: Atoms) -> float:
    """Largest distance of an atom from its counterpart in another arrangement of the same atoms in the same cell, A.

    Counterparts are of one species, so that the sum of squared distances is the least. Infinite if the two are not the
    same atoms or their cells differ.
    """
    if sorted(one.numbers) != sorted(other.numbers) or not np.allclose(one.cell.array, other.cell.array):
        return float("inf")
    farthest = 0.0
    for number in set(one.numbers):
        places = (atoms.positions[atoms.numbers == number] for atoms in (one, other))
        _, distances = get_distances(*places, cell=one.cell, pbc=True)
        farthest = max(farthest, distances[linear_sum_assignment(distances**2)].max())
    return float(farthest)


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
    """Minimum-energy path from one minimum to another: both ends relaxed, then climbing nudged elastic bands.

    Where the band passes another minimum it is cut there, and each of the two parts is a band of its own with that as
    an end, and so on: each summit is climbed, and the path is a chain of jumps from minimum to minimum.

    Parameters
    ----------
    initial, final
        The same atoms in the same order and cell, before and after the hop.
    ion, through
        Places, A, that this atom passes on its way, shape (place, 3): where the band is laid first. Straight without.
    images
        Images between two minima.
    fmax
        Largest force that is left, eV/A, at the minima and across the bands.
    steps
        Most steps of each of the relaxations.
    report
        Called with the number of steps of all bands so far.

    Raises
    ------
    StructureError
        If the two are not the same atoms in the same cell.
    CalculatorError
        If a minimum or a band does not converge, or both ends relax into the same minimum.

    Notes
    -----
    G. Henkelman, B. P. Uberuaga, H. Jonsson, J. Chem. Phys. 113, 9901 (2000), through `ase.mep`.
    """
    if (initial.numbers != final.numbers).any() or not np.allclose(initial.cell.array, final.cell.array):
        raise StructureError("barrier: the two ends must be the same atoms in the same order and the same cell")
    start, end = (minimum(atoms, calculator, fmax, steps) for atoms in (initial, final))
    if (moved := _distance(start, end)) < SAME_MINIMUM_A:
        raise CalculatorError(
            f"barrier: both ends relax into the same minimum (no atom moves by more than {moved:.2f} A); "
            "one of the sites does not hold the ion here"
        )
    count = itertools.count(1)

    def at_rest(band: list[Atoms], cuts: int) -> list[Atoms]:
        """The band, or those that it is cut into, `cuts` times at most."""
        for image in band[1:-1]:
            image.calc = calculator
        for fixed in (band[0], band[-1]):  # whose energies the band asks for at each step
            fixed.calc = SinglePointCalculator(fixed, energy=fixed.get_potential_energy())
        path = NEB(band, climb=False, allow_shared_calculator=True, method="improvedtangent")
        for climbing in (False, True):
            path.climb = climbing
            optimizer = FIRE(path, logfile=None)
            optimizer.attach(lambda: report(next(count)))
            # The band first comes near, then its highest image climbs.
            converged = optimizer.run(fmax=fmax if climbing else 4 * fmax, steps=steps)
            if cuts and (middle := _between(band, path.energies, calculator, fmax, steps)):
                before = _band(band[0], middle, ion, np.empty((0, 3)), images)
                after = _band(middle, band[-1], ion, np.empty((0, 3)), images)
                return [*at_rest(before, cuts - 1), *at_rest(after, cuts - 1)[1:]]
        if not converged:
            raise CalculatorError(
                f"barrier: the band has forces above {fmax:g} eV/A after {steps} steps; allow more, or more images"
            )
        return band

    return path_through(at_rest(_band(start, end, ion, np.reshape(through, (-1, 3)), images), 4), calculator)


SAME_MINIMUM_A = 0.5
"""Minima in which no atom is farther than that from where it is in the other are one."""


def _distance(one: Atoms, other: Atoms) -> float:
    """How far the atom is apart in the two that is so the most, A."""
    return float(np.linalg.norm(other.positions - one.positions, axis=1).max())


def minimum(atoms: Atoms, calculator: Calculator, fmax: float, steps: int) -> Atoms:
    """A copy at rest as an end of the bands of `barrier`: twice as tightly as these, so that it does not move.

    Raises
    ------
    CalculatorError
        If the forces are not below `fmax` / 2 (eV/A) after 2 `steps`.
    """
    return relax(atoms, calculator, fmax=fmax / 2, steps=2 * steps)


def _between(
    band: Sequence[Atoms], e: NDArray[np.float64], calculator: Calculator, fmax: float, steps: int
) -> Atoms | None:
    """A minimum that the band of these energies passes, of several the lowest that is neither of its ends."""
    dips = (1 + np.flatnonzero((e[1:-1] <= e[:-2]) & (e[1:-1] <= e[2:]))).tolist()
    for dip in sorted(dips, key=e.__getitem__):
        found = minimum(band[dip], calculator, fmax, steps)
        if min(_distance(found, band[0]), _distance(found, band[-1])) > SAME_MINIMUM_A:
            return found
    return None


def path_through(images: list[Atoms], calculator: Calculator) -> Barrier:
    """Energies and forces by a calculator on images that are not moved."""
    energies, forces = np.empty(len(images)), np.empty((len(images), len(images[0]), 3))
    for n, image in enumerate(images):
        image.calc = calculator
        energies[n], forces[n] = image.get_potential_energy(), image.get_forces(apply_constraint=False)
    return Barrier(images, energies - energies[0], forces)


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
