"""``pair_style mtp`` against the ASE calculator (which is tested against MLIP and motep), on one and two MPI ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from lammps_runs import BOX, METAL_NKTV2P, mpiexec, oriented, refused, run_lammps
from strategies import SPECIES, random_atoms, random_potential, seeds

from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, write_mtp
from argyase.structures.argyrodite import argyrodite
from argyase.units import BAR_TO_GPA, EV_PER_A3_TO_GPA


def expect_equal(theirs: dict[str, np.ndarray], atoms: Atoms, potential: MTPFile) -> None:
    calculator = MTP(potential, SPECIES)
    calculator.calculate(atoms)
    ours = calculator.results
    n = len(atoms)
    # Rounding as in test_mtp; a virial sums n atoms over some A.
    scale = 1e-12 * max(1.0, np.abs(ours["forces"]).max(), np.abs(ours["energies"]).max())
    np.testing.assert_allclose(theirs["energy"], ours["energy"], rtol=0, atol=n * scale)
    np.testing.assert_allclose(theirs["sum_energies"], ours["energy"], rtol=0, atol=n * scale)
    np.testing.assert_allclose(theirs["forces"], ours["forces"], rtol=0, atol=4 * scale)
    if atoms.pbc.all():
        virial = -ours["stress"] * atoms.get_volume()
        largest = max(1.0, np.abs(virial).max())
        np.testing.assert_allclose(theirs["virial"], virial, rtol=0, atol=10 * n * scale + 1e-12 * largest)
        np.testing.assert_allclose(theirs["sum_virials"], virial, rtol=0, atol=10 * n * scale + 1e-12 * largest)


def test_the_unit_of_pressure_is_ours_to_the_digits_of_lammps() -> None:
    assert pytest.approx(EV_PER_A3_TO_GPA, rel=2e-7) == METAL_NKTV2P * BAR_TO_GPA


@settings(max_examples=20)
@given(st.sampled_from([2, 6, 8, 10, 14, 16]), st.sampled_from([1, 2, 5, 24]), seeds)
def test_equals_the_calculator(level: int, n: int, seed: int) -> None:
    """Triclinic cells; those of 1 to 5 atoms are smaller than the cutoff, so that atoms see their own images."""
    from tempfile import TemporaryDirectory

    rng = np.random.default_rng(seed)
    potential, atoms = random_potential(level, 4, rng), oriented(random_atoms(rng, n))
    with TemporaryDirectory() as folder:
        write_mtp(Path(folder) / "p.mtp", potential)
        expect_equal(run_lammps(atoms, Path(folder) / "p.mtp"), atoms, potential)


def test_isolated_atoms(tmp_path: Path) -> None:
    potential = random_potential(8, 4, np.random.default_rng(0))
    write_mtp(tmp_path / "p.mtp", potential)
    atoms = Atoms("LiPLi", [[1, 1, 1], [29, 29, 29], [1, 1, 2.5]], cell=[30, 30, 30], pbc=False)
    expect_equal(run_lammps(atoms, tmp_path / "p.mtp"), atoms, potential)


def test_threads_change_nothing_but_the_order_of_sums(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    potential, atoms = random_potential(10, 4, rng), oriented(random_atoms(rng, 250))
    write_mtp(tmp_path / "p.mtp", potential)
    for threads in (2, 3):
        expect_equal(run_lammps(atoms, tmp_path / "p.mtp", f"threads {threads}"), atoms, potential)


def test_mixed_precision(tmp_path: Path) -> None:
    """24 bits for the distance to each neighbour, double for all sums: 3e-6 of the force, and no net force."""
    atoms = oriented(argyrodite(0.0, 0.5, a=10.0))
    atoms.rattle(0.15, seed=1)
    path = find_potential("LiPSCl-study").path
    double, mixed = (run_lammps(atoms, path, f"precision {p}") for p in ("double", "mixed"))
    scale = np.sqrt((double["forces"] ** 2).mean())
    assert np.sqrt(((mixed["forces"] - double["forces"]) ** 2).mean()) < 3e-6 * scale
    assert np.abs(mixed["forces"] - double["forces"]).max() > 0
    assert np.abs(mixed["forces"].sum(axis=0)).max() < 1e-12
    assert mixed["energy"] == pytest.approx(double["energy"], abs=52e-6)
    np.testing.assert_allclose(mixed["virial"], double["virial"], atol=1e-5 * np.abs(double["virial"]).max())


# ---- ranks ----


_RANKS = """
import json, sys
from pathlib import Path
import numpy as np
from lammps_runs import finalize, oriented, run_lammps
from strategies import random_atoms
atoms = oriented(random_atoms(np.random.default_rng(5), 40))
found = run_lammps(atoms, Path(sys.argv[1]))
Path(sys.argv[2]).write_text(json.dumps({k: v.tolist() for k, v in found.items()}))
finalize()
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks(ranks: int, tmp_path: Path) -> None:
    potential = random_potential(10, 4, np.random.default_rng(9))
    write_mtp(tmp_path / "p.mtp", potential)
    done = mpiexec(ranks, "-c", _RANKS, str(tmp_path / "p.mtp"), str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    found = {k: np.array(v) for k, v in json.loads((tmp_path / "out.json").read_text()).items()}
    expect_equal(found, oriented(random_atoms(np.random.default_rng(5), 40)), potential)


# ---- wrong use ----


def test_wrong_use_is_a_lammps_error(tmp_path: Path) -> None:
    good, cut = tmp_path / "good.mtp", tmp_path / "cut.mtp"
    write_mtp(good, random_potential(6, 1, np.random.default_rng(0)))
    cut.write_bytes(good.read_bytes()[:300])
    assert "'precision single' after the file" in refused(*BOX, f"pair_style mtp {good} precision single")
    assert "'threads 0' after the file" in refused(*BOX, f"pair_style mtp {good} threads 0")
    assert "cannot read the file" in refused(*BOX, f"pair_style mtp {tmp_path}/none.mtp")
    assert "cut.mtp, line" in refused(*BOX, f"pair_style mtp {cut}")
    assert "expected 'pair_style mtp FILE [precision double|mixed] [threads N] [grade FILE]'" in refused(
        *BOX, "pair_style mtp"
    )
    assert "atom type 2 would be species 1" in refused(*BOX, f"pair_style mtp {good}", "pair_coeff * *")
    style = f"pair_style mtp {good}"
    assert "expected 'pair_coeff * *'" in refused(*BOX, style, "pair_coeff * * 0")
    assert "species 3" in refused(*BOX, style, "pair_coeff * * 0 3")
    assert "units metal" in refused("units real", *BOX[1:], style, "pair_coeff * * 0 0", "run 0")
    assert "newton pair on" in refused("newton off", *BOX, style, "pair_coeff * * 0 0", "run 0")


def test_a_broken_file_ends_all_ranks(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mtp"
    bad.write_text("MTP\nversion = 7\n")
    script = f"""
from argyase.potentials.lammps_plugin import create_lammps
from argyase.potentials.model_card import find_potential
lmp = create_lammps(["-log", "none", "-screen", "none"])
for c in ("units metal", "region b block 0 9 0 9 0 9", "create_box 1 b", "pair_style mtp {bad}"): lmp.command(c)
"""
    done = mpiexec(2, "-c", script)
    assert done.returncode != 0
    assert "line 2: version '7'" in done.stderr + done.stdout


@pytest.mark.parametrize("openmp", [False, True])
def test_threads_of_openmp_only_where_they_are_asked_for(openmp: bool) -> None:
    """Else they would wait on the cores of those that pair_style mtp has of its own."""
    code = f"""
import os
from argyase.potentials.lammps_plugin import create_lammps
lmp = create_lammps(["-log", "none", "-screen", "none"], openmp={openmp})
print(lmp.extract_setting("nthreads"), os.environ["OMP_NUM_THREADS"])
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2" if openmp else "1", "2"]
