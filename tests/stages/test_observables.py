"""The stages that analyse a trajectory, over the command line, on a published one: idempotent, and readable."""

from pathlib import Path

import numpy as np
import pytest
from kinisi_example import XDATCAR

from argyase.datalake.lake import Lake
from argyase.errors import ConfigError
from argyase.stages import _cli
from argyase.stages.campaign import FURTHER, read_campaign


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
    assert estimates
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
