"""The plan of a campaign: its commands, done one by one, are the campaign; processes on cores of their own."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import CAMPAIGN, argyase, frequent_checkpoints, on_path
from hypothesis import given
from hypothesis import strategies as st
from strategies import own_potential

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp_file import write_mtp
from argyase.stages import _config, _cores, md, structures
from argyase.stages.campaign import Job, run_processes
from argyase.stages.plan import step_seconds


def campaign(folder: Path, length: float = 2.0, scale: str = "") -> Path:
    path = folder / "tiny.toml"
    path.write_text(CAMPAIGN.format(length=length, inversions="0.5", temperature=900) + scale)
    return path


def trajectories(lake: Lake) -> dict[str, object]:
    """Of every trajectory, the hashes of its files."""
    return {r.id: r.files for r in lake.search("md")}


def test_its_commands_are_the_campaign(tmp_path: Path) -> None:
    # At a scale of its own, so that every command has to name it.
    file = campaign(tmp_path, scale="[scale.small.md]\nsample_ps = 0.01\n")
    small = (file, "--scale", "small", "--lake")
    printed = argyase("plan", *small, tmp_path / "lake", "--json")
    tasks = json.loads(printed.stdout)["tasks"]
    assert [t["stage"] for t in tasks] == ["structures", "md", "analysis", "report"]
    seen: set[str] = set()
    environment = on_path(tmp_path / "bin")
    for task in tasks:
        assert set(task["needs"]) <= seen, "a task comes before what it needs"
        seen.add(task["id"])
        assert all((tmp_path / "lake" / folder).is_dir() for folder in task["inputs"])
        subprocess.run(["sh", "-c", task["command"]], cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert all((tmp_path / "lake" / folder).is_dir() for folder in task["outputs"])
    again = json.loads(argyase("plan", *small, tmp_path / "lake", "--json").stdout)["tasks"]
    assert [t["id"] for t in again] == [t["id"] for t in tasks]
    assert [t["state"] for t in again] == ["done", "done", "done", "to do"]
    # The tasks elsewhere, by --do: the same bytes.
    plan = tmp_path / "plan.json"
    plan.write_text(argyase("plan", *small, tmp_path / "other", "--json").stdout)
    ids = [t["id"] for t in tasks if t["stage"] in ("md", "analysis")]
    done = argyase("plan", plan, "--lake", tmp_path / "other", "--do", *ids)
    assert done.returncode == 0, done.stderr
    one, other = Lake(tmp_path / "lake"), Lake(tmp_path / "other")
    assert trajectories(one) == trajectories(other) != {}
    assert {r.id for r in one.search()} == {r.id for r in other.search()}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("none.json", "none.json: no such plan; make one with argyase plan CAMPAIGN --json"),
        ("bad.json", "not a plan of argyase plan --json"),
        ("plan.json", "no task md-1"),
    ],
)
def test_wrong_plans(file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"tasks": [{"id": 3}]}')
    (tmp_path / "plan.json").write_text('{"tasks": []}')
    done = argyase("plan", file, "--do", "md-1", cwd=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """It goes on where it was, the campaign takes no harm, and the bytes are those of a run that nobody killed."""
    # With locks of its own: only then there surely is a core for it alone.
    environment = {**frequent_checkpoints(tmp_path / "patch"), "TMPDIR": str(tmp_path)}
    environment.pop("SLURM_JOB_ID", None)
    file, found = campaign(tmp_path, length=60.0), []
    for name in ("killed", "whole"):
        lake, plan = Lake(tmp_path / name), tmp_path / "plan.json"
        plan.write_text(argyase("plan", file, "--lake", lake.path, "--json").stdout)
        (task,) = [t["id"] for t in json.loads(plan.read_text())["tasks"] if t["stage"] == "md"]
        command = [sys.executable, "-P", "-m", "argyase.stages._cli", "plan", plan, "--lake", lake.path, "--do", task]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd="/", stderr=pipe, stdout=pipe, text=True, env=environment)
        if name == "killed":
            deadline = time.monotonic() + 120
            while not [u for u in lake.unfinished() if u.alive and u.frames]:
                assert time.monotonic() < deadline, "no checkpoint came"
                time.sleep(0.02)
            (item,) = lake.unfinished()
            worker = json.loads((item.path / "begin.json").read_text())["pid"]
            assert len(os.sched_getaffinity(worker)) == 1, "not pinned"
            os.kill(worker, signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        said = "killed by signal 9, goes on from its last checkpoint" in " ".join(errors.split())
        assert said == (name == "killed")
        assert lake.verify() == []
        (record,) = lake.search("md")
        assert lake.open_run(record.id).sizes["frame"] == 3000
        found.append(trajectories(lake))
    assert found[0] == found[1]


def test_cores_are_held_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    first = _cores.lease(2, [4, 5, 6])
    assert first is not None
    assert first.cores == (4, 5)
    assert _cores.lease(2, [4, 5, 6]) is None
    second = _cores.lease(1, [4, 5, 6])
    assert second is not None
    assert second.cores == (6,)
    # A child that inherited the handles holds them when we let go.
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=first.handles)
    first.release()
    assert _cores.lease(1, [4]) is None
    child.communicate()
    third = _cores.lease(1, [4])
    assert third is not None
    for one in (second, third):
        one.release()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    ours = _cores.lease(1)
    assert ours is not None
    assert (list(ours.cores), ours.handles) == (_cores.allowed(), ())
    job = Job(md.Config("unknown", threads=len(_cores.allowed()) + 1), "too many", "0")
    with pytest.raises(ConfigError, match=r"md.threads = \d+: \d+ cores can be used here"):
        run_processes([job], Lake(tmp_path / "lake"), 1)


HOLDER = """
import sys, time
from argyase.stages._cores import allowed, lease
ours = lease(len(allowed()))
print(len(ours.cores), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("fate", ["killed", "stopped", "busy"])
def test_cores_that_others_hold(fate: str, tmp_path: Path) -> None:
    """One who waits says for whom; what a killed or stopped process held is free, and no one waits without end."""
    (tmp_path / "patch").mkdir()
    patience = 1.0 if fate == "busy" else 1e9
    (tmp_path / "patch" / "sitecustomize.py").write_text(
        f"from argyase.stages import _cores\n_cores.PATIENCE_S = {patience}\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"}
    environment |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path / "patch")}  # of the locks, too
    file, lake, plan = campaign(tmp_path), Lake(tmp_path / "lake"), tmp_path / "plan.json"
    plan.write_text(argyase("plan", file, "--lake", lake.path, "--json").stdout)
    (task,) = [t["id"] for t in json.loads(plan.read_text())["tasks"] if t["stage"] == "md"]
    command = [sys.executable, "-P", "-m", "argyase.stages._cli", "plan", plan, "--lake", lake.path, "--do", task]
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-P", "-c", HOLDER], stdout=pipe, text=True, env=environment)
    try:
        assert holder.stdout is not None
        assert int(holder.stdout.readline()) == len(_cores.allowed())
        process = subprocess.Popen(command, cwd="/", stdout=pipe, stderr=pipe, text=True, env=environment)
        assert process.stderr is not None
        said = process.stderr.readline()
        assert f"are held by -c (pid {holder.pid}); if none is free in {patience:g} s" in said
        assert lake.unfinished() == []
        if fate != "busy":
            holder.send_signal(signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "waiting for a core" not in errors, "said twice"
        assert lake.search("md")
        assert (holder.poll() is None) == (fate != "killed")
    finally:
        holder.kill()
        holder.wait()


@given(
    st.builds(
        structures.Config,
        x=st.sampled_from([0.0, 0.25, 1.0]),
        inversion=st.sampled_from([0.25, 0.5]),
        supercell=st.tuples(*3 * [st.integers(1, 4)]),
        seed=st.integers(1, 9),
        li_added=st.booleans(),
        a=st.none() | st.sampled_from([9.9, 10.0]),
    )
)
def test_flags_give_the_settings_back(config: structures.Config) -> None:
    parser = argparse.ArgumentParser()
    _config.add_flags(parser, structures.Config)
    args = parser.parse_args(_config.flags(config))
    assert _config.resolve(structures.Config, args, "structures") == config


def test_hours_follow_the_measured_times_of_levels(tmp_path: Path) -> None:
    # Microseconds for an atom of an evaluation by the ASE calculator (benchmarks/mtp_kernel.py --tables), whose
    # search for neighbours takes 0.1 of them, ten times what a step of dynamics takes for it. An estimate for another
    # machine is not worth more than a quarter either way.
    for level, measured in {8: 0.53, 10: 0.61, 12: 0.71, 14: 0.93, 16: 1.33, 18: 2.95, 20: 5.7}.items():
        path = tmp_path / f"{level}.mtp"
        write_mtp(path, own_potential(level, 4, np.random.default_rng(level)))
        found = step_seconds(find_potential(str(path), ["Li", "P", "S", "Cl"]))
        assert found == pytest.approx(measured * 1e-6 - 0.1e-6, rel=0.25)
