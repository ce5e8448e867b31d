"""CHGNet: a universal potential whose weights come in the wheel of ``chgnet``. Soft: for sampling, not for labels."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.calculators import Engine, missing, sha256_of
from argyase.errors import ConfigError

DEFAULT = "0.3.0"


def _weights(model: str) -> list[Path]:
    try:
        import chgnet
    except ImportError as error:
        raise missing("chgnet", error) from None
    folder = Path(chgnet.__file__).parent / "pretrained"
    found = sorted((folder / model).rglob("*.tar")) if model else []
    if not found:
        known = ", ".join(sorted({str(p.parent.relative_to(folder)) for p in folder.rglob("*.tar")}))
        raise ConfigError(f"chgnet: model = {model!r}: this version comes with {known}")
    return found


def _build(model: str = DEFAULT, threads: int = 1) -> BaseCalculator:
    _weights(model)
    import torch
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    torch.set_num_threads(threads)
    made: BaseCalculator = CHGNetCalculator(CHGNet.load(model_name=model, use_device="cpu", verbose=False))
    return made


def _identity(model: str = DEFAULT) -> dict[str, Any]:
    return {"model": model, "sha256": sha256_of(*_weights(model)), "version": version("chgnet")}


ENGINE = Engine(_build, _identity)
