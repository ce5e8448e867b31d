"""Check that a dataset is what its schema declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from argyase.datalake.errors import SchemaError

if TYPE_CHECKING:
    import xarray as xr


class Variable(Protocol):
    """What the lake wants to know of one array."""

    @property
    def dims(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> str: ...
    @property
    def long_name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def required(self) -> bool: ...


class Schema(Protocol):
    """Any declaration of a dataset will do, wherever it was written."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def variables(self) -> Mapping[str, Variable]: ...
    @property
    def coords(self) -> Mapping[str, Variable]: ...


def validate(dataset: xr.Dataset, schema: Schema) -> None:
    """Compare a dataset with its schema.

    Raises
    ------
    SchemaError
        If a variable is missing, undeclared, or has other dimensions, units or type; all problems are listed.
    """
    declared = {**schema.variables, **schema.coords}
    problems = [f"{name}: not declared" for name in map(str, dataset.variables) if name not in declared]
    for name, want in declared.items():
        if name not in dataset.variables:
            if want.required:
                problems.append(f"{name}: missing")
            continue
        have = dataset[name]
        if have.dims != tuple(want.dims):
            problems.append(f"{name}: dims {have.dims}, declared {tuple(want.dims)}")
        if have.attrs.get("units") != want.units:
            problems.append(f"{name}: units {have.attrs.get('units')!r}, declared {want.units!r}")
        textual = have.dtype.kind in "UOT"
        if textual != (want.dtype == "str") or (not textual and have.dtype != np.dtype(want.dtype)):
            problems.append(f"{name}: type {have.dtype}, declared {want.dtype}")
    if problems:
        raise SchemaError(f"the dataset does not satisfy the schema {schema.name!r}: " + "; ".join(problems))


def page(schemas: Iterable[Schema], title: str, introduction: str) -> str:
    """A page of Markdown with a table for each schema."""
    ordered = sorted(schemas, key=lambda s: s.name)
    lines = [f"# {title}", "", introduction, ""]
    lines += ["| dataset | version | variables |", "|---|---|---|"]
    lines += [f"| [{s.name}](#{s.name}) | {s.version} | {', '.join(s.variables)} |" for s in ordered]
    for schema in ordered:
        lines += ["", f"## {schema.name}", "", f"Version {schema.version}.", ""]
        lines += ["| name | dimensions | type | unit | meaning |", "|---|---|---|---|---|"]
        for kind, variables in (("", schema.variables), (" (coordinate)", schema.coords)):
            for name, v in variables.items():
                meaning = v.long_name.replace("|", "\\|") + ("" if v.required else " (optional)")
                lines.append(f"| {name}{kind} | {', '.join(v.dims)} | {v.dtype} | {v.units} | {meaning} |")
    return "\n".join(lines) + "\n"
