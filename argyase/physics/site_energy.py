"""Distributions of the energies of Li on tetrahedral sites, and how much they overlap."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from argyase.errors import StatisticsError
from argyase.schemas import SITE_ENERGIES

QUANTITIES = ("charged_site_energy", "lattice_site_energy")
"""Two energies that are not to be compared with each other: see schema ``site_energies``."""

RESAMPLES = 500


def density(
    grid: ArrayLike, energies: ArrayLike, weights: ArrayLike | None = None, bandwidth: float = 0.05
) -> NDArray[np.float64]:
    r"""Kernel density of site energies, per site: its integral is 1 whatever the number of sites.

    .. math:: f(E) = \sum_i w_i \frac{1}{\sqrt{2 \pi} h} \exp\left(-\frac{(E - E_i)^2}{2 h^2}\right),
        \quad \sum_i w_i = 1

    The bandwidth h is given, and not taken from the data as in `scipy.stats.gaussian_kde`: in an ordered lattice all
    sites of a kind have one energy, from which there is no bandwidth to be had, and distributions are compared at one.

    Parameters
    ----------
    grid
        Energies, eV, shape (energy,).
    energies
        Of the sites, eV, shape (site,).
    weights
        Of the sites, shape (site,); equal when left out.
    bandwidth
        Standard deviation of the kernel, eV.

    Returns
    -------
    ndarray
        1/eV, shape (energy,).

    Examples
    --------
    >>> float(density([0.0], [0.0], bandwidth=1.0)[0].round(6))  # 1 / sqrt(2 pi)
    0.398942
    """
    energies = np.asarray(energies, dtype=float)
    shares = np.ones(len(energies)) if weights is None else np.asarray(weights, dtype=float)
    return np.asarray(shares / shares.sum() @ _kernels(np.asarray(grid, dtype=float), energies, bandwidth))


def _kernels(grid: NDArray[np.float64], energies: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """The kernel of each site, 1/eV, shape (site, energy)."""
    return np.asarray(np.exp(-0.5 * ((grid - energies[:, None]) / bandwidth) ** 2) / (np.sqrt(2 * np.pi) * bandwidth))


def overlap(grid: ArrayLike, f: ArrayLike, g: ArrayLike) -> NDArray[np.float64]:
    r"""Overlap coefficient of two densities, 0 (apart) to 1 (the same).

    .. math:: \int \min(f(E), g(E)) \, dE

    Parameters
    ----------
    grid, f, g
        Energies, eV, shape (energy,), and densities, 1/eV, shape (..., energy).

    Returns
    -------
    ndarray
        Shape (...).

    References
    ----------
    M. S. Weitzman, US Bureau of the Census Technical Paper 22 (1970).
    """
    return np.asarray(np.trapezoid(np.minimum(f, g), np.asarray(grid, dtype=float), axis=-1))


def site_energies(
    quantity: str,
    energies: ArrayLike,
    kinds: Sequence[str],
    weights: ArrayLike,
    numbers: Sequence[int],
    orderings: Sequence[int],
    sites: Mapping[str, int],
    *,
    bandwidth: float = 0.05,
    seed: int = 1,
) -> xr.Dataset:
    """Densities of site energies by kind of site, and their overlaps.

    The error of an overlap is that of a bootstrap over the sites: each kind is drawn anew, `RESAMPLES` times, by its
    weights, as many as there are. Sites of one cell are not independent; what another ordering or a larger cell would
    give is not in it.

    Parameters
    ----------
    quantity
        One of `QUANTITIES`.
    energies
        eV, shape (sample,).
    kinds
        Kind of site of each, as T2.
    weights
        Positive, shape (sample,); only their ratios within a kind count.
    numbers, orderings
        Number of the site in its orbit, and of the S/halide ordering, of each.
    sites
        How many sites of each kind a unit cell has.
    bandwidth
        eV (see `density`).
    seed
        Of the bootstrap.

    Returns
    -------
    Dataset
        Of schema ``site_energies``.

    Raises
    ------
    StatisticsError
        If a kind has no sample, an energy is not finite, or the bandwidth is not positive.
    """
    if quantity not in QUANTITIES:
        raise StatisticsError(f"site energies: quantity = {quantity!r}: allowed are {', '.join(QUANTITIES)}")
    energies, weights = np.asarray(energies, dtype=float), np.asarray(weights, dtype=float)
    of_kind = {kind: np.flatnonzero(np.array(kinds, dtype=str) == kind) for kind in sites}
    if empty := [kind for kind, chosen in of_kind.items() if len(chosen) == 0]:
        raise StatisticsError(f"site energies: no sample of {empty[0]}")
    if not (np.isfinite(energies).all() and bandwidth > 0):
        raise StatisticsError(f"site energies: bandwidth = {bandwidth:g} eV must be positive, and all energies finite")
    shares = np.empty(len(energies))
    for chosen in of_kind.values():
        shares[chosen] = weights[chosen] / weights[chosen].sum()
    # So fine that the trapezoidal rule integrates Gaussians to rounding, and the kinks of their minimum to
    # 2 max|f'| step^2 / 8 = 6e-4; the tails beyond hold 6e-7. Whole multiples, so that runs share their energies.
    step = bandwidth / 10
    first, last = energies.min() / step - 50, energies.max() / step + 50
    grid = np.round(np.arange(np.floor(first), np.ceil(last) + 1) * step, 9)
    f = np.array([density(grid, energies[c], shares[c], bandwidth) for c in of_kind.values()])
    rng = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, *f.shape))  # densities
    for k, chosen in enumerate(of_kind.values()):
        kernels = _kernels(grid, energies[chosen], bandwidth)
        counts = rng.multinomial(len(chosen), shares[chosen], RESAMPLES)
        drawn[:, k] = counts / len(chosen) @ kernels
    pairs = list(itertools.combinations(range(len(of_kind)), 2))
    value = np.array([overlap(grid, f[i], f[j]) for i, j in pairs])
    resampled = np.array([overlap(grid, drawn[:, i], drawn[:, j]) for i, j in pairs])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    names = list(of_kind)
    mean = np.array([energies[c] @ shares[c] for c in of_kind.values()])
    variance = np.array([(energies[c] - m) ** 2 @ shares[c] for c, m in zip(of_kind.values(), mean, strict=True)])
    named: dict[str, Any] = {quantity: energies}
    return SITE_ENERGIES.dataset(
        **named,
        weight=shares,
        density=f,
        mean=mean,
        spread=np.sqrt(variance),
        sites=list(sites.values()),
        overlap=value,
        overlap_stderr=resampled.std(axis=1, ddof=1),
        overlap_low=low,
        overlap_high=high,
        bandwidth=bandwidth,
        site_kind=list(kinds),
        site_number=list(numbers),
        ordering=list(orderings),
        kind=names,
        pair=[f"{names[i]}-{names[j]}" for i, j in pairs],
        energy=grid,
    )
