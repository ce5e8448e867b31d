"""Molecular dynamics over ASE calculators, against what is known and against LAMMPS."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from argyase.calculators import calculator
from argyase.dynamics.ase_md import AseSettings, Ramp, run
from argyase.dynamics.lammps_md import Frame, LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.errors import ConfigError, SimulationError
from argyase.potentials.model_card import find_potential
from argyase.potentials.validation import relax
from argyase.structures.argyrodite import argyrodite


class Springs(Calculator):
    """Every atom on a spring of 5 eV/A^2 to its site: an Einstein crystal, of which everything is known."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, sites: np.ndarray) -> None:
        super().__init__()
        self.sites = sites

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        d = atoms.positions - self.sites
        self.results = {"energy": 2.5 * float((d**2).sum()), "forces": -5.0 * d, "stress": np.zeros(6)}


def crystal() -> tuple[Atoms, Springs]:
    atoms = bulk("Li", cubic=True) * 4
    return atoms, Springs(atoms.positions.copy())


def test_energy_is_conserved() -> None:
    settings = AseSettings([Ramp(600, 600, 1.0, ensemble="nve")], timestep_fs=1.0, sample_ps=0.02, seed=2)
    frames = list(run(*crystal(), settings))
    energy = np.array([f.potential_energy + f.kinetic_energy for f in frames])
    # Velocity Verlet: the energy swings by (omega dt)^2 / 8 of what is exchanged; omega = sqrt(5 eV/A^2 / 6.94 u) is
    # 0.083 / fs, so 1e-3 of 10 eV, and does not drift.
    assert np.ptp(energy) < 0.02
    assert np.abs(energy[-10:].mean() - energy[:10].mean()) < 0.005
    assert [f.step for f in frames] == list(range(20, 1001, 20))
    assert frames[-1].time_ps == pytest.approx(1.0)


def test_the_thermostat_holds_and_ramps() -> None:
    ramps = [Ramp(300, 300, 8.0, keep=False), Ramp(300, 900, 6.0), Ramp(900, 900, 8.0)]
    frames = list(run(*crystal(), AseSettings(ramps, timestep_fs=2.0, sample_ps=0.02, seed=1)))
    assert sum(not f.produced for f in frames) == 400
    temperature = np.array([f.temperature for f in frames])
    energy = np.array([f.potential_energy for f in frames]) / (1.5 * 128 * 8.617333e-5)
    # 128 atoms: a temperature fluctuates by sqrt(2 / 384) = 7 %; by the thermostat it is another one after 0.2 ps, so
    # that 6 ps hold some 30: 1.3 %. Potential and kinetic energy are the same by equipartition.
    for measured in (temperature, energy):
        assert measured[100:400].mean() == pytest.approx(300, rel=0.05)
        assert measured[-300:].mean() == pytest.approx(900, rel=0.05)
        # In the middle of the ramp, over 1 ps (100 K): 5 of them, 3 %, and behind by its 0.1 ps, 10 K.
        assert measured[525:575].mean() == pytest.approx(600, rel=0.1)


def test_the_barostat_reaches_the_pressure_of_lammps() -> None:
    atoms = argyrodite(inversion=0.5, a=10.0)
    engine = calculator("mtp", potential="LiPSCl-study", repulsion=False)
    # An ideal crystal is not at rest, and gets hot.
    atoms = relax(atoms, engine, fmax=0.1)
    settings = AseSettings([Ramp(300, 300, 10.0, ensemble="npt")], sample_ps=0.02, pressure_GPa=1.0, seed=1)
    frames = list(run(atoms, engine, settings))[150:]
    potential = find_potential("LiPSCl-study")
    segments = (Segment("equilibrate", "npt", duration_ps=3.0), Segment("produce", "npt", duration_ps=7.0))
    reference = LammpsSettings(300.0, segments, sample_ps=0.02, pressure_GPa=1.0)
    md = LammpsMD(atoms, potential.path, potential.species, reference)
    theirs = [frame for frame in md.frames() if frame.produced]
    md.close()
    # Volumes of 52 atoms with a bulk modulus of some 25 GPa fluctuate by sqrt(kT V / B) = 5 A^3; 7 ps hold some 10
    # independent ones: 1.6 A^3 each, of 1000. Pressures swing by 0.6 GPa, with the period of the barostat.
    assert np.mean([f.volume for f in frames]) == pytest.approx(np.mean([f.volume for f in theirs]), abs=8.0)
    assert np.mean([f.pressure for f in frames]) == pytest.approx(1.0, abs=0.3)
    assert np.mean([f.temperature for f in frames]) == pytest.approx(300, rel=0.1)


def test_what_explodes_is_reported_and_its_frames_kept() -> None:
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 0.7]], cell=[20, 20, 20], pbc=True)
    frames: list[Frame] = []
    settings = AseSettings([Ramp(100, 100, 1.0)], sample_ps=0.01)
    with pytest.raises(
        SimulationError, match=r"after step \d+: temperature .* at a target of 100 K; the frames before"
    ):
        frames.extend(run(atoms, LennardJones(rc=8.0), settings))
    assert frames


def test_grades_come_with_the_frames() -> None:
    atoms = argyrodite(a=10.0)
    engine = calculator("mtp", potential="LiPSCl-study")
    (frame,) = run(atoms, engine, AseSettings([Ramp(300, 300, 0.1)]))
    assert 0 < frame.grade < 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ramps": []}, "give at least one"),
        ({"ramps": [Ramp(0, 300, 1)]}, r"ramps\[0\].start_K = 0: must be positive"),
        ({"ramps": [Ramp(300, 600, 1, ensemble="npt")]}, "temperature of an npt ramp cannot change"),
        ({"timestep_fs": 0.0}, "timestep_fs = 0.0: must be positive"),
    ],
)
def test_wrong_settings(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(AseSettings([Ramp(300, 300, 1)]), **change)
