"""Ionic conductivity from the tracer diffusion coefficient."""

from __future__ import annotations

import numpy as np
import xarray as xr

from argyase.errors import StatisticsError
from argyase.schemas import CONDUCTIVITY
from argyase.units import A2_PER_PS_TO_CM2_PER_S, BOLTZMANN_EV_K, E2_PER_A_PS_EV_TO_MS_PER_CM


def nernst_einstein(diffusivity: float, number_density: float, temperature: float, charge: float = 1.0) -> float:
    r"""Nernst-Einstein conductivity, mS/cm.

    .. math:: \sigma = \frac{(z e)^2 c D}{k_B T}

    Parameters
    ----------
    diffusivity
        D, cm^2/s.
    number_density
        c, ions per A^3.
    temperature
        T, K.
    charge
        z.

    References
    ----------
    Jang et al., J. Mater. Chem. A 13, 16547 (2025), eq. 2.

    Examples
    --------
    96 Li in (20 A)^3 at 300 K with D = 1e-8 cm^2/s:

    >>> round(nernst_einstein(1e-8, 96 / 8000, 300.0), 3)
    0.744
    """
    if not (temperature > 0 and number_density > 0):
        raise StatisticsError(f"temperature {temperature} K, density {number_density} / A^3: both must be positive")
    d = diffusivity / A2_PER_PS_TO_CM2_PER_S
    return E2_PER_A_PS_EV_TO_MS_PER_CM * charge**2 * number_density * d / (BOLTZMANN_EV_K * temperature)


def conductivity(msd: xr.Dataset, volume: float, temperature: float, charge: float = 1.0) -> xr.Dataset:
    """Conductivity with the interval of the diffusion coefficient.

    Parameters
    ----------
    msd
        Dataset of schema ``msd``.
    volume
        Mean volume of the cell, A^3.
    temperature
        Mean temperature, K.
    charge
        Charge of the ion, e.

    Returns
    -------
    Dataset
        Schema ``conductivity``; where D is not determined, neither is sigma (NaN, with the interval's upper bound).
    """
    density = float(msd["ions"]) / volume
    names = ("diffusivity", "diffusivity_stderr", "diffusivity_low", "diffusivity_high")
    d = {name: float(msd[name]) for name in names}
    sigma = {
        n.replace("diffusivity", "conductivity"): nernst_einstein(v, density, temperature, charge) for n, v in d.items()
    }
    attrs = {k: v for k, v in msd.attrs.items() if k == "not_determined"}
    return CONDUCTIVITY.dataset(attrs=attrs, **d, **sigma, temperature=temperature, number_density=np.float64(density))
