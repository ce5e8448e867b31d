"""What every stage shares: its command line, progress on the terminal, exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from argyase.datalake import provenance
from argyase.datalake.errors import DatalakeError
from argyase.datalake.lake import Lake, RunRecord
from argyase.errors import ArgyaseError, CalculatorError, ConfigError
from argyase.potentials.lammps_plugin import started_ranks
from argyase.stages import _config

T = TypeVar("T")
R = TypeVar("R")
console = Console(stderr=True)
# A table must not be cut: not to the 80 columns of a pipe, and not to those of a narrow terminal, which wraps it.
out = Console(width=max(Console().width, 120) if sys.stdout.isatty() else 140)


class Report(Protocol):
    """How a stage tells how far it is: ``report(done, total)``, in steps of its own."""

    def __call__(self, done: float, total: float) -> None: ...


def silent(done: float, total: float) -> None:
    """Report nothing."""


def stage_main(
    argv: Sequence[str] | None,
    *,
    stage: str,
    config: type[T],
    run: Callable[[T, Lake, Report], list[str]],
    description: str,
    epilogue: Callable[[Lake, list[str]], None] | None = None,
    create: bool = True,
    ranks: bool = False,
) -> int:
    """Parse the command line of one stage, run it, print the ids of its runs; return the exit code.

    A stage that needs a run to start from does not `create` the lake: a wrong --lake is an error. One that knows what
    to do with MPI `ranks` is in `on_ranks`.
    """
    parser = argparse.ArgumentParser(prog=f"argyase {stage}", description=description)
    parser.add_argument("-c", "--config", help=f"campaign file with a [{stage}] table (- reads JSON from stdin)")
    parser.add_argument("--scale", default="", help="scale of the campaign file, [scale.NAME.TABLE]")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--progress", choices=["auto", "json", "none"], default="auto", help="progress on stderr")
    _config.add_flags(parser, config)
    args = parser.parse_args(argv)

    def body() -> int:
        if not ranks:
            _refuse_ranks()
        settings = _config.resolve(config, args, stage)
        with progress(args.progress, stage) as report:
            lake = Lake(args.lake, create=create)
            ids = run(settings, lake, report)
        if epilogue is not None:
            epilogue(lake, ids)
        for run_id in ids:
            out.print(run_id, highlight=False)
        return 0

    return guarded(body)


def _refuse_ranks() -> None:
    """Several copies of a stage under one mpiexec would wait for each other for ever."""
    name, ranks = started_ranks()
    if ranks > 1:
        raise ConfigError(
            f"started on {ranks} MPI ranks ({name}): this stage is one process; start it without mpiexec or srun, and "
            "many of them with argyase run --jobs"
        )


def on_ranks(body: Callable[[], int]) -> int:
    """Exit code of `body`, in which molecular dynamics in LAMMPS are on all MPI ranks, were several started."""
    if started_ranks()[1] < 2:
        return body()
    from argyase.dynamics.ranks import lead

    return guarded(lambda: lead(body))


def guarded(body: Callable[[], int]) -> int:
    """Run `body`; print errors of our own as one paragraph and turn them into exit codes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # A damaged shard is our error to report; the other reads that zarr gives up with it are not.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        return body()
    except (ArgyaseError, DatalakeError) as error:
        console.print(f"[bold red]error[/] ({type(error).__name__}): ", Text(str(error)), sep="", end="\n")
        return error.exit_code
    except KeyboardInterrupt as error:
        if str(error):
            console.print(Text(str(error)))
        console.print("interrupted; what was computed is kept, run the same command to go on")
        return 130


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("speed", "")))


LINE_EVERY_S = 60.0


class _Bars(Progress):
    """Bars on a terminal; elsewhere, in a log file say, a line each minute for what is at work."""

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self._line_after = time.monotonic() + LINE_EVERY_S
        # When each was first told of, and how much of it was done by then, in an earlier run perhaps.
        self._first: dict[TaskID, tuple[float, float]] = {}

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        if not self.disable:
            return
        now, at_work = time.monotonic(), [t for t in self.tasks if t.started and t.total and not t.finished]
        for task in at_work:
            self._first.setdefault(task.id, (now, task.completed))
        if now < self._line_after or not at_work:
            return
        self._line_after = now + LINE_EVERY_S
        for task in at_work:
            line = f"{task.description}  {task.percentage:.1f} %"
            begun, before = self._first[task.id]
            if task.completed > before:
                left = (now - begun) * (task.remaining or 0) / (task.completed - before)
                line += f", some {timedelta(seconds=round(left))} left"
            line = f"{line}  {task.fields.get('speed', '')}".rstrip()
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def bars() -> Progress:
    """Progress bars with elapsed and remaining time; lines now and then when stderr is no terminal."""
    return _Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>5.1f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        _Speed(),
    )


@contextmanager
def progress(kind: str, label: str) -> Iterator[Report]:
    """Yield a `Report` that draws a bar (``auto``), prints JSON lines on stderr (``json``) or is silent."""
    if kind == "none":
        yield silent
        return
    if kind == "json":
        last = [0.0]

        def report_json(done: float, total: float) -> None:
            if (now := time.monotonic()) - last[0] > 0.3 or done >= total:
                last[0] = now
                # A parent that died closes this pipe: the error ends the stage, which keeps its frames.
                print(json.dumps({"done": done, "total": total}), file=sys.stderr, flush=True)

        yield report_json
        return
    with bars() as bar:
        task = bar.add_task(label, total=None)

        def report(done: float, total: float) -> None:
            bar.update(task, completed=done, total=total)

        yield report


DIED = "its process died: a crash, out of memory, or killed"


def in_processes(
    function: Callable[[T], R],
    items: Sequence[T],
    jobs: int,
    report: Report,
    died: Callable[[str], R] | None = None,
) -> list[R]:
    """Results of a function of a module, one for each item, in their order; so many at once, each in a process.

    A process that dies costs its item, and not the others. If this one is interrupted, they are told to stop (SIGTERM).

    Parameters
    ----------
    died
        What stands for the result of an item whose process died, for the reason it is given.

    Raises
    ------
    CalculatorError
        If processes died, when all else is done, unless `died` is given.
    """
    # A pool of one for each worker: the death of a process breaks its pool, and would take what others are at with it.
    own, pools = threading.local(), list[ProcessPoolExecutor]()

    def compute(item: T) -> R | BrokenProcessPool:
        if not hasattr(own, "pool"):
            # Fresh processes: the threads of linear algebra, used here before, do not survive a fork.
            own.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
            pools.append(own.pool)
        try:
            result: R = own.pool.submit(function, item).result()
        except BrokenProcessPool as death:
            del own.pool
            return death
        return result

    found: dict[int, R] = {}
    deaths = 0
    report(0, len(items))
    with ThreadPoolExecutor(jobs) as workers:
        waiting = {workers.submit(compute, item): n for n, item in enumerate(items)}
        try:
            for done in as_completed(waiting):
                result = done.result()
                if not isinstance(result, BrokenProcessPool):
                    found[waiting[done]] = result
                else:
                    deaths += 1
                    if died is not None:
                        found[waiting[done]] = died(DIED)
                report(len(found), len(items))
        except BaseException:
            for future in waiting:
                future.cancel()
            # Each stops as it does when it is told so itself: at its next checkpoint, if it has any.
            terminate_children()
            raise
        finally:
            for pool in pools:
                pool.shutdown(wait=False)
    if deaths and died is None:
        raise CalculatorError(
            f"{deaths} of {len(items)} did not end, for each {DIED}; the {len(found)} that were done are kept: run the "
            "same command to go on"
        )
    return [found[n] for n in range(len(items))]


def terminate_children() -> None:
    """Send SIGTERM to the processes of our pools: what they are at may take hours."""
    for process in multiprocessing.active_children():
        process.terminate()


def end_with_parent() -> None:
    """From now on SIGTERM comes to this process when the one that started it is gone, killed or not."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()


def collect_provenance(config: Any) -> dict[str, Any]:
    """Provenance of a run that starts now."""
    resolved = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    # Through JSON: paths and the like as their text.
    return {**provenance.collect("argyase"), "configuration": json.loads(json.dumps(resolved, default=str))}


LABELS = (
    "x", "inversion", "supercell", "seed", "li_added", "halide", "decoration", "configurational_entropy",
    "formula", "source", "temperature_K", "potential", "replica",
)  # fmt: skip
"""Parameters that a run hands down to the runs computed from it, so that every observable can be searched by them."""


def labels(record: RunRecord) -> dict[str, Any]:
    """The parameters that describe the sample, to be repeated in what is computed from it."""
    return {key: record.parameters[key] for key in LABELS if key in record.parameters}


def published(lake: Lake, stage: str, parameters: Mapping[str, Any], inputs: Sequence[str], version: int) -> str | None:
    """Id of the run with these parameters if the lake has it."""
    run_id = lake.id(stage, parameters, inputs, version)
    return run_id if run_id in lake else None


def made_of(
    lake: Lake, runs: Collection[str], stages: Sequence[str], **parameters: Any
) -> dict[str, dict[str, RunRecord]]:
    """For each run, by stage, what was made of it; of several, made with other settings, the newest.

    Parameters
    ----------
    runs
        Ids of trajectories.
    stages
        Stages of observables.
    **parameters
        Only those with these, as in `Lake.search`.
    """
    found: dict[str, dict[str, RunRecord]] = {run: {} for run in runs}
    for stage in stages:
        for record in sorted(lake.search(stage, **parameters), key=lambda r: (r.version, r.created)):
            for source in record.inputs:
                if source in found:
                    found[source][stage] = record
    return found


@contextmanager
def stop_requested(at_once: bool = False) -> Iterator[threading.Event]:
    """Turn SIGINT, SIGTERM and SIGUSR1 (a batch system, before a time limit) into an event.

    A loop that looks at it stops between two frames and never inside one. What is done `at_once` needs no such care,
    as it goes on from its last checkpoint: there, the first signal is a KeyboardInterrupt, too.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def request(*_: object) -> None:
        first = not event.is_set()
        event.set()
        if at_once and first:
            raise KeyboardInterrupt

    old = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def with_error(scalars: Mapping[str, Any], name: str, scale: float = 1.0) -> str:
    """The value of that name, times `scale`, with its 95 % interval, to two digits of the error.

    >>> with_error({"d": 101.3, "d_low": 84.0, "d_high": 119.0}, "d")
    '101 (84 ... 119)'
    >>> with_error({"d": 2.34e-05, "d_low": 1.9e-05, "d_high": 2.8e-05}, "d")
    '2.3e-05 (1.9e-05 ... 2.8e-05)'
    >>> with_error({"d": math.nan, "d_low": 0.0, "d_high": 5.51}, "d")
    '< 5.5'
    >>> with_error({"d": math.nan, "d_low": 0.0, "d_high": 674.0}, "d")
    '< 670'
    >>> with_error({"d": 1.3, "d_low": 0.512, "d_high": math.inf}, "d")
    '> 0.51'
    >>> with_error({"d": 0.0, "d_low": 0.0, "d_high": 1.38}, "d")
    '0 (0 ... 1.4)'
    >>> with_error({}, "d")
    'not determined'
    """
    value, low, high = (scale * float(scalars.get(k, math.nan)) for k in (name, f"{name}_low", f"{name}_high"))
    if not math.isfinite(value):
        return f"< {float(f'{high:.2g}'):g}" if math.isfinite(high) else "not determined"
    if not math.isfinite(low + high):
        return f"{float(f'{value:.2g}'):g} (not determined)" if not math.isfinite(low) else f"> {float(f'{low:.2g}'):g}"
    if value == 0:
        return f"0 ({float(f'{low:.2g}'):g} ... {float(f'{high:.2g}'):g})"
    if 0.01 <= abs(value) < 1e5:
        places = max(0, 1 - math.floor(math.log10(max(abs(high - low) / 2, 1e-9))))
        return f"{value:.{places}f} ({low:.{places}f} ... {high:.{places}f})"
    return f"{value:.1e} ({low:.1e} ... {high:.1e})"
