"""CHGNet: a universal potential whose weights come in the wheel of ``chgnet``. Soft: for sampling, not for labels."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.calculators import Engine, missing


def _build(model: str = "0.3.0", threads: int = 1) -> BaseCalculator:
    try:
        import torch
        from chgnet.model import CHGNet
        from chgnet.model.dynamics import CHGNetCalculator
    except ImportError as error:
        raise missing("chgnet", error) from None
    torch.set_num_threads(threads)
    made: BaseCalculator = CHGNetCalculator(CHGNet.load(model_name=model, use_device="cpu", verbose=False))
    return made


def _identity(model: str = "0.3.0") -> dict[str, Any]:
    try:
        return {"model": model, "version": version("chgnet")}
    except ImportError as error:
        raise missing("chgnet", error) from None


ENGINE = Engine(_build, _identity)
