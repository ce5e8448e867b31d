"""Hot loops, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

jit: Any = numba.njit(cache=True, nogil=True)
fast: Any = numba.njit(cache=True, nogil=True, fastmath=True)  # sums in any order: SIMD


_IONS = 16  # side by side, so that their coordinates fill SIMD registers
_ORIGINS = 1024  # at once, for all lags: the cache holds what the lags have in common


@fast
def squared_displacements(paths: Any, lags: Any, of_origins: Any, of_ions: Any) -> None:
    """Add |r(t + lag) - r(t)|^2, summed over ions for each origin t, and over origins for each ion.

    paths (frame, ion, 3), lags from the shortest to the longest, of_origins (lag, frame), of_ions (lag, ion). The first
    may have fewer lags than there are: then it is for the shortest of them.
    """
    frames, ions, _ = paths.shape
    places, sums = np.zeros((frames, 3 * _IONS)), np.empty(3 * _IONS)
    for first in range(0, ions, _IONS):
        number = min(_IONS, ions - first)
        places[:] = 0.0
        for t in range(frames):
            row, source = places[t], paths[t, first : first + number]
            for i in range(number):
                for c in range(3):
                    row[3 * i + c] = source[i, c]
        for start in range(0, frames, _ORIGINS):
            for n in range(len(lags)):
                lag = lags[n]
                stop = min(start + _ORIGINS, frames - lag)
                if stop <= start:
                    break
                before, after = places[start:stop], places[start + lag : stop + lag]
                sums[:] = 0.0
                for t in range(len(before)):
                    a, b = before[t], after[t]
                    total = 0.0
                    for j in range(3 * _IONS):
                        square = (b[j] - a[j]) ** 2
                        sums[j] += square
                        total += square
                    if n < len(of_origins):
                        of_origins[n, start + t] += total
                for i in range(number):
                    of_ions[n, first + i] += sums[3 * i] + sums[3 * i + 1] + sums[3 * i + 2]


@fast
def side_by_side(paths: Any, first: int, last: int) -> Any:
    """Paths of the ions first ... last - 1 less their means, (3, frame, ion) in single precision."""
    frames = len(paths)
    mean = np.zeros((last - first, 3))
    for t in range(frames):
        for i in range(last - first):
            for c in range(3):
                mean[i, c] += paths[t, first + i, c]
    mean /= frames
    out = np.empty((3, frames, last - first), np.float32)
    for t in range(frames):
        for i in range(last - first):
            for c in range(3):
                out[c, t, i] = paths[t, first + i, c] - mean[i, c]
    return out


@fast
def displacement_histogram(paths: Any, lag: int, stride: int, width: float, bins: int, blocks: int, groups: int) -> Any:
    """Histogram and moments of r = |r(t + lag) - r(t)| of every `stride`-th origin.

    paths (3, frame, ion), so that ions lie side by side for SIMD. Returns counts in bins of `width`, the last beyond
    them, and sums of r^2 and r^4 by block of origins and group of ions, (block, group, 2).
    """
    _, frames, ions = paths.shape
    # Four histograms in turn: an ion need not wait for the count that the one before it wrote into the same bin.
    counts = np.zeros((4, bins + 1), np.int64)
    moments = np.zeros((blocks, groups, 2))
    where = np.zeros(ions + 4, np.int32)
    inverse = np.float32(1.0 / width)
    last = np.float32(bins)
    origins = frames - lag
    for t in range(0, origins, stride):
        x0, y0, z0 = paths[0, t], paths[1, t], paths[2, t]
        x1, y1, z1 = paths[0, t + lag], paths[1, t + lag], paths[2, t + lag]
        for g in range(groups):
            # Slices begin at 0, which tells the compiler that no index is negative: then it uses SIMD.
            part = slice(g * ions // groups, (g + 1) * ions // groups)
            u0, v0, w0, u1, v1, w1 = x0[part], y0[part], z0[part], x1[part], y1[part], z1[part]
            found = where[part]
            two = np.float32(0.0)
            four = np.float32(0.0)
            for i in range(len(found)):
                dx, dy, dz = u1[i] - u0[i], v1[i] - v0[i], w1[i] - w0[i]
                square = dx * dx + dy * dy + dz * dz
                two += square
                four += square * square
                found[i] = np.int32(min(np.sqrt(square) * inverse, last))
            moments[t * blocks // origins, g, 0] += two
            moments[t * blocks // origins, g, 1] += four
        for i in range(0, ions - ions % 4, 4):
            counts[0, where[i]] += 1
            counts[1, where[i + 1]] += 1
            counts[2, where[i + 2]] += 1
            counts[3, where[i + 3]] += 1
        for i in range(ions - ions % 4, ions):
            counts[0, where[i]] += 1
    return counts.sum(axis=0), moments


@jit
def pair_histogram(first: Any, second: Any, cell: Any, inverse: Any, width: float, bins: int) -> Any:
    """Counts of |second_j - first_i|, j other than i, nearest images; (ion, 3) each; in bins of `width`."""
    counts = np.zeros(bins, np.int64)
    furthest = (bins * width) ** 2
    for i in range(len(first)):
        for j in range(len(second)):
            if i == j:
                continue
            dx = second[j, 0] - first[i, 0]
            dy = second[j, 1] - first[i, 1]
            dz = second[j, 2] - first[i, 2]
            a = np.rint(dx * inverse[0, 0] + dy * inverse[1, 0] + dz * inverse[2, 0])
            b = np.rint(dx * inverse[0, 1] + dy * inverse[1, 1] + dz * inverse[2, 1])
            c = np.rint(dx * inverse[0, 2] + dy * inverse[1, 2] + dz * inverse[2, 2])
            dx -= a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
            dy -= a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
            dz -= a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
            square = dx * dx + dy * dy + dz * dz
            if square < furthest:
                counts[min(int(np.sqrt(square) / width), bins - 1)] += 1
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
