"""Exports, read back by programs that we did not write."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from argyase.datalake.lake import Lake
from argyase.datalake.tables import tables
from argyase.dynamics.readers import read_frames
from argyase.schemas import CONDUCTIVITY, MD, VANHOVE
from argyase.stages.lake import main

SPECIES = ["Li", "P", "S", "Cl", "Li"]


def md(lake: Lake, seed: int, frames: int = 7, tilted: bool = True) -> str:
    """A random trajectory, as stage md publishes it; positions go far from the cell, which changes."""
    rng = np.random.default_rng(seed)
    with lake.begin("md", {"seed": seed, "temperature_K": 300}, schema=MD) as attempt:
        w = attempt.trajectory_writer(
            n_atoms=5, n_frames=frames, coords={"species": SPECIES, "atom_id": np.arange(5)}, time_step_ps=0.1
        )
        for _ in range(frames):
            cell = np.diag(rng.uniform(8, 12, 3)) + (rng.uniform(-2, 2, (3, 3)) if tilted else 0)
            w.append(rng.normal(scale=30, size=(5, 3)), cell)
        w.finish()
        numbers = {k: rng.normal(size=frames) for k in MD.variables}
        return attempt.publish(MD.dataset(time=w.times(), **numbers))


def export(lake: Lake, *arguments: str) -> None:
    assert main(["export", "--lake", str(lake.path), *arguments]) == 0


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 3))
def test_trajectories_as_ase_reads_them(
    tmp_path_factory: pytest.TempPathFactory, seed: int, tilted: bool, every: int
) -> None:
    folder = tmp_path_factory.mktemp("export")
    lake = Lake(folder / "lake")
    name = md(lake, seed, tilted=tilted)
    r, cells = lake.trajectory(name).positions()[::every], lake.trajectory(name).cell()[::every]
    data = lake.open_run(name)
    for suffix in ("extxyz", "traj", "lammpstrj"):
        file = folder / f"out.{suffix}"
        export(lake, name, "--every", str(every), "--to", str(file))
        frames: Any = read(file, index=":", **({"format": "lammps-dump-text"} if suffix == "lammpstrj" else {}))
        ours = list(read_frames(file))
        assert len(frames) == len(ours) == len(r)
        for n, (atoms, own) in enumerate(zip(frames, ours, strict=True)):
            assert atoms.get_chemical_symbols() == SPECIES == own.species
            for positions, cell in ((atoms.positions, atoms.cell.array), (own.positions, own.cell)):
                if suffix == "lammpstrj":
                    # Turned: lengths and angles stay. Six decimals of text, products of lengths up to 100 A.
                    np.testing.assert_allclose(cell @ cell.T, cells[n] @ cells[n].T, atol=1e-5)
                    np.testing.assert_allclose(positions @ positions.T, r[n] @ r[n].T, atol=2e-3)
                    np.testing.assert_allclose(positions @ cell.T, r[n] @ cells[n].T, atol=1e-4)
                else:
                    np.testing.assert_allclose(positions, r[n], atol=6e-9)  # eight decimals of text
                    np.testing.assert_allclose(cell, cells[n], atol=6e-9)
            if suffix != "lammpstrj":
                assert atoms.get_potential_energy() == pytest.approx(
                    float(data["potential_energy"][n * every]), abs=1e-8
                )
                assert atoms.info["pressure_GPa"] == pytest.approx(float(data["pressure"][n * every]), abs=1e-8)
                assert atoms.info["time_ps"] == pytest.approx(0.1 * n * every, abs=1e-8)


def test_lammps_reads_its_dump(tmp_path: Path) -> None:
    """The program whose format it is: rerun over the exported frames gives each frame's box and positions."""
    from argyase.potentials.lammps_plugin import create_lammps

    lake = Lake(tmp_path / "lake")
    name = md(lake, 3)
    export(lake, name, "--to", str(tmp_path / "out.lammpstrj"))
    lmp = create_lammps()
    for line in (
        "units metal", "atom_style atomic", "atom_modify map array", "region b prism 0 9 0 9 0 9 0 0 0",
        "create_box 4 b",
        "create_atoms 1 single 1 1 1", "mass * 1.0", "pair_style zero 1.0 nocoeff", "pair_coeff * *",
        f"read_dump {tmp_path / 'out.lammpstrj'} 4 x y z box yes purge yes add yes replace no wrapped no format native",
        "run 0",
    ):  # fmt: skip
        lmp.command(line)
    frame = list(read_frames(tmp_path / "out.lammpstrj"))[4]
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    box = np.array([[high[0] - low[0], 0, 0], [xy, high[1] - low[1], 0], [xz, yz, high[2] - low[2]]])
    np.testing.assert_allclose(box, frame.cell, atol=1e-8)
    x = np.array(lmp.gather_atoms("x", 1, 3)).reshape(5, 3)
    images = np.rint((frame.positions - x) @ np.linalg.inv(box))
    np.testing.assert_allclose(x + images @ box, frame.positions, atol=1e-6)
    lmp.close()


def test_h5md(tmp_path: Path) -> None:
    """Element by element what section 'Required' of the H5MD 1.1 specification asks for."""
    lake = Lake(tmp_path / "lake")
    name = md(lake, 1, frames=60)
    export(lake, name, "--to", str(tmp_path / "out.h5md"))
    with h5py.File(tmp_path / "out.h5md") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert set(file["h5md"]) == {"author", "creator", "modules"}
        atoms = file["particles/all"]
        assert atoms["box"].attrs["dimension"] == 3
        assert list(atoms["box"].attrs["boundary"]) == ["periodic"] * 3
        assert {k: v for v, k in h5py.check_enum_dtype(atoms["species"].dtype).items()} == {
            3: "Li", 15: "P", 16: "S", 17: "Cl",
        }  # fmt: skip
        assert atoms["species"][:].tolist() == [3, 15, 16, 17, 3]
        np.testing.assert_array_equal(atoms["position/value"], lake.trajectory(name).positions())
        np.testing.assert_array_equal(atoms["box/edges/value"], lake.trajectory(name).cell())
        for element in ("position", "box/edges"):
            np.testing.assert_array_equal(atoms[f"{element}/time"], lake.trajectory(name).time)
            assert atoms[f"{element}/step"].shape == (60,)
        assert atoms["position/value"].attrs["unit"] == "Angstrom"
        pressure = file["observables/pressure"]
        np.testing.assert_array_equal(pressure["value"], lake.open_run(name)["pressure"])
        assert (pressure["value"].attrs["unit"], pressure["time"].attrs["unit"]) == ("GPa", "ps")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables(tmp_path: Path, suffix: str) -> None:
    """Every number of every run, exactly, as pandas reads the file."""
    rng, lake = np.random.default_rng(1), Lake(tmp_path / "lake")
    runs = {}
    for seed in range(3):
        values = {k: rng.normal() for k in CONDUCTIVITY.variables}
        parameters = {"x": 0.1 * seed, "supercell": [2, 2, 2], "md": {"timestep_fs": 2}}
        runs[lake.publish("conductivity", parameters, CONDUCTIVITY.dataset(**values), schema=CONDUCTIVITY)] = values
    n = {"lag": 2 + seed, "r": 4}
    arrays = {
        k: rng.normal(size=[n[d] for d in v.dims])
        for k, v in {**VANHOVE.variables, **VANHOVE.coords}.items()
        if v.required
    }
    curve = lake.publish("vanhove", {"x": 0.5}, VANHOVE.dataset(**arrays), schema=VANHOVE)
    export(lake, "--to", str(tmp_path / f"all.{suffix}"))
    load: Any = pd.read_csv if suffix == "csv" else pd.read_parquet
    table = load(tmp_path / f"all.{suffix}").set_index("run")
    assert set(table.index) == {*runs, curve}
    for name, values in runs.items():
        for key, value in values.items():
            assert table.loc[name, f"{key} [{CONDUCTIVITY.variables[key].units}]"] == value
        assert json.loads(table.loc[name, "supercell"]) == [2, 2, 2]
        assert table.loc[name, "md__timestep_fs"] == 2
    long = load(tmp_path / f"all.lag-r.{suffix}")
    assert set(long["run"]) == {curve}
    np.testing.assert_array_equal(long["g_self [angstrom-3]"], arrays["g_self"].ravel())
    np.testing.assert_array_equal(long["lag [ps]"], np.repeat(arrays["lag"], n["r"]))
    np.testing.assert_array_equal(tables(lake, [curve])["lag"]["fraction_beyond"], arrays["fraction_beyond"])


def test_a_campaign_with_its_parents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path / "lake")
    parent, alone = md(lake, 1), md(lake, 2)
    values = dict.fromkeys(CONDUCTIVITY.variables, 1.0)
    name = lake.publish("conductivity", {}, CONDUCTIVITY.dataset(**values), [parent], CONDUCTIVITY)
    file = str(tmp_path / "campaign.zip")
    export(lake, "--stage", "conductivity", "--parents", "--to", file)
    assert main(["import", file, "--lake", str(tmp_path / "other")]) == 0
    assert {r.id for r in Lake(tmp_path / "other").search()} == {parent, name}
    assert alone not in Lake(tmp_path / "other")
    capsys.readouterr()
    assert main(["show", name, "--lake", str(tmp_path / "other")]) == 0
    assert f"{parent}  md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "all.extxyz"], "a file of one trajectory, not of 2 runs"),
        (["--to", "all.doc"], "no format of this suffix"),
        (["--stage", "none", "--to", "all.csv"], "no run of stage 'none'"),
        (["--to", "none/all.csv"], "no such folder"),
        (["--every", "0", "--to", "all.csv"], "must be 1 or more"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake(tmp_path / "lake")
    md(lake, 1), md(lake, 2)
    assert main(["export", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert {p.name for p in tmp_path.iterdir()} == {"lake"}
