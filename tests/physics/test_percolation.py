"""Percolation of periodic graphs and grids against slow searches, and shapes whose answer is plain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds

from argyase.physics._percolation import percolate_graph, percolate_grid

Edge = tuple[int, int, tuple[int, int, int]]


def rank_and_axes(nodes: int, edges: list[Edge]) -> tuple[int, list[bool]]:
    """Largest rank of the loops of a part, and axes along which any part wraps: by walking along the edges."""
    place: dict[int, np.ndarray] = {}
    best, axes = 0, np.zeros(3, dtype=bool)
    for start in range(nodes):
        if start in place:
            continue
        place[start] = np.zeros(3, dtype=int)
        todo, loops = [start], [np.zeros(3, dtype=int)]
        while todo:
            node = todo.pop()
            for i, j, shift in edges:
                for a, b, s in ((i, j, np.array(shift)), (j, i, -np.array(shift))):
                    if a != node:
                        continue
                    if b not in place:
                        place[b] = place[a] + s
                        todo.append(b)
                    else:
                        loops.append(place[a] + s - place[b])
        best = max(best, int(np.linalg.matrix_rank(np.array(loops))))
        axes |= np.array(loops).any(axis=0)
    return best, axes.tolist()


@given(seeds, st.integers(1, 6), st.integers(0, 14))
def test_graph_as_by_walking(seed: int, nodes: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, nodes, (count, 2))
    shifts = rng.integers(-1, 2, (count, 3)) * (rng.random((count, 3)) < 0.4)
    values = -np.arange(count, dtype=float)
    by_rank, by_axis, roots = percolate_graph(nodes, edges, shifts, values)
    known: list[Edge] = []
    first_rank, first_axis = [np.nan] * 3, [np.nan] * 3
    for (i, j), shift, value in zip(edges.tolist(), shifts.tolist(), values, strict=True):
        known.append((i, j, tuple(shift)))
        rank, axes = rank_and_axes(nodes, known)
        first_rank = [value if np.isnan(v) and rank > n else v for n, v in enumerate(first_rank)]
        first_axis = [value if np.isnan(v) and axes[n] else v for n, v in enumerate(first_axis)]
    np.testing.assert_array_equal(by_rank, first_rank)
    np.testing.assert_array_equal(by_axis, first_axis)
    for i, j in edges:
        assert roots[i] == roots[j]


@settings(max_examples=25)
@given(seeds, st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)))
def test_grid_is_the_graph_of_its_faces(seed: int, shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape).astype(float)
    order = np.argsort(-values, axis=None)
    number = np.arange(values.size).reshape(shape)
    edges, shifts, level = [], [], []
    for axis in range(3):
        for here in np.ndindex(shape):
            there = list(here)
            there[axis] = (here[axis] + 1) % shape[axis]
            shift = [0, 0, 0]
            shift[axis] = (here[axis] + 1) // shape[axis]
            edges.append((number[here], number[tuple(there)]))
            shifts.append(shift)
            level.append(min(values[here], values[tuple(there)]))
    sort = np.argsort(-np.array(level), kind="stable")
    expected = percolate_graph(values.size, np.array(edges)[sort], np.array(shifts)[sort], np.array(level)[sort])
    found = percolate_grid(values, order)
    np.testing.assert_array_equal(found[0], expected[0])
    if not np.isnan(found[0][2]):  # the search ends when all directions wrap
        np.testing.assert_array_equal(found[1], expected[1])


def test_plain_shapes() -> None:
    def ranks(solid: np.ndarray) -> list[bool]:
        by_rank, _ = percolate_grid(solid.astype(float), np.flatnonzero(solid))
        return [not np.isnan(v) for v in by_rank]

    empty = np.zeros((6, 6, 6), dtype=bool)
    ball, rod, sheet, screw = empty.copy(), empty.copy(), empty.copy(), empty.copy()
    ball[1:4, 1:4, 1:4] = True
    rod[2, 3, :] = True
    sheet[:, 2, :] = True
    for n in range(6):  # a stair along (1, 1, 0): one direction, two axes
        screw[n, n, 0] = screw[n, (n + 1) % 6, 0] = True
    assert [sum(ranks(s)) for s in (empty, ball, rod, sheet, screw, ~empty)] == [0, 0, 1, 2, 1, 3]
    _, axes = percolate_grid(screw.astype(float), np.flatnonzero(screw))
    assert np.isnan(axes).tolist() == [False, False, True]


@pytest.mark.statistical
def test_threshold_of_site_percolation() -> None:
    """Random sites of the simple cubic lattice percolate at a density of 0.3116077 (J. Wang et al., PRE 87, 052107)."""
    size, found = 40, []
    rng = np.random.default_rng(0)
    for _ in range(30):
        values = rng.random((size, size, size))
        by_rank, _ = percolate_grid(values, np.argsort(-values, axis=None))
        found.append(1 - by_rank[1])  # density of sites when two directions wrap
    # Finite size: the width of the threshold is size^(-1/0.8764) = 0.015; the mean moves by a fraction of it.
    assert abs(np.mean(found) - 0.3116) < 0.008
