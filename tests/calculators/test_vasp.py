"""VASP's presets, and what becomes of runs that go wrong: by a stand-in, another engine that writes VASP's files."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
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
from argyase.dynamics.inside_vasp import VaspMD, read_xdatcar
from argyase.dynamics.protocols import Ramp
from argyase.dynamics.simulation import MDSettings
from argyase.errors import CalculatorError, ConfigError
from argyase.stages import label, learn, relax, sample, structures
from argyase.stages import lake as lake_command
from argyase.structures.argyrodite import argyrodite

STAND_IN = Path(__file__).parents[1] / "vasp_stand_in.py"
VALENCES = {"Li_sv": 3, "P": 5, "S": 6, "Cl": 7, "Cu": 11, "Al": 3}

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
    for name in ("VASP_STAND_IN", "VASP_STAND_IN_FORMULA", "VASP_STAND_IN_STEP_S", "VASP_PP_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "vasp"


def write_potcar(pp: Path, name: str, content: str = "") -> None:
    """A POTCAR of this name; of other content if it is said."""
    title = content or name
    path = pp / "potpaw_PBE" / name / "POTCAR"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"  PAW_PBE {title} for tests\n parameters from PSCTR are:\n   TITEL  = PAW_PBE {title} for-tests\n"
        "   LULTRA = F\n   IUNSCR = 1\n   RPACOR = 1.0\n"
        f"   POMASS = 1.0; ZVAL   = {VALENCES[title]:8.3f}    mass and valenz\n"
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
    assert re.findall(r"TITEL  = PAW_PBE (\S+)", (folder / "POTCAR").read_text()) == [
        {"Li": "Li_sv"}.get(s, s) for s in dict.fromkeys(atoms.symbols)
    ]


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
    json.dumps(who)
    assert who["incar"]["ENCUT"] == 550
    assert who["k_density"] == 1000
    assert who["potcars"] == {"Cl": "Cl", "Li": "Li_sv", "P": "P", "S": "S"}
    same = (
        {"walltime_s": 60},
        {"directory": "d"},
        {"keep": True},
        {"ncore": 4, "kpar": 2},
        {"encut": 550},
        {"ENCUT": 550.0},
    )
    assert [identity("vasp", **more) for more in same] == [who] * len(same)
    other = (
        {"encut": 400}, {"preset": "site_energy", "charge": 0}, {"k_density": 500}, {"kpts": [3, 3, 3]}, {"charge": 1},
        {"setups": {"Li": ""}}, {"pp_version": "54"}, {"version": "6.4.2"}, {"custom": {"ML_LMLFF": ".TRUE."}},
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
    data = lake.open_run(relax.run(config, lake)[0])  # another attempt: such a failure settles nothing
    atoms = structures.to_atoms(data)
    assert atoms.get_chemical_symbols() == copper().get_chemical_symbols()
    assert np.abs(atoms.cell.array - copper().cell.array).max() > 0.01
    atoms.calc = EMT()
    # CONTCAR and vasprun.xml have 8 digits or so.
    np.testing.assert_allclose(data["forces"], atoms.get_forces(), atol=1e-5)
    assert np.abs(data["forces"]).max() < 0.03
    assert float(data["energy"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-5)


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
        ("unconverged", "aimd", "the electrons did not converge in NELM = 7 steps, in 4 of 4 ionic steps"),
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
    assert f"its files are in {folder}, and the same again goes on" in str(error.value)
    assert atoms.calc.results == {}
    if preset == "relax":
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


def test_what_was_not_converged_in_an_earlier_part_is_found(vasp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed before anybody could tell."""
    monkeypatch.setenv("VASP_STAND_IN", "killed unconverged")
    settings, made = MDSettings(500.0, PIECES[1:2], sample_ps=0.004), {"nelm": 4}
    with pytest.raises(CalculatorError, match="SIGKILL"):
        list(VaspMD(shuffled(), made, settings).frames())
    monkeypatch.delenv("VASP_STAND_IN")
    with pytest.raises(CalculatorError, match=r"did not converge in \d of \d ionic steps of .*part1: what comes after"):
        list(VaspMD(shuffled(), made, settings).frames())


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


def test_both_ways_to_sample_give_the_same_dataset(tmp_path: Path) -> None:
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
    with pytest.raises(ConfigError, match="calculator = 'mtp': only vasp moves atoms itself"):
        sample.run(replace(config, inside=True), lake)


# ---- labels ----


def test_the_training_of_the_paper_made_small(tmp_path: Path) -> None:
    """Its dynamics and every label by VASP, into a potential."""
    campaign = (Path(__file__).parents[2] / "campaigns" / "paper_training_small.toml").read_text()
    for pattern, other in (
        (r'calculator = "mtp"\nsettings = .*\ntemp', 'calculator = "vasp"\nsettings = ["preset=aimd"]\ntemp'),
        (r'calculator = "mtp"\nsettings = .*\n', 'calculator = "vasp"\nsettings = ["preset=label"]\n'),
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
    made = ("preset=relax", "isif=2", "custodian=true", 'setups={"Cu": "", "Al": ""}')
    (run_id,) = relax.run(relax.Config("copper.extxyz", "vasp", made), lake)
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
