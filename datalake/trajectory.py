"""Trajectories on disk: appended in whole shards, never lost, never read wrongly.

``traj.zarr`` holds ``positions(frame, atom, xyz)`` as int32 in units of 1e-4 A or finer (error at most half of it),
compressed by Blosc (zstd 1, bit shuffle) in checksummed chunks inside shards, and ``cell(frame, cell_vector, xyz)`` as
float64.
The full length is declared at the start and only whole shards are written; frames since the last whole shard wait in
``tail.npz``. ``progress.json``, replaced atomically after both are durable, says what counts, with a hash over itself.
A lake of the format hdf5 has, of what is finished, ``traj.nc`` instead (see `one_file`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from argyase.datalake.errors import CorruptRunError, SchemaError
from argyase.datalake.files import fsync, load_npz, replace_json, sealed, unsealed, writing

if TYPE_CHECKING:  # imported by those who read or write: most questions to a lake need none of it
    import xarray as xr
    import zarr

SCALE = 1e-4
"""Angstrom per unit of the stored integers: a thousandth of the thermal motion."""

FILL = np.iinfo(np.int32).min
"""Marks what was never written; no position has it."""

TRAJECTORIES = ("traj.nc", "traj.zarr")

_PROGRESS = ("frames", "n_atoms", "n_frames", "shard_frames", "tail", "scalars", "state")

ARRAYS = {
    "positions": (("frame", "atom", "xyz"), "unwrapped position"),
    "cell": (("frame", "cell_vector", "xyz"), "cell vectors, one a row"),
}
"""Dimensions and meaning of what a trajectory holds, in either format; A."""

CHUNK = (250, 208)
"""Frames and atoms that are compressed together."""

_LARGEST = np.iinfo(np.int32).max - 1

Index = slice | NDArray[Any] | list[int]


class TrajectoryWriter:
    """Append frames; made by `Attempt.trajectory_writer`, which resumes an interrupted one.

    Parameters
    ----------
    folder
        Work folder of the attempt.
    n_atoms, n_frames
        Size of a frame, and how many will come at most.
    coords
        Arrays over atoms (species, atom_id, ...), kept with the trajectory.
    time_step_ps, time_start_ps
        Time between frames and of the first one, ps.
    shard_frames
        Frames in a shard: what is written at once.
    scale
        Unit of the stored integers, A.
    """

    def __init__(
        self,
        folder: Path,
        *,
        n_atoms: int,
        n_frames: int,
        coords: Mapping[str, ArrayLike],
        time_step_ps: float,
        time_start_ps: float = 0.0,
        shard_frames: int = 1000,
        scale: float = SCALE,
    ) -> None:
        if n_atoms < 1 or n_frames < 1 or shard_frames < 1:
            raise SchemaError(
                f"trajectory of {n_atoms} atoms, {n_frames} frames, {shard_frames} a shard: at least 1 each"
            )
        self._folder, self._scale = folder, scale
        self._path = folder / "traj.zarr"
        self._n_atoms, self._n_frames = n_atoms, n_frames
        self._shard = min(shard_frames, n_frames)
        self._time = (time_start_ps, time_step_ps)
        self._buffer: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
        self._scalars: dict[str, list[float]] = {}
        self.frames = 0
        progress = read_progress(folder)
        if progress is None:
            self._create(coords)
        else:
            self._resume(progress)
        group = _group(self._path, "r+")
        self._positions = _array(group, "positions")
        self._cell = _array(group, "cell")
        if self._positions.shape[0] != n_frames:  # killed between `finish` and publication
            self._positions.resize((n_frames, n_atoms, 3))
            self._cell.resize((n_frames, 3, 3))

    def _create(self, coords: Mapping[str, ArrayLike]) -> None:
        import zarr
        from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec
        from zarr.storage import LocalStore

        if self._path.exists():  # left by a writer that died before its first checkpoint
            import shutil

            shutil.rmtree(self._path)
        group = zarr.create_group(LocalStore(self._path), zarr_format=3)
        n, atoms, shard = self._n_frames, self._n_atoms, self._shard
        chunk = min(CHUNK[0], shard)
        # A shard is a whole number of chunks; the array may end inside the last of either.
        shard = self._shard = -(-shard // chunk) * chunk
        atom_chunk = min(CHUNK[1], atoms)
        positions = group.create_array(
            "positions",
            shape=(n, atoms, 3),
            dtype="int32",
            chunks=(chunk, atom_chunk, 3),
            shards=(shard, -(-atoms // atom_chunk) * atom_chunk, 3),
            filters=[TransposeCodec(order=(1, 2, 0))],
            # The shard's own checksum covers its index only; this one covers each chunk.
            compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=4), Crc32cCodec()],
            fill_value=FILL,
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=ARRAYS["positions"][0],
        )
        positions.attrs.update(
            scale_factor=self._scale, _FillValue=FILL, units="angstrom", long_name=ARRAYS["positions"][1]
        )
        cell = group.create_array(
            "cell",
            shape=(n, 3, 3),
            dtype="float64",
            chunks=(shard, 3, 3),
            compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=8), Crc32cCodec()],
            fill_value=np.nan,
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=ARRAYS["cell"][0],
        )
        cell.attrs.update(units="angstrom", long_name=ARRAYS["cell"][1])
        start, step = self._time
        group.attrs.update(
            time_start_ps=start,
            time_step_ps=step,
            coords={name: np.asarray(values).tolist() for name, values in coords.items()},
        )
        for name, values in coords.items():
            if len(np.asarray(values)) != atoms:
                raise SchemaError(
                    f"trajectory: coordinate {name} has {len(np.asarray(values))} entries for {atoms} atoms"
                )

    def _resume(self, progress: Mapping[str, Any]) -> None:
        self._shard = int(progress["shard_frames"])
        if (progress["n_atoms"], progress["n_frames"]) != (self._n_atoms, self._n_frames):
            raise CorruptRunError(
                f"{self._folder}: is of {progress['n_atoms']} atoms and {progress['n_frames']} frames"
            )
        self.frames = int(progress["frames"])
        tail = read_tail(self._folder, progress)
        if tail:
            self._buffer = [(p, c) for p, c in zip(tail["positions"], tail["cell"], strict=True)]
            self._scalars = {str(k): tail[f"scalar_{k}"].tolist() for k in progress["scalars"]}
        if len(self._buffer) != self.frames % self._shard:
            raise CorruptRunError(f"{self._folder}: {progress['tail']} and progress.json disagree")
        self._all_there(self.frames // self._shard)

    def _all_there(self, shards: int) -> None:
        for path in missing_shards(self._path, shards):
            raise CorruptRunError(f"{path}: missing; argyase lake verify --repair moves the run aside")

    def append(self, positions: ArrayLike, cell: ArrayLike, **scalars: float) -> None:
        """Add a frame.

        Parameters
        ----------
        positions
            Unwrapped positions, shape (atom, 3), A.
        cell
            Cell vectors as rows, shape (3, 3), A.
        **scalars
            Numbers of the frame; every frame needs the same names.

        Raises
        ------
        SchemaError
            If a shape is wrong, a value is not finite or too large for the encoding, or the trajectory is full.
        """
        r = np.asarray(positions, dtype=np.float64)
        box = np.asarray(cell, dtype=np.float64)
        if self.frames >= self._n_frames:
            raise SchemaError(f"trajectory: declared for {self._n_frames} frames, got one more")
        if r.shape != (self._n_atoms, 3) or box.shape != (3, 3):
            raise SchemaError(
                f"trajectory: frame of shape {r.shape} and cell {box.shape}; expected ({self._n_atoms}, 3), (3, 3)"
            )
        if not np.isfinite(r).all():
            atom = int(np.argwhere(~np.isfinite(r))[0][0])
            raise SchemaError(f"trajectory: frame {self.frames}, atom {atom}: position {r[atom]} is not finite")
        if not np.isfinite(box).all():
            raise SchemaError(f"trajectory: frame {self.frames}: the cell is not finite")
        if np.abs(r).max(initial=0.0) > (limit := _LARGEST * self._scale):
            atom = int(np.abs(r).max(axis=1).argmax())
            raise SchemaError(f"trajectory: frame {self.frames}, atom {atom}: {r[atom]} A is beyond {limit:.0f} A")
        if self.frames and set(scalars) != set(self._scalars):
            raise SchemaError(f"trajectory: scalars {sorted(scalars)}, before {sorted(self._scalars)}")
        self._buffer.append((np.rint(r / self._scale).astype(np.int32), box))
        for name, value in scalars.items():
            self._scalars.setdefault(name, []).append(float(value))
        self.frames += 1
        if len(self._buffer) == self._shard:
            self._write_shard()

    def _write_shard(self) -> None:
        first, last = self.frames - len(self._buffer), self.frames
        with writing(self._path / "positions" / _shard(first // self._shard)):
            for name in ("positions", "cell"):  # what a writer that was killed left half written
                (self._path / name / _shard(first // self._shard)).unlink(missing_ok=True)
            self._positions[first:last] = np.stack([p for p, _ in self._buffer])
            self._cell[first:last] = np.stack([c for _, c in self._buffer])
        self._buffer = []

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Make all frames so far durable, with the caller's `state` (plain JSON) that belongs to them.

        Raises
        ------
        DatalakeError
            If the disk is full; the checkpoint before is whole then.
        """
        with writing(self._folder / "progress.json"):
            self._checkpoint(state)

    def _checkpoint(self, state: Mapping[str, Any]) -> None:
        shard = self.frames // self._shard
        for name in ("positions", "cell"):
            for path in (self._path / name).rglob("c.*"):
                # The shards before the last are durable since the checkpoint before.
                if int(path.name.split(".")[1]) >= shard - 2:
                    fsync(path)
            for folder in {p.parent for p in (self._path / name).rglob("c.*")}:
                fsync(folder)
        tail = ""
        if self._buffer or self._scalars:
            tail = f"tail.{self.frames}.npz"
            arrays: dict[str, Any] = {f"scalar_{k}": np.array(v) for k, v in self._scalars.items()}
            arrays["positions"] = np.array([p for p, _ in self._buffer], dtype=np.int32).reshape(-1, self._n_atoms, 3)
            arrays["cell"] = np.array([c for _, c in self._buffer]).reshape(-1, 3, 3)
            with open(self._folder / tail, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
        write_progress(
            self._folder,
            {
                "frames": self.frames,
                "n_atoms": self._n_atoms,
                "n_frames": self._n_frames,
                "shard_frames": self._shard,
                "tail": tail,
                "scalars": sorted(self._scalars),
                "state": dict(state),
            },
        )
        for old in self._folder.glob("tail.*.npz"):
            if old.name != tail:
                old.unlink()

    def scalars(self) -> dict[str, NDArray[np.float64]]:
        """The scalars of all frames, shape (frame,) each."""
        return {name: np.array(values) for name, values in self._scalars.items()}

    def times(self) -> NDArray[np.float64]:
        """Times of the frames, ps."""
        start, step = self._time
        return np.asarray(start + step * np.arange(self.frames), dtype=np.float64)

    def finish(self) -> None:
        """Write the last frames and cut the declared length to what came."""
        if self._buffer:
            self._write_shard()
        self._all_there(-(-self.frames // self._shard))
        if self.frames < self._n_frames:
            with writing(self._path):
                self._positions.resize((self.frames, self._n_atoms, 3))
                self._cell.resize((self.frames, 3, 3))


class TrajectoryReader:
    """Read a trajectory: frames, atoms, or pieces of both, as float64.

    Parameters
    ----------
    path
        ``traj.zarr`` or ``traj.nc``.
    """

    def __init__(self, path: Path) -> None:
        from argyase.datalake.one_file import Pieces

        try:
            self._pieces: _Shards | Pieces = Pieces(path) if path.suffix == ".nc" else _Shards(path)
            about = self._pieces.about
            self.scale = float(about["scale_factor"])
            start, step = float(about["time_start_ps"]), float(about["time_step_ps"])
        except Exception as error:
            raise CorruptRunError(f"{path}: cannot be opened: {error}") from error
        self._path = path
        self.n_frames, self.n_atoms = self._pieces.shapes["positions"][:2]
        self.time_step_ps = step
        self.time = np.asarray(start + step * np.arange(self.n_frames), dtype=np.float64)
        self.coords: dict[str, NDArray[Any]] = {k: np.array(v) for k, v in about["coords"].items()}

    def positions(self, frames: slice = slice(None), atoms: Index = slice(None)) -> NDArray[np.float64]:
        """Unwrapped positions, shape (frame, atom, 3), A.

        Raises
        ------
        CorruptRunError
            If a shard is missing, cut or changed; the message names it.
        """
        which = self._selection(atoms)
        if isinstance(which, np.ndarray) and len(which) > 1 and which.min() >= 0 and np.ptp(which) < 4 * len(which):
            # A species: zarr takes single atoms out of chunks at a tenth of the speed of whole ones.
            low, high = int(which.min()), int(which.max()) + 1
            return self._scaled((frames, slice(low, high)), which - low)
        return self._scaled((frames, which))

    def stored(self, frames: slice = slice(None)) -> NDArray[np.int32]:
        """Positions as the integers that are stored, in units of `scale`, shape (frame, atom, 3)."""
        return np.asarray(self._read("positions", (frames,)), dtype=np.int32)

    def _scaled(self, index: tuple[Any, ...], picked: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        raw = self._read("positions", index)
        if picked is not None and (len(picked) < raw.shape[1] or (np.diff(picked) != 1).any()):
            raw = raw[:, picked]
        return np.asarray(raw * self.scale, dtype=np.float64)

    def cell(self, frames: slice = slice(None)) -> NDArray[np.float64]:
        """Cell vectors as rows, shape (frame, 3, 3), A."""
        return self._cells((frames,))

    def _cells(self, index: tuple[Any, ...]) -> NDArray[np.float64]:
        return np.asarray(self._read("cell", index), dtype=np.float64)

    def dataset(self) -> xr.Dataset:
        """Positions and cells with their labels, read when they are used, with the same checks."""
        import xarray as xr
        from xarray.backends import BackendArray
        from xarray.core import indexing

        class Lazy(BackendArray):
            def __init__(self, shape: tuple[int, ...], read: Callable[[tuple[Any, ...]], NDArray[np.float64]]) -> None:
                self.shape, self.dtype, self._read = shape, np.dtype(np.float64), read

            def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
                return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

        def variable(name: str, read: Callable[[tuple[Any, ...]], NDArray[np.float64]]) -> xr.Variable:
            lazy = indexing.LazilyIndexedArray(Lazy(self._pieces.shapes[name], read))
            dims, meaning = ARRAYS[name]
            return xr.Variable(dims, lazy, {"units": "angstrom", "long_name": meaning})

        return xr.Dataset(
            {"positions": variable("positions", self._scaled), "cell": variable("cell", self._cells)},
            coords={k: ("atom", v) for k, v in self.coords.items()},
        )

    def chunks(
        self, atoms: Index = slice(None), size: int = 250
    ) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Pieces of `size` frames: (which frames, positions, cells)."""
        for first in range(0, self.n_frames, size):
            part = slice(first, min(first + size, self.n_frames))
            yield part, self.positions(part, atoms), self.cell(part)

    def _selection(self, atoms: Index) -> slice | NDArray[np.int64]:
        if isinstance(atoms, slice):
            return atoms
        which = np.asarray(atoms)
        return np.flatnonzero(which) if which.dtype == bool else which.astype(np.int64)

    def _read(self, name: str, index: tuple[Any, ...]) -> NDArray[Any]:
        """Numbers as they are stored, if all of them were ever written."""
        try:
            raw = self._pieces.read(name, index)
        except Exception as error:  # a checksum that does not match, a cut shard: each codec has its own error
            raise self._damage(name, index[0], f"a shard is damaged ({error})") from error
        if empty(raw):
            raise self._damage(name, index[0], "a shard is missing")
        return raw

    def _damage(self, name: str, frames: slice | int, what: str) -> CorruptRunError:
        """The error that names the first part of those frames that is missing or cannot be read."""
        which = range(self.n_frames)[frames] if isinstance(frames, slice) else range(int(frames), int(frames) + 1)
        return CorruptRunError(f"{self._path}: {name}: {what}: {self._pieces.where(name, which)}".removesuffix(": "))


class _Shards:
    """What `TrajectoryReader` needs of ``traj.zarr``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        group = _group(path, "r")
        self._arrays = {name: _array(group, name) for name in ARRAYS}
        self.shapes = {name: tuple(map(int, a.shape)) for name, a in self._arrays.items()}
        self.about: dict[str, Any] = {
            **group.attrs, "scale_factor": self._arrays["positions"].attrs["scale_factor"]
        }  # fmt: skip

    def read(self, name: str, index: tuple[Any, ...]) -> NDArray[Any]:
        """Numbers as they are stored."""
        return np.asarray(self._arrays[name].oindex[index])

    def where(self, name: str, frames: range) -> str:
        """Name of the first shard of these frames that is missing or cannot be read."""
        array = self._arrays[name]
        length = int((array.shards or array.chunks)[0])
        for n in sorted({t // length for t in frames}):
            path = self._path / name / _shard(n)
            try:
                whole = path.is_file() and not empty(array[n * length : (n + 1) * length])
            except Exception:
                whole = False
            if not whole:
                return path.name
        return ""


def trajectory_file(folder: Path) -> Path | None:
    """The trajectory in the folder of a run; None if there is none."""
    # One file first: of a process that was killed the shards may still be beside it.
    return next((p for n in TRAJECTORIES if (p := folder / n).exists()), None)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """What the last checkpoint in a work folder says; None if there was none.

    Raises
    ------
    CorruptRunError
        If it was changed.
    """
    try:
        return unsealed(folder / "progress.json", _PROGRESS)
    except FileNotFoundError:
        return None


def write_progress(folder: Path, progress: Mapping[str, Any]) -> None:
    """Say what counts in a work folder."""
    replace_json(folder / "progress.json", sealed(progress))


def read_tail(folder: Path, progress: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The frames after the last whole shard, and the scalars of all; empty if there are none.

    Raises
    ------
    CorruptRunError
        If the file is missing or damaged.
    """
    if not progress.get("tail"):
        return {}
    try:
        return load_npz(folder / str(progress["tail"]))
    except FileNotFoundError:
        raise CorruptRunError(f"{folder / str(progress['tail'])}: missing") from None


def missing_shards(path: Path, shards: int) -> Iterator[Path]:
    """Of the first shards of a trajectory, the files that are not there."""
    for number in range(shards):
        for name in ("positions", "cell"):
            if not (file := path / name / _shard(number)).is_file():
                yield file


def _shard(number: int) -> str:
    return f"c.{number}.0.0"


def empty(raw: NDArray[Any]) -> bool:
    """Whether some of these numbers were never written."""
    return bool(np.any(np.isnan(raw) if raw.dtype.kind == "f" else raw == FILL))


def _group(path: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    import zarr
    from zarr.storage import LocalStore

    return zarr.open_group(LocalStore(path, read_only=mode == "r"), mode=mode)


def _array(group: zarr.Group, name: str) -> Any:
    return group[name]
