"""What a run tells of itself: from its beginning, whatever its end."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numbers_lake import numbers, publish

from argyase.datalake import provenance
from argyase.datalake.errors import NotInLakeError, RunningElsewhereError
from argyase.datalake.lake import Lake

_BEGIN = """
import signal, sys, time
from argyase.datalake import provenance
from argyase.datalake.lake import Lake
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell of the tests made of it
lake, keep = Lake(sys.argv[1]), sys.argv[2]
with lake.begin("numbers", {"x": 0.25}, provenance=provenance.collect("argyase")) as attempt:
    if keep == "keep":
        attempt.checkpoint({"n": 1})
    print("ready", flush=True)
    time.sleep(60)
"""


def begun(path: Path, keep: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-P", "-c", _BEGIN, path, keep], text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def listed(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> list[str]:
    from argyase.stages.lake import main

    assert main(["ls", "--lake", str(path), *arguments]) == 0
    return capsys.readouterr().out.split("\n")[1:-1]


@pytest.mark.parametrize("keep", ["keep", "nothing"])
def test_a_killed_job_is_seen_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: str) -> None:
    """Running while it runs, stale when it was killed, done when another attempt has ended it."""
    process = begun(tmp_path, keep)
    (line,) = listed(capsys, tmp_path, "--state", "running")
    assert f"process {process.pid} on" in line
    assert "x=0.25" in line
    assert listed(capsys, tmp_path, "--state", "stale") == []
    with pytest.raises(RunningElsewhereError, match="stop it first"):
        Lake(tmp_path).remove(Lake(tmp_path).unfinished()[0].id)
    process.kill()
    process.wait()
    assert listed(capsys, tmp_path, "--state", "running") == []
    (line,) = listed(capsys, tmp_path, "--state", "stale")
    assert f"killed: process {process.pid} on" in line
    with Lake(tmp_path).begin("numbers", {"x": 0.25}) as attempt:
        name = attempt.publish(numbers())
    assert listed(capsys, tmp_path, "--state", "stale") == []
    assert name in listed(capsys, tmp_path, "--state", "done")[0]
    first, second = Lake(tmp_path).record(name).provenance["attempts"]
    assert first["pid"] == process.pid
    assert "exit" not in first
    assert (second["pid"], second["exit"]) == (os.getpid(), "done")


def test_an_interrupted_run_is_stale_and_can_be_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = begun(tmp_path, "keep")
    process.send_signal(signal.SIGINT)
    process.wait()
    (line,) = listed(capsys, tmp_path, "--state", "stale")
    assert "KeyboardInterrupt" in line
    lake = Lake(tmp_path)
    lake.remove(lake.unfinished()[0].id[:8])
    assert listed(capsys, tmp_path) == []
    with pytest.raises(NotInLakeError):
        lake.remove("0123456789")


def fail(lake: Lake, checkpoint: bool) -> None:
    with lake.begin("numbers", {"x": 0.125}) as attempt:
        if checkpoint:
            attempt.checkpoint({})
        raise ValueError("no convergence")


def test_a_failed_run_leaves_its_tale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path)
    for checkpoint in (False, True):
        with pytest.raises(ValueError, match="no convergence"):
            fail(lake, checkpoint)
        (line,) = listed(capsys, tmp_path, "--state", "failed")
        assert "x=0.125" in line
        assert "ValueError: no convergence" in line
        assert len(lake.failures()) == (not checkpoint)
    with lake.begin("numbers", {"x": 0.125}) as attempt:
        name = attempt.publish(numbers())
    assert listed(capsys, tmp_path, "--state", "failed") == []
    exits = [a["exit"] for a in lake.record(name).provenance["attempts"]]
    assert exits == ["ValueError: no convergence"] * 2 + ["done"]
    with lake.begin("numbers", {"x": 1}) as attempt:
        attempt.publish_failure("it exploded", numbers())
    (line,) = listed(capsys, tmp_path, "--state", "failed", "--stage", "numbers")
    assert "it exploded" in line


def test_times_and_inputs(tmp_path: Path) -> None:
    """Wall and processor time of what the run itself did; the hash of what it was computed from."""
    lake = Lake(tmp_path)
    parent = publish(lake, seed=1)
    with lake.begin("numbers", {"seed": 2}, [parent], provenance=provenance.collect("argyase")) as attempt:
        time.sleep(0.2)
        until = time.process_time() + 0.1
        while time.process_time() < until:
            np.linalg.norm(np.ones(1000))
        told = attempt.publish(xr.Dataset())
    found = lake.record(told).provenance
    assert found["wall_seconds"] >= 0.3 - 0.01
    # Sleeping costs no processor time; publication costs some.
    assert 0.1 - 0.01 <= found["cpu_seconds"] < found["wall_seconds"] + 0.01
    assert found["exit"] == "done"
    assert found["start"] <= found["end"]
    content = (lake.record(parent).path / "run.json").read_bytes()
    assert found["inputs_sha256"] == {parent: hashlib.sha256(content).hexdigest()}


def test_the_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout by its commit and whether it was changed; a wheel by the hash of its list of files."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "parcel").mkdir()
    (tmp_path / "parcel" / "__init__.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    monkeypatch.syspath_prepend(tmp_path)
    assert provenance.code("parcel") == {
        "package": "parcel",
        "version": "",
        "git": git("rev-parse", "HEAD"),
        "wheel": "",
    }
    (tmp_path / "parcel" / "__init__.py").write_text("x = 1")
    provenance.code.cache_clear()
    assert provenance.code("parcel")["git"] == git("rev-parse", "HEAD") + "+changes"
    numpy = provenance.code("numpy")
    assert numpy["version"] == np.__version__
    assert numpy["git"] == ""
    assert len(numpy["wheel"]) == 64
    assert provenance.code("absent")["version"] == ""


def test_the_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/argyase.sif")
    monkeypatch.setenv("ARGYASE_IMAGE_DIGEST", "sha256:ab")
    assert provenance.collect("argyase")["image"] == {"name": "/images/argyase.sif", "digest": "sha256:ab"}


def test_stages_tell_their_configuration(tmp_path: Path) -> None:
    from argyase.stages import structures

    config = structures.Config(x=0.5, inversion=0.75)
    (name,) = structures.run(config, Lake(tmp_path))
    found = Lake(tmp_path).record(name).provenance
    assert found["configuration"]["inversion"] == 0.75
    assert found["code"]["package"] == "argyase"
    assert found["code"]["git"] or found["code"]["wheel"]
