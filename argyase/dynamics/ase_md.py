"""Molecular dynamics over any ASE calculator: ramps of temperature, frames on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.md.bussi import Bussi
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from argyase.dynamics.lammps_md import Frame
from argyase.dynamics.protocols import Ensemble
from argyase.errors import ConfigError, ExtrapolationError, SimulationError
from argyase.units import EV_PER_A3_TO_GPA


@dataclass(frozen=True)
class Ramp:
    """A piece of a protocol: from one temperature to another, linearly in time.

    Attributes
    ----------
    start_K, end_K
        First and last temperature of the thermostat, K.
    duration_ps
        Length, ps.
    keep
        Whether its frames are kept.
    ensemble
        ``nve``, ``nvt`` (stochastic velocity rescaling: G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126,
        014101 (2007)) or ``npt`` (isotropic: G. J. Martyna, D. J. Tobias, M. L. Klein, J. Chem. Phys. 101, 4177
        (1994)); temperatures of npt do not change on the way.
    """

    start_K: float
    end_K: float
    duration_ps: float
    keep: bool = True
    ensemble: Ensemble = "nvt"


CATCH_STEPS = 5
"""Steps between frames that are yielded for their grade: some 10 fs, in which a lost atom moves by 0.1 A."""


@dataclass(frozen=True)
class AseSettings:
    """Everything that fixes a run besides the atoms and the calculator."""

    ramps: Sequence[Ramp]
    timestep_fs: float = 2.0
    sample_ps: float = 0.1
    pressure_GPa: float = 0.0
    thermostat_ps: float = 0.1
    barostat_ps: float = 1.0
    seed: int = 1
    max_temperature_factor: float = 3.0
    max_volume_change: float = 0.5
    grade_select: float = math.inf
    """Frames with an atom above this extrapolation grade are yielded, too, at most one each `CATCH_STEPS` steps."""
    grade_break: float = math.inf
    """The run ends at an atom above this grade. Both need a calculator that grades; every step is looked at."""

    def __post_init__(self) -> None:
        for name in ("timestep_fs", "sample_ps", "thermostat_ps", "barostat_ps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"dynamics: {name} = {getattr(self, name)}: must be positive")
        if not self.ramps:
            raise ConfigError("dynamics: ramps: give at least one")
        for n, ramp in enumerate(self.ramps):
            for name in ("start_K", "end_K", "duration_ps"):
                value = getattr(ramp, name)
                if not (math.isfinite(value) and value > 0):
                    raise ConfigError(f"dynamics: ramps[{n}].{name} = {value}: must be positive")
            if ramp.ensemble == "npt" and ramp.start_K != ramp.end_K:
                raise ConfigError(f"dynamics: ramps[{n}]: the temperature of an npt ramp cannot change; use nvt")

    @property
    def sample_steps(self) -> int:
        """Steps between frames."""
        return max(1, round(self.sample_ps * 1e3 / self.timestep_fs))

    def steps(self, ramp: Ramp) -> int:
        """Steps of a ramp, a whole number of samples."""
        return math.ceil(ramp.duration_ps * 1e3 / self.timestep_fs / self.sample_steps - 1e-9) * self.sample_steps

    @property
    def total_steps(self) -> int:
        """Steps of all ramps."""
        return sum(map(self.steps, self.ramps))


def run(atoms: Atoms, calculator: BaseCalculator, settings: AseSettings) -> Iterator[Frame]:
    """Run the ramps one after the other; yields a frame each `sample_ps`, `produced` where it is to be kept.

    Positions are unwrapped. Momenta are drawn for the first temperature, the total momentum is zero. Frames that are
    new to the potential (`AseSettings.grade_select`) come in between, from parts that are not kept, too.

    Raises
    ------
    SimulationError
        If the atoms become too hot, the volume changes too much, or a force is not finite; frames up to there have been
        yielded, the last of them with what went wrong.
    ExtrapolationError
        If an atom's grade exceeds `AseSettings.grade_break`; the same holds.
    """
    s = settings
    moving = atoms.copy()
    moving.calc = calculator
    rng = np.random.default_rng(s.seed)
    thermalize_momenta(moving, s.ramps[0].start_K, exact_temperature=True, rng=rng)
    Stationary(moving)
    start_volume, step = atoms.get_volume(), 0
    kept_before = sum(s.steps(r) for r in s.ramps if not r.keep)
    for ramp in s.ramps:
        dynamics = _dynamics(moving, ramp, s, rng)
        steps = s.steps(ramp)
        for done in range(0, steps, s.sample_steps):
            target = ramp.start_K + (ramp.end_K - ramp.start_K) * (done + 0.5 * s.sample_steps) / steps
            if isinstance(dynamics, Bussi):
                dynamics.target_kinetic_energy = 0.5 * target * units.kB * dynamics.ndof
            watch = _Watch(moving, s, step, (step - kept_before) * s.timestep_fs * 1e-3)
            dynamics.observers.clear()
            if np.isfinite([s.grade_select, s.grade_break]).any():
                dynamics.attach(watch)
            try:
                dynamics.run(s.sample_steps)
            except ExtrapolationError:
                yield from watch.caught
                raise
            yield from watch.caught
            step += s.sample_steps
            frame = _frame(moving, step, ramp.keep, (step - kept_before) * s.timestep_fs * 1e-3)
            yield frame
            _check(frame, target, start_volume, moving, s)


class _Watch:
    """Looks at the grades of every step; keeps frames above one limit, and raises above the other."""

    def __init__(self, atoms: Atoms, s: AseSettings, step: int, time_ps: float) -> None:
        self._atoms, self._s, self._step, self._time_ps = atoms, s, step, time_ps
        self._done, self._next = -1, 0  # ASE calls before the first step, too
        self.caught: list[Frame] = []

    def __call__(self) -> None:
        self._done += 1
        grades = self._atoms.calc.results.get("grades")
        if grades is None or self._done == 0:
            return
        grade, s = float(grades.max()), self._s
        if grade > s.grade_break or (grade > s.grade_select and self._done >= self._next):
            time_ps = self._time_ps + self._done * s.timestep_fs * 1e-3
            self.caught.append(_frame(self._atoms, self._step + self._done, False, time_ps))
            self._next = self._done + CATCH_STEPS
        if grade > s.grade_break:
            raise ExtrapolationError(
                f"after step {self._step + self._done}: an atom with extrapolation grade {grade:.3g}, above "
                f"{s.grade_break:g}; the frames before are kept"
            )


def _dynamics(atoms: Atoms, ramp: Ramp, s: AseSettings, rng: np.random.Generator) -> VelocityVerlet | Bussi:
    timestep = s.timestep_fs * units.fs
    if ramp.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if ramp.ensemble == "nvt":
        return Bussi(atoms, timestep, temperature_K=ramp.start_K, taut=s.thermostat_ps * 1e3 * units.fs, rng=rng)
    return IsotropicMTKNPT(
        atoms,
        timestep,
        temperature_K=ramp.start_K,
        pressure_au=s.pressure_GPa * units.GPa,
        tdamp=s.thermostat_ps * 1e3 * units.fs,
        pdamp=s.barostat_ps * 1e3 * units.fs,
    )


def _frame(atoms: Atoms, step: int, produced: bool, time_ps: float) -> Frame:
    results = atoms.calc.results
    grades = results.get("grades")
    stress = atoms.get_stress(voigt=False, include_ideal_gas=True)
    return Frame(
        step=step,
        produced=produced,
        time_ps=time_ps,
        positions=atoms.get_positions(),
        cell=atoms.cell.array.copy(),
        temperature=atoms.get_temperature(),
        pressure=-float(np.trace(stress)) / 3 * EV_PER_A3_TO_GPA,
        potential_energy=atoms.get_potential_energy(),
        kinetic_energy=atoms.get_kinetic_energy(),
        volume=atoms.get_volume(),
        grade=math.nan if grades is None else float(grades.max()),
    )


def _check(frame: Frame, target: float, start_volume: float, atoms: Atoms, s: AseSettings) -> None:
    problem = ""
    if not np.isfinite(atoms.get_forces()).all():
        problem = "a force is not finite"
    # An unrelaxed start may heat a cold crystal to 1000 K for a moment; what explodes goes on to 10,000 K.
    elif frame.temperature > s.max_temperature_factor * max(target, 1000.0):
        problem = f"temperature {frame.temperature:.0f} K at a target of {target:.0f} K"
    elif abs(frame.volume / start_volume - 1) > s.max_volume_change:
        problem = f"the volume changed by {100 * (frame.volume / start_volume - 1):.0f} %"
    if problem:
        raise SimulationError(f"after step {frame.step}: {problem}; the frames before are kept")
