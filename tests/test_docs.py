"""Examples in docstrings and the README are true."""

import doctest
import importlib
import re
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


def test_the_page_of_datasets_is_up_to_date() -> None:
    from argyase.stages.lake import schemas_page

    page = (ROOT / "docs" / "reference" / "datasets.md").read_text()
    assert page == schemas_page(), "make it anew: argyase lake schemas > docs/reference/datasets.md"
