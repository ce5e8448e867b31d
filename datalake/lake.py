"""The data lake: runs that appear whole, by one rename, and never change.

::

    lake/runs/<stage>/<id[:2]>/<id>/    run.json, data.nc, and for trajectories traj.zarr, or traj.nc (see `FORMATS`)
    lake/work/<id>.<attempt>/           in progress: begin.json says what, since when and by whom
    lake/failed/<id>.json               a run that ended by an error and left nothing else
    lake/catalogue.sqlite               disposable index
    lake/lake.json                      the format of the lake, if it is not the usual one
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from argyase.datalake import provenance as _provenance
from argyase.datalake.catalogue import Catalogue
from argyase.datalake.errors import CorruptRunError, DatalakeError, NotInLakeError, RunningElsewhereError, SchemaError
from argyase.datalake.files import (
    fsync_tree,
    rename,
    replace_bytes,
    replace_json,
    sealed,
    sha256,
    unsealed,
    writing,
)
from argyase.datalake.identity import REQUIRED, canonical, read_record, run_id
from argyase.datalake.one_file import convert
from argyase.datalake.schema import Schema, validate
from argyase.datalake.store import damaged
from argyase.datalake.trajectory import (
    TRAJECTORIES,
    TrajectoryReader,
    TrajectoryWriter,
    missing_shards,
    read_progress,
    read_tail,
    write_progress,
)

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)

_SCRATCH = re.compile(r"lock|begin\.json|progress\.json|tail\..*|restart\..*|\..*")
"""Files of a work folder that are not part of the run."""

_RECORD = "run.json"
"""Does not list itself: an attempt that was killed before its rename has left one for the next."""


FORMATS = ("zarr", "hdf5")
"""How trajectories are published: a folder of shards, as in a lake that does not say, or one NetCDF file."""


@dataclass(frozen=True)
class RunRecord:
    """What ``run.json`` says of a run."""

    id: str
    stage: str
    parameters: dict[str, Any]
    inputs: list[str]
    scalars: dict[str, Any]
    provenance: dict[str, Any]
    created: str
    schema: str
    version: int
    files: dict[str, dict[str, Any]]
    path: Path = field(compare=False)


@dataclass(frozen=True)
class Lineage:
    """A run and what it was computed from; `record` is None if the lake does not have it."""

    id: str
    record: RunRecord | None
    parents: list[Lineage]

    def walk(self) -> Iterator[Lineage]:
        """The run, then each of its ancestors once."""
        waiting, seen = [self], set[str]()
        while waiting:
            if (item := waiting.pop(0)).id not in seen:
                seen.add(item.id)
                yield item
                waiting += item.parents


_LEFT = "left unfinished"


@dataclass(frozen=True)
class Unfinished:
    """A run in progress, or one whose writer died."""

    id: str
    stage: str
    path: Path
    frames: int
    alive: bool
    parameters: dict[str, Any]
    attempts: list[dict[str, Any]]

    @property
    def state(self) -> str:
        """``running``; ``failed`` if it ended by an error; ``stale`` if it was killed or interrupted."""
        if self.alive:
            return "running"
        return "failed" if self.exit.partition(":")[0] not in ("", "KeyboardInterrupt", _LEFT) else "stale"

    @property
    def exit(self) -> str:
        """The error that ended the last attempt; empty if it did not live to tell."""
        return str(self.attempts[-1].get("exit", "")) if self.attempts else ""

    @property
    def begun(self) -> str:
        """When the first attempt began."""
        return str(self.attempts[0].get("start", "")) if self.attempts else ""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a published run."""

    id: str
    file: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.id} {self.file}: {self.reason}"


class Lake:
    """A folder of published runs.

    Parameters
    ----------
    path
        The folder; made if `create` and it does not exist.

    Attributes
    ----------
    format
        One of `FORMATS`: of trajectories that are published from now on; see `set_format`.

    Raises
    ------
    NotInLakeError
        If there is no such folder and `create` is False.
    CorruptRunError
        If its ``lake.json`` was changed.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_dir():
            if not create:
                raise NotInLakeError(f"{path}: no such lake; check --lake, or make one with argyase run")
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatalakeError(f"{path}: cannot be made: {error.strerror}") from None
        self._catalogue = Catalogue(self.path)
        self.format = FORMATS[0]
        if (told := self.path / "lake.json").exists():
            self.format = str(unsealed(told, ()).get("format"))
            if self.format not in FORMATS:
                raise DatalakeError(f"{told}: format {self.format!r} is not known to this version; update argyase")

    def set_format(self, name: str) -> None:
        """Choose how trajectories are published from now on; what is there stays as it is, and readable.

        Raises
        ------
        DatalakeError
            If there is no format of this name.
        """
        if name not in FORMATS:
            raise DatalakeError(f"format {name!r}: there are {', '.join(FORMATS)}")
        told = self.path / "lake.json"
        with writing(told):
            replace_json(told, sealed({"format": name}))
        self.format = name

    # ---- names ----

    def id(self, stage: str, parameters: Mapping[str, Any], inputs: Sequence[str] = (), version: int = 1) -> str:
        """Name of the run with these parameters and inputs, whether or not the lake has it."""
        return run_id(stage, parameters, inputs, version)

    def _folder(self, stage: str, name: str) -> Path:
        return self.path / "runs" / stage / name[:2] / name

    def _failed(self, name: str) -> Path:
        return self.path / "failed" / f"{name}.json"

    def _published(self, name: str) -> Path | None:
        try:
            return self._find(name)
        except NotInLakeError:
            return None

    def _find(self, name: str) -> Path:
        if len(name) < 6 or not all(c in "0123456789abcdef" for c in name):
            raise NotInLakeError(f"{name!r}: not an id; ids are 20 hexadecimal digits, and 6 of them are enough")
        found = [p for p in (self.path / "runs").glob(f"*/{name[:2]}/{name}*") if (p / "run.json").is_file()]
        if not found:
            raise NotInLakeError(f"{name}: the lake {self.path} has no such run; list them with: argyase lake ls")
        if len(found) > 1:
            raise NotInLakeError(f"{name}: stands for {', '.join(p.name for p in found)}; give more digits")
        return found[0]

    def __contains__(self, name: object) -> bool:
        """Whether a run of this id is published."""
        return self._published(str(name)) is not None

    def file(self, name: str, file: str) -> Path:
        """Path of a file of a run.

        Raises
        ------
        NotInLakeError
            If the lake has no such run, or the run no such file.
        CorruptRunError
            If the file is missing, cut or changed.
        """
        path = self._find(name) / file
        known = self.record(name).files.get(file)
        if known is None and not path.is_file():
            raise NotInLakeError(f"{name}: the run has no file {file}")
        if known and (problem := _problem(path, known)):
            raise CorruptRunError(f"{path}: {problem}; see argyase lake verify --repair")
        return path

    # ---- writing ----

    def begin(
        self,
        stage: str,
        parameters: Mapping[str, Any],
        inputs: Sequence[str] = (),
        schema: Schema | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Attempt:
        """Start a run, or take over the one whose writer died.

        Raises
        ------
        RunningElsewhereError
            If a living process works on it.
        """
        return Attempt(self, stage, canonical(parameters), list(inputs), schema, dict(provenance or {}))

    def publish(
        self,
        stage: str,
        parameters: Mapping[str, Any],
        dataset: xr.Dataset,
        inputs: Sequence[str] = (),
        schema: Schema | None = None,
        scalars: Mapping[str, float | str] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> str:
        """Publish a dataset; the id. A run that is there already is kept, and the new one discarded."""
        with self.begin(stage, parameters, inputs, schema, provenance) as attempt:
            return attempt.publish(dataset, scalars)

    def remove(self, name: str) -> None:
        """Remove a published run, by one rename; or else what is left of one that was not finished.

        Raises
        ------
        RunningElsewhereError
            If a living process works on it.
        """
        try:
            path = self._find(name)
        except NotInLakeError:
            left = [item for item in (*self.unfinished(), *self.failures()) if item.id.startswith(name)]
            if len({item.id for item in left}) != 1:
                raise
            if any(item.alive for item in left):
                raise RunningElsewhereError(f"{name}: {_owner(left[0].path)} works on it; stop it first") from None
            for item in left:
                self._throw_away(item.path) if item.path.is_dir() else item.path.unlink()
            return
        self._throw_away(path)

    def _throw_away(self, path: Path) -> None:
        """Remove a folder, by one rename to a name that no attempt takes for its own."""
        aside = self.path / "work" / f".removed.{path.name}.{os.getpid()}.{time.time_ns()}"
        with writing(path):
            aside.parent.mkdir(exist_ok=True)
            rename(path, aside)
        for left in aside.parent.glob(".removed.*"):  # also by processes that were killed
            shutil.rmtree(left, ignore_errors=True)

    # ---- reading ----

    def record(self, name: str) -> RunRecord:
        """What is known of a run; six digits of its id are enough.

        Raises
        ------
        NotInLakeError
            If there is no such run.
        CorruptRunError
            If its ``run.json`` cannot be read.
        """
        path = self._find(name)
        try:
            return _record(read_record(path), path)
        except FileNotFoundError:  # removed at this moment
            raise NotInLakeError(f"{name}: the lake {self.path} has no such run any more") from None

    def failure(
        self, stage: str, parameters: Mapping[str, Any], inputs: Sequence[str] = (), version: int = 1
    ) -> RunRecord | None:
        """The record of an earlier failure of this run (see `Attempt.publish_failure`)."""
        name = run_id(failed(stage), parameters, inputs, version)
        return self.record(name) if name in self else None

    def open_run(self, name: str) -> xr.Dataset:
        """The results of a run; of a trajectory also positions and cell, read when they are used.

        Raises
        ------
        CorruptRunError
            If a file is missing, cut or changed; of a trajectory, what is read later is looked at then.
        """
        import xarray as xr

        record = self.record(name)
        check_files(record)
        try:
            with xr.open_dataset(record.path / "data.nc", engine="h5netcdf") as dataset:
                dataset.load()
        except Exception as error:
            raise CorruptRunError(f"{record.path / 'data.nc'}: cannot be opened: {error}") from error
        if (path := _trajectory(record)) is None:
            return dataset
        return dataset.merge(TrajectoryReader(path).dataset())

    def trajectory(self, name: str) -> TrajectoryReader:
        """The trajectory of a run, read piece by piece.

        Raises
        ------
        NotInLakeError
            If the run has none.
        CorruptRunError
            If a file is missing or cut; each piece is compared with its checksum when it is read.
        """
        record = self.record(name)
        if (path := _trajectory(record)) is None:
            raise NotInLakeError(f"{name}: a run of stage {record.stage}, without trajectory")
        check_files(record)
        return TrajectoryReader(path)

    def search(self, stage: str | None = None, **parameters: Any) -> list[RunRecord]:
        """Runs with these parameters, oldest first.

        A number or text must be equal (after rounding), a tuple (low, high) is a range with its ends, a list names
        alternatives; ``md__timestep_fs`` looks inside a table.
        """
        return [_record(r, self._folder(r["stage"], r["id"])) for r in self._catalogue.records(stage, parameters)]

    def open(
        self,
        stage: str,
        dims: Sequence[str] = ("x", "inversion", "temperature_K", "seed"),
        lazy: bool = False,
        **parameters: Any,
    ) -> xr.Dataset:
        """All runs of a stage as one dataset over the parameters named in `dims`; missing points are NaN.

        The labels are the parameters as the lake keeps them, rounded to four decimals (below 1, to four digits), so
        that ``.sel(x=0.3)`` finds what was stored as 0.1 + 0.2. Where runs have other coordinates (lags, distances),
        the dataset has those of all. Runs without one of the parameters are at NaN, or at an empty text.

        Parameters
        ----------
        stage
            Stage of the runs.
        dims
            Parameters that become dimensions; what no run has is left out.
        lazy
            Arrays of dask, read when they are computed; then trajectories are in it, too.
        **parameters
            As in `search`.

        Raises
        ------
        NotInLakeError
            If no run matches.
        DatalakeError
            If two runs fall onto one point (the message names the parameter to select by), if they are of versions
            that do not mix, or if `lazy` is asked for without dask.
        CorruptRunError
            If a file cannot be read.
        """
        from argyase.datalake.cube import Source, cube

        with _many_small_objects():
            found = self._catalogue.numbers(stage, parameters)
            if not found:
                raise NotInLakeError(f"the lake has no run of stage {stage!r} with {parameters}")
            folder = self.path / "runs" / stage
            return cube(stage, [Source(i, folder, p, s, v, h) for i, p, s, v, h in found], dims, lazy)

    def lineage(self, name: str) -> Lineage:
        """Where a run comes from: its inputs, theirs, and so on up to structures and labels.

        A run whose parameters hold the hash of a file that another run published (a trained potential) descends from
        that one, too. An input that the lake does not have is there with its id and no record.
        """
        made: dict[str, Lineage] = {}

        def of(run: str, below: frozenset[str] = frozenset()) -> Lineage:
            if run not in made:
                if run not in self:
                    return made.setdefault(run, Lineage(run, None, []))
                record, below = self.record(run), below | {run}
                parents = [*record.inputs, *(o for h in _hashes(record.parameters) for o in self._catalogue.owners(h))]
                # Two fits may have come to the very same file: what is below is no parent.
                made[run] = Lineage(run, record, [of(i, below) for i in dict.fromkeys(parents) if i not in below])
            return made[run]

        return of(self.record(name).id)

    def unfinished(self) -> list[Unfinished]:
        """Runs in progress, and runs that were killed, interrupted, or failed with a checkpoint to go on from."""
        found = []
        for path in sorted((self.path / "work").glob("[!.]*.*")):
            if begin := _json(path / "begin.json"):
                frames = 0
                with contextlib.suppress(CorruptRunError):  # for `verify` to tell
                    frames = int((read_progress(path) or {}).get("frames", 0))
                found.append(_unfinished(path.name.split(".")[0], path, frames, _locked(path), begin))
        return found

    def failures(self) -> list[Unfinished]:
        """Runs that ended by an error and left nothing but the tale."""
        paths = sorted((self.path / "failed").glob("*.json"))
        return [_unfinished(path.stem, path, 0, False, begin) for path in paths if (begin := _json(path))]

    def verify(self, name: str | None = None, repair: bool = False) -> list[Problem]:
        """Compare the files of one run, or of everything, with their hashes and checksums.

        Everything: all runs, the checkpoints of those that nobody works on, and the results in the store.

        Parameters
        ----------
        name
            Id of a run, or its first digits.
        repair
            Move what is broken into ``broken/``, with a note why, so that it is computed again. Nothing is deleted.

        Raises
        ------
        NotInLakeError
            If there is no run of that name.
        """
        if name:
            paths = [p for p in (self.path / "runs").glob(f"*/{name[:2]}/{name}*") if p.is_dir()]
            if not all(c in "0123456789abcdef" for c in name) or len(paths) != 1:
                paths = [self._find(name)]  # which tells what is wrong with the name
        else:
            paths = sorted(p for p in (self.path / "runs").glob("*/*/*") if p.is_dir())
        problems = []
        for path in paths:
            if found := _examine(path):
                problems += found
                if repair:
                    self._set_aside(path, found)
        return problems if name else problems + self._verify_work(repair) + self._verify_store(repair)

    def _verify_work(self, repair: bool) -> list[Problem]:
        problems = []
        for path in sorted(p for p in (self.path / "work").glob("[!.]*.*") if p.is_dir()):
            handle = _lock(path) if repair else os.open(path, os.O_RDONLY)
            if handle is None or (not repair and _locked(path)):  # its owner knows
                continue
            try:
                progress = read_progress(path)
                read_tail(path, progress or {})
                whole = progress["frames"] // progress["shard_frames"] if progress and "frames" in progress else 0
                for lost in missing_shards(path / "traj.zarr", whole):
                    raise CorruptRunError(f"{lost}: missing")
            except CorruptRunError as error:
                file, _, why = str(error).removeprefix(f"{path}/").partition(": ")
                problems.append(Problem(path.name.split(".")[0], file, why))
                if repair:
                    self._set_aside(path, problems[-1:])
            finally:
                os.close(handle)
        return problems

    def _verify_store(self, repair: bool) -> list[Problem]:
        problems = []
        for path, why in damaged(self.path):
            problems.append(Problem(path.stem, str(path.relative_to(self.path)), why))
            if repair:
                self._set_aside(path, problems[-1:])
        return problems

    def _set_aside(self, path: Path, problems: Sequence[Problem]) -> None:
        """Move a folder or a file into ``broken/``."""
        aside = self.path / "broken" / f"{path.stem.split('.')[0]}.{time.time_ns()}"
        text = f"""\
{_provenance.now()}: moved here from {path.relative_to(self.path)}, because

{"".join(f"    {problem}" + chr(10) for problem in problems)}
Nothing reads this folder. The command that made the run computes it again; then this folder may go.
"""
        with writing(aside):
            aside.mkdir(parents=True)
            replace_bytes(aside / "why.txt", text.encode())
            rename(path, aside / path.name)


class Attempt:
    """A run in progress. Leaving it by an exception keeps what is there, for the next attempt to go on with.

    Attributes
    ----------
    id, path
        Name of the run, and its work folder.
    state
        What the caller gave to the last `checkpoint` of an earlier attempt (or of its `TrajectoryWriter`); empty if
        there was none.
    """

    def __init__(
        self,
        lake: Lake,
        stage: str,
        parameters: dict[str, Any],
        inputs: list[str],
        schema: Schema | None,
        provenance: dict[str, Any],
        version: int = 1,
    ) -> None:
        self._lake, self._stage, self._parameters, self._inputs = lake, stage, parameters, inputs
        self._schema, self._provenance = schema, provenance
        self._version = schema.version if schema else version
        self._gone = False  # published, or discarded: a folder of that name is of another attempt
        self._start, self._cpu = time.monotonic(), _provenance.cpu_seconds()
        self.id = run_id(stage, parameters, inputs, self._version)
        self.path, self._lock = self._claim()
        lake._failed(self.id).unlink(missing_ok=True)
        with _closed_on_error(self._lock):
            progress = read_progress(self.path)
            self.state: dict[str, Any] = dict(progress["state"]) if progress else {}

    def _claim(self) -> tuple[Path, int]:
        work = self._lake.path / "work"
        try:
            work.mkdir(exist_ok=True)
        except OSError as error:
            raise DatalakeError(f"{work}: cannot be made: {error.strerror}; is the lake read-only?") from None
        for path in sorted(work.glob(f"{self.id}.*")):
            handle = _lock(path, patience=0.05)
            if handle is None:
                raise RunningElsewhereError(f"{self.id} ({self._stage}): {_owner(path)} works on it; wait, or stop it")
            if (path / "begin.json").is_file():
                with _closed_on_error(handle), writing(path):
                    return path, self._own(path, handle)
            os.close(handle)
        # Made under a name that nobody looks at and put in place with its lock held: of two who begin at once, one
        # finds the other's folder in its way.
        path, new = work / f"{self.id}.0", work / f".{self.id}.{os.getpid()}.{time.time_ns()}"
        with writing(new):
            new.mkdir()
            handle = _lock(new)
            assert handle is not None
            with _closed_on_error(handle):
                try:
                    self._own(new, handle)
                    rename(new, path)
                except OSError as error:
                    shutil.rmtree(new, ignore_errors=True)
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    raise RunningElsewhereError(
                        f"{self.id} ({self._stage}): {_owner(path)} works on it; wait, or stop it"
                    ) from None
        return path, handle

    def _own(self, path: Path, handle: int) -> int:
        """Write who works on it since when, before anything else is written."""
        told = self._lake._failed(self.id)
        before = (_json(path / "begin.json") or _json(told) or {}).get("attempts", [])
        own: dict[str, Any] = {
            k: self._provenance[k] for k in ("host", "command", "slurm_job") if k in self._provenance
        }
        self._attempts: list[dict[str, Any]] = [*before, {"pid": os.getpid(), "start": _provenance.now(), **own}]
        found = {i: p for i in self._inputs if (p := self._lake._published(i))}
        self._provenance["inputs_sha256"] = {i: sha256(p / "run.json") for i, p in found.items()}
        replace_json(path / "begin.json", self._begin())
        return handle

    def _begin(self) -> dict[str, Any]:
        return {
            "stage": self._stage,
            "parameters": self._parameters,
            "inputs": self._inputs,
            "provenance": self._provenance,
            "attempts": self._attempts,
            # Of the last attempt, for whoever is told that it is at work.
            **self._attempts[-1],
        }

    def _close(self, how: str) -> None:
        """Note the end of this attempt."""
        wall, cpu = time.monotonic() - self._start, _provenance.cpu_seconds() - self._cpu
        end = {"wall_seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "exit": how}
        self._attempts[-1] = {**self._attempts[-1], "end": _provenance.now(), **end}

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the run; an unfinished work folder without a checkpoint is of no use to anybody.

        Of a run that failed, what it was and how it ended is kept.
        """
        try:
            if not self._gone:
                how = type(error).__name__ if error else _LEFT
                self._close(f"{how}: {error}" if str(error or "") else how)
                # A full disk must not hide the error that is on its way.
                with contextlib.suppress(OSError):
                    if (self.path / "progress.json").exists():
                        replace_json(self.path / "begin.json", self._begin())
                    elif isinstance(error, Exception):
                        self._lake._failed(self.id).parent.mkdir(exist_ok=True)
                        replace_json(self._lake._failed(self.id), self._begin())
                if not (self.path / "progress.json").exists():
                    with contextlib.suppress(DatalakeError):
                        self._lake._throw_away(self.path)
        finally:
            os.close(self._lock)

    def trajectory_writer(self, **settings: Any) -> TrajectoryWriter:
        """A `TrajectoryWriter` in the work folder; it goes on where an earlier attempt's checkpoint was."""
        return TrajectoryWriter(self.path, **settings)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep the work folder and what is in there for a later attempt, which finds this `state`.

        For stages without a trajectory; files of a name that begins with ``restart.`` do not become part of the run.
        """
        with writing(self.path / "progress.json"):
            write_progress(self.path, {"state": dict(state)})

    def discard(self) -> None:
        """Forget what an earlier attempt has left."""
        for path in self.path.iterdir():
            if path.name not in ("lock", "begin.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.state = {}

    def publish_copy(self, dataset: xr.Dataset, record: Mapping[str, Any], source: Mapping[str, Any]) -> str:
        """Publish a run of another lake as what it was there, with its provenance, and the `source` of the copy."""
        copy = {**record, "provenance": {**record["provenance"], "imported": dict(source)}}
        return self._appear(self._stage, self.id, dataset, copy)

    def publish(self, dataset: xr.Dataset, scalars: Mapping[str, float | str] | None = None) -> str:
        """Write the results and make the run appear; its id.

        Numbers without dimensions become scalars of the record, for tables and searches. If another process
        published the same run first, that one is kept and this one discarded.

        Raises
        ------
        SchemaError
            If the dataset is not what the schema declares.
        """
        return self._publish(self._stage, self.id, dataset, scalars, "done")

    def publish_failure(
        self, reason: str, dataset: xr.Dataset, scalars: Mapping[str, float | str] | None = None
    ) -> str:
        """Publish what a run that failed has computed, under the stage ``<stage>-failed``, with the reason."""
        stage = failed(self._stage)
        name = run_id(stage, self._parameters, self._inputs, self._version)
        progress = self.path / "traj.zarr"
        frames = TrajectoryReader(progress).n_frames if progress.is_dir() else 0
        scalars = {**(scalars or {}), "reason": reason, "frames": frames}
        return self._publish(stage, name, dataset, scalars, f"failed: {reason}")

    def _publish(
        self, stage: str, name: str, dataset: xr.Dataset, scalars: Mapping[str, float | str] | None, how: str
    ) -> str:
        if self._schema is not None:
            validate(dataset, self._schema)
        found = {str(k): v.item() for k, v in dataset.data_vars.items() if v.ndim == 0}
        self._close(how)
        end = {k: self._attempts[-1][k] for k in ("end", "wall_seconds", "cpu_seconds", "exit")}
        record = {
            "id": name,
            "stage": stage,
            "parameters": self._parameters,
            "inputs": self._inputs,
            "scalars": {**found, **(scalars or {})},
            "provenance": {**self._provenance, **end, "attempts": self._attempts},
            "schema": self._schema.name if self._schema else "",
            "version": self._version,
        }
        return self._appear(stage, name, dataset, {**record, "created": _provenance.now()})

    def _appear(self, stage: str, name: str, dataset: xr.Dataset, record: Mapping[str, Any]) -> str:
        """Write the files of the run and make it appear by one rename."""
        with writing(self.path):
            return self._write(stage, name, dataset, record)

    def _write(self, stage: str, name: str, dataset: xr.Dataset, record: Mapping[str, Any]) -> str:
        from argyase.datalake.cube import describe

        encoding = {
            # With a checksum that HDF5 compares, whoever reads.
            k: {"compression": "gzip", "compression_opts": 4, "fletcher32": True}
            for k, v in dataset.variables.items()
            if v.ndim and v.size and v.dtype.kind in "fi"
        }
        # By way of memory: HDF5 that cannot write any more takes the process with it.
        content = dataset.to_netcdf(engine="h5netcdf", encoding=encoding)
        replace_bytes(self.path / "data.nc", bytes(content))
        one_file = self._make_one_file()

        def scratch(file: str) -> bool:
            return bool(_SCRATCH.fullmatch(file)) or (one_file and file.split("/")[0] == "traj.zarr")

        files = {
            str(p.relative_to(self.path)): {"sha256": sha256(p), "size": p.stat().st_size}
            for p in sorted(self.path.rglob("*"))
            if p.is_file() and p.name != _RECORD and not scratch(str(p.relative_to(self.path)))
        }
        record = {**record, "variables": describe(dataset), "files": files}
        replace_json(self.path / "run.json", sealed(record))
        fsync_tree(self.path)
        target = self._lake._folder(stage, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                rename(self.path, target)
                self._gone = True
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            try:
                read_record(target)
            except (FileNotFoundError, CorruptRunError):  # what cannot be read stands in the way
                if found := _examine(target):
                    self._lake._set_aside(target, found)
            else:
                log.info("%s: published by another process first; this one is discarded", name)
                self._gone = True
                self._lake._throw_away(self.path)
                return name
        # Only now: a kill before the rename must leave all that a resume needs.
        for path in target.iterdir():
            if scratch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return name

    def _make_one_file(self) -> bool:
        """Whether one file is published instead of the shards; then it is there."""
        shards, whole = self.path / "traj.zarr", self.path / "traj.nc"
        if not shards.is_dir():
            return False
        if self._lake.format == "zarr":
            whole.unlink(missing_ok=True)  # of an attempt that was killed when the format was the other one
            return False
        convert(TrajectoryReader(shards), whole)
        return True


@contextlib.contextmanager
def _many_small_objects() -> Iterator[None]:
    """Without the collector of reference cycles, which would look at tens of thousands of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def failed(stage: str) -> str:
    """Stage under which the failures of a stage are kept."""
    return f"{stage}-failed"


def _record(data: Mapping[str, Any], path: Path) -> RunRecord:
    files = {file: known for file, known in data["files"].items() if file != _RECORD}
    return RunRecord(**{**{n: data[n] for n in REQUIRED}, "files": files}, path=path)


def _trajectory(record: RunRecord) -> Path | None:
    """Where the trajectory of a run is, or should be; None if it has none."""
    found = {file.split("/")[0] for file in record.files} & set(TRAJECTORIES)
    return record.path / found.pop() if found else None


def check_files(record: RunRecord) -> None:
    """Compare the files of a run with the record: trajectories by their sizes, for their pieces have checksums."""
    for file, known in record.files.items():
        pieces = file.startswith(TRAJECTORIES) and not file.endswith("zarr.json")
        if problem := _problem(record.path / file, known, content=not pieces):
            raise CorruptRunError(f"{record.path / file}: {problem}; see argyase lake verify --repair")


def _problem(path: Path, known: Mapping[str, Any], content: bool = True) -> str:
    """What is wrong with a file; empty if nothing."""
    try:
        if path.stat().st_size != known["size"]:
            return f"size is not {known['size']} bytes"
        return "content changed" if content and sha256(path) != known["sha256"] else ""
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _examine(path: Path) -> list[Problem]:
    """What is wrong with a published run."""
    try:
        record = _record(read_record(path), path)
    except FileNotFoundError:
        return [Problem(path.name, "run.json", "missing")] if path.is_dir() else []
    except CorruptRunError as error:
        return [Problem(path.name, "run.json", str(error).removeprefix(f"{path / 'run.json'}: "))]
    found = [Problem(path.name, f, why) for f, known in record.files.items() if (why := _problem(path / f, known))]
    if not found and (trajectory := _trajectory(record)):
        try:  # against the checksums, too: a shard that was damaged before the run was published has the right hash
            for _ in TrajectoryReader(trajectory).chunks():
                pass
        except CorruptRunError as error:
            found = [Problem(path.name, trajectory.name, str(error).removeprefix(f"{trajectory}: "))]
    return found if path.is_dir() else []  # removed at this moment


def _json(path: Path) -> dict[str, Any] | None:
    """A file of JSON; None if there is none, or not a whole one."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _unfinished(name: str, path: Path, frames: int, alive: bool, begin: Mapping[str, Any]) -> Unfinished:
    # Begun by an older version: no attempts were noted.
    attempts = begin.get("attempts") or [{k: begin.get(k, "") for k in ("host", "pid", "command")}]
    return Unfinished(name, begin["stage"], path, frames, alive, dict(begin.get("parameters", {})), list(attempts))


def _lock(path: Path, patience: float = 0.0) -> int | None:
    """Hold the exclusive lock of a work folder until the handle is closed or the process dies; None if it is held.

    Who only looks whether somebody holds it does so for a moment, too: hence the patience, s.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return os.open(os.devnull, os.O_RDONLY)  # just published or removed: nothing to hold
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two the folder may have been published, and another one of its name begun.
            if os.path.samestat(os.fstat(handle), os.stat(path / "lock")):
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                return None
            time.sleep(0.005)
        except OSError as error:
            os.close(handle)
            raise DatalakeError(
                f"{path}: the file system has no locks ({error.strerror}); mount it with them"
            ) from None
        os.close(handle)


@contextlib.contextmanager
def _closed_on_error(handle: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(handle)
        raise


def _locked(path: Path) -> bool:
    try:
        handle = os.open(path / "lock", os.O_RDONLY)  # of another user, too
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _owner(path: Path) -> str:
    try:
        begin = json.loads((path / "begin.json").read_text())
        return f"process {begin['pid']} on {begin.get('host')}"
    except (OSError, json.JSONDecodeError, KeyError):
        return "another process"


def _hashes(value: Any) -> Iterator[str]:
    """The sha256 sums among parameters."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _hashes(item)
    elif isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        yield value


__all__ = ["Attempt", "Lake", "Lineage", "Problem", "RunRecord", "SchemaError", "Unfinished"]
