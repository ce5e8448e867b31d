"""``argyase domain``, and what grades and repulsion do to the ``md`` stage and a campaign."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from command import CAMPAIGN, argyase

from argyase.datalake.lake import Lake
from argyase.potentials.active import ActiveSet
from argyase.potentials.model_card import find_potential
from argyase.structures.argyrodite import argyrodite

CARD = find_potential("LiPSCl-study")
LABELS = Path(__file__).parents[2] / "campaigns" / "labels" / "LiPSCl-study-7net0.extxyz.gz"


def own_potential(folder: Path) -> Path:
    """The shipped potential under another name, without card and active set."""
    path = folder / "own.mtp"
    path.write_bytes(CARD.path.read_bytes())
    return path


def test_the_command_and_again(tmp_path: Path) -> None:
    frames = ase.io.read(LABELS, index="::20")
    labels = tmp_path / "labels.extxyz"
    ase.io.write(labels, [a.copy() for a in frames])
    path = own_potential(tmp_path)
    command = ("domain", "--potential", path, "--species", *CARD.species, "--labels", labels)
    first = argyase(*command)
    assert first.returncode == 0, first.stderr
    assert "[repulsion]" in first.stdout
    assert "Li-S = [" in first.stdout
    assert "own.active: 20 atoms of" in " ".join(first.stderr.split())
    assert ActiveSet.load(tmp_path / "own.active").species_count == 4
    before = (tmp_path / "own.active").stat().st_mtime_ns
    again = argyase(*command)
    assert "(unchanged)" in " ".join(again.stderr.split())
    assert again.stdout == first.stdout
    assert (tmp_path / "own.active").stat().st_mtime_ns == before
    # What was printed is a card that is read.
    (tmp_path / "own.toml").write_text('species = ["Li", "P", "S", "Cl"]\n' + first.stdout)
    found = find_potential(str(path))
    assert set(found.repulsion) == set(CARD.repulsion)
    assert found.active_set == tmp_path / "own.active"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("none.xyz", "labels = none.xyz: no such file"),
        ("empty.extxyz", "empty.extxyz"),
        ("other.extxyz", "species ['Br']; the potential LiPSCl-7net-L10 knows"),
    ],
)
def test_wrong_labels(labels: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty.extxyz").write_text("")
    ase.io.write(tmp_path / "other.extxyz", argyrodite(halide="Br"))
    done = argyase("domain", "--labels", labels, "--output", tmp_path / "a.active", cwd=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "a.active").exists()


def md_table(structure: Path, **settings: object) -> str:
    settings = {"potential": "LiPSCl-study", **settings}
    lines = "".join(f"{k} = {v!r}\n".replace("'", '"') for k, v in settings.items())
    return f"""
[md]
structure = "{structure}"
temperature_K = 300
sample_ps = 0.02
max_temperature_factor = 9.0
segments = [{{ kind = "produce", ensemble = "nvt", duration_ps = 0.4 }}]
{lines}"""


def run_md(tmp_path: Path, structure: Path, **settings: object) -> tuple[int, str, str]:
    (tmp_path / "md.toml").write_text(md_table(structure, **settings))
    done = argyase("md", "-c", tmp_path / "md.toml", "--lake", tmp_path / "lake")
    return done.returncode, done.stdout.strip(), " ".join(done.stderr.split())


def structure_file(tmp_path: Path, apart: float | None = None) -> Path:
    atoms = argyrodite(0.0, 0.5, a=10.0)
    if apart is not None:
        atoms.positions[1] = atoms.positions[0] + [0, 0, apart]
    path = tmp_path / f"s{apart}.extxyz"
    ase.io.write(path, atoms)
    return path


def test_a_run_records_its_grades_and_is_marked_when_it_left_the_domain(tmp_path: Path) -> None:
    path, lake = structure_file(tmp_path), Lake(tmp_path / "lake")
    code, sane, said = run_md(tmp_path, path, grade_every=20)
    assert (code, "warning" in said) == (0, False), said
    record, run = lake.record(sane), lake.open_run(sane)
    assert record.parameters["repulsion"]["Li-S"] == list(CARD.repulsion["Li-S"])
    assert len(str(record.parameters["active_set_sha256"])) == 64
    assert record.scalars["left_domain"] is False
    assert record.scalars["max_grade"] == pytest.approx(float(run["grade"].max()), rel=1e-12)
    assert "mean_grade" not in record.scalars
    assert run["grade"].attrs["units"] == "1"
    # Frames every 10 steps, grades every 20, at the start too.
    assert np.isfinite(run["grade"].values).tolist() == [True, *[k % 2 == 1 for k in range(1, 20)]]

    code, marked, said = run_md(tmp_path, path, grade_every=20, grade_select=0.5)
    assert code == 0
    assert f"warning: run {marked[:8]} left the domain of LiPSCl-study: largest extrapolation grade" in said
    assert lake.record(marked).scalars["left_domain"] is True
    _, again, said = run_md(tmp_path, path, grade_every=20, grade_select=0.5)
    assert again == marked
    assert "left the domain" in said
    shown = argyase("lake", "show", marked, "--lake", lake.path).stdout
    assert '"left_domain": true' in shown
    assert '"max_grade"' in shown

    code, plain, _ = run_md(tmp_path, path, grade_every=0, repulsion="off")
    assert code == 0
    assert len({sane, marked, plain}) == 3
    assert lake.record(plain).parameters["repulsion"] == "off"
    assert not [k for k in lake.record(plain).parameters if k.startswith(("grade", "active"))]
    assert "max_grade" not in lake.record(plain).scalars
    assert np.isnan(lake.open_run(plain)["grade"]).all()
    # Nothing came near: the same path.
    np.testing.assert_array_equal(lake.open_run(plain)["positions"].values, run["positions"].values)


def test_a_potential_without_card_has_neither(tmp_path: Path) -> None:
    potential = own_potential(tmp_path)
    options = {"potential": str(potential), "species": list(CARD.species)}
    code, run, said = run_md(tmp_path, structure_file(tmp_path), **options)
    assert code == 0, said
    record = Lake(tmp_path / "lake").record(run)
    assert record.parameters["repulsion"] == "off"
    assert "max_grade" not in record.scalars


def test_a_run_that_extrapolates_is_stopped_kept_and_named(tmp_path: Path) -> None:
    path, lake = structure_file(tmp_path, 1.4), Lake(tmp_path / "lake")
    for _ in range(2):  # the second time from what is kept
        code, _, said = run_md(tmp_path, path, grade_break=3.0)
        assert code == 4
        assert "error (ExtrapolationError)" in said
        assert "is above 3: the potential left the domain in which it was trained" in said
        (failed,) = lake.search("md-failed")
        assert failed.id in said
        assert failed.scalars["error"] == "ExtrapolationError"
    assert lake.search("md") == []


def test_the_table_of_a_campaign_marks_what_left_the_domain(tmp_path: Path) -> None:
    text = CAMPAIGN.format(inversions="0.5", temperature=900, length=2.0)
    (tmp_path / "c.toml").write_text(text.replace("sample_ps = 0.02", "sample_ps = 0.02\ngrade_select = 0.5"))
    done = argyase("run", tmp_path / "c.toml", "--lake", tmp_path / "lake")
    assert done.returncode == 0, done.stderr
    (record,) = Lake(tmp_path / "lake").search("md")
    assert f"{record.id[:8]} !" in done.stdout
    assert f"! run {record.id[:8]} left the domain of LiPSCl-study" in " ".join(done.stdout.split())
