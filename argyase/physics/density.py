"""Probability density of Li on a grid: isosurfaces, their connectivity, and free-energy barriers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from argyase.errors import TrajectoryError
from argyase.physics.intervals import Interval, columns
from argyase.physics.statistics import Estimate
from argyase.schemas import DENSITY
from argyase.structures import sites
from argyase.structures.tetrahedra import find_framework
from argyase.units import BOLTZMANN_EV_K

MULTIPLES = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Isosurface levels, in multiples of the mean density."""

Chunk = tuple[NDArray[np.float64], NDArray[np.float64]]

_BLOCKS = 8


def density(
    chunks: Iterable[Chunk],
    species: NDArray[np.str_],
    frames: int,
    temperature: float,
    *,
    ion: str = "Li",
    spacing: float = 0.3,
    smoothing: float = 0.3,
    fold: bool = False,
    symmetry: bool = False,
) -> xr.Dataset:
    r"""Density of the ions, the level at which its isosurface percolates, and the free energy that this means.

    .. math:: F(\mathbf r) = -k_B T \ln \frac{\rho(\mathbf r)}{\rho_\mathrm{max}}

    Positions are fractional coordinates of each frame's own cell, relative to the framework (mean displacement of all
    other atoms), so that neither breathing nor drift blurs them. The grid is smoothed by a Gaussian.

    The percolation level in n directions is the highest :math:`\rho` for which the voxels at or above it, joined
    through faces, contain a part that goes on for ever in n independent directions; found by adding voxels in falling
    order to a periodic union-find. ``barrier``: F at that level, what an ion must climb on the best way through the
    crystal, with the jackknife error over eight blocks of time. Smoothing lowers it: by the curvature of F times the
    square of `smoothing`.

    Parameters
    ----------
    chunks
        Unwrapped positions of all atoms, (frame, atom, 3) in A, and cell vectors as rows, (frame, 3, 3) in A, in order.
    species
        Symbols, shape (atom,).
    frames
        Number of frames in all.
    temperature
        K.
    ion
        The diffusing species.
    spacing
        Largest edge of a voxel, A.
    smoothing
        Standard deviation of the Gaussian, A; 0 for none.
    fold
        Average over the unit cells of an argyrodite; its 4a sites come to lie at the origin.
    symmetry
        Average over the 96 operations of F-43m as well (with `fold` only).

    Returns
    -------
    Dataset
        Schema ``density``.

    Raises
    ------
    TrajectoryError
        If settings make no sense, there are fewer than eight frames or another number than `frames`, no such ion, or
        (with `fold`) no argyrodite.

    References
    ----------
    Union-find for percolation: M. E. J. Newman, R. M. Ziff, Phys. Rev. E 64, 016706 (2001); J. Machta et al., Phys.
    Rev. E 54, 1332 (1996) (periodic). B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), ch. 11.
    """
    if not (spacing > 0 and smoothing >= 0):
        raise TrajectoryError(f"spacing = {spacing} A, smoothing = {smoothing} A: need > 0 and >= 0")
    if symmetry and not fold:
        raise TrajectoryError("symmetry averages over the unit cell: it needs fold, too")
    if frames < _BLOCKS:
        raise TrajectoryError(f"{frames} frames: at least {_BLOCKS} are needed for a density with an error bar")
    counts, cell, framework, symbols, ions = _histogram(chunks, np.asarray(species), frames, ion, spacing, fold)
    if symmetry:
        counts = np.stack([_symmetric(block) for block in counts])
    voxel = abs(float(np.linalg.det(cell))) / counts[0].size
    width = smoothing / (np.linalg.norm(cell, axis=1) / counts.shape[1:])

    def mapped(total: NDArray[np.float32], of_frames: float) -> NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(total, width, mode="wrap") if smoothing > 0 else total
        return np.asarray(smooth / np.float32(of_frames * voxel), dtype=np.float32)

    total = counts.sum(axis=0, dtype=np.float32)
    rho = mapped(total, frames)
    by_rank, by_axis = percolation_levels(rho)
    sizes = np.bincount(np.arange(frames) * _BLOCKS // frames)
    without = []
    for block, size in zip(counts, sizes, strict=True):
        left_out = mapped(total - block, frames - size)
        without.append((percolation_levels(left_out)[0], float(left_out.max())))
    kt = BOLTZMANN_EV_K * temperature
    barriers, levels = list[Interval](), list[Interval]()
    mean = float(rho.mean())
    for n in range(3):
        others = np.array([level[n] for level, _ in without])
        tops = np.array([top for _, top in without])
        barriers.append(_jackknife(kt * _log(float(rho.max()) / by_rank[n]), kt * _log(tops / others)))
        levels.append(_jackknife(by_rank[n] / mean, others / mean))
    free = np.full(rho.shape, np.inf, dtype=np.float32)
    np.log(rho / rho.max(), where=rho > 0, out=free)
    volume, held, parts, directions = zip(*(_isosurface(rho, m * mean, by_rank) for m in MULTIPLES), strict=True)
    return DENSITY.dataset(
        attrs={"folded": int(fold), "symmetry": int(symmetry)},
        density=rho,
        free_energy=np.where(np.isfinite(free), -np.float32(kt) * free, np.float32(np.inf)),
        mean_density=mean,
        **columns("percolation_level", levels),
        **columns("barrier", barriers),
        axis_level=by_axis / mean,
        volume_fraction=volume,
        ion_fraction=held,
        parts=parts,
        directions=directions,
        cell=cell,
        framework=framework,
        species=symbols,
        dimension=[1, 2, 3],
        multiple=MULTIPLES,
        xyz=["x", "y", "z"],
        grid_a=(np.arange(rho.shape[0]) + 0.5) / rho.shape[0],
        grid_b=(np.arange(rho.shape[1]) + 0.5) / rho.shape[1],
        grid_c=(np.arange(rho.shape[2]) + 0.5) / rho.shape[2],
        temperature=temperature,
        smoothing=smoothing,
        ions=ions,
    )


def percolation_levels(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Highest level whose isosurface wraps the periodic grid in 1, 2, 3 directions, and along each axis; NaN: at none.

    Only what is above zero counts. Where three directions wrap, axes that do so at lower levels only are left NaN.

    Examples
    --------
    >>> rod = np.zeros((4, 4, 4), dtype=np.float32)
    >>> rod[1, 2, :] = [2, 3, 4, 5]
    >>> percolation_levels(rod)[0].tolist()
    [2.0, nan, nan]
    """
    from argyase.physics._percolation import percolate_grid

    flat = values.ravel()
    order = np.argsort(-flat, kind="stable").astype(np.int32)
    by_rank, by_axis = percolate_grid(values.astype(np.float32), order[: int((flat > 0).sum())])
    return np.asarray(by_rank), np.asarray(by_axis)


def _histogram(
    chunks: Iterable[Chunk], species: NDArray[np.str_], frames: int, ion: str, spacing: float, fold: bool
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], NDArray[np.str_], int]:
    """Counts by block of time, (block, a, b, c); cell; mean fractional framework and its symbols; number of ions."""
    from argyase.physics._kernels import voxel_counts

    mobile = species == ion
    if not mobile.any() or mobile.all():
        raise TrajectoryError(
            f"{int(mobile.sum())} {ion} of {len(species)} atoms: need some, and a framework of others"
        )
    counts = np.zeros((0, 0, 0, 0), np.float32)
    done, cells, still = 0, np.zeros((3, 3)), np.zeros((int((~mobile).sum()), 3))
    start, origin, scale = np.zeros(3), np.zeros(3), np.ones(3)
    for positions, boxes in chunks:
        if done + len(positions) > frames:
            raise TrajectoryError(f"more than the {frames} frames that were announced")
        place = positions @ np.linalg.inv(boxes)
        if done == 0:
            start = place[0, ~mobile].mean(axis=0)
        place -= place[:, ~mobile].mean(axis=1, keepdims=True) - start
        if done == 0:
            cell, shape = boxes.mean(axis=0), np.ones(3)
            if fold:
                found = find_framework(place.mean(axis=0) @ cell, cell, species)
                shape = np.array(found.topology.supercell, dtype=float)
                sign = -1.0 if found.topology.anion_sites.min() < -1e-9 else 1.0
                origin, scale = found.origin / shape, sign * shape
            sides = np.linalg.norm(cell, axis=1) / shape
            # Even, so that a shift by half a cell is one of the grid; all alike where symmetry mixes the axes.
            grid = np.full(3, 2 * math.ceil(sides.mean() / spacing / 2)) if fold else np.ceil(sides / spacing)
            counts = np.zeros((_BLOCKS, *grid.astype(int)), np.float32)
        there = (place - origin) * scale
        block = (np.arange(done, done + len(place)) * _BLOCKS // frames).astype(np.int64)
        voxel_counts(np.ascontiguousarray(there[:, mobile]), block, counts)
        still += there[:, ~mobile].sum(axis=0)
        cells += boxes.sum(axis=0)
        done += len(place)
    if done != frames:
        raise TrajectoryError(f"{done} frames, but {frames} were announced")
    copies = float(np.prod(np.abs(scale)))
    mean_cell = cells / frames / np.abs(scale)[:, None]
    counts /= np.float32(copies)
    return counts, mean_cell, still / frames % 1.0, species[~mobile], int(mobile.sum())


def _symmetric(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the 24 operations of -43m about the origin and the four translations of the face-centred lattice."""
    found = np.zeros_like(counts)
    half = counts.shape[0] // 2
    for operation in sites.point_operations():
        axes = np.abs(operation).argmax(axis=1)
        turned = counts.transpose(tuple(int(a) for a in axes))
        turned = np.flip(turned, tuple(k for k in range(3) if operation[k].sum() < 0))
        for shift in ((0, 0, 0), (0, half, half), (half, 0, half), (half, half, 0)):
            found += np.roll(turned, shift, (0, 1, 2))
    return found / np.float32(96)


def _isosurface(rho: NDArray[np.float32], level: float, by_rank: NDArray[np.float64]) -> tuple[float, float, int, int]:
    """Fraction of the volume and of the ions inside, number of parts, and directions in which one goes on for ever."""
    inside = rho >= level
    labels, count = ndimage.label(inside)
    # Parts that meet through the faces of the cell are one.
    graph = set[tuple[int, int]]()
    for axis in range(3):
        first, last = np.take(labels, 0, axis), np.take(labels, -1, axis)
        both = (first > 0) & (last > 0)
        graph |= set(zip(first[both].tolist(), last[both].tolist(), strict=True))
    parent = list(range(count + 1))
    for a, b in graph:
        while parent[a] != a:
            a = parent[a]
        while parent[b] != b:
            b = parent[b]
        parent[a] = b
    parts = sum(parent[n] == n for n in range(1, count + 1))
    wraps = int((by_rank >= level).sum())
    return float(inside.mean()), float(rho[inside].sum() / rho.sum()), parts, wraps


def _log(ratio: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(ratio), dtype=np.float64)


def _jackknife(value: float | NDArray[np.float64], without: NDArray[np.float64]) -> Interval:
    """Value with the error of leaving out one block after the other; NaN where some do not percolate."""
    n = len(without)
    stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return Interval.of(Estimate(float(value), stderr, n - 1), floor=0.0)
