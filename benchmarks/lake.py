"""The lake: trajectories against LAMMPS dump, extended XYZ and XTC; searches and cubes of thousands of runs.

    python benchmarks/lake.py [trajectory] [queries] [--frames 5000] [--folder /tmp/lake-benchmark]

`trajectory`: 3328 atoms that vibrate (0.15 A; Li 0.3 A and diffusing), one process, files in --folder; each time is the
best of three reads. Text formats are slow: they get --text-frames frames, and their time over all frames is scaled from
that, which is what reading a file from its begin to its end costs. LAMMPS writes its own dump, ASE extended XYZ,
chemfiles (pip install chemfiles) XTC. `queries`: 10,000 records of conductivities and 1000 van Hove maps of 84 lags and
120 distances; each time is that of a new `Lake`, so with nothing in memory; targets beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from ase import Atoms
from numpy.typing import NDArray

from argyase.datalake.files import sealed
from argyase.datalake.lake import FORMATS, Lake
from argyase.datalake.trajectory import trajectory_file
from argyase.schemas import CONDUCTIVITY, VANHOVE

clock = time.perf_counter

SPECIES = ["Li"] * 1536 + ["P"] * 256 + ["S"] * 1280 + ["Cl"] * 256
SIDE = 40.0


def motion(frames: int, seed: int = 1) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Vibrations with a memory of 0.1 ps, a frame each 0.1 ps; Li diffuses by 1e-5 cm2/s; the cell breathes."""
    rng = np.random.default_rng(seed)
    n = len(SPECIES)
    lithium = np.array([s == "Li" for s in SPECIES])[:, None]
    amplitude = np.where(lithium, 0.3, 0.15)
    memory = np.exp(-1.0)
    # D = 1e-5 cm2/s = 0.1 A2/ps; a step of 0.1 ps has the variance 2 D t along each axis.
    step = np.where(lithium, np.sqrt(2 * 0.1 * 0.1), 0.0)
    home, shake = rng.random((n, 3)) * SIDE, amplitude * rng.normal(size=(n, 3))
    for _ in range(frames):
        home += step * rng.normal(size=(n, 3))
        shake = memory * shake + np.sqrt(1 - memory**2) * amplitude * rng.normal(size=(n, 3))
        yield home + shake, np.diag(SIDE + 0.05 * rng.normal(size=3))


def process_time() -> float:
    """Processor time of this process and of those it started, s."""
    return sum(os.times()[:4])


def best(function: Callable[[], Any], often: int = 3) -> float:
    """Fastest of a few, s."""
    times = []
    for _ in range(often):
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)


def size(path: Path) -> int:
    """Bytes of a file or folder."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def trajectories(folder: Path, frames: int, text_frames: int) -> None:
    """Print the table of formats."""
    print("| format | frames | B/coordinate | frames/s written | one frame, ms | one atom, ms | Li, s | error, A |")
    print("|---|---|---|---|---|---|---|---|")
    # Made before the clocks start: only writing is timed.
    whole = [(r.copy(), cell) for r, cell in motion(frames)]

    def line(
        name: str, path: Path, n: int, wrote: float, frame: float, atom: float, lithium: float, error: float
    ) -> None:
        density = size(path) / (n * len(SPECIES) * 3)
        cells = [f"{density:.2f}", f"{n / wrote:.0f}", f"{1e3 * frame:.1f}", f"{1e3 * atom:.0f}", f"{lithium:.2f}"]
        print(f"| {name} | {n} | {' | '.join(cells)} | {error:.0e} |", flush=True)

    middle, lithium = frames // 2, np.array([s == "Li" for s in SPECIES])
    for form in FORMATS:
        lake = Lake(folder / form)
        lake.set_format(form)
        with lake.begin("md", {"seed": 1}) as attempt:
            start = clock()
            writer = attempt.trajectory_writer(
                n_atoms=len(SPECIES), n_frames=frames, coords={"species": SPECIES}, time_step_ps=0.1
            )
            for n, (r, cell) in enumerate(whole, start=1):
                writer.append(r, cell)
                if n % 1000 == 0:
                    writer.checkpoint({})
            writer.finish()
            wrote = clock() - start
            start = clock()
            name = attempt.publish(xr.Dataset())
            if form == "hdf5":  # most of publishing is making the one file
                wrote += clock() - start
        read = lake.trajectory(name)
        error = max(float(np.abs(read.positions(slice(n, n + 1))[0] - whole[n][0]).max()) for n in (0, middle))
        path = trajectory_file(lake.record(name).path)
        assert path is not None
        line(
            f"lake, {form} (checkpoints every 1000 frames, fsync)", path, frames, wrote,
            best(lambda: lake.trajectory(name).positions(slice(middle, middle + 1))),  # noqa: B023 - called here
            best(lambda: lake.trajectory(name).positions(atoms=[1000])),  # noqa: B023
            best(lambda: lake.trajectory(name).positions(atoms=lithium), 1), error,  # noqa: B023
        )  # fmt: skip
    others(folder, whole, text_frames, line)


def others(
    folder: Path,
    whole: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    text_frames: int,
    line: Callable[..., None],
) -> None:
    """The same trajectory by other programs."""
    import ase.io
    import chemfiles

    frames = len(whole)
    xtc = folder / "out.xtc"
    start = clock()
    with chemfiles.Trajectory(str(xtc), "w") as file:
        frame = chemfiles.Frame()
        frame.resize(len(SPECIES))
        for r, cell in whole:
            frame.positions[:] = r
            frame.cell = chemfiles.UnitCell(cell.T)
            file.write(frame)
    wrote = clock() - start

    def read_xtc() -> NDArray[np.float64]:
        with chemfiles.Trajectory(str(xtc)) as file:
            return np.array([file.read().positions[1000].copy() for _ in range(frames)])

    def one_xtc(n: int) -> NDArray[np.float64]:
        with chemfiles.Trajectory(str(xtc)) as file:
            return np.array(file.read_step(n).positions)

    error = float(np.abs(one_xtc(frames // 2) - whole[frames // 2][0]).max())
    scan = best(read_xtc, 1)
    line("XTC (chemfiles)", xtc, frames, wrote, best(lambda: one_xtc(frames // 2)), scan, scan, error)

    some, scale = whole[:text_frames], frames / text_frames
    dump = folder / "out.lammpstrj"
    lammps_dump(dump, some[:1])  # once before: LAMMPS starts
    dump.unlink()
    wrote = lammps_dump(dump, some)
    xyz = folder / "out.extxyz"
    start = clock()
    with open(xyz, "w") as text:
        for r, cell in some:
            ase.io.write(text, Atoms(SPECIES, r, cell=cell, pbc=True), format="extxyz")
    for name, path, seconds, kind in (
        ("LAMMPS dump (LAMMPS; read by ASE)", dump, wrote, "lammps-dump-text"),
        ("extended XYZ (ASE)", xyz, clock() - start, "extxyz"),
    ):
        at = text_frames // 2
        got: Any = ase.io.read(path, index=at, format=kind)
        scan = scale * best(lambda path=path, kind=kind: ase.io.read(path, index=":", format=kind), 1)  # type: ignore[misc]
        one = best(lambda path=path, kind=kind, at=at: ase.io.read(path, index=at, format=kind), 1)  # type: ignore[misc]
        error = float(np.abs(got.positions - some[at][0]).max())
        line(name, path, text_frames, seconds, one, scan, scan, error)


def lammps_dump(path: Path, frames: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """Seconds that LAMMPS takes to write frames."""
    from argyase.potentials.lammps_plugin import create_lammps

    lmp = create_lammps(["-screen", "none", "-log", "none", "-nocite"])
    for command in (
        "units metal", "atom_style atomic", f"region b block 0 {SIDE} 0 {SIDE} 0 {SIDE}", "create_box 4 b",
        f"create_atoms 1 random {len(SPECIES)} 1 NULL", "mass * 1.0",
    ):  # fmt: skip
        lmp.command(command)
    start = clock()
    for r, _ in frames:
        lmp.numpy.extract_atom("x")[:] = r
        lmp.command(f"write_dump all custom {path} id type xu yu zu modify append yes format float %.6f")
    seconds = clock() - start
    lmp.close()
    return seconds


def fake_runs(lake: Lake, stage: str, schema: Any, count: int, dataset: xr.Dataset, with_data: bool) -> None:
    """Many runs like one: records of their own, the file of the first."""
    rng = np.random.default_rng(1)
    parameters = {
        "x": 0,
        "inversion": 0,
        "temperature_K": 300,
        "seed": 0,
        "potential": "LiPSCl-7net-L10",
        "supercell": [4, 4, 4],
    }
    first = lake.record(
        lake.publish(stage, parameters, dataset, schema=schema, provenance={"host": "node1", "command": ["md"]})
    )
    record = json.loads((first.path / "run.json").read_text())
    for n in range(1, count):
        # 11 values of x, 10 of inversion, 10 temperatures, as many seeds as it takes.
        own = {
            **parameters,
            "x": n % 11 / 10,
            "inversion": n // 11 % 10 / 10,
            "temperature_K": 300 + 50 * (n // 110 % 10),
            "seed": n // 1100,
        }
        name = lake.id(stage, own, version=schema.version)
        path = lake.path / "runs" / stage / name[:2] / name
        path.mkdir(parents=True, exist_ok=True)
        scalars = {k: float(rng.normal()) for k in record["scalars"]}
        (path / "run.json").write_text(
            json.dumps(sealed({**record, "id": name, "parameters": own, "scalars": scalars}))
        )
        if with_data:
            shutil.copyfile(first.path / "data.nc", path / "data.nc")


def queries(folder: Path) -> None:
    """Print the times of searches and cubes, with their targets."""
    root = folder / "queries"
    lake = Lake(root)
    rng = np.random.default_rng(1)
    values = dict.fromkeys(CONDUCTIVITY.variables, 1.0)
    fake_runs(lake, "conductivity", CONDUCTIVITY, 10_000, CONDUCTIVITY.dataset(**values), False)
    n = {"lag": 84, "r": 120}
    arrays = {
        k: np.sort(rng.random([n[d] for d in v.dims]), axis=0)
        for k, v in {**VANHOVE.variables, **VANHOVE.coords}.items()
        if v.required
    }
    time.sleep(2.5)  # until the folders count as settled, as those of any lake that is not written to right now
    print("| what | measured, s | target, s |\n|---|---|---|")

    def line(what: str, seconds: float, target: str) -> None:
        print(f"| {what} | {seconds:.3f} | {target} |", flush=True)

    line("index of 10,000 runs, made anew", best(lambda: Lake(root).search("none"), 1), "")
    line(
        "search of 10,000 runs, 91 found", best(lambda: Lake(root).search("conductivity", x=0.3, inversion=0.5)), "0.05"
    )
    line(
        "the same, one found",
        best(lambda: Lake(root).search("conductivity", x=0.3, inversion=0.5, temperature_K=500, seed=3)),
        "0.05",
    )
    line("search of 10,000 runs, all found", best(lambda: Lake(root).search("conductivity")), "")
    line("cube of the scalars of 10,000 runs", best(lambda: Lake(root).open("conductivity")), "0.2")
    fake_runs(lake, "vanhove", VANHOVE, 1000, VANHOVE.dataset(**arrays), True)
    time.sleep(2.5)
    line("index, 1000 runs more", best(lambda: Lake(root).search("none"), 1), "")
    line("cube of curves of 1000 runs (G_s)", best(lambda: Lake(root).open("vanhove"), 2), "5")
    code = f"from argyase.datalake.lake import Lake; Lake({str(root)!r}, create=False)"
    bare = best(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    line(
        "import of the lake and opening it, less the start of Python",
        best(lambda: subprocess.run([sys.executable, "-c", code], check=True)) - bare,
        "0.3",
    )
    both = "import xarray, zarr"
    line(
        "import of xarray and zarr, for comparison",
        best(lambda: subprocess.run([sys.executable, "-c", both], check=True)) - bare,
        "",
    )


def main() -> None:
    """Run the benchmarks that are named, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["trajectory", "queries"])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--text-frames", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/lake-benchmark"))
    parser.add_argument("--cpu", action="store_true", help="processor time, all threads: where others use the machine")
    args = parser.parse_args()
    if args.cpu:
        global clock
        clock = process_time
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    if "trajectory" in args.what:
        trajectories(args.folder, args.frames, args.text_frames)
    if "queries" in args.what:
        queries(args.folder)
    shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()
