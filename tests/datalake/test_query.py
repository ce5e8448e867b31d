"""Search, cubes and lineage, against slow readable twins."""

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numbers_lake import numbers, publish

from argyase.datalake.catalogue import Catalogue, lookup, matches
from argyase.datalake.errors import CorruptRunError, DatalakeError
from argyase.datalake.identity import canonical
from argyase.datalake.lake import Lake
from argyase.schemas import Schema, Variable

CURVES = Schema(
    "curves",
    1,
    {
        "g": Variable(("lag", "r"), "angstrom-1", "a map"),
        "count": Variable(("lag",), "1", "a number of things", "int64"),
        "kind": Variable(("lag",), "1", "a word", "str"),
        "best": Variable((), "K", "a number"),
        "note": Variable((), "1", "a word", "str", required=False),
    },
    {
        "lag": Variable(("lag",), "ps", "lag"),
        "r": Variable(("r",), "angstrom", "distance"),
        "time": Variable(("lag",), "ps", "time"),
    },
)


def curves(rng: np.random.Generator, lags: np.ndarray[Any, Any], n_r: int = 3) -> xr.Dataset:
    return CURVES.dataset(
        g=rng.normal(size=(len(lags), n_r)),
        count=rng.integers(0, 9, len(lags)),
        kind=[("a", "bcd")[k] for k in rng.integers(0, 2, len(lags))],
        best=rng.normal(),
        lag=lags,
        r=0.1 * np.arange(n_r),
        time=2 * lags,
    )


# ---- search ----

values = st.sampled_from([0, 1, 0.3, 1 / 3, 0.5, -2.5, True, None, "a", "b", [2, 2, 2], [1], 300, 10**20])
tables = st.dictionaries(st.sampled_from(["x", "md", "n"]), values | st.dictionaries(st.sampled_from("ab"), values))
wanted = st.dictionaries(
    st.sampled_from(["x", "md", "n", "md__a", "absent"]),
    values | st.lists(values, max_size=3) | st.tuples(st.floats(-3, 1), st.floats(-1, 400)),
    max_size=2,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(tables, max_size=6), st.lists(wanted, min_size=3, max_size=8))
def test_search_is_a_loop_over_all_records(
    tmp_path_factory: pytest.TempPathFactory, parameters: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    """SQL only narrows the search: the answer is that of the loop."""
    root = tmp_path_factory.mktemp("lake")
    for n, own in enumerate(parameters):
        run_json(root, "s", f"{n:02x}" + 18 * "0", own)
    everything = Catalogue(root).records()
    assert [r["parameters"] for r in everything] == parameters
    for question in questions:
        expected = [r for r in everything if all(matches(lookup(r["parameters"], k), v) for k, v in question.items())]
        assert Catalogue(root).records("s", question) == expected
        assert Catalogue(root).records("other", question) == []
        assert [i for i, *_ in Catalogue(root).numbers("s", question)] == [r["id"] for r in expected]


def run_json(root: Path, stage: str, name: str, parameters: dict[str, Any], created: str = "2026") -> Path:
    """A run as far as the catalogue is concerned."""
    path = root / "runs" / stage / name[:2] / name
    path.mkdir(parents=True)
    record = {"id": name, "stage": stage, "created": created, "parameters": parameters, "scalars": {}, "inputs": []}
    (path / "run.json").write_text(json.dumps({**record, "provenance": {}, "schema": "", "version": 1, "files": {}}))
    return path


def test_the_catalogue_keeps_up_with_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs come and go, at once or after the folder has settled; each reader, new or old, sees what is there."""
    lake = Lake(tmp_path)
    names = [publish(lake, seed=n) for n in range(5)]

    def seen() -> list[set[str]]:
        return [{r.id for r in reader.search()} for reader in (lake, Lake(tmp_path))]

    assert seen() == [set(names)] * 2
    for settled in (2.0, 0.0):  # 0: each folder counts as settled, and only its time of change tells
        monkeypatch.setattr("argyase.datalake.catalogue._SETTLED_SECONDS", settled)
        lake.remove(names.pop())
        assert seen() == [set(names)] * 2
        time.sleep(0.02)  # longer than a tick of the clock of any file system here
        names.append(publish(lake, seed=100 * settled))
        assert seen() == [set(names)] * 2


def test_a_settled_lake_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    publish(lake)
    monkeypatch.setattr("argyase.datalake.catalogue._SETTLED_SECONDS", 0.0)
    lake.search()
    before = (tmp_path / "catalogue.sqlite").stat()
    monkeypatch.setattr("argyase.datalake.catalogue._insert", None)
    assert len(Lake(tmp_path).search()) == 1
    assert (tmp_path / "catalogue.sqlite").stat().st_mtime_ns == before.st_mtime_ns


def test_one_unreadable_record_does_not_hide_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lake = Lake(tmp_path)
    names = [publish(lake, seed=n) for n in range(3)]
    (lake.record(names[1]).path / "run.json").write_text('{"id": ')
    assert {r.id for r in lake.search()} == {names[0], names[2]}
    assert names[1] in caplog.text
    assert "argyase lake verify" in caplog.text


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_flipped_bit_of_the_catalogue_is_never_read_as_a_number(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for n in range(3):
        publish(lake, n + 0.123456789, seed=n)
    file = lake.path / "catalogue.sqlite"
    expected = lake.search()
    content = bytearray(file.read_bytes())
    # Of the numbers themselves, and of anything.
    at = data.draw(
        st.sampled_from([content.find(b"123456789"), content.find(b'"sha256"')]) | st.integers(0, len(content) - 1)
    )
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    got = {r.id: r for r in Lake(lake.path).search()}
    for record in expected:
        assert record.id not in got or got[record.id] == record


# ---- cubes ----


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.floats(-2, 2) | st.sampled_from([0.1 + 0.2, 1 / 3, 1, 0]), min_size=1, max_size=4), st.integers(0, 99)
)
def test_what_was_stored_is_found(tmp_path_factory: pytest.TempPathFactory, xs: list[float], seed: int) -> None:
    """By the rounded value in the dataset, by any value that rounds to it in the lake."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    stored = {}
    for n, x in enumerate(xs):
        publish(lake, float(n), x=x, inversion=0.5, temperature_K=300, seed=seed)
        stored.setdefault(canonical(x), float(n))
    whole = lake.open("numbers")
    for x, value in stored.items():
        assert float(whole["value"].sel(x=x, inversion=0.5, temperature_K=300, seed=seed)) == value
    for x in xs:
        assert float(lake.open("numbers", x=x)["value"].squeeze()) == stored[canonical(x)]
        assert float(lake.open("numbers", x=(x, x))["value"].squeeze()) == stored[canonical(x)]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_cube_is_its_runs(tmp_path_factory: pytest.TempPathFactory, seed: int, lazy: bool) -> None:
    """Run by run, on its own lags; NaN and nothing else where there is no run or no lag."""
    rng = np.random.default_rng(seed)
    lake, runs = Lake(tmp_path_factory.mktemp("lake")), {}
    for x, temperature in itertools.product((0, 0.3, None), (300, 600)):
        if rng.random() < 0.7 or not runs:
            lags = 0.1 * np.arange(1, rng.integers(2, 6)) if rng.random() < 0.5 else np.array([0.3, 0.7])
            own = {"temperature_K": temperature} | ({} if x is None else {"x": x})
            name = lake.publish("curves", own, curves(rng, lags), schema=CURVES)
            runs[(math.nan if x is None else x), temperature] = lake.open_run(name)
    cube = lake.open("curves", lazy=lazy)
    assert (cube["g"].chunks is not None) == lazy
    filled = dict.fromkeys(cube.data_vars, 0)
    for (x, temperature), run in runs.items():
        piece = cube.sel(temperature_K=temperature)
        if "x" in cube.dims:
            piece = piece.isel(x=int(np.flatnonzero(np.isnan(cube.x) if math.isnan(x) else cube.x.values == x)[0]))
        for lag in run["lag"].values:
            mine, own = piece.sel(lag=round(lag, 9)), run.sel(lag=lag)
            np.testing.assert_array_equal(mine["g"], own["g"])
            assert int(mine["count"]) == int(own["count"])
            assert str(mine["kind"].values) == str(own["kind"].values)
            assert float(mine["time"]) == float(own["time"])
        assert float(piece["best"]) == float(run["best"])
        for k in ("g", "count", "best"):
            filled[k] += run[k].size
    for k in ("g", "count", "best"):
        assert int(cube[k].count()) == filled[k]
        assert cube[k].attrs == {"units": CURVES.variables[k].units, "long_name": CURVES.variables[k].long_name}
    assert int((cube["kind"] != "").sum()) == filled["count"]


def test_whole_numbers_and_truth_stay_what_they_are_where_nothing_is_missing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for seed in (1, 2):
        data = xr.Dataset({"n": ("lag", [seed, 2]), "ok": ("lag", [True, False]), "k": seed, "w": "word" * seed})
        lake.publish("plain", {"seed": seed}, data)
    cube = lake.open("plain")
    assert {k: cube[k].dtype.kind for k in cube.data_vars} == {"n": "i", "ok": "b", "k": "i", "w": "U"}
    assert cube["w"].sel(seed=2).item() == "wordword"
    assert cube["n"].sel(seed=2).values.tolist() == [2, 2]
    lake.publish("plain", {"seed": 3}, xr.Dataset({"n": ("lag", [3])}))
    cube = lake.open("plain")
    np.testing.assert_array_equal(cube["n"].sel(seed=3), [3, np.nan])
    assert np.isnan(cube["k"].sel(seed=3))
    assert cube["w"].sel(seed=3).item() == ""


def test_labels_may_be_words_and_lists(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, 1.0, potential="a", supercell=[2, 2, 2])
    publish(lake, 2.0, potential="b", supercell=[4, 4, 4])
    publish(lake, 3.0, supercell=[4, 4, 4])
    cube = lake.open("numbers", dims=("potential", "supercell"))
    assert float(cube["value"].sel(potential="b", supercell="[4, 4, 4]")) == 2.0
    assert float(cube["value"].sel(potential="", supercell="[4, 4, 4]")) == 3.0
    assert np.isnan(cube["value"].sel(potential="a", supercell="[4, 4, 4]"))
    assert lake.open("numbers", dims=(), potential="a").sizes == {"lag": 5}
    with pytest.raises(DatalakeError, match=r"are both at one point; select one by potential="):
        lake.open("numbers", dims=(), supercell=[4, 4, 4])


def test_trajectories_are_in_a_lazy_cube(tmp_path: Path) -> None:
    lake, paths = Lake(tmp_path), {}
    rng = np.random.default_rng(1)
    for temperature, frames in ((300, 7), (600, 4)):
        with lake.begin("md", {"temperature_K": temperature}) as attempt:
            w = attempt.trajectory_writer(
                n_atoms=3, n_frames=9, coords={"species": ["Li", "S", "Cl"]}, time_step_ps=0.1, shard_frames=3
            )
            for frame in rng.normal(size=(frames, 3, 3)):
                w.append(frame, 9 * np.eye(3))
            w.finish()
            paths[temperature] = attempt.publish(xr.Dataset({"volume": ("frame", np.full(frames, 729.0))}))
    cube = lake.open("md", lazy=True)
    assert dict(cube["positions"].sizes) == {"temperature_K": 2, "frame": 7, "atom": 3, "xyz": 3}
    assert cube["positions"].chunks is not None
    assert cube["species"].values.tolist() == ["Li", "S", "Cl"]
    for temperature, name in paths.items():
        own = lake.trajectory(name).positions()
        got = cube["positions"].sel(temperature_K=temperature)
        np.testing.assert_array_equal(got[: len(own)], own)
        assert np.isnan(got[len(own) :]).all()
        np.testing.assert_array_equal(got.isel(atom=[2, 0], frame=2).values, own[2, [2, 0]])
    np.testing.assert_array_equal(cube["cell"].sel(temperature_K=300, frame=6), 9 * np.eye(3))
    assert "positions" not in lake.open("md")
    (lake.record(paths[300]).path / "traj.zarr" / "positions" / "c.1.0.0").unlink()
    with pytest.raises(CorruptRunError, match="a shard is missing"):
        cube["positions"].compute()


def test_versions_that_do_not_mix_are_not_mixed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, seed=1)
    other = numbers()
    other["curve"].attrs["units"] = "fs"
    lake.publish("numbers", {"seed": 2}, other)
    with pytest.raises(
        DatalakeError,
        match=r"curve of run .* over \(lag\) in fs, of another over \(lag\) in ps: versions that do not mix",
    ):
        lake.open("numbers")
    assert lake.open("numbers", seed=2)["curve"].attrs["units"] == "fs"


def test_a_damaged_file_is_named_in_a_cube(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    names = [publish(lake, seed=n) for n in range(2)]
    (lake.record(names[1]).path / "data.nc").write_bytes(b"short")
    with pytest.raises(CorruptRunError, match=names[1]):
        lake.open("numbers")


def test_runs_of_an_older_version_do_not_tell_their_variables(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for n in range(2):
        path = lake.record(publish(lake, float(n), seed=n)).path / "run.json"
        path.write_text(
            json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in ("variables", "seal")})
        )
    cube = lake.open("numbers")
    np.testing.assert_array_equal(cube["value"].squeeze(), [0, 1])
    assert cube["curve"].attrs["units"] == "ps"


# ---- lineage ----


def test_lineage(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    structure = publish(lake, x=0.1)
    label = lake.publish("label", {}, numbers(), [structure])
    with lake.begin("fit", {}, [label]) as attempt:
        (attempt.path / "potential.mtp").write_text("a potential")
        fit = attempt.publish(numbers())
    digest = lake.record(fit).files["potential.mtp"]["sha256"]
    md = lake.publish("md", {"model": {"potential_sha256": digest}}, numbers(), [structure])
    gone = publish(lake, x=0.7)
    sigma = lake.publish("conductivity", {}, numbers(), [md, gone])
    lake.remove(gone)
    found = lake.lineage(sigma[:8])
    assert found.id == sigma
    assert [p.id for p in found.parents] == [md, gone]
    assert found.parents[1].record is None
    assert [p.id for p in found.parents[0].parents] == [structure, fit]
    assert [p.id for p in found.walk()] == [sigma, md, gone, structure, fit, label]
    assert lake.lineage(structure).parents == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 19), max_size=20), st.booleans())
def test_any_atoms_of_a_trajectory(tmp_path_factory: pytest.TempPathFactory, atoms: list[int], mask: bool) -> None:
    """Few or many, in any order, twice: as numpy takes them from the whole."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    with lake.begin("md", {}) as attempt:
        w = attempt.trajectory_writer(n_atoms=20, n_frames=4, coords={}, time_step_ps=0.1, shard_frames=3)
        for frame in np.random.default_rng(1).normal(size=(4, 20, 3)):
            w.append(frame, np.eye(3))
        w.finish()
        reader = lake.trajectory(attempt.publish(xr.Dataset()))
    which: Any = np.isin(np.arange(20), atoms) if mask else np.array(atoms, dtype=int)
    np.testing.assert_array_equal(reader.positions(atoms=which), reader.positions()[:, which])
