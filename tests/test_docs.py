"""Examples in docstrings and the README are true."""

import contextlib
import doctest
import importlib
import io
import re
import runpy
import tomllib

import pytest
from rooms import MODULES, ROOT

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
WITH_EXAMPLES = sorted(m for m, path in MODULES.items() if ">>>" in path.read_text())


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) >= 8


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0


def test_links_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    missing = [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
    assert missing == []
    assert "@@" not in text


def test_commands_of_the_readme_exist() -> None:
    from argyase.stages._cli import COMMANDS

    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`argyase ([a-z_]+)", text))
    assert {"run", "ingest", "lake"} <= named <= set(COMMANDS)


def test_imports_of_the_readme_work() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 3
    for block in blocks:
        compile(block, "README.md", "exec")
        for line in block.split("\n"):
            if line.startswith(("from ", "import ")):
                exec(line, {})


def test_the_two_commands_are_those_of_the_project() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install . && argyase run campaigns/demo.toml --lake lake" in text
    assert "pip install '.[test]' && pytest" in text
    assert "test" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", ["datasets", "commands", "api"])
def test_reference_pages_are_what_the_program_says(name: str) -> None:
    folder = ROOT / "docs" / "reference"
    made = runpy.run_path(str(folder / "make.py"))["PAGES"][name]()
    assert (folder / f"{name}.md").read_text() == made, "make them anew: python docs/reference/make.py"
    headings = re.findall(r"^## (.*)$", made, re.M)
    assert len(headings) > 20
    assert len(set(headings)) == len(headings)


def test_no_command_and_no_setting_is_left_out_of_the_reference() -> None:
    """By another way: what --help prints, and the keys that a file may have."""
    from argyase.stages._cli import COMMANDS

    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    sections = {s.split("\n", 1)[0]: s for s in page.split("\n## ")[1:]}
    assert list(sections) == list(COMMANDS)
    for command in ("md", "run", "fit", "lake", "submit"):
        with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
            importlib.import_module(f"argyase.stages.{COMMANDS[command][0]}").main(["--help"])
        options = set(re.findall(r"^ {2}(?:-\w [A-Z]+, )?(--[\w-]+)", told.getvalue(), re.M)) - {"--help"}
        assert options or command == "lake"
        missing = [o for o in options if f"`{o}" not in sections[command] and f", {o}" not in sections[command]]
        assert missing == [], command
