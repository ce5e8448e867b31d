"""The reader and writer of MLIP's .cfg files: round trips, motep, the variants of the format, broken files."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st
from motep.io.mlip.cfg import read_cfg as motep_read_cfg
from strategies import DATA, SPECIES, random_atoms, seeds

from argyase.errors import ConfigError, TrajectoryError
from argyase.potentials.cfg_file import iread_cfg, parse_cfg, read_cfg, write_cfg
from argyase.potentials.mtp import MTP

NAMES = sorted(p.name for p in (DATA / "mlip").glob("*.cfg.gz"))

TEXT = """\
BEGIN_CFG
 Size
    2
 Supercell
         4.0      0.0      0.0
         1.0      5.0      0.0
         0.0      0.5      6.0
 AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz       nbh_grades
             1    0       0.000000      0.000000      0.000000     0.5   -0.25    0.125           1.5
             2    3       1.000000      2.000000      3.000000    -0.5    0.25   -0.125           0.5
 Energy
    -7.25
 PlusStress:  xx          yy          zz          yz          xz          xy
     1.0     2.0     3.0     4.0     5.0     6.0
 Feature   EFS_by\tVASP
END_CFG

"""


def parse(text: str, species: object = SPECIES) -> list[Atoms]:
    return list(parse_cfg(text.splitlines(keepends=True), "f.cfg", species))  # type: ignore[arg-type]


def same(a: Atoms, b: Atoms) -> None:
    """To the last bit, signs of zeros too."""
    assert a.get_chemical_symbols() == b.get_chemical_symbols()
    assert a.pbc.tolist() == b.pbc.tolist()
    assert a.positions.tobytes() == b.positions.tobytes()
    assert a.cell.array.tobytes() == b.cell.array.tobytes()
    assert a.info == b.info
    extra = set(a.arrays) - {"numbers", "positions"}
    assert extra == set(b.arrays) - {"numbers", "positions"}
    for name in extra:
        assert a.arrays[name].tobytes() == b.arrays[name].tobytes()
    left, right = (getattr(x.calc, "results", {}) for x in (a, b))
    assert set(left) == set(right)
    for name in left:
        assert np.asarray(left[name], float).tobytes() == np.asarray(right[name], float).tobytes(), name


# ---- what the numbers mean ----


def test_a_frame() -> None:
    (atoms,) = parse(TEXT)
    assert atoms.get_chemical_symbols() == ["Li", "Cl"]
    assert atoms.pbc.all()
    np.testing.assert_array_equal(atoms.cell.array, [[4, 0, 0], [1, 5, 0], [0, 0.5, 6]])
    np.testing.assert_array_equal(atoms.positions[1], [1, 2, 3])
    assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True) == -7.25
    np.testing.assert_array_equal(atoms.get_forces(), [[0.5, -0.25, 0.125], [-0.5, 0.25, -0.125]])
    # ASE: xx yy zz yz xz xy of dE/dstrain / V; MLIP: -dE/dstrain.
    np.testing.assert_array_equal(atoms.get_stress(), -np.array([1, 2, 3, 4, 5, 6]) / atoms.get_volume())
    assert atoms.get_volume() == pytest.approx(120, rel=1e-15)
    assert atoms.get_array("nbh_grades").tolist() == [1.5, 0.5]
    assert atoms.info == {"EFS_by": "VASP"}


def test_columns_and_components_in_any_order() -> None:
    (plain,) = parse(TEXT)
    text = (
        TEXT.replace("id type ", "type id ").replace("        1    0 ", "        0    1 ").replace("2    3 ", "3    2 ")
    )
    text = text.replace("xx          yy          zz          yz          xz          xy", "xy xz yz zz yy xx")
    (atoms,) = parse(text.replace("1.0     2.0     3.0     4.0     5.0     6.0", "6 5 4 3 2 1"))
    same(atoms, plain)


def test_fractional_coordinates() -> None:
    text = TEXT.replace("cartes_", "direct_").replace("1.000000      2.000000      3.000000", "0.5 0.25 -0.125")
    (atoms,) = parse(text)
    np.testing.assert_allclose(atoms.positions[1], [2.25, 1.1875, -0.75], rtol=1e-15)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ("", [False] * 3),
        (" Supercell\n 4 0 0\n", [True, False, False]),
        (" SuperCell\n 4 0 0\n 1 5 0\n", [True, True, False]),
        (" Supercell 4 0 0 1 5 0\n", [True, True, False]),
        (" Supercell\n 0 0 0\n 0 0 0\n 0 0 6\n", [False, False, True]),
    ],
)
def test_cells_of_molecules_wires_and_slabs(cell: str, pbc: list[bool]) -> None:
    whole = TEXT[TEXT.index(" Supercell") : TEXT.index(" AtomData")]
    (atoms,) = parse(TEXT.replace(whole, cell))
    assert atoms.pbc.tolist() == pbc
    assert atoms.cell.array.any(axis=1).tolist() == pbc
    assert "stress" not in atoms.calc.results
    assert atoms.calc.results["virial"].tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(TrajectoryError, match="fractional coordinates"):
        parse(TEXT.replace(whole, cell).replace("cartes_", "direct_"))


def test_what_a_frame_may_lack() -> None:
    (atoms,) = parse("BEGIN_CFG\nSize 1\nAtomic_data: cartes_x cartes_z cartes_y\n 1 3 2\nEND_CFG\n")
    assert (atoms.get_chemical_symbols(), atoms.positions.tolist(), atoms.calc) == (["Li"], [[1, 2, 3]], None)
    assert parse("\n\n") == []


def test_features() -> None:
    text = TEXT.replace(
        "EFS_by\tVASP", "EFS_by\tVASP\r\n Feature   two\\_words\ta\n Feature   two\\_words\t  b\n Feature   x\t"
    )
    (atoms,) = parse(text.replace("END_CFG", "Features: p q\n 1.5 r\nEND_CFG"))
    assert atoms.info == {"EFS_by": "VASP", "two words": "a\n  b", "x": "", "p": "1.5", "q": "r"}


def test_types_by_mapping() -> None:
    """MLIP-3 takes atomic numbers, or anything, for types."""
    (atoms,) = parse(TEXT.replace("2    3  ", "2   17  ").replace("1    0  ", "1    3  "), {17: "Cl", 3: "Li"})
    assert atoms.get_chemical_symbols() == ["Li", "Cl"]


# ---- others ----


@pytest.mark.parametrize("name", NAMES)
def test_motep_reads_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "f.cfg"
    path.write_bytes(gzip.decompress((DATA / "mlip" / name).read_bytes()))
    ours = read_cfg(path, SPECIES)
    for a, b in zip(ours, motep_read_cfg(path, index=":", species=list(SPECIES)), strict=True):
        same(
            Atoms(a.symbols, a.positions, cell=a.cell, pbc=a.pbc), Atoms(b.symbols, b.positions, cell=b.cell, pbc=b.pbc)
        )
        theirs = b.calc.results
        assert {"energy", "free_energy", "forces"} <= set(a.calc.results)
        for key in set(a.calc.results) - {"virial"}:
            # motep divides doubles, we divide decimals: one rounding.
            np.testing.assert_allclose(a.calc.results[key], theirs[key], rtol=3e-16, err_msg=key)
        assert ("stress" in a.calc.results) == ("stress" in theirs)
        if "nbh_grades" in theirs:
            np.testing.assert_array_equal(a.get_array("nbh_grades"), theirs["nbh_grades"])
            assert float(a.info["MV_grade"]) == theirs["MV_grade"]  # motep counts it among the results
        assert set(a.info) - {"MV_grade"} == set(b.info)
    # And what we write.
    write_cfg(path, ours, SPECIES)
    for a, b in zip(ours, motep_read_cfg(path, index=":", species=list(SPECIES)), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.get_forces(), b.get_forces())
        assert a.get_potential_energy() == b.get_potential_energy()
        if a.pbc.all():
            np.testing.assert_allclose(a.get_stress(), b.get_stress(), rtol=3e-16)


@pytest.mark.parametrize("name", NAMES)
def test_mlips_files_survive(name: str, tmp_path: Path) -> None:
    frames = read_cfg(DATA / "mlip" / name, SPECIES)
    write_cfg(tmp_path / "f.cfg.gz", frames, SPECIES)
    for a, b in zip(frames, iread_cfg(tmp_path / "f.cfg.gz", SPECIES), strict=True):
        same(a, b)


# ---- round trips ----

numbers = st.floats(-1e100, 1e100)
names = st.text(st.characters(exclude_characters="\\\x0b\x0c", exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def frames(draw: st.DrawFn) -> Atoms:
    n = draw(st.integers(1, 4))
    atoms = random_atoms(np.random.default_rng(draw(seeds)), n)
    atoms.positions[:] = np.reshape(draw(st.lists(numbers, min_size=3 * n, max_size=3 * n)), (n, 3))
    # A direction that is not periodic has no cell vector in MLIP.
    atoms.pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    atoms.set_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    atoms.info = draw(
        st.dictionaries(names, st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
    )

    def some(shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        return np.reshape(draw(st.lists(numbers, min_size=size, max_size=size)), shape)

    results: dict[str, object] = {}
    if draw(st.booleans()):
        results["energy"] = results["free_energy"] = draw(numbers)
    if draw(st.booleans()):
        results["forces"] = some((n, 3))
    if draw(st.booleans()):
        results["energies"] = some((n,))
    if draw(st.booleans()):
        results["stress" if atoms.pbc.all() else "virial"] = some((6,))
    for name in draw(st.sets(st.sampled_from(["nbh_grades", "charge", "magmom_x", "en_der_mz"]))):
        atoms.set_array(name, some((n,)))
    if results:
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update(results)
    return atoms


@given(st.lists(frames(), max_size=3))
def test_every_number_survives(written: list[Atoms]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_cfg(Path(folder) / "f.cfg", written, SPECIES)
        read = read_cfg(Path(folder) / "f.cfg", SPECIES)
    for a, b in zip(written, read, strict=True):
        same(a, b)


def test_results_of_a_calculator(tmp_path: Path) -> None:
    """Frames straight from MD or a relaxation; a stress survives its way through the virial."""
    from argyase.potentials.model_card import find_potential

    potential = find_potential("LiPSCl-study")
    written = random_atoms(np.random.default_rng(3), 8)
    written.calc = MTP(potential.path, potential.species)
    written.get_potential_energy()
    written.info["step"] = 300
    write_cfg(tmp_path / "f.cfg", written, potential.species)
    (read,) = read_cfg(tmp_path / "f.cfg", potential.species)
    for name in ("energy", "free_energy", "energies", "forces", "stress"):
        np.testing.assert_array_equal(read.calc.results[name], written.calc.results[name])
    assert read.info == {"step": "300"}
    # Of a slab there is no volume in the file: the virial is kept, to a rounding.
    stress, volume = written.calc.results["stress"], written.get_volume()
    slab = Atoms(written.symbols, written.positions, cell=written.cell, pbc=(True, True, False))
    slab.calc = SinglePointCalculator(slab, stress=stress)
    write_cfg(tmp_path / "f.cfg", slab, potential.species)
    (read,) = read_cfg(tmp_path / "f.cfg", potential.species)
    np.testing.assert_allclose(read.calc.results["virial"], -stress * volume, rtol=3e-16)
    assert not read.cell.array[2].any()


# ---- wrong use, broken files ----


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("BEGIN_CFG", "BEGIN", "line 1: expected BEGIN_CFG, got 'BEGIN'; the older text and the binary format"),
        ("    2\n Super", "    0\n Super", "line 3: Size = 0: a frame needs one atom or more"),
        ("    2\n Super", "    2 3\n Super", "line 3: Size: expected 1 values, got 2"),
        ("    2\n Super", "    x\n Super", "line 3: Size: expected a whole number, got 'x'"),
        ("    2\n Super", "    3\n Super", "line 11: atom 3 of 3 (Size): expected 9 columns, got 'Energy'"),
        ("    2\n Super", "    1\n Super", "line 10: unknown field '2'"),
        (" Size\n    2\n", "", "line 6: AtomData comes before Size"),
        ("id type", "id kind", "line 8: AtomData: unknown column 'kind'; known are cartes_x, "),
        ("id type", "id id", "AtomData: a column occurs twice"),
        ("cartes_z", "direct_z", "needs all of cartes_x, cartes_y, cartes_z, or none"),
        ("cartes_x      cartes_y      cartes_z", "charge magmom_x magmom_y", "needs either cartes_x"),
        ("fz  ", "ghost", "line 8: AtomData: needs all of fx, fy, fz, or none"),
        ("nbh_grades", "ghost", "line 9: ghost atoms"),
        ("         1    0  ", "         7    0  ", "line 9: id: expected 1 (ids count up from 1), got 7"),
        ("2    3  ", "2    4  ", "line 10: type 4: not among species = {0: 'Li', 1: 'P', 2: 'S', 3: 'Cl'}"),
        ("3.000000", "nan", "line 10: cartes_z: expected a finite number, got 'nan'"),
        ("3.000000", "3_0", "cartes_z: expected a finite number, got '3_0'"),
        ("-7.25", "-7.25e999", "line 12: Energy: expected a finite number, got '-7.25e999'"),
        (" Energy\n    -7.25\n", " Energy\n    -7.25\n" * 2, "line 13: Energy occurs twice in a frame"),
        ("xz          xy", "xz          xz", "line 13: PlusStress: expected the six components"),
        ("5.0     6.0", "5.0", "PlusStress:: expected"),
        ("PlusStress", "Stress", "line 13: Stress: an old field of MLIP, of other sign or unit"),
        ("4.0      0.0      0.0", "4.0      0.0", "Supercell: expected one to three vectors of three numbers, got 8"),
        ("Energy", "Enthalpy", "line 11: unknown field 'Enthalpy'"),
        ("Feature   EFS_by\tVASP", "Feature", "line 15: Feature: expected a name and a value"),
        ("END_CFG\n", "", "the file ends inside a frame (no END_CFG): it is cut"),
        ("END_CFG\n", "END_CFG\nEND_CFG\n", "line 17: expected BEGIN_CFG, got 'END_CFG'"),
    ],
)
def test_broken_files_are_named_by_line_and_reason(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(TrajectoryError) as caught:
        parse(TEXT.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(caught.value).startswith("f.cfg, line ")


def test_a_frame_without_atoms() -> None:
    with pytest.raises(TrajectoryError, match="line 4: the frame has no AtomData"):
        parse("BEGIN_CFG\n Size\n 3\nEND_CFG\n")
    with pytest.raises(TrajectoryError, match=r"no types, which means type 0: species = \{1: 'Li'\}"):
        parse("BEGIN_CFG\nSize 1\nAtomData: cartes_x cartes_y cartes_z\n 1 2 3\nEND_CFG\n", {1: "Li"})


@given(
    st.lists(
        st.tuples(st.integers(0, len(TEXT) - 1), st.sampled_from("0123456789-+.eE =#\n\tx:nainf_")),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, len(TEXT)),
)
def test_damaged_files_are_frames_or_refused(changes: list[tuple[int, str]], length: int) -> None:
    text = list(TEXT)
    for place, character in changes:
        text[place] = character
    try:
        found = parse("".join(text)[:length])
    except TrajectoryError:
        return
    for atoms in found:
        assert len(atoms) in (1, 2)
        assert np.isfinite(atoms.positions).all()


def test_missing_and_cut_files(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"none\.cfg: cannot be read: No such file"):
        read_cfg("none.cfg", SPECIES)
    cut = tmp_path / "cut.cfg.gz"
    cut.write_bytes((DATA / "mlip" / NAMES[0]).read_bytes()[:-40])
    with pytest.raises(TrajectoryError, match=r"cut\.cfg\.gz: cannot be read: Compressed file ended"):
        read_cfg(cut, SPECIES)


def test_wrong_species(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'Xx' is not a chemical symbol"):
        parse(TEXT, ["Xx"])
    with pytest.raises(ConfigError, match="name each once"):
        parse(TEXT, ["Li", "Li"])
    with pytest.raises(ConfigError, match=r"frame 1: the atoms \['Br'\] are not among"):
        write_cfg(tmp_path / "f.cfg", [Atoms("Li"), Atoms("Br")], SPECIES)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def refused(change: str, value: object) -> str:
        (atoms,) = parse(TEXT)
        if change == "info":
            atoms.info = value
        else:
            getattr(atoms, change).flat[0] = value
        with pytest.raises(ConfigError) as caught:
            write_cfg(tmp_path / "f.cfg", atoms, SPECIES)
        return str(caught.value)

    assert "info['k'] = [1]: a .cfg file holds text and numbers only" in refused("info", {"k": [1]})
    assert "info['k'] = 'a\\r': a .cfg file holds text" in refused("info", {"k": "a\r"})
    for name in ("", "a\\_b", "a\x0bb"):
        assert "cannot hold this name" in refused("info", {name: "1"})
    assert "the results of other positions" in refused("positions", 0.1)
    nowhere = Atoms("Li", [[0, 0, np.nan]])
    with pytest.raises(ConfigError, match="a number is not finite"):
        write_cfg(tmp_path / "f.cfg", nowhere, SPECIES)
    with pytest.raises(ConfigError, match="periodic along a cell vector of length 0"):
        write_cfg(tmp_path / "f.cfg", Atoms("Li", pbc=True), SPECIES)
    with pytest.raises(ConfigError, match="has no atoms"):
        write_cfg(tmp_path / "f.cfg", Atoms(), SPECIES)
