"""Trajectories in the formats of other programs.

Extended XYZ and ASE .traj, LAMMPS text dumps, and H5MD 1.1 (de Buyl, Colberg, Höfling, Comput. Phys. Commun. 2014,
185, 1546; https://www.nongnu.org/h5md/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from argyase.errors import ConfigError

Frame = tuple[NDArray[np.float64], NDArray[np.float64]]

FORMATS = {
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".traj": "traj",
    ".lammpstrj": "lammps-dump",
    ".dump": "lammps-dump",
    ".h5md": "h5md",
    ".h5": "h5md",
}


@dataclass(frozen=True)
class Trajectory:
    """What is to be written.

    Attributes
    ----------
    species
        Chemical symbols, one an atom.
    time
        Times of the frames, shape (frame,), ps.
    frames
        Unwrapped positions, shape (atom, 3), A, and cell vectors as rows, shape (3, 3), A, of each frame.
    scalars
        Numbers of the frames, shape (frame,) each, by name; `units` of them.
    """

    species: Sequence[str]
    time: NDArray[np.float64]
    frames: Iterable[Frame]
    scalars: Mapping[str, NDArray[Any]]
    units: Mapping[str, str]


def write_trajectory(path: Path, trajectory: Trajectory, kind: str) -> None:
    """Write a trajectory as ``extxyz``, ``traj``, ``lammps-dump`` or ``h5md``.

    Positions are unwrapped in every format; a dump calls them xu, yu, zu. A dump needs a cell whose first vector is
    along x and second in the xy plane: other cells, and the positions in them, are rotated to that.

    Raises
    ------
    ConfigError
        If there is no such format.
    """
    if kind in ("extxyz", "traj"):
        _ase(path, trajectory, kind)
    elif kind == "lammps-dump":
        with open(path, "w") as file:
            _dump(file, trajectory)
    elif kind == "h5md":
        _h5md(path, trajectory)
    else:
        raise ConfigError(f"format {kind!r}: expected one of {', '.join(sorted(set(FORMATS.values())))}")


def _ase(path: Path, trajectory: Trajectory, kind: str) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.extxyz import write_xyz
    from ase.io.trajectory import TrajectoryWriter

    names = {k: k if (unit := trajectory.units.get(k, "1")) == "1" else f"{k}_{unit}" for k in trajectory.scalars}
    names.pop("potential_energy", None)  # has a place of its own in both formats

    def all_atoms() -> Iterable[Atoms]:
        for n, (positions, cell) in enumerate(trajectory.frames):
            atoms = Atoms(trajectory.species, positions, cell=cell, pbc=True)
            atoms.info["time_ps"] = float(trajectory.time[n])
            atoms.info |= {name: float(trajectory.scalars[k][n]) for k, name in names.items()}
            if "potential_energy" in trajectory.scalars:
                atoms.calc = SinglePointCalculator(atoms, energy=float(trajectory.scalars["potential_energy"][n]))
            yield atoms

    if kind == "extxyz":
        with open(path, "w") as file:
            for atoms in all_atoms():
                write_xyz(file, [atoms])
    else:
        with TrajectoryWriter(str(path), "w") as writer:
            for atoms in all_atoms():
                writer.write(atoms)


def _dump(file: TextIO, trajectory: Trajectory) -> None:
    kinds = {s: n for n, s in enumerate(dict.fromkeys(trajectory.species), start=1)}
    labels = [f"{n} {kinds[s]} {s}" for n, s in enumerate(trajectory.species, start=1)]
    for n, (positions, cell) in enumerate(trajectory.frames):
        box, r = _upright(cell, positions)
        (lx, _, _), (xy, ly, _), (xz, yz, lz) = box
        # LAMMPS writes the box that bounds a tilted one.
        low = (min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0)
        high = (lx + max(0.0, xy, xz, xy + xz), ly + max(0.0, yz), lz)
        tilted = bool(np.any([xy, xz, yz]))
        file.write(f"ITEM: UNITS\nmetal\nITEM: TIME\n{trajectory.time[n]:.10g}\n")
        file.write(f"ITEM: TIMESTEP\n{n}\nITEM: NUMBER OF ATOMS\n{len(labels)}\n")
        file.write(f"ITEM: BOX BOUNDS{' xy xz yz' if tilted else ''} pp pp pp\n")
        for axis, tilt in enumerate((xy, xz, yz)):
            file.write(f"{low[axis]:.10g} {high[axis]:.10g}{f' {tilt:.10g}' if tilted else ''}\n")
        file.write("ITEM: ATOMS id type element xu yu zu\n")
        rows = zip(labels, r.tolist(), strict=True)
        file.write("".join(f"{label} {x:.6f} {y:.6f} {z:.6f}\n" for label, (x, y, z) in rows))


def _upright(cell: NDArray[np.float64], positions: NDArray[np.float64]) -> Frame:
    """Cell and positions turned so that a is along x and b in the xy plane.

    >>> box, r = _upright(np.array([[0.0, 2, 0], [-3, 0, 0], [0, 0, 4]]), np.array([[-3.0, 1, 0]]))
    >>> box.round(6).tolist()
    [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]]
    >>> r.round(6).tolist()
    [[1.0, 3.0, 0.0]]

    Raises
    ------
    ConfigError
        If the cell is left-handed: no rotation makes it what LAMMPS can read.
    """
    if np.linalg.det(cell) <= 0:
        raise ConfigError("a cell is left-handed (determinant <= 0), which a LAMMPS dump cannot hold; export extxyz")
    if not np.any(np.triu(cell, 1)) and np.all(np.diag(cell) > 0):
        return cell, positions
    q, r = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(r))
    return np.tril((r * signs[:, None]).T) + 0.0, positions @ (q * signs) + 0.0  # no -0.0


def _h5md(path: Path, trajectory: Trajectory) -> None:
    import h5py

    import argyase

    n_frames, n_atoms = len(trajectory.time), len(trajectory.species)
    with h5py.File(path, "w") as file:
        h5md = file.create_group("h5md")
        h5md.attrs["version"] = np.array([1, 1], dtype=np.int32)
        h5md.create_group("author").attrs["name"] = "N/A"
        h5md.create_group("creator").attrs.update(name="argyase", version=argyase.__version__)
        h5md.create_group("modules").create_group("units").attrs["version"] = np.array([1, 0], dtype=np.int32)

        def element(parent: Any, name: str, values: Any, unit: str, **settings: Any) -> Any:
            """A quantity over time: step, time, value."""
            group = parent.create_group(name)
            group["step"] = np.arange(n_frames)
            group["time"] = trajectory.time
            group["time"].attrs["unit"] = "ps"
            value = group.create_dataset("value", **({"data": values} if values is not None else settings))
            if unit != "1":
                value.attrs["unit"] = unit
            return value

        atoms = file.create_group("particles/all")
        symbols = dict.fromkeys(trajectory.species)
        kind = h5py.enum_dtype({s: int(atomic_numbers[s]) for s in symbols}, basetype="i4")
        numbers = np.array([atomic_numbers[s] for s in trajectory.species], dtype="i4")
        atoms.create_dataset("species", data=numbers, dtype=kind)
        atoms["id"] = np.arange(n_atoms)
        box = atoms.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = ["periodic"] * 3
        packed = {"dtype": "f8", "compression": "gzip", "compression_opts": 1, "shuffle": True}
        chunk = (max(1, min(50, n_frames)), n_atoms, 3)
        edges = element(box, "edges", None, "Angstrom", shape=(n_frames, 3, 3), dtype="f8")
        positions = element(atoms, "position", None, "Angstrom", shape=(n_frames, n_atoms, 3), chunks=chunk, **packed)
        held = list[Frame]()

        def put(until: int) -> None:
            part = slice(until - len(held), until)
            positions[part], edges[part] = np.array([r for r, _ in held]), np.array([c for _, c in held])
            held.clear()

        for n, frame in enumerate(trajectory.frames, start=1):
            held.append(frame)
            if len(held) == chunk[0] or n == n_frames:
                put(n)
        observables = file.create_group("observables")
        for name, values in trajectory.scalars.items():
            element(observables, name, values, trajectory.units.get(name, "1"))
