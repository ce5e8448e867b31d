"""Histograms of all pairs of atoms within a distance, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

fast: Any = numba.njit(cache=True, nogil=True, fastmath=True)


_SPARE = 8


@fast
def _longer(array: Any, size: int) -> Any:
    new = np.empty(size, array.dtype)
    new[: len(array)] = array
    return new


@fast
def pair_counts(positions: Any, cell: Any, kinds: Any, number_of_kinds: int, r_max: float, bins: int) -> Any:
    """Distances below r_max of each two atoms of a periodic frame, all images: (kind, kind, bin), each pair once.

    Atoms are sorted into boxes of half of r_max or more, third cell vector last, so that
    the boxes next to one another along it are one run of atoms.
    """
    atoms = len(positions)
    inverse = np.linalg.inv(cell)
    grid, reach = np.empty(3, np.int64), np.empty(3, np.int64)
    height = np.empty(3)
    for k in range(3):
        height[k] = 1.0 / np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        grid[k] = max(1, int(2.0 * height[k] / r_max))
        reach[k] = int(np.ceil(r_max * grid[k] / height[k] - 1e-9))
    na, nb, nc = int(grid[0]), int(grid[1]), int(grid[2])
    twins = False
    for k in range(3):
        twins = twins or 2 * reach[k] >= grid[k]
    box = np.empty(atoms, np.int64)
    wrapped = np.empty((atoms, 3))
    start = np.zeros(na * nb * nc + 1, np.int64)
    for i in range(atoms):
        s = np.empty(3)
        for k in range(3):
            f = positions[i, 0] * inverse[0, k] + positions[i, 1] * inverse[1, k] + positions[i, 2] * inverse[2, k]
            s[k] = f - np.floor(f)
            if s[k] >= 1.0:
                s[k] = 0.0
        a, b, c = min(int(s[0] * na), na - 1), min(int(s[1] * nb), nb - 1), min(int(s[2] * nc), nc - 1)
        box[i] = (a * nb + b) * nc + c
        start[box[i] + 1] += 1
        for k in range(3):
            wrapped[i, k] = s[0] * cell[0, k] + s[1] * cell[1, k] + s[2] * cell[2, k]
    for n in range(na * nb * nc):
        start[n + 1] += start[n]
    place = start[:-1].copy()
    x, y, z = np.empty(atoms), np.empty(atoms), np.empty(atoms)
    kind, number = np.empty(atoms, np.int64), np.empty(atoms, np.int64)
    column = np.empty(atoms, np.int32)
    wide = bins + _SPARE
    for i in range(atoms):
        n = place[box[i]]
        place[box[i]] += 1
        x[n], y[n], z[n] = wrapped[i, 0], wrapped[i, 1], wrapped[i, 2]
        kind[n], number[n] = kinds[i], i
        column[n] = kinds[i] * wide
    counts = np.zeros((number_of_kinds, number_of_kinds * wide), np.int32)
    scale = np.float32(bins / r_max)
    straight = True  # at right angles, corners of the block of boxes can be left out
    for k in range(3):
        for j in range(3):
            straight = straight and (j == k or abs(cell[k, j]) < 1e-9)
    # Candidates of one box, side by side, relative to a point in it: single precision is good to 1e-6 A there.
    room = 64
    u, v, w = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    whose, where = np.empty(room, np.int32), np.empty(room, np.int32)
    twin, far = np.empty(room, np.int64), np.empty(room, np.float32)
    for m in range(room):
        far[m] = bins + m % _SPARE
    for a in range(na):
        for b in range(nb):
            for c in range(nc):
                home = (a * nb + b) * nc + c
                begin, end = start[home], start[home + 1]
                if begin == end:
                    continue
                x0, y0, z0 = x[begin], y[begin], z[begin]
                n = 0
                for da in range(reach[0] + 1):
                    for db in range(-reach[1] if da > 0 else 0, reach[1] + 1):
                        ia, ib = (a + da) // na, (b + db) // nb
                        other = ((a + da - ia * na) * nb + b + db - ib * nb) * nc
                        deep = reach[2]
                        if straight:
                            p = max(0, abs(da) - 1) * height[0] / na
                            q = max(0, abs(db) - 1) * height[1] / nb
                            rest = r_max * r_max - p * p - q * q
                            if rest <= 0.0:
                                continue
                            deep = min(reach[2], int(np.ceil(np.sqrt(rest) * nc / height[2] - 1e-9)))
                        low = c if da == 0 and db == 0 else c - deep
                        while low <= c + deep:
                            ic = low // nc
                            high = min(c + deep, ic * nc + nc - 1)
                            sx = ia * cell[0, 0] + ib * cell[1, 0] + ic * cell[2, 0] - x0
                            sy = ia * cell[0, 1] + ib * cell[1, 1] + ic * cell[2, 1] - y0
                            sz = ia * cell[0, 2] + ib * cell[1, 2] + ic * cell[2, 2] - z0
                            first, last = start[other + low - ic * nc], start[other + high - ic * nc + 1]
                            if n + last - first > room:
                                room = 2 * (n + last - first)
                                u, v, w = _longer(u, room), _longer(v, room), _longer(w, room)
                                whose, where, twin = _longer(whose, room), _longer(where, room), _longer(twin, room)
                                far = _longer(far, room)
                                for m in range(room):
                                    far[m] = bins + m % _SPARE
                            for j in range(first, last):
                                m = n + j - first
                                u[m], v[m], w[m] = x[j] + sx, y[j] + sy, z[j] + sz
                                whose[m], twin[m] = column[j], number[j]
                            n += last - first
                            low = high + 1
                # The box itself came first: of two atoms in it, the later one is a candidate of the earlier.
                for i in range(end - begin):
                    px, py, pz = u[i], v[i], w[i]
                    row = counts[kind[begin + i]]
                    # Slices begin at 0, which tells the compiler that no index is negative: then it uses SIMD.
                    su, sv, sw = u[i + 1 : n], v[i + 1 : n], w[i + 1 : n]
                    columns, limits, found = whose[i + 1 : n], far[i + 1 : n], where[i + 1 : n]
                    for j in range(len(found)):
                        dx, dy, dz = su[j] - px, sv[j] - py, sw[j] - pz
                        # What is too far goes to spare bins in turn: a count just written is slow to read again.
                        found[j] = columns[j] + np.int32(min(np.sqrt(dx * dx + dy * dy + dz * dz) * scale, limits[j]))
                    if twins:  # a small cell: an image of the atom itself is no other atom
                        for j in range(i + 1, n):
                            if twin[j] == twin[i]:
                                where[j] = whose[j] + bins
                    for j in range(len(found)):
                        row[found[j]] += 1
    return counts.reshape(number_of_kinds, number_of_kinds, wide)[:, :, :bins].astype(np.int64)
