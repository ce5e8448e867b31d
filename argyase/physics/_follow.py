"""Following ions from tetrahedron to tetrahedron, compiled by numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

jit: Any = numba.njit(cache=True, nogil=True)

T2_ROUTE, T4_ROUTE, OTHER_ROUTE = 2, 3, 4
_LONGEST_WALK = 60
_STRETCH = 100  # frames; deviations are from the mean position of at most so many, so that slow drift does not count


@jit
def mapped(positions: Any, maps: Any, atoms: Any, shifts: Any) -> Any:
    """Positions (frame, atom, 3) of some atoms, times a matrix for each frame, (frame, 3, 3), less shifts (atom, 3)."""
    out = np.empty((len(positions), len(atoms), 3))
    for t in range(len(positions)):
        m = maps[t]
        for n in range(len(atoms)):
            x, y, z = positions[t, atoms[n], 0], positions[t, atoms[n], 1], positions[t, atoms[n], 2]
            out[t, n, 0] = x * m[0, 0] + y * m[1, 0] + z * m[2, 0] - shifts[n, 0]
            out[t, n, 1] = x * m[0, 1] + y * m[1, 1] + z * m[2, 1] - shifts[n, 1]
            out[t, n, 2] = x * m[0, 2] + y * m[1, 2] + z * m[2, 2] - shifts[n, 2]
    return out


@jit
def _weights(
    x: float, y: float, z: float, anions: Any, cell: Any, tet: int, vertex: Any, vertex_image: Any, inner: Any, out: Any
) -> int:
    """Barycentric coordinates of a point, times six volumes, in `out` (5,), the last their sum; the smallest one.

    `inner`: all vertices are in image 0. Rows 5 ... 16 of `out` are scratch: memory of its own for each call would take
    as long as the rest.
    """
    for k in range(4):
        a = vertex[tet, k]
        u, v, w = anions[a, 0] - x, anions[a, 1] - y, anions[a, 2] - z
        if not inner[tet]:
            for j in range(3):
                n = vertex_image[tet, k, j]
                if n != 0:
                    u += n * cell[j, 0]
                    v += n * cell[j, 1]
                    w += n * cell[j, 2]
        out[5 + 3 * k], out[6 + 3 * k], out[7 + 3 * k] = u, v, w
    ax, ay, az, bx, by, bz = out[5], out[6], out[7], out[8], out[9], out[10]
    cx, cy, cz, dx, dy, dz = out[11], out[12], out[13], out[14], out[15], out[16]
    # b x c and d x a (z, x, y) serve two of the four determinants each: bcd, adc, abd, acb.
    pz, px, py = bx * cy - by * cx, by * cz - bz * cy, bz * cx - bx * cz
    qz, qx, qy = dx * ay - dy * ax, dy * az - dz * ay, dz * ax - dx * az
    out[0] = px * dx + py * dy + pz * dz
    out[1] = -(qx * cx + qy * cy + qz * cz)
    out[2] = qx * bx + qy * by + qz * bz
    out[3] = -(px * ax + py * ay + pz * az)
    out[4] = out[0] + out[1] + out[2] + out[3]
    low = 0
    for k in range(1, 4):
        if out[k] < out[low]:
            low = k
    return low


@jit
def settle(spread: Any, k: int, i: int, mean: Any, square: Any, samples: Any) -> None:
    """Close the account of the vibration of an ion on a site of kind k."""
    if samples[i] > 1:
        spread[k] += square[i]
        spread[6 + k] += 3 * (samples[i] - 1)
    samples[i] = 0
    square[i] = 0.0
    mean[i, :] = 0.0


@jit
def follow(
    ions: Any, anions: Any, cell: Any, first: int, depth: float,
    vertex: Any, vertex_image: Any, inner: Any, neighbour: Any, neighbour_image: Any, kind: Any, cage: Any,
    cage_image: Any,
    centres: Any, lengths: Any,
    raw: Any, raw_image: Any, site: Any, home: Any, home_image: Any, route: Any, since: Any, cage_since: Any,
    mean: Any, square: Any, samples: Any,
    moves: Any, jumped: Any, spread: Any, pairs: Any, cage_time: Any, stay: Any, cage_stay: Any, events: Any,
) -> Any:  # fmt: skip
    """Go through the frames of a chunk; returns the number of inter-cage jumps and of frames of ions that were lost.

    ions (frame, ion, 3), anions (frame, anion, 3) in image 0, all of them in one cell (3, 3); `first` is the number of
    the first frame; a new site counts when the smallest barycentric coordinate is `depth`.

    State of the ions, carried from chunk to chunk: raw, raw_image: the tetrahedron they are in; site: the last one they
    were deep in; home, home_image: the last such of a cage (-1: none yet); route: the last way out of a cage; since,
    cage_since: frame of arrival (-1: was there at the start); mean, square, samples: running moments of the position.

    Per frame: moves (frame, 12): ions by kind, then departures by kind; jumped (frame, 6): jumps by class, then the sum
    of their squared lengths; spread (frame, 12): squared deviation by kind, then its degrees of freedom.
    Sums: pairs (kind, kind), cage_time (cage,), stay (kind, bin), cage_stay (bin,) in bins of a factor 2^(1/2).
    events (event, 8): frame, ion, cage of origin, of destination, its image (3), route.
    """
    frames, number = ions.shape[0], ions.shape[1]
    w = np.empty(17)
    image = np.zeros(3, np.int64)
    found, lost = 0, 0
    bins = stay.shape[1]
    middle = np.zeros(3)
    for t in range(frames):
        for c in range(3):
            middle[c] = 0.0
            for a in range(anions.shape[1]):
                middle[c] += anions[t, a, c]
            middle[c] /= anions.shape[1]
        for i in range(number):
            # ---- the tetrahedron that the ion is in: walk from the last one through the faces it is beyond
            tet = raw[i]
            for j in range(3):
                image[j] = raw_image[i, j]
            px, py, pz = ions[t, i, 0], ions[t, i, 1], ions[t, i, 2]
            for j in range(3):  # the ion in image 0, rather than each vertex in its image
                if image[j] != 0:
                    px -= image[j] * cell[j, 0]
                    py -= image[j] * cell[j, 1]
                    pz -= image[j] * cell[j, 2]
            way = route[i]
            inside = False
            for _ in range(_LONGEST_WALK):
                low = _weights(px, py, pz, anions[t], cell, tet, vertex, vertex_image, inner, w)
                if w[low] >= 0.0:
                    inside = True
                    break
                after = neighbour[tet, low]
                if kind[tet] == 2 and kind[after] == 2:
                    way = T2_ROUTE
                elif kind[after] == 4:
                    way = T4_ROUTE
                elif kind[after] == 0:
                    way = OTHER_ROUTE
                for j in range(3):
                    over = neighbour_image[tet, low, j]
                    if over != 0:
                        image[j] += over
                        px -= over * cell[j, 0]
                        py -= over * cell[j, 1]
                        pz -= over * cell[j, 2]
                tet = after
            if inside:
                raw[i], route[i] = tet, way
                for j in range(3):
                    raw_image[i, j] = image[j]
            else:  # the mesh is folded here: the ion is taken to be where it was
                lost += 1
                tet = raw[i]
            # ---- has it arrived
            deep = inside and w[low] >= depth * w[4]
            old = site[i]
            if old < 0 and inside:
                site[i] = tet
                old = tet
                if cage[tet] >= 0:
                    home[i] = tet
                    home_image[i] = raw_image[i]
            elif deep and (tet != old):
                k = kind[old]
                pairs[k, kind[tet]] += 1
                moves[t, 6 + k] += 1
                if since[i] >= 0:
                    stay[k, min(bins - 1, int(2 * np.log2(first + t - since[i])))] += 1
                since[i] = first + t
                settle(spread[t], k, i, mean, square, samples)
                site[i] = tet
                if cage[tet] >= 0:
                    at = home[i]
                    if at >= 0 and (at != tet or (home_image[i] != raw_image[i]).any()):
                        same = cage[at] == cage[tet]
                        step = 0.0
                        for c in range(3):
                            shift = raw_image[i, c] - home_image[i, c]
                            moved = cage_image[tet, c] - cage_image[at, c] + shift
                            same = same and moved == 0
                            d = (centres[tet, c] - centres[at, c] + shift * lengths[c, 0]) * lengths[c, 1]
                            step += d * d
                        jumped[t, 5] += step
                        if not same:
                            jumped[t, route[i] if route[i] >= 2 else OTHER_ROUTE] += 1
                            events[found, 0] = first + t
                            events[found, 1] = i
                            events[found, 2] = cage[at]
                            events[found, 3] = cage[tet]
                            for c in range(3):
                                events[found, 4 + c] = (
                                    cage_image[tet, c] - cage_image[at, c] + raw_image[i, c] - home_image[i, c]
                                )
                            events[found, 7] = route[i]
                            found += 1
                            if cage_since[i] >= 0:
                                cage_stay[min(bins - 1, int(2 * np.log2(first + t - cage_since[i])))] += 1
                            cage_since[i] = first + t
                        else:
                            doublet = False
                            if kind[at] == 5 and kind[tet] == 5:
                                for k in range(4):
                                    doublet = doublet or neighbour[at, k] == tet
                            jumped[t, 0 if doublet else 1] += 1
                    home[i] = tet
                    home_image[i] = raw_image[i]
            moves[t, kind[site[i]] if site[i] >= 0 else kind[tet]] += 1
            if home[i] >= 0:
                cage_time[cage[home[i]]] += 1
            # ---- Welford's moments of the position relative to the framework, for the vibration
            if inside and tet == site[i]:
                samples[i] += 1
                share = 1.0 / samples[i]
                for c in range(3):
                    x = ions[t, i, c] - middle[c]
                    d = x - mean[i, c]
                    mean[i, c] += d * share
                    square[i] += d * (x - mean[i, c])
                if samples[i] == _STRETCH:
                    settle(spread[t], kind[tet], i, mean, square, samples)
    return found, lost
