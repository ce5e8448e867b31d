"""Relaxed structures, orderings and the hull in the lake: nothing twice, nothing that did not come to rest."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from argyase.calculators import calculator
from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError, SimulationError
from argyase.physics.hull import hull as compute_hull
from argyase.stages import _cli, hull, md, orderings, relax, sample, structures

STUDY = ("potential=LiPSCl-study",)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("relax") / "lake")


def test_a_structure_at_rest(lake: Lake) -> None:
    (cell,) = structures.run(structures.Config(inversion=0.5, decoration="ewald"), lake)
    config = relax.Config(cell, settings=STUDY, fmax=0.05)
    (run_id,) = relax.run(config, lake)
    record, data = lake.record(run_id), lake.open_run(run_id)
    assert record.inputs == [cell]
    assert record.parameters["inversion"] == 0.5
    assert np.linalg.norm(data["forces"], axis=1).max() < 0.05
    assert np.abs(data["stress"]).max() * float(data["volume"]) / 52 < 0.05  # eV, as the filter counts it
    atoms = structures.to_atoms(data)
    before = structures.to_atoms(lake.open_run(cell))
    atoms.calc = before.calc = calculator("mtp", potential="LiPSCl-study")
    assert float(data["energy"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert float(data["energy"]) < before.get_potential_energy() - 0.1
    assert atoms.arrays["site"].tolist() == before.arrays["site"].tolist()
    assert relax.run(config, lake) == [run_id]
    # What is at rest stays there; the cell is kept if it is asked for.
    (again,) = relax.run(replace(config, structure=run_id, cell=False), lake)
    assert int(lake.open_run(again)["steps"]) <= 1
    np.testing.assert_array_equal(lake.open_run(again)["cell"], data["cell"])


def test_what_does_not_come_to_rest_is_a_failure(lake: Lake, tmp_path: Path) -> None:
    (cell,) = structures.run(structures.Config(phase="Li3PS4"), lake)
    config = relax.Config(cell, settings=STUDY, steps=2)
    with pytest.raises(CalculatorError, match=r"Li6P2S8: forces of .* after 2 steps, 0.03 were asked for") as first:
        relax.run(config, lake)
    (failed,) = lake.search("relax-failed")
    assert failed.id in str(first.value)
    assert failed.inputs == [cell]
    assert float(lake.open_run(failed.id)["steps"]) == 2
    with pytest.raises(CalculatorError, match=failed.id):  # told again, not computed again
        relax.run(config, lake)
    assert len(lake.search("relax-failed")) == 1
    assert not [r for r in lake.search("relax") if r.inputs == [cell]]


def test_what_failed_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Relaxations that came to no end or whose engine failed, dynamics that became unphysical or were left."""
    lake = Lake(tmp_path / "lake")
    (cell,) = structures.run(structures.Config(phase="LiCl"), lake)
    mended = str(tmp_path / "mended")
    broken = ("calls=3", f"mended={mended}")
    hot = md.Config(
        cell, potential="LiPSCl-study", segments=(md.Segment("produce", "nvt", duration_ps=0.1),), sample_ps=0.02,
        max_temperature_factor=0.01, grade_every=0,
    )  # fmt: skip
    by_ase = replace(hot, calculator="faulty_calculator:Breaking", settings=broken, max_temperature_factor=9.0)
    for stage, config, error in (
        (relax, relax.Config(cell, settings=STUDY, steps=1, fmax=1e-6), CalculatorError),
        (relax, relax.Config(cell, "faulty_calculator:Breaking", broken, fmax=1e-6), CalculatorError),
        (md, hot, SimulationError),
        (md, by_ase, CalculatorError),
        (sample, sample.Config(cell, calculator="faulty_calculator:Breaking", settings=broken), CalculatorError),
    ):
        with pytest.raises(error):
            stage.run(config, lake)
    assert _cli.main(["lake", "failures", "--lake", str(lake.path)]) == 0
    *said, count = capsys.readouterr().out.splitlines()
    assert count == "5 failures"
    wanted = [
        r"md \w{20}  LiCl  mtp LiPSCl-study: step \d+ .*: temperature \d+ K is above",
        r"md \w{20}  LiCl  faulty_calculator:Breaking: CalculatorError: after step \d+ .*: the calculator failed: Mem",
        r"relax \w{20}  LiCl  faulty_calculator:Breaking: CalculatorError: relaxation of Cl4Li4: out of memory",
        r"relax \w{20}  LiCl  mtp LiPSCl-study: relaxation of Cl4Li4: forces of .* after 1 steps, 1e-06 were asked",
        r"sample \w{20}  LiCl  faulty_calculator:Breaking: CalculatorError: after step .* out of memory on the accel",
    ]
    for pattern in wanted:
        assert sum(bool(re.match(pattern, line)) for line in said) == 1, (pattern, said)
    _cli.main(["lake", "failures", "--lake", str(lake.path), "--calculator", "mtp"])
    assert capsys.readouterr().out.splitlines()[-1] == "2 failures"
    # What was mended is no failure any more.
    Path(mended).touch()
    relax.run(relax.Config(cell, "faulty_calculator:Breaking", broken, fmax=0.05), lake)
    relax.run(relax.Config(cell, "faulty_calculator:Breaking", broken, fmax=1e-6), lake)
    _cli.main(["lake", "failures", "--lake", str(lake.path)])
    assert capsys.readouterr().out.splitlines()[-1] == "4 failures"


def test_orderings_and_hulls_count_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four arrangements one is not relaxed; hull and figure say so, and the scalars."""
    lake = Lake(tmp_path / "lake")
    whole = orderings.attempt

    def attempt(job: tuple[relax.Config, str]) -> tuple[str, str]:
        attempt.calls += 1  # type: ignore[attr-defined]
        return ("", "it would not") if attempt.calls == 2 else whole(job)  # type: ignore[attr-defined]

    attempt.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(orderings, "attempt", attempt)
    flags = ["--x", "1", "--inversion", "1", "--phases", "LiCl", "Li2S", "Li3PS4", "--settings", *STUDY]
    command = ["hull", *flags, "--arrangements", "2", "--fmax", "0.2", "--lake", str(lake.path)]
    assert _cli.main(command) == 0
    captured = capsys.readouterr()
    assert "1 of 2 relaxations failed; argyase lake failures tells why" in captured.err
    for record in (lake.record(captured.out.split()[-1]), lake.search("orderings")[0]):
        assert (record.scalars["relaxations"], record.scalars["failed"]) == (2, 1)
    notes = []
    monkeypatch.setattr("argyase.figures.energies.footnote", lambda figure, note: notes.append(note))
    _cli.main(["figures", captured.out.split()[-1], "--lake", str(lake.path), "--figures", str(tmp_path)])
    assert notes[0].endswith("; 1 of 2 relaxations failed")


def test_orderings(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--x", "0", "--inversion", "0.5", "--settings", *STUDY, "--arrangements", "2", "--fmax", "0.1"]
    assert _cli.main(["orderings", *flags, "--lake", str(lake.path)]) == 0
    run_id = capsys.readouterr().out.split()[-1]
    record, data = lake.record(run_id), lake.open_run(run_id)
    assert data["multiplicity"].values.tolist() == [12, 24]
    assert set(record.inputs) == set(data["run"].values.ravel().tolist())
    for n, m in np.ndindex(2, 2):
        found = lake.record(str(data["run"].values[n, m]))
        assert float(data["relaxed_energy"][n, m]) == found.scalars["energy_per_atom"]
        built = lake.open_run(found.inputs[0])
        symbols, letters = built["species"].values, built["site"].values
        for letter in ("4a", "4d"):
            chlorine = sorted((symbols[letters == letter] == "Cl").tolist())
            assert chlorine == sorted(data[f"halide_{letter}"].values[n].astype(bool).tolist())
    lowest = data["relaxed_energy"].min("arrangement")
    np.testing.assert_array_equal(data["energy_per_atom"], lowest)
    np.testing.assert_allclose(data["energy_per_formula_unit"], 13 * lowest)
    assert record.scalars["lowest_energy_per_atom"] == float(lowest.min())
    assert lake.record(str(record.scalars["lowest_run"])).scalars["energy_per_atom"] == float(lowest.min())


def test_orderings_screened_by_another(lake: Lake) -> None:
    config = orderings.Config(
        0.0, 0.5, calculator="mtp", settings=("potential=LiPSCl-7net-L10",), screen="mtp", screen_settings=STUDY,
        arrangements=2, fmax=0.1,
    )  # fmt: skip
    (run_id,) = orderings.run(config, lake)
    data = lake.open_run(run_id)
    assert np.isfinite(data["relaxed_energy"]).sum("arrangement").values.tolist() == [1, 1]
    (screened,) = [r for r in lake.search("orderings") if r.id != run_id]
    np.testing.assert_array_equal(data["lowest"], lake.open_run(screened.id)["lowest"])
    for relaxed in lake.record(run_id).inputs:  # begins where the other ended
        assert lake.record(lake.record(relaxed).inputs[0]).stage == "relax"


def test_orderings_of_which_none_comes_to_rest(lake: Lake) -> None:
    config = orderings.Config(1.0, 1.0, settings=STUDY, arrangements=1, steps=1)
    with pytest.raises(CalculatorError, match="none of 1 relaxations of Li5PS4Cl2 at inversion 1 came to rest"):
        orderings.run(config, lake)


def test_hull_and_its_figure(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--x", "0.75", "1", "--inversion", "1", "--phases", "LiCl", "Li2S", "Li3PS4", "--settings", *STUDY]
    command = ["hull", *flags, "--arrangements", "1", "--fmax", "0.1", "--lake", str(lake.path)]
    assert _cli.main(command) == 0
    said = capsys.readouterr().out
    run_id = said.split()[-1]
    data = lake.open_run(run_id)
    assert {data.sizes["x"], data.sizes["inversion"]} == {2, 1}
    for name in ("LiCl", "Li2S", "Li3PS4"):
        relaxed = lake.record(str(data["reference_run"].sel(reference=name).item()))
        assert float(data["reference_energy"].sel(reference=name)) == relaxed.scalars["energy_per_atom"]
        assert relaxed.parameters["formula"] == name
    for x in (0.75, 1.0):
        point = data.sel(x=x, inversion=1.0)
        assert float(point["energy"]) == lake.record(point["run"].item()).scalars["energy_per_atom"]
    references = dict(zip(data["reference"].values.tolist(), data["reference_energy"].values.tolist(), strict=True))
    expected = compute_hull([0.75, 1.0], [1.0], data["energy"].values, references, [300.0, 600.0])
    for name in ("energy_above_hull", "free_energy_above_hull", "reaction_energy", "amount"):
        np.testing.assert_allclose(data[name], expected[name], atol=1e-9)
    before = sorted(r.id for r in lake.search())
    assert _cli.main(command) == 0
    assert sorted(r.id for r in lake.search()) == before
    assert _cli.main(["figures", run_id, "--lake", str(lake.path), "--figures", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"hull.png", "hull.svg", "hull.pdf"}


def test_wrong_requests(lake: Lake) -> None:
    with pytest.raises(ConfigError, match=r"needed are Li3PS4, Li2S, LiCl, and all of Li, P, S or none"):
        hull.run(hull.Config(phases=("LiCl", "Li2S", "Li3PS4", "S"), settings=STUDY), lake)
    with pytest.raises(ConfigError, match=r"no inversion of \[0.0\] is as large as an x of \[0.5\]"):
        hull.run(hull.Config(x=(0.5,), inversion=(0.0,), settings=STUDY), lake)
    with pytest.raises(ConfigError, match=r"orderings\.arrangements = 0"):
        orderings.run(orderings.Config(arrangements=0, settings=STUDY), lake)
