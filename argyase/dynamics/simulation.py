"""What molecular dynamics by any engine have in common: settings, frames, bounds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from argyase.dynamics.protocols import Ramp, Segment, Step, schedule
from argyase.errors import ConfigError, SimulationError

CHECKPOINT_ATOM_STEPS = 7.14e6
"""Steps times atoms between two checkpoints: of an MTP of level 10 some 4 s on a core, the most that a kill costs."""


@dataclass(frozen=True)
class Frame:
    """State of the cell after a step; positions are unwrapped and in the orientation of the input cell."""

    step: int
    part: str  # kind of the segment, or name of the ramp
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
    # It came in between because the run went wrong soon after: what the potential has to learn.
    caught: bool = False

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
class MDSettings:
    """What fixes a run besides the atoms, the engine and its settings (units in the names)."""

    temperature_K: float
    segments: Sequence[Segment | Ramp]
    timestep_fs: float = 2.0
    sample_ps: float = 0.1
    pressure_GPa: float = 0.0
    thermostat_ps: float = 0.1
    barostat_ps: float = 1.0
    coupling: Literal["iso", "aniso", "tri"] = "iso"
    seed: int = 1
    max_temperature_factor: float = 2.0
    max_volume_change: float = 0.3

    def __post_init__(self) -> None:
        for name in ("temperature_K", "timestep_fs", "sample_ps", "thermostat_ps", "barostat_ps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"md.{name} = {getattr(self, name)}: must be positive")
        if not 0 < self.seed < 2**31:
            raise ConfigError(f"md.seed = {self.seed}: LAMMPS allows 1 ... 2147483647")

    @property
    def sample_steps(self) -> int:
        """Steps between frames."""
        return max(1, round(self.sample_ps * 1000.0 / self.timestep_fs))

    def schedule(self) -> list[Step]:
        """The segments on the step counter."""
        return schedule(self.segments, self.temperature_K, self.timestep_fs, self.sample_steps)


class Simulation(ABC):
    """One run that yields frames, and can be stopped and gone on with.

    Attributes
    ----------
    settings
        What it was made with.
    step
        Steps done.
    """

    step: int

    def __init__(self, settings: MDSettings, n_atoms: int, volume: float) -> None:
        self.settings = self._settings = settings
        self._n_atoms, self._volume0 = n_atoms, volume
        self._steps = settings.schedule()
        self._production = next(part.first for part in self._steps if part.segment.keep)
        self._hottest = max(t for part in self._steps for t in part.segment.temperatures(settings.temperature_K))

    @property
    def total_steps(self) -> int:
        """Steps of the whole protocol."""
        return self._steps[-1].last

    @property
    def production_frames(self) -> int:
        """Frames that are to be kept: of the ``produce`` segment, or of the ramps that say so."""
        return sum(p.last - p.first for p in self._steps if p.segment.keep) // self._settings.sample_steps

    @property
    def checkpoint_steps(self) -> int:
        """Steps between checkpoints, a whole number of frames.

        They follow from the settings and the number of atoms alone, not from a clock: a run that was killed, and one
        that never was, have the same ones, and so the same trajectory to the last bit.
        """
        sample = self._settings.sample_steps
        return max(1, round(CHECKPOINT_ATOM_STEPS / (self._n_atoms * sample))) * sample

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Run what is left of the protocol, one frame every `sample_ps`."""

    @abstractmethod
    def write_restart(self, path: Path) -> None:
        """Write a file from which a new simulation goes on after the last frame, as this one does, bit for bit."""

    @abstractmethod
    def close(self) -> None:
        """Free the engine."""

    def _time_ps(self) -> float:
        return (self.step - self._production) * self._settings.timestep_fs * 1e-3

    def _when(self) -> str:
        ps = self._time_ps()
        part = "into production" if ps >= 0 else "before production, in heating or equilibration"
        return f"step {self.step} ({abs(ps):.2f} ps {part})"

    _remedy = (
        "the potential probably left the domain in which it was trained: lower the temperature or the time step, "
        "or train it on such structures; all frames before are kept"
    )

    def _hottest_allowed(self) -> float:
        # A small cell fluctuates by T sqrt(2 / 3N): six standard deviations on top of the factor.
        noise = 1 + 6 * np.sqrt(2 / (3 * self._n_atoms))
        return float(self._settings.max_temperature_factor * noise * self._hottest)

    def _check(self, frame: Frame) -> None:
        """Refuse a frame in which atoms were lost, or temperature or volume are out of bounds.

        Raises
        ------
        SimulationError
            With step, time, the value and what is allowed.
        """
        s = self._settings
        if len(frame.positions) != self._n_atoms:
            lost = self._n_atoms - len(frame.positions)
            raise SimulationError(f"{self._when()}: {lost} of {self._n_atoms} atoms were lost; {self._remedy}")
        if not (np.isfinite(frame.positions).all() and np.isfinite(frame.potential_energy)):
            raise SimulationError(f"{self._when()}: positions or energy are not finite; {self._remedy}")
        limit = self._hottest_allowed()
        if not frame.temperature <= limit:
            raise SimulationError(
                f"{self._when()}: temperature {frame.temperature:.0f} K is above {limit:.0f} K "
                f"({s.max_temperature_factor:g} x the target {self._hottest:g} K and its fluctuation); {self._remedy}"
            )
        change = frame.volume / self._volume0 - 1
        if abs(change) > s.max_volume_change:
            raise SimulationError(
                f"{self._when()}: the cell volume changed by {100 * change:+.0f} % (allowed "
                f"{100 * s.max_volume_change:g} %): it explodes or collapses. At the beginning of a run: "
                f"heat it first (a segment 'heat'). Later: {self._remedy}"
            )
