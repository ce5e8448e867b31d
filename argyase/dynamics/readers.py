"""Trajectories of other programs, frame by frame.

VASP XDATCAR, LAMMPS text dumps, extended XYZ and ASE .traj (also compressed: .gz, .bz2, .xz); DCD and XTC through
chemfiles.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import importlib
import logging
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from argyase.errors import ConfigError, TrajectoryError

log = logging.getLogger(__name__)

_COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

FORMATS = {
    "xdatcar": "VASP XDATCAR",
    "lammps-dump": "LAMMPS text dump (.dump, .lammpstrj)",
    "extxyz": "extended XYZ (.xyz, .extxyz)",
    "traj": "ASE trajectory (.traj)",
    "dcd": "DCD (.dcd; needs a topology)",
    "xtc": "GROMACS XTC (.xtc; needs a topology)",
}


@dataclass(frozen=True)
class RawFrame:
    """A frame as the file has it."""

    positions: NDArray[np.float64]  # (atom, 3), A, Cartesian
    cell: NDArray[np.float64]  # (3, 3), A, vectors as rows
    species: list[str]
    step: int | None = None  # MD step, if the file says it


def guess_format(path: Path) -> str:
    """Format by the name of the file.

    >>> guess_format(Path("run/XDATCAR_300K.gz"))
    'xdatcar'

    Raises
    ------
    ConfigError
        If the name does not tell; the message lists the formats.
    """
    name = path.name.lower()
    for end in _COMPRESSED:
        name = name.removesuffix(end)
    if "xdatcar" in name:
        return "xdatcar"
    suffixes = {
        ".dump": "lammps-dump", ".lammpstrj": "lammps-dump", ".xyz": "extxyz", ".extxyz": "extxyz", ".exyz": "extxyz",
        ".traj": "traj", ".dcd": "dcd", ".xtc": "xtc",
    }  # fmt: skip
    for suffix, kind in suffixes.items():
        if name.endswith(suffix):
            return kind
    known = "; ".join(f"{k}: {v}" for k, v in FORMATS.items())
    raise ConfigError(f"{path}: the name does not tell its format; give it with --format ({known})")


def read_frames(
    path: str | Path,
    kind: str | None = None,
    *,
    types: Mapping[int, str] | None = None,
    topology: str | Path | None = None,
) -> Iterator[RawFrame]:
    """Frames of a trajectory file, one at a time; a last frame that is cut short is left out with a warning.

    Parameters
    ----------
    path
        The file.
    kind
        One of `FORMATS`; guessed from the name when left out.
    types
        Chemical symbols of LAMMPS atom types, for dumps without an ``element`` column.
    topology
        Structure file that names the species, for DCD and XTC.

    Raises
    ------
    TrajectoryError
        If the file is missing, is not of that format, changes its number or order of atoms, or has a NaN.
    ConfigError
        If the format is unknown, or species are needed and not given.
    """
    path = Path(path)
    if not path.is_file():
        raise TrajectoryError(f"{path}: no such file")
    kind = kind or guess_format(path)
    if kind not in FORMATS:
        raise ConfigError(f"format {kind!r}: known are {', '.join(FORMATS)}")
    readers = {
        "xdatcar": lambda: _xdatcar(path),
        "lammps-dump": lambda: _lammps_dump(path, types or {}),
        "extxyz": lambda: _ase(path, "extxyz"),
        "traj": lambda: _ase(path, "traj"),
        "dcd": lambda: _chemfiles(path, "DCD", topology),
        "xtc": lambda: _chemfiles(path, "XTC", topology),
    }
    first: list[str] | None = None
    number = -1
    for number, frame in enumerate(readers[kind]()):
        first = first or frame.species
        if frame.species != first:
            what = (
                f"{len(frame.species)} atoms, {len(first)} before"
                if len(frame.species) != len(first)
                else "other species"
            )
            raise TrajectoryError(f"{path}: frame {number}: {what}; the atoms of a trajectory must stay the same")
        if not (np.isfinite(frame.positions).all() and np.isfinite(frame.cell).all()):
            raise TrajectoryError(f"{path}: frame {number}: a coordinate is not finite")
        if abs(np.linalg.det(frame.cell)) < 1e-6:
            raise TrajectoryError(f"{path}: frame {number}: the cell has no volume; a periodic cell is needed")
        yield frame
    if number < 0:
        raise TrajectoryError(f"{path}: holds no whole frame of format {kind}")


def _open_text(path: Path) -> IO[str]:
    opener = _COMPRESSED.get(path.suffix.lower(), open)
    return cast(IO[str], opener(path, "rt"))


class _Lines:
    """Lines of a text file with their number, for messages."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path, self._file, self.number = path, file, 0

    def next(self) -> str:
        """The next line; raises EOFError at the end of the file, whole or cut."""
        line = self._file.readline()  # a cut .gz raises EOFError by itself
        if not line:
            raise EOFError
        self.number += 1
        return line

    def block(self, rows: int, columns: slice = slice(None)) -> NDArray[np.str_]:
        """`rows` lines as a table of words."""
        table = [self.next().split()[columns] for _ in range(rows)]
        if any(len(words) != len(table[0]) for words in table):
            # A cut last line is the end of the file; any other is an error of its own.
            if not self._file.readline():
                raise EOFError
            raise self.wrong("a line has another number of columns than the one above it")
        return np.array(table)

    def wrong(self, reason: str) -> TrajectoryError:
        return TrajectoryError(f"{self._path}: line {self.number}: {reason}")

    def floats(self, words: Sequence[str] | NDArray[np.str_]) -> NDArray[np.float64]:
        try:
            return np.asarray(words, dtype=float)
        except ValueError as error:
            raise self.wrong(str(error)) from None


@functools.cache  # said once, however often the file is read
def _cut(path: Path, frames: int) -> None:
    log.warning("%s: the frame after frame %d is cut short and left out", path, frames - 1)


def _xdatcar(path: Path) -> Iterator[RawFrame]:
    with _open_text(path) as file:
        lines = _Lines(path, file)
        frames, cell, species = 0, np.zeros((3, 3)), list[str]()
        while True:
            try:
                line = lines.next()
            except EOFError:
                return
            try:
                if not line.lstrip().lower().startswith("direct"):
                    # A header: comment, scale, cell, symbols, counts. With a changing cell there is one a frame.
                    scale = lines.floats(lines.next().split())
                    cell = lines.floats(lines.block(3))
                    if cell.shape != (3, 3) or len(scale) != 1 or scale[0] == 0:
                        raise lines.wrong("expected a scale and three cell vectors: is this an XDATCAR?")
                    # A negative scale is the volume of the cell.
                    cell = cell * (scale[0] if scale[0] > 0 else (-scale[0] / abs(np.linalg.det(cell))) ** (1 / 3))
                    symbols, counts = lines.next().split(), lines.next().split()
                    if len(symbols) != len(counts) or not all(n.isdigit() for n in counts):
                        raise lines.wrong(f"expected one count for each of {symbols}, got {counts}")
                    species = [s.split("_")[0] for s, n in zip(symbols, counts, strict=True) for _ in range(int(n))]
                    if unknown := sorted(set(species) - set(chemical_symbols)):
                        raise lines.wrong(f"not chemical symbols: {unknown}")
                    line = lines.next()
                    if not line.lstrip().lower().startswith("direct"):
                        raise lines.wrong(f"expected 'Direct configuration=', got {line.strip()[:40]!r}")
                fractional = lines.floats(lines.block(len(species), slice(3)))
                if fractional.shape != (len(species), 3):
                    raise lines.wrong("expected three coordinates a line")
            except EOFError:
                _cut(path, frames)
                return
            frames += 1
            yield RawFrame(fractional @ cell, cell, species)


def _lammps_dump(path: Path, types: Mapping[int, str]) -> Iterator[RawFrame]:
    with _open_text(path) as file:
        lines = _Lines(path, file)
        frames = 0
        while True:
            try:
                line = lines.next()
            except EOFError:
                return
            try:
                items: dict[str, Any] = {}
                while True:
                    if not line.startswith("ITEM:"):
                        raise lines.wrong(f"expected 'ITEM:', got {line.strip()[:40]!r}: is this a LAMMPS dump?")
                    item = line.removeprefix("ITEM:").strip()
                    if item.startswith("ATOMS"):
                        break
                    items[item.split()[0]] = (item, lines.block(3) if item.startswith("BOX") else lines.next())
                    line = lines.next()
                if not {"TIMESTEP", "NUMBER", "BOX"} <= set(items):
                    raise lines.wrong("a frame needs TIMESTEP, NUMBER OF ATOMS and BOX BOUNDS")
                table = lines.block(int(items["NUMBER"][1]))
            except EOFError:
                _cut(path, frames)
                return
            columns = {name: n for n, name in enumerate(item.split()[1:])}
            yield _dump_frame(lines, items, table, columns, types)
            frames += 1


def _dump_frame(
    lines: _Lines,
    items: Mapping[str, Any],
    table: NDArray[np.str_],
    columns: Mapping[str, int],
    types: Mapping[int, str],
) -> RawFrame:
    header, bounds_text = items["BOX"]
    bounds = lines.floats(bounds_text)
    if "abc origin" in header:
        cell, origin = bounds[:, :3], bounds[:, 3]
    else:
        xy, xz, yz = bounds[:, 2] if "xy" in header else (0.0, 0.0, 0.0)
        low = bounds[:, 0] - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
        high = bounds[:, 1] - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
        lx, ly, lz = high - low
        cell, origin = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]), low
    if "id" not in columns:
        raise lines.wrong("the dump has no column 'id'; atoms cannot be followed without it")

    def take(names: Sequence[str]) -> NDArray[np.float64]:
        return lines.floats(table[:, [columns[n] for n in names]])

    for names, scaled in ((("xu", "yu", "zu"), False), (("x", "y", "z"), False), (("xsu", "ysu", "zsu"), True),
                          (("xs", "ys", "zs"), True)):  # fmt: skip
        if all(n in columns for n in names):
            r = take(names)
            positions = r @ cell if scaled else r - origin
            break
    else:
        raise lines.wrong("the dump has no coordinates (x y z, xu yu zu, xs ys zs or xsu ysu zsu)")
    if names[0] in ("x", "xs") and all(n in columns for n in ("ix", "iy", "iz")):
        positions = positions + take(("ix", "iy", "iz")) @ cell
    order = np.argsort(take(("id",))[:, 0], kind="stable")
    if "element" in columns:
        species = table[order, columns["element"]].tolist()
    elif "type" in columns:
        numbers = take(("type",))[order, 0].astype(int).tolist()
        if missing := sorted(set(numbers) - set(types)):
            raise ConfigError(f"atom types {missing} have no species: give them, e.g. --types 1=Li 2=P 3=S 4=Cl")
        species = [types[n] for n in numbers]
    else:
        raise lines.wrong("the dump has neither a column 'element' nor 'type'")
    if unknown := sorted(set(species) - set(chemical_symbols)):
        raise lines.wrong(f"not chemical symbols: {unknown}")
    return RawFrame(positions[order], cell, species, int(items["TIMESTEP"][1]))


def _ase(path: Path, kind: str) -> Iterator[RawFrame]:
    from ase import Atoms
    from ase.io import iread

    frames = 0
    try:
        for atoms in iread(path, index=":", format=kind):
            assert isinstance(atoms, Atoms)
            yield RawFrame(atoms.get_positions(), atoms.cell.array.copy(), atoms.get_chemical_symbols())
            frames += 1
    except GeneratorExit:
        raise
    except Exception as error:  # ASE's readers raise anything
        if frames == 0:
            raise TrajectoryError(f"{path}: ASE cannot read it as {kind}: {error}") from error
        _cut(path, frames)


def _chemfiles(path: Path, kind: str, topology: str | Path | None) -> Iterator[RawFrame]:
    if topology is None:
        raise ConfigError(f"{path}: {kind} does not name its atoms: give a structure file with --topology")
    try:
        chemfiles = importlib.import_module("chemfiles")
    except ImportError:
        raise ConfigError(f"{path}: {kind} needs chemfiles: pip install 'argyase[ingest]'") from None
    from ase import Atoms
    from ase.io import read

    try:
        atoms = read(topology)
    except Exception as error:
        raise ConfigError(f"topology {topology}: ASE cannot read it: {error}") from error
    assert isinstance(atoms, Atoms)
    species = atoms.get_chemical_symbols()
    try:
        with chemfiles.Trajectory(str(path), "r", kind) as trajectory:
            for _ in range(trajectory.nsteps):
                frame = trajectory.read()
                # chemfiles gives the cell vectors as columns.
                cell = np.array(frame.cell.matrix).T
                positions = np.array(frame.positions, dtype=float)
                if len(positions) != len(species):
                    raise TrajectoryError(f"{path}: {len(positions)} atoms; the topology {topology} has {len(species)}")
                yield RawFrame(positions, cell, species, frame.step)
    except chemfiles.ChemfilesError as error:
        raise TrajectoryError(f"{path}: {error}") from error
