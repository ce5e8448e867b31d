"""Campaign files and flags: what is wrong is named, with the nearest right thing."""

import importlib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argyase.errors import ConfigError
from argyase.stages import _config, learn, md, validate
from argyase.stages._cli import COMMANDS
from argyase.stages._config import setting
from argyase.stages.campaign import read_campaign

CAMPAIGNS = Path(__file__).parents[2] / "campaigns"


@dataclass(frozen=True)
class Part:
    length: float = setting(1.0, help="length", unit="A")


@dataclass(frozen=True)
class Settings:
    count: int = setting(help="how many")
    size: float = setting(1.5, help="size", unit="A")
    kind: Literal["a", "b"] = setting("a", help="kind")
    box: tuple[int, int, int] = setting((1, 1, 1), help="cells")
    parts: tuple[Part, ...] = setting((), help="parts")
    name: str | None = setting(None, help="name")


def test_values_are_converted_to_their_types() -> None:
    made = _config.from_mapping(
        Settings, {"count": 2, "size": 3, "box": [1, 2, 3], "parts": [{"length": 2}], "name": "n"}, "t"
    )
    assert made == Settings(2, 3.0, "a", (1, 2, 3), (Part(2.0),), "n")
    assert isinstance(made.size, float)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"count": 1, "sise": 2.0}, "t.sise: unknown key; did you mean 'size'?"),
        ({"count": 1, "zzz": 2.0}, "valid keys: count, size"),
        ({}, "missing count"),
        ({"count": 1.5}, "t.count = 1.5: expected int, got float"),
        ({"count": True}, "t.count = True: expected int, got bool"),
        ({"count": 1, "size": "big"}, "t.size = 'big': expected float, got str"),
        ({"count": 1, "kind": "c"}, "t.kind = 'c': allowed are 'a', 'b'"),
        ({"count": 1, "box": [1, 2]}, "t.box = [1, 2]: expected 3 values"),
        ({"count": 1, "box": "111"}, "t.box = '111': expected a list"),
        ({"count": 1, "parts": [{"lenght": 1}]}, "t.parts[0].lenght: unknown key; did you mean 'length'?"),
        ({"count": 1, "parts": [3]}, "t.parts[0]: expected a table, got 3"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _config.from_mapping(Settings, table, "t")
    assert said in str(caught.value)


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(), st.none(), st.lists(st.integers()))))
def test_no_table_raises_anything_else(table: dict[str, object]) -> None:
    try:
        made = _config.from_mapping(Settings, table, "t")
    except ConfigError:
        return
    assert isinstance(made, Settings)


def test_flags_override_the_file(tmp_path: Path) -> None:
    import argparse

    file = tmp_path / "c.toml"
    file.write_text("[t]\ncount = 3\nsize = 2.0\n")
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    _config.add_flags(parser, Settings)
    args = parser.parse_args(["--config", str(file), "--size", "7", "--box", "2", "2", "2"])
    assert _config.resolve(Settings, args, "t") == Settings(3, 7.0, "a", (2, 2, 2))


@pytest.mark.parametrize("path", sorted(CAMPAIGNS.glob("*.toml")), ids=lambda p: p.stem)
def test_the_shipped_campaigns_are_valid(path: Path) -> None:
    tables = _config.load(path)
    if "campaign" in tables:
        campaign = read_campaign(str(path))
        assert campaign.structures()
        assert campaign.dynamics("id")
    elif "learn" in tables:
        learning = learn.read(str(path))
        assert learning.structures
        assert all((CAMPAIGNS.parent / name).is_file() for name in learning.config.labels)
    elif "validate" in tables:
        assert validate.read(str(path)).structures
    else:  # a table for each stage
        for name, table in tables.items():
            config = importlib.import_module(f"argyase.stages.{COMMANDS[name][0]}").Config
            # What is an id is left to the command line.
            ids = {f.name: ("id",) if f.name != "structure" else "id" for f in fields(config) if f.default is MISSING}
            _config.from_mapping(config, {**ids, **table}, name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[grid]\nx = [0.0\n", "not valid TOML"),
        ("[gird]\nx = [0.0]\n", "unknown table [gird]; did you mean [grid]?"),
        ("[grid]\ntemprature_K = [300]\n", "grid.temprature_K: unknown key; did you mean 'temperature_K'?"),
        ("[md]\ntemperature_K = 300\n", "md.temperature_K: the grid sets it"),
        ("[md]\ntimestep = 2.0\n", "md.timestep: unknown key; did you mean 'timestep_fs'?"),
        ("[md]\ntimestep_fs = 'two'\n", "md.timestep_fs = 'two': expected float, got str"),
        ("[grid]\ninversion = 0.5\n", "grid.inversion = 0.5: expected a list"),
        ('[md]\nsegments = [{ kind = "anneal" }]\n', "allowed are 'heat', 'equilibrate', 'produce'"),
    ],
)
def test_broken_campaigns(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_campaign(str(file))
    assert said in str(caught.value)


def test_missing_campaign(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such campaign file"):
        read_campaign(str(tmp_path / "none.toml"))


def test_default_segments_are_a_protocol() -> None:
    assert [s.kind for s in md.Config(structure="s").segments] == ["heat", "equilibrate", "produce"]
