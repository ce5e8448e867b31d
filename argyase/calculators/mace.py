"""MACE: equivariant message passing; no weights come with ``mace-torch``, they are a file that you give."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.calculators import Engine, missing, sha256_of
from argyase.errors import ConfigError

DTYPES = ("float64", "float32")


def _path(model: str) -> Path:
    try:
        import mace  # noqa: F401
    except ImportError as error:
        raise missing("mace", error) from None
    if not Path(model).is_file():
        raise ConfigError(
            f"mace: model = {model!r}: no such file. No weights come with mace-torch: train a model of your own "
            "(mace_run_train), or get a universal one, as MACE-MPA-0 or MACE-OMAT-0, from the releases of "
            "ACEsuit/mace-foundations on GitHub, and give its path: model=mace-mpa-0-medium.model"
        )
    return Path(model)


def _build(model: str = "", head: str = "", dtype: str = "float64", threads: int = 1) -> BaseCalculator:
    path = _path(model)
    if dtype not in DTYPES:
        raise ConfigError(f"mace: dtype = {dtype!r}: allowed are {', '.join(DTYPES)}")
    try:
        import torch
        from mace.calculators import MACECalculator
    except ImportError as error:
        raise missing("mace", error) from None
    torch.set_num_threads(threads)
    try:
        made: BaseCalculator = MACECalculator(
            model_paths=[str(path)], device="cpu", default_dtype=dtype, **({"head": head} if head else {})
        )
    except Exception as error:  # of torch or mace, anything
        raise ConfigError(f"mace: model = {model!r}, head = {head!r}: {error}") from error
    if head and head not in (known := made.available_heads):  # it would take the last one
        raise ConfigError(f"mace: head = {head!r}: this model has {', '.join(known)}")
    return made


def _identity(model: str = "", head: str = "", dtype: str = "float64") -> dict[str, Any]:
    path = _path(model)
    known = {"model": path.name, "sha256": sha256_of(path), "version": version("mace-torch"), "dtype": dtype}
    return {**known, "head": head} if head else known


ENGINE = Engine(_build, _identity)
