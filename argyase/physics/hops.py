"""Hops: ions farther than a threshold from where they started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from argyase.errors import TrajectoryError
from argyase.physics.statistics import blocks
from argyase.schemas import HOPS

_BLOCKS = 10


def hops(
    paths: NDArray[np.float64] | Iterable[NDArray[np.float64]], time_step: float, threshold: float = 3.0
) -> xr.Dataset:
    """Three readings of "displaced by more than 3 A from the initial position", each under its own name.

    With d_i(t) = |r_i(t) - r_i(0)|:

    - ``ever_beyond``: ions with d_i(t) > threshold at any frame;
    - ``end_beyond``: ions with d_i > threshold at the last frame;
    - ``crossings``: upward crossings, frames with d_i(t) > threshold and d_i(t - 1) <= threshold, all ions. It grows
      with the frame rate, because rattling across the threshold counts each time.

    ``crossing_rate`` is crossings per ion and ns; its error comes from ten blocks of time.

    Parameters
    ----------
    paths
        Unwrapped, without drift, shape (frame, ion, 3), A; or some ions at a time, arrays of that shape.
    time_step
        Time between frames, ps.
    threshold
        A.

    Returns
    -------
    Dataset
        Schema ``hops``.

    Raises
    ------
    TrajectoryError
        If there are fewer than 20 frames, or the threshold is not positive.

    References
    ----------
    Jang et al., J. Mater. Chem. A 13, 16547 (2025), figs. 4b and 5c: the text leaves open which of the three is meant.
    """
    if not threshold > 0:
        raise TrajectoryError(f"threshold = {threshold} A: must be positive")
    ions = end = 0
    ever, up = np.zeros(0, int), np.zeros(0, int)
    for block in [paths] if isinstance(paths, np.ndarray) else paths:
        frames = len(block)
        if frames < 2 * _BLOCKS:
            raise TrajectoryError(f"{frames} frames: at least {2 * _BLOCKS} are needed to count hops with an error bar")
        if not ions:
            ever, up = np.zeros(frames, int), np.zeros(frames - 1, int)
        beyond = np.linalg.norm(block - block[0], axis=2) > threshold
        ever += np.maximum.accumulate(beyond, axis=0).sum(axis=1)
        up += (beyond[1:] & ~beyond[:-1]).sum(axis=1)
        end += int(beyond[-1].sum())
        ions += block.shape[1]
    if not ions:
        raise TrajectoryError("paths: none; expected (frame, ion, 3) with at least one ion")
    per_block = [part.sum() / (ions * len(part) * time_step * 1e-3) for part in np.array_split(up, _BLOCKS)]
    rate: dict[str, Any] = {**blocks(np.array(per_block)).variables("crossing_rate", floor=0.0)}
    return HOPS.dataset(
        time=time_step * np.arange(frames),
        ever_beyond=ever[-1],
        end_beyond=end,
        crossings=up.sum(),
        **rate,
        cumulative_ever=ever,
        threshold=threshold,
        ions=ions,
        duration=(frames - 1) * time_step,
    )
