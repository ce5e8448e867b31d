"""Names of runs: a run is called by what it depends on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from argyase.datalake.errors import CorruptRunError, SchemaError
from argyase.datalake.files import unsealed

REQUIRED = frozenset(
    ("id", "stage", "parameters", "inputs", "scalars", "provenance", "created", "schema", "version", "files")
)
"""What the record of a run says at least."""

KEYS = REQUIRED | {"variables"}
"""What it says at most, from before there were seals."""

DECIMALS = 4
"""Float parameters are rounded to this many decimals, stored and asked for alike: 0.1 + 0.2 finds 0.3.

Numbers below 1 keep so many significant digits: a ridge or a tolerance of 1e-5 is another than one of 1e-6.
"""

NOTHING = 1e-14
"""What is smaller is the rounding error of a difference: 0.3 - 0.1 - 0.2 is 0."""


def canonical(value: Any, where: str = "parameters") -> Any:
    """The one form of a parameter: plain JSON types, floats rounded, whole floats as integers.

    >>> canonical({"x": 0.1 + 0.2, "cells": (2, 2.0, np.int64(2)), "z": -0.0, "tolerance": 1e-6, "inversion": 1 / 32})
    {'x': 0.3, 'cells': [2, 2, 2], 'z': 0, 'tolerance': 1e-06, 'inversion': 0.03125}

    Raises
    ------
    SchemaError
        If a number is not finite, or a type has no place in JSON.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SchemaError(f"{where} = {value}: a parameter must be finite")
        if abs(value) < NOTHING:
            return 0
        rounded = round(value, DECIMALS) if abs(value) >= 1 else float(f"{value:.{DECIMALS}g}")
        return int(rounded) if rounded == int(rounded) else rounded
    if isinstance(value, Mapping):
        return {str(k): canonical(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence):
        return [canonical(v, f"{where}[{n}]") for n, v in enumerate(value)]
    raise SchemaError(f"{where}: a {type(value).__name__} cannot be a parameter; use numbers, text, lists and tables")


def run_id(stage: str, parameters: Mapping[str, Any], inputs: Sequence[str] = (), schema_version: int = 1) -> str:
    """20 hexadecimal digits of sha256 over the canonical JSON of stage, parameters, inputs and schema version."""
    content = [stage, canonical(parameters), list(inputs), schema_version]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def read_record(path: Path) -> dict[str, Any]:
    """What ``run.json`` in the folder of a run says.

    Raises
    ------
    FileNotFoundError
        If there is none.
    CorruptRunError
        If it cannot be read, is of another run, or was changed.
    """
    record = unsealed(path / "run.json", KEYS)
    try:
        name = run_id(record["stage"], record["parameters"], record["inputs"], record["version"])
        if not name == record["id"] == path.name:
            raise CorruptRunError(f"{path / 'run.json'}: content changed: it is the record of {name}")
    except (KeyError, TypeError, SchemaError) as error:
        raise CorruptRunError(f"{path / 'run.json'}: cannot be read: {error!r}") from None
    if missing := sorted(REQUIRED - record.keys()):
        raise CorruptRunError(f"{path / 'run.json'}: content changed: it does not say {', '.join(missing)}")
    return record
