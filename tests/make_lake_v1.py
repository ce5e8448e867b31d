"""Make tests/data/lake-v1: a small lake of the first format, and its numbers as JSON beside it.

Run once, by hand: ``python tests/make_lake_v1.py``. The lake is committed and never made anew: later versions of the
code must open it (tests/datalake/test_migration.py).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from argyase.datalake import provenance
from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import Segment
from argyase.stages import conductivity, hops, md, msd, structures, vanhove

HERE = Path(__file__).parent / "data" / "lake-v1"
SEGMENTS = (Segment("heat", "nvt", rate_K_fs=2.0), Segment("produce", "npt", duration_ps=2.0))


def numbers(path: Path) -> dict[str, Any]:
    """The arrays of a file, without any code of ours: type, shape, units, first, last and sum of numbers, or words."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        for name, v in file.items():
            if v.attrs.get("NAME", b"").startswith(b"This is a netCDF dimension but not"):
                continue
            units = v.attrs["units"]
            if v.dtype.kind == "O":
                found[name] = {"units": units, "words": np.atleast_1d(v.asstr()[()]).tolist()}
            else:
                flat = np.ravel(v[()])
                ends = (
                    {"first": float(flat[0]), "last": float(flat[-1]), "sum": float(np.nansum(flat))}
                    if flat.size
                    else {}
                )
                found[name] = {"units": units, "shape": list(v.shape), "dtype": str(v.dtype), **ends}
    return found


def main() -> None:
    """Make the lake."""
    fixed = provenance.collect("argyase") | {"host": "node1", "command": ["argyase"], "platform": "Linux", "pid": 1}
    provenance.collect = lambda package: dict(fixed)  # type: ignore[assignment]
    shutil.rmtree(HERE, ignore_errors=True)
    lake = Lake(HERE / "lake")
    for inversion in (0.0, 0.5):
        (structure,) = structures.run(structures.Config(inversion=inversion, supercell=(1, 1, 1)), lake)
    config = md.Config(structure=structure, temperature_K=900.0, segments=SEGMENTS, sample_ps=0.05)
    (run,) = md.run(config, lake)
    msd.run(msd.Config(run=run), lake)
    conductivity.run(conductivity.Config(run=run), lake)
    vanhove.run(vanhove.Config(run=run, r_max=4.0, width=0.5), lake)
    hops.run(hops.Config(run=run), lake)
    expected = {}
    for record in lake.search():
        expected[record.id] = {
            "stage": record.stage,
            "parameters": record.parameters,
            "inputs": record.inputs,
            "scalars": record.scalars,
            "arrays": numbers(record.path / "data.nc"),
        }
        if (record.path / "traj.zarr").is_dir():
            reader = lake.trajectory(record.id)
            positions = reader.positions()
            expected[record.id]["trajectory"] = {
                "species": reader.coords["species"].tolist(),
                "time": [float(reader.time[0]), float(reader.time[-1])],
                "positions": {
                    "shape": positions.shape,
                    "first": positions[0, 0].tolist(),
                    "sum": float(positions.sum()),
                },
                "volume": float(np.linalg.det(reader.cell()[-1])),
            }
    (HERE / "numbers.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    (HERE / "lake" / "catalogue.sqlite").unlink()
    (HERE / "lake" / "work").rmdir()


if __name__ == "__main__":
    main()
