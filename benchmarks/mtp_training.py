"""Training: loss against CPU time, ours and motep's BFGS; time and memory against the number of frames.

    python benchmarks/mtp_training.py loss [--level 10] [--iterations 25] [--motep-minutes 100]
    python benchmarks/mtp_training.py frames [--level 10] [--frames 466 1500 12390] [--threads 2]

`loss`: the labels of the study potential (466 frames of 50 to 52 atoms), the same start, the same loss (energy : force
: stress 1 : 0.01 : 0.001) and no ridge for motep, ours with the default ones; printed is the loss without ridge. CPU
seconds of the process, one core. motep's optimiser is the one that it takes by default, BFGS of scipy with its analytic
gradient. `frames`: the labels repeated with noise (positions 0.02 A, forces alike) up to the paper's 12,390 frames;
seconds and CPU seconds of the fastest of three iterations, and the largest memory of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from argyase.potentials.basis import untrained
from argyase.potentials.fit import Fit, FitSettings, Labels, LossWeights, random_start
from argyase.potentials.mtp_file import MTPFile, write_mtp

LABELS = Path(__file__).parents[1] / "campaigns" / "labels" / "LiPSCl-study-7net0.extxyz.gz"
SPECIES = ("Li", "P", "S", "Cl")
WEIGHTS = LossWeights(1.0, 0.01, 0.001)


def ours(start: MTPFile, labels: Labels, iterations: int) -> float:
    """Print the loss after each iteration; the last."""
    plain = Fit(start, SPECIES, labels, FitSettings(WEIGHTS, ridge_radial=0.0, ridge_linear=0.0))
    begin = time.process_time()
    problem = Fit(start, SPECIES, labels, FitSettings(WEIGHTS, max_iterations=iterations, tolerance=0.0))
    state, watching = problem.start(start), 0.0
    for state in problem.steps(state):  # noqa: B020
        pause = time.process_time()
        loss = plain.loss(state.potential)
        watching += time.process_time() - pause
        print(
            f"ours   {pause - begin - watching:8.1f} CPU s  iteration {state.iteration:3d}  loss {loss:.6g}", flush=True
        )
    return loss


def motep(start: MTPFile, frames: list[Atoms], minutes: float, goal: float) -> None:
    """Run motep's BFGS until the time is over or the goal reached; print the loss now and then."""
    import scipy.optimize
    from motep.io.mlip.mtp import read_mtp
    from motep.loss import LossFunction, LossSetting

    path = Path("motep-start.mtp")
    write_mtp(path, start)
    data = read_mtp(path)
    path.unlink()
    data.species = [3, 15, 16, 17]
    data.optimized = ["moment_coeffs", "species_coeffs", "radial_coeffs"]
    setting = LossSetting(energy_weight=1.0, forces_weight=0.01, stress_weight=0.001, mgrad_weight=0.0)
    loss = LossFunction(frames, data, setting, engine="cext")
    begin, count, best = time.process_time(), 0, np.inf

    class OutOfTime(Exception):
        pass

    def value_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count, best
        value = float(loss(parameters))
        gradient = loss.jac(parameters)
        count, best = count + 1, min(best, value)
        seconds = time.process_time() - begin
        print(f"motep  {seconds:8.1f} CPU s  evaluation {count:3d}  loss {value:.6g}  lowest {best:.6g}", flush=True)
        if seconds > 60 * minutes or best <= goal:
            raise OutOfTime
        return value, gradient

    with contextlib.suppress(OutOfTime):
        scipy.optimize.minimize(value_and_gradient, data.parameters, jac=True, method="BFGS")
    print(f"motep: lowest loss {best:.6g} after {time.process_time() - begin:.0f} CPU s; ours: {goal:.6g}")


def replicated(frames: list[Atoms], count: int) -> list[Atoms]:
    """Frames repeated with noise."""
    rng = np.random.default_rng(0)
    out = []
    for n in range(count):
        source = frames[n % len(frames)]
        atoms = source.copy()
        noise = 0.0 if n < len(frames) else 0.02
        atoms.positions += noise * rng.normal(size=atoms.positions.shape)
        forces = source.get_forces() + noise * rng.normal(size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(
            atoms, energy=source.get_potential_energy(), forces=forces, stress=source.get_stress()
        )
        out.append(atoms)
    return out


def frames_table(frames: list[Atoms], level: int, counts: list[int], threads: int) -> None:
    print(f"level {level}, {threads} threads")
    for count in counts:
        labels = Labels.of(replicated(frames, count))
        start = random_start(untrained(level), labels, SPECIES, 1)
        problem = Fit(start, SPECIES, labels, FitSettings(WEIGHTS, threads=threads))
        state = problem.start(start)
        times, cpu = [], []
        for _ in range(3):
            begin, cpu_begin = time.perf_counter(), time.process_time()
            state = next(problem.steps(state))
            times.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - cpu_begin)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(
            f"{count:6d} frames  {min(times):7.2f} s, {min(cpu):7.2f} CPU s an iteration  {memory:5.2f} GiB", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["loss", "frames"])
    parser.add_argument("--level", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--motep-minutes", type=float, default=100.0)
    parser.add_argument("--frames", type=int, nargs="+", default=[466, 1864, 12390])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    frames = ase.io.read(LABELS, index=":")
    if args.what == "frames":
        frames_table(frames, args.level, args.frames, args.threads)
        return
    labels = Labels.of(frames)
    start = random_start(untrained(args.level), labels, SPECIES, args.seed)
    goal = ours(start, labels, args.iterations)
    # motep starts where our first linear solution is: the best that it can be given.
    solved, _ = Fit(start, SPECIES, labels, FitSettings(WEIGHTS)).solve_linear(start)
    motep(replace(solved, potential_name="start"), frames, args.motep_minutes, goal)


if __name__ == "__main__":
    main()
