"""VASP through ASE: the settings of the paper, and no result from a run that went wrong.

The settings are those of Jang et al., J. Mater. Chem. A 2025, 13, 16547 (`PRESETS`). What the paper does not say is
chosen here: PREC, LASPH, smearing, the POTCARs (`SETUPS`), and 550 eV with 1000 k-points per atom for the labels.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.vasp import Vasp, create_input
from ase.calculators.vasp.vasp import check_atoms
from ase.config import ASEEnvDeprecationWarning, cfg
from ase.data import atomic_numbers
from ase.io.vasp import read_vasp

from argyase.calculators import Engine, vasp_errors
from argyase.errors import CalculatorError, ConfigError

_PBE = {"xc": "PBE", "ediff": 1e-5, "ismear": 0, "sigma": 0.05, "lcharg": False}
_FINE = {**_PBE, "encut": 550.0, "prec": "Accurate", "lasph": True, "k_density": 1000.0}
_STILL = {"ibrion": -1, "nsw": 0, "isif": 2}
# NBLOCK = 50: at 2 fs, XDATCAR has a frame each 0.1 ps.
_DYNAMICS = {
    **_PBE, "encut": 350.0, "k_density": 0.0, "ibrion": 0, "mdalgo": 2, "smass": 0.0, "isif": 2, "isym": 0,
    "potim": 2.0, "nblock": 50,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "relax": {**_FINE, "ediffg": -0.03, "ibrion": 2, "isif": 3, "nsw": 200},
    "aimd": {**_DYNAMICS, "tebeg": 300.0, "teend": 300.0, "nsw": 5000},
    "melt_quench": {**_DYNAMICS, "tebeg": 2000.0, "teend": 300.0, "nsw": 8500},
    "label": {**_FINE, **_STILL, "xc": "optB88-vdW"},
    "site_energy": {**_FINE, **_STILL},
}
"""Tags of each kind of calculation (eV, eV/A, K, fs), and k-points per atom; 0 is Gamma alone."""

SETUPS = {"Li": "_sv", "P": "", "S": "", "Cl": ""}
"""What follows the symbol in the name of the POTCAR: those that VASP recommends."""

SETUPS_OF_DYNAMICS = {**SETUPS, "Li": ""}
"""Of the presets with 350 eV: Li without its 1s electrons, whose ENMAX is 140 eV; that of Li_sv is 499 eV."""

STOP_AT = 0.9
"""Fraction of the time limit at which VASP is asked to stop: an ionic or electronic step must fit into the rest."""

PATIENCE_S = 5.0
"""Time between SIGTERM and SIGKILL, s."""

GRACE_S = 20.0
"""Time that VASP has, s, to stop after a signal to this process: with `PATIENCE_S` less than Slurm's KillWait, 30 s."""

SPARE_S = 30.0
"""Time before a deadline, s, at which VASP has to be gone: what it did must be read and kept."""

UNCONVERGED = 0.01
"""Fraction of the steps of a dynamics in which electrons may stay unconverged; at least one step, unless it is 0.

What such a step does to a dynamics is a kick, F' dt / m of each atom, by the error F' of its forces. Of 0.05 eV/A,
which is much after NELM steps, this is for Li at 600 K, in 2 fs, 1.6 % of its thermal velocity; and of kicks that do
not know of each other, in 1 % of 5000 steps, 50 x 0.016^2 = 1.3 % of the kinetic energy over 10 ps: the thermostat
takes it out.
"""

IN_A_ROW = 5
"""Most such steps one after the other: errors of neighbouring steps add up, to 8 % of the thermal velocity in 10 fs."""

_KINDS: tuple[tuple[Sequence[str], type], ...] = (
    (create_input.float_keys, float), (create_input.exp_keys, float), (create_input.int_keys, int),
    (create_input.bool_keys, bool), (create_input.string_keys, str), (create_input.list_float_keys, list),
    (create_input.list_int_keys, list), (create_input.list_bool_keys, list), (create_input.special_keys, object),
    (create_input.dict_keys, dict),
)  # fmt: skip
_OF_ASE = {"xc": str, "pp": str, "pp_version": object, "charge": float, "kpts": list, "custom": dict}
_TAGS: dict[str, type] = {**{tag: kind for tags, kind in _KINDS for tag in tags}, **_OF_ASE}

_OUTPUT = ("OUTCAR", "vasprun.xml", "OSZICAR", "XDATCAR", "vasp.out", "way.json")
_LARGE = ("WAVECAR", "CHGCAR", "CHG", "POTCAR", "vdw_kernel.bindat")
CONVERGED = "aborting loop because EDIFF is reached"
"""What OUTCAR says of electrons that converged, once for each ionic step."""

_DEADLINE = "the deadline"
_POLL_S = 0.2

_LOOPS = re.compile(rf"- Iteration +(\d+)\(|({CONVERGED})")


def k_mesh(atoms: Atoms, density: float) -> tuple[int, int, int]:
    """The coarsest even mesh with at least `density` points times atoms.

    A mesh is even if it divides each reciprocal vector into the fewest pieces no longer than a given length. Lengths
    within 1 % are one, so that a cubic cell that was distorted a little keeps a cubic mesh.

    Parameters
    ----------
    atoms
        Structure, periodic in all three directions.
    density
        k-points in the whole Brillouin zone, times atoms; 0 is the Gamma point alone.

    >>> k_mesh(Atoms("Li52", cell=[10, 10, 10], pbc=True), 1000)
    (3, 3, 3)
    """
    lengths = np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    mesh = np.ones(3, dtype=int)
    while mesh.prod() * len(atoms) < density:
        pieces = lengths / mesh
        mesh += pieces > 0.99 * pieces.max()
    return int(mesh[0]), int(mesh[1]), int(mesh[2])


class VaspInFolders(Vasp):
    """VASP as ASE runs it, each calculation in a folder of its own, and checked before a number is given away.

    The folder is named by what is computed. A run that was stopped or died leaves it behind, and the same calculation
    goes on there: from WAVECAR, and where atoms move from CONTCAR; of a dynamics the steps that are left, with what was
    written before in ``part1``, ``part2``, ... Of single points that went well nothing is left.

    Parameters
    ----------
    preset
        One of `PRESETS`.
    k_density
        k-points per atom, instead of that of the preset (see `k_mesh`); ``kpts = [3, 3, 3]`` sets the mesh itself.
    setups
        Endings of POTCARs by symbol, added to `SETUPS`, or of dynamics `SETUPS_OF_DYNAMICS`.
    below_enmax
        Allow an ENCUT below the ENMAX of a POTCAR.
    directory
        Where the folders are made.
    keep
        Keep the folders of single points, too.
    walltime_s
        Time that a calculation may take, in s. At `STOP_AT` of it VASP is asked to stop, by STOPCAR; at its end it is
        ended.
    deadline
        Moment at which all has to be done, in s since 1970 (``date +%s``); None is that of the job of Slurm, if there
        is one (SLURM_JOB_END_TIME), 0 none. Each run of VASP gets what is left until `SPARE_S` before it, as a time
        limit.
    grace_s
        Time that VASP has, in s, to stop by STOPCAR after SIGINT, SIGTERM or SIGUSR1 came to this process.
    unconverged
        Fraction of the steps of a dynamics in which electrons may stay unconverged (see `UNCONVERGED`). If they did in
        the last step, energy, forces and stress are NaN. Relaxations and single points have no such steps.
    version
        Version that VASP must have, e.g. ``6.4.2``.
    mixed
        Allow results of different POTCARs of a name, or versions of VASP, in one set (see `refuse_mixture`).
    custodian
        Ask custodian about a run that failed, and run it again with what `argyase.calculators.vasp_errors` takes of its
        advice, up to `argyase.calculators.vasp_errors.CORRECTIONS` times within the same time limit.
    tags
        Tags of INCAR, and xc, pp, pp_version, charge (e), kpts and custom of ASE; None takes a tag of the preset away.

    Attributes
    ----------
    corrections
        What custodian corrected in the last calculation.
    made_by
        What made its results, a table for each of its parts (see `made_by`).

    Raises
    ------
    ConfigError
        If the preset or a tag is unknown, or a value is not of its kind; on calculation, if ENCUT is below the ENMAX of
        a POTCAR.
    KeyboardInterrupt
        On calculation, if a signal or the deadline stopped it: nothing is wrong with it, and the same again goes on.
    CalculatorError
        On calculation, if an element has no POTCAR, the run was stopped by walltime_s, died or was cut off, electrons
        or ions did not converge, or VASP computed other elements than it was given.
    """

    def __init__(
        self,
        preset: str = "label",
        k_density: float | None = None,
        setups: Mapping[str, str] | None = None,
        below_enmax: bool = False,
        directory: str = "vasp",
        keep: bool = False,
        walltime_s: float | None = None,
        deadline: float | None = None,
        grace_s: float = GRACE_S,
        unconverged: float = UNCONVERGED,
        version: str = "",
        mixed: bool = False,
        custodian: bool = False,
        **tags: Any,
    ) -> None:
        if preset not in PRESETS:
            raise ConfigError(f"vasp: preset = {preset!r}: known are {', '.join(PRESETS)}")
        if preset == "site_energy" and "charge" not in tags:
            raise ConfigError(
                "vasp: preset = 'site_energy' needs the charge of the cell, in e, e.g. charge=-23 for one Li in the "
                "P4S20Cl4 of the unit cell; charge=0 if it is neutral"
            )
        setups = {} if setups is None else setups
        if not isinstance(setups, Mapping) or not set(setups) <= set(atomic_numbers):
            raise ConfigError(f'vasp: setups = {setups!r}: expected endings by chemical symbol, e.g. {{"Ge": "_d"}}')
        for name, value in (
            ("k_density", k_density),
            ("walltime_s", walltime_s),
            ("deadline", deadline),
            ("grace_s", grace_s),
        ):
            if value is not None and (not isinstance(value, int | float) or value < 0):
                raise ConfigError(f"vasp: {name} = {value!r}: expected a number, not below 0")
        if not isinstance(unconverged, int | float) or not 0 <= unconverged <= 1:
            raise ConfigError(f"vasp: unconverged = {unconverged!r}: expected a fraction of the steps, 0 to 1")
        for name, value in (("custodian", custodian), ("below_enmax", below_enmax), ("mixed", mixed)):
            if not isinstance(value, bool):
                raise ConfigError(f"vasp: {name} = {value!r}: expected true or false")
        own = {**PRESETS[preset], **{k: _checked(k, v) for k, v in ((k.lower(), v) for k, v in tags.items())}}
        density = own.pop("k_density")
        self._density = density if k_density is None else float(k_density)
        self._mesh = own.pop("kpts", None)
        self._preset, self._wanted_version = preset, version
        self._setups = {**(SETUPS_OF_DYNAMICS if preset in ("aimd", "melt_quench") else SETUPS), **setups}
        self._below_enmax = below_enmax
        self._root, self._keep, self._limit = Path(directory).absolute(), keep, walltime_s
        self._deadline, self._grace = deadline, grace_s
        self._custodian, self._unconverged = custodian, float(unconverged)
        self.mixed = mixed
        self.corrections: list[str] = []
        self.made_by: list[dict[str, Any]] = []
        self._given = {
            "preset": preset, "k_density": k_density, "setups": setups, "directory": directory, "keep": keep,
            "walltime_s": walltime_s, "version": version, "custodian": custodian,
            "below_enmax": below_enmax, "deadline": deadline, "grace_s": grace_s, "unconverged": unconverged,
            "mixed": mixed, **{k.lower(): v for k, v in tags.items()},
        }  # fmt: skip
        super().__init__(setups=self._setups, gamma=True, **own)

    @property
    def moves_atoms(self) -> bool:
        """Whether VASP itself moves the atoms: its results are then of another structure than was given."""
        return (self.int_params["nsw"] or 0) > 0 and self.int_params["ibrion"] != -1

    @property
    def is_dynamics(self) -> bool:
        """Whether VASP itself runs molecular dynamics."""
        return self.moves_atoms and self.int_params["ibrion"] == 0

    def single_point(self) -> VaspInFolders:
        """The same where the atoms are, in plane waves of the cell that they have now, and in a folder of its own."""
        return VaspInFolders(**{**self._given, **_STILL, "ediffg": None})

    def check_installed(self) -> None:
        """Look for the command and the folder of the POTCARs where ASE looks for them, and for custodian if asked.

        Raises
        ------
        ConfigError
            If one is missing; it says what to set.
        CalculatorError
            If custodian is.
        """
        if self._custodian:
            vasp_errors.handlers()
        where = "in the environment, or in the section [environment] of ASE's file ~/.config/ase/config.ini"
        if not _configured(*self.env_commands):
            raise ConfigError(
                f"vasp: the command that starts VASP is missing; set ASE_VASP_COMMAND {where}, e.g. "
                "ASE_VASP_COMMAND='mpirun -n 16 vasp_std'"
            )
        folder = _configured(self.VASP_PP_PATH)
        if not folder or not Path(folder).is_dir():
            what = f"{folder} is no folder" if folder else "the folder of the POTCARs is missing"
            raise ConfigError(f"vasp: {what}; set VASP_PP_PATH {where} to the folder that holds potpaw_PBE")

    def identity(self) -> dict[str, Any]:
        """What results depend on; not on the command, the number of processes, the time limit or the way there."""
        given = {"incar": self._tags(), "custom": self.input_params["custom"] or {}}
        tags, custom = (
            {k: v for k, v in found.items() if not vasp_errors.same_result(k.upper(), v, self.moves_atoms)}
            for found in given.values()
        )
        of_ase = {k: self.input_params[k] for k in ("pp", "charge") if self.input_params[k]}
        if custom:
            of_ase["custom"] = custom
        mesh = {"kpts": self._mesh} if self._mesh else {"k_density": self._density}
        pp_version = self.input_params["pp_version"] or _configured(self.VASP_PP_VERSION)
        return {
            "preset": self._preset,
            "incar": dict(sorted(tags.items())),
            **of_ase,
            **mesh,
            "potcars": {symbol: symbol + ending for symbol, ending in sorted(self._setups.items())},
            **({"pp_version": str(pp_version)} if pp_version else {}),
            **({"version": self._wanted_version} if self._wanted_version else {}),
        }

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Run VASP, or go on with an earlier run of the same; where it moves the atoms, `atoms` follow."""
        if atoms is None:
            atoms = self.atoms
        check_atoms(atoms)
        if missing := sorted(set(atoms.symbols) - set(self._setups)):
            raise CalculatorError(
                f'vasp: no POTCAR was chosen for {missing[0]}; choose one by setups={{"{missing[0]}": ""}} or another '
                "ending, as VASP recommends it"
            )
        self.set(kpts=self._mesh or k_mesh(atoms, self._density))
        with _environment(), _own_folder(self._root / self._name(atoms)) as folder:
            self.directory = str(folder)
            Calculator.calculate(self, atoms, properties, system_changes)
            self.clear_results()
            tags = self._earlier_corrections(folder)
            if (folder / "finished").is_file() and not self._too_many(folder):
                self.initialize(self.atoms)
            else:
                with _held_signals() as came:
                    self._run_in(folder, tags, came)
            self.update_atoms(atoms)
            self.read_results()
            self.made_by = [made_by(part) for part in parts(folder) if (part / "OUTCAR").is_file()]
            if self.is_dynamics and not convergence(folder)[-1]:
                self.results.update(energy=np.nan, free_energy=np.nan, forces=np.full((len(atoms), 3), np.nan))
                self.results.update(stress=np.full(6, np.nan))
            if not (self._keep or self.moves_atoms):
                shutil.rmtree(folder)

    def _run_in(self, folder: Path, tags: dict[str, Any], came: Sequence[int]) -> None:
        handlers = vasp_errors.handlers() if self._custodian else []
        begun = time.monotonic()
        if self._earlier_is_enough(folder, tags):
            return
        for more in range(vasp_errors.CORRECTIONS, -1, -1):
            left, limit = self._time_left(begun)
            steps = self._prepare(folder, tags)
            if came:
                raise KeyboardInterrupt
            code, asked = self._execute(folder, left, came)
            if not (problem := self._problem(folder, code, steps)):
                break
            if came or (asked and limit.startswith(_DEADLINE)):
                by = f"by {signal.Signals(came[0]).name}" if came else f"before {limit}"
                raise KeyboardInterrupt(f"vasp: stopped {by}: {problem}; {self._what_next(folder)}")
            if asked:
                problem = f"stopped before {limit}: {problem}"
            elif handlers:
                told = vasp_errors.advise(handlers, folder, relaxes=self.moves_atoms and self.int_params["ibrion"] != 0)
                if isinstance(told, str):
                    problem += f"; {told}"
                elif more:
                    tags.update(told.tags)
                    self._correct(folder, tags, str(told))
                    if self._too_many(folder):
                        self._set_aside(folder)
                    continue
                else:
                    problem += f"; after {vasp_errors.CORRECTIONS} corrections custodian would try {told}"
            if self.corrections:
                problem += f"; corrected before: {'; '.join(self.corrections)}"
            raise CalculatorError(f"vasp: {problem}; {self._what_next(folder)}")
        self._finish(folder)

    def _time_left(self, begun: float) -> tuple[float, str]:
        """Seconds that the next run may take, of a calculation that has begun then, and what limits them.

        Raises
        ------
        KeyboardInterrupt
            If the deadline has come.
        """
        limits = [(np.inf, "")]
        if self._limit is not None:
            left = self._limit - (time.monotonic() - begun)
            limits.append((max(left, 0.0), f"the time limit of {self._limit:g} s"))
        slurm = os.environ.get("SLURM_JOB_END_TIME", "")
        deadline = self._deadline if self._deadline is not None else float(slurm) if slurm.isdigit() else 0.0
        if deadline:
            what = f"{_DEADLINE} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(deadline))}"
            what += " (SLURM_JOB_END_TIME)" if self._deadline is None else ""
            if (left := deadline - SPARE_S - time.time()) <= 0:
                raise KeyboardInterrupt(
                    f"vasp: no time is left before {what}, less {SPARE_S:g} s to end; deadline=0 is none"
                )
            limits.append((left, what))
        return min(limits)

    @staticmethod
    def _finish(folder: Path) -> None:
        (folder / "finished").touch()
        for name in _LARGE:
            (folder / name).unlink(missing_ok=True)

    def _what_next(self, folder: Path) -> str:
        if self._too_many(folder):
            return (
                f"its files are in {folder}, and the same again would only say this: another way to the ground state "
                "(nelm, algo, ...) begins it anew, and a larger fraction (unconverged) takes it as it is, if that "
                "is enough"
            )
        return f"its files are in {folder}, and the same again goes on from them"

    # ---- electrons that did not converge in a dynamics ----

    def _too_many(self, folder: Path) -> str:
        """What is wrong with the electrons of a dynamics, over all of its parts; empty if nothing is."""
        if not self.is_dynamics:
            return ""
        steps, nelm = self.int_params["nsw"], self.int_params["nelm"] or 60
        allowed = max(1, int(self._unconverged * steps)) if self._unconverged else 0
        rows = [len(list(same)) for good, same in itertools.groupby(convergence(folder)) if not good]
        missed, longest = sum(rows), max(rows, default=0)
        if missed <= allowed and longest <= IN_A_ROW:
            return ""
        return (
            f"the electrons did not converge in NELM = {nelm} steps, in {missed} of {steps} ionic steps, up to "
            f"{longest} in a row: allowed are {allowed} (unconverged = {self._unconverged:g}), and {IN_A_ROW} in a row"
        )

    def _earlier_is_enough(self, folder: Path, tags: Mapping[str, Any]) -> bool:
        """Whether a dynamics was done but for what was allowed then; if it is to be done in another way, begin anew.

        Raises
        ------
        CalculatorError
            If too many of its electrons did not converge, and they are to be looked for in the same way.
        """
        if not self.is_dynamics:
            return False
        if problem := self._too_many(folder):
            if (folder / "way.json").is_file() and json.loads((folder / "way.json").read_text()) == self._way(tags):
                raise CalculatorError(f"vasp: {problem}; {self._what_next(folder)}")
            self._set_aside(folder)
        elif (folder / "OUTCAR").is_file() and _same_atoms(folder / "CONTCAR", self.atoms):
            self.initialize(self.atoms)
            done = sum(_ionic_steps(part) for part in parts(folder)[:-1])
            if not self._problem(folder, 0, self.int_params["nsw"] - done):
                self._finish(folder)
                return True
        return False

    def _set_aside(self, folder: Path) -> None:
        """Keep what was done in ``refused1``, ... of the folder, and begin anew."""
        aside = folder / f"refused{1 + len(list(folder.glob('refused*')))}"
        aside.mkdir()
        for path in [*parts(folder)[:-1], *(folder / name for name in (*_OUTPUT, "INCAR", "CONTCAR"))]:
            if path.exists():
                os.replace(path, aside / path.name)
        (folder / "finished").unlink(missing_ok=True)

    def _way(self, tags: Mapping[str, Any]) -> dict[str, Any]:
        """Tags that say how the ground state is looked for, as they are in INCAR."""
        custom = {tag.upper(): value for tag, value in (self.input_params["custom"] or {}).items()}
        found = {tag: v for tag, v in {**self._tags(), **custom, **tags}.items() if v is not None}
        return dict(json.loads(json.dumps(vasp_errors.way(found, self.moves_atoms), sort_keys=True)))

    def _tags(self) -> dict[str, Any]:
        """Tags of INCAR that were given or are of the preset."""
        groups = (
            self.float_params, self.exp_params, self.int_params, self.bool_params, self.string_params,
            self.list_float_params, self.list_int_params, self.list_bool_params, self.special_params, self.dict_params,
        )  # fmt: skip
        return {k.upper(): v for group in groups for k, v in group.items() if v is not None}

    # ---- a run ----

    def _correct(self, folder: Path, tags: dict[str, Any], how: str) -> None:
        """Keep a correction in the folder, for whoever goes on there or reads it."""
        self.corrections.append(how)
        text = json.dumps({"corrections": self.corrections, "tags": tags})
        (folder / "corrections.new").write_text(text)
        os.replace(folder / "corrections.new", folder / "corrections.json")

    def _earlier_corrections(self, folder: Path) -> dict[str, Any]:
        """Tags of the corrections that were made in this folder; those of a run that did not end, only if asked."""
        path, self.corrections = folder / "corrections.json", []
        if not self._custodian and not (folder / "finished").is_file():
            path.unlink(missing_ok=True)
        if not path.is_file():
            return {}
        kept = json.loads(path.read_text())
        self.corrections = list(kept["corrections"])
        return dict(kept["tags"])

    def _name(self, atoms: Atoms) -> str:
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode())
        digest.update(repr([constraint.todict() for constraint in atoms.constraints]).encode())
        more = (atoms.arrays[name] for name in ("momenta", "initial_magmoms") if name in atoms.arrays)
        for values in (atoms.numbers, atoms.positions, atoms.cell.array, *more):
            digest.update((np.round(values, 8) + 0.0).astype("<f8").tobytes())  # adding zero turns -0 into 0
        return f"{atoms.get_chemical_formula('hill')}-{digest.hexdigest()[:16]}"

    def _prepare(self, folder: Path, tags: Mapping[str, Any]) -> int:
        """Write the input, to begin where an earlier attempt ended if there is one; the ionic steps to do.

        `tags` go over those of this calculation.
        """
        steps, before = self.int_params["nsw"] or 0, parts(folder)[:-1]
        goes_on = self.moves_atoms and _same_atoms(folder / "CONTCAR", self.atoms)
        if goes_on and self.is_dynamics and (folder / "OSZICAR").is_file():
            before.append(folder / f"part{len(before) + 1}")
            before[-1].mkdir()
            for name in _OUTPUT:
                if (folder / name).is_file():
                    os.replace(folder / name, before[-1] / name)
        elif not goes_on:
            for part in before:
                shutil.rmtree(part)
            (folder / "CONTCAR").unlink(missing_ok=True)
        # What is left of an earlier run must not be taken for the result of this one.
        for name in (*_OUTPUT, "STOPCAR"):
            (folder / name).unlink(missing_ok=True)
        self._check_potcars()
        self.write_input(self.atoms)
        if tags:
            (folder / "INCAR").write_text(_with_tags((folder / "INCAR").read_text(), tags))
        (folder / "way.json").write_text(json.dumps(self._way(tags)))
        if not goes_on:
            return steps
        shutil.copyfile(folder / "CONTCAR", folder / "POSCAR")
        if not self.is_dynamics:
            return steps
        done = min(sum(_ionic_steps(part) for part in before), steps - 1)
        begin, end = (self.float_params[name] for name in ("tebeg", "teend"))
        incar = re.sub(r"(?m)^NSW = .*$", f"NSW = {steps - done}", (folder / "INCAR").read_text())
        if begin is not None and end is not None:
            incar = re.sub(r"(?m)^TEBEG = .*$", f"TEBEG = {begin + (end - begin) * done / steps:.6f}", incar)
        (folder / "INCAR").write_text(incar)
        return steps - done

    def _check_potcars(self) -> None:
        try:
            self.initialize(self.atoms)
        except RuntimeError as error:
            raise CalculatorError(
                f"vasp: {' '.join(str(error).split())}; see VASP_PP_PATH, and setups= and pp_version= for the names"
            ) from None
        titles, enmax = [], []
        for path in self.ppp_list:
            with create_input.open_potcar(filename=path) as file:
                text = file.read()
            titles += re.findall(r"TITEL\s*=\s*\S+\s+([A-Z][a-z]?)", text)
            enmax += [float(value) for value in re.findall(r"ENMAX\s*=\s*([\d.]+)", text)]
        if titles != (symbols := [symbol for symbol, _ in self.symbol_count]):
            raise CalculatorError(
                f"vasp: the POTCARs are of {' '.join(titles)}, the structure is of {' '.join(symbols)}: look at "
                f"{', '.join(self.ppp_list)}"
            )
        if len(enmax) != len(titles):
            raise CalculatorError(
                f"vasp: {len(enmax)} ENMAX in {len(titles)} POTCARs: look at {', '.join(self.ppp_list)}"
            )
        encut = self.float_params["encut"]  # if it is None, VASP takes the largest ENMAX
        if encut is not None and encut < max(enmax) and not self._below_enmax:
            symbol = titles[enmax.index(max(enmax))]
            raise ConfigError(
                f"vasp: encut = {encut:g} eV is below ENMAX = {max(enmax):g} eV of the POTCAR "
                f"{symbol}{self._setups[symbol]}: give a larger encut, or another POTCAR by "
                f'setups={{"{symbol}": "..."}}; below_enmax=true if that is what you want'
            )

    def _execute(self, folder: Path, limit: float, came: Sequence[int]) -> tuple[int, bool]:
        """Run the command in the folder, up to `limit` seconds; its exit code, and whether it was asked to stop.

        At the first of the signals that `came` it is asked, too, and has `grace_s`; at the second Ctrl-C it is ended.
        """
        command, asked = self.make_command(), False
        begun, stop_at, signalled = time.monotonic(), STOP_AT * limit, False
        with (folder / "vasp.out").open("w") as out:
            # A group of its own, so that all of mpirun's processes can be ended.
            process = subprocess.Popen(
                command,
                shell=True,
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=False,  # it holds the lock of the folder, too: it may outlive this process
            )
            try:
                while process.poll() is None and (now := time.monotonic() - begun) < limit:
                    if came and not signalled:
                        signalled, stop_at, limit = True, now, min(limit, now + self._grace)
                    if came.count(signal.SIGINT) > 1:
                        break
                    if now >= stop_at and not asked:
                        asked = True
                        stop = "LSTOP" if self.moves_atoms else "LABORT"
                        (folder / "STOPCAR").write_text(f"{stop} = .TRUE.\n")
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(min(max(stop_at - now, 0.0) if not asked else limit - now, _POLL_S))
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    try:
                        process.wait(PATIENCE_S)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
        return process.returncode, asked or signalled or time.monotonic() - begun >= limit

    def _problem(self, folder: Path, code: int, steps: int) -> str:
        """What is wrong with a run that ended; empty if nothing is."""
        outcar = (folder / "OUTCAR").read_text(errors="replace") if (folder / "OUTCAR").is_file() else ""
        if code or "General timing" not in outcar:
            why = _how_it_ended(code) if code else "OUTCAR lacks the timing at its end"
            last = " / ".join((folder / "vasp.out").read_text(errors="replace").split("\n")[-6:]).strip(" /")
            return f"VASP died: {why}; it said last: {last or 'nothing'}"
        try:
            species = _species(folder / "vasprun.xml")
        except (OSError, ElementTree.ParseError) as error:
            return f"vasprun.xml is cut off or missing ({error})"
        if species != (wanted := list(self.atoms_sorted.symbols)):
            self._undo(folder)
            ours, theirs = (" ".join(symbol for symbol, _ in itertools.groupby(s)) for s in (wanted, species))
            return f"VASP computed {theirs}, the structure is {ours}, in this order: was its POTCAR exchanged?"
        if self._wanted_version and (found := self.read_version()) != self._wanted_version:
            self._undo(folder)
            return f"this is VASP {found}, not version = {self._wanted_version}"
        done, nelm = _ionic_steps(folder), self.int_params["nelm"] or 60
        if self.is_dynamics:
            ended = f"the dynamics ended after {done} of {steps} steps" if done < steps else ""
            return self._too_many(folder) or ended
        if outcar.rfind(CONVERGED) < outcar.rfind("- Iteration"):
            return f"the electrons did not converge in NELM = {nelm} steps"
        if self.moves_atoms and "reached required accuracy" not in outcar:
            return f"the ions did not converge in NSW = {steps} steps"
        return ""

    def _undo(self, folder: Path) -> None:
        """Take back the steps of a run that is not ours: the same again goes on where it began."""
        if self.moves_atoms:
            shutil.copyfile(folder / "POSCAR", folder / "CONTCAR")
            (folder / "OSZICAR").unlink(missing_ok=True)


def _with_tags(incar: str, tags: Mapping[str, Any]) -> str:
    """INCAR with some tags set anew, or taken away (None)."""
    lines = [line for line in incar.splitlines() if line.partition("=")[0].strip().upper() not in tags]
    for tag, value in tags.items():
        if value is not None:
            lines.append(f"{tag} = {f'.{value!s}.'.upper() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"


def _checked(tag: str, value: Any) -> Any:
    """A tag's value as its kind; `ConfigError` if it is unknown, or not of that kind."""
    if tag not in _TAGS:
        near = difflib.get_close_matches(tag, _TAGS, n=1)
        raise ConfigError(
            f"vasp: {tag!r} is no setting, and no tag of INCAR that ASE knows{f'; {near[0]}?' if near else ''} "
            'For tags of later versions: custom={"TAG": "value"}'
        )
    kind = _TAGS[tag]
    if tag == "xc" and str(value).lower() not in Vasp.xc_defaults:
        raise ConfigError(f"vasp: xc = {value!r}: ASE knows {', '.join(Vasp.xc_defaults)}")
    if tag == "kpts" and isinstance(value, list) and len(value) != 3:
        raise ConfigError(f"vasp: kpts = {value!r}: expected three numbers")
    if value is None or isinstance(value, kind):
        return value
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is bool and str(value).strip(".").lower() in ("true", "t", "false", "f"):
        return str(value).strip(".").lower().startswith("t")
    raise ConfigError(f"vasp: {tag} = {value!r}: expected a {kind.__name__}")


@contextmanager
def _environment() -> Iterator[None]:
    """Without ASE's warnings of settings in the environment: it is as good a place as ASE's file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ASEEnvDeprecationWarning)
        yield


def _configured(*names: str) -> str:
    """The first of the names that ASE's file or the environment sets."""
    with _environment():
        return next((str(cfg[name]) for name in names if name in cfg), "")


@contextmanager
def _held_signals() -> Iterator[list[int]]:
    """Yield the list of signals to stop that come meanwhile; the first is raised again at the end, for whom it was.

    VASP is in a session of its own, where no Ctrl-C comes to it, and has to be stopped first.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    waited_for = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    old = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number, handler in waited_for.items()
        if handler not in (signal.SIG_IGN, None)
    }
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def _own_folder(path: Path) -> Iterator[Path]:
    """A folder for one process: `path`, or ``path.2``, ... if another is at the same calculation."""
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}.{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # who had it has just removed it
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_nlink:
                    os.set_inheritable(lock, True)
                    break
            except BlockingIOError:
                pass
            os.close(lock)
    try:
        yield folder
    finally:
        os.close(lock)


def _same_atoms(contcar: Path, atoms: Atoms) -> bool:
    """Whether a CONTCAR is whole and of these atoms."""
    try:
        return sorted(read_vasp(contcar).numbers) == sorted(atoms.numbers)
    except Exception:  # of a file that is missing, empty or cut off, ASE raises anything
        return False


def made_by(folder: Path) -> dict[str, Any]:
    """What made the results of a folder: version of VASP, TITEL of POTCARs by symbol, tags of the way there.

    The first two are what VASP itself says in OUTCAR.
    """
    version, titles = "", {}
    with (folder / "OUTCAR").open(errors="replace") as lines:
        for line in lines:
            if not version and (found := re.match(r" *vasp\.(\S+)", line)):
                version = found[1]
            elif found := re.search(r"TITEL\s*=\s*(\S+\s+([A-Z][a-z]?)\S*(?:\s+\S+)*)", line):
                titles[found[2]] = found[1]
            elif "- Iteration" in line:
                break
    way = folder / "way.json"
    return {"version": version, "potcars": titles, "way": json.loads(way.read_text()) if way.is_file() else {}}


def refuse_mixture(made: Iterable[Mapping[str, Any]]) -> None:
    """Refuse results of one set (tables of `made_by`) that are of different POTCARs, or versions of VASP.

    Raises
    ------
    CalculatorError
        If a symbol has two TITELs, or major or minor numbers of the version differ; it names both.
    """
    found: dict[str, dict[str, int]] = {}
    for one in made:
        minor = ".".join(one["version"].split(".")[:2])
        for what, value in [("VASP", minor), *((f"the POTCAR of {s}", title) for s, title in one["potcars"].items())]:
            counts = found.setdefault(what, {})
            counts[value] = counts.get(value, 0) + 1
    for what, counts in found.items():
        if len(counts) > 1:
            both = " and ".join(f"{value} ({number} times)" for value, number in counts.items())
            raise CalculatorError(
                f"vasp: {what} is not the same in all results of this set: {both}; nobody could tell them apart later. "
                "version= and pp_version= compute all of them by one; mixed=true takes them as they are"
            )


def told(made: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Tables of `made_by` as scalars of a run."""
    found = {
        "vasp_version": [one["version"] for one in made],
        "potcars": [title for one in made for title in one["potcars"].values()],
        "way": [f"{tag} = {value}" for one in made for tag, value in one["way"].items()],
    }
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items() if values}


def parts(folder: Path) -> list[Path]:
    """Where the output of a calculation is, in its order: ``part1``, ``part2``, ..., and the folder itself."""
    return [*sorted(folder.glob("part*"), key=lambda path: int(path.name[4:])), folder]


def convergence(folder: Path) -> list[bool]:
    """Of each ionic step, over all parts, whether its electrons converged.

    It is what VASP says of those that did: of the others, versions before 6 say nothing.
    """
    found: list[bool] = []
    for place in parts(folder):
        steps, good = _ionic_steps(place), set[int]()
        step = 0
        if steps:
            for number, reached in _LOOPS.findall((place / "OUTCAR").read_text(errors="replace")):
                if reached:
                    good.add(step)
                else:
                    step = int(number)
        found += [number in good for number in range(1, steps + 1)]
    return found


def _ionic_steps(folder: Path) -> int:
    try:
        return len(re.findall(r"(?m)^ *\d+ .*\bF= ", (folder / "OSZICAR").read_text()))
    except FileNotFoundError:
        return 0


def _species(xml: Path) -> list[str]:
    """Symbols of the atoms that VASP computed; reads the file to its end."""
    found: list[str] = []
    for _, element in ElementTree.iterparse(xml):
        if element.tag == "atominfo":
            found = [(entry[0].text or "").strip() for entry in element.findall("array[@name='atoms']/set/rc")]
        elif element.tag == "calculation":
            element.clear()
    return found


def _how_it_ended(code: int) -> str:
    """Of the exit code of a shell: the code, or the signal that ended its command."""
    number = -code if code < 0 else code - 128
    try:
        return f"it was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"


def _build(**settings: Any) -> VaspInFolders:
    made = VaspInFolders(**settings)
    made.check_installed()
    return made


def _identity(**settings: Any) -> dict[str, Any]:
    return VaspInFolders(**settings).identity()


def _relaxation(fmax: float, cell: bool, **settings: Any) -> tuple[dict[str, Any], bool]:
    made = VaspInFolders(**settings)
    if not made.moves_atoms:
        return settings, False
    if (ibrion := made.int_params["ibrion"]) not in (1, 2, 3):
        what = "is dynamics" if ibrion == 0 else "does not relax"
        raise ConfigError(f"vasp: IBRION = {ibrion} {what}: the atoms would not be at rest; take preset=relax")
    wanted = {"ediffg": (-fmax, f"fmax = {fmax:g}"), "isif": (3 if cell else 2, f"cell = {str(cell).lower()}")}
    for name, given in settings.items():
        value, reason = wanted.get(name.lower(), (given, ""))
        if given != value:
            raise ConfigError(
                f"vasp: settings have {name} = {given}, which contradicts {reason} of the relaxation, by which it is "
                f"{value:g}; leave one of them out"
            )
    own = {k: v for k, v in settings.items() if k.lower() not in wanted}
    return {**own, **{tag: value for tag, (value, _) in wanted.items()}}, True


ENGINE = Engine(_build, _identity, _relaxation)
