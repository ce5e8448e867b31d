"""GPAW: density functional theory that anybody may run, with the settings of the paper as far as it has them.

The settings are those of Jang et al., J. Mater. Chem. A 2025, 13, 16547, as for VASP (`argyase.calculators.vasp`),
but with the PAW data sets of GPAW, which need no more than 350 eV for labels (`PRESETS`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
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

_OURS = {
    "mode": "ecut", "xc": "xc", "kpts": "kpts and k_density", "charge": "charge", "occupations": "smearing",
    "maxiter": "maxiter", "txt": "log",
}  # fmt: skip
"""Parameters of GPAW, and the settings that stand for them."""

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
    custom
        Further parameters of GPAW by its own names, e.g. ``{"nbands": 140, "mixer": {"beta": 0.1}}``.
    log
        Folder where GPAW writes what it does, a file for each structure; nowhere if empty.

    Raises
    ------
    ConfigError
        If a setting is unknown or wrong.
    CalculatorError
        On calculation, if there is no cell, the cycles do not converge, or GPAW fails.
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
        custom: Mapping[str, Any] | None = None,
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
        custom = {} if custom is None else custom
        if not isinstance(custom, Mapping):
            raise ConfigError(f'gpaw: custom = {custom!r}: expected parameters of GPAW by name, e.g. {{"nbands": 140}}')
        if twice := sorted(_OURS.keys() & custom.keys()):
            raise ConfigError(f"gpaw: custom = {custom!r}: {twice[0]} is set by {_OURS[twice[0]]}")
        waals = "vdw" in self._xc.lower()
        if waals and stress == "analytic":
            raise ConfigError(
                f"gpaw: the analytic stress of {self._xc} is wrong (GPAW 26.7 leaves out a part of it); use "
                "stress='none', or stress='differences', which takes 13 times as long"
            )
        self._stress = stress or ("none" if waals else "analytic")
        self._kpts = None if kpts is None else tuple(kpts)
        self._charge, self._smearing, self._tolerance = float(charge or 0.0), smearing, energy_tolerance
        self._maxiter, self._custom = maxiter, dict(custom)
        self._log = Path(log).absolute() if log else None
        self._converged: Atoms | None = None
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
            **({"custom": self._custom} if self._custom else {}),
        }  # fmt: skip

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Energy and forces, and the stress if it is asked for."""
        super().calculate(atoms, list(properties), list(system_changes))
        if self.atoms.cell.rank < 3:
            raise CalculatorError(
                f"gpaw: {self.atoms.get_chemical_formula()}: plane waves need a cell; give a molecule one with a vacuum"
            )
        if system_changes or self._converged is None:
            self._converged = None
            with self._explained():
                converged = self._atoms()
                self.results = {
                    "energy": float(converged.get_potential_energy()),
                    # That of which the forces are the slope; the same where there is a gap.
                    "free_energy": float(converged.get_potential_energy(force_consistent=True)),
                    "forces": converged.get_forces(),
                }
                self._converged = converged
        if "stress" in properties:
            with self._explained():
                self.results["stress"] = self._stress_of(self._converged)

    def _stress_of(self, converged: Atoms) -> Any:
        if self._stress == "analytic":
            return converged.get_stress()
        # On the same grid and mesh: a change of either would look like work.
        strained = self._atoms(gpts=converged.calc.get_number_of_grid_points())
        return calculate_numerical_stress(strained, eps=_STRAIN)

    def _atoms(self, **more: Any) -> Atoms:
        """A copy of the atoms with GPAW itself."""
        from gpaw import GPAW

        atoms, log = self.atoms, None
        if self._log:
            self._log.mkdir(parents=True, exist_ok=True)
            log = str(self._log / f"{self._name()}{'-strained' if more else ''}.txt")
        energy = {"name": "energy", "tol": self._tolerance, "relative": False}
        calculator = GPAW(
            mode={"name": "pw", "ecut": self._ecut},
            xc=self._xc,
            kpts={"size": self._kpts or k_mesh(atoms, self._density), "gamma": True},
            charge=self._charge,
            occupations={"name": "fermi-dirac", "width": self._smearing},
            maxiter=self._maxiter,
            txt=log,
            **{**self._custom, "convergence": {"energy": energy, **self._custom.get("convergence", {})}, **more},
        )
        return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)

    def _name(self) -> str:
        digest = hashlib.sha256(repr(self.identity()).encode())
        for values in (self.atoms.numbers, self.atoms.positions, self.atoms.cell.array):
            digest.update(values.tobytes())
        return f"{self.atoms.get_chemical_formula('hill')}-{digest.hexdigest()[:16]}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever fails in here is an error of this calculator, which says where to look."""
        from gpaw import ConvergenceError

        where = f"; see {self._log / self._name()}.txt" if self._log else ""
        name = self.atoms.get_chemical_formula()
        try:
            yield
        except ConvergenceError as error:
            raise CalculatorError(
                f"gpaw: {name}: not converged in {self._maxiter} cycles ({' '.join(str(error).split())}); allow more "
                f"(maxiter), or a larger width (smearing){where}"
            ) from error
        except Exception as error:  # of GPAW, anything
            raise CalculatorError(f"gpaw: {name}: {type(error).__name__}: {error}{where}") from error


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
