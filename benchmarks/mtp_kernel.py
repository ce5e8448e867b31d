"""Time of an MD step with ``pair_style mtp``, and of a force call of motep's C engine, in one run on one core.

    python benchmarks/mtp_kernel.py [--cells 4] [--steps 300]

Li6PS5Cl, 52 atoms a unit cell (3328 for 4x4x4), level 10, 4 species, 6 A, NVE at 300 K, 2 fs, neighbour rebuilds
included. Peer: motep 0.2.0 (C engine) through ASE, energy and forces of the same atoms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from ase import Atoms
from motep.calculator import MTP as MotepMTP
from motep.io.mlip.mtp import read_mtp

from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.structures.argyrodite import argyrodite


def lammps_step(atoms: Atoms, steps: int) -> float:
    """Seconds of a whole MD step."""
    potential = find_potential("LiPSCl-study")
    segments = (
        Segment("equilibrate", "nve", duration_ps=0.2),
        Segment("produce", "nve", duration_ps=steps * 2e-3),
    )
    settings = LammpsSettings(300.0, segments, sample_ps=0.1, max_temperature_factor=5.0)
    simulation = LammpsMD(atoms, potential.path, potential.species, settings)
    frames = simulation.frames()
    while not next(frames).produced:
        pass
    start, first = time.perf_counter(), simulation.step
    for _ in frames:
        pass
    return (time.perf_counter() - start) / (simulation.step - first)


def call(function: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    atoms = argyrodite(0.0, 0.5, (args.cells,) * 3, seed=1, a=10.0)
    potential = find_potential("LiPSCl-study")
    data = read_mtp(potential.path)
    data.species = [3, 15, 16, 17]

    def through(calculator: object) -> Callable[[], object]:
        def calculate() -> object:
            calculator.calculate(atoms)  # type: ignore[attr-defined]
            return calculator

        return calculate

    times = {
        "pair_style mtp, whole MD step": lammps_step(atoms, args.steps),
        "ASE calculator": call(through(MTP(potential.path, potential.species)), 5),
        "motep 0.2.0, C engine, ASE": call(through(MotepMTP(data, engine="cext")), 3),
    }
    peer = times["motep 0.2.0, C engine, ASE"]
    print(f"{len(atoms)} atoms")
    for name, seconds in times.items():
        print(f"{name:32s} {1e6 * seconds / len(atoms):8.3f} us/atom {peer / seconds:8.1f} x motep")


if __name__ == "__main__":
    main()
