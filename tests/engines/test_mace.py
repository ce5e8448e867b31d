"""MACE for real, with random weights.

Not part of the ordinary tests: `pip install '.[mace]'`, then `pytest tests/engines`.
"""

from pathlib import Path
from typing import Any

import mace  # noqa: F401, before e3nn, whose constants it lets torch load
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

from argyase.calculators import calculator, identity
from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError
from argyase.stages import label

ELEMENTS = [3, 15, 16, 17]


def random_model(path: Path, heads: list[str], seed: int = 1) -> torch.nn.Module:
    """Two interactions of body order four, as in the universal models, but small, with random weights, in a file."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=6, num_polynomial_cutoff=5, max_ell=2, interaction_cls=block, interaction_cls_first=block,
        num_interactions=2, num_elements=len(ELEMENTS), hidden_irreps=o3.Irreps("8x0e + 8x1o"),
        MLP_irreps=o3.Irreps("8x0e"), gate=torch.nn.functional.silu, avg_num_neighbors=20.0, atomic_numbers=ELEMENTS,
        atomic_energies=np.tile([-0.3, -1.9, -1.1, -0.3], (len(heads), 1)), correlation=3, radial_type="bessel",
        atomic_inter_scale=np.ones(len(heads)), atomic_inter_shift=np.zeros(len(heads)), heads=heads,
    )  # fmt: skip
    torch.save(model, path)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, heads in (("one", ["Default"]), ("two", ["pbe", "r2scan"])):
        random_model(folder / f"{name}.model", heads)
    return {name: folder / f"{name}.model" for name in ("one", "two")}


def crystal() -> Atoms:
    """Four Li, two S and two Cl, strained and out of place."""
    atoms = bulk("LiCl", "rocksalt", a=5.1, cubic=True)
    atoms.symbols[[1, 3]] = "S"
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.tri(3)), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def directly(path: Path, atoms: Atoms) -> dict[str, np.ndarray]:
    """By the model itself, without a calculator."""
    configuration = data.config_from_atoms(atoms)
    graph = data.AtomicData.from_config(configuration, z_table=AtomicNumberTable(ELEMENTS), cutoff=5.0)
    (batch,) = torch_geometric.dataloader.DataLoader([graph], batch_size=1)
    found = torch.load(path, weights_only=False)(batch.to_dict(), compute_stress=True)
    return {name: found[name].detach().numpy() for name in ("energy", "forces", "stress")}


def test_a_single_point_and_the_slopes_of_its_energy(files: dict[str, Path]) -> None:
    """Energy, forces and stress are those of the model itself; forces and stress are the slopes of the energy."""
    atoms = crystal()
    atoms.calc = calculator("mace", model=str(files["one"]))
    assert torch.get_num_threads() == 1
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
    wanted = directly(files["one"], atoms)
    # Double precision; sums of some 200 neighbours in another order.
    assert energy == pytest.approx(float(wanted["energy"][0]), abs=1e-10)
    np.testing.assert_allclose(forces, wanted["forces"], atol=1e-10)
    np.testing.assert_allclose(stress, wanted["stress"][0], atol=1e-12)
    assert np.abs(forces).max() > 1e-3  # the weights are not so small that nothing is compared

    def slope(moved: Any) -> float:
        """By central differences over 1e-4: of second order, and round-off of 1e-11 eV, some 1e-7 in all."""
        ends = []
        for step in (1e-4, -1e-4):
            shifted = crystal()
            moved(shifted, step)
            shifted.calc = atoms.calc
            ends.append(shifted.get_potential_energy())
        return (ends[0] - ends[1]) / 2e-4

    for n, axis in ((0, 0), (1, 1), (6, 2)):

        def move(a: Atoms, h: float, n: int = n, axis: int = axis) -> None:
            a.positions[n, axis] += h

        assert forces[n, axis] == pytest.approx(-slope(move), abs=1e-6)
    for i, j in ((0, 0), (2, 2), (0, 1)):

        def strain(a: Atoms, h: float, i: int = i, j: int = j) -> None:
            e = np.zeros((3, 3))
            e[i, j] += h / 2
            e[j, i] += h / 2
            a.set_cell(a.cell.array @ (np.eye(3) + e), scale_atoms=True)

        assert stress[i, j] == pytest.approx(slope(strain) / atoms.get_volume(), abs=1e-7)


def test_heads_and_precision(files: dict[str, Path]) -> None:
    atoms, energies = crystal(), {}
    for head in ("pbe", "r2scan"):
        atoms.calc = calculator("mace", model=str(files["two"]), head=head)
        energies[head] = atoms.get_potential_energy()
    assert abs(energies["pbe"] - energies["r2scan"]) > 1e-3
    with pytest.raises(ConfigError, match=r"head = 'PBE': this model has pbe, r2scan"):
        calculator("mace", model=str(files["two"]), head="PBE")
    with pytest.raises(ConfigError, match="no head in the model is 'default'"):
        calculator("mace", model=str(files["two"]))
    with pytest.raises(ConfigError, match="dtype = 'float16': allowed are float64, float32"):
        calculator("mace", model=str(files["one"]), dtype="float16")
    single, double = crystal(), crystal()
    single.calc = calculator("mace", model=str(files["one"]), dtype="float32", threads=2)
    assert torch.get_num_threads() == 2
    double.calc = calculator("mace", model=str(files["one"]))
    difference = np.abs(single.get_forces() - double.get_forces()).max()
    # Seven digits of forces of some 0.1 eV/A, and of the sums in them.
    assert 0 < difference < 1e-4


def test_it_is_its_weights(files: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "one.model"
    copy.write_bytes(files["one"].read_bytes())
    who = identity("mace", model=str(files["one"]), threads=2)
    assert set(who) == {"name", "model", "sha256", "version", "dtype"}
    assert identity("mace", model=str(copy)) == who
    assert identity("mace", model=str(copy), dtype="float32") != who
    assert identity("mace", model=str(files["two"]), head="pbe") != identity("mace", model=str(files["two"]), head="x")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model = 'medium': no such file\. No weights come with mace-torch: train"):
        calculator("mace", model="medium")
    (tmp_path / "text.model").write_text("weights")
    with pytest.raises(ConfigError, match=r"text\.model"):
        calculator("mace", model=str(tmp_path / "text.model"))


def test_labels(files: dict[str, Path], tmp_path: Path) -> None:
    crystal().write(tmp_path / "frame.extxyz")
    lake = Lake(tmp_path / "lake")
    settings = (f"model={files['one']}",)
    (run_id,) = label.run(label.Config((str(tmp_path / "frame.extxyz"),), calculator="mace", settings=settings), lake)
    (labelled,) = label.read_frames(lake, [run_id])
    np.testing.assert_allclose(labelled.get_forces(), directly(files["one"], labelled)["forces"], atol=1e-8)
    bulk("Cu").write(tmp_path / "copper.extxyz")
    with pytest.raises(CalculatorError, match="none of 1 frames could be labelled by mace"):
        label.run(label.Config((str(tmp_path / "copper.extxyz"),), calculator="mace", settings=settings), lake)
