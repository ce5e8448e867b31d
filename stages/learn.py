"""``argyase learn``: active learning: sample with the potential, select, label, fit, until nothing is new to it.

A round samples every structure under every condition with the potential of the round before, selects the frames that
are new to it, labels them, and fits again from where it was. It ends when no frame exceeds the grade, or after as many
rounds as are allowed; the lake keeps which (stage learn). Every step is a run of the lake: a loop that was stopped goes
on where it was. With a calculator to begin with and no rounds it is the classical way: first-principles dynamics of
everything, labels, one fit.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError, SimulationError
from argyase.schemas import LEARN
from argyase.stages import _config, fit, hull, label, orderings, sample, selection, site_energies, structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP
from argyase.stages._run import Report, collect_provenance, console, guarded, out, progress, published, silent
from argyase.stages.structures import Config as Structure

TABLES = (
    "campaign", "learn", "structures", "heated", "orderings", "sample", "select", "label", "fit", "hull",
    "site_energies",
)  # fmt: skip
"""Of a campaign file."""


@dataclass(frozen=True)
class Config:
    """The [learn] table; [sample], [select], [label] and [fit] hold the settings of the stages.

    Each of the [[structures]] goes through all conditions, each of the [[heated]] through one dynamics of heating. With
    [orderings] an argyrodite of [[structures]] is that of the lowest relaxed energy of all its distributions of S and
    halide. [hull] and [site_energies] come last: first-principles work of a campaign that needs no potential.
    """

    output: str = setting(help="files of the potentials, and of labels, without a suffix; round 2 is OUTPUT-2")
    labels: tuple[str, ...] = setting((), help="labelled frames to begin with: label runs or files")
    seeds: bool = setting(True, help="begin with rattled and squeezed cells of every structure, too")
    calculator: str = setting("", help="begin with dynamics by this calculator, too: " + CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    early_ends: bool = setting(
        False,
        help="label dynamics by this calculator that became unphysical before their end, too",
    )
    rounds: int = setting(5, help="rounds at most")
    temperature_K: tuple[float, ...] = setting((300.0, 600.0, 900.0, 1200.0), help="temperatures", unit="K")
    strain: tuple[float, ...] = setting((-0.05, 0.0, 0.05), help="strains of all lengths")
    melt_strain: tuple[float, ...] = setting((0.0,), help="strains at which everything is molten and quenched, too")
    heated_sample_ps: float = setting(0.2, help="time between frames of what is [[heated]]", unit="ps")
    replicas: int = setting(1, help="runs with other velocities in each round")
    each: int = setting(0, help="when nothing is new, label so many frames of every trajectory, and fit once more")
    jobs: int = setting(1, help="runs of sampling at once")


@dataclass(frozen=True)
class Learning:
    """A campaign of active learning, checked."""

    config: Config
    structures: list[Structure]
    heated: list[Structure]
    orderings: list[orderings.Config]
    """One for each of the structures; none if they are taken as they are built."""
    sample: sample.Config
    select: selection.Config
    label: label.Config
    fit: fit.Config
    hull: hull.Config | None
    site_energies: site_energies.Config | None


def read(path: str) -> Learning:
    """Read and check a campaign file.

    Raises
    ------
    ConfigError
        If a table or a key is unknown, missing or wrong.
    """
    data = dict(_config.load(path))
    _config.check_tables(data, TABLES, path)
    built = structures.from_tables(data, path)
    heated = structures.from_tables(data, path, "heated") if "heated" in data else []
    own = {"frames": ("to be sampled",)}
    return Learning(
        _config.from_mapping(Config, data.get("learn", {}), "learn"),
        built,
        heated,
        [_orderings(s, data["orderings"], path) for s in built] if "orderings" in data else [],
        _config.from_mapping(sample.Config, {**data.get("sample", {}), "structure": "each"}, "sample"),
        _config.from_mapping(selection.Config, {**data.get("select", {}), **own}, "select"),
        _config.from_mapping(label.Config, {**data.get("label", {}), **own}, "label"),
        _config.from_mapping(fit.Config, {**data.get("fit", {}), "labels": ("to be labelled",)}, "fit"),
        _config.from_mapping(hull.Config, data["hull"], "hull") if "hull" in data else None,
        _config.from_mapping(site_energies.Config, data["site_energies"], "site_energies")
        if "site_energies" in data
        else None,
    )


def _orderings(structure: Structure, table: Mapping[str, Any], path: str) -> orderings.Config:
    """Which orderings stand behind one of the [[structures]]."""
    own = {k: getattr(structure, k) for k in ("x", "inversion", "halide", "a")}
    if twice := sorted(set(own) & set(table)):
        raise ConfigError(f"{path}: orderings.{twice[0]}: it is that of each of the [[structures]]; leave it out")
    plain = Structure(**own)
    if structure != plain:
        other = next(f.name for f in fields(Structure) if getattr(structure, f.name) != getattr(plain, f.name))
        raise ConfigError(
            f"{path}: structures.{other} = {getattr(structure, other)!r}: with [orderings] the structures are unit "
            "cells of argyrodites, given by x, inversion, halide and a"
        )
    return _config.from_mapping(orderings.Config, {**table, **own}, "orderings")


def run(learning: Learning, lake: Lake, report: Report = silent) -> list[str]:
    """Learn; the ids of the fits, the last of the finished potential.

    Raises
    ------
    CalculatorError
        If dynamics or labels failed, when all others are done; the same again goes on with them.
    SimulationError
        If dynamics by the calculator to begin with ended early, unless that is allowed. (Those by the potential of a
        round are meant to show where it goes wrong; they are told.)
    """
    config = learning.config
    if learning.orderings:
        compared = [orderings.run(o, lake, report)[0] for o in learning.orderings]
        cells = [str(lake.record(run_id).scalars["lowest_run"]) for run_id in compared]
    else:
        cells = [structures.run(s, lake)[0] for s in learning.structures]
    heated = [structures.run(s, lake)[0] for s in learning.heated]
    known = list(config.labels)
    if config.seeds:
        seeds = [
            replace(learning.sample, structure=c, kind=k) for c in [*cells, *heated] for k in ("rattle", "squeeze")
        ]
        frames = [run_id for s in seeds for run_id in sample.run(s, lake)]
        known += label.run(replace(learning.label, frames=tuple(frames)), lake, report)
    if config.calculator:
        configs = samples(learning, cells, config.calculator, config.settings, 0, heated)
        frames = sample.run_all(configs, lake, config.jobs, report)
        early = [told for c, i in zip(configs, frames, strict=True) if (told := sample.ended_early(c, i, lake))]
        if early and not config.early_ends:
            raise SimulationError(
                f"learn: {len(early)} of {len(frames)} dynamics by {config.calculator}, the teacher, ended early; "
                "with learn.early_ends = true they are labelled as far as they came; to sample one again, remove it "
                "first (argyase lake rm RUN):\n" + "\n".join(early)
            )
        if not (frames := [run_id for run_id in frames if lake.record(run_id).scalars["frames"]]):
            raise ConfigError(f"learn: dynamics by {config.calculator} keep no frame; make them longer than sample_ps")
        known += label.run(replace(learning.label, frames=tuple(frames)), lake, report)
    if not known:
        raise ConfigError("learn: nothing to begin with: give learn.labels, or leave learn.seeds at true")
    fits: list[str] = []
    new: list[int] = []  # frames, in each round
    output, spread = Path(config.output), config.each == 0
    for number in range(config.rounds + 1):
        name = output.with_name(f"{output.name}-{number}")
        trained = replace(learning.fit, labels=tuple(known), output=str(name), start="")
        if number > 0:
            trained = replace(trained, start=f"{output.with_name(f'{output.name}-{number - 1}')}.mtp")
        console.print(f"round {number}: fit to {', '.join(known)}", highlight=False)
        fits += fit.run(trained, lake, report)
        potential = f"{name}.mtp"
        if number == config.rounds:
            break
        configs = samples(learning, cells, "mtp", (f"potential={potential}",), number + 1, heated)
        frames = sample.run_all(configs, lake, config.jobs, report)
        frames = [run_id for run_id in frames if lake.record(run_id).scalars["frames"]]
        select = replace(learning.select, frames=tuple(frames), potential=potential)
        chosen = selection.run(select, lake)
        new.append(sum(int(lake.record(run_id).scalars["candidates"]) for run_id in chosen))
        if not chosen:
            console.print(f"round {number + 1}: nothing is new to {name.name}", highlight=False)
            if spread:
                break
            # What is not new may still be wrong: now frames of everything, for the fit and its held-out errors.
            spread = True
            chosen = selection.run(replace(select, each=config.each), lake)
        export = str(output.with_name(f"{output.name}-{number + 1}-labels.extxyz.gz"))
        known += label.run(replace(learning.label, frames=tuple(chosen), export=export), lake, report)
    if new:
        _record(lake, config, fits, new)
    if learning.hull:
        console.print(f"hull: {hull.run(learning.hull, lake, report)[0]}", highlight=False)
    if learning.site_energies:
        found = site_energies.run(learning.site_energies, lake, report)
        console.print(f"site energies: {', '.join(found)}", highlight=False)
    return fits


def _record(lake: Lake, config: Config, fits: Sequence[str], new: Sequence[int]) -> None:
    """Say how it ended if rounds ran out, and publish that as a run made of the fits.

    (Not with the last fit: it is the same one where more rounds are allowed, and then not the last.)
    """
    ended = "nothing is new" if len(fits) == len(new) else "rounds"
    if ended == "rounds":
        name = Path(config.output).name
        console.print(
            f"ended after learn.rounds = {config.rounds} rounds; it is not known whether anything is new to "
            f"{name}-{len(new)}, which was not sampled with. To {name}-{len(new) - 1} {new[-1]} frames were, in the "
            "last round. To go on, raise learn.rounds",
            style="yellow",
            highlight=False,
        )
    if published(lake, "learn", {"ended": ended}, fits, LEARN.version) is None:
        dataset = LEARN.dataset(new_frames=new, round=range(1, len(new) + 1))
        scalars = {"rounds": len(new), "new_in_last_round": new[-1]}
        lake.publish("learn", {"ended": ended}, dataset, fits, LEARN, scalars, collect_provenance(config))


def samples(
    learning: Learning,
    cells: Sequence[str],
    calculator: str,
    settings: tuple[str, ...],
    number: int,
    heated: Sequence[str] = (),
) -> list[sample.Config]:
    """Dynamics of every structure under every condition; other velocities in each round, whose number it is.

    What is `heated` comes last.
    """
    config, found, last = learning.config, [], []
    for cell, replica in itertools.product([*cells, *heated], range(config.replicas)):
        base = replace(
            learning.sample,
            structure=cell,
            calculator=calculator,
            settings=settings,
            inside=learning.sample.inside and number == 0,  # rounds are by the potential
            seed=1000 * number + replica + (number == 0),  # 0 is no seed
        )
        if cell in heated:
            last.append(replace(base, kind="heating", sample_ps=config.heated_sample_ps))
            continue
        for temperature, strain in itertools.product(config.temperature_K, config.strain):
            found.append(replace(base, kind="md", temperature_K=temperature, strain=strain))
        found += [replace(base, kind="melt_quench", strain=strain) for strain in config.melt_strain]
    return found + last


@dataclass(frozen=True)
class Cost:
    """What one dynamics of a campaign takes."""

    config: sample.Config
    formula: str
    atoms: int
    steps: int
    frames: int


def costs(learning: Learning) -> list[Cost]:
    """The dynamics of the first calculator, in their order; none if there is none. Nothing is computed."""
    config, built = learning.config, dict[str, tuple[str, int]]()
    names: list[list[str]] = []
    for table in (learning.structures, learning.heated):
        names.append([])
        for settings in table:
            atoms, parameters = structures.build(settings)
            names[-1].append(f"{len(built)}")
            built[names[-1][-1]] = (str(parameters["formula"]), len(atoms))
    if not config.calculator:
        return []
    found = []
    for own in samples(learning, names[0], config.calculator, config.settings, 0, names[1]):
        steps = sample.dynamics(own).schedule()[-1].last
        formula, atoms = built[own.structure]
        found.append(Cost(own, formula, atoms, steps, sample.planned_frames(own)))
    return found


def announce(learning: Learning) -> None:
    """Say which calculations a campaign takes, and what they cost."""
    config, found = learning.config, costs(learning)
    table = Table(box=None, pad_edge=False)
    for column in ("dynamics of", "atoms", "kind", "T (K)", "strain", "MD steps", "frames"):
        table.add_column(column, justify="left" if column in ("dynamics of", "kind") else "right")
    for cost in found:
        own = cost.config
        pieces = [t for ramp in sample.ramps(own) if ramp.keep for t in (ramp.start_K, ramp.stop_K)]
        kelvin = " ... ".join(f"{t:g}" for t in dict.fromkeys(pieces))
        table.add_row(
            cost.formula, str(cost.atoms), own.kind, kelvin, f"{own.strain:g}", f"{cost.steps:,}", f"{cost.frames:,}"
        )
    if found:
        out.print(table)
    cells = len(learning.structures) + len(learning.heated)
    pairs = f"rattled and squeezed frames of {cells} cells are labelled first; " if config.seeds else ""
    said = [
        f"dynamics  {len(found)} runs by {config.calculator} {' '.join(config.settings)}: "
        f"{sum(c.steps for c in found):,} MD steps, {sum(c.frames for c in found):,} frames"
        if config.calculator
        else "dynamics  none before the first fit",
        f"labels    {pairs}{sum(c.frames for c in found):,} single points of these dynamics by "
        f"{learning.label.calculator} {' '.join(learning.label.settings)}, at most: the same frame is computed once",
        f"fit       level {learning.fit.level}, energy : force : stress = {learning.fit.energy_weight:g} : "
        f"{learning.fit.force_weight:g} : {learning.fit.stress_weight:g}; written to {config.output}-0.mtp",
        f"rounds    {config.rounds} at most; each samples with the potential, and labels what is new to it"
        if config.rounds
        else "rounds    none: every frame is labelled, and there is one fit",
    ]
    if learning.orderings:
        said.insert(0, _relaxations("orderings", learning.orderings))
    if learning.hull:
        phases = f"and {len(learning.hull.phases)} of reference phases; the same cell is relaxed once"
        said.append(f"{_relaxations('hull', hull.compositions(learning.hull))}, {phases}")
    if sites := learning.site_energies:
        count = site_energies.single_points(sites)
        said.append(
            f"sites     {count} single points at most of {sites.quantity} site energies by {sites.calculator} "
            f"{' '.join(sites.settings)}"
        )
    for line in said:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _relaxations(what: str, configs: Sequence[orderings.Config]) -> str:
    distributions, screened, last = orderings.relaxations(configs)
    one = configs[0]
    by = f"{last} relaxations at most by {one.calculator} {' '.join(one.settings)}"
    if screened:
        by = f"{screened} relaxations at most by {one.screen} {' '.join(one.screen_settings)}, then {by}"
    return f"{what:10}{distributions} distributions of S and halide over {len(configs)} compositions: {by}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase learn``."""
    parser = argparse.ArgumentParser(prog="argyase learn", description=__doc__)
    parser.add_argument("campaign", help="campaign file (TOML)")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--progress", choices=["auto", "json", "none"], default="auto", help="progress on stderr")
    parser.add_argument("--jobs", type=int, help="runs of sampling at once, instead of learn.jobs")
    parser.add_argument("--dry-run", action="store_true", help="say what would be computed, and compute nothing")
    args = parser.parse_args(argv)

    def body() -> int:
        learning = read(args.campaign)
        if args.jobs:
            learning = replace(learning, config=replace(learning.config, jobs=args.jobs))
        if args.dry_run:
            announce(learning)
            return 0
        with progress(args.progress, "learn") as report:
            ids = run(learning, Lake(args.lake), report)
        for run_id in ids:
            out.print(run_id, highlight=False)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
