"""ASE calculator over the C++ kernel of Moment Tensor Potentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import complete_cell
from numpy.typing import NDArray

from argyase.errors import CalculatorError, ConfigError, PotentialFileError
from argyase.potentials import _mtp
from argyase.potentials.active import ActiveSet
from argyase.potentials.mtp_file import MTPFile, check_species_order, format_mtp, read_bytes
from argyase.potentials.repulsion import Ranges, entries


class MTP(Calculator):
    """Moment Tensor Potential for ASE.

    Energy of atom i: E_i = xi_0(z_i) + sum_k xi_k B_k (Novikov et al. 2021, eqs. 1-3); forces and stress are its
    exact derivatives. An atom beyond the cutoff contributes nothing; below ``min_dist`` the polynomials go on as
    they are (as in MLIP and motep).

    Parameters
    ----------
    potential
        Path of an ``.mtp`` or ``.almtp`` file, or an `MTPFile`.
    species
        Chemical symbols in the order of the file's species numbers.
    threads
        Threads to compute with.
    precision
        ``double``, or ``mixed``: the work on each neighbour in single precision, sums in double; forces to about 1e-6.
    repulsion
        Adds a repulsion of the nuclei at short distances, a table of ``{"Li-S": (inner, outer)}`` in A (see
        `argyase.potentials.repulsion`); e.g. that of a model card. It is part of energy, forces and stress.
    active_set
        An `ActiveSet`, or the path of its file: `results` then have the extrapolation ``grades`` of the atoms.

    Raises
    ------
    PotentialFileError
        If the file cannot be read, or the active set was made for another potential.
    ConfigError
        If the number of species differs from the file's, or their order from that of the file's atomic numbers, or
        the repulsion is not valid.
    CalculatorError
        On calculation, if an atom is of another species.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress", "grades"]
    atoms: Atoms | None

    def __init__(
        self,
        potential: str | Path | MTPFile,
        species: Sequence[str],
        *,
        threads: int = 1,
        precision: Literal["double", "mixed"] = "double",
        repulsion: Ranges | None = None,
        active_set: ActiveSet | str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(potential, MTPFile):
            text, name = format_mtp(potential), potential.potential_name
        else:
            # The reader of mtp_file gives the errors; the kernel reads the same text.
            text, name = read_bytes(potential), str(potential)
        self.kernel = _kernel(text, name, threads, precision)
        self.species = tuple(species)
        if len(self.species) != self.kernel.species_count or len(set(self.species)) != len(self.species):
            raise ConfigError(
                f"species = {list(species)}: the potential {name} has {self.kernel.species_count} species; "
                "name each once, in the file's order"
            )
        check_species_order(self.species, self.kernel.species_types.tolist(), name)
        self._type_of = np.full(len(chemical_symbols), -1, dtype=np.int32)
        for number, symbol in enumerate(self.species):
            if symbol not in atomic_numbers:
                raise ConfigError(f"species = {list(species)}: {symbol!r} is not a chemical symbol")
            self._type_of[atomic_numbers[symbol]] = number
        if repulsion:
            try:
                self.kernel.set_repulsion(entries(repulsion, self.species))
            except ValueError as error:
                raise ConfigError(str(error)) from None
        self._graded = active_set is not None
        if active_set is not None:
            loaded = active_set if isinstance(active_set, ActiveSet) else ActiveSet.load(active_set)
            where = "active set" if isinstance(active_set, ActiveSet) else str(active_set)
            try:
                self.kernel.set_active_set(loaded.to_bytes(), where)
            except ValueError as error:
                raise PotentialFileError(str(error)) from None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute everything at once: the cost is in the neighbours."""
        # What Calculator.calculate does, but for looking for a directory that is not used.
        if atoms is None:
            atoms = self.atoms
        elif not _refresh(self.atoms, atoms):
            self.atoms = atoms.copy()
        assert atoms is not None
        if "grades" in properties and not self._graded:
            raise PropertyNotImplementedError("grades need an active set: MTP(..., active_set=...)")
        energies, forces, virial, grades, _ = self.kernel.compute(self._types(atoms), *_arrays(atoms))
        energy = float(energies.sum())
        self.results = {"energy": energy, "free_energy": energy, "energies": energies, "forces": forces}
        if self._graded:
            self.results["grades"] = grades
        vectors = atoms.cell.array.tolist()
        if all(map(any, vectors)):
            # By hand: for a unit cell, ASE's volume and Voigt form take half as long as the forces.
            (ax, ay, az), (bx, by, bz), (cx, cy, cz) = vectors
            volume = abs(ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx))
            (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = virial.tolist()
            self.results["stress"] = np.array([xx, yy, zz, (yz + zy) / 2, (xz + zx) / 2, (xy + yx) / 2]) / volume

    def grades(self, atoms: Atoms | None = None) -> NDArray[np.float64]:
        """Extrapolation grade of each atom (see `argyase.potentials.active`); a fresh copy.

        Raises
        ------
        PropertyNotImplementedError
            If the calculator has no active set.
        """
        return np.asarray(self.get_property("grades", atoms))

    def scalars(self, atoms: Atoms) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Species number of each atom, and its scalar basis functions, shape (atom, scalar)."""
        types = self._types(atoms)
        return types, self.kernel.compute(types, *_arrays(atoms), basis=True)[4]

    def _types(self, atoms: Atoms) -> NDArray[np.int32]:
        types = np.asarray(self._type_of[atoms.numbers], dtype=np.int32)
        if types.min(initial=0) < 0:
            unknown = sorted({chemical_symbols[z] for z in atoms.numbers[types < 0]})
            raise CalculatorError(f"species {unknown}: this potential knows {list(self.species)}")
        return types


def _refresh(own: Atoms | None, atoms: Atoms) -> bool:
    """Bring our copy of the atoms up to date, arrays, cell and pbc; False if it takes a new copy.

    ASE compares the next atoms with this copy. For a unit cell, to make one takes half as long as the forces.
    """
    if own is None or own.arrays.keys() != atoms.arrays.keys():
        return False
    for name, values in atoms.arrays.items():
        kept = own.arrays[name]
        if kept.shape != values.shape or kept.dtype != values.dtype:
            return False
        kept[...] = values
    own.cell.array[...] = atoms.cell.array
    own.pbc = atoms.pbc
    return True


def _arrays(atoms: Atoms) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    cell = atoms.cell.array
    if not all(map(any, cell.tolist())):  # of a molecule, or a slab
        cell = complete_cell(cell)
    return np.ascontiguousarray(atoms.positions), np.ascontiguousarray(cell), np.ascontiguousarray(atoms.pbc)


def _kernel(text: bytes, name: str, threads: int, precision: str) -> _mtp.Kernel:
    if threads < 1 or precision not in ("double", "mixed"):
        raise ConfigError(f"threads = {threads}, precision = {precision!r}: need threads >= 1, and double or mixed")
    try:
        return _mtp.Kernel(text, name, threads, precision)
    except ValueError as error:
        raise PotentialFileError(str(error)) from None
