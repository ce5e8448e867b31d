"""The lake: names, publication, search, concurrency, damage."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from numbers_lake import NUMBERS, numbers, publish

from argyase.datalake.errors import (
    CorruptRunError,
    DatalakeError,
    NotInLakeError,
    RunningElsewhereError,
    SchemaError,
)
from argyase.datalake.identity import canonical, run_id
from argyase.datalake.lake import Lake
from argyase.schemas import CONDUCTIVITY


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd="/", env=environment, text=True, stdout=subprocess.PIPE, **options)


# ---- names ----

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), plain, max_size=5))
def test_names_are_stable(parameters: dict[str, Any]) -> None:
    """Through JSON, in any order, once or twice canonical: the same name."""
    once = canonical(parameters)
    assert canonical(once) == once
    assert canonical(json.loads(json.dumps(once))) == once
    shuffled = dict(reversed(list(parameters.items())))
    name = run_id("s", parameters)
    assert run_id("s", shuffled) == name == run_id("s", once)
    assert len(name) == 20
    assert set(name) <= set("0123456789abcdef")


@given(st.floats(1e-12, 1e6), st.floats(1.001, 100.0))
def test_numbers_that_differ_have_other_names(value: float, factor: float) -> None:
    """By a thousandth or more, however small they are: tolerances, ridges; of the large, by the last decimal."""
    other = value * factor
    assume(other - value > 1e-4 or value < 1)
    assert canonical({"x": value}) != canonical({"x": other})
    assert canonical({"x": -value}) != canonical({"x": -other})
    # Noise of the last bits does not count, also in what should be nothing.
    assert canonical(value * 0.1 * 3 - value * 0.3 if value < 1 else 0.0) == 0


def test_numbers_are_one_whatever_their_type() -> None:
    base = run_id("s", {"x": 0.3, "n": (2, 2)})
    assert run_id("s", {"x": 0.1 + 0.2, "n": [2.0, np.int64(2)]}) == base
    assert run_id("s", {"x": np.float64(0.3), "n": np.array([2, 2])}) == base
    assert run_id("s", {"x": 0.3001, "n": (2, 2)}) != base
    assert run_id("s", {"x": 0.3, "n": (2, 2)}, ["abc"]) != base
    assert run_id("s", {"x": 0.3, "n": (2, 2)}, schema_version=2) != base
    assert run_id("t", {"x": 0.3, "n": (2, 2)}) != base


def test_a_known_name() -> None:
    """Names never change: lakes of years ago must be found. This one was computed by sha256sum of the text."""
    assert run_id("msd", {"ion": "Li", "x": 0.5}, ["aa"], 1) == _by_hand()


def _by_hand() -> str:
    text = b'["msd",{"ion":"Li","x":0.5},["aa"],1]'
    out = subprocess.run(["sha256sum"], input=text, check=True, capture_output=True).stdout
    return out.decode()[:20]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_cannot_be_a_parameter(value: object) -> None:
    with pytest.raises(SchemaError, match=r"parameters\.x"):
        canonical({"x": value})


# ---- publication ----


def test_round_trip(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    name = publish(lake, 3.25, seed=1)
    assert name in lake
    assert name[:6] in lake
    back = lake.open_run(name)
    xr.testing.assert_identical(back.drop_attrs(), numbers(3.25).drop_attrs())
    assert back["curve"].attrs["units"] == "ps"
    record = lake.record(name)
    assert record.parameters == {"x": 0.5, "seed": 1}
    assert record.scalars == {"value": 3.25}
    assert record.files.keys() == {"data.nc"}
    assert lake.verify() == []
    assert lake.id("numbers", {"seed": 1, "x": 0.5}, version=1) == name


def test_the_file_is_plain_netcdf(tmp_path: Path) -> None:
    import h5py

    lake = Lake(tmp_path)
    path = lake.record(publish(lake, 2.0)).path / "data.nc"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["curve"][:], 2.0 * np.arange(5.0))
        assert file["curve"].attrs["units"] in ("ps", b"ps")


def test_a_run_that_is_there_is_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    name = publish(lake, 1.0)
    inode = (lake.record(name).path / "data.nc").stat().st_ino
    assert publish(lake, 2.0) == name
    assert float(lake.open_run(name).value) == 1.0
    assert (lake.record(name).path / "data.nc").stat().st_ino == inode
    assert list((tmp_path / "work").iterdir()) == []


def test_wrong_datasets_are_refused_with_all_problems(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    wrong = numbers().assign(extra=1.0).drop_vars("value")
    wrong["curve"].attrs["units"] = "fs"
    with pytest.raises(SchemaError, match=r"extra: not declared.*curve: units 'fs', declared 'ps'.*value: missing"):
        lake.publish("numbers", {}, wrong, schema=NUMBERS)
    assert lake.search() == []
    assert list((tmp_path / "work").iterdir()) == []


def test_an_exception_publishes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with pytest.raises(ZeroDivisionError), lake.begin("numbers", {}, schema=NUMBERS):
        raise ZeroDivisionError
    assert lake.search() == []
    assert lake.unfinished() == []


def test_failures_are_kept_under_their_own_stage(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.begin("numbers", {"x": 1}, schema=NUMBERS) as attempt:
        name = attempt.publish_failure("it exploded", numbers())
    assert lake.search("numbers") == []
    found = lake.failure("numbers", {"x": 1})
    assert found is not None
    assert (found.id, found.stage, found.scalars["reason"]) == (name, "numbers-failed", "it exploded")


def test_removal(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    name = publish(lake)
    lake.search()
    lake.remove(name)
    assert name not in lake
    assert lake.search() == []
    with pytest.raises(NotInLakeError, match="has no such run; list them with: argyase lake ls"):
        lake.record(name)


def test_a_lake_is_moved_by_copying(tmp_path: Path) -> None:
    name = publish(Lake(tmp_path / "a"), 5.0)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    assert float(Lake(tmp_path / "b").open_run(name).value) == 5.0
    assert [r.id for r in Lake(tmp_path / "b").search()] == [name]


# ---- search ----


def test_search(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for temperature in (300, 600, 900):
        for x in (0.0, 0.3):
            publish(lake, x=x, temperature_K=temperature, md={"timestep_fs": 2.0}, name=f"t{temperature}")
    assert len(lake.search("numbers")) == 6
    assert len(lake.search("numbers", x=0.1 + 0.2)) == 3
    assert len(lake.search("numbers", x=0.3, temperature_K=(400, 900))) == 2
    assert len(lake.search("numbers", temperature_K=[300, 900])) == 4
    assert len(lake.search("numbers", name="t600")) == 2
    assert len(lake.search("numbers", md__timestep_fs=2)) == 6
    assert lake.search("numbers", x=0.7) == lake.search("other") == lake.search("numbers", absent=1) == []
    created = [r.created for r in lake.search()]
    assert created == sorted(created)


def test_open_makes_one_labelled_dataset(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for n, (x, y) in enumerate([(0.0, 0.0), (0.0, 0.5), (0.5, 0.5)]):
        publish(lake, float(n), x=x, inversion=y, temperature_K=300, seed=1)
    cube = lake.open("numbers")
    assert dict(cube["value"].sizes) == {"x": 2, "inversion": 2, "temperature_K": 1, "seed": 1}
    assert float(cube["value"].sel(x=0.5, inversion=0.5).squeeze()) == 2.0
    assert np.isnan(cube["value"].sel(x=0.5, inversion=0.0)).all()
    assert cube["value"].attrs["units"] == "K"
    publish(lake, 9.0, x=0.0, inversion=0.0, temperature_K=300, seed=1, potential="other")
    with pytest.raises(DatalakeError, match=r"are both at x = 0, .* select one by potential="):
        lake.open("numbers")
    assert float(lake.open("numbers", potential="other")["value"].squeeze()) == 9.0
    with pytest.raises(NotInLakeError, match="no run of stage 'numbers' with"):
        lake.open("numbers", x=7)


def test_the_catalogue_is_disposable(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    name = publish(lake)
    assert [r.id for r in lake.search()] == [name]
    for content in (None, b"", b"not a database", (tmp_path / "catalogue.sqlite").read_bytes()[:700]):
        (tmp_path / "catalogue.sqlite").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "catalogue.sqlite").write_bytes(content)
        assert [r.id for r in Lake(tmp_path).search()] == [name]


def test_a_read_only_lake_can_be_read(tmp_path: Path) -> None:
    """As another user, because root may write anywhere."""
    lake = Lake(tmp_path / "lake")
    name = publish(lake, 4.0)
    (tmp_path / "lake" / "catalogue.sqlite").unlink(missing_ok=True)
    script = f"""
import os, tempfile
from argyase.datalake.lake import Lake
from argyase.datalake.errors import DatalakeError
from numbers_lake import publish
with tempfile.TemporaryDirectory() as folder:  # everything imported, while this user may read the installation
    Lake(folder).open_run(publish(Lake(folder)))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
lake = Lake({str(tmp_path / "lake")!r}, create=False)
assert [r.id for r in lake.search()] == [{name!r}]
assert float(lake.open_run({name!r}).value) == 4.0
assert lake.verify() == []
try:
    publish(lake)
except DatalakeError as error:
    print(error)
"""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH | stat.S_IROTH)
        if folder.name.startswith("pytest-of"):
            break
    for path in (tmp_path / "lake").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "lake").chmod(0o555)
    process = python(script, stderr=subprocess.PIPE)
    said, errors = process.communicate(timeout=120)
    for path in (tmp_path / "lake", *(tmp_path / "lake").rglob("*")):
        path.chmod(0o755)
    assert process.returncode == 0, errors
    assert "cannot be written: Permission denied" in said


# ---- others at the same time ----


_RACE = """
import os, sys, time
from argyase.datalake.errors import RunningElsewhereError
from argyase.datalake.lake import Lake
from numbers_lake import publish
lake = Lake(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    print(publish(lake, float(os.getpid())))
except RunningElsewhereError:
    print("told")
"""


def test_many_publish_the_same_run_at_once(tmp_path: Path) -> None:
    """One wins; the others are told, or keep the winner's. Whatever happens, there is one whole run."""
    for round_ in range(3):
        path = tmp_path / str(round_)
        Lake(path)
        processes = [python(_RACE, path, stdin=subprocess.PIPE) for _ in range(4)]
        for p in processes:
            assert p.stdout is not None
            assert p.stdout.readline() == "ready\n"
        for p in processes:
            assert p.stdin is not None
            p.stdin.write("go\n")
            p.stdin.flush()
        got = [p.communicate(timeout=120)[0].strip() for p in processes]
        names = set(got) - {"told"}
        assert len(names) == 1
        lake = Lake(path)
        assert [r.id for r in lake.search()] == list(names)
        assert lake.verify() == []
        assert list((path / "work").iterdir()) == []


_HOLD = """
import sys, time
from argyase.datalake.lake import Lake
with Lake(sys.argv[1]).begin("numbers", {"x": 1}) as attempt:
    w = attempt.trajectory_writer(n_atoms=1, n_frames=100, coords={"species": ["Li"]}, time_step_ps=1.0)
    for n in range(int(sys.argv[2])):
        w.append([[float(n)] * 3], [[9, 0, 0], [0, 9, 0], [0, 0, 9]])
    w.checkpoint({"frames": w.frames})
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_run_has_one_living_writer_and_outlives_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    process = python(_HOLD, tmp_path, 7)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (item,) = lake.unfinished()
    assert (item.stage, item.frames, item.alive) == ("numbers", 7, True)
    with pytest.raises(RunningElsewhereError, match=f"process {process.pid} on .* works on it"):
        lake.begin("numbers", {"x": 1})
    process.send_signal(signal.SIGKILL)
    process.wait()
    (item,) = lake.unfinished()
    assert not item.alive
    with lake.begin("numbers", {"x": 1}) as attempt:
        assert attempt.state == {"frames": 7}
        writer = attempt.trajectory_writer(n_atoms=1, n_frames=100, coords={"species": ["Li"]}, time_step_ps=1.0)
        assert writer.frames == 7
        writer.append([[7.0] * 3], 9 * np.eye(3))
        writer.finish()
        name = attempt.publish(xr.Dataset())
    assert lake.unfinished() == []
    np.testing.assert_allclose(lake.trajectory(name).positions()[:, 0, 0], np.arange(8.0))
    assert {p.name for p in lake.record(name).path.iterdir()} == {"run.json", "data.nc", "traj.zarr"}
    assert lake.open_run(name)["positions"].dims == ("frame", "atom", "xyz")


def test_readers_see_whole_runs_only(tmp_path: Path) -> None:
    """A reader that looks all the time while another process publishes."""
    script = """
import sys
from argyase.datalake.lake import Lake
from numbers_lake import publish
for n in range(30): publish(Lake(sys.argv[1]), 1.0 + n, seed=n)
"""
    process = python(script, tmp_path)
    lake, seen = Lake(tmp_path), 0
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        for record in lake.search("numbers"):
            assert float(lake.open_run(record.id).value) == 1.0 + record.parameters["seed"]
        seen = max(seen, len(lake.search()))
    assert process.wait() == 0
    assert len(lake.search()) == 30
    assert seen > 0


# ---- damage ----


def test_damage_is_found(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    names = [publish(lake, seed=n) for n in range(4)]
    paths = [lake.record(n).path for n in names]
    content = bytearray((paths[0] / "data.nc").read_bytes())
    content[len(content) // 2] ^= 1
    (paths[0] / "data.nc").write_bytes(content)
    (paths[1] / "data.nc").write_bytes(b"short")
    (paths[2] / "data.nc").unlink()
    (paths[3] / "run.json").write_text("{")
    reasons = {p.id: p.reason for p in lake.verify()}
    assert reasons[names[0]] == "content changed"
    assert reasons[names[1]].startswith("size is not ")
    assert reasons[names[2]] == "missing"
    assert reasons[names[3]].startswith("cannot be read")
    for name in names[:3]:
        with pytest.raises(CorruptRunError, match=rf"{name}/data\.nc: {re.escape(reasons[name])}"):
            lake.open_run(name)
    with pytest.raises(CorruptRunError, match=r"run\.json: cannot be read"):
        lake.record(names[3])


def test_wrong_names(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    a = publish(lake)
    with pytest.raises(NotInLakeError, match="6 of them are enough"):
        lake.record(a[:5])
    with pytest.raises(NotInLakeError, match="not an id"):
        lake.record("../../etc")
    with pytest.raises(NotInLakeError, match="without trajectory"):
        lake.trajectory(a)
    with pytest.raises(NotInLakeError, match="no such lake; check --lake"):
        Lake(tmp_path / "none", create=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(DatalakeError, match="cannot be made"):
        Lake(tmp_path / "file" / "lake")


def test_every_schema_of_argyase_is_one_for_the_lake(tmp_path: Path) -> None:
    names = [*CONDUCTIVITY.variables]
    dataset = CONDUCTIVITY.dataset(**dict.fromkeys(names, 1.0))
    lake = Lake(tmp_path)
    name = lake.publish("conductivity", {}, dataset, schema=CONDUCTIVITY)
    assert set(lake.record(name).scalars) == set(names)
    with pytest.raises(KeyError, match="not in the schema"):
        CONDUCTIVITY.dataset(**dict.fromkeys(names, 1.0), more=1.0)
    with pytest.raises(KeyError, match="missing"):
        CONDUCTIVITY.dataset()
