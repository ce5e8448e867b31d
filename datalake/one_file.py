"""A trajectory in one NetCDF file, where many small files are disliked: ``traj.nc``, read like ``traj.zarr``.

Positions are the integers of ``traj.zarr``, chunk by chunk with a checksum (gzip, shuffled bytes, fletcher32), and so
are the cells; what belongs to the atoms stands beside them. Any program that reads NetCDF 4 opens it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from argyase.datalake.errors import CorruptRunError
from argyase.datalake.files import fsync, rename
from argyase.datalake.trajectory import ARRAYS, CHUNK, FILL, TrajectoryReader, empty

if TYPE_CHECKING:
    import h5netcdf

_ABOUT = ("time_start_ps", "time_step_ps")
_CACHE = 1 << 26


def put(trajectory: TrajectoryReader, into: h5netcdf.Group, go_on: Callable[[], None] = lambda: None) -> None:
    """Write positions and cells of a trajectory into a group of a NetCDF file; `go_on` is called before each chunk."""
    sizes = {"frame": trajectory.n_frames, "atom": trajectory.n_atoms, "xyz": 3, "cell_vector": 3}
    for dim, size in sizes.items():
        if dim not in into.dimensions:
            into.dimensions[dim] = size
    packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    frames, atoms = max(1, min(CHUNK[0], trajectory.n_frames)), min(CHUNK[1], trajectory.n_atoms)
    options: dict[str, dict[str, Any]] = {
        "positions": {"dtype": "int32", "fillvalue": np.int32(FILL), "chunks": (frames, atoms, 3)},
        "cell": {"dtype": "float64", "fillvalue": np.nan, "chunks": (frames, 3, 3)},
    }
    for name, (dims, meaning) in ARRAYS.items():
        variable = into.create_variable(name, dims, **options[name], **packed)
        variable.attrs.update(units="angstrom", long_name=meaning)
    into["positions"].attrs["scale_factor"] = trajectory.scale
    for first in range(0, trajectory.n_frames, frames):
        go_on()
        part = slice(first, min(first + frames, trajectory.n_frames))
        into["positions"][part] = trajectory.stored(part)
        into["cell"][part] = trajectory.cell(part)


def convert(trajectory: TrajectoryReader, path: Path) -> None:
    """Write a trajectory to a file of its own, durably and under its name only when it is whole.

    Raises
    ------
    OSError
        If the disk is full; the file is not there then.
    """
    import h5netcdf

    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _Patient(aside) as raw, h5netcdf.File(raw, "w", libver="latest") as file:
            put(trajectory, file, raw.tell_failure)
            for name, values in trajectory.coords.items():
                variable = file.create_variable(name, ("atom",), _hdf5_type(values))
                variable[...] = values.astype(object) if values.dtype.kind == "U" else values
            start = float(trajectory.time[0]) if trajectory.n_frames else 0.0
            file.attrs.update(
                time_start_ps=start, time_step_ps=trajectory.time_step_ps, atoms_sha256=_hash(trajectory.coords)
            )
        fsync(aside)
        rename(aside, path)
    finally:
        aside.unlink(missing_ok=True)


class Pieces:
    """What `TrajectoryReader` needs of a trajectory in one file."""

    def __init__(self, path: Path) -> None:
        import h5py

        # Chunks stay in memory until the next ones come: a selection of atoms touches each several times.
        self._file = h5py.File(path, rdcc_nbytes=_CACHE)
        self.shapes = {name: tuple(map(int, self._file[name].shape)) for name in ARRAYS}
        # NetCDF attributes are arrays of one.
        self.about: dict[str, Any] = {name: np.asarray(self._file.attrs[name]).item() for name in _ABOUT}
        self.about["scale_factor"] = np.asarray(self._file["positions"].attrs["scale_factor"]).item()
        self.about["coords"] = coords = {
            str(name): np.array(v.asstr()[...], dtype=str) if h5py.check_string_dtype(v.dtype) else v[...]
            for name, v in self._file.items()
            if isinstance(v, h5py.Dataset) and name not in (*ARRAYS, "frame", "atom", "xyz", "cell_vector")
        }
        # Texts have no checksum in HDF5.
        if _hash(coords) != self._file.attrs["atoms_sha256"]:
            raise CorruptRunError("what belongs to the atoms has changed")

    def read(self, name: str, index: tuple[Any, ...]) -> NDArray[Any]:
        """Numbers as they are stored."""
        plain, picked = [], []
        for axis, one in enumerate(index):
            if isinstance(one, np.ndarray):  # HDF5 takes indices in rising order, each once
                one, back = np.unique(one % self.shapes[name][axis], return_inverse=True)
                picked.append((axis - sum(isinstance(i, int | np.integer) for i in index[:axis]), back))
            plain.append(one)
        found = np.asarray(self._file[name][tuple(plain)])
        for axis, back in picked:
            found = np.take(found, back, axis=axis)
        return found

    def where(self, name: str, frames: range) -> str:
        """The first frames that cannot be read."""
        for first in sorted({t // CHUNK[0] * CHUNK[0] for t in frames}):
            part = slice(first, min(first + CHUNK[0], self.shapes[name][0]))
            try:
                raw = self._file[name][part]
            except Exception:
                return f"frames {part.start} to {part.stop - 1}"
            if empty(raw):
                return f"frames {part.start} to {part.stop - 1}"
        return ""


def _hdf5_type(values: NDArray[Any]) -> Any:
    import h5py

    return h5py.string_dtype() if values.dtype.kind == "U" else values.dtype


def _hash(coords: Mapping[str, NDArray[Any]]) -> str:
    plain = {name: np.asarray(values).tolist() for name, values in coords.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class _Patient:
    """A file of which HDF5 never hears that it cannot be written: HDF5 that is told takes the process with it.

    From the first failure on, what HDF5 writes is kept in memory, as it reads again what it wrote, and crashes at
    anything else. `tell_failure` raises the failure, between calls of HDF5, and so does the end of the context.
    """

    _PAGE = 4096

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = open(path, "w+b", buffering=0)  # noqa: SIM115
        self._error: OSError | None = None
        self._kept: dict[int, bytearray] = {}
        self._at = 0

    def __enter__(self) -> _Patient:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.tell_failure()

    def tell_failure(self) -> None:
        if self._error:
            raise self._error

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        length = len(rest)
        while len(rest) and self._error is None:
            try:
                self._file.seek(self._at)
                n = self._file.write(rest)
            except OSError as error:
                self._error = error
            else:
                rest, self._at = rest[n:], self._at + n
        while len(rest):
            page, first = divmod(self._at, self._PAGE)
            n = min(len(rest), self._PAGE - first)
            self._page(page)[first : first + n] = rest[:n]
            rest, self._at = rest[n:], self._at + n
        return length

    def _page(self, page: int) -> bytearray:
        """This page in memory, as it is in the file if it was not there yet."""
        if page not in self._kept:
            self._file.seek(page * self._PAGE)
            self._kept[page] = bytearray(self._file.read(self._PAGE).ljust(self._PAGE, b"\0"))
        return self._kept[page]

    def readinto(self, into: Any) -> int:
        self._file.seek(self._at)
        view = memoryview(into).cast("B")
        if self._error is None:
            n: int = self._file.readinto(view)  # type: ignore[attr-defined]
        else:
            n, at = len(view), self._at
            while at < self._at + n:
                page, first = divmod(at, self._PAGE)
                part = self._page(page)[first : first + self._at + n - at]
                view[at - self._at :][: len(part)] = part
                at += len(part)
        self._at += n
        return n

    def read(self, size: int) -> bytes:
        into = bytearray(size)
        return bytes(into[: self.readinto(into)])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size()}[whence]
        return self._at

    def _size(self) -> int:
        kept = [(page + 1) * self._PAGE for page in self._kept]
        return max([os.fstat(self._file.fileno()).st_size, *kept])

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size

    def flush(self) -> None:
        self._file.flush()
