"""Runs as tables: one of their numbers, and one for each set of dimensions that their arrays have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from argyase.datalake.errors import DatalakeError
from argyase.datalake.lake import Lake, RunRecord

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet")


def tables(lake: Lake, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Tables of runs, by the dimensions of their arrays; "" is that of their numbers, one row a run.

    A column is called by its name and unit, ``conductivity [mS cm-1]``; ``run`` is the id. Trajectories are not in
    them.
    """
    import pandas as pd

    records = [lake.record(name) for name in dict.fromkeys(names)]
    pieces: dict[str, list[pd.DataFrame]] = {}
    rows = []
    for record in records:
        with xr.open_dataset(record.path / "data.nc", engine="h5netcdf") as dataset:
            dataset.load()
        rows.append(_row(record, dataset))
        for dims in dict.fromkeys(v.dims for v in dataset.data_vars.values() if v.dims):
            inside = dataset[[k for k, v in dataset.data_vars.items() if v.dims == dims]]
            inside = inside.drop_vars([k for k, v in inside.coords.items() if not v.dims])
            frame = inside.to_dataframe(dim_order=list(dims)).reset_index()
            frame.columns = pd.Index([_column(str(k), dataset) for k in frame.columns])
            frame.insert(0, "run", record.id)
            pieces.setdefault("-".join(map(str, dims)), []).append(frame)
    found = {"": pd.DataFrame(rows)}
    return found | {dims: pd.concat(frames, ignore_index=True) for dims, frames in pieces.items()}


def export_tables(lake: Lake, names: Sequence[str], path: Path) -> list[Path]:
    """Write `tables` as ``path`` (numbers) and ``<path>.<dims>.csv`` beside it, or as .parquet; the files.

    Raises
    ------
    DatalakeError
        If pyarrow is needed and not there.
    """
    written = []
    for dims, table in tables(lake, names).items():
        target = path.with_name(f"{path.stem}.{dims}{path.suffix}") if dims else path
        aside = target.with_name(f".{target.name}")
        if path.suffix == ".csv":
            table.to_csv(aside, index=False)
        else:
            try:
                table.to_parquet(aside, index=False)
            except ImportError:
                raise DatalakeError(
                    f"{path}: parquet needs pyarrow; get it with: pip install 'argyase[parquet]', or export .csv"
                ) from None
        aside.replace(target)
        written.append(target)
    return written


def _row(record: RunRecord, dataset: xr.Dataset) -> dict[str, Any]:
    numbers = {_column(k, dataset): v for k, v in record.scalars.items()}
    return {"run": record.id, "stage": record.stage, **dict(_flat(record.parameters)), **numbers}


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}__")
        else:
            yield prefix + key, json.dumps(value) if isinstance(value, list) else value


def _column(name: str, dataset: xr.Dataset) -> str:
    unit = dataset[name].attrs.get("units", "1") if name in dataset.variables else "1"
    return name if unit == "1" else f"{name} [{unit}]"
