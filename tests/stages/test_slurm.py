"""argyase submit and status, with a Slurm that runs the scripts (tests/cluster/slurm has the real one)."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import fake_slurm
import pytest
from command import CAMPAIGN, argyase, frequent_checkpoints, on_path

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.stages import _cli, _run, _slurm
from argyase.stages.submit import submit


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a campaign and a profile, argyase and Slurm on the PATH."""
    environment = {**frequent_checkpoints(tmp_path / "patch"), "PATH": on_path(tmp_path / "bin")["PATH"]}
    fake_slurm.install(tmp_path / "bin")
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.chdir(tmp_path)
    text = CAMPAIGN.format(length=25.0, inversions="0.5", temperature="600, 900, 6000")
    (tmp_path / "tiny.toml").write_text(text)
    (tmp_path / "cluster.toml").write_text(
        'partition = "long"\naccount = "me"\noptions = ["--qos=night"]\nsetup = ["export FROM_PROFILE=1"]\n'
        'throttle = 2\nwarn_s = 30\n[md]\ntime = "02:00:00"\nmemory_mb = 700\n'
    )
    return tmp_path


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_campaign(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warned and requeued, failed, cancelled, submitted again: in the end the bytes of argyase run."""

    def call(command: str, *more: str, lake: str = "lake", code: int = 0) -> str:
        """The command in this process: to start one takes longer than what it does."""
        capsys.readouterr()
        assert _cli.main([command, "tiny.toml", "--lake", lake, *more]) == code
        return capsys.readouterr().out

    def sent() -> str:
        return call("submit", "--profile", "cluster.toml")

    assert "3 MD runs: 0 done, 0 failed, 0 in the queue, 3 to submit" in sent()
    assert "nothing to submit" in sent()
    script = (cluster / "slurm" / "tiny" / "1" / "md.sh").read_text()
    for option in ("array=0-2%2", "partition=long", "account=me", "qos=night", "time=02:00:00", "mem=700M",
                   "cpus-per-task=1", "ntasks=1", "requeue"):  # fmt: skip
        assert f"#SBATCH --{option}\n" in script
    assert call("status").count("waiting") == 4  # three, and their sum
    # The second run is cancelled before it begins: it leaves the queue, and with it its analysis.
    state = cluster / "bin" / "slurm.json"
    data = json.loads(state.read_text())
    for job in data["jobs"]:
        if job["script"].endswith(("md.sh", "analysis.sh")) and job["index"] == 1:
            job.update(state="DONE", code=15)
    state.write_text(json.dumps(data))
    fake_slurm.run(state, late="md-0", lake=cluster / "lake")
    log = (cluster / "slurm" / "tiny" / "1" / "log" / "md-0.txt").read_text()
    assert "requeued before the time limit: goes on from the last checkpoint" in log
    assert "restart 1" in log
    status = call("status")
    assert re.search(r"600 K\s+done", status)
    assert re.search(r"900 K\s+stopped .*submit it again", status)
    assert re.search(r"6000 K\s+failed .*left the domain", status)
    assert "3 MD runs: 1 done, 1 stopped, 1 failed; 1 analysed" in status
    report = (cluster / "slurm" / "tiny" / "1" / "log" / "report-0.txt").read_text()
    assert "2 of 3 runs are not in the lake" in report
    assert "│ Li6PS5Cl" in report
    # Only what is missing, and what failed is not tried again.
    assert "3 MD runs: 1 done, 1 failed, 0 in the queue, 1 to submit" in sent()
    fake_slurm.run(state)
    assert "nothing to submit" in sent()
    assert "2 done, 1 failed; 2 analysed" in call("status")
    call("run", lake="local", code=4)
    found = [{r.id: r.files for r in Lake(cluster / name).search("md")} for name in ("lake", "local")]
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_packed_jobs_and_the_image(cluster: Path) -> None:
    profile = cluster / "cluster.toml"
    profile.write_text('pack = 2\nmodules = ["apptainer/1.4"]\nbinds = ["/data"]\n[md]\nthreads = 2\nmemory_mb = 700\n')
    (cluster / "a.sif").touch()
    submit("tiny.toml", "cluster.toml", Lake(cluster / "lake"), cluster / "a.sif", dry=True)
    folder = cluster / "slurm" / "tiny" / "1"
    script, lines = (folder / "md.sh").read_text(), (folder / "md.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [2, 1]
    for option in ("array=0-1", "mem=1400M", "cpus-per-task=4"):
        assert f"#SBATCH --{option}\n" in script
    assert "module load apptainer/1.4\n" in script
    assert f"apptainer exec --bind={cluster} --bind=/data {cluster}/a.sif argyase plan" in script
    plan = json.loads((folder / "plan.json").read_text())["tasks"]
    assert {t["settings"]["threads"] for t in plan if t["stage"] == "md"} == {2}
    assert subprocess.run(["bash", "-n", str(folder / "md.sh")]).returncode == 0
    assert json.loads((cluster / "bin" / "slurm.json").read_text())["jobs"] == []


def test_a_campaign_on_mpi_ranks(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped before its time limit, it goes on, on two ranks again, and has the bytes of a run that never was."""
    # Ranks wait busily for each other, slowly where others use the cores: a shorter run, with checkpoints each 2.7 ps.
    text = CAMPAIGN.format(length=8.0, inversions="0.5", temperature="600, 6000")
    Path("tiny.toml").write_text(text)
    patch = Path("patch/sitecustomize.py")
    patch.write_text(patch.read_text().replace("2.857e5", "7.14e4"))
    mpiexec = Path(sysconfig.get_path("scripts")) / "mpiexec"
    with open("cluster.toml", "a") as file:
        file.write("ranks = 2\n")
    Path("cluster.toml").write_text(f'launch = "{mpiexec}"\n' + Path("cluster.toml").read_text())
    call = ("tiny.toml", "--lake", "lake")
    assert _cli.main(["submit", *call, "--profile", "cluster.toml"]) == 0
    script = (cluster / "slurm" / "tiny" / "1" / "md.sh").read_text()
    assert "#SBATCH --ntasks=2\n" in script
    assert "#SBATCH --cpus-per-task=1\n" in script
    assert f'"${{limit:-0}}" {mpiexec} -n 2 argyase plan ' in script
    fake_slurm.run(cluster / "bin" / "slurm.json", late="md-0", lake=cluster / "lake")
    log = (cluster / "slurm" / "tiny" / "1" / "log" / "md-0.txt").read_text()
    assert "requeued before the time limit: goes on from the last checkpoint" in log
    capsys.readouterr()
    assert _cli.main(["status", *call]) == 0
    status = capsys.readouterr().out
    assert re.search(r"600 K\s+done", status)
    assert re.search(r"6000 K\s+failed .*left the domain", status)
    # The same without a stop.
    assert _cli.main(["plan", "tiny.toml", "--lake", "whole", "--json"]) == 0
    Path("plan.json").write_text(capsys.readouterr().out)
    (run,) = Lake(cluster / "lake").search("md")
    command = [str(mpiexec), "-n", "2", "argyase", "plan", "plan.json", "--lake", "whole", "--do", f"md-{run.id}"]
    subprocess.run(command, check=True, timeout=300)
    assert Lake(cluster / "whole").record(run.id).files == run.files


def test_a_scale_of_a_campaign(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open("tiny.toml", "a") as file:
        file.write("[scale.few.grid]\ntemperature_K = [600]\n")
    call = ("tiny.toml", "--scale", "few", "--lake", "lake")
    assert _cli.main(["submit", *call, "--profile", "cluster.toml"]) == 0
    assert "argyase status tiny.toml --scale few tells how far" in words(capsys.readouterr().out)
    fake_slurm.run(cluster / "bin" / "slurm.json")
    assert _cli.main(["status", *call]) == 0
    assert "1 MD runs: 1 done; 1 analysed" in words(capsys.readouterr().out)
    report = (cluster / "slurm" / "tiny-few" / "1" / "log" / "report-0.txt").read_text()
    assert report.count("│ Li6PS5Cl") == 1
    assert "are not in the lake" not in report


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[md]\ntreads = 4\n", "md.treads: unknown key; did you mean 'threads'?"),
        ('partiton = "x"\n', "cluster.partiton: unknown key; did you mean 'partition'?"),
        ("pack = 0\n", "pack and warn_s must be at least 1"),
        ("[analysis]\nranks = 2\n", "ranks must be at least 1 in [md], and 1 elsewhere"),
        ("pack = 2\n[md]\nranks = 2\n", "pack = 2 and md.ranks = 2: give one of them"),
    ],
)
def test_wrong_profiles(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        _slurm.read_profile(str(tmp_path / "cluster.toml"))


def test_without_slurm(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "squeue", "scontrol"):
        (cluster / "bin" / name).unlink()
    monkeypatch.setenv("PATH", f"{cluster}/bin:/nowhere")
    call = ("tiny.toml", "--lake", "lake")
    refused = argyase("submit", *call, "--profile", "cluster.toml", cwd=cluster)
    assert refused.returncode == 4
    assert "squeue is not on the PATH: is this a login node" in words(refused.stderr)
    status = argyase("status", *call, cwd=cluster)
    assert status.returncode == 0
    assert "without Slurm's queue" in status.stdout
    assert "3 MD runs: 3 to do" in status.stdout


def test_tasks_of_srun_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MPI that is not srun's would make each of them believe to be alone."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(ConfigError, match=r"started on 2 MPI ranks \(SLURM_STEP_NUM_TASKS\)"):
        _run._refuse_ranks()
    code = "from argyase.potentials.lammps_plugin import create_lammps; create_lammps(['-screen', 'none'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert "2 processes were started (SLURM_STEP_NUM_TASKS), but LAMMPS knows of 1" in done.stderr
