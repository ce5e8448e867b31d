"""Many runs as one labelled dataset, over the parameters in which they differ."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from argyase.datalake.catalogue import lookup
from argyase.datalake.errors import CorruptRunError, DatalakeError
from argyase.datalake.trajectory import ARRAYS, TrajectoryReader, trajectory_file

_DIGITS = 10
"""Significant digits by which the coordinates of two runs are told apart: 3 * 0.1 and 0.3 are one lag."""

_CHUNK_FRAMES = 1000


@dataclass  # not frozen, which takes four times as long to make
class Source:
    """One run, as the catalogue knows it."""

    id: str
    stage: Path
    parameters: Mapping[str, Any]
    scalars: Mapping[str, Any]
    variables: str
    sha256: str

    @property
    def path(self) -> Path:
        """The folder of the run; not made for thousands of runs of which only numbers are asked for."""
        return self.stage / self.id[:2] / self.id

    @cached_property
    def layout(self) -> dict[str, dict[str, Any]]:
        """What `describe` said of its dataset."""
        if self.variables:
            return _parse(self.variables)
        content = self.content()
        try:
            with xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as dataset:
                return describe(dataset)
        except Exception as error:
            raise CorruptRunError(f"{self.path / 'data.nc'}: cannot be opened: {error}") from error

    def content(self) -> bytes:
        """The file of its dataset, compared with its hash.

        Raises
        ------
        CorruptRunError
            If it is missing, or not what was published.
        """
        path = self.path / "data.nc"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CorruptRunError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise CorruptRunError(f"{path}: content changed; see argyase lake verify --repair")
        return content


def describe(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Dimensions, type and attributes of each variable, as plain JSON; what is the same for all runs of a kind."""
    return {
        str(name): {
            "dims": list(map(str, v.dims)),
            "dtype": "str" if v.dtype.kind in "UOT" else v.dtype.name,
            "coord": name in dataset.coords,
            "attrs": {k: a for k, a in v.attrs.items() if isinstance(a, str)},
        }
        for name, v in dataset.variables.items()
    }


@lru_cache(1000)
def _parse(variables: str) -> dict[str, dict[str, Any]]:
    """JSON of variables, parsed once for the thousands of runs that share it."""
    return dict(json.loads(variables))


@lru_cache(1000)
def _scalar(variables: str) -> bool:
    return bool(variables) and not any(spec["dims"] for spec in _parse(variables).values())


@dataclass(frozen=True)
class _Run:
    """What a run brings to the cube: its variables, the length of their dimensions, what was read of them."""

    source: Source
    specs: dict[str, dict[str, Any]]
    lengths: dict[str, int]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def open(cls, source: Source, lazy: bool) -> _Run:
        """Read everything, or only coordinates; nothing of a run whose variables are all scalars."""
        if not lazy and _scalar(source.variables):
            return cls(source, _parse(source.variables), {}, {})
        specs = dict(source.layout)
        lengths: dict[str, int] = {}
        arrays: dict[str, NDArray[Any]] = {}
        if any(spec["dims"] for spec in specs.values()):
            with _hdf5(source) as file:
                for name, spec in specs.items():
                    if spec["dims"]:
                        variable = file(name)
                        lengths.update(zip(spec["dims"], variable.shape, strict=True))
                        if spec["coord"] or not lazy or spec["dtype"] == "str":
                            arrays[name] = _values(variable, spec["dtype"])
        if lazy and (trajectory := trajectory_file(source.path)):
            reader = TrajectoryReader(trajectory)
            lengths |= {"frame": reader.n_frames, "atom": reader.n_atoms, "xyz": 3, "cell_vector": 3}
            for name, (dims, meaning) in ARRAYS.items():
                attrs = {"units": "angstrom", "long_name": meaning}
                specs[name] = {"dims": list(dims), "dtype": "float64", "coord": False, "attrs": attrs}
            for name, values in reader.coords.items():
                kind = "str" if values.dtype.kind == "U" else values.dtype.name
                specs[name] = {"dims": ["atom"], "dtype": kind, "coord": True, "attrs": {}}
                arrays[name] = values
        return cls(source, specs, lengths, arrays)


class _Block:
    """A variable of one run on the axes of all: an array that reads its file when it is indexed."""

    def __init__(self, run: _Run, name: str, dtype: np.dtype[Any], where: Sequence[NDArray[np.intp]]) -> None:
        self._source, self._name, self._where = run.source, name, where
        self._inside = name in ARRAYS and name not in run.source.layout
        self.shape, self.dtype, self.ndim = tuple(map(len, where)), dtype, len(where)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return _place([w[k] for w, k in zip(self._where, key, strict=True)], self.dtype, self._read)

    def _read(self, key: tuple[slice, ...]) -> NDArray[Any]:
        if not self._inside:
            with _hdf5(self._source) as file:
                return _values(file(self._name), self.dtype.name, key)
        reader = TrajectoryReader(_trajectory(self._source))
        if self._name == "cell":
            return reader.cell(key[0])[:, key[1], key[2]]
        return reader.positions(key[0], key[1])[:, :, key[2]]


def _trajectory(source: Source) -> Path:
    """The trajectory of a run that had one when the cube was made."""
    if (found := trajectory_file(source.path)) is None:
        raise CorruptRunError(f"{source.path}: its trajectory is missing; see argyase lake verify --repair")
    return found


def cube(stage: str, sources: Sequence[Source], dims: Sequence[str], lazy: bool) -> xr.Dataset:
    """All runs as one dataset over the parameters named in `dims`; see `Lake.open`."""
    columns = {d: _column(sources, d) for d in dims}
    used = [d for d in dims if columns[d].count(None) < len(sources)]
    labels, points = _points(stage, sources, {d: columns[d] for d in used})
    grid = tuple(len(v) for v in labels.values())
    flat = np.ravel_multi_index(tuple(np.array(points).T), grid) if used else np.zeros(1, dtype=np.intp)
    runs = [_Run.open(s, lazy) for s in sources]
    specs = _specs(stage, runs)
    axes = _axes(specs, runs)
    # Of many runs most have the very same coordinates: their places are looked up once.
    known: dict[bytes, dict[str, NDArray[np.intp]]] = {}
    where = []
    for run in runs:
        same = b"".join(run.arrays[d].tobytes() if d in run.arrays else b"%d." % run.lengths.get(d, 0) for d in axes)
        where.append(known[same] if same in known else known.setdefault(same, _where(axes, run)))
    data: dict[str, Any] = {}
    coords: dict[str, Any] = {d: (d, v) for d, v in labels.items()}
    for name, spec in specs.items():
        inner = tuple(spec["dims"])
        shape = tuple(len(axes[d]) for d in inner)
        having = [n for n, run in enumerate(runs) if name in run.specs]
        places = {n: [where[n][d] for d in inner] for n in having} if inner else {}
        into = coords if spec["coord"] else data
        if inner == (name,):
            coords[name] = (inner, axes[name], spec["attrs"])
        elif spec["coord"] and inner and (shared := _common(runs, name, places)) is not None:
            coords[name] = (inner, shared, spec["attrs"])
        elif lazy and inner and not spec["coord"] and spec["dtype"] != "str":
            dtype = _dtype(spec, len(having) == math.prod(grid) and _whole(places))
            blocks = {int(flat[n]): _Block(runs[n], name, dtype, places[n]) for n in having}
            into[name] = ((*used, *inner), _stack(blocks, grid, shape, dtype), spec["attrs"])
        else:
            dtype = _dtype(spec, len(having) == math.prod(grid) and _whole(places))
            column = np.array([sources[n].scalars[name] for n in having]) if not inner else None
            if dtype.kind == "U":
                pieces = [runs[n].arrays[name] for n in having] if column is None else [column]
                dtype = np.result_type(*(piece.dtype for piece in pieces))
            values = _full((math.prod(grid), *shape), dtype)
            if column is not None:
                values[flat[having]] = column
            else:
                for n in having:
                    values[flat[n]] = _place(places[n], dtype, runs[n].arrays[name].__getitem__)
            into[name] = ((*used, *inner), values.reshape((*grid, *shape)), spec["attrs"])
    return xr.Dataset(data, coords=coords)


def _points(
    stage: str, sources: Sequence[Source], columns: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, NDArray[Any]], list[tuple[int, ...]]]:
    """Labels of each dimension, and where on them each run is."""
    labels, places = {}, []
    for d, column in columns.items():
        known = set(column) - {None}
        text = any(isinstance(v, str) for v in known)
        ordered: list[Any] = sorted(known, key=str) if text else sorted(known)
        missing: list[Any] = [None] if None in column else []
        place = {v: n for n, v in enumerate([*ordered, *missing])}
        places.append([place[v] for v in column])
        if text:
            values = np.array([*map(str, ordered), *("" for _ in missing)])
        else:
            values = np.array([*ordered, *(np.nan for _ in missing)])
        labels[d] = values
    points: list[tuple[int, ...]] = list(zip(*places, strict=True)) if columns else [()] * len(sources)
    if len(set(points)) < len(points):
        seen: dict[tuple[int, ...], Source] = {}
        for point, source in zip(points, sources, strict=True):
            if (other := seen.setdefault(point, source)) is not source:
                where = {d: labels[d][n] for d, n in zip(columns, point, strict=True)}
                raise DatalakeError(_clash(stage, other, source, where))
    return labels, points


def _column(sources: Sequence[Source], key: str) -> list[Any]:
    """A parameter of all runs as labels of a coordinate; lists and tables as their JSON."""
    if "__" in key:
        values = [lookup(s.parameters, key) for s in sources]
    else:
        values = [s.parameters.get(key) for s in sources]
    if {list, dict}.isdisjoint(map(type, values)):
        return values
    return [json.dumps(v, sort_keys=True) if isinstance(v, list | dict) else v for v in values]


def _clash(stage: str, a: Source, b: Source, where: Mapping[str, Any]) -> str:
    keys = set(itertools.chain(a.parameters, b.parameters)) - set(where)
    other = sorted(k for k in keys if a.parameters.get(k) != b.parameters.get(k))
    point = ", ".join(f"{d} = {v if isinstance(v, str) else format(v, 'g')}" for d, v in where.items()) or "one point"
    hint = "their inputs differ; remove one"
    if other:
        hint = f"select one by {', '.join(f'{k}=...' for k in other)}, or add it to dims"
    return f"{stage}: the runs {a.id} and {b.id} are both at {point}; {hint}"


def _specs(stage: str, runs: Sequence[_Run]) -> dict[str, dict[str, Any]]:
    """The variables of all runs, which must agree on dimensions and units."""
    specs: dict[str, dict[str, Any]] = {}
    for run in {id(run.specs): run for run in runs}.values():
        for name, spec in run.specs.items():
            known = specs.setdefault(name, spec)
            if known is not spec and _nature(known) != _nature(spec):
                raise DatalakeError(
                    f"{stage}: {name} of run {run.source.id} is {_nature(spec)}, of another {_nature(known)}: "
                    "versions that do not mix; select the runs of one"
                )
    return specs


def _nature(spec: Mapping[str, Any]) -> str:
    return f"over ({', '.join(spec['dims'])}) in {spec['attrs'].get('units')}"


def _axes(specs: Mapping[str, Mapping[str, Any]], runs: Sequence[_Run]) -> dict[str, NDArray[Any]]:
    """The coordinate of each dimension of variables: all values that a run has; numbers where there are none."""
    axes = {}
    for d in dict.fromkeys(itertools.chain.from_iterable(spec["dims"] for spec in specs.values())):
        if d in specs and specs[d]["dims"] == [d]:
            different = list[NDArray[Any]]()
            for run in runs:
                if d in run.arrays and not any(np.array_equal(run.arrays[d], o) for o in different[-1:]):
                    different.append(run.arrays[d])
            if different[0].dtype.kind == "U":
                axes[d] = np.array(list(dict.fromkeys(itertools.chain.from_iterable(a.tolist() for a in different))))
            else:
                axes[d] = np.unique(np.concatenate([_rounded(a) for a in different]))
        else:
            axes[d] = np.arange(max(run.lengths.get(d, 0) for run in runs))
    return axes


def _rounded(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values
    rounded = np.array([float(f"{v:.{_DIGITS}g}") for v in values.tolist()])
    return rounded if len(np.unique(rounded)) == len(values) else values


def _where(axes: Mapping[str, NDArray[Any]], run: _Run) -> dict[str, NDArray[np.intp]]:
    """For each place on an axis, which place of the run it is; -1 for none."""
    found = {}
    for d, axis in axes.items():
        n = run.lengths.get(d, 0)
        if (own := run.arrays.get(d)) is not None and run.specs[d]["dims"] == [d]:
            place = {v: k for k, v in enumerate(_rounded(own).tolist())}
            found[d] = np.array([place.get(v, -1) for v in axis.tolist()], dtype=np.intp)
        else:
            found[d] = np.where(np.arange(len(axis)) < n, np.arange(len(axis)), -1).astype(np.intp)
    return found


def _place(
    where: Sequence[NDArray[np.intp]], dtype: np.dtype[Any], read: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> NDArray[Any]:
    """What `read` gives at the places `where`, and the mark of nothing where they are -1."""
    have = [np.flatnonzero(w >= 0) for w in where]
    if all(len(h) == len(w) and len(w) and (np.diff(w) == 1).all() for h, w in zip(have, where, strict=True)):
        return read(tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)).astype(dtype, copy=False)
    values = _full(tuple(map(len, where)), dtype)
    if all(map(len, have)):
        wanted = [w[h] for w, h in zip(where, have, strict=True)]
        raw = read(tuple(slice(int(w.min()), int(w.max()) + 1) for w in wanted))
        values[np.ix_(*have)] = raw[np.ix_(*(w - w.min() for w in wanted))]
    return values


def _common(runs: Sequence[_Run], name: str, places: Mapping[int, Sequence[NDArray[np.intp]]]) -> NDArray[Any] | None:
    """A coordinate that is the same in all runs; None if it is not."""
    if len(places) < len(runs) or not _whole(places):
        return None
    first = runs[0].arrays[name]
    if any(not np.array_equal(first, run.arrays[name]) for run in runs):
        return None
    return _place(places[0], first.dtype, first.__getitem__)


def _whole(places: Mapping[int, Sequence[NDArray[np.intp]]]) -> bool:
    return all((w >= 0).all() for per_run in places.values() for w in per_run)


def _dtype(spec: Mapping[str, Any], whole: bool) -> np.dtype[Any]:
    """Type in the cube: whole numbers and truth values become floats where some are missing."""
    if spec["dtype"] == "str":
        return np.dtype("U")
    return np.dtype(spec["dtype"]) if whole or spec["dtype"].startswith("float") else np.dtype("float64")


def _full(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Nothing: NaN, or an empty text. Whole numbers are only made where all will be set."""
    return np.zeros(shape, dtype=dtype) if dtype.kind != "f" else np.full(shape, np.nan, dtype=dtype)


def _stack(blocks: Mapping[int, _Block], grid: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """A dask array over the grid, a chunk or more for each run."""
    try:
        import dask.array
    except ImportError:
        raise DatalakeError("lazy: dask is not installed; get it with: pip install 'argyase[lazy]'") from None
    da: Any = dask.array  # has no types
    chunks = (min(_CHUNK_FRAMES, max(shape[0], 1)), *(max(n, 1) for n in shape[1:]))

    def at(point: tuple[int, ...]) -> Any:
        if len(point) < len(grid):
            return da.stack([at((*point, n)) for n in range(grid[len(point)])])
        block = blocks.get(int(np.ravel_multi_index(point, grid)) if grid else 0)
        if block is None:
            return da.full(shape, np.nan, dtype=dtype, chunks=chunks)
        return da.from_array(block, chunks=chunks, name=False, asarray=False, meta=np.empty((0,) * len(shape), dtype))

    return at(())


@contextmanager
def _hdf5(source: Source) -> Iterator[Callable[[str], Any]]:
    """Variables of the file of a run by their names, through HDF5 itself: a fortieth of the time that xarray takes."""
    import h5py

    content = source.content()
    try:
        file = h5py.h5f.open_file_image(content)
        try:
            yield lambda name: h5py.h5d.open(file, name.encode())
        finally:
            file.close()
    except (OSError, KeyError, RuntimeError) as error:
        raise CorruptRunError(f"{source.path / 'data.nc'}: cannot be read: {error}") from error


def _values(variable: Any, dtype: str, key: tuple[slice, ...] = ()) -> NDArray[Any]:
    """Values of a variable as xarray would give them."""
    import h5py

    if dtype == "str":
        return np.array(h5py.Dataset(variable).asstr()[key], dtype=str)
    if key:
        values = np.asarray(h5py.Dataset(variable)[key])
    else:
        values = np.empty(variable.shape, dtype=variable.dtype)
        variable.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values.astype(bool) if dtype == "bool" else values
