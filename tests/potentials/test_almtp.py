"""The active set in .almtp files, written here by the layout of MLIP-3's source.

The layout, the order of the coefficients among them, was checked against a file of MLIP-3 that is not free to copy:
its rows are the derivatives of the site energies of its frames to 2e-10.
"""

import struct
from dataclasses import replace
from pathlib import Path

import mtp_reference
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from lammps_runs import oriented, run_lammps
from strategies import SPECIES, random_atoms, random_potential

from argyase.errors import ConfigError, PotentialFileError, TrajectoryError
from argyase.potentials.almtp import ActiveSet, parse_active_set, read_active_set
from argyase.potentials.cfg_file import write_cfg
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, format_mtp, parse_mtp, read_mtp

POTENTIAL = random_potential(2, 2, np.random.default_rng(0))
N = POTENTIAL.radial_coeffs.size + 2 + POTENTIAL.moment_coeffs.size
MATRIX = np.random.default_rng(1).normal(size=(N, N)) + 3 * np.eye(N)
FRAMES = [random_atoms(np.random.default_rng(k), 4, 2) for k in (1, 2)]
LINKS = [(k % 3 - 1, 7 * k if k % 3 else -1) for k in range(N)]


def almtp(
    potential: MTPFile = POTENTIAL, matrix: np.ndarray = MATRIX, weights: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
) -> bytes:
    """An .almtp file, number by number as CfgSelection::Save and MaxVol::WriteData put them."""
    n = len(matrix)
    out = format_mtp(potential).rstrip(b"\n") + b"\n#MVS_v1.1\n"
    for name, weight in zip(("energy_weight", "force_weight", "stress_weight", "site_en_weight"), weights, strict=True):
        out += f"{name} {weight:.16e}\n".encode()
    out += b"weight_scaling 2\n#"
    inverse = np.linalg.inv(matrix)
    out += b"".join(struct.pack("<d", matrix[i, j]) for i in range(n) for j in range(n))
    out += b"".join(struct.pack("<d", inverse[i, j]) for j in range(n) for i in range(n))  # column by column
    out += b"\n#\n" + b"".join(b"%d %d\n" % link for link in LINKS[:n]) + b"#\n"
    return out


@pytest.fixture(scope="session")
def frames_text(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("cfg") / "f.cfg"
    write_cfg(path, FRAMES, SPECIES[:2])
    return path.read_bytes()


def test_the_active_set(frames_text: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.almtp").write_bytes(almtp() + frames_text)
    found = read_active_set(tmp_path / "p.almtp")
    assert (found.energy_weight, found.force_weight, found.stress_weight, found.site_en_weight) == (0, 0, 0, 1)
    assert (found.mode, found.weight_scaling) == ("neighbourhood", 2)
    np.testing.assert_array_equal(found.matrix, MATRIX)
    np.testing.assert_array_equal(found.inverse, np.linalg.inv(MATRIX))
    np.testing.assert_array_equal(found.links, LINKS)
    # MaxVol: a row of the set grades itself 1; twice that is 2; b A^-1 for any other.
    np.testing.assert_allclose(found.grades(MATRIX), 1.0, rtol=1e-12)
    assert found.grades(2 * MATRIX[3]) == pytest.approx(2.0, rel=1e-12)
    frames = found.frames(SPECIES[:2])
    assert [a.get_chemical_symbols() for a in frames] == [a.get_chemical_symbols() for a in FRAMES]
    np.testing.assert_array_equal(frames[1].positions, FRAMES[1].positions)
    with pytest.raises(TrajectoryError, match=r"p\.almtp, line \d+: type 1: not among species"):
        found.frames(SPECIES[:1])


def test_line_numbers_of_the_frames(frames_text: bytes) -> None:
    """As an editor counts them, the binary lines among them."""
    data = almtp() + frames_text.replace(b"cartes_z", b"cartes_q", 1)
    line = data[: data.index(b"cartes_q")].count(b"\n") + 1
    with pytest.raises(TrajectoryError, match=rf"p, line {line}: AtomData: unknown column 'cartes_q'"):
        parse_active_set(data, "p").frames(SPECIES[:2])


@pytest.mark.parametrize(
    ("weights", "mode"),
    [
        ((1, 0, 0, 0), "configuration"),
        ((0, 0, 0, 1), "neighbourhood"),
        ((1, 0, 0, 1), "mixed"),
        ((1, 1, 1, 0), "mixed"),
    ],
)
def test_modes(weights: tuple[float, ...], mode: str) -> None:
    data = almtp(weights=weights).replace(b"\n1 ", b"\n0 ").replace(b"\n0 ", b"\n-1 ")
    assert parse_active_set(data, "p").mode == mode


def test_the_older_layout(frames_text: bytes) -> None:
    """Four weights without names, none to scale with."""
    data = almtp() + frames_text
    head = data[data.index(b"#MVS") : data.index(b"weight_scaling 2\n#") + len(b"weight_scaling 2\n#")]
    found = parse_active_set(data.replace(head, b"#\n0 0 0 1\n#"), "p")
    assert (found.site_en_weight, found.weight_scaling) == (1.0, None)
    np.testing.assert_array_equal(found.matrix, MATRIX)


def derivatives(p: MTPFile, atoms: Atoms, atom: int) -> np.ndarray:
    """Of a site energy with respect to all coefficients, in the order in which MLIP keeps them: by complex steps."""
    types = [SPECIES.index(s) for s in atoms.get_chemical_symbols()]
    vectors = np.delete(atoms.positions - atoms.positions[atom], atom, axis=0).astype(complex)
    kinds = np.delete(types, atom).tolist()
    out = []
    for name in ("radial_coeffs", "species_coeffs", "moment_coeffs"):
        for k in range(getattr(p, name).size):
            stepped = getattr(p, name).astype(complex)
            stepped.flat[k] += 1j * mtp_reference.STEP
            energy = mtp_reference.site_energy(replace(p, **{name: stepped}), types[atom], kinds, vectors)
            out.append(float(energy.imag) / mtp_reference.STEP)
    return np.array(out)


def test_columns_are_coefficients_in_the_order_of_the_potential() -> None:
    """Also where the species of the file are not in the order of their numbers."""
    atoms = random_atoms(np.random.default_rng(5), 6, 2, periodic=False)
    rows = np.array([derivatives(POTENTIAL, atoms, k) for k in range(6)])
    # Any other rows, so that there is an inverse.
    others = np.random.default_rng(6).normal(size=(N - 6, N)) * np.abs(rows).max()
    matrix = np.vstack([rows, others])
    data = almtp(matrix=matrix).replace(b"\n1 ", b"\n-1 ").replace(b"\n0 ", b"\n-1 ")
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        data = data.replace(f"\t\t{a}-{b}\n".encode(), f"\t\t{(9, 4)[a]}-{(9, 4)[b]}\n".encode())
    potential, found = parse_mtp(data, "p"), parse_active_set(data, "p")
    assert potential.species_types == found.species_types == (4, 9)
    # What was species 0, 1 = Li, P is now 1, 0.
    turned = atoms.copy()
    turned.symbols[:] = ["P" if s == "Li" else "Li" for s in atoms.get_chemical_symbols()]
    expected = np.array([derivatives(potential, turned, k) for k in range(6)])
    np.testing.assert_allclose(found.matrix[:6], expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(found.grades(found.matrix), 1.0, rtol=1e-9)  # as good as numpy's inverse


def test_frames_by_the_numbers_of_the_file(tmp_path: Path) -> None:
    data = almtp()
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        data = data.replace(f"\t\t{a}-{b}\n".encode(), f"\t\t{(17, 3)[a]}-{(17, 3)[b]}\n".encode())
    write_cfg(tmp_path / "f.cfg", [Atoms("LiCl", [[0, 0, 0], [0, 0, 2]])] * 2, {3: "Li", 17: "Cl"})
    found = parse_active_set(data + (tmp_path / "f.cfg").read_bytes(), "p")
    for species in (["Li", "Cl"], {17: "Cl", 3: "Li"}):
        assert found.frames(species)[0].get_chemical_symbols() == ["Li", "Cl"]


# ---- the potential in it ----


def test_the_potential_is_read_everywhere(tmp_path: Path) -> None:
    potential, path = random_potential(2, 4, np.random.default_rng(3)), tmp_path / "p.almtp"
    # Binary data of any kind behind it: what a reader of lines would trip over.
    path.write_bytes(format_mtp(potential) + b"#MVS_v1.1\n" + np.random.default_rng(4).bytes(5000))
    assert read_mtp(path) == potential
    with pytest.raises(ConfigError, match="does not name its species"):
        find_potential(str(path))
    found = find_potential(str(path), SPECIES)
    assert (found.path, found.name) == (path.resolve(), "p")
    atoms = oriented(random_atoms(np.random.default_rng(7), 9))
    calculator = MTP(path, SPECIES)
    calculator.calculate(atoms)
    by_lammps = run_lammps(atoms, path)
    # Both sum over the same neighbours, in another order: see ROUNDING in test_mtp.py.
    scale = max(1.0, np.abs(calculator.results["forces"]).max())
    np.testing.assert_allclose(by_lammps["forces"], calculator.results["forces"], rtol=0, atol=1e-12 * scale)


# ---- damaged ones ----

DATA = almtp()
BINARY = DATA.index(b"weight_scaling 2\n#") + len(b"weight_scaling 2\n#")


def damaged(change: str) -> bytes:
    number = struct.pack("<d", np.nan)
    return {
        "none": DATA[: DATA.index(b"\n#MVS")],
        "version": DATA.replace(b"#MVS_v1.1", b"#MVS_v2.0"),
        "weight": DATA.replace(b"force_weight", b"farce_weight"),
        "number": DATA.replace(b"site_en_weight 1", b"site_en_weight x"),
        "zeros": DATA.replace(b"site_en_weight 1", b"site_en_weight 0"),
        "scaling": DATA.replace(b"weight_scaling 2", b"weight_scaling 2.5"),
        "no #": DATA.replace(b"weight_scaling 2\n#", b"weight_scaling 2\n@"),
        "head": DATA[: DATA.index(b"stress_weight")],
        "matrix": DATA[: BINARY + 100],
        "inverse": DATA[: BINARY + 16 * N * N - 1],
        "nan": DATA[:BINARY] + number + DATA[BINARY + 8 :],
        "shifted": DATA[:BINARY] + DATA[BINARY + 1 :],
        "longer": DATA[:BINARY] + bytes(8) + DATA[BINARY:],
        "flipped": DATA[: BINARY + 7] + bytes([DATA[BINARY + 7] ^ 0x01]) + DATA[BINARY + 8 :],
        "links": DATA[: DATA.rindex(b"#\n")],
        "link": DATA.replace(b"\n#\n-1 ", b"\n#\nx "),
        "frames": DATA,
    }[change]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("none", "p: has no active set (no line #MVS_v1.1 behind the potential)"),
        ("version", "p, active set: expected #MVS_v1.1, got '#MVS_v2.0'"),
        ("weight", "p, active set: expected force_weight, got 'farce_weight'"),
        ("number", "site_en_weight: expected a number, got 'x.0000000000000000e+'"),
        ("zeros", "weights [0.0, 0.0, 0.0, 0.0]: need finite ones, and one that is not 0"),
        ("scaling", "weight_scaling: expected a whole number, got 2.5"),
        ("no #", "expected # behind the weights"),
        ("head", "p, active set: cut in its weights"),
        ("matrix", f"cut in its matrices: two of {N} x {N} doubles are {16 * N * N} bytes, 100 are left"),
        ("inverse", f"are {16 * N * N} bytes, {16 * N * N - 1} are left"),
        ("nan", "a number in its matrices is not finite"),
        ("shifted", "p, active set: "),
        ("longer", f"expected a line '#' behind two matrices of {N} x {N}"),
        ("flipped", "its matrices are not inverse to each other: their product differs from 1 by"),
        ("links", f"expected {N} lines that link rows to frames (one for each coefficient), then a line '#'"),
        ("link", "row 0: expected the numbers of a frame and of an equation, got 'x -1'"),
        ("frames", "is of frame 0, equation 7: there are 0 frames"),
    ],
)
def test_damaged_active_sets(change: str, said: str) -> None:
    data = damaged(change)
    assert parse_mtp(data, "p") == POTENTIAL  # which is not damaged
    with pytest.raises(PotentialFileError) as caught:
        parse_active_set(data, "p")
    assert said in str(caught.value)


@given(
    st.integers(DATA.index(b"#MVS"), len(DATA)),
    st.lists(st.tuples(st.integers(DATA.index(b"#MVS"), len(DATA) - 1), st.binary(min_size=1, max_size=9)), max_size=3),
)
def test_any_damage_is_refused_or_harmless(length: int, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(DATA.replace(b"\n1 ", b"\n0 ").replace(b"\n0 ", b"\n-1 "))
    for place, value in changes:
        data[place : place + len(value)] = value
    try:
        found = parse_active_set(bytes(data[:length]), "p")
    except PotentialFileError:
        return
    assert isinstance(found, ActiveSet)
    assert np.isfinite(found.matrix).all()
    assert np.abs(found.matrix @ found.inverse - np.eye(N)).max() < 0.1


def test_a_damaged_potential_is_named_first() -> None:
    with pytest.raises(PotentialFileError, match=r"p, line \d+: radial_basis_type 'RBCheb'"):
        parse_active_set(DATA.replace(b"RBChebyshev", b"RBCheb"), "p")
    with pytest.raises(PotentialFileError, match=r"none\.almtp: cannot be read"):
        read_active_set("none.almtp")
