"""Speed and memory of the observables, as ratios to named peers in the same run, on the same data.

    python benchmarks/observables.py [--frames 10000] [--rounds 3] [--only msd kinisi vanhove rdf cages lake memory ...]

An argyrodite of 3328 atoms, 1536 Li, at 50 % inversion: anions shaken about their sites, Li shaken about a 48h site and
jumping to another one now and then, 0.1 ps between frames; the data are made up, the work is that of a real run. CPU
seconds of this process on one core, the fastest of some rounds in turn: other work on the machine only ever adds time.
Peers (pip install freud-analysis site-analysis pymatgen-analysis-diffusion kinisi; a missing one is said and left out)
do what they do best: single precision in freud, no neighbour search anew in LAMMPS' compute rdf. Where a peer would
take hours, it does a part, and times are per displacement; kinisi gets the first 1600 frames, which take it two and a
half minutes (its time goes with their square). ``lake`` reads from a lake on disk, decoding included. ``memory`` is the
largest resident size of a process of its own, less that of one that has imported the same and holds one chunk.
``calibration`` is the long version of the tests of the same name: how often 95 % intervals hold the truth.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from argyase.physics.collective import collective, species_sums
from argyase.physics.density import density
from argyase.physics.intervals import event_rate
from argyase.physics.jumps import site_jumps
from argyase.physics.msd import mean_squared_displacement
from argyase.physics.msd import msd as diffusion
from argyase.physics.rdf import coordination, site_labels
from argyase.physics.vanhove import default_lags, van_hove_self
from argyase.structures import sites
from argyase.structures.argyrodite import argyrodite
from argyase.units import A2_PER_PS_TO_CM2_PER_S

STEP = 0.1  # ps
CHUNK = 250
ATOMS = argyrodite(0.0, 0.5, (4, 4, 4), 1)
SPECIES = np.array(ATOMS.get_chemical_symbols())
LITHIUM = SPECIES == "Li"
CELL = ATOMS.cell.array


JUMPS = 0.01  # of an ion in a frame


def jumps() -> np.ndarray:
    """Vectors from a 48h site to the 19 nearest, (jump, 3); half of the time the other way."""
    h48 = sites.tile(sites.wyckoff("48h"), (4, 4, 4)) * CELL[0, 0] / 4
    steps = (h48 - h48[0] + CELL[0, 0] / 2) % CELL[0, 0] - CELL[0, 0] / 2
    return np.asarray(steps[np.argsort(np.linalg.norm(steps, axis=1))[1:20]])


def lithium_paths(frames: int, seed: int = 0) -> np.ndarray:
    """Unwrapped paths of 1536 Li, (frame, ion, 3)."""
    rng = np.random.default_rng(seed)
    steps = jumps()
    place = ATOMS.positions[LITHIUM].copy()
    paths = np.empty((frames, len(place), 3))
    for t in range(frames):
        jumping = np.flatnonzero(rng.random(len(place)) < JUMPS)
        place[jumping] += steps[rng.integers(len(steps), size=len(jumping))] * rng.choice([-1, 1], (len(jumping), 1))
        paths[t] = place
    paths += rng.normal(0.0, 0.2, paths.shape)
    return paths


def chunks(paths: np.ndarray, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The whole crystal, piece by piece."""
    rng = np.random.default_rng(seed)
    for first in range(0, len(paths), CHUNK):
        part = paths[first : first + CHUNK]
        everything = ATOMS.positions + rng.normal(0.0, 0.15, (len(part), len(ATOMS), 3))
        everything[:, LITHIUM] = part
        yield everything, np.tile(CELL, (len(part), 1, 1))


def fastest(rounds: int, **contestants: Callable[[], object]) -> dict[str, float]:
    """CPU seconds of the fastest round of each; they take turns."""
    best = dict.fromkeys(contestants, np.inf)
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


def peer(name: str) -> Any:
    """A peer's module, or None, said."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"  ({name} is not installed: left out)")
        return None


def table(title: str, ours: str, times: dict[str, float], unit: str, per: float) -> None:
    """Times per something, and ratios to ours."""
    print(title)
    for name, seconds in times.items():
        print(f"  {name:58s} {seconds / per:12.4g} {unit}   {seconds / times[ours]:10.3g} x")


def msd(paths: np.ndarray, rounds: int) -> None:
    runs: dict[str, Callable[[], object]] = {"argyase": lambda: mean_squared_displacement(paths)}
    if freud := peer("freud"):
        box = freud.box.Box.cube(1e6)  # far from its faces: positions are unwrapped
        runs["freud"] = lambda: freud.msd.MSD(box, "window").compute(paths)
    if analyzer := peer("pymatgen.analysis.diffusion.analyzer"):
        by_ion = np.ascontiguousarray(paths.swapaxes(0, 1))
        runs["pymatgen-analysis-diffusion"] = lambda: analyzer._msd_from_positions_fft(by_ion)
    found = fastest(rounds, **runs)
    table(f"MSD, all lags and origins, {len(paths)} frames of 1536 Li", "argyase", found, "s", 1.0)


def kinisi(paths: np.ndarray, rounds: int) -> None:
    """D with its interval, from the MSD at all lags; kinisi once, fitting from the lag from which argyase does."""
    paths = paths[:1600]
    ours = fastest(rounds, argyase=lambda: diffusion(paths, STEP))
    found = diffusion(paths, STEP)
    said = {"argyase": [float(found[f"diffusivity{end}"]) for end in ("", "_low", "_high")]}
    if peer("kinisi"):
        import scipp
        from kinisi.diffusion_analyzer import DiffusionAnalyzer
        from kinisi.displacement import calculate_msd
        from kinisi.parser import Parser

        # Its last particle stands still, for the drift. Times in fs: kinisi truncates time / step, and 0.3 / 0.1 is 2.
        still = np.concatenate([paths / CELL[0, 0], np.zeros((len(paths), 1, 3))], axis=1)
        fs, ions = scipp.Unit("fs"), paths.shape[1]
        start = time.process_time()
        parser = Parser(
            scipp.array(dims=["time", "particle", "dimension"], values=still, unit="one"),
            scipp.array(dims=["time", "row", "column"], values=np.tile(CELL, (len(paths), 1, 1)), unit="angstrom"),
            time_step=2.0 * fs,
            step_skip=round(1000 * STEP / 2.0) * scipp.Unit("one"),
            specie_indices=scipp.arange("particle", ions),
            drift_indices=scipp.array(dims=["particle"], values=[ions]),
        )
        analyzer = DiffusionAnalyzer(parser)
        analyzer._dg = calculate_msd(parser, progress=False)
        analyzer.diffusion(float(found["fit_start"]) * 1000 * fs, progress=False, random_state=np.random.RandomState(1))
        ours["kinisi, once"] = time.process_time() - start
        samples = analyzer.D.values
        said["kinisi"] = [float(samples.mean()), *np.percentile(samples, [2.5, 97.5]).tolist()]
        theirs = analyzer.msd.values
        difference = np.abs(theirs / found["msd"].values[1 : 1 + len(theirs)] - 1).max()
        print(f"MSD at {len(theirs)} lags: largest relative difference {difference:.1e}")
    table(f"D with its interval, {len(paths)} frames of 1536 Li, all lags", "argyase", ours, "s", 1.0)
    exact = JUMPS / STEP * float((jumps() ** 2).sum(axis=1).mean()) / 6 * A2_PER_PS_TO_CM2_PER_S
    print(f"  {'exact D':58s} {1e5 * exact:12.4g} 1e-5 cm2/s")
    for name, (value, low, high) in said.items():
        print(f"  {name:58s} {1e5 * value:12.4g} ({1e5 * low:.4g} ... {1e5 * high:.4g})")


def vanhove(paths: np.ndarray, rounds: int) -> None:
    lags = default_lags(len(paths))
    ours = fastest(rounds, argyase=lambda: van_hove_self(paths, STEP))["argyase"]
    count = sum(len(paths) - int(n) for n in lags) * paths.shape[1]
    times = {f"argyase, {count:.2g} displacements, with alpha_2": ours / count}
    if module := peer("pymatgen.analysis.diffusion.aimd.van_hove"):
        from pymatgen.core import Lattice, Structure

        class Analyzer:
            """What VanHoveAnalysis asks of an analyzer; one Cl, so that its distinct part costs nothing."""

            ions, steps = 96, 150
            time_step, step_skip = 100.0, 1
            disp = np.zeros((ions + 1, steps, 3))
            structure = Structure(Lattice(CELL), ["Li"] * ions + ["Cl"], np.zeros((ions + 1, 3)))

            def get_drift_corrected_structures(self) -> Iterator[Any]:
                for t in range(self.steps):
                    place = np.concatenate([paths[t, : self.ions], np.zeros((1, 3))])
                    yield Structure(Lattice(CELL), self.structure.species, place, coords_are_cartesian=True)

        start = time.process_time()
        list(Analyzer().get_drift_corrected_structures())
        reading = time.process_time() - start  # making structures is not what is compared
        start = time.process_time()
        module.VanHoveAnalysis(
            Analyzer(), avg_nsteps=50, ngrid=101, rmax=10.0, step_skip=10, species=("Li",), reference_species=("Cl",)
        )
        seconds = time.process_time() - start - reading
        times["pymatgen-analysis-diffusion, 53,000 displacements"] = seconds / (11 * 50 * 96)
    first = next(iter(times))
    table(f"G_s, {len(lags)} lags, all origins, {len(paths)} frames of 1536 Li", first, times, "ns each", 1e-9)


def rdf(paths: np.ndarray, rounds: int) -> None:
    frames = list(chunks(paths[:20]))
    labels = site_labels(SPECIES, ATOMS.arrays["site"])
    pairs = [("Li", "Cl(4d)"), ("Li", "Li")]
    runs: dict[str, Callable[[], object]] = {
        "argyase, by sites, with errors": lambda: coordination(frames, labels, pairs, 20, r_max=10.0, bins=200)
    }
    if freud := peer("freud"):
        box = freud.box.Box.cube(CELL[0, 0])

        def of_freud() -> None:
            g = freud.density.RDF(200, 10.0)
            for place in frames[0][0]:
                g.compute((box, box.wrap(place)), reset=False)

        runs["freud"] = of_freud
    fresh, stale = _lammps_rdf(frames[0][0], 1), _lammps_rdf(frames[0][0], 10**6)
    runs["LAMMPS compute rdf"] = lambda: fresh(20)
    runs["LAMMPS compute rdf, neighbours known from the frame before"] = lambda: stale(20)
    table("RDF to 10 A, 3328 atoms", "argyase, by sites, with errors", fastest(rounds, **runs), "ms a frame", 20e-3)


def _lammps_rdf(places: np.ndarray, every: int) -> Callable[[int], object]:
    """Frames of LAMMPS' compute rdf, with a neighbour list made anew `every` so many of them."""
    from argyase.potentials.lammps_plugin import create_lammps

    lmp = create_lammps(["-log", "none", "-screen", "none", "-nocite"])
    side = CELL[0, 0]
    kinds = [sorted(set(SPECIES.tolist())).index(s) + 1 for s in SPECIES.tolist()]
    for line in (
        "units metal", "atom_style atomic", f"region box block 0 {side} 0 {side} 0 {side}", "create_box 4 box",
    ):  # fmt: skip
        lmp.command(line)
    lmp.create_atoms(len(kinds), list(range(1, len(kinds) + 1)), kinds, (places[0] % side).ravel().tolist())
    for line in (
        "mass * 1.0", "pair_style zero 10.0 full", "pair_coeff * *", "neighbor 0.3 bin",
        f"neigh_modify delay 0 every {every} check no",
        "compute g all rdf 200 cutoff 10.0", "fix out all ave/time 1 1 1 c_g[*] mode vector", "run 0",
    ):  # fmt: skip
        lmp.command(line)
    return lambda steps: lmp.command(f"run {steps} pre no post no")


def cages(paths: np.ndarray, rounds: int) -> None:
    part = list(chunks(paths[: 2 * CHUNK]))
    frames = 2 * CHUNK
    name = "argyase: T1-T5, cages, jumps with errors, network"
    runs: dict[str, Callable[[], object]] = {name: lambda: site_jumps(part, SPECIES, STEP)}
    site_jumps(part[:1], SPECIES, STEP)
    times = {k: v / frames for k, v in fastest(rounds, **runs).items()}
    if (collection := peer("site_analysis.voronoi_site_collection")) is not None:
        from site_analysis.atom import Atom
        from site_analysis.voronoi_site import VoronoiSite

        centres = sites.tile(sites.wyckoff("4d"), (4, 4, 4)) / 4
        theirs = collection.VoronoiSiteCollection([VoronoiSite(c) for c in centres])
        atoms = [Atom(index=int(i)) for i in np.flatnonzero(LITHIUM)]

        def voronoi() -> None:
            for place in part[0][0][:5]:
                fractional = place / CELL[0, 0] % 1.0
                for atom in atoms:
                    atom.assign_coords(fractional)
                theirs.assign_site_occupations(atoms, CELL)

        times["site-analysis: nearest of 256 cages (Voronoi)"] = fastest(rounds, v=voronoi)["v"] / 5
    table("Sites of 1536 Li", name, times, "ms a frame", 1e-3)


def store(folder: str, pieces: Iterable[tuple[np.ndarray, np.ndarray]], frames: int) -> str:
    """Write a trajectory into a new lake; the id of the run."""
    from argyase.datalake.lake import Lake
    from argyase.schemas import INGEST

    with Lake(folder).begin("ingest", {"benchmark": 1}, schema=INGEST) as attempt:
        labels = {"species": SPECIES, "atom_id": np.arange(len(SPECIES)), "site": ATOMS.arrays["site"],
                  "cage": ATOMS.arrays["cage"]}  # fmt: skip
        writer = attempt.trajectory_writer(n_atoms=len(SPECIES), n_frames=frames, coords=labels, time_step_ps=STEP)
        for places, cells in pieces:
            for place, cell in zip(places, cells, strict=True):
                writer.append(place, cell)
        writer.finish()
        volume = np.full(frames, abs(np.linalg.det(CELL)))
        return str(attempt.publish(INGEST.dataset(time=writer.times(), volume=volume)))


def lake(paths: np.ndarray, rounds: int) -> None:
    """From a lake on disk: what reading costs, and the stages' work with it."""
    from argyase.datalake.lake import Lake

    frames = min(len(paths), 2000)
    with tempfile.TemporaryDirectory() as folder:
        reader = Lake(folder).trajectory(store(folder, chunks(paths[:frames]), frames))

        def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for _, places, cells in reader.chunks():
                yield places, cells

        def read() -> None:
            for _ in pieces():
                pass

        found = fastest(
            rounds,
            **{
                "reading and decoding only": read,
                "site-resolved jumps": lambda: site_jumps(pieces(), SPECIES, STEP),
                "density, 0.3 A": lambda: density(pieces(), SPECIES, frames, 500.0),
                "sums for conductivity": lambda: species_sums(pieces(), SPECIES),
            },
        )
        table(
            f"From a lake, {frames} frames of 3328 atoms",
            "reading and decoding only",
            found,
            "ms a frame",
            frames * 1e-3,
        )


_JOBS = ("none", "jumps", "sums", "density", "msd", "hops")


def memory(frames: int) -> None:
    """Largest resident size for many frames, less that of holding one chunk."""
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        store(folder, to_and_fro(frames), frames)
        for job in _JOBS:
            command = [sys.executable, __file__, "--job", job, "--frames", str(frames), "--lake", folder]
            sizes[job] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"Memory for {frames} frames of 3328 atoms, above that of one chunk of {CHUNK} (MiB)")
    for job in _JOBS[1:]:
        print(f"  {job:58s} {sizes[job] - sizes['none']:12.0f}")


def to_and_fro(frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same chunk to and fro, so that no path is broken: work and memory of a long run, if not its physics."""
    places, cells = next(chunks(lithium_paths(CHUNK)))
    pieces = [(places, cells), (places[::-1].copy(), cells)]
    for n in range(frames // CHUNK):
        yield pieces[n % 2]


def _job(job: str, frames: int, folder: str) -> None:
    if job == "jumps":
        site_jumps(to_and_fro(frames), SPECIES, STEP, temperature=500.0)
    elif job == "density":
        density(to_and_fro(frames), SPECIES, frames, 500.0)
    elif job in ("msd", "hops"):
        from argyase.datalake.lake import Lake

        stage = importlib.import_module(f"argyase.stages.{job}")
        (run,) = Lake(folder).search("ingest")
        stage.run(stage.Config(run.id), Lake(folder))
    elif job == "sums":
        sums = species_sums(to_and_fro(frames), SPECIES)

        def blocks() -> Iterator[np.ndarray]:
            size = 2_000_000 // frames
            for first in range(0, 1536, size):
                yield np.zeros((frames, min(size, 1536 - first), 3))

        collective(sums, blocks(), STEP, 500.0)
    else:  # what the others do at the least: compiled code, and a chunk
        mean_squared_displacement(np.zeros((4, 1, 3)))
        for places, cells in to_and_fro(2 * CHUNK):
            places @ np.linalg.inv(cells)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def calibration(trials: int = 1000) -> None:
    """How often 95 % intervals hold the truth; the binomial error of 1000 trials is 0.7 %."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "physics"))
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    collective_tests = importlib.import_module("test_collective")
    walks = importlib.import_module("walks")
    print(f"95 % intervals that hold the truth, of {trials}")
    cases = {"independent": (walks.brownian, 1.0), "groups of 8": (walks.concerted, 1 / 8),
             "half in common": (collective_tests.half_common, 1 / 8.5)}  # fmt: skip
    for name, (walk, haven) in cases.items():
        hits = 0
        for seed in range(trials):
            rng = np.random.default_rng(10_000 + seed)
            found = collective_tests.analysed(walk(rng, 400, 16), rng)
            hits += float(found.haven_ratio_low) <= haven <= float(found.haven_ratio_high)
        print(f"  {'Haven ratio, ' + name:58s} {hits / trials:12.3f}")
    for mean in (20.0, 100.0, 1000.0):
        rng = np.random.default_rng(7)
        hits = 0
        for _ in range(trials):
            found = event_rate(rng.poisson(mean / 10, 10), np.ones(10))
            hits += found.low <= mean / 10 <= found.high
        print(f"  {f'rate of {mean:g} events':58s} {hits / trials:12.3f}")
    for mixed in (False, True):
        hits = 0
        for seed in range(trials):
            rng = np.random.default_rng(20_000 + seed)
            paths = walks.brownian(rng, 400, 60)
            paths[:, ::2] *= np.sqrt(3.0) if mixed else 1.0
            found = van_hove_self(paths, 1.0, lags=[20]).isel(lag=0)
            hits += float(found.non_gaussian_low) <= 0.25 * mixed <= float(found.non_gaussian_high)
        print(f"  {'alpha_2, ' + ('two kinds of ions' if mixed else 'Brownian'):58s} {hits / trials:12.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("msd", "kinisi", "vanhove", "rdf", "cages", "lake", "memory", "calibration")
    parser.add_argument("--frames", type=int, default=10_000, help="default: 10000; for memory ten times as many")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default: 3)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what to run (default: all)")
    parser.add_argument("--job", choices=_JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        _job(args.job, args.frames, args.lake)
        return
    measured = [n for n in args.only if n not in ("memory", "calibration")]
    paths = lithium_paths(args.frames) if measured else np.empty(0)
    for name in measured:
        {"msd": msd, "kinisi": kinisi, "vanhove": vanhove, "rdf": rdf, "cages": cages, "lake": lake}[name](
            paths, args.rounds
        )
    if "memory" in args.only:
        memory(10 * args.frames)
    if "calibration" in args.only:
        calibration()


if __name__ == "__main__":
    main()
