"""Slurm: profiles of clusters, batch scripts, what was submitted and what became of it."""

from __future__ import annotations

import getpass
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from argyase.datalake.files import replace_json
from argyase.errors import CalculatorError, ConfigError
from argyase.stages import _config
from argyase.stages._config import setting


@dataclass(frozen=True)
class Resources:
    """What the jobs of one stage ask for; where it says nothing, the cluster's or the plan's."""

    time: str = setting("1-00:00:00", help="time limit of a job; what is not done by then goes on in a requeued one")
    threads: int = setting(0, help="threads of a run (0: as the plan says), of each of its ranks")
    ranks: int = setting(1, help="MPI ranks of a run, of dynamics in LAMMPS only")
    memory_mb: int = setting(0, help="memory of a run (0: the plan's estimate)", unit="MB")
    partition: str = setting("", help="instead of the profile's")
    account: str = setting("", help="instead of the profile's")
    options: tuple[str, ...] = setting((), help="more options of sbatch, as --qos=long")


@dataclass(frozen=True)
class Profile:
    """A cluster, as its file (TOML) describes it."""

    partition: str = setting("", help="partition")
    account: str = setting("", help="account")
    options: tuple[str, ...] = setting((), help="more options of sbatch")
    modules: tuple[str, ...] = setting((), help="modules to load")
    setup: tuple[str, ...] = setting((), help="lines of shell before the command, as source venv/bin/activate")
    binds: tuple[str, ...] = setting((), help="folders that the image is to see, beside this one and the lake's")
    throttle: int = setting(0, help="most tasks of an array at once (0: no limit)")
    pack: int = setting(1, help="MD runs in one job, at the same time, each on its own cores")
    launch: str = setting("srun --mpi=pmi2", help="what starts MPI ranks, with -n RANKS after it: of MPICH's kind")
    warn_s: int = setting(120, help="time before the limit at which a run stops and the job requeues itself", unit="s")
    md: Resources = field(default=Resources(), metadata={"help": "dynamics"})
    analysis: Resources = field(default=Resources("04:00:00"), metadata={"help": "observables of one run"})
    report: Resources = field(default=Resources("01:00:00"), metadata={"help": "table and figures"})


def read_profile(path: str) -> Profile:
    """Read and check the profile of a cluster.

    Raises
    ------
    ConfigError
        If a key is unknown or wrong.
    """
    profile = _config.from_mapping(Profile, _config.load(path), Path(path).stem)
    if profile.pack < 1 or profile.throttle < 0 or profile.warn_s < 1:
        raise ConfigError(f"{path}: pack and warn_s must be at least 1, throttle not negative")
    if profile.md.ranks < 1 or profile.analysis.ranks != 1 or profile.report.ranks != 1:
        raise ConfigError(f"{path}: ranks must be at least 1 in [md], and 1 elsewhere: only LAMMPS shares a cell")
    if profile.md.ranks > 1 and profile.pack > 1:
        raise ConfigError(f"{path}: pack = {profile.pack} and md.ranks = {profile.md.ranks}: give one of them")
    return profile


RANK_MB = 200
"""Of each further MPI rank: Python and LAMMPS, and its part of the atoms."""

_SCRIPT = """\
#!/bin/bash
{header}
# Written by argyase submit. Task i of the array does what line i of {lines} says.
{setup}
lake={lake}
tasks=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {lines})
# Not SLURM_JOB_ID: the last task of an array has that of the whole, and all of them would be requeued.
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
# Seconds until it has to stop, 0 for never. Not by sbatch --signal: Slurm gives that once in the life of a job, and not
# again after a requeue.
limit=$(squeue -h -j "$job" -o %L | awk -F '[-:]' '/^[0-9:-]+$/ {{
  days = /-/ ? $1 : 0; first = /-/ ? 2 : 1
  for (i = first; i <= NF; i++) seconds = 60 * seconds + $i
  left = 86400 * days + seconds - {warn}; print (left > 1 ? left : 1) }}')
# What this job leaves behind changes with every checkpoint.
stamp() {{
  for task in $tasks; do
    cat "$lake"/work/"${{task#*-}}".*/progress.json 2> /dev/null
    ls -d "$lake"/runs/md/*/"${{task#*-}}" 2> /dev/null
  done | cksum
}}
before=$(stamp)
echo "begin $(date +%FT%T) on $(hostname), restart ${{SLURM_RESTART_COUNT:-0}}: $tasks"
timeout --foreground --signal=USR1 "${{limit:-0}}" {command}
code=$?
echo "end $(date +%FT%T), exit code $code"
if [ "$code" = 124 ]; then # that of timeout, when the time was up
  if [ "$(stamp)" = "$before" ]; then
    echo "failed: no checkpoint within the time limit; give more time in the profile"
    exit 4
  fi
  echo "requeued before the time limit: goes on from the last checkpoint"
  scontrol requeue "$job"
  exit 0
fi
exit "$code"
"""


def image_words(image: Path | None, binds: Sequence[str]) -> list[str]:
    """The words before the arguments of ``argyase``: that of this machine, or of an Apptainer image."""
    if image is None:
        return ["argyase"]
    return ["apptainer", "exec", *(f"--bind={bind}" for bind in dict.fromkeys(binds)), str(image), "argyase"]


def script(
    profile: Profile, stage: str, folder: Path, name: str, lake: Path, parts: Sequence[Sequence[str]], command: str,
    threads: int, memory_mb: int,
) -> str:  # fmt: skip
    """The batch script of an array, one task for each part; `name` is that of its files in `folder`.

    In `command`, ``$tasks`` are those of a part.
    """
    own: Resources = getattr(profile, stage)
    pack = max(len(part) for part in parts) if stage == "md" else 1
    threads = own.threads or threads
    limit = f"%{profile.throttle}" if profile.throttle else ""
    options = [
        f"--job-name=argyase-{stage}",
        f"--array=0-{len(parts) - 1}{limit}",
        f"--time={own.time}",
        "--nodes=1",
        f"--ntasks={own.ranks}",
        f"--cpus-per-task={threads * pack}",
        f"--mem={(own.memory_mb or memory_mb + RANK_MB * (own.ranks - 1)) * pack}M",
        "--requeue",
        "--open-mode=append",
        f"--output={folder}/log/{name}-%a.txt",
        f"--chdir={Path.cwd()}",
        "--kill-on-invalid-dep=yes",
        *[f"--partition={p}" for p in [own.partition or profile.partition] if p],
        *[f"--account={a}" for a in [own.account or profile.account] if a],
        *profile.options,
        *own.options,
    ]
    setup = [*(f"module load {shlex.quote(module)}" for module in profile.modules), *profile.setup]
    if own.ranks > 1:
        # srun does not ask for what sbatch was asked for.
        setup += [f"export OMP_NUM_THREADS={threads} SRUN_CPUS_PER_TASK={threads}"]
        command = f"{profile.launch} -n {own.ranks} {command}"
    return _SCRIPT.format(
        header="\n".join(f"#SBATCH {shlex.quote(option)}" for option in options),
        setup="\n".join(setup),
        lake=shlex.quote(str(lake)),
        lines=shlex.quote(str(folder / f"{name}.txt")),
        command=command,
        warn=profile.warn_s,
    )


def sbatch(path: Path, dependency: str = "") -> str:
    """Submit a script; the id of its job.

    Raises
    ------
    CalculatorError
        If Slurm refuses it, with its reason.
    """
    command = ["sbatch", "--parsable", *([f"--dependency={dependency}"] if dependency else []), str(path)]
    return _output(command).strip().partition(";")[0]


def _output(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        raise CalculatorError(f"{command[0]} is not on the PATH: is this a login node of a cluster with Slurm?")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CalculatorError(f"{shlex.join(command)}: {' '.join(done.stderr.split())}")
    return done.stdout


@dataclass(frozen=True)
class Entry:
    """One task of one job array that was submitted."""

    job: str
    index: int
    stage: str
    tasks: tuple[str, ...]
    log: Path

    def last_line(self) -> str:
        """What its output ends with."""
        try:
            lines = self.log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        said = [line for line in lines if line.strip() and not line.startswith(("begin ", "end "))]
        return said[-1].strip() if said else ""


def record(folder: Path, stage: str, job: str, parts: Sequence[Sequence[str]]) -> None:
    """Remember a job that was submitted."""
    path = folder / "jobs.json"
    jobs = json.loads(path.read_text()) if path.exists() else []
    replace_json(path, [*jobs, {"job": job, "stage": stage, "parts": [list(p) for p in parts]}])


def submitted(root: Path) -> Iterator[Entry]:
    """Everything that was submitted for a campaign, the latest last."""
    for path in sorted(root.glob("*/jobs.json"), key=lambda p: int(p.parent.name)):
        for job in json.loads(path.read_text()):
            for index, tasks in enumerate(job["parts"]):
                log = path.parent / "log" / f"{job['stage']}-{index}.txt"
                yield Entry(job["job"], index, job["stage"], tuple(tasks), log)


@dataclass(frozen=True)
class Queued:
    """A task that Slurm has in its queue."""

    state: str  # PENDING, RUNNING, ...
    reason: str


def queue() -> dict[tuple[str, int], Queued]:
    """What Slurm has in its queue of this user's arrays, by id and index.

    Raises
    ------
    CalculatorError
        If there is no Slurm, or it does not answer.
    """
    found = {}
    for line in _output(["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%F|%K|%T|%r"]).split("\n"):
        job, _, rest = line.strip().partition("|")
        index, _, rest = rest.partition("|")
        state, _, reason = rest.partition("|")
        if index.isdigit():
            found[job, int(index)] = Queued(state, reason)
    return found


def ended(entry: Entry) -> str:
    """How Slurm's accounting says that a task ended, as TIMEOUT; empty where there is no accounting."""
    try:
        text = _output(["sacct", "-n", "-X", "-P", "-j", f"{entry.job}_{entry.index}", "-o", "State"])
    except CalculatorError:
        return ""
    states = [line.strip() for line in text.split("\n") if line.strip()]
    return states[-1] if states else ""
