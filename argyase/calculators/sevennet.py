"""SevenNet: universal potentials whose weights come in the wheel of ``sevenn``."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.calculators import Engine, missing

DEFAULT = "7net-l3i5"


def _path(checkpoint: str) -> Path:
    try:
        from sevenn.util import pretrained_name_to_path
    except ImportError as error:
        raise missing("sevennet", error) from None
    return Path(pretrained_name_to_path(checkpoint))


def _build(checkpoint: str = DEFAULT, threads: int = 1) -> BaseCalculator:
    path = _path(checkpoint)
    import torch
    from sevenn.calculator import SevenNetCalculator

    torch.set_num_threads(threads)
    made: BaseCalculator = SevenNetCalculator(str(path), device="cpu")
    return made


def _identity(checkpoint: str = DEFAULT) -> dict[str, Any]:
    weights = hashlib.sha256(_path(checkpoint).read_bytes()).hexdigest()
    return {"checkpoint": checkpoint, "version": version("sevenn"), "sha256": weights}


ENGINE = Engine(_build, _identity)
