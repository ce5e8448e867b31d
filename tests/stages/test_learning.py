"""sample, select, label and learn: frames that are new to a potential, labelled once ever."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from command import argyase

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.datalake.trajectory import read_progress
from argyase.errors import CalculatorError, ConfigError, SimulationError
from argyase.potentials.active import GRADE_SELECT, ActiveSet, basis
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.stages import label, learn, md, sample, selection, structures
from argyase.stages._frames import frame_key, frames_of
from argyase.structures.argyrodite import argyrodite

STUDY = ("potential=LiPSCl-study",)
BY_STUDY = {"calculator": "mtp", "settings": STUDY}
for_study = partial(selection.Config, potential="LiPSCl-study")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def cell(lake: Lake) -> str:
    return structures.run(structures.Config(inversion=0.5, a=10.0), lake)[0]


def info(lake: Lake, run_id: str) -> list[Atoms]:
    return frames_of(lake, [run_id])[0]


# ---- sample ----


def test_dynamics_is_sampled_once(lake: Lake, cell: str) -> None:
    config = sample.Config(cell, temperature_K=600.0, strain=0.01, equilibrate_ps=0.4, produce_ps=0.6, **BY_STUDY)
    (run_id,) = sample.run(config, lake)
    frames = info(lake, run_id)
    assert len(frames) == 6
    assert {a.info["group"] for a in frames} == {"Li6PS5Cl md"}
    assert {a.info["trajectory"] for a in frames} == {run_id}
    assert {a.info["parent"] for a in frames} == {run_id}
    np.testing.assert_allclose(frames[0].cell.lengths(), 10.1)
    data = lake.open_run(run_id)
    # The energies are those of the frames, which are kept in double precision: rounding of some 1e2 eV.
    engine = calculator("mtp", potential="LiPSCl-study")
    for atoms, energy in zip(frames, data["sample_energy"].values, strict=True):
        atoms.calc = engine
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    assert lake.record(run_id).inputs == [cell]
    begin = time.monotonic()
    assert sample.run(config, lake) == [run_id]
    assert time.monotonic() - begin < 1.0
    assert sample.run(replace(config, seed=2), lake) != [run_id]


def test_the_active_set_is_part_of_a_sample(lake: Lake, cell: str, tmp_path: Path) -> None:
    # By its grades frames are kept, and dynamics end.
    shipped = find_potential("LiPSCl-study")
    for suffix in (".mtp", ".toml", ".active"):
        (tmp_path / f"own{suffix}").write_bytes(shipped.path.with_suffix(suffix).read_bytes())
    config = sample.Config(cell, settings=(f"potential={tmp_path / 'own.mtp'}",), equilibrate_ps=0.1, produce_ps=0.1)
    (graded,) = sample.run(config, lake)
    (tmp_path / "own.active").unlink()
    (ungraded,) = sample.run(config, lake)
    assert graded != ungraded
    assert lake.record(graded).parameters["calculator"] == lake.record(ungraded).parameters["calculator"]


def test_a_melt_that_leaves_the_domain_keeps_its_last_frame(lake: Lake, cell: str) -> None:
    # The study potential was never in a melt.
    (run_id,) = sample.run(sample.Config(cell, kind="melt_quench", **BY_STUDY), lake)
    ended = str(lake.record(run_id).scalars["ended"])
    assert ended.startswith("after step")
    frames = info(lake, run_id)
    potential = find_potential("LiPSCl-study")
    assert potential.active_set is not None
    active, engine = ActiveSet.load(potential.active_set), MTP(potential.path, potential.species)
    grades = [active.grades(basis(engine, atoms)).max() for atoms in frames]
    # On the way there, too: every frame is new, only the last is beyond the limit.
    assert min(grades) > GRADE_SELECT
    assert all(g < 10 for g in grades[:-1])
    assert grades[-1] > 10 or "temperature" in ended


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")  # it is meant to
def test_frames_before_dynamics_go_wrong_are_learned_from(lake: Lake, cell: str) -> None:
    # The grade does not warn: it is 1 all the way.
    config = sample.Config(
        cell, calculator="faulty_calculator:Explosive", settings=("calls=170",), temperature_K=300.0,
        equilibrate_ps=0.2, produce_ps=0.2, sample_ps=0.1, heat_rate_K_fs=1.0,
    )  # fmt: skip
    (run_id,) = sample.run(config, lake)
    scalars = lake.record(run_id).scalars
    assert "temperature" in str(scalars["ended"])
    temperatures = lake.open_run(run_id)["temperature"].values
    assert 0 < scalars["caught"] <= len(temperatures)
    assert temperatures.max() < 3 * 300 * 1.5  # none is as wrong as that at which it ended
    potential = find_potential("LiPSCl-study")
    frames = info(lake, run_id)
    active, engine = ActiveSet.load(potential.active_set), MTP(potential.path, potential.species)
    assert max(active.grades(basis(engine, atoms)).max() for atoms in frames) < GRADE_SELECT
    (selected,) = selection.run(for_study((run_id,)), lake)
    np.testing.assert_array_equal(info(lake, selected)[-1].positions, frames[-1].positions)
    # Of dynamics that ended as planned there is nothing to learn.
    (calm,) = sample.run(replace(config, settings=("calls=100000",)), lake)
    assert lake.record(calm).scalars["caught"] == 0
    assert selection.run(for_study((calm,)), lake) == []


SHORT = {"temperature_K": 300.0, "equilibrate_ps": 0.02, "produce_ps": 0.05, "sample_ps": 0.01, "heat_rate_K_fs": 29.0}
"""Samples of 5 steps: one to heat, two to equilibrate, five to keep."""


def breaking(tmp_path: Path, calls: int, dies: bool = False) -> dict[str, object]:
    settings = (f"calls={calls}", f"mended={tmp_path / 'mended'}", f"dies={str(dies).lower()}")
    return {"calculator": "faulty_calculator:Breaking", "settings": settings}


def test_an_engine_that_fails_ends_no_sample(
    lake: Lake, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory half way: nothing is published, and the same again goes on, to the frames of one without."""
    monkeypatch.setattr(sample, "CHECKPOINT_SECONDS", 0.0)
    config = sample.Config(cell, **SHORT, **breaking(tmp_path, 30))
    with pytest.raises(CalculatorError, match="the calculator failed: MemoryError: out of memory on the accelerator"):
        sample.run(config, lake)
    assert lake.search("sample") == []
    (left,) = lake.unfinished()
    assert (left.stage, left.state) == ("sample", "failed")
    assert "out of memory on the accelerator" in left.exit
    progress = read_progress(left.path)
    assert progress
    assert progress["state"]["step"] > 0
    (tmp_path / "mended").touch()
    (run_id,) = sample.run(config, lake)
    assert run_id == left.id
    assert lake.record(run_id).scalars["ended"] == "as planned"
    (whole,) = sample.run(replace(config, settings=breaking(tmp_path, 10**6)["settings"]), lake)
    ours, theirs = lake.open_run(run_id), lake.open_run(whole)
    assert ours.sizes["frame"] == sample.planned_frames(config) == 5
    np.testing.assert_array_equal(ours["positions"], theirs["positions"])
    np.testing.assert_array_equal(ours["temperature"], theirs["temperature"])


def test_one_that_fails_does_not_stop_the_others(lake: Lake, cell: str, tmp_path: Path) -> None:
    fails, dies = (breaking(tmp_path, 5, death) for death in (False, True))
    configs = [sample.Config(cell, **SHORT, **own) for own in (dies, fails, BY_STUDY)]
    configs.append(replace(configs[-1], seed=2))
    with pytest.raises(CalculatorError) as error:
        sample.run_all(configs, lake, 1)
    assert "sample: 2 of 4 runs failed" in str(error.value)
    said = str(error.value).splitlines()[1:]
    assert said[0].endswith("its process died: a crash, out of memory, or killed")
    assert "MemoryError: out of memory on the accelerator" in said[1]
    assert all(line.startswith(f"md of {cell[:8]}, 300 K, strain 0, by faulty_calculator:Breaking: ") for line in said)
    assert len(lake.search("sample")) == 2
    (tmp_path / "mended").touch()
    assert len(set(sample.run_all(configs[1:], lake, 1))) == 3


def test_rattled_and_squeezed(lake: Lake, cell: str) -> None:
    (rattled,) = sample.run(sample.Config(cell, kind="rattle", count=40, displacement=0.1, cell_strain=0.0), lake)
    ideal = info(lake, cell)[0].positions
    shifts = np.array([a.positions for a in info(lake, rattled)]) - ideal
    # 6240 numbers: their standard deviation is known to 1 %.
    assert shifts.std() == pytest.approx(0.1, rel=0.05)
    (squeezed,) = sample.run(sample.Config(cell, kind="squeeze", count=3, nearest=0.5), lake)
    frames = info(lake, squeezed)
    assert len(frames) == 10 * 3  # pairs of four species
    for atoms in frames:
        moved = np.flatnonzero(np.abs(atoms.positions - ideal).max(axis=1) > 1e-9)
        assert len(moved) == 2
        now = atoms.get_distance(*moved, mic=True)
        before = info(lake, cell)[0].get_distance(*moved, mic=True)
        assert min(abs(now / before - f) for f in (5 / 6, 4 / 6, 1 / 2)) < 1e-9


def test_wrong_samples(tmp_path: Path) -> None:
    for arguments, code, said in (
        (["--structure", "none"], 2, "neither a run of the lake nor a file"),
        (["--structure", "none", "--settings", "checkpoint"], 2, "neither"),
    ):
        done = argyase("sample", *arguments, "--lake", tmp_path / "lake")
        assert done.returncode == code
        assert said in " ".join(done.stderr.split())


# ---- label ----


class Counting(Calculator):
    """Springs to the origin, slow on demand; counts its calls in a file; fails for an atom beyond 90 A."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, log: str, seconds: float = 0.0) -> None:
        super().__init__()
        self.log, self.seconds = log, seconds

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.seconds)
        with Path(self.log).open("a") as file:
            file.write(f"{frame_key(atoms)}\n")
        x = atoms.positions
        if np.abs(x).max() > 90 and not Path(self.log + ".mended").exists():
            raise ValueError("did not converge")
        self.results = {"energy": 0.5 * float((x**2).sum()), "forces": -x, "stress": np.arange(6.0)}


def frames_file(tmp_path: Path, count: int, far: int = -1) -> Path:
    rng = np.random.default_rng(0)
    frames = [Atoms("Li2S", rng.uniform(0, 5, (3, 3)), cell=[9, 9, 9], pbc=True) for _ in range(count)]
    if far >= 0:
        frames[far].positions[0] += 100
    path = tmp_path / f"frames-{count}.extxyz"
    ase.io.write(path, frames)
    return path


def counting(tmp_path: Path, seconds: float = 0.0) -> dict[str, object]:
    settings = (f"log={tmp_path / 'calls'}", f"seconds={seconds}")
    return {"calculator": "test_learning:Counting", "settings": settings}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file, by its name, here and in the processes that are started."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, str(Path(__file__).parents[1])]))


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().split()


def test_each_frame_is_labelled_once_ever(lake: Lake, tmp_path: Path) -> None:
    some, more = frames_file(tmp_path, 4), frames_file(tmp_path, 7)
    (first,) = label.run(label.Config((str(some),), **counting(tmp_path)), lake)
    assert len(calls(tmp_path)) == 4
    (second,) = label.run(label.Config((str(some), str(more)), jobs=2, **counting(tmp_path)), lake)
    # The first four of the second file are those of the first; three are new.
    assert len(calls(tmp_path)) == len(set(calls(tmp_path))) == 7
    assert label.run(label.Config((str(some),), **counting(tmp_path)), lake) == [first]
    frames = label.read_frames(lake, [second])
    assert len(frames) == 7
    for atoms in frames:
        np.testing.assert_array_equal(atoms.get_forces(), -atoms.positions)
        assert atoms.get_potential_energy() == pytest.approx(0.5 * (atoms.positions**2).sum(), rel=1e-14)
        np.testing.assert_array_equal(atoms.get_stress(), np.arange(6.0))


def test_failures_are_told_kept_and_tried_again(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = frames_file(tmp_path, 3, far=1)
    config = label.Config((str(path),), **counting(tmp_path))
    (partial,) = label.run(config, lake)
    assert len(label.read_frames(lake, [partial])) == 2
    assert lake.record(partial).scalars["failed"] == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"not labelled: {path.name} frame 1: ValueError: did not converge" in said
    assert "try them again with --retry-failed" in said
    label.run(config, lake)
    assert len(calls(tmp_path)) == 3
    (tmp_path / "calls.mended").touch()
    (whole,) = label.run(replace(config, retry_failed=True), lake)
    assert len(calls(tmp_path)) == 4
    assert len(label.read_frames(lake, [whole])) == 3
    only = frames_file(tmp_path, 1, far=0)
    (tmp_path / "calls.mended").unlink()
    with pytest.raises(CalculatorError, match=r"none of 1 frames could be labelled .* did not converge"):
        label.run(replace(config, frames=(str(only),)), lake)


def test_two_at_once_and_a_kill(lake: Lake, tmp_path: Path) -> None:
    path = frames_file(tmp_path, 10)
    settings = [f"log={tmp_path / 'calls'}", "seconds=0.2"]
    command = [sys.executable, "-m", "argyase.stages._cli", "label", "--frames", str(path), "--lake", str(lake.path)]
    command += ["--calculator", "test_learning:Counting", "--settings", *settings]
    # Not from the source tree: there the package has no compiled parts.
    processes = [subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, text=True) for _ in range(3)]
    while not (tmp_path / "calls").exists():
        time.sleep(0.02)
    os.kill(processes[0].pid, signal.SIGKILL)
    ids = [process.communicate()[0].strip() for process in processes]
    assert ids[0] == ""
    assert ids[1] == ids[2] != ""
    # At most the frame that the killed one was at is computed twice.
    assert len(set(calls(tmp_path))) == 10
    assert len(calls(tmp_path)) <= 11
    assert len(label.read_frames(lake, [ids[1]])) == 10


def test_export_is_read_again(lake: Lake, tmp_path: Path, cell: str) -> None:
    (sampled,) = sample.run(sample.Config(cell, kind="rattle", count=3), lake)
    file = tmp_path / "out.extxyz.gz"
    (run_id,) = label.run(label.Config((sampled,), export=str(file), **BY_STUDY), lake)
    own, again = label.read_frames(lake, [run_id]), ase.io.read(file, index=":")
    for a, b in zip(own, again, strict=True):
        assert (
            (a.info["group"], a.info["trajectory"])
            == (b.info["group"], b.info["trajectory"])
            == ("Li6PS5Cl rattle", sampled)
        )
        # Eight digits in the file.
        np.testing.assert_allclose(b.get_forces(), a.get_forces(), atol=1e-7)
        np.testing.assert_allclose(b.get_stress(), a.get_stress(), atol=1e-7)


def test_packed_files_are_read_as_ase_does(lake: Lake) -> None:
    file = CAMPAIGNS / "labels" / "LiPSCl-test20-gpaw-optB88.extxyz.gz"
    own, expected = frames_of(lake, [str(file)])[0], ase.io.read(file, index=":")
    assert len(own) == 20
    for a, b in zip(own, expected, strict=True):
        assert a == b
        assert a.info.items() >= b.info.items()
        assert a.get_potential_energy() == b.get_potential_energy()
        np.testing.assert_array_equal(a.get_forces(), b.get_forces())


# ---- select ----


def test_what_is_new_is_selected(lake: Lake, cell: str, tmp_path: Path) -> None:
    (known,) = sample.run(
        sample.Config(cell, temperature_K=300.0, equilibrate_ps=0.2, produce_ps=0.5, **BY_STUDY), lake
    )
    (new,) = sample.run(sample.Config(cell, kind="rattle", count=6, displacement=0.4), lake)
    assert selection.run(for_study((known,)), lake) == []
    (run_id,) = selection.run(for_study((known, new), grade_break=1e9), lake)
    data = lake.open_run(run_id)
    frames = info(lake, run_id)
    assert {a.info["parent"] for a in frames} == {new}
    assert lake.record(run_id).inputs == [known, new]
    assert data["grade"].values.min() > GRADE_SELECT
    # With them in the active set, no atom of a candidate is far from it.
    potential = find_potential("LiPSCl-study")
    assert potential.active_set is not None
    engine = MTP(potential.path, potential.species)
    old = ActiveSet.load(potential.active_set)
    rows = [basis(engine, a) for a in [*frames, *info(lake, new)]]
    from argyase.potentials.active import maxvol

    larger = maxvol(np.concatenate([old.rows, *rows[: len(frames)]]))
    coefficients = np.linalg.solve(larger.rows.T, np.concatenate(rows).T)
    assert np.abs(coefficients).max() < GRADE_SELECT
    (few,) = selection.run(for_study((new,), grade_break=1e9, most=2), lake)
    assert len(info(lake, few)) == 2
    # In layers: the first choice, and more, each frame once; with enough of them, all that are new.
    (many,) = sample.run(sample.Config(cell, kind="rattle", count=40, displacement=0.4), lake)
    chosen = []
    for layers in (1, 2, 40):
        (run_id,) = selection.run(for_study((many,), grade_break=1e9, nearest=0.0, layers=layers), lake)
        chosen.append([a.info["parent_frame"] for a in info(lake, run_id)])
    assert set(chosen[0]) < set(chosen[1]) < set(chosen[2])
    grades = [old.grades(basis(engine, a)).max() for a in info(lake, many)]
    assert chosen[2] == [n for n, grade in enumerate(grades) if grade > GRADE_SELECT]
    # Of what is known, so many frames of each trajectory, the last one among them.
    (evenly,) = selection.run(for_study((known,), each=2), lake)
    assert [a.info["parent_frame"] for a in info(lake, evenly)] == [2, 4]
    assert lake.record(evenly).scalars["candidates"] == 0
    # Displaced crystals do not follow from each other: one that is far beyond takes nothing from the others.
    (all_the_same,) = selection.run(for_study((new,)), lake)
    assert all_the_same != few
    assert len(info(lake, all_the_same)) > 2
    # Of a trajectory that left the domain, the first frame beyond counts.
    path = tmp_path / "trajectory.extxyz"
    ase.io.write(path, [Atoms(a.symbols, a.positions, cell=a.cell, pbc=True) for a in info(lake, new)])
    trajectory = ase.io.read(path, index=":")
    for atoms in trajectory:
        atoms.info["trajectory"] = "one"
    ase.io.write(path, trajectory)
    (first,) = selection.run(for_study((str(path),)), lake)
    assert len(info(lake, first)) == 1


def test_wrong_choices(lake: Lake, cell: str) -> None:
    for wrong in ({"layers": 0}, {"most": 0}, {"grade_select": 0.5}, {"grade_select": 3.0, "grade_break": 2.0}):
        with pytest.raises(ConfigError, match="one frame, and one layer at least"):
            selection.run(for_study((cell,), **wrong), lake)


def test_frames_before_lost_atoms_are_candidates(lake: Lake, cell: str) -> None:
    config = md.Config(
        cell,
        potential="LiPSCl-study",
        temperature_K=4000.0,
        sample_ps=0.02,
        grade_every=0,
        max_temperature_factor=10.0,
        segments=(md.Segment("produce", "nvt", duration_ps=20.0),),
    )
    with pytest.raises(Exception, match="are in the lake as run"):
        md.run(config, lake)
    (failed,) = [r.id for r in lake.search("md-failed")]
    (run_id,) = selection.run(for_study((failed,)), lake)
    frames = info(lake, run_id)
    assert len(frames) >= 1
    assert {a.info["trajectory"] for a in frames} == {failed}


# ---- step by step ----


def test_the_commands_of_the_small_campaign(tmp_path: Path) -> None:
    """As its comments have them: every result is the input of the next command; a second time nothing is computed."""
    campaign = Path(__file__).parents[2] / "campaigns" / "small_sampling.toml"
    lines = [line[1:].strip() for line in campaign.read_text().splitlines() if line.startswith("#   argyase")]
    assert len(lines) == 8
    ids: dict[str, list[str]] = {}
    for line in [*lines, *lines]:
        text, _, name = line.partition(" # ")
        words = [w for word in text.split()[1:] for w in ids.get(word, [word])]
        words = [str(campaign) if w == "campaigns/small_sampling.toml" else w for w in words]
        done = argyase(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = done.stdout.split()
        assert ids.setdefault(name.strip(), found) == found
        assert found
    lake = Lake(tmp_path / "lake")
    assert lake.record(ids["LABELS"][0]).inputs == [*ids["NEW"], *ids["SQUEEZE"]]
    assert len(ase.io.read(tmp_path / "labels.extxyz.gz", index=":")) > 20
    assert (tmp_path / "small.mtp").is_file()


# ---- learn ----

CAMPAIGN = """
[learn]
output = "{output}"
rounds = 2
temperature_K = [900.0]
strain = [0.0]
melt_strain = []
jobs = {jobs}
[[structures]]
inversion = 0.5
a = 10.0
[sample]
count = 2
displacement = 0.02
cell_strain = 0.002
nearest = 0.98
equilibrate_ps = 0.1
produce_ps = 0.3
[label]
calculator = "mtp"
settings = ["potential=LiPSCl-study"]
[fit]
level = 6
max_iterations = 5
seeds = [1]
held_out = 0.0
"""


def test_the_loop_learns_and_goes_on(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "learn.toml"
    file.write_text(CAMPAIGN.format(output=tmp_path / "own", jobs=2))
    done = argyase("learn", file, "--lake", lake.path)
    assert done.returncode == 0, done.stderr
    fits = done.stdout.split()
    assert len(fits) >= 2  # crystals nearly at rest do not teach dynamics at 900 K
    counts = [int(lake.open_run(f)["frames"].sel(group="all").sum()) for f in fits]
    assert counts == sorted(set(counts))
    assert find_potential(str(tmp_path / f"own-{len(fits) - 1}.mtp")).active_set is not None
    new = ase.io.read(tmp_path / "own-1-labels.extxyz.gz", index=":")
    assert len(new) == counts[1] - counts[0]
    assert new[0].get_forces().shape == (52, 3)
    # How it ended is said, and kept with the number of new frames of each round.
    (ended,) = lake.search("learn")
    assert ended.inputs == fits
    new_frames = lake.open_run(ended.id)["new_frames"].values.tolist()
    assert new_frames[0] > 0
    assert ended.scalars == {"rounds": len(new_frames), "new_in_last_round": new_frames[-1]}
    by_rounds = len(fits) == 3
    assert ended.parameters == {"ended": "rounds" if by_rounds else "nothing is new"}
    assert ("ended after learn.rounds = 2 rounds" in done.stderr) == by_rounds
    # All parents are there, down to the structure.
    (label_run,) = lake.record(fits[0]).inputs
    assert lake.record(lake.record(label_run).inputs[0]).stage == "sample"
    begin = time.monotonic()
    again = argyase("learn", file, "--lake", lake.path)
    assert again.stdout.split() == fits
    assert time.monotonic() - begin < 60
    assert [record.id for record in lake.search("learn")] == [ended.id]


def test_rounds_that_run_out_are_no_convergence(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One round of dynamics that finds something new, and one that is allowed to find nothing."""
    file = tmp_path / "learn.toml"
    text = CAMPAIGN.format(output=tmp_path / "own", jobs=1)
    file.write_text(text.replace("rounds = 2", "rounds = 1"))
    fits = learn.run(learn.read(str(file)), lake)
    (ended,) = lake.search("learn", ended="rounds")
    (found,) = lake.open_run(ended.id)["new_frames"].values.tolist()
    said = " ".join(capsys.readouterr().err.split())
    assert "ended after learn.rounds = 1 rounds; it is not known whether anything is new to own-1" in said
    assert f"To own-0 {found} frames were, in the last round" in said
    assert found > 0
    assert len(fits) == 2
    # Grades that nothing exceeds: it ends because nothing is new.
    file.write_text(text + "[select]\ngrade_select = 1e99\ngrade_break = 1e99\n")
    fits = learn.run(learn.read(str(file)), lake)
    (ended,) = lake.search("learn", ended="nothing is new")
    assert ended.inputs == fits
    assert ended.scalars == {"rounds": 1, "new_in_last_round": 0}
    assert "ended after" not in capsys.readouterr().err


def test_wrong_campaigns(tmp_path: Path) -> None:
    file = tmp_path / "learn.toml"
    for text, said in (
        ("[lern]\n", "unknown table [lern]"),
        ('[learn]\noutput = "x"\n', "give the structures as [[structures]] tables"),
        (CAMPAIGN.format(output="x", jobs=1).replace("rounds", "round"), "did you mean 'rounds'"),
        (
            CAMPAIGN.format(output="x", jobs=1) + "[orderings]\nx = 0.5\n",
            "orderings.x: it is that of each of the [[structures]]",
        ),
        (
            '[learn]\noutput = "x"\n[[structures]]\nphase = "LiCl"\n[orderings]\n',
            "structures.phase = 'LiCl': with [orderings] the structures are unit cells of argyrodites",
        ),
    ):
        file.write_text(text)
        done = argyase("learn", file, "--lake", tmp_path / "lake")
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())


CAMPAIGNS = Path(__file__).parents[2] / "campaigns"


def test_the_training_set_of_the_paper() -> None:
    """Jang et al. 2025: 1200 frames of each crystal, 1110 of each amorphous phase, 11,550; 840 of elements and LiCl."""
    campaign = learn.read(str(CAMPAIGNS / "paper_training.toml"))
    found = learn.costs(campaign)
    frames: dict[tuple[int, str], int] = {}
    for cost in found:
        key = (int(cost.config.structure), cost.config.kind)
        frames[key] = frames.get(key, 0) + cost.frames
        parts = sample.dynamics(cost.config).schedule()
        assert cost.steps == parts[-1].last
        if cost.config.kind == "md":  # heated at 0.5 K/fs, 20 ps, 10 ps
            length = (cost.config.temperature_K - 10) / 0.5e3 + 30
            assert cost.frames == 100
        elif cost.config.kind == "melt_quench":
            length = 10 + 20 + 17
        else:  # heated at 0.5 K/fs to 300 K, 10 ps, 42 ps
            length = 290 / 0.5e3 + 10 + 42
        # Each piece is rounded up to whole samples.
        assert 0 <= cost.steps * 2e-3 - length < cost.config.sample_ps + 1e-9
    crystals, precursors = range(5), range(5, 9)
    assert frames == {
        **{(n, "md"): 1200 for n in crystals},
        **{(n, "melt_quench"): 1110 for n in crystals},
        **{(n, "heating"): 210 for n in precursors},
    }
    assert sum(frames.values()) == 11550 + 840
    assert [c.formula for c in found[-4:]] == ["Li", "P", "S", "LiCl"]
    conditions = {(c.config.temperature_K, c.config.strain) for c in found if c.config.kind == "md"}
    assert conditions == {(t, s) for t in (300, 600, 900, 1200) for s in (-0.05, 0.0, 0.05)}
    fit = campaign.fit
    weights = np.array([fit.energy_weight, fit.force_weight, fit.stress_weight])
    np.testing.assert_allclose(weights / weights[0], [1, 1e-2, 1e-4])


def test_what_it_costs_is_said_before(tmp_path: Path) -> None:
    done = argyase("run", CAMPAIGNS / "paper_training.toml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = [
        line.split() for line in done.stdout.splitlines() if " md " in line or "melt_" in line or "heating" in line
    ]
    assert len(listed) == 5 * (12 + 3) + 4
    steps, frames = (sum(int(words[n].replace(",", "")) for words in listed) for n in (-2, -1))
    assert f"79 runs by vasp preset=aimd: {steps:,} MD steps, {frames:,} frames" in done.stdout
    assert "12,390 single points of these dynamics by vasp preset=label" in done.stdout
    # Distributions of S and Cl by Burnside (tests/structures/test_ordering.py): 1, 2, 1, 1, 1 for the five; 2 at x = 0
    # and 50 %, one each at the other 14 of 15 points of the hull.
    vasp = "by vasp preset=relax"
    assert "6 distributions of S and halide over 5 compositions: 72 relaxations at most by mtp" in done.stdout
    assert f"then 6 relaxations at most {vasp}" in done.stdout
    assert f"then 16 relaxations at most {vasp}, and 6 of reference phases" in done.stdout
    assert "single points at most of charged site energies by vasp preset=site_energy" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_training_made_small_ends_in_a_potential(tmp_path: Path) -> None:
    small = CAMPAIGNS / "paper_training_small.toml"
    first = argyase("run", small, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    lake = Lake(tmp_path / "lake")
    counts = lake.open_run(first.stdout.split()[-1])["frames"].sel(set="training")
    planned = learn.costs(learn.read(str(small)))
    groups = {g: int(n) for g, n in zip(counts["group"].values.astype(str), counts.values, strict=True)}
    assert groups.pop("all") == sum(cost.frames for cost in planned) == sum(groups.values())
    assert set(groups) == {"Li6PS5Cl md", "Li6PS5Cl melt", "Li6PS5Cl quench", "LiCl heating"}
    # The crystal is the lowest of its relaxed orderings, not one as built; hull and site energies came, too.
    (compared,) = lake.search("orderings")
    sampled = {r.inputs[0] for r in lake.search("sample") if r.parameters["kind"] == "md"}
    assert sampled == {compared.scalars["lowest_run"]}
    (hull,) = lake.search("hull")
    assert compared.id in hull.inputs
    (site_energies,) = lake.search("site_energies")
    assert site_energies.parameters["inversion"] == 0.0
    atoms = argyrodite(a=10.0)
    atoms.calc = calculator("mtp", potential=str(tmp_path / "potentials" / "small-0.mtp"))
    assert np.isfinite(atoms.get_potential_energy())
    assert argyase("run", small, cwd=tmp_path).stdout == first.stdout


@pytest.mark.parametrize("kind", ["md", "melt_quench", "heating"])
def test_a_protocol_is_shortened_as_a_whole(kind: str) -> None:
    config = sample.Config(structure="any", kind=kind)  # type: ignore[arg-type]
    whole, short = (sample.ramps(replace(config, shorten=f)) for f in (1.0, 100.0))
    for a, b in zip(whole, short, strict=True):
        assert replace(b, duration_ps=a.duration_ps) == a
        assert a.duration_ps == pytest.approx(100 * b.duration_ps)
    with pytest.raises(ConfigError, match=r"sample\.shorten = 0\.0: must be positive"):
        sample.ramps(replace(config, shorten=0.0))


def test_a_loop_may_begin_with_dynamics_of_the_teacher(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "learn.toml"
    begin = 'rounds = 0\nseeds = false\ncalculator = "mtp"\nsettings = ["potential=LiPSCl-study"]'
    file.write_text(CAMPAIGN.format(output=tmp_path / "own", jobs=1).replace("rounds = 2", begin))
    (fitted,) = learn.run(learn.read(str(file)), lake)
    frames = frames_of(lake, [lake.record(fitted).inputs[0]])[0]
    assert [a.info["group"] for a in frames] == ["Li6PS5Cl md"] * 3
    assert lake.record(frames[0].info["parent"]).parameters["calculator"]["potential"] == "LiPSCl-study"


def test_a_teacher_that_ends_early_does_not_teach(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless it is allowed to; which, why and after how many frames is said in either case."""
    file = tmp_path / "learn.toml"
    begin = 'rounds = 0\nseeds = false\ncalculator = "mtp"\nsettings = ["potential=LiPSCl-study"]'
    text = CAMPAIGN.format(output=tmp_path / "own", jobs=1).replace("rounds = 2", begin)
    # Half of twice the first temperature turns into potential energy; then it is heated, too far for this limit.
    file.write_text(text.replace("[sample]", "[sample]\nmax_temperature_factor = 0.3"))
    with pytest.raises(SimulationError, match=r"1 of 1 dynamics by mtp, the teacher, ended early; .*early_ends"):
        learn.run(learn.read(str(file)), lake)
    (run,) = lake.search("sample")
    frames = run.scalars["frames"]
    told = rf"early: md of \w{{8}}, 900 K, strain 0, by mtp: {frames} of 3 frames \(run {run.id[:8]}\): .*temperature"
    assert re.search(told, " ".join(capsys.readouterr().err.split()))
    assert lake.search("label") == []
    allowed = file.read_text().replace("rounds = 0", "rounds = 0\nearly_ends = true\n")
    file.write_text(allowed.replace("seeds = false", "seeds = true"))
    (fitted,) = learn.run(learn.read(str(file)), lake)
    assert int(lake.open_run(fitted)["frames"].sel(group="all").sum()) >= frames


def test_the_campaign_is_read(tmp_path: Path) -> None:
    file = tmp_path / "learn.toml"
    file.write_text(CAMPAIGN.format(output="x", jobs=1))
    found = learn.read(str(file))
    assert found.fit.level == 6
    assert found.sample.count == 2
    assert found.structures[0].inversion == 0.5
