"""Hot loops, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

jit: Any = numba.njit(cache=True, nogil=True)


@jit
def squared_displacements(paths: Any, lag: int) -> Any:
    """|r(t + lag) - r(t)|^2 averaged over ions for each origin t, and over origins for each ion.

    paths (frame, ion, 3) -> (frame - lag,), (ion,).
    """
    frames, ions, _ = paths.shape
    over_ions = np.empty(frames - lag)
    over_origins = np.zeros(ions)
    for t in range(frames - lag):
        total = 0.0
        for i in range(ions):
            dx = paths[t + lag, i, 0] - paths[t, i, 0]
            dy = paths[t + lag, i, 1] - paths[t, i, 1]
            dz = paths[t + lag, i, 2] - paths[t, i, 2]
            square = dx * dx + dy * dy + dz * dz
            total += square
            over_origins[i] += square
        over_ions[t] = total / ions
    return over_ions, over_origins / (frames - lag)


@jit
def displacement_histogram(paths: Any, lag: int, stride: int, width: float, bins: int) -> Any:
    """Counts of |r(t + lag) - r(t)| in bins of `width`, every `stride`-th origin; the last entry is beyond them."""
    frames, ions, _ = paths.shape
    counts = np.zeros(bins + 1, np.int64)
    inverse = 1.0 / width
    for t in range(0, frames - lag, stride):
        for i in range(ions):
            dx = paths[t + lag, i, 0] - paths[t, i, 0]
            dy = paths[t + lag, i, 1] - paths[t, i, 1]
            dz = paths[t + lag, i, 2] - paths[t, i, 2]
            k = int(np.sqrt(dx * dx + dy * dy + dz * dz) * inverse)
            counts[min(k, bins)] += 1
    return counts


@jit
def voxel_counts(places: Any, block: Any, counts: Any) -> None:
    """Add fractional coordinates (frame, ion, 3) to the counts (block, a, b, c) of the block of their frame."""
    _, na, nb, nc = counts.shape
    for t in range(places.shape[0]):
        for i in range(places.shape[1]):
            x, y, z = places[t, i, 0], places[t, i, 1], places[t, i, 2]
            a = int((x - np.floor(x)) * na)
            b = int((y - np.floor(y)) * nb)
            c = int((z - np.floor(z)) * nc)
            counts[block[t], min(a, na - 1), min(b, nb - 1), min(c, nc - 1)] += 1
