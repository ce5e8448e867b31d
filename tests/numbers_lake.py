"""A lake of small numbered datasets, for tests in one or many processes."""

from typing import Any

import numpy as np
import xarray as xr

from argyase.datalake.lake import Lake
from argyase.schemas import Schema, Variable

NUMBERS = Schema(
    "numbers",
    1,
    {"curve": Variable(("lag",), "ps", "a curve"), "value": Variable((), "K", "a number")},
    {"lag": Variable(("lag",), "ps", "lag")},
)


def numbers(value: float = 1.0) -> xr.Dataset:
    return NUMBERS.dataset(curve=np.arange(5.0) * value, value=value, lag=np.arange(5.0))


def publish(lake: Lake, value: float = 1.0, **parameters: Any) -> str:
    return lake.publish("numbers", {"x": 0.5, **parameters}, numbers(value), schema=NUMBERS)
