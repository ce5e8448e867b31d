"""Moment Tensor Potentials, shipped or of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from argyase.calculators import Engine
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP


def _build(potential: str, species: Sequence[str] = (), threads: int = 1, repulsion: bool = True) -> MTP:
    found = find_potential(potential, species)
    table = found.repulsion if repulsion else None
    return MTP(found.path, found.species, threads=threads, repulsion=table, active_set=found.active_set)


def _identity(potential: str, species: Sequence[str] = (), repulsion: bool = True) -> dict[str, Any]:
    found = find_potential(potential, species)
    table = {k: list(v) for k, v in found.repulsion.items()} if repulsion else {}
    who = {"potential": found.name, "sha256": found.sha256, "repulsion": table}
    # A file without a card says nothing of its species: in another order it is another potential.
    return who if found.card.get("species") else {**who, "species": list(found.species)}


ENGINE = Engine(_build, _identity)
