"""``argyase status``: how far the runs of a campaign are, from the lake and from Slurm's queue."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from argyase.datalake.lake import Lake
from argyase.datalake.trajectory import read_progress
from argyase.errors import CalculatorError
from argyase.stages import _slurm
from argyase.stages._run import guarded, out
from argyase.stages.campaign import read_campaign
from argyase.stages.plan import Task, make
from argyase.stages.submit import FOLDER


@dataclass(frozen=True)
class Line:
    """What is known of one MD run."""

    label: str
    state: str  # done, running, waiting, failed, stopped, to do
    done: float | None = None  # fraction of its steps, at the last checkpoint
    ns_day: float | None = None  # since it was started last
    left_h: float | None = None  # hours, if it goes on like this
    reason: str = ""


def lines(tasks: Sequence[Task], lake: Lake, root: Path, queue: dict[tuple[str, int], _slurm.Queued]) -> list[Line]:
    """One line for each MD run of a plan."""
    entries = {name: entry for entry in _slurm.submitted(root) for name in entry.tasks}  # the latest of each
    unfinished = {item.id: item for item in lake.unfinished()}
    found = []
    for task in (t for t in tasks if t.stage == "md"):
        run = task.id.removeprefix("md-")
        entry, item = entries.get(task.id), unfinished.get(run)
        queued = queue.get((entry.job, entry.index)) if entry else None
        progress = read_progress(item.path) if item else None
        fraction, speed, left = _pace(progress, float(task.settings["timestep_fs"]))
        if task.state in ("done", "failed"):
            found.append(Line(task.label, task.state, 1.0 if task.state == "done" else None, reason=task.reason))
        elif queued and queued.state == "RUNNING":
            found.append(Line(task.label, "running", fraction, speed, left))
        elif queued:
            found.append(Line(task.label, "waiting", fraction, reason=f"{queued.state.lower()}: {queued.reason}"))
        elif item and item.alive:
            found.append(Line(task.label, "running", fraction, speed, left, "not by argyase submit"))
        elif entry or item:
            ends = [] if entry is None else [_slurm.ended(entry), entry.last_line()]
            why = "; ".join(text for text in ends if text) or "no longer running"
            found.append(Line(task.label, "stopped", fraction, reason=f"{why}; submit it again to go on"))
        else:
            found.append(Line(task.label, "to do"))
    return found


def _pace(progress: dict[str, Any] | None, timestep_fs: float) -> tuple[float | None, float | None, float | None]:
    """Fraction done, ns a day, and hours left of a run."""
    state = progress["state"] if progress else {}
    step, total, rate = state.get("step"), state.get("total_steps"), state.get("steps_per_second", 0)
    if not step or not total:
        return None, None, None
    speed = rate * timestep_fs * 1e-6 * 86400
    return step / total, speed or None, (total - step) / rate / 3600 if rate else None


def _print(found: Sequence[Line], tasks: Sequence[Task]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "done", "ns/day", "ends", "why"):
        table.add_column(column, justify="right" if column in ("done", "ns/day") else "left", overflow="fold")
    for line in found:
        end = "" if line.left_h is None else time.strftime("%F %H:%M", time.localtime(time.time() + 3600 * line.left_h))
        percent = "" if line.done is None else f"{100 * line.done:.1f} %"
        speed = "" if line.ns_day is None else f"{line.ns_day:.2f}"
        table.add_row(line.label, line.state, percent, speed, end, line.reason)
    # A line for each run where a program reads it, however long the reason.
    (out if out.is_terminal else Console(width=1000)).print(table)
    counts = Counter(line.state for line in found)
    analysed = sum(t.stage == "analysis" and t.state == "done" for t in tasks)
    said = ", ".join(f"{n} {state}" for state, n in counts.items())
    out.print(f"{len(found)} MD runs: {said}; {analysed} analysed", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase status``."""
    parser = argparse.ArgumentParser(prog="argyase status", description=__doc__)
    parser.add_argument("campaign", help="campaign file (TOML)")
    parser.add_argument("--scale", default="", help="scale of the campaign file, such as small")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    args = parser.parse_args(argv)

    def body() -> int:
        lake, campaign = Lake(args.lake, create=False), read_campaign(args.campaign, args.scale)
        try:  # before the lake: what leaves the queue in the meantime is there
            queue = _slurm.queue()
        except CalculatorError as error:
            out.print(f"without Slurm's queue: {error}", highlight=False, markup=False)
            queue = {}
        tasks = make(campaign, lake, args.campaign, args.scale)
        _print(lines(tasks, lake, Path(FOLDER).absolute() / campaign.header.name, queue), tasks)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
