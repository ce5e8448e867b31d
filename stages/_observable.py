"""What the stages that analyse a trajectory share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from argyase.datalake.lake import Lake, RunRecord
from argyase.datalake.trajectory import TrajectoryReader
from argyase.errors import ConfigError, TrajectoryError
from argyase.physics.collective import Sums, species_sums
from argyase.schemas import Schema
from argyase.stages._run import Report, collect_provenance, labels, published

_FRAMES = 1000
_BLOCK = 2_000_000  # frames times ions of a block: 48 MB
_SIDE_BY_SIDE = 16  # ions that the hot loops take at a time


def observable(
    stage: str,
    schema: Schema,
    lake: Lake,
    run: str,
    settings: Mapping[str, Any],
    compute: Callable[[RunRecord], xr.Dataset],
    config: Any,
) -> list[str]:
    """Publish what `compute` makes of a trajectory, unless the lake has it; its id."""
    record = lake.record(run)
    # A setting that was not given must not hide what the run says of itself, such as its temperature.
    parameters = {**labels(record), **{k: v for k, v in settings.items() if v is not None}}
    if run_id := published(lake, stage, parameters, [record.id], schema.version):
        return [run_id]
    dataset = compute(record)
    provenance = collect_provenance(config)
    return [lake.publish(stage, parameters, dataset, inputs=[record.id], schema=schema, provenance=provenance)]


def chunks_of(
    lake: Lake, record: RunRecord, report: Report
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The trajectory of a run in pieces: positions of all atoms, (frame, atom, 3) in A, and cells, (frame, 3, 3)."""
    trajectory = lake.trajectory(record.id)
    for part, positions, cells in trajectory.chunks():
        yield positions, cells
        report(part.stop, trajectory.n_frames)


def ion_paths(
    lake: Lake, record: RunRecord, ion: str, report: Report
) -> tuple[Sums, Iterator[NDArray[np.float64]], float]:
    """Sums over species, paths of the diffusing ions in blocks of ions, and the time between frames, ps."""
    trajectory = _at_least_two_frames(lake, record)
    sums = species_sums(chunks_of(lake, record, report), trajectory.coords["species"], ion)
    return sums, _path_blocks(lake, record, ion, sums), trajectory.time_step_ps


def _at_least_two_frames(lake: Lake, record: RunRecord) -> TrajectoryReader:
    trajectory = lake.trajectory(record.id)
    if trajectory.n_frames < 2:
        raise TrajectoryError(f"run {record.id}: {trajectory.n_frames} frames; at least 2 are needed")
    return trajectory


def _path_blocks(lake: Lake, record: RunRecord, ion: str, sums: Sums) -> Iterator[NDArray[np.float64]]:
    """Paths of the diffusing ions as `diffusing_paths` gives them, some ions at a time, (frame, ions of the block, 3).

    All blocks are in the same memory: one is gone when the next comes.
    """
    trajectory = lake.trajectory(record.id)
    mobile = np.flatnonzero(trajectory.coords["species"] == ion)
    drift = sums.drift(ion)[:, None]
    map_to_mean = np.linalg.inv(trajectory.cell()) @ sums.cell
    size = max(1, _BLOCK // max(1, trajectory.n_frames))
    if size > _SIDE_BY_SIDE:
        size -= size % _SIDE_BY_SIDE
    place = np.empty(trajectory.n_frames * size * 3)
    for first in range(0, len(mobile), size):
        some = mobile[first : first + size]
        paths = place[: trajectory.n_frames * len(some) * 3].reshape(trajectory.n_frames, len(some), 3)
        for frames in range(0, trajectory.n_frames, _FRAMES):
            part = slice(frames, frames + _FRAMES)
            paths[part] = trajectory.positions(part, some) @ map_to_mean[part] - drift[part]
        yield paths


def temperature_of(record: RunRecord, given: float | None) -> float:
    """Temperature of a run, K: as given, else the mean of the dynamics, else the target.

    Raises
    ------
    ConfigError
        If nothing tells.
    """
    known = record.scalars.get("mean_temperature", record.parameters.get("temperature_K"))
    found = given if given is not None else known
    if found is None:
        raise ConfigError(f"run {record.id} has no temperature: give it with --temperature-K")
    return float(found)


def labelled_sites(lake: Lake, record: RunRecord) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Species and Wyckoff site of each atom of an argyrodite; found in the frames, if another program made them.

    Raises
    ------
    TrajectoryError
        If the run has no labels and is no argyrodite.
    """
    from argyase.structures.tetrahedra import find_framework

    trajectory = lake.trajectory(record.id)
    species, site = trajectory.coords["species"], trajectory.coords["site"]
    if not (site == "4d").any():
        part = slice(0, 50)
        mean = (trajectory.positions(part) @ np.linalg.inv(trajectory.cell(part))).mean(axis=0)
        cell = trajectory.cell(part).mean(axis=0)
        framework = find_framework(mean @ cell, cell, species)
        site = np.full(len(species), "", dtype="U4")
        site[framework.atoms] = framework.topology.letters
    return species, site
