"""Stage ``md``: molecular dynamics in LAMMPS with a Moment Tensor Potential, streamed into the lake."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from ase import Atoms

from argyase.datalake.files import fsync
from argyase.datalake.lake import Attempt, Lake, RunRecord
from argyase.datalake.trajectory import TrajectoryWriter
from argyase.dynamics.protocols import DEFAULT_SEGMENTS, Segment
from argyase.errors import ConfigError, ExtrapolationError, SimulationError
from argyase.potentials.active import GRADE_BREAK, GRADE_SELECT
from argyase.potentials.lammps_plugin import started_ranks
from argyase.potentials.model_card import DEFAULT, Potential, find_potential
from argyase.schemas import MD
from argyase.stages import structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, parse_settings
from argyase.stages._run import (
    Report,
    collect_provenance,
    console,
    labels,
    on_ranks,
    published,
    silent,
    stage_main,
    stop_requested,
)

if TYPE_CHECKING:
    from argyase.dynamics.simulation import Simulation


@dataclass(frozen=True)
class Config:
    """Settings of one molecular-dynamics run."""

    structure: str = setting(help="id of a structure in the lake, or a structure file")
    temperature_K: float = setting(300.0, help="target temperature", unit="K")
    potential: str = setting(DEFAULT, help="name of a shipped potential, or path of an .mtp or .almtp file")
    species: tuple[str, ...] = setting((), help="symbols of the potential's species, when it has no model card")
    segments: tuple[Segment, ...] = setting(DEFAULT_SEGMENTS, help="heat, equilibrate, produce")
    timestep_fs: float = setting(2.0, help="time step", unit="fs")
    sample_ps: float = setting(0.1, help="time between frames", unit="ps")
    pressure_GPa: float = setting(0.0, help="target pressure of npt segments", unit="GPa")
    thermostat_ps: float = setting(0.1, help="damping time of the thermostat", unit="ps")
    barostat_ps: float = setting(1.0, help="damping time of the barostat", unit="ps")
    coupling: Literal["iso", "aniso", "tri"] = setting("iso", help="which cell parameters the barostat moves")
    replica: int = setting(1, help="number of the replica: seeds the velocities")
    max_temperature_factor: float = setting(2.0, help="stop above this multiple of the target temperature")
    max_volume_change: float = setting(0.3, help="stop when the volume changes by more than this fraction")
    precision: Literal["double", "mixed"] = setting("double", help="mixed: single precision for each neighbour")
    threads: int = setting(1, help="threads of this run")
    repulsion: Literal["card", "off"] = setting(
        "card", help="card: repulsion of the nuclei at short distances, by the potential's model card, if it has one"
    )
    grade_every: int = setting(100, help="steps between extrapolation grades, 0 for none; needs an active set")
    grade_select: float = setting(GRADE_SELECT, help="a run with a grade above this is marked: it left the domain")
    grade_break: float = setting(GRADE_BREAK, help="a run stops above this grade")
    pair_style: tuple[str, ...] = setting(
        (),
        help="instead of a potential, LAMMPS' lines (pair_style ..., pair_coeff ...) of types in the order of species",
    )
    calculator: str = setting("", help="instead of a potential, through ASE: " + CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)


_NOT_PHYSICS = ("structure", "species", "potential", "threads", "pair_style", "calculator", "settings")


def _repulsion(config: Config, potential: Potential) -> dict[str, tuple[float, float]]:
    return potential.repulsion if config.repulsion == "card" else {}


def _active_set(config: Config, potential: Potential) -> Path | None:
    return potential.active_set if config.grade_every > 0 else None


def potential_of(config: Config) -> Potential | None:
    """The potential; None if another pair style or calculator was asked for.

    Raises
    ------
    ConfigError
        If both were.
    """
    if config.pair_style and config.calculator:
        raise ConfigError("md.pair_style and md.calculator: give one of them; LAMMPS runs the first, ASE the second")
    return None if config.pair_style or config.calculator else find_potential(config.potential, config.species)


def engine_of(config: Config) -> str:
    """What moves the atoms, in a word."""
    return config.calculator or " ".join(config.pair_style[:1]).removeprefix("pair_style").strip() or config.potential


def parameters(config: Config, lake: Lake, structure: str, potential: Potential | None) -> dict[str, Any]:
    """What identifies the run besides its input structure."""
    own = {k: v for k, v in asdict(config).items() if k not in _NOT_PHYSICS}
    if potential is None:
        from argyase.calculators import identity

        for name in ("precision", "repulsion", "grade_every", "grade_select", "grade_break"):
            del own[name]
        if config.pair_style:
            who = identity("lammps", lines=list(config.pair_style), species=list(config.species))
        else:
            who = identity(config.calculator, **parse_settings(config.settings, "md.settings"))
        return {**labels(lake.record(structure)), **own, "potential": engine_of(config), "engine": who}
    own["repulsion"] = {k: list(v) for k, v in _repulsion(config, potential).items()} or "off"
    if (active := _active_set(config, potential)) is not None:
        own["active_set_sha256"] = hashlib.sha256(active.read_bytes()).hexdigest()
    else:
        own = {k: v for k, v in own.items() if not k.startswith("grade_")}
    return {
        **labels(lake.record(structure)),
        **own,
        "potential": potential.name,
        "potential_sha256": potential.sha256,
        "species": list(potential.species),
    }


def name(config: Config, lake: Lake) -> str:
    """Id of the run, whether or not the lake has it."""
    structure = structures.find(config.structure, lake)
    return lake.id("md", parameters(config, lake, structure, potential_of(config)), [structure], MD.version)


def failure(config: Config, lake: Lake) -> RunRecord | None:
    """What the lake knows of an earlier failure of this run."""
    structure = structures.find(config.structure, lake)
    return lake.failure("md", parameters(config, lake, structure, potential_of(config)), [structure], MD.version)


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Run the molecular dynamics, or what is left of it, unless the lake has it; return its id."""
    structure = structures.find(config.structure, lake)
    potential = potential_of(config)
    params = parameters(config, lake, structure, potential)
    if run_id := published(lake, "md", params, [structure], MD.version):
        return [run_id]
    provenance = collect_provenance(config)
    if failed := lake.failure("md", params, [structure], MD.version):
        kind = ExtrapolationError if failed.scalars.get("error") == ExtrapolationError.__name__ else SimulationError
        raise kind(_failure(str(failed.scalars["reason"]), int(failed.scalars["frames"]), failed.id))
    with lake.begin("md", params, inputs=[structure], schema=MD, provenance=provenance) as attempt:
        return [_simulate(config, lake, structure, potential, attempt, report)]


def _simulation(config: Config, atoms: Atoms, potential: Potential | None, restart: Path | None) -> Simulation:
    from argyase.dynamics.simulation import MDSettings

    def shared(kind: Any) -> Any:
        names = {f.name for f in fields(kind)} & {f.name for f in fields(Config)}
        return kind(**{name: getattr(config, name) for name in names}, seed=config.replica)

    if config.calculator:
        from argyase.calculators import single_point
        from argyase.dynamics.ase_md import AseMD

        if (ranks := started_ranks()[1]) > 1:
            raise ConfigError(f"md.calculator: started on {ranks} MPI ranks; only LAMMPS shares a cell between them")
        engine = single_point(config.calculator, **parse_settings(config.settings, "md.settings"))
        return AseMD(atoms, engine, shared(MDSettings), restart)
    from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings

    settings = shared(LammpsSettings)
    if potential is None:
        return LammpsMD(atoms, config.pair_style, config.species, settings, restart)
    return LammpsMD(
        atoms,
        potential.path,
        potential.species,
        settings,
        restart,
        repulsion=_repulsion(config, potential),
        active_set=_active_set(config, potential),
    )


def _simulate(
    config: Config, lake: Lake, structure: str, potential: Potential | None, attempt: Attempt, report: Report
) -> str:
    data = lake.open_run(structure)
    restart = attempt.state.get("restart")
    simulation = _simulation(config, structures.to_atoms(data), potential, attempt.path / restart if restart else None)
    settings = simulation.settings
    largest = float(attempt.state.get("max_grade", 0.0))  # of the whole protocol, heating included
    writer = attempt.trajectory_writer(
        n_atoms=data.sizes["atom"],
        n_frames=simulation.production_frames,
        coords={name: data[name].values for name in ("species", "atom_id", "site", "cage")},
        time_step_ps=settings.sample_steps * settings.timestep_fs * 1e-3,
        time_start_ps=settings.sample_steps * settings.timestep_fs * 1e-3,
    )

    first, began = simulation.step, time.monotonic()

    def checkpoint() -> None:
        path = attempt.path / f"restart.{simulation.step}"
        simulation.write_restart(path)
        fsync(path)
        rate = (simulation.step - first) / max(time.monotonic() - began, 1e-9)
        state = {"restart": path.name, "step": simulation.step, "max_grade": largest}
        writer.checkpoint({**state, "total_steps": simulation.total_steps, "steps_per_second": round(rate, 3)})
        for old in attempt.path.glob("restart.*"):
            if old != path:
                old.unlink()

    try:
        # On several MPI ranks between two frames: within one the others would wait for ever.
        with stop_requested(at_once=started_ranks()[1] == 1) as stop:
            report(simulation.step, simulation.total_steps)
            for frame in simulation.frames():
                largest = max(largest, frame.grade if frame.grade > 0 else 0.0)
                if frame.produced:
                    writer.append(frame.positions, frame.cell, **frame.scalars)
                try:
                    report(frame.step, simulation.total_steps)
                except BrokenPipeError:  # the process that watches this run died
                    stop.set()
                # By steps, not by a clock, nor because the run is to stop: see Simulation.checkpoint_steps.
                if simulation.step % simulation.checkpoint_steps == 0:
                    checkpoint()
                if stop.is_set():
                    raise KeyboardInterrupt
    except (SimulationError, ExtrapolationError) as error:
        writer.finish()
        scalars = {"error": type(error).__name__, **_grade_scalars(config, largest)}
        run_id = attempt.publish_failure(str(error), _dataset(writer), scalars)
        raise type(error)(_failure(str(error), writer.frames, run_id)) from error
    finally:
        simulation.close()
    writer.finish()
    dataset = _dataset(writer)
    means = {f"mean_{k}": float(v.mean()) for k, v in dataset.data_vars.items() if k != "grade"}
    return attempt.publish(dataset, scalars={**means, **_grade_scalars(config, largest)})


def _grade_scalars(config: Config, largest: float) -> dict[str, float | str]:
    """The largest grade of a run, and whether it left the domain of the potential; nothing if it was not graded."""
    return {"max_grade": largest, "left_domain": largest > config.grade_select} if largest > 0 else {}


def domain_warning(record: RunRecord) -> str:
    """What to say of a run that left the domain of its potential; empty if it did not, or was not graded."""
    if not record.scalars.get("left_domain"):
        return ""
    return (
        f"run {record.id[:8]} left the domain of {record.parameters['potential']}: largest extrapolation grade "
        f"{float(record.scalars['max_grade']):.2g}, above {record.parameters['grade_select']:g}; do not trust it "
        "before the potential has learned such structures"
    )


def _warn(lake: Lake, ids: list[str]) -> None:
    for run_id in ids:
        if warning := domain_warning(lake.record(run_id)):
            console.print(f"warning: {warning}", style="yellow", markup=False)


def _dataset(writer: TrajectoryWriter) -> xr.Dataset:
    names = list(MD.variables)
    scalars = writer.scalars() if writer.frames else {name: np.empty(0) for name in names}
    return MD.dataset(time=writer.times(), **scalars)


def _failure(reason: str, frames: int, run_id: str) -> str:
    return (
        f"{reason} ({frames} frames of production are in the lake as run {run_id}; to try the same again, "
        f"remove it with: argyase lake rm {run_id})"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""

    def body() -> int:
        return stage_main(
            argv, stage="md", config=Config, run=run, description=__doc__ or "", epilogue=_warn, ranks=True
        )

    return on_ranks(body)


if __name__ == "__main__":
    raise SystemExit(main())
