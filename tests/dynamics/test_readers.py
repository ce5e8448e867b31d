"""Trajectories of other programs: what ASE, chemfiles and LAMMPS write is read back; damage is named by its line."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.io.vasp import write_vasp_xdatcar
from strategies import DATA

from argyase.dynamics.readers import RawFrame, guess_format, read_frames
from argyase.errors import ConfigError, TrajectoryError
from argyase.potentials.lammps_plugin import create_lammps
from argyase.structures.argyrodite import argyrodite

DIGITS = 2e-6
"""ASE writes the cell of an XDATCAR with 6 decimals, and fractional coordinates with 8."""


def frames(n: int = 4, breathing: bool = True) -> list[Atoms]:
    """A crystal that rattles in a triclinic cell."""
    rng = np.random.default_rng(0)
    start = argyrodite(0.0, 0.5)
    cell = start.cell.array + np.tril(rng.normal(scale=0.5, size=(3, 3)))
    out = []
    for _ in range(n):
        atoms = Atoms(start.symbols, cell=cell * (1 + breathing * rng.normal(scale=0.01)), pbc=True)
        atoms.set_scaled_positions(start.get_scaled_positions() + rng.normal(scale=0.01, size=(52, 3)))
        atoms.wrap()
        out.append(atoms)
    return out


def expect(read: list[RawFrame], made: list[Atoms], digits: float) -> None:
    assert len(read) == len(made)
    for a, b in zip(read, made, strict=True):
        assert a.species == b.get_chemical_symbols()
        np.testing.assert_allclose(a.cell, b.cell.array, atol=digits)
        np.testing.assert_allclose(a.positions, b.positions, atol=digits)


def write_extxyz(path: Path, made: list[Atoms]) -> None:
    ase.io.write(path, made, format="extxyz")


def write_traj(path: Path, made: list[Atoms]) -> None:
    ase.io.write(path, made, format="traj")


def write_xdatcar(path: Path, made: list[Atoms]) -> None:
    with open(path, "w") as file:
        write_vasp_xdatcar(file, made)


@pytest.mark.parametrize(
    ("name", "write", "digits", "breathing"),
    [
        ("XDATCAR", write_xdatcar, DIGITS, False),
        ("t.extxyz", write_extxyz, 1e-7, True),
        ("t.traj", write_traj, 0, True),
    ],
)
def test_what_ase_writes(
    name: str, write: Callable[[Path, list[Atoms]], None], digits: float, breathing: bool, tmp_path: Path
) -> None:
    made = frames(breathing=breathing)
    write(tmp_path / name, made)
    expect(list(read_frames(tmp_path / name)), made, digits or 1e-14)


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_compressed(suffix: str, opener: Callable[..., object], tmp_path: Path) -> None:
    made = frames(breathing=False)
    write_xdatcar(tmp_path / "XDATCAR", made)
    packed = tmp_path / f"XDATCAR{suffix}"
    with opener(packed, "wb") as file:  # type: ignore[attr-defined]
        file.write((tmp_path / "XDATCAR").read_bytes())
    expect(list(read_frames(packed)), made, DIGITS)


def test_xdatcar_of_a_changing_cell(tmp_path: Path) -> None:
    """VASP repeats the header in every frame of an NPT run; ASE writes each alone."""
    made = frames()
    text = ""
    for atoms in made:
        write_xdatcar(tmp_path / "X", [atoms])
        text += (tmp_path / "X").read_text()
    (tmp_path / "XDATCAR").write_text(text)
    expect(list(read_frames(tmp_path / "XDATCAR")), made, DIGITS)


def test_a_published_xdatcar() -> None:
    """Counted, and its first line of coordinates read, by hand."""
    read = list(read_frames(DATA / "trajectories" / "kinisi_example_XDATCAR.gz"))
    assert len(read) == 140
    assert [read[0].species.count(s) for s in ("Li", "Cl", "S", "P")] == [192, 32, 160, 32]
    assert read[0].species[0] == "Li"
    with gzip.open(DATA / "trajectories" / "kinisi_example_XDATCAR.gz", "rt") as file:
        lines = [next(file) for _ in range(9)]
    cell = np.array([line.split() for line in lines[2:5]], dtype=float) * float(lines[1])
    np.testing.assert_allclose(read[0].positions[0], np.array(lines[8].split(), dtype=float) @ cell, atol=1e-12)


@pytest.mark.parametrize(
    "columns", ["id type element x y z ix iy iz", "id element xu yu zu", "id type xs ys zs", "id element xsu ysu zsu"]
)
def test_dumps_that_lammps_writes(columns: str, tmp_path: Path) -> None:
    """A triclinic box whose corner is not the origin, atoms in LAMMPS' order, two frames."""
    path = tmp_path / "run.lammpstrj"
    lmp = create_lammps(["-log", "none", "-screen", "none"])
    for command in (
        "units metal", "atom_modify map yes", "region b prism 1 9 2 11 -3 7 1.5 -0.5 0.7", "create_box 2 b",
        "create_atoms 1 random 12 7 NULL", "create_atoms 2 random 5 8 NULL", "mass * 7.0", "pair_style zero 3.0",
        "pair_coeff * *", "velocity all create 3000 1", "fix n all nve",
        f'dump d all custom 50 "{path}" {columns}',
        *(("dump_modify d element Li S",) if "element" in columns else ()),
        # Far enough to leave the box.
        "run 500",
    ):  # fmt: skip
        lmp.command(command)
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    cell = np.array([[high[0] - low[0], 0, 0], [xy, high[1] - low[1], 0], [xz, yz, high[2] - low[2]]])
    # Unwrapped by LAMMPS itself: image flags are applied in gather with xu.
    order = np.argsort(lmp.gather_atoms("id", 0, 1))
    wrapped = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    images = np.array(lmp.gather_atoms("image", 0, 3)).reshape(-1, 3)
    lmp.close()
    unwrapped = wrapped + images @ cell - np.array(low)
    assert np.abs(images).max() > 0
    assert len(order) == 17
    read = list(read_frames(path, types={1: "Li", 2: "S"}))
    assert len(read) == 11
    assert read[-1].step == 500
    assert read[-1].species == ["Li"] * 12 + ["S"] * 5
    np.testing.assert_allclose(read[-1].cell, cell, atol=1e-5)
    difference = (read[-1].positions - unwrapped) @ np.linalg.inv(cell)
    if columns in ("id type xs ys zs",):
        difference -= np.rint(difference)  # LAMMPS did not write which image
    np.testing.assert_allclose(difference @ cell, 0, atol=1e-3)  # a dump has 6 digits


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_what_chemfiles_writes(kind: str, tmp_path: Path) -> None:
    import chemfiles

    made = frames()
    path, topology = tmp_path / f"t.{kind}", tmp_path / "top.xyz"
    ase.io.write(topology, made[0])
    with chemfiles.Trajectory(str(path), "w") as out:
        for atoms in made:
            frame = chemfiles.Frame()
            frame.cell = chemfiles.UnitCell(atoms.cell.array.T)
            for symbol, r in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
                frame.add_atom(chemfiles.Atom(symbol), list(r))
            out.write(frame)
    read = list(read_frames(path, topology=topology))
    assert len(read) == len(made)
    for a, b in zip(read, made, strict=True):
        # DCD holds lengths and angles in single precision and XTC 0.01 A: the same crystal, perhaps turned.
        np.testing.assert_allclose(a.cell @ a.cell.T, b.cell.array @ b.cell.array.T, rtol=1e-3, atol=0.05)
        distances = [np.linalg.norm(x.positions - x.positions[0], axis=1) for x in (a, b)]
        np.testing.assert_allclose(distances[0], distances[1], atol=0.02)
    with pytest.raises(ConfigError, match="give a structure file with --topology"):
        list(read_frames(path))


# ---- damage ----


def test_a_cut_last_frame_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = frames(breathing=False)
    write_xdatcar(tmp_path / "XDATCAR", made)
    text = (tmp_path / "XDATCAR").read_text()
    (tmp_path / "XDATCAR").write_text(text[:-200])
    assert len(list(read_frames(tmp_path / "XDATCAR"))) == 3
    assert "the frame after frame 2 is cut short" in caplog.text


def test_a_cut_gzip_keeps_its_whole_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (DATA / "trajectories" / "kinisi_example_XDATCAR.gz").read_bytes()
    (tmp_path / "XDATCAR.gz").write_bytes(whole[: len(whole) // 2])
    read = list(read_frames(tmp_path / "XDATCAR.gz"))
    assert 60 < len(read) < 80
    assert "is cut short" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("XDATCAR", "", "holds no whole frame of format xdatcar"),
        ("XDATCAR", "title\n1.0\n1 0 0\n0 1 0\n", "holds no whole frame"),
        ("XDATCAR", "title\none\n", "XDATCAR: line 2: could not convert string to float: 'one'"),
        ("XDATCAR", "t\n1\n9 0 0\n0 9 0\n0 0 9\nLi S\n1\n", "line 7: expected one count for each of"),
        ("XDATCAR", "t\n1\n9 0 0\n0 9 0\n0 0 9\nQq\n1\n", "line 7: not chemical symbols: ['Qq']"),
        ("XDATCAR", "t\n1\n9 0 0\n0 9 0\n0 0 0\nLi\n1\nDirect\n0 0 0\n", "frame 0: the cell has no volume"),
        ("XDATCAR", "t\n1\n9 0 0\n0 9 0\n0 0 9\nLi\n1\nDirect\nnan 0 0\n", "frame 0: a coordinate is not finite"),
        ("t.dump", "hello\n", "line 1: expected 'ITEM:', got 'hello': is this a LAMMPS dump?"),
        ("t.extxyz", "2\nno lattice\nLi 0 0 0\n", "ASE cannot read it as extxyz"),
        ("t.traj", "not a trajectory", "ASE cannot read it as traj"),
    ],
)
def test_broken_files(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TrajectoryError) as caught:
        list(read_frames(tmp_path / name))
    assert said in str(caught.value)
    assert name in str(caught.value)


DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
1
ITEM: BOX BOUNDS pp pp pp
0 5
0 5
0 5
ITEM: ATOMS {}
{}
"""


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [
        ("type x y z", "1 0 0 0", "no column 'id'"),
        ("id element vx vy vz", "1 Li 0 0 0", "no coordinates"),
        ("id x y z", "1 0 0 0", "neither a column 'element' nor 'type'"),
        ("id element x y z", "1 Xx 0 0 zero", "could not convert"),
        ("id type x y z", "1 3 0 0 0", "atom types [3] have no species"),
    ],
)
def test_dumps_that_lack_something(columns: str, row: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.dump").write_text(DUMP.format(columns, row))
    with pytest.raises((TrajectoryError, ConfigError)) as caught:
        list(read_frames(tmp_path / "t.dump"))
    assert said in str(caught.value)


def test_atoms_must_stay_the_same(tmp_path: Path) -> None:
    write_extxyz(tmp_path / "t.xyz", [frames()[0], frames()[0][:50]])
    with pytest.raises(TrajectoryError, match="frame 1: 50 atoms, 52 before"):
        list(read_frames(tmp_path / "t.xyz"))


def test_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the name does not tell its format; give it with --format"):
        guess_format(Path("run.h5"))
    with pytest.raises(TrajectoryError, match="no such file"):
        list(read_frames(tmp_path / "XDATCAR"))
    (tmp_path / "x").write_text("")
    with pytest.raises(ConfigError, match="format 'h5': known are xdatcar"):
        list(read_frames(tmp_path / "x", "h5"))
