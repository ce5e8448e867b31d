"""Does the total energy stay where it is? NVE of Li6PS5Cl at 600 K in double and mixed precision.

    python benchmarks/mtp_drift.py [--cells 2] [--picoseconds 1000]

Prints the slope of the total energy (least squares over all frames), with its error from eight blocks, and the spread
around it. The integrator's own share shows in double; that of single precision is what mixed adds.
"""

from __future__ import annotations

import argparse

import numpy as np

from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.potentials.model_card import find_potential
from argyase.structures.argyrodite import argyrodite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--picoseconds", type=float, default=1000.0)
    parser.add_argument("--temperature", type=float, default=600.0)
    args = parser.parse_args()
    potential = find_potential("LiPSCl-study")
    atoms = argyrodite(0.0, 0.5, (args.cells,) * 3, seed=1, a=10.0)
    segments = (
        Segment("equilibrate", "nvt", duration_ps=20.0),
        Segment("produce", "nve", duration_ps=args.picoseconds),
    )
    print(f"{len(atoms)} atoms, {args.temperature:g} K, NVE {args.picoseconds:g} ps, 2 fs; meV/atom")
    for precision in ("double", "mixed"):
        settings = LammpsSettings(args.temperature, segments, sample_ps=0.1, precision=precision)  # type: ignore[arg-type]
        run = LammpsMD(atoms, potential.path, potential.species, settings)
        rows = [(f.time_ps, f.potential_energy + f.kinetic_energy) for f in run.frames() if f.produced]
        run.close()
        time_ns, energy = np.array(rows).T * np.array([[1e-3], [1e3 / len(atoms)]])
        slope, start = np.polyfit(time_ns, energy, 1)
        # A block's own slope is uncertain by its fluctuations alone; the slope of all is that of the blocks' means.
        means = np.array([[b.mean() for b in np.array_split(v, 8)] for v in (time_ns, energy)])
        centred = means[0] - means[0].mean()
        residual = means[1] - np.polyval(np.polyfit(*means, 1), means[0])
        error = np.sqrt((residual**2).sum() / 6 / (centred**2).sum())
        spread = (energy - slope * time_ns - start).std()
        print(f"  {precision:7s} drift {slope:+.4f} +- {error:.4f} per ns, spread {spread:.4f}")


if __name__ == "__main__":
    main()
