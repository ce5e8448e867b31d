"""Pages with examples: their blocks, run in order in one folder, and what they print beside what the page says.

A block of code is what stands between fences, with its language:

- ``console``: commands behind ``$``, and below each what it prints, standard output and error. One shell for a page.
- ``bash``: commands alone; each must succeed.
- ``python``: one namespace for a page. What it prints is in the block ``text`` right below, if there is one.
- ``toml``, ``lammps``, ``text``: to be read; with ``<!-- file: NAME -->`` above, written to the folder.

Comments of Markdown, invisible on the page, in the line above a block:

- ``<!-- not run: REASON -->``;
- ``<!-- within 30 %: REASON -->``: numbers of the output may differ by so much, everything else may not; but dynamics
  that go another way may come out as not diffusive, and say so instead;
- ``<!-- without a language: REASON -->``, anywhere: the blocks of the page without a language are not run, and why;
- ``<!-- begin with: FILE as NAME -->``, anywhere: a file of the repository that is there when the page begins.

In stated output ``[...]`` stands for anything, and an id (8 or 20 hexadecimal digits) for any id: it changes whenever a
setting is added. ``python tests/pages.py PAGE ...`` runs pages and puts the true outputs into them.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LANGUAGES = ("console", "bash", "python", "toml", "lammps", "text")
_FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M)
_WITHOUT = re.compile(r"^<!-- without a language: (.+) -->$", re.M)
_BEGIN = re.compile(r"^<!-- begin with: (\S+) as (\S+) -->$", re.M)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*[a-df-zA-DF-Z_])")
_ID = re.compile(r"\b(?:[0-9a-f]{20}|[0-9a-f]{8})\b")
_NO_VALUE = ("not yet diffusive in", "no diffusion beyond the error bar in")
"""How `argyase.physics.msd` says that a run tells no value, but a bound."""
_END = "end of the command"


@dataclass
class Block:
    """One block of code of a page."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    span: tuple[int, int]
    """Of the text in the page."""
    output_of: Block | None = None
    ran: bool = False
    printed: str | None = None
    """What a python block printed."""
    commands: list[Command] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why it is not run; empty if it is."""
        return self.mark.removeprefix("not run:").strip() if self.mark.startswith("not run:") else ""

    @property
    def tolerance(self) -> float:
        """By which part of themselves numbers of the output may differ."""
        found = re.match(r"within (\d+) %: \S", self.mark)
        return float(found[1]) / 100 if found else 0.0

    @property
    def runs(self) -> bool:
        """Whether it is code, and to be run."""
        return self.language in ("console", "bash", "python") and not self.reason


@dataclass
class Command:
    """A command of a block ``console`` or ``bash``."""

    text: str
    stated: str
    printed: str = ""
    code: int = 0


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text, found = page.read_text(), list[Block]()
    why = _WITHOUT.search(text)
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text"))
        mark = match["mark"] or ""
        if not match["language"] and why:
            mark = f"not run: {why[1]}"
        block = Block(page, line, match["language"], match["text"], mark, match.span("text"))
        between = text[found[-1].span[1] + 4 : match.start()] if found else "x"
        if block.language == "text" and found and found[-1].language == "python" and not between.strip():
            block.output_of = found[-1]
        if block.language == "console":
            block.commands = list(_commands(block.text))
        elif block.language == "bash":
            block.commands = [Command(block.text, "")]
        found.append(block)
    return found


def _commands(text: str) -> Iterator[Command]:
    current: list[str] = []
    stated: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            if current:
                yield Command("\n".join(current), "\n".join(stated))
            current, stated = [line[2:]], []
        elif line.startswith("> ") and not stated:
            current.append(line[2:])
        else:
            stated.append(line)
    if current:
        yield Command("\n".join(current), "\n".join(stated))


class _Shell:
    """One bash, in which a page's commands run one after the other."""

    def __init__(self, folder: Path) -> None:
        programs = folder / ".bin"
        programs.mkdir()
        for name, call in (("argyase", "-m argyase.stages._cli "), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -P {call}"$@"\n')
            (programs / name).chmod(0o755)
        environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg",
            "SCRATCH": str(folder), "COLUMNS": "120",
            # Else the best set of each processor is taken, and each moves the atoms other ways.
            "ARGYASE_MTP_ISA": "avx2",
        }  # fmt: skip
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: Command) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{ {command.text}\n}} < /dev/null\ncode=$?; echo; echo {_END} $code\n")
        self._bash.stdin.flush()
        lines = []
        while line := self._bash.stdout.readline():
            if line.startswith(_END):
                command.code = int(line.split()[-1])
                break
            lines.append(line)
        else:
            raise AssertionError(f"the shell ended: {''.join(lines)}")
        command.printed = "".join(lines).removesuffix("\n").rstrip()

    def close(self) -> None:
        self._bash.communicate("exit\n")


def run(page: Path, folder: Path) -> list[Block]:
    """Run a page in an empty folder; its blocks, with what they printed.

    Raises
    ------
    AssertionError
        If a command fails that is not said to, or Python raises.
    """
    for source, name in _BEGIN.findall(page.read_text()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, folder / name)
    found = blocks(page)
    namespace: dict[str, object] = {"__name__": "__page__"}
    shell = _Shell(folder)
    with contextlib.chdir(folder):
        try:
            for block in found:
                if name := re.fullmatch(r"file: (\S+)", block.mark):
                    (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name[1]).write_text(block.text)
                    block.ran = True
                elif block.runs:
                    _run(block, shell, namespace)
        finally:
            shell.close()
    return found


def _run(block: Block, shell: _Shell, namespace: dict[str, object]) -> None:
    block.ran = True
    where = f"{block.page.name}, line {block.line}"
    if block.language == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.text, str(block.page), "exec"), namespace)
        block.printed = printed.getvalue().rstrip()
        return
    for command in block.commands:
        shell.run(command)
        if command.code:
            said = f"{where}: `{command.text}` ends with code {command.code}: {command.printed}"
            assert command.stated.startswith("error"), said


def difference(stated: str, printed: str, tolerance: float = 0.0) -> str:
    """How an output differs from what is stated; empty if it does not.

    >>> difference("D = 10.4 (9.0 [...]) cm2/s", "D = 10.9 (9.1 ... 13) cm2/s", 0.1)
    ''
    >>> difference("a b 2", "a b 3") != "", difference("a b 2", "a c 2", 0.5) != "", difference("2 K", "4 K", 0.5) != ""
    (True, True, True)
    """
    if tolerance and any(text in printed and text not in stated for text in _NO_VALUE):
        return ""
    numbers = list[float]()

    def token(text: str) -> str:
        made, last = "", 0
        for match in sorted([*_ID.finditer(text), *_NUMBER.finditer(text)], key=lambda m: m.start()):
            if match.start() < last:
                continue
            made += re.escape(text[last : match.start()])
            if _ID.fullmatch(match[0]):
                made += f"[0-9a-f]{{{len(match[0])}}}"
            elif tolerance:
                numbers.append(float(match[0]))
                made += r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
            else:
                made += re.escape(match[0])
            last = match.end()
        return made + re.escape(text[last:])

    want, have = _plain(stated), _plain(printed)
    match = re.fullmatch(".*?".join(token(part) for part in want.split("[...]")), have, re.S)
    off = [] if match is None else [
        f"{value} instead of {number:g}, beyond {100 * tolerance:g} %"
        for number, value in zip(numbers, match.groups(), strict=True)
        if abs(float(value) - number) > tolerance * abs(number)
    ]  # fmt: skip
    if match is not None and not off:
        return ""
    return "\n".join(
        [*off, *difflib.unified_diff(want.split("\n"), have.split("\n"), "stated", "printed", lineterm="")]
    )


def _plain(text: str) -> str:
    """Without the spaces and rules that make columns."""
    lines = (re.sub(r"[━─]+", "─", re.sub(r"\s+", " ", line)).strip() for line in text.strip().splitlines())
    return "\n".join(lines)


def differences(found: list[Block]) -> list[str]:
    """Where a page that was run says something else than what was printed."""
    wrong = []
    for block in found:
        pairs = [(c.stated, c.printed, block.tolerance) for c in block.commands] if block.runs else []
        if block.output_of is not None and block.output_of.printed is not None:
            pairs.append((block.text, block.output_of.printed, block.tolerance))
        for stated, printed, tolerance in pairs:
            if stated.strip() and (text := difference(stated, printed, tolerance)):
                wrong.append(f"{block.page}, line {block.line}:\n{text}")
    return wrong


def renewed(page: Path, found: list[Block]) -> str:
    """The text of a page with what was printed instead of what it said; a stated ``[...]`` that still holds stays."""
    text = page.read_text()

    def keep(stated: str, printed: str, tolerance: float) -> str:
        holds = "[...]" in stated and not difference(stated, printed, tolerance)
        return stated if holds or not stated.strip() else printed

    for block in reversed(found):
        if block.language == "console" and block.runs:
            lines = []
            for command in block.commands:
                first, *more = command.text.split("\n")
                lines += [f"$ {first}", *(f"> {line}" for line in more)]
                if said := keep(command.stated, command.printed, block.tolerance):
                    lines.append(said)
            new = "\n".join(lines) + "\n"
        elif block.output_of is not None and block.output_of.printed is not None:
            new = keep(block.text.rstrip("\n"), block.output_of.printed, block.tolerance) + "\n"
        else:
            continue
        text = text[: block.span[0]] + new + text[block.span[1] :]
    return text


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(argument).resolve()
            path.write_text(renewed(path, run(path, Path(scratch))))
