"""The report: its data are those of the lake, and nothing of the lake becomes markup."""

import base64
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_lake

from argyase.datalake.lake import Lake
from argyase.report.page import render
from argyase.stages import _cli, report
from argyase.stages._run import made_of
from argyase.stages.campaign import FURTHER


class Page(HTMLParser):
    """The elements of a page as a browser finds them, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dict[str, str], str]:
    folder = tmp_path_factory.mktemp("report")
    ids = report_lake.make(folder / "lake")
    assert _cli.main(["report", "--lake", str(folder / "lake"), "--output", str(folder / "r.html")]) == 0
    return Lake(folder / "lake", create=False), ids, (folder / "r.html").read_text()


@pytest.fixture(scope="module")
def data(made: tuple[Lake, dict[str, str], str]) -> Any:
    return json.loads(Page(made[2]).scripts[0])


def test_every_number_is_that_of_the_lake(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    lake, ids, _ = made
    runs = {run["id"]: run for run in data["runs"]}
    assert set(runs) == set(ids.values())
    seen = 0
    for run in runs.values():
        record = lake.record(run["id"])
        of = {r.stage: r for stage in report.OBSERVABLES for r in lake.search(stage) if record.id in r.inputs}
        assert {o["stage"]: o["id"] for o in run["observables"]} == {stage: r.id for stage, r in of.items()}
        for observable in run["observables"]:
            scalars = of[observable["stage"]].scalars
            told = {n["name"]: n for n in observable["numbers"]}
            for name, value in scalars.items():
                base, end = re.fullmatch(r"(.*?)(_stderr|_low|_high)?", name).groups()  # type: ignore[union-attr]
                if base not in told:
                    base, end = name, None
                found = told[base][(end or "_value")[1:]]
                assert found == value if math.isfinite(value) else found is None
                seen += 1
    assert seen > 60
    whole = runs[ids["whole"]]
    assert (
        whole["conductivity"]["value"] == lake.search("conductivity", seed=1, inversion=0.5)[0].scalars["conductivity"]
    )
    assert (whole["length_ps"], whole["mean_temperature"]) == (25.0, 598.5)
    assert whole["labels"]["supercell"] == "2x2x2"


def test_curves_are_those_of_the_lake(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    lake, ids, _ = made
    (run,) = [r for r in data["runs"] if r["id"] == ids["whole"]]
    sets = {
        stage: lake.open_run(next(r.id for r in lake.search(stage) if ids["whole"] in r.inputs))
        for stage in run["curves"]
    }
    assert set(sets) == {"msd", "vanhove", "hops", "jumps", "density", "coordination", "distinct"}
    half_a_digit = {"rtol": 6e-4}  # four digits are kept, of maps three
    for stage, dim, names in (("msd", "lag", ("msd", "msd_stderr")), ("hops", "time", ("cumulative_ever",))):
        c, d = run["curves"][stage], sets[stage]
        if stage == "hops":
            d = d.swap_dims(frame="time")
        part = d.sel({dim: c[dim]}, method="nearest")
        np.testing.assert_allclose(part[dim], c[dim], **half_a_digit)
        assert len(set(part[dim].values)) == len(c[dim]) > 50
        for name in names:
            np.testing.assert_allclose(np.array(c[name], dtype=float), part[name], **half_a_digit)
    window = [float(sets["msd"]["fit_start"]), float(sets["msd"]["fit_stop"])]
    np.testing.assert_allclose(run["curves"]["msd"]["window"], window, **half_a_digit)
    for stage, name in (("vanhove", "radial_probability"), ("distinct", "g_distinct")):
        c = run["curves"][stage]
        part = sets[stage][name].sel(r=slice(0, 10))
        np.testing.assert_allclose(c["map"], part, rtol=6e-3)
        np.testing.assert_allclose(c["lag"], part["lag"], **half_a_digit)
    jumps = run["curves"]["jumps"]
    rate = np.array(jumps["rate"], dtype=float)
    np.testing.assert_allclose(rate, sets["jumps"]["rate"], **half_a_digit)
    density = run["curves"]["density"]
    read = np.frombuffer(base64.b64decode(density["bytes"]), np.uint8).reshape(density["shape"])
    ratio = density["top"] * (read / 255.0) ** 2
    mean = sets["density"]["density"].values / float(sets["density"]["mean_density"])
    # Most voxels are empty, and steps of the others symmetric about them: the mean, 1, comes out to per cent.
    assert ratio.mean() == pytest.approx(mean.mean(), rel=0.03)
    assert density["top"] <= mean.max()
    # The densest of the wide voxels is where the grid of the lake is as dense, on the average around it.
    there = np.array(np.unravel_index(ratio.argmax(), ratio.shape)) / ratio.shape
    around = [np.rint(there[k] * mean.shape[k]).astype(int) + np.array([-2, -1, 0, 1]) for k in range(3)]
    assert mean.take(around[0], 0, mode="wrap").take(around[1], 1, mode="wrap").take(
        around[2], 2, mode="wrap"
    ).max() >= (density["top"] * (1 - 1e-5))


def test_seeds_share_a_cell_and_facets_do_not(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    _, ids, _ = made
    number = {run["id"]: n for n, run in enumerate(data["runs"])}
    cells = {tuple(sorted(cell["runs"])): cell for cell in data["cells"]}
    both = cells[tuple(sorted((number[ids["whole"]], number[ids["seed"]])))]
    values = [data["runs"][n]["conductivity"]["value"] for n in both["runs"]]
    assert both["conductivity"]["value"] == pytest.approx(sum(values) / 2)
    widths = [data["runs"][n]["conductivity"]["high"] - data["runs"][n]["conductivity"]["low"] for n in both["runs"]]
    # Independent runs: the width of the mean of two is half of the root of the sum of squares.
    assert both["conductivity"]["high"] - both["conductivity"]["low"] == pytest.approx(math.hypot(*widths) / 2)
    assert cells[number[ids["hot"]],]["facets"]["temperature_K"] == 900
    bound = cells[number[ids["bound"]],]["conductivity"]
    assert bound["value"] is None
    assert bound["high"] > 0
    assert bound["text"].startswith("< ")
    assert cells[number[ids["markup"]],]["conductivity"] is None
    assert not any(number[ids["foreign"]] in cell["runs"] for cell in data["cells"])


def test_flags_lineage_and_provenance(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    lake, ids, _ = made
    runs = {name: data["runs"][[r["id"] for r in data["runs"]].index(run)] for name, run in ids.items()}
    assert runs["whole"]["flags"][0]["text"] == "left training domain"
    assert "3.2" in runs["whole"]["flags"][0]["why"]
    assert [f["text"] for f in runs["failed"]["flags"]] == ["stopped"]
    assert [f["text"] for f in runs["bound"]["flags"]] == ["σ not determined"]
    assert "LiPSCl-study" in runs["whole"]["warning"]
    assert data["warnings"] == [runs["whole"]["warning"]]
    assert runs["markup"]["warning"] == ""

    def walk(node: Any) -> Iterator[Any]:
        yield node
        for parent in node["parents"]:
            yield from walk(parent)

    for run in runs.values():
        known = [n["id"] for n in walk(run["lineage"]) if n["id"]]
        assert known == [item.id for item in lake.lineage(run["id"]).walk()]
    assert [n["stage"] for n in walk(runs["whole"]["lineage"])] == ["md", "structures", "potential"]
    told = runs["whole"]["provenance"]["md"]
    assert (told["host"], told["command"], told["seed of the structure"]) == ("host of 1", "argyase md", 1)
    assert {"msd", "density"} <= runs["whole"]["provenance"].keys()
    record = lake.search("msd", seed=2)[0]
    assert runs["seed"]["provenance"]["msd"]["wall time (s)"] == record.provenance["wall_seconds"]


def test_what_is_missing_is_missing(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    _, ids, _ = made
    runs = {run["id"]: run for run in data["runs"]}
    for name in ("markup", "failed", "foreign"):
        run = runs[ids[name]]
        assert (run["conductivity"], run["haven_ratio"], run["crossing_rate"]) == (None, None, None)
        assert run["curves"] == {}
        assert run["observables"] == []
    assert set(runs[ids["seed"]]["curves"]) == {"msd"}


def test_what_is_damaged_is_told_and_the_rest_is_shown(
    made: tuple[Lake, dict[str, str], str], tmp_path: Path, data: Any
) -> None:
    """A changed byte in a conductivity, and a trajectory cut short."""
    lake = Lake(shutil.copytree(made[0].path, tmp_path / "lake"))
    hit = made_of(lake, [made[1]["hot"]], ("conductivity",))[made[1]["hot"]]["conductivity"]
    content = bytearray((hit.path / "data.nc").read_bytes())
    content[len(content) // 2] ^= 1
    (hit.path / "data.nc").write_bytes(content)
    shard = lake.record(made[1]["seed"]).path / "traj.zarr/positions/c.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert _cli.main(["report", "--lake", str(lake.path), "--output", str(tmp_path / "r.html")]) == 0
    found = {run["id"]: run for run in json.loads(Page((tmp_path / "r.html").read_text()).scripts[0])["runs"]}
    assert set(found) == {run["id"] for run in data["runs"]}
    hot, seed = found[made[1]["hot"]], found[made[1]["seed"]]
    assert [f["text"] for run in (hot, seed) for f in run["flags"]] == ["damaged", "damaged"]
    assert hit.id in hot["flags"][0]["why"]
    assert "traj.zarr" in seed["flags"][0]["why"]
    assert hot["conductivity"] is None
    assert "msd" in hot["curves"]
    assert seed["conductivity"] is not None
    same = [run for run in data["runs"] if run["id"] not in (hot["id"], seed["id"])]
    assert [found[run["id"]] for run in same] == same


def test_names_stay_text(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    _, ids, text = made
    page = Page(text)
    assert [a for tag, a in page.elements if tag == "script"] == [{"type": "application/json", "id": "data"}, {}, {}]
    assert not any(tag == "img" for tag, _ in page.elements)
    run = next(r for r in data["runs"] if r["id"] == ids["markup"])
    assert run["composition"] == run["labels"]["potential"] == report_lake.MARKUP
    assert "<" not in page.scripts[0]
    markup = Page(render({"title": report_lake.MARKUP, "runs": []}))
    assert not any(tag == "img" for tag, _ in markup.elements)
    assert len(markup.scripts) == 3


def test_the_page_needs_nothing_else(made: tuple[Lake, dict[str, str], str]) -> None:
    page = Page(made[2])
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,", tag
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for script in page.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_fifty_runs_fit_in_ten_megabytes(made: tuple[Lake, dict[str, str], str], data: Any) -> None:
    (run,) = [r for r in data["runs"] if r["id"] == made[1]["whole"]]
    assert set(FURTHER) <= {o["stage"] for o in run["observables"]}
    assert len(json.dumps(run, separators=(",", ":"))) < 200_000


def test_a_campaign_shows_what_is_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path / "lake")
    file = tmp_path / "c.toml"
    grid = "x = [0.0, 0.25]\ninversion = [0.25, 0.5]\nseed = [1, 2]\ntemperature_K = [300, 600]\n"
    tables = '[structures]\nsupercell = [1, 1, 1]\n[md]\npotential = "LiPSCl-study"\n'
    file.write_text(f'[campaign]\nname = "plan & more"\n[grid]\n{grid}{tables}')
    output = tmp_path / "r.html"
    assert _cli.main(["report", str(file), "--lake", str(lake.path), "--output", str(output)]) == 0
    page = Page(output.read_text())
    data = json.loads(page.scripts[0])
    assert data["title"] == "plan & more"
    assert data["runs"] == []
    assert {(c["x"], c["inversion"], c["facets"]["temperature_K"], c["missing"]) for c in data["cells"]} == {
        (x, y, t, 2) for x in (0, 0.25) for y in (0.25, 0.5) for t in (300, 600)
    }
    run = report_lake.run(lake, inversion=0.5, x=0.0, formula="Li6PS5Cl")
    assert _cli.main(["report", run[:8], "--lake", str(lake.path), "--output", str(output)]) == 0
    assert [r["id"] for r in json.loads(Page(output.read_text()).scripts[0])["runs"]] == [run]
    assert "1 runs" in capsys.readouterr().out


def test_what_cannot_be_reported_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path / "lake")
    where = ["--lake", str(lake.path), "--output", str(tmp_path / "r.html")]
    assert _cli.main(["report", *where]) == 2
    assert "no trajectory" in " ".join(capsys.readouterr().err.split())
    run = report_lake.run(lake, inversion=0.5)
    (structure,) = lake.record(run).inputs
    assert _cli.main(["report", structure, *where]) == 2
    assert "a run of stage structures" in " ".join(capsys.readouterr().err.split())
    assert _cli.main(["report", "--lake", str(lake.path), "--output", str(tmp_path / "no" / "r.html")]) == 2
    assert _cli.main(["report", "--lake", str(tmp_path / "nowhere")]) == 3
    assert not (tmp_path / "r.html").exists()
