"""Untrained potentials of any level: which contractions there are, and how they are computed with few products.

Basic moments M_{mu,nu} = sum_j f_mu(r_j) n_j^(x nu) are symmetric tensors of rank nu and level 2 + 4 mu + nu. The
scalar basis functions of a potential of level L are all full contractions of products of up to four of them whose
levels sum to L or less (A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016), sec. 4; I. S. Novikov et al., Mach.
Learn.: Sci. Technol. 2, 025002 (2021), eqs. 4-6). A contraction is a multigraph: a vertex for each moment, an edge for
each pair of indices that are summed over; its level is 2 + 4 mu for each vertex and 2 for each edge. Graphs in several
parts are products of scalars. Up to level 24 these are as many as in the files of MLIP; from 26 on those leave out
moments of rank above 10 and of mu above 5, which the definition has (1464 instead of 1466 scalars at level 26).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.errors import ConfigError, PotentialFileError
from argyase.potentials.mtp_file import MTPFile

MOST_FACTORS = 4
"""Moments in a product at most, as in MLIP: an atom with up to four others, or five bodies."""

LEVELS = tuple(range(2, 30, 2))
"""Levels that `untrained` knows."""

Index = tuple[int, int, int]
"""Component of a symmetric tensor: how many of its indices are x, y, z."""


@dataclass(frozen=True, order=True)
class _Graph:
    """A connected contraction, perhaps with indices left open: then it is a tensor.

    Vertex v has colour mu[v] and open[v] open indices; bonds[v][w] indices are summed between v and w. In canonical
    order, so that equal graphs are equal objects.
    """

    mu: tuple[int, ...]
    open: tuple[int, ...]
    bonds: tuple[tuple[int, ...], ...]

    @property
    def level(self) -> int:
        return sum(2 + 4 * m for m in self.mu) + sum(map(sum, self.bonds)) + sum(self.open)

    @property
    def rank(self) -> tuple[int, ...]:
        """Rank of the moment at each vertex."""
        return tuple(o + sum(row) for o, row in zip(self.open, self.bonds, strict=True))


def _orders(mu: tuple[int, ...], free: tuple[int, ...], bonds: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """The orders of the vertices that lead to the canonical form; from one, the others are its symmetries."""
    n = len(mu)
    # Vertices that look different, from farther and farther away, are told apart first.
    colour: list[object] = [(mu[v], free[v], sum(bonds[v])) for v in range(n)]
    for _ in range(n):
        seen = [(colour[v], sorted((bonds[v][w], colour[w]) for w in range(n) if bonds[v][w])) for v in range(n)]
        ranks = {key: k for k, key in enumerate(sorted({repr(s) for s in seen}))}
        colour = [ranks[repr(s)] for s in seen]
    classes: dict[object, list[int]] = {}
    for v in range(n):
        classes.setdefault(colour[v], []).append(v)
    # Colours are numbered by how they look, not by their vertices: the same for equal graphs.
    groups = [classes[c] for c in sorted(classes, key=lambda c: (mu[classes[c][0]], free[classes[c][0]], repr(c)))]
    best: tuple[tuple[int, ...], ...] | None = None
    found: list[tuple[int, ...]] = []
    for parts in itertools.product(*(itertools.permutations(g) for g in groups)):
        order = tuple(itertools.chain.from_iterable(parts))
        form = tuple(tuple(bonds[v][w] for w in order) for v in order)
        if best is None or form > best:
            best, found = form, []
        if form == best:
            found.append(order)
    return found


@cache
def _canonical(
    mu: tuple[int, ...], free: tuple[int, ...], bonds: tuple[tuple[int, ...], ...]
) -> tuple[_Graph, tuple[int, ...]]:
    """The graph, and which of the given vertices each of its vertices is."""
    order = _orders(mu, free, bonds)[0]
    graph = _Graph(
        tuple(mu[v] for v in order),
        tuple(free[v] for v in order),
        tuple(tuple(bonds[v][w] for w in order) for v in order),
    )
    return graph, order


@cache
def _connected(level: int) -> tuple[_Graph, ...]:
    """All connected scalars of a level or less."""
    first = _Graph((0,), (0,), ((0,),))
    found, new = {first}, [first]
    while new:
        graph = new.pop()
        for mu, bonds in _grown(graph):
            if len(mu) <= MOST_FACTORS and sum(2 + 4 * m for m in mu) + sum(map(sum, bonds)) <= level:
                larger, _ = _canonical(mu, (0,) * len(mu), bonds)
                if larger not in found:
                    found.add(larger)
                    new.append(larger)
    return tuple(sorted(found, key=lambda g: (g.level, g)))


def _grown(graph: _Graph) -> Iterator[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """A vertex of the next colour, one more bond, or one more vertex: every connected graph is reached by these."""
    n = len(graph.mu)
    for v in range(n):
        yield tuple(m + (v == w) for w, m in enumerate(graph.mu)), graph.bonds
        grown = [[*row, int(v == w)] for w, row in enumerate(graph.bonds)]
        yield (*graph.mu, 0), (*map(tuple, grown), (*(int(v == w) for w in range(n)), 0))
        for w in range(v):
            bonds = [list(row) for row in graph.bonds]
            bonds[v][w] += 1
            bonds[w][v] += 1
            yield graph.mu, tuple(map(tuple, bonds))


Scalar = tuple[_Graph, ...]
"""A scalar basis function: its connected parts."""


def _scalars(level: int) -> list[Scalar]:
    """All scalar basis functions of a level, those of lower levels first."""
    parts = _connected(level)

    def products(left: int, factors: int, start: int) -> Iterator[Scalar]:
        for k in range(start, len(parts)):
            if parts[k].level > left:
                break
            if len(parts[k].mu) <= factors:
                yield (parts[k],)
                for more in products(left - parts[k].level, factors - len(parts[k].mu), k):
                    yield (parts[k], *more)

    return sorted(products(level, MOST_FACTORS, 0), key=lambda s: (sum(g.level for g in s), len(s), s))


def _components(degree: int) -> list[Index]:
    """Components of a symmetric tensor: falling number of x, then of y."""
    return [(a, b, degree - a - b) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)]


def _multinomial(index: Index) -> int:
    return math.factorial(sum(index)) // math.prod(map(math.factorial, index))


@cache
def _symmetries(graph: _Graph) -> tuple[tuple[int, ...], ...]:
    """Permutations of the vertices that leave the graph as it is."""
    base, *others = _orders(graph.mu, graph.open, graph.bonds)
    back = {v: k for k, v in enumerate(base)}
    return tuple(tuple(order[back[v]] for v in range(len(base))) for order in [base, *others])


def _representative(graph: _Graph, component: tuple[Index, ...]) -> tuple[Index, ...]:
    """Of the components that are equal by symmetry, one."""
    return min(tuple(component[v] for v in p) for p in _symmetries(graph))


@cache
def _all_components(graph: _Graph) -> tuple[tuple[Index, ...], ...]:
    """Components of the tensor that are not equal by symmetry; an index for each vertex."""
    every = itertools.product(*(_components(o) for o in graph.open))
    return tuple(dict.fromkeys(_representative(graph, c) for c in every))


@dataclass(frozen=True)
class _Split:
    """A tensor as a contraction of two others."""

    left: _Graph
    right: _Graph
    of_left: tuple[int, ...]  # which vertex of the whole each of the left's is
    of_right: tuple[int, ...]


@cache
def _splits(graph: _Graph) -> tuple[_Split, ...]:
    """All ways to cut a graph into two connected ones."""
    n = len(graph.mu)
    found = []
    for mask in range(1, 2 ** (n - 1)):  # the last vertex is on the right
        sides = [v for v in range(n) if mask >> v & 1], [v for v in range(n) if not mask >> v & 1]
        if all(_is_connected(graph, side) for side in sides):
            (left, of_left), (right, of_right) = (_part(graph, side) for side in sides)
            found.append(_Split(left, right, of_left, of_right))
    return tuple(found)


def _is_connected(graph: _Graph, vertices: list[int]) -> bool:
    reached, new = {vertices[0]}, [vertices[0]]
    while new:
        v = new.pop()
        for w in vertices:
            if graph.bonds[v][w] and w not in reached:
                reached.add(w)
                new.append(w)
    return len(reached) == len(vertices)


def _part(graph: _Graph, vertices: list[int]) -> tuple[_Graph, tuple[int, ...]]:
    """The graph of some of the vertices, bonds to the others cut open; which vertex of the whole each is."""
    inside = set(vertices)
    free = tuple(graph.open[v] + sum(k for w, k in enumerate(graph.bonds[v]) if w not in inside) for v in vertices)
    bonds = tuple(tuple(graph.bonds[v][w] for w in vertices) for v in vertices)
    part, order = _canonical(tuple(graph.mu[v] for v in vertices), free, bonds)
    return part, tuple(vertices[k] for k in order)


Pair = tuple[tuple[Index, ...], tuple[Index, ...]]


@cache
def _terms(graph: _Graph, split: _Split) -> dict[tuple[Index, ...], Counter[Pair]]:
    """Each component of the tensor as a sum of products of components of the two parts, with whole factors."""
    crossing = [(v, w, graph.bonds[v][w]) for v in split.of_left for w in split.of_right if graph.bonds[v][w]]
    same = split.left == split.right
    found = {}
    for component in _all_components(graph):
        sums: Counter[Pair] = Counter()
        for shared in itertools.product(*(_components(k) for _, _, k in crossing)):
            factor = math.prod(map(_multinomial, shared))
            index = [list(i) for i in component]
            for (v, w, _), extra in zip(crossing, shared, strict=True):
                for axis in range(3):
                    index[v][axis] += extra[axis]
                    index[w][axis] += extra[axis]

            def of(part: _Graph, vertices: tuple[int, ...], index: list[list[int]] = index) -> tuple[Index, ...]:
                return _representative(part, tuple((i[0], i[1], i[2]) for i in (index[v] for v in vertices)))

            pair = of(split.left, split.of_left), of(split.right, split.of_right)
            sums[min(pair, pair[::-1]) if same else pair] += factor
        found[component] = sums
    return found


@dataclass
class _Program:
    """Moments made so far, and the products that make them."""

    number: dict[tuple[_Graph, tuple[Index, ...]], int] = field(default_factory=dict)
    times: list[tuple[int, int, int, int]] = field(default_factory=list)
    count: int = 0

    def cost(self, graph: _Graph, memo: dict[_Graph, int]) -> int:
        """How many more products it takes to have this tensor."""
        if len(graph.mu) == 1 or (graph, _all_components(graph)[0]) in self.number:
            return 0
        if graph not in memo:
            memo[graph] = min(self._cost_of(graph, split, memo) for split in _splits(graph))
        return memo[graph]

    def _cost_of(self, graph: _Graph, split: _Split, memo: dict[_Graph, int]) -> int:
        parts = self.cost(split.left, memo) + (self.cost(split.right, memo) if split.right != split.left else 0)
        return parts + sum(map(len, _terms(graph, split).values()))

    def build(self, graph: _Graph) -> None:
        """Make the tensor, and first what it is made of."""
        if len(graph.mu) == 1 or (graph, _all_components(graph)[0]) in self.number:
            return
        memo: dict[_Graph, int] = {}
        split = min(_splits(graph), key=lambda s: self._cost_of(graph, s, memo))
        self.build(split.left)
        self.build(split.right)
        for component, sums in _terms(graph, split).items():
            self.number[graph, component] = self.count
            for (left, right), factor in sums.items():
                self.times.append((self.number[split.left, left], self.number[split.right, right], factor, self.count))
            self.count += 1

    def build_product(self, scalar: Scalar, numbers: dict[Scalar, int]) -> int:
        """Number of the moment that is this product of scalars."""
        if len(scalar) == 1:
            self.build(scalar[0])
            return self.number[scalar[0], _all_components(scalar[0])[0]]
        # Products of fewer factors are scalars of a lower level, made before.
        self.times.append((numbers[scalar[:-1]], numbers[scalar[-1:]], 1, self.count))
        self.count += 1
        return self.count - 1


@cache
def _tables(level: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]:
    """alpha_index_basic, alpha_index_times, alpha_moment_mapping, alpha_moments_count."""
    scalars = _scalars(level)
    highest: dict[int, int] = {}
    for graph in itertools.chain.from_iterable(scalars):
        for mu, rank in zip(graph.mu, graph.rank, strict=True):
            highest[mu] = max(highest.get(mu, 0), rank)
    program, basic = _Program(), []
    for mu in sorted(highest):
        for rank in range(highest[mu] + 1):
            vertex = _Graph((mu,), (rank,), ((0,),))
            for component in _components(rank):
                program.number[vertex, (component,)] = program.count
                basic.append((mu, *component))
                program.count += 1
    numbers: dict[Scalar, int] = {}
    for scalar in scalars:
        numbers[scalar] = program.build_product(scalar, numbers)
    return (
        np.array(basic, dtype=np.int32).reshape(-1, 4),
        np.array(program.times, dtype=np.int32).reshape(-1, 4),
        np.array([numbers[s] for s in scalars], dtype=np.int32),
        program.count,
    )


def untrained(level: int, *, max_dist: float = 6.0, radial_basis_size: int = 8) -> MTPFile:
    """The moments of a level, without coefficients.

    Scalars stand in the order of their levels: those of a lower level are the first ones of a higher.

    Parameters
    ----------
    level
        One of `LEVELS`.
    max_dist
        Cutoff, A.
    radial_basis_size
        Polynomials of a radial function.

    Raises
    ------
    ConfigError
        If there is no such level, or the cutoff or the size of the basis is not positive.

    Examples
    --------
    >>> template = untrained(10)
    >>> len(template.alpha_index_basic), len(template.alpha_moment_mapping), template.radial_funcs_count
    (25, 16, 3)
    """
    if level not in LEVELS:
        raise ConfigError(f"level = {level}: need an even number from {LEVELS[0]} to {LEVELS[-1]}")
    if not max_dist > 0 or radial_basis_size < 1:
        raise ConfigError(f"cutoff = {max_dist} A, radial basis of {radial_basis_size}: both must be positive")
    basic, times, mapping, count = _tables(level)
    return MTPFile(
        species_count=0,
        # Of a template; a start sets it from the labels.
        min_dist=0.5 * max_dist,
        max_dist=max_dist,
        radial_basis_size=radial_basis_size,
        radial_funcs_count=int(basic[:, 0].max()) + 1,
        radial_coeffs=np.empty((0, 0, int(basic[:, 0].max()) + 1, radial_basis_size)),
        alpha_moments_count=count,
        alpha_index_basic=basic.copy(),
        alpha_index_times=times.copy(),
        alpha_moment_mapping=mapping.copy(),
        species_coeffs=np.empty(0),
        moment_coeffs=np.empty(0),
        potential_name=f"level-{level}",
    )


def raise_level(potential: MTPFile, level: int, seed: int = 1) -> MTPFile:
    """The same potential with the moments of another level: the same energies, and more freedom to train.

    Radial functions that are new are drawn at random, about as large as the others: their moments have no weight yet,
    and would stay without a gradient if the functions were zero.

    Parameters
    ----------
    potential
        Any trained potential (of this package, MLIP or motep) whose scalars are among those of the level.
    level
        As high as that of the potential, or higher.
    seed
        Of the new radial functions.

    Raises
    ------
    PotentialFileError
        If the potential cannot be written with the moments of the level.
    """
    template = untrained(level, max_dist=potential.max_dist, radial_basis_size=potential.radial_basis_size)
    names = ("alpha_index_basic", "alpha_index_times", "alpha_moment_mapping")
    if all(np.array_equal(getattr(template, name), getattr(potential, name)) for name in names):
        return potential
    old, new = potential.radial_funcs_count, template.radial_funcs_count
    if new < old:
        raise PotentialFileError(
            f"{potential.potential_name or 'potential'}: has {old} radial functions, level {level} has {new}; "
            "choose a higher level"
        )
    size = np.sqrt((potential.radial_coeffs**2).mean(axis=(0, 1, 2)))
    shape = (*potential.radial_coeffs.shape[:2], new - old, potential.radial_basis_size)
    radial = np.concatenate([potential.radial_coeffs, np.random.default_rng(seed).normal(size=shape) * size], axis=2)
    raised = replace(
        potential,
        radial_funcs_count=new,
        radial_coeffs=radial,
        alpha_moments_count=template.alpha_moments_count,
        alpha_index_basic=template.alpha_index_basic,
        alpha_index_times=template.alpha_index_times,
        alpha_moment_mapping=template.alpha_moment_mapping,
        moment_coeffs=np.zeros(len(template.alpha_moment_mapping)),
    )
    # Which combination of the new scalars each old one is: the same for any atoms, so that random ones tell.
    theirs, ours = (_random_scalars(p, 2 * len(raised.moment_coeffs) + 50) for p in (potential, raised))
    sizes = np.linalg.norm(ours, axis=0)
    sizes[sizes == 0] = 1.0
    coefficients = np.linalg.lstsq(ours / sizes, theirs, rcond=1e-11)[0] / sizes[:, None]
    left = np.abs(ours @ coefficients - theirs).max(axis=0) / np.abs(theirs).max(axis=0)
    if left.max() > 1e-8:
        raise PotentialFileError(
            f"{potential.potential_name or 'potential'}: its basis function {int(left.argmax())} is none of level "
            f"{level} (a combination of them leaves {left.max():.1e} of it); choose a higher level"
        )
    # What rounding left of combinations that are whole numbers, most of them 0 and 1.
    whole = np.rint(coefficients)
    coefficients = np.where(np.abs(coefficients - whole) < 1e-6, whole, coefficients)
    return replace(raised, moment_coeffs=coefficients @ potential.moment_coeffs)


def extend_radial_basis(potential: MTPFile, min_dist: float, radial_basis_size: int) -> MTPFile:
    """The same potential with Chebyshev polynomials over another range of distances, and with more of them.

    The functions f_mu = sum_b c_b T_b(xi(r)) (r_c - r)^2 stay what they are, to rounding: xi is linear in r, so that
    each T_b of the old range is a combination of those of the new one up to the same degree. New coefficients are 0.

    Parameters
    ----------
    min_dist
        Where the range begins, A.
    radial_basis_size
        As large as that of the potential, or larger.

    Raises
    ------
    PotentialFileError
        If the radial basis would be smaller than it is.
    """
    size = potential.radial_basis_size
    if radial_basis_size < size:
        raise PotentialFileError(
            f"{potential.potential_name or 'potential'}: has a radial basis of {size}, {radial_basis_size} is less; "
            "choose that size, or a larger one"
        )
    if (min_dist, radial_basis_size) == (potential.min_dist, size):
        return potential
    # xi of the old range at the Chebyshev nodes of the new one: interpolation there is exact.
    nodes = np.polynomial.chebyshev.chebpts1(radial_basis_size)
    r = min_dist + (nodes + 1) * (potential.max_dist - min_dist) / 2
    xi = 2 * (r - potential.min_dist) / (potential.max_dist - potential.min_dist) - 1
    old = np.polynomial.chebyshev.chebvander(xi, size - 1)
    new = np.polynomial.chebyshev.chebvander(nodes, radial_basis_size - 1)
    # Of degrees above that of T_b rounding is left.
    combination = np.triu(np.linalg.solve(new, old))
    return replace(
        potential,
        min_dist=min_dist,
        radial_basis_size=radial_basis_size,
        radial_coeffs=potential.radial_coeffs @ combination.T,
    )


def _random_scalars(potential: MTPFile, count: int) -> NDArray[np.float64]:
    """Scalar basis functions of so many random atoms, shape (atom, scalar); the same atoms at each call."""
    from argyase.potentials.mtp import MTP

    # One species, and functions that differ from each other, of the size of 1.
    rng = np.random.default_rng(0)
    functions = rng.normal(size=(8, potential.radial_basis_size))[: potential.radial_funcs_count]
    plain = replace(
        potential,
        species_count=1,
        species_types=(),
        min_dist=1.0,
        max_dist=5.0,
        scaling=0.02,
        radial_coeffs=functions[None, None],
        species_coeffs=np.zeros(1),
    )
    calculator = MTP(plain, ["Li"])
    rows: list[NDArray[np.float64]] = []
    while sum(map(len, rows)) < count:
        atoms = Atoms("Li6", rng.uniform(0, 4.5, (6, 3)))
        rows.append(calculator.scalars(atoms)[1])
    return np.concatenate(rows)[:count]
