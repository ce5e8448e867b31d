"""ns a day of stage md, restarts and frames included, and what the paper's campaign costs by it.

``python benchmarks/throughput.py --atoms 416 3328 --threads 1 2`` measures the whole of `LammpsMD` with the shipped
potential in npt at 600 K and a frame every 0.1 ps: the time of the frames between two checkpoints, and of the
checkpoint that follows them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from argyase.datalake.files import fsync
from argyase.datalake.trajectory import TrajectoryWriter
from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.potentials.model_card import DEFAULT, find_potential
from argyase.structures.argyrodite import argyrodite

SIZES = {52: (1, 1, 1), 416: (2, 2, 2), 3328: (4, 4, 4), 26624: (8, 8, 8)}
PAPER = {"runs": 33 + 45 + 9, "ns": 10.0, "atoms": 3328}
"""Figures 3 and 5, and the Li-added series of figure 6; 10 ns of 4x4x4 cells each."""


def measure(atoms: int, threads: int, seconds: float, precision: str) -> tuple[float, float, float]:
    """Processor and wall time of a step, s, and of a checkpoint, s of wall time."""
    card = find_potential(DEFAULT)
    segments = (Segment("produce", "npt", duration_ps=1000.0),)
    settings = LammpsSettings(600.0, segments, threads=threads, precision=precision)
    cell = argyrodite(0.0, 0.5, SIZES[atoms], a=10.0)
    md = LammpsMD(cell, card.path, card.species, settings, repulsion=card.repulsion, active_set=card.active_set)
    with tempfile.TemporaryDirectory() as folder:
        writer = TrajectoryWriter(
            Path(folder), n_atoms=atoms, n_frames=10**6, coords={"atom_id": np.arange(atoms)}, time_step_ps=0.1
        )
        frames = md.frames()
        for _ in range(3):
            next(frames)
        steps, busy, wall = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - wall < seconds:
            frame = next(frames)
            writer.append(frame.positions, frame.cell, **frame.scalars)
            steps += settings.sample_steps
        step = (time.process_time() - busy) / steps, (time.perf_counter() - wall) / steps
        checkpoints = []
        for number in range(3):
            start = time.perf_counter()
            md.write_restart(Path(folder) / f"restart.{number}")
            fsync(Path(folder) / f"restart.{number}")
            writer.checkpoint({})
            checkpoints.append(time.perf_counter() - start)
            next(frames)
    md.close()
    return *step, float(np.median(checkpoints))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", default=[416, 3328], choices=sorted(SIZES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="to measure each for")
    parser.add_argument("--precision", choices=["double", "mixed"], default="double")
    args = parser.parse_args()
    print(f"{DEFAULT}, {args.precision}, npt, 2 fs, a frame every 0.1 ps; load of the machine {os.getloadavg()[0]:.1f}")
    print("| atoms | threads | us of processor an atom and step | ns/day | checkpoint, ms | of the time |")
    print("|---|---|---|---|---|---|")
    for atoms in args.atoms:
        for threads in args.threads:
            busy, wall, checkpoint = measure(atoms, threads, args.seconds, args.precision)
            # On a busy machine the wall time is that of the others: what the processor did counts.
            ideal = busy / threads
            speed = 2e-6 * 86400 / ideal
            between = 5.0 / 0.7e-6 / atoms * busy
            clock = 2e-6 * 86400 / wall
            print(
                f"| {atoms} | {threads} | {1e6 * busy / atoms:.3f} | {speed:.1f} ({clock:.1f} by the clock) "
                f"| {1e3 * checkpoint:.0f} | {100 * checkpoint / (between / threads):.2f} % |",
                flush=True,
            )
            if atoms == PAPER["atoms"] and threads == 1:
                hours = PAPER["runs"] * PAPER["ns"] / speed * 24
                print(f"the paper's {PAPER['runs']} runs of 10 ns and {atoms} atoms: {hours:.0f} core hours")


if __name__ == "__main__":
    main()
