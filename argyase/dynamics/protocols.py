"""Molecular-dynamics protocols as data: heat, equilibrate, produce; melt and quench."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from argyase.errors import ConfigError

Ensemble = Literal["nve", "nvt", "npt"]
Kind = Literal["heat", "equilibrate", "produce"]


@dataclass(frozen=True)
class Segment:
    """One piece of a protocol; frames are kept in the ``produce`` segment only.

    Attributes
    ----------
    kind
        ``heat`` ramps linearly from `start_K` to the target temperature at `rate_K_fs`;
        ``equilibrate`` and ``produce`` hold the target temperature for `duration_ps`.
    ensemble
        ``nve``, ``nvt`` (Nose-Hoover) or ``npt`` (Nose-Hoover thermostat and barostat).
    duration_ps
        Length, ps; for ``heat`` it follows from the rate.
    start_K
        First temperature of a ramp, K.
    rate_K_fs
        Heating rate, K/fs (0.5 in the reference protocol).
    """

    kind: Kind
    ensemble: Ensemble = "npt"
    duration_ps: float = 0.0
    start_K: float = 10.0
    rate_K_fs: float = 0.5

    @property
    def keep(self) -> bool:
        """Whether its frames are kept."""
        return self.kind == "produce"

    def temperatures(self, target_K: float) -> tuple[float, float]:
        """First and last thermostat temperature, K.

        >>> Segment("heat", start_K=100.0).temperatures(600.0)
        (100.0, 600.0)
        """
        return (self.start_K if self.kind == "heat" else target_K), target_K

    def steps(self, target_K: float, timestep_fs: float) -> int:
        """Number of MD steps.

        >>> Segment("heat", start_K=100.0, rate_K_fs=0.5).steps(600.0, timestep_fs=2.0)
        500
        """
        if self.kind == "heat":
            return max(1, round(abs(target_K - self.start_K) / self.rate_K_fs / timestep_fs))
        return round(self.duration_ps * 1000.0 / timestep_fs)


DEFAULT_SEGMENTS: tuple[Segment, ...] = (
    Segment("heat", "nvt"),
    Segment("equilibrate", "npt", duration_ps=20.0),
    Segment("produce", "npt", duration_ps=200.0),
)


@dataclass(frozen=True)
class Ramp:
    """One piece of a protocol with temperatures of its own, whatever the target of the run.

    Attributes
    ----------
    kind
        Its name, and the group of its frames in training data.
    start_K, stop_K
        Thermostat temperature at its start and end, K; linear in between.
    duration_ps
        Length, ps.
    ensemble
        ``nve``, ``nvt`` or ``npt``.
    keep
        Whether its frames are kept.
    """

    kind: str
    start_K: float
    stop_K: float
    duration_ps: float
    ensemble: Ensemble = "nvt"
    keep: bool = True

    def temperatures(self, target_K: float) -> tuple[float, float]:
        """First and last thermostat temperature, K."""
        return self.start_K, self.stop_K

    def steps(self, target_K: float, timestep_fs: float) -> int:
        """Number of MD steps."""
        return round(self.duration_ps * 1000.0 / timestep_fs)


SAMPLING_SEGMENTS: tuple[Segment, ...] = (
    Segment("heat", "nvt", rate_K_fs=0.5),
    Segment("equilibrate", "nvt", duration_ps=20.0),
    Segment("produce", "nvt", duration_ps=10.0),
)
"""Crystals of the reference protocol (Jang et al. 2025): 10 ps of NVT with a frame every 0.1 ps."""

MELT_QUENCH: tuple[Ramp, ...] = (
    Ramp("premelt", 4000.0, 4000.0, 10.0, keep=False),
    Ramp("melt", 2000.0, 2000.0, 20.0),
    Ramp("quench", 2000.0, 300.0, 17.0),
)
"""Amorphous phases of the reference protocol: 100 K/ps, frames of melt and quench."""

HEATING: tuple[Ramp, ...] = (
    Ramp("warm", 10.0, 300.0, 0.58, keep=False),
    Ramp("rest", 300.0, 300.0, 10.0, keep=False),
    Ramp("heating", 300.0, 1000.0, 42.0),
)
"""Elements and LiCl of the reference protocol: 0.5 K/fs to 300 K, 10 ps there, to 1000 K in 42 ps (0.017 K/fs).

Frames of the last part alone, each 0.2 ps, are 210 of each of the four phases: the paper's 840.
"""


def shortened(ramp: Ramp, divisor: float) -> Ramp:
    """The same temperatures in a shorter time.

    >>> shortened(MELT_QUENCH[1], 100.0).duration_ps
    0.2
    """
    return replace(ramp, duration_ps=ramp.duration_ps / divisor)


@dataclass(frozen=True)
class Step:
    """A segment with its place on the global step counter: steps first < n <= last."""

    segment: Segment | Ramp
    first: int
    last: int


def schedule(segments: Sequence[Segment | Ramp], target_K: float, timestep_fs: float, sample_steps: int) -> list[Step]:
    """Lay segments, or ramps, out on the step counter; each is rounded up to a whole number of samples.

    Raises
    ------
    ConfigError
        If a duration, rate or temperature is not positive, ``produce`` is not the one last segment, or no ramp is kept.
    """
    if any(isinstance(s, Ramp) for s in segments):
        if not any(s.keep for s in segments):
            raise ConfigError(f"ramps: none of {[s.kind for s in segments]} has keep = true: no frame would be kept")
    elif not segments or segments[-1].kind != "produce" or sum(s.kind == "produce" for s in segments) != 1:
        kinds = [s.kind for s in segments]
        raise ConfigError(f"md.segments: needs exactly one 'produce', as the last segment; got {kinds}")
    for n, s in enumerate(segments):
        heats = isinstance(s, Segment) and s.kind == "heat"
        positive = ("rate_K_fs", "start_K") if heats else ("duration_ps",)
        for name in (*positive, *(("start_K", "stop_K") if isinstance(s, Ramp) else ())):
            if not (math.isfinite(value := getattr(s, name)) and value > 0):
                unit = " (ps)" if name == "duration_ps" else ""
                raise ConfigError(f"md.segments[{n}].{name} = {value}: must be positive{unit}")
    steps, first = [], 0
    for s in segments:
        count = math.ceil(s.steps(target_K, timestep_fs) / sample_steps) * sample_steps
        steps.append(Step(s, first, first + count))
        first += count
    return steps
