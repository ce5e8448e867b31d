"""Runs in one file that any reader of NetCDF or Zarr opens, and back into a lake.

::

    /<stage>/<id>    a group for each run: its dataset, and of a trajectory positions and cell
                     attribute lake_record: JSON of run.json; lake_trajectory: times and atoms of a trajectory
                     lake_file_<n>: bytes of the other files of the run

The file is ``.nc`` (NetCDF 4) or ``.zip`` (Zarr 3, its chunks those of the lake). `xarray.open_datatree` opens either.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore, ZipStore

from argyase.datalake import one_file, provenance
from argyase.datalake.errors import CorruptRunError, DatalakeError, NotInLakeError
from argyase.datalake.files import fsync, sha256
from argyase.datalake.identity import read_record, run_id
from argyase.datalake.lake import Attempt, Lake, RunRecord, check_files
from argyase.datalake.trajectory import TRAJECTORIES, TrajectoryReader, TrajectoryWriter, trajectory_file

SUFFIXES = (".nc", ".zip")

_FORMAT = {"lake_format": "runs of a data lake", "lake_format_version": 1}
_BLOCK_FRAMES = 250


def export_runs(lake: Lake, names: Sequence[str], path: Path) -> None:
    """Write runs to one file, which appears whole.

    Raises
    ------
    DatalakeError
        If the suffix is neither ``.nc`` nor ``.zip``.
    CorruptRunError
        If a run cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise DatalakeError(f"{path}: a file of runs ends in {' or '.join(SUFFIXES)}")
    records = [lake.record(name) for name in dict.fromkeys(names)]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export.") as folder:
        aside = Path(folder) / path.name
        (_to_netcdf if path.suffix == ".nc" else _to_zip)(records, aside)
        fsync(aside)
        os.replace(aside, path)


def import_runs(lake: Lake, path: Path) -> list[str]:
    """Publish the runs of a file in a lake, with the ids, parameters and provenance that they had; their ids.

    What the lake has already is kept.

    Raises
    ------
    NotInLakeError
        If there is no such file.
    CorruptRunError
        If it is not such a file, is damaged, or a run is not what its id says.
    """
    if not path.is_file():
        raise NotInLakeError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise DatalakeError(f"{path}: a file of runs ends in {' or '.join(SUFFIXES)}")
    digest, names = sha256(path), []
    for group in _groups(path):
        with _dataset(path, group) as dataset:
            names.append(_import(lake, dataset, path, group, digest))
    if not names:
        raise CorruptRunError(f"{path}: holds no runs")
    return names


# ---- out ----


def _dataset_of(record: RunRecord) -> xr.Dataset:
    """What goes into the group of a run, but for positions and cells."""
    check_files(record)
    try:
        with xr.open_dataset(record.path / "data.nc", engine="h5netcdf") as dataset:
            found = dataset.load().drop_encoding()
        others = [f for f in record.files if f != "data.nc" and not f.startswith(TRAJECTORIES)]
        for n, name in enumerate(others):
            content = np.frombuffer((record.path / name).read_bytes(), dtype=np.uint8)
            found[f"lake_file_{n}"] = (f"lake_bytes_{n}", content, {"name": name})
    except Exception as error:
        raise CorruptRunError(f"{record.path}: cannot be read: {error}") from error
    kept = read_record(record.path)
    found.attrs["lake_record"] = json.dumps({k: v for k, v in kept.items() if k != "files"}, sort_keys=True)
    if trajectory := trajectory_file(record.path):
        reader = TrajectoryReader(trajectory)
        about: dict[str, Any] = {"n_frames": reader.n_frames, "n_atoms": reader.n_atoms, "scale": reader.scale}
        about |= {
            "time_step_ps": reader.time_step_ps,
            "time_start_ps": float(reader.time[0]) if reader.n_frames else 0.0,
        }
        about["coords"] = {k: v.tolist() for k, v in reader.coords.items()}
        found.attrs["lake_trajectory"] = json.dumps(about)
        for name, values in reader.coords.items():
            if name not in found.variables and found.sizes.get("atom", reader.n_atoms) == reader.n_atoms:
                found.coords[name] = ("atom", values)
    return found


def _to_netcdf(records: Sequence[RunRecord], path: Path) -> None:
    import h5netcdf

    xr.Dataset(attrs=_FORMAT).to_netcdf(path, engine="h5netcdf")
    for record in records:
        dataset, group = _dataset_of(record), f"{record.stage}/{record.id}"
        encoding = {
            k: {"compression": "gzip", "compression_opts": 4}
            for k, v in dataset.variables.items()
            if v.ndim and v.size and v.dtype.kind in "fiu"
        }
        dataset.to_netcdf(path, mode="a", group=group, engine="h5netcdf", encoding=encoding)
        if trajectory := trajectory_file(record.path):
            with h5netcdf.File(path, "a") as file:
                one_file.put(TrajectoryReader(trajectory), file[group])


def _to_zip(records: Sequence[RunRecord], path: Path) -> None:
    store = path.with_name("store")
    zarr.create_group(LocalStore(store), zarr_format=3, attributes=_FORMAT)
    for record in records:
        dataset, group = _dataset_of(record), f"{record.stage}/{record.id}"
        with warnings.catch_warnings():
            # Text has no final form in Zarr 3 yet; this file tells the version of its own form.
            warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
            dataset.to_zarr(LocalStore(store), group=group, mode="a", consolidated=False, zarr_format=3)
        if trajectory := trajectory_file(record.path):
            with _as_shards(trajectory, path.parent) as shards:
                for name in ("positions", "cell"):
                    shutil.copytree(shards / name, store / group / name)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:  # the chunks are compressed already
        for item in sorted(p for p in store.rglob("*") if p.is_file()):
            file.write(item, item.relative_to(store).as_posix())


@contextmanager
def _as_shards(path: Path, scratch: Path) -> Iterator[Path]:
    """A trajectory as ``traj.zarr``."""
    if path.is_dir():
        yield path
        return
    reader = TrajectoryReader(path)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        writer = TrajectoryWriter(
            Path(folder), n_atoms=reader.n_atoms, n_frames=max(reader.n_frames, 1), coords=reader.coords,
            time_step_ps=reader.time_step_ps, scale=reader.scale,
        )  # fmt: skip
        for _, positions, cells in reader.chunks(size=_BLOCK_FRAMES):
            for r, box in zip(positions, cells, strict=True):
                writer.append(r, box)
        writer.finish()
        yield Path(folder) / "traj.zarr"


# ---- in ----


def _groups(path: Path) -> list[str]:
    try:
        if path.suffix == ".nc":
            import h5py

            with h5py.File(path) as file:
                version = file.attrs.get("lake_format_version")
                stages = [stage for stage in file if isinstance(file[stage], h5py.Group)]
                groups = [f"{stage}/{name}" for stage in stages for name in file[stage]]
        else:
            with ZipStore(path, mode="r") as store:
                root = zarr.open_group(store, mode="r")
                version = root.attrs.get("lake_format_version")
                groups = [f"{stage}/{name}" for stage, inner in root.groups() for name, _ in inner.groups()]
    except Exception as error:
        raise CorruptRunError(f"{path}: cannot be opened: {error}") from error
    if version != _FORMAT["lake_format_version"]:
        raise CorruptRunError(
            f"{path}: not a file of runs that this version reads (lake_format_version {version}, expected 1); make one "
            "with argyase lake export"
        )
    return sorted(groups)


@contextmanager
def _dataset(path: Path, group: str) -> Iterator[xr.Dataset]:
    if path.suffix == ".nc":
        with xr.open_dataset(path, group=group, engine="h5netcdf") as dataset:
            yield dataset
        return
    with ZipStore(path, mode="r") as store, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
        yield xr.open_zarr(store, group=group, consolidated=False, chunks=None)


def _import(lake: Lake, dataset: xr.Dataset, path: Path, group: str, digest: str) -> str:
    try:
        record: dict[str, Any] = json.loads(dataset.attrs.pop("lake_record"))
        about = json.loads(dataset.attrs.pop("lake_trajectory", "null"))
        name = run_id(record["stage"], record["parameters"], record["inputs"], record["version"])
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptRunError(f"{path}: {group}: has no record: {error!r}") from None
    if name != record["id"] or group != f"{record['stage']}/{name}":
        raise CorruptRunError(f"{path}: {group}: stage, parameters and inputs are those of a run {name}")
    if name in lake:
        return name
    with Attempt(lake, record["stage"], record["parameters"], record["inputs"], None, {}, record["version"]) as attempt:
        attempt.discard()
        inside = [k for k in map(str, dataset.variables) if k.startswith("lake_file_")]
        small = dataset.drop_vars([*inside, *(["positions", "cell"] if about else [])])
        try:
            for key in inside:
                target = attempt.path / str(dataset[key].attrs["name"])
                if not target.resolve().is_relative_to(attempt.path.resolve()):
                    raise CorruptRunError(f"{path}: {group}: a file {dataset[key].attrs['name']!r} outside of its run")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(dataset[key].values.tobytes())
            small = small.load().drop_encoding()
            if about:
                n_frames = about.pop("n_frames")
                writer = attempt.trajectory_writer(n_frames=max(n_frames, 1), **about)
                for first in range(0, n_frames, _BLOCK_FRAMES):
                    part = slice(first, min(first + _BLOCK_FRAMES, n_frames))
                    for r, box in zip(dataset["positions"][part].values, dataset["cell"][part].values, strict=True):
                        writer.append(r, box)
                writer.finish()
                beside = [k for k in about["coords"] if k in small.coords and k not in record.get("variables", {})]
                small = small.drop_vars(beside)
        except DatalakeError:
            raise
        except Exception as error:
            raise CorruptRunError(f"{path}: {group}: cannot be read: {error}") from error
        return attempt.publish_copy(small, record, {"file": path.name, "sha256": digest, "at": provenance.now()})
