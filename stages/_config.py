"""Settings of a stage: a frozen dataclass, filled from a campaign file (TOML) under command-line flags."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
import tomllib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from argyase.errors import ConfigError

T = TypeVar("T")


def setting(default: Any = dataclasses.MISSING, *, help: str, unit: str = "") -> Any:
    """Declare a setting of a stage with its help text and unit."""
    return dataclasses.field(default=default, metadata={"help": help, "unit": unit})


def check_tables(data: Mapping[str, Any], tables: Collection[str], path: str) -> None:
    """Refuse tables of a campaign file that are not known.

    Raises
    ------
    ConfigError
        With the nearest valid one.
    """
    for key in data:
        if key not in tables:
            near = difflib.get_close_matches(key, tables, n=1)
            hint = f"did you mean [{near[0]}]?" if near else f"valid tables: {', '.join(sorted(tables))}"
            raise ConfigError(f"{path}: unknown table [{key}]; {hint}")


def from_mapping(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from a table of a campaign.

    Raises
    ------
    ConfigError
        If a key is unknown (the message names the nearest valid one), missing, or of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a table, got {data!r}")
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(names)}"
            raise ConfigError(f"{where}.{key}: unknown key; {hint}")
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in values]:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        inner = [a for a in args if a is not type(None)]
        errors = []
        for option in inner:
            try:
                return _convert(option, value, where)
            except ConfigError as error:
                errors.append(str(error))
        raise ConfigError(errors[0])
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where} = {value!r}: allowed are {', '.join(map(repr, args))}")
        return value
    if origin in (tuple, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{where} = {value!r}: expected a list")
        if origin is tuple and args and args[-1] is not Ellipsis:
            if len(value) != len(args):
                raise ConfigError(f"{where} = {value!r}: expected {len(args)} values")
            return tuple(_convert(a, v, f"{where}[{n}]") for n, (a, v) in enumerate(zip(args, value, strict=True)))
        return tuple(_convert(args[0], v, f"{where}[{n}]") for n, v in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type[Any], hint), value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint in (dict, Any) or origin is dict:
        return value
    raise ConfigError(f"{where} = {value!r}: expected {getattr(hint, '__name__', hint)}, got {type(value).__name__}")


def load(path: str | Path, scale: str = "") -> dict[str, Any]:
    """Read a campaign file (TOML; ``-`` reads JSON from standard input), at one of its scales.

    The keys of ``[scale.NAME.TABLE]`` go over those of ``[TABLE]``.

    Raises
    ------
    ConfigError
        If the file is missing or not valid (the message has the line), or has no such scale.
    """
    data = _read(path)
    scales = data.pop("scale", {})
    if not isinstance(scales, dict) or not all(isinstance(t, dict) for s in scales.values() for t in (s, *s.values())):
        raise ConfigError(f"{path}: [scale]: expected tables [scale.NAME.TABLE], such as [scale.small.grid]")
    if scale and scale not in scales:
        known = f"there are {', '.join(sorted(scales))}" if scales else "the file has none ([scale.NAME.TABLE])"
        raise ConfigError(f"{path}: no scale {scale!r}; {known}")
    for table, keys in scales.get(scale, {}).items():
        if not isinstance(data.get(table, {}), dict):
            raise ConfigError(f"{path}: [scale.{scale}.{table}]: a scale changes one table, not [[{table}]]")
        data[table] = {**data.get(table, {}), **keys}
    return data


def _read(path: str | Path) -> dict[str, Any]:
    if str(path) == "-":
        return typing.cast(dict[str, Any], json.load(sys.stdin))
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such campaign file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a campaign file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def add_flags(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """Add one flag for each plain setting of `cls`; a flag overrides the file."""
    hints = get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if (parse := _flag_type(hints[f.name])) is None:
            continue
        unit = f" [{f.metadata['unit']}]" if f.metadata.get("unit") else ""
        default = "" if f.default in (dataclasses.MISSING, None, "") else f" (default: {f.default})"
        parser.add_argument(
            "--" + f.name.replace("_", "-"),
            dest=f"setting_{f.name}",
            default=argparse.SUPPRESS,
            metavar=f.name.upper(),
            help=f"{f.metadata.get('help', '')}{unit}{default}".replace("%", "%%"),
            **parse,
        )


def flags(config: Any) -> list[str]:
    """The flags of `add_flags` that give these settings: those that differ from their defaults."""
    words = list[str]()
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if value != f.default:
            several = isinstance(value, tuple)
            words += ["--" + f.name.replace("_", "-"), *map(str, value if several else (value,))]
    return words


def _flag_type(hint: Any) -> dict[str, Any] | None:
    options = [a for a in get_args(hint) if a is not type(None)] if get_origin(hint) is types.UnionType else [hint]
    hint = options[0]
    if get_origin(hint) is Literal:
        return {"type": str}
    if hint is bool:
        return {"type": _boolean}
    if hint in (int, float, str):
        return {"type": hint}
    if get_origin(hint) is tuple and get_args(hint)[0] in (int, float, str):
        args = get_args(hint)
        return {"type": args[0], "nargs": "+" if args[-1] is Ellipsis else len(args)}
    return None  # a table: campaign file only


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")


def resolve(cls: type[T], args: argparse.Namespace, table: str) -> T:
    """Settings of one stage: its table of the campaign file, overridden by flags."""
    data: dict[str, Any] = {}
    if getattr(args, "config", None):
        data = dict(load(args.config, getattr(args, "scale", "")))
        if table in data and isinstance(data[table], Mapping):
            data = dict(data[table])
    for key, value in vars(args).items():
        if key.startswith("setting_"):
            data[key.removeprefix("setting_")] = value
    return from_mapping(cls, data, table)
