"""What the stages that hand frames to each other share: sample, select, label, fit."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from argyase.calculators import ENGINES
from argyase.datalake.lake import Lake
from argyase.datalake.trajectory import TRAJECTORIES
from argyase.errors import ConfigError
from argyase.schemas import Schema
from argyase.stages import structures

INFO = ("group", "trajectory", "parent")


def pack(schema: Schema, frames: Sequence[Atoms], **more: Any) -> xr.Dataset:
    """Frames of any sizes as one dataset: their atoms one after the other.

    Group, trajectory and parent run come from the frames' ``info``; `more` are further variables of the schema.
    """
    names: dict[str, Any] = {name: [str(a.info.get(name, "")) for a in frames] for name in INFO}
    return schema.dataset(
        positions=np.concatenate([a.positions for a in frames]) if frames else np.empty((0, 3)),
        cell=np.array([a.cell.array for a in frames]).reshape(-1, 3, 3),
        atoms=[len(a) for a in frames],
        parent_frame=[int(a.info.get("parent_frame", -1)) for a in frames],
        species=[s for a in frames for s in a.get_chemical_symbols()],
        xyz=["x", "y", "z"],
        **names,
        **more,
    )


def packable(atoms: Atoms) -> Atoms:
    """A frame as `unpack` gives it back: periodic in all directions, or a molecule without a cell.

    Raises
    ------
    ConfigError
        If it is neither.

    >>> int(packable(Atoms("Li", cell=[9, 9, 9])).cell.rank)
    0
    """
    if atoms.pbc.all() and atoms.cell.rank == 3:
        return atoms
    if atoms.pbc.any():
        where = f"{atoms.info.get('parent', 'a frame')} frame {atoms.info.get('parent_frame', '')}".strip()
        raise ConfigError(
            f"{where}: periodic in {atoms.pbc.tolist()} with {atoms.cell.rank} cell vectors; frames must be periodic "
            "in all three directions, or in none: give a slab a cell with a vacuum, and pbc in all three"
        )
    molecule: Atoms = atoms.copy()
    molecule.set_cell(np.zeros((3, 3)))
    return molecule


def unpack(dataset: xr.Dataset) -> list[Atoms]:
    """The frames of a dataset that `pack` made; with labels, if it has them."""
    frames, first = [], 0
    species = dataset["species"].values.astype(str)
    for n, count in enumerate(dataset["atoms"].values.tolist()):
        part = slice(first, first + count)
        cell = dataset["cell"].values[n]
        atoms = Atoms(species[part].tolist(), dataset["positions"].values[part], cell=cell, pbc=cell.any())
        atoms.info.update({name: str(dataset[name].values[n]) for name in INFO})
        atoms.info["parent_frame"] = int(dataset["parent_frame"].values[n])
        if "energy" in dataset:
            results: dict[str, Any] = {
                "energy": float(dataset["energy"].values[n]),
                "forces": dataset["forces"].values[part],
            }
            stress = dataset["stress"].values[n]
            if np.isfinite(stress).all():
                results["stress"] = stress
            atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
        first += count
    return frames


def frames_of(lake: Lake, sources: Sequence[str], stride: int = 1) -> tuple[list[Atoms], list[str]]:
    """Frames of runs of the lake or of files, and the ids of the runs.

    Trajectories give every `stride`-th frame, and the last; other runs and files all.

    Raises
    ------
    ConfigError
        If a source is neither, or cannot be read, or has no frames.
    """
    frames: list[Atoms] = []
    parents: list[str] = []
    for source in sources:
        if Path(source).is_file():
            found = _of_file(source)
        elif source in lake:
            record = lake.record(source)
            parents.append(record.id)
            found = _of_run(lake, record.id, stride)
        else:
            raise ConfigError(f"frames = {source!r}: neither a run of the lake nor a file")
        if not found:
            raise ConfigError(f"frames = {source!r}: has no frames")
        frames += found
    return frames, parents


def read_file(source: str, where: str) -> list[Atoms]:
    """All structures of a file that ASE reads; `where` is the setting that names it.

    Raises
    ------
    ConfigError
        If there is no such file, or ASE cannot read it.
    """
    import ase.io

    try:
        if source.endswith("xyz.gz"):
            # Unpacked first: ASE goes back to the beginning of a packed file for every frame.
            with gzip.open(source, "rt") as file:
                return list(ase.io.read(io.StringIO(file.read()), index=":", format="extxyz"))
        found: list[Atoms] = ase.io.read(source, index=":")
    except FileNotFoundError:
        raise ConfigError(f"{where} = {source}: no such file") from None
    except Exception as error:  # ASE's readers raise anything
        raise ConfigError(f"{where} = {source}: ASE cannot read it: {error}") from error
    return found


def _of_file(source: str) -> list[Atoms]:
    found = read_file(source, "frames")
    name = Path(source).name
    for n, atoms in enumerate(found):
        atoms.info.setdefault("parent", name)
        atoms.info.setdefault("parent_frame", n)
        atoms.info.setdefault("group", str(atoms.info.get("config_type", "")))
        atoms.info.setdefault("trajectory", f"{name} {n}")
    return found


def names_trajectory(atoms: Atoms, key: str = "trajectory") -> bool:
    """Whether it is known of which trajectory a frame is: not where `frames_of` made up one for it alone.

    >>> names_trajectory(Atoms(info={"trajectory": "run 7"}))
    True
    >>> names_trajectory(Atoms(info={"parent": "labels.xyz", "trajectory": "labels.xyz 7"}))
    False
    """
    name, parent = (str(atoms.info.get(k, "")) for k in (key, "parent"))
    return key in atoms.info and not re.fullmatch(re.escape(parent) + r" \d+", name)


def _of_run(lake: Lake, run_id: str, stride: int) -> list[Atoms]:
    record = lake.record(run_id)
    if any(file.startswith(TRAJECTORIES) for file in record.files):
        trajectory = lake.trajectory(run_id)
        symbols = [str(s) for s in trajectory.coords["species"]]
        found = []
        for part, positions, cells in trajectory.chunks():
            for n in range(part.start, part.stop):
                if n % stride and n != trajectory.n_frames - 1:
                    continue
                atoms = Atoms(symbols, positions[n - part.start], cell=cells[n - part.start], pbc=True)
                atoms.wrap()
                atoms.info.update(group="md", trajectory=run_id, parent=run_id, parent_frame=n)
                found.append(atoms)
        return found
    data = lake.open_run(run_id)
    if "atoms" in data:
        found = unpack(data)
        if record.stage == "sample":
            still = np.isnan(data["temperature"].values).tolist()
            caught = len(found) - int(record.scalars.get("caught", 0))
            for n, atoms in enumerate(found):
                # One does not lead to another where there was no dynamics.
                atoms.info.update(parent=run_id, parent_frame=n, independent=still[n], caught=n >= caught)
        return found
    atoms = structures.to_atoms(data)
    atoms.info.update(group="structure", trajectory=run_id, parent=run_id, parent_frame=0)
    return [atoms]


def frame_key(atoms: Atoms) -> str:
    """Hash of what a calculator sees of a frame; positions and cell to 1e-8 A."""
    h = hashlib.sha256()
    h.update(np.asarray(atoms.numbers, dtype="<i8").tobytes())
    h.update(np.asarray(atoms.pbc, dtype=bool).tobytes())
    for values in (atoms.positions, atoms.cell.array):
        # Adding zero turns -0 into 0.
        h.update((np.round(values, 8) + 0.0).astype("<f8").tobytes())
    return h.hexdigest()


def parse_settings(texts: Sequence[str], where: str) -> dict[str, Any]:
    """Settings of a calculator from ``key=value``, values as in JSON or plain text.

    >>> parse_settings(["checkpoint=7net-0", "threads=2"], "label.settings")
    {'checkpoint': '7net-0', 'threads': 2}
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError(f"{where}: {text!r}: expected key=value")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings


def made_by(calculator: Any) -> dict[str, str]:
    """What made the last results of a calculator, as scalars of a run; VASP says it, and no other."""
    if not (made := getattr(calculator, "made_by", [])):
        return {}
    from argyase.calculators.vasp import told

    return told(made)


CALCULATOR_HELP = f"{', '.join(ENGINES)}, or module:factory of any ASE calculator"
SETTINGS_HELP = "settings of the calculator, as in checkpoint=7net-0 threads=2"
