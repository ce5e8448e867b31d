"""Reading and writing MLIP ``.cfg`` files: frames with energies, forces and virials, as MLIP-2 and MLIP-3 train on.

Units are eV, A, eV/A. ``PlusStress`` is the virial, -dE/dstrain in eV, in the order that its heading names (MLIP
writes xx yy zz yz xz xy, which is also ASE's); ASE's stress is dE/dstrain / volume in eV/A^3, so of the other sign.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from argyase.errors import ConfigError, TrajectoryError

Species = Sequence[str] | Mapping[int, str]

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_CARTESIAN = ("cartes_x", "cartes_y", "cartes_z")
_DIRECT = ("direct_x", "direct_y", "direct_z")
_FORCES = ("fx", "fy", "fz")
_KEPT = ("charge", "magmom_x", "magmom_y", "magmom_z", "en_der_mx", "en_der_my", "en_der_mz", "nbh_grades")
"""Columns that become arrays of their own name."""
_ESCAPES = {" ": r"\_", "\t": r"\t", "\n": r"\n", "\r": r"\r"}  # in the names of features


def read_cfg(path: str | Path, species: Species) -> list[Atoms]:
    """Read all frames of a ``.cfg`` file (or ``.cfg.gz``).

    Energy (as ``energy`` and ``free_energy``), forces, site energies (``energies``) and stress are in a
    `SinglePointCalculator`. A frame without three cell vectors has no stress: its virial is in the calculator's
    ``results["virial"]`` (-dE/dstrain, eV; xx, yy, zz, yz, xz, xy). A direction is periodic if its cell vector is there
    and not zero. ``Feature`` lines are in ``atoms.info``, as text. Columns ``nbh_grades``, ``charge``, ``magmom_x``
    ... are in ``atoms.arrays``.

    Parameters
    ----------
    path
        The file.
    species
        Chemical symbols of the types 0, 1, 2, ...; or a mapping from type to symbol.

    Raises
    ------
    TrajectoryError
        If the file cannot be read; the message names file, line and reason.
    ConfigError
        If a symbol is missing, given twice, or no chemical symbol.
    """
    return list(iread_cfg(path, species))


def iread_cfg(path: str | Path, species: Species) -> Iterator[Atoms]:
    """Frames of a ``.cfg`` file one at a time; as `read_cfg`."""
    symbols = _symbols(species)
    try:
        with _open(Path(path), "r") as file:
            yield from parse_cfg(file, str(path), symbols)
    except (OSError, EOFError) as error:  # EOFError: a cut .gz
        reason = getattr(error, "strerror", None) or error
        raise TrajectoryError(f"{path}: cannot be read: {reason}") from None


def parse_cfg(lines: Iterable[str], name: str, species: Species, first_line: int = 1) -> Iterator[Atoms]:
    """Frames in the lines of a ``.cfg`` text; `name` and `first_line` are for the message of an error."""
    symbols = _symbols(species)
    reader = _Lines(lines, name, first_line - 1)
    while (line := reader.next()) is not None:
        if line.strip() != "BEGIN_CFG":
            raise reader.wrong(
                f"expected BEGIN_CFG, got {line.strip()[:40]!r}; the older text and the binary format of MLIP are not "
                "read: convert them with 'mlp convert'"
            )
        yield _frame(reader, symbols)


def write_cfg(path: str | Path, frames: Atoms | Iterable[Atoms], species: Species) -> None:
    """Write a ``.cfg`` file (or ``.cfg.gz``) that MLIP, motep and argyase read; every number survives to the last bit.

    Written are cell, positions and, if the calculator has them for these very positions: free energy (else energy),
    forces, site energies, stress (as virial); ``atoms.info`` as features, numbers as text; and the arrays that
    `read_cfg` makes. MLIP knows no cell vector of a direction that is not periodic: those are left out.

    Parameters
    ----------
    path
        The file.
    frames
        One or many.
    species
        Chemical symbols of the types 0, 1, 2, ...; or a mapping from type to symbol.

    Raises
    ------
    ConfigError
        If an atom is of another species, a number is not finite, results are those of other positions, or
        ``atoms.info`` holds what is neither text nor a number.
    """
    symbols = _symbols(species)
    with _open(Path(path), "w") as file:
        for number, atoms in enumerate([frames] if isinstance(frames, Atoms) else frames):
            file.write(_format(atoms, symbols, f"{path}, frame {number}"))


def _open(path: Path, mode: str) -> IO[str]:
    # Lines end in \n alone: what MLIP writes into a feature may contain other ends of lines.
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return cast(IO[str], opener(path, mode + "t", encoding="utf-8", errors="surrogateescape", newline="\n"))


def _symbols(species: Species) -> dict[int, str]:
    symbols = dict(species) if isinstance(species, Mapping) else dict(enumerate(species))
    for symbol in symbols.values():
        if symbol not in atomic_numbers:
            raise ConfigError(f"species = {species}: {symbol!r} is not a chemical symbol")
    if len(set(symbols.values())) != len(symbols):
        raise ConfigError(f"species = {species}: name each once, in the order of the file's types")
    return symbols


# ---- reading ----


class _Lines:
    """The lines that are not blank, with their number, for messages."""

    def __init__(self, lines: Iterable[str], name: str, number: int) -> None:
        self._lines, self._name, self.number = iter(lines), name, number
        self._again: tuple[int, str] | None = None

    def next(self) -> str | None:
        if self._again is not None:
            (self.number, line), self._again = self._again, None
            return line
        for line in self._lines:
            self.number += 1
            if line.strip():
                return line.rstrip("\n").rstrip("\r")
        return None

    def back(self, line: str) -> None:
        """Have the line that was read last come again."""
        self._again = (self.number, line)

    def within_frame(self) -> str:
        line = self.next()
        if line is None:
            raise self.wrong("the file ends inside a frame (no END_CFG): it is cut")
        return line

    def wrong(self, reason: str) -> TrajectoryError:
        return TrajectoryError(f"{self._name}, line {self.number}: {reason}")

    def words(self, first: Sequence[str], count: int, what: str) -> list[str]:
        """`count` words: those behind the heading, then those of the lines below it."""
        words = list(first)
        while len(words) < count:
            words += self.within_frame().split()
        if len(words) > count:
            raise self.wrong(f"{what}: expected {count} values, got {len(words)}")
        return words

    def real(self, word: str, what: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in word:
            raise self.wrong(f"{what}: expected a finite number, got {word[:40]!r}")
        return value

    def integer(self, word: str, what: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", word, re.ASCII):
            raise self.wrong(f"{what}: expected a whole number, got {word[:40]!r}")
        return int(word)


def _frame(lines: _Lines, symbols: Mapping[int, str]) -> Atoms:
    seen: set[str] = set()
    size: int | None = None
    cell = np.zeros((3, 3))
    table: dict[str, Any] = {}
    energy: float | None = None
    virial: list[str] = []
    features: dict[str, str] = {}
    while (line := lines.within_frame()).strip() != "END_CFG":
        field, *rest = line.split()
        field = {"SuperCell": "Supercell", "Atomic_data:": "AtomData:"}.get(field, field)
        if field in seen:
            raise lines.wrong(f"{field} occurs twice in a frame")
        if field == "Feature":
            _feature(lines, line, features)
            continue
        seen.add(field)
        if field == "Size":
            size = lines.integer(lines.words(rest, 1, field)[0], field)
            if size < 1:
                raise lines.wrong(f"Size = {size}: a frame needs one atom or more")
        elif field == "Supercell":
            cell = _supercell(lines, rest)
        elif field == "AtomData:":
            if size is None:
                raise lines.wrong("AtomData comes before Size")
            table = _atom_data(lines, rest, size, symbols)
        elif field == "Energy":
            energy = lines.real(lines.words(rest, 1, field)[0], field)
        elif field == "PlusStress:":
            if sorted(rest) != sorted(_VOIGT):
                raise lines.wrong(f"PlusStress: expected the six components {' '.join(_VOIGT)}, got {' '.join(rest)}")
            values = dict(zip(rest, lines.words([], 6, field), strict=True))
            virial = [values[component] for component in _VOIGT]
            for word in virial:
                lines.real(word, field)
        elif field in ("Stress:", "Virial:"):
            raise lines.wrong(f"{field} an old field of MLIP, of other sign or unit; only PlusStress (eV) is read")
        elif field == "Features:":
            features.update(zip(rest, lines.words([], len(rest), field), strict=True))
        else:
            raise lines.wrong(f"unknown field {field[:40]!r}")
    if not table:
        raise lines.wrong("the frame has no AtomData")
    return _atoms(lines, cell, table, energy, virial, features)


def _feature(lines: _Lines, line: str, features: dict[str, str]) -> None:
    # One blank behind the name, then the value as it is.
    match = re.fullmatch(r"\s*Feature\s+(\S+)(?:\s(.*))?", line, re.ASCII | re.DOTALL)
    if match is None:
        raise lines.wrong("Feature: expected a name and a value")
    name, value = _unescape(match[1]), match[2] or ""
    # Lines of the same name are the lines of one text.
    features[name] = f"{features[name]}\n{value}" if name in features else value


def _supercell(lines: _Lines, first: Sequence[str]) -> NDArray[np.float64]:
    """Up to three cell vectors; those that are left out, and zeros, are directions that are not periodic."""
    words = list(first)
    while len(words) < 9:
        line = lines.within_frame()
        if not re.match(r"\s*[-+.\d]", line):
            lines.back(line)
            break
        words += line.split()
    if not words or len(words) % 3 or len(words) > 9:
        raise lines.wrong(f"Supercell: expected one to three vectors of three numbers, got {len(words)} numbers")
    cell = np.zeros((3, 3))
    cell.flat[: len(words)] = [lines.real(word, "Supercell") for word in words]
    return cell


def _atom_data(lines: _Lines, columns: Sequence[str], size: int, symbols: Mapping[int, str]) -> dict[str, Any]:
    """The columns by name; positions are one array, so are forces."""
    known = {"id", "type", "site_en", "ghost", *_CARTESIAN, *_DIRECT, *_FORCES, *_KEPT}
    if unknown := [c for c in columns if c not in known]:
        raise lines.wrong(f"AtomData: unknown column {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if len(set(columns)) != len(columns):
        raise lines.wrong("AtomData: a column occurs twice")
    for group in (_CARTESIAN, _DIRECT, _FORCES):
        if 0 < len(set(group) & set(columns)) < 3:
            raise lines.wrong(f"AtomData: needs all of {', '.join(group)}, or none")
    if (_CARTESIAN[0] in columns) == (_DIRECT[0] in columns):
        raise lines.wrong("AtomData: needs either cartes_x, cartes_y, cartes_z or direct_x, direct_y, direct_z")
    table: dict[str, list[Any]] = {name: [] for name in columns}
    for atom in range(1, size + 1):
        line = lines.within_frame()
        words = line.split()
        if len(words) != len(columns):
            raise lines.wrong(
                f"atom {atom} of {size} (Size): expected {len(columns)} columns, got {line.strip()[:40]!r}"
            )
        for name, word in zip(columns, words, strict=True):
            if name == "id":
                if lines.integer(word, name) != atom:
                    raise lines.wrong(f"id: expected {atom} (ids count up from 1), got {word}")
            elif name == "type":
                if (kind := lines.integer(word, name)) not in symbols:
                    raise lines.wrong(f"type {kind}: not among species = {dict(symbols)}; give a symbol for each type")
                table[name].append(symbols[kind])
            elif name == "ghost":
                if word != "false":
                    raise lines.wrong("ghost atoms (copies of others, of a run in parallel): not read")
            else:
                table[name].append(lines.real(word, name))
    # MLIP takes all atoms as of type 0 if types are not given.
    if "type" not in table and 0 not in symbols:
        raise lines.wrong(f"AtomData has no types, which means type 0: species = {dict(symbols)} has no symbol for it")
    found: dict[str, Any] = {"symbols": table.get("type") or [symbols[0]] * size}
    for key, group in (("cartesian", _CARTESIAN), ("direct", _DIRECT), ("forces", _FORCES)):
        if group[0] in table:
            found[key] = np.array([table[name] for name in group]).T
    found |= {name: np.array(table[name]) for name in ("site_en", *_KEPT) if name in table}
    return found


def _atoms(
    lines: _Lines,
    cell: NDArray[np.float64],
    table: Mapping[str, Any],
    energy: float | None,
    virial: Sequence[str],
    features: Mapping[str, str],
) -> Atoms:
    volume = abs(np.linalg.det(cell))
    if "direct" in table and volume == 0:
        raise lines.wrong("fractional coordinates (direct_x ...) in a frame without three cell vectors")
    positions = table["cartesian"] if "cartesian" in table else table["direct"] @ cell
    atoms = Atoms(table["symbols"], positions, cell=cell, pbc=cell.any(axis=1))
    atoms.info.update(features)
    for name in _KEPT:
        if name in table:
            atoms.set_array(name, table[name])
    results: dict[str, Any] = {}
    if energy is not None:
        results["energy"] = results["free_energy"] = energy
    if "forces" in table:
        results["forces"] = np.ascontiguousarray(table["forces"])
    if "site_en" in table:
        results["energies"] = table["site_en"]
    if virial and volume > 0:
        results["stress"] = np.array([_stress(word, atoms.get_volume()) for word in virial])
    elif virial:
        results["virial"] = np.array([float(word) for word in virial])
    if results:
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update(results)
    return atoms


# ---- writing ----


def _format(atoms: Atoms, symbols: Mapping[int, str], name: str) -> str:
    type_of = {symbol: kind for kind, symbol in symbols.items()}
    if unknown := sorted(set(atoms.get_chemical_symbols()) - set(type_of)):
        raise ConfigError(f"{name}: the atoms {unknown} are not among species = {dict(symbols)}")
    if len(atoms) == 0:
        raise ConfigError(f"{name}: has no atoms")
    results = _results(atoms, name)

    def row(values: Iterable[Any]) -> str:
        numbers = [float(v) for v in values]
        if not all(math.isfinite(v) for v in numbers):
            raise ConfigError(f"{name}: a number is not finite: {numbers}")
        return " ".join(f"{v!r:>24}" for v in numbers)  # the shortest text that is this number and no other

    lines = ["BEGIN_CFG", " Size", f"    {len(atoms)}"]
    cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    if np.any(atoms.pbc & ~cell.any(axis=1)):
        raise ConfigError(f"{name}: is periodic along a cell vector of length 0")
    if atoms.pbc.any():
        lines += [" Supercell", *(f"    {row(vector)}" for vector in cell[: 1 + np.flatnonzero(atoms.pbc)[-1]])]
    columns = [atoms.positions]
    heading = ["id", "type", *_CARTESIAN]
    if "energies" in results:
        heading.append("site_en")
        columns.append(np.asarray(results["energies"])[:, None])
    if "forces" in results:
        heading += _FORCES
        columns.append(results["forces"])
    for kept in _KEPT:
        if kept in atoms.arrays:
            heading.append(kept)
            columns.append(atoms.arrays[kept][:, None])
    lines.append(f" AtomData:  {' '.join(heading)}")
    kinds = [type_of[symbol] for symbol in atoms.get_chemical_symbols()]
    for atom, (kind, values) in enumerate(zip(kinds, np.hstack(columns).tolist(), strict=True), 1):
        lines.append(f"    {atom:10d} {kind:4d} {row(values)}")
    energy = results.get("free_energy", results.get("energy"))
    if energy is not None:
        lines += [" Energy", f"    {row([energy])}"]
    if "stress" in results and atoms.cell.rank == 3:
        stress = np.asarray(results["stress"], dtype=float)
        stress = full_3x3_to_voigt_6_stress(stress) if stress.shape == (3, 3) else stress
        virial = [_virial(s, atoms.get_volume()) for s in stress.tolist()]
        row(virial)  # finite
        lines += [f" PlusStress:  {' '.join(_VOIGT)}", f"     {' '.join(virial)}"]
    elif "virial" in results:
        lines += [f" PlusStress:  {' '.join(_VOIGT)}", f"     {row(results['virial'])}"]
    for key, value in atoms.info.items():
        lines += _features(key, value, name)
    return "\n".join(lines) + "\nEND_CFG\n\n"


def _results(atoms: Atoms, name: str) -> dict[str, Any]:
    results = dict(getattr(atoms.calc, "results", {}))
    if results and atoms.calc.check_state(atoms):
        raise ConfigError(f"{name}: its calculator has the results of other positions; compute again, or remove it")
    return results


def _features(key: str, value: object, name: str) -> list[str]:
    escaped = "".join(_ESCAPES.get(c, c) for c in str(key))
    if not re.fullmatch(r"\S+", escaped, re.ASCII) or _unescape(escaped) != key:
        raise ConfigError(f"{name}: info[{key!r}]: a .cfg file cannot hold this name; remove or rename it")
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        value = str(value.item() if isinstance(value, np.generic) else value)
    if not isinstance(value, str) or "\r" in value:
        raise ConfigError(f"{name}: info[{key!r}] = {value!r}: a .cfg file holds text and numbers only; remove it")
    return [f" Feature   {escaped}\t{line}" for line in value.split("\n")]


def _unescape(name: str) -> str:
    plain = {escape: c for c, escape in _ESCAPES.items()}
    return re.sub(r"\\[_tnr]", lambda match: plain[match[0]], name)


# A virial in the 53 bits of a double does not tell which stress it came from; 40 decimal digits do.


def _virial(stress: float, volume: float) -> str:
    with localcontext(prec=40):
        return f"{Decimal(stress).copy_negate() * Decimal(volume):e}"


def _stress(virial: str, volume: float) -> float:
    with localcontext(prec=60):
        return float(Decimal(virial).copy_negate() / Decimal(volume))
