"""Speed of ``pair_style mtp`` and of the ASE calculator, as ratios to named peers in the same run.

    python benchmarks/mtp_kernel.py [--cells 4] [--rounds 10] [--tables] [--peer PLUGIN.so:STYLE]

Li6PS5Cl at 50 % inversion, 52 atoms a unit cell (3328 for 4x4x4), level 10, 4 species, 6 A. A step of LAMMPS is a whole
NVE step at 300 K, 2 fs, neighbour rebuilds included, after 2 ps with a thermostat; motep and the ASE calculator compute
a frame of such a run. The contestants take turns, and the fastest round of each counts: other work on the machine only
ever adds time. Peers are motep's C engine through ASE and, if you have compiled one as a
LAMMPS plugin, any other pair style that reads .mtp files (``--peer``). ``--tables`` adds tables of what one may ask for
besides (NPT, per-atom quantities, threads, ranks, the extrapolation grade), of level x species (evaluations of a
crystal at rest by the ASE calculator, random coefficients) and of generated moments against those of MLIP's files.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core: no threads that wait for linear algebra

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from motep.calculator import MTP as MotepMTP
from motep.io.mlip.mtp import read_mtp

from argyase.potentials.basis import untrained
from argyase.potentials.lammps_plugin import create_lammps
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, parse_mtp, write_mtp
from argyase.structures.argyrodite import argyrodite

SYMBOLS = ("Li", "P", "S", "Cl", "Br", "I")
LEVELS = Path(__file__).parents[1] / "tests" / "data" / "mlip"


class Steps:
    """MD steps in LAMMPS, some at a time."""

    def __init__(self, atoms: Atoms, pair: str, *, ensemble: str = "nve", extra: Sequence[str] = ()) -> None:
        potential = find_potential("LiPSCl-study")
        self._lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
        x, y, z = atoms.cell.lengths()
        other = ":" in pair
        if other:
            plugin, style = pair.split(":")
            self._run(f'plugin load "{plugin}"')
            pair = f'{style} "{potential.path}"'
        else:
            pair = f'mtp "{potential.path}" {pair}'
        self._run("units metal", "atom_style atomic", "atom_modify map yes", "newton on")
        self._run(f"region box block 0 {x} 0 {y} 0 {z}", f"create_box {len(potential.species)} box")
        types = [potential.species.index(s) + 1 for s in atoms.get_chemical_symbols()]
        wrapped = atoms.get_positions(wrap=True)
        # All ranks create all atoms; LAMMPS keeps those of its own part.
        self._lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, wrapped.ravel().tolist())
        for number, symbol in enumerate(potential.species, 1):
            self._run(f"mass {number} {atomic_masses[atomic_numbers[symbol]]}")
        self._run(f"pair_style {pair}", "pair_coeff * *", "timestep 0.002", "neighbor 1.0 bin")
        self._run("neigh_modify delay 0 every 2 check yes", "thermo 1000000", "velocity all create 300 1 mom yes")
        self._run("fix heat all langevin 300 300 0.05 1", "fix ensemble all nve", "run 1000")
        self._run("unfix heat", "unfix ensemble", f"fix ensemble all {ensemble}", *extra, "run 100")
        self._steps = 10 if other else 50
        self.frame = atoms.copy()
        self.frame.positions = np.array(self._lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)

    def _run(self, *commands: str) -> None:
        for command in commands:
            self._lmp.command(command)

    def __call__(self) -> float:
        """Seconds of a step."""
        self._run("run 0 post no")
        start = time.perf_counter()
        self._run(f"run {self._steps} pre no post no")
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


def crystal(cells: int) -> Atoms:
    """Li6PS5Cl at 50 % inversion."""
    return argyrodite(0.0, 0.5, (cells, cells, cells), seed=1, a=10.0)


def against_peers(cells: int, rounds: int, peer: str | None) -> None:
    potential = find_potential("LiPSCl-study")
    data = read_mtp(potential.path)
    data.species = [3, 15, 16, 17]
    for n in (1, cells):
        atoms = crystal(n)
        steps = Steps(atoms, "")
        frame = steps.frame
        motep = "motep 0.2.0, C engine, ASE"
        contestants: dict[str, Callable[[], float]] = {motep: calls(MotepMTP(data, engine="cext"), frame)}
        if n > 1:
            if peer:
                contestants[peer.split(":")[1] + ", MD step"] = Steps(atoms, peer)
            contestants["pair_style mtp, MD step"] = steps
            contestants["the same, precision mixed"] = Steps(atoms, "precision mixed")
        contestants["ASE calculator"] = calls(MTP(potential.path, potential.species), frame)
        best = fastest(contestants, rounds)
        print(f"{len(atoms)} atoms, one core")
        style = peer.split(":")[1] + ", MD step" if peer else ""
        for name, seconds in best.items():
            ratio = f"{best[style] / seconds:8.1f} x {style}" if style in best else ""
            print(
                f"  {name:32s} {1e6 * seconds / len(atoms):8.3f} us/atom {best[motep] / seconds:8.1f} x motep {ratio}"
            )


def table_of_extras(cells: int, rounds: int) -> None:
    atoms = crystal(cells)
    per_atom = ["compute e all pe/atom", "compute s all stress/atom NULL virial"]
    average = "fix average all ave/atom {0} 1 {0} c_e c_s[1]"
    barostat = "npt temp 300 300 0.1 iso 0 0 1"
    contestants: dict[str, Callable[[], float]] = {
        "NVE": Steps(atoms, ""),
        "NPT": Steps(atoms, "", ensemble=barostat),
        "NVE, pe/atom and stress/atom every 10": Steps(atoms, "", extra=[*per_atom, average.format(10)]),
        "NVE, pe/atom and stress/atom every step": Steps(atoms, "", extra=[*per_atom, average.format(1)]),
        "NVE, threads 2": Steps(atoms, "threads 2"),
    }
    best = fastest(contestants, rounds)
    print(f"{len(atoms)} atoms, us/atom/step, and the time of NVE on one thread over it")
    for name, seconds in best.items():
        print(f"  {name:42s} {1e6 * seconds / len(atoms):7.3f} {best['NVE'] / seconds:6.2f}")


def table_of_ranks(cells: int, rounds: int) -> None:
    """Whole processes, one after the other; and two that have nothing to do with each other, at once: what two cores
    of this machine are worth.
    """
    launcher = Path(sysconfig.get_path("scripts")) / "mpiexec"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(ranks: int) -> subprocess.Popen[str]:
        command = [str(launcher), "-n", str(ranks), sys.executable, __file__, "--cells", str(cells), "--child"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def seconds(process: subprocess.Popen[str]) -> float:
        return float(process.communicate()[0][:12])

    one = two = apart = np.inf
    for _ in range(max(1, rounds // 5)):
        one, two = min(one, seconds(start(1))), min(two, seconds(start(2)))
        pair = [start(1), start(1)]
        apart = min(apart, sum(map(seconds, pair)) / 2)
    for name, time_of_step, times in (("1 rank", one, 1), ("2 ranks", two, 1), ("2 separate runs at once", apart, 2)):
        print(f"  NVE, {name:37s} {1e6 * time_of_step / (52 * cells**3):7.3f} {times * one / time_of_step:6.2f}")


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
    atoms = crystal(cells)
    for level in range(2, 22, 2):
        row = ""
        for species in columns:
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


def table_of_generated(cells: int, rounds: int) -> None:
    """The moments that `argyase.potentials.basis` generates, against those of the files of MLIP."""
    print("us/atom of an evaluation by the ASE calculator, 4 species, and products: files of MLIP, generated")
    atoms = crystal(cells)
    for level in (10, 16, 20):
        mlip, own = random_potential(level, 4), untrained(level)
        potentials = {
            "mlip": mlip,
            "generated": replace(
                own,
                species_count=4,
                min_dist=mlip.min_dist,
                scaling=mlip.scaling,
                radial_coeffs=mlip.radial_coeffs,
                species_coeffs=mlip.species_coeffs,
                moment_coeffs=np.ones(len(own.alpha_moment_mapping)),
            ),
        }
        best = fastest({name: calls(MTP(p, SYMBOLS[:4]), atoms) for name, p in potentials.items()}, rounds)
        products = [len(p.alpha_index_times) for p in potentials.values()]
        times = [1e6 * seconds / len(atoms) for seconds in best.values()]
        print(f"{level:5d} {times[0]:9.2f} {times[1]:9.2f} {products[0]:9d} {products[1]:9d}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--peer", metavar="PLUGIN.so:STYLE", help="another pair style for .mtp files, as a plugin")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        steps = Steps(crystal(args.cells), "")
        print(min(steps() for _ in range(10)), flush=True)
        return
    against_peers(args.cells, args.rounds, args.peer)
    if args.tables:
        table_of_extras(args.cells, args.rounds)
        table_of_ranks(args.cells, args.rounds)
        table_of_levels(2, max(1, args.rounds // 5))
        table_of_generated(2, args.rounds)


if __name__ == "__main__":
    main()
