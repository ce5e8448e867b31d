"""Runs out of a lake in one file, and into another lake."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numbers_lake import publish
from zarr.storage import ZipStore

from argyase.datalake.errors import CorruptRunError, DatalakeError, NotInLakeError
from argyase.datalake.lake import FORMATS, Lake, RunRecord
from argyase.datalake.portable import export_runs, import_runs


def random_run(lake: Lake, rng: np.random.Generator, seed: int, inputs: list[str]) -> str:
    """A run with arrays of each kind, perhaps a file besides, perhaps a trajectory."""
    n = int(rng.integers(1, 5))
    data = xr.Dataset(
        {
            "curve": ("lag", np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)), {"units": "ps"}),
            "count": ("lag", rng.integers(-(2**60), 2**60, n)),
            "word": ("lag", rng.choice(["", "a", "Å³ ≤ ∞", "long " * 9], n)),
            "yes": ("lag", rng.random(n) < 0.5),
            "number": float(rng.normal()),
            "name": "Li6PS5Cl",
        },
        coords={"lag": 0.1 * np.arange(n), "when": ("lag", np.arange(n))},
        attrs={"schema": "any", "schema_version": 3},
    )
    with lake.begin("random", {"seed": seed, "deep": {"x": 0.3}}, inputs, provenance={"host": "far away"}) as attempt:
        if rng.random() < 0.5:
            (attempt.path / "potential.mtp").write_bytes(rng.bytes(100))
        if rng.random() < 0.6:
            atoms, frames = int(rng.integers(1, 4)), int(rng.integers(1, 9))
            w = attempt.trajectory_writer(
                n_atoms=atoms,
                n_frames=frames,
                coords={"species": ["Li"] * atoms, "atom_id": np.arange(atoms)},
                time_step_ps=0.1,
                time_start_ps=0.7,
                shard_frames=3,
                scale=float(rng.choice([1e-4, 3e-6])),
            )
            for _ in range(frames):
                w.append(rng.normal(scale=50, size=(atoms, 3)), rng.normal(size=(3, 3)))
            w.finish()
            data = data.assign(volume=("frame", rng.normal(size=frames)))
        return attempt.publish(data, {"more": 1.5})


def told(record: RunRecord) -> dict[str, Any]:
    """What must survive the journey."""
    kept = json.loads((record.path / "run.json").read_text())
    del kept["seal"]  # is of all that the record says
    kept["provenance"].pop("imported", None)
    kept["files"] = {k: v for k, v in kept["files"].items() if k != "data.nc" and not k.startswith("traj.")}
    return kept


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([".nc", ".zarr.zip"]))
def test_there_and_back(tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str) -> None:
    """Ids, records, arrays to the last bit, positions to the last stored unit, files, lineage."""
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("there")
    lake, names = Lake(folder / "a"), list[str]()
    lake.set_format(str(rng.choice(FORMATS)))
    for n in range(int(rng.integers(1, 4))):
        names.append(random_run(lake, rng, n, names[-1:]))
    export_runs(lake, names, folder / f"runs{suffix}")
    assert {p.name for p in folder.iterdir()} == {"a", f"runs{suffix}"}
    other = Lake(folder / "b")
    other.set_format(str(rng.choice(FORMATS)))
    for _ in range(2):  # the second time, everything is there
        assert sorted(import_runs(other, folder / f"runs{suffix}")) == sorted(names)
    assert other.verify() == []
    assert other.unfinished() == other.failures() == []
    for name in names:
        assert told(other.record(name)) == told(lake.record(name))
        assert other.record(name).provenance["imported"]["file"] == f"runs{suffix}"
        xr.testing.assert_identical(other.open_run(name).load(), lake.open_run(name).load())
    assert [i.id for i in other.lineage(names[-1]).walk()] == names[::-1]
    # Any reader of the format sees the same, without a lake.
    file = folder / f"runs{suffix}"
    if suffix == ".nc":
        tree = xr.open_datatree(file, engine="h5netcdf")
    else:
        tree = xr.open_datatree(ZipStore(file, mode="r"), engine="zarr", consolidated=False)
    for name in names:
        seen, own = tree[f"random/{name}"].to_dataset(), lake.open_run(name)
        for key in own.data_vars:
            np.testing.assert_array_equal(seen[key].values, own[key].values)
    tree.close()


@pytest.mark.parametrize("suffix", [".nc", ".zip"])
def test_an_import_wins_over_what_an_interrupted_run_has_left(tmp_path: Path, suffix: str) -> None:
    lakes = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    for lake, frames in zip(lakes, (5, 2), strict=True):
        with lake.begin("md", {"x": 0}) as attempt:
            w = attempt.trajectory_writer(n_atoms=1, n_frames=5, coords={"species": ["Li"]}, time_step_ps=1.0)
            for n in range(frames):
                w.append([[n, 0, 0]], np.eye(3))
            w.checkpoint({})
            if frames == 5:
                w.finish()
                name = attempt.publish(xr.Dataset())
    export_runs(lakes[0], [name], tmp_path / f"runs{suffix}")
    assert len(lakes[1].unfinished()) == 1
    import_runs(lakes[1], tmp_path / f"runs{suffix}")
    assert lakes[1].unfinished() == []
    np.testing.assert_allclose(lakes[1].trajectory(name).positions()[:, 0, 0], np.arange(5.0))


def test_files_that_are_refused(tmp_path: Path) -> None:
    lake, other = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    name = publish(lake)
    with pytest.raises(DatalakeError, match=r"ends in \.nc or \.zip"):
        export_runs(lake, [name], tmp_path / "runs.txt")
    with pytest.raises(NotInLakeError, match="no such file"):
        import_runs(other, tmp_path / "none.nc")
    for file in ("runs.nc", "runs.zip"):
        (tmp_path / file).write_text("not what it says")
        with pytest.raises(CorruptRunError, match="cannot be opened"):
            import_runs(other, tmp_path / file)
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "else.nc", engine="h5netcdf")
    with pytest.raises(CorruptRunError, match="not a file of runs"):
        import_runs(other, tmp_path / "else.nc")
    assert other.search() == []


def test_a_run_must_be_what_its_id_says(tmp_path: Path) -> None:
    """Parameters that were changed in the file are found out."""
    lake, other = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    name = publish(lake, seed=12)
    export_runs(lake, [name], tmp_path / "runs.zip")
    with zipfile.ZipFile(tmp_path / "runs.zip") as source, zipfile.ZipFile(tmp_path / "changed.zip", "w") as target:
        for item in source.namelist():
            target.writestr(item, source.read(item).replace(rb"\"seed\": 12", rb"\"seed\": 13"))
    with pytest.raises(CorruptRunError, match="are those of a run"):
        import_runs(other, tmp_path / "changed.zip")
    assert other.search() == []
    assert other.unfinished() == other.failures() == []


@pytest.mark.parametrize("suffix", [".nc", ".zip"])
def test_a_damaged_trajectory_is_not_imported(tmp_path: Path, suffix: str) -> None:
    lake, other = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    with lake.begin("md", {}) as attempt:
        w = attempt.trajectory_writer(n_atoms=200, n_frames=20, coords={"species": ["Li"] * 200}, time_step_ps=1.0)
        for frame in np.random.default_rng(1).normal(size=(20, 200, 3)):
            w.append(frame, np.eye(3))
        w.finish()
        name = attempt.publish(xr.Dataset())
    export_runs(lake, [name], tmp_path / f"runs{suffix}")
    content = bytearray((tmp_path / f"runs{suffix}").read_bytes())
    if suffix == ".zip":
        with zipfile.ZipFile(tmp_path / "runs.zip") as file:
            info = file.getinfo(f"md/{name}/positions/c.0.0.0")
        at = info.header_offset + info.compress_size // 2
    else:
        at = len(content) // 2  # most of the file is positions
    content[at] ^= 16
    (tmp_path / f"runs{suffix}").write_bytes(content)
    with pytest.raises(CorruptRunError, match=r"cannot be (read|opened)"):
        import_runs(other, tmp_path / f"runs{suffix}")
    assert other.search() == []
