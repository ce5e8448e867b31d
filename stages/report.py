"""``argyase report``: one HTML file, without network, that shows what the lake holds of many runs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from argyase.datalake import provenance
from argyase.datalake.errors import CorruptRunError
from argyase.datalake.files import replace_bytes, writing
from argyase.datalake.identity import canonical
from argyase.datalake.lake import Lake, Lineage, RunRecord, failed
from argyase.errors import ConfigError
from argyase.stages import figures, md
from argyase.stages._run import LABELS, guarded, made_of, out, progress, with_error
from argyase.stages.campaign import FURTHER, expand, read_campaign

OBSERVABLES = ("msd", "conductivity", "vanhove", "hops", *FURTHER)
"""Stages of which the page shows what they made of a trajectory."""

_TRAJECTORIES = ("md", failed("md"), "ingest")
_REASONS = (("conductivity", "not_determined", "σ"), ("collective", "haven_not_determined", "Haven ratio"))
_MEMBERS = ("seed", "replica", "configurational_entropy", "formula")
"""Labels that do not make a cell of the map of their own, beside x and inversion."""


def content(lake: Lake, runs: Sequence[RunRecord], title: str, missing: Iterable[Mapping[str, Any]] = ()) -> Any:
    """All that the page shows, as JSON; of files that are damaged, that they are.

    Parameters
    ----------
    runs
        Trajectories: runs of the stages md, md-failed and ingest.
    title
        Headline.
    missing
        Labels of runs that a campaign asks for and the lake does not have.
    """
    made = made_of(lake, [run.id for run in runs], OBSERVABLES)
    shown = []
    with progress("auto", "report") as report:
        for done, run in enumerate(runs, start=1):
            shown.append(_run(lake, run, made[run.id]))
            report(done, len(runs))
    code = provenance.code("argyase")
    return {
        "title": title,
        "made": {"when": provenance.now(), "version": code["version"], "git": code["git"], "lake": lake.path.name},
        "warnings": sorted({run["warning"] for run in shown} - {""}),
        "runs": shown,
        "cells": _cells(lake, shown, missing),
    }


def _run(lake: Lake, record: RunRecord, made: Mapping[str, RunRecord]) -> dict[str, Any]:
    from argyase.report.curves import reduced

    flags = []

    def damaged(error: CorruptRunError) -> None:
        flags.append({"text": "damaged", "why": str(error)})

    datasets = {}
    for stage, r in made.items():
        try:
            datasets[stage] = lake.open_run(r.id)
        except CorruptRunError as error:
            damaged(error)
    made = {stage: made[stage] for stage in datasets}
    frames, atoms, step = 0, 0, 0.0
    try:
        frames, atoms, step = _size(lake, record)
    except CorruptRunError as error:
        damaged(error)
    p, transport = record.parameters, made["conductivity"].scalars if "conductivity" in made else {}
    if outside := md.domain_warning(record):
        flags.append({"text": "left training domain", "why": outside})
    if record.stage == failed("md"):
        flags.append({"text": "stopped", "why": str(record.scalars["reason"])})
    for stage, key, what in _REASONS:
        if stage in datasets and key in datasets[stage].attrs:
            flags.append({"text": f"{what} not determined", "why": str(datasets[stage].attrs[key])})
    return {
        "id": record.id,
        "stage": record.stage,
        "composition": str(p.get("formula", p.get("source", ""))),
        "labels": {k: _plain(p[k]) for k in LABELS if p.get(k) is not None},
        "length_ps": float(f"{frames * step:.6g}"),
        "asked_ps": _asked(p),
        "atoms": atoms,
        "mean_temperature": _number(record.scalars.get("mean_temperature")),
        "conductivity": estimate(transport, "conductivity"),
        "haven_ratio": estimate(made["collective"].scalars, "haven_ratio") if "collective" in made else None,
        "crossing_rate": estimate(made["hops"].scalars, "crossing_rate") if "hops" in made else None,
        "flags": flags,
        "warning": _warning(record),
        "observables": [_observable(r, p) for r in made.values()],
        "curves": {stage: curves for stage, data in datasets.items() if (curves := reduced(stage, data))},
        "lineage": _lineage(lake, record),
        "settings": {k: _plain(v) for k, v in p.items() if k not in LABELS},
        "provenance": {r.stage: _provenance(r) for r in (record, *made.values())},
    }


def estimate(scalars: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """A number with its 95 % interval, as numbers (None: not known) and as text; None if there is none."""
    if name not in scalars:
        return None
    ends = {end or "_value": _number(scalars.get(name + end)) for end in ("", "_stderr", "_low", "_high")}
    return {**{k[1:]: v for k, v in ends.items()}, "text": with_error(scalars, name)}


def _size(lake: Lake, record: RunRecord) -> tuple[int, int, float]:
    """Frames, atoms, and time between frames, ps; zeros of a run that failed before its first frame."""
    if record.stage == failed("md") and not record.scalars["frames"]:
        return 0, 0, 0.0
    trajectory = lake.trajectory(record.id)
    return trajectory.n_frames, trajectory.n_atoms, trajectory.time_step_ps


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """A parameter as a number or a text."""
    if isinstance(value, list) and all(isinstance(v, int) for v in value):
        return "x".join(map(str, value))
    if isinstance(value, list | dict):
        return _text(value)
    return value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _observable(record: RunRecord, parent: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of an observable with its unit, and the settings that are its own."""
    from argyase.schemas import SCHEMAS

    variables = SCHEMAS[record.stage].variables
    numbers = []
    for name, value in record.scalars.items():
        base = name.removesuffix("_stderr").removesuffix("_low").removesuffix("_high")
        if base != name and base in record.scalars:
            continue
        known = estimate(record.scalars, name) if f"{name}_low" in record.scalars else {"value": _number(value)}
        declared = variables.get(name)
        unit = "" if declared is None or declared.units == "1" else declared.units
        what = declared.long_name if declared else name
        numbers.append({**(known or {}), "name": name, "what": what, "unit": unit})
    own = {k: _plain(v) for k, v in record.parameters.items() if k not in LABELS or v != parent.get(k)}
    return {"stage": record.stage, "id": record.id, "created": record.created, "numbers": numbers, "settings": own}


def _warning(record: RunRecord) -> str:
    """What the model card of the potential warns of."""
    from argyase.potentials.model_card import find_potential, shipped_potentials

    name = str(record.parameters.get("potential", ""))
    return find_potential(name).warning if name in shipped_potentials() else ""


def _lineage(lake: Lake, record: RunRecord) -> dict[str, Any]:
    """The run and its parents; the potential, too, where no run of the lake has made it."""

    def node(item: Lineage) -> dict[str, Any]:
        r = item.record
        if r is None:
            return {"id": item.id, "stage": "", "text": "not in this lake", "parents": []}
        first = [k for k in ("formula", *LABELS) if r.parameters.get(k) is not None]
        what = [f"{k} {_text(_plain(r.parameters[k]))}" for k in dict.fromkeys(first)]
        return {"id": r.id, "stage": r.stage, "text": ", ".join(what), "parents": [node(p) for p in item.parents]}

    tree = node(lake.lineage(record.id))
    p = record.parameters
    if "potential" in p and not any(parent["stage"] == "fit" for parent in tree["parents"]):
        text = f"{p['potential']}, sha256 {p['potential_sha256']}" if "potential_sha256" in p else str(p["potential"])
        tree["parents"].append({"id": "", "stage": "potential", "text": text, "parents": []})
    return tree


def _provenance(record: RunRecord) -> dict[str, Any]:
    """Where, when, how and by which code a run was made."""
    p = record.provenance
    code = p.get("code", {})
    image = p.get("image", {})
    found = {
        "id": record.id,
        "code": " ".join(filter(None, ("argyase", str(code.get("version", p.get("argyase_version", "")))))),
        "commit": code.get("git", ""),
        "wheel": code.get("wheel", ""),
        "image": " ".join(filter(None, (image.get("name", p.get("container", "")), image.get("digest", "")))),
        "command": " ".join(map(str, p.get("command", []))),
        "host": p.get("host", ""),
        "platform": p.get("platform", ""),
        "python": p.get("python", ""),
        "Slurm job": p.get("slurm_job", ""),
        "begun": p.get("start", ""),
        "published": record.created,
        "wall time (s)": _number(p.get("wall_seconds")),
        "processor time (s)": _number(p.get("cpu_seconds")),
        "attempts": len(p.get("attempts", [])) or None,
        "seed of the structure": record.parameters.get("seed"),
        "seed of the velocities": record.parameters.get("replica"),
    }
    return {k: v for k, v in found.items() if v not in ("", None)}


def _cells(
    lake: Lake, shown: Sequence[Mapping[str, Any]], missing: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The cells of the maps: runs that differ by their seeds only, with their mean; and those that are yet to come."""
    cells: dict[str, dict[str, Any]] = {}

    def cell(labels: Mapping[str, Any], length: float | None, composition: str) -> dict[str, Any] | None:
        if not {"x", "inversion"} <= labels.keys():
            return None
        facets = {k: v for k, v in labels.items() if k not in (*_MEMBERS, "x", "inversion")}
        facets |= {} if length is None else {"length_ps": length}
        where = {"x": labels["x"], "inversion": labels["inversion"], "facets": facets, "composition": composition}
        return cells.setdefault(json.dumps(where, sort_keys=True), {**where, "runs": [], "missing": 0})

    for index, run in enumerate(shown):
        if (found := cell(run["labels"], run["asked_ps"], run["composition"])) is not None:
            found["runs"].append(index)
    for p in missing:
        labels = {k: _plain(v) for k, v in p.items() if k in LABELS}
        if (found := cell(labels, _asked(p), str(p.get("formula", "")))) is not None:
            found["missing"] += 1
    for found in cells.values():
        ids = [{o["stage"]: o["id"] for o in shown[i]["observables"]} for i in found["runs"]]
        mean = figures.sample_mean(lake, ids, "conductivity", "conductivity")
        found["conductivity"] = None if mean is None else estimate(mean.variables("conductivity"), "conductivity")
        known = [shown[i]["conductivity"] for i in found["runs"]]
        found["determined"] = sum(k is not None and k["value"] is not None for k in known)
    return list(cells.values())


def _asked(parameters: Mapping[str, Any]) -> float | None:
    """Length that a run of molecular dynamics was to have, ps: of the same seeds, a longer one is no other sample."""
    segments = parameters.get("segments")
    return float(segments[-1]["duration_ps"]) if segments else None


def chosen(lake: Lake, names: Sequence[str], scale: str = "") -> tuple[str, list[RunRecord], list[dict[str, Any]]]:
    """Title, trajectories, and the labels of those that the lake does not have (yet).

    Parameters
    ----------
    names
        Campaign files (``.toml``) and ids of trajectories; all trajectories of the lake if there are none.
    scale
        Of the campaign files.

    Raises
    ------
    ConfigError
        If there is no trajectory, or an id is of another stage.
    """
    if not names:
        runs = [r for stage in _TRAJECTORIES for r in lake.search(stage)]
        if not runs:
            raise ConfigError(f"{lake.path}: no trajectory; make one with argyase run, argyase md or argyase ingest")
        return f"Report of {lake.path.name}", sorted(runs, key=_place), []
    titles, found, missing = list[str](), dict[str, RunRecord](), list[dict[str, Any]]()
    for name in names:
        if not name.endswith(".toml"):
            record = lake.record(name)
            if record.stage not in _TRAJECTORIES:
                allowed = ", ".join(_TRAJECTORIES)
                raise ConfigError(f"{name}: a run of stage {record.stage}; give trajectories ({allowed})")
            found[record.id] = record
            continue
        campaign = read_campaign(name, scale)
        titles.append(": ".join(filter(None, (campaign.header.name, campaign.header.note))))
        for job in expand(campaign, lake):
            if job.run_id:
                found[job.run_id] = lake.record(job.run_id)
            elif stopped := md.failure(job.config, lake):
                found[stopped.id] = stopped
            else:
                potential = md.potential_of(job.config)
                missing.append(canonical(md.parameters(job.config, lake, job.config.structure, potential)))
    return "; ".join(dict.fromkeys(titles)) or f"Report of {lake.path.name}", list(found.values()), missing


def _place(record: RunRecord) -> tuple[float, ...]:
    """Where a run stands in a list of all: by temperature, composition, inversion."""
    return tuple(float(record.parameters.get(k) or 0.0) for k in ("temperature_K", "x", "inversion", "seed", "replica"))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase report``."""
    parser = argparse.ArgumentParser(prog="argyase report", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="campaign files (TOML), ids of trajectories; all trajectories of the lake if none"
    )
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--scale", default="", help="scale of the campaign files, [scale.NAME.TABLE]")
    parser.add_argument("--output", default="report.html", help="file to write (default: report.html)")
    args = parser.parse_args(argv)

    def body() -> int:
        from argyase.report.page import render

        path = Path(args.output)
        if not path.parent.is_dir():
            raise ConfigError(f"{path.parent}: no such folder")
        lake = Lake(args.lake, create=False)
        title, runs, missing = chosen(lake, args.names, args.scale)
        text = render(content(lake, runs, title, missing)).encode()
        with writing(path):
            replace_bytes(path, text)
        size = f"{len(runs)} runs, {len(text) / 1e6:.1f} MB"
        out.print(f"report {path}: {size}", highlight=False, markup=False, soft_wrap=True)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
