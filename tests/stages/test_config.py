"""Campaign files and flags: what is wrong is named, with the nearest right thing."""

import importlib
import tomllib
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
from argyase.structures.argyrodite import occupations
from argyase.structures.entropy import configurational_entropy

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
        for scale in ("", *tomllib.loads(path.read_text()).get("scale", {})):
            campaign = read_campaign(str(path), scale)
            assert campaign.dynamics("id")
            for s in campaign.structures():
                occupations(s.x, s.inversion, s.supercell, s.li_added)  # this cell can hold it
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
        ("[grid]\npoints = [[0.0, 0.5]]\nx = [0.0]\n", "grid.points: pairs of x and inversion stand instead of"),
        ("[grid]\npoints = [[0.0]]\n", "grid.points[0] = [0.0]: expected 2 values"),
        ("[grid]\nli_added = [true]\n[structures]\nli_added = true\n", "structures.li_added: the grid sets it"),
        ("[scale.small]\nx = 1\n", "expected tables [scale.NAME.TABLE]"),
        ('[md]\nsegments = [{ kind = "anneal" }]\n', "allowed are 'heat', 'equilibrate', 'produce'"),
    ],
)
def test_broken_campaigns(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_campaign(str(file))
    assert said in str(caught.value)


def test_a_scale_goes_over_the_tables(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    own = '[campaign]\nname = "c"\n[grid]\nx = [0.0]\ninversion = [0.0, 0.5, 1.0]\n[md]\nsample_ps = 0.2\n'
    file.write_text(own + "[scale.small.grid]\ninversion = [0.5]\n[scale.small.structures]\nseed = 2\n")
    whole = read_campaign(str(file))
    assert (whole.header.name, whole.grid.inversion, whole.structure) == ("c", (0.0, 0.5, 1.0), {})
    with pytest.raises(ConfigError, match=r"structures\.seed: the grid sets it"):  # checked as any table
        read_campaign(str(file), "small")
    file.write_text(own + "[scale.small.grid]\ninversion = [0.5]\n[scale.small.structures]\na = 10.0\n")
    small = read_campaign(str(file), "small")
    assert (small.header.name, small.grid.x, small.grid.inversion) == ("c-small", (0.0,), (0.5,))
    assert (small.structure, small.md) == ({"a": 10.0}, whole.md)
    with pytest.raises(ConfigError, match="no scale 'large'; there are small"):
        read_campaign(str(file), "large")


def test_points_of_a_grid_and_added_li(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[grid]\npoints = [[0.0, 0.5], [0.5, 0.75]]\nli_added = [false, true]\nseed = [1, 2]\n")
    found = [(s.x, s.inversion, s.li_added, s.seed) for s in read_campaign(str(file)).structures()]
    assert found == [
        (0.0, 0.5, False, 1), (0.0, 0.5, False, 2), (0.5, 0.75, False, 1), (0.5, 0.75, False, 2),
        (0.5, 0.75, True, 1), (0.5, 0.75, True, 2),
    ]  # fmt: skip


def points(name: str, scale: str) -> set[tuple[float, float, bool, int]]:
    campaign = read_campaign(str(CAMPAIGNS / f"{name}.toml"), scale)
    return {(s.x, s.inversion, s.li_added, s.seed) for s in campaign.structures()}


def test_the_figures_of_the_paper_have_its_points_and_share_them() -> None:
    assert sorted(y for _, y, _, _ in points("fig3", "")) == [n / 32 for n in range(33)]
    eighths = {(i / 8, j / 8, False, 1) for i in range(9) for j in range(i, 9)}
    assert points("fig5", "") == eighths
    assert len(eighths) == 45
    assert {(x, li) for x, _, li, _ in points("fig6", "")} == {
        (i / 8, li) for i in range(9) for li in (False, True) if i or not li
    }
    # Of the largest entropy at its x.
    for x, y, _, _ in points("fig6", ""):
        near = [float(configurational_entropy(x, other)) for other in (y - 1e-3, y + 1e-3) if x <= other <= 1]
        assert all(float(configurational_entropy(x, y)) > value for value in near)
    for scale in ("", "small"):
        campaigns = [read_campaign(str(CAMPAIGNS / f"{name}.toml"), scale) for name in ("fig3", "fig5", "fig6")]
        assert len({str((c.md, c.structure, c.grid.temperature_K)) for c in campaigns}) == 1
        assert points("fig3", scale) & points("fig5", scale)
        assert points("fig6", scale) & points("fig5", scale)
    # Five runs of the small scale are those of the demo.
    demo, small = read_campaign(str(CAMPAIGNS / "demo.toml")), read_campaign(str(CAMPAIGNS / "fig3.toml"), "small")
    assert set(demo.structures()) <= set(small.structures())
    assert demo.dynamics("id") == small.dynamics("id")


def test_missing_campaign(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such campaign file"):
        read_campaign(str(tmp_path / "none.toml"))


def test_default_segments_are_a_protocol() -> None:
    assert [s.kind for s in md.Config(structure="s").segments] == ["heat", "equilibrate", "produce"]
