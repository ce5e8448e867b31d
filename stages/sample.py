"""Stage ``sample``: frames to learn from, by dynamics, melting and quenching, or by displacing atoms of a crystal."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import Atoms

from argyase.datalake.errors import DatalakeError
from argyase.datalake.lake import Attempt, Lake
from argyase.dynamics.protocols import HEATING, MELT_QUENCH, Ramp, shortened
from argyase.errors import CalculatorError, ConfigError, ExtrapolationError, SimulationError
from argyase.potentials.active import GRADE_BREAK, GRADE_SELECT
from argyase.schemas import SAMPLE
from argyase.stages import structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, made_by, pack, parse_settings
from argyase.stages._run import (
    Report,
    collect_provenance,
    console,
    in_processes,
    labels,
    published,
    silent,
    stage_main,
    stop_requested,
)

if TYPE_CHECKING:
    from argyase.dynamics.simulation import Frame, MDSettings

CHECKPOINT_SECONDS = 20.0
"""Wall time between checkpoints: the most that a kill -9 costs, or one sample if that takes longer."""


@dataclass(frozen=True)
class Config:
    """What to sample, and how."""

    structure: str = setting(help="id of a structure in the lake, or a structure file")
    kind: Literal["md", "melt_quench", "heating", "rattle", "squeeze"] = setting(
        "md",
        help="md: heat, equilibrate, produce at temperature_K; heating: from 300 to 1000 K; rattle, squeeze: displaced "
        "atoms, without dynamics",
    )
    calculator: str = setting("mtp", help=CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    inside: bool = setting(False, help="VASP itself moves the atoms: one run of it for each piece of the protocol")
    temperature_K: float = setting(300.0, help="target temperature of md", unit="K")
    strain: float = setting(0.0, help="strain of all lengths, e.g. 0.05")
    heat_rate_K_fs: float = setting(0.5, help="heating rate of md", unit="K/fs")
    equilibrate_ps: float = setting(20.0, help="equilibration of md", unit="ps")
    produce_ps: float = setting(10.0, help="production of md", unit="ps")
    ramps: tuple[Ramp, ...] = setting((), help="pieces of another protocol than that of kind")
    shorten: float = setting(1.0, help="divide the duration of each piece of the protocol by this, to try it out")
    timestep_fs: float = setting(2.0, help="time step", unit="fs")
    sample_ps: float = setting(0.1, help="time between frames", unit="ps")
    max_temperature_factor: float = setting(3.0, help="end above this multiple of the highest target temperature")
    count: int = setting(10, help="frames of rattle; frames of each pair of species of squeeze")
    displacement: float = setting(0.1, help="standard deviation of a coordinate in rattle", unit="A")
    cell_strain: float = setting(0.02, help="standard deviation of a component of the strain in rattle")
    nearest: float = setting(0.45, help="squeeze: smallest distance, as a fraction of that at rest")
    grade_select: float = setting(
        GRADE_SELECT, help="keep frames with a larger extrapolation grade, whenever they come"
    )
    grade_break: float = setting(GRADE_BREAK, help="end at an atom with a larger one")
    group: str = setting("", help="group of the frames (default: formula, and kind or part of the protocol)")
    seed: int = setting(1, help="seed of velocities and displacements")


_ALWAYS = ("kind", "strain", "group", "seed")
_DYNAMICS = ("timestep_fs", "sample_ps", "grade_select", "grade_break", "max_temperature_factor")
_OF_KIND = {
    "md": (*_DYNAMICS, "temperature_K"),
    "melt_quench": _DYNAMICS,
    "heating": _DYNAMICS,
    "rattle": ("count", "displacement", "cell_strain"),
    "squeeze": ("count", "nearest"),
}
"""What enters the id of a run of each kind, besides structure, calculator and ramps."""

MOVING = ("md", "melt_quench", "heating")
"""Kinds in which the atoms move by themselves."""


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Sample, unless the lake has it; the id of the run.

    A run that becomes unphysical, or leaves the domain of its potential, is published all the same, with the reason in
    the scalar ``ended``: its last frames are what there is to learn from. One whose calculator fails is not: it goes on
    from its last checkpoint when it is asked for again.

    Raises
    ------
    CalculatorError
        If the calculator fails.
    """
    from argyase.calculators import identity, sha256_of
    from argyase.potentials.model_card import find_potential

    structure = structures.find(config.structure, lake)
    parameters: dict[str, Any] = {k: v for k, v in asdict(config).items() if k in (*_ALWAYS, *_OF_KIND[config.kind])}
    if config.kind in MOVING:
        settings = parse_settings(config.settings, "sample.settings")
        parameters["calculator"] = identity(config.calculator, **settings)
        if config.calculator == "mtp":
            active = find_potential(settings["potential"], settings.get("species")).active_set
            if active is not None:  # by its grades frames are kept, and runs end
                parameters["active_set_sha256"] = sha256_of(active)
        if config.inside:
            if config.calculator != "vasp":
                raise ConfigError(f"sample.inside: calculator = {config.calculator!r}: only vasp moves atoms itself")
            parameters["inside"] = True
        parameters["ramps"] = [asdict(ramp) for ramp in ramps(config)]
    parameters = {**labels(lake.record(structure)), **parameters}
    if run_id := published(lake, "sample", parameters, [structure], SAMPLE.version):
        return [run_id]
    with lake.begin("sample", parameters, [structure], SAMPLE, collect_provenance(config)) as attempt:
        atoms = structures.to_atoms(lake.open_run(structure))
        formula = str(lake.record(structure).parameters.get("formula", atoms.get_chemical_formula("hill")))
        atoms.set_cell(atoms.cell.array * (1 + config.strain), scale_atoms=True)
        if config.kind in MOVING:
            follow = _inside if config.inside else _dynamics
            frames, ended, more = follow(atoms, config, attempt, report)
        else:
            more = {"caught": 0}
            frames, ended = list(_rattled(atoms, config) if config.kind == "rattle" else _squeezed(atoms, config)), ""
        for frame in frames:
            # Of a melt and quench, each has the name of its part.
            group = config.group or f"{formula} {frame.info.get('part', config.kind)}"
            frame.info.update(group=group, trajectory=attempt.id, parent=structure)
        dataset = pack(
            SAMPLE,
            frames,
            temperature=[frame.info.get("temperature", np.nan) for frame in frames],
            sample_energy=[frame.info.get("energy", np.nan) for frame in frames],
        )
        return [attempt.publish(dataset, {"frames": len(frames), "ended": ended or "as planned", **more})]


def run_all(configs: Sequence[Config], lake: Lake, jobs: int, report: Report = silent) -> list[str]:
    """Sample many times, so many at once, each in a process of its own; the ids of the runs, in their order.

    Those that ended early are told.

    Raises
    ------
    CalculatorError
        If one failed, when all others are done; with all reasons.
    """
    found = in_processes(_run_in, [(config, str(lake.path)) for config in configs], jobs, report, _not_run)
    for config, (run_id, _) in zip(configs, found, strict=True):
        if run_id and (early := ended_early(config, run_id, lake)):
            console.print(early, style="yellow", markup=False)
    if failed := [f"{describe(c)}: {why}" for c, (_, why) in zip(configs, found, strict=True) if why]:
        raise CalculatorError(
            f"sample: {len(failed)} of {len(configs)} runs failed; the others are done and kept, and the same command "
            "goes on with these:\n" + "\n".join(failed)
        )
    return [run_id for run_id, _ in found]


def _run_in(job: tuple[Config, str]) -> tuple[str, str]:
    """Id of a run, or why there is none."""
    try:
        return run(job[0], Lake(job[1]))[0], ""
    except (CalculatorError, DatalakeError) as error:
        return _not_run(str(error))


def _not_run(why: str) -> tuple[str, str]:
    return "", why


def describe(config: Config) -> str:
    """What a configuration samples, in a line."""
    kelvin = f", {config.temperature_K:g} K" if config.kind == "md" else ""
    return f"{config.kind} of {config.structure[:8]}{kelvin}, strain {config.strain:g}, by {config.calculator}"


def ended_early(config: Config, run_id: str, lake: Lake) -> str:
    """What to say of a run that did not end as planned; empty if it did."""
    scalars = lake.record(run_id).scalars
    if scalars.get("ended", "as planned") == "as planned":
        return ""
    wanted = f" of {planned_frames(config)}" if config.kind in MOVING else ""
    return f"ended early: {describe(config)}: {scalars['frames']}{wanted} frames (run {run_id[:8]}): {scalars['ended']}"


def planned_frames(config: Config) -> int:
    """Frames that a dynamics keeps if it ends as planned."""
    settings = dynamics(config)
    kept = sum(part.last - part.first for part in settings.schedule() if part.segment.keep)
    return kept // settings.sample_steps


def ramps(config: Config) -> tuple[Ramp, ...]:
    """The protocol of a dynamics: that of the configuration, or of its kind.

    Raises
    ------
    ConfigError
        If it is to be shortened by a number that is not positive.
    """
    if not config.shorten > 0:
        raise ConfigError(f"sample.shorten = {config.shorten}: must be positive")
    return tuple(shortened(ramp, config.shorten) if config.shorten != 1 else ramp for ramp in _whole(config))


def dynamics(config: Config) -> MDSettings:
    """What fixes the dynamics of a configuration besides atoms and engine."""
    from argyase.dynamics.simulation import MDSettings

    return MDSettings(
        config.temperature_K,
        ramps(config),
        config.timestep_fs,
        config.sample_ps,
        seed=config.seed,
        max_temperature_factor=config.max_temperature_factor,
    )


def _whole(config: Config) -> tuple[Ramp, ...]:
    if config.ramps:
        return config.ramps
    if config.kind == "melt_quench":
        return MELT_QUENCH
    if config.kind == "heating":
        warm, rest, heating = HEATING
        heat_ps = (warm.stop_K - warm.start_K) / config.heat_rate_K_fs * 1e-3
        return replace(warm, duration_ps=heat_ps), rest, heating
    start = min(10.0, config.temperature_K)
    heat_ps = max(config.sample_ps, (config.temperature_K - start) / config.heat_rate_K_fs * 1e-3)
    target = config.temperature_K
    return (
        Ramp("heat", start, target, heat_ps, keep=False),
        Ramp("equilibrate", target, target, config.equilibrate_ps, keep=False),
        Ramp("md", target, target, config.produce_ps),
    )


_Followed = tuple[list[Atoms], str, dict[str, float | str]]
"""Frames that are kept, why it ended early, and scalars of the run."""


def _dynamics(atoms: Atoms, config: Config, attempt: Attempt, report: Report) -> _Followed:
    """Frames that are kept, why it ended early, and how many of them were caught on the way there.

    Each `CHECKPOINT_SECONDS` they are kept for a later attempt.
    """
    from argyase.calculators import single_point
    from argyase.dynamics.ase_md import AseMD

    restart = attempt.path / "restart.npz"
    calculator = single_point(config.calculator, **parse_settings(config.settings, "sample.settings"))
    simulation = AseMD(
        atoms,
        calculator,
        dynamics(config),
        restart if restart.is_file() else None,
        grade_select=config.grade_select,
        grade_break=config.grade_break,
    )
    kept = _load(_frames_file(attempt, simulation.step), atoms) if simulation.step else []
    ended, last, caught = "", time.monotonic(), 0
    try:
        with stop_requested() as stop:
            for frame in simulation.frames():
                caught += frame.caught
                if frame.produced or frame.caught or frame.grade > config.grade_select:
                    kept.append(_kept(atoms, frame, len(kept)))
                report(frame.step, simulation.total_steps)
                if frame.step == simulation.step and (stop.is_set() or time.monotonic() - last > CHECKPOINT_SECONDS):
                    # First the frames, then the restart file that names their step: a kill in between costs nothing.
                    _save(_frames_file(attempt, frame.step), kept)
                    simulation.write_restart(restart.with_name("restart.new.npz"))
                    os.replace(restart.with_name("restart.new.npz"), restart)
                    attempt.checkpoint({"step": frame.step})
                    for old in attempt.path.glob("restart.frames-*.npz"):
                        if old != _frames_file(attempt, frame.step):
                            old.unlink()
                    last = time.monotonic()
                if stop.is_set():
                    raise KeyboardInterrupt
    except (SimulationError, ExtrapolationError) as error:
        ended = str(error)
    return kept, ended, {"caught": caught, **made_by(calculator)}


def _inside(atoms: Atoms, config: Config, attempt: Attempt, report: Report) -> _Followed:
    """As `_dynamics`, by VASP itself: its folders are what a later attempt goes on from."""
    from argyase.calculators.vasp import told
    from argyase.dynamics.inside_vasp import VaspMD

    simulation = VaspMD(atoms, parse_settings(config.settings, "sample.settings"), dynamics(config))
    attempt.checkpoint({"step": 0})
    kept: list[Atoms] = []
    ended = ""
    try:
        with stop_requested() as stop:  # what comes while VASP runs stops VASP
            for frame in simulation.frames():
                if frame.produced:
                    kept.append(_kept(atoms, frame, len(kept)))
                report(frame.step, simulation.total_steps)
                if stop.is_set():
                    raise KeyboardInterrupt
    except SimulationError as error:
        ended = str(error)
    if simulation.unconverged:
        console.print(
            f"electrons did not converge in {simulation.unconverged} of {simulation.step} steps: {simulation.left_out} "
            "frames were left out",
            style="yellow",
        )
    corrections = "; ".join(simulation.corrections)
    more = {"caught": 0, "unconverged": simulation.unconverged, "left_out": simulation.left_out}
    return kept, ended, {**more, **told(simulation.made_by), **({"corrections": corrections} if corrections else {})}


def _kept(atoms: Atoms, frame: Frame, number: int) -> Atoms:
    copy = Atoms(atoms.symbols, frame.positions, cell=frame.cell, pbc=atoms.pbc)
    copy.wrap()
    copy.info.update(temperature=frame.temperature, energy=frame.potential_energy, part=frame.part, parent_frame=number)
    return copy


_INFO = ("temperature", "energy", "part")


def _frames_file(attempt: Attempt, step: int) -> Path:
    return attempt.path / f"restart.frames-{step}.npz"


def _save(path: Path, kept: Sequence[Atoms]) -> None:
    info: dict[str, Any] = {name: [a.info[name] for a in kept] for name in _INFO}
    new = path.with_name("restart.new.npz")
    np.savez(new, positions=[a.positions for a in kept], cells=[a.cell.array for a in kept], **info)
    os.replace(new, path)


def _load(path: Path, atoms: Atoms) -> list[Atoms]:
    """The frames of an earlier attempt."""
    found = []
    with np.load(path) as saved:
        for number, (positions, cell) in enumerate(zip(saved["positions"], saved["cells"], strict=True)):
            copy = Atoms(atoms.symbols, positions, cell=cell, pbc=atoms.pbc)
            copy.info.update({name: saved[name][number].item() for name in _INFO}, parent_frame=number)
            found.append(copy)
    return found


def _rattled(atoms: Atoms, config: Config) -> Iterator[Atoms]:
    """Gaussian displacements and strains."""
    rng = np.random.default_rng(config.seed)
    for number in range(config.count):
        frame = atoms.copy()
        strain = config.cell_strain * rng.normal(size=(3, 3))
        frame.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        frame.positions += config.displacement * rng.normal(size=frame.positions.shape)
        frame.info["parent_frame"] = number
        yield frame


def _squeezed(atoms: Atoms, config: Config) -> Iterator[Atoms]:
    """For each pair of species, two random neighbours brought nearer, evenly down to a fraction of their distance."""
    from matscipy.neighbours import neighbour_list

    if not 0 < config.nearest < 1:
        raise ConfigError(f"sample.nearest = {config.nearest}: need a fraction between 0 and 1")
    rng = np.random.default_rng(config.seed)
    symbols = np.array(atoms.get_chemical_symbols())
    i, j, d, vectors = neighbour_list("ijdD", atoms, 8.0)
    number = 0
    for a, b in itertools.combinations_with_replacement(sorted(set(symbols)), 2):
        pairs = np.flatnonzero((symbols[i] == a) & (symbols[j] == b) & (i != j))
        if len(pairs) == 0:
            continue
        near = pairs[d[pairs] < d[pairs].min() * 1.2]
        for fraction in np.linspace(1, config.nearest, config.count + 1)[1:]:
            chosen = rng.choice(near)
            frame = atoms.copy()
            # Both move, each by half.
            shift = 0.5 * (1 - fraction) * vectors[chosen]
            frame.positions[i[chosen]] += shift
            frame.positions[j[chosen]] -= shift
            frame.info["parent_frame"] = number
            number += 1
            yield frame


def _say(lake: Lake, ids: list[str]) -> None:
    for run_id in ids:
        scalars = lake.record(run_id).scalars
        if scalars.get("ended") != "as planned":
            console.print(f"ended early {scalars['ended']}", style="yellow", markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="sample", config=Config, run=run, description=__doc__ or "", epilogue=_say)


if __name__ == "__main__":
    raise SystemExit(main())
