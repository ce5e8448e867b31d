"""Molecular dynamics in ASE with any of its calculators, frame by frame."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from argyase.dynamics.protocols import Step
from argyase.dynamics.simulation import Frame, MDSettings, Simulation
from argyase.errors import CalculatorError, ConfigError, ExtrapolationError, SimulationError
from argyase.potentials.mtp import MTP
from argyase.units import EV_PER_A3_TO_GPA

CATCH_STEPS = 5
"""Steps between frames that come for their grade: some 10 fs, in which a lost atom moves by 0.1 A."""


_VARIABLES = (
    "_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi",
    "_volume0", "_cell0", "_eps", "_p_eps", "_p_g",
)  # fmt: skip
"""What the dynamics of ASE know besides positions, momenta and cell, those that have it: chains, and a barostat's
strain with what it is relative to."""


def draw_velocities(atoms: Atoms, temperature_K: float, seed: int) -> None:
    """Give atoms Maxwell-Boltzmann velocities with exactly this temperature, the centre of mass at rest.

    >>> atoms = Atoms("LiCl", [[0, 0, 0], [2.5, 0, 0]])
    >>> draw_velocities(atoms, 300.0, seed=1)
    >>> round(2 * float(atoms.get_kinetic_energy()) / (3 * units.kB), 6)
    300.0
    """
    masses = atoms.get_masses()[:, None]
    v = np.random.default_rng(seed).normal(size=(len(atoms), 3)) / np.sqrt(masses)
    v -= (masses * v).sum(axis=0) / masses.sum()
    wanted = 3 * (len(atoms) - 1) * units.kB * temperature_K
    atoms.set_velocities(v * np.sqrt(wanted / (masses * v**2).sum()))


class AseMD(Simulation):
    """Molecular dynamics in ASE: the same protocols and frames as `LammpsMD`, with any calculator.

    Temperatures that change are followed by a Langevin thermostat, those that are held by a Nose-Hoover chain, and
    ``npt`` by Martyna, Tobias and Klein's barostat; all of them keep the centre of mass at rest.

    Parameters
    ----------
    atoms
        Starting structure, periodic in all three directions.
    calculator
        Energies and forces, and for ``npt`` stresses; without stresses, pressures are NaN.
    settings
        Protocol, ensemble and bounds.
    grade_select, grade_break
        Extrapolation grades, for a calculator that gives them: every step is looked at. Frames with an atom above the
        first come in between, from parts that are not kept, too, one each `CATCH_STEPS` steps at most; above the second
        the run ends. Potentials do not always know that they are wrong: if the run ends for another reason, the last
        frames before come, too, whatever their grade (`Frame.caught`).
    restart
        File of an earlier part of the same run (see `write_restart`). With a calculator whose results depend on
        the atoms alone (MTP, universal potentials), the path is that of a run that was not stopped, bit for bit; one
        that keeps lists of neighbours, or the density of the step before, follows it to round-off or convergence.

    Raises
    ------
    ConfigError
        If the structure is not periodic, or the protocol asks for what ASE has not: ``npt`` while heating, or
        ``coupling = "aniso"``.
    SimulationError
        While iterating `frames`: temperature or volume are out of bounds or not finite.
    CalculatorError
        While iterating `frames`: the calculator raised something, whatever it was, while temperature and volume were
        within their bounds. What comes after is not known: such a run has to go on from a restart file.
    ExtrapolationError
        While iterating `frames`: a grade is above `grade_break`. The frame was yielded.
    """

    def __init__(
        self,
        atoms: Atoms,
        calculator: Calculator,
        settings: MDSettings,
        restart: Path | None = None,
        *,
        grade_select: float = math.inf,
        grade_break: float = math.inf,
    ) -> None:
        if not atoms.pbc.all():
            raise ConfigError(f"structure: periodic in {atoms.pbc.tolist()}; MD needs all three directions periodic")
        super().__init__(settings, len(atoms), float(atoms.get_volume()))
        self._stress = "stress" in calculator.implemented_properties
        self._grade_select, self._grade_break = grade_select, grade_break
        self._graded = math.isfinite(min(grade_select, grade_break))
        self._caught: list[Frame] = []
        self._way: list[Frame] = []  # of this sample
        for part in self._steps:
            self._refuse(part, calculator)
        self._atoms = atoms.copy()
        self._atoms.calc = calculator
        self._dynamics: Any = None
        self._variables: dict[str, Any] = {}
        self.step = 0
        if restart is None:
            first = self._steps[0].segment.temperatures(settings.temperature_K)[0]
            # On ideal sites half of the kinetic energy turns into potential energy at once: start with twice.
            draw_velocities(self._atoms, 2 * first, settings.seed)
        else:
            with np.load(restart) as saved:
                self._atoms.set_cell(saved["cell"])
                self._atoms.set_positions(saved["positions"])
                self._atoms.set_momenta(saved["momenta"])
                self.step = int(saved["step"])
                self._variables = {name: saved[name] for name in _VARIABLES if name in saved}

    @property
    def checkpoint_steps(self) -> int:
        """Steps between checkpoints: those of the MTP kernel, or of any other calculator each frame."""
        return super().checkpoint_steps if isinstance(self._atoms.calc, MTP) else self._settings.sample_steps

    def frames(self) -> Iterator[Frame]:
        """Run what is left of the protocol, one frame every `sample_ps`."""
        sample = self._settings.sample_steps
        for part in self._steps:
            if self.step >= part.last:
                continue
            dynamics = self._dynamics = self._make(part)
            if self.step > part.first:
                _set_variables(dynamics, self._variables)
            while self.step < part.last:
                self._caught.clear()
                self._way.clear()
                try:
                    with self._calculator_errors(part):
                        self._advance(dynamics, part, sample)
                        frame = self._frame(part, part.segment.keep)
                    yield from self._caught
                    self._caught.clear()
                    self._check(frame)
                except ExtrapolationError:
                    yield from self._caught
                    raise
                except SimulationError:
                    yield from self._caught
                    yield from self._way
                    raise
                yield frame

    def write_restart(self, path: Path) -> None:
        """Write a file from which a new `AseMD` goes on after the last frame."""
        content = io.BytesIO()
        a = self._atoms
        own = _get_variables(self._dynamics)
        np.savez(content, step=self.step, cell=a.cell.array, positions=a.positions, momenta=a.get_momenta(), **own)
        path.write_bytes(content.getvalue())

    def close(self) -> None:
        """Nothing to free."""

    def _refuse(self, part: Step, calculator: Calculator) -> None:
        if part.segment.ensemble != "npt":
            return
        t0, t1 = part.segment.temperatures(self._settings.temperature_K)
        if t0 != t1:
            raise ConfigError(
                f"md.segments: {part.segment.kind!r} changes the temperature in npt, which ASE's barostats cannot; "
                'heat with ensemble = "nvt"'
            )
        if self._settings.coupling == "aniso":
            raise ConfigError('md.coupling = "aniso": through ASE, "iso" and "tri" are possible')
        if not self._stress:
            raise ConfigError(f"md.segments: npt needs stresses, which {type(calculator).__name__} does not give")

    def _make(self, part: Step) -> Any:
        s, segment = self._settings, part.segment
        dt = s.timestep_fs * units.fs
        t0, t1 = segment.temperatures(s.temperature_K)
        damping = s.thermostat_ps * 1000 * units.fs
        self._atoms.set_constraint()
        if segment.ensemble == "nve":
            return VelocityVerlet(self._atoms, dt)
        if t0 != t1:
            self._atoms.set_constraint(FixCom())
            return Langevin(self._atoms, dt, temperature_K=t0, friction=1 / damping, fixcm=False)
        # ASE's chain gives 3N degrees of freedom kT / 2 each; with the centre of mass at rest there are 3N - 3.
        held = {"temperature_K": t1 * (1 - 1 / self._n_atoms), "tdamp": damping}
        if segment.ensemble == "nvt":
            return NoseHooverChainNVT(self._atoms, dt, **held)
        barostat = IsotropicMTKNPT if s.coupling == "iso" else MTKNPT
        pressure = s.pressure_GPa / EV_PER_A3_TO_GPA
        return barostat(self._atoms, dt, **held, pressure_au=pressure, pdamp=s.barostat_ps * 1000 * units.fs)

    def _advance(self, dynamics: Any, part: Step, steps: int) -> None:
        if isinstance(dynamics, Langevin):
            t0, t1 = part.segment.temperatures(self._settings.temperature_K)
            # The noise of a sample depends on where it is only: a restart within a ramp does not show.
            dynamics.rng = np.random.default_rng([self._settings.seed, self.step])
            for k in range(1, steps + 1):
                done = (self.step + k - part.first) / (part.last - part.first)
                dynamics.set_temperature(temperature_K=t0 + (t1 - t0) * done)
                dynamics.run(1)
                self._watch(part, k)
        elif self._graded:
            for k in range(1, steps + 1):
                dynamics.run(1)
                self._watch(part, k)
        else:
            dynamics.run(steps)
        self.step += steps

    @contextmanager
    def _calculator_errors(self, part: Step) -> Iterator[None]:
        """Whatever is raised in here is an error of the engine, unless the atoms had left their bounds before."""
        try:
            yield
        except (ConfigError, ExtrapolationError):
            raise
        except Exception as error:  # calculators raise anything
            text = f"the calculator failed: {type(error).__name__}: {' '.join(str(error).split())}"
            try:
                # No engine has to get on with atoms that fly apart.
                self._check(self._state(part, False, 0.0, math.nan))
            except SimulationError as left:
                raise SimulationError(f"{left}; there {text}") from error
            raise CalculatorError(
                f"after {self._when()}: {text}; the dynamics itself was within its bounds: see to the engine, then the "
                "same command goes on from the last checkpoint"
            ) from error

    def _watch(self, part: Step, k: int) -> None:
        """Look at the grades after `k` steps of a sample."""
        grade = self._grade() if self._graded else math.nan
        if self._graded and k % CATCH_STEPS == 0:
            way = replace(self._frame(part, False), step=self.step + k, caught=True)
            if way.temperature < self._hottest_allowed():
                self._way.append(way)
        if not grade > min(self._grade_select, self._grade_break):
            return
        here = replace(self._frame(part, False), step=self.step + k)
        recent = self._caught and here.step < self._caught[-1].step + CATCH_STEPS
        if grade > self._grade_break or not recent:
            self._caught.append(here)
        if grade > self._grade_break:
            raise ExtrapolationError(
                f"after {self._when()}: extrapolation grade {grade:.3g} is above {self._grade_break:g}; {self._remedy}"
            )

    def _grade(self) -> float:
        grades = self._atoms.calc.results.get("grades")
        return math.nan if grades is None else float(grades.max())

    def _frame(self, part: Step, produced: bool) -> Frame:
        virial = -float(self._atoms.get_stress()[:3].mean()) if self._stress else np.nan
        return self._state(part, produced, float(self._atoms.get_potential_energy()), virial)

    def _state(self, part: Step, produced: bool, potential: float, virial: float) -> Frame:
        """The atoms as they are, with what a calculator says of them, eV and eV/A^3."""
        a = self._atoms
        kinetic, volume = float(a.get_kinetic_energy()), float(a.get_volume())
        return Frame(
            step=self.step,
            part=part.segment.kind,
            produced=produced,
            time_ps=self._time_ps(),
            positions=a.get_positions(),
            cell=a.cell.array.copy(),
            temperature=2 * kinetic / (3 * (self._n_atoms - 1) * units.kB),
            pressure=(2 * kinetic / (3 * volume) + virial) * EV_PER_A3_TO_GPA,
            potential_energy=potential,
            kinetic_energy=kinetic,
            volume=volume,
            grade=self._grade(),
        )


def _get_variables(dynamics: Any) -> dict[str, Any]:
    found = {}
    for name in _VARIABLES:
        owner, _, last = name.rpartition(".")
        holder = getattr(dynamics, owner, None) if owner else dynamics
        if hasattr(holder, last):
            found[name] = getattr(holder, last)
    return found


def _set_variables(dynamics: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        owner, _, last = name.rpartition(".")
        setattr(getattr(dynamics, owner) if owner else dynamics, last, value if value.ndim else value.item())
