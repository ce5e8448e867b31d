"""Radial distribution functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from argyase.errors import StatisticsError


def radial_distribution(
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    species: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    r_max: float,
    bins: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Radial distribution functions of pairs of species, averaged over frames.

    .. math:: g_{ab}(r) = \frac{\langle n_{ab}(r) \rangle}{\rho_b \, N_a \, \frac{4}{3}\pi (r_+^3 - r_-^3)}

    with :math:`n_{ab}` the number of ordered pairs of different atoms, images included, whose distance is in the bin
    from :math:`r_-` to :math:`r_+`, and :math:`\rho_b = N_b / V` (:math:`(N_b - 1) / V` for :math:`a = b`), so that an
    ideal gas has :math:`g = 1`.

    Parameters
    ----------
    positions
        A, shape (frame, atom, 3).
    cells
        Cell vectors as rows, A, shape (frame, 3, 3); periodic in all directions.
    species
        Symbols, shape (atom,).
    pairs
        Pairs of symbols; both orders give the same.
    r_max
        Largest distance, A.
    bins
        Number of bins.

    Returns
    -------
    r, g : ndarray
        Middle of the bins, A, shape (r,), and the functions, shape (pair, r).

    Raises
    ------
    StatisticsError
        If there are no frames, or a pair has no two atoms.

    Notes
    -----
    M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 8.2.
    """
    from matscipy.neighbours import neighbour_list

    symbols = np.asarray(species)
    names = sorted(set(symbols.tolist()))
    number = np.array([names.index(s) for s in symbols.tolist()])
    counts = np.bincount(number, minlength=len(names))
    for a, b in pairs:
        if a not in names or b not in names or (a == b and counts[names.index(a)] < 2):
            raise StatisticsError(f"radial distribution of {a}-{b}: no two such atoms")
    if len(positions) == 0:
        raise StatisticsError("radial distribution: no frames")
    edges = np.linspace(0.0, r_max, bins + 1)
    density = np.zeros((len(names), len(names), bins))
    for place, cell in zip(positions, cells, strict=True):
        i, j, d = neighbour_list("ijd", positions=place, cell=cell, pbc=[True] * 3, cutoff=r_max)
        # Images of an atom itself are as many as those of any other: they are no pair of different atoms.
        kept = (i != j) & (d < r_max)
        kind = number[i[kept]] * len(names) + number[j[kept]]
        where = kind * bins + np.minimum((d[kept] * (bins / r_max)).astype(int), bins - 1)
        histogram = np.bincount(where, minlength=density.size).reshape(density.shape)
        density += histogram * abs(float(np.linalg.det(cell)))
    shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    found = np.empty((len(pairs), bins))
    for k, (a, b) in enumerate(pairs):
        m, n = names.index(a), names.index(b)
        found[k] = density[m, n] / (len(positions) * counts[m] * (counts[n] - (m == n)) * shell)
    return (edges[1:] + edges[:-1]) / 2, found
