"""The active set that MLIP-3 keeps behind the potential in an ``.almtp`` file.

The layout is that of MLIP's source: a line ``#MVS_v1.1``; five lines of a name and a number (``energy_weight``,
``force_weight``, ``stress_weight``, ``site_en_weight``, ``weight_scaling``); a ``#``, with which binary data begin at
once: two n x n matrices of little-endian doubles, A by rows and its inverse by columns; a line ``#``; n lines with the
frame and the equation that each row of A came from, -1 -1 for a row that no frame has replaced yet; a line ``#``; the
frames in ``.cfg`` format. n is the number of coefficients of the potential. An older layout has no names and no
``weight_scaling``: a line ``#`` and four numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from argyase.errors import PotentialFileError
from argyase.potentials.cfg_file import Species, parse_cfg
from argyase.potentials.mtp_file import MTPFile, parse_mtp, read_bytes

_WEIGHTS = ("energy_weight", "force_weight", "stress_weight", "site_en_weight")
_WORST_INVERSE = 0.1
"""MLIP improves the inverse row by row and lets rounding pile up; with more than this its grades mean nothing."""

_Wrong = Callable[[str], PotentialFileError]


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """The rows of largest volume among all equations of a training set, by the MaxVol algorithm.

    Attributes
    ----------
    energy_weight, force_weight, stress_weight, site_en_weight
        Weights of the equations that were selected from.
    weight_scaling
        p: the equation of an energy is divided by the number of atoms to the power p / 2. None: not in the file.
    matrix
        A, shape (n, n): each row is the derivative of a quantity with respect to the n coefficients of the potential,
        which are its ``radial_coeffs`` (in the order of that array), ``species_coeffs`` and ``moment_coeffs``.
    inverse
        A^-1, shape (n, n).
    links
        Number of the frame and of its equation for each row, shape (n, 2); -1, -1: a row that is still as it was made.
    species_types
        The file's numbers of the species; the frames use them.
    text
        The frames, as the file has them.
    name, first_line
        Where `text` comes from, for messages.

    References
    ----------
    E. V. Podryabinkin, A. V. Shapeev, Comput. Mater. Sci. 140, 171 (2017); E. Podryabinkin, K. Garifullin,
    A. Shapeev, I. Novikov, J. Chem. Phys. 159, 084112 (2023).
    """

    energy_weight: float
    force_weight: float
    stress_weight: float
    site_en_weight: float
    weight_scaling: int | None
    matrix: NDArray[np.float64]
    inverse: NDArray[np.float64]
    links: NDArray[np.int64]
    species_types: tuple[int, ...]
    text: str
    name: str
    first_line: int

    @property
    def mode(self) -> Literal["configuration", "neighbourhood", "mixed"]:
        """Whether whole frames are graded (their energies), or each neighbourhood (site energies)."""
        weights = [getattr(self, name) != 0.0 for name in _WEIGHTS]
        if weights == [True, False, False, False]:
            return "configuration"
        return "neighbourhood" if weights == [False, False, False, True] else "mixed"

    def grades(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Extrapolation grade of each row b, max_k |b A^-1|_k; `rows` has the shape (..., n)."""
        return np.asarray(np.abs(np.asarray(rows) @ self.inverse).max(axis=-1))

    def frames(self, species: Species) -> list[Atoms]:
        """The frames that the rows came from, see `argyase.potentials.cfg_file.read_cfg`.

        Parameters
        ----------
        species
            Chemical symbols in the order of the potential's species numbers, or a mapping from number to symbol.
        """
        if not isinstance(species, Mapping) and self.species_types:
            species = dict(zip(self.species_types, list(species), strict=False))
        return list(parse_cfg(self.text.split("\n"), self.name, species, self.first_line))


def read_active_set(path: str | Path) -> ActiveSet:
    """Read the active set in an ``.almtp`` file; the potential itself is read by `read_mtp`.

    Raises
    ------
    PotentialFileError
        If the file cannot be read, has no active set, or one that is damaged; the message says what is wrong.
    """
    return parse_active_set(read_bytes(path), str(path))


def parse_active_set(data: bytes, name: str) -> ActiveSet:
    """Read the active set in the bytes of an ``.almtp`` file; `name` is for the message of an error."""
    potential = parse_mtp(data, name)
    n = potential.radial_coeffs.size + potential.species_coeffs.size + potential.moment_coeffs.size

    def wrong(reason: str) -> PotentialFileError:
        return PotentialFileError(f"{name}, active set: {reason}")

    begin = data.find(b"\n#")
    if begin < 0:
        raise PotentialFileError(f"{name}: has no active set (no line #MVS_v1.1 behind the potential)")
    weights, scaling, rest = _weights(data[begin + 1 :], wrong)
    size = 8 * n * n
    if len(rest) < 2 * size:
        raise wrong(f"cut in its matrices: two of {n} x {n} doubles are {2 * size} bytes, {len(rest)} are left")
    matrix, stored = (np.frombuffer(rest, "<f8", n * n, k * size).reshape(n, n).astype(float) for k in (0, 1))
    if not (np.isfinite(matrix).all() and np.isfinite(stored).all()):
        raise wrong("a number in its matrices is not finite")
    rest = rest[2 * size :]
    if not (match := re.match(rb"\r?\n#\r?\n", rest)):
        raise wrong(f"expected a line '#' behind two matrices of {n} x {n} (the coefficients), got {_shown(rest)}")
    inverse = stored.T
    if (error := float(np.abs(matrix @ inverse - np.eye(n)).max())) > _WORST_INVERSE:
        raise wrong(f"its matrices are not inverse to each other: their product differs from 1 by {error:.2g}")
    links, text = _links(rest[match.end() :], n, wrong)
    order = _order(data[:begin], potential)
    return ActiveSet(
        **dict(zip(_WEIGHTS, weights, strict=True)),
        weight_scaling=scaling,
        matrix=matrix[:, order],
        inverse=inverse[order],
        links=links,
        species_types=potential.species_types,
        text=text.decode("utf-8", "surrogateescape"),
        name=name,
        first_line=1 + data[: len(data) - len(text)].count(b"\n"),
    )


def _shown(data: bytes) -> str:
    return repr(data[:20].decode("latin-1"))


def _weights(section: bytes, wrong: _Wrong) -> tuple[list[float], int | None, bytes]:
    """The four weights, the scaling, and what follows the # behind them."""
    words = section.split(None, 11)
    if words[0] == b"#MVS_v1.1":
        names, words = [*_WEIGHTS, "weight_scaling"], words[1:]
        for name, word in zip(names, words[::2], strict=False):
            if word.decode("latin-1") != name:
                raise wrong(f"expected {name}, got {_shown(word)}")
        values, rest = words[1:10:2], words[10:]
    elif words[0] == b"#":
        names = list(_WEIGHTS)
        words = section.split(None, 5)
        values, rest = words[1:5], words[5:]
    else:
        raise wrong(f"expected #MVS_v1.1, got {_shown(words[0])}")
    if len(values) != len(names) or not rest:
        raise wrong("cut in its weights")
    numbers = []
    for name, word in zip(names, values, strict=True):
        try:
            numbers.append(float(word))
        except ValueError:
            raise wrong(f"{name}: expected a number, got {_shown(word)}") from None
    if not np.isfinite(numbers).all() or not any(numbers[:4]):
        raise wrong(f"weights {numbers[:4]}: need finite ones, and one that is not 0")
    if not rest[0].startswith(b"#"):
        raise wrong(f"expected # behind the weights, got {_shown(rest[0])}")
    scaling = int(numbers[4]) if len(numbers) == 5 else None
    if scaling is not None and scaling != numbers[4]:
        raise wrong(f"weight_scaling: expected a whole number, got {numbers[4]}")
    return numbers[:4], scaling, rest[0][1:]


def _links(data: bytes, n: int, wrong: _Wrong) -> tuple[NDArray[np.int64], bytes]:
    """Frame and equation of each row, and the text of the frames."""
    *lines, text = data.split(b"\n", n + 1)
    if len(lines) != n + 1 or lines[n].strip() != b"#":
        raise wrong(f"expected {n} lines that link rows to frames (one for each coefficient), then a line '#'")
    frames = len(re.findall(rb"^BEGIN_CFG", text, re.MULTILINE))
    links = np.empty((n, 2), dtype=np.int64)
    for row, line in enumerate(lines[:n]):
        if not (match := re.fullmatch(rb"\s*(-?\d{1,9})\s+(-?\d{1,9})\s*", line)):
            raise wrong(f"row {row}: expected the numbers of a frame and of an equation, got {_shown(line)}")
        links[row] = int(match[1]), int(match[2])
        if not -1 <= links[row, 0] < frames or links[row, 1] < -1:
            raise wrong(f"row {row} is of frame {links[row, 0]}, equation {links[row, 1]}: there are {frames} frames")
    return links, text


def _order(text: bytes, potential: MTPFile) -> NDArray[np.intp]:
    """Where each coefficient of `potential`, whose species are sorted, is among those of the file."""
    species, size = potential.species_count, potential.radial_coeffs.size
    first_row = re.findall(rb"^\s*\d+-(\d+)\s*$", text, re.MULTILINE)[:species]
    sorted_species = np.argsort([int(number) for number in first_row])
    radial = np.arange(size).reshape(potential.radial_coeffs.shape)[np.ix_(sorted_species, sorted_species)]
    moments = size + species + np.arange(potential.moment_coeffs.size)
    return np.concatenate([radial.ravel(), size + sorted_species, moments])
