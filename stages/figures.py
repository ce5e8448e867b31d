"""Stage ``figures``: figures of runs in the lake: MSD, conductivity, van Hove, hops; hulls, site energies, parity."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from argyase.datalake.lake import Lake, RunRecord
from argyase.errors import ConfigError
from argyase.physics.intervals import Interval
from argyase.stages import orderings
from argyase.stages._run import LABELS, guarded, made_of, out

_MOST = 8
"""Runs in a figure of curves."""
_ENTROPY = "$\\Delta S_{conf}$ ($R$ per formula unit)"
_INVERSION = "S/halide site inversion (%)"
_HOPS = "crossings of 3 Å (Li$^{-1}$ ns$^{-1}$)"
_JUMPS = "inter-cage jumps (Li$^{-1}$ ns$^{-1}$)"
_SEEDS = ("seed", "replica")
_SAMPLE = ("x", "inversion", "li_added", "formula", "configurational_entropy")


Sample = tuple[float, float, bool]
"""x, inversion, and whether Li was added."""


def draw(
    lake: Lake,
    runs: Sequence[Mapping[str, str]],
    folder: Path,
    note: str = "",
    planned: Collection[Sample] | None = None,
) -> list[Path]:
    """Draw what the lake holds of the runs.

    Parameters
    ----------
    runs
        For each run the ids of its observables by stage (msd, conductivity, vanhove, hops ...); absent ones are left
        out.
    folder
        Where the files go.
    note
        Printed small under each figure.
    planned
        Samples that there should be, those without a run to be shown as missing; left out, all whose structure the lake
        has.
    """
    from argyase.figures import transport
    from argyase.figures.style import save

    written: list[Path] = []
    plots: dict[str, Any] = {"msd": transport.plot_msd, "vanhove": transport.plot_vanhove, "hops": transport.plot_hops}
    few = _few(lake, runs)
    labels = _labels([lake.record(ids["md"]).parameters for ids in few])
    for stage, plot in plots.items():
        pairs = zip(labels, few, strict=True)
        if data := [(label, lake.open_run(ids[stage])) for label, ids in pairs if stage in ids]:
            written += save(plot(data, note=note), folder / stage)
    # Series of runs that differ in nothing but their composition.
    groups: dict[str, list[Mapping[str, str]]] = {}
    for ids in runs:
        groups.setdefault(json.dumps(_conditions(lake, ids), sort_keys=True), []).append(ids)
    # Where there are series of three samples, two others are none.
    long = [g for g in groups.values() if len(_samples(lake, g)) > 2] or list(groups.values())
    names = _labels([lake.record(group[0]["md"]).parameters for group in long], without="inversion")
    for n, (name, group) in enumerate(zip(names, long, strict=True)):
        unique = name if names.count(name) == 1 else f"{name}_{n + 1}"
        suffix = "" if len(long) == 1 else "_" + re.sub(r"[^A-Za-z0-9.-]+", "_", unique)
        written += _draw_series(lake, group, folder, suffix, note, planned)
    written += _sizes(lake, runs, folder, note)
    return written


def _conditions(lake: Lake, ids: Mapping[str, str]) -> dict[str, Any]:
    """What runs of one series have in common."""
    p = lake.record(ids["md"]).parameters
    return {k: p[k] for k in (*LABELS, "segments") if k in p and k not in (*_SEEDS, *_SAMPLE)}


def _few(lake: Lake, runs: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    """Runs for a figure of curves: if there are too many, one of each inversion of the first composition."""
    if len(runs) <= _MOST:
        return runs
    first = lake.record(runs[0]["md"]).parameters
    common = _conditions(lake, runs[0])
    chosen: dict[float, Mapping[str, str]] = {}
    for ids in runs:
        p = lake.record(ids["md"]).parameters
        if _conditions(lake, ids) == common and p.get("formula") == first.get("formula"):
            chosen.setdefault(float(p.get("inversion", 0.0)), ids)
    quarters = {y: ids for y, ids in chosen.items() if (4 * y) % 1 == 0}
    return [ids for _, ids in sorted((quarters or chosen).items())][:_MOST]


def _samples(lake: Lake, runs: Sequence[Mapping[str, str]]) -> dict[Sample, list[Mapping[str, str]]]:
    """Runs of each x, inversion, and whether Li was added."""
    found: dict[Sample, list[Mapping[str, str]]] = {}
    for ids in runs:
        p = lake.record(ids["md"]).parameters
        if "x" in p and "inversion" in p:
            sample = (float(p["x"]), float(p["inversion"]), bool(p.get("li_added", False)))
            found.setdefault(sample, []).append(ids)
    return dict(sorted(found.items()))


def _planned(lake: Lake, run: str) -> list[Sample]:
    """Samples of which the lake has a structure as that of the run."""
    own = lake.record(run).parameters
    same = ("supercell", "halide", "decoration", "a")
    source = lake.record(lake.record(run).inputs[0]).parameters if lake.record(run).inputs else own
    return [
        (float(p["x"]), float(p["inversion"]), bool(p.get("li_added", False)))
        for p in (r.parameters for r in lake.search("structures"))
        if "inversion" in p and all(p.get(k) == source.get(k) for k in same)
    ]


def sample_mean(lake: Lake, members: Sequence[Mapping[str, str]], stage: str, name: str) -> Interval | None:
    """Mean over the runs of a sample, a bound if it is one for some; None if none has it.

    The scatter of two is no measure of an error (Student's factor is 12.7): theirs is that of the runs themselves.
    """
    from argyase.physics.trends import average

    found = []
    for ids in members:
        if stage == "jumps" and stage in ids:
            found.append(Interval.read(lake.open_run(ids[stage]).sel(jump="inter_cage"), name))
        elif stage in ids:
            scalars = lake.record(ids[stage]).scalars
            found.append(
                Interval(*(float(scalars.get(f"{name}{e}", math.nan)) for e in ("", "_stderr", "_low", "_high")))
            )
    mean = average(found) if found else None
    known = [q for q in found if math.isfinite(q.value)]
    if len(known) == 2 and mean and math.isfinite(mean.value):
        half = math.hypot(*(q.high - q.low for q in known)) / 4
        return Interval(mean.value, math.hypot(*(q.stderr for q in known)) / 2, mean.value - half, mean.value + half)
    return mean


def _draw_series(
    lake: Lake,
    runs: Sequence[Mapping[str, str]],
    folder: Path,
    suffix: str,
    note: str,
    plan: Collection[Sample] | None,
) -> list[Path]:
    """Figures over composition, inversion and entropy of runs under the same conditions."""
    from argyase.figures import composition, transport
    from argyase.figures.style import save
    from argyase.structures.argyrodite import formula
    from argyase.structures.entropy import configurational_entropy

    samples = _samples(lake, runs)
    if not samples:
        return []
    where = {k: str(v) for k, v in _conditions(lake, runs[0]).items() if k == "temperature_K"}
    cells = "x".join(map(str, lake.record(runs[0]["md"]).parameters.get("supercell", ())))
    said = ", ".join([*(f"{float(v):g} K" for v in where.values()), *([f"{cells} cells"] if cells else [])])
    note = f"{said}. {note}" if said else note
    planned = sorted({*samples, *(_planned(lake, runs[0]["md"]) if plan is None else plan)})
    written: list[Path] = []
    quantities = (
        ("conductivity", "conductivity", "conductivity", transport.CONDUCTIVITY),
        ("hops", "hops", "crossing_rate", _HOPS),
        ("jumps", "jumps", "rate", _JUMPS),
    )
    compositions = {(x, added) for x, _, added in samples}
    for title, stage, name, label in quantities:
        found = {s: sample_mean(lake, members, stage, name) for s, members in samples.items()}
        if not any(found.values()):
            continue
        lines = {c: [s for s in planned if (s[0], s[2]) == c] for c in sorted(compositions)}
        long = {c: line for c, line in lines.items() if sum(s in samples for s in line) > 2} or lines
        chosen = [s for line in list(long.values())[:_MOST] for s in line]
        values = [found.get(s) for s in chosen]
        groups = [formula(x, added) for x, _, added in chosen]
        groups = groups if len(set(groups)) > 1 else [""] * len(groups)
        if title == "conductivity":
            over = [100 * y for _, y, _ in chosen]
            written += save(
                transport.plot_over(over, values, _INVERSION, label, groups, note=note),
                folder / f"{title}_inversion{suffix}",
            )
        entropies = [float(configurational_entropy(x, y)) for x, y, _ in chosen]
        written += save(
            transport.plot_over(entropies, values, _ENTROPY, label, groups, line=title != "jumps", note=note),
            folder / f"{title}_entropy{suffix}",
        )
        points = [composition.Point(x, y, found.get((x, y, a))) for x, y, a in planned if not a]
        if len({p.x for p in points if p.found}) > 1:
            written += save(composition.plot_ranges(points, label, note), folder / f"{title}_x{suffix}")
            if len(points) > len({p.x for p in points}):
                written += save(composition.plot_map(points, label, note), folder / f"{title}_map{suffix}")
            if title == "conductivity":
                entropy = [
                    composition.Point(p.x, p.inversion, Interval(e, 0.0, e, e))
                    for p in points
                    for e in [float(configurational_entropy(p.x, p.inversion))]
                ]
                written += save(composition.plot_ranges(entropy, _ENTROPY, note), folder / f"entropy_x{suffix}")
        added = sorted((x, y) for x, y, a in samples if a)
        if title == "conductivity" and added:
            at = sorted({(x, y) for x, y, a in planned if (x, y) in added or (x == 0 and (2 * y) == 1)})
            series = [
                (words, [composition.Point(x, y, found.get((x, y, a and x > 0))) for x, y in at])
                for words, a in (
                    ("Li$_{6-x}$PS$_{5-x}$Cl$_{1+x}$", False),
                    ("Li added: Li$_6$PS$_{5-x}$Cl$_{1+x}$", True),
                )
            ]
            written += save(composition.plot_added(series, label, note), folder / f"lithium_added{suffix}")
    return [*written, *_structure(lake, samples, folder, suffix, note)]


def _structure(
    lake: Lake, samples: Mapping[Sample, list[Mapping[str, str]]], folder: Path, suffix: str, note: str
) -> list[Path]:
    """Isosurfaces over inversion; isosurfaces and radial distributions before and after Li was added."""
    from argyase.figures import coordination, density
    from argyase.figures.style import save
    from argyase.structures.argyrodite import formula

    written: list[Path] = []
    with_density = {s: m[0]["density"] for s, m in samples.items() if "density" in m[0]}
    least = min((x for x, _, a in with_density if not a), default=0.0)
    line = {y: i for (x, y, a), i in with_density.items() if x == least and not a}
    line = {y: i for y, i in line.items() if (4 * y) % 1 == 0} or line
    if line:
        shown = [(f"{100 * y:.4g} %", lake.open_run(i)) for y, i in sorted(line.items())][:_MOST]
        title = f"{formula(least)} by S/halide inversion. {note}"
        written += save(density.plot_density(shown, note=title), folder / f"density{suffix}")
    pairs = [(x, y) for x, y, a in samples if a and (x, y, False) in samples]
    if pairs:  # the composition of fig. 6b, or the nearest to it
        x, y = min(pairs, key=lambda pair: (abs(pair[0] - 0.625), pair[1]))
        both = [(formula(x, a), samples[(x, y, a)][0]) for a in (False, True)]
        title = f"x = {x:g}, {100 * y:.4g} % inversion. {note}"
        if all("density" in ids for _, ids in both):
            data = [(label, lake.open_run(ids["density"])) for label, ids in both]
            written += save(density.plot_density(data, note=title), folder / f"density_added{suffix}")
        if all("coordination" in ids for _, ids in both):
            data = [(label, lake.open_run(ids["coordination"])) for label, ids in both]
            halide = lake.record(both[0][1]["md"]).parameters.get("halide", "Cl")
            figure = coordination.plot_coordination(data, f"Li-{halide}(4d)", note=title)
            written += save(figure, folder / f"rdf_added{suffix}")
    return written


def _sizes(lake: Lake, runs: Sequence[Mapping[str, str]], folder: Path, note: str) -> list[Path]:
    """MSD of one composition in cells of several sizes."""
    from argyase.figures import transport
    from argyase.figures.style import save

    groups: dict[str, dict[str, tuple[int, str]]] = {}
    for ids in runs:
        p = lake.record(ids["md"]).parameters
        if "msd" in ids and "supercell" in p:
            rest = {k: p[k] for k in LABELS if k in p and k != "supercell"}
            key = json.dumps({**rest, "segments": p.get("segments")}, sort_keys=True, default=str)
            name = "x".join(map(str, p["supercell"]))
            groups.setdefault(key, {})[name] = (math.prod(p["supercell"]), ids["msd"])
    several = [g for g in groups.values() if len(g) > 1]
    written: list[Path] = []
    for n, sizes in enumerate(several):
        data = [(name, lake.open_run(i)) for name, (_, i) in sorted(sizes.items(), key=lambda item: item[1][0])]
        first = lake.record(next(iter(sizes.values()))[1]).parameters
        said = f"{first.get('formula')}, {100 * float(first.get('inversion', 0)):g} %, {first['temperature_K']:g} K"
        title = f"{said}. {note}"
        stem = folder / ("msd_size" if len(several) == 1 else f"msd_size_{n + 1}")
        written += save(transport.plot_msd(data, title), stem)
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
            note = "; ".join(filter(None, (note, orderings.lost_relaxations(group))))
            written += save(energies.plot_hull(lake.open_run(group[0].id), note), stem)
        else:
            group.sort(key=lambda r: float(r.parameters["inversion"]))
            if chosen := group[0].parameters.get("orderings"):
                note += f"; of the S/halide orderings {', '.join(map(str, chosen))}"
            data = [(f"{100 * r.parameters['inversion']:g} %", lake.open_run(r.id)) for r in group]
            written += save(energies.plot_site_energies(data, f"{group[0].parameters['formula']}. {note}"), stem)
    return written


def draw_parity(lake: Lake, runs: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Draw predictions of potentials over labels, of each run of stage ``errors`` a figure."""
    from argyase.figures import potentials
    from argyase.figures.style import save

    written: list[Path] = []
    for record in runs:
        p = record.parameters
        name = Path(str(p["calculator"].get("potential", p["calculator"]["name"]))).stem
        parents = (lake.record(i) for i in record.inputs if i in lake)
        teachers = sorted({str(r.parameters["calculator"]["name"]) for r in parents if "calculator" in r.parameters})
        said = [name]
        if teachers:
            said.append(f"labels by {', '.join(teachers)}")
        if groups := p.get("groups"):
            said.append(f"groups {', '.join(groups)}")
        note = f"{'; '.join(said)}. {_note([name])}"
        stem = folder / ("parity" if len(runs) == 1 else f"parity-{record.id[:8]}")
        written += save(potentials.plot_parity(lake.open_run(record.id), note), stem)
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
        "runs",
        nargs="*",
        help="ids of trajectories (md, ingest), hulls, site energies and errors of potentials; all of the lake if none",
    )
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--figures", default="figures", help="folder for the figures (default: figures)")
    args = parser.parse_args(argv)

    def body() -> int:
        lake = Lake(args.lake, create=False)
        stages = ("md", "ingest", "hull", "site_energies", "errors")
        records = [lake.record(r) for r in args.runs] or [r for stage in stages for r in lake.search(stage)]
        if not records:
            raise ConfigError(
                f"{args.lake}: no trajectory, hull, site energies or errors of a potential; make one with argyase run, "
                "md, ingest, hull, site_energies or validate"
            )
        still = [r for r in records if r.stage in ("hull", "site_energies")]
        compared = [r for r in records if r.stage == "errors"]
        written = draw_energies(lake, still, Path(args.figures))
        written += draw_parity(lake, compared, Path(args.figures))
        if chosen := [r.id for r in records if r not in still and r not in compared]:
            written += _transport(lake, chosen, Path(args.figures))
        for path in written:
            out.print(f"figure {path}", highlight=False)
        return 0

    return guarded(body)


def _transport(lake: Lake, chosen: Sequence[str], folder: Path) -> list[Path]:
    """Draw what there is of trajectories."""
    stages = ("msd", "conductivity", "vanhove", "hops", "jumps", "coordination", "density")
    made = made_of(lake, chosen, stages)
    # Of two densities, the one that is averaged over the unit cells: it shows more.
    folded = made_of(lake, chosen, ["density"], fold=True)
    runs = [{"md": run, **{stage: r.id for stage, r in {**made[run], **folded[run]}.items()}} for run in chosen]
    note = _note([str(lake.record(r).parameters.get("potential", "")) for r in chosen])
    return draw(lake, runs, folder, note)


if __name__ == "__main__":
    raise SystemExit(main())
