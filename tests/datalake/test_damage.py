"""What is broken on purpose is told by the names of the run and of the file, and never read as data."""

import contextlib
import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lake_kill
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numbers_lake import publish

from argyase.datalake import files, one_file
from argyase.datalake.errors import CorruptRunError, DatalakeError, NotInLakeError
from argyase.datalake.lake import FORMATS, Lake
from argyase.datalake.store import Store


def trajectory(lake: Lake, frames: int = 20, kept: int | None = None) -> str:
    with lake.begin("trajectory", {"seed": 1}) as attempt:
        w = attempt.trajectory_writer(
            n_atoms=3, n_frames=frames, coords={"species": ["Li"] * 3}, time_step_ps=1.0, shard_frames=8
        )
        for t in range(w.frames, frames):
            w.append(np.full((3, 3), float(t)), 9 * np.eye(3), energy=float(t))
            if w.frames == kept:
                w.checkpoint({"frames": w.frames})
                return attempt.id
        w.finish()
        return attempt.publish(xr.Dataset({"energy": ("frame", w.scalars()["energy"])}))


def all_of(lake: Lake, name: str) -> dict[str, np.ndarray]:
    dataset = lake.open_run(name)
    return {str(k): v.values for k, v in dataset.variables.items()} | {"scalars": np.array(lake.record(name).scalars)}


def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Shortened; the command line of lake_kill.py does hundreds.

    A process of its own, as it forks and the threads of this one (zarr's, numba's, MPI's) do not survive that.
    """
    command = [sys.executable, lake_kill.__file__, str(tmp_path / "killed"), "--kills", "12", "--longest", "0.4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr
    counts = json.loads(done.stdout)
    assert counts["kills"] >= 12
    assert counts["published"] > 0
    assert counts["reads"] > counts["published"]
    assert (counts["losses"], counts["wrong"], counts["problems"], counts["crashes"]) == ([], [], [], 0)


@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_bit_anywhere_is_told_or_harmless(tmp_path: Path, form: str) -> None:
    """In every file of a run: the error names the run and the file, or the numbers are what they were."""
    lake = Lake(tmp_path)
    lake.set_format(form)
    name = trajectory(lake)
    want, rng = all_of(lake, name), np.random.default_rng(0)
    for path in sorted(p for p in lake.record(name).path.rglob("*") if p.is_file()):
        original, told = path.read_bytes(), 0
        for place in rng.integers(0, len(original), 60 if path.name == "traj.nc" else 12):
            damaged = bytearray(original)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                have = all_of(lake, name)
            except CorruptRunError as error:
                said = str(error)
            else:
                said = ""
            if said:
                told += 1
                assert name in said
                assert path.name in said
            else:
                assert have.keys() == want.keys()
                for k, v in want.items():
                    np.testing.assert_array_equal(have[k], v)
                # Of white space in JSON, a change between blank, tab and line end; of HDF5, what nothing refers to.
                assert path.suffix == ".json" or path.name == "traj.nc"
            assert path.name == "run.json" or [p.id for p in lake.verify(name)] == [name]
        assert told > 6
        path.write_bytes(original)
    assert lake.verify() == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("how", [Path.unlink, lambda p: os.truncate(p, p.stat().st_size // 2)])
def test_missing_and_cut_files_are_told_and_repaired(tmp_path: Path, how: Callable[[Path], None], form: str) -> None:
    lake = Lake(tmp_path)
    lake.set_format(form)
    name = trajectory(lake)
    want = all_of(lake, name)
    names = sorted(str(p.relative_to(lake.record(name).path)) for p in lake.record(name).path.rglob("*") if p.is_file())
    assert len(names) > 7 if form == "zarr" else names == ["data.nc", "run.json", "traj.nc"]
    for n, file in enumerate(names, 1):
        how(lake.record(name).path / file)
        with pytest.raises((CorruptRunError, NotInLakeError), match=name):
            lake.open_run(name)
        (problem,) = lake.verify()
        assert (problem.id, problem.file) == (name, file)
        assert lake.verify(name, repair=True) == [problem]
        assert name not in lake
        assert lake.search() == lake.verify() == []
        asides = sorted((tmp_path / "broken").iterdir())
        assert len(asides) == n
        assert str(problem) in (asides[-1] / "why.txt").read_text()
        assert (asides[-1] / name).is_dir()
        assert trajectory(lake) == name
        for k, v in all_of(lake, name).items():
            np.testing.assert_array_equal(v, want[k])


def test_the_rest_of_a_run_does_not_stand_in_the_way(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    name = publish(lake)
    (lake.record(name).path / "run.json").unlink()
    assert publish(lake) == name
    assert name in lake
    assert lake.verify() == []
    assert len(list((tmp_path / "broken").iterdir())) == 1


def test_a_record_that_a_killed_attempt_has_left_is_no_file_of_the_run(tmp_path: Path) -> None:
    """Killed between the record and the rename; found by lake_kill.py."""
    lake = Lake(tmp_path)
    trajectory(lake, kept=12)
    (item,) = lake.unfinished()
    (item.path / "run.json").write_text('{"of": "before"}')
    name = trajectory(lake)
    assert "run.json" not in lake.record(name).files
    assert lake.verify() == []


@pytest.mark.parametrize("file", ["progress.json", "tail.12.npz", "traj.zarr/positions/c.0.0.0"])
def test_a_broken_checkpoint_is_not_gone_on_with(tmp_path: Path, file: str) -> None:
    lake = Lake(tmp_path)
    name = trajectory(lake, kept=12)
    (item,) = lake.unfinished()
    if file.endswith("0"):
        (item.path / file).unlink()
    else:
        content = (item.path / file).read_bytes()
        (item.path / file).write_bytes(content.replace(b"12", b"13") if file == "progress.json" else content[:-100])
    with pytest.raises(CorruptRunError, match=f"{name}.*{file}"):
        trajectory(lake)
    assert [(p.id, p.file) for p in lake.verify(repair=True)] == [(name, file)]
    assert lake.unfinished() == []
    assert trajectory(lake) == name
    np.testing.assert_array_equal(lake.trajectory(name).positions()[:, 0, 0], np.arange(20.0))


def test_a_changed_bit_in_the_store_is_told_or_harmless(tmp_path: Path) -> None:
    """Also where the shape of an array stands: numpy itself reads one that became shorter without a word."""
    store, key, array = Store(tmp_path, "x"), "ab" * 32, np.arange(12.0)
    store.put(key, {"a": array})
    (path,) = tmp_path.rglob("*.npz")
    original, told = path.read_bytes(), 0
    for place in range(len(original)):
        for bit in range(8):
            path.write_bytes(original[:place] + bytes([original[place] ^ 1 << bit]) + original[place + 1 :])
            try:
                found = store.get(key)
            except CorruptRunError as error:
                told += key in str(error)
                continue
            assert found is not None
            np.testing.assert_array_equal(found["a"], array)
    assert told > 4 * len(original)
    os.truncate(path, 100)
    lake = Lake(tmp_path)
    assert [(p.id, p.file) for p in lake.verify(repair=True)] == [(key, str(path.relative_to(tmp_path)))]
    assert store.get(key) is None


def in_child(body: Callable[[], str]) -> str:
    """What `body` says in a process of its own, whose limits and user are nobody else's."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(write, body().encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, (code, said)
    return said


def test_a_full_disk_is_told_and_gone_on_after(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: each write beyond it fails as on a full one."""
    lake = Lake(tmp_path)
    big = xr.Dataset({"noise": ("n", np.random.default_rng(0).random(20_000))})

    def limited() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        try:
            lake.publish("noise", {}, big)
        except DatalakeError as error:
            return str(error)
        return "published"

    said = in_child(limited)
    assert "cannot be written" in said
    assert lake.id("noise", {}) in said
    assert lake.search() == lake.verify() == []
    name = lake.publish("noise", {}, big)
    np.testing.assert_array_equal(lake.open_run(name)["noise"], big["noise"])


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_fills_while_frames_come_costs_no_checkpoint(tmp_path: Path, form: str) -> None:
    """Whatever is being written when it is full: a shard, a checkpoint, the one file of a trajectory."""
    lake, seen = Lake(tmp_path), set()
    lake.set_format(form)
    noise = np.random.default_rng(0).normal(size=(40, 100, 3))

    def written(limit: int) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with lake.begin("noise", {}) as attempt:
            w = attempt.trajectory_writer(
                n_atoms=100, n_frames=40, coords={"species": ["Li"] * 100}, time_step_ps=1.0, shard_frames=16
            )
            for t in range(w.frames, 40):
                w.append(noise[t], 9 * np.eye(3))
                if t % 5 == 0:
                    w.checkpoint({"frames": w.frames})
            w.finish()
            return attempt.publish(xr.Dataset())

    kept = 0
    for limit in (4_000, 8_000, 12_000, 16_000, 20_000, 24_000, 28_000):
        said = in_child(lambda limit=limit: written(limit))
        if "Error" not in said:
            break
        assert "DatalakeError: " in said
        assert "cannot be written: File too large" in said
        seen.add(said.split(": ")[1].rpartition("/")[2])
        assert lake.search() == lake.verify() == []
        # What was safe is safe, and more room brings it further.
        frames = lake.unfinished()[0].frames if lake.unfinished() else 0
        assert frames >= kept
        kept = frames
    assert kept > 0
    assert seen >= {"progress.json"}
    name = in_child(lambda: written(resource.RLIM_INFINITY))
    np.testing.assert_allclose(lake.trajectory(name).positions(), noise, atol=0.51e-4)


class SmallDisk(io.FileIO):
    """A file that takes this many bytes at most, and what fits of the write that fills it, as a disk does."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "w+b")
        self.room = room

    def write(self, content: Any) -> int:
        if not (fits := bytes(content)[: max(0, self.room - self.tell())]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fits)


@given(
    room=st.integers(0, 30_000),
    calls=st.lists(st.tuples(st.integers(0, 25_000), st.binary(max_size=9000), st.integers(1, 9000)), max_size=12),
)
def test_what_the_disk_did_not_take_is_read_again_and_told(
    room: int, calls: list[tuple[int, bytes, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """HDF5 crashes if it reads something else than it wrote."""
    path = tmp_path_factory.mktemp("disk") / "file"
    want, patient = bytearray(), one_file._Patient(path)
    with patient._file:
        patient._file = SmallDisk(path, room)
    for at, content, size in calls:
        patient.seek(at)
        assert patient.write(content) == len(content)
        assert patient.tell() == at + len(content)
        if content:
            want = want.ljust(at, b"\0")
            want[at : at + len(content)] = content
        patient.seek(max(0, at - 100))
        # Beyond the end there is nothing, or zeros.
        assert patient.read(size).ljust(size, b"\0") == bytes(want[max(0, at - 100) :][:size]).ljust(size, b"\0")
    told = pytest.raises(OSError, match="No space left") if len(want) > room else contextlib.nullcontext()
    with told, patient:
        assert patient.seek(0, os.SEEK_END) >= len(want)


def test_what_a_network_file_system_shows_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server did it and its answer was lost: not an error. It is never seen: told."""
    replace = os.replace

    def lost(source: Path, target: Path) -> None:
        replace(source, target)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(files.os, "replace", lost)
    lake = Lake(tmp_path)
    assert publish(lake) in lake
    monkeypatch.setattr(files.os, "replace", lambda source, target: shutil.rmtree(source))
    monkeypatch.setattr(files, "LATE_SECONDS", 0.1)
    (tmp_path / "a").mkdir()
    with pytest.raises(TimeoutError, match="was put in place, and is not seen"):
        files.rename(tmp_path / "a", tmp_path / "b")
