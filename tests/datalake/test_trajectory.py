"""Trajectories in the lake: round trips, resumption after any kill, damage that is noticed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds

from argyase.datalake.errors import CorruptRunError, SchemaError
from argyase.datalake.one_file import convert
from argyase.datalake.trajectory import SCALE, TRAJECTORIES, TrajectoryReader, TrajectoryWriter, write_progress


def writer(folder: Path, atoms: int = 3, frames: int = 20, **changes: Any) -> TrajectoryWriter:
    coords = {"species": ["Li"] * atoms, "atom_id": np.arange(atoms)}
    return TrajectoryWriter(
        folder, **{"n_atoms": atoms, "n_frames": frames, "coords": coords, "time_step_ps": 0.1, **changes}
    )


def made(rng: np.random.Generator, frames: int, atoms: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(scale=30.0, size=(frames, atoms, 3)), rng.normal(scale=10.0, size=(frames, 3, 3))


@settings(max_examples=25)
@given(
    seeds,
    st.integers(1, 30),
    st.integers(1, 300),
    st.integers(1, 12),
    st.sampled_from([SCALE, 1e-6]),
    st.integers(0, 5),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int, atoms: int, shard: int, scale: float, spare: int
) -> None:
    folder = tmp_path_factory.mktemp("t")
    rng = np.random.default_rng(seed)
    positions, cells = made(rng, frames, atoms)
    w = writer(folder, atoms, frames + spare, shard_frames=shard, scale=scale, time_start_ps=0.3)
    for t in range(frames):
        w.append(positions[t], cells[t], energy=float(t))
        if rng.random() < 0.2:
            w.checkpoint({"step": t})
    w.finish()
    np.testing.assert_array_equal(w.scalars()["energy"], np.arange(frames))
    convert(TrajectoryReader(folder / "traj.zarr"), folder / "traj.nc")
    stored = TrajectoryReader(folder / "traj.zarr").positions()
    for name in TRAJECTORIES:
        same_as_written(TrajectoryReader(folder / name), positions, cells, scale, rng)
        np.testing.assert_array_equal(TrajectoryReader(folder / name).positions(), stored)
    # Plain xarray, as any user would.
    for opened in (
        xr.open_zarr(folder / "traj.zarr", consolidated=False, chunks=None),
        xr.open_dataset(folder / "traj.nc", engine="h5netcdf"),
    ):
        np.testing.assert_allclose(opened["positions"].values, stored, atol=1e-12)
        np.testing.assert_array_equal(opened["cell"].values, cells)
        assert opened["positions"].dims == ("frame", "atom", "xyz")


def same_as_written(
    r: TrajectoryReader, positions: np.ndarray, cells: np.ndarray, scale: float, rng: np.random.Generator
) -> None:
    frames, atoms = positions.shape[:2]
    assert (r.n_frames, r.n_atoms, r.time_step_ps) == (frames, atoms, 0.1)
    # Rounded to the nearest integer: half a unit, and the rounding of the product.
    np.testing.assert_allclose(r.positions(), positions, rtol=0, atol=0.5 * scale * (1 + 1e-6))
    np.testing.assert_array_equal(r.cell(), cells)
    np.testing.assert_allclose(r.time, 0.3 + 0.1 * np.arange(frames))
    atom = int(rng.integers(atoms))
    np.testing.assert_array_equal(r.positions(slice(None), [atom]), r.positions()[:, [atom]])
    np.testing.assert_array_equal(r.positions(slice(1, None, 2)), r.positions()[1::2])
    pieces = [p for _, p, _ in r.chunks(size=7)]
    np.testing.assert_array_equal(np.concatenate(pieces), r.positions())
    some = rng.integers(0, atoms, 5)  # in any order, some twice
    np.testing.assert_array_equal(r.positions(slice(None), some), r.positions()[:, some])
    lazy, (t, a) = r.dataset(), (int(rng.integers(frames)), int(rng.integers(atoms)))
    np.testing.assert_array_equal(lazy["positions"][t, ::-1, 1], r.positions()[t, ::-1, 1])
    np.testing.assert_array_equal(lazy["positions"][:, a], r.positions()[:, a])
    assert r.coords["species"].tolist() == ["Li"] * atoms
    np.testing.assert_array_equal(r.coords["atom_id"], np.arange(atoms))


@settings(max_examples=25)
@given(seeds, st.integers(1, 9), st.lists(st.integers(0, 40), min_size=1, max_size=4), st.booleans())
def test_a_killed_writer_is_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shard: int, kills: list[int], during_finish: bool
) -> None:
    """Frames after the last checkpoint are lost with the process, and come again; nothing else changes."""
    folder = tmp_path_factory.mktemp("t")
    positions, cells = made(np.random.default_rng(seed), 41, 5)
    done = 0
    for kill in sorted(kills):
        w = writer(folder, 5, 41, shard_frames=shard)
        assert w.frames == done
        for t in range(w.frames, kill):
            w.append(positions[t], cells[t], energy=float(t))
            if t % 4 == 0:
                w.checkpoint({"step": t})
                done = t + 1
    w = writer(folder, 5, 41, shard_frames=shard)
    for t in range(w.frames, 41):
        w.append(positions[t], cells[t], energy=float(t))
    if during_finish:
        w.checkpoint({})
        w.finish()
        w = writer(folder, 5, 41, shard_frames=shard)
    w.finish()
    np.testing.assert_array_equal(w.scalars()["energy"], np.arange(41))
    np.testing.assert_allclose(TrajectoryReader(folder / "traj.zarr").positions(), positions, atol=0.51 * SCALE)


def finished(folder: Path, frames: int = 600, atoms: int = 260) -> Path:
    positions, cells = made(np.random.default_rng(0), frames, atoms)
    w = writer(folder, atoms, frames, shard_frames=250)
    for t in range(frames):
        w.append(positions[t], cells[t])
    w.finish()
    return folder / "traj.zarr"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = finished(tmp_path)
    shards = sorted((path / "positions").glob("c.*"))
    assert len(shards) == 3
    rng = np.random.default_rng(0)
    original = shards[1].read_bytes()
    for place in rng.integers(0, len(original), 40):
        damaged = bytearray(original)
        damaged[place] ^= 1 << int(rng.integers(8))
        shards[1].write_bytes(damaged)
        with pytest.raises(CorruptRunError, match=r"positions: a shard is damaged"):
            TrajectoryReader(path).positions()
        # The other shards are as good as ever.
        assert np.isfinite(TrajectoryReader(path).positions(slice(0, 250))).all()


def test_missing_and_cut_shards_are_noticed(tmp_path: Path) -> None:
    path = finished(tmp_path)
    shards = sorted((path / "positions").glob("c.*"))
    content = shards[0].read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        shards[0].write_bytes(content[:length])
        with pytest.raises(CorruptRunError, match=r"a shard is (damaged|missing)"):
            TrajectoryReader(path).positions()
    shards[0].unlink()
    with pytest.raises(CorruptRunError, match="a shard is missing"):
        TrajectoryReader(path).positions()
    sorted((path / "cell").glob("c.*"))[0].unlink()
    with pytest.raises(CorruptRunError, match="cell: a shard is missing"):
        TrajectoryReader(path).cell()
    (path / "zarr.json").write_text("{")
    with pytest.raises(CorruptRunError, match="cannot be opened"):
        TrajectoryReader(path)


@pytest.mark.parametrize(
    ("positions", "cell", "scalars", "said"),
    [
        (np.zeros((2, 3)), np.eye(3), {}, r"frame of shape \(2, 3\)"),
        (np.zeros((3, 3)), np.eye(2), {}, r"cell \(2, 2\)"),
        (np.full((3, 3), np.nan), np.eye(3), {}, "atom 0: position .* is not finite"),
        (np.full((3, 3), 3e5), np.eye(3), {}, "is beyond 214748 A"),
        (np.zeros((3, 3)), np.full((3, 3), np.inf), {}, "the cell is not finite"),
        (np.zeros((3, 3)), np.eye(3), {"energy": 1.0}, r"scalars \['energy'\], before \[\]"),
    ],
)
def test_wrong_frames(
    tmp_path: Path, positions: np.ndarray, cell: np.ndarray, scalars: dict[str, float], said: str
) -> None:
    w = writer(tmp_path)
    w.append(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(SchemaError, match=said):
        w.append(positions, cell, **scalars)
    assert w.frames == 1


def test_too_many_frames(tmp_path: Path) -> None:
    w = writer(tmp_path, frames=1)
    w.append(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(SchemaError, match="declared for 1 frames, got one more"):
        w.append(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(SchemaError, match="at least 1 each"):
        writer(tmp_path, frames=0)


def test_a_resume_of_something_else_is_refused(tmp_path: Path) -> None:
    w = writer(tmp_path)
    w.append(np.zeros((3, 3)), np.eye(3))
    w.checkpoint({})
    with pytest.raises(CorruptRunError, match="is of 3 atoms and 20 frames"):
        writer(tmp_path, atoms=4)
    progress = json.loads((tmp_path / "progress.json").read_text())
    (tmp_path / "progress.json").write_text(json.dumps({**progress, "frames": 7}))
    with pytest.raises(CorruptRunError, match=r"progress\.json: content changed"):
        writer(tmp_path)
    write_progress(tmp_path, {**progress, "frames": 7})
    with pytest.raises(CorruptRunError, match="disagree"):
        writer(tmp_path)
