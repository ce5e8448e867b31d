"""What short runs would have said: a long trajectory is cut into pieces, and D of each is compared with the whole.

    python benchmarks/short_runs.py --lake lake RUN [RUN ...]

The reference is the slope of the MSD of the whole run over lags of an eighth to a quarter of it. A piece is *too high*
if its whole interval lies above, *too low* if it, or its bound, lies below.
"""

import argparse

import numpy as np

from argyase.datalake.lake import Lake
from argyase.errors import StatisticsError
from argyase.physics.msd import diffusivity, mean_squared_displacement
from argyase.physics.unwrap import diffusing_paths
from argyase.stages.msd import CONFINED_A2
from argyase.units import A2_PER_PS_TO_CM2_PER_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", help="ids of trajectories")
    parser.add_argument("--lake", default="lake")
    parser.add_argument("--lengths", type=float, nargs="+", default=[10.0, 20.0, 40.0, 100.0], help="ps")
    parser.add_argument(
        "--confined", type=float, default=CONFINED_A2, help="MSD of motion within cages, A^2; 0: no matter"
    )
    args = parser.parse_args()
    lake = Lake(args.lake, create=False)
    paths, references = [], []
    for run in args.runs:
        trajectory = lake.trajectory(run)
        step = trajectory.time_step_ps
        path = diffusing_paths(trajectory.positions(), trajectory.cell(), trajectory.coords["species"], "Li")
        lags = np.arange(len(path) // 8, len(path) // 4)
        slope = np.polyfit(lags * step, mean_squared_displacement(path).sum(axis=1)[lags], 1)[0]
        paths.append((path, step))
        references.append(slope / 6)
        over = f"{lags[0] * step:g} to {lags[-1] * step:g} ps"
        print(f"{run[:8]}: {slope / 6 * A2_PER_PS_TO_CM2_PER_S:.3g} cm2/s over {over}")
    print(f"{'ps':>6} {'pieces':>7} {'values':>7} {'too high':>9} {'too low':>8}  median of value / reference")
    for length in args.lengths:
        pieces, ratios, high, low = 0, [], 0, 0
        for (path, step), reference in zip(paths, references, strict=True):
            frames = round(length / step)
            for first in range(0, len(path) - frames + 1, frames):
                pieces += 1
                try:
                    found = diffusivity(path[first : first + frames], step, confined=args.confined).estimate
                except StatisticsError as error:
                    low += error.upper < reference
                    continue
                ratios.append(found.value / reference)
                high += found.interval[0] > reference
                low += found.interval[1] < reference
        median = f"{np.median(ratios):.2f}" if ratios else "-"
        print(f"{length:6g} {pieces:7d} {len(ratios):7d} {high:9d} {low:8d}  {median}")


if __name__ == "__main__":
    main()
