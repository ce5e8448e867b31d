"""ASE calculator over the C++ kernel of Moment Tensor Potentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import complete_cell
from ase.stress import full_3x3_to_voigt_6_stress
from matscipy.neighbours import neighbour_list

from argyase.errors import CalculatorError, ConfigError, PotentialFileError
from argyase.potentials import _mtp
from argyase.potentials.mtp_file import MTPFile, format_mtp, read_bytes


class MTP(Calculator):
    """Moment Tensor Potential for ASE.

    Energy of atom i: E_i = xi_0(z_i) + sum_k xi_k B_k (Novikov et al. 2021, eqs. 1-3); forces and stress are its
    exact derivatives. An atom beyond the cutoff contributes nothing; below ``min_dist`` the polynomials go on as
    they are (as in MLIP and motep).

    Parameters
    ----------
    potential
        Path of an ``.mtp`` file, or an `MTPFile`.
    species
        Chemical symbols in the order of the file's species numbers.

    Raises
    ------
    PotentialFileError
        If the file cannot be read.
    ConfigError
        If the number of species differs from the file's.
    CalculatorError
        On calculation, if an atom is of another species.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, potential: str | Path | MTPFile, species: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(potential, MTPFile):
            text, name = format_mtp(potential), potential.potential_name
        else:
            # The reader of mtp_file gives the errors; the kernel reads the same text.
            text, name = read_bytes(potential), str(potential)
        self._kernel = _kernel(text, name)
        self.species = tuple(species)
        if len(self.species) != self._kernel.species_count or len(set(self.species)) != len(self.species):
            raise ConfigError(
                f"species = {list(species)}: the potential {name} has {self._kernel.species_count} species; "
                "name each once, in the file's order"
            )

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute everything at once: the cost is in the neighbours."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        symbols = atoms.get_chemical_symbols()
        if unknown := sorted(set(symbols) - set(self.species)):
            raise CalculatorError(f"species {unknown}: this potential knows {list(self.species)}")
        types = np.array([self.species.index(s) for s in symbols], dtype=np.int32)
        i, j, vectors = neighbour_list(
            "ijD",
            positions=atoms.get_positions(),
            cell=complete_cell(atoms.cell),  # of a molecule, or a slab
            pbc=atoms.pbc,
            cutoff=self._kernel.cutoff,
        )
        first = np.searchsorted(i, np.arange(len(atoms) + 1)).astype(np.int64)
        energies, forces, virial = self._kernel.compute(
            types, first, np.ascontiguousarray(j, dtype=np.int64), np.ascontiguousarray(vectors)
        )
        self.results = {
            "energy": float(energies.sum()),
            "free_energy": float(energies.sum()),
            "energies": energies,
            "forces": forces,
        }
        if atoms.cell.rank == 3:
            stress = 0.5 * (virial + virial.T) / atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)


def _kernel(text: bytes, name: str) -> _mtp.Kernel:
    try:
        return _mtp.Kernel(text, name)
    except ValueError as error:
        raise PotentialFileError(str(error)) from None
