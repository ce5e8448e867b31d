"""The repulsion of the nuclei against its formula, LAMMPS' ``pair_style zbl``, finite differences and symmetries."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from ase.stress import voigt_6_to_full_3x3_stress
from hypothesis import given, settings
from hypothesis import strategies as st
from lammps_runs import BOX_OF_FOUR, oriented, run_lammps
from lammps_runs import refused as refused_by_lammps
from scipy import constants
from strategies import SPECIES, random_atoms, random_potential, rotation, seeds

from argyase.errors import ConfigError
from argyase.potentials.lammps_plugin import create_lammps
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, write_mtp
from argyase.potentials.repulsion import Ranges, check_ranges, pair_coeffs, propose, smallest_distances
from argyase.structures.argyrodite import argyrodite

COULOMB = 14.399645
TABLE = {"Li-Li": (1.0, 1.6), "Li-S": (0.9, 2.0), "P-S": (1.3, 2.1), "S-S": (0.5, 2.4), "S-Cl": (1.5, 1.7)}
CARD = find_potential("LiPSCl-study")


def zbl(a: str, b: str, r: float) -> float:
    """The universal potential of Ziegler, Biersack and Littmark, eV, in their words."""
    z1, z2 = atomic_numbers[a], atomic_numbers[b]
    x = r / (0.46850 / (z1**0.23 + z2**0.23))
    terms = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
    return float(COULOMB * z1 * z2 / r * sum(c * np.exp(-d * x) for c, d in terms))


def phi(pair: str, r: float, table: Ranges = TABLE) -> float:
    inner, outer = table[pair]
    t = np.clip((r - inner) / (outer - inner), 0.0, 1.0)
    return zbl(*pair.split("-"), r) * float(1 - 10 * t**3 + 15 * t**4 - 6 * t**5)


def nothing(species: int = 4) -> MTPFile:
    """A potential that is zero: what is left is the repulsion."""
    p = random_potential(2, species, np.random.default_rng(0))
    return replace(
        p, radial_coeffs=0 * p.radial_coeffs, species_coeffs=0 * p.species_coeffs, moment_coeffs=0 * p.moment_coeffs
    )


BARE = MTP(nothing(), SPECIES, repulsion=TABLE)


def dimer(pair: str, r: float, calculator: MTP = BARE) -> tuple[float, float]:
    """Energy and dE/dr."""
    calculator.calculate(Atoms(pair.split("-"), [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0 + r]]))
    return float(calculator.results["energy"]), float(calculator.results["forces"][0, 2])


def test_the_constant_is_that_of_lammps_and_near_codata() -> None:
    assert pytest.approx(constants.e / (4e-10 * np.pi * constants.epsilon_0), rel=4e-8) == COULOMB


@given(st.sampled_from(sorted(TABLE)), st.floats(0.05, 3.0))
def test_a_dimer_is_the_formula(pair: str, r: float) -> None:
    energy, slope = dimer(pair, r)
    # r is the difference of two coordinates: 1e-15 A times the slope.
    assert energy == pytest.approx(phi(pair, r), rel=1e-12, abs=1e-13 * (1 + abs(slope)))
    h = 1e-5 * r
    numeric = (phi(pair, r + h) - phi(pair, r - h)) / (2 * h)
    # h^2 times the third derivative (some 100 phi / r^3, more within a narrow step), rounding over h.
    assert slope == pytest.approx(numeric, rel=1e-6, abs=1e-6 * (1 + phi(pair, r)))


@pytest.mark.parametrize("pair", sorted(TABLE))
def test_energy_force_and_curvature_are_continuous(pair: str) -> None:
    """What differs across either end goes to zero with the distance of the points: a jump would stay."""
    for edge in TABLE[pair]:
        jumps = []
        for h in (1e-3, 1e-4):
            below, at, above = (dimer(pair, edge + k * h) for k in (-1, 0, 1))
            curvature = (above[1] - at[1]) / h - (at[1] - below[1]) / h
            jumps.append(np.abs([above[0] - below[0], above[1] - below[1], curvature]))
        # Rounding of the force, 1e-14 of some 1e4 eV/A, over h.
        assert (jumps[1] <= 0.2 * jumps[0] + 1e-6).all()


def test_nothing_from_outer_on() -> None:
    for pair, (_, outer) in TABLE.items():
        assert dimer(pair, outer + 1e-12) == (0.0, 0.0)
        assert dimer(pair, outer - 1e-3)[0] > 0
    assert dimer("Li-Cl", 0.3) == (0.0, 0.0)
    # To the bit, in a crystal whose pairs are all farther apart.
    atoms = argyrodite(0.0, 0.5, a=10.0)
    plain, with_it = (MTP(CARD.path, CARD.species, repulsion=r) for r in (None, CARD.repulsion))
    for calculator in (plain, with_it):
        calculator.calculate(atoms)
    for name in ("energies", "forces", "stress"):
        np.testing.assert_array_equal(plain.results[name], with_it.results[name])


def test_it_is_added_to_the_potential() -> None:
    rng = np.random.default_rng(4)
    potential, atoms = random_potential(8, 4, rng), random_atoms(rng, 40, apart=0.8)
    plain, both, bare = MTP(potential, SPECIES), MTP(potential, SPECIES, repulsion=TABLE), BARE
    for calculator in (plain, both, bare):
        calculator.calculate(atoms)
    assert bare.results["energy"] > 1.0
    for name in ("energies", "forces", "stress"):
        total = plain.results[name] + bare.results[name]
        np.testing.assert_allclose(both.results[name], total, rtol=0, atol=1e-12 * np.abs(total).max())


@given(seeds, st.integers(2, 30))
def test_invariances(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_atoms(rng, n, apart=0.5)
    BARE.calculate(atoms)
    base = dict(BARE.results)
    scale = 1.0 + float(np.abs(base["forces"]).max())
    # Half of each pair to either atom, by the minimal images that are near enough.
    i, j = np.triu_indices(n, 1)
    symbols = atoms.get_chemical_symbols()
    if min(np.linalg.norm(atoms.cell.array, axis=1)) > 9 and n < 12:
        d = atoms.get_all_distances(mic=True)
        expected = np.zeros(n)
        for a, b in zip(i, j, strict=True):
            pair = "-".join(sorted((symbols[a], symbols[b]), key=SPECIES.index))
            if pair in TABLE:
                expected[[a, b]] += 0.5 * phi(pair, d[a, b])
        np.testing.assert_allclose(base["energies"], expected, rtol=0, atol=1e-10 * scale)
    assert (base["energies"] >= 0).all()
    np.testing.assert_allclose(base["forces"].sum(axis=0), 0.0, atol=1e-12 * n * scale)
    q, order, shift = rotation(rng), rng.permutation(n), rng.normal(size=3)
    moved = Atoms(atoms.numbers, (atoms.positions + shift) @ q.T, cell=atoms.cell.array @ q.T, pbc=True)[order]
    BARE.calculate(moved)
    np.testing.assert_allclose(BARE.results["energies"], base["energies"][order], rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(BARE.results["forces"], (base["forces"] @ q.T)[order], rtol=0, atol=1e-9 * scale)


@given(seeds)
def test_forces_and_stress_are_derivatives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_atoms(rng, 8, apart=0.6)
    calculator = MTP(random_potential(6, 4, rng), SPECIES, repulsion=TABLE)
    calculator.calculate(atoms)
    forces, stress = calculator.results["forces"], calculator.results["stress"]
    h, direction, strain = 1e-5, rng.normal(size=(8, 3)), rng.normal(size=(3, 3))
    strain += strain.T

    def energy(shift: float, stretch: float) -> float:
        changed = atoms.copy()
        changed.set_cell(atoms.cell.array @ (np.eye(3) + stretch * strain), scale_atoms=True)
        changed.positions += shift * direction
        calculator.calculate(changed)
        return float(calculator.results["energy"])

    # h^2 times a third derivative of some 1e4 eV/A^3 at 0.6 A; rounding 1e-12 eV / h; a pair that crosses the cutoff of
    # the potential 5e-5 (see test_mtp).
    scale = 1.0 + float(np.abs(forces).max())
    along = (energy(h, 0.0) - energy(-h, 0.0)) / (2 * h)
    assert -(forces * direction).sum() == pytest.approx(along, abs=3e-5 * scale)
    stretched = (energy(0.0, h) - energy(0.0, -h)) / (2 * h)
    tensor = voigt_6_to_full_3x3_stress(stress) * atoms.get_volume()
    assert (tensor * strain).sum() == pytest.approx(stretched, abs=3e-4 * scale)


def test_mixed_precision_and_threads() -> None:
    atoms = random_atoms(np.random.default_rng(2), 250, apart=0.8)
    BARE.calculate(atoms)
    base = BARE.results["forces"].copy()
    for options, tolerance in (({"threads": 3}, 1e-13), ({"precision": "mixed"}, 1e-6)):
        other = MTP(nothing(), SPECIES, repulsion=TABLE, **options)  # type: ignore[arg-type]
        other.calculate(atoms)
        np.testing.assert_allclose(other.results["forces"], base, rtol=0, atol=tolerance * np.abs(base).max())


# ---- LAMMPS ----


@settings(max_examples=15)
@given(st.sampled_from([2, 8, 10]), st.sampled_from([2, 5, 24]), seeds)
def test_lammps_equals_the_calculator(level: int, n: int, seed: int) -> None:
    """Per-atom energies and virials add up to the total, too (see `run_lammps`)."""
    rng = np.random.default_rng(seed)
    potential, atoms = random_potential(level, 4, rng), oriented(random_atoms(rng, n, apart=0.7))
    calculator = MTP(potential, SPECIES, repulsion=TABLE)
    calculator.calculate(atoms)
    ours = calculator.results
    with TemporaryDirectory() as folder:
        write_mtp(Path(folder) / "p.mtp", potential)
        theirs = run_lammps(atoms, Path(folder) / "p.mtp", coeffs=pair_coeffs(TABLE, SPECIES))
    scale = 1e-12 * max(1.0, np.abs(ours["forces"]).max(), np.abs(ours["energies"]).max())
    np.testing.assert_allclose(theirs["energy"], ours["energy"], rtol=0, atol=n * scale)
    np.testing.assert_allclose(theirs["sum_energies"], ours["energy"], rtol=0, atol=n * scale)
    np.testing.assert_allclose(theirs["forces"], ours["forces"], rtol=0, atol=4 * scale)
    virial = -ours["stress"] * atoms.get_volume()
    largest = max(1.0, np.abs(virial).max())
    for name in ("virial", "sum_virials"):
        np.testing.assert_allclose(theirs[name], virial, rtol=0, atol=10 * n * scale + 1e-12 * largest)


def test_ranges_of_types(tmp_path: Path) -> None:
    write_mtp(tmp_path / "p.mtp", nothing())
    atoms = oriented(random_atoms(np.random.default_rng(1), 24, apart=0.7))
    one = run_lammps(atoms, tmp_path / "p.mtp", coeffs=["pair_coeff 2*3 3*4 repulsion 16 15 0.9 1.9"])
    lines = [f"pair_coeff {pair} repulsion 15 16 0.9 1.9" for pair in ("2 3", "2 4", "3 3", "4 3")]
    many = run_lammps(atoms, tmp_path / "p.mtp", coeffs=lines)
    assert one["energy"] > 0.1
    np.testing.assert_array_equal(one["forces"], many["forces"])


@pytest.mark.parametrize("pair", ["Li-Li", "Li-S", "P-Cl", "Cl-Cl"])
def test_equals_zbl_of_lammps(pair: str, tmp_path: Path) -> None:
    """Below the inner distance of both: forces, and energies up to the constant that LAMMPS adds there."""
    write_mtp(tmp_path / "p.mtp", nothing())
    a, b = pair.split("-")
    z = f"{atomic_numbers[a]} {atomic_numbers[b]}"

    def curve(style: str, *coefficients: str) -> np.ndarray:
        lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
        commands = ("units metal", "boundary f f f", "region b block 0 9 0 9 0 9", "create_box 4 b", "mass * 1.0")
        for command in (*commands, f"pair_style {style}", *coefficients):
            lmp.command(command)
        types = [SPECIES.index(a) + 1, SPECIES.index(b) + 1]
        lmp.create_atoms(2, [1, 2], types, [4, 4, 4, 4, 4, 5])
        found = []
        for r in np.arange(0.3, 1.5, 0.1):
            lmp.command(f"set atom 2 z {4 + r:.17g}")
            lmp.command("run 0 post no")
            forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(2, 3)
            found.append([lmp.get_thermo("pe"), forces[1, 2]])
        lmp.close()
        return np.array(found)

    ours = curve(f'mtp "{tmp_path}/p.mtp"', "pair_coeff * *",
                 f"pair_coeff {SPECIES.index(a) + 1} {SPECIES.index(b) + 1} repulsion {z} 1.6 2.0")  # fmt: skip
    theirs = curve("zbl 1.6 2.0", *[f"pair_coeff {k + 1} {k + 1} {atomic_numbers[s]} {atomic_numbers[s]}"
                                    for k, s in enumerate(SPECIES)])  # fmt: skip
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], rtol=1e-12)
    # `norm yes` or not, two atoms: LAMMPS' units metal do not normalise.
    np.testing.assert_allclose(np.diff(ours[:, 0]), np.diff(theirs[:, 0]), rtol=1e-10)


# ---- where the numbers come from, and what they are good for ----


def test_smallest_distances_and_the_table_of_them() -> None:
    atoms = argyrodite(0.0, 0.5, a=10.0)
    found = smallest_distances([atoms, atoms.repeat((2, 1, 1))], SPECIES, 6.0)
    d = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
    symbols = np.array(atoms.get_chemical_symbols())
    for pair, distance in found.items():
        a, b = pair.split("-")
        direct = d[np.ix_(symbols == a, symbols == b)].min()
        assert distance == pytest.approx(direct, abs=1e-12) if direct < 5 else distance > 5
    table = propose(found)
    assert all(0 < found[k] - outer <= 0.0101 or outer == 3.0 for k, (_, outer) in table.items())
    assert table == check_ranges(table, SPECIES)


PAIRS = [p for p in CARD.repulsion if p != "P-P"]


def squeezes(pair: str) -> list[tuple[np.ndarray, list[Atoms]]]:
    """The pair alone, beside a third atom, and as nearest neighbours in three crystals: from outer down to 0.5 A."""
    a, b = pair.split("-")
    outer = CARD.repulsion[pair][1]
    r = np.arange(outer, 0.5, -0.02)
    rng = np.random.default_rng(1)
    found = [(r, [Atoms([a, b], [[0, 0, 0], [0, 0, v]]) for v in r])]
    for third in SPECIES:
        x = rng.normal(size=3)
        x *= 2.8 / np.linalg.norm(x)
        found.append((r, [Atoms([a, b, third], [[0, 0, -v / 2], [0, 0, v / 2], x]) for v in r]))
    for inversion in (0.0, 0.5, 1.0):
        crystal = argyrodite(0.0, inversion, seed=2, a=10.0)
        symbols = np.array(crystal.get_chemical_symbols())
        d = crystal.get_all_distances(mic=True) + 99 * np.eye(len(crystal))
        d[symbols != a], d[:, symbols != b] = 99, 99
        i, j = np.unravel_index(d.argmin(), d.shape)
        if d[i, j] < 5.0:
            v = crystal.get_distance(i, j, mic=True, vector=True)
            middle, unit = crystal.positions[i] + v / 2, v / np.linalg.norm(v)
            images = []
            for distance in r:
                image = crystal.copy()
                image.positions[i], image.positions[j] = middle - unit * distance / 2, middle + unit * distance / 2
                images.append(image)
            found.append((r, images))
    return found


def falls(calculator: MTP, images: list[Atoms]) -> bool:
    """Whether the energy falls again, by more than 0.05 eV, on the way in from its outermost minimum."""
    energies = []
    for image in images:
        calculator.calculate(image)
        energies.append(calculator.results["energy"])
    e = np.array(energies)
    turn = int(np.argmax(np.diff(e) > 0))
    return bool((np.maximum.accumulate(e[turn:]) - e[turn:]).max() > 0.05)


def test_the_shipped_table_leaves_no_wells_below_its_distances() -> None:
    """But P-P: no two P of the training data are within the cutoff, and what is not known cannot be filled."""
    plain, with_it = (MTP(CARD.path, CARD.species, repulsion=r) for r in (None, CARD.repulsion))
    curves = {pair: squeezes(pair) for pair in PAIRS}
    assert all(len(c) >= 5 for c in curves.values())
    assert [p for p in PAIRS if any(falls(plain, images) for _, images in curves[p])] != []
    assert [p for p in PAIRS if any(falls(with_it, images) for _, images in curves[p])] == []


# ---- wrong use ----


def test_wrong_tables() -> None:
    for table, said in (
        ({"Li-Br": (1, 2)}, "repulsion.Li-Br: expected a pair of"),
        ({"LiS": (1, 2)}, "expected a pair of"),
        ({"Li-S": (1, 2), "S-Li": (1, 2)}, "the pair Li-S is given twice"),
        ({"Li-S": (2, 1)}, r"expected \[inner, outer\] in A with 0 < inner < outer"),
        ({"Li-S": (0, 1)}, "expected"),
        ({"Li-S": (1,)}, "expected"),
        ({"Li-S": (1, float("nan"))}, "expected"),
        ({"Li-S": "12"}, "expected"),
        ({"Li-S": (1.0, 7.0)}, "need 0 < inner < outer <= 5"),
    ):
        with pytest.raises(ConfigError, match=said):
            MTP(nothing(), SPECIES, repulsion=table)
    with pytest.raises(ConfigError, match="need 0 < inner_fraction < 1"):
        propose({"Li-S": 2.0}, fraction=1.0)


def test_wrong_lines_of_lammps(tmp_path: Path) -> None:
    write_mtp(tmp_path / "p.mtp", nothing())
    style = f'pair_style mtp "{tmp_path}/p.mtp"'

    refused = partial(refused_by_lammps, "units metal", *BOX_OF_FOUR, style)

    good = "pair_coeff 1 2 repulsion 3 15 1.0 1.5"
    assert refused("pair_coeff * *", good) == "nothing was wrong"
    assert "'pair_coeff * *' comes first" in refused(good)
    assert "need 0 < inner < outer <= 5" in refused("pair_coeff * *", "pair_coeff 1 2 repulsion 3 15 1.5 1.0")
    assert "nuclear charge -3" in refused("pair_coeff * *", "pair_coeff 1 2 repulsion -3 15 1.0 1.5")
    assert "repulsion Z_I Z_J INNER OUTER" in refused("pair_coeff * *", "pair_coeff 1 2 repulsion 3 15 1.0")
    assert "Numeric index 7 is out of bounds" in refused("pair_coeff * *", "pair_coeff 1 7 repulsion 3 15 1 2")
    assert "Expected floating point" in refused("pair_coeff * *", "pair_coeff 1 2 repulsion 3 15 1 x")
