"""Stage ``trends``: of many runs an Arrhenius line, a series of cell sizes, or the correlation with the entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.errors import ConfigError, StatisticsError
from argyase.physics.intervals import Interval
from argyase.schemas import ARRHENIUS, CORRELATION, HOP_CORRELATION, SERIES, Schema
from argyase.stages import collective, conductivity, hops, jumps
from argyase.stages._config import setting
from argyase.stages._observable import labelled_sites
from argyase.stages._run import (
    LABELS,
    Report,
    collect_provenance,
    out,
    published,
    silent,
    stage_main,
    with_error,
)


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    over: Literal["temperature", "size", "entropy"] = setting(
        help="temperature: Arrhenius lines; size: series over the number of atoms; entropy: correlation with dS_conf"
    )
    of: Literal["conductivity", "collective", "hops", "jumps"] = setting(
        "conductivity", help="Nernst-Einstein or collective conductivity; crossings of 3 A, or inter-cage jumps"
    )
    runs: tuple[str, ...] = setting((), help="ids of trajectories; all of the lake if none")
    ion: str = setting("Li", help="the diffusing species")
    at_K: float = setting(300.0, help="temperature to read the Arrhenius line at", unit="K")


_SEEDS = ("seed", "replica")
_COMPOSITION = ("x", "inversion", "configurational_entropy", "formula")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute what the lake lacks; ids of the trends, one for each series of runs that differ in nothing else.

    Raises
    ------
    ConfigError
        If the lake has no trajectories, or a rate is asked for where only a conductivity makes sense.
    StatisticsError
        If no series of runs is long enough.
    """
    if config.over != "entropy" and config.of in ("hops", "jumps"):
        raise ConfigError(
            f"over = {config.over!r} is for conductivities; of = {config.of!r} goes with over = 'entropy'"
        )
    records = [lake.record(r) for r in config.runs] or [*lake.search("md"), *lake.search("ingest")]
    if not records:
        raise ConfigError(f"{lake.path}: no trajectory; make one with argyase run, argyase md or argyase ingest")
    left = {"temperature": ("temperature_K",), "size": ("supercell",), "entropy": _COMPOSITION}[config.over]
    series: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for record in records:
        fixed = {k: v for k, v in record.parameters.items() if k in LABELS and k not in (*left, *_SEEDS)}
        series.setdefault(tuple((k, str(v)) for k, v in sorted(fixed.items())), []).append(record)
    ids, reasons = list[str](), list[StatisticsError]()
    for done, runs in enumerate(series.values(), start=1):
        try:
            ids.append(_trend(config, lake, runs, left))
        except StatisticsError as error:  # this series is too short; another may do
            reasons.append(error)
        report(done, len(series))
    if not ids:
        raise reasons[-1]
    return ids


def _trend(config: Config, lake: Lake, runs: Sequence[RunRecord], left: Sequence[str]) -> str:
    schema = _schema(config)
    common = {k: v for k, v in runs[0].parameters.items() if k in LABELS and k not in (*left, *_SEEDS)}
    sources = [_source(config, lake, r) for r in runs]
    parameters = {**common, "of": config.of, "ion": config.ion}
    if config.over == "temperature":
        parameters["at_K"] = config.at_K
    if run_id := published(lake, schema.name, parameters, sources, schema.version):
        return run_id
    dataset = _compute(config, lake, runs, [lake.open_run(s) for s in sources], schema)
    provenance = collect_provenance(config)
    return lake.publish(schema.name, parameters, dataset, inputs=sources, schema=schema, provenance=provenance)


def _schema(config: Config) -> Schema:
    if config.over == "entropy":
        return HOP_CORRELATION if config.of in ("hops", "jumps") else CORRELATION
    return ARRHENIUS if config.over == "temperature" else SERIES


def _source(config: Config, lake: Lake, record: RunRecord) -> str:
    """Id of the observable of a trajectory."""
    common: dict[str, Any] = {"run": record.id, "ion": config.ion}
    stages: dict[str, Callable[[], list[str]]] = {
        "conductivity": lambda: conductivity.run(conductivity.Config(**common), lake),
        "collective": lambda: collective.run(collective.Config(**common), lake),
        "hops": lambda: hops.run(hops.Config(**common), lake),
        "jumps": lambda: jumps.run(jumps.Config(**common), lake),
    }
    return stages[config.of]()[0]


def _compute(
    config: Config, lake: Lake, runs: Sequence[RunRecord], data: Sequence[xr.Dataset], schema: Schema
) -> xr.Dataset:
    from argyase.physics.trends import arrhenius, average, correlation, sizes

    name = {"hops": "crossing_rate", "jumps": "rate"}.get(config.of, "conductivity")
    values = [Interval.read(d.sel(jump="inter_cage") if config.of == "jumps" else d, name) for d in data]
    if config.over == "entropy":
        return correlation([_entropy(lake, r) for r in runs], values, schema)
    if config.over == "temperature":
        keys = [float(r.parameters["temperature_K"]) for r in runs]
    else:
        keys = [float(lake.trajectory(r.id).n_atoms) for r in runs]
    groups = {key: [k for k, other in enumerate(keys) if other == key] for key in sorted(set(keys))}
    means = [average([values[k] for k in members]) for members in groups.values()]
    if config.over == "size":
        return sizes(np.array(list(groups), dtype=int), means)
    seen = [float(np.mean([float(data[k]["temperature"]) for k in members])) for members in groups.values()]
    return arrhenius(seen, means, config.at_K)


def _entropy(lake: Lake, record: RunRecord) -> float:
    """dS_conf / R from the species that are on the 4a and 4d sites of a trajectory."""
    from argyase.structures.entropy import entropy_of_sites

    species, site = labelled_sites(lake, record)
    return entropy_of_sites(species, site)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print each trend in a line."""
    for run_id in ids:
        record = lake.record(run_id)
        s, where = record.scalars, record.parameters
        label = ", ".join(str(where[k]) for k in ("formula", "inversion", "temperature_K", "potential") if k in where)
        if record.stage == "arrhenius":
            text = (
                f"Ea = {with_error(s, 'activation_energy')} eV, sigma({s['at']:g} K) = "
                f"{with_error(s, 'conductivity_at')} mS/cm{' (extrapolated)' if s['extrapolated'] else ''}"
            )
        elif record.stage == "series":
            data = lake.open_run(run_id)
            text = ", ".join(
                f"{n} atoms {v:.3g}" for n, v in zip(data["size"].values, data["conductivity"].values, strict=True)
            )
            text += " mS/cm"
        else:
            text = f"slope {with_error(s, 'slope')} per R, rank correlation {with_error(s, 'rank_correlation')}"
        out.print(f"{label}: {text}", highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="trends", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
