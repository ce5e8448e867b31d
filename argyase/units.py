"""The only conversion factors of the package.

Inside, ASE units hold: eV, Angstrom, amu. Time is in ps and conductivity in mS/cm at labels. Constants are
CODATA 2018 through `scipy.constants`.
"""

from __future__ import annotations

from scipy import constants as _c

BOLTZMANN_EV_K: float = _c.k / _c.e
"""Boltzmann constant, eV/K."""

GAS_CONSTANT_J_MOL_K: float = _c.R
"""Molar gas constant, J/(mol K)."""

FS_TO_PS: float = 1e-3

A2_PER_PS_TO_CM2_PER_S: float = 1e-4
"""1 A^2/ps = 1e-16 cm^2 / 1e-12 s = 1e-4 cm^2/s."""

EV_PER_A3_TO_GPA: float = _c.e / (1e-10) ** 3 / 1e9
"""1 eV/A^3 in GPa (160.2)."""

BAR_TO_GPA: float = 1e-4

AMU_A2_PER_PS2_TO_EV: float = _c.atomic_mass * (1e-10 / 1e-12) ** 2 / _c.e
"""1 amu (A/ps)^2 in eV (1.036e-4)."""

E2_PER_A_PS_EV_TO_MS_PER_CM: float = _c.e / (1e-10 * 1e-12) * 10
"""e^2/(A ps eV) in mS/cm: e^2/eV is e in coulomb per volt, divided by A ps; 1 S/m is 10 mS/cm.

It turns n D / (kB T), with n in A^-3, D in A^2/ps and kB T in eV, into a conductivity.
"""
