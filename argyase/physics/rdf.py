"""Radial distribution functions and coordination numbers, by species or by site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from argyase.errors import StatisticsError
from argyase.physics.intervals import Interval, columns, ratio_of_sums
from argyase.schemas import COORDINATION

Chunk = tuple[NDArray[np.float64], NDArray[np.float64]]

_BLOCKS = 10


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
    from argyase.physics._pairs import pair_counts

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
        counted = pair_counts(np.ascontiguousarray(place), np.ascontiguousarray(cell), number, len(names), r_max, bins)
        density += _ordered(counted) * abs(float(np.linalg.det(cell)))
    shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    found = np.empty((len(pairs), bins))
    for k, (a, b) in enumerate(pairs):
        m, n = names.index(a), names.index(b)
        found[k] = density[m, n] / (len(positions) * counts[m] * (counts[n] - (m == n)) * shell)
    return (edges[1:] + edges[:-1]) / 2, found


def _ordered(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ordered pairs, (kind, kind, bin), of pairs counted once."""
    return np.asarray(counts + counts.transpose(1, 0, 2))


def site_labels(species: NDArray[np.str_], site: NDArray[np.str_]) -> NDArray[np.str_]:
    """Label of each atom: its symbol, for anions with their site, as in ``Cl(4d)``.

    >>> site_labels(np.array(["Li", "P", "Cl"]), np.array(["48h", "4b", "4d"])).tolist()
    ['Li', 'P', 'Cl(4d)']
    """
    anion = np.isin(site, ("4a", "4d", "16e"))
    return np.where(anion, np.char.add(np.char.add(species, "("), np.char.add(site, ")")), species)


def coordination(
    chunks: Iterable[Chunk],
    labels: NDArray[np.str_],
    pairs: Sequence[tuple[str, str]],
    frames: int,
    *,
    r_max: float = 10.0,
    bins: int = 200,
) -> xr.Dataset:
    r"""Radial distribution functions and coordination numbers of pairs of kinds of atoms, with errors.

    .. math:: n_{ab}(r) = \frac{1}{N_a} \Big\langle \sum_{i \in a} \sum_{j \in b} \theta(r - r_{ij}) \Big\rangle

    g as in `radial_distribution`. The first shell ends where g, after its first peak, is lowest before it rises again;
    both are read from g smoothed over three bins, of all frames. Errors are those of ten blocks of time.

    Parameters
    ----------
    chunks
        Positions of all atoms, (frame, atom, 3) in A, and cell vectors as rows, (frame, 3, 3) in A, in order.
    labels
        Kind of each atom: its symbol, or `site_labels`; shape (atom,).
    pairs
        Of kinds: the one in the middle, and the one around it.
    frames
        Number of frames in all.
    r_max
        Largest distance, A.
    bins
        Number of bins.

    Returns
    -------
    Dataset
        Schema ``coordination``.

    Raises
    ------
    StatisticsError
        If a pair has no two atoms, there are fewer than ten frames, or another number than `frames`.

    References
    ----------
    M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 8.2.
    """
    from argyase.physics._pairs import pair_counts

    names, number, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    index = {str(name): k for k, name in enumerate(names)}
    for a, b in pairs:
        if a not in index or b not in index or (a == b and counts[index[a]] < 2):
            raise StatisticsError(f"coordination of {a}-{b}: no two such atoms; there are {', '.join(index)}")
    if frames < _BLOCKS:
        raise StatisticsError(f"{frames} frames: at least {_BLOCKS} are needed for errors")
    plain = np.zeros((_BLOCKS, len(names), len(names), bins))
    by_volume = np.zeros_like(plain)
    done = 0
    for positions, cells in chunks:
        for place, cell in zip(positions, cells, strict=True):
            if done == frames:
                raise StatisticsError(f"more than the {frames} frames that were announced")
            found = _ordered(pair_counts(place, cell, number, len(names), r_max, bins))
            block = done * _BLOCKS // frames
            plain[block] += found
            by_volume[block] += found * abs(float(np.linalg.det(cell)))
            done += 1
    if done != frames:
        raise StatisticsError(f"{done} frames, but {frames} were announced")
    each = np.bincount(np.arange(frames) * _BLOCKS // frames)
    edges = np.linspace(0.0, r_max, bins + 1)
    shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    g, around = np.empty((len(pairs), _BLOCKS, bins)), np.empty((len(pairs), _BLOCKS, bins))
    for k, (a, b) in enumerate(pairs):
        m, n = index[a], index[b]
        # Blocks of a frame more or less: their mean is that of all frames to one part in frames.
        g[k] = by_volume[:, m, n] / (each[:, None] * counts[m] * (counts[n] - (m == n)) * shell)
        around[k] = np.cumsum(plain[:, m, n], axis=1) / (each[:, None] * counts[m])
    first = [_first_shell(v.mean(axis=0)) for v in g]
    ones = np.ones(_BLOCKS)
    numbers = [
        Interval.of(ratio_of_sums(v[:, last], ones), floor=0.0) if last >= 0 else Interval(*(math.nan,) * 4)
        for v, (_, last) in zip(around, first, strict=True)
    ]
    r = (edges[1:] + edges[:-1]) / 2
    return COORDINATION.dataset(
        pair=["-".join(p) for p in pairs],
        r=r,
        rdf=g.mean(axis=1),
        rdf_stderr=g.std(axis=1, ddof=1) / math.sqrt(_BLOCKS),
        neighbours=around.mean(axis=1),
        neighbours_stderr=around.std(axis=1, ddof=1) / math.sqrt(_BLOCKS),
        peak=[r[p] if p >= 0 else math.nan for p, _ in first],
        shell=[edges[m + 1] if m >= 0 else math.nan for _, m in first],
        **columns("coordination", numbers),
    )


def _first_shell(g: NDArray[np.float64]) -> tuple[int, int]:
    """Bins of the first peak and of the minimum after it; -1 where there is none within reach."""
    smooth = np.convolve(np.pad(g, 1, mode="edge"), np.ones(3) / 3, "valid")
    above = np.flatnonzero(smooth > 1)
    if len(above) == 0:
        return -1, -1
    # The highest place of the first stretch above one; then down to where it is lowest before it is above one again.
    below = np.flatnonzero(smooth[above[0] :] < 1) + above[0]
    if len(below) == 0:
        return int(smooth.argmax()), -1
    peak = int(above[0] + smooth[above[0] : below[0]].argmax())
    again = np.flatnonzero(smooth[below[0] :] > 1) + below[0]
    end = int(again[0]) if len(again) else len(smooth)
    return peak, int(below[0] + smooth[below[0] : end].argmin())
