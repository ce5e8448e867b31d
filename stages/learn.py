"""``argyase learn``: active learning: sample with the potential, select, label, fit, until nothing is new to it.

A round samples every structure under every condition with the potential of the round before, selects the frames that
are new to it, labels them, and fits again from where it was. It ends when no frame exceeds the grade, or after as many
rounds as are allowed. Every step is a run of the lake: a loop that was stopped goes on where it was. With a calculator
to begin with and no rounds it is the classical way: first-principles dynamics of everything, labels, one fit.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.stages import _config, fit, label, sample, selection, structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP
from argyase.stages._run import Report, console, guarded, out, progress, silent
from argyase.stages.structures import Config as Structure

TABLES = ("campaign", "learn", "structures", "heated", "sample", "select", "label", "fit")
"""Of a campaign file."""


@dataclass(frozen=True)
class Config:
    """The [learn] table; [sample], [select], [label] and [fit] hold the settings of the stages.

    Each of the [[structures]] goes through all conditions, each of the [[heated]] through one dynamics of heating.
    """

    output: str = setting(help="files of the potentials, and of labels, without a suffix; round 2 is OUTPUT-2")
    labels: tuple[str, ...] = setting((), help="labelled frames to begin with: label runs or files")
    seeds: bool = setting(True, help="begin with rattled and squeezed cells of every structure, too")
    calculator: str = setting("", help="begin with dynamics by this calculator, too: " + CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
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
    sample: sample.Config
    select: selection.Config
    label: label.Config
    fit: fit.Config


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
        _config.from_mapping(sample.Config, {**data.get("sample", {}), "structure": "each"}, "sample"),
        _config.from_mapping(selection.Config, {**data.get("select", {}), **own}, "select"),
        _config.from_mapping(label.Config, {**data.get("label", {}), **own}, "label"),
        _config.from_mapping(fit.Config, {**data.get("fit", {}), "labels": ("to be labelled",)}, "fit"),
    )


def run(learning: Learning, lake: Lake, report: Report = silent) -> list[str]:
    """Learn; the ids of the fits, the last of the finished potential."""
    config = learning.config
    cells, heated = ([structures.run(s, lake)[0] for s in table] for table in (learning.structures, learning.heated))
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
        known += label.run(replace(learning.label, frames=tuple(frames)), lake, report)
    if not known:
        raise ConfigError("learn: nothing to begin with: give learn.labels, or leave learn.seeds at true")
    fits: list[str] = []
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
        if not chosen:
            console.print(f"round {number + 1}: nothing is new to {name.name}", highlight=False)
            if spread:
                break
            # What is not new may still be wrong: now frames of everything, for the fit and its held-out errors.
            spread = True
            chosen = selection.run(replace(select, each=config.each), lake)
        export = str(output.with_name(f"{output.name}-{number + 1}-labels.extxyz.gz"))
        known += label.run(replace(learning.label, frames=tuple(chosen), export=export), lake, report)
    return fits


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
        dynamics = sample.dynamics(own)
        parts = dynamics.schedule()
        kept = sum(part.last - part.first for part in parts if part.segment.keep)
        formula, atoms = built[own.structure]
        found.append(Cost(own, formula, atoms, parts[-1].last, kept // dynamics.sample_steps))
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
    for line in said:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


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
