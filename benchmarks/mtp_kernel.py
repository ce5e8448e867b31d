"""Speed of ``pair_style mtp`` and of the ASE calculator, as ratios to motep's C engine in the same run.

    python benchmarks/mtp_kernel.py [--cells 4] [--rounds 5] [--tables]

Li6PS5Cl at 50 % inversion, 52 atoms a unit cell (3328 for 4x4x4), level 10, 4 species, 6 A. A step of LAMMPS is a whole
NVE step at 300 K, 2 fs, neighbour rebuilds included. The contestants take turns, and the fastest round of each counts:
other work on the machine only ever adds time. ``--tables`` adds a table of level x species (force evaluations of a
crystal at rest, random coefficients) and one of threads.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms
from motep.calculator import MTP as MotepMTP
from motep.io.mlip.mtp import read_mtp

from argyase.dynamics.lammps_md import LammpsMD, LammpsSettings
from argyase.dynamics.protocols import Segment
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, parse_mtp, write_mtp
from argyase.structures.argyrodite import argyrodite

SYMBOLS = ("Li", "P", "S", "Cl", "Br", "I")
LEVELS = Path(__file__).parents[1] / "tests" / "data" / "mlip"


class Steps:
    """MD steps, some at a time."""

    def __init__(self, atoms: Atoms, **options: object) -> None:
        potential = find_potential("LiPSCl-study")
        segments = (Segment("equilibrate", "nve", duration_ps=0.2), Segment("produce", "nve", duration_ps=1000.0))
        settings = LammpsSettings(300.0, segments, sample_ps=0.1, max_temperature_factor=5.0, **options)  # type: ignore[arg-type]
        self._frames = LammpsMD(atoms, potential.path, potential.species, settings).frames()
        self._steps = settings.sample_steps
        for _ in range(4):
            next(self._frames)

    def __call__(self) -> float:
        """Seconds of a step."""
        start = time.perf_counter()
        next(self._frames)
        return (time.perf_counter() - start) / self._steps


def once(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def calls(calculator: MTP | MotepMTP, atoms: Atoms) -> Callable[[], float]:
    """Seconds of one calculation, the fastest of as many as fit into a twentieth of a second."""

    def turn() -> float:
        best, start = np.inf, time.perf_counter()
        while time.perf_counter() - start < 0.05 or best == np.inf:
            best = min(best, once(lambda: calculator.calculate(atoms, ["energy", "forces", "stress"])))
        return best

    return turn


def fastest(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The fastest of `rounds` turns of each."""
    best = dict.fromkeys(contestants, np.inf)
    for _ in range(rounds):
        for name, contestant in contestants.items():
            best[name] = min(best[name], contestant())
    return best


def against_motep(cells: int, rounds: int) -> None:
    potential = find_potential("LiPSCl-study")
    data = read_mtp(potential.path)
    data.species = [3, 15, 16, 17]
    for n in (1, cells):
        atoms = argyrodite(0.0, 0.5, (n, n, n), seed=1, a=10.0)
        peer = "motep 0.2.0, C engine, ASE"
        contestants: dict[str, Callable[[], float]] = {peer: calls(MotepMTP(data, engine="cext"), atoms)}
        if n > 1:
            contestants["pair_style mtp, MD step"] = Steps(atoms)
            contestants["the same, precision mixed"] = Steps(atoms, precision="mixed")
        contestants["ASE calculator"] = calls(MTP(potential.path, potential.species), atoms)
        best = fastest(contestants, rounds)
        print(f"{len(atoms)} atoms, one core")
        for name, seconds in best.items():
            print(f"  {name:32s} {1e6 * seconds / len(atoms):8.3f} us/atom {best[peer] / seconds:8.1f} x")


def random_potential(level: int, species: int) -> MTPFile:
    """The moments of a level, random coefficients, 6 A."""
    path = LEVELS / f"cubic-{level:02d}.mtp.gz"
    template = parse_mtp(gzip.decompress(path.read_bytes()), path.name)
    shape = (species, species, *template.radial_coeffs.shape[2:])
    coefficients = np.random.default_rng(level).normal(size=shape)
    return replace(
        template, species_count=species, max_dist=6.0, radial_coeffs=coefficients, species_coeffs=np.zeros(species)
    )


def table_of_levels(cells: int, rounds: int) -> None:
    columns = (1, 2, 4, 6)
    print("us/atom of an evaluation by the ASE calculator, and how many times as fast as motep (1 core)")
    print("level " + "".join(f"{n:>8d} species" for n in columns))
    crystal = argyrodite(0.0, 0.5, (cells, cells, cells), seed=1, a=10.0)
    for level in range(2, 22, 2):
        row = ""
        for species in columns:
            atoms = crystal.copy()
            atoms.symbols = np.random.default_rng(0).choice(SYMBOLS[:species], len(atoms))
            potential = random_potential(level, species)
            with TemporaryDirectory() as folder:
                write_mtp(Path(folder) / "p.mtp", potential)
                data = read_mtp(Path(folder) / "p.mtp")
            data.species = [Atoms(s).numbers[0] for s in SYMBOLS[:species]]
            ours, theirs = MTP(potential, SYMBOLS[:species]), MotepMTP(data, engine="cext")
            best = fastest({"ours": calls(ours, atoms), "motep": calls(theirs, atoms)}, rounds)
            row += f"{1e6 * best['ours'] / len(atoms):9.2f} {best['motep'] / best['ours']:4.0f} x"
        print(f"{level:5d} {row}")


def table_of_threads(cells: int, rounds: int) -> None:
    atoms = argyrodite(0.0, 0.5, (cells, cells, cells), seed=1, a=10.0)
    best = fastest({str(n): Steps(atoms, threads=n) for n in (1, 2)}, rounds)
    for n, seconds in best.items():
        print(f"{n} thread(s): {1e6 * seconds / len(atoms):6.3f} us/atom, {best['1'] / seconds:5.2f} x one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    against_motep(args.cells, args.rounds)
    if args.tables:
        table_of_threads(args.cells, args.rounds)
        table_of_levels(2, args.rounds)


if __name__ == "__main__":
    main()
