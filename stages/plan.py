"""``argyase plan``: the tasks of a campaign, what each needs and makes; or some of them, done here."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.table import Table

from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import schedule
from argyase.errors import ArgyaseError, ConfigError
from argyase.potentials.lammps_plugin import started_ranks
from argyase.potentials.model_card import Potential
from argyase.potentials.mtp_file import read_mtp
from argyase.stages import _config, md
from argyase.stages._cores import allowed
from argyase.stages._run import console, guarded, on_ranks, out
from argyase.stages.campaign import (
    FURTHER,
    Analysis,
    Campaign,
    Job,
    analyse,
    expand,
    observables,
    read_campaign,
    run_processes,
)


@dataclass(frozen=True)
class Task:
    """One piece of a campaign.

    Attributes
    ----------
    id
        ``structures-ID``, ``md-ID``, ``analysis-ID`` of the MD run, ``report``.
    stage
        The word before the dash.
    label
        What it is, for people.
    state
        ``done``, ``to do``, or ``failed``: the lake has the failure, it is not tried again.
    reason
        Of the failure.
    needs
        Tasks that must be done before.
    command
        For a shell, in the folder of the campaign file.
    inputs, outputs
        Folders of runs in the lake; an analysis makes one for each observable, named by its stage alone.
    resources
        ``threads``; ``memory_mb`` and ``core_hours``, estimates: hours of dynamics with a Moment Tensor Potential
        only.
    settings
        Of the stage.
    """

    id: str
    stage: str
    label: str
    state: str
    reason: str
    needs: tuple[str, ...]
    command: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    resources: Mapping[str, float | int | None]
    settings: Mapping[str, Any] = field(default_factory=dict)


def make(campaign: Campaign, lake: Lake, path: str, scale: str = "") -> list[Task]:
    """The tasks of a campaign in an order that respects what they need; its structures are built into the lake.

    Parameters
    ----------
    campaign, path, scale
        The campaign, its file, which the commands name, and the scale at which it was read.
    lake
        Where its results go.
    """
    where = ["--lake", str(lake.path)]
    file = [path, *(["--scale", scale] if scale else [])]
    tasks: dict[str, Task] = {}
    analyses = []
    have = {(record.stage, record.inputs[0]) for record in lake.search() if record.inputs}
    for job in expand(campaign, lake):
        structure = job.config.structure
        source = f"structures-{structure}"
        if source not in tasks:
            command = _shell("structures", *_config.flags(job.structure), *where)
            made = (_folder("structures", structure),)
            label = job.label.partition(" K")[0].rpartition(" ")[0]
            tasks[source] = Task(
                source, "structures", label, "done", "", (), command, (), made, _resources(memory_mb=300),
                asdict(job.structure),
            )  # fmt: skip
        atoms = lake.open_run(structure).sizes["atom"]
        tasks[f"md-{job.id}"] = dynamics = _dynamics(campaign, lake, job, file, source, atoms)
        parts = observables(campaign.analysis, job.id)
        done = job.run_id is not None and all((n, job.id) in have for n in parts if n not in FURTHER)
        shell = " && ".join(
            f"{_shell(name, *_config.flags(config), *where)}{' || true' if name in FURTHER else ''}"
            for name, (_, config) in parts.items()
        )
        frames = round(job.config.segments[-1].duration_ps / job.config.sample_ps)
        # Paths of all atoms of all frames, in 8 bytes and in 4, and those of the ions twice.
        memory = round(400 + frames * atoms * 3 * 20e-6)
        analyses.append(
            Task(
                id=f"analysis-{job.id}",
                stage="analysis",
                label=job.label,
                state="done" if done else "to do",
                reason="",
                needs=(dynamics.id,),
                command=shell,
                inputs=dynamics.outputs,
                outputs=tuple(f"runs/{name}" for name in parts),
                resources=_resources(memory_mb=memory),
                settings={**asdict(campaign.analysis), "run": job.id},
            )
        )
    report = Task(
        id="report",
        stage="report",
        label="table and figures",
        state="to do",
        reason="",
        needs=tuple(task.id for task in analyses),
        command=_shell("run", *file, *where, "--no-dynamics"),
        inputs=tuple(task.inputs[0] for task in analyses),
        outputs=(),
        resources=_resources(memory_mb=500),
    )
    return [*tasks.values(), *analyses, report]


def _dynamics(campaign: Campaign, lake: Lake, job: Job, file: Sequence[str], source: str, atoms: int) -> Task:
    config = job.config
    grid = {"structure": config.structure, "temperature_K": config.temperature_K, "replica": config.replica}
    if campaign.grid.potential:
        grid["potential"] = config.potential
    words = [w for k, v in grid.items() for w in ("--" + k.replace("_", "-"), str(v))]
    failed = None if job.run_id else md.failure(config, lake)
    steps = schedule(config.segments, config.temperature_K, config.timestep_fs, 1)[-1].last
    potential = md.potential_of(config)
    hours = None if potential is None else round(steps * atoms * step_seconds(potential) / 3600, 4)
    return Task(
        id=f"md-{job.id}",
        stage="md",
        label=job.label,
        state="done" if job.run_id else "failed" if failed else "to do",
        reason=str(failed.scalars["reason"]) if failed else "",
        needs=(source,),
        command=_shell("md", *(["-c", *file] if campaign.md else []), *words, "--lake", str(lake.path)),
        inputs=(_folder("structures", config.structure),),
        outputs=(_folder("md", job.id),),
        # A shard of 1000 frames, and a copy of it while it is written.
        resources=_resources(config.threads, round(400 + 1000 * atoms * 3 * 12e-6), hours),
        settings=asdict(config),
    )


def step_seconds(potential: Potential) -> float:
    """Estimate of the time of a step of dynamics with a Moment Tensor Potential, for an atom, on one core.

    A constant, and a part for each product of moments: so measured by benchmarks/mtp_kernel.py --tables for levels 8 to
    20 within 10 %, and by benchmarks/throughput.py for level 10, on a core of Zen 4 at 3.7 GHz.
    """
    return 0.47e-6 + 1.05e-9 * len(read_mtp(potential.path).alpha_index_times)


def _resources(threads: int = 1, memory_mb: int = 0, core_hours: float | None = None) -> dict[str, float | int | None]:
    return {"threads": threads, "memory_mb": memory_mb, "core_hours": core_hours}


def _shell(*words: str) -> str:
    return shlex.join(["argyase", *words])


def _folder(stage: str, name: str) -> str:
    return f"runs/{stage}/{name[:2]}/{name}"


def dump(tasks: Sequence[Task]) -> str:
    """The plan as JSON."""
    return json.dumps({"tasks": [asdict(task) for task in tasks]}, indent=1)


def load(path: str | Path) -> list[Task]:
    """The tasks of a file of `dump`.

    Raises
    ------
    ConfigError
        If it is none.
    """
    names = {f.name for f in fields(Task)}
    try:
        data = json.loads(Path(path).read_text())
        return [_task({k: v for k, v in t.items() if k in names}) for t in data["tasks"]]
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such plan; make one with argyase plan CAMPAIGN --json") from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a plan of argyase plan --json: {error!r}") from None


def _task(values: Mapping[str, Any]) -> Task:
    own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Task(**own)


def do(tasks: Sequence[Task], lake: Lake, jobs: int) -> int:
    """Do these tasks of dynamics and analysis, what the lake lacks of them.

    Returns
    -------
    int
        Exit code: 4 if none could be done. One of many that failed is no reason not to go on with the others: the lake
        has its failure.
    """
    for task in tasks:
        if task.stage not in ("md", "analysis"):
            raise ConfigError(f"task {task.id}: only md and analysis can be asked for by --do; run its command")
    work = [
        Job(_config.from_mapping(md.Config, dict(t.settings), "md"), t.label, t.id.removeprefix("md-"))
        for t in tasks
        if t.stage == "md"
    ]
    for job in work:
        job.run_id = job.id if job.id in lake else None
    todo = [job for job in work if job.run_id is None]
    if started_ranks()[1] > 1:
        _here(todo, lake)
    elif todo:
        run_processes(todo, lake, jobs)
    for job in work:
        if job.run_id:
            out.print(f"done {job.label}", highlight=False, markup=False)
        else:
            console.print(f"failed {job.label}: {job.error}", style="red", markup=False, soft_wrap=True)
    good = sum(job.run_id is not None for job in work)
    for task in tasks:
        if task.stage == "analysis":
            run = str(task.settings["run"])
            if run not in lake:
                console.print(f"failed {task.label}: its dynamics are not in the lake", style="red", markup=False)
                continue
            settings = _config.from_mapping(
                Analysis, {k: v for k, v in task.settings.items() if k != "run"}, "analysis"
            )
            analyse(settings, lake, Job(md.Config(""), task.label, run, run_id=run))
            out.print(f"analysed {task.label}", highlight=False, markup=False)
            good += 1
    return 0 if good or not tasks else 4


def _here(todo: Sequence[Job], lake: Lake) -> None:
    """Dynamics in this process, which leads the MPI ranks that were started with it."""
    for job in todo:
        try:
            (job.run_id,) = md.run(job.config, lake)
        except ArgyaseError as error:
            job.error = str(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase plan``."""
    parser = argparse.ArgumentParser(prog="argyase plan", description=__doc__)
    parser.add_argument("campaign", nargs="?", help="campaign file (TOML); with --do, a plan that --json printed")
    parser.add_argument("--snakefile", action="store_true", help="print where the Snakefile is that does such a plan")
    parser.add_argument("--scale", default="", help="scale of the campaign file, such as small")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--json", action="store_true", help="print everything, for a program")
    parser.add_argument("--do", nargs="+", metavar="ID", help="do these tasks of a plan (md-..., analysis-...) here")
    parser.add_argument(
        "--jobs", type=int, default=len(allowed()), help="with --do: MD runs at once (default: all cores)"
    )
    args = parser.parse_args(argv)
    if args.snakefile:
        print(Path(__file__).parent / "workflow" / "Snakefile")
        return 0
    if args.campaign is None:
        parser.error("which campaign? Give its file")

    def body() -> int:
        if args.jobs < 1:
            raise ConfigError(f"--jobs {args.jobs}: must be at least 1")
        if args.do:
            known = {task.id: task for task in load(args.campaign)}
            if unknown := [name for name in args.do if name not in known]:
                raise ConfigError(f"{args.campaign}: no task {', '.join(unknown)}")
            return do([known[name] for name in args.do], Lake(args.lake, create=False), args.jobs)
        lake = Lake(args.lake)
        tasks = make(read_campaign(args.campaign, args.scale), lake, args.campaign, args.scale)
        if args.json:
            print(dump(tasks))
        else:
            _print(tasks)
        return 0

    return on_ranks(lambda: guarded(body))


def _print(tasks: Sequence[Task]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("task", "state", "threads", "memory (MB)", "core hours", "what"):
        table.add_column(column, no_wrap=column != "what")
    for task in tasks:
        r = task.resources
        hours = "" if r["core_hours"] is None else f"{r['core_hours']:g}"
        table.add_row(task.id, task.state, str(r["threads"]), str(r["memory_mb"]), hours, task.label)
    out.print(table)
    total = sum(t.resources["core_hours"] or 0 for t in tasks if t.state == "to do")
    left = sum(t.state == "to do" for t in tasks)
    out.print(f"{len(tasks)} tasks, {left} to do: {total:.3g} core hours of dynamics", highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
