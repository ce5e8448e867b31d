"""Histograms of all pairs of atoms within a distance, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

fast: Any = numba.njit(cache=True, nogil=True, fastmath=True)


@fast
def _add(
    x: Any, y: Any, z: Any, kind: Any, number: Any, i: int, first: int, last: int, shift: Any, inverse: float,
    where: Any, counts: Any, twins: bool,
) -> None:  # fmt: skip
    """Count the distances of atom i to the atoms first ... last - 1, moved by `shift`."""
    px, py, pz = x[i] - shift[0], y[i] - shift[1], z[i] - shift[2]
    end = counts.shape[2] - 1
    top = np.float32(end)
    scale = np.float32(inverse)
    for j in range(first, last):
        dx, dy, dz = x[j] - px, y[j] - py, z[j] - pz
        where[j - first] = np.int32(min(np.sqrt(np.float32(dx * dx + dy * dy + dz * dz)) * scale, top))
    row = counts[kind[i]]
    if twins:  # a small cell: an image of the atom itself is no other atom
        for j in range(first, last):
            if number[j] == number[i]:
                where[j - first] = end
    for j in range(first, last):
        row[kind[j], where[j - first]] += 1


@fast
def pair_counts(positions: Any, cell: Any, kinds: Any, number_of_kinds: int, r_max: float, bins: int) -> Any:
    """Distances below r_max of each two atoms of a periodic frame, all images: (kind, kind, bin + 1), each pair once.

    The last bin is beyond r_max. Atoms are sorted into boxes of half of r_max or more, third cell vector last, so that
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
    na, nb, nc = grid
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
    for i in range(atoms):
        n = place[box[i]]
        place[box[i]] += 1
        x[n], y[n], z[n] = wrapped[i, 0], wrapped[i, 1], wrapped[i, 2]
        kind[n], number[n] = kinds[i], i
    counts = np.zeros((number_of_kinds, number_of_kinds, bins + 1), np.int64)
    where = np.empty(atoms, np.int32)
    shift = np.zeros(3)
    scale = bins / r_max
    straight = True  # at right angles, corners of the block of boxes can be left out
    for k in range(3):
        for j in range(3):
            straight = straight and (j == k or abs(cell[k, j]) < 1e-9)
    for a in range(na):
        for b in range(nb):
            for da in range(reach[0] + 1):
                for db in range(-reach[1] if da > 0 else 0, reach[1] + 1):
                    ia, ib = (a + da) // na, (b + db) // nb
                    other = ((a + da - ia * na) * nb + b + db - ib * nb) * nc
                    deep = reach[2]
                    if straight:
                        u = max(0, abs(da) - 1) * height[0] / na
                        v = max(0, abs(db) - 1) * height[1] / nb
                        rest = r_max * r_max - u * u - v * v
                        if rest <= 0.0:
                            continue
                        deep = min(reach[2], int(np.ceil(np.sqrt(rest) * nc / height[2] - 1e-9)))
                    for c in range(nc):
                        home = (a * nb + b) * nc + c
                        if da == 0 and db == 0:
                            shift[:] = 0.0
                            for i in range(start[home], start[home + 1]):
                                _add(
                                    x, y, z, kind, number, i, i + 1, start[home + 1], shift, scale, where, counts, False
                                )
                        low = c + 1 if da == 0 and db == 0 else c - deep
                        while low <= c + deep:
                            ic = low // nc
                            high = min(c + deep, ic * nc + nc - 1)
                            for k in range(3):
                                shift[k] = ia * cell[0, k] + ib * cell[1, k] + ic * cell[2, k]
                            first, last = start[other + low - ic * nc], start[other + high - ic * nc + 1]
                            for i in range(start[home], start[home + 1]):
                                _add(x, y, z, kind, number, i, first, last, shift, scale, where, counts, twins)
                            low = high + 1
    return counts
