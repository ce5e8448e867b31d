"""What goes wrong when thousands of frames are labelled: engines that crash, fail or do not start, frames of all kinds.

That each frame is computed once, and what a kill costs, is in test_learning.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from faulty_calculator import DIES, FAILS, NAN
from hypothesis import given
from hypothesis import strategies as st
from strategies import random_atoms, seeds

from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError
from argyase.schemas import LABEL
from argyase.stages import label, structures
from argyase.stages import lake as lake_command
from argyase.stages._frames import frame_key, pack, packable, unpack

TESTS = str(Path(__file__).parents[1])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def file(folder: Path, xs: list[float], name: str = "frames.extxyz", **info: str) -> str:
    """Frames of two atoms, told apart by x of the first."""
    frames = [Atoms("LiS", [[x, 0, 0], [0, 1.5, 0]], cell=[9, 9, 9], pbc=True) for x in xs]
    for atoms in frames:
        atoms.info.update(info)
    ase.io.write(folder / name, frames)
    return str(folder / name)


def engine(folder: Path, seconds: float = 0.0) -> dict[str, Any]:
    return {"calculator": "faulty_calculator:Faulty", "settings": (f"log={folder / 'calls'}", f"seconds={seconds}")}


def calls(folder: Path) -> list[str]:
    log = folder / "calls"
    return log.read_text().split() if log.exists() else []


def command(lake: Lake, frames: str, folder: Path, *more: str, seconds: float = 0.0) -> subprocess.Popen[str]:
    """``argyase label`` in a process and a session of its own."""
    made = engine(folder, seconds)
    arguments = ["label", "--lake", str(lake.path), "--frames", frames, "--calculator", made["calculator"]]
    return subprocess.Popen(
        [sys.executable, "-m", "argyase.stages._cli", *arguments, "--settings", *made["settings"], *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        env={**os.environ, "PYTHONPATH": TESTS}, start_new_session=True,
    )  # fmt: skip


# ---- frames ----


def test_frames_come_back_as_they_were(lake: Lake, tmp_path: Path) -> None:
    """A molecule in a box stays a molecule: it does not become a crystal on its way through the lake."""
    water = molecule("H2O", vacuum=3.0)
    crystal = Atoms("Cu4", [[0, 0, 0], [0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0.1]], cell=[3.6, 3.6, 3.6], pbc=True)
    assert not water.pbc.any()
    assert water.cell.rank == 3
    path = tmp_path / "mixed.extxyz"
    ase.io.write(path, [water, crystal])
    config = label.Config((str(path),), calculator="ase.calculators.emt:EMT", export=str(tmp_path / "out.extxyz.gz"))
    (run_id,) = label.run(config, lake)
    for found in (label.read_frames(lake, [run_id]), ase.io.read(tmp_path / "out.extxyz.gz", index=":")):
        assert [a.pbc.tolist() for a in found] == [[False] * 3, [True] * 3]
        for a, wanted in zip(found, (water, crystal), strict=True):
            wanted.calc = EMT()
            assert a.get_potential_energy() == pytest.approx(wanted.get_potential_energy(), abs=1e-6)
            np.testing.assert_allclose(a.get_forces(), wanted.get_forces(), atol=1e-6)
        assert "stress" not in found[0].calc.results
        np.testing.assert_allclose(found[1].get_stress(), crystal.get_stress(), atol=1e-7)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@given(st.lists(st.tuples(seeds, st.integers(1, 6), st.booleans()), min_size=1, max_size=4))
def test_what_is_packed_is_unpacked(kinds: list[tuple[int, int, bool]]) -> None:
    frames = []
    for seed, n, periodic in kinds:
        atoms = random_atoms(np.random.default_rng(seed), n)
        atoms.pbc = periodic
        atoms.info = {"group": f"g{seed % 3}", "trajectory": "t", "parent": "p", "parent_frame": seed}
        frames.append(packable(atoms))
    labels = {
        "energy": [float(len(a)) for a in frames],
        "forces": np.concatenate([a.positions for a in frames]),
        "stress": [np.arange(6.0) if a.pbc.all() else np.full(6, np.nan) for a in frames],
        "voigt": ["xx", "yy", "zz", "yz", "xz", "xy"],
    }
    for a, b in zip(frames, unpack(pack(LABEL, frames, **labels)), strict=True):
        assert frame_key(a) == frame_key(b)
        assert a.info == b.info
        assert b.get_potential_energy() == len(a)
        np.testing.assert_array_equal(b.get_forces(), a.positions)
        assert ("stress" in b.calc.results) == a.pbc.all()


def test_slabs_are_refused_before_anything_is_computed(lake: Lake, tmp_path: Path) -> None:
    slab = Atoms("Cu", cell=[3, 3, 9], pbc=[True, True, False])
    ase.io.write(tmp_path / "slab.extxyz", [slab])
    with pytest.raises(ConfigError, match=r"slab.extxyz frame 0: periodic in \[True, True, False\].* with a vacuum"):
        label.run(label.Config((str(tmp_path / "slab.extxyz"),), **engine(tmp_path)), lake)
    assert calls(tmp_path) == []


def test_the_same_frames_of_another_group_are_another_run(lake: Lake, tmp_path: Path) -> None:
    """Which group and trajectory a frame is of decides what is held out of a fit."""
    found = []
    for group in ("melt", "crystal", "melt"):
        path = file(tmp_path, [1.0, 2.0], group=group)
        found.append(label.run(label.Config((path,), **engine(tmp_path)), lake))
        assert {a.info["group"] for a in label.read_frames(lake, found[-1])} == {group}
    assert found[0] == found[2] != found[1]
    assert calls(tmp_path) == ["built", "1", "2"]


# ---- engines ----


def test_without_a_stress_there_is_none(lake: Lake, tmp_path: Path) -> None:
    (run_id,) = label.run(label.Config((file(tmp_path, [1.0]),), **engine(tmp_path)), lake)
    assert np.isnan(lake.open_run(run_id)["stress"]).all()
    assert sorted(label.read_frames(lake, [run_id])[0].calc.results) == ["energy", "forces"]


def test_a_failure_is_one_for_all(lake: Lake, tmp_path: Path) -> None:
    """A second command at the same time does not try again what the first has just failed at."""
    frames = file(tmp_path, [1.0, 2.0, FAILS, NAN, 3.0, 4.0])
    both = [command(lake, frames, tmp_path, seconds=0.3) for _ in range(2)]
    said = [" ".join(process.communicate(timeout=120)[1].split()) for process in both]
    assert [p.returncode for p in both] == [0, 0], said
    for text in said:
        assert "frame 2: ValueError: did not converge" in text
        assert "frame 3: CalculatorError: the energy is not finite" in text
    assert sorted(c for c in calls(tmp_path) if c != "built") == sorted(["1", "2", "60", "80", "3", "4"])


def test_failures_are_listed(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = file(tmp_path, [1.0, FAILS, 2.0])
    label.run(label.Config((frames,), **engine(tmp_path)), lake)
    assert lake_command.main(["failures", "--lake", str(lake.path)]) == 0
    assert capsys.readouterr().out.split("\n") == [
        f"frames.extxyz frame 1  LiS  faulty_calculator:Faulty log={tmp_path / 'calls'} seconds=0.0: "
        "ValueError: did not converge",
        "1 failures",
        "",
    ]
    lake_command.main(["failures", "--lake", str(lake.path), "--calculator", "vasp"])
    assert capsys.readouterr().out == "0 failures\n"


def test_an_engine_is_made_anew_after_an_error_and_only_when_there_is_work(lake: Lake, tmp_path: Path) -> None:
    label.run(label.Config((file(tmp_path, [1.0, FAILS, 2.0, 3.0]),), **engine(tmp_path)), lake)
    assert calls(tmp_path) == ["built", "1", "60", "built", "2", "3"]
    label.run(label.Config((file(tmp_path, [3.0, 2.0]),), **engine(tmp_path)), lake)
    assert calls(tmp_path).count("built") == 2


def test_a_frame_that_crashes_the_engine_is_given_up(lake: Lake, tmp_path: Path) -> None:
    """A segmentation fault, or memory that ran out; the other frames are labelled by the same command."""
    frames = file(tmp_path, [1.0, DIES, 2.0, 3.0, 4.0])
    process = command(lake, frames, tmp_path, "--jobs", "2", seconds=0.1)
    ids, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "frame 1: 3 processes died while they computed it" in " ".join(said.split())
    assert "Traceback" not in said
    assert len(label.read_frames(lake, ids.split())) == 4
    assert calls(tmp_path).count("70") == 3
    # In the process of the command itself, and tried again when asked.
    for _ in range(3):
        assert command(lake, frames, tmp_path, "--retry-failed", "true").wait(timeout=60) == 1
    assert calls(tmp_path).count("70") == 6
    assert label.run(label.Config((frames,), **engine(tmp_path, 0.1)), lake) == ids.split()


def test_sigterm_is_no_death_of_a_frame(lake: Lake, tmp_path: Path) -> None:
    """As a queueing system stops a job, again and again: nothing is given up."""
    frames = file(tmp_path, [1.0, 2.0, 3.0])
    for n in range(4):
        process = command(lake, frames, tmp_path, "--jobs", "2", seconds=1.5)
        deadline = time.monotonic() + 60
        while calls(tmp_path).count("built") < 2 * (n + 1) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "Traceback" not in said
    locks = list((lake.path / "store").rglob("*.lock"))
    assert locks
    assert [path.stat().st_size for path in locks] == [0] * len(locks)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_engine_that_does_not_start_says_why(jobs: int, lake: Lake, tmp_path: Path) -> None:
    made = {"calculator": "faulty_calculator:no_licence", "settings": ("log=here",)}
    config = label.Config((file(tmp_path, [1.0, 2.0]),), jobs=jobs, **made)
    with pytest.raises(CalculatorError, match="RuntimeError: no licence, see here"):
        label.run(config, lake)
    assert list((lake.path / "store").rglob("*.failed")) == []


def test_what_is_wrong_is_named(lake: Lake, tmp_path: Path) -> None:
    frames = file(tmp_path, [1.0])
    for more, said in (
        ({"jobs": 0}, "label.jobs = 0"),
        ({"stride": 0}, "label.stride = 0"),
        ({"export": str(tmp_path / "a.cfg")}, r"must end in \.extxyz or \.extxyz\.gz"),
        ({"export": str(tmp_path / "no" / "a.extxyz")}, "there is no folder .*/no; make it first"),
    ):
        with pytest.raises(ConfigError, match=said):
            label.run(label.Config((frames,), **engine(tmp_path), **more), lake)  # type: ignore[arg-type]
    assert calls(tmp_path) == []
    (cell,) = structures.run(structures.Config(a=10.0), lake)
    with pytest.raises(ConfigError, match="a run of stage structures, which has no labels"):
        label.read_frames(lake, [cell])
