"""Argyrodite cells: exact occupations, the published sites, no Li doublet filled twice, errors that help."""

import math

import numpy as np
import pytest
from ase.geometry import get_distances
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from argyase.errors import StructureError
from argyase.structures import sites
from argyase.structures.argyrodite import argyrodite, formula, occupations, possible_inversions
from argyase.structures.entropy import configurational_entropy, configurational_entropy_of

supercells = st.tuples(*[st.integers(1, 2)] * 3)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, object]:
    """Compositions and inversions that the supercell can hold."""
    shape = draw(supercells)
    n = 4 * math.prod(shape)
    extra = draw(st.integers(0, n))
    on_4d = draw(st.integers(extra, n))
    return {
        "x": extra / n, "inversion": on_4d / n, "supercell": shape, "seed": draw(st.integers(0, 10**6)),
        "li_added": draw(st.booleans()), "halide": draw(st.sampled_from(["Cl", "Br", "I"])),
        "decoration": draw(st.sampled_from(["random", "quasirandom"])),
    }  # fmt: skip


@settings(max_examples=30)
@given(requests())
def test_occupations_are_exact(request: dict[str, object]) -> None:
    atoms = argyrodite(**request)  # type: ignore[arg-type]
    x, y, n = request["x"], request["inversion"], 4 * math.prod(request["supercell"])  # type: ignore[arg-type]
    assert isinstance(x, float)
    assert isinstance(y, float)
    symbols, letters = np.array(atoms.get_chemical_symbols()), atoms.arrays["site"]
    halide = request["halide"]
    assert {s: int((letters == s).sum()) for s in ("4a", "4b", "4d", "16e")} == {
        "4a": n,
        "4b": n,
        "4d": n,
        "16e": 4 * n,
    }
    assert (symbols[letters == "4d"] == halide).sum() == round(y * n)
    assert (symbols[letters == "4a"] == halide).sum() == round((1 + x - y) * n)
    assert set(symbols[letters == "4b"]) == {"P"}
    assert set(symbols[letters == "16e"]) == {"S"}
    assert (symbols == "Li").sum() == 6 * n - (0 if request["li_added"] else round(x * n))
    assert set(letters[symbols == "Li"]) == {"48h"}
    # Per formula unit, as the formula says; neutral unless Li was added.
    charge = {"Li": 1, "P": 5, "S": -2, halide: -1}
    assert sum(charge[s] for s in symbols) == (round(x * n) if request["li_added"] else 0)


@settings(max_examples=30)
@given(requests())
def test_lithium_sits_apart(request: dict[str, object]) -> None:
    """Never both sites of a doublet (1.9 A), and no closer pair of atoms than P-S (2.0 A)."""
    atoms = argyrodite(**request)  # type: ignore[arg-type]
    _, distances = get_distances(atoms.positions, cell=atoms.cell, pbc=True)
    np.fill_diagonal(distances, np.inf)
    lithium = atoms.symbols == "Li"
    assert distances[np.ix_(lithium, lithium)].min() > 2.0
    assert distances.min() > 1.9


@settings(max_examples=20)
@given(requests())
def test_the_same_seed_gives_the_same_atoms(request: dict[str, object]) -> None:
    a, b = argyrodite(**request), argyrodite(**request)  # type: ignore[arg-type]
    assert a.get_chemical_symbols() == b.get_chemical_symbols()
    np.testing.assert_array_equal(a.positions, b.positions)
    assert a.get_chemical_symbols() == sorted(a.get_chemical_symbols(), key=["Li", "P", "S", request["halide"]].index)


def test_seeds_differ() -> None:
    a, b = (argyrodite(0.0, 0.5, (2, 2, 2), seed=s) for s in (1, 2))
    assert a.get_chemical_symbols() != b.get_chemical_symbols() or not np.allclose(a.positions, b.positions)


def test_cages() -> None:
    """Each Li is labelled with the nearest 4d site; a cage has its number on the anion in its centre."""
    atoms = argyrodite(0.0, 0.5, (2, 1, 1), seed=3)
    centres = atoms[atoms.arrays["site"] == "4d"]
    lithium = atoms[atoms.symbols == "Li"]
    _, distances = get_distances(lithium.positions, centres.positions, cell=atoms.cell, pbc=True)
    np.testing.assert_array_equal(centres.arrays["cage"][distances.argmin(axis=1)], lithium.arrays["cage"])
    assert sorted(centres.arrays["cage"]) == list(range(8))
    others = ~np.isin(atoms.arrays["site"], ["4d", "48h"])
    assert (atoms.arrays["cage"][others] == -1).all()


def test_symmetry_by_spglib() -> None:
    """The framework without Li has the published space group F-43m, number 216 (spglib knows nothing of us)."""
    import spglib  # comes with pymatgen

    atoms = argyrodite(0.0, 0.0)
    rest = atoms[~(atoms.symbols == "Li")]
    data = spglib.get_symmetry_dataset((rest.cell.array, rest.get_scaled_positions(), rest.numbers), symprec=1e-4)
    assert data.number == 216


def test_published_distances() -> None:
    """P-S 2.05 A, and 48h doublets 1.9 A apart: Deiseroth et al. 2008, Kraft et al. 2017 (to 0.05 A)."""
    atoms = argyrodite(0.0, 0.0)
    phosphorus, sulphur = atoms[atoms.symbols == "P"], atoms[atoms.arrays["site"] == "16e"]
    _, distances = get_distances(phosphorus.positions, sulphur.positions, cell=atoms.cell, pbc=True)
    assert np.sort(distances, axis=1)[:, :4] == pytest.approx(2.05, abs=0.05)
    h = sites.wyckoff("48h")[sites.doublets()]
    apart = 9.859 * np.linalg.norm(sites.minimum_image(h[:, 0] - h[:, 1]), axis=1)
    assert apart == pytest.approx(1.9, abs=0.1)
    assert len(h) == 24


def test_quasirandom_is_closer_to_the_random_alloy() -> None:
    from argyase.structures.ordering import pair_deviation

    def deviation(decoration: str, seed: int) -> float:
        atoms = argyrodite(0.0, 0.5, (2, 2, 2), seed, decoration=decoration)  # type: ignore[arg-type]
        parts = [atoms[atoms.arrays["site"] == letter] for letter in ("4a", "4d")]
        where = [p.positions / 9.859 for p in parts]
        return pair_deviation(*where, *(p.symbols == "Cl" for p in parts), np.full(3, 2.0))

    for seed in range(3):
        assert deviation("quasirandom", seed) < 0.2 * deviation("random", seed)


def test_lowest_ewald_is_the_lowest_of_pymatgen() -> None:
    """No random decoration has a lower energy by pymatgen's own Ewald sum."""
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.io.ase import AseAtomsAdaptor

    def energy(**request: object) -> float:
        atoms = argyrodite(0.0, 0.5, **request)  # type: ignore[arg-type]
        structure = AseAtomsAdaptor.get_structure(atoms)
        structure.add_oxidation_state_by_element({"Li": 1, "P": 5, "S": -2, "Cl": -1})
        return float(EwaldSummation(structure).total_energy)

    lowest = energy(decoration="ewald")
    assert lowest == energy(decoration="ewald", seed=99)
    assert all(lowest < energy(seed=seed) for seed in range(10))


# ---- entropy ----


@given(st.floats(0, 1), st.floats(0, 1))
def test_entropy(x: float, y: float) -> None:
    assume(x <= y)
    value = float(configurational_entropy(x, y))
    assert 0 <= value <= 2 * math.log(2) + 1e-12
    # 4a and 4d are alike: exchanging them, y -> 1 + x - y, changes nothing.
    assert value == pytest.approx(float(configurational_entropy(x, min(max(1 + x - y, x), 1.0))), abs=1e-9)


def test_entropy_by_hand() -> None:
    assert float(configurational_entropy(0.0, 0.5)) == pytest.approx(2 * math.log(2))
    half, quarter = 0.5 * math.log(0.5), 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    assert float(configurational_entropy(0.5, 0.5)) == pytest.approx(-2 * half)  # 4a full, 4d half, y - x = 0
    assert float(configurational_entropy(0.0, 0.25)) == pytest.approx(-2 * quarter)
    np.testing.assert_array_equal(configurational_entropy(0.0, [0.0, 1.0]), [0.0, 0.0])
    with pytest.raises(StructureError, match="need 0 <= x <= inversion <= 1"):
        configurational_entropy(0.5, 0.25)


@settings(max_examples=20)
@given(requests())
def test_entropy_of_atoms_is_eq_3(request: dict[str, object]) -> None:
    atoms = argyrodite(**request)  # type: ignore[arg-type]
    expected = configurational_entropy(request["x"], request["inversion"])  # type: ignore[arg-type]
    assert configurational_entropy_of(atoms) == pytest.approx(float(expected), abs=1e-9)


# ---- wrong requests ----


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            {"inversion": 0.3},
            r"0\.3 is 1\.2 of the 4 sites of a 1x1x1 .* nearest possible values are 0\.25 and 0\.5; a .* can",
        ),
        ({"x": 0.1, "inversion": 0.5}, r"x = 0\.1 is 0\.4 of the 4 sites .* nearest possible values are 0 and 0\.25"),
        ({"x": 0.5, "inversion": 0.25}, r"need x <= inversion <= 1.* the nearest possible inversion is 0\.5"),
        ({"x": 1.5, "inversion": 1.0}, "needs 0 <= x <= 1"),
        ({"inversion": math.nan}, "inversion = nan"),
        ({"supercell": (0, 1, 1)}, "three whole numbers of 1 or more"),
        ({"supercell": (2, 2)}, "three whole numbers"),
        ({"halide": "F"}, "allowed are Cl, Br, I"),
        ({"a": -9.8}, "lattice constant must be positive"),
        ({"decoration": "ordered"}, "allowed are 'random', 'quasirandom', 'ewald'"),
        ({"decoration": "ewald", "supercell": (2, 1, 1)}, "one unit cell"),
    ],
)
def test_impossible_requests(request_: dict[str, object], said: str) -> None:
    with pytest.raises(StructureError, match=said):
        argyrodite(**request_)  # type: ignore[arg-type]


@given(st.floats(0, 1), supercells)
def test_every_inversion_that_is_named_possible_is(x: float, shape: tuple[int, int, int]) -> None:
    n = 4 * math.prod(shape)
    x = round(x * n) / n
    for y in possible_inversions(x, shape):
        on_4a, on_4d, _ = occupations(x, float(y), shape)
        assert on_4a + on_4d == round((1 + x) * n)


def test_formulas() -> None:
    assert formula(0.25) == "Li5.75PS4.75Cl1.25"
    assert formula(1.0, halide="Br") == "Li5PS4Br2"
