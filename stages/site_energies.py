"""Stage ``site_energies``: energies of Li on the tetrahedral sites T2, T4 and T5 of the unit cell, and their overlaps.

Two quantities, never to be compared with each other:

charged
    One Li on the site of a cell without any other Li, with the charge that closes all shells (-23 e for P4S20Cl4 and
    one Li), less the energy of the same cell without it (-24 e). As in the paper; for engines that have a setting
    ``charge``.
lattice
    One Li on the site of a cell with all its other Li, which take their places by Ewald energy, less the energy of the
    same cell without it. Neutral; for potentials, which know no charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atom, Atoms

from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError
from argyase.schemas import SAMPLE, SITE_ENERGIES
from argyase.stages import label
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, frame_key, pack, parse_settings
from argyase.stages._run import Report, collect_provenance, out, published, silent, stage_main
from argyase.structures import sites

KINDS = ("T2", "T4", "T5")
CHARGES = {"Li": 1, "P": 5, "S": -2, "Cl": -1, "Br": -1, "I": -1}
"""Of closed shells, e."""


@dataclass(frozen=True)
class Config:
    """Which cells, which energy, by which calculator."""

    x: float = setting(0.0, help="extra halide in Li6-xPS5-xX1+x, a multiple of 1/4")
    inversion: tuple[float, ...] = setting(
        (0.0, 0.25, 0.5, 0.75, 1.0),
        help="fractions of 4d sites that hold the halide, multiples of 1/4; one run for each",
    )
    halide: Literal["Cl", "Br", "I"] = setting("Cl", help="halide")
    a: float | None = setting(None, help="lattice constant (default: the measured one)", unit="A")
    quantity: Literal["lattice", "charged"] = setting("lattice", help="see above")
    calculator: str = setting("mtp", help=CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    orderings: tuple[int, ...] = setting(
        (), help="numbers of the S/halide orderings to take, 0 the first as argyase orderings has them (default: all)"
    )
    bandwidth_eV: float = setting(0.05, help="standard deviation of the kernel of the densities", unit="eV")
    starts: int = setting(8, help="lattice: starts of the search for the places of the other Li")
    jobs: int = setting(1, help="processes that compute at once")


@dataclass(frozen=True)
class _Sample:
    kind: str
    number: int
    ordering: int
    weight: int
    occupied: Atoms
    empty: Atoms


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute what is missing; the ids of the runs, one for each degree of inversion."""
    if config.quantity == "charged" and any(s.partition("=")[0] == "charge" for s in config.settings):
        raise ConfigError("site_energies.settings: charge is computed for quantity = 'charged'; leave it out")
    if config.starts < 1:
        raise ConfigError(f"site_energies.starts = {config.starts}: need 1 or more")
    found = []
    for n, inversion in enumerate(config.inversion):

        def inner(done: float, total: float, before: int = n) -> None:
            report(before + done / max(total, 1), len(config.inversion))

        found.append(_one(config, inversion, lake, inner))
    return found


def single_points(config: Config) -> int:
    """How many cells are computed, at most: with Li on a site each, and without."""
    from argyase.structures.argyrodite import occupations
    from argyase.structures.ordering import distinct_orderings, inequivalent

    count, orbits = 0, [sites.orbit(sites.TETRAHEDRAL_SITES[kind]) for kind in KINDS]
    for inversion in config.inversion:
        known = distinct_orderings(*occupations(config.x, inversion, (1, 1, 1))[:2])
        for ordering in (o for n, o in enumerate(known) if not config.orderings or n in config.orderings):
            if config.quantity == "charged":
                count += 1 + sum(len(inequivalent(ordering, where)) for where in orbits)
            else:
                count += 2 * sum(map(len, orbits))
    return count


def _one(config: Config, inversion: float, lake: Lake, report: Report) -> str:
    from argyase.calculators import identity
    from argyase.physics.site_energy import site_energies
    from argyase.structures.argyrodite import LATTICE_CONSTANT_A, formula
    from argyase.structures.entropy import configurational_entropy

    a = LATTICE_CONSTANT_A[config.halide] if config.a is None else config.a
    about: dict[str, Any] = {
        "x": config.x, "inversion": inversion, "supercell": (1, 1, 1), "halide": config.halide, "a": a,
        "configurational_entropy": float(configurational_entropy(config.x, inversion)),
        "formula": formula(config.x, halide=config.halide), "quantity": config.quantity,
        "representatives": {kind: sites.TETRAHEDRAL_SITES[kind] for kind in KINDS},
    }  # fmt: skip
    if config.quantity == "lattice":
        about["starts"] = config.starts
    if config.orderings:
        about["orderings"] = sorted(set(config.orderings))
    samples = _samples(config, inversion, a)
    occupied, parents = _labelled(config, about, "occupied", [s.occupied for s in samples], lake, report)
    empty, more = _labelled(config, about, "empty", [s.empty for s in samples], lake, report)
    who = identity(
        config.calculator, **parse_settings(_settings(config, samples[0].occupied), "site_energies.settings")
    )
    parameters = {**about, "calculator": who, "bandwidth_eV": config.bandwidth_eV}
    inputs = [*parents, *more]
    if run_id := published(lake, "site_energies", parameters, inputs, SITE_ENERGIES.version):
        return run_id
    dataset = site_energies(
        f"{config.quantity}_site_energy",
        np.array(occupied) - np.array(empty),
        [s.kind for s in samples],
        [s.weight for s in samples],
        [s.number for s in samples],
        [s.ordering for s in samples],
        {kind: len(sites.orbit(sites.TETRAHEDRAL_SITES[kind])) for kind in KINDS},
        bandwidth=config.bandwidth_eV,
    )
    provenance = collect_provenance(config)
    return lake.publish("site_energies", parameters, dataset, inputs, SITE_ENERGIES, provenance=provenance)


def _samples(config: Config, inversion: float, a: float) -> list[_Sample]:
    """A cell with and one without the Li, for each site: of `charged` one of those that symmetry makes equivalent."""
    from argyase.structures.argyrodite import assemble, occupations
    from argyase.structures.ordering import distinct_orderings, ewald_arrangements, inequivalent

    on_4a, on_4d, lithium = occupations(config.x, inversion, (1, 1, 1))
    known = distinct_orderings(on_4a, on_4d)
    if wrong := sorted(set(config.orderings) - set(range(len(known)))):
        raise ConfigError(
            f"site_energies.orderings = {wrong[0]}: at x = {config.x:g} and inversion = {inversion:g} there are "
            f"{len(known)}, counted from 0"
        )
    found = []
    for n, ordering in enumerate(known):
        if config.orderings and n not in config.orderings:
            continue
        masks = ordering.halide_4a, ordering.halide_4d
        for kind in KINDS:
            where = sites.orbit(sites.TETRAHEDRAL_SITES[kind])
            alone = config.quantity == "charged"
            # With other Li, whose places have no symmetry, equivalent sites are not: all are taken.
            chosen = inequivalent(ordering, where) if alone else [(number, 1) for number in range(len(where))]
            for number, count in chosen:
                taken = np.empty(0, dtype=np.int64)
                if not alone:
                    options = ewald_arrangements(*masks, lithium - 1, starts=config.starts, beside=(kind, number))
                    taken = options[0][1]
                empty = assemble(*masks, taken, halide=config.halide, a=a)
                occupied = empty.copy()
                occupied.append(Atom("Li", where[number] * a))
                found.append(_Sample(kind, number, n, ordering.multiplicity * count, occupied, empty))
    return found


def _settings(config: Config, atoms: Atoms) -> tuple[str, ...]:
    if config.quantity == "lattice":
        return config.settings
    return (*config.settings, f"charge={sum(CHARGES[s] for s in atoms.symbols)}")


def _labelled(
    config: Config, about: dict[str, Any], which: str, frames: Sequence[Atoms], lake: Lake, report: Report
) -> tuple[list[float], list[str]]:
    """Energies of frames, computed once each by stage ``label``, and the run that has them."""
    unique = {frame_key(atoms): atoms for atoms in frames}
    parameters = {"kind": "sites", **about, "which": which}
    sampled = published(lake, "sample", parameters, (), SAMPLE.version)
    if sampled is None:
        for n, atoms in enumerate(unique.values()):
            atoms.info.update(group=f"{about['formula']} sites", trajectory=f"sites {n}", parent_frame=n)
        nothing = [np.nan] * len(unique)
        dataset = pack(SAMPLE, list(unique.values()), temperature=nothing, sample_energy=nothing)
        scalars: dict[str, float | str] = {"frames": len(unique), "ended": "as planned", "caught": 0}
        provenance = collect_provenance(config)
        sampled = lake.publish("sample", parameters, dataset, (), SAMPLE, scalars, provenance)
    settings = _settings(config, frames[0])
    wanted = label.Config((sampled,), calculator=config.calculator, settings=settings, jobs=config.jobs)
    (labelled,) = label.run(wanted, lake, report)
    energies = {frame_key(a): float(a.get_potential_energy()) for a in label.read_frames(lake, [labelled])}
    if missing := len(set(unique) - set(energies)):
        raise CalculatorError(
            f"site energies at inversion {about['inversion']:g}: {missing} of {len(unique)} cells could not be "
            "computed (argyase lake failures tells why); a distribution with holes would mislead"
        )
    return [energies[frame_key(atoms)] for atoms in frames], [labelled]


def _show(lake: Lake, ids: list[str]) -> None:
    from rich.table import Table

    data = lake.open_run(ids[0])
    formula = lake.record(ids[0]).parameters["formula"]
    table = Table(title=f"{formula}: mean site energies (standard deviations), eV; overlaps with 95 % intervals")
    for column in ("inversion", *data["kind"].values.tolist(), *data["pair"].values.tolist()):
        table.add_column(column, no_wrap=True)
    for run_id in ids:
        record, data = lake.record(run_id), lake.open_run(run_id)
        both = zip(data["mean"].values.tolist(), data["spread"].values.tolist(), strict=True)
        overlaps = zip(*(data[k].values.tolist() for k in ("overlap", "overlap_low", "overlap_high")), strict=True)
        table.add_row(
            f"{100 * record.parameters['inversion']:g} %",
            *(f"{m:.2f} ({s:.2f})" for m, s in both),
            *(f"{v:.2f} ({low:.2f} ... {high:.2f})" for v, low, high in overlaps),
        )
    out.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="site_energies", config=Config, run=run, description=__doc__ or "", epilogue=_show)


if __name__ == "__main__":
    raise SystemExit(main())
