"""The pages of this folder, made of the program itself: ``python docs/reference/make.py`` writes them anew."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from argyase.stages import _slurm, campaign, learn, validate
from argyase.stages._cli import COMMANDS
from argyase.stages.lake import schemas_page

# ------------------------------------------------------------------------------------------------- commands

TABLES: dict[str, tuple[tuple[str, type], ...]] = {
    "run": (
        ("`[campaign]`", campaign.Header),
        ("`[grid]`", campaign.Grid),
        ("`[analysis]`", campaign.Analysis),
    ),
    "submit": (
        ("The profile", _slurm.Profile),
        ("Its tables `[md]`, `[analysis]`, `[report]`", _slurm.Resources),
    ),
    "learn": (("`[learn]`", learn.Config),),
    "validate": (("`[validate]`", validate.Config),),
}
"""Tables of files that commands read beside, or instead of, one for each of their own options."""

TEXTS = {
    "run": "A campaign file also has `[structures]` and `[md]`, with the keys of [`structures`](#structures) and "
    "[`md`](#md) that the grid does not set.",
    "md": "A segment has `kind`: `heat`, from `start_K` (K) to the target by `rate_K_fs` (K/fs), `equilibrate` or\n"
    "`produce`, both for `duration_ps` (ps); and `ensemble`: `nve`, `nvt` or `npt`. `produce` is the last; its frames\n"
    "are kept.",
    "learn": "The file also has `" + "`, `".join(f"[{t}]" for t in learn.TABLES if t not in ("learn", "campaign"))
    + "`: `[[structures]]` and `[[heated]]` with the keys of [`structures`](#structures), each other the settings of "
    "the command of that name.",
    "validate": "The file also has `[[structures]]` and `[label]`, with the keys of [`structures`](#structures) and "
    "[`label`](#label).",
}  # fmt: skip

INTRODUCTION = """\
Every sub-command of `argyase`, made of the program: `python docs/reference/make.py`.

`argyase COMMAND --help` prints the options. A setting with an option can stand in a file instead, under the key given,
in the table of the command (`argyase md -c my.toml` reads `[md]`); the option goes over the file. An unknown key is an
error that names the nearest one. Lists are written `--supercell 2 2 2` and `supercell = [2, 2, 2]`, truth `true` or
`false`. Exit codes: 0 done, 2 configuration, 3 data, 4 physics (a run that exploded, say), 130
interrupted."""


class _ParserMadeError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(module: types.ModuleType) -> argparse.ArgumentParser:
    """The argument parser that a command makes, taken from it when it is about to parse."""

    def caught(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _ParserMadeError(parser)

    original = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = caught  # type: ignore[method-assign, assignment]
    try:
        module.main([])
    except _ParserMadeError as found:
        return found.parser
    finally:
        argparse.ArgumentParser.parse_args = original  # type: ignore[method-assign]
    raise AssertionError(f"{module.__name__} parses nothing")


def commands_page() -> str:
    """All commands with their options and the keys of their files."""
    lines = ["# Commands", "", INTRODUCTION, "", "| command | |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {_cell(text)} |" for name, (_, text) in COMMANDS.items()]
    for name, (stage, _) in COMMANDS.items():
        module = importlib.import_module(f"argyase.stages.{stage}")
        parser = parser_of(module)
        lines += ["", f"## {name}", "", *_described(parser.description or "")]
        subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        lines += _options(parser)
        for sub in subs:
            for sub_name, sub_parser in sub.choices.items():
                lines += ["", f"**`argyase {name} {sub_name}`**: {sub_parser.description}", *_options(sub_parser)]
        config = getattr(module, "Config", None)
        if any(a.dest.startswith("setting_") for a in parser._actions):
            where = f", in a file under `[{name}]`" if any(a.dest == "config" for a in parser._actions) else ""
            lines += ["", f"Settings{where}:", "", *_settings(config, with_options=True)]
        if text := TEXTS.get(name):
            lines += ["", text]
        for title, table in TABLES.get(name, ()):
            lines += ["", f"{title}:"]
            lines += ["", *_settings(table, with_options=False)]
    return "\n".join(lines) + "\n"


def _described(text: str) -> Iterator[str]:
    """A description, of which lists in the source need to stay lists."""
    yield from inspect.cleandoc(text).replace("``", "`").strip().split("\n")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction) or action.dest.startswith("setting_"):
            continue
        name = ", ".join(action.option_strings) or action.dest.upper()
        taken = " ".join(action.metavar) if isinstance(action.metavar, tuple) else action.metavar
        if action.choices:
            taken = "{" + ",".join(map(str, action.choices)) + "}"
        if action.option_strings and action.nargs != 0:
            name += f" {taken or action.dest.upper()}"
        several = action.nargs in ("*", "+") or (isinstance(action.nargs, int) and action.nargs > 1)
        text = (action.help or "").replace("%%", "%")
        rows.append(f"| `{name}{' ...' if several else ''}` | {_cell(text)} |")
    return ["", "| option | |", "|---|---|", *rows] if rows else []


def _settings(table: Any, with_options: bool) -> list[str]:
    lines = ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
    if with_options:
        lines = ["| key | option | type | default | unit | meaning |", "|---|---|---|---|---|---|"]
    hints = typing.get_type_hints(table)
    from argyase.stages._config import _flag_type

    for f in dataclasses.fields(table):
        needed = f.default is dataclasses.MISSING
        default = "needed" if needed else "" if f.default in (None, "", ()) else f"`{_value(f.default)}`"
        cells = [f"`{f.name}`", _type(hints[f.name]), default, f.metadata.get("unit", ""), f.metadata.get("help", "")]
        if with_options:
            has = _flag_type(hints[f.name]) is not None
            cells.insert(1, f"`--{f.name.replace('_', '-')}`" if has else "file only")
        lines.append("| " + " | ".join(_cell(str(cell)) for cell in cells) + " |")
    return lines


def _value(value: Any) -> str:
    """As it stands in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if dataclasses.is_dataclass(value):
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        own = {f.name: given[f.name] for f in dataclasses.fields(value) if given[f.name] != f.default}
        inside = ", ".join(f"{k} = {_value(v)}" for k, v in own.items())
        return f"{{ {inside} }}" if own else "{}"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _type(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_type(a) for a in args if a is not type(None))
    if origin is typing.Literal:
        return " ".join(f"`{_value(a)}`" for a in args)
    if origin is tuple:
        inner = _type(args[0])
        return f"list of {inner}" if args[-1] is Ellipsis else f"{len(args)} x {inner}"
    if dataclasses.is_dataclass(hint):
        return "table (" + ", ".join(f"`{f.name}`" for f in dataclasses.fields(typing.cast(type, hint))) + ")"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "truth"}.get(hint.__name__, "table")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


# ------------------------------------------------------------------------------------------------- Python

API = """\
What can be called from Python, made of the docstrings: `python docs/reference/make.py`. Parameters with their units and
shapes, errors and sources are in the docstrings: `help(argyase.physics.msd.msd)`.

`argyase` has the physics, `argyase.datalake` the lake. Each step of [the command line](commands.md) is a module of
`argyase.stages` with `Config`, a dataclass of its settings, and `run(config, lake)`, which returns ids of runs."""

ROOT = Path(__file__).parents[2]

INNER = ("report", "catalogue", "cube", "files", "identity", "marks", "provenance", "store", "style", "tables")
"""Modules that serve only others of argyase."""


def modules() -> list[str]:
    """Public modules of the physics and of the lake."""
    found = []
    for package, folder in (("argyase", ROOT / "argyase"), ("argyase.datalake", ROOT / "datalake")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if not any(p in INNER or (p.startswith("_") and p != "__init__") for p in parts):
                found.append(".".join((package, *(p for p in parts if p != "__init__"))))
    return sorted(found)


def api_page() -> str:
    """All public functions and classes: signature, first sentence, equations."""
    lines = ["# Python", "", API]
    toc, body = ["", "| module | |", "|---|---|"], []
    for name in modules():
        module = importlib.import_module(name)
        members = [
            (n, m)
            for n, m in vars(module).items()
            if not n.startswith("_")
            and (inspect.isfunction(m) or inspect.isclass(m))
            and m.__module__ == name
            and inspect.getdoc(m)
        ]
        if not members:
            continue
        toc.append(f"| [`{name}`](#{name.replace('.', '')}) | {_cell(_first(module))} |")
        body += ["", f"## {name}", "", _first(module)]
        for member_name, member in members:
            body += _member(member_name, member)
    return "\n".join([*lines, *toc, *body]) + "\n"


def _member(name: str, member: Any) -> Iterator[str]:
    is_class = inspect.isclass(member)
    yield from ("", f"### {name}", "")
    if not (is_class and (issubclass(member, Exception) or getattr(member, "_is_protocol", False))):
        yield from ("```python", f"{'class ' if is_class else ''}{name}{_signature(member)}", "```", "")
    yield _first(member)
    for equation in _equations(inspect.getdoc(member) or ""):
        yield from ("", "```math", equation, "```")
    if is_class:
        methods = [
            (n, m.fget if isinstance(m, property) else inspect.unwrap(getattr(member, n)), isinstance(m, property))
            for n, m in vars(member).items()
            if not n.startswith("_") and (callable(m) or isinstance(m, property | classmethod | staticmethod))
        ]
        listed = [
            f"- `{n}{'' if is_property else _signature(m, bound=True)}`: {_first(m)}"
            for n, m, is_property in methods
            if inspect.getdoc(m)
        ]
        if listed:
            yield from ("", *listed)


def _signature(member: Any, bound: bool = False) -> str:
    """As in the source, types as they are written there."""
    signature = inspect.signature(member)
    parameters = [p for n, p in signature.parameters.items() if not (bound and n in ("self", "cls"))]
    shown = [p.replace(default=_Shown(p.default)) if p.default is not p.empty else p for p in parameters]
    text = re.sub(r"'([^']*)'", r"\1", str(signature.replace(parameters=shown)))
    return text.removesuffix(" -> None") if inspect.isclass(member) else text


class _Shown:
    """A default value without addresses and without whole arrays."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        text = "..." if callable(self._value) or isinstance(self._value, dict) else repr(self._value)
        return (text if len(text) < 60 else "...").replace("'", '"')


def _first(member: Any) -> str:
    """The first paragraph of a docstring, for Markdown."""
    text = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    text = re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text)
    return text.replace("::", ":")


def _equations(text: str) -> Iterator[str]:
    for block in re.findall(r"^\.\. math::(.*(?:\n(?: +.*)?)*)", text, re.M):
        for part in re.split(r"\n\s*\n", block):
            if equation := " ".join(part.split()):
                yield equation


# ------------------------------------------------------------------------------------------------- pages

PAGES = {"datasets": schemas_page, "commands": commands_page, "api": api_page}


def main() -> None:
    """Write all pages, or those that are named."""
    for name in sys.argv[1:] or PAGES:
        Path(__file__).with_name(f"{name}.md").write_text(PAGES[name]())


if __name__ == "__main__":
    main()
