"""Stage ``structures``: build an argyrodite or a reference phase, or take a structure file, into the lake."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from ase import Atoms

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError, StructureError
from argyase.schemas import STRUCTURE
from argyase.stages import _config
from argyase.stages._config import setting
from argyase.stages._run import Report, collect_provenance, published, silent, stage_main


@dataclass(frozen=True)
class Config:
    """Which structure to build."""

    x: float = setting(0.0, help="extra Cl in Li6-xPS5-xCl1+x")
    inversion: float = setting(0.0, help="fraction of 4d sites that hold the halide, x <= inversion <= 1")
    supercell: tuple[int, int, int] = setting((1, 1, 1), help="unit cells along a, b, c")
    seed: int = setting(1, help="seed of the S/halide decoration and of the Li arrangement")
    li_added: bool = setting(False, help="keep 6 Li per formula unit at x > 0 (charge-unbalanced)")
    halide: Literal["Cl", "Br", "I"] = setting("Cl", help="halide")
    a: float | None = setting(None, help="lattice constant of the cubic cell", unit="A")
    decoration: Literal["random", "quasirandom", "ewald"] = setting("random", help="how S and halide share 4a and 4d")
    phase: str = setting("", help="build this reference phase instead: Li, P, S, LiCl, Li2S, Li3PS4 (and supercell)")
    source: str = setting("", help="take this structure file (any format ASE reads) instead of building one")


def from_tables(data: Mapping[str, Any], path: str, table: str = "structures") -> list[Config]:
    """The [[structures]] of a campaign file, or those of another name.

    Raises
    ------
    ConfigError
        If there are none, or a key is wrong.
    """
    listed = data.get(table, [])
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{path}: give the structures as [[{table}]] tables, one for each")
    return [_config.from_mapping(Config, own, table) for own in listed]


def build(config: Config) -> tuple[Atoms, dict[str, Any]]:
    """The atoms and the parameters that identify them."""
    from argyase.structures.argyrodite import argyrodite
    from argyase.structures.entropy import configurational_entropy

    if config.source:
        return _read(Path(config.source))
    if config.phase:
        from argyase.structures.reference_phases import reference_phase

        atoms = reference_phase(config.phase, config.supercell)
        return atoms, {"phase": config.phase, "supercell": config.supercell, "formula": config.phase}
    options = {
        k: v for k, v in asdict(config).items() if k not in ("phase", "source", "supercell", "x", "inversion", "seed")
    }
    atoms = argyrodite(config.x, config.inversion, config.supercell, config.seed, **options)
    parameters = {k: v for k, v in asdict(config).items() if k not in ("phase", "source")}
    entropy = float(configurational_entropy(config.x, config.inversion))
    return atoms, {**parameters, "configurational_entropy": entropy, "formula": atoms.info["formula"]}


def _read(path: Path) -> tuple[Atoms, dict[str, Any]]:
    import ase.io

    from argyase.structures.contacts import check_contacts

    try:
        atoms = ase.io.read(path)
    except FileNotFoundError:
        raise ConfigError(f"structure.source = {path}: no such file") from None
    except Exception as error:  # ASE's readers raise anything
        raise StructureError(f"structure.source = {path}: ASE cannot read it: {error}") from error
    assert isinstance(atoms, Atoms)
    check_contacts(atoms)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return atoms, {"source": path.name, "source_sha256": digest, "formula": atoms.get_chemical_formula("hill")}


def to_dataset(atoms: Atoms, configurational_entropy: float = np.nan) -> xr.Dataset:
    """The labelled dataset of a structure."""
    n = len(atoms)
    return STRUCTURE.dataset(
        positions=atoms.get_positions(),
        cell=atoms.cell.array,
        configurational_entropy=configurational_entropy,
        species=atoms.get_chemical_symbols(),
        atom_id=np.arange(n),
        site=atoms.arrays.get("site", np.full(n, "")),
        cage=atoms.arrays.get("cage", np.full(n, -1)),
        xyz=["x", "y", "z"],
    )


def to_atoms(dataset: xr.Dataset) -> Atoms:
    """The atoms of a structure dataset, site labels included."""
    atoms = Atoms(
        symbols=[str(s) for s in dataset["species"].values],
        positions=dataset["positions"].values,
        cell=dataset["cell"].values,
        pbc=True,
    )
    atoms.set_array("site", dataset["site"].values.astype(str))
    atoms.set_array("cage", dataset["cage"].values)
    return atoms


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Build the structure unless the lake has it; return its id."""
    atoms, parameters = build(config)
    if run_id := published(lake, "structures", parameters, (), STRUCTURE.version):
        return [run_id]
    dataset = to_dataset(atoms, parameters.get("configurational_entropy", np.nan))
    provenance = collect_provenance(config)
    return [lake.publish("structures", parameters, dataset, schema=STRUCTURE, provenance=provenance)]


def find(structure: str, lake: Lake) -> str:
    """Id of a structure, given by an id of the lake or as a file, which is then taken into the lake.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if structure in lake:
        return lake.record(structure).id
    if Path(structure).exists():
        return run(Config(source=structure), lake)[0]
    raise ConfigError(f"structure = {structure!r}: neither a run of the lake nor a file")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="structures", config=Config, run=run, description=__doc__ or "")


if __name__ == "__main__":
    raise SystemExit(main())
