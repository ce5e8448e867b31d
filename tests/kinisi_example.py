"""A published trajectory, and its MSD by plain loops that share nothing with argyase."""

import gzip

import numpy as np
from numpy.typing import NDArray
from strategies import DATA

XDATCAR = DATA / "trajectories" / "kinisi_example_XDATCAR.gz"


def direct_msd() -> NDArray[np.float64]:
    """MSD of Li relative to the other atoms for all lags, A^2."""
    lines = gzip.decompress(XDATCAR.read_bytes()).decode().split("\n")
    cell = np.array([line.split() for line in lines[2:5]], dtype=float) * float(lines[1])
    species = np.repeat(lines[5].split(), [int(n) for n in lines[6].split()])
    starts = [k + 1 for k, line in enumerate(lines) if line.startswith("Direct")]
    s = np.array([[line.split() for line in lines[k : k + len(species)]] for k in starts], dtype=float)
    for t in range(1, len(s)):
        s[t] -= np.round(s[t] - s[t - 1])
    r = s @ cell
    lithium = species == "Li"
    for t in range(len(r) - 1, -1, -1):
        r[t] -= (r[t, ~lithium] - r[0, ~lithium]).mean(axis=0)
    r = r[:, lithium]
    direct = np.zeros(len(r))
    for lag in range(1, len(r)):
        total = 0.0
        for t in range(len(r) - lag):
            total += float(((r[t + lag] - r[t]) ** 2).sum())
        direct[lag] = total / ((len(r) - lag) * lithium.sum())
    return direct
