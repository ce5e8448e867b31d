"""That this installation computes: short molecular dynamics through the LAMMPS plugin, its forces checked twice.

Arguments: other calculators that it has, sevennet or gpaw, each of which computes a force, too.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

import argyase
from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import Segment
from argyase.potentials.model_card import DEFAULT, find_potential
from argyase.potentials.mtp import MTP
from argyase.stages import md, structures

card = find_potential(DEFAULT)
with tempfile.TemporaryDirectory() as folder:
    lake = Lake(folder)
    (name,) = structures.run(structures.Config(inversion=0.5, a=10.0), lake)
    segments = (Segment("equilibrate", "nvt", duration_ps=0.1), Segment("produce", "npt", duration_ps=0.4))
    config = md.Config(name, temperature_K=600.0, segments=segments, sample_ps=0.02)
    (run,) = md.run(config, lake)
    problems = lake.verify()
    data, trajectory = lake.open_run(run), lake.trajectory(run)
    symbols = [str(s) for s in trajectory.coords["species"]]
    positions, cell = trajectory.positions()[-1], trajectory.cell()[-1]
    energy = float(data["potential_energy"][-1])
atoms = Atoms(
    symbols, positions, cell=cell, pbc=True, calculator=MTP(card.path, card.species, repulsion=card.repulsion)
)
# Positions are kept to 1e-4 A, half of it an error: at 1 eV/A on 52 atoms some 1e-4 eV.
assert abs(atoms.get_potential_energy() - energy) < 2e-3, (atoms.get_potential_energy(), energy)
forces, step, worst = atoms.get_forces(), 1e-4, 0.0
for atom, axis in np.random.default_rng(1).integers([len(atoms), 3], size=(20, 2)):
    up, down = (atoms.copy() for _ in range(2))
    up.positions[atom, axis] += step
    down.positions[atom, axis] -= step
    up.calc = down.calc = atoms.calc
    slope = (up.get_potential_energy() - down.get_potential_energy()) / (2 * step)
    worst = max(worst, abs(slope + forces[atom, axis]))
# h^2 / 6 of the third derivative, some 1e3 eV/A^3, and round-off of 1e-13 x 200 eV / h.
assert worst < 1e-5, worst
assert np.abs(forces.sum(axis=0)).max() < 1e-10, "the forces do not add up to zero"
assert not problems, problems
print(
    f"argyase {argyase.__version__} in {Path(sys.prefix)}: {trajectory.n_frames} frames of {len(atoms)} atoms "
    f"by {card.name}, forces as the energy's slope to {worst:.0e} eV/A"
)
SETTINGS = {"sevennet": {}, "gpaw": {"preset": "aimd", "stress": "none"}}
for name in sys.argv[1:]:
    salt = bulk("LiCl", "rocksalt", a=5.14)
    salt.rattle(0.05, seed=1)
    salt.calc = calculator(name, **SETTINGS[name])
    force, energies = salt.get_forces()[0, 0], []
    for step in (0.01, -0.02):
        salt.positions[0, 0] += step
        energies.append(salt.get_potential_energy())
    slope = (energies[0] - energies[1]) / 0.02
    # Single precision of 1e-6 eV, or electrons converged to about that, over h; h^2 / 6 of the third derivative.
    assert abs(force) > 0.05, force
    assert abs(slope + force) < 2e-3, (name, slope, force)
    print(f"{name}: force {force:.4f} eV/A, by its energy {-slope:.4f}")
