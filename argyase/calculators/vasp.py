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
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
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

STOP_AT = 0.9
"""Fraction of the time limit at which VASP is asked to stop: an ionic or electronic step must fit into the rest."""

PATIENCE_S = 5.0
"""Time between SIGTERM and SIGKILL, s."""

_KINDS: tuple[tuple[Sequence[str], type], ...] = (
    (create_input.float_keys, float), (create_input.exp_keys, float), (create_input.int_keys, int),
    (create_input.bool_keys, bool), (create_input.string_keys, str), (create_input.list_float_keys, list),
    (create_input.list_int_keys, list), (create_input.list_bool_keys, list), (create_input.special_keys, object),
    (create_input.dict_keys, dict),
)  # fmt: skip
_OF_ASE = {"xc": str, "pp": str, "pp_version": object, "charge": float, "kpts": list, "custom": dict}
_TAGS: dict[str, type] = {**{tag: kind for tags, kind in _KINDS for tag in tags}, **_OF_ASE}
_NOT_PHYSICS = ("kpar", "ncore", "npar", "nsim", "lplane", "lwave", "lcharg")

_OUTPUT = ("OUTCAR", "vasprun.xml", "OSZICAR", "XDATCAR", "vasp.out")
_LARGE = ("WAVECAR", "CHGCAR", "CHG", "POTCAR", "vdw_kernel.bindat")
CONVERGED = "aborting loop because EDIFF is reached"
"""What OUTCAR says of electrons that converged, once for each ionic step."""


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
        Endings of POTCARs by symbol, added to `SETUPS`.
    directory
        Where the folders are made.
    keep
        Keep the folders of single points, too.
    walltime_s
        Time that a calculation may take, in s. At `STOP_AT` of it VASP is asked to stop, by STOPCAR; at its end it is
        ended.
    version
        Version that VASP must have, e.g. ``6.4.2``.
    custodian
        Ask custodian about a run that failed, and run it again with what `argyase.calculators.vasp_errors` takes of its
        advice, up to `argyase.calculators.vasp_errors.CORRECTIONS` times within the same time limit.
    tags
        Tags of INCAR, and xc, pp, pp_version, charge (e), kpts and custom of ASE; None takes a tag of the preset away.

    Raises
    ------
    ConfigError
        If the preset or a tag is unknown, or a value is not of its kind.
    CalculatorError
        On calculation, if an element has no POTCAR, the run was stopped, died or was cut off, electrons or ions did
        not converge, or VASP computed other elements than it was given.
    """

    def __init__(
        self,
        preset: str = "label",
        k_density: float | None = None,
        setups: Mapping[str, str] | None = None,
        directory: str = "vasp",
        keep: bool = False,
        walltime_s: float | None = None,
        version: str = "",
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
        for name, value in (("k_density", k_density), ("walltime_s", walltime_s)):
            if value is not None and (not isinstance(value, int | float) or value < 0):
                raise ConfigError(f"vasp: {name} = {value!r}: expected a number, not below 0")
        if not isinstance(custodian, bool):
            raise ConfigError(f"vasp: custodian = {custodian!r}: expected true or false")
        own = {**PRESETS[preset], **{k: _checked(k, v) for k, v in ((k.lower(), v) for k, v in tags.items())}}
        density = own.pop("k_density")
        self._density = density if k_density is None else float(k_density)
        self._mesh = own.pop("kpts", None)
        self._preset, self._wanted_version = preset, version
        self._setups = {**SETUPS, **setups}
        self._root, self._keep, self._limit = Path(directory).absolute(), keep, walltime_s
        self._custodian = custodian
        self.corrections: list[str] = []
        super().__init__(setups=self._setups, gamma=True, **own)

    @property
    def moves_atoms(self) -> bool:
        """Whether VASP itself moves the atoms: its results are then of another structure than was given."""
        return (self.int_params["nsw"] or 0) > 0 and self.int_params["ibrion"] != -1

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
        """What results depend on; not on the command, the number of processes or the time limit."""
        groups = (
            self.float_params, self.exp_params, self.int_params, self.bool_params, self.string_params,
            self.list_float_params, self.list_int_params, self.list_bool_params, self.special_params, self.dict_params,
        )  # fmt: skip
        tags = {k.upper(): v for group in groups for k, v in group.items() if v is not None and k not in _NOT_PHYSICS}
        of_ase = {k: self.input_params[k] for k in ("pp", "charge", "custom") if self.input_params[k]}
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
            if (folder / "finished").is_file():
                self.initialize(self.atoms)
            else:
                self._run_in(folder, tags)
            self.update_atoms(atoms)
            self.read_results()
            if not (self._keep or self.moves_atoms):
                shutil.rmtree(folder)

    def _run_in(self, folder: Path, tags: dict[str, Any]) -> None:
        handlers = vasp_errors.handlers() if self._custodian else []
        begun = time.monotonic()
        for more in range(vasp_errors.CORRECTIONS, -1, -1):
            steps = self._prepare(folder, tags)
            left = None if self._limit is None else max(self._limit - (time.monotonic() - begun), 0.0)
            code, asked = self._execute(folder, left)
            if not (problem := self._problem(folder, code, steps)):
                break
            if asked:
                problem = f"stopped before the time limit of {self._limit:g} s: {problem}"
            elif handlers:
                told = vasp_errors.advise(handlers, folder, relaxes=self.moves_atoms and self.int_params["ibrion"] != 0)
                if isinstance(told, str):
                    problem += f"; {told}"
                elif more:
                    tags.update(told.tags)
                    self._correct(folder, tags, str(told))
                    continue
                else:
                    problem += f"; after {vasp_errors.CORRECTIONS} corrections custodian would try {told}"
            if self.corrections:
                problem += f"; corrected before: {'; '.join(self.corrections)}"
            raise CalculatorError(f"vasp: {problem}; its files are in {folder}, and the same again goes on from them")
        (folder / "finished").touch()
        for name in _LARGE:
            (folder / name).unlink(missing_ok=True)

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
        steps, dynamics = self.int_params["nsw"] or 0, self.int_params["ibrion"] == 0
        parts = sorted(folder.glob("part*"))
        goes_on = self.moves_atoms and _same_atoms(folder / "CONTCAR", self.atoms)
        if goes_on and dynamics:
            parts.append(folder / f"part{len(parts) + 1}")
            parts[-1].mkdir()
            for name in _OUTPUT:
                if (folder / name).is_file():
                    os.replace(folder / name, parts[-1] / name)
        elif not goes_on:
            for part in parts:
                shutil.rmtree(part)
            (folder / "CONTCAR").unlink(missing_ok=True)
        # What is left of an earlier run must not be taken for the result of this one.
        for name in (*_OUTPUT, "STOPCAR"):
            (folder / name).unlink(missing_ok=True)
        self._check_potcars()
        self.write_input(self.atoms)
        if tags:
            (folder / "INCAR").write_text(_with_tags((folder / "INCAR").read_text(), tags))
        if not goes_on:
            return steps
        shutil.copyfile(folder / "CONTCAR", folder / "POSCAR")
        if not dynamics:
            return steps
        done = min(sum(_ionic_steps(part) for part in parts), steps - 1)
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
        titles = []
        for path in self.ppp_list:
            with create_input.open_potcar(filename=path) as file:
                titles += re.findall(r"TITEL\s*=\s*\S+\s+([A-Z][a-z]?)", file.read())
        if titles != (symbols := [symbol for symbol, _ in self.symbol_count]):
            raise CalculatorError(
                f"vasp: the POTCARs are of {' '.join(titles)}, the structure is of {' '.join(symbols)}: look at "
                f"{', '.join(self.ppp_list)}"
            )

    def _execute(self, folder: Path, limit: float | None) -> tuple[int, bool]:
        """Run the command in the folder, up to `limit` seconds; its exit code, and whether it was asked to stop."""
        command, asked = self.make_command(), False
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
                try:
                    process.wait(None if limit is None else STOP_AT * limit)
                except subprocess.TimeoutExpired:
                    asked = True
                    (folder / "STOPCAR").write_text("LSTOP = .TRUE.\n" if self.moves_atoms else "LABORT = .TRUE.\n")
                    with suppress(subprocess.TimeoutExpired):
                        process.wait((1 - STOP_AT) * (limit or 0.0))
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    try:
                        process.wait(PATIENCE_S)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
        return process.returncode, asked

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
            ours, theirs = (" ".join(symbol for symbol, _ in itertools.groupby(s)) for s in (wanted, species))
            return f"VASP computed {theirs}, the structure is {ours}, in this order: was its POTCAR exchanged?"
        if self._wanted_version and (found := self.read_version()) != self._wanted_version:
            return f"this is VASP {found}, not version = {self._wanted_version}"
        done, nelm = _ionic_steps(folder), self.int_params["nelm"] or 60
        if self.int_params["ibrion"] == 0 and self.moves_atoms:
            if missed := done - outcar.count(CONVERGED):
                # Forces were wrong on the way: what comes after is no path of this dynamics.
                (folder / "CONTCAR").unlink(missing_ok=True)
                return f"the electrons did not converge in NELM = {nelm} steps, in {missed} of {done} ionic steps"
            return f"the dynamics ended after {done} of {steps} steps" if done < steps else ""
        if outcar.rfind(CONVERGED) < outcar.rfind("- Iteration"):
            return f"the electrons did not converge in NELM = {nelm} steps"
        if self.moves_atoms and "reached required accuracy" not in outcar:
            return f"the ions did not converge in NSW = {steps} steps"
        return ""


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


ENGINE = Engine(_build, _identity)
