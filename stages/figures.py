"""Stage ``figures``: figures of runs in the lake: MSD, conductivity, van Hove, hops; hulls and site energies."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from argyase.datalake.lake import Lake, RunRecord
from argyase.errors import ConfigError
from argyase.stages._run import guarded, out


def draw(lake: Lake, runs: Sequence[Mapping[str, str]], folder: Path, note: str = "") -> list[Path]:
    """Draw what the lake holds of the runs.

    Parameters
    ----------
    runs
        For each run the ids of its observables by stage (msd, conductivity, vanhove, hops); absent ones are left out.
    folder
        Where the PNG and SVG files go.
    note
        Printed small under each figure.
    """
    from argyase.figures import transport
    from argyase.figures.style import save

    parameters = [lake.record(ids["md"]).parameters for ids in runs]
    labels = _labels(parameters)
    written: list[Path] = []
    plots: dict[str, Any] = {"msd": transport.plot_msd, "vanhove": transport.plot_vanhove, "hops": transport.plot_hops}
    for stage, plot in plots.items():
        pairs = zip(labels, runs, strict=True)
        if data := [(label, lake.open_run(ids[stage])) for label, ids in pairs if stage in ids]:
            written += save(plot(data, note=note), folder / stage)
    scalars = [lake.record(ids["conductivity"]).scalars if "conductivity" in ids else {} for ids in runs]
    groups = _labels(parameters, without="inversion")
    for key, scale, label, line in (
        ("inversion", 100, "S/Cl site inversion (%)", False),
        ("configurational_entropy", 1, "$\\Delta S_{conf}$ ($R$ per formula unit)", True),
    ):
        if all(key in p for p in parameters) and any(scalars):
            values = [scale * float(p[key]) for p in parameters]
            figure = transport.plot_conductivity(values, scalars, label, groups, line, note)
            written += save(figure, folder / f"conductivity_{key.removeprefix('configurational_')}")
    return written


def draw_energies(lake: Lake, runs: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Draw hulls, one a figure, and site energies, those of one calculator and composition in one."""
    from argyase.figures import energies
    from argyase.figures.style import save

    groups: dict[str, list[RunRecord]] = {}
    for record in runs:
        p = {k: v for k, v in record.parameters.items() if k not in ("inversion", "configurational_entropy")}
        key = record.id if record.stage == "hull" else json.dumps(p, sort_keys=True)
        groups.setdefault(key, []).append(record)
    names = [group[0].stage for group in groups.values()]
    written: list[Path] = []
    for name, group in zip(names, groups.values(), strict=True):
        who = group[0].parameters["calculator"]
        note = _note([str(who.get("potential", ""))]) or f"calculator: {who['name']}"
        stem = folder / (name if names.count(name) == 1 else f"{name}-{group[0].id[:8]}")
        if name == "hull":
            written += save(energies.plot_hull(lake.open_run(group[0].id), note), stem)
        else:
            group.sort(key=lambda r: float(r.parameters["inversion"]))
            data = [(f"{100 * r.parameters['inversion']:g} %", lake.open_run(r.id)) for r in group]
            written += save(energies.plot_site_energies(data, f"{group[0].parameters['formula']}. {note}"), stem)
    return written


def _note(potentials: Collection[str]) -> str:
    """What the model cards of shipped potentials warn of."""
    from argyase.potentials.model_card import find_potential, shipped_potentials

    return " ".join(sorted(find_potential(name).warning for name in set(potentials) & set(shipped_potentials())))


def _labels(parameters: Sequence[Mapping[str, Any]], without: str = "") -> list[str]:
    """What tells the runs apart: composition, inversion, temperature, seed, replica, potential, supercell."""
    forms = {
        "formula": "{}", "source": "{}", "inversion": "{:.3g} %", "temperature_K": "{:g} K", "seed": "seed {}",
        "replica": "replica {}", "potential": "{}", "supercell": "{}",
    }  # fmt: skip
    varying = [k for k in forms if k != without and len({str(p.get(k)) for p in parameters}) > 1]
    if not varying:
        varying = [k for k in ("formula", "temperature_K") if k != without]

    def shown(key: str, value: Any) -> Any:
        if key == "supercell":
            return "x".join(map(str, value))
        return 100 * value if key == "inversion" else value

    def text(p: Mapping[str, Any]) -> str:
        values = {k: shown(k, p[k]) for k in varying if k in p}
        return ", ".join(forms[k].format(v) for k, v in values.items())

    return [text(p) for p in parameters]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="argyase figures", description=__doc__)
    parser.add_argument(
        "runs", nargs="*", help="ids of trajectories (md, ingest), hulls and site energies; all of the lake if none"
    )
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--figures", default="figures", help="folder for the figures (default: figures)")
    args = parser.parse_args(argv)

    def body() -> int:
        lake = Lake(args.lake, create=False)
        stages = ("md", "ingest", "hull", "site_energies")
        records = [lake.record(r) for r in args.runs] or [r for stage in stages for r in lake.search(stage)]
        if not records:
            raise ConfigError(
                f"{args.lake}: no trajectory, hull or site energies; make one with argyase run, md, ingest, hull or "
                "site_energies"
            )
        still = [r for r in records if r.stage in ("hull", "site_energies")]
        written = draw_energies(lake, still, Path(args.figures))
        if chosen := [r.id for r in records if r not in still]:
            written += _transport(lake, chosen, Path(args.figures))
        for path in written:
            out.print(f"figure {path}", highlight=False)
        return 0

    return guarded(body)


def _transport(lake: Lake, chosen: Sequence[str], folder: Path) -> list[Path]:
    """Draw what there is of trajectories."""
    found: dict[str, dict[str, str]] = {run: {"md": run} for run in chosen}
    for stage in ("msd", "conductivity", "vanhove", "hops"):
        for record in lake.search(stage):
            for source in record.inputs:
                if source in found:
                    found[source][stage] = record.id
    note = _note([str(lake.record(r).parameters.get("potential", "")) for r in chosen])
    return draw(lake, list(found.values()), folder, note)


if __name__ == "__main__":
    raise SystemExit(main())
