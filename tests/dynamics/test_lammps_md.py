"""LAMMPS runs against ASE's integrator and the ASE calculator; restarts; runs that become unphysical."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from strategies import rotation

from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.dynamics.simulation import Frame
from argyase.errors import CalculatorError, ConfigError, ExtrapolationError, SimulationError
from argyase.physics.unwrap import check_unwrapped, unwrap, wrap
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.structures.argyrodite import argyrodite
from argyase.units import EV_PER_A3_TO_GPA

POTENTIAL = find_potential("LiPSCl-study")


def settings(*segments: Segment, **changes: Any) -> LammpsSettings:
    base: dict[str, Any] = {
        "temperature_K": 300.0,
        "sample_ps": 0.01,
        "timestep_fs": 1.0,
        "max_temperature_factor": 9.0,
    }
    return LammpsSettings(segments=segments, **{**base, **changes})


@contextmanager
def simulation(atoms: Atoms, config: LammpsSettings, restart: Path | None = None, **options: Any) -> Iterator[LammpsMD]:
    made = LammpsMD(atoms, POTENTIAL.path, POTENTIAL.species, config, restart, **options)
    try:
        yield made
    finally:
        made.close()


def run(atoms: Atoms, config: LammpsSettings, **options: Any) -> list[Frame]:
    with simulation(atoms, config, **options) as md:
        return list(md.frames())


def produce(ensemble: Any = "nve", ps: float = 0.05) -> Segment:
    return Segment("produce", ensemble, duration_ps=ps)


def crystal(seed: int = 1) -> Atoms:
    """Li6PS5Cl, turned and sheared: a triclinic cell in no special orientation."""
    atoms = argyrodite(0.0, 0.5, seed=seed, a=10.0)
    strain = np.eye(3) + np.array([[0, 0.03, -0.02], [0.01, 0, 0.02], [0, 0.01, 0]])
    q = rotation(np.random.default_rng(seed))
    q *= np.linalg.det(q)  # LAMMPS' cells are right-handed
    atoms.set_cell(atoms.cell.array @ strain @ q.T, scale_atoms=True)
    return atoms


def test_energies_and_pressures_are_those_of_the_frames() -> None:
    atoms = crystal()
    calculator = MTP(POTENTIAL.path, POTENTIAL.species)
    frames = run(atoms, settings(produce("npt", 0.1)))
    assert [f.step for f in frames] == [10 * k for k in range(1, 11)]
    for frame in frames[::3]:
        there = Atoms(atoms.symbols, frame.positions, cell=frame.cell, pbc=True, calculator=calculator)
        # LAMMPS prints its thermo record in double: positions are exact, too.
        assert there.get_potential_energy() == pytest.approx(frame.potential_energy, abs=1e-9)
        assert there.get_volume() == pytest.approx(frame.volume, rel=1e-12)
        kinetic = 2 * frame.kinetic_energy / (3 * frame.volume)
        pressure = (kinetic - there.get_stress()[:3].mean()) * EV_PER_A3_TO_GPA
        # LAMMPS' rounded unit constants (1e-7 of the kinetic and the virial part, a few GPa).
        assert pressure == pytest.approx(frame.pressure, abs=1e-5)
        temperature = 2 * frame.kinetic_energy / (3 * (len(atoms) - 1) * units.kB)
        assert temperature == pytest.approx(frame.temperature, rel=1e-5)


def test_newton_by_ase() -> None:
    """The same path as ASE's velocity Verlet from LAMMPS' first frame on (masses and units differ by 1e-6)."""
    atoms = crystal()
    frames = run(atoms, settings(produce(ps=0.05), sample_ps=0.001))
    x = np.array([f.positions for f in frames])
    # Velocity Verlet is time-reversible: v(t) = (x(t+1) - x(t-1)) / 2 dt.
    dt = 1.0 * units.fs
    ours = Atoms(atoms.symbols, x[1], cell=atoms.cell, pbc=True, calculator=MTP(POTENTIAL.path, POTENTIAL.species))
    ours.set_velocities((x[2] - x[0]) / (2 * dt))
    VelocityVerlet(ours, timestep=dt).run(45)
    np.testing.assert_allclose(ours.positions, x[46], atol=2e-5)
    assert np.abs(x[46] - x[1]).max() > 0.05


def test_energy_is_conserved() -> None:
    frames = run(crystal(), settings(produce(ps=2.0)))
    total = np.array([f.potential_energy + f.kinetic_energy for f in frames]) / 52
    # Velocity Verlet at 1 fs, fastest period 17 fs (P-S): (w dt)^2 / 8 of the kinetic energy, 39 meV / atom.
    assert total.std() < 5e-4
    assert abs(total[-20:].mean() - total[:20].mean()) < 5e-4


def test_paths_are_continuous_and_start_in_place() -> None:
    atoms = crystal()
    frames = run(atoms, settings(produce("npt", 1.0), temperature_K=900.0, max_volume_change=0.9))
    positions, cells = np.array([f.positions for f in frames]), np.array([f.cell for f in frames])
    check_unwrapped(positions, cells)
    start = np.concatenate([atoms.positions[None], positions])
    all_cells = np.concatenate([atoms.cell.array[None], cells])
    again = unwrap(wrap(start, all_cells), all_cells)
    moved = np.linalg.norm(again[1:] - again[:1], axis=2)
    # 10 fs after the start at 1800 K: 0.25 A. Another orientation would be many A off.
    assert moved[0].max() < 1.0
    # The same paths, but for the cell in which each atom began.
    shift = (again[1:] - positions) @ np.linalg.inv(cells)
    np.testing.assert_allclose(shift, np.broadcast_to(np.rint(shift[0]), shift.shape), atol=1e-9)


def test_the_protocol_reaches_its_temperature() -> None:
    segments = (Segment("heat", "nvt", start_K=100.0, rate_K_fs=2.0), Segment("equilibrate", "nvt", duration_ps=1.0),
                produce("nvt", 2.0))  # fmt: skip
    frames = run(argyrodite(0.0, 0.5, a=10.0), settings(*segments, temperature_K=600.0))
    assert [f.produced for f in frames] == [f.time_ps > 1e-9 for f in frames]
    assert frames[-1].time_ps == pytest.approx(2.0)
    assert sum(f.produced for f in frames) == 200
    mean = np.mean([f.temperature for f in frames if f.produced])
    # Canonical fluctuation of 52 atoms, 68 K; thermostat damping 0.1 ps, so about 10 independent values.
    assert mean == pytest.approx(600.0, abs=4 * 68 / np.sqrt(10))


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_restart_goes_on(ensemble: Any, tmp_path: Path) -> None:
    """Stopped after 10 of 20 frames and gone on with: the same path as without the stop."""
    atoms = crystal(2)
    config = settings(produce(ensemble, 0.2), grade_every=20)
    graded = {"active_set": POTENTIAL.active_set}
    whole = run(atoms, config, **graded)
    with simulation(atoms, config, **graded) as first:
        frames = first.frames()
        parts = [next(frames) for _ in range(10)]
        first.write_restart(tmp_path / "r")
    with simulation(atoms, config, tmp_path / "r", **graded) as second:
        assert second.step == 100
        parts += list(second.frames())
    assert [f.step for f in parts] == [f.step for f in whole]
    for a, b in zip(whole, parts, strict=True):
        # Another order of summation; 0.2 ps are too short for chaos to amplify 1e-15 to this.
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-8)
        assert a.temperature == pytest.approx(b.temperature, abs=1e-5)
        assert a.volume == pytest.approx(b.volume, abs=1e-6)
        # What is set up anew is not graded anew: a restart does not show.
        assert a.grade == pytest.approx(b.grade, abs=1e-6, nan_ok=True)
    assert sum(np.isfinite(f.grade) for f in parts) == 11


def test_a_restart_within_a_ramp_keeps_the_ramp(tmp_path: Path) -> None:
    config = settings(Segment("heat", "nvt", start_K=100.0, rate_K_fs=2.0), produce("nvt", 0.01), temperature_K=900.0)
    atoms = argyrodite(0.0, 0.5, a=10.0)
    whole = run(atoms, config)
    with simulation(atoms, config) as first:
        frames = first.frames()
        for _ in range(20):
            next(frames)
        first.write_restart(tmp_path / "r")
    with simulation(atoms, config, tmp_path / "r") as second:
        rest = list(second.frames())
    assert rest[-1].temperature == pytest.approx(whole[-1].temperature, abs=1e-3)


def test_replicas_differ_and_repeat() -> None:
    atoms = crystal()
    a, b, c = (run(atoms, settings(produce(ps=0.01), seed=s))[-1] for s in (1, 1, 2))
    np.testing.assert_array_equal(a.positions, b.positions)
    assert np.abs(a.positions - c.positions).max() > 1e-3


# ---- repulsion and grades ----


@pytest.mark.parametrize("temperature", [300.0, 600.0, 1200.0])
def test_ordinary_dynamics_are_those_without_repulsion_and_grades(temperature: float) -> None:
    """To the last bit: no pair comes nearer than the distances of the table."""
    config = settings(produce("npt", 1.0), temperature_K=temperature, sample_ps=0.05)
    plain = run(crystal(), config)
    safe = run(crystal(), config, repulsion=POTENTIAL.repulsion, active_set=POTENTIAL.active_set)
    for a, b in zip(plain, safe, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        assert (a.potential_energy, a.pressure) == (b.potential_energy, b.pressure)
        assert np.isnan(a.grade)
    assert 0.5 < np.nanmax([f.grade for f in safe]) < 1.5


def test_frames_have_the_largest_grade_since_the_one_before() -> None:
    calculator = MTP(POTENTIAL.path, POTENTIAL.species, active_set=POTENTIAL.active_set)
    config = settings(produce("nve", 0.1), temperature_K=600.0, grade_every=10)
    frames = run(crystal(), config, active_set=POTENTIAL.active_set)
    for frame in frames[1:]:  # the first one knows of the start, too
        there = Atoms(crystal().symbols, frame.positions, cell=frame.cell, pbc=True)
        assert frame.grade == pytest.approx(calculator.grades(there).max(), rel=1e-8)
    # Graded at the steps 0, 25, 50, 75, 100; frames at 10, 20, ...
    rare = run(crystal(), settings(produce("nve", 0.1), temperature_K=600.0, grade_every=25),
               active_set=POTENTIAL.active_set)  # fmt: skip
    assert [f.step for f in rare if np.isfinite(f.grade)] == [10, 30, 50, 80, 100]
    assert rare[4].grade == pytest.approx(frames[4].grade, rel=1e-8)
    # Every step: the largest of ten.
    often = run(crystal(), settings(produce("nve", 0.1), temperature_K=600.0, grade_every=1),
                active_set=POTENTIAL.active_set)  # fmt: skip
    assert all(a.grade >= b.grade * (1 - 1e-8) for a, b in zip(often, frames, strict=True))
    assert any(a.grade > b.grade + 1e-6 for a, b in zip(often, frames, strict=True))


def test_a_run_out_of_the_domain_is_stopped() -> None:
    atoms = argyrodite(0.0, 0.5, a=10.0)
    atoms.positions[1] = atoms.positions[0] + [0, 0, 1.4]
    config = settings(produce("nve", 0.1), grade_break=3.0)
    with pytest.raises(
        ExtrapolationError, match=r"step 10 .* extrapolation grade \d[\d.]* is above 3: the potential left"
    ):
        run(atoms, config, active_set=POTENTIAL.active_set)
    assert len(run(atoms, settings(produce("nve", 0.1), grade_every=0), active_set=POTENTIAL.active_set)) == 10
    for wrong in ({"grade_every": -1}, {"grade_break": 0.5}):
        with pytest.raises(ConfigError, match=f"md.{next(iter(wrong))} = "):
            settings(produce(), **wrong)


def test_energy_is_conserved_in_a_collision() -> None:
    """Two Li 1.4 A apart fly through the step of the table: energies are those of the calculator, and conserved."""
    atoms = argyrodite(0.0, 0.5, a=10.0)
    table = {"Li-Li": (1.5, 1.9)}
    atoms.positions[1] = atoms.positions[0] + [0, 0, 1.4]
    config = settings(produce("nve", 0.02), timestep_fs=0.1, sample_ps=0.001, max_temperature_factor=900.0)
    totals = []
    for frame in run(atoms, config, repulsion=table):
        totals.append(frame.potential_energy + frame.kinetic_energy)
        there = Atoms(atoms.symbols, frame.positions, cell=frame.cell, pbc=True)
        there.calc = MTP(POTENTIAL.path, POTENTIAL.species, repulsion=table)
        assert there.get_potential_energy() == pytest.approx(frame.potential_energy, abs=1e-9)
    # (w dt)^2 of the collision: a force constant of some 100 eV/A^2 at 7 amu and 0.1 fs.
    assert np.ptp(totals) < 0.05


# ---- what becomes unphysical ----


def test_too_hot() -> None:
    config = settings(produce(), max_temperature_factor=0.1)
    with pytest.raises(
        SimulationError, match=r"step 10 \(0\.01 ps into production.*temperature \d+ K is above \d+ K .* lower the t"
    ):
        run(crystal(), config)


def test_volume_out_of_bounds() -> None:
    config = settings(produce("npt", 1.0), max_volume_change=1e-4)
    with pytest.raises(SimulationError, match=r"the cell volume changed by [+-]0 % .*explodes or collapses"):
        run(crystal(), config)


def test_an_explosion_is_reported_with_its_step() -> None:
    """Two atoms nearly on top of each other."""
    atoms = argyrodite(0.0, 0.5, a=10.0)
    atoms.positions[1] = atoms.positions[0] + [0.2, 0, 0]
    with pytest.raises(SimulationError, match=r"after step \d+ .*all frames before are kept"):
        run(atoms, settings(produce(ps=5.0), timestep_fs=4.0, sample_ps=0.02))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ERROR: Lost atoms: original 52 current 51 (src/thermo.cpp:494)", SimulationError),
        ("ERROR on proc 0: Non-numeric pressure - simulation unstable (src/fix_nh.cpp:1035)", SimulationError),
        ("ERROR on proc 0: Failed to allocate 4 bytes for array neighbor:ilist (src/memory.cpp:66)", CalculatorError),
        ("ERROR on proc 0: Cannot open restart file: No space left on device", CalculatorError),
    ],
)
def test_why_lammps_stopped(said: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = LammpsMD(crystal(), POTENTIAL.path, POTENTIAL.species, settings(produce()))
    try:
        command = simulation._lmp.command

        def stops(line: str) -> None:
            if line.startswith("run"):
                raise Exception(said)
            command(line)

        monkeypatch.setattr(simulation._lmp, "command", stops)
        with pytest.raises(kind, match=r"after step 0 .*: LAMMPS stopped: ERROR"):
            list(simulation.frames())
    finally:
        simulation.close()


def test_wrong_input() -> None:
    atoms = argyrodite(a=10.0)
    with pytest.raises(ConfigError, match=r"knows \['Li', 'P', 'S', 'Cl'\], not \['Br'\]"):
        run(argyrodite(halide="Br"), settings(produce()))
    atoms.pbc = [True, True, False]
    with pytest.raises(ConfigError, match="all three directions periodic"):
        run(atoms, settings(produce()))
    for wrong in ({"timestep_fs": 0.0}, {"temperature_K": -1.0}, {"seed": 0}, {"sample_ps": float("nan")}):
        with pytest.raises(ConfigError, match=f"md.{next(iter(wrong))} = "):
            settings(produce(), **wrong)
