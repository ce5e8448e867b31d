"""The tutorial and the how-to pages do what they say."""

import doctest
import re
import shutil
from pathlib import Path

import pages
import pytest
from rooms import ROOT

PAGES = sorted([*(ROOT / "docs" / "tutorial").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")])
ALL = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
name = [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_examples_run_and_print_what_is_said(page: Path, tmp_path: Path) -> None:
    found = pages.run(page, tmp_path)
    assert pages.differences(found) == [], f"true outputs: python tests/pages.py {page.relative_to(ROOT)}"
    # Counted without the reader of blocks: none was overlooked.
    text = page.read_text()
    code = len(re.findall(r"^```", text, re.M)) // 2 - len(re.findall(r"^```(?:toml|lammps|text|math)$", text, re.M))
    assert sum(b.ran or bool(b.reason) for b in found if b.language in ("console", "bash", "python", "")) == code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_and_their_marks_are_known(page: Path) -> None:
    assert len(re.findall(r"^```", page.read_text(), re.M)) % 2 == 0
    for block in pages.blocks(page):
        where = f"{page.name}, line {block.line}"
        known = block.language in (*pages.LANGUAGES, "math") or (not block.language and block.reason)
        assert known, f"{where}: language {block.language!r}"
        kept = re.fullmatch(r"(file: \S+|begin with: \S+ as \S+|without a language: .+)", block.mark)
        assert not block.mark or block.reason or block.tolerance or kept, f"{where}: {block.mark}"
        assert not block.reason or len(block.reason) > 8, f"{where}: says not why it is not run"


def test_a_page_that_says_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 3 apples\n2 apples\n```\n\n```python\nprint(1 / 4)\n```\n\n```text\n0.5\n```\n")
    found = pages.run(page, _empty(tmp_path))
    wrong = pages.differences(found)
    assert len(wrong) == 2
    assert "+3 apples" in wrong[0]
    assert pages.renewed(page, found).count("3 apples") == 2
    page.write_text("```bash\nfalse\n```\n")
    with pytest.raises(AssertionError, match="code 1"):
        pages.run(page, _empty(tmp_path))
    page.write_text("```console\n$ argyase md --lake nowhere --structure x\nerror [...]\n```\n")
    assert pages.differences(pages.run(page, _empty(tmp_path))) == []
    assert doctest.testmod(pages).failed == 0


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    (folder / "scratch").mkdir()
    return folder / "scratch"


@pytest.mark.parametrize("page", ALL, ids=[str(page.relative_to(ROOT)) for page in ALL])
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if link.startswith("http"):
            continue
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}, anchor


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = set(re.findall(r"\]\(([^)#]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert listed == there
