"""validate: a potential beside its teacher, which here is the same without its repulsion."""

import itertools
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import ase.io
import many_processes
import numpy as np
import pytest
from command import argyase
from matscipy.neighbours import neighbour_list

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError
from argyase.potentials.model_card import find_potential
from argyase.potentials.validation import equation_of_state
from argyase.stages import _cli, structures, validate
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

    # The same figure again from the lake alone, and errors of a part of the frames.
    assert _cli.main(["figures", "--lake", str(tmp_path / "lake"), "--figures", str(tmp_path / "again")]) == 0
    for kind in ("png", "svg", "pdf"):
        first, again = (tmp_path / folder / f"parity.{kind}" for folder in ("validation", "again"))
        assert first.read_bytes() == again.read_bytes()
    drawn = (tmp_path / "again" / "parity.svg").read_text()
    assert f"RMSE {found['force_eV_per_A']['all'][0]:.3g} eV/Å" in drawn
    assert f"slope {value:.3f}" in drawn
    lake = Lake(tmp_path / "lake")
    part = lake.open_run(validate.errors(lake, [str(frames)], "LiPSCl-7net-L10", ["* 300 K"])).isel(set=0)
    for group, (rmse, _, count) in found["force_eV_per_A"].items():
        if group.endswith(" 300 K"):
            assert float(part["force_rmse"].sel(group=group)) == pytest.approx(
                rmse, rel=1e-3
            )  # printed with four digits
            assert int(part["frames"].sel(group=group)) == count
    assert {str(g).rpartition(" 300 K")[1:] for g in part["group"].values if g != "all"} == {(" 300 K", "")}
    with pytest.raises(ConfigError, match=r"no labelled frame is of such a group; there are Li5\.5"):
        validate.errors(lake, [str(frames)], "LiPSCl-7net-L10", ["Li6PS5Br*"])


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
    assert 0 < len(found["barriers_eV"]) <= 3  # two may be one
    for forward, same, backward, also in found["barriers_eV"].values():
        # On the same path: rounding.
        assert forward == pytest.approx(same, abs=1e-9)
        assert backward == pytest.approx(also, abs=1e-9)
        assert max(forward, backward) > 0
    assert set(found["path_forces_eV_per_A"]) <= set(found["barriers_eV"])
    for everything, moving, movers in found["path_forces_eV_per_A"].values():
        assert everything < 1e-9
        assert moving < 1e-9
        assert movers >= 1
    assert found["path_errors"]["climb_eV"][0] < 1e-9
    for place, same, height, also in found["rdf_peaks"].values():
        assert place == same
        assert height == also
    assert found["rdf_peaks"]["P-S"][0] == pytest.approx(2.06, abs=0.1)  # the bond of PS4
    assert found["diffusivity"]["potential"] == found["diffusivity"]["teacher"]
    assert found["stability"]["Li6PS5Cl, 50 % inversion, 300 K"].startswith("survived at ")


def test_a_path_that_was_found_twice_counts_once(validated: Path) -> None:
    lake = Lake(validated / "lake")
    beside, there = next((r.id, r.parameters["path"]) for r in lake.search("barrier") if "path" in r.parameters)
    failed, twin = "failed: no rest", "the same path as 2"
    assert validate._twins(lake, [failed, there, there]) == [failed, there, twin]
    found = validate.Findings(
        find_potential("LiPSCl-study"),
        barriers=(("A", failed, failed), ("B", there, beside), ("C", twin, twin)),
    )
    exploded = "failed: step 9 (1.50 ps into production): it explodes. At the beginning: heat it first; later: not"
    found = replace(found, stability=((next(r.id for r in lake.search("structures")), 600.0, exploded),))
    text = validate.card(found, lake, "its twin")
    assert '600 K" = "step 9 (1.50 ps into production): it explodes"\n' in text
    assert "# 3: C: the same path as 2; not counted again\n" in text
    tables = tomllib.loads(text)["validation"]
    assert set(tables["barriers_eV"]) == {"1: A", "2: B"}
    assert set(tables["path_forces_eV_per_A"]) == {"2: B"}
    # By hand: the largest of all rises, both ways.
    energies = lake.open_run(there)["energy"].values
    rises = [later - earlier for n, earlier in enumerate(energies) for later in energies[n:]]
    falls = [earlier - later for n, earlier in enumerate(energies) for later in energies[n:]]
    forward, _, backward, _ = tables["barriers_eV"]["2: B"]
    assert [forward, backward] == pytest.approx([max(rises), max(falls)], abs=1e-3, rel=1e-3)  # four digits
    assert tables["path_errors"]["climb_eV"][2] == sum(way > 0 for way in (max(rises), max(falls)))


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
        found = equation_of_state(atoms, calculator("mtp", potential="LiPSCl-study"), held=["Li"], fmax=0.05)
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
    # The fourth, which had not begun, is computed all the same.
    with pytest.raises(CalculatorError, match=r"1 of 4 did not end, .* its process died: .* the 3 that were done"):
        in_processes(many_processes.killed, [1, 2, 3, 4], 1, silent)
    assert in_processes(many_processes.killed, [3, 1, 3, 4, 2], 2, silent, lambda why: 0) == [0, 1, 0, 4, 2]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(how: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, many_processes.__file__, str(file)])
    until = time.monotonic() + 60
    while not file.is_file() or len(file.read_text().split()) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    parent.send_signal(how)  # to it alone, as a batch system does
    parent.wait(timeout=30)  # what they do would take 60 s
    pids = [int(p) for p in file.read_text().split()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until, "a process outlived its parent"
        time.sleep(0.1)
