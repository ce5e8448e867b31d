"""Stage ``orderings``: all symmetry-distinct S/halide distributions over 4a and 4d of the unit cell, Li placed by Ewald
energy, relaxed by a calculator, the lowest told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms

from argyase.datalake.lake import Lake, RunRecord
from argyase.errors import CalculatorError, ConfigError
from argyase.schemas import ORDERINGS, STRUCTURE
from argyase.stages import relax, structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, parse_settings
from argyase.stages._run import Report, collect_provenance, console, in_processes, out, published, silent, stage_main


@dataclass(frozen=True)
class Config:
    """Which composition, and how its orderings are relaxed."""

    x: float = setting(0.0, help="extra halide in Li6-xPS5-xX1+x, a multiple of 1/4")
    inversion: float = setting(0.0, help="fraction of 4d sites that hold the halide, a multiple of 1/4")
    halide: Literal["Cl", "Br", "I"] = setting("Cl", help="halide")
    a: float | None = setting(None, help="lattice constant to start from", unit="A")
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
    """Relax all orderings; the id of the run that compares them.

    What does not come to rest is a failure of stage ``relax``, and NaN here.

    Raises
    ------
    CalculatorError
        If no relaxation comes to rest.
    """
    from argyase.calculators import identity
    from argyase.structures.argyrodite import LATTICE_CONSTANT_A, formula, occupations
    from argyase.structures.entropy import configurational_entropy
    from argyase.structures.ordering import distinct_orderings, ewald_arrangements

    if config.arrangements < 1 or config.starts < 1:
        raise ConfigError(
            f"orderings.arrangements = {config.arrangements}, orderings.starts = {config.starts}: need 1 or more"
        )
    on_4a, on_4d, lithium = occupations(config.x, config.inversion, (1, 1, 1))
    a = LATTICE_CONSTANT_A[config.halide] if config.a is None else config.a
    about = {
        "x": config.x, "inversion": config.inversion, "supercell": (1, 1, 1), "halide": config.halide,
        "configurational_entropy": float(configurational_entropy(config.x, config.inversion)),
        "formula": formula(config.x, halide=config.halide),
    }  # fmt: skip
    orderings = distinct_orderings(on_4a, on_4d)
    ewald = np.full((len(orderings), config.arrangements), np.nan)
    cells: dict[tuple[int, int], str] = {}
    for n, ordering in enumerate(orderings):
        found = ewald_arrangements(ordering.halide_4a, ordering.halide_4d, lithium, starts=config.starts, a=a)
        for m, (ewald[n, m], taken) in enumerate(found[: config.arrangements]):
            cells[n, m] = structure(
                lake, {**about, "a": a}, ordering.halide_4a, ordering.halide_4d, taken, collect_provenance(config)
            )
    base = relax.Config("", config.calculator, config.settings, config.fmax, config.steps)
    whole, chosen, tried, failed = len(cells) + (len(orderings) if config.screen else 0), cells, 0, 0

    def screening(done: float, total: float) -> None:
        report(done, whole)

    def relaxing(done: float, total: float) -> None:
        report(whole - total + done, whole)

    if config.screen:
        screened = replace(base, calculator=config.screen, settings=config.screen_settings)
        found_first = _relaxed(cells, screened, lake, config.jobs, screening)
        chosen, tried, failed = _lowest(lake, found_first), len(cells), len(cells) - len(found_first)
    relaxed = _relaxed(chosen, base, lake, config.jobs, relaxing)
    tried, failed = tried + len(chosen), failed + len(chosen) - len(relaxed)
    if not relaxed:
        raise CalculatorError(
            f"orderings: none of {len(chosen)} relaxations of {about['formula']} at inversion {config.inversion:g} "
            "came to rest; see their reasons above"
        )
    who = identity(config.calculator, **parse_settings(config.settings, "orderings.settings"))
    parameters = {**about, "calculator": who, "fmax": config.fmax, "arrangements": config.arrangements}
    inputs = list(relaxed.values())
    if run_id := published(lake, "orderings", parameters, inputs, ORDERINGS.version):
        return [run_id]
    energy = np.full(ewald.shape, np.nan)
    runs = np.full(ewald.shape, "", dtype="U20")
    for place, run_id in relaxed.items():
        energy[place], runs[place] = _energy(lake, run_id), run_id
    lowest = [int(np.nanargmin(row)) if np.isfinite(row).any() else -1 for row in energy]
    per_atom = np.array([row[m] if m >= 0 else np.nan for row, m in zip(energy, lowest, strict=True)])
    best = int(np.nanargmin(per_atom))
    dataset = ORDERINGS.dataset(
        halide_4a=[o.halide_4a for o in orderings],
        halide_4d=[o.halide_4d for o in orderings],
        multiplicity=[o.multiplicity for o in orderings],
        ewald_energy=ewald,
        relaxed_energy=energy,
        energy_per_atom=per_atom,
        energy_per_formula_unit=per_atom * (13 - config.x),
        run=runs,
        lowest=lowest,
        ordering=np.arange(len(orderings)),
        arrangement=np.arange(config.arrangements),
    )
    scalars: dict[str, float | str] = {
        "lowest_energy_per_atom": float(per_atom[best]),
        "lowest_run": str(runs[best, lowest[best]]),
        "relaxations": tried,
        "failed": failed,
    }
    provenance = collect_provenance(config)
    return [lake.publish("orderings", parameters, dataset, inputs, ORDERINGS, scalars, provenance)]


def relaxations(configs: Sequence[Config]) -> tuple[int, int, int]:
    """Of several compositions: distributions of S and halide, and relaxations at most by `screen` and `calculator`."""
    from argyase.structures.argyrodite import occupations
    from argyase.structures.ordering import distinct_orderings

    counts = [len(distinct_orderings(*occupations(c.x, c.inversion, (1, 1, 1))[:2])) for c in configs]
    cells = [n * c.arrangements for n, c in zip(counts, configs, strict=True)]
    screened = sum(n for n, c in zip(cells, configs, strict=True) if c.screen)
    last = sum(n if c.screen else m for n, m, c in zip(counts, cells, configs, strict=True))
    return sum(counts), screened, last


def structure(lake: Lake, about: dict[str, Any], halide_4a: Any, halide_4d: Any, taken: Any, provenance: Any) -> str:
    """Id of a unit cell given site by site, taken into the lake."""
    from argyase.structures.argyrodite import assemble

    sites = {"halide_4a": halide_4a, "halide_4d": halide_4d, "lithium_48h": taken}
    parameters = {
        **about,
        "decoration": "ordering",
        **{k: np.asarray(v).astype(int).tolist() for k, v in sites.items()},
    }
    if run_id := published(lake, "structures", parameters, (), STRUCTURE.version):
        return run_id
    atoms: Atoms = assemble(halide_4a, halide_4d, taken, halide=about["halide"], a=about["a"])
    dataset = structures.to_dataset(atoms, about["configurational_entropy"])
    return lake.publish("structures", parameters, dataset, schema=STRUCTURE, provenance=provenance)


def _relaxed(
    cells: dict[tuple[int, int], str], config: relax.Config, lake: Lake, jobs: int, report: Report
) -> dict[tuple[int, int], str]:
    """Ids of the relaxations that came to rest, by ordering and arrangement."""
    work = [(replace(config, structure=cell), str(lake.path)) for cell in cells.values()]
    if jobs > 1:
        found = in_processes(attempt, work, jobs, report, _not_relaxed)
    else:
        found = []
        for job in work:
            report(len(found), len(work))
            found.append(attempt(job))
        report(len(work), len(work))
    for run_id, reason in found:
        if not run_id:
            console.print(f"not relaxed: {reason}", style="yellow", markup=False)
    return {place: run_id for place, (run_id, _) in zip(cells, found, strict=True) if run_id}


def attempt(job: tuple[relax.Config, str]) -> tuple[str, str]:
    """Id of a relaxation, or why there is none."""
    try:
        return relax.run(job[0], Lake(job[1]))[0], ""
    except CalculatorError as error:
        return _not_relaxed(str(error))


def _not_relaxed(why: str) -> tuple[str, str]:
    return "", why


def _lowest(lake: Lake, relaxed: dict[tuple[int, int], str]) -> dict[tuple[int, int], str]:
    """Of each ordering, the lowest."""
    best: dict[int, tuple[int, int]] = {}
    for place, run_id in relaxed.items():
        known = best.get(place[0])
        if known is None or _energy(lake, run_id) < _energy(lake, relaxed[known]):
            best[place[0]] = place
    return {place: relaxed[place] for place in best.values()}


def _energy(lake: Lake, run_id: str) -> float:
    return float(lake.record(run_id).scalars["energy_per_atom"])


def lost_relaxations(records: Sequence[RunRecord]) -> str:
    """How many relaxations of runs of this stage, or of hulls, failed, in words; empty if none, or none is known."""
    failed, tried = (sum(int(r.scalars.get(name, 0)) for r in records) for name in ("failed", "relaxations"))
    return f"{failed} of {tried} relaxations failed" if failed else ""


def _show(lake: Lake, ids: list[str]) -> None:
    from rich.table import Table

    for run_id in ids:
        record, data = lake.record(run_id), lake.open_run(run_id)
        table = Table(title=f"{record.parameters['formula']}, inversion {100 * record.parameters['inversion']:g} %")
        for column in ("ordering", "4a", "4d", "multiplicity", "above the lowest (meV/f.u.)", "lowest relaxed"):
            table.add_column(column, justify="right" if "(" in column else "left")
        per_unit = data["energy_per_formula_unit"].values
        for n, m in enumerate(data["lowest"].values.tolist()):
            what = ["".join("SX"[int(v)] for v in data[name].values[n]) for name in ("halide_4a", "halide_4d")]
            above = 1000 * (per_unit[n] - np.nanmin(per_unit))
            run_of = str(data["run"].values[n, m]) if m >= 0 else "none came to rest"
            table.add_row(str(n), *what, str(int(data["multiplicity"][n])), f"{above:.1f}", run_of)
        out.print(table)
        if lost := lost_relaxations([record]):
            console.print(f"{lost}; argyase lake failures tells why", style="yellow", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="orderings", config=Config, run=run, description=__doc__ or "", epilogue=_show)


if __name__ == "__main__":
    raise SystemExit(main())
