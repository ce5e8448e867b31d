"""``argyase validate``: a potential against its teacher, and on its own: what its model card must say.

Errors on trajectories of its own that it has not learned from, scans of pairs, lattice and bulk modulus, radial
distributions, barriers of jumps, and whether it survives long dynamics up to melting. Every piece is a run of the
lake; the pieces of the teacher serve all its potentials.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from ase import Atoms

from argyase.datalake.files import sha256
from argyase.datalake.lake import Lake, RunRecord
from argyase.dynamics.protocols import Ensemble, Segment
from argyase.errors import CalculatorError, ConfigError, ExtrapolationError, SimulationError, StructureError
from argyase.potentials.active import GRADE_BREAK
from argyase.potentials.model_card import Potential, find_potential
from argyase.schemas import BARRIER, ELASTICITY, ERRORS, RDF, SCAN
from argyase.stages import _config, figures, label, md, msd, sample, structures
from argyase.stages._config import setting
from argyase.stages._errors import ERROR_UNITS, error_arrays, force_slopes
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, frames_of, parse_settings
from argyase.stages._observable import observable
from argyase.stages._run import (
    Report,
    collect_provenance,
    console,
    guarded,
    in_processes,
    labels,
    out,
    progress,
    published,
    silent,
    with_error,
)
from argyase.structures.jumps import ROUTES

if TYPE_CHECKING:
    from argyase.potentials.validation import Barrier

CHECKS = ("errors", "scan", "elasticity", "dynamics", "barriers", "stability")


@dataclass(frozen=True)
class Config:
    """The [validate] table; [[structures]] and [label] hold the settings of those stages."""

    potential: str = setting(help="name of a shipped potential, or path of an .mtp file")
    calculator: str = setting("sevennet", help="the teacher: " + CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    checks: tuple[str, ...] = setting(CHECKS, help="which checks: " + ", ".join(CHECKS))
    labels: tuple[str, ...] = setting(
        (), help="errors: labelled frames, files or runs of stage label, instead of dynamics that the teacher labels"
    )
    groups: tuple[str, ...] = setting(
        (), help='errors: only labelled frames of groups like these, as in "Li6PS5Cl * K"; all if none'
    )
    temperature_K: tuple[float, ...] = setting((300.0, 600.0, 900.0, 1200.0), help="temperatures", unit="K")
    strain: tuple[float, ...] = setting((-0.05, 0.0, 0.05), help="errors: strains of all lengths")
    equilibrate_ps: float = setting(2.0, help="errors: before the frames of each trajectory", unit="ps")
    produce_ps: float = setting(2.0, help="errors: time over which frames are taken", unit="ps")
    sample_ps: float = setting(1.0, help="errors: time between frames", unit="ps")
    melt_sample_ps: float = setting(4.0, help="errors: time between frames of melt and quench; 0: no melts", unit="ps")
    seed: int = setting(777, help="errors: seed of velocities, another than those the labels were sampled with")
    most_atoms: int = setting(60, help="elasticity: structures with more atoms are left out")
    stability_supercell: tuple[int, int, int] = setting((2, 2, 2), help="stability: unit cells of the argyrodites")
    stability_ps: float = setting(100.0, help="stability: length at each temperature", unit="ps")
    melt_K: float = setting(1800.0, help="stability: temperature of the melt, at constant volume; 0: none", unit="K")
    dynamics_K: float = setting(1000.0, help="dynamics: temperature", unit="K")
    dynamics_equilibrate_ps: float = setting(1.0, help="dynamics: before the frames", unit="ps")
    dynamics_produce_ps: float = setting(8.0, help="dynamics: length", unit="ps")
    dynamics_timestep_fs: float = setting(4.0, help="dynamics: time step", unit="fs")
    barriers: int = setting(4, help="barriers: jumps along each route")
    fmax: float = setting(0.05, help="elasticity, barriers: largest force that is left", unit="eV/A")
    jobs: int = setting(1, help="processes at once")


@dataclass(frozen=True)
class Validation:
    """A campaign of validation, checked."""

    config: Config
    structures: list[structures.Config]
    label: label.Config


def read(path: str, potential: str = "") -> Validation:
    """Read and check a campaign file; `potential` goes over that of the file.

    Raises
    ------
    ConfigError
        If a table or a key is unknown, missing or wrong.
    """
    data = dict(_config.load(path))
    _config.check_tables(data, ("campaign", "validate", "structures", "label"), path)
    built = structures.from_tables(data, path)
    table = {**data.get("validate", {}), **({"potential": potential} if potential else {})}
    config = _config.from_mapping(Config, table, "validate")
    if unknown := sorted(set(config.checks) - set(CHECKS)):
        raise ConfigError(f"{path}: validate.checks: no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    for source in config.labels:
        if not Path(source).is_file() and not re.fullmatch("[0-9a-f]{6,20}", source):
            raise ConfigError(f"{path}: validate.labels: {source}: no such file below {Path.cwd()}, and no id of a run")
    teacher = {"calculator": config.calculator, "settings": config.settings}
    own = {**data.get("label", {}), **teacher, "frames": ("to be sampled",)}
    return Validation(
        config,
        built,
        _config.from_mapping(label.Config, own, "label"),
    )


# ---- pieces: each a run of the lake, with a calculator by name and settings ----

Engine = tuple[str, tuple[str, ...]]


def _engine(engine: Engine) -> tuple[dict[str, Any], Callable[[], Any]]:
    """What identifies a calculator, and how to make it."""
    from argyase.calculators import identity, single_point

    settings = parse_settings(engine[1], "validate.settings")
    return identity(engine[0], **settings), lambda: single_point(engine[0], **settings)


def scan(lake: Lake, engine: Engine, species: Sequence[str], structure: str = "") -> str:
    """Energies of all pairs of species brought together, two atoms alone or neighbours in a crystal; its id."""
    from argyase.potentials.validation import SCAN_DISTANCES_A, nearest_pair, pair_scan

    who, make = _engine(engine)
    parameters = {"calculator": who, "species": list(species)}
    inputs = [structure] if structure else []
    if run_id := published(lake, "scan", parameters, inputs, SCAN.version):
        return run_id
    with lake.begin("scan", parameters, inputs, SCAN, collect_provenance(parameters)) as attempt:
        calculator, r = make(), SCAN_DISTANCES_A
        pairs = list(itertools.combinations_with_replacement(species, 2))
        energies, starts = np.full((len(pairs), len(r)), np.nan), np.full(len(pairs), np.nan)
        crystal = structures.to_atoms(lake.open_run(structure)) if structure else None
        for n, pair in enumerate(pairs):
            # Alone in a box, for calculators that need one: no two images within a cutoff of 6 A.
            atoms, i, j = Atoms(pair, [[0, 0, 0], [float(r[-1]), 0, 0]], cell=[20.0] * 3, pbc=True), 0, 1
            if crystal is not None:
                try:
                    i, j = nearest_pair(crystal, *pair)
                except StructureError:
                    continue
                atoms = crystal
            starts[n] = atoms.get_distance(i, j, mic=True)
            inside = r <= starts[n] + 1e-9
            energies[n, inside] = pair_scan(atoms, calculator, i, j, r[inside])
        return attempt.publish(SCAN.dataset(energy=energies, start=starts, pair=["-".join(p) for p in pairs], r=r))


def elasticity(lake: Lake, structure: str, engine: Engine, fmax: float) -> str:
    """Equation of state of a crystal, Li held at its fractional coordinates; its id."""
    from argyase.potentials.validation import equation_of_state

    who, make = _engine(engine)
    parameters = {**labels(lake.record(structure)), "calculator": who, "fmax": fmax, "held": ["Li"]}
    if run_id := published(lake, "elasticity", parameters, [structure], ELASTICITY.version):
        return run_id
    with lake.begin("elasticity", parameters, [structure], ELASTICITY, collect_provenance(parameters)) as attempt:
        atoms = structures.to_atoms(lake.open_run(structure))
        found = equation_of_state(atoms, make(), held=parameters["held"], fmax=fmax)
        before = atoms.get_volume() / len(atoms)
        return attempt.publish(
            ELASTICITY.dataset(
                volume=found.volumes,
                energy=found.energies,
                equilibrium_volume=found.volume,
                equilibrium_energy=found.energy,
                bulk_modulus=found.bulk_modulus,
                lattice_scale=(found.volume / before) ** (1 / 3),
                scale=(found.volumes / before) ** (1 / 3),
            )
        )


def rdf(lake: Lake, run: str) -> str:
    """Radial distributions of all pairs in the frames of a run; its id."""
    settings: dict[str, Any] = {"r_max": 6.0, "bins": 120}

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.rdf import radial_distribution

        frames = frames_of(lake, [record.id])[0]
        symbols = frames[0].get_chemical_symbols()
        # Of pairs of one species, the two that must be there may not be.
        pairs = [
            (a, b)
            for a, b in itertools.combinations_with_replacement(sorted(set(symbols)), 2)
            if a != b or symbols.count(a) > 1
        ]
        places, cells = np.array([f.positions for f in frames]), np.array([f.cell.array for f in frames])
        r, g = radial_distribution(places, cells, symbols, pairs, **settings)
        return RDF.dataset(rdf=g, pair=["-".join(p) for p in pairs], r=r)

    return observable("rdf", RDF, lake, run, settings, compute, settings)[0]


def barrier(lake: Lake, structure: str, engine: Engine, route: str, number: int, fmax: float) -> str:
    """Path of one jump of Li by a calculator; its id."""
    from argyase.potentials.validation import barrier as nudged
    from argyase.potentials.validation import minimum
    from argyase.structures.jumps import jumps

    who, make = _engine(engine)
    parameters = {**labels(lake.record(structure)), "calculator": who, "route": route, "number": number, "fmax": fmax}
    if run_id := published(lake, "barrier", parameters, [structure], BARRIER.version):
        return run_id
    with lake.begin("barrier", parameters, [structure], BARRIER, collect_provenance(parameters)) as attempt:
        atoms = structures.build(structures.Config(**_built(lake, structure)))[0]
        jump = jumps(atoms, route)[number]
        through = [visited.positions[jump.ion] for visited in jump.through]
        made = make()
        # As built, Li is far from rest. It jumps from where it has come to, so that others move only if they must.
        initial = minimum(jump.initial, made, fmax, _BAND_STEPS)
        final = initial.copy()
        final.positions[jump.ion] = jump.final.positions[jump.ion]
        path = nudged(initial, final, made, ion=jump.ion, through=through, fmax=fmax, steps=_BAND_STEPS)
        return attempt.publish(_path(path))


_BAND_STEPS = 1000
"""Of the soft lattice of Li: most bands are at rest after some hundred."""


def along(lake: Lake, path: str, engine: Engine) -> str:
    """Energies and forces by another calculator on the path of `barrier`, which is not relaxed again; the id.

    A band of SevenNet takes hours, its energies on one seconds; and on one path it is the energies that are compared,
    not where either calculator would put the other Li.
    """
    from argyase.potentials.validation import path_through

    who, make = _engine(engine)
    known = lake.record(path)
    parameters = {**labels(known), "calculator": who, "path": path}
    if run_id := published(lake, "barrier", parameters, [path], BARRIER.version):
        return run_id
    with lake.begin("barrier", parameters, [path], BARRIER, collect_provenance(parameters)) as attempt:
        return attempt.publish(_path(path_through(_open_path(lake, path).images, make())))


def _path(path: Barrier) -> xr.Dataset:
    return BARRIER.dataset(
        energy=path.energies,
        positions=np.array([image.positions for image in path.images]),
        cell=path.images[0].cell.array,
        forces=path.forces,
        forward=path.forward,
        backward=path.backward,
        species=path.images[0].get_chemical_symbols(),
        xyz=["x", "y", "z"],
    )


def _open_path(lake: Lake, path: str) -> Barrier:
    from argyase.potentials.validation import Barrier

    data = lake.open_run(path)
    symbols, cell = data["species"].values.astype(str), data["cell"].values
    images = [Atoms(symbols, places, cell=cell, pbc=True) for places in data["positions"].values]
    return Barrier(images, data["energy"].values, data["forces"].values)


def _twins(lake: Lake, paths: Sequence[str]) -> list[str]:
    """The paths, but instead of one that is found a second time the number of the first."""
    from argyase.potentials.validation import same_path

    known: list[tuple[int, Barrier]] = []
    told = []
    for number, path in enumerate(paths, 1):
        if not path.startswith(_FAILED):
            found = _open_path(lake, path)
            if twin := next((n for n, other in known if same_path(found, other)), None):
                path = f"{_TWIN}{twin}"
            else:
                known.append((number, found))
        told.append(path)
    return told


def _built(lake: Lake, structure: str) -> dict[str, Any]:
    """Settings by which an argyrodite of the lake is built: its sites are needed as they were."""
    names = set(structures.Config.__dataclass_fields__) - {"phase", "source"}
    found = {k: v for k, v in lake.record(structure).parameters.items() if k in names}
    return {**found, "supercell": tuple(found["supercell"])}


def labelled_frames(lake: Lake, labelled: Sequence[str], groups: Sequence[str]) -> tuple[list[Atoms], list[str]]:
    """Frames of runs or files whose group is like one of these patterns, all if there are none; ids of the runs.

    Raises
    ------
    ConfigError
        If no frame is.
    """
    frames, parents = frames_of(lake, labelled)
    if not groups:
        return frames, parents
    there = [str(atoms.info.get("group", "")) for atoms in frames]
    like = {name for name in there if any(fnmatchcase(name, pattern) for pattern in groups)}
    if not like:
        raise ConfigError(
            f"validate.groups = {list(groups)}: no labelled frame is of such a group; there are "
            f"{', '.join(sorted(set(there)))}"
        )
    return [atoms for atoms, name in zip(frames, there, strict=True) if name in like], parents


def errors(lake: Lake, labelled: Sequence[str], potential: str, groups: Sequence[str] = ()) -> str:
    """Errors of a potential on labels, runs or files; its id."""
    from argyase.calculators import calculator, identity
    from argyase.potentials.fit import Labels
    from argyase.potentials.mtp import MTP

    frames, parents = labelled_frames(lake, labelled, groups)
    parameters: dict[str, Any] = {"calculator": identity("mtp", potential=potential)}
    if groups:
        parameters["groups"] = list(groups)
    if files := [sha256(Path(source)) for source in labelled if Path(source).is_file()]:
        parameters["files_sha256"] = files
    if run_id := published(lake, "errors", parameters, parents, ERRORS.version):
        return run_id
    made = calculator("mtp", potential=potential)
    assert isinstance(made, MTP)
    arrays = error_arrays(made, {"test": Labels.of(frames)})
    dataset, provenance = ERRORS.dataset(**arrays), collect_provenance(parameters)
    return lake.publish("errors", parameters, dataset, parents, ERRORS, provenance=provenance)


# ---- the whole ----


@dataclass(frozen=True)
class Findings:
    """Ids of the runs in which everything is; of what failed, why."""

    potential: Potential
    errors: str = ""
    labels: tuple[str, ...] = ()
    """What the errors are of: runs or files."""
    groups: tuple[str, ...] = ()
    """Of which groups of them; all if none."""
    scans: tuple[str, ...] = ()
    """Of the potential and of the teacher, alone, and of the potential in the first structure."""
    elasticity: tuple[tuple[str, str, str], ...] = ()
    """Structure, then of the potential and of the teacher: id, or reason of the failure."""
    dynamics: tuple[str, ...] = ()
    """Of the potential and of the teacher: trajectories."""
    barriers: tuple[tuple[str, str, str], ...] = ()
    """Route, then as above."""
    stability: tuple[tuple[str, float, str], ...] = ()
    """Structure, temperature, id or reason."""


def run(validation: Validation, lake: Lake, report: Report = silent) -> Findings:
    """All checks that are asked for; what the lake has is not computed again."""
    config = validation.config
    potential = find_potential(config.potential)
    own, teacher = ("mtp", (f"potential={config.potential}",)), (config.calculator, config.settings)
    cells = [structures.run(s, lake)[0] for s in validation.structures]
    found = Findings(potential)

    def each(jobs: Sequence[Job], what: str) -> list[str]:
        console.print(f"{what}: {len(jobs)} runs", highlight=False)
        return in_processes(_attempt, [(job, str(lake.path)) for job in jobs], config.jobs, report)

    if "scan" in config.checks:
        jobs = [(scan, own, potential.species), (scan, teacher, potential.species)]
        ids = each([*jobs, (scan, own, potential.species, cells[0])], "scans of pairs")
        found = replace(found, scans=tuple(ids))
    if "stability" in config.checks:
        found = replace(found, stability=_stability(validation, lake, each))
    if "errors" in config.checks:
        labelled = config.labels
        if not labelled:
            console.print("errors: trajectories that were not learned from", highlight=False)
            sampled = sample.run_all(_test_samples(config, lake, cells), lake, config.jobs, report)
            sampled = [run_id for run_id in sampled if lake.record(run_id).scalars["frames"]]
            labelled = tuple(label.run(replace(validation.label, frames=tuple(sampled)), lake, report))
        run_id = errors(lake, labelled, config.potential, config.groups)
        found = replace(found, errors=run_id, labels=labelled, groups=config.groups)
    if "elasticity" in config.checks:
        small = [structures.run(replace(s, supercell=(1, 1, 1)), lake)[0] for s in validation.structures]
        small = [c for c in dict.fromkeys(small) if lake.open_run(c).sizes["atom"] <= config.most_atoms]
        ids = each([(elasticity, c, e, config.fmax) for c in small for e in (own, teacher)], "equations of state")
        pairs = zip(small, ids[::2], ids[1::2], strict=True)
        found = replace(found, elasticity=tuple((c, a, b) for c, a, b in pairs))
    first = next((c for c, s in zip(cells, validation.structures, strict=True) if not s.phase and not s.source), None)
    if "dynamics" in config.checks and first is not None:
        runs = each([(_dynamics, _beside(config, first, e)) for e in (own, teacher)], "dynamics of both")
        found = replace(found, dynamics=tuple(runs))
    if "barriers" in config.checks and first is not None:
        ways = [(route, n) for route in ROUTES for n in range(config.barriers)]
        paths = _twins(lake, each([(barrier, first, own, *way, config.fmax) for way in ways], "barriers"))
        there = [path for path in paths if not path.startswith((_FAILED, _TWIN))]
        beside = dict(zip(there, each([(along, path, teacher) for path in there], "the teacher on them"), strict=True))
        named = [(route, path, beside.get(path, path)) for (route, _), path in zip(ways, paths, strict=True)]
        found = replace(found, barriers=tuple(named))
    return found


Job = tuple[Any, ...]


def _attempt(job: tuple[Job, str]) -> str:
    """The id of a piece, or why it failed: one that fails must not cost the others."""
    (function, *arguments), path = job
    try:
        return str(function(Lake(path), *arguments))
    except (SimulationError, ExtrapolationError, CalculatorError) as error:
        return f"{_FAILED}{error}"


_FAILED, _TWIN = "failed: ", "the same path as "


def _test_samples(config: Config, lake: Lake, cells: Sequence[str]) -> list[sample.Config]:
    """Dynamics with the potential itself, with seeds of their own."""
    found = []
    for cell in cells:
        formula = lake.record(cell).parameters["formula"]
        base = sample.Config(
            cell, settings=(f"potential={config.potential}",), seed=config.seed, grade_select=GRADE_BREAK
        )
        for temperature, strain in itertools.product(config.temperature_K, config.strain):
            found.append(
                replace(
                    base, temperature_K=temperature, strain=strain, equilibrate_ps=config.equilibrate_ps,
                    produce_ps=config.produce_ps, sample_ps=config.sample_ps, group=f"{formula} {temperature:g} K",
                )
            )  # fmt: skip
        if config.melt_sample_ps:
            found.append(replace(base, kind="melt_quench", sample_ps=config.melt_sample_ps))
    return found


def _beside(config: Config, cell: str, engine: Engine) -> md.Config:
    """The same dynamics for both, through the same program, at constant volume."""
    segments = (
        Segment("heat", "nvt"),
        Segment("equilibrate", "nvt", duration_ps=config.dynamics_equilibrate_ps),
        Segment("produce", "nvt", duration_ps=config.dynamics_produce_ps),
    )
    return md.Config(
        cell,
        config.dynamics_K,
        segments=segments,
        timestep_fs=config.dynamics_timestep_fs,
        sample_ps=0.02,
        calculator=engine[0],
        settings=engine[1],
    )


def _stability(
    validation: Validation, lake: Lake, each: Callable[[Sequence[Job], str], list[str]]
) -> tuple[tuple[str, float, str], ...]:
    config = validation.config
    shape = config.stability_supercell
    large = [replace(s, supercell=shape) for s in validation.structures if not s.phase and not s.source]
    runs = []
    for s in large:
        cell = structures.run(s, lake)[0]
        for temperature in (*config.temperature_K, *([config.melt_K] if config.melt_K else [])):
            # A melt keeps its volume: at no pressure it would boil.
            ensemble: Ensemble = "nvt" if temperature == config.melt_K else "npt"
            segments = (Segment("heat", ensemble), Segment("produce", ensemble, duration_ps=config.stability_ps))
            settings = md.Config(cell, temperature, config.potential, segments=segments, sample_ps=0.5)
            runs.append((cell, temperature, settings))
    ids = each([(_dynamics, settings) for _, _, settings in runs], "stability")
    return tuple((cell, t, i) for (cell, t, _), i in zip(runs, ids, strict=True))


def _dynamics(lake: Lake, config: md.Config) -> str:
    return md.run(config, lake)[0]


# ---- what is printed, drawn and written ----


def card(found: Findings, lake: Lake, teacher: str) -> str:
    """Tables to be appended to a model card (TOML)."""
    lines = [
        f"# What `argyase validate` found of {found.potential.name} (sha256 {found.potential.sha256[:12]}); "
        f"the teacher is {teacher}.",
    ]
    if found.errors:
        lines += [*_table_of_errors(found, lake), *_table_of_slopes(found, lake)]
    if found.scans:
        lines += _table_of_scans(found, lake)
    if found.elasticity:
        lines += [
            "",
            "# Lengths at the minimum, in those as built; bulk modulus, Li held: [potential, teacher].",
        ]
        for name, key in (("lattice_scale", "lattice_scale"), ("bulk_modulus_GPa", "bulk_modulus")):
            lines.append(f"[validation.{name}]")
            for structure, *both in found.elasticity:
                values = ", ".join(_value(lake, run_id, key) for run_id in both)
                lines.append(f'"{_name(lake, structure)}" = [{values}]')
                lines += _reasons(both)
    lines += _reasons(found.dynamics)
    if found.dynamics and not any(i.startswith(_FAILED) for i in found.dynamics):
        lines += _tables_of_dynamics(found, lake)
    if found.barriers:
        lines += _tables_of_barriers(found, lake)
    if found.stability:
        lines += [
            "",
            "# Dynamics at no pressure, the melt at constant volume: what became of it, and the largest grade.",
        ]
        lines += ["[validation.stability]"]
        for structure, temperature, run_id in found.stability:
            lines.append(f'"{_name(lake, structure)}, {temperature:g} K" = "{_outcome(lake, run_id)}"')
    return "\n".join([*lines, ""])


def _table_of_errors(found: Findings, lake: Lake) -> list[str]:
    data = lake.open_run(found.errors).isel(set=0)
    files = [Path(source).name for source in found.labels if Path(source).is_file()]
    what = (
        f"frames of {', '.join(files)}" if files else "trajectories of the potential itself, none of them learned from"
    )
    only = f", groups {', '.join(found.groups)}" if found.groups else ""
    lines = ["", f"# Run {found.errors}: {what}{only}."]
    for column, unit in ERROR_UNITS.items():
        if not np.isfinite(data[f"{column}_rmse"]).any():  # of labels without stress
            continue
        lines += [f"[validation.{column}_{unit}]", "# [RMSE, MAE, frames]; components of forces and stresses"]
        for group in data["group"].values.tolist():
            one = data.sel(group=group)
            rmse, mae = float(one[f"{column}_rmse"]), float(one[f"{column}_mae"])
            lines.append(f'"{group}" = [{rmse:.4g}, {mae:.4g}, {int(one["frames"])}]')
    return lines


def _table_of_slopes(found: Findings, lake: Lake) -> list[str]:
    atoms = [len(frame) for frame in labelled_frames(lake, found.labels, found.groups)[0]]
    slopes = force_slopes(lake.open_run(found.errors), atoms)
    lines = ["# Predicted forces over those of the labels, sum F F' / sum F F: [value, 95 % interval over frames]."]
    lines += ["[validation.force_slope]"]
    return [*lines, *(f'"{k}" = [{", ".join(f"{v:.3f}" for v in (s.value, *s.interval))}]' for k, s in slopes.items())]


def _table_of_scans(found: Findings, lake: Lake) -> list[str]:
    from argyase.potentials.validation import inward_fall

    lines = [
        "",
        "# Two atoms brought together down to 0.8 A: [how deep the energy falls on the way in, energy at the top of",
        "# that fall], eV: a hole that atoms could drop into, and what it takes to get there, above 4 A apart or above",
        "# the crystal at rest. [0, nan]: the energy only rises. Alone: in an empty box, from the teacher's minimum.",
        "# Crystal: the nearest two of the first structure, all others held, from their distance on.",
    ]
    own, teachers, crystal = (lake.open_run(i) for i in found.scans)
    minima = teachers["r"][teachers["energy"].where(teachers["r"] > 1.2).argmin("r")]
    for name, data, starts in (("alone", own, minima), ("crystal", crystal, crystal["start"])):
        lines.append(f"[validation.pair_scan_{name}_eV]")
        for n, pair in enumerate(data["pair"].values.tolist()):
            known = np.isfinite(data["energy"][n].values)
            if known.any():
                r, energy = data["r"].values[known], data["energy"][n].values[known]
                fall, passed = inward_fall(r, energy, float(starts[n]))
                lines.append(f"{pair} = [{fall:.3g}, {passed:.3g}]" if fall > 0 else f"{pair} = [0.0, nan]")
    return lines


def _tables_of_dynamics(found: Findings, lake: Lake) -> list[str]:
    lines = ["", "# Highest peaks of g(r) in dynamics: places (A), then heights, each of potential and teacher."]
    lines += ["[validation.rdf_peaks]"]
    both = [lake.open_run(rdf(lake, i)) for i in found.dynamics]
    for pair in both[0]["pair"].values.tolist():
        curves = [data["rdf"].sel(pair=pair) for data in both]
        # At the end of the range it is no peak yet.
        if all(g.any() and g.idxmax("r") < g["r"][-1] - 0.2 for g in curves):
            places, heights = [float(g.idxmax("r")) for g in curves], [float(g.max()) for g in curves]
            lines.append(f"{pair} = [{places[0]:.2f}, {places[1]:.2f}, {heights[0]:.3g}, {heights[1]:.3g}]")
    moved = [msd.run(msd.Config(run_id), lake)[0] for run_id in found.dynamics]
    lines += ["", "# Tracer diffusivity of Li in the same, 1e-6 cm2/s, with 95 % intervals."]
    lines += ["[validation.diffusivity]"]
    for who, of in zip(("potential", "teacher"), moved, strict=True):
        lines.append(f'{who} = "{with_error(lake.record(of).scalars, "diffusivity", 1e6)}"')
    lines += [
        "",
        "# Slope of the MSD / 6 over lags t/2 ... t, 1e-6 cm2/s: t, then [potential, its error, teacher, its error].",
    ]
    lines += ["[validation.running_diffusivity]"]
    own, other = (lake.open_run(of) for of in moved)
    for t in own["window"].values:
        pair = [d.sel(window=t, method="nearest") for d in (own, other)]
        values = [float(d[f"running_diffusivity{what}"]) * 1e6 for d in pair for what in ("", "_stderr")]
        lines.append(f'"{t:.3g} ps" = [{", ".join(f"{v:.3g}" for v in values)}]')
    return lines


_MOVED_A = 0.8
"""A Li that is farther at the end of a path from where it began has moved: less is what the others give way."""


def _tables_of_barriers(found: Findings, lake: Lake) -> list[str]:
    lines = [
        "",
        "# Paths of the potential from one minimum to another, and the teacher on the same images. Names are those",
        "# of the search: relaxed, a band may take another route, and other Li move along.",
        "# Largest climb, eV, forward and backward: [potential, teacher, potential, teacher].",
        "[validation.barriers_eV]",
    ]
    forces = [
        "",
        "# Errors of forces on these paths, eV/A: [RMSE of all atoms, of the Li that move, how many Li these are].",
        "[validation.path_forces_eV_per_A]",
    ]
    climbs, squares = [], []
    for n, (route, *both) in enumerate(found.barriers, 1):
        if both[0].startswith(_TWIN):
            lines.append(f"# {n}: {route}: {both[0]}; not counted again")
            continue
        values = ", ".join(_value(lake, run_id, key) for key in ("forward", "backward") for run_id in both)
        lines.append(f'"{n}: {route}" = [{values}]')
        lines += _reasons(both[:1] if both[0] == both[1] else both)
        if any(run_id.startswith(_FAILED) for run_id in both):
            continue
        own, other = (_open_path(lake, run_id) for run_id in both)
        climbs += [(own.forward, other.forward), (own.backward, other.backward)]
        moved = (own.displacements > _MOVED_A) & (own.images[0].symbols == "Li")
        square = (own.forces - other.forces) ** 2
        squares.append((square.ravel(), square[:, moved].ravel()))
        rmse = ", ".join(_root_mean(part) for part in squares[-1])
        forces.append(f'"{n}: {route}" = [{rmse}, {moved.sum()}]')
    errors = np.array([own - other for own, other in climbs if max(own, other) > 0])
    if errors.size == 0:
        return lines
    both_of = (np.concatenate(part) for part in zip(*squares, strict=True))
    return [
        *lines,
        *forces,
        "",
        "# Of all: errors of climbs, eV: [RMSE, mean, how many]; of forces, eV/A: [all atoms, Li that move].",
        f"# ({len(climbs) - len(errors)} ways go only downhill for both: no barriers, and not counted.)",
        "[validation.path_errors]",
        f"climb_eV = [{_root_mean(errors**2)}, {errors.mean():.3g}, {len(errors)}]",
        f"force_eV_per_A = [{', '.join(_root_mean(part) for part in both_of)}]",
    ]


def _root_mean(squares: np.ndarray) -> str:
    return f"{np.sqrt(squares.mean()):.3g}" if squares.size else "nan"


def _value(lake: Lake, run_id: str, key: str) -> str:
    return "nan" if run_id.startswith(_FAILED) else f"{float(lake.record(run_id).scalars[key]):.4g}"


def _reasons(both: Sequence[str]) -> list[str]:
    """Comments that say why the potential's or the teacher's piece failed."""
    named = zip(("potential", "teacher"), both, strict=False)
    return [f"# {who}: {' '.join(run_id.split())}" for who, run_id in named if run_id.startswith(_FAILED)]


def _name(lake: Lake, structure: str) -> str:
    p = lake.record(structure).parameters
    return str(p["formula"]) + (f", {100 * p['inversion']:g} % inversion" if "inversion" in p else "")


def _outcome(lake: Lake, run_id: str) -> str:
    if run_id.startswith(_FAILED):
        # What happened; what to do about it is no part of a card.
        return re.split(r"; |\. ", run_id.removeprefix(_FAILED))[0].replace('"', "'")
    scalars = lake.record(run_id).scalars
    grade = f", grade {float(scalars['max_grade']):.3g}" if "max_grade" in scalars else ""
    return f"survived at {float(scalars['mean_temperature']):.0f} K{grade}"


def draw(found: Findings, lake: Lake, folder: Path) -> list[Path]:
    """Draw what was found; the files."""
    from argyase.figures import potentials
    from argyase.figures.style import save

    written: list[Path] = []
    if found.errors:
        written += figures.draw_parity(lake, [lake.record(found.errors)], folder)
    if found.scans:
        pair = [lake.open_run(i) for i in found.scans[:2]]
        written += save(potentials.plot_scans(pair[0], pair[1]), folder / "scans")
    if found.dynamics and not any(i.startswith(_FAILED) for i in found.dynamics):
        pair = [lake.open_run(rdf(lake, i)) for i in found.dynamics]
        written += save(potentials.plot_rdf(pair[0], pair[1]), folder / "rdf")
    crystals = [
        (_name(lake, structure), lake.open_run(own), lake.open_run(other))
        for structure, own, other in found.elasticity
        if not own.startswith(_FAILED) and not other.startswith(_FAILED)
    ]
    if crystals:
        written += save(potentials.plot_elasticity(crystals), folder / "equations_of_state")
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``argyase validate``."""
    parser = argparse.ArgumentParser(prog="argyase validate", description=__doc__)
    parser.add_argument("campaign", help="campaign file (TOML)")
    parser.add_argument("--potential", default="", help="potential, instead of that of the file")
    parser.add_argument("--lake", default="lake", help="folder of the data lake (default: lake)")
    parser.add_argument("--figures", default="validation", help="folder for figures and tables (default: validation)")
    parser.add_argument("--progress", choices=["auto", "json", "none"], default="auto", help="progress on stderr")
    args = parser.parse_args(argv)

    def body() -> int:
        validation = read(args.campaign, args.potential)
        lake = Lake(args.lake)
        with progress(args.progress, "validate") as report:
            found = run(validation, lake, report)
        teacher = " ".join([validation.config.calculator, *validation.config.settings])
        text, folder = card(found, lake, teacher), Path(args.figures)
        out.print(text, highlight=False, markup=False)
        for path in draw(found, lake, folder):
            out.print(f"figure {path}", highlight=False)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "validation.toml").write_text(text)
        return 0

    return guarded(body)


if __name__ == "__main__":
    raise SystemExit(main())
