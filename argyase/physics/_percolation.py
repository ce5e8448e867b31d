"""Union-find over periodic graphs, compiled by numba.

Each node knows the image of its root that it hangs on to. An edge that closes a loop with another image than none wraps
the cell; the images of all loops of a component span a lattice, and its rank is the number of directions in which the
component goes on for ever.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

jit: Any = numba.njit(cache=True, nogil=True)


@jit
def find(parent: Any, image: Any, node: int) -> Any:
    """Root of a node, and the image of the root that the node hangs on to; shortens the way."""
    root = node
    x = y = z = 0
    while parent[root] != root:
        x += image[root, 0]
        y += image[root, 1]
        z += image[root, 2]
        root = parent[root]
    ox, oy, oz = x, y, z
    while parent[node] != root and node != root:
        after = parent[node]
        dx, dy, dz = image[node, 0], image[node, 1], image[node, 2]
        parent[node] = root
        image[node, 0], image[node, 1], image[node, 2] = x, y, z
        x -= dx
        y -= dy
        z -= dz
        node = after
    return root, ox, oy, oz


@jit
def extend(basis: Any, x: int, y: int, z: int) -> bool:
    """Add a vector to a basis (4, 3) whose last row counts its vectors; whether the rank has grown."""
    rank = basis[3, 0]
    a, b = basis[0], basis[1]
    if rank == 0:
        new = x != 0 or y != 0 or z != 0
    elif rank == 1:
        new = a[1] * z != a[2] * y or a[2] * x != a[0] * z or a[0] * y != a[1] * x
    elif rank == 2:
        new = x * (a[1] * b[2] - a[2] * b[1]) + y * (a[2] * b[0] - a[0] * b[2]) + z * (a[0] * b[1] - a[1] * b[0]) != 0
    else:
        new = False
    if new:
        basis[rank, 0], basis[rank, 1], basis[rank, 2] = x, y, z
        basis[3, 0] = rank + 1
    return new


@jit
def join(parent: Any, image: Any, size: Any, slot: Any, table: Any, used: int, i: int, j: int, shift: Any) -> Any:
    """Join i with the image `shift` of j; the slot of a basis that has grown (-1: none), and slots in use.

    `slot` (node,) is the row of `table` (row, 4, 3) that holds the basis of a root, -1 while it does not wrap.
    """
    p, px, py, pz = find(parent, image, i)
    q, qx, qy, qz = find(parent, image, j)
    # i in image 0 belongs to root p in image (px ..), j in image `shift` to root q in image (qx ..) + shift.
    x, y, z = qx + shift[0] - px, qy + shift[1] - py, qz + shift[2] - pz
    if p == q:
        if x == 0 and y == 0 and z == 0:
            return -1, used
        if slot[p] < 0:
            slot[p] = used
            used += 1
        return (slot[p] if extend(table[slot[p]], x, y, z) else -1), used
    if size[p] < size[q]:
        p, q, x, y, z = q, p, -x, -y, -z
    # Root q in image (x ..) hangs on to root p in image 0.
    parent[q] = p
    image[q, 0], image[q, 1], image[q, 2] = -x, -y, -z
    size[p] += size[q]
    if slot[q] < 0:
        return -1, used
    if slot[p] < 0:
        slot[p] = slot[q]
        return -1, used
    grown = False
    for k in range(table[slot[q], 3, 0]):
        v = table[slot[q], k]
        grown = extend(table[slot[p]], v[0], v[1], v[2]) or grown
    return (slot[p] if grown else -1), used


@jit
def note(basis: Any, value: float, by_rank: Any, by_axis: Any) -> None:
    """Keep the first value at which a rank, and wrapping along an axis, was seen."""
    rank = basis[3, 0]
    for n in range(rank):
        if np.isnan(by_rank[n]):
            by_rank[n] = value
    for axis in range(3):
        for k in range(rank):
            if basis[k, axis] != 0 and np.isnan(by_axis[axis]):
                by_axis[axis] = value


@jit
def percolate_graph(nodes: int, edges: Any, shifts: Any, values: Any) -> Any:
    """Values at which the graph wraps when its edges are added in order: by rank (3,), by axis (3,); then roots."""
    parent = np.arange(nodes)
    image = np.zeros((nodes, 3), np.int64)
    size = np.ones(nodes, np.int64)
    slot = np.full(nodes, -1, np.int64)
    table = np.zeros((len(edges) + 1, 4, 3), np.int64)
    by_rank, by_axis = np.full(3, np.nan), np.full(3, np.nan)
    used = 0
    for e in range(len(edges)):
        grown, used = join(parent, image, size, slot, table, used, edges[e, 0], edges[e, 1], shifts[e])
        if grown >= 0:
            note(table[grown], values[e], by_rank, by_axis)
    roots = np.empty(nodes, np.int64)
    for n in range(nodes):
        roots[n] = find(parent, image, n)[0]
    return by_rank, by_axis, roots


@jit
def percolate_grid(values: Any, order: Any) -> Any:
    """Values at which a periodic grid wraps when its voxels are added in order, joined through faces.

    values (x, y, z); order: flat numbers. Returns by rank (3,), by axis (3,).
    """
    nx, ny, nz = values.shape
    nodes = nx * ny * nz
    flat = values.reshape(nodes)
    parent = np.full(nodes, -1, np.int32)
    image = np.zeros((nodes, 3), np.int16)
    size = np.ones(nodes, np.int32)
    slot = np.full(nodes, -1, np.int32)
    table = np.zeros((64, 4, 3), np.int64)
    by_rank, by_axis = np.full(3, np.nan), np.full(3, np.nan)
    shift = np.zeros(3, np.int64)
    used = 0
    for n in order:
        parent[n] = n
        x, y, z = n // (ny * nz), n // nz % ny, n % nz
        for face in range(6):
            axis, step = face // 2, 1 - 2 * (face % 2)
            u, v, w = x, y, z
            shift[:] = 0
            if axis == 0:
                u += step
                if u < 0 or u >= nx:
                    shift[0] = step
                    u -= step * nx
            elif axis == 1:
                v += step
                if v < 0 or v >= ny:
                    shift[1] = step
                    v -= step * ny
            else:
                w += step
                if w < 0 or w >= nz:
                    shift[2] = step
                    w -= step * nz
            m = (u * ny + v) * nz + w
            if parent[m] < 0:
                continue
            if used + 1 >= len(table):
                larger = np.zeros((2 * len(table), 4, 3), np.int64)
                larger[: len(table)] = table
                table = larger
            grown, used = join(parent, image, size, slot, table, used, n, m, shift)
            if grown >= 0:
                note(table[grown], flat[n], by_rank, by_axis)
                if not np.isnan(by_rank[2]):
                    return by_rank, by_axis
    return by_rank, by_axis
