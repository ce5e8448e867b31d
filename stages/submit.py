"""``argyase submit``: a campaign as Slurm job arrays; what is done or in the queue already is left out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.stages import _slurm
from argyase.stages._run import guarded, out
from argyase.stages.campaign import read_campaign
from argyase.stages.plan import Task, dump, make

FOLDER = "slurm"
"""Where scripts and outputs go, in the folder that one submits from."""


def submit(
    campaign_file: str, profile_file: str, lake: Lake, image: Path | None, dry: bool = False, scale: str = ""
) -> list[str]:
    """Submit what is missing of a campaign; ids of the jobs.

    Dynamics are one array, `Profile.pack` runs a task; the analysis of a task follows when its dynamics have ended
    well; the table and the figures when all analyses have ended, well or not.
    """
    campaign, profile = read_campaign(campaign_file, scale), _slurm.read_profile(profile_file)
    # The queue first: what leaves it in the meantime is in the lake.
    queue = {} if dry else _slurm.queue()
    tasks = make(campaign, lake, campaign_file, scale)
    if profile.md.threads:
        tasks = [_with_threads(task, profile.md.threads) if task.stage == "md" else task for task in tasks]
    root = Path(FOLDER).absolute() / campaign.header.name
    waiting = {t for e in _slurm.submitted(root) if (e.job, e.index) in queue for t in e.tasks}
    missing = [t for t in tasks if t.state == "to do" and t.id not in waiting]
    dynamics = [t for t in missing if t.stage == "md"]
    parts = [dynamics[k : k + profile.pack] for k in range(0, len(dynamics), profile.pack)]
    of = {t.needs[0]: t for t in missing if t.stage == "analysis"}
    after = [[of[t.id] for t in part if t.id in of] for part in parts]
    done = {t.id for t in tasks if t.stage == "md" and t.state == "done"}
    alone = [[t] for name, t in of.items() if name in done]
    _say(tasks, waiting, dynamics)
    if not dynamics and not alone:
        out.print("nothing to submit")
        return []
    folder = root / str(1 + max((int(p.name) for p in root.glob("*") if p.name.isdigit()), default=0))
    (folder / "log").mkdir(parents=True)
    (folder / "campaign.toml").write_bytes(Path(campaign_file).read_bytes())
    (folder / "plan.json").write_text(dump(tasks))
    seen = (str(Path.cwd()), str(lake.path.parent), *profile.binds)
    argyase = _slurm.image_words(image.absolute() if image else None, seen)
    here = ["--lake", str(lake.path)]
    jobs: list[str] = []

    def array(stage: str, name: str, pieces: Sequence[Sequence[Task]], command: str, dependency: str = "") -> str:
        """Write and submit one array."""
        lines = [[task.id for task in piece] for piece in pieces]
        (folder / f"{name}.txt").write_text("".join(" ".join(line) + "\n" for line in lines))
        threads = max(int(t.resources["threads"] or 1) for piece in pieces for t in piece)
        memory = max(int(t.resources["memory_mb"] or 0) for piece in pieces for t in piece)
        path = folder / f"{name}.sh"
        path.write_text(_slurm.script(profile, stage, folder, name, lake.path, lines, command, threads, memory))
        if dry:
            return ""
        job = _slurm.sbatch(path, dependency)
        _slurm.record(folder, name, job, lines)
        jobs.append(job)
        return job

    do = shlex.join([*argyase, "plan", str(folder / "plan.json"), *here, "--jobs", str(profile.pack), "--do"])
    ends = list[str]()
    if parts:
        first = array("md", "md", parts, f"{do} $tasks")
        ends.append(array("analysis", "analysis", after, f"{do} $tasks", f"aftercorr:{first}"))
    if alone:
        ends.append(array("analysis", "analysis-left", alone, f"{do} $tasks"))
    report = next(t for t in tasks if t.stage == "report")
    scaled = ["--scale", scale] if scale else []
    table = shlex.join([*argyase, "run", str(folder / "campaign.toml"), *scaled, *here, "--no-dynamics"])
    array("report", "report", [[report]], table, f"afterany:{':'.join(ends)}")
    out.print(f"scripts and outputs in {folder}", highlight=False)
    if not dry:
        told = shlex.join(["argyase", "status", campaign_file, *scaled])
        out.print(f"submitted jobs {', '.join(jobs)}; {told} tells how far they are")
    return jobs


def _with_threads(task: Task, threads: int) -> Task:
    resources = {**task.resources, "threads": threads}
    return replace(task, resources=resources, settings={**task.settings, "threads": threads})


def _say(tasks: Sequence[Task], waiting: set[str], dynamics: Sequence[Task]) -> None:
    runs = [t for t in tasks if t.stage == "md"]
    counts = {
        "done": sum(t.state == "done" for t in runs),
        "failed": sum(t.state == "failed" for t in runs),
        "in the queue": sum(t.id in waiting for t in runs),
        "to submit": len(dynamics),
    }
    out.print(f"{len(runs)} MD runs: {', '.join(f'{n} {what}' for what, n in counts.items())}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase submit``."""
    parser = argparse.ArgumentParser(prog="argyase submit", description=__doc__)
    parser.add_argument("campaign", help="campaign file (TOML)")
    parser.add_argument("--scale", default="", help="scale of the campaign file, such as small")
    parser.add_argument("--profile", required=True, help="what the cluster is like (TOML), see docs/how-to/cluster.md")
    parser.add_argument("--lake", default="lake", help="folder of the data lake, on a file system of all nodes")
    parser.add_argument("--image", help="Apptainer image to run in; argyase of this machine when left out")
    parser.add_argument("--dry-run", action="store_true", help="write the scripts, and submit nothing")
    args = parser.parse_args(argv)

    def body() -> int:
        if args.image and not Path(args.image).exists():
            raise ConfigError(f"--image {args.image}: no such file")
        image = Path(args.image) if args.image else None
        submit(args.campaign, args.profile, Lake(args.lake), image, args.dry_run, args.scale)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
