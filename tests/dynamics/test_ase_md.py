"""Runs in ASE against runs in LAMMPS: the same frames, ensembles and protocols; restarts; what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones

from argyase.dynamics.ase_md import AseMD
from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Ramp, Segment
from argyase.dynamics.simulation import Frame, MDSettings, Simulation
from argyase.errors import CalculatorError, ConfigError, SimulationError
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.structures.argyrodite import argyrodite
from argyase.units import EV_PER_A3_TO_GPA

CARD = find_potential("LiPSCl-study")
ARGON = ["pair_style lj/cut 7.0", "pair_coeff * * 0.0103 3.4", "pair_modify shift yes"]


def settings(*segments: Segment | Ramp, **changes: Any) -> LammpsSettings:
    base: dict[str, Any] = {
        "temperature_K": 300.0,
        "sample_ps": 0.01,
        "timestep_fs": 1.0,
        "max_temperature_factor": 9.0,
    }
    return LammpsSettings(segments=segments, **{**base, **changes})


def mtp(atoms: Atoms, config: MDSettings, restart: Path | None = None) -> AseMD:
    return AseMD(atoms, MTP(CARD.path, CARD.species), config, restart)


def frames(simulation: Simulation) -> list[Frame]:
    try:
        return list(simulation.frames())
    finally:
        simulation.close()


def produce(ensemble: Any = "nve", ps: float = 0.05) -> Segment:
    return Segment("produce", ensemble, duration_ps=ps)


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", 5.4, cubic=True) * (3, 3, 3)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_a_pair_style_in_lammps_is_lennard_jones_of_ase() -> None:
    """Energies and pressures that LAMMPS reports of its frames, in npt, against ASE's calculator."""
    config = settings(produce("npt", 0.5), temperature_K=60.0, sample_ps=0.05, timestep_fs=2.0)
    for frame in frames(LammpsMD(argon(), ARGON, ["Ar"], config)):
        there = Atoms("Ar108", frame.positions, cell=frame.cell, pbc=True)
        there.calc = LennardJones(epsilon=0.0103, sigma=3.4, rc=7.0)
        assert there.get_potential_energy() == pytest.approx(frame.potential_energy, abs=1e-9)
        kinetic = 2 * frame.kinetic_energy / (3 * frame.volume)
        pressure = (kinetic - there.get_stress()[:3].mean()) * EV_PER_A3_TO_GPA
        # LAMMPS' rounded constants, 1e-7 of a pressure of some 0.1 GPa.
        assert pressure == pytest.approx(frame.pressure, abs=1e-7)


@pytest.mark.parametrize("engine", ["mtp", "argon"])
def test_both_engines_go_the_same_path(engine: str) -> None:
    """NVE in ASE from a frame of LAMMPS on, with the velocities that its neighbours in time say."""
    config = settings(produce(ps=0.05), sample_ps=0.001, temperature_K=100.0)
    atoms = argon() if engine == "argon" else argyrodite(0.0, 0.5, a=10.0)
    lammps = LammpsMD(atoms, *((ARGON, ["Ar"]) if engine == "argon" else (CARD.path, CARD.species)), config)
    theirs = frames(lammps)
    x = np.array([f.positions for f in theirs])
    atoms.set_positions(x[1])
    made = LennardJones(epsilon=0.0103, sigma=3.4, rc=7.0) if engine == "argon" else MTP(CARD.path, CARD.species)
    ours = AseMD(atoms, made, settings(produce(ps=0.045), sample_ps=0.001))
    # Velocity Verlet is time-reversible: v(t) = (x(t+1) - x(t-1)) / 2 dt.
    ours._atoms.set_velocities((x[2] - x[0]) / (2 * units.fs))
    same = frames(ours)
    assert [f.step for f in same] == list(range(1, 46))
    for a, b in zip(same, theirs[2:47], strict=True):
        # Masses and units of the two differ by 1e-6, after 45 fs of motion by less than 0.5 A.
        np.testing.assert_allclose(a.positions, b.positions, atol=2e-5)
        assert a.potential_energy == pytest.approx(b.potential_energy, abs=2e-4)
        assert a.kinetic_energy == pytest.approx(b.kinetic_energy, abs=2e-4)
        assert a.temperature == pytest.approx(b.temperature, rel=1e-4)
        assert a.pressure == pytest.approx(b.pressure, abs=1e-4)
    assert np.abs(x[46] - x[1]).max() > 0.03
    total = np.array([f.potential_energy + f.kinetic_energy for f in same]) / len(atoms)
    # (w dt)^2 / 8 of the kinetic energy, 13 meV an atom at 100 K, w of the fastest period (17 fs).
    assert np.ptp(total) < 3e-4


def test_the_protocol_reaches_its_temperature_and_pressure() -> None:
    segments = (Segment("heat", "nvt", start_K=10.0, rate_K_fs=0.5), Segment("equilibrate", "nvt", duration_ps=0.4),
                produce("npt", 4.0))  # fmt: skip
    config = settings(*segments, sample_ps=0.02, timestep_fs=2.0, max_volume_change=0.9, barostat_ps=0.2,
                      pressure_GPa=2.0)  # fmt: skip
    found = frames(mtp(argyrodite(0.0, 0.5, a=10.0), config))
    made = [f for f in found if f.produced]
    assert [f.produced for f in found] == [f.time_ps > 1e-9 for f in found]
    assert len(made) == 200
    assert made[-1].time_ps == pytest.approx(4.0)
    # Canonical fluctuations of 52 atoms, 34 K; 0.1 ps of damping in 4 ps: some 20 values.
    assert np.mean([f.temperature for f in made]) == pytest.approx(300.0, abs=4 * 34 / np.sqrt(20))
    # Fluctuations of sqrt(kT K / V) = 0.3 GPa at K = 25 GPa, and as many values.
    late = made[50:]
    assert np.mean([f.pressure for f in late]) == pytest.approx(2.0, abs=4 * 0.3 / np.sqrt(15))
    assert np.mean([f.volume for f in late]) < 0.97 * 1000.0
    centres = [f.positions.T @ argyrodite(0.0, 0.5).get_masses() for f in found if f.part != "produce"]
    assert np.ptp(centres, axis=0).max() < 1e-6


def test_melt_and_quench_by_ramps() -> None:
    ramps = (Ramp("premelt", 400.0, 400.0, 0.2, keep=False), Ramp("melt", 200.0, 200.0, 0.2),
             Ramp("quench", 200.0, 20.0, 1.0))  # fmt: skip
    config = settings(*ramps, timestep_fs=2.0, sample_ps=0.05, thermostat_ps=0.05)
    for simulation in (mtp(argyrodite(0.0, 0.5, a=10.0), config),
                       LammpsMD(argyrodite(0.0, 0.5, a=10.0), CARD.path, CARD.species, config)):  # fmt: skip
        assert simulation.production_frames == 24
        found = frames(simulation)
        assert [f.part for f in found] == ["premelt"] * 4 + ["melt"] * 4 + ["quench"] * 20
        assert [f.produced for f in found] == [False] * 4 + [True] * 24
        assert found[4].time_ps == pytest.approx(0.05)
        # Colder by 180 K in a picosecond, and behind the thermostat by its 0.05 ps (9 K); 4 K of fluctuation.
        assert np.mean([f.temperature for f in found[-3:]]) == pytest.approx(30.0, abs=25.0)


@pytest.mark.parametrize("ensemble", ["nve", "npt"])
def test_a_restart_goes_on(ensemble: Any, tmp_path: Path) -> None:
    atoms = argyrodite(0.0, 0.5, a=10.0)
    config = settings(Segment("heat", "nvt", start_K=100.0, rate_K_fs=20.0), produce(ensemble, 0.05))
    whole = frames(mtp(atoms, config))
    first = mtp(atoms, config)
    parts = [f for _, f in zip(range(2), first.frames(), strict=False)]
    first.write_restart(tmp_path / "r")
    second = mtp(atoms, config, tmp_path / "r")
    assert second.step == 20
    parts += frames(second)
    assert [(f.step, f.part, f.produced) for f in parts] == [(f.step, f.part, f.produced) for f in whole]
    if ensemble == "nve":
        for a, b in zip(whole, parts, strict=True):
            # The same noise in the ramp, which ended before the stop or after it.
            np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)


def test_replicas_differ_and_repeat() -> None:
    atoms = argyrodite(a=10.0)
    a, b, c = (frames(mtp(atoms, settings(produce("nvt", 0.01), seed=s)))[-1] for s in (1, 1, 2))
    np.testing.assert_array_equal(a.positions, b.positions)
    assert np.abs(a.positions - c.positions).max() > 1e-3


class Failing(LennardJones):
    """Argon that its engine gives up after so many calls, and before that, if asked, heats."""

    def __init__(self, calls: int, force: float = 1.0) -> None:
        super().__init__(epsilon=0.0103, sigma=3.4, rc=7.0)
        self.left, self.force = calls, force

    def calculate(self, *arguments: Any, **named: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError("No space left on device")
        super().calculate(*arguments, **named)
        self.results["forces"] *= self.force


def test_an_engine_that_fails_is_not_unphysical() -> None:
    config = settings(produce(ps=0.05), temperature_K=60.0, max_temperature_factor=3.0)
    found: list[Frame] = []
    with pytest.raises(
        CalculatorError,
        match=r"after step 20 .*: the calculator failed: OSError: No space left on device; the dyn",
    ) as error:
        found.extend(AseMD(argon(), Failing(25), config).frames())
    assert "domain" not in str(error.value)
    assert [frame.step for frame in found] == [10, 20]  # those before it came, and no other
    # The same error of an engine that was given atoms which fly apart is none of the engine.
    with pytest.raises(SimulationError, match=r"temperature \d+ K is above .*; there the calculator failed: OSError"):
        frames(AseMD(argon(), Failing(8, force=-300.0), config))


def test_what_is_wrong_is_named() -> None:
    atoms = argyrodite(a=10.0)
    with pytest.raises(ConfigError, match="'heat' changes the temperature in npt"):
        mtp(atoms, settings(Segment("heat", "npt"), produce()))
    with pytest.raises(ConfigError, match='coupling = "aniso"'):
        mtp(atoms, settings(produce("npt"), coupling="aniso"))
    with pytest.raises(CalculatorError, match=r"after step 0 .*the calculator failed: CalculatorError: species"):
        frames(mtp(argyrodite(halide="Br"), settings(produce())))
    with pytest.raises(SimulationError, match=r"temperature \d+ K is above \d+ K"):
        frames(mtp(atoms, settings(produce(), max_temperature_factor=0.1)))
    with pytest.raises(CalculatorError, match=r"LAMMPS refuses 'pair_coeff 1 1 0\.1'"):
        LammpsMD(argon(), ["pair_style lj/cut 5.0", "pair_coeff 1 1 0.1"], ["Ar"], settings(produce()))
    open_ended = argon()
    open_ended.pbc = [True, True, False]
    with pytest.raises(ConfigError, match="all three directions periodic"):
        AseMD(open_ended, LennardJones(), settings(produce()))
    with pytest.raises(ConfigError, match=r"none of .*'hot'.* has keep = true"):
        settings(Ramp("hot", 300.0, 300.0, 1.0, keep=False)).schedule()
    with pytest.raises(ConfigError, match=r"stop_K = -1.0: must be positive"):
        settings(Ramp("hot", 300.0, -1.0, 1.0)).schedule()
