"""ns a day of stage md, restarts and frames included, what the paper's campaign costs, and what a node would make.

``python benchmarks/throughput.py --atoms 416 3328 26624`` measures the whole of `LammpsMD`, on threads and MPI ranks,
with the shipped potential in npt at 600 K and a frame every 0.1 ps: the time of the frames between two checkpoints, and
of the checkpoint that follows them; then, by LAMMPS' own account of processor time, where the time of a step goes. From
these terms it predicts a node of 64 cores (`Model`): a prediction, of which nothing was measured on such a node.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from argyase.calculators.lammps import BEGIN, create_box, set_up
from argyase.datalake.files import fsync
from argyase.datalake.trajectory import TrajectoryWriter
from argyase.dynamics import ranks
from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.potentials.model_card import DEFAULT, find_potential
from argyase.structures.argyrodite import argyrodite

SIZES = {52: (1, 1, 1), 416: (2, 2, 2), 3328: (4, 4, 4), 26624: (8, 8, 8)}
PAPER = {"runs": 33 + 45 + 9, "ns": 10.0, "atoms": 3328}
"""Figures 3 and 5, and the Li-added series of figure 6; 10 ns of 4x4x4 cells each."""
NS_DAY = 2e-6 * 86400
"""ns a day of steps of 2 fs that take a second each."""


def measure(atoms: int, threads: int, seconds: float, precision: str) -> dict[str, float]:
    """Processor and wall time of a step, s, and wall time of a checkpoint, s; on the ranks that were started."""
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
    return {"busy": step[0], "wall": step[1], "checkpoint": float(np.median(checkpoints))}


def terms(atoms: int, threads: int, seconds: float, precision: str, step: float) -> dict[str, float]:
    """Where LAMMPS says that a step goes, s of processor on each rank; atoms and ghosts of a rank.

    The pair style makes neighbour lists of its own within its time: their share is told by a run that makes them at
    every step.
    """
    card = find_potential(DEFAULT)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        lmp = ranks.create_lammps(["-log", str(log), "-screen", "none", "-nocite"])
        style = [f'pair_style mtp "{card.path}" precision {precision} threads {threads}', "pair_coeff * *"]
        run = f"run {max(100, round(seconds / step))}"
        for line in BEGIN:
            lmp.command(line)
        create_box(lmp, argyrodite(0.0, 0.5, SIZES[atoms], a=10.0), card.species)
        set_up(lmp, style, card.species)
        for line in (
            "timestep 0.002", "neighbor 1.0 bin", "neigh_modify delay 0 every 2 check yes", "thermo 50", "timer full",
            "velocity all create 1200 1 mom yes rot no dist gaussian", "fix 1 all npt temp 600 600 0.1 iso 0 0 1",
            "run 500", run, "neigh_modify every 1 check no", run,
        ):  # fmt: skip
            lmp.command(line)
        lmp.close()
        found, often = map(_account, log.read_text().split("Loop time of")[-2:])
    listing = found["builds"] * (often["pair"] - found["pair"]) / (1 - found["builds"])
    found["pair"] -= listing
    found["neigh"] += listing
    return found


def _account(text: str) -> dict[str, float]:
    """What LAMMPS prints after a run with ``timer full``."""
    found = dict[str, float]()
    steps = int(_found(r"for (\d+) steps", text))
    rows = {row[0].strip(): row[1:] for line in text.split("\n") if len(row := line.split("|")) == 7}
    for name in ("Pair", "Neigh", "Comm", "Output", "Modify"):
        # min, avg, max, %varavg, %CPU, %total
        found[name.lower()] = float(rows[name][1]) * float(rows[name][4]) / 100 / steps
    for name in ("Nlocal", "Nghost"):
        found[name.lower()] = float(_found(rf"{name}: +(\S+) ave", text))
    found["builds"] = int(_found(r"Neighbor list builds = (\d+)", text)) / steps
    return found


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"LAMMPS printed no {pattern}"
    return match[1]


@dataclass(frozen=True)
class Model:
    """Time of a step on so many ranks of one thread: a sum of terms that are each measured.

    t = N/p * pair + (N/p + G) * neigh + G * comm + N/p * modify + [p > 1] * latency

    with N/p atoms and G ghosts on a rank; G is what a cube of N/p atoms has within cutoff and skin of its faces.
    Not in it: unequal loads, a clock that falls when all cores work, caches and memory that they share.
    """

    pair: float  # s of an atom
    neigh: float  # s of an atom or a ghost
    comm: float  # s of a ghost
    modify: float  # s of an atom, with output and the rest
    latency: float  # s of a step, of MPI
    density: float = 52 / 10.0**3
    reach: float = 7.0  # A

    def ghosts(self, local: float) -> float:
        """Of a rank with so many atoms."""
        side = (local / self.density) ** (1 / 3)
        return self.density * ((side + 2 * self.reach) ** 3 - side**3)

    def step(self, atoms: int, number: int) -> float:
        """Seconds."""
        n = atoms / number
        g = self.ghosts(n)
        own = n * (self.pair + self.modify) + (n + g) * self.neigh + g * self.comm
        return own + (self.latency if number > 1 else 0.0)


def model(found: list[dict[str, Any]], latency: float | None) -> Model:
    """From the largest cell on one rank of one thread; the latency, if not given, from the smallest on two.

    Ranks wait busily for each other: that latency is only true on a machine that does nothing else.
    """
    one = max((f for f in found if f["ranks"] == f["threads"] == 1), key=lambda f: f["atoms"])
    n, g = one["nlocal"], one["nghost"]
    rest = one["modify"] + one["output"]
    made = Model(one["pair"] / n, one["neigh"] / (n + g), one["comm"] / g, rest / n, 0.0)
    two = min((f for f in found if f["ranks"] == 2 and f["threads"] == 1), key=lambda f: f["atoms"], default=None)
    waited = two["comm"] - two["nghost"] * made.comm + two["modify"] - two["nlocal"] * made.modify if two else 0.0
    return replace(made, latency=max(waited, 0.0) if latency is None else latency)


def predict(made: Model, busy: float | None) -> None:
    """Print what a node of 64 cores would make; `busy` is the time of a step of 3328 atoms with frames, s."""
    us = {name: 1e6 * value for name, value in vars(made).items()}
    print(
        f"\nterms: pair {us['pair']:.3f} and modify {us['modify']:.3f} us an atom, neigh {us['neigh']:.4f} us an atom "
        f"or ghost, comm {us['comm']:.4f} us a ghost, latency {us['latency']:.0f} us a step"
    )
    print("\nPREDICTION for a node of 64 such cores, not measured (one run on so many ranks; efficiency to one rank):")
    print("| ranks | " + " | ".join(f"{n} atoms, ns/day" for n in (3328, 26624)) + " |")
    print("|---|---|---|")
    for number in (1, 2, 4, 8, 16, 32, 64):
        cells = [
            f"{NS_DAY / made.step(n, number):.0f} ({100 * made.step(n, 1) / number / made.step(n, number):.0f} %)"
            for n in (3328, 26624)
        ]
        print(f"| {number} | " + " | ".join(cells) + " |")
    speed = NS_DAY / (busy or made.step(3328, 1))
    hours = [PAPER["runs"] * PAPER["ns"] / (64 * speed * share) * 24 for share in (1.0, 0.6)]
    print(
        f"64 runs of 3328 atoms at once, one core each: {64 * speed:.0f} ns/day if cores do not hinder each other, "
        f"{64 * speed * 0.6:.0f} if each is left 60 % of its speed; the paper's {PAPER['runs']} runs of 10 ns in "
        f"{hours[0]:.1f} to {hours[1]:.1f} hours, plus the unequal last wave"
    )


def case(atoms: int, threads: int, number: int, seconds: float, precision: str) -> dict[str, Any]:
    """`measure` and `terms` in fresh processes."""
    words = [str(atoms), str(threads), str(seconds), precision]
    launch = [str(Path(sysconfig.get_path("scripts")) / "mpiexec"), "-n", str(number)] if number > 1 else []
    command = [*launch, sys.executable, __file__, "--case", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return {"atoms": atoms, "threads": threads, "ranks": number, **json.loads(done.stdout)}


def inside(words: list[str]) -> int:
    """What `case` starts."""
    own = int(words[0]), int(words[1]), float(words[2]), words[3]
    found = measure(*own)
    print(json.dumps({**found, **terms(*own, step=found["wall"])}))
    return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", default=[416, 3328], choices=sorted(SIZES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="each with one thread")
    parser.add_argument("--seconds", type=float, default=5.0, help="to measure each for, twice")
    parser.add_argument(
        "--latency-us", type=float, help="of a step on several ranks, for the prediction; else measured"
    )
    parser.add_argument("--precision", choices=["double", "mixed"], default="double")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        raise SystemExit(ranks.lead(lambda: inside(args.case)))
    print(f"{DEFAULT}, {args.precision}, npt, 2 fs, a frame every 0.1 ps; load of the machine {os.getloadavg()[0]:.1f}")
    print("| atoms | threads x ranks | us of processor an atom and step | ns/day | checkpoint, ms | of the time |")
    print("|---|---|---|---|---|---|")
    found = []
    shapes = [(t, 1) for t in args.threads] + [(1, r) for r in args.ranks if r > 1]
    for atoms in args.atoms:
        for threads, number in shapes:
            one = case(atoms, threads, number, args.seconds, args.precision)
            found.append(one)
            # On a busy machine the wall time is that of the others: what the processor did counts. Ranks wait busily.
            ideal = one["busy"] / threads
            between = 5.0 / 0.7e-6 / atoms * ideal
            print(
                f"| {atoms} | {threads} x {number} | {1e6 * one['busy'] * number / atoms:.3f} "
                f"| {NS_DAY / ideal:.1f} ({NS_DAY / one['wall']:.1f} by the clock) "
                f"| {1e3 * one['checkpoint']:.0f} | {100 * one['checkpoint'] / between:.2f} % |",
                flush=True,
            )
    parts = ("pair", "neigh", "comm", "modify", "output")
    print(f"\n| atoms | threads x ranks | us of processor a step and rank: {' | '.join(parts)} | ghosts | lists made |")
    print("|---|---|---|---|---|---|---|---|---|")
    for f in found:
        times = " | ".join(f"{1e6 * f[part]:.1f}" for part in parts)
        often = f"{f['nghost']:.0f} | 1 in {1 / f['builds']:.0f}"
        print(f"| {f['atoms']} | {f['threads']} x {f['ranks']} | {times} | {often} |")
    alone = {f["atoms"]: f["busy"] for f in found if f["threads"] == f["ranks"] == 1}
    if alone:
        predict(model(found, None if args.latency_us is None else 1e-6 * args.latency_us), alone.get(PAPER["atoms"]))


if __name__ == "__main__":
    main()
