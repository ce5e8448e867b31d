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

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.stages import _config, fit, label, sample, selection, structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP
from argyase.stages._run import Report, console, guarded, out, progress, silent


@dataclass(frozen=True)
class Config:
    """The [learn] table; [structures], [sample], [select], [label] and [fit] hold the settings of the stages."""

    output: str = setting(help="files of the potentials, and of labels, without a suffix; round 2 is OUTPUT-2")
    labels: tuple[str, ...] = setting((), help="labelled frames to begin with: label runs or files")
    seeds: bool = setting(True, help="begin with rattled and squeezed cells of every structure, too")
    calculator: str = setting("", help="begin with dynamics by this calculator, too: " + CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    rounds: int = setting(5, help="rounds at most")
    temperature_K: tuple[float, ...] = setting((300.0, 600.0, 900.0, 1200.0), help="temperatures", unit="K")
    strain: tuple[float, ...] = setting((-0.05, 0.0, 0.05), help="strains of all lengths")
    melt_strain: tuple[float, ...] = setting((0.0,), help="strains at which everything is molten and quenched, too")
    replicas: int = setting(1, help="runs with other velocities in each round")
    each: int = setting(0, help="when nothing is new, label so many frames of every trajectory, and fit once more")
    jobs: int = setting(1, help="runs of sampling at once")


@dataclass(frozen=True)
class Learning:
    """A campaign of active learning, checked."""

    config: Config
    structures: list[structures.Config]
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
    _config.check_tables(data, ("campaign", "learn", "structures", "sample", "select", "label", "fit"), path)
    built = structures.from_tables(data, path)
    own = {"frames": ("to be sampled",)}
    return Learning(
        _config.from_mapping(Config, data.get("learn", {}), "learn"),
        built,
        _config.from_mapping(sample.Config, {**data.get("sample", {}), "structure": "each"}, "sample"),
        _config.from_mapping(selection.Config, {**data.get("select", {}), **own}, "select"),
        _config.from_mapping(label.Config, {**data.get("label", {}), **own}, "label"),
        _config.from_mapping(fit.Config, {**data.get("fit", {}), "labels": ("to be labelled",)}, "fit"),
    )


def run(learning: Learning, lake: Lake, report: Report = silent) -> list[str]:
    """Learn; the ids of the fits, the last of the finished potential."""
    config = learning.config
    cells = [structures.run(s, lake)[0] for s in learning.structures]
    known = list(config.labels)
    if config.seeds:
        seeds = [replace(learning.sample, structure=c, kind=k) for c in cells for k in ("rattle", "squeeze")]
        frames = [run_id for s in seeds for run_id in sample.run(s, lake)]
        known += label.run(replace(learning.label, frames=tuple(frames)), lake, report)
    if config.calculator:
        configs = samples(learning, cells, config.calculator, config.settings, 0)
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
        configs = samples(learning, cells, "mtp", (f"potential={potential}",), number + 1)
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
    learning: Learning, cells: Sequence[str], calculator: str, settings: tuple[str, ...], number: int
) -> list[sample.Config]:
    """Dynamics of every structure under every condition; other velocities in each round, whose number it is."""
    config, found = learning.config, []
    for cell, replica in itertools.product(cells, range(config.replicas)):
        base = replace(
            learning.sample,
            structure=cell,
            calculator=calculator,
            settings=settings,
            seed=1000 * number + replica + (number == 0),  # 0 is no seed
        )
        for temperature, strain in itertools.product(config.temperature_K, config.strain):
            found.append(replace(base, kind="md", temperature_K=temperature, strain=strain))
        found += [replace(base, kind="melt_quench", strain=strain) for strain in config.melt_strain]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase learn``."""
    parser = argparse.ArgumentParser(prog="argyase learn", description=__doc__)
    parser.add_argument("campaign", help="campaign file (TOML)")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--progress", choices=["auto", "json", "none"], default="auto", help="progress on stderr")
    args = parser.parse_args(argv)

    def body() -> int:
        learning = read(args.campaign)
        with progress(args.progress, "learn") as report:
            ids = run(learning, Lake(args.lake), report)
        for run_id in ids:
            out.print(run_id, highlight=False)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
