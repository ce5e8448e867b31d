"""Datasets made small enough for a page: points that a screen can show, numbers of few digits, plain lists."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

POINTS = 200
"""Points of a curve: its plot is some 600 pixels wide."""

VOXELS = 36
"""Most voxels along an edge of a density: 36^3 bytes are 62 kB of text."""

_R_MAX = 10.0  # A, of the maps: two cages away


def rounded(values: ArrayLike, digits: int = 4) -> Any:
    """Numbers to so many significant digits, in nested lists; None for what is not finite.

    >>> rounded([[1.23456, np.nan], [20000.0, 0.0]], 3)
    [[1.23, None], [20000.0, 0.0]]
    """
    array = np.asarray(values)
    if array.ndim:
        return [rounded(item, digits) for item in array]
    value = array.item()
    if isinstance(value, int | str):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def spread(n: int, points: int = POINTS, log: bool = False) -> NDArray[np.intp]:
    """At most `points` of n indices, first and last among them, evenly spread over them or over their logarithms.

    >>> spread(9, 3).tolist(), spread(101, 3, log=True).tolist()
    ([0, 4, 8], [0, 9, 100])
    """
    if n <= points:
        return np.arange(n)
    where = np.geomspace(1, n, points) - 1 if log else np.linspace(0, n - 1, points)
    return np.unique(np.rint(where).astype(np.intp))


def reduced(stage: str, data: xr.Dataset) -> dict[str, Any]:
    """What a page draws of the dataset of a stage; empty where nothing is drawn."""
    return _CURVES[stage](data) if stage in _CURVES else {}


def _msd(data: xr.Dataset) -> dict[str, Any]:
    # As in figures: beyond half the run, few time origins are left. Without lag 0, which has no logarithm.
    half = data.isel(lag=slice(1, max(2, data.sizes["lag"] // 2)))
    part = half.isel(lag=spread(half.sizes["lag"], log=True))
    window = rounded([float(data["fit_start"]), float(data["fit_stop"])])
    found = {name: rounded(part[name].values) for name in ("lag", "msd", "msd_stderr")}
    return {**found, "window": None if None in window else window, "ions": int(data["ions"])}


def _map(data: xr.Dataset, name: str) -> dict[str, Any]:
    part = data.sel(r=slice(0.0, _R_MAX))
    return {"lag": rounded(part["lag"].values), "r": rounded(part["r"].values), "map": rounded(part[name].values, 3)}


def _vanhove(data: xr.Dataset) -> dict[str, Any]:
    found = _map(data, "radial_probability")
    # Above the short-time rattling peak, which would leave no colour for the hops.
    top = data["radial_probability"].sel(r=slice(1.5, _R_MAX)).max()
    return {**found, "top": rounded(top.values)}


def _distinct(data: xr.Dataset) -> dict[str, Any]:
    return _map(data, "g_distinct")


def _hops(data: xr.Dataset) -> dict[str, Any]:
    part = data.isel(frame=spread(data.sizes["frame"]))
    return {
        "time": rounded(part["time"].values),
        "cumulative_ever": rounded(part["cumulative_ever"].values),
        "ions": int(data["ions"]),
        "threshold": rounded(data["threshold"].values),
    }


def _jumps(data: xr.Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {"jump": data["jump"].values.tolist(), "site": data["site"].values.tolist()}
    for name in ("rate", "barrier", "occupancy", "residence_time"):
        for end in ("", "_low", "_high"):
            found[name + end] = rounded(data[name + end].values)
    shown = data["cage_residence_histogram"]
    return {**found, "residence": rounded(data["residence"].values), "cage_stays": rounded(shown.values)}


def _coordination(data: xr.Dataset) -> dict[str, Any]:
    part = data.isel(r=spread(data.sizes["r"]))
    return {"pair": part["pair"].values.tolist(), "r": rounded(part["r"].values), "rdf": rounded(part["rdf"].values)}


def _density(data: xr.Dataset) -> dict[str, Any]:
    r"""Density in mean densities on a coarser grid whose first point is the origin of the cell.

    In bytes :math:`b = 255 \sqrt{\rho / \rho_{max}}`: at the levels that are looked at (1 to 20 means), their steps are
    those of some per cent.
    """
    values = data["density"].values / float(data["mean_density"])
    for axis in range(3):
        values = coarse(values, min(values.shape[axis], VOXELS), axis)
    top = float(values.max())
    levels = {int(n): rounded(data["percolation_level"].sel(dimension=n).values) for n in data["dimension"].values}
    content = np.rint(255 * np.sqrt(np.clip(values, 0, None) / top)).astype(np.uint8)
    return {
        "shape": list(content.shape),
        "top": rounded(top, 6),
        "bytes": base64.b64encode(content.tobytes()).decode(),
        "cell": rounded(data["cell"].values, 5),
        "framework": rounded(data["framework"].values),
        "species": data["species"].values.tolist(),
        "percolation_level": levels,
    }


def coarse(values: ArrayLike, n: int, axis: int) -> NDArray[np.float64]:
    """A periodic function given by its means over voxels, as its means over n wider ones, centred at 0, 1/n, 2/n, ...

    The mean over all is kept.

    >>> coarse([0.0, 0.0, 4.0, 4.0], 2, 0).tolist()
    [2.0, 2.0]
    """
    old = np.moveaxis(np.asarray(values, dtype=float), axis, 0)
    count = len(old)
    edges = (np.arange(n + 1) - 0.5) / n
    # Integral of the step function from 0: linear between the old edges, and periodic but for the total of each turn.
    integral = np.concatenate([np.zeros((1, *old.shape[1:])), np.cumsum(old, axis=0)]) / count
    turn = np.floor(edges)
    place = (edges - turn) * count
    below = np.minimum(place.astype(int), count - 1)
    fraction = (place - below).reshape(-1, *[1] * (old.ndim - 1))
    at = integral[below] + fraction * (integral[below + 1] - integral[below])
    at = at + turn.reshape(fraction.shape) * integral[-1]
    return np.moveaxis(np.diff(at, axis=0) * n, 0, axis)


_CURVES: dict[str, Callable[[xr.Dataset], dict[str, Any]]] = {
    "msd": _msd,
    "vanhove": _vanhove,
    "hops": _hops,
    "jumps": _jumps,
    "density": _density,
    "coordination": _coordination,
    "distinct": _distinct,
}
