"""``argyase run``: a whole campaign, from compositions to the table and the figures, over local processes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import schedule
from argyase.errors import ArgyaseError, ConfigError
from argyase.stages import (
    _config,
    _cores,
    collective,
    conductivity,
    coordination,
    density,
    distinct,
    figures,
    hops,
    jumps,
    learn,
    md,
    msd,
    structures,
    vanhove,
)
from argyase.stages._config import setting
from argyase.stages._cores import Lease, allowed, lease
from argyase.stages._run import bars, console, guarded, out, stop_requested, with_error

MDConfig = md.Config  # inside `Campaign`, md is the table


@dataclass(frozen=True)
class Header:
    """The [campaign] table."""

    name: str = setting(help="name of the campaign; its figures go to figures/<name>")
    note: str = setting("", help="what the campaign is for")


@dataclass(frozen=True)
class Grid:
    """The [grid] table: every combination is one run."""

    x: tuple[float, ...] = setting((0.0,), help="extra Cl")
    inversion: tuple[float, ...] = setting((0.0,), help="fraction of 4d sites that hold Cl")
    points: tuple[tuple[float, float], ...] = setting((), help="pairs of x and inversion, instead of their lists")
    li_added: tuple[bool, ...] = setting((), help="without and with added Li, instead of structures.li_added")
    seed: tuple[int, ...] = setting((1,), help="seeds of the decoration")
    temperature_K: tuple[float, ...] = setting((300.0,), help="temperatures", unit="K")
    replica: tuple[int, ...] = setting((1,), help="seeds of the velocities")
    supercell: tuple[tuple[int, int, int], ...] = setting((), help="sizes to compare, instead of structures.supercell")
    potential: tuple[str, ...] = setting((), help="potentials to compare, instead of md.potential")


@dataclass(frozen=True)
class Analysis:
    """The [analysis] table."""

    ion: str = setting("Li", help="the diffusing species")
    hop_threshold: float = setting(3.0, help="displacement that counts as a hop", unit="A")
    observables: tuple[str, ...] = setting((), help="what else to compute of each run")
    density_fold: bool = setting(False, help="density: average over the unit cells")


FURTHER: dict[str, ModuleType] = {
    "collective": collective,
    "coordination": coordination,
    "density": density,
    "distinct": distinct,
    "jumps": jumps,
}
"""Stages that [analysis] observables can name."""


@dataclass(frozen=True)
class Campaign:
    """A campaign file, checked."""

    header: Header
    grid: Grid
    structure: dict[str, Any]
    md: dict[str, Any]
    analysis: Analysis

    def structures(self) -> list[structures.Config]:
        """One structure for each supercell, point, seed, and with added Li or not (at x = 0 there is none to add)."""
        g = self.grid
        sizes: list[dict[str, Any]] = [{"supercell": size} for size in g.supercell] or [{}]
        added: list[dict[str, Any]] = [{"li_added": value} for value in g.li_added] or [{}]
        points = g.points or tuple(itertools.product(g.x, g.inversion))
        tables = [
            {**self.structure, **size, **li, "x": x, "inversion": y, "seed": seed}
            for size, li, (x, y), seed in itertools.product(sizes, added, points, g.seed)
        ]
        for table in tables:
            if g.li_added and table["x"] == 0:
                table["li_added"] = False
        return list(dict.fromkeys(_config.from_mapping(structures.Config, table, "structures") for table in tables))

    def dynamics(self, structure: str) -> list[MDConfig]:
        """The MD runs of one structure: one for each potential, temperature and replica."""
        g = self.grid
        potentials: list[dict[str, Any]] = [{"potential": name} for name in g.potential] or [{}]
        points = itertools.product(potentials, g.temperature_K, g.replica)
        own = {**self.md, "structure": structure}
        tables = [{**own, **potential, "temperature_K": t, "replica": r} for potential, t, r in points]
        return [_config.from_mapping(MDConfig, table, "md") for table in tables]


def read_campaign(path: str, scale: str = "") -> Campaign:
    """Read and check a campaign file, at one of its scales.

    Raises
    ------
    ConfigError
        If a table or key is unknown, missing or wrong; the message names it and the nearest valid one.
    """
    data = _config.load(path, scale)
    _config.check_tables(data, ("campaign", "grid", "structures", "md", "analysis"), path)
    grid = data.get("grid", {})
    if "points" in grid and ("x" in grid or "inversion" in grid):
        raise ConfigError(f"{path}: grid.points: pairs of x and inversion stand instead of the lists x and inversion")
    own = [key for key in ("supercell", "li_added") if key in grid]
    for table, keys in (
        ("structures", ["x", "inversion", "seed", *own]),
        ("md", ["temperature_K", "replica", "structure", *(["potential"] if "potential" in grid else [])]),
    ):
        for key in keys:
            if key in data.get(table, {}):
                raise ConfigError(f"{path}: {table}.{key}: the grid sets it; put it under [grid]")
    header = _config.from_mapping(Header, data.get("campaign", {"name": Path(path).stem}), "campaign")
    campaign = Campaign(
        replace(header, name=f"{header.name}-{scale}") if scale else header,
        _config.from_mapping(Grid, data.get("grid", {}), "grid"),
        data.get("structures", {}),
        data.get("md", {}),
        _config.from_mapping(Analysis, data.get("analysis", {}), "analysis"),
    )
    campaign.structures()
    campaign.dynamics("unknown")
    for name in campaign.analysis.observables:
        if name not in FURTHER:
            near = difflib.get_close_matches(name, FURTHER, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(FURTHER)}"
            raise ConfigError(f"{path}: analysis.observables: {name!r} is unknown; {hint}")
    return campaign


@dataclass
class Job:
    """One MD run of the campaign."""

    config: md.Config
    label: str
    id: str
    structure: structures.Config = field(default_factory=structures.Config)  # for the table of a campaign
    run_id: str | None = None  # once the lake has it
    error: str = ""
    attempts: int = 0
    process: subprocess.Popen[str] | None = None
    bar: TaskID | None = None
    done: float = 0.0
    total: float = 0.0
    started: float = 0.0
    log: list[str] = field(default_factory=list)


def run(campaign: Campaign, lake: Lake, figures_path: Path, jobs: int, dynamics: bool = True) -> int:
    """Run what the lake lacks (`dynamics` only if asked), print the table, draw the figures; return the exit code."""
    work = expand(campaign, lake)
    todo = [job for job in work if job.run_id is None]
    _announce(campaign, lake, work, todo)
    if todo and not dynamics:
        console.print(f"{len(todo)} of {len(work)} runs are not in the lake: they are not in the table either")
    elif todo:
        run_processes(todo, lake, jobs)
    before = len(lake.search())
    results, there = list[tuple[Job, dict[str, str]]](), [job for job in work if job.run_id]
    with bars() as bar:
        task = bar.add_task("analysis", total=len(there))
        for done, job in enumerate(there):
            bar.update(task, completed=done)
            results.append((job, analyse(campaign.analysis, lake, job)))
        bar.update(task, completed=len(there))
    if not todo and len(lake.search()) == before:
        console.print("Everything is in the lake already: nothing was computed.")
    if results:
        warnings = sorted({p.warning for j, _ in results if (p := md.potential_of(j.config)) is not None} - {""})
        outside = [w for job, _ in results if (w := md.domain_warning(lake.record(str(job.run_id))))]
        _print_table(lake, campaign.grid, results, [*warnings, *(f"! {w}" for w in outside)])
        for job, ids in results:
            if reason := lake.open_run(ids["conductivity"]).attrs.get("not_determined"):
                out.print(f"{job.label}: {reason}", highlight=False, markup=False)
        planned = [(s.x, s.inversion, s.li_added) for s in campaign.structures() if not (s.phase or s.source)]
        drawn = [ids for _, ids in results]
        for path in figures.draw(lake, drawn, figures_path, note=" ".join(warnings), planned=planned):
            out.print(f"figure {path}", highlight=False)
    failed = [job for job in work if job.error]
    for job in failed:
        console.print(f"failed {job.label}: {job.error}", style="red", markup=False)
    return 4 if any(job.run_id is None for job in failed) else 0


def analyse(settings: Analysis, lake: Lake, job: Job) -> dict[str, str]:
    """All observables of one trajectory; ids by stage."""
    assert job.run_id
    ids = {"md": job.run_id, "structures": lake.record(job.run_id).inputs[0]}
    for name, (stage, config) in observables(settings, job.run_id).items():
        try:
            ids[name] = stage.run(config, lake)[0]
        except ArgyaseError as error:  # of this run it cannot be told: too short, melted
            if name not in FURTHER:
                raise
            console.print(f"{job.label}: no {name}: {error}", style="yellow", markup=False)
    return ids


def observables(settings: Analysis, run: str) -> dict[str, tuple[ModuleType, Any]]:
    """Stage and settings of each observable of a trajectory, in the order in which they are computed."""
    common: dict[str, Any] = {"run": run, "ion": settings.ion}
    main = {
        "vanhove": (vanhove, vanhove.Config(**common)),
        "hops": (hops, hops.Config(**common, threshold=settings.hop_threshold)),
        "msd": (msd, msd.Config(**common)),
        "conductivity": (conductivity, conductivity.Config(**common)),
    }
    own = {"density": {"fold": settings.density_fold}}
    return main | {n: (FURTHER[n], FURTHER[n].Config(**common, **own.get(n, {}))) for n in settings.observables}


def expand(campaign: Campaign, lake: Lake) -> list[Job]:
    """The MD runs of a campaign, their structures built into the lake."""
    work = []
    for config in campaign.structures():
        structure = structures.run(config, lake)[0]
        formula = lake.record(structure).parameters["formula"]
        for dynamics in campaign.dynamics(structure):
            label = f"{formula} inversion {100 * config.inversion:g} % {dynamics.temperature_K:g} K"
            if len(campaign.grid.seed) > 1:
                label += f" seed {config.seed}"
            if len(campaign.grid.replica) > 1:
                label += f" replica {dynamics.replica}"
            label += "".join(f" {text}" for text in _compared(campaign.grid, dynamics, config).values())
            name = md.name(dynamics, lake)
            work.append(Job(dynamics, label, name, config, name if name in lake else None))
    return work


def _compared(grid: Grid, dynamics: MDConfig, structure: structures.Config) -> dict[str, str]:
    """What tells runs apart when potentials or sizes are compared."""
    found = {"potential": Path(dynamics.potential).stem} if len(grid.potential) > 1 else {}
    if len(grid.supercell) > 1:
        found["cells"] = "x".join(map(str, structure.supercell))
    return found


def _announce(campaign: Campaign, lake: Lake, work: Sequence[Job], todo: Sequence[Job]) -> None:
    console.print(f"[bold]{campaign.header.name}[/]  {campaign.header.note}")
    console.print(f"lake    {lake.path}")
    atoms = sorted({lake.open_run(job.config.structure).sizes["atom"] for job in work})
    console.print(f"structures  {len({j.config.structure for j in work})} ({', '.join(map(str, atoms))} atoms)")
    steps = [
        schedule(j.config.segments, j.config.temperature_K, j.config.timestep_fs, 1)[-1].last * j.config.timestep_fs
        for j in todo
    ]
    engines = ", ".join(dict.fromkeys(md.engine_of(job.config) for job in work))
    console.print(
        f"dynamics    {len(work)} runs with {engines}: {len(work) - len(todo)} in the lake, "
        f"{len(todo)} to do ({sum(steps) * 1e-3:.0f} ps)"
    )
    analysis = ", ".join(["MSD", "conductivity", "van Hove", "hops", *campaign.analysis.observables])
    console.print(f"analysis    {analysis} of each run; figures")


_ATTEMPTS = 3
"""How often a run is started whose process is killed, by the system for its memory, say: it goes on where it was."""


def run_processes(todo: Sequence[Job], lake: Lake, jobs: int) -> None:
    """Run MD jobs as processes of ``argyase md``, at most `jobs` at once, each on cores of its own.

    Fills in `run_id` or `error` of each. Where others hold all cores, one process at a time shares them, after
    `PATIENCE_S` of `argyase.stages._cores`. A process that is killed is started again, a few times; others go on.

    Raises
    ------
    ConfigError
        If a job asks for more threads than there are cores.
    """
    cores = allowed()
    if (most := max(job.config.threads for job in todo)) > len(cores):
        raise ConfigError(f"md.threads = {most}: {len(cores)} cores can be used here; give fewer threads")
    waiting, running = list(todo), list[Job]()
    with bars() as bar, stop_requested(at_once=True):
        for job in todo:
            job.bar = bar.add_task(job.label, total=None, start=False)
        refused: float | None = None  # when there was no core for the first time, and nothing running here
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    held = lease(waiting[0].config.threads, cores)
                    if held is None and not running:
                        if refused is None:
                            refused = time.monotonic()
                            _tell_who_holds(cores, bar.console)
                        # One at a time: no campaign waits for the end of another, or of one that hangs.
                        if time.monotonic() - refused > _cores.PATIENCE_S:
                            held = _cores.shared(cores)
                    if held is None:
                        break
                    job = waiting.pop(0)
                    running.append(job)
                    _start(job, lake, held)
                    assert job.bar is not None
                    bar.start_task(job.bar)
                time.sleep(0.1)
                for job in list(running):
                    assert job.process is not None
                    assert job.bar is not None
                    ended = job.process.poll() is not None
                    speed = _speed(job)
                    bar.update(job.bar, total=job.total or None, completed=job.done, speed=speed)
                    if not ended:
                        continue
                    running.remove(job)
                    _finish(job, lake)
                    state = "failed" if job.error else "done"
                    if job.process.returncode < 0 and job.attempts < _ATTEMPTS:
                        waiting.insert(0, job)
                        state = f"killed by signal {-job.process.returncode}, goes on from its last checkpoint"
                    left = f"{len(waiting)} waiting" if waiting else "none waiting"
                    line = f"{state}  {job.label}  {time.monotonic() - job.started:.0f} s  {speed}  ({left})"
                    bar.console.print(line, highlight=False, markup=False)
        except BaseException:
            _stop(running)
            raise


def _tell_who_holds(cores: Sequence[int], to: Console) -> None:
    who = ", ".join(_cores.holders(cores)) or "processes that have just ended"
    to.print(
        f"waiting for a core: this machine's {len(cores)} are held by {who}; if none is free in "
        f"{_cores.PATIENCE_S:g} s, one run at a time starts beside them",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _start(job: Job, lake: Lake, held: Lease) -> None:
    # -P: the folder we are in may be a checkout, whose argyase/ is not the installed package.
    python = [sys.executable, "-P", "-m"]
    command = [*python, "argyase.stages.md", "-c", "-", "--lake", str(lake.path), "--progress", "json"]
    pipe = subprocess.PIPE
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.config.threads)}
    job.process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, pass_fds=held.handles
    )
    held.pin(job.process.pid)
    held.release()
    job.attempts += 1
    job.error, job.log = "", []
    job.started = time.monotonic()
    assert job.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is dead already: `_finish` tells why
        job.process.stdin.write(json.dumps({"md": asdict(job.config)}))
        job.process.stdin.close()
    threading.Thread(target=_listen, args=(job,), daemon=True).start()


def _listen(job: Job) -> None:
    assert job.process is not None
    assert job.process.stderr is not None
    for line in job.process.stderr:
        if line.startswith("{"):
            event = json.loads(line)
            job.done, job.total = event["done"], event["total"]
        else:
            job.log.append(line.rstrip())


def _speed(job: Job) -> str:
    elapsed = time.monotonic() - job.started
    return f"{job.done * job.config.timestep_fs * 1e-6 / elapsed * 86400:.1f} ns/day" if job.done else ""


def _finish(job: Job, lake: Lake) -> None:
    assert job.process is not None
    assert job.process.stdout is not None
    text = job.process.stdout.read().split()
    if job.process.returncode == 0 and text:
        job.run_id = text[-1]
    elif job.id in lake:  # it was killed after it had published
        job.run_id = job.id
    else:
        job.error = "\n".join(job.log[-8:]) or f"ended with exit code {job.process.returncode}"


def _stop(running: Sequence[Job]) -> None:
    """Ask the processes to end, which they do from their last checkpoint on; kill those that do not within 10 s."""
    deadline = time.monotonic() + 10
    for job in running:
        if job.process is not None and job.process.poll() is None:
            job.process.send_signal(signal.SIGINT)
    for job in running:
        if job.process is not None:
            try:
                job.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                job.process.kill()


def _print_table(
    lake: Lake, grid: Grid, results: Sequence[tuple[Job, Mapping[str, str]]], warnings: Sequence[str]
) -> None:
    table = Table(title="Li-ion transport (95 % intervals)", caption="\n".join(warnings), caption_justify="left")
    compared = [_compared(grid, job.config, job.structure) for job, _ in results]
    for column in (
        *compared[0],
        "composition",
        "inversion",
        "dS/R",
        "T (K)",
        "D (1e-6 cm2/s)",
        "sigma (mS/cm)",
        "hops/(Li ns)",
        "run",
    ):
        table.add_column(
            column, justify="left" if column in ("potential", "composition", "run") else "right", no_wrap=True
        )
    for (job, ids), first in zip(results, compared, strict=True):
        parameters = lake.record(ids["md"]).parameters
        transport = lake.record(ids["conductivity"]).scalars
        beyond = lake.record(ids["hops"]).scalars
        table.add_row(
            *first.values(),
            str(parameters["formula"]),
            f"{100 * job.structure.inversion:g} %",
            f"{parameters['configurational_entropy']:.3f}",
            f"{lake.record(ids['md']).scalars['mean_temperature']:.0f}",
            with_error(transport, "diffusivity", scale=1e6),
            with_error(transport, "conductivity"),
            with_error(beyond, "crossing_rate"),
            ids["md"][:8] + (" !" if lake.record(ids["md"]).scalars.get("left_domain") else ""),
        )
    out.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase run``."""
    parser = argparse.ArgumentParser(prog="argyase run", description=__doc__)
    parser.add_argument("campaign", help="campaign file (TOML), see campaigns/")
    parser.add_argument("--scale", default="", help="scale of the campaign file, such as small")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--figures", help="folder for the figures (default: figures/<campaign> beside the lake)")
    parser.add_argument("--jobs", type=int, help="most MD runs at once (default: all cores, or learn.jobs)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--no-dynamics", action="store_true", help="analyse, tabulate and draw what the lake has")
    args = parser.parse_args(argv)

    def body() -> int:
        if args.jobs is not None and args.jobs < 1:
            raise ConfigError(f"--jobs {args.jobs}: must be at least 1")
        if "learn" in _config.load(args.campaign):
            # Training is a campaign, too: the two commands are one for it.
            if args.figures:
                raise ConfigError(f"--figures {args.figures}: a campaign with [learn] draws none")
            if args.scale:
                raise ConfigError(f"--scale {args.scale}: a campaign with [learn] has one scale")
            more = [
                *(["--dry-run"] if args.dry_run else []),
                *([] if args.jobs is None else ["--jobs", str(args.jobs)]),
            ]
            return learn.main([args.campaign, "--lake", args.lake, *more])
        jobs = args.jobs or len(allowed())
        campaign = read_campaign(args.campaign, args.scale)
        lake = Lake(args.lake)
        if args.dry_run:
            work = expand(campaign, lake)
            _announce(campaign, lake, work, [job for job in work if job.run_id is None])
            return 0
        beside = Path(args.lake).resolve().parent / "figures" / campaign.header.name
        return run(campaign, lake, Path(args.figures or beside), jobs, not args.no_dynamics)

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
