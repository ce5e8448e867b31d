"""Extrapolation grades: the rows against energies, grades against motep's, MaxVol's own promises, files, LAMMPS."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import atomic_numbers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lammps_runs import BOX_OF_FOUR, mpiexec
from lammps_runs import refused as refused_by_lammps
from motep.grade.grader import Grader
from motep.io.mlip.mtp import read_mtp as motep_read_mtp
from strategies import DATA, SPECIES, random_atoms, random_potential, seeds

from argyase.errors import PotentialFileError, StatisticsError
from argyase.potentials.active import THRESHOLD, UNIT_SCALE, ActiveSet, basis, maxvol
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, write_mtp
from argyase.structures.argyrodite import argyrodite

CARD = find_potential("LiPSCl-study")
assert CARD.active_set is not None
ACTIVE = CARD.active_set


def training(rng: np.random.Generator, frames: int = 8, n: int = 30) -> list[Atoms]:
    return [random_atoms(rng, n, apart=1.8) for _ in range(frames)]


def graded(level: int, seed: int) -> tuple[MTPFile, list[Atoms], ActiveSet]:
    rng = np.random.default_rng(seed)
    potential, frames = random_potential(level, 4, rng), training(rng)
    return potential, frames, ActiveSet.select(MTP(potential, SPECIES), frames)


# ---- the rows ----


@settings(max_examples=20)
@given(st.sampled_from([2, 4, 8, 10, 14, 16]), st.integers(1, 30), st.integers(1, 4), seeds)
def test_the_rows_times_the_coefficients_are_the_energies(level: int, n: int, species: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    potential, atoms = random_potential(level, species, rng), random_atoms(rng, n, species)
    calculator = MTP(potential, SPECIES[:species])
    calculator.calculate(atoms)
    energies = calculator.results["energies"]
    b = basis(calculator, atoms)
    assert b.shape == (n, species + len(potential.alpha_moment_mapping))
    x = np.concatenate([potential.species_coeffs, potential.moment_coeffs])
    scale = np.abs(b * x).sum(axis=1).max() + 1
    np.testing.assert_allclose(b @ x, energies, rtol=0, atol=1e-13 * scale)
    # They do not depend on these coefficients, nor on the number of threads.
    other = MTP(replace(potential, moment_coeffs=0 * potential.moment_coeffs), SPECIES[:species], threads=2)
    np.testing.assert_array_equal(basis(other, atoms), b)


def motep_grader(potential: MTPFile, frames: list[Atoms], folder: Path) -> Grader:
    """motep's grades of neighbourhoods, after it has chosen its rows."""
    write_mtp(folder / "p.mtp", potential)
    data = motep_read_mtp(folder / "p.mtp")
    data.species = [atomic_numbers[s] for s in SPECIES]
    data.optimized = ["species_coeffs", "moment_coeffs"]
    grader = Grader(data, seed=1, mode="neighborhood")
    grader.update(frames)
    return grader


@pytest.mark.parametrize("level", [2, 6, 10, 14])
def test_grades_are_those_of_motep(level: int, tmp_path: Path) -> None:
    """motep solves least squares with its own rows of the same atoms."""
    rng = np.random.default_rng(level)
    potential, frames = random_potential(level, 4, rng), training(rng)
    grader = motep_grader(potential, frames, tmp_path)
    calculator = MTP(potential, SPECIES)
    rows = np.concatenate([basis(calculator, a) for a in frames])
    active = ActiveSet(rows[grader.maxvol_result.indices], 4, calculator.kernel.fingerprint)
    new = [random_atoms(rng, 13, apart=1.4), frames[0]]
    new[0].set_cell(0.8 * new[0].cell.array, scale_atoms=True)
    theirs = [a.calc.results["nbh_grades"] for a in grader.grade(new)]
    assert theirs[0].max() > 1.5
    ours = MTP(potential, SPECIES, active_set=active)
    for atoms, expected in zip(new, theirs, strict=True):
        # The condition of the rows, 100 to 1e4, times rounding.
        np.testing.assert_allclose(ours.grades(atoms), expected, rtol=1e-9)
        np.testing.assert_allclose(active.grades(basis(ours, atoms)), expected, rtol=1e-9)


def test_our_active_set_is_as_large_as_that_of_motep(tmp_path: Path) -> None:
    potential, frames, active = graded(8, 3)
    grader = motep_grader(potential, frames, tmp_path)
    rows = np.concatenate([basis(MTP(potential, SPECIES), a) for a in frames])
    theirs = np.linalg.slogdet(rows[grader.maxvol_result.indices])[1]
    ours = np.linalg.slogdet(active.rows)[1]
    # Two local maxima: either may be a little larger.
    assert ours == pytest.approx(theirs, abs=0.7)


def test_the_lanes_of_a_batch_do_not_mix() -> None:
    """Atoms one by one, in any number and any order, have the grades that they have together."""
    potential, frames, active = graded(10, 5)
    calculator = MTP(potential, SPECIES, active_set=active)
    for n in (1, 2, 7, 8, 9, 17, 30):
        atoms = random_atoms(np.random.default_rng(n), n, apart=1.5)
        expected = active.grades(basis(calculator, atoms))
        np.testing.assert_allclose(calculator.grades(atoms), expected, rtol=1e-10)
        order = np.random.default_rng(0).permutation(n)
        np.testing.assert_allclose(calculator.grades(atoms[order]), expected[order], rtol=1e-9)
    mixed = MTP(potential, SPECIES, active_set=active, precision="mixed")
    np.testing.assert_allclose(mixed.grades(atoms), expected, rtol=1e-3)
    threaded = MTP(potential, SPECIES, active_set=active, threads=3)
    big = random_atoms(np.random.default_rng(1), 330, apart=1.5)
    np.testing.assert_allclose(threaded.grades(big), calculator.grades(big), rtol=1e-10)
    # The atoms of the training data are within what they span.
    assert max(calculator.grades(a).max() for a in frames) <= THRESHOLD * (1 + 1e-9)


def test_what_is_not_finite_has_an_infinite_grade() -> None:
    calculator = MTP(CARD.path, CARD.species, active_set=ACTIVE)
    atoms = Atoms("LiSLi", [[0, 0, 0], [0, 0, 0], [9, 9, 9]])
    grades = calculator.grades(atoms)
    assert np.isinf(grades[:2]).all()
    assert np.isfinite(grades[2])


def test_no_grades_without_an_active_set() -> None:
    atoms = argyrodite(a=10.0)
    atoms.calc = MTP(CARD.path, CARD.species)
    atoms.get_potential_energy()
    assert "grades" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError, match="need an active set"):
        atoms.calc.grades(atoms)
    atoms.calc = MTP(CARD.path, CARD.species, active_set=ACTIVE)
    atoms.get_potential_energy()
    assert atoms.calc.results["grades"].shape == (52,)
    assert 0.3 < atoms.calc.results["grades"].max() < 1.1


# ---- MaxVol ----

matrices = st.tuples(st.integers(1, 9), st.integers(0, 40), st.integers(1, 9), seeds)


@given(matrices, st.sampled_from([1.0 + 1e-6, THRESHOLD, 1.1, 2.0]))
def test_maxvol_keeps_its_promises(shape: tuple[int, int, int, int], threshold: float) -> None:
    """Any shape, rank and scale of columns."""
    m, more, rank, seed = shape
    rng = np.random.default_rng(seed)
    n = m + more
    b = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, m)) if rank < m else rng.normal(size=(n, m))
    b *= 10.0 ** rng.uniform(-6, 6, m)
    found = maxvol(b, threshold)
    # No coefficient of any row is larger; the solution has the rounding of the condition of unit rows.
    scale = np.abs(b).max(axis=0)
    c = np.linalg.solve((found.rows / scale).T, (b / scale).T)
    assert np.abs(c).max() <= threshold * (1 + 1e-6)
    assert all(later > earlier for earlier, later in zip(found.log_volumes, found.log_volumes[1:], strict=False))
    sign, volume = np.linalg.slogdet(found.rows / scale)
    assert sign != 0
    # Rank-1 updates against the determinant itself.
    assert volume + np.log(scale).sum() == pytest.approx(found.log_volumes[-1], abs=1e-6)
    for k, row in zip(found.chosen, found.rows, strict=True):
        expected = b[k] if k >= 0 else UNIT_SCALE * scale[-1 - k] * np.eye(m)[-1 - k]
        np.testing.assert_allclose(row, expected, rtol=1e-12)
    assert len(set(found.chosen.tolist())) == m
    if rank >= m and more > 3 * m:
        assert found.not_spanned == []
    if rank < m:
        assert len(found.not_spanned) >= m - rank


@given(st.integers(1, 4), st.integers(0, 5), seeds)
def test_maxvol_against_all_choices(m: int, more: int, seed: int) -> None:
    """A local maximum: within m^(m/2) of the largest volume (Goreinov and Tyrtyshnikov 2001), usually equal."""
    from itertools import combinations

    b = np.random.default_rng(seed).normal(size=(m + more, m))
    assume(np.linalg.matrix_rank(b) == m)
    best = max(abs(np.linalg.det(b[list(k)])) for k in combinations(range(m + more), m))
    found = float(np.exp(maxvol(b).log_volumes[-1]))
    assert best / (1.01 * m ** (m / 2)) <= found <= best * (1 + 1e-9)


def test_what_the_labels_do_not_span_has_large_grades() -> None:
    rng = np.random.default_rng(8)
    potential = random_potential(8, 4, rng)
    calculator = MTP(potential, SPECIES)
    frames = [random_atoms(rng, 30, 3, apart=1.8) for _ in range(8)]  # no Cl
    active = ActiveSet.select(calculator, frames)
    assert active.not_spanned == (3,)
    other = MTP(potential, SPECIES, active_set=active)
    atoms = frames[0].copy()
    atoms.symbols[4] = "Cl"
    grades = other.grades(atoms)
    assert grades[4] > 1e5
    far = other.atoms.get_distances(4, range(30), mic=True) > potential.max_dist
    assert (grades[far] <= THRESHOLD * (1 + 1e-9)).all()
    with pytest.raises(StatisticsError, match="no frames"):
        ActiveSet.select(calculator, [])


def test_basis_functions_that_depend_on_each_other() -> None:
    """From level 16 on MLIP's own do (96 columns of rank 95 whatever the atoms): a unit row stands in, no harm done."""
    potential, frames, active = graded(16, 2)
    assert len(active.not_spanned) == 1
    calculator = MTP(potential, SPECIES, active_set=active)
    assert max(calculator.grades(a).max() for a in frames) <= THRESHOLD * (1 + 1e-6)
    new = random_atoms(np.random.default_rng(1), 30, apart=1.6)
    # A direction that no atom can take, to rounding (1e-15) over the size of the unit row.
    assert 0.3 < calculator.grades(new).max() < 1e3
    np.testing.assert_allclose(calculator.grades(new), active.grades(basis(calculator, new)), rtol=1e-6)


def test_wrong_matrices() -> None:
    for b in (np.empty((0, 3)), np.ones(3), np.array([[1.0, np.nan]])):
        with pytest.raises(StatisticsError, match="finite matrix"):
            maxvol(b)
    with pytest.raises(StatisticsError, match="must be larger than 1"):
        maxvol(np.eye(3), 1.0)
    with pytest.raises(StatisticsError, match="not done after 0 swaps"):
        maxvol(np.array([[1.0, 0.5], [0.9, 1.0], [0.0, 1.0], [1.0, -1.0]]), max_swaps=0)


# ---- files ----


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    _, _, active = graded(6, 1)
    active.save(tmp_path / "a.active")
    again = ActiveSet.load(tmp_path / "a.active")
    np.testing.assert_array_equal(again.rows, active.rows)
    assert (again.fingerprint, again.species_count) == (active.fingerprint, 4)
    assert again.to_bytes() == (tmp_path / "a.active").read_bytes()


CONTENT = ACTIVE.read_bytes()


@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=4),
       st.one_of(st.none(), st.integers(0, len(CONTENT) + 9)))  # fmt: skip
def test_damaged_files_are_refused(changes: list[tuple[int, int]], length: int | None) -> None:
    from tempfile import TemporaryDirectory

    content = bytearray(CONTENT)
    for place, byte in changes:
        content[place] = byte
    content = (content + bytes(9))[:length] if length is not None else content
    assume(bytes(content) != CONTENT)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.active"
        path.write_bytes(content)
        with pytest.raises(PotentialFileError, match=r"a\.active: "):
            ActiveSet.load(path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(PotentialFileError, match="No such file"):
        ActiveSet.load(tmp_path / "none.active")
    with pytest.raises(PotentialFileError, match="not an active set"):
        ActiveSet.load(CARD.path)


def test_the_wrong_potential_is_refused(tmp_path: Path) -> None:
    potential, _, active = graded(6, 1)
    MTP(potential, SPECIES, active_set=active)
    # Linear coefficients do not matter; whatever the basis functions depend on does.
    MTP(replace(potential, moment_coeffs=2 * potential.moment_coeffs), SPECIES, active_set=active)
    changed = potential.radial_coeffs.copy()
    changed[1, 2, 0, 3] = np.nextafter(changed[1, 2, 0, 3], 9)
    for name, value in (("radial_coeffs", changed), ("min_dist", 1.4), ("max_dist", 5.1), ("scaling", 0.02)):
        with pytest.raises(PotentialFileError, match="made for another potential"):
            MTP(replace(potential, **{name: value}), SPECIES, active_set=active)
    with pytest.raises(PotentialFileError, match=r"the potential has \d+ linear coefficients"):
        MTP(random_potential(8, 4, np.random.default_rng(0)), SPECIES, active_set=active)


@pytest.mark.parametrize("near", [0.0, 1e-18])
def test_a_singular_set_is_refused(near: float) -> None:
    _, _, active = graded(6, 1)
    rows = active.rows.copy()
    rows[3] = rows[5] * (1 + near)
    with pytest.raises(PotentialFileError, match="singular"):
        replace(active, rows=rows).to_bytes()


# ---- the shipped set ----


def test_the_shipped_set_is_that_of_its_labels(tmp_path: Path) -> None:
    """The documented command, again: the same volume, and no atom of the labels outside."""
    import ase.io

    from argyase.stages import domain

    labels = DATA.parents[1] / "campaigns" / "labels" / "LiPSCl-study-7net0.extxyz.gz"
    shipped = ActiveSet.load(ACTIVE)
    path = domain.run(domain.Config((str(labels),), CARD.name, output=str(tmp_path / "a.active")))
    again = ActiveSet.load(path)
    assert again.fingerprint == shipped.fingerprint
    volumes = [np.linalg.slogdet(a.rows)[1] for a in (shipped, again)]
    assert volumes[0] == pytest.approx(volumes[1], abs=1e-2)
    calculator = MTP(CARD.path, CARD.species, active_set=shipped)
    frames = ase.io.read(labels, index=":")
    largest = max(float(calculator.grades(a).max()) for a in frames)
    assert 1 - 1e-9 <= largest <= THRESHOLD * (1 + 1e-9)
    # And the table of the card is the one it prints.
    from argyase.potentials.repulsion import propose, smallest_distances

    assert CARD.repulsion == propose(smallest_distances(frames, CARD.species, 6.0))


# ---- LAMMPS ----


def lammps_script(path: Path, every: int, steps: int, *more: str) -> list[str]:
    return [
        f'pair_style mtp "{CARD.path}" grade "{path}"',
        "pair_coeff * *",
        "velocity all create 600 1 mom yes",
        f"fix g all pair {every} mtp grade 1",
        "compute gmax all reduce max f_g",
        "thermo_style custom step temp pe c_gmax",
        f"thermo {every}",
        "variable v equal c_gmax",
        "fix n all nve",
        "timestep 0.002",
        *more,
        f"run {steps}",
    ]


RUN = """
import json, sys
from pathlib import Path
import numpy as np
from argyase.potentials.lammps_plugin import create_lammps
from argyase.structures.argyrodite import argyrodite
from strategies import SPECIES
atoms = argyrodite(0.0, 0.5, a=10.0)
move = json.loads(sys.argv[2])
if move:
    atoms.positions[move[0]] = atoms.positions[move[1]] + [0, 0, move[2]]
atoms.wrap()
lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
for line in ("units metal", "atom_modify map yes", "region b block 0 10 0 10 0 10", "create_box 4 b", "mass * 20.0"):
    lmp.command(line)
types = [SPECIES.index(s) + 1 for s in atoms.get_chemical_symbols()]
lmp.create_atoms(52, list(range(1, 53)), types, atoms.positions.ravel().tolist())
for line in json.loads(sys.argv[1]):
    lmp.command(line)
found = {
    "step": lmp.extract_global("ntimestep"),
    "gmax": lmp.extract_variable("v"),
    "grade_max": lmp.extract_pair("grade_max"),
    "grades": np.array(lmp.gather("f_g", 1, 1)).tolist(),
    "x": np.array(lmp.gather_atoms("x", 1, 3)).tolist(),
}
if lmp.extract_setting("world_rank") == 0:
    Path(sys.argv[3]).write_text(json.dumps(found))
"""


def run_ranks(ranks: int, lines: list[str], out: Path, move: list[float] | None = None) -> dict[str, object]:
    done = mpiexec(ranks, "-c", RUN, json.dumps(lines), json.dumps(move), str(out))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(out.read_text()))


@pytest.mark.parametrize("ranks", [1, 2])
def test_fix_pair_reads_the_grades(ranks: int, tmp_path: Path) -> None:
    found = run_ranks(ranks, lammps_script(ACTIVE, 20, 60), tmp_path / "out.json")
    assert found["step"] == 60
    atoms = argyrodite(0.0, 0.5, a=10.0)
    atoms.positions = np.reshape(found["x"], (-1, 3))
    calculator = MTP(CARD.path, CARD.species, active_set=ACTIVE)
    expected = calculator.grades(atoms)
    np.testing.assert_allclose(found["grades"], expected, rtol=1e-8)
    assert found["gmax"] == pytest.approx(expected.max(), rel=1e-8)
    assert float(str(found["grade_max"])) >= expected.max() * (1 - 1e-8)


@pytest.mark.parametrize("ranks", [1, 2])
def test_fix_halt_stops_a_wild_configuration(ranks: int, tmp_path: Path) -> None:
    """Two Li 1.4 A apart fly through the crystal: the run ends at the first step that is graded above 2.1."""
    halt = "fix h all halt 10 v_v > 2.1 error continue"
    calm = run_ranks(ranks, lammps_script(ACTIVE, 10, 100, halt), tmp_path / "calm.json")
    assert calm["step"] == 100
    assert 0.5 < float(str(calm["gmax"])) < 1.2
    # Two femtoseconds later they are still near each other.
    halt = "fix h all halt 1 v_v > 2.1 error continue"
    wild = run_ranks(ranks, lammps_script(ACTIVE, 1, 100, halt), tmp_path / "wild.json", [1, 0, 1.4])
    assert int(str(wild["step"])) <= 2
    assert float(str(wild["grade_max"])) > 2.1


def test_grading_does_not_change_the_path(tmp_path: Path) -> None:
    graded_run = run_ranks(1, lammps_script(ACTIVE, 7, 50), tmp_path / "a.json")
    rarely = run_ranks(1, lammps_script(ACTIVE, 50, 50), tmp_path / "b.json")
    assert graded_run["x"] == rarely["x"]


def test_wrong_active_sets_are_lammps_errors(tmp_path: Path) -> None:
    refused = partial(refused_by_lammps, "units metal", *BOX_OF_FOUR)

    style = f'pair_style mtp "{CARD.path}"'
    (tmp_path / "cut.active").write_bytes(CONTENT[:100])
    _, _, other = graded(6, 1)
    other.save(tmp_path / "other.active")
    assert refused(f"{style} grade {ACTIVE}", "pair_coeff * *") == "nothing was wrong"
    assert "cannot read the file" in refused(f"{style} grade {tmp_path}/none.active")
    assert "cut.active: size 20 needs 3200 bytes" in refused(f"{style} grade {tmp_path}/cut.active")
    assert "other.active: " in refused(f"{style} grade {tmp_path}/other.active")
    assert "linear coefficients" in refused(f"{style} grade {tmp_path}/other.active")
    assert "'grade FILE'" in refused(f"{style} grade")
    assert "cannot extract grade_flag" in refused(style, "pair_coeff * *", "fix g all pair 10 mtp grade 1")
