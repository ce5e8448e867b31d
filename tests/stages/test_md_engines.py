"""The md stage with other engines than a Moment Tensor Potential: the same datasets come out."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import Segment
from argyase.errors import ConfigError
from argyase.stages import md
from argyase.units import EV_PER_A3_TO_GPA

LINES = ("pair_style lj/cut 7.0", "pair_coeff * * 0.0103 3.4", "pair_modify shift yes")
PROTOCOL = {
    "temperature_K": 60.0,
    "sample_ps": 0.02,
    "max_temperature_factor": 9.0,
    "segments": (Segment("heat", "nvt", start_K=30.0), Segment("produce", "nvt", duration_ps=0.4)),
}
ENGINES = {
    "lammps": {"pair_style": LINES, "species": ("Ar",)},
    "ase": {"calculator": "ase.calculators.lj:LennardJones", "settings": ("epsilon=0.0103", "sigma=3.4", "rc=7.0")},
}


@pytest.fixture
def argon(tmp_path):
    path = tmp_path / "argon.cif"
    write(path, bulk("Ar", "fcc", 5.4, cubic=True) * (2, 2, 2))
    return str(path)


@pytest.mark.parametrize("name", ENGINES)
def test_the_same_datasets_come_out(name: str, argon: str, tmp_path) -> None:
    lake = Lake(tmp_path / "lake")
    config = md.Config(argon, **PROTOCOL, **ENGINES[name])
    (run_id,) = md.run(config, lake)
    data, trajectory = lake.open_run(run_id), lake.trajectory(run_id)
    assert trajectory.n_frames == data.sizes["frame"] == 20
    engine = calculator("ase.calculators.lj:LennardJones", epsilon=0.0103, sigma=3.4, rc=7.0)
    atoms = bulk("Ar", "fcc", 5.4, cubic=True) * (2, 2, 2)
    for n in (0, 10, 19):
        atoms.positions = trajectory.positions(slice(n, n + 1))[0]
        atoms.set_cell(trajectory.cell(slice(n, n + 1))[0])
        atoms.calc = engine
        # Positions are kept to 1e-4 A: forces of some 0.01 eV/A on 32 atoms make 1e-5 eV of it.
        assert atoms.get_potential_energy() == pytest.approx(float(data["potential_energy"][n]), abs=1e-4)
        kinetic = 2 * float(data["kinetic_energy"][n]) / (3 * atoms.get_volume())
        pressure = (kinetic - atoms.get_stress()[:3].mean()) * EV_PER_A3_TO_GPA
        assert pressure == pytest.approx(float(data["pressure"][n]), abs=1e-4)
    assert np.isfinite(data["temperature"]).all()
    assert md.run(config, lake) == [run_id]
    assert lake.record(run_id).parameters["engine"]["name"] in ("lammps", "ase.calculators.lj:LennardJones")


def test_one_engine_only(argon: str, tmp_path) -> None:
    both = {**ENGINES["lammps"], **ENGINES["ase"]}
    with pytest.raises(ConfigError, match="give one of them"):
        md.run(md.Config(argon, **PROTOCOL, **both), Lake(tmp_path / "lake"))
