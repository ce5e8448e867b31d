"""``argyase lake``: what the data lake holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from argyase.datalake.lake import Lake, Lineage, failed
from argyase.datalake.store import failures
from argyase.stages._run import guarded, out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase lake``."""
    parser = argparse.ArgumentParser(prog="argyase lake", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "ls": "list the runs, and the unfinished ones",
        "show": "print one run: parameters, inputs, scalars, provenance, where it comes from, data",
        "failures": "list the frames that could not be labelled, and why",
        "verify": "check the files of one run, or of all, against their hashes",
        "rm": "remove a run, or what is left of one that was not finished",
    }
    parsers = {name: commands.add_parser(name, help=text, description=text) for name, text in helps.items()}
    for sub in parsers.values():
        sub.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parsers["ls"].add_argument("--stage", help="only this stage")
    parsers["ls"].add_argument(
        "--state",
        choices=["running", "failed", "done", "stale"],
        help="only runs in this state; stale: begun and not finished, and no process holds it",
    )
    parsers["failures"].add_argument("--calculator", default="", help="only of this one, e.g. vasp")
    parsers["show"].add_argument("run", help="id, or its first digits")
    parsers["verify"].add_argument("run", nargs="?", help="id, or its first digits; all when left out")
    parsers["rm"].add_argument("run", help="id, or its first digits")
    args = parser.parse_args(argv)

    def body() -> int:
        lake = Lake(args.lake, create=False)
        if args.command == "ls":
            _list(lake, args.stage, args.state)
        elif args.command == "show":
            _show(lake, args.run)
        elif args.command == "failures":
            _failures(lake, args.calculator)
        elif args.command == "rm":
            lake.remove(args.run)
        else:
            problems = lake.verify(args.run)
            for problem in problems:
                out.print(str(problem), highlight=False, markup=False)
            out.print(f"{len(problems)} problems")
            return 3 if problems else 0
        return 0

    return guarded(body)


_IN_LIST = ("formula", "source", "x", "inversion", "temperature_K", "seed", "replica", "potential")


def _list(lake: Lake, stage: str | None, state: str | None) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "stage", "state", "since", "of"):
        table.add_column(column, no_wrap=column != "of")
    rows = []
    for record in lake.search() if stage is None else [*lake.search(stage), *lake.search(failed(stage))]:
        is_failure = record.stage.endswith(failed(""))
        what = f"{_of(record.parameters)}  {record.scalars['reason']}" if is_failure else _of(record.parameters)
        rows.append((record.id, record.stage, "failed" if is_failure else "done", record.created, what))
    for item in (*lake.unfinished(), *lake.failures()):
        if stage in (None, item.stage, failed(item.stage)):
            who = f"process {item.attempts[-1].get('pid')} on {item.attempts[-1].get('host')}"
            frames = f"{item.frames} frames in {item.path}" if item.frames else ""
            end = who if item.state == "running" else item.exit or f"killed: {who} did not end it"
            what = "  ".join(filter(None, (_of(item.parameters), frames, end)))
            rows.append((item.id, item.stage, item.state, item.begun, what))
    for name, stage_, state_, since, what in rows:
        if state in (None, state_):
            table.add_row(name, stage_, state_, since[:19], Text(what))
    out.print(table)


def _failures(lake: Lake, calculator: str) -> None:
    found = [f for f in failures(lake.path) if f.about.get("calculator", f.name).startswith(calculator)]
    for failure in found:
        frame = failure.about.get("frame", failure.key[:16])
        who = failure.about.get("calculator", failure.name)
        # One line each, however long: for grep, and so that no reason is cut.
        line = f"{frame}  {failure.about.get('formula', '')}  {who}: {' '.join(failure.reason.split())}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    out.print(f"{len(found)} failures")


def _show(lake: Lake, run: str) -> None:
    record = lake.record(run)
    out.print_json(
        json.dumps(
            {
                "id": record.id,
                "stage": record.stage,
                "created": str(record.created),
                "inputs": list(record.inputs),
                "parameters": dict(record.parameters),
                "scalars": dict(record.scalars),
                "provenance": dict(record.provenance),
            },
            default=str,
        )
    )
    out.print(_tree(lake.lineage(record.id), Tree("lineage"), set()))
    out.print(str(lake.open_run(record.id)), highlight=False, markup=False)


def _tree(lineage: Lineage, tree: Tree, drawn: set[str]) -> Tree:
    """Draw a run and its ancestors below it, each of them with its own ancestors once."""
    if lineage.record is None:
        what = "not in this lake"
    else:
        what = f"{lineage.record.stage}  {_of(lineage.record.parameters)}"
    again = lineage.id in drawn and bool(lineage.parents)
    branch = tree.add(Text(f"{lineage.id}  {what}{'  (see above)' if again else ''}"))
    drawn.add(lineage.id)
    for parent in () if again else lineage.parents:
        _tree(parent, branch, drawn)
    return tree


def _of(parameters: Mapping[str, Any]) -> str:
    return "  ".join(f"{k}={parameters[k]}" for k in _IN_LIST if k in parameters)


if __name__ == "__main__":
    raise SystemExit(main())
