"""SevenNet: universal potentials; the weights of some come in the wheel of ``sevenn``, it downloads those of others."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.calculators import Engine, missing, sha256_of
from argyase.errors import CalculatorError, ConfigError

DEFAULT = "7net-l3i5"


def _path(checkpoint: str) -> Path:
    try:
        from sevenn.util import pretrained_name_to_path
    except ImportError as error:
        raise missing("sevennet", error) from None
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    try:
        return Path(pretrained_name_to_path(checkpoint))
    except ValueError:
        raise ConfigError(
            f"sevennet: checkpoint = {checkpoint!r}: neither a file nor a name that sevenn {version('sevenn')} knows, "
            "as 7net-0, 7net-l3i5 or 7net-mf-ompa"
        ) from None
    except Exception as error:  # of a download, anything
        raise CalculatorError(
            f"sevennet: checkpoint = {checkpoint!r}: its weights do not come with sevenn, and the download failed "
            f"({error}); get the file by other means and give its path"
        ) from None


def _build(checkpoint: str = DEFAULT, modal: str = "", threads: int = 1) -> BaseCalculator:
    path = _path(checkpoint)
    import torch
    from sevenn.calculator import SevenNetCalculator

    torch.set_num_threads(threads)
    try:
        made: BaseCalculator = SevenNetCalculator(str(path), device="cpu", modal=modal or None)
    except Exception as error:  # of torch or sevenn, anything
        raise ConfigError(f"sevennet: checkpoint = {checkpoint!r}, modal = {modal!r}: {error}") from error
    return made


def _identity(checkpoint: str = DEFAULT, modal: str = "") -> dict[str, Any]:
    path = _path(checkpoint)
    # A file is known by its content, wherever it lies.
    name = path.name if Path(checkpoint).is_file() else checkpoint
    known = {"checkpoint": name, "version": version("sevenn"), "sha256": sha256_of(path)}
    return {**known, "modal": modal} if modal else known


ENGINE = Engine(_build, _identity)
