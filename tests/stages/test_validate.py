"""validate: a potential beside its teacher, which here is the same without its repulsion."""

import itertools
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import ase.io
import many_processes
import numpy as np
import pytest
from command import argyase
from matscipy.neighbours import neighbour_list

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError
from argyase.potentials.model_card import find_potential
from argyase.potentials.validation import equation_of_state
from argyase.stages import structures
from argyase.stages._run import in_processes, silent

CAMPAIGN = """
[validate]
potential = "LiPSCl-study"
calculator = "mtp"
settings = ["potential=LiPSCl-study", "repulsion=false"]
temperature_K = [300.0]
strain = [0.0]
equilibrate_ps = 0.2
produce_ps = 0.4
sample_ps = 0.2
melt_sample_ps = 0.0
stability_supercell = [1, 1, 1]
stability_ps = 0.5
melt_K = 0.0
dynamics_K = 600.0
dynamics_equilibrate_ps = 0.2
dynamics_produce_ps = 0.4
dynamics_timestep_fs = 2.0
barriers = 1
jobs = 2
[[structures]]
inversion = 0.5
a = 10.0
[[structures]]
phase = "LiCl"
supercell = [2, 2, 2]
"""


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validate")
    (folder / "validate.toml").write_text(CAMPAIGN)
    done = argyase("validate", "validate.toml", "--lake", "lake", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def table(folder: Path) -> dict:
    return tomllib.loads((folder / "validation" / "validation.toml").read_text())["validation"]


def test_errors_on_frames_that_somebody_labelled(tmp_path: Path) -> None:
    """The committed labels of GPAW: what the page about errors says of the teacher holds for its potential, too."""
    frames = Path(__file__).parents[2] / "campaigns/labels/LiPSCl-test20-gpaw-optB88.extxyz.gz"
    text = f"""
[validate]
potential = "LiPSCl-7net-L10"
calculator = "gpaw"
checks = ["errors"]
labels = ["{frames}"]
"""
    (tmp_path / "validate.toml").write_text(text + "[[structures]]\ninversion = 0.5\n")
    assert argyase("validate", "validate.toml", "--lake", "lake", cwd=tmp_path).returncode == 0
    found = table(tmp_path)
    assert found["force_eV_per_A"]["all"][2] == 20
    slopes = found["force_slope"]
    assert set(slopes) == {"all", "Li", "P", "S", "Cl"}
    # By hand, frame by frame.
    sums = np.zeros((20, 2))
    for n, atoms in enumerate(ase.io.read(frames, index=":")):
        exact = atoms.get_forces()
        atoms.calc = calculator("mtp", potential="LiPSCl-7net-L10")
        sums[n] = (exact * atoms.get_forces()).sum(), (exact**2).sum()
    value, low, high = slopes["all"]
    assert value == pytest.approx(sums[:, 0].sum() / sums[:, 1].sum(), abs=6e-4)  # printed with three decimals
    without = [np.delete(sums, n, axis=0).sum(axis=0) for n in range(20)]
    jackknife = np.sqrt(19 / 20 * np.var([a / b for a, b in without]) * 20)
    # Jackknife and linearised error differ in second order of the scatter of frames; t for 19 degrees of freedom.
    assert (high - low) / 2 == pytest.approx(2.093 * jackknife, rel=0.15)


def test_a_potential_is_its_own_teacher_in_crystals(validated: Path) -> None:
    found = table(validated)
    assert set(found["force_eV_per_A"]) == {"all", "Li6PS5Cl 300 K", "LiCl 300 K"}
    # No two atoms of these crystals come near enough for the repulsion: only rounding is left.
    for rmse, mae, frames in found["force_eV_per_A"].values():
        assert rmse < 1e-10
        assert mae <= rmse
        assert frames in (2, 4)
    for own, other in [*found["lattice_scale"].values(), *found["bulk_modulus_GPa"].values()]:
        assert own == other
    assert len(found["barriers_eV"]) == 3
    for forward, same, backward, also in found["barriers_eV"].values():
        # On the same path: rounding.
        assert forward == pytest.approx(same, abs=1e-9)
        assert backward == pytest.approx(also, abs=1e-9)
        assert max(forward, backward) > 0
    for place, same, height, also in found["rdf_peaks"].values():
        assert place == same
        assert height == also
    assert found["rdf_peaks"]["P-S"][0] == pytest.approx(2.06, abs=0.1)  # the bond of PS4
    assert found["diffusivity"]["potential"] == found["diffusivity"]["teacher"]
    assert found["stability"]["Li6PS5Cl, 50 % inversion, 300 K"].startswith("survived at ")


def test_the_scans_see_the_repulsion(validated: Path) -> None:
    lake = Lake(validated / "lake")
    alone = [r for r in lake.search("scan") if not r.inputs]
    runs = {r.parameters["calculator"]["repulsion"] != {}: lake.open_run(r.id) for r in alone}
    with_it, without = runs[True], runs[False]
    pairs = [f"{a}-{b}" for a, b in itertools.combinations_with_replacement(["Li", "P", "S", "Cl"], 2)]
    assert with_it["pair"].values.tolist() == pairs
    for pair, (_, outer) in find_potential("LiPSCl-study").repulsion.items():
        both = [d["energy"].sel(pair=pair) for d in (with_it, without)]
        far = with_it["r"] >= outer
        np.testing.assert_allclose(both[0].where(far, 0), both[1].where(far, 0), atol=1e-9)
        assert float(both[0][0]) > float(both[1][0]) + 10  # at 0.8 A, nuclei repel
    # The card of the study potential says so: with the table small dips where it begins, or falls that nothing reaches
    # (S-S climbs by 42 eV before).
    found = table(validated)
    for fall, passed in found["pair_scan_crystal_eV"].values():
        assert fall < 1.3 or passed > 40
    (crystal,) = (r for r in lake.search("scan") if r.inputs)
    data = lake.open_run(crystal.id)
    atoms = structures.to_atoms(lake.open_run(crystal.inputs[0]))
    nearest = neighbour_list("d", atoms[[a.symbol in "PS" for a in atoms]], 3.0).min()
    assert float(data["start"].sel(pair="P-S")) == pytest.approx(nearest)
    # At rest the scan begins, at zero.
    at_rest = data["energy"].sel(pair="P-S").sel(r=nearest, method="pad")
    assert abs(float(at_rest)) < 0.1


def test_what_it_published_is_what_the_library_gives(validated: Path) -> None:
    lake = Lake(validated / "lake")
    for record in lake.search("elasticity"):
        if record.parameters["formula"] != "LiCl":
            continue
        atoms = structures.to_atoms(lake.open_run(record.inputs[0]))
        assert len(atoms) == 8  # not of the supercell
        found = equation_of_state(atoms, calculator("mtp", potential="LiPSCl-study"), fmax=0.05)
        data = lake.open_run(record.id)
        assert float(data["bulk_modulus"]) == pytest.approx(found.bulk_modulus)
        assert float(data["lattice_scale"]) == pytest.approx((8 * found.volume / atoms.get_volume()) ** (1 / 3))
        np.testing.assert_allclose(data["scale"], (0.96, 0.975, 0.99, 1.0, 1.01, 1.025, 1.04))


def test_figures_are_there_and_a_second_time_nothing_is_computed(validated: Path) -> None:
    figures = {p.name for p in (validated / "validation").iterdir()}
    assert {"parity.png", "scans.svg", "rdf.png", "equations_of_state.svg", "validation.toml"} <= figures
    before = (validated / "validation" / "validation.toml").read_text()
    runs = sorted(r.id for r in Lake(validated / "lake").search())
    assert argyase("validate", "validate.toml", "--lake", "lake", cwd=validated).returncode == 0
    assert (validated / "validation" / "validation.toml").read_text() == before
    assert sorted(r.id for r in Lake(validated / "lake").search()) == runs


def test_wrong_campaigns(tmp_path: Path) -> None:
    file = tmp_path / "validate.toml"
    for text, said in (
        (CAMPAIGN + "[fit]\n", "unknown table [fit]"),
        (CAMPAIGN.replace("melt_K", 'labels = ["none.xyz"]\nmelt_K'), "validate.labels: none.xyz: no such file below"),
        (CAMPAIGN.replace("melt_K", 'checks = ["scans"]\nmelt_K'), "no check 'scans'; there are errors, scan"),
        ("[validate]\n", "give the structures as [[structures]] tables"),
        (CAMPAIGN.replace('potential = "LiPSCl-study"\n', 'potential = "x.mtp"\n'), "'x.mtp': no such file"),
    ):
        file.write_text(text)
        done = argyase("validate", file, "--lake", tmp_path / "lake")
        assert done.returncode != 0
        assert said in " ".join(done.stderr.split())


# ---- many processes ----


def test_a_process_that_dies_is_told() -> None:
    assert in_processes(many_processes.killed, [1, 2], 2, silent) == [1, 2]
    with pytest.raises(CalculatorError, match=r"a process died .* of 4 were done; they are kept: run the same command"):
        in_processes(many_processes.killed, [1, 2, 3, 4], 1, silent)


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, many_processes.__file__, str(file)])
    until = time.monotonic() + 60
    while not file.is_file() or len(file.read_text().split()) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    pids = [int(p) for p in file.read_text().split()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until, "a process outlived its parent"
        time.sleep(0.1)
