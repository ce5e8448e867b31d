"""Extrapolation grades: how far an atom is from those that a potential was trained on.

The energy of an atom is linear in b = (1 at its species, else 0; scalar basis functions B_k). Of all atoms of the
training data, m = len(b) are chosen so that |det A| of their rows is as large as possible; the grade of an atom is
max_j |(b A^-1)_j|. Atoms of the training data have grades up to 1 (up to the threshold of the search); above that, the
potential extrapolates. The coefficients (b A^-1)_j over the rows of a species add up to 1 for its atoms and to 0 for
others, so that k rows give its atoms a grade of 1/k at least: of a species with one row only (Cl in the shipped
potential of level 10, whose surroundings differ least) each atom has at least 1, and a largest grade of exactly 1
over a cell says nothing.

References
----------
E. V. Podryabinkin, A. V. Shapeev, Comput. Mater. Sci. 140, 171 (2017), eqs. 7-11; S. A. Goreinov et al., How to find a
good submatrix, in Matrix Methods (World Scientific, 2010); for grades of neighbourhoods and the two thresholds:
I. S. Novikov et al., Mach. Learn.: Sci. Technol. 2, 025002 (2021), and E. Podryabinkin et al., J. Chem. Phys. 159,
084112 (2023).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.errors import PotentialFileError, StatisticsError
from argyase.potentials import _mtp
from argyase.potentials.mtp_file import read_bytes

if TYPE_CHECKING:
    from argyase.potentials.mtp import MTP

log = logging.getLogger(__name__)

GRADE_SELECT = 2.1
"""Above this grade a structure belongs into the training data (MLIP's default)."""

GRADE_BREAK = 10.0
"""Above this grade a simulation is not worth going on with (MLIP's default)."""

THRESHOLD = 1.001
"""The search for the active set ends when no swap makes its volume larger by more than this factor."""

UNIT_SCALE = 1e-6
"""Size of the unit rows that stand in for what the training data do not span, relative to the column (as MLIP's)."""


@dataclass(frozen=True, eq=False)
class MaxVol:
    """What `maxvol` found.

    Attributes
    ----------
    chosen
        Numbers of the m rows; -1 - k for the unit row of column k.
    rows
        The rows themselves, shape (m, m).
    log_volumes
        ln |det| at the start and after each swap.
    """

    chosen: NDArray[np.int64]
    rows: NDArray[np.float64]
    log_volumes: tuple[float, ...]

    @property
    def not_spanned(self) -> list[int]:
        """Columns for which no row was found and a unit row stands in."""
        return sorted(-1 - int(k) for k in self.chosen if k < 0)


def maxvol(matrix: NDArray[np.float64], threshold: float = THRESHOLD, max_swaps: int = 100_000) -> MaxVol:
    """Rows of a tall matrix whose square submatrix A has a volume |det A| that no swap of one row makes much larger.

    The start is the first m pivots of Gaussian elimination; then, as long as an element of C = B A^-1 is larger than
    `threshold` in size, row i of B takes the place of row j of A where |C_ij| is largest: the volume grows by that
    factor. So at the end every row of B is a combination of those of A with no coefficient above `threshold`.

    Where the rows do not span a column (a species that no frame has, functions that are zero or depend on each other),
    a unit row stands in, `UNIT_SCALE` times the largest element of the column (1 if that is zero): an atom that does
    use this column then gets a very large grade, as it should, and one that does not is not affected. MLIP starts from
    1e-6 times the identity in the same sense; relative to the column, it holds for functions of any scale. An error
    would be wrong: from level 16 on, MLIP's own basis functions depend on each other for any atoms (by 1 at level 16,
    2 at 18, 6 at 20).

    Parameters
    ----------
    matrix
        B, shape (n, m); n may be smaller than m.
    threshold
        Larger than 1.
    max_swaps
        Bound on the number of swaps; a few m are usual.

    Raises
    ------
    StatisticsError
        If the matrix is empty or not finite, or the search does not end.

    >>> found = maxvol(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]))
    >>> sorted(found.chosen.tolist()), round(float(np.exp(found.log_volumes[-1])), 12)
    ([0, 2], 3.0)
    """
    from scipy.linalg import lu

    b = np.ascontiguousarray(matrix, dtype=np.float64)
    if b.ndim != 2 or b.size == 0 or not np.isfinite(b).all():
        raise StatisticsError(f"maxvol: needs a finite matrix of rows of basis functions, got shape {b.shape}")
    if not threshold > 1:
        raise StatisticsError(f"maxvol: threshold = {threshold}: must be larger than 1")
    n, m = b.shape
    scale = np.abs(b).max(axis=0)
    scale[scale == 0] = 1.0
    # Columns of size 1: which rows have the largest volume does not depend on it, what is small does.
    work = np.concatenate([b / scale, UNIT_SCALE * np.eye(m)])
    permutation, _, _ = lu(work, p_indices=True)
    chosen = np.argsort(permutation)[:m]
    volumes = [float(np.linalg.slogdet(work[chosen])[1])]
    swaps = 0
    while True:
        c = np.linalg.solve(work[chosen].T, work.T).T
        if np.abs(c).max() <= threshold:
            break
        # Swaps by rank-1 updates; a fresh C when these are done, for the rounding that they gather.
        for _ in range(max(50, m)):
            i, j = divmod(int(np.abs(c).argmax()), m)
            size = abs(c[i, j])
            if size <= threshold:
                break
            if swaps == max_swaps:
                raise StatisticsError(f"maxvol: not done after {max_swaps} swaps; raise threshold = {threshold}")
            row = c[i].copy()
            row[j] -= 1.0
            c -= np.outer(c[:, j] / c[i, j], row)
            chosen[j] = i
            volumes.append(volumes[-1] + float(np.log(size)))
            swaps += 1
    rows = work[chosen] * scale
    shift = float(np.log(scale).sum())
    numbers = np.where(chosen < n, chosen, n - 1 - chosen)
    return MaxVol(numbers, rows, tuple(v + shift for v in volumes))


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """The chosen rows, and the potential that they belong to.

    Attributes
    ----------
    rows
        A, shape (m, m); the first `species_count` columns are those of the species.
    species_count
        Species of the potential.
    fingerprint
        Hash of what the basis functions depend on: radial functions, distances, scaling, moments.
    not_spanned
        Columns of which the training data said nothing (empty when read from a file).
    """

    rows: NDArray[np.float64]
    species_count: int
    fingerprint: int
    not_spanned: tuple[int, ...] = ()

    @classmethod
    def select(cls, calculator: MTP, frames: Iterable[Atoms], threshold: float = THRESHOLD) -> ActiveSet:
        """Choose the active set of a potential among all atoms of the frames.

        Raises
        ------
        StatisticsError
            If there are no frames, or the search does not end.
        """
        matrices = [basis(calculator, atoms) for atoms in frames]
        if not matrices:
            raise StatisticsError("active set: no frames to choose from")
        found = maxvol(np.concatenate(matrices), threshold)
        kernel = calculator.kernel
        return cls(found.rows, kernel.species_count, kernel.fingerprint, tuple(found.not_spanned))

    @classmethod
    def load(cls, path: str | Path) -> ActiveSet:
        """Read a file that `save` wrote.

        Raises
        ------
        PotentialFileError
            If the file cannot be read, is damaged, or holds a singular matrix.
        """
        try:
            fingerprint, species, rows = _mtp.parse_active_set(read_bytes(path), str(path))
        except ValueError as error:
            raise PotentialFileError(str(error)) from None
        return cls(rows, species, fingerprint)

    def to_bytes(self) -> bytes:
        """The bytes of a file.

        Raises
        ------
        PotentialFileError
            If the matrix is singular or not finite.
        """
        rows = np.ascontiguousarray(self.rows, dtype=np.float64)
        try:
            return _mtp.format_active_set(self.fingerprint, self.species_count, rows)
        except ValueError as error:
            raise PotentialFileError(f"active set: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write a file for `load` and for ``pair_style mtp ... grade FILE``."""
        Path(path).write_bytes(self.to_bytes())

    def grades(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Grades of atoms whose rows b are those of `matrix`, shape (n, m) (see `basis`)."""
        return np.asarray(np.abs(np.linalg.solve(self.rows.T, matrix.T)).max(axis=0))


def basis(calculator: MTP, atoms: Atoms) -> NDArray[np.float64]:
    """The row b of each atom: one column for each species, then the scalar basis functions; shape (atom, m).

    With x the linear coefficients (species_coeffs, then moment_coeffs), ``b @ x`` is the energy of the atom, eV.
    """
    types, scalars = calculator.scalars(atoms)
    one_hot = np.zeros((len(atoms), len(calculator.species)))
    one_hot[np.arange(len(atoms)), types] = 1.0
    return np.concatenate([one_hot, scalars], axis=1)
