"""Self part of the van Hove correlation function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from argyase.errors import TrajectoryError
from argyase.schemas import VANHOVE


def default_lags(frames: int, count: int = 60) -> NDArray[np.int64]:
    """Lags in frames, spaced evenly in the logarithm, up to half of the run."""
    return np.unique(np.geomspace(1, max(1, frames // 2), count).round().astype(np.int64))


def van_hove_self(
    paths: NDArray[np.float64],
    time_step: float,
    *,
    lags: Sequence[int] | NDArray[np.int64] | None = None,
    r_max: float = 12.0,
    width: float = 0.1,
    stride: int = 1,
) -> xr.Dataset:
    r"""G_s(r, t), averaged over ions, time origins and directions.

    .. math:: G_s(r,t) = \frac{1}{N} \left\langle \sum_i \delta(r - |r_i(t_0+t) - r_i(t_0)|) \right\rangle / (4 \pi r^2)

    Bins are averaged over their shell, so that the sum of 4 pi r^2 G_s over the bins and the fraction beyond them is
    exactly 1.

    Parameters
    ----------
    paths
        Unwrapped, without drift, shape (frame, ion, 3), A.
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
    L. Van Hove, Phys. Rev. 95, 249 (1954).
    """
    from argyase.physics._kernels import displacement_histogram

    frames = len(paths)
    chosen = default_lags(frames) if lags is None else np.asarray(lags, dtype=np.int64)
    if len(chosen) == 0 or chosen.min() < 1 or chosen.max() >= frames:
        raise TrajectoryError(f"lags {chosen.tolist()[:5]}... frames: must be between 1 and {frames - 1}")
    if not (width > 0 and r_max > width and stride >= 1):
        raise TrajectoryError(
            f"r_max = {r_max}, width = {width}, stride = {stride}: need r_max > width > 0, stride >= 1"
        )
    bins = round(r_max / width)
    counts = np.stack([displacement_histogram(paths, int(lag), stride, width, bins) for lag in chosen])
    fraction = counts / counts.sum(axis=1, keepdims=True)
    edges = width * np.arange(bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    return VANHOVE.dataset(
        lag=chosen * time_step,
        r=0.5 * (edges[1:] + edges[:-1]),
        g_self=fraction[:, :-1] / shells,
        radial_probability=fraction[:, :-1] / width,
        fraction_beyond=fraction[:, -1],
    )
