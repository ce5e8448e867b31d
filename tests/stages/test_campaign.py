"""The main job: a campaign from its file to the table, run again, interrupted, killed, and what it says when wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from command import CAMPAIGN, argyase, frequent_checkpoints

from argyase.datalake.lake import Lake
from argyase.potentials.model_card import find_potential
from argyase.stages import _cli
from argyase.stages._run import with_error


def campaign(folder: Path, length: float = 3.0, inversions: str = "0.0, 0.5", temperature: float = 900) -> Path:
    path = folder / "tiny.toml"
    path.write_text(CAMPAIGN.format(length=length, inversions=inversions, temperature=temperature))
    return path


def files(folder: Path) -> dict[str, float]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "catalogue" not in p.name}


def test_the_whole_chain_and_again(tmp_path: Path) -> None:
    file, lake_path = campaign(tmp_path), tmp_path / "lake"
    first = argyase("run", file, "--lake", lake_path)
    assert first.returncode == 0, first.stderr
    assert "2 runs with LiPSCl-study: 0 in the lake, 2 to do" in first.stderr
    rows = [line for line in first.stdout.split("\n") if "Li6PS5Cl" in line and "│" in line]
    assert len(rows) == 2
    assert "0 %" in rows[0]
    assert "50 %" in rows[1]
    assert "1.386" in rows[1]
    assert "trust trends over inversion, not magnitudes" in " ".join(first.stdout.split())

    lake = Lake(lake_path, create=False)
    assert {s: len(lake.search(s)) for s in ("structures", "md", "msd", "conductivity", "vanhove", "hops")} == {
        "structures": 2, "md": 2, "msd": 2, "conductivity": 2, "vanhove": 2, "hops": 2,
    }  # fmt: skip
    assert lake.verify() == []
    assert lake.unfinished() == []
    for record in lake.search("md"):
        run = lake.open_run(record.id)
        assert dict(run.sizes) == {"frame": 150, "atom": 52, "xyz": 3, "cell_vector": 3}
        assert float(run.time[0]) == pytest.approx(0.02)
        assert {"temperature", "pressure", "potential_energy", "volume", "positions", "cell"} <= set(run.data_vars)
        assert set(run.site.values) == {"4a", "4b", "4d", "16e", "48h"}
        assert abs(run.temperature.mean() - 900) < 200
        assert record.provenance["code"]["version"]
    # The conductivity of the table is that of its D, T and density, worked out again by hand.
    cube = lake.open("conductivity").squeeze()
    d = cube["diffusivity_high"] * 1e-4  # m^2/s
    by_hand = 1.602176634e-19**2 * cube["number_density"] * 1e30 * d / (1.380649e-23 * cube["temperature"]) * 10
    np.testing.assert_allclose(cube["conductivity_high"], by_hand, rtol=1e-6)

    pictures = sorted(p.name for p in (tmp_path / "figures" / "tiny").iterdir())
    stems = {"msd", "vanhove", "hops", "conductivity_inversion", "conductivity_entropy", "hops_entropy"}
    assert {p.rpartition(".")[0] for p in pictures} == stems
    assert all(p.endswith((".png", ".svg", ".pdf")) for p in pictures)
    assert all(
        (tmp_path / "figures" / "tiny" / p).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-") for p in pictures
    )

    before = files(lake_path)
    second = argyase("run", file, "--lake", lake_path)
    assert second.returncode == 0
    assert "nothing was computed" in second.stderr
    assert second.stdout == first.stdout
    assert files(lake_path) == before

    # One more point of the grid: only that one is computed.
    third = argyase("run", campaign(tmp_path, inversions="0.0, 0.25, 0.5"), "--lake", lake_path)
    assert "3 runs with LiPSCl-study: 2 in the lake, 1 to do" in third.stderr
    assert before.items() <= files(lake_path).items()


def test_potentials_and_sizes_side_by_side(tmp_path: Path) -> None:
    shipped = find_potential("LiPSCl-study")
    for suffix in (".mtp", ".toml", ".active"):
        text = shipped.path.with_suffix(suffix).read_bytes()
        if suffix == ".toml":  # the same without its repulsion: another potential of another name
            lines = [line for line in text.decode().split("\n") if not re.match(r"\w+-\w+ = ", line)]
            text = "\n".join(lines).replace('"LiPSCl-study"', '"bare"').encode()
        (tmp_path / f"bare{suffix}").write_bytes(text)
    file = campaign(tmp_path, inversions="0.5")
    grid = f'supercell = [[1, 1, 1], [2, 1, 1]]\npotential = ["LiPSCl-study", "{tmp_path}/bare.mtp"]\n'
    own = file.read_text().replace('potential = "LiPSCl-study"\n', "")
    file.write_text(own.replace("[structures]", f"{grid}[structures]"))
    done = argyase("run", file, "--lake", tmp_path / "lake")
    assert done.returncode == 0, done.stderr
    # Wherever the line was broken.
    assert f"4 runs with LiPSCl-study, {tmp_path}/bare.mtp".replace(" ", "") in "".join(done.stderr.split())
    rows = [line.split("│")[1:3] for line in done.stdout.split("\n") if "Li6PS5Cl" in line and "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["LiPSCl-study", "1x1x1"], ["bare", "1x1x1"], ["LiPSCl-study", "2x1x1"], ["bare", "2x1x1"],
    ]  # fmt: skip
    lake = Lake(tmp_path / "lake")
    sizes = [lake.open_run(r.id).sizes["atom"] for r in lake.search("md", potential="bare")]
    assert sorted(sizes) == [52, 104]
    # What the grid sets cannot be set again.
    file.write_text(file.read_text().replace("[structures]", "[structures]\nsupercell = [1, 1, 1]"))
    again = argyase("run", file, "--lake", tmp_path / "lake")
    assert again.returncode == 2
    assert "structures.supercell: the grid sets it" in " ".join(again.stderr.split())


def test_dry_run_computes_nothing(tmp_path: Path) -> None:
    done = argyase("run", campaign(tmp_path), "--lake", tmp_path / "lake", "--dry-run")
    assert done.returncode == 0
    assert "2 to do" in done.stderr
    assert Lake(tmp_path / "lake").search("md") == []


def test_both_doors_lead_to_the_same_run(tmp_path: Path) -> None:
    """``argyase structures`` and ``python stages/structures.py`` with the same settings."""
    lake, flags = tmp_path / "lake", ("--inversion", "0.25", "--seed", "4")
    a = argyase("structures", *flags, "--lake", lake)
    script = Path(__file__).parents[2] / "stages" / "structures.py"
    command = [sys.executable, str(script), *flags, "--lake", str(lake)]
    b = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert (a.returncode, b.returncode) == (0, 0), b.stderr
    assert a.stdout == b.stdout
    assert a.stdout.strip() in Lake(lake)


# ---- interruptions ----


def start(*arguments: object) -> subprocess.Popen[str]:
    # A checkpoint each 137 frames of 52 atoms, instead of each 13736.
    code = (
        "import sys; from argyase.dynamics import simulation; simulation.CHECKPOINT_ATOM_STEPS = 7.14e4; "
        "from argyase.stages._cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_for_frames(lake: Lake, frames: int, count: int = 1) -> None:
    deadline = time.monotonic() + 120
    while sum(item.frames >= frames for item in lake.unfinished()) < count:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.05)


def structure(lake: Path) -> str:
    done = argyase("structures", "--inversion", "0.5", "--a", "10.0", "--lake", lake)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def md_config(folder: Path, name: str, length: float) -> Path:
    path = folder / "md.json"
    path.write_text(f"""
[md]
structure = "{name}"
potential = "LiPSCl-study"
temperature_K = 600
sample_ps = 0.02
segments = [{{ kind = "produce", ensemble = "nvt", duration_ps = {length} }}]
""")
    return path


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Files and hashes of the run of `md_config` that nobody stops."""
    lake = Lake(tmp_path_factory.mktemp("whole") / "lake")
    config = md_config(lake.path, structure(lake.path), 40.0)
    output, errors = start("md", "-c", config, "--lake", lake.path).communicate(timeout=300)
    return lake.record(output.split()[-1]).files if output else {"no run": {"errors": errors}}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_md_goes_on_where_it_was_stopped(
    how: signal.Signals, tmp_path: Path, never_stopped: dict[str, dict[str, object]]
) -> None:
    lake = Lake(tmp_path / "lake")
    config = md_config(tmp_path, structure(lake.path), 40.0)
    process = start("md", "-c", config, "--lake", lake.path, "--progress", "json")
    wait_for_frames(lake, 50)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "what was computed is kept, run the same command to go on" in " ".join(errors.split())
    assert lake.search("md") == []
    (item,) = lake.unfinished()
    kept = item.frames
    assert 50 <= kept < 2000
    again = start("md", "-c", config, "--lake", lake.path, "--progress", "json")
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    events = [json.loads(line) for line in errors.split("\n") if line.startswith("{")]
    assert events[0]["done"] == 10 * kept  # steps of the frames that were there
    run = lake.open_run(output.split()[-1])
    assert run.sizes["frame"] == 2000
    np.testing.assert_allclose(np.diff(run.time), 0.02)
    # Positions, cells, energies, pressures: the same bytes as of a run that nobody stopped.
    assert lake.record(output.split()[-1]).files == never_stopped
    assert lake.verify() == []


SLOW_AFTER_A_CHECKPOINT = """
import time

check = simulation.Simulation._check


def slowly(self, frame):
    if self.step > self.checkpoint_steps:
        time.sleep(0.02)
    check(self, frame)


simulation.Simulation._check = slowly
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_campaign_goes_on_where_it_was_stopped(how: signal.Signals, tmp_path: Path) -> None:
    file, lake = campaign(tmp_path, length=60.0, temperature=500), Lake(tmp_path / "lake")
    command = [sys.executable, "-P", "-m", "argyase.stages._cli", "run", str(file), "--lake", str(lake.path)]
    # Both runs are to be under way at once, whatever else the machine does: on cores that other tests do not hold, and
    # slow after the first checkpoint (3 s otherwise, while the second may begin 6 s after the first).
    pipe, environment = subprocess.PIPE, {**frequent_checkpoints(tmp_path / "patch"), "TMPDIR": str(tmp_path)}
    with open(tmp_path / "patch" / "sitecustomize.py", "a") as patch:
        patch.write(SLOW_AFTER_A_CHECKPOINT)
    process = subprocess.Popen(command, cwd="/", stdout=pipe, stderr=pipe, text=True, env=environment)
    wait_for_frames(lake, 1, count=min(2, len(os.sched_getaffinity(0))))
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), errors
    deadline = time.monotonic() + 30
    while any(u.alive for u in lake.unfinished()):
        assert time.monotonic() < deadline, "a child goes on without its parent"
        time.sleep(0.05)
    kept = {u.id: u.frames for u in lake.unfinished()}
    assert len(kept) == min(2, len(os.sched_getaffinity(0)))
    # Checkpoints are each 549 frames, the first ten of them of equilibration.
    assert all(n % 549 == 539 for n in kept.values())
    done = argyase("run", file, "--lake", lake.path, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert {r.id for r in lake.search("md")} == set(kept)
    for record in lake.search("md"):
        assert lake.open_run(record.id).sizes["frame"] == 3000
    assert lake.unfinished() == []
    assert lake.verify() == []


def test_a_run_that_explodes_is_kept_and_named(tmp_path: Path) -> None:
    """1800 K is beyond the potential's domain by its model card; 6000 K certainly is."""
    file, lake = campaign(tmp_path, length=20.0, inversions="0.5", temperature=6000), Lake(tmp_path / "lake")
    done = argyase("run", file, "--lake", lake.path)
    assert done.returncode == 4
    said = " ".join(done.stderr.split())
    assert "failed Li6PS5Cl inversion 50 % 6000 K" in said
    assert "left the domain in which it was trained" in said
    (failed,) = lake.search("md-failed")
    assert failed.id in said
    assert lake.search("md") == []
    # Again: not computed a second time, and the reason is still said.
    start_time = time.monotonic()
    again = argyase("run", file, "--lake", lake.path)
    assert again.returncode == 4
    assert f"argyase lake rm {failed.id}" in " ".join(again.stderr.split())
    assert time.monotonic() - start_time < 60
    assert len(lake.search("md-failed")) == 1


# ---- what is wrong is said ----


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rnu"], 2, "unknown command 'rnu'; did you mean 'run'?"),
        (["run", "none.toml"], 2, "none.toml: no such campaign file"),
        (["msd", "--run", "0123456789", "--lake", "none"], 3, "none: no such lake; check --lake"),
        (["structures", "--inversion", "0.3", "--lake", "lake"], 2, "the nearest possible values are 0.25 and 0.5"),
        (["structures", "--x", "0.5", "--lake", "lake"], 2, "need x <= inversion <= 1"),
        (["md", "--structure", "none", "--lake", "lake"], 2, "neither a run of the lake nor a file"),
        (["md", "--lake", "lake"], 2, "md: missing structure"),
        (["ingest", "none.xyz", "--time-step-ps", "0.1", "--lake", "lake"], 3, "none.xyz: no such file"),
        (["ingest", "none.xyz", "--lake", "lake"], 2, "missing time_step_ps"),
        (["lake", "show", "ab", "--lake", "."], 3, "6 of them are enough"),
        (
            ["figures", "--lake", "."],
            2,
            "no trajectory, hull, site energies or errors of a potential; make one with argyase run",
        ),
    ],
)
def test_wrong_commands(arguments: Sequence[str], code: int, said: str, tmp_path: Path) -> None:
    done = argyase(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_broken_potential(tmp_path: Path) -> None:
    name = structure(tmp_path / "lake")
    whole = (Path(__file__).parents[2] / "argyase" / "data" / "LiPSCl-study.mtp").read_text()
    (tmp_path / "cut.mtp").write_text(whole[:400])
    (tmp_path / "whole.mtp").write_text(whole)
    common = ("md", "--structure", name, "--lake", tmp_path / "lake", "--potential")
    done = argyase(*common, tmp_path / "cut.mtp", "--species", "Li", "P", "S", "Cl")
    assert done.returncode == 3
    assert "cut.mtp, line 14: radial_coeffs: expected a list in braces" in " ".join(done.stderr.split())
    done = argyase(*common, tmp_path / "whole.mtp", "--species", "Li", "P")
    assert done.returncode == 2
    assert "has 4 species" in " ".join(done.stderr.split())
    done = argyase(*common, tmp_path / "whole.mtp")
    assert done.returncode == 2
    assert "does not name its species; give them in the file's order" in " ".join(done.stderr.split())


def test_under_mpiexec(tmp_path: Path) -> None:
    """Dynamics share the cell between ranks; two copies of any other stage would wait for each other for ever."""
    lake = tmp_path / "lake"
    name = structure(lake)
    (tmp_path / "c.toml").write_text(
        "[md]\nsegments = [{ kind = 'produce', ensemble = 'npt', duration_ps = 0.4 }]\nsample_ps = 0.02\n"
    )
    launcher = Path(sysconfig.get_path("scripts")) / "mpiexec"

    def ranks(number: int, stage: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [launcher, "-n", number, sys.executable, "-m", "argyase.stages._cli", stage, *arguments]
        return subprocess.run(list(map(str, command)), cwd="/", capture_output=True, text=True, timeout=300)

    md = ("-c", tmp_path / "c.toml", "--structure", name, "--temperature-K", 600)
    found = []
    for number in (1, 2):
        shutil.copytree(lake, tmp_path / str(number))
        done = ranks(number, "md", *md, "--lake", tmp_path / str(number))
        assert done.returncode == 0, done.stderr
        copy = Lake(tmp_path / str(number))
        (run,) = copy.search("md")
        assert run.id in done.stdout
        found.append((copy.open_run(run.id)["potential_energy"].values, copy.trajectory(run.id).positions()))
    # Sums in another order: 1e-13 eV, and ten times more with each 0.3 ps of chaos; positions are kept to 1e-4 A.
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=0, atol=1.01e-4)
    # What LAMMPS has no part in.
    for arguments, said in (
        (("msd", "--run", run.id), "this stage is one process"),
        (
            ("md", "--structure", name, "--calculator", "mtp", "--settings", "potential=LiPSCl-7net-L10"),
            "only LAMMPS shares a cell",
        ),
        (("md", "--structure", "no"), "structure = 'no'"),
    ):
        done = ranks(2, *arguments, "--lake", tmp_path / "2")
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main([]) == 0
    listed = capsys.readouterr().out
    for name in _cli.COMMANDS:
        assert name in listed
        with pytest.raises(SystemExit) as caught:
            _cli.main([name, "--help"])
        assert caught.value.code == 0
        assert f"usage: argyase {name}" in capsys.readouterr().out


def test_numbers_are_printed_to_the_digits_of_their_error() -> None:
    assert with_error({"d": 0.123456, "d_low": 0.11, "d_high": 0.135}, "d") == "0.123 (0.110 ... 0.135)"
    assert with_error({"d": 1234.5, "d_low": 1000.0, "d_high": 1500.0}, "d") == "1234 (1000 ... 1500)"


def test_no_unsaid_dependence_on_the_environment() -> None:
    """Nothing of a run may hang on a variable that a user does not see."""
    assert not [k for k in os.environ if k.startswith("ARGYASE_")]
