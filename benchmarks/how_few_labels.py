"""How few labels: errors of potentials, and what they say of diffusion, against the number of labels they learned from.

    python benchmarks/how_few_labels.py fit --pool LABELS... --test LABELS --output curve.csv
        [--sizes 50 100 200 400 800] [--seeds 1 2 3] [--level 10] [--groups 'Li*PS*Cl* K']
    python benchmarks/how_few_labels.py plot curve.csv curve.png

What came out is in how_few_labels.csv beside this file (pool: the labels of LiPSCl-7net-L10; three seeds; an
hour of one core), and explained in docs/explanation/where-the-error-comes-from.md.

Frames are taken from a pool of labels in two ways: at random, and by active learning: from a random half of the
smallest number on, each potential chooses by MaxVol, in layers, among the frames of the pool what it knows least of,
until there are twice as many. Errors are those on the test frames of some groups (argyrodite crystals), which are of
other trajectories. D of Li at 600 K at
0 and 50 % inversion: slope of the MSD over lags of 25 to 50 ps, 416 atoms, 20 ps and 100 ps at constant pressure, one
trajectory each. The same lags for all, so that potentials can be compared; at 0 %, where the slope falls on at longer
lags, it is an upper bound. The scatter over the seeds shows the error.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import ase.io
import numpy as np

from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import Segment
from argyase.errors import ArgyaseError
from argyase.potentials.active import ActiveSet, basis, maxvol
from argyase.potentials.basis import untrained
from argyase.potentials.fit import Labels, fit, predict
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, write_mtp
from argyase.potentials.repulsion import propose, smallest_distances
from argyase.stages import _config, md, msd, structures
from argyase.stages import fit as stage

SPECIES = ("Li", "P", "S", "Cl")
CAMPAIGN = Path(__file__).parents[1] / "campaigns" / "LiPSCl-7net-fit.toml"
COLUMNS = ("choice", "seed", "labels", "energy_rmse", "force_rmse", "stress_rmse", "d_0", "d_50")


def train(pool: Labels, chosen: list[int], level: int, seed: int) -> MTPFile:
    """A potential from some frames of the pool, from a random start, weighed as the shipped ones."""
    config = _config.from_mapping(stage.Config, _config.load(str(CAMPAIGN))["fit"], "fit")
    settings = replace(stage.settings_of(config, pool), max_iterations=25, threads=2)
    return fit(untrained(level), SPECIES, pool.take(chosen), settings, seeds=(seed,)).best


def choose(pool: Labels, chosen: list[int], potential: MTPFile, count: int) -> list[int]:
    """The frames of before, and as many others as are still to come that the potential knows least of."""
    calculator = MTP(potential, SPECIES)
    rows = [basis(calculator, atoms) for atoms in pool.frames]
    active = ActiveSet.select(calculator, [pool.frames[n] for n in chosen])
    found = list(chosen)
    while len(found) < count:
        left = [n for n in range(len(pool)) if n not in found]
        owner = np.repeat(left, [len(rows[n]) for n in left])
        picks = maxvol(np.concatenate([active.rows, *(rows[n] for n in left)])).chosen - len(active.rows)
        new = dict.fromkeys(int(owner[k]) for k in picks if k >= 0)
        if not new:  # nothing is left beyond the active set: at random
            new = dict.fromkeys(np.random.default_rng(len(found)).permutation(left).tolist())
        found += list(new)[: count - len(found)]
    return found


def diffusivity(potential: MTPFile, frames: Labels, inversion: float, seed: int) -> float:
    """Slope of the MSD of Li at 600 K over 25 ... 50 ps, cm2/s; NaN if the dynamics fail."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.mtp"
        write_mtp(path, replace(potential, potential_name="p"))
        table = propose(smallest_distances(frames.frames, SPECIES, potential.max_dist))
        rows = [f"{pair} = [{low}, {high}]" for pair, (low, high) in table.items()]
        card = ['name = "p"', 'species = ["Li", "P", "S", "Cl"]', "[repulsion]", *rows]
        path.with_suffix(".toml").write_text("\n".join(card))
        lake = Lake(Path(folder) / "lake")
        (cell,) = structures.run(structures.Config(inversion=inversion, supercell=(2, 2, 2)), lake)
        segments = (
            Segment("heat"),
            Segment("equilibrate", duration_ps=20.0),
            Segment("produce", duration_ps=100.0),
        )
        try:
            (run,) = md.run(md.Config(cell, 600.0, str(path), segments=segments, replica=seed), lake)
            (of,) = msd.run(msd.Config(run), lake)
        except ArgyaseError as error:
            print(f"  dynamics at {100 * inversion:g} %: {error}", flush=True)
            return float("nan")
        return float(lake.open_run(of)["running_diffusivity"][-1])


def study(pool: Labels, test: Labels, sizes: list[int], seeds: list[int], level: int, output: Path) -> None:
    """Fit, test and write a row for each number of labels, way of choosing and seed; rows that are there are kept."""
    known = {}
    if output.is_file():
        with output.open() as file:
            known = {(row["choice"], int(row["seed"]), int(row["labels"])) for row in csv.DictReader(file)}
    else:
        output.write_text(",".join(COLUMNS) + "\n")
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(pool)).tolist()
        for choice in ("random", "active"):
            chosen = order[: sizes[0] // 2]
            potential = None if choice == "random" else train(pool, chosen, level, seed)
            for size in sizes:
                if choice == "random" and (choice, seed, size) in known:
                    continue  # nothing follows from it
                if potential is None:
                    chosen = order[:size]
                else:
                    chosen = choose(pool, chosen, potential, size)
                trained = train(pool, chosen, level, seed)
                if choice == "active":
                    potential = trained
                if (choice, seed, size) in known:
                    continue
                e = predict(MTP(trained, SPECIES), test).errors()
                d = [diffusivity(trained, pool.take(chosen), inversion, seed) for inversion in (0.0, 0.5)]
                row = (choice, seed, size, e.energy_rmse, e.force_rmse, e.stress_rmse, *d)
                print(*row, flush=True)
                with output.open("a") as file:
                    csv.writer(file).writerow(row)


def plot(table: Path, picture: Path) -> None:
    """Errors and diffusivities over the number of labels; every seed a point, lines through their means."""
    from argyase.figures.style import COLOURS, new_figure, style

    with table.open() as file:
        rows = [{k: v if k == "choice" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    with style():
        figure = new_figure(6.8, 4.4)
        faces = (
            ("energy_rmse", "energy RMSE (meV/atom)", 1.0),
            ("force_rmse", "force RMSE (eV/Å)", 1.0),
            ("d_0", "D(600 K), 0 % (10$^{-6}$ cm$^2$/s)", 1e6),
            ("d_50", "D(600 K), 50 % (10$^{-6}$ cm$^2$/s)", 1e6),
        )
        for ax, (name, label, scale) in zip(figure.subplots(2, 2).ravel(), faces, strict=True):
            for choice, colour in (("random", COLOURS[1]), ("active", COLOURS[0])):
                own = [r for r in rows if r["choice"] == choice]
                sizes = sorted({r["labels"] for r in own})
                ax.plot([r["labels"] for r in own], [scale * r[name] for r in own], ".", color=colour, alpha=0.6)
                means = [np.nanmean([scale * r[name] for r in own if r["labels"] == size]) for size in sizes]
                ax.plot(sizes, means, color=colour, label=choice)
            ax.set(xscale="log", xlabel="labelled frames", ylabel=label)
            counts = sorted({int(r["labels"]) for r in rows})
            ax.set_xticks(counts, [str(n) for n in counts])
            ax.set_xticks([], minor=True)
            ax.margins(y=0.06)
            ax.set_ylim(bottom=0)
        figure.axes[0].legend()
        figure.savefig(picture, dpi=300)


def labels_of(files: list[str]) -> Labels:
    """Labels of many files."""
    return Labels.of([atoms for name in files for atoms in ase.io.read(name, index=":")])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    own = commands.add_parser("fit")
    own.add_argument("--pool", nargs="+", required=True)
    own.add_argument("--test", nargs="+", required=True)
    own.add_argument("--output", type=Path, default=Path("curve.csv"))
    own.add_argument("--sizes", nargs="+", type=int, default=[50, 100, 200, 400, 800])
    own.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    own.add_argument("--level", type=int, default=10)
    own.add_argument("--groups", nargs="+", default=["Li*PS*Cl* K"])
    drawn = commands.add_parser("plot")
    drawn.add_argument("table", type=Path)
    drawn.add_argument("picture", type=Path)
    args = parser.parse_args()
    if args.command == "plot":
        plot(args.table, args.picture)
        return
    pool, test = labels_of(args.pool), labels_of(args.test)
    test = test.take([n for n, group in enumerate(test.groups) if any(fnmatch(group, p) for p in args.groups)])
    print(f"{len(pool)} frames to choose from, {len(test)} to test", flush=True)
    sizes = [n for n in args.sizes if n <= len(pool)]
    study(pool, test, sizes, args.seeds, args.level, args.output)


if __name__ == "__main__":
    main()
