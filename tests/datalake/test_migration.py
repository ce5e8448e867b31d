"""A lake of the first format, made once and committed, opens with the code of today and has the numbers it had."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from argyase.datalake.lake import Lake

V1 = Path(__file__).parents[1] / "data" / "lake-v1"
NUMBERS: dict[str, dict[str, Any]] = json.loads((V1 / "numbers.json").read_text())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A copy, because an index is written beside the runs."""
    shutil.copytree(V1 / "lake", tmp_path / "lake")
    return Lake(tmp_path / "lake", create=False)


def test_every_run_is_there(lake: Lake) -> None:
    assert sum(p.stat().st_size for p in V1.rglob("*") if p.is_file()) < 300_000
    assert {r.id for r in lake.search()} == set(NUMBERS)
    assert lake.verify() == []
    for name, known in NUMBERS.items():
        record = lake.record(name)
        assert (record.stage, record.parameters, record.inputs) == (
            known["stage"],
            known["parameters"],
            known["inputs"],
        )
        np.testing.assert_equal(record.scalars, known["scalars"])
        # The name is what it was: a campaign that is run again finds its results.
        assert lake.id(record.stage, known["parameters"], known["inputs"], record.version) == name


@pytest.mark.parametrize("name", sorted(NUMBERS), ids=lambda n: f"{NUMBERS[n]['stage']}-{n[:6]}")
def test_the_numbers_are_what_they_were(lake: Lake, name: str) -> None:
    dataset = lake.open_run(name)
    for key, known in NUMBERS[name]["arrays"].items():
        have = dataset[key]
        assert have.attrs["units"] == known["units"], key
        if "words" in known:
            assert np.atleast_1d(have.values).astype(str).tolist() == known["words"], key
            continue
        assert (list(have.shape), str(have.dtype)) == (known["shape"], known["dtype"]), key
        if have.size:
            flat = have.values.ravel()
            np.testing.assert_equal([flat[0], flat[-1]], [known["first"], known["last"]], err_msg=key)
            # The order of a sum may change between versions of numpy.
            np.testing.assert_allclose(np.nansum(flat), known["sum"], rtol=1e-12, err_msg=key)


def test_the_trajectory_is_what_it_was(lake: Lake) -> None:
    (name,) = (n for n, known in NUMBERS.items() if "trajectory" in known)
    known, reader = NUMBERS[name]["trajectory"], lake.trajectory(name)
    positions = reader.positions()
    assert list(positions.shape) == known["positions"]["shape"]
    assert positions[0, 0].tolist() == known["positions"]["first"]
    np.testing.assert_allclose(positions.sum(), known["positions"]["sum"], rtol=1e-12)
    assert [reader.time[0], reader.time[-1]] == known["time"]
    assert reader.coords["species"].tolist() == known["species"]
    assert np.linalg.det(reader.cell()[-1]) == pytest.approx(known["volume"], rel=1e-12)


def test_queries(lake: Lake) -> None:
    cube = lake.open("structures")
    # 2 R ln 2 per formula unit at 50 %, eq. 3 of the paper; none in the ordered crystal.
    assert float(cube["configurational_entropy"].sel(x=0, inversion=0.5).squeeze()) == pytest.approx(2 * np.log(2))
    assert float(cube["configurational_entropy"].sel(x=0, inversion=0).squeeze()) == 0
    (sigma,) = lake.search("conductivity", inversion=0.5, temperature_K=(800, 1000))
    assert [i.record.stage for i in lake.lineage(sigma.id).walk() if i.record] == ["conductivity", "md", "structures"]
    assert lake.open("md", lazy=True)["positions"].squeeze().shape == lake.trajectory(sigma.inputs[0]).positions().shape


def test_a_dataset_that_satisfied_its_schema_still_does(lake: Lake) -> None:
    """Unless the version of the schema was raised: then the old one stays readable, and is not this one."""
    from argyase.datalake.schema import validate
    from argyase.schemas import SCHEMAS

    checked = 0
    for record in lake.search():
        if (schema := SCHEMAS[record.schema]).version == record.version:
            with xr.open_dataset(record.path / "data.nc", engine="h5netcdf") as dataset:
                validate(dataset, schema)
            checked += 1
    assert checked > 0
