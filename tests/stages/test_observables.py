"""The stages that analyse a trajectory, over the command line, on a published one: idempotent, and readable."""

from pathlib import Path

import numpy as np
import pytest
from argyrodite_walk import STEP, cage_walk, trajectory
from kinisi_example import XDATCAR

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.schemas import INGEST
from argyase.stages import _cli
from argyase.stages.campaign import FURTHER, read_campaign
from argyase.structures.entropy import configurational_entropy


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    path = tmp_path_factory.mktemp("observables") / "lake"
    code = _cli.main(["ingest", str(XDATCAR), "--time-step-ps", "0.1", "--temperature-K", "600", "--lake", str(path)])
    assert code == 0
    lake = Lake(path, create=False)
    (record,) = lake.search("ingest")
    return lake, record.id


@pytest.mark.parametrize("stage", sorted(FURTHER))
def test_computed_once_and_labelled(ingested: tuple[Lake, str], stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    lake, run = ingested
    assert _cli.main([stage, "--run", run, "--lake", str(lake.path)]) == 0
    (record,) = lake.search(stage)
    assert record.id in capsys.readouterr().out
    assert record.inputs == [run]
    before = len(lake.search())
    assert _cli.main([stage, "--run", run[:8], "--lake", str(lake.path)]) == 0
    assert len(lake.search()) == before
    data = lake.open_run(record.id)
    for name, variable in data.variables.items():
        assert {"units", "long_name"} <= set(variable.attrs), name
    # What has an error has an interval around it.
    estimates = [str(n).removesuffix("_stderr") for n in data.data_vars if str(n).endswith("_stderr")]
    estimates = [n for n in estimates if f"{n}_low" in data]
    assert any(str(n).endswith("_stderr") for n in data.data_vars)
    for name in estimates:
        value, low, high = (np.asarray(data[f"{name}{end}"]) for end in ("", "_low", "_high"))
        known = np.isfinite(value)
        assert (low[known] <= value[known]).all()
        assert (value[known] <= high[known]).all()


def test_a_campaign_names_them(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"[analysis]\nobservables = {sorted(FURTHER)}\n")
    assert set(read_campaign(str(file)).analysis.observables) == set(FURTHER)
    file.write_text('[analysis]\nobservables = ["jump"]\n')
    with pytest.raises(ConfigError, match=r"observables: 'jump' is unknown; did you mean 'jumps'"):
        read_campaign(str(file))


def walking(lake: Lake, temperature: float, inversion: float, seed: int, cells: int = 2) -> str:
    """A run in which Li jumps between cages at a rate of Arrhenius (0.2 eV), which rises with the entropy."""
    rng = np.random.default_rng(seed)
    rate = 15.0 * np.exp(-0.2 / (8.617e-5 * temperature)) * (1 + float(configurational_entropy(0.0, inversion)))
    lithium, _ = cage_walk(rng, (cells, 2, 2), 24, 250, rate, seats=1)
    positions, boxes, species = trajectory((cells, 2, 2), lithium, rng, inversion=inversion, breathe=1e-3)
    known = {"temperature_K": temperature, "inversion": inversion, "x": 0.0, "supercell": (cells, 2, 2)}
    with lake.begin("md", {**known, "seed": seed, "formula": "Li6PS5Cl"}, schema=INGEST) as attempt:
        n = len(species)
        labels = {"species": species, "atom_id": np.arange(n), "site": [""] * n, "cage": [-1] * n}
        writer = attempt.trajectory_writer(n_atoms=n, n_frames=250, coords=labels, time_step_ps=STEP)
        for place, cell in zip(positions, boxes, strict=True):
            writer.append(place, cell)
        writer.finish()
        volume = np.abs(np.linalg.det(boxes))
        return attempt.publish(INGEST.dataset(time=writer.times(), volume=volume))


def test_trends_of_many_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path / "lake")
    for temperature in (400.0, 600.0, 900.0):
        for seed in (1, 2):
            walking(lake, temperature, 0.5, seed)
    for seed in (1, 2):
        walking(lake, 600.0, 0.0, seed)
    walking(lake, 600.0, 0.5, 1, cells=3)
    where = ["--lake", str(lake.path)]
    assert _cli.main(["trends", "--over", "temperature", *where]) == 0
    (record,) = lake.search("arrhenius")
    line = lake.open_run(record.id)
    assert line.temperature.values.tolist() == [400.0, 600.0, 900.0]
    # D is that of the rate; ln(sigma T) has its slope. Four standard errors.
    assert abs(float(line.activation_energy) - 0.2) < 4 * float(line.activation_energy_stderr)
    assert float(line.activation_energy_stderr) < 0.1
    assert len(record.inputs) == 6
    assert "Ea = " in capsys.readouterr().out
    assert _cli.main(["trends", "--over", "size", *where]) == 0
    series = lake.open_run(lake.search("series", inversion=0.5, temperature_K=600.0)[0].id)
    assert series.size.values.tolist() == [8 * 28 + 24, 12 * 28 + 24]
    assert _cli.main(["trends", "--over", "entropy", "--of", "jumps", *where]) == 0
    found = lake.search("hop_correlation", temperature_K=600.0)
    (record,) = [r for r in found if r.parameters["supercell"] == [2, 2, 2]]
    data = lake.open_run(record.id)
    # Entropies of the sites: none, and 2 ln 2; each by its two seeds.
    np.testing.assert_allclose(np.sort(data.x), [0, 0, 2 * np.log(2), 2 * np.log(2)], atol=1e-12)
    assert float(data.slope_low) > 0
    assert data.slope.attrs["units"] == "ns-1"
    assert _cli.main(["trends", "--over", "size", "--of", "jumps", *where]) == 2
