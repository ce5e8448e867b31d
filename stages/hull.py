"""Stage ``hull``: energies of argyrodites above the convex hull, over composition and inversion, by any calculator.

Reference phases and the orderings of each argyrodite (stage ``orderings``) are relaxed first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.schemas import HULL
from argyase.stages import orderings, relax, structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, parse_settings
from argyase.stages._run import Report, collect_provenance, console, out, published, silent, stage_main
from argyase.structures.reference_phases import REFERENCE_PHASES


@dataclass(frozen=True)
class Config:
    """Which argyrodites, against which phases, by which calculator."""

    x: tuple[float, ...] = setting((0.0, 0.25, 0.5, 0.75, 1.0), help="extra Cl in Li6-xPS5-xCl1+x, multiples of 1/4")
    inversion: tuple[float, ...] = setting(
        (0.0, 0.25, 0.5, 0.75, 1.0),
        help="fractions of 4d sites that hold Cl, multiples of 1/4; those below x are left out",
    )
    phases: tuple[str, ...] = setting(
        REFERENCE_PHASES, help="reference phases: LiCl, Li2S, Li3PS4, and Li, P, S together or none of them"
    )
    temperature_K: tuple[float, ...] = setting((300.0, 600.0), help="of the free energies", unit="K")
    calculator: str = setting("mtp", help=CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    starts: int = setting(32, help="starts of the search for Li arrangements of low Ewald energy, in each ordering")
    arrangements: int = setting(12, help="Li arrangements of each ordering that are relaxed, lowest Ewald energy first")
    screen: str = setting("", help="relax the arrangements by this calculator first, and only the lowest by the other")
    screen_settings: tuple[str, ...] = setting((), help="settings of that calculator")
    fmax: float = setting(0.03, help="largest force that is left", unit="eV/A")
    steps: int = setting(1000, help="most steps of a relaxation")
    jobs: int = setting(1, help="processes at once")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Relax what is missing, and publish the hull; its id.

    Raises
    ------
    CalculatorError
        If a reference phase, or no ordering of an argyrodite, comes to rest.
    """
    from argyase.calculators import identity
    from argyase.physics.hull import COMPOUNDS, ELEMENTS, hull

    wanted = set(config.phases)
    if not wanted.issuperset(COMPOUNDS) or len(wanted & set(ELEMENTS)) not in (0, 3):
        raise ConfigError(
            f"hull.phases = {', '.join(config.phases)}: needed are {', '.join(COMPOUNDS)}, and all of "
            f"{', '.join(ELEMENTS)} or none"
        )
    x, inversion = sorted(set(config.x)), sorted(set(config.inversion))
    points = compositions(config)
    whole, finished = len(config.phases) + len(points), 0

    def inner(done: float, total: float) -> None:
        report(finished + done / total, whole)

    references: dict[str, str] = {}
    for name in config.phases:
        (cell,) = structures.run(structures.Config(phase=name), lake)
        own = relax.Config(cell, config.calculator, config.settings, config.fmax, config.steps)
        references[name] = relax.run(own, lake, inner)[0]
        finished += 1
    energy = np.full((len(x), len(inversion)), np.nan)
    runs = np.full(energy.shape, "", dtype="U20")
    compared: list[str] = []
    for point in points:
        compared += orderings.run(point, lake, inner)
        scalars = lake.record(compared[-1]).scalars
        i, j = x.index(point.x), inversion.index(point.inversion)
        energy[i, j], runs[i, j] = scalars["lowest_energy_per_atom"], scalars["lowest_run"]
        finished += 1
    inputs = [*references.values(), *compared]
    who = identity(config.calculator, **parse_settings(config.settings, "hull.settings"))
    parameters = {"calculator": who, "fmax": config.fmax, "temperatures_K": config.temperature_K}
    if run_id := published(lake, "hull", parameters, inputs, HULL.version):
        return [run_id]
    energies = {name: float(lake.record(i).scalars["energy_per_atom"]) for name, i in references.items()}
    dataset = hull(x, inversion, energy, energies, config.temperature_K)
    arrays: dict[str, Any] = {str(name): dataset[name].values for name in dataset.variables}
    made = HULL.dataset(**arrays, run=runs, reference_run=list(references.values()))
    # Of the references none may fail. Those of orderings that an older version compared are not known.
    counts = [lake.record(run_id).scalars for run_id in compared]
    scalars = {name: sum(int(c.get(name, 0)) for c in counts) for name in ("relaxations", "failed")}
    return [lake.publish("hull", parameters, made, inputs, HULL, scalars, collect_provenance(config))]


def compositions(config: Config) -> list[orderings.Config]:
    """The argyrodites, with the settings of their relaxations.

    Raises
    ------
    ConfigError
        If there are none.
    """
    points = itertools.product(sorted(set(config.x)), sorted(set(config.inversion)))
    found = [
        orderings.Config(
            x, inversion, calculator=config.calculator, settings=config.settings, starts=config.starts,
            arrangements=config.arrangements, screen=config.screen, screen_settings=config.screen_settings,
            fmax=config.fmax, steps=config.steps, jobs=config.jobs,
        )
        for x, inversion in points if inversion >= x - 1e-9
    ]  # fmt: skip
    if not found:
        raise ConfigError(
            f"hull: no inversion of {sorted(set(config.inversion))} is as large as an x of {sorted(set(config.x))}: "
            "need x <= inversion <= 1"
        )
    return found


def _show(lake: Lake, ids: list[str]) -> None:
    from rich.table import Table

    from argyase.structures.argyrodite import formula

    for run_id in ids:
        data = lake.open_run(run_id)
        table = Table(title="meV/atom: above the hull; against Li3PS4, Li2S and LiCl; above the hull of free energies")
        free = (f"F, {t:g} K" for t in data["temperature"].values.tolist())
        for column in ("composition", "inversion", "above hull", "reaction", *free, "decomposes into"):
            table.add_column(column, no_wrap=True)
        for x in data["x"].values.tolist():
            for y in data["inversion"].values.tolist():
                one = data.sel(x=x, inversion=y)
                if np.isfinite(float(one["energy"])):
                    parts = zip(data["phase"].values.tolist(), one["amount"].values.tolist(), strict=True)
                    table.add_row(
                        formula(x), f"{100 * y:g} %", f"{float(one['energy_above_hull']):.1f}",
                        f"{float(one['reaction_energy']):.1f}",
                        *(f"{v:.1f}" for v in one["free_energy_above_hull"].values.tolist()),
                        " + ".join(f"{amount:.3g} {name}" for name, amount in parts if amount > 1e-6),
                    )  # fmt: skip
        out.print(table)
        if lost := orderings.lost_relaxations([lake.record(run_id)]):
            console.print(f"{lost}; argyase lake failures tells why", style="yellow", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="hull", config=Config, run=run, description=__doc__ or "", epilogue=_show)


if __name__ == "__main__":
    raise SystemExit(main())
