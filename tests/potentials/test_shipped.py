"""The shipped potentials are what their model cards say."""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import Segment
from argyase.potentials.active import GRADE_SELECT, ActiveSet
from argyase.potentials.fit import Labels, predict
from argyase.potentials.model_card import find_potential, shipped_potentials
from argyase.potentials.mtp import MTP
from argyase.potentials.repulsion import smallest_distances
from argyase.stages import md, structures

LABELS = Path(__file__).parents[2] / "campaigns" / "labels"
OF_7NET = [name for name in shipped_potentials() if "7net" in name]
FILES = [LABELS / f"LiPSCl-{part}-7net-l3i5.extxyz.gz" for part in ("bootstrap", "seeds", "learned", "expanded")]


@pytest.fixture(scope="module")
def labels() -> Labels:
    """Every fourth frame that the potentials were made from."""
    return Labels.of([atoms for file in FILES for atoms in ase.io.read(file, index="::4")])


@pytest.mark.parametrize("name", OF_7NET)
def test_cards_are_whole(name: str) -> None:
    found = find_potential(name)
    assert found.warning
    assert {"training", "errors", "repulsion", "domain", "validation"} <= set(found.card)
    assert {"teacher", "data", "citations", "frames"} <= set(found.card["training"])
    assert found.card["domain"]["must_not_be_used_for"]
    assert found.active_set is not None


@pytest.mark.parametrize("name", OF_7NET)
def test_errors_are_those_of_the_card(name: str, labels: Labels) -> None:
    found = find_potential(name)
    calculator = MTP(found.path, found.species)
    for group in ("inv0", "inv50", "Li6PS5Cl md", "LiCl md"):
        own = labels.take([n for n, g in enumerate(labels.groups) if g == group])
        force = predict(calculator, own).errors().force_rmse
        stated = found.card["errors"]["force_rmse_eV_per_A"][group]
        # A quarter of the frames: the rest may be somewhat better or worse.
        assert 0.75 * np.nanmin(stated) < force < 1.25 * np.nanmax(stated)


@pytest.mark.parametrize("name", OF_7NET)
def test_errors_where_nothing_was_learned(name: str) -> None:
    """The number that counts, from the frames that it was found with."""
    frames = [
        atoms
        for atoms in ase.io.read(LABELS / "LiPSCl-test-7net-l3i5.extxyz.gz", index=":")
        if atoms.info["group"].startswith(("Li5", "Li6")) and atoms.info["group"].endswith(" K")
    ]
    assert len(frames) == 240
    found = find_potential(name)
    errors = predict(MTP(found.path, found.species), Labels.of(frames)).errors()
    said = found.card["domain"]["argyrodite_crystals"]
    assert said == (f"{errors.energy_rmse:.1f} meV/atom, {errors.force_rmse:.3f} eV/A, {errors.stress_rmse:.2f} GPa")


@pytest.mark.parametrize("name", OF_7NET)
def test_labels_are_within_domain_and_above_the_repulsion(name: str, labels: Labels) -> None:
    found = find_potential(name)
    assert found.active_set is not None
    calculator = MTP(found.path, found.species, active_set=ActiveSet.load(found.active_set))
    for atoms in labels.frames[::5]:
        calculator.calculate(atoms)
        # To rounding: the active set was chosen from these frames with coefficients up to 1.001.
        assert calculator.results["grades"].max() < 1.01
    distances = smallest_distances(labels.frames, found.species, 6.0)
    for pair, (_, outer) in found.repulsion.items():
        assert outer <= distances[pair]


@pytest.mark.parametrize("name", OF_7NET)
def test_a_hot_crystal_and_a_melt_stay_in_the_domain(name: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    # The volume of smaller cells fluctuates too much at 1200 K.
    (cell,) = structures.run(structures.Config(x=0.5, inversion=0.75, supercell=(2, 2, 2)), lake)
    for temperature, ensemble in ((1200.0, "npt"), (1800.0, "nvt")):
        segments = (Segment("heat", ensemble), Segment("produce", ensemble, duration_ps=3.0))
        (run,) = md.run(md.Config(cell, temperature, name, segments=segments, grade_every=10), lake)
        assert lake.record(run).scalars["max_grade"] < GRADE_SELECT


def test_teacher_against_density_functional_theory() -> None:
    """The numbers of docs/explanation/where-the-error-comes-from.md, from the labels; to the digits printed there."""
    taught = ase.io.read(LABELS / "LiPSCl-test-7net-l3i5.extxyz.gz", index=":")
    forces = []
    for computed in ase.io.read(LABELS / "LiPSCl-test20-gpaw-optB88.extxyz.gz", index=":"):
        # Both files print eight decimals.
        (same,) = (
            a for a in taught if len(a) == len(computed) and np.allclose(a.positions, computed.positions, atol=1e-6)
        )
        assert (same.symbols == computed.symbols).all()
        forces.append((computed.get_forces(), same.get_forces()))
    assert len(forces) == 20
    exact, teacher = (np.concatenate(f) for f in zip(*forces, strict=True))
    assert (exact * teacher).sum() / (exact**2).sum() == pytest.approx(0.913, abs=5e-4)
    assert np.sqrt(((exact - teacher) ** 2).mean()) == pytest.approx(0.112, abs=5e-4)
    assert np.sqrt((exact**2).mean()) == pytest.approx(0.69, abs=5e-3)
