"""``argyase lake``: what the data lake holds."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from argyase.datalake.lake import FORMATS, Lake, Lineage, Unfinished, failed
from argyase.datalake.store import failures
from argyase.errors import ConfigError
from argyase.stages._run import guarded, out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase lake``."""
    parser = argparse.ArgumentParser(prog="argyase lake", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "init": "make a lake, or choose how trajectories are published in one from now on",
        "ls": "list the runs, and the unfinished ones",
        "show": "print one run: parameters, inputs, scalars, provenance, where it comes from, data",
        "failures": "list what failed, and why: frames that were to be labelled, relaxations, dynamics, other runs",
        "export": "write a trajectory, tables, or whole runs to a file of another format",
        "import": "take the runs of an exported .nc or .zip into the lake",
        "schemas": "print the page of all datasets: names, dimensions, units (docs/reference/datasets.md)",
        "verify": "check the files of one run, or of everything, against their hashes and checksums",
        "rm": "remove a run, or what is left of one that was not finished",
    }
    parsers = {name: commands.add_parser(name, help=text, description=text) for name, text in helps.items()}
    for sub in parsers.values():
        sub.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parsers["init"].add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="zarr: folders of shards, quickest (what a lake without this command has); hdf5: one NetCDF file each, "
        "for file systems that dislike many files",
    )
    parsers["ls"].add_argument("--stage", help="only this stage")
    parsers["ls"].add_argument(
        "--state",
        choices=["running", "failed", "done", "stale"],
        help="only runs in this state; stale: begun and not finished, and no process holds it",
    )
    parsers["failures"].add_argument("--calculator", default="", help="only of this one, e.g. vasp")
    parsers["show"].add_argument("run", help="id, or its first digits")
    parsers["verify"].add_argument("run", nargs="?", help="id, or its first digits; all when left out")
    parsers["verify"].add_argument(
        "--repair", action="store_true", help="move what is broken into broken/ in the lake; it can be computed again"
    )
    parsers["rm"].add_argument("run", help="id, or its first digits")
    parsers["export"].add_argument("runs", nargs="*", help="ids, or their first digits; all runs when left out")
    parsers["export"].add_argument("--stage", help="all runs of this stage")
    parsers["export"].add_argument("--parents", action="store_true", help="and all that they were computed from")
    parsers["export"].add_argument("--every", type=int, default=1, help="of a trajectory, every so many frames")
    parsers["export"].add_argument("--to", required=True, help=f"file to write: {_EXPORTS}")
    parsers["import"].add_argument("file", help="what argyase lake export wrote: .nc or .zip")
    args = parser.parse_args(argv)

    def body() -> int:
        if args.command == "schemas":
            print(schemas_page(), end="")
            return 0
        lake = Lake(args.lake, create=args.command in ("init", "import"))
        if args.command == "init":
            lake.set_format(args.format)
            out.print(f"{lake.path}: trajectories are published as {args.format}", highlight=False, soft_wrap=True)
        elif args.command == "ls":
            _list(lake, args.stage, args.state)
        elif args.command == "show":
            _show(lake, args.run)
        elif args.command == "failures":
            _failures(lake, args.calculator)
        elif args.command == "rm":
            lake.remove(args.run)
        elif args.command == "export":
            for path in export(lake, args.runs, args.stage, args.parents, args.every, Path(args.to)):
                out.print(str(path), highlight=False, markup=False, soft_wrap=True)
        elif args.command == "import":
            from argyase.datalake.portable import import_runs

            for name in import_runs(lake, Path(args.file)):
                out.print(name, highlight=False)
        else:
            problems = lake.verify(args.run, args.repair)
            for problem in problems:
                out.print(str(problem), highlight=False, markup=False, soft_wrap=True)
            moved = f", moved into {lake.path / 'broken'}" if problems and args.repair else ""
            out.print(f"{len(problems)} problems{moved}", highlight=False, markup=False, soft_wrap=True)
            return 3 if problems and not args.repair else 0
        return 0

    return guarded(body)


def schemas_page() -> str:
    """What `argyase.schemas` declares, as docs/reference/datasets.md."""
    from argyase.datalake.schema import page
    from argyase.schemas import SCHEMAS

    return page(
        SCHEMAS.values(),
        "Datasets",
        """\
Every dataset in the lake is declared in `argyase/schemas.py`; publication refuses one that is not as declared. This
page is made of it: `argyase lake schemas > docs/reference/datasets.md`.

Each variable carries its unit and meaning as the CF attributes `units` and `long_name`; units are spelt as UDUNITS
does, `1` is a pure number. An estimate comes as four variables: the value, `_stderr`, `_low` and `_high` (95 %
interval). Missing numbers are NaN (int64 has none: in a cube of many runs it becomes float64 where a run is missing),
missing texts are empty. The version is raised when the meaning of a dataset changes; it is part of a run's id, so that
results of two versions never mix. Lakes of older versions stay readable (`tests/datalake/test_migration.py`). Of
trajectories, positions and cells are in `traj.zarr` (in a lake of the format hdf5: `traj.nc`), the rest in
`data.nc`.""",
    )


def export(lake: Lake, runs: Sequence[str], stage: str | None, parents: bool, every: int, path: Path) -> list[Path]:
    """Write runs to a file of the format that its suffix names; the files written.

    Raises
    ------
    ConfigError
        If no format has this suffix, or what is asked for does not fit it.
    """
    from argyase.datalake import portable, tables
    from argyase.dynamics.writers import FORMATS

    if every < 1:
        raise ConfigError(f"--every {every}: must be 1 or more")
    names = [lake.record(run).id for run in runs]
    if stage or not runs:
        names += [record.id for record in lake.search(stage)]
    if not names:
        raise ConfigError(f"the lake has no run{f' of stage {stage!r}' if stage else ''} to export")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: no such folder")
    if parents:
        names = [i.id for name in names for i in lake.lineage(name).walk() if i.record is not None]
    names = list(dict.fromkeys(names))
    if path.suffix in portable.SUFFIXES:
        portable.export_runs(lake, names, path)
    elif path.suffix in tables.SUFFIXES:
        return tables.export_tables(lake, names, path)
    elif path.suffix in FORMATS:
        if len(names) > 1:
            raise ConfigError(f"{path}: a file of one trajectory, not of {len(names)} runs; name one")
        _export_trajectory(lake, names[0], every, path)
    else:
        raise ConfigError(f"{path}: no format of this suffix; there are {_EXPORTS}")
    return [path]


_EXPORTS = (
    ".extxyz, .traj (ASE), .lammpstrj, .h5md of one trajectory; .csv, .parquet tables of the numbers and curves; .nc, "
    ".zip (Zarr) whole runs, to be imported again"
)


def _export_trajectory(lake: Lake, name: str, every: int, path: Path) -> None:
    from argyase.dynamics.writers import FORMATS, Trajectory, write_trajectory

    reader, dataset = lake.trajectory(name), lake.open_run(name)
    frames = (
        (r, cell)
        for part, positions, cells in reader.chunks()
        for n, r, cell in zip(range(part.start, part.stop), positions, cells, strict=True)
        if n % every == 0
    )
    numbers = {str(k): v for k, v in dataset.data_vars.items() if v.dims == ("frame",)}
    trajectory = Trajectory(
        [str(s) for s in reader.coords["species"]],
        reader.time[::every],
        frames,
        {k: v.values[::every] for k, v in numbers.items()},
        {k: str(v.attrs.get("units", "1")) for k, v in numbers.items()},
    )
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write_trajectory(aside, trajectory, FORMATS[path.suffix])
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


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
            end = who if item.state == "running" else item.exit or _killed(item)
            what = "  ".join(filter(None, (_of(item.parameters), frames, end)))
            rows.append((item.id, item.stage, item.state, item.begun, what))
    for name, stage_, state_, since, what in rows:
        if state in (None, state_):
            table.add_row(name, stage_, state_, since[:19], Text(what))
    # One line each for a pipe, however long; a terminal gets them folded.
    (out if out.is_terminal else Console(width=10_000)).print(table)


def _failures(lake: Lake, calculator: str) -> None:
    found = [
        (f.about.get("frame", f.key[:16]), f.about.get("formula", ""), f.about.get("calculator", f.name), f.reason)
        for f in failures(lake.path)
    ]
    for record in lake.search():
        if record.stage.endswith(failed("")):
            what = f"{record.stage.removesuffix(failed(''))} {record.id}"
            found.append((what, *_formula_and_engine(record.parameters), str(record.scalars["reason"])))
    for item in (*lake.unfinished(), *lake.failures()):
        if not item.alive:
            what = f"{item.stage} {item.id}"
            found.append((what, *_formula_and_engine(item.parameters), item.exit or _killed(item)))
    found = [failure for failure in found if failure[2].startswith(calculator)]
    for what, formula, who, reason in found:
        # One line each, however long: for grep, and so that no reason is cut.
        line = f"{what}  {formula}  {who}: {' '.join(reason.split())}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    out.print(f"{len(found)} failures")


def _killed(item: Unfinished) -> str:
    who = f"process {item.attempts[-1].get('pid')} on {item.attempts[-1].get('host')}"
    return f"killed: {who} did not end it"


def _formula_and_engine(parameters: Mapping[str, Any]) -> tuple[str, str]:
    """What a run is of, and which engine moves or computes the atoms, with its preset or weights."""
    who: Any = parameters.get("calculator") or parameters.get("engine") or ("mtp" if "potential" in parameters else "")
    if isinstance(who, Mapping):
        words = [who.get(key, "") for key in ("name", "preset", "potential", "checkpoint", "model")]
    else:
        words = [who, parameters.get("potential", "")]
    return str(parameters.get("formula", "")), " ".join(str(word) for word in words if word)


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
