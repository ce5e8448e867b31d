"""Van Hove correlation functions, self and distinct, and the non-Gaussian parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from argyase.errors import TrajectoryError
from argyase.physics.intervals import Interval, columns
from argyase.physics.statistics import Estimate
from argyase.schemas import DISTINCT, VANHOVE

_BLOCKS = 10
_SIDE_BY_SIDE = 128  # ions whose paths stay in the cache for all lags


def default_lags(frames: int, count: int = 60) -> NDArray[np.int64]:
    """Lags in frames, spaced evenly in the logarithm, up to half of the run."""
    return np.unique(np.geomspace(1, max(1, frames // 2), count).round().astype(np.int64))


def van_hove_self(
    paths: NDArray[np.float64] | Iterable[NDArray[np.float64]],
    time_step: float,
    *,
    lags: Sequence[int] | NDArray[np.int64] | None = None,
    r_max: float = 12.0,
    width: float = 0.1,
    stride: int = 1,
) -> xr.Dataset:
    r"""G_s(r, t), averaged over ions, time origins and directions, and the non-Gaussian parameter.

    .. math:: G_s(r,t) = \frac{1}{N} \left\langle \sum_i \delta(r - |r_i(t_0+t) - r_i(t_0)|) \right\rangle / (4 \pi r^2)

    .. math:: \alpha_2(t) = \frac{3 \langle r^4 \rangle}{5 \langle r^2 \rangle^2} - 1

    Bins are averaged over their shell, so that the sum of 4 pi r^2 G_s over the bins and the fraction beyond them is
    exactly 1. Displacements are computed in single precision from paths less their mean (below 1e-5 A for paths of
    100 A, a tenth of what trajectories are stored to).

    The error of alpha_2 is the larger of two jackknife errors: over ten blocks of time origins, and over ten or more
    groups of ions; the first is too small for lags above a twentieth of the run, the second where ions move together.

    Parameters
    ----------
    paths
        Unwrapped, without drift, shape (frame, ion, 3), A; or several such arrays, of some of the ions each, so that
        not all have to be in memory.
    time_step
        Time between frames, ps.
    lags
        In frames; `default_lags` when left out.
    r_max, width
        Range and width of the bins, A.
    stride
        Use every `stride`-th time origin.

    Returns
    -------
    Dataset
        Schema ``vanhove``.

    Raises
    ------
    TrajectoryError
        If a lag is not within the run, or the bins make no sense.

    References
    ----------
    L. Van Hove, Phys. Rev. 95, 249 (1954). A. Rahman, Phys. Rev. 136, A405 (1964), eq. 13 (alpha_2).
    """
    from argyase.physics._kernels import displacement_histogram, side_by_side

    if not (width > 0 and r_max > width and stride >= 1):
        raise TrajectoryError(
            f"r_max = {r_max}, width = {width}, stride = {stride}: need r_max > width > 0, stride >= 1"
        )
    bins = round(r_max / width)
    counts: NDArray[np.int64] | None = None
    tables = list[list[NDArray[np.float64]]]()
    chosen = np.zeros(0, np.int64)
    for part in [paths] if isinstance(paths, np.ndarray) else paths:
        if counts is None:
            frames = len(part)
            chosen = default_lags(frames) if lags is None else np.asarray(lags, dtype=np.int64)
            if len(chosen) == 0 or chosen.min() < 1 or chosen.max() >= frames:
                raise TrajectoryError(f"lags {chosen.tolist()[:5]}... frames: must be between 1 and {frames - 1}")
            counts = np.zeros((len(chosen), bins + 1), np.int64)
        pieces = -(-part.shape[1] // _SIDE_BY_SIDE)
        for some in np.array_split(np.arange(part.shape[1]), pieces):
            compact = side_by_side(part, int(some[0]), int(some[-1]) + 1)
            groups = min(_BLOCKS if pieces == 1 else 2, len(some))
            found = [displacement_histogram(compact, int(n), stride, width, bins, _BLOCKS, groups) for n in chosen]
            counts += np.stack([count for count, _ in found])
            tables.append([table for _, table in found])
    if counts is None:
        raise TrajectoryError("no paths")
    fraction = counts / counts.sum(axis=1, keepdims=True)
    edges = width * np.arange(bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    alpha = [
        _non_gaussian(np.concatenate(per_lag, axis=1), n)
        for per_lag, n in zip(zip(*tables, strict=True), counts.sum(axis=1), strict=True)
    ]
    return VANHOVE.dataset(
        lag=chosen * time_step,
        r=0.5 * (edges[1:] + edges[:-1]),
        g_self=fraction[:, :-1] / shells,
        radial_probability=fraction[:, :-1] / width,
        fraction_beyond=fraction[:, -1],
        **columns("non_gaussian", alpha),
    )


def _non_gaussian(moments: NDArray[np.float64], count: int) -> Interval:
    """alpha_2 from sums of r^2 and r^4 by block of origins and group of ions, (block, group, 2), of `count` in all."""
    whole = moments.sum(axis=(0, 1))
    if whole[0] == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan)

    def alpha(sums: NDArray[np.float64], n: float) -> NDArray[np.float64]:
        return np.asarray(0.6 * sums[..., 1] * n / sums[..., 0] ** 2 - 1.0)

    errors = [(0.0, 1)]
    for axis in (0, 1):
        parts = moments.sum(axis=1 - axis)
        parts = parts[parts[:, 0] > 0]
        if (n := len(parts)) > 1:
            # Blocks and groups are of about one size.
            without = alpha(whole - parts, count * (1 - 1 / n))
            errors.append((math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum())), n - 1))
    stderr, dof = max(errors)
    return Interval.of(Estimate(float(alpha(whole, count)), stderr, dof))


def snapshot_frames(frames: int, lags: Sequence[int] | NDArray[np.int64], origins: int) -> NDArray[np.int64]:
    """Numbers of the frames that `van_hove_distinct` looks at.

    >>> snapshot_frames(100, [5], 2).tolist()
    [0, 5, 94, 99]
    """
    starts = _starts(frames, int(np.max(lags)), origins)
    return np.unique(np.concatenate([starts, *(starts + int(lag) for lag in lags)]))


def _starts(frames: int, longest: int, origins: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, frames - 1 - longest, origins).round().astype(np.int64))


def van_hove_distinct(
    snapshots: Mapping[int, NDArray[np.float64]],
    frames: int,
    time_step: float,
    cell: NDArray[np.float64],
    *,
    lags: Sequence[int] | NDArray[np.int64],
    origins: int = 40,
    r_max: float = 10.0,
    width: float = 0.1,
) -> xr.Dataset:
    r"""G_d(r, t) over the density of the ions: where another ion is, a time t after one was at the origin.

    .. math:: \frac{G_d(r,t)}{\rho} = \frac{V}{4 \pi r^2 N (N-1)} \left\langle \sum_i \sum_{j \neq i}
              \delta(r - |r_j(t_0+t) - r_i(t_0)|) \right\rangle

    It is g(r) at t = 0 and goes to 1; that it rises at r = 0 says that another ion takes the place that one has left.
    Errors from ten blocks of the time origins.

    Parameters
    ----------
    snapshots
        Positions of the ions in the mean cell, (ion, 3) in A, of the frames that `snapshot_frames` names.
    frames
        Length of the run.
    time_step
        Time between frames, ps.
    cell
        Mean cell, vectors as rows, A.
    lags
        In frames; 0 is allowed.
    origins
        Number of time origins, spread over the run.
    r_max, width
        Range and width of the bins, A; r_max must be below half the height of the cell.

    Returns
    -------
    Dataset
        Schema ``distinct``.

    Raises
    ------
    TrajectoryError
        If r_max is too long for the cell, a lag not within the run, or there are fewer than two ions or origins.

    References
    ----------
    L. Van Hove, Phys. Rev. 95, 249 (1954). J.-P. Hansen, I. R. McDonald, Theory of Simple Liquids (2013), section 7.4.
    """
    from argyase.physics._kernels import pair_histogram

    chosen = np.asarray(lags, dtype=np.int64)
    if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= frames:
        raise TrajectoryError(f"lags {chosen.tolist()[:5]}... frames: must be between 0 and {frames - 1}")
    inverse = np.linalg.inv(cell)
    room = float((1 / np.linalg.norm(inverse, axis=0)).min()) / 2
    if not 0 < width < r_max <= room:
        raise TrajectoryError(
            f"r_max = {r_max} A, width = {width} A: need width < r_max <= {room:.2f} A, half the height of the cell"
        )
    starts = _starts(frames, int(chosen.max()), origins)
    ions = len(snapshots[int(starts[0])])
    if ions < 2 or len(starts) < 2:
        raise TrajectoryError(f"{ions} ions, {len(starts)} time origins: at least two of each are needed")
    bins = round(r_max / width)
    edges = width * np.arange(bins + 1)
    ideal = 4 / 3 * np.pi * np.diff(edges**3) * ions * (ions - 1) / abs(float(np.linalg.det(cell)))
    found = np.empty((len(starts), len(chosen), bins))
    for k, start in enumerate(starts.tolist()):
        for n, lag in enumerate(chosen.tolist()):
            pair = snapshots[start], snapshots[start + lag]
            found[k, n] = pair_histogram(*pair, cell, inverse, width, bins) / ideal
    parts = np.array([part.mean(axis=0) for part in np.array_split(found, min(_BLOCKS, len(starts)))])
    return DISTINCT.dataset(
        lag=chosen * time_step,
        r=0.5 * (edges[1:] + edges[:-1]),
        g_distinct=found.mean(axis=0),
        g_distinct_stderr=parts.std(axis=0, ddof=1) / math.sqrt(len(parts)),
        origins=len(starts),
    )
