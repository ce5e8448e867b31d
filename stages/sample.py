"""Stage ``sample``: frames to learn from, by dynamics, melting and quenching, or by displacing atoms of a crystal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms

from argyase.datalake.lake import Lake
from argyase.dynamics.ase_md import Ramp
from argyase.errors import ConfigError, ExtrapolationError, SimulationError
from argyase.potentials.active import GRADE_BREAK, GRADE_SELECT
from argyase.schemas import SAMPLE
from argyase.stages import structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, pack, parse_settings
from argyase.stages._run import (
    Report,
    collect_provenance,
    console,
    labels,
    published,
    silent,
    stage_main,
    stop_requested,
)

MELT_QUENCH = (
    Ramp(4000.0, 4000.0, 10.0, keep=False),
    Ramp(2000.0, 2000.0, 20.0),
    Ramp(2000.0, 300.0, 17.0),
)
"""Pre-melt, melt and quench of the reference protocol; frames of melt and quench are kept."""


@dataclass(frozen=True)
class Config:
    """What to sample, and how."""

    structure: str = setting(help="id of a structure in the lake, or a structure file")
    kind: Literal["md", "melt_quench", "rattle", "squeeze"] = setting(
        "md", help="md: heat, equilibrate, produce at temperature_K; rattle, squeeze: displaced atoms, without dynamics"
    )
    calculator: str = setting("mtp", help=CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    temperature_K: float = setting(300.0, help="target temperature of md", unit="K")
    strain: float = setting(0.0, help="strain of all lengths, e.g. 0.05")
    heat_rate_K_fs: float = setting(0.5, help="heating rate of md", unit="K/fs")
    equilibrate_ps: float = setting(20.0, help="equilibration of md", unit="ps")
    produce_ps: float = setting(10.0, help="production of md", unit="ps")
    ramps: tuple[Ramp, ...] = setting((), help="pieces of another protocol than that of kind")
    timestep_fs: float = setting(2.0, help="time step", unit="fs")
    sample_ps: float = setting(0.1, help="time between frames", unit="ps")
    count: int = setting(10, help="frames of rattle; frames of each pair of species of squeeze")
    displacement: float = setting(0.1, help="standard deviation of a coordinate in rattle", unit="A")
    cell_strain: float = setting(0.02, help="standard deviation of a component of the strain in rattle")
    nearest: float = setting(0.45, help="squeeze: smallest distance, as a fraction of that at rest")
    grade_select: float = setting(
        GRADE_SELECT, help="keep frames with a larger extrapolation grade, whenever they come"
    )
    grade_break: float = setting(GRADE_BREAK, help="end at an atom with a larger one")
    group: str = setting("", help="group of the frames (default: kind)")
    seed: int = setting(1, help="seed of velocities and displacements")


_ALWAYS = ("kind", "strain", "group", "seed")
_DYNAMICS = ("timestep_fs", "sample_ps", "grade_select", "grade_break")
_OF_KIND = {
    "md": (*_DYNAMICS, "temperature_K"),
    "melt_quench": _DYNAMICS,
    "rattle": ("count", "displacement", "cell_strain"),
    "squeeze": ("count", "nearest"),
}
"""What enters the id of a run of each kind, besides structure, calculator and ramps."""


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Sample, unless the lake has it; the id of the run.

    A run that becomes unphysical, or leaves the domain of its potential, is published all the same, with the reason in
    the scalar ``ended``: its last frames are what there is to learn from.
    """
    from argyase.calculators import identity

    structure = structures.find(config.structure, lake)
    parameters: dict[str, Any] = {k: v for k, v in asdict(config).items() if k in (*_ALWAYS, *_OF_KIND[config.kind])}
    if config.kind in ("md", "melt_quench"):
        parameters["calculator"] = identity(config.calculator, **parse_settings(config.settings, "sample.settings"))
        parameters["ramps"] = [asdict(ramp) for ramp in ramps(config)]
    parameters = {**labels(lake.record(structure)), **parameters}
    if run_id := published(lake, "sample", parameters, [structure], SAMPLE.version):
        return [run_id]
    with lake.begin("sample", parameters, [structure], SAMPLE, collect_provenance(config)) as attempt:
        atoms = structures.to_atoms(lake.open_run(structure))
        atoms.set_cell(atoms.cell.array * (1 + config.strain), scale_atoms=True)
        if config.kind in ("md", "melt_quench"):
            frames, ended = _dynamics(atoms, config, report)
        else:
            frames, ended = list(_rattled(atoms, config) if config.kind == "rattle" else _squeezed(atoms, config)), ""
        for frame in frames:
            frame.info.update(group=config.group or config.kind, trajectory=attempt.id, parent=structure)
        dataset = pack(
            SAMPLE,
            frames,
            temperature=[frame.info.get("temperature", np.nan) for frame in frames],
            sample_energy=[frame.info.get("energy", np.nan) for frame in frames],
        )
        return [attempt.publish(dataset, {"frames": len(frames), "ended": ended or "as planned"})]


def ramps(config: Config) -> tuple[Ramp, ...]:
    """The protocol of a dynamics: that of the configuration, or of its kind."""
    if config.ramps:
        return config.ramps
    if config.kind == "melt_quench":
        return MELT_QUENCH
    start = min(10.0, config.temperature_K)
    heat_ps = max(config.sample_ps, (config.temperature_K - start) / config.heat_rate_K_fs * 1e-3)
    target = config.temperature_K
    return (
        Ramp(start, target, heat_ps, keep=False),
        Ramp(target, target, config.equilibrate_ps, keep=False),
        Ramp(target, target, config.produce_ps),
    )


def _dynamics(atoms: Atoms, config: Config, report: Report) -> tuple[list[Atoms], str]:
    """Frames that are kept, and why it ended early; of a run that ended early the last frame is kept, too."""
    from argyase.calculators import calculator
    from argyase.dynamics import ase_md

    settings = ase_md.AseSettings(
        ramps(config),
        config.timestep_fs,
        config.sample_ps,
        seed=config.seed,
        grade_select=config.grade_select,
        grade_break=config.grade_break,
    )
    engine = calculator(config.calculator, **parse_settings(config.settings, "sample.settings"))
    kept: list[Atoms] = []
    last: ase_md.Frame | None = None
    ended = ""

    def keep(frame: ase_md.Frame) -> None:
        copy = Atoms(atoms.symbols, frame.positions, cell=frame.cell, pbc=atoms.pbc)
        copy.wrap()
        copy.info.update(temperature=frame.temperature, energy=frame.potential_energy, parent_frame=len(kept))
        kept.append(copy)

    try:
        with stop_requested() as stop:
            for frame in ase_md.run(atoms, engine, settings):
                last = frame
                if frame.produced or frame.grade > config.grade_select:
                    keep(frame)
                report(frame.step, settings.total_steps)
                if stop.is_set():
                    raise KeyboardInterrupt
    except (SimulationError, ExtrapolationError) as error:
        ended = str(error)
        if last is not None and not kept:
            keep(last)
    return kept, ended


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
