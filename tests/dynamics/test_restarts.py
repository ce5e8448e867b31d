"""A run that is killed anywhere, any number of times, is the run that never was, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from argyase.calculators.lammps import LammpsPair
from argyase.dynamics import simulation as simulation_module
from argyase.dynamics.ase_md import AseMD
from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.dynamics.simulation import Frame, MDSettings, Simulation
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.structures.argyrodite import argyrodite

CARD = find_potential("LiPSCl-study")
LINES = ["pair_style lj/cut 7.0", "pair_coeff * * 0.0103 3.4", "pair_modify shift yes"]
HEAT = Segment("heat", "nvt", start_K=300.0, rate_K_fs=30.0)  # 10 steps
Make = Callable[[Path | None], Simulation]


def _lammps(ensemble: Any, temperature: float = 900.0, **changes: Any) -> Make:
    # Checkpoints fall within the ramp, at its end, and within what follows.
    segments = (HEAT, Segment("equilibrate", "nvt", duration_ps=0.02), Segment("produce", ensemble, duration_ps=0.08))
    own = {"timestep_fs": 2.0, "sample_ps": 0.004, "max_temperature_factor": 9.0, "grade_every": 3, **changes}
    config = LammpsSettings(temperature, segments, **own)
    active = CARD.active_set
    atoms = argyrodite(0.0, 0.5, a=10.0)
    return lambda restart: LammpsMD(
        atoms, CARD.path, CARD.species, config, restart, repulsion=CARD.repulsion, active_set=active
    )


def _argon() -> tuple[Atoms, MDSettings]:
    atoms = bulk("Ar", "fcc", 5.4, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    segments = (Segment("heat", "nvt", start_K=30.0), Segment("produce", "npt", duration_ps=0.2))
    return atoms, LammpsSettings(60.0, segments, sample_ps=0.01, max_temperature_factor=9.0)


def _argon_in_lammps(restart: Path | None) -> Simulation:
    atoms, config = _argon()
    assert isinstance(config, LammpsSettings)
    return LammpsMD(atoms, LINES, ["Ar"], config, restart)


def _ase(ensemble: Any, coupling: Any = "iso") -> Make:
    segments = (HEAT, Segment("equilibrate", "nvt", duration_ps=0.02), Segment("produce", ensemble, duration_ps=0.04))
    config = MDSettings(
        900.0, segments, sample_ps=0.004, max_temperature_factor=9.0, coupling=coupling, barostat_ps=0.1
    )
    atoms = argyrodite(0.0, 0.5, a=10.0)
    return lambda restart: AseMD(atoms, MTP(CARD.path, CARD.species), config, restart)


def _ase_argon(restart: Path | None) -> Simulation:
    atoms, config = _argon()
    config = MDSettings(60.0, (config.segments[0], Segment("produce", "nvt", duration_ps=0.1)), sample_ps=0.01)
    # Not ASE's own Lennard-Jones: it keeps a list of neighbours, and so the order of its sums, from step to step.
    return AseMD(atoms, LammpsPair(LINES, ["Ar"]), config, restart)


RUNS: dict[str, Make] = {
    "lammps nve": _lammps("nve"),
    "lammps npt": _lammps("npt"),
    "lammps npt tri, mixed precision, two threads": _lammps("npt", coupling="tri", precision="mixed", threads=2),
    "lammps, lj/cut": _argon_in_lammps,
    "ase nve": _ase("nve"),
    "ase nvt": _ase("nvt"),
    "ase npt": _ase("npt"),
    "ase npt tri": _ase("npt", "tri"),
    "ase, another calculator": _ase_argon,
}


def drive(make: Make, folder: Path, kills: list[int]) -> list[Frame]:
    """All frames of a run that checkpoints as stage md does, and dies after so many frames of each attempt."""
    frames: list[Frame] = []
    restart, kept = None, 0
    for life in [*kills, 10**9]:
        simulation = make(restart)
        del frames[kept:]
        try:
            for count, frame in enumerate(simulation.frames(), start=1):
                frames.append(frame)
                if simulation.step % simulation.checkpoint_steps == 0:
                    restart, kept = folder / f"restart.{simulation.step}", len(frames)
                    simulation.write_restart(restart)
                if count == life:
                    break
            else:
                return frames
        finally:
            simulation.close()
    raise AssertionError("the last life ends with the run")


def same(a: list[Frame], b: list[Frame]) -> None:
    assert [f.step for f in a] == [f.step for f in b]
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.cell, other.cell)
        np.testing.assert_equal(one.scalars, other.scalars)  # NaN where there is no grade


@pytest.mark.parametrize("name", RUNS)
def test_killed_anywhere_any_number_of_times(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A checkpoint each 3 to 5 frames, for 32 to 52 atoms and 2 or 5 steps a frame.
    monkeypatch.setattr(simulation_module, "CHECKPOINT_ATOM_STEPS", 570.0)
    whole = drive(RUNS[name], tmp_path, [])

    @settings(max_examples=3, phases=(Phase.generate,))  # to shrink a list of kills takes minutes, and tells nothing
    @given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    def check(kills: list[int]) -> None:
        same(drive(RUNS[name], tmp_path, kills), whole)

    check()


def test_checkpoints_come_by_steps() -> None:
    """By atoms and steps, in whole frames; of slow calculators each frame."""
    one = MDSettings(600.0, (Segment("produce", "npt", duration_ps=1.0),))
    atoms = argyrodite(0.0, 0.5, (2, 2, 2), a=10.0)
    fast = AseMD(atoms, MTP(CARD.path, CARD.species), one)
    assert fast.checkpoint_steps % 50 == 0
    assert fast.checkpoint_steps * len(atoms) == pytest.approx(7.14e6, rel=0.01)
    assert AseMD(atoms, LennardJones(), one).checkpoint_steps == 50
