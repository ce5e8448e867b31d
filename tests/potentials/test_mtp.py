"""The kernel against MLIP's own results, motep, a readable twin, and the symmetries of an energy."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import mtp_reference
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import complete_cell
from ase.stress import voigt_6_to_full_3x3_stress
from hypothesis import given, settings
from hypothesis import strategies as st
from matscipy.neighbours import neighbour_list
from motep.calculator import MTP as MotepMTP
from motep.io.mlip.mtp import read_mtp as motep_read_mtp
from strategies import DATA, SPECIES, level_28, mlip_potential, random_atoms, random_potential, rotation, seeds

from argyase.errors import CalculatorError, ConfigError, PotentialFileError
from argyase.potentials.cfg_file import read_cfg
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, write_mtp

LEVELS = range(2, 18, 2)

ROUNDING = 1e-12
"""Relative to the largest force or energy of an atom: sums of about 100 neighbours through products of up to 8 moments
lose two to three of the 16 digits, on either side."""


def calculate(potential: MTPFile | Path, atoms: Atoms, species: tuple[str, ...] = SPECIES) -> MTP:
    calculator = MTP(potential, species[: potential.species_count] if isinstance(potential, MTPFile) else species)
    calculator.calculate(atoms)
    return calculator


def same(a: object, b: object, scale: float, tolerance: float = ROUNDING) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance * scale)


def scale_of(calculator: MTP) -> float:
    return float(max(1.0, np.abs(calculator.results["forces"]).max(), np.abs(calculator.results["energies"]).max()))


# ---- others ----


NAMES = sorted(p.name.removesuffix(".cfg.gz") for p in (DATA / "mlip").glob("*.cfg.gz"))


def test_there_are_results_of_mlip() -> None:
    assert len(NAMES) == 29
    assert {f"cubic-{level:02d}" for level in LEVELS} < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_equals_mlip(name: str) -> None:
    frames = read_cfg(DATA / "mlip" / f"{name}.cfg.gz", SPECIES)
    assert len(frames) == 2
    for atoms in frames:
        mlip, ours = atoms.calc.results, calculate(mlip_potential(name), atoms).results
        # MLIP prints positions and forces with 6 decimals: half a unit of either, times stiffness (some 10 eV/A^2).
        assert ours["energy"] == pytest.approx(mlip["energy"], abs=1e-4)
        np.testing.assert_allclose(ours["forces"], mlip["forces"], atol=2e-5)
        assert ("stress" in mlip) == atoms.pbc.all()
        if atoms.pbc.all():
            # 5 decimals of the virial in eV.
            np.testing.assert_allclose(ours["stress"], mlip["stress"], atol=2e-4 / atoms.get_volume())


def through_motep(potential: MTPFile, atoms: Atoms, folder: Path) -> MotepMTP:
    write_mtp(folder / "p.mtp", potential)
    data = motep_read_mtp(folder / "p.mtp")
    data.species = [atomic_numbers[s] for s in SPECIES[: potential.species_count]]
    calculator = MotepMTP(data, engine="cext")
    calculator.calculate(atoms)
    return calculator


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("n", "species"), [(1, 1), (2, 2), (5, 4), (24, 4)], ids=["1 atom", "2 atoms", "5 atoms", "24 atoms"]
)
def test_equals_motep(level: int, n: int, species: int, tmp_path: Path) -> None:
    """Random coefficients, triclinic cells; those of 1 to 5 atoms are smaller than the cutoff."""
    rng = np.random.default_rng([level, n])
    potential, atoms = random_potential(level, species, rng), random_atoms(rng, n, species)
    ours, theirs = calculate(potential, atoms), through_motep(potential, atoms, tmp_path).results
    scale = scale_of(ours)
    same(ours.results["energies"], theirs["energies"], scale)
    same(ours.results["forces"], theirs["forces"], scale)
    same(ours.results["stress"] * atoms.get_volume(), theirs["stress"] * atoms.get_volume(), n * scale)


@pytest.mark.parametrize("level", [18, 20, 22, 24, 26, 28])
def test_high_levels_equal_motep(level: int, tmp_path: Path) -> None:
    """Above level 20 there are no results of MLIP to compare with."""
    rng = np.random.default_rng(level)
    potential = level_28(4, rng) if level == 28 else random_potential(level, 4, rng)
    atoms = random_atoms(rng, 13)
    ours, theirs = calculate(potential, atoms), through_motep(potential, atoms, tmp_path).results
    scale = scale_of(ours)
    same(ours.results["energies"], theirs["energies"], scale)
    same(ours.results["forces"], theirs["forces"], scale)
    same(ours.results["stress"] * atoms.get_volume(), theirs["stress"] * atoms.get_volume(), len(atoms) * scale)


# ---- the readable twin ----


@settings(max_examples=25)
@given(st.sampled_from([2, 4, 6, 8, 10]), st.integers(1, 6), st.integers(1, 4), st.booleans(), seeds)
def test_equals_the_readable_twin(level: int, n: int, species: int, periodic: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    potential = random_potential(level, species, rng, cutoff=4.0)
    # Nearer than min_dist (1.5 A), too: there the polynomials go on.
    atoms = random_atoms(rng, n, species, periodic=periodic, apart=0.8)
    ours = calculate(potential, atoms)
    energies, forces, virial = mtp_reference.evaluate(potential, atoms, SPECIES)
    scale = max(scale_of(ours), 1e3)
    same(ours.results["energies"], energies, scale)
    same(ours.results["forces"], forces, scale)
    stress = voigt_6_to_full_3x3_stress(ours.results["stress"]) * atoms.get_volume()
    same(stress, 0.5 * (virial + virial.T), scale)


def test_isolated_atoms_and_the_cutoff() -> None:
    potential = random_potential(8, 2, np.random.default_rng(3))
    alone = calculate(potential, Atoms("Li")).results
    assert alone["energy"] == potential.species_coeffs[0]
    assert not alone["forces"].any()
    cutoff = potential.max_dist
    for distance in (cutoff, cutoff + 1e-9, 2 * cutoff):
        apart = calculate(potential, Atoms("LiP", [[0, 0, 0], [0, 0, distance]])).results
        assert apart["energy"] == potential.species_coeffs.sum()
        assert not apart["forces"].any()
    # f ~ (r_c - r)^2: energy and force go to zero together.
    near = calculate(potential, Atoms("LiP", [[0, 0, 0], [0, 0, cutoff - 1e-7]])).results
    assert near["energy"] == pytest.approx(potential.species_coeffs.sum(), abs=1e-12)
    assert 0 < np.abs(near["forces"]).max() < 1e-5


# ---- symmetries ----


@cache
def study() -> MTP:
    potential = find_potential("LiPSCl-study")
    return MTP(potential.path, potential.species)


def results(atoms: Atoms) -> dict[str, np.ndarray]:
    study().calculate(atoms)
    return dict(study().results)


@given(seeds, st.integers(1, 20))
def test_invariances(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_atoms(rng, n, apart=1.8)
    base = results(atoms)
    scale = float(max(1.0, np.abs(base["forces"]).max(), np.abs(base["energies"]).max()))
    same(base["forces"].sum(axis=0), np.zeros(3), n * scale)

    moved = atoms.copy()
    moved.positions += rng.normal(scale=20.0, size=3)
    if rng.random() < 0.5:
        moved.wrap()
    same(results(moved)["energies"], base["energies"], scale)
    same(results(moved)["forces"], base["forces"], scale, 1e-10)  # 20 A away: 1e-14 of a coordinate times stiffness

    q = rotation(rng)
    turned = Atoms(atoms.numbers, atoms.positions @ q.T, cell=atoms.cell.array @ q.T, pbc=True)
    same(results(turned)["energies"], base["energies"], scale)
    same(results(turned)["forces"], base["forces"] @ q.T, scale, 1e-10)
    tensor = voigt_6_to_full_3x3_stress(base["stress"])
    same(voigt_6_to_full_3x3_stress(results(turned)["stress"]), q @ tensor @ q.T, scale, 1e-10)

    order = rng.permutation(n)
    same(results(atoms[order])["forces"], base["forces"][order], scale, 1e-10)

    repeats = tuple(int(k) for k in rng.integers(1, 3, 3))
    big = results(atoms.repeat(repeats))
    same(big["energy"], base["energy"] * np.prod(repeats), 8 * n * scale)
    same(big["stress"], base["stress"], scale, 1e-10)


@given(seeds)
def test_forces_and_stress_are_derivatives_of_the_energy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_atoms(rng, 6, apart=1.8)
    base = results(atoms)
    h = 1e-5
    direction = rng.normal(size=(6, 3))

    def energy(shift: float, strain: np.ndarray) -> float:
        changed = atoms.copy()
        changed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        changed.positions += shift * direction
        return float(results(changed)["energy"])

    # Difference quotients: rounding 1e-13 eV / h = 1e-8; h^2 / 6 times the third derivative = 1e-7; and, because the
    # energy goes to zero at the cutoff as (r_c - r)^2, h times the jump of its second derivative (some eV/A^2) where a
    # pair crosses it: 5e-5.
    zero = np.zeros((3, 3))
    along = (energy(h, zero) - energy(-h, zero)) / (2 * h)
    scale = float(np.abs(base["forces"]).max() + 1)
    assert -(base["forces"] * direction).sum() == pytest.approx(along, abs=1e-5 * scale)
    tensor = voigt_6_to_full_3x3_stress(base["stress"]) * atoms.get_volume()
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = zero.copy()
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        numeric = (energy(0.0, h * strain) - energy(0.0, -h * strain)) / (2 * h)
        # A strain moves a pair at the cutoff by 6 A times as much.
        assert tensor[a, b] == pytest.approx(numeric, abs=6e-5 * scale)


# ---- every instruction set ----

_SCRIPT = """
import json, sys
import numpy as np
from strategies import SPECIES, own_potential, random_atoms, random_potential
from argyase.potentials.mtp import MTP
out = []
for make in (random_potential, own_potential):
  for level in (2, 8, 10, 12, 14, 16):
    rng = np.random.default_rng(level)
    potential, atoms = make(level, 4, rng), random_atoms(rng, 11)
    calculator = MTP(potential, SPECIES)
    calculator.calculate(atoms)
    r = calculator.results
    out.append([r["energies"].tolist(), r["forces"].ravel().tolist(), r["stress"].tolist()])
print(json.dumps([calculator.kernel.isa, out]))
"""


def _in_process_with(isa: str) -> tuple[str, list[list[list[float]]]]:
    environment = {**os.environ, "ARGYASE_MTP_ISA": isa, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _SCRIPT]
    # Not from the source tree: there the package has no compiled parts.
    done = subprocess.run(command, env=environment, cwd="/", check=True, capture_output=True, text=True)
    name, values = json.loads(done.stdout)
    return name, values


@pytest.mark.parametrize("isa", ["avx512", "avx2", "generic"])
def test_instruction_sets_agree(isa: str) -> None:
    _, plain = _in_process_with("baseline")
    name, values = _in_process_with(isa)
    flags = Path("/proc/cpuinfo").read_text()
    if isa != "generic" and ("avx512dq" if isa == "avx512" else "fma") in flags.split():
        assert name == isa
    for ours, theirs in zip(values, plain, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, max(1.0, float(np.abs(theirs[1]).max())))


def test_threads_and_mixed_precision() -> None:
    rng = np.random.default_rng(7)
    atoms = random_atoms(rng, 220, apart=1.8)
    base = results(atoms)
    card = find_potential("LiPSCl-study")
    scale = float(np.abs(base["forces"]).max())
    threaded = MTP(card.path, card.species, threads=3)
    threaded.calculate(atoms)
    same(threaded.results["forces"], base["forces"], scale)
    mixed = MTP(card.path, card.species, precision="mixed")
    mixed.calculate(atoms)
    error = np.sqrt(((mixed.results["forces"] - base["forces"]) ** 2).mean())
    assert 0 < error < 3e-6 * np.sqrt((base["forces"] ** 2).mean())
    assert np.abs(mixed.results["forces"].sum(axis=0)).max() < 1e-12 * scale


@given(seeds, st.integers(1, 60), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_neighbours_are_those_of_matscipy(seed: int, n: int, periodic: tuple[bool, bool, bool]) -> None:
    """A pair potential that counts: every neighbour within the cutoff once, in cells of any shape and filling."""
    rng = np.random.default_rng(seed)
    cell = rng.uniform(2.0, 20.0) * (np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3)))
    for k in range(3):
        if not periodic[k] and rng.random() < 0.5:
            cell[k] = 0.0
    positions = rng.normal(scale=12.0, size=(n, 3))
    atoms = Atoms(f"Li{n}", positions, cell=cell, pbc=periodic)
    template = random_potential(2, 1, rng)
    # Level 2 is sum_j f_0(r_ij): with f_0 = (r_c - r)^2 the energy of an atom is a sum over its neighbours.
    template.radial_coeffs[:] = 0.0
    template.radial_coeffs[0, 0, 0, 0] = 1.0
    template.species_coeffs[:] = 0.0
    template.moment_coeffs[:] = 100.0  # scaling is 0.01
    i, d = neighbour_list("id", positions=positions, cell=complete_cell(cell), pbc=periodic, cutoff=template.max_dist)
    expected = np.bincount(i, weights=(template.max_dist - d) ** 2, minlength=n)
    ours = calculate(template, atoms).results["energies"]
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)


# ---- wrong use ----


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_the_kept_copy_follows_the_atoms(seed: int) -> None:
    # ASE asks for new results when the atoms differ from the calculator's copy, which is brought up to date in place.
    rng = np.random.default_rng(seed)
    potential = random_potential(4, 4, rng)
    atoms = random_atoms(rng, 5)
    calculator = MTP(potential, SPECIES)
    atoms.calc = calculator
    changes = {
        "positions": lambda: atoms.rattle(0.1, rng=rng),
        "cell": lambda: atoms.set_cell(atoms.cell.array * 1.02, scale_atoms=True),
        "pbc": lambda: atoms.set_pbc(rng.random(3) < 0.5),
        "numbers": lambda: atoms.set_chemical_symbols(rng.choice(SPECIES, len(atoms))),
        "charges": lambda: atoms.set_initial_charges(rng.normal(size=len(atoms))),
        "momenta": lambda: atoms.set_momenta(rng.normal(size=(len(atoms), 3))),
        "fewer": lambda: atoms.pop() if len(atoms) > 2 else None,
    }
    for name in rng.choice(sorted(changes), 12):
        changes[str(name)]()
        fresh = MTP(potential, SPECIES)
        fresh.calculate(atoms)
        np.testing.assert_array_equal(atoms.get_forces(), fresh.results["forces"])
        assert atoms.get_potential_energy() == fresh.results["energy"]
        assert not calculator.calculation_required(atoms, ["energy"])
        calculator.calculate(atoms)
        assert calculator.atoms == atoms
        assert calculator.atoms is not atoms
        for key, values in atoms.arrays.items():
            np.testing.assert_array_equal(calculator.atoms.arrays[key], values)


def test_wrong_species() -> None:
    potential = random_potential(2, 2, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="has 2 species"):
        MTP(potential, ["Li"])
    with pytest.raises(ConfigError, match="name each once"):
        MTP(potential, ["Li", "Li"])
    with pytest.raises(ConfigError, match="threads = 0"):
        MTP(potential, ["Li", "P"], threads=0)
    with pytest.raises(CalculatorError, match="'Br'"):
        MTP(potential, ["Li", "P"]).calculate(Atoms("LiBr", [[0, 0, 0], [0, 0, 2]]))


def test_missing_file() -> None:
    with pytest.raises(PotentialFileError, match=r"none\.mtp: cannot be read: No such file"):
        MTP("none.mtp", SPECIES)
    with pytest.raises(PotentialFileError, match=r"not a shipped potential \(LiPSCl-.*, LiPSCl-study\)"):
        find_potential("LiPSCl")
