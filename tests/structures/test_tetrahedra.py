"""The anions' tetrahedra: those that are published, a mesh without holes; and argyrodites found in any coordinates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinisi_example import XDATCAR
from strategies import seeds

from argyase.dynamics.readers import read_frames
from argyase.errors import TrajectoryError
from argyase.structures.argyrodite import argyrodite
from argyase.structures.reference_phases import reference_phase
from argyase.structures.tetrahedra import KINDS, find_framework, topology

# Neighbours across faces, as the sites were derived from the structure of H.-J. Deiseroth et al. (2008).
FACES = {
    "T0": ["T1"] * 4,
    "T1": ["T0", "T2", "T2", "T2"],
    "T2": ["T1", "T2", "T5", "T5"],
    "T3": ["T4"] * 4,
    "T4": ["T3", "T5", "T5", "T5"],
    "T5": ["T2", "T2", "T4", "T5"],
}


def test_kinds_faces_and_cages() -> None:
    found = topology((2, 1, 1))
    for tet, kind in enumerate(found.kind):
        assert sorted(KINDS[found.kind[n]] for n in found.neighbour[tet]) == FACES[KINDS[kind]]
    for cage in range(8):
        assert np.bincount(found.kind[found.cage == cage], minlength=6).tolist() == [0, 4, 12, 0, 0, 12]
    # Between two T2 lies the way to another cage, inside one there is none; T5 share a face inside a cage only.
    for tet in np.flatnonzero(found.kind == 2):
        (other,) = [n for n in found.neighbour[tet] if found.kind[n] == 2]
        assert found.cage[other] != found.cage[tet]
    for tet in np.flatnonzero(found.kind == 5):
        (other,) = [n for n in found.neighbour[tet] if found.kind[n] == 5]
        assert found.cage[other] == found.cage[tet]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("supercell", [(1, 1, 1), (2, 1, 3)])
def test_the_mesh_fills_space(supercell: tuple[int, int, int], inverted: bool) -> None:
    found = topology(supercell).inverted() if inverted else topology(supercell)
    shape = np.array(supercell)
    corner = found.anion_sites[found.vertex] + found.vertex_image * shape
    volume = np.linalg.det(corner[:, 1:] - corner[:, :1]) / 6
    assert volume.min() > 0.004
    assert volume.sum() == pytest.approx(shape.prod())
    for tet in range(len(found.kind)):
        own = {(int(v), tuple(i)) for v, i in zip(found.vertex[tet], found.vertex_image[tet].tolist(), strict=True)}
        for face in range(4):
            other, image = found.neighbour[tet, face], found.neighbour_image[tet, face]
            theirs = {
                (int(v), tuple((i + image).tolist()))
                for v, i in zip(found.vertex[other], found.vertex_image[other], strict=True)
            }
            left_out = (int(found.vertex[tet, face]), tuple(found.vertex_image[tet, face].tolist()))
            assert own & theirs == own - {left_out}


@given(
    seeds,
    st.sampled_from([(1, 1, 1), (1, 2, 1), (2, 2, 1)]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1, -1]),
)
@settings(max_examples=30)
def test_found_in_any_coordinates(seed: int, supercell: tuple[int, int, int], inversion: float, sign: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = argyrodite(0.0, inversion, supercell, seed % 100 + 1)
    cell = atoms.cell.array
    order = rng.permutation(len(atoms))
    whole = rng.integers(-2, 3, (len(atoms), 3))
    # 0.15 A a coordinate: as in a crystal at 500 K or so.
    place = sign * atoms.positions + whole @ cell + rng.uniform(-5, 5, 3) + rng.normal(0, 0.15, (len(atoms), 3))
    found = find_framework(place[order], cell, np.array(atoms.get_chemical_symbols())[order])
    ideal = found.topology
    assert ideal.supercell == supercell
    assert (atoms.arrays["site"][order][found.atoms] == ideal.letters).all()
    shape = np.array(supercell)
    at = place[order][found.atoms] @ np.linalg.inv(cell) * shape - found.images * shape
    assert np.linalg.norm(at - ideal.anion_sites - found.origin, axis=1).max() * 9.86 < 1.2  # a = 9.86 A; 0.15 A x 5


def test_as_argyrodite_numbers_them() -> None:
    """Cages have the numbers that the structure gave them, if the crystal has not moved by half a face diagonal."""
    atoms = argyrodite(0.0, 0.5, (2, 2, 2), 3)
    moved = atoms.positions + np.random.default_rng(0).normal(0, 0.1, atoms.positions.shape) + [1.0, -0.5, 0.3]
    found = find_framework(moved, atoms.cell.array, np.array(atoms.get_chemical_symbols()))
    own = found.atoms[found.topology.letters == "4d"]
    assert atoms.arrays["cage"][own].tolist() == list(range(32))


def test_a_published_trajectory() -> None:
    """Li6PS5Cl by VASP: no labels, S and Cl in an order of its own."""
    frame = next(iter(read_frames(XDATCAR)))
    found = find_framework(frame.positions, frame.cell, np.array(frame.species))
    assert found.topology.supercell == (2, 2, 2)
    symbols = np.array(frame.species)[found.atoms]
    assert {str(s) for s in symbols[found.topology.letters == "16e"]} == {"S"}
    # What is left of S shares 4a and 4d with Cl.
    assert sorted(symbols[found.topology.letters != "16e"].tolist()) == ["Cl"] * 32 + ["S"] * 32


def test_sulphur_of_a_turned_ps4_is_followed() -> None:
    atoms = argyrodite(0.0, 0.0, (1, 1, 1))
    symbols = np.array(atoms.get_chemical_symbols())
    found = find_framework(atoms.positions, atoms.cell.array, symbols)
    p = int(np.flatnonzero(symbols == "P")[0])
    a, b, c = [k for k in found.atoms if atoms.get_distance(int(k), p, mic=True) < 2.2][:3]
    turned = atoms.positions.copy()
    # A third of a turn about the fourth bond: each S goes to where the next one was.
    turned[[a, b, c]] = atoms.positions[[b, c, a]]
    again, _ = found.rematched(turned[found.atoms] - found.images @ atoms.cell.array, atoms.cell.array)
    assert np.allclose(
        turned[again.atoms] - again.images @ atoms.cell.array,
        atoms.positions[found.atoms] - found.images @ atoms.cell.array,
    )
    assert (again.atoms != found.atoms).sum() == 3


def test_what_is_no_argyrodite() -> None:
    rng = np.random.default_rng(0)
    atoms = argyrodite(0.0, 0.5, (1, 1, 1))
    symbols, cell = np.array(atoms.get_chemical_symbols()), atoms.cell.array
    molten = rng.random((52, 3)) @ cell
    with pytest.raises(TrajectoryError, match=r"not, or no longer, .* melted"):
        find_framework(molten, cell, symbols)
    with pytest.raises(TrajectoryError, match=r"no longer"):
        find_framework(atoms.positions, cell, symbols).rematched(molten[:24], cell)
    salt = reference_phase("LiCl")
    with pytest.raises(TrajectoryError, match="0 P and"):
        find_framework(salt.positions, salt.cell.array, np.array(salt.get_chemical_symbols()))
    with pytest.raises(TrajectoryError, match="not a supercell of the cubic"):
        find_framework(atoms.positions, cell @ np.diag([3.0, 1.0, 1 / 3]), symbols)
