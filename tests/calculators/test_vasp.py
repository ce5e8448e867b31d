"""VASP's presets, and what becomes of runs that go wrong: by a stand-in, another engine that writes VASP's files."""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.geometry import find_mic
from ase.io.vasp import read_vasp
from command import argyase
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.io.vasp.inputs import Poscar
from pymatgen.io.vasp.outputs import Oszicar, Outcar, Vasprun, Xdatcar
from strategies import seeds

from argyase.calculators import calculator, identity, single_point, vasp_errors
from argyase.calculators.vasp import PRESETS, k_mesh
from argyase.datalake.lake import Lake
from argyase.dynamics.inside_vasp import VaspMD, check_temperature, read_xdatcar
from argyase.dynamics.protocols import Ramp
from argyase.dynamics.simulation import MDSettings
from argyase.errors import CalculatorError, ConfigError
from argyase.stages import label, learn, relax, sample, structures
from argyase.stages import lake as lake_command
from argyase.structures.argyrodite import argyrodite

STAND_IN = Path(__file__).parents[1] / "vasp_stand_in.py"
VALENCES = {"Li_sv": 3, "Li": 1, "P": 5, "S": 6, "Cl": 7, "Cu": 11, "Al": 3}
ENMAX = {"Li_sv": 499.034, "Li": 140.0, "P": 255.04, "S": 258.689, "Cl": 262.472, "Cu": 295.446, "Al": 240.3}
"""eV, of VASP's PBE POTCARs."""

PBE = {"EDIFF": 1e-5, "ISMEAR": 0, "SIGMA": 0.05, "LCHARG": False, "GGA": "PE"}
FINE = {**PBE, "ENCUT": 550, "PREC": "Accurate", "LASPH": True}
STILL = {"IBRION": -1, "NSW": 0, "ISIF": 2}
DYNAMICS = {
    **PBE, "ENCUT": 350, "IBRION": 0, "MDALGO": 2, "SMASS": 0, "ISIF": 2, "ISYM": 0, "POTIM": 2, "NBLOCK": 50
}  # fmt: skip
OPTB88 = {"GGA": "BO", "PARAM1": 0.183333, "PARAM2": 0.22, "AGGAC": 0, "LUSE_VDW": True}
INCAR = {
    "relax": {**FINE, "EDIFFG": -0.03, "IBRION": 2, "ISIF": 3, "NSW": 200},
    "aimd": {**DYNAMICS, "TEBEG": 300, "TEEND": 300, "NSW": 5000},
    "melt_quench": {**DYNAMICS, "TEBEG": 2000, "TEEND": 300, "NSW": 8500},
    "label": {**FINE, **STILL, **OPTB88},
    # One Li in P4S20Cl4, 3 + 4 x 5 + 20 x 6 + 4 x 7 electrons, and charge -23: 194.
    "site_energy": {**FINE, **STILL, "NELECT": 194},
}
"""PAPER: 550 eV, 1e-5 eV, 0.03 eV/A; dynamics Nose-Hoover, 350 eV, a frame each 0.1 ps, 10 ps at T, 17 ps of quench at
100 K/ps, 2 fs; labels optB88-vdW. The rest is what VASP's manual says of these functionals and ensembles.
"""
MESH = {"relax": "3 3 3", "aimd": "1 1 1", "melt_quench": "1 1 1", "label": "3 3 3", "site_energy": "4 4 4"}
"""1000 k-points per atom, rounded up: of 52 atoms 27 (1404), of 29 atoms 64 (1856; 27 would be 783)."""


@pytest.fixture(autouse=True)
def vasp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the stand-in and POTCARs that only look like them; the folder of the calculations."""
    for name in VALENCES:
        write_potcar(tmp_path / "pp", name)
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "pp"))
    (tmp_path / "pp" / "vdw_kernel.bindat").write_text("no kernel")
    monkeypatch.setenv("ASE_VASP_VDW", str(tmp_path / "pp"))
    monkeypatch.setenv("ASE_VASP_COMMAND", f"{sys.executable} {STAND_IN}")
    for name in [*os.environ]:
        if name.startswith("VASP_STAND_IN") or name in ("VASP_PP_VERSION", "SLURM_JOB_END_TIME"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "vasp"


def write_potcar(pp: Path, name: str, content: str = "", date: str = "for-tests") -> None:
    """A POTCAR of this name; of other content if it is said."""
    title = content or name
    path = pp / "potpaw_PBE" / name / "POTCAR"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"  PAW_PBE {title} for tests\n parameters from PSCTR are:\n   TITEL  = PAW_PBE {title} {date}\n"
        "   LULTRA = F\n   IUNSCR = 1\n   RPACOR = 1.0\n"
        f"   POMASS = 1.0; ZVAL   = {VALENCES[title]:8.3f}    mass and valenz\n"
        f"   ENMAX  = {ENMAX[title]:8.3f}; ENMIN  = {0.75 * ENMAX[title]:8.3f} eV\n"
        f"   VRHFIN = {title.split('_')[0]}: for tests\n   LEXCH  = PE\n"
        "END of PSCTR-controll parameters\n local part\n  1.0 2.0 3.0\n End of Dataset\n"
    )


def copper(seed: int = 0) -> Atoms:
    """Four atoms of two species, out of order and out of place."""
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[[0, 2]] = "Al"
    atoms.rattle(0.05, seed=seed)
    return atoms


OF_COPPER = {"setups": {"Cu": "", "Al": ""}}


def single_site() -> Atoms:
    """One Li in the lattice of the anions."""
    atoms = argyrodite(a=10.0)
    ions = atoms[[n for n, s in enumerate(atoms.symbols) if s != "Li"]]
    return ions + Atoms("Li", [[1.8, 1.8, 0.2]])


# ---- what is computed ----


def parsed(incar: str) -> dict[str, Any]:
    """Tags of an INCAR, as VASP takes them: T and F as they are, numbers as numbers."""
    found: dict[str, Any] = {}
    for line in incar.splitlines():
        tag, _, value = (part.strip() for part in line.partition("="))
        try:
            found[tag] = float(value)
        except ValueError:
            found[tag] = {".TRUE.": True, ".FALSE.": False}.get(value, value)
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_input_is_that_of_the_paper(preset: str, vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASE_VASP_COMMAND", "exit 3")
    atoms = single_site() if preset == "site_energy" else argyrodite(a=10.0)
    atoms.calc = calculator("vasp", preset=preset, **({"charge": -23} if preset == "site_energy" else {}))
    with pytest.raises(CalculatorError, match="VASP died: exit code 3"):
        atoms.get_potential_energy()
    (folder,) = vasp.iterdir()
    assert parsed((folder / "INCAR").read_text()) == INCAR[preset]
    assert (folder / "vdw_kernel.bindat").is_file() == (preset == "label")
    _, zero, kind, mesh, shift = (folder / "KPOINTS").read_text().splitlines()
    assert (zero, kind, mesh, shift) == ("0", "Gamma", MESH[preset], "0 0 0")
    # 350 eV are not enough for the 1s electrons of Li.
    lithium = "Li_sv" if INCAR[preset]["ENCUT"] == 550 else "Li"
    assert re.findall(r"TITEL  = PAW_PBE (\S+)", (folder / "POTCAR").read_text()) == [
        {"Li": lithium}.get(s, s) for s in dict.fromkeys(atoms.symbols)
    ]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            {"preset": "aimd", "setups": {"Li": "_sv"}},
            r"encut = 350 eV is below ENMAX = 499.* eV of the POTCAR Li_sv: .*",
        ),
        ({"encut": 499}, r"encut = 499 eV is below ENMAX = 499\.034 eV of the POTCAR Li_sv"),
        (
            {"encut": 250, "setups": {"Li": ""}},
            r"250 eV is below ENMAX = 262\.472 eV of the POTCAR Cl: .*setups={\"Cl\"",
        ),
        ({"preset": "aimd", "setups": {"Li": "_sv"}, "below_enmax": True}, ""),
        ({"encut": 500}, ""),
        ({"encut": None}, ""),  # VASP's own: the largest ENMAX
    ],
)
def test_a_cutoff_below_that_of_a_potcar(made: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASE_VASP_COMMAND", "exit 3")
    atoms = argyrodite(a=10.0)
    atoms.calc = calculator("vasp", **made)
    with pytest.raises(ConfigError if said else CalculatorError, match=said or "VASP died: exit code 3"):
        atoms.get_potential_energy()


def test_a_wrong_setting_is_no_failure_of_a_relaxation(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(ConfigError, match="encut = 200 eV is below ENMAX = 295"):
        relaxed(lake, "encut=200")


def test_a_wrong_setting_is_no_failure_of_a_frame(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "frames.extxyz", [copper()])
    lake = Lake(tmp_path / "lake")
    made = ('setups={"Cu": "", "Al": ""}', "encut=200")
    with pytest.raises(ConfigError, match="ENMAX = 295"):
        label.run(label.Config(("frames.extxyz",), calculator="vasp", settings=made), lake)
    assert not list(lake.path.glob("store/*/*/*.failed"))


def test_every_setting_can_be_another(vasp: Path) -> None:
    atoms = copper()
    made = calculator(
        "vasp", encut=400, SIGMA=0.1, nelm=30, prec=None, lasph=".FALSE.", kpts=[2, 1, 1], keep=True, **OF_COPPER
    )
    made.get_potential_energy(atoms)
    (folder,) = vasp.iterdir()
    wanted = {**INCAR["label"], "ENCUT": 400, "SIGMA": 0.1, "NELM": 30, "LASPH": False}
    del wanted["PREC"]
    assert parsed((folder / "INCAR").read_text()) == wanted
    assert (folder / "KPOINTS").read_text().splitlines()[3] == "2 1 1"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"preset": "lable"}, "preset = 'lable': known are relax, aimd, melt_quench, label, site_energy"),
        ({"preset": "site_energy"}, "needs the charge of the cell, in e, e.g. charge=-23"),
        ({"encutt": 400}, "'encutt' is no setting, and no tag of INCAR that ASE knows; encut?"),
        ({"cores": 2}, "'cores' is no setting"),
        ({"encut": "high"}, "encut = 'high': expected a float"),
        ({"nsw": 2.5}, "nsw = 2.5: expected a int"),
        ({"lasph": "perhaps"}, "lasph = 'perhaps': expected a bool"),
        ({"xc": "PBEE"}, "xc = 'PBEE': ASE knows lda,"),
        ({"kpts": [2, 2]}, "kpts = [2, 2]: expected three numbers"),
        ({"setups": {"Xy": ""}}, "setups = {'Xy': ''}: expected endings by chemical symbol"),
        ({"setups": "recommended"}, "setups = 'recommended': expected endings"),
        ({"walltime_s": -1}, "walltime_s = -1: expected a number, not below 0"),
        ({"deadline": "noon"}, "deadline = 'noon': expected a number, not below 0"),
        ({"unconverged": 5}, "unconverged = 5: expected a fraction of the steps, 0 to 1"),
        ({"k_density": "fine"}, "k_density = 'fine': expected a number"),
    ],
)
def test_wrong_settings(made: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        calculator("vasp", **made)
    with pytest.raises(ConfigError, match=re.escape(said)):
        identity("vasp", **made)


def test_what_is_missing_on_the_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"nowhere is no folder; set VASP_PP_PATH .* that holds potpaw_PBE"):
        calculator("vasp")
    monkeypatch.delenv("VASP_PP_PATH")
    with pytest.raises(
        ConfigError, match=r"POTCARs is missing; set VASP_PP_PATH in the environment, or in .*config\.ini"
    ):
        calculator("vasp")
    monkeypatch.delenv("ASE_VASP_COMMAND")
    with pytest.raises(
        ConfigError, match=r"set ASE_VASP_COMMAND in the environment, or .* 'mpirun -n 16 vasp_std'|mpirun"
    ):
        calculator("vasp")
    # What was computed on another machine is known here, too.
    assert identity("vasp")["preset"] == "label"


def test_identity_is_what_results_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    who = identity("vasp")
    # Labels that lakes have are of this name.
    digest = hashlib.sha256(json.dumps(who, sort_keys=True).encode()).hexdigest()
    assert digest.startswith("d26fa6165724f00bd021")
    assert who["incar"]["ENCUT"] == 550
    assert who["k_density"] == 1000
    assert who["potcars"] == {"Cl": "Cl", "Li": "Li_sv", "P": "P", "S": "S"}
    same = (
        {"walltime_s": 60, "deadline": 1e12, "grace_s": 5, "unconverged": 0.1, "mixed": True, "below_enmax": True},
        {"directory": "d"},
        {"keep": True},
        {"ncore": 4, "kpar": 2},
        {"encut": 550},
        {"ENCUT": 550.0},
        {"nelm": 200, "algo": "All", "isym": 0, "amix": 0.1, "BMIX": 0.01, "imix": 1, "isearch": 1},
        {"custom": {"ISEARCH": 1, "NELMDL": "-8"}},
    )
    assert [identity("vasp", **more) for more in same] == [who] * len(same)
    other = (
        {"encut": 400}, {"preset": "site_energy", "charge": 0}, {"k_density": 500}, {"kpts": [3, 3, 3]}, {"charge": 1},
        {"setups": {"Li": ""}}, {"pp_version": "54"}, {"version": "6.4.2"}, {"custom": {"ML_LMLFF": ".TRUE."}},
        {"algo": "Nothing"}, {"nbands": 200}, {"preset": "aimd"}, {"preset": "aimd", "isym": 2},
    )  # fmt: skip
    found = [json.dumps(identity("vasp", **more)) for more in other]
    assert len({json.dumps(who), *found}) == len(other) + 1
    monkeypatch.setenv("ASE_VASP_COMMAND", "mpirun -n 64 vasp_gam")
    assert identity("vasp") == who
    monkeypatch.setenv("VASP_PP_VERSION", "64")
    assert identity("vasp")["pp_version"] == "64"


@given(
    seeds,
    st.lists(st.floats(2.0, 40.0), min_size=3, max_size=3),
    st.integers(1, 500),
    st.floats(0.0, 20000.0),
    st.booleans(),
)
@settings(deadline=None)
def test_mesh_is_the_coarsest_that_is_dense_enough(
    seed: int, lengths: list[float], atoms: int, density: float, cubic: bool
) -> None:
    cell = np.diag([lengths[0]] * 3 if cubic else lengths)
    cell = cell @ (np.eye(3) + 0.2 * np.tril(np.random.default_rng(seed).uniform(-1, 1, (3, 3)), -1) * (not cubic))
    structure = Atoms(f"Li{atoms}", cell=cell, pbc=True)
    mesh = np.array(k_mesh(structure, density))
    assert mesh.prod() * atoms >= density
    if cubic:
        assert len(set(mesh)) == 1
    # The next coarser: each direction in as few pieces as with those that are the shortest before the last step.
    reciprocal = np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    before = np.where(mesh > 1, reciprocal / np.maximum(mesh - 1, 1), np.inf)
    coarser = np.where(before <= 1.03 * before.min(), np.maximum(mesh - 1, 1), mesh)
    assert mesh.prod() == 1 or coarser.prod() * atoms < density


# ---- round trips ----


@pytest.mark.parametrize("preset", PRESETS)
def test_forces_come_back_in_the_order_of_the_atoms(preset: str, vasp: Path) -> None:
    more: dict[str, Any] = {
        "relax": {"isif": 2, "ediffg": -0.05}, "aimd": {"nsw": 6, "nblock": 2},
        "melt_quench": {"nsw": 5, "nblock": 1}, "label": {}, "site_energy": {"charge": 0},
    }[preset]  # fmt: skip
    if preset == "relax":
        atoms, engine = copper() * (2, 1, 1), EMT()
        more.update(OF_COPPER)
    else:
        atoms, engine = argyrodite(a=10.0), calculator("mtp", potential="LiPSCl-study")
        atoms.rattle(0.05, seed=1)
        atoms = atoms[np.random.default_rng(2).permutation(len(atoms))]
    start = atoms.copy()
    atoms.calc = calculator("vasp", preset=preset, keep=True, **more)
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    moved = np.abs(atoms.positions - start.positions).max()
    assert (moved > 0.01) == atoms.calc.moves_atoms == (preset in ("relax", "aimd", "melt_quench"))
    assert atoms.get_chemical_symbols() == start.get_chemical_symbols()
    again = atoms.copy()
    again.calc = engine
    # VASP's files give 8 digits; positions that were moved come back with 16.
    assert energy == pytest.approx(again.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(forces, again.get_forces(), atol=1e-7)
    np.testing.assert_allclose(stress, again.get_stress(), atol=1e-8)
    assert np.abs(forces - forces[::-1]).max() > 0.01 or preset == "relax"
    (folder,) = vasp.iterdir()
    _check_files(folder, energy, len(atoms))
    # The same again is read, not computed: with an engine that fails it is still there.
    (folder / "INCAR").unlink()
    later = start.copy()
    later.calc = calculator("vasp", preset=preset, keep=True, **more)
    assert later.get_potential_energy() == energy
    assert not (folder / "INCAR").exists()
    np.testing.assert_array_equal(later.positions, atoms.positions)


def _check_files(folder: Path, energy: float, n_atoms: int) -> None:
    """Both readers of VASP's files find the same in all of them."""
    run = Vasprun(str(folder / "vasprun.xml"), parse_potcar_file=False)
    assert "stand-in" in run.vasp_version
    assert run.converged
    steps = len(run.ionic_steps)
    assert run.final_energy == pytest.approx(energy, abs=1e-7)
    assert all(2 < len(step["electronic_steps"]) < run.parameters["NELM"] for step in run.ionic_steps)
    outcar = Outcar(str(folder / "OUTCAR"))
    assert outcar.final_energy == pytest.approx(energy, abs=1e-7)
    assert len(Oszicar(str(folder / "OSZICAR")).ionic_steps) == steps
    frames = ase.io.read(folder / "OUTCAR", index=":")
    same = ase.io.read(folder / "vasprun.xml", index=":")
    assert len(frames) == len(same) == steps
    for a, b in zip(frames, same, strict=True):
        np.testing.assert_allclose(a.get_forces(), b.get_forces(), atol=1e-6)
        # OUTCAR has 5 digits of kbar.
        np.testing.assert_allclose(a.get_stress(), b.get_stress(), atol=1e-8)
        assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), abs=1e-7)
    assert len(Poscar.from_file(str(folder / "CONTCAR")).structure) == n_atoms
    written = steps // int(run.parameters["NBLOCK"])
    assert len(Xdatcar(str(folder / "XDATCAR")).structures) == written
    assert len(ase.io.read(folder / "XDATCAR", index=":", format="vasp-xdatcar")) == written


def test_a_cell_is_relaxed(vasp: Path) -> None:
    atoms = copper()
    before = atoms.cell.array.copy()
    atoms.calc = calculator("vasp", preset="relax", **OF_COPPER)
    assert np.abs(atoms.get_forces()).max() < 0.03
    assert np.abs(atoms.cell.array - before).max() > 0.01
    # And what is large is gone.
    (folder,) = vasp.iterdir()
    assert not {"WAVECAR", "POTCAR"} & {path.name for path in folder.iterdir()}


def test_the_stage_relax_takes_what_vasp_relaxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ase.io.write(tmp_path / "copper.extxyz", copper())
    lake = Lake(tmp_path / "lake")
    config = relax.Config("copper.extxyz", "vasp", ("preset=relax", 'setups={"Cu": "", "Al": ""}'))
    monkeypatch.setenv("VASP_STAND_IN", "unconverged")
    with pytest.raises(CalculatorError, match="the electrons did not converge"):
        relax.run(config, lake)
    monkeypatch.delenv("VASP_STAND_IN")
    (run_id,) = relax.run(config, lake)  # another attempt: such a failure settles nothing
    assert lake.record(run_id).scalars["vasp_version"] == "0.0.0-stand-in"
    assert lake.record(run_id).scalars["potcars"] == "PAW_PBE Al for-tests, PAW_PBE Cu for-tests"
    data = lake.open_run(run_id)
    atoms = structures.to_atoms(data)
    assert atoms.get_chemical_symbols() == copper().get_chemical_symbols()
    assert np.abs(atoms.cell.array - copper().cell.array).max() > 0.01
    atoms.calc = EMT()
    # CONTCAR and vasprun.xml have 8 digits or so.
    np.testing.assert_allclose(data["forces"], atoms.get_forces(), atol=1e-5)
    assert np.abs(data["forces"]).max() < 0.03
    assert float(data["energy"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-5)


def relaxed(lake: Lake, *made: str, **more: Any) -> tuple[Any, Any]:
    """Record and data of copper relaxed."""
    ase.io.write("copper.extxyz", copper())
    settings = ("preset=relax", *made, 'setups={"Cu": "", "Al": ""}')
    (run_id,) = relax.run(relax.Config("copper.extxyz", "vasp", settings, **more), lake)
    return lake.record(run_id), lake.open_run(run_id)


@pytest.mark.parametrize(("quadratic", "turns"), [(0.0, 1), (0.0002, 2)])
def test_the_energy_of_a_relaxed_cell_is_in_its_own_plane_waves(
    quadratic: float, turns: int, tmp_path: Path, vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not, as in the last step, in those of the cell before; where these differ too much, it is relaxed again."""
    monkeypatch.setenv("VASP_STAND_IN_BASIS", f"0.02 {quadratic}")
    record, data = relaxed(Lake(tmp_path / "lake"), fmax=0.01)
    atoms = structures.to_atoms(data)
    atoms.calc = EMT()
    # CONTCAR and vasprun.xml have 8 digits or so.
    assert float(data["energy"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    assert int(data["steps"]) == turns
    runs = sorted(vasp.iterdir(), key=lambda p: p.stat().st_mtime)
    assert len(runs) == turns  # of the single point nothing is left
    began = read_vasp(runs[-1] / "POSCAR").get_volume()
    more = atoms.get_volume() - began
    assert abs(more) > 0.05
    # The energy of the last step is too high by that of the wrong basis, which the stand-in was told.
    wrong = 0.02 * more + quadratic * more**2
    assert record.scalars["energy_less_last_step"] == pytest.approx(-wrong / 4, abs=1e-6)
    assert abs(wrong) > 1e-3
    assert record.scalars["max_force"] <= 0.011
    assert record.scalars["max_cell_gradient"] <= 0.011
    gradient = np.abs(atoms.get_stress()[:3] + 0.02).max() * atoms.get_volume() / 4
    assert record.scalars["max_cell_gradient"] >= gradient - 1e-5


def test_fmax_and_cell_are_what_vasp_is_told(tmp_path: Path, vasp: Path) -> None:
    lake = Lake(tmp_path / "lake")
    record, data = relaxed(lake, fmax=0.02, cell=False)
    (folder,) = vasp.iterdir()
    assert parsed((folder / "INCAR").read_text()) == {**INCAR["relax"], "EDIFFG": -0.02, "ISIF": 2}
    assert record.parameters["calculator"]["incar"]["EDIFFG"] == -0.02
    np.testing.assert_array_equal(data["cell"], copper().cell.array)
    assert np.linalg.norm(data["forces"], axis=1).max() == pytest.approx(record.scalars["max_force"])
    assert record.scalars["max_force"] < 0.02
    assert "energy_less_last_step" not in record.scalars
    assert relaxed(lake, "ediffg=-0.02", "ISIF=2", fmax=0.02, cell=False)[0].id == record.id
    for made, more, said in (
        (("ediffg=-0.05",), {}, "settings have ediffg = -0.05, which contradicts fmax = 0.03 of the relaxation"),
        (("EDIFFG=1e-4",), {}, "settings have EDIFFG = 0.0001, which contradicts fmax = 0.03"),
        (("isif=2",), {}, "settings have isif = 2, which contradicts cell = true of the relaxation, by which it is 3"),
        (("isif=4",), {"cell": False}, "settings have isif = 4, which contradicts cell = false"),
        (("ibrion=0",), {}, "IBRION = 0 is dynamics: the atoms would not be at rest; take preset=relax"),
        (("preset=aimd",), {}, "IBRION = 0 is dynamics"),
        (("ibrion=5",), {}, "IBRION = 5 does not relax"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            relaxed(lake, *made, **more)
    assert len(lake.search("relax")) == 1


def test_single_points_relax_nothing(tmp_path: Path) -> None:
    """They are taken where there is nothing to relax."""
    lake = Lake(tmp_path / "lake")
    with pytest.raises(CalculatorError, match=r"forces of .* it computes single points by these settings; take"):
        relaxed(lake, "preset=label", "ediffg=null")
    assert [r.stage for r in lake.search()] == ["structures"]
    record, data = relaxed(lake, fmax=0.001, cell=False)
    again = relax.Config(record.id, "vasp", ("preset=relax", "nsw=0", 'setups={"Cu": "", "Al": ""}'), cell=False)
    (still,) = relax.run(again, lake)
    np.testing.assert_array_equal(lake.open_run(still)["positions"], data["positions"])
    assert int(lake.open_run(still)["steps"]) == 0


def test_folders_are_of_one_structure_each(vasp: Path) -> None:
    """Also where structures differ only in what VASP is told beside positions."""
    many = [copper() for _ in range(5)]
    many[1].set_constraint(FixAtoms([1]))
    many[2].set_initial_magnetic_moments([1, 0, 0, 0])
    many[3].set_momenta(np.ones((4, 3)))
    many[4] = many[4][[1, 0, 2, 3]]
    for atoms in many:
        atoms.calc = calculator("vasp", preset="aimd", potim=1.0, setups={"Cu": "_pv", "Al": ""})
        with pytest.raises(CalculatorError, match="No pseudopotential for Cu"):
            atoms.get_potential_energy()
    assert len(list(vasp.iterdir())) == 5


def test_nothing_is_left_of_single_points(vasp: Path) -> None:
    atoms = copper()
    atoms.calc = calculator("vasp", **OF_COPPER)
    atoms.get_potential_energy()
    assert list(vasp.iterdir()) == []


def test_what_moves_atoms_makes_no_label(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "frames.extxyz", [copper()])
    config = label.Config(
        ("frames.extxyz",), calculator="vasp", settings=("preset=relax", 'setups={"Cu": "", "Al": ""}')
    )
    with pytest.raises(ConfigError, match="moves the atoms; single points are needed here"):
        label.run(config, Lake(tmp_path / "lake"))
    single_point("vasp", preset="aimd", nsw=0)


# ---- runs that go wrong ----


@pytest.mark.parametrize(
    ("fault", "preset", "said"),
    [
        ("truncated", "label", "VASP died: OUTCAR lacks the timing at its end"),
        ("killed", "label", "VASP died: it was ended by SIGKILL"),
        ("killed", "aimd", "VASP died: it was ended by SIGKILL"),
        ("unconverged", "label", "the electrons did not converge in NELM = 7 steps"),
        ("unconverged", "aimd", "in NELM = 7 steps, in 4 of 4 ionic steps, up to 4 in a row: allowed are 1 (unco"),
        ("unconverged", "relax", "the electrons did not converge in NELM = 7 steps"),
        ("exchanged", "label", "VASP computed Cu Al, the structure is Al Cu"),
    ],
)
def test_runs_that_go_wrong_say_how(
    fault: str, preset: str, said: str, vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"aimd": {"nsw": 4}, "relax": {"nsw": 2}, "label": {}}[preset]
    made = {"preset": preset, "nelm": 7, **more, **OF_COPPER}
    monkeypatch.setenv("VASP_STAND_IN", fault)
    atoms = copper()
    atoms.calc = calculator("vasp", **made)
    with pytest.raises(CalculatorError, match=re.escape(said)) as error:
        atoms.get_potential_energy()
    (folder,) = vasp.iterdir()
    again = "would only say this" if (fault, preset) == ("unconverged", "aimd") else "goes on from them"
    assert f"its files are in {folder}, and the same again {again}" in str(error.value)
    assert atoms.calc.results == {}
    if preset == "relax" or "only" in again:
        return
    monkeypatch.delenv("VASP_STAND_IN")
    atoms = copper()
    atoms.calc = calculator("vasp", **made)
    assert np.isfinite(atoms.get_potential_energy())


def test_ions_that_do_not_converge_go_on_from_where_they_are(vasp: Path) -> None:
    made = {"preset": "relax", "nsw": 3, "isif": 2, "ediffg": -0.01, **OF_COPPER}
    start, ended = copper(1) * (2, 1, 1), ["begin"]
    while ended[-1] and len(ended) < 20:
        if vasp.exists():
            (folder,) = vasp.iterdir()
            reached = (folder / "CONTCAR").read_text()
        atoms = start.copy()
        atoms.calc = calculator("vasp", **made)
        ended.append(_error(atoms))
    assert ended[-1] == ""
    assert len(ended) >= 3
    assert all("the ions did not converge in NSW = 3 steps" in error for error in ended[1:-1])
    assert (folder / "POSCAR").read_text() == reached
    assert np.abs(atoms.get_forces()).max() < 0.01
    assert np.abs(atoms.positions - start.positions).max() > 0.005


def _error(atoms: Atoms) -> str:
    try:
        atoms.get_potential_energy()
    except CalculatorError as error:
        return str(error)
    return ""


def test_truncated_xml_is_no_result(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full: VASP ends well, but its file does not."""
    monkeypatch.setenv("ASE_VASP_COMMAND", f"{sys.executable} {STAND_IN} && truncate -s -40 vasprun.xml")
    atoms = copper()
    atoms.calc = calculator("vasp", **OF_COPPER)
    with pytest.raises(CalculatorError, match=r"vasprun\.xml is cut off or missing"):
        atoms.get_potential_energy()


def test_what_an_earlier_run_left_is_no_result(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = copper()
    made = {**OF_COPPER, "keep": True}
    atoms.calc = calculator("vasp", **made)
    atoms.get_potential_energy()
    (folder,) = vasp.iterdir()
    (folder / "finished").unlink()
    monkeypatch.setenv("ASE_VASP_COMMAND", "true")
    atoms.calc = calculator("vasp", **made)
    with pytest.raises(CalculatorError, match=r"VASP died: OUTCAR lacks the timing .* it said last: nothing"):
        atoms.get_potential_energy()


def test_tags_that_the_stand_in_does_not_know_are_refused_by_it() -> None:
    """It would otherwise pass whatever is written."""
    atoms = copper()
    atoms.calc = calculator("vasp", custom={"NONSENSE": "1"}, **OF_COPPER)
    with pytest.raises(CalculatorError, match=r"exit code 1; it said last: .* I do not know 'NONSENSE = 1"):
        atoms.get_potential_energy()


def test_another_version_is_refused() -> None:
    atoms = copper()
    atoms.calc = calculator("vasp", version="6.4.2", **OF_COPPER)
    with pytest.raises(CalculatorError, match=r"this is VASP 0\.0\.0-stand-in, not version = 6\.4\.2"):
        atoms.get_potential_energy()


def test_potcars_that_are_missing_or_of_another_element(tmp_path: Path) -> None:
    atoms = copper()
    atoms.calc = calculator("vasp")
    with pytest.raises(CalculatorError, match=r'no POTCAR was chosen for Al; choose one by setups=\{"Al": ""\}'):
        atoms.get_potential_energy()
    atoms.calc = calculator("vasp", setups={"Cu": "_pv", "Al": ""})
    with pytest.raises(CalculatorError, match=r"Cu_pv/POTCAR .*No pseudopotential for Cu!; see VASP_PP_PATH"):
        atoms.get_potential_energy()
    potcar = tmp_path / "pp" / "potpaw_PBE" / "Al" / "POTCAR"
    potcar.write_text(potcar.read_text().replace("ENMAX", "EN"))
    atoms.calc = calculator("vasp", **OF_COPPER)
    with pytest.raises(CalculatorError, match=r"1 ENMAX in 2 POTCARs: look at .*Al/POTCAR"):
        atoms.get_potential_energy()
    write_potcar(tmp_path / "pp", "Al")
    write_potcar(tmp_path / "pp", "Cu", content="Al")
    for more in ({}, {"charge": 1}):
        atoms.calc = calculator("vasp", **OF_COPPER, **more)
        with pytest.raises(
            CalculatorError, match=r"the POTCARs are of Al Al, the structure is of Al Cu: look at .*Cu/POT"
        ):
            atoms.get_potential_energy()


def test_open_boundaries_are_refused() -> None:
    atoms = copper()
    atoms.pbc = [True, True, False]
    atoms.calc = calculator("vasp", **OF_COPPER)
    with pytest.raises(Exception, match="non-periodic boundaries"):
        atoms.get_potential_energy()


# ---- time limits ----


def test_a_single_point_is_stopped_before_the_limit(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN", "unconverged")
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.1")
    # STOPCAR after 2 s, and time to see it on a machine that is busy.
    monkeypatch.setattr("argyase.calculators.vasp.STOP_AT", 0.2)
    atoms = copper()
    made = {**OF_COPPER, "nelm": 1000}
    atoms.calc = calculator("vasp", walltime_s=10.0, **made)
    begun = time.monotonic()
    with pytest.raises(CalculatorError, match="stopped before the time limit of 10 s: the electrons did not converge"):
        atoms.get_potential_energy()
    assert time.monotonic() - begun < 20
    (folder,) = vasp.iterdir()
    assert (folder / "STOPCAR").read_text() == "LABORT = .TRUE.\n"
    assert "hard stop encountered" in (folder / "OUTCAR").read_text()
    assert (folder / "WAVECAR").is_file()
    # And again, without a limit: STOPCAR must be gone, WAVECAR there.
    monkeypatch.delenv("VASP_STAND_IN")
    atoms.calc = calculator("vasp", **made, keep=True)
    atoms.get_potential_energy()
    (folder,) = vasp.iterdir()
    assert len(re.findall("Iteration", (folder / "OUTCAR").read_text())) < 6


def test_a_dynamics_that_was_stopped_does_what_is_left(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ramp in two parts: the second begins at the temperature that the first has reached."""
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.05")
    monkeypatch.setattr("argyase.calculators.vasp.STOP_AT", 0.2)
    made = {"preset": "melt_quench", "nsw": 40, "tebeg": 1000, "teend": 200, "nblock": 1, **OF_COPPER}
    atoms = copper()
    atoms.calc = calculator("vasp", walltime_s=10.0, **made)
    with pytest.raises(
        CalculatorError, match=r"stopped before the time limit of 10 s: the dynamics ended after \d+ of 40"
    ):
        atoms.get_potential_energy()
    (folder,) = vasp.iterdir()
    assert (folder / "STOPCAR").read_text() == "LSTOP = .TRUE.\n"
    done = len(Oszicar(str(folder / "OSZICAR")).ionic_steps)
    assert 1 <= done < 40
    monkeypatch.delenv("VASP_STAND_IN_STEP_S")
    atoms = copper()
    atoms.calc = calculator("vasp", **made)
    atoms.get_potential_energy()
    (folder,) = vasp.iterdir()
    incar = parsed((folder / "INCAR").read_text())
    assert incar["NSW"] == 40 - done
    assert incar["TEBEG"] == pytest.approx(1000 - 800 * done / 40)
    parts = [folder / "part1", folder]
    lengths = [len(Xdatcar(str(part / "XDATCAR")).structures) for part in parts]
    assert lengths == [done, 40 - done]
    first, second = ([s["T"] for s in Oszicar(str(part / "OSZICAR")).ionic_steps] for part in parts)
    assert first[0] == pytest.approx(1000, abs=1)
    assert second[0] < first[-1] + 1
    assert second[-1] == pytest.approx(200, abs=1)


def test_what_does_not_stop_is_ended(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASE_VASP_COMMAND", "trap '' TERM; sleep 60 & wait; wait")
    monkeypatch.setattr("argyase.calculators.vasp.PATIENCE_S", 0.2)
    atoms = copper()
    atoms.calc = calculator("vasp", walltime_s=0.5, **OF_COPPER)
    begun = time.monotonic()
    with pytest.raises(
        CalculatorError, match=r"stopped before the time limit of 0\.5 s: VASP died: it was ended by SIG"
    ):
        atoms.get_potential_energy()
    assert time.monotonic() - begun < 30


def test_a_folder_is_of_one_vasp(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it goes on when the process that began it was killed."""
    monkeypatch.setenv("ASE_VASP_COMMAND", "echo $$ > pid; exec sleep 60")
    ase.io.write("frame.extxyz", copper())
    code = (
        "import ase.io; from argyase.calculators import calculator; "
        f"calculator('vasp', **{OF_COPPER}).get_potential_energy(ase.io.read('frame.extxyz'))"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code])
    while not (found := list(vasp.glob("*/pid"))) or not found[0].read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    try:
        monkeypatch.setenv("ASE_VASP_COMMAND", f"{sys.executable} {STAND_IN}")
        atoms = ase.io.read("frame.extxyz")
        atoms.calc = calculator("vasp", keep=True, **OF_COPPER)
        assert np.isfinite(atoms.get_potential_energy())
        name = found[0].parent.name
        assert sorted(path.name for path in vasp.iterdir()) == [name, f"{name}.2"]
    finally:
        os.kill(int(found[0].read_text()), signal.SIGKILL)


# ---- signals and deadlines ----


def waited(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """What becomes true, within a minute."""
    begun = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - begun < 60
        assert process is None or process.poll() is None
        time.sleep(0.02)
    return found


def iterating(vasp: Path) -> Callable[[], list[Path]]:
    """The folders in which electrons have begun to move."""
    return lambda: [path.parent for path in vasp.glob("*/OUTCAR") if "Iteration" in path.read_text()]


@contextmanager
def signalled(number: int, when: Callable[[], Any]) -> Iterator[list[int]]:
    """Send this process a signal when something has become true; yields the list of those that came through."""
    came: list[int] = []
    old = signal.signal(number, lambda number, _: came.append(number))
    sender = threading.Thread(target=lambda: (waited(when), os.kill(os.getpid(), number)))
    sender.start()
    try:
        yield came
    finally:
        sender.join()
        time.sleep(0.05)
        signal.signal(number, old)


def test_sigterm_stops_vasp_and_no_frame_has_failed(tmp_path: Path, vasp: Path) -> None:
    """With a process for each frame; one alone is what the tests below are of."""
    jobs = 2
    ase.io.write(tmp_path / "frames.extxyz", [copper(1), copper(2)])
    made = ('setups={"Cu": "", "Al": ""}',)
    command = [
        sys.executable, "-m", "argyase.stages._cli", "label", "--frames", "frames.extxyz", "--calculator", "vasp",
        "--settings", *made, "nelm=100000", "--jobs", str(jobs),
    ]  # fmt: skip
    environment = {**os.environ, "VASP_STAND_IN": "unconverged", "VASP_STAND_IN_STEP_S": "0.05"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    waited(lambda: len(iterating(vasp)()) == jobs, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    folders = list(vasp.iterdir())
    assert len(folders) == jobs
    for folder in folders:
        assert (folder / "STOPCAR").read_text() == "LABORT = .TRUE.\n"
        assert "hard stop encountered" in (folder / "OUTCAR").read_text()
    lake = Lake(tmp_path / "lake")
    assert [path.stat().st_size for path in lake.path.glob("store/*/*/*.lock")] == [0] * jobs
    assert not list(lake.path.glob("store/*/*/*.failed"))
    config = label.Config(("frames.extxyz",), calculator="vasp", settings=made)
    assert len(label.read_frames(lake, label.run(config, lake))) == 2


def test_a_signal_stops_a_dynamics_between_two_steps(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.05")
    made = {"preset": "aimd", "nsw": 200, "nblock": 1, "walltime_s": 1000, **OF_COPPER}
    said = r"stopped by SIGUSR1: the dynamics ended after \d+ of 200 steps; its"
    moving = signalled(signal.SIGUSR1, lambda: list(vasp.glob("*/CONTCAR")))
    with moving as came, pytest.raises(KeyboardInterrupt, match=said):
        calculator("vasp", **made).get_potential_energy(copper())
    assert came == [signal.SIGUSR1]
    (folder,) = vasp.iterdir()
    assert (folder / "STOPCAR").read_text() == "LSTOP = .TRUE.\n"
    assert "soft stop encountered" in (folder / "OUTCAR").read_text()
    done = len(Oszicar(str(folder / "OSZICAR")).ionic_steps)
    monkeypatch.delenv("VASP_STAND_IN_STEP_S")
    assert np.isfinite(calculator("vasp", **made).get_potential_energy(copper()))
    assert len(Oszicar(str(folder / "OSZICAR")).ionic_steps) == 200 - done


def test_a_signal_stops_a_sample_inside_vasp(tmp_path: Path, vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.05")
    ase.io.write(tmp_path / "copper.extxyz", copper())
    lake, made = Lake(tmp_path / "lake"), ("preset=aimd", 'setups={"Cu": "", "Al": ""}')
    config = sample.Config(
        "copper.extxyz", ramps=(Ramp("rest", 300.0, 300.0, 0.2),), sample_ps=0.004, calculator="vasp"
    )
    config = replace(config, settings=made, inside=True)
    moving = signalled(signal.SIGTERM, lambda: list(vasp.glob("*/CONTCAR")))
    with moving as came, pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM: the dynamics ended after"):
        sample.run(config, lake)
    assert came == []  # the stage took it
    assert [item.state for item in lake.unfinished()] == ["stale"]
    monkeypatch.delenv("VASP_STAND_IN_STEP_S")
    assert lake.record(sample.run(config, lake)[0]).scalars["frames"] == 50


def test_a_vasp_that_does_not_stop_has_its_grace(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASE_VASP_COMMAND", "sleep 60")
    begun = time.monotonic()
    said = "stopped by SIGTERM: VASP died: it was ended by SIGTERM"
    running = signalled(signal.SIGTERM, lambda: list(vasp.glob("*/vasp.out")))
    with running as came, pytest.raises(KeyboardInterrupt, match=said):
        calculator("vasp", grace_s=1.0, **OF_COPPER).get_potential_energy(copper())
    assert came == [signal.SIGTERM]
    (folder,) = vasp.iterdir()
    assert (folder / "STOPCAR").is_file()
    assert 1.0 < time.monotonic() - begun < 30


def test_what_is_done_when_a_signal_comes_is_a_result(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.3")
    monkeypatch.setenv("ASE_VASP_COMMAND", f"{sys.executable} {STAND_IN}; rm -f STOPCAR")
    with signalled(
        signal.SIGTERM, lambda: [p for p in vasp.glob("*/OUTCAR") if "aborting loop" in p.read_text()]
    ) as came:
        assert np.isfinite(calculator("vasp", **OF_COPPER).get_potential_energy(copper()))
    assert came == [signal.SIGTERM]


def test_every_run_has_what_is_left_before_the_deadline(
    tmp_path: Path, vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit of a job, not of a calculation: what it stops has not failed."""
    ase.io.write(tmp_path / "frames.extxyz", [copper(1), bulk("Cu", cubic=True)])
    monkeypatch.setenv("VASP_STAND_IN", "unconverged")
    monkeypatch.setenv("VASP_STAND_IN_FORMULA", "Cu4")
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.05")
    monkeypatch.setattr("argyase.calculators.vasp.SPARE_S", 1000.0)
    monkeypatch.setattr("argyase.calculators.vasp.STOP_AT", 0.2)
    lake = Lake(tmp_path / "lake")
    made = ('setups={"Cu": "", "Al": ""}', "nelm=100000", "walltime_s=500")
    config = label.Config(("frames.extxyz",), calculator="vasp", settings=made)
    ase.io.write(tmp_path / "first.extxyz", [copper(1)])
    label.run(replace(config, frames=("first.extxyz",)), lake)
    begun = time.time()
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(round(begun + 1020)))
    with pytest.raises(
        KeyboardInterrupt, match=r"before the deadline .* \(SLURM_JOB_END_TIME\): the electrons did not"
    ):
        label.run(config, lake)
    assert 3 < time.time() - begun < 100  # 0.2 of the 20 s, and not of walltime_s
    assert len(list(lake.path.glob("store/*/*/*.npz"))) == 1
    assert [path.stat().st_size for path in lake.path.glob("store/*/*/*.lock")] == [0]
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(round(begun)))
    with pytest.raises(KeyboardInterrupt, match=r"no time is left before the deadline .*; deadline=0 is none"):
        label.run(config, lake)
    assert not list(lake.path.glob("store/*/*/*.failed"))
    monkeypatch.delenv("VASP_STAND_IN")
    (run_id,) = label.run(replace(config, settings=(*made, "deadline=0")), lake)
    assert lake.record(run_id).scalars["failed"] == 0


# ---- protocols inside VASP ----

PIECES = (
    Ramp("warm", 200.0, 500.0, 0.012, keep=False),
    Ramp("rest", 500.0, 500.0, 0.008),
    Ramp("heating", 500.0, 900.0, 0.016),
)
PROTOCOL = MDSettings(500.0, PIECES, sample_ps=0.004)


def shuffled() -> Atoms:
    atoms = argyrodite(a=10.0)
    atoms.rattle(0.05, seed=1)
    return atoms[np.random.default_rng(2).permutation(len(atoms))]


def test_each_piece_of_a_protocol_is_a_run(vasp: Path) -> None:
    atoms = shuffled()
    frames = list(VaspMD(atoms, {}, PROTOCOL).frames())
    # 6, 4 and 8 steps of 2 fs, a frame at every second.
    assert [(f.part, f.produced) for f in frames] == (
        [("warm", False)] * 3 + [("rest", True)] * 2 + [("heating", True)] * 4
    )
    assert [f.step for f in frames] == list(range(2, 19, 2))
    assert frames[3].time_ps == pytest.approx(0.004)
    # What the stand-in holds at every step, from TEBEG at the first to TEEND at the last; OSZICAR has 6 digits.
    wanted = [200 + 300 * k / 5 for k in (1, 3, 5)] + [500] * 2 + [500 + 400 * k / 7 for k in (1, 3, 5, 7)]
    np.testing.assert_allclose([f.temperature for f in frames], wanted, rtol=1e-5)
    potential = calculator("mtp", potential="LiPSCl-study")
    for frame in frames:
        again = Atoms(atoms.symbols, frame.positions, cell=frame.cell, pbc=True, calculator=potential)
        # XDATCAR has 8 digits of a cell of 10 A: 52 atoms with forces of some eV/A are 1e-6 eV.
        assert frame.potential_energy == pytest.approx(again.get_potential_energy(), abs=1e-5)
        assert frame.kinetic_energy > 0
    runs = {}
    for folder in vasp.iterdir():
        incar = parsed((folder / "INCAR").read_text())
        assert {k: incar[k] for k in ("ENCUT", "IBRION", "MDALGO", "SMASS", "POTIM", "NBLOCK")} == {
            "ENCUT": 350, "IBRION": 0, "MDALGO": 2, "SMASS": 0, "POTIM": 2, "NBLOCK": 1,
        }  # fmt: skip
        runs[incar["TEBEG"], incar["TEEND"], incar["NSW"]] = folder
    assert set(runs) == {(200, 500, 6), (500, 500, 4), (500, 900, 8)}
    for one, next_one in (((200, 500, 6), (500, 500, 4)), ((500, 500, 4), (500, 900, 8))):
        left, begun = read_vasp(runs[one] / "CONTCAR"), read_vasp(runs[next_one] / "POSCAR")
        assert left.get_chemical_symbols() == begun.get_chemical_symbols()
        np.testing.assert_allclose(begun.positions, left.positions, atol=1e-9)
        # 8 digits of velocities in A/fs.
        np.testing.assert_allclose(begun.get_velocities(), left.get_velocities(), atol=1e-6)
        assert np.abs(left.get_velocities()).max() > 0.01


def test_a_protocol_that_was_killed_goes_on_with_the_piece_it_was_at(
    vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [f.positions for f in VaspMD(shuffled(), {"directory": "whole"}, PROTOCOL).frames()]
    simulation = VaspMD(shuffled(), {}, PROTOCOL).frames()
    first = [next(simulation) for _ in range(5)]  # the pieces before the last
    monkeypatch.setenv("VASP_STAND_IN", "killed")
    with pytest.raises(CalculatorError, match="VASP died: it was ended by SIGKILL"):
        next(simulation)
    monkeypatch.delenv("VASP_STAND_IN")
    finished = {p.parent.name: p.stat().st_mtime_ns for p in vasp.glob("*/finished")}
    assert len(finished) == 2
    again = list(VaspMD(shuffled(), {}, PROTOCOL).frames())
    assert len(again) == len(whole)
    for a, b in zip(first, again[:5], strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    assert {p.parent.name: p.stat().st_mtime_ns for p in vasp.glob("*/finished")}.items() >= finished.items()
    (part,) = vasp.glob("*/part1")
    done = len(Oszicar(str(part / "OSZICAR")).ionic_steps)
    assert 0 < done < 8
    assert parsed((part.parent / "INCAR").read_text())["NSW"] == 8 - done
    # No step of 2 fs at 900 K is longer than 0.1 A or so: nothing jumps where the parts meet.
    cell = again[0].cell
    for a, b in itertools.pairwise(again):
        assert find_mic(b.positions - a.positions, cell)[1].max() < 0.3


@pytest.mark.parametrize(
    ("fault", "ramp", "said"),
    [
        (
            "isothermal",
            Ramp("quench", 2000.0, 300.0, 0.02),
            r"last 1 of 10 steps is 2000 K, and should be 300 K within",
        ),
        (
            "isothermal",
            Ramp("heating", 100.0, 900.0, 0.02),
            r"last 1 of 10 steps is 100 K, and should be 900 K within 514 K \(100 to 900",
        ),
        ("unheated", Ramp("rest", 300.0, 300.0, 0.02), r"last 5 of 10 steps is 10 K, and should be 300 K within 171 K"),
    ],
)
def test_a_ramp_that_did_not_happen(
    fault: str, ramp: Ramp, said: str, vasp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one frame of it leaves, nor does a run."""
    monkeypatch.setenv("VASP_STAND_IN", fault)
    lake = Lake(tmp_path / "lake")
    structure = structures.run(structures.Config(a=10.0), lake)[0]
    config = sample.Config(
        structure, ramps=(ramp,), sample_ps=0.004, calculator="vasp", settings=("preset=aimd",), inside=True
    )
    for command in (f"{sys.executable} {STAND_IN}", "exit 3"):  # the second time from the files
        monkeypatch.setenv("ASE_VASP_COMMAND", command)
        with pytest.raises(CalculatorError, match=rf"vasp: {ramp.kind}: the mean temperature of its {said}"):
            sample.run(config, lake)
    assert lake.search("sample") == []


@pytest.mark.statistical
@given(seeds, st.integers(8, 400), st.sampled_from([(10.0, 300.0), (2000.0, 300.0), (600.0, 600.0)]))
@settings(deadline=None, max_examples=50)
def test_a_canonical_temperature_passes_and_another_does_not(
    seed: int, n_atoms: int, ends: tuple[float, float]
) -> None:
    """Temperatures of f = 3N - 3 Gaussian momenta (chi squared), each held for a period: the least that is known."""
    rng, period, f = np.random.default_rng(seed), 40, 3 * (n_atoms - 1)
    ramp = np.linspace(*ends, 4001)[1:]
    factors = np.repeat(rng.chisquare(f, 100) / f, period)
    check_temperature(ramp * factors, *ends, n_atoms, period)
    # 10 independent values (50 of a piece without a ramp): 5 standard errors, and twice as many for what chance may do.
    n = 50 if ends[0] == ends[1] else 10
    wrong = 1 + 15 * np.sqrt(2 / (f * n))
    with pytest.raises(CalculatorError, match="did not follow TEBEG and TEEND"):
        check_temperature(ramp * factors * wrong, *ends, n_atoms, period)


def test_a_step_that_did_not_converge_is_no_frame(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in each piece; the dynamics goes on through it, and no wrong energy leaves."""
    atoms, potential = shuffled(), calculator("mtp", potential="LiPSCl-study")
    monkeypatch.setenv("VASP_STAND_IN_UNCONVERGED", "4")
    simulation = VaspMD(shuffled(), {}, PROTOCOL)
    frames = {f.step: f for f in simulation.frames()}
    # Every second step, of pieces of 6, 4 and 8: without the fourth of each.
    assert list(frames) == [2, 6, 8, 12, 16, 18]
    assert (simulation.unconverged, simulation.left_out, simulation.step) == (3, 3, 18)
    for frame in frames.values():
        again = Atoms(atoms.symbols, frame.positions, cell=frame.cell, pbc=True, calculator=potential)
        # As above; of the steps left out it would be wrong by 1 eV.
        assert frame.potential_energy == pytest.approx(again.get_potential_energy(), abs=1e-5)
    with pytest.raises(CalculatorError, match=r"in 1 of 6 ionic steps, .*: allowed are 0 \(unconverged = 0\)"):
        list(VaspMD(shuffled(), {"unconverged": 0}, PROTOCOL).frames())


def test_of_a_last_step_that_did_not_converge_nothing_is_told(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN_UNCONVERGED", "4")
    atoms = copper()
    atoms.calc = calculator("vasp", preset="aimd", nsw=4, **OF_COPPER)
    assert np.isnan(atoms.get_potential_energy())
    assert np.isnan(atoms.get_forces()).all()
    assert np.isnan(atoms.get_stress()).all()
    assert np.abs(atoms.positions - copper().positions).max() > 0.01


@pytest.mark.parametrize(
    ("steps", "fraction", "said"),
    [
        ("2 5", 0.01, r"in 2 of 14 ionic steps, up to 1 in a row: allowed are 1"),
        ("2 5", 0.15, ""),
        ("4 5 6 7 8 9", 1.0, r"in 6 of 14 ionic steps, up to 6 in a row: allowed are 14 .*, and 5 in a row"),
        ("4 5 6 7 8 10", 1.0, ""),
    ],
)
def test_too_many_steps_that_did_not_converge(
    steps: str, fraction: float, said: str, vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told again, and not computed again; and taken as they are, if more is allowed."""
    monkeypatch.setenv("VASP_STAND_IN_UNCONVERGED", steps)
    made = {"preset": "aimd", "nsw": 14, **OF_COPPER}
    for command in (f"{sys.executable} {STAND_IN}", "exit 3"):
        monkeypatch.setenv("ASE_VASP_COMMAND", command)
        atoms = copper()
        atoms.calc = calculator("vasp", unconverged=fraction, **made)
        if said:
            with pytest.raises(CalculatorError, match=said + ".* would only say this: another way"):
                atoms.get_potential_energy()
        else:
            assert np.isfinite(atoms.get_potential_energy())
    if said and fraction < 1:
        # Another way to the ground state begins anew; what was done stays.
        monkeypatch.setenv("ASE_VASP_COMMAND", f"{sys.executable} {STAND_IN}")
        atoms = copper()
        atoms.calc = calculator("vasp", nelm=61, directory="other", **made)
        assert "in 2 of 14 ionic steps" in _error(atoms)
        atoms = copper()
        atoms.calc = calculator("vasp", algo="All", directory="other", **made)
        assert np.isfinite(atoms.get_potential_energy())
        (folder,) = (vasp.parent / "other").iterdir()
        assert len(Oszicar(str(folder / "refused1" / "OSZICAR")).ionic_steps) == 14
        monkeypatch.setenv("ASE_VASP_COMMAND", "exit 3")
        atoms = copper()
        atoms.calc = calculator("vasp", unconverged=0.5, **made)
        assert np.isfinite(atoms.get_potential_energy())
    (folder,) = vasp.iterdir()
    assert len(Oszicar(str(folder / "OSZICAR")).ionic_steps) == 14


def test_what_was_not_converged_in_an_earlier_part_is_found(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed before anybody could tell; what the first part has is not gone on with in the same way."""
    monkeypatch.setenv("VASP_STAND_IN", "killed unconverged")
    settings, made = MDSettings(500.0, PIECES[1:2], sample_ps=0.004), {"nelm": 4}
    with pytest.raises(CalculatorError, match="SIGKILL"):
        list(VaspMD(shuffled(), made, settings).frames())
    monkeypatch.delenv("VASP_STAND_IN")
    with pytest.raises(CalculatorError, match=r"in 2 of 4 ionic steps, up to 2 in a row: allowed are 1"):
        list(VaspMD(shuffled(), made, settings).frames())
    assert len(list(VaspMD(shuffled(), {**made, "unconverged": 0.5}, settings).frames())) == 1


def test_custodian_begins_a_dynamics_anew_whose_electrons_did_not_converge(
    vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VASP_STAND_IN_UNCONVERGED", "3 4")
    simulation = VaspMD(shuffled(), {"custodian": True}, MDSettings(500.0, PIECES[1:2], sample_ps=0.004))
    assert [frame.step for frame in simulation.frames()] == [2, 4]
    assert simulation.corrections == ["rest: UnconvergedErrorHandler (Unconverged): ALGO = All, ISEARCH = 1"]
    assert (simulation.unconverged, simulation.left_out) == (0, 0)
    (folder,) = vasp.iterdir()
    assert len(Xdatcar(str(folder / "refused1" / "XDATCAR")).structures) == 4
    assert not list(folder.glob("part*"))


def test_another_vasp_in_the_middle_of_a_dynamics_is_taken_back(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused, so that what it had done is no part of what comes after."""
    made = {"preset": "aimd", "nsw": 6, **OF_COPPER}
    wanted = copper()
    wanted.calc = calculator("vasp", directory="wanted", **made)
    wanted.get_potential_energy()
    monkeypatch.setenv("VASP_STAND_IN", "exchanged")
    atoms = copper()
    atoms.calc = calculator("vasp", **made)
    with pytest.raises(CalculatorError, match="was its POTCAR exchanged"):
        atoms.get_potential_energy()
    monkeypatch.delenv("VASP_STAND_IN")
    atoms = copper()
    atoms.calc = calculator("vasp", **made)
    atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.positions, wanted.positions, atol=1e-9)


@pytest.mark.parametrize("text", ["", "Direct configuration=     1\n  0.1 0.2 0.3\n  0.4 0.5", "nothing"])
def test_an_xdatcar_that_is_cut_off(text: str, tmp_path: Path) -> None:
    whole = "Cu Al\n 1.0\n 4 0 0\n 0 4 0\n 0 0 4\n Cu Al\n 1 1\nDirect configuration=     1\n"
    rows = "  0.10000000  0.20000000  0.30000000\n  0.40000000  0.50000000  0.60000000\n"
    (tmp_path / "XDATCAR").write_text(whole + rows + text)
    np.testing.assert_array_equal(read_xdatcar(tmp_path / "XDATCAR", 2), [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]])
    assert read_xdatcar(tmp_path / "none", 2).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("made", "ensemble", "said"),
    [
        ({"TEBEG": 300}, "nvt", "tebeg: the protocol sets it"),
        ({}, "npt", "ensemble = 'npt': inside VASP only nvt"),
        ({"preset": "label"}, "nvt", "preset = 'label' does not move atoms; take preset=aimd"),
    ],
)
def test_protocols_that_vasp_cannot_do(made: dict[str, Any], ensemble: Any, said: str) -> None:
    settings = MDSettings(500.0, [Ramp("hold", 500.0, 500.0, 0.01, ensemble)], sample_ps=0.004)
    with pytest.raises(ConfigError, match=said):
        VaspMD(shuffled(), made, settings)


def test_both_ways_to_sample_give_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(tmp_path / "lake")
    structure = structures.run(structures.Config(a=10.0), lake)[0]
    config = sample.Config(structure, ramps=PIECES, sample_ps=0.004, settings=("potential=LiPSCl-study",))
    inside = replace(config, calculator="vasp", settings=("preset=aimd",), inside=True)
    ours, theirs = (lake.open_run(sample.run(c, lake)[0]) for c in (config, inside))
    assert dict(ours.sizes) == dict(theirs.sizes)
    assert {n: v.attrs for n, v in ours.variables.items()} == {n: v.attrs for n, v in theirs.variables.items()}
    for name in ("species", "group", "cell", "atoms"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert np.isfinite(theirs["sample_energy"]).all()
    assert theirs["temperature"].values[-1] == pytest.approx(900.0, rel=1e-5)
    monkeypatch.setenv("VASP_STAND_IN_UNCONVERGED", "4")
    (run_id,) = sample.run(replace(inside, seed=2), lake)
    record = lake.record(run_id)
    assert {k: record.scalars[k] for k in ("frames", "unconverged", "left_out")} == {
        "frames": 4, "unconverged": 3, "left_out": 3,
    }  # fmt: skip
    assert record.scalars["vasp_version"] == "0.0.0-stand-in"
    assert "PAW_PBE Li for-tests" in record.scalars["potcars"].split(", ")
    assert "electrons did not converge in 3 of 18 steps: 3 frames were left out" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(ConfigError, match="calculator = 'mtp': only vasp moves atoms itself"):
        sample.run(replace(config, inside=True), lake)


# ---- labels ----


def test_the_training_of_the_paper_made_small(tmp_path: Path) -> None:
    """Its dynamics and every label by VASP, into a potential."""
    campaign = (Path(__file__).parents[2] / "campaigns" / "paper_training_small.toml").read_text()
    for pattern, other in (
        (r'calculator = "mtp"\nsettings = .*\ntemp', 'calculator = "vasp"\nsettings = ["preset=aimd"]\ntemp'),
        (
            r'(\[label\])\ncalculator = "mtp"\nsettings = .*\n',
            r'\1\ncalculator = "vasp"\nsettings = ["preset=label"]\n',
        ),
        (
            r'quantity = .*\nstarts = .*\ncalculator = "mtp"\nsettings = .*\n',
            'quantity = "charged"\nstarts = 1\ncalculator = "vasp"\nsettings = ["preset=site_energy"]\n',
        ),
        (
            r'calculator = "mtp"\nsettings = .*\narrange',
            'calculator = "vasp"\nsettings = ["preset=relax"]\nscreen = "mtp"\nscreen_settings = '
            '["potential=LiPSCl-7net-L10"]\narrange',
        ),
        (r"\[sample\]", "[sample]\ninside = true"),
        (r"strain = \[0\.0, 0\.05\]", "strain = [0.05]"),
    ):
        assert re.search(pattern, campaign)
        campaign = re.sub(pattern, other, campaign)
    (tmp_path / "small.toml").write_text(campaign)
    done = argyase("run", "small.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lake = Lake(tmp_path / "lake")
    (label_run,) = lake.record(done.stdout.split()[-1]).inputs
    frames = label.read_frames(lake, [label_run])
    assert len(frames) == sum(cost.frames for cost in learn.costs(learn.read(str(tmp_path / "small.toml"))))
    assert {"Li6PS5Cl md", "Li6PS5Cl melt", "Li6PS5Cl quench", "LiCl heating"} == {a.info["group"] for a in frames}
    assert lake.record(label_run).parameters["calculator"]["preset"] == "label"
    of_dynamics = lake.record(lake.record(label_run).inputs[0]).parameters["calculator"]
    assert (of_dynamics["preset"], of_dynamics["incar"]["ENCUT"]) == ("aimd", 350)
    for atoms in frames:
        again = atoms.copy()
        again.calc = calculator("mtp", potential="LiPSCl-study")
        np.testing.assert_allclose(atoms.get_forces(), again.get_forces(), atol=1e-6)
    assert (tmp_path / "potentials" / "small-0.mtp").is_file()
    for stage, preset in (("orderings", "relax"), ("hull", "relax"), ("site_energies", "site_energy")):
        (record,) = lake.search(stage)
        assert record.parameters["calculator"]["preset"] == preset


def test_a_frame_that_fails_is_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [copper(1), bulk("Cu", cubic=True), copper(2)]
    frames[1].rattle(0.05, seed=1)
    ase.io.write(tmp_path / "frames.extxyz", frames)
    command = (
        "label", "--lake", tmp_path / "lake", "--frames", "frames.extxyz", "--calculator", "vasp", "--settings",
        "preset=label", "encut=400", "setups={\"Cu\": \"\", \"Al\": \"\"}",
    )  # fmt: skip
    monkeypatch.setenv("VASP_STAND_IN", "unconverged")
    monkeypatch.setenv("VASP_STAND_IN_FORMULA", "Cu4")
    done = argyase(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the electrons did not converge in NELM = 60 steps" in " ".join(done.stderr.split())
    lake = Lake(tmp_path / "lake")
    labelled = label.read_frames(lake, done.stdout.split())
    assert [a.get_chemical_formula() for a in labelled] == ["Al2Cu2", "Al2Cu2"]
    for found, wanted in zip(labelled, (frames[0], frames[2]), strict=True):
        wanted.calc = EMT()
        np.testing.assert_allclose(found.get_forces(), wanted.get_forces(), atol=1e-6)
    who = lake.record(done.stdout.split()[0]).parameters["calculator"]
    assert (who["name"], who["preset"], who["incar"]["ENCUT"]) == ("vasp", "label", 400)

    assert lake_command.main(["failures", "--lake", str(lake.path), "--calculator", "vasp"]) == 0
    assert re.search(
        r"^frames\.extxyz frame 1  Cu4  vasp preset=label encut=400 .*: CalculatorError: vasp: the electrons did not "
        r"converge in NELM = 60 steps; its files are in .*\n1 failures\n$",
        capsys.readouterr().out,
    )
    lake_command.main(["failures", "--lake", str(lake.path), "--calculator", "mtp"])
    assert capsys.readouterr().out == "0 failures\n"

    monkeypatch.delenv("VASP_STAND_IN")
    made = tuple(map(str, command[command.index("--settings") + 1 :]))
    config = label.Config(("frames.extxyz",), calculator="vasp", settings=made, retry_failed=True)
    assert len(label.read_frames(lake, label.run(config, lake))) == 3
    lake_command.main(["failures", "--lake", str(lake.path)])
    assert capsys.readouterr().out == "0 failures\n"
    assert list((tmp_path / "vasp").iterdir()) == []


class Counted:
    """How often VASP was started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        monkeypatch.setenv("ASE_VASP_COMMAND", f"echo started >> {path}; exec {sys.executable} {STAND_IN}")

    def __call__(self) -> int:
        return len(self.path.read_text().split()) if self.path.is_file() else 0


def test_another_way_to_the_ground_state_computes_only_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ase.io.write(tmp_path / "frames.extxyz", [copper(1), bulk("Cu", cubic=True)])
    monkeypatch.setenv("VASP_STAND_IN", "slow")
    monkeypatch.setenv("VASP_STAND_IN_FORMULA", "Cu4")
    started = Counted(monkeypatch, tmp_path / "started")
    lake = Lake(tmp_path / "lake")
    config = label.Config(("frames.extxyz",), calculator="vasp", settings=('setups={"Cu": "", "Al": ""}',))
    (part,) = label.run(config, lake)
    assert (started(), lake.record(part).scalars["failed"]) == (2, 1)
    again = replace(config, settings=(*config.settings, "algo=All", "nelm=200"), retry_failed=True)
    (whole,) = label.run(again, lake)
    assert started() == 3
    assert len(list((lake.path / "store").iterdir())) == 1
    record = lake.record(whole)
    assert record.provenance["made_by"] == [
        {"version": "0.0.0-stand-in", "potcars": potcars, "way": way, "frames": [n]}
        for n, (potcars, way) in enumerate(
            [
                ({"Al": "PAW_PBE Al for-tests", "Cu": "PAW_PBE Cu for-tests"}, {}),
                ({"Cu": "PAW_PBE Cu for-tests"}, {"ALGO": "All", "NELM": 200}),
            ]
        )
    ]
    assert {k: record.scalars[k] for k in ("failed", "vasp_version", "potcars", "way")} == {
        "failed": 0, "vasp_version": "0.0.0-stand-in", "potcars": "PAW_PBE Al for-tests, PAW_PBE Cu for-tests",
        "way": "ALGO = All, NELM = 200",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "date", "said"),
    [
        ("0.0.7", "for-tests", ""),
        ("0.1.0", "for-tests", r"VASP is not the same .*: 0\.0 \(1 times\) and 0\.1 \(1 times\); .* mixed=true"),
        ("0.0.0", "later", r"of Al is not .*: PAW_PBE Al for-tests \(1 times\) and PAW_PBE Al later \(1 times\)"),
    ],
)
def test_a_set_of_labels_is_of_one_kind(
    version: str, date: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ase.io.write(tmp_path / "frames.extxyz", [copper(1), copper(2)])
    ase.io.write(tmp_path / "first.extxyz", [copper(1)])
    lake = Lake(tmp_path / "lake")
    config = label.Config(("first.extxyz",), calculator="vasp", settings=('setups={"Cu": "", "Al": ""}',))
    label.run(config, lake)
    monkeypatch.setenv("VASP_STAND_IN_VERSION", version)
    write_potcar(tmp_path / "pp", "Al", date=date)
    config = replace(config, frames=("frames.extxyz",))
    if said:
        with pytest.raises(CalculatorError, match=said):
            label.run(config, lake)
        config = replace(config, settings=(*config.settings, "mixed=true"))
    (run_id,) = label.run(config, lake)
    assert len(lake.record(run_id).provenance["made_by"]) == 2


def test_dynamics_by_ase_say_what_made_them(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "copper.extxyz", copper())
    made = ("preset=aimd", "nsw=0", "nelm=30", 'setups={"Cu": "", "Al": ""}')
    config = sample.Config("copper.extxyz", ramps=(Ramp("rest", 300.0, 300.0, 0.004),), sample_ps=0.004)
    lake = Lake(tmp_path / "lake")
    (run_id,) = sample.run(replace(config, calculator="vasp", settings=made), lake)
    scalars = lake.record(run_id).scalars
    assert (scalars["vasp_version"], scalars["way"]) == ("0.0.0-stand-in", "ISYM = 0, NELM = 30")


def test_a_dynamics_is_of_one_version(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MDSettings(500.0, (replace(PIECES[1], kind="before"), PIECES[1]), sample_ps=0.004)
    frames = VaspMD(shuffled(), {}, settings).frames()
    assert [next(frames).part for _ in range(2)] == ["before"] * 2
    monkeypatch.setenv("VASP_STAND_IN_VERSION", "0.1.0")
    with pytest.raises(CalculatorError, match=r"VASP is not the same .*: 0\.0 \(1 times\) and 0\.1 \(1 times\)"):
        next(frames)
    simulation = VaspMD(shuffled(), {"mixed": True}, settings)
    assert len(list(simulation.frames())) == 4
    assert [made["version"] for made in simulation.made_by] == ["0.0.0-stand-in", "0.1.0-stand-in"]


# ---- custodian ----


@pytest.mark.parametrize(
    ("fault", "tags", "told"),
    [
        ("edddav", {"ALGO": "All", "ISEARCH": 1}, ["VaspErrorHandler (edddav): ALGO = All, ISEARCH = 1"]),
        ("brmix", {"ISTART": 1, "IMIX": 1}, [f"VaspErrorHandler (brmix): {tag} = 1" for tag in ("ISTART", "IMIX")]),
        ("slow", {"ALGO": "All", "ISEARCH": 1}, ["UnconvergedErrorHandler (Unconverged): ALGO = All, ISEARCH = 1"]),
    ],
)  # fmt: skip
def test_what_custodian_corrects_is_the_same_calculation(
    fault: str, tags: dict[str, Any], told: list[str], vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The energy and the forces of a run without the error, and the input of the paper but for the way there."""
    monkeypatch.setenv("VASP_STAND_IN", fault)
    atoms = copper()
    atoms.calc = calculator("vasp", keep=True, custodian=True, **OF_COPPER)
    found = atoms.get_potential_energy(), atoms.get_forces()
    assert atoms.calc.corrections == told
    (folder,) = vasp.iterdir()
    assert len(list(folder.glob("error.*.tar.gz"))) == len(told)
    assert parsed((folder / "INCAR").read_text()) == {**INCAR["label"], **tags}
    atoms.calc = EMT()
    # VASP's files give 8 digits.
    assert found[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(found[1], atoms.get_forces(), atol=1e-7)
    # Read again, it still says how it was made.
    again = copper()
    again.calc = calculator("vasp", keep=True, **OF_COPPER)
    assert again.get_potential_energy() == found[0]
    assert again.calc.corrections == told
    assert identity("vasp", custodian=True) == identity("vasp")


def test_without_custodian_an_error_is_a_failure(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN", "edddav")
    atoms = copper()
    atoms.calc = calculator("vasp", **OF_COPPER)
    with pytest.raises(CalculatorError, match=r"lacks the timing at its end; it said last: .*Error EDDDAV"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("fault", "made", "said"),
    [
        ("tet", {"ismear": -5}, r"\(VaspErrorHandler \(tet\)\) would change ISMEAR = 0, which makes it another"),
        ("edddav hopeless", {}, r"knows no correction, or .*; corrected before: VaspErrorHandler \(edddav\): ALGO"),
        ("unconverged", {"nelm": 6}, r"in NELM = 6 steps; after 1 corrections custodian would try .*BMIX = 0\.001"),
        ("exchanged", {}, r"was its POTCAR exchanged\?; custodian knows no correction, or none .*; its files"),
    ],
)  # fmt: skip
def test_what_custodian_cannot_or_must_not_correct(
    fault: str, made: dict[str, Any], said: str, vasp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VASP_STAND_IN", fault)
    monkeypatch.setattr("argyase.calculators.vasp_errors.CORRECTIONS", 1)
    atoms = copper()
    atoms.calc = calculator("vasp", custodian=True, **made, **OF_COPPER)
    with pytest.raises(CalculatorError, match=said):
        atoms.get_potential_energy()
    assert len(list(vasp.iterdir())) == 1


@pytest.mark.parametrize(
    ("action", "relaxes", "tags", "refused"),
    [
        ({"dict": "INCAR", "action": {"_set": {"EDIFF": 1e-6}}}, False, {"EDIFF": 1e-6}, []),
        ({"dict": "INCAR", "action": {"_set": {"EDIFF": 1e-4}}}, False, {}, ["EDIFF = 0.0001"]),
        ({"dict": "INCAR", "action": {"_set": {"SYMPREC": 1e-4, "ISYM": 0}}}, False, {"ISYM": 0}, ["SYMPREC = 0.0001"]),
        ({"dict": "INCAR", "action": {"_set": {"POTIM": 0.25}}}, True, {"POTIM": 0.25}, []),
        ({"dict": "INCAR", "action": {"_set": {"POTIM": 0.25}}}, False, {}, ["POTIM = 0.25"]),
        ({"dict": "INCAR", "action": {"_set": {"IBRION": 1}}}, False, {}, ["IBRION = 1"]),
        ({"dict": "INCAR", "action": {"_set": {"NBANDS": 110}}}, False, {"NBANDS": 110}, []),
        ({"dict": "INCAR", "action": {"_set": {"NBANDS": 90}}}, False, {}, ["NBANDS = 90"]),
        ({"dict": "INCAR", "action": {"_set": {"ICHARG": 11}}}, False, {}, ["ICHARG = 11"]),
        ({"dict": "INCAR", "action": {"_set": {"PREC": "Accurate"}}}, False, {}, []),  # as it is
        ({"dict": "INCAR", "action": {"_set": {"LREAL": False}}}, False, {}, ["LREAL = False"]),
        ({"dict": "INCAR", "action": {"_unset": {"IMIX": 1}}}, False, {"IMIX": None}, []),
        ({"dict": "INCAR", "action": {"_unset": {"ENCUT": 1}}}, False, {}, ["ENCUT = None"]),
        ({"dict": "KPOINTS", "action": {"_set": {"generation_style": "Monkhorst"}}}, False, {}, ["KPOINTS"]),
        ({"dict": "POSCAR", "action": {"_set": {"structure": {}}}}, True, {}, ["POSCAR"]),
        ({"file": "WAVECAR", "action": {"_file_delete": {"mode": "actual"}}}, False, {}, []),
        ({"file": "CONTCAR", "action": {"_file_copy": {"dest": "POSCAR"}}}, True, {}, []),
        ({"file": "STOPCAR", "action": {"_file_create": {"content": "LSTOP = .TRUE."}}}, False, {}, ["STOPCAR"]),
    ],
)  # fmt: skip
def test_only_the_way_to_the_ground_state_may_change(
    action: dict[str, Any], relaxes: bool, tags: dict[str, Any], refused: list[str]
) -> None:
    incar = {"EDIFF": 1e-5, "ENCUT": 550, "PREC": "Accurate", "NBANDS": 100, "IMIX": 1, "IBRION": -1}
    assert vasp_errors.taken_and_refused([action], incar, relaxes) == (tags, refused)


def test_corrections_outlive_the_process_that_made_them(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same again goes on with them; without custodian it begins without."""
    monkeypatch.setenv("VASP_STAND_IN", "edddav hopeless")
    made = calculator("vasp", custodian=True, keep=True, **OF_COPPER)
    with pytest.raises(CalculatorError):
        made.get_potential_energy(copper())
    (folder,) = vasp.iterdir()
    kept = (folder / "corrections.json").read_bytes()
    monkeypatch.setenv("VASP_STAND_IN", "edddav")
    assert np.isfinite(made.get_potential_energy(copper()))
    assert made.corrections == ["VaspErrorHandler (edddav): ALGO = All, ISEARCH = 1"]
    (folder / "finished").unlink()
    assert (folder / "corrections.json").read_bytes() == kept
    with pytest.raises(CalculatorError, match="Error EDDDAV"):
        calculator("vasp", **OF_COPPER).get_potential_energy(copper())
    assert not (folder / "corrections.json").exists()


def test_the_time_limit_is_of_all_corrections_together(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN", "slow")
    monkeypatch.setenv("VASP_STAND_IN_STEP_S", "0.02")
    atoms = copper()
    atoms.calc = calculator("vasp", custodian=True, walltime_s=0.3, **OF_COPPER)
    with pytest.raises(CalculatorError, match=r"stopped before the time limit of 0\.3 s"):
        atoms.get_potential_energy()


def test_custodian_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="custodian = 'yes': expected true or false"):
        calculator("vasp", custodian="yes")
    monkeypatch.setitem(sys.modules, "custodian.vasp", None)
    with pytest.raises(CalculatorError, match=r"custodian is not installed .* by pip install 'argyase\[custodian\]'"):
        calculator("vasp", custodian=True)
    assert calculator("vasp").corrections == []


def test_labels_say_how_they_were_corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [copper(1), bulk("Cu", cubic=True)]
    ase.io.write(tmp_path / "frames.extxyz", frames)
    monkeypatch.setenv("VASP_STAND_IN", "edddav")
    monkeypatch.setenv("VASP_STAND_IN_FORMULA", "Cu4")
    lake = Lake(tmp_path / "lake")
    made = ('setups={"Cu": "", "Al": ""}', "custodian=true")
    (run_id,) = label.run(label.Config(("frames.extxyz",), calculator="vasp", settings=made), lake)
    assert len(label.read_frames(lake, [run_id])) == 2
    record = lake.record(run_id)
    assert record.scalars["corrected"] == 1
    assert record.provenance["corrections"] == {"1": ["VaspErrorHandler (edddav): ALGO = All, ISEARCH = 1"]}
    # They are labels as good as others: without custodian they are found, and not computed again.
    assert label.run(label.Config(("frames.extxyz",), calculator="vasp", settings=made[:1]), lake) == [run_id]


def test_a_relaxation_goes_on_from_where_it_failed(tmp_path: Path, vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path / "lake")
    monkeypatch.setenv("VASP_STAND_IN", "zbrent")
    ase.io.write(tmp_path / "copper.extxyz", copper())
    made = ("preset=relax", "custodian=true", 'setups={"Cu": "", "Al": ""}')
    (run_id,) = relax.run(relax.Config("copper.extxyz", "vasp", made, cell=False), lake)
    assert lake.record(run_id).scalars["corrections"] == "VaspErrorHandler (zbrent): EDIFF = 1e-06, NELMIN = 8"
    (folder,) = vasp.iterdir()
    assert parsed((folder / "INCAR").read_text()) == {**INCAR["relax"], "ISIF": 2, "EDIFF": 1e-6, "NELMIN": 8}
    # It died in the third step: the second run begins where the second step had led.
    with tarfile.open(folder / "error.1.tar.gz") as packed:
        packed.extractall(tmp_path / "failed", filter="data")
    left, begun = read_vasp(tmp_path / "failed" / "error.1" / "CONTCAR"), read_vasp(folder / "POSCAR")
    np.testing.assert_allclose(begun.positions, left.positions, atol=1e-9)
    start = copper()[[0, 2, 1, 3]]  # Al before Cu
    assert find_mic(begun.positions - start.positions, begun.cell)[1].max() > 0.01


def test_a_dynamics_goes_on_from_where_it_failed(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASP_STAND_IN", "edddav")
    settings = MDSettings(500.0, PIECES[1:2], sample_ps=0.004)
    simulation = VaspMD(copper(), {"custodian": True, **OF_COPPER}, settings)
    assert [frame.step for frame in simulation.frames()] == [2, 4]
    assert simulation.corrections == ["rest: VaspErrorHandler (edddav): ALGO = All, ISEARCH = 1"]
    (folder,) = vasp.iterdir()
    # It died in the second of four steps.
    assert parsed((folder / "INCAR").read_text())["NSW"] == 3
    assert len(Xdatcar(str(folder / "part1" / "XDATCAR")).structures) == 1
