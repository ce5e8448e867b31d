"""A campaign from first principles to its end, by GPAW for real, made almost nothing.

Not part of the ordinary tests: `pip install '.[gpaw]'`, then `pytest tests/engines`. Cutoffs are far too low for
physics; what is tested is that what one step writes is what the next one reads.
"""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.stages import _cli, label, learn

LOW = "ecut=200"

CAMPAIGN = f"""
[learn]
output = "potentials/nothing"
seeds = false
rounds = 0
calculator = "gpaw"
settings = ["preset=aimd", "{LOW}"]
temperature_K = [300]
strain = [0.0]
melt_strain = [0.0]

[[structures]]
phase = "LiCl"

[sample]
heat_rate_K_fs = 0.05
equilibrate_ps = 8.0
produce_ps = 24.0
sample_ps = 0.004
timestep_fs = 2.0
shorten = 4000.0                         # every piece becomes one sample or two, of two steps

[label]
calculator = "gpaw"
settings = ["preset=label", "{LOW}"]

[fit]
level = 2
seeds = [1]
max_iterations = 3
held_out = 0.0
species = ["Li", "Cl"]
"""


def test_dynamics_labels_and_fit_by_gpaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`argyase run`: PBE dynamics of LiCl, optB88-vdW labels of its frames, and the potential of these."""
    monkeypatch.chdir(tmp_path)
    Path("campaign.toml").write_text(CAMPAIGN)
    assert _cli.main(["run", "campaign.toml"]) == 0
    lake = Lake("lake")
    (fitted,) = capsys.readouterr().out.split()[-1:]
    assert [r.scalars["ended"] for r in lake.search("sample")] == ["as planned"] * 2
    (labelled,) = lake.record(fitted).inputs
    frames = label.read_frames(lake, [labelled])
    assert sorted({a.info["group"] for a in frames}) == ["LiCl md", "LiCl melt", "LiCl quench"]
    assert lake.record(labelled).scalars["failed"] == 0
    assert lake.record(labelled).parameters["calculator"]["xc"] == "optB88-vdW"
    assert len(frames) == sum(cost.frames for cost in learn.costs(learn.read("campaign.toml")))
    # Dynamics: the energies of its frames are those of GPAW with PBE, to what is left of self-consistency (1e-5 eV).
    data = lake.open_run(lake.search("sample", kind="md")[0].id)
    first = next(a for a in frames if a.info["group"] == "LiCl md")
    again = first.copy()
    again.calc = calculator("gpaw", preset="aimd", ecut=200)
    energies = data["sample_energy"].values
    assert np.abs(energies - again.get_potential_energy()).min() < 1e-4
    # The potential knows what it was fitted to: 3 meV an atom when this was written.
    potential = str(tmp_path / "potentials" / "nothing-0.mtp")
    for atoms in frames:
        own = atoms.copy()
        own.calc = calculator("mtp", potential=potential)
        assert own.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=0.01 * len(atoms))
    assert _cli.main(["run", "campaign.toml"]) == 0
    assert capsys.readouterr().out.split()[-1] == fitted


def test_charged_site_energies_by_gpaw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One Li on T2, T4 or T5 of ordered P4S20Cl4, at half the cutoff of the page: differences of two charged cells."""
    settings = ["preset=site_energy", "ecut=150", "k_density=0", "energy_tolerance=1e-2", "stress=none"]
    settings.append('custom={"nbands": -4, "convergence": {"density": 1e-3, "eigenstates": 1e-5}}')
    command = ["site_energies", "--quantity", "charged", "--calculator", "gpaw", "--a", "9.94", "--inversion", "0"]
    assert _cli.main([*command, "--settings", *settings, "--lake", str(tmp_path / "lake")]) == 0
    lake = Lake(tmp_path / "lake")
    run_id = capsys.readouterr().out.split()[-1]
    data = lake.open_run(run_id)
    cells = {
        lake.record(name).parameters["calculator"]["charge"]: label.read_frames(lake, [name])
        for name in lake.record(run_id).inputs
    }
    assert {charge: [len(a) for a in found] for charge, found in cells.items()} == {-23.0: [29] * 3, -24.0: [28]}
    (bare,) = cells[-24.0]
    occupied = [a.get_potential_energy() for a in cells[-23.0]]
    np.testing.assert_array_equal(data["charged_site_energy"], np.array(occupied) - bare.get_potential_energy())
    # Those of docs/explanation/hull-and-site-energies.md, with 300 eV. What half the cutoff costs the anions is in both
    # cells; Li has one valence electron, and gives it away.
    np.testing.assert_allclose(data["mean"].sel(kind=["T2", "T4", "T5"]), [-3.62, -2.63, -3.47], atol=0.3)


def test_plane_waves_are_made_anew_for_every_cell() -> None:
    """The calculator that ASE moves a cell with, against a new one where it ends: the last energy is of that basis."""
    settings = {"preset": "aimd", "ecut": 250, "kpts": [2, 2, 2], "energy_tolerance": 1e-6}
    atoms = bulk("LiCl", "rocksalt", a=4.7)
    atoms.calc = calculator("gpaw", **settings)
    atoms.get_potential_energy()
    atoms.set_cell(atoms.cell.array * 1.08, scale_atoms=True)
    moved = atoms.get_potential_energy()
    fresh = bulk("LiCl", "rocksalt", a=4.7 * 1.08)
    fresh.calc = calculator("gpaw", **settings)
    # The same sums, of coordinates that differ in their last bit.
    assert moved == pytest.approx(fresh.get_potential_energy(), abs=1e-7)
