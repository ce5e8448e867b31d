"""GPAW: density functional theory that anybody may run, with the settings of the paper as far as it has them.

The settings are those of Jang et al., J. Mater. Chem. A 2025, 13, 16547, as for VASP (`argyase.calculators.vasp`),
but with the PAW data sets of GPAW, which need no more than 350 eV for labels (`PRESETS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.fd import calculate_numerical_stress

from argyase.calculators import Engine
from argyase.calculators.vasp import k_mesh
from argyase.errors import CalculatorError, ConfigError

_FINE = {"xc": "PBE", "ecut": 550.0, "k_density": 1000.0}

PRESETS: dict[str, dict[str, Any]] = {
    "relax": _FINE,
    "aimd": {"xc": "PBE", "ecut": 350.0, "k_density": 0.0},
    "label": {"xc": "optB88-vdW", "ecut": 350.0, "k_density": 0.0},
    "site_energy": _FINE,
}
"""Functional, cutoff (eV) and k-points per atom (0 is Gamma alone) of each kind of calculation."""

STRESSES = ("analytic", "none", "differences")

_STRAIN = 0.005
"""Of the central differences: their error is of second order in it, and the noise of the energy is divided by it."""


class GpawInPresets(Calculator):
    """GPAW in its plane-wave mode, one calculation for each structure, from nothing.

    Parameters
    ----------
    preset
        One of `PRESETS`; what follows goes over it.
    xc
        Functional by GPAW's name, as PBE, optB88-vdW.
    ecut
        Cutoff of the plane waves, eV.
    k_density
        k-points per atom (see `argyase.calculators.vasp.k_mesh`).
    kpts
        The mesh itself, centred on Gamma.
    charge
        Of the cell, e; a uniform background neutralises it.
    smearing
        Width of the Fermi-Dirac distribution, eV. Energies are extrapolated to none.
    energy_tolerance
        Largest change of the energy in the last three cycles, eV.
    maxiter
        Most cycles.
    stress
        ``analytic``, ``none``, or ``differences`` of the energy under strain (12 calculations more). With a van der
        Waals functional ``none``, unless asked otherwise: the analytic stress of GPAW 26.7 lacks a part there.
    log
        File to which GPAW writes what it does; nowhere if empty.

    Raises
    ------
    ConfigError
        If a setting is unknown or wrong.
    CalculatorError
        On calculation, if the cycles do not converge, or GPAW fails.
    """

    def __init__(
        self,
        preset: str = "label",
        xc: str = "",
        ecut: float | None = None,
        k_density: float | None = None,
        kpts: Sequence[int] | None = None,
        charge: float | None = None,
        smearing: float = 0.05,
        energy_tolerance: float = 1e-5,
        maxiter: int = 100,
        stress: str = "",
        log: str = "",
    ) -> None:
        super().__init__()
        if preset not in PRESETS:
            raise ConfigError(f"gpaw: preset = {preset!r}: known are {', '.join(PRESETS)}")
        if preset == "site_energy" and charge is None:
            raise ConfigError(
                "gpaw: preset = 'site_energy' needs the charge of the cell, in e, e.g. charge=-23 for one Li in the "
                "P4S20Cl4 of the unit cell; charge=0 if it is neutral"
            )
        given = {"xc": xc or None, "ecut": ecut, "k_density": k_density}
        own = {**PRESETS[preset], **{k: v for k, v in given.items() if v is not None}}
        self._xc, self._ecut, self._density = str(own["xc"]), float(own["ecut"]), float(own["k_density"])
        if kpts is not None and not (len(kpts) == 3 and all(isinstance(k, int) and k > 0 for k in kpts)):
            raise ConfigError(f"gpaw: kpts = {kpts!r}: expected three whole numbers above 0")
        for name, value in (("ecut", self._ecut), ("smearing", smearing), ("energy_tolerance", energy_tolerance)):
            if not value > 0:
                raise ConfigError(f"gpaw: {name} = {value!r} eV: must be positive")
        if stress not in ("", *STRESSES):
            raise ConfigError(f"gpaw: stress = {stress!r}: allowed are {', '.join(STRESSES)}")
        waals = "vdw" in self._xc.lower()
        if waals and stress == "analytic":
            raise ConfigError(
                f"gpaw: the analytic stress of {self._xc} is wrong (GPAW 26.7 leaves out a part of it); use "
                "stress='none', or stress='differences', which takes 13 times as long"
            )
        self._stress = stress or ("none" if waals else "analytic")
        self._kpts = None if kpts is None else tuple(kpts)
        self._charge, self._smearing, self._tolerance = float(charge or 0.0), smearing, energy_tolerance
        self._maxiter, self._log = maxiter, log
        self.implemented_properties = [
            "energy",
            "free_energy",
            "forces",
            *([] if self._stress == "none" else ["stress"]),
        ]

    def identity(self) -> dict[str, Any]:
        """What results depend on."""
        return {
            "version": version("gpaw"), "data": version("gpaw-data"), "xc": self._xc, "ecut": self._ecut,
            "k_points": self._density if self._kpts is None else list(self._kpts), "charge": self._charge,
            "smearing": self._smearing, "energy_tolerance": self._tolerance, "stress": self._stress,
        }  # fmt: skip

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Energy and forces, and the stress if it is asked for."""
        super().calculate(atoms, list(properties), list(system_changes))
        converged = self._converged(self.atoms)
        self.results = {
            "energy": float(converged.get_potential_energy()),
            # That of which the forces are the slope; the same where there is a gap.
            "free_energy": float(converged.get_potential_energy(force_consistent=True)),
            "forces": converged.get_forces(),
        }
        if "stress" in properties and self._stress == "analytic":
            self.results["stress"] = converged.get_stress()
        elif "stress" in properties:
            # On the same grid and mesh: a change of either would look like work.
            again = self._atoms(self.atoms, gpts=converged.calc.get_number_of_grid_points())
            self.results["stress"] = calculate_numerical_stress(again, eps=_STRAIN)

    def _atoms(self, atoms: Atoms, gpts: Sequence[int] | None = None) -> Atoms:
        """A copy with GPAW itself."""
        from gpaw import GPAW

        calculator = GPAW(
            mode={"name": "pw", "ecut": self._ecut},
            xc=self._xc,
            kpts={"size": self._kpts or k_mesh(atoms, self._density), "gamma": True},
            gpts=gpts,
            charge=self._charge,
            occupations={"name": "fermi-dirac", "width": self._smearing},
            convergence={"energy": {"name": "energy", "tol": self._tolerance, "relative": False}},
            maxiter=self._maxiter,
            txt=self._log or None,
        )
        return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)

    def _converged(self, atoms: Atoms) -> Atoms:
        from gpaw import ConvergenceError

        computed, name = self._atoms(atoms), atoms.get_chemical_formula()
        try:
            computed.get_potential_energy()
        except ConvergenceError as error:
            raise CalculatorError(
                f"gpaw: {name}: not converged in {self._maxiter} cycles ({' '.join(str(error).split())}); allow more "
                "(maxiter), or a larger width (smearing)"
            ) from error
        except Exception as error:  # of GPAW, anything
            raise CalculatorError(f"gpaw: {name}: {type(error).__name__}: {error}") from error
        return computed


def _build(**settings: Any) -> GpawInPresets:
    made = GpawInPresets(**settings)
    try:
        import gpaw  # noqa: F401
    except ImportError as error:
        raise CalculatorError(
            f"calculator 'gpaw' is not installed ({error}); install it by pip install 'argyase[gpaw]', which compiles "
            "it: before that, in Debian, apt-get install libxc-dev libopenblas-dev"
        ) from None
    return made


def _identity(**settings: Any) -> dict[str, Any]:
    return _build(**settings).identity()


ENGINE = Engine(_build, _identity)
