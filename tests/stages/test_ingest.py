"""``argyase ingest`` of a published trajectory, and the observables of it."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from kinisi_example import XDATCAR, direct_msd

from argyase.datalake.lake import Lake
from argyase.dynamics.readers import read_frames
from argyase.physics.unwrap import unwrap
from argyase.stages import _cli
from argyase.structures.argyrodite import argyrodite


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    path = tmp_path_factory.mktemp("ingest") / "lake"
    code = _cli.main(["ingest", str(XDATCAR), "--time-step-ps", "0.1", "--temperature-K", "600", "--lake", str(path)])
    assert code == 0
    lake = Lake(path, create=False)
    (record,) = lake.search("ingest")
    return lake, record.id


def test_what_is_stored(lake: tuple[Lake, str]) -> None:
    run = lake[0].open_run(lake[1])
    assert dict(run.sizes) == {"frame": 140, "atom": 416, "xyz": 3, "cell_vector": 3}
    assert run.time.values.tolist() == pytest.approx((0.1 * np.arange(140)).tolist())
    assert lake[0].record(lake[1]).parameters["temperature_K"] == 600
    frames = list(read_frames(XDATCAR))
    unwrapped = unwrap(np.array([f.positions for f in frames]), np.array([f.cell for f in frames]))
    np.testing.assert_allclose(run["positions"].values, unwrapped, atol=0.51e-6)


def test_msd_equals_a_direct_loop(lake: tuple[Lake, str]) -> None:
    """Over the command line and the lake, to 1e-6 A^2; the loop reads the file and removes the drift by itself."""
    assert _cli.main(["msd", "--run", lake[1], "--lake", str(lake[0].path)]) == 0
    (record,) = lake[0].search("msd")
    ours = lake[0].open_run(record.id)

    direct = direct_msd()
    assert len(direct) == 140
    np.testing.assert_allclose(ours.msd.values, direct, rtol=0, atol=1e-6)


def test_observables(lake: tuple[Lake, str], capsys: pytest.CaptureFixture[str]) -> None:
    for stage in ("msd", "conductivity", "vanhove", "hops"):
        assert _cli.main([stage, "--run", lake[1][:8], "--lake", str(lake[0].path)]) == 0
    said = capsys.readouterr().out
    # Half the run: not beyond what Li may do in its cage. kinisi has 1.4e-5 cm2/s of it.
    assert re.search(r"D: not yet diffusive in 14 ps: the MSD is 6\.7\d A\^2 at 7 ps", said)
    assert re.search(r"sigma < 1\d00 mS/cm at 600 K \(Nernst-Einstein\)", said)
    assert _cli.main(["msd", "--run", lake[1], "--confined-A2", "0", "--lake", str(lake[0].path)]) == 0
    assert re.search(r"D = 1\.\de-05 \(1\.\de-05 \.\.\. [12]\.\de-05\) cm2/s", capsys.readouterr().out)
    assert re.search(
        r"ever beyond \d+, at the end \d+, crossings \d+: 3 A from the start, of 192 ions in 13\.9 ps", said
    )
    # Again: the same ids, nothing new.
    before = len(lake[0].search())
    assert _cli.main(["hops", "--run", lake[1], "--lake", str(lake[0].path)]) == 0
    assert len(lake[0].search()) == before


def test_figures(lake: tuple[Lake, str], tmp_path: Path) -> None:
    for stage in ("msd", "conductivity", "vanhove", "hops"):
        assert _cli.main([stage, "--run", lake[1], "--lake", str(lake[0].path)]) == 0
    assert _cli.main(["figures", "--lake", str(lake[0].path), "--figures", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{stem}.{kind}" for stem in ("msd", "vanhove", "hops") for kind in ("png", "svg", "pdf")
    }


def test_taken_in_once(lake: tuple[Lake, str], tmp_path: Path) -> None:
    """The same file from another folder, under another name of the lake's making: known by its content."""
    copy = tmp_path / XDATCAR.name
    copy.write_bytes(XDATCAR.read_bytes())
    code = _cli.main(
        ["ingest", str(copy), "--time-step-ps", "0.1", "--temperature-K", "600", "--lake", str(lake[0].path)]
    )
    assert code == 0
    assert len(lake[0].search("ingest")) == 1


def test_frames_that_cannot_be_unwrapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames so far apart that an atom could have gone either way round."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(5):
        atoms = argyrodite()
        atoms.set_scaled_positions(rng.random((52, 3)))
        made.append(atoms)
    ase.io.write(tmp_path / "t.extxyz", made)
    code = _cli.main(["ingest", str(tmp_path / "t.extxyz"), "--time-step-ps", "1", "--lake", str(tmp_path / "lake")])
    assert code == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "of a cell vector since the frame before" in said
    assert "Store frames more often" in said
    lake = Lake(tmp_path / "lake")
    assert lake.search() == []
    assert lake.unfinished() == []


def test_without_a_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    start, made = argyrodite(), []
    for _ in range(150):
        start.positions[:24] += rng.normal(scale=0.2, size=(24, 3))
        made.append(start.copy())
    ase.io.write(tmp_path / "t.traj", made)
    lake = str(tmp_path / "lake")
    assert _cli.main(["ingest", str(tmp_path / "t.traj"), "--time-step-ps", "1", "--every", "1", "--lake", lake]) == 0
    run = Lake(lake).search("ingest")[0].id
    assert _cli.main(["conductivity", "--run", run, "--lake", lake]) == 2
    assert "has no temperature: give it with --temperature-K" in " ".join(capsys.readouterr().err.split())
    assert _cli.main(["conductivity", "--run", run, "--temperature-K", "300", "--lake", lake]) == 0
    assert _cli.main(["msd", "--run", run, "--ion", "Na", "--lake", lake]) == 3
    assert "no Na in the trajectory; it has Cl, Li, P, S" in " ".join(capsys.readouterr().err.split())
