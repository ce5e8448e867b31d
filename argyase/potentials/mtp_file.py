"""Reading and writing MLIP ``.mtp`` files, and reading the potential in an ``.almtp`` file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from argyase.errors import ConfigError, PotentialFileError
from argyase.potentials import _mtp


@dataclass(eq=False)
class MTPFile:
    """What an ``.mtp`` file holds, by the names of the format.

    Attributes
    ----------
    radial_coeffs
        c, shape (species, species, radial function mu, basis function), in
        f_mu(r) = scaling sum_b c_b T_b(xi) (max_dist - r)^2 for r < max_dist.
    alpha_index_basic
        mu, nx, ny, nz of each basic moment, shape (basic, 4).
    alpha_index_times
        a, b, factor, c of each product: moment c += factor x moment a x moment b, shape (times, 4).
    alpha_moment_mapping
        The moments that are scalar basis functions B_k.
    species_coeffs, moment_coeffs
        E_i = species_coeffs[species of i] + sum_k moment_coeffs[k] B_k, eV.
    scaling
        Product of the factors that MLIP may write for the potential and for its radial basis.
    species_types
        The file's numbers of the species, rising, where they are not 0, 1, 2, ...: MLIP-3 numbers species by the atom
        types of its training set. All arrays here are in this order, whatever the order in the file.

    Notes
    -----
    Of an untrained template (`is_template`), the coefficients that the file lacks are empty arrays.

    References
    ----------
    A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016); I. S. Novikov, K. Gubaev, E. V. Podryabinkin,
    A. V. Shapeev, Mach. Learn.: Sci. Technol. 2, 025002 (2021), eqs. 2-8.
    """

    species_count: int
    min_dist: float
    max_dist: float
    radial_basis_size: int
    radial_funcs_count: int
    radial_coeffs: NDArray[np.float64]
    alpha_moments_count: int
    alpha_index_basic: NDArray[np.int32]
    alpha_index_times: NDArray[np.int32]
    alpha_moment_mapping: NDArray[np.int32]
    species_coeffs: NDArray[np.float64]
    moment_coeffs: NDArray[np.float64]
    scaling: float = 1.0
    version: str = "1.1.0"
    potential_name: str = ""
    potential_tag: str = ""
    radial_basis_type: str = "RBChebyshev"
    species_types: tuple[int, ...] = ()

    @property
    def is_template(self) -> bool:
        """Whether coefficients are missing: the moments of a level, yet to be trained."""
        return not (self.radial_coeffs.size and self.species_coeffs.size and self.moment_coeffs.size)

    def __eq__(self, other: object) -> bool:
        """Equal when every number is, to the last bit."""
        if not isinstance(other, MTPFile):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))


def parse_mtp(text: bytes, name: str, *, template: bool = False) -> MTPFile:
    """Read the text of an ``.mtp`` or ``.almtp`` file.

    Parameters
    ----------
    text
        What the file holds.
    name
        For the message of an error.
    template
        Accept an untrained template, too: coefficients may be missing.

    Raises
    ------
    PotentialFileError
        If it is not a complete and consistent potential; the message names line and reason.
    """
    try:
        values = _mtp.parse_mtp(text, name, template)
    except ValueError as error:
        raise PotentialFileError(str(error)) from None
    types = tuple(values["species_types"].tolist())
    values["species_types"] = () if types == tuple(range(len(types))) else types
    return MTPFile(**values)


def read_mtp(path: str | Path, *, template: bool = False) -> MTPFile:
    """Read an ``.mtp`` file, or the potential in an ``.almtp`` file.

    MLIP-2, MLIP-3 and motep write the same format with different names of keys; all are read. Of the radial bases
    of MLIP only RBChebyshev is, and no potential with magnetic moments. For the active set that MLIP keeps behind
    a potential see `argyase.potentials.almtp`.

    Parameters
    ----------
    path
        The file.
    template
        Accept an untrained template, too: coefficients may be missing (`MTPFile.is_template`).

    Raises
    ------
    PotentialFileError
        If the file cannot be read; the message names file, line and reason.
    """
    return parse_mtp(read_bytes(path), str(path), template=template)


def check_species_order(species: Sequence[str], types: Sequence[int], name: str) -> None:
    """Refuse symbols in another order than that of a file which numbers its species by their atomic numbers.

    Raises
    ------
    ConfigError
        If the file's numbers are the atomic numbers of `species`, in another order.
    """
    numbers = [atomic_numbers.get(symbol) for symbol in species]
    if set(numbers) == set(types) and numbers != list(types):
        order = [species[numbers.index(number)] for number in types]
        raise ConfigError(
            f"species = {list(species)}: the potential {name} numbers them {list(types)}, by their atomic numbers; "
            f"give them in that order: {order}"
        )


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a potential file.

    Raises
    ------
    PotentialFileError
        If there is no such file, or it cannot be opened.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PotentialFileError(f"{path}: cannot be read: {error.strerror}") from None


def write_mtp(path: str | Path, potential: MTPFile) -> None:
    """Write an ``.mtp`` file that MLIP, motep and argyase read; every number survives to the last bit."""
    Path(path).write_bytes(format_mtp(potential))


def format_mtp(p: MTPFile) -> bytes:
    """The text of an ``.mtp`` file."""

    def real(value: float) -> str:
        return f"{value:.16e}"

    def row(values: Iterable[Any]) -> str:
        return "{" + ", ".join(real(v) if isinstance(v, float) else str(v) for v in values) + "}"

    def quadruples(values: NDArray[np.int32]) -> str:
        return "{" + ", ".join(row(v) for v in values.tolist()) + "}"

    lines = [
        "MTP",
        f"version = {p.version}",
        f"potential_name = {p.potential_name}",
        f"scaling = {real(p.scaling)}",
        *([f"species_count = {p.species_count}"] if p.species_count else []),
        f"potential_tag = {p.potential_tag}",
        f"radial_basis_type = {p.radial_basis_type}",
        f"\tmin_dist = {real(p.min_dist)}",
        f"\tmax_dist = {real(p.max_dist)}",
        f"\tradial_basis_size = {p.radial_basis_size}",
        f"\tradial_funcs_count = {p.radial_funcs_count}",
        "\tradial_coeffs",
    ]
    if p.radial_coeffs.size:
        for a, first in enumerate(p.species_types or range(p.species_count)):
            for b, second in enumerate(p.species_types or range(p.species_count)):
                lines.append(f"\t\t{first}-{second}")
                lines += [f"\t\t\t{row(values)}" for values in p.radial_coeffs[a, b].tolist()]
    lines += [
        f"alpha_moments_count = {p.alpha_moments_count}",
        f"alpha_index_basic_count = {len(p.alpha_index_basic)}",
        f"alpha_index_basic = {quadruples(p.alpha_index_basic)}",
        f"alpha_index_times_count = {len(p.alpha_index_times)}",
        f"alpha_index_times = {quadruples(p.alpha_index_times)}",
        f"alpha_scalar_moments = {len(p.alpha_moment_mapping)}",
        f"alpha_moment_mapping = {row(p.alpha_moment_mapping.tolist())}",
    ]
    # A template has none.
    if p.species_coeffs.size:
        lines.append(f"species_coeffs = {row(p.species_coeffs.tolist())}")
    if p.moment_coeffs.size:
        lines.append(f"moment_coeffs = {row(p.moment_coeffs.tolist())}")
    return ("\n".join(lines) + "\n").encode()
