"""Stage ``ingest``: bring a trajectory of another program into the lake."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from argyase.datalake.lake import Lake
from argyase.dynamics.readers import RawFrame, read_frames
from argyase.errors import ConfigError, TrajectoryError
from argyase.physics.unwrap import unwrap_frames
from argyase.schemas import INGEST
from argyase.stages._config import setting
from argyase.stages._run import Report, collect_provenance, out, published, silent, stage_main

SCALE = 1e-6
"""Positions are kept to this (A): other programs write 7 to 8 digits, and all of them are somebody's data."""


@dataclass(frozen=True)
class Config:
    """The trajectory and what its file does not say."""

    file: str = setting(help="trajectory: XDATCAR, LAMMPS dump, extxyz, .traj (also .gz, .bz2, .xz), .dcd, .xtc")
    time_step_ps: float = setting(help="time between frames of the file", unit="ps")
    temperature_K: float | None = setting(None, help="temperature of the run", unit="K")
    format: str = setting("", help="format, if the name of the file does not tell")
    types: tuple[str, ...] = setting((), help="species of LAMMPS atom types, e.g. 1=Li 2=P 3=S 4=Cl")
    topology: str = setting("", help="structure file with the species, for DCD and XTC")
    every: int = setting(1, help="keep every n-th frame")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Read, unwrap and store the trajectory unless the lake has it; its id."""
    if not config.time_step_ps > 0:
        raise ConfigError(f"time_step_ps = {config.time_step_ps}: must be positive (time between frames, ps)")
    if config.every < 1:
        raise ConfigError(f"every = {config.every}: must be 1 or more")
    path = Path(config.file)
    if not path.is_file():
        raise TrajectoryError(f"{path}: no such file")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    types = _types(config.types)
    parameters = {
        "source": path.name,
        "source_sha256": digest,
        "time_step_ps": config.time_step_ps,
        "every": config.every,
        **({"types": {str(k): v for k, v in types.items()}} if types else {}),
        **({"temperature_K": config.temperature_K} if config.temperature_K is not None else {}),
    }
    if run_id := published(lake, "ingest", parameters, (), INGEST.version):
        return [run_id]

    def frames() -> Iterator[RawFrame]:
        source = read_frames(path, config.format or None, types=types, topology=config.topology or None)
        return itertools.islice(source, 0, None, config.every)

    # Twice through the file: the writer wants to know the length, and most formats do not tell it.
    count, first = 0, None
    for frame in frames():
        first = first or frame
        count += 1
        report(count, np.nan)
    assert first is not None
    provenance = collect_provenance(config)
    with lake.begin("ingest", parameters, schema=INGEST, provenance=provenance) as attempt:
        step = config.time_step_ps * config.every
        n = len(first.species)
        writer = attempt.trajectory_writer(
            n_atoms=n,
            n_frames=count,
            coords={"species": first.species, "atom_id": np.arange(n), "site": [""] * n, "cage": [-1] * n},
            time_step_ps=step,
            scale=SCALE,
        )
        cells: list[NDArray[np.float64]] = []

        def pairs() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
            for frame in frames():
                cells.append(frame.cell)
                yield frame.positions, frame.cell

        for done, positions in enumerate(unwrap_frames(pairs()), start=1):
            writer.append(positions, cells[-1])
            report(done, count)
        writer.finish()
        volume = np.abs(np.linalg.det(np.array(cells)))
        return [attempt.publish(INGEST.dataset(time=writer.times(), volume=volume))]


def _types(items: Sequence[str]) -> dict[int, str]:
    found = {}
    for item in items:
        number, _, symbol = item.partition("=")
        if not number.isdigit() or not symbol:
            raise ConfigError(f"types {item!r}: expected a number and a symbol, e.g. 1=Li")
        found[int(number)] = symbol
    return found


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print what was taken in."""
    trajectory = lake.trajectory(ids[0])
    names, counts = np.unique(trajectory.coords["species"], return_counts=True)
    what = " ".join(f"{s}{n}" for s, n in zip(names, counts, strict=True))
    out.print(f"{trajectory.n_frames} frames of {what}, {trajectory.time_step_ps:g} ps apart", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage; the file may stand without ``--file``."""
    import sys

    args = list(sys.argv[1:] if argv is None else argv)
    if args and not args[0].startswith("-"):
        args.insert(0, "--file")
    return stage_main(args, stage="ingest", config=Config, run=run, description=__doc__ or "", epilogue=show)


if __name__ == "__main__":
    raise SystemExit(main())
