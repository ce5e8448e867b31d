"""The potentials that argyase ships, each with a card that says what it may be used for."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from argyase.errors import ConfigError, PotentialFileError

DEFAULT = "LiPSCl-7net-L10"
"""The shipped potential that is taken where none is named."""


@dataclass(frozen=True)
class Potential:
    """A potential file, the species it knows (in its order) and what its model card says."""

    name: str
    path: Path
    species: tuple[str, ...]
    warning: str = ""
    card: dict[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def sha256(self) -> str:
        """Hash of the file: the identity of the potential in the lake."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @cached_property
    def repulsion(self) -> dict[str, tuple[float, float]]:
        """The card's table of the repulsion at short distances, empty if it has none.

        Raises
        ------
        ConfigError
            If the table is not valid.
        """
        from argyase.potentials.repulsion import check_ranges

        return check_ranges(self.card.get("repulsion", {}), self.species)

    @property
    def active_set(self) -> Path | None:
        """The active set (``.active``) beside the potential, None if there is none."""
        path = self.path.with_suffix(".active")
        return path if path.is_file() else None


def shipped_potentials() -> list[str]:
    """Names that `find_potential` knows without a path.

    >>> DEFAULT in shipped_potentials()
    True
    """
    return sorted(p.name.removesuffix(".toml") for p in _data().iterdir() if p.name.endswith(".toml"))


def find_potential(name: str, species: Sequence[str] | None = None) -> Potential:
    """Look a potential up by the name of a shipped one, or by the path of an ``.mtp`` or ``.almtp`` file.

    Parameters
    ----------
    name
        A name of `shipped_potentials`, or a path.
    species
        Chemical symbols in the order of the file's species numbers. The file does not hold them, so they are needed
        with a path; a card (``.toml``) of the same name beside the file can give them too.

    Raises
    ------
    ConfigError
        If the species are needed and not given, differ from the card's, or are not as many as the file's.
    PotentialFileError
        If there is no such file or shipped potential, or it cannot be read.
    """
    path = Path(name) if name.endswith((".mtp", ".almtp")) else _data() / f"{name}.mtp"
    if not path.is_file():
        shipped = ", ".join(shipped_potentials())
        raise PotentialFileError(f"potential {name!r}: no such file, and not a shipped potential ({shipped})")
    card_path = path.with_suffix(".toml")
    card = tomllib.loads(card_path.read_text()) if card_path.is_file() else {}
    known = tuple(card.get("species", ()))
    given = tuple(species or ())
    if known and given and known != given:
        raise ConfigError(f"species = {list(given)}: the model card of {name} says {list(known)}")
    if not (known or given):
        raise ConfigError(
            f"potential {name}: the file does not name its species; give them in the file's order, "
            'e.g. species = ["Li", "P", "S", "Cl"]'
        )
    from argyase.potentials.mtp_file import check_species_order, read_mtp

    potential = read_mtp(path)
    if (count := potential.species_count) != len(given or known):
        raise ConfigError(f"species = {list(given or known)}: the potential {path} has {count} species")
    check_species_order(given or known, potential.species_types, str(path))
    return Potential(card.get("name", path.stem), path.resolve(), given or known, card.get("warning", ""), card)


def _data() -> Path:
    return Path(str(files("argyase") / "data"))
