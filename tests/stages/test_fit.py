"""``argyase fit``: from labels to a potential that runs, interrupted and resumed."""

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from command import argyase

from argyase.datalake.lake import Lake
from argyase.dynamics.protocols import Segment
from argyase.errors import ConfigError
from argyase.potentials.active import THRESHOLD, ActiveSet, basis
from argyase.potentials.fit import Fit, Labels, predict
from argyase.potentials.model_card import find_potential
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import read_mtp, write_mtp
from argyase.potentials.repulsion import propose, smallest_distances
from argyase.stages import label, md
from argyase.stages._config import from_mapping, load
from argyase.stages._frames import frames_of
from argyase.stages.fit import Config, run, settings_of

STUDY = str(find_potential("LiPSCl-study").path)
ROOT = Path(__file__).parents[2]
RECIPE = "campaigns/LiPSCl-7net-fit.toml"
LABELS = ROOT / "campaigns" / "labels" / "LiPSCl-study-7net0.extxyz.gz"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every eighth labelled frame."""
    path = tmp_path_factory.mktemp("labels") / "labels.extxyz"
    ase.io.write(path, ase.io.read(LABELS, index="::8"))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Labels]:
    """The campaign that makes the shipped potentials, and its labels."""
    settings = load(str(ROOT / RECIPE))["fit"]
    config = from_mapping(Config, {**settings, "labels": [str(ROOT / file) for file in settings["labels"]]}, "fit")
    return config, Labels.of(frames_of(Lake(tmp_path_factory.mktemp("recipe")), config.labels)[0])


def test_the_command_its_files_and_again(labels: Path, tmp_path: Path) -> None:
    command = (
        *(
            "fit",
            "--labels",
            labels,
            "--lake",
            tmp_path / "lake",
            "--level",
            "6",
            "--output",
            tmp_path / "out" / "small.1",
        ),
        *("--group-key", "config_type", "--max-iterations", "6", "--seeds", "1", "2", "--trial-iterations", "2"),
        *("--held-out", "0.2", "--group-weights", "extra=0.5", "melt=2"),
    )
    first = argyase(*command)
    assert first.returncode == 0, first.stderr
    assert "held-out  energy" in first.stderr
    said = " ".join(first.stderr.split())
    assert "no frame is of group 'melt'; there are" in said
    # The file names no trajectories.
    assert re.search(r"warning: (\d+) of \1 held-out frames do not say of which trajectory they are", said)
    run_id = first.stdout.strip()
    lake = Lake(tmp_path / "lake")
    data = lake.open_run(run_id)
    assert data["loss"].values[-1] < 0.5 * data["loss"].values[0]
    assert int(data["frames"].sel(group="all").sum()) == 59
    assert lake.record(run_id).scalars["iterations"] <= 8
    assert not lake.verify(run_id)
    assert not list(lake.file(run_id, "potential.mtp").parent.glob("restart*"))
    # The potential is the one with the lowest loss on held-out frames, and so are its errors.
    lowest = int(data["held_out_loss"].values.argmin())
    for name in ("energy_mae", "energy_rmse", "force_mae", "force_rmse", "stress_mae", "stress_rmse"):
        course = data[f"iteration_{name}"]
        assert course.dims == ("iteration", "set")
        np.testing.assert_allclose(course[lowest], data[name].sel(group="all"), rtol=1e-6)

    # The three files are a potential with repulsion and grades, and its errors are those that the run states.
    found = find_potential(str(tmp_path / "out" / "small.1.mtp"))
    assert found.species == ("Li", "P", "S", "Cl")
    assert set(found.repulsion) == {"Li-Li", "Li-P", "Li-S", "Li-Cl", "P-P", "P-S", "P-Cl", "S-S", "S-Cl", "Cl-Cl"}
    assert found.active_set is not None
    everything = Labels.of(ase.io.read(labels, index=":"), "config_type")
    # As the stage names them: each is one of its own.
    everything = replace(everything, trajectories=[f"{labels.name} {n}" for n in range(len(everything))])
    training, held_out = everything.hold_out(0.2, seed=1)
    calculator = MTP(found.path, found.species)
    errors = predict(calculator, held_out).errors()
    stated = data.sel(set="held-out", group="all")
    # The file has 17 digits: rounding of sums of 1e3 eV.
    assert float(stated["energy_rmse"]) == pytest.approx(errors.energy_rmse, rel=1e-6)
    assert float(stated["force_rmse"]) == pytest.approx(errors.force_rmse, rel=1e-9)
    assert float(stated["stress_rmse"]) == pytest.approx(errors.stress_rmse, rel=1e-9)
    assert found.card["errors"]["force_rmse_eV_per_A"]["all"][1] == pytest.approx(errors.force_rmse, rel=1e-3)
    grades = [ActiveSet.load(found.active_set).grades(basis(calculator, a)).max() for a in training.frames]
    assert max(grades) < THRESHOLD + 1e-6

    begin = time.monotonic()
    again = argyase(*command)
    assert again.stdout.strip() == run_id
    assert "held-out  energy" in again.stderr
    assert time.monotonic() - begin < 30


def test_what_is_held_out_does_not_widen_the_domain(labels: Path, tmp_path: Path) -> None:
    frames = ase.io.read(labels, index=":")
    extreme = [a.info["config_type"] == "extra" for a in frames]
    seen = [a for a, out in zip(frames, extreme, strict=True) if not out]
    config = Config(
        (str(labels),), level=4, seeds=(1,), max_iterations=3, output=str(tmp_path / "own"),
        held_out_trajectories=tuple(f"{labels.name} {n}" for n, out in enumerate(extreme) if out),
    )  # fmt: skip
    run(config, Lake(tmp_path / "lake"))
    found = find_potential(f"{config.output}.mtp")
    assert found.active_set is not None
    calculator = MTP(found.path, found.species)
    rows = np.concatenate([basis(calculator, a) for a in seen])
    scale = np.abs(rows).max(axis=0)

    def strangers(active: ActiveSet) -> int:
        """Rows that are of no atom of a training frame; 1e-9: sums in the order of other neighbours."""
        return sum(np.abs((rows - row) / scale).max(axis=1).min() > 1e-9 for row in active.rows)

    # With the held-out frames both would be others.
    assert strangers(ActiveSet.load(found.active_set)) == 0 < strangers(ActiveSet.select(calculator, frames))
    own, all_of_them = (propose(smallest_distances(part, found.species, config.cutoff)) for part in (seen, frames))
    assert found.repulsion == own != all_of_them


def test_dynamics_with_a_fitted_potential(labels: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    output = tmp_path / "out" / "own"
    run(Config(labels=(str(labels),), level=6, seeds=(1,), max_iterations=8, output=str(output)), lake)
    # From a labelled frame; how hot it becomes is up to a potential of 8 iterations.
    ase.io.write(tmp_path / "POSCAR", next(a for a in ase.io.iread(labels) if len(a) == 52), sort=True)
    md_config = md.Config(
        structure=str(tmp_path / "POSCAR"),
        potential=f"{output}.mtp",
        segments=(Segment("produce", "npt", 0.06),),
        sample_ps=0.01,
        grade_every=5,
        max_temperature_factor=20.0,
    )
    (run_id,) = md.run(md_config, lake)
    record = lake.record(run_id)
    assert record.parameters["potential"] == "own"
    assert set(record.parameters["repulsion"]) == set(find_potential(f"{output}.mtp").repulsion)
    assert len(lake.trajectory(run_id).time) == 6


def test_goes_on_after_a_kill(labels: Path, tmp_path: Path) -> None:
    settings = ["--level", "6", "--max-iterations", "15", "--seeds", "1", "--tolerance", "0", "--patience", "100"]
    command = [sys.executable, "-m", "argyase.stages._cli", "fit", "--labels", str(labels), *settings]
    command += ["--lake", str(tmp_path / "lake"), "--progress", "none", "--threads", "1"]
    # Not from the source tree: there the package has no compiled parts.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    kept: list[Path] = []
    while process.poll() is None and not kept:
        kept = list((tmp_path / "lake" / "work").glob("*/restart.best.npz"))
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert kept, "no iteration was kept"
    with np.load(kept[0]) as state:
        before = state["losses"]
    assert 2 <= len(before) <= 16
    lake = Lake(tmp_path / "lake")
    config = Config(
        labels=(str(labels),), level=6, max_iterations=15, seeds=(1,), tolerance=0.0, patience=100, threads=1
    )
    (run_id,) = run(config, lake)
    losses = lake.open_run(run_id)["loss"].values
    assert len(losses) == 16
    np.testing.assert_array_equal(losses[: len(before)], before)
    # As if nothing had happened: to rounding of the sums.
    (unbroken,) = run(config, Lake(tmp_path / "other"))
    assert unbroken == run_id
    np.testing.assert_allclose(Lake(tmp_path / "other").open_run(run_id)["loss"].values, losses, rtol=1e-6)


def test_from_a_lower_level(labels: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    base = {"labels": (str(labels),), "max_iterations": 4, "seeds": (1,), "held_out": 0.0}
    (low,) = run(Config(**base, level=4, output=str(tmp_path / "low")), lake)
    (high,) = run(Config(**base, level=8, radial_basis_size=9, start=str(tmp_path / "low.mtp")), lake)
    low_losses, high_losses = (lake.open_run(name)["loss"].values for name in (low, high))
    # The same potential, its linear coefficients solved again with more functions.
    assert high_losses[0] <= low_losses[-1] * (1 + 1e-6)
    assert high_losses[-1] < high_losses[0]


@pytest.mark.parametrize("level", [10, 16])
def test_the_recipe_gives_the_shipped_potentials(level: int, recipe: tuple[Config, Labels]) -> None:
    """Their linear coefficients are the best ones for the recipe's labels, weights, ridges and held-out frames."""
    config, labels = recipe
    name = f"LiPSCl-7net-L{level}"
    shipped = find_potential(name)
    training, held_out = labels.hold_out(0.1, 1, config.held_out_trajectories)
    assert len(training) == shipped.card["training"]["frames"]
    assert len(held_out) == shipped.card["training"]["held_out_frames"]
    potential = read_mtp(shipped.path)
    solved, _ = Fit(potential, shipped.species, training, settings_of(config, labels)).solve_linear(potential)
    for coefficients in ("species_coeffs", "moment_coeffs"):
        own, stated = getattr(solved, coefficients), getattr(potential, coefficients)
        # Another set of frames, weights or ridges makes 1e-2. Eigenvectors of eigenvalues down to 1e-13 of the largest
        # are kept (`_solver`), at level 16 there are such: of these the ridge determines how much, to some 1e-9.
        np.testing.assert_allclose(own, stated, rtol=0, atol=1e-6 * np.abs(stated).max())
    # And the pages tell this way.
    for page in ("README.md", "docs/how-to/train-a-potential.md", RECIPE, f"argyase/data/{name}.toml"):
        assert f"argyase fit -c {RECIPE} --level {level} " in (ROOT / page).read_text()


def test_labels_of_two_teachers_are_refused(tmp_path: Path) -> None:
    lake, file = Lake(tmp_path / "lake"), tmp_path / "frames.extxyz"
    ase.io.write(file, [a.copy() for a in ase.io.read(LABELS, index=":2")])
    by = [
        label.run(label.Config((str(file),), "mtp", (f"potential={name}",)), lake)[0]
        for name in ("LiPSCl-study", "LiPSCl-7net-L10")
    ]
    config = Config(labels=tuple(by), level=2, max_iterations=1, seeds=(1,), held_out=0.0)
    with pytest.raises(ConfigError, match=r"potential=LiPSCl-study .* potential=LiPSCl-7net-L10.*: --mixed-teachers"):
        run(config, lake)
    (mixed,) = run(replace(config, mixed_teachers=True), lake)
    assert lake.record(mixed).inputs == by
    for one in by:
        run(replace(config, labels=(one,)), lake)


def test_a_start_of_other_species_is_refused(labels: Path, tmp_path: Path) -> None:
    """The very same numbers of species, in another order, would be another potential."""
    order = ("Li", "P", "Cl", "S")
    config = Config(labels=(str(labels),), species=order, level=10, start="LiPSCl-study")
    with pytest.raises(ConfigError, match="model card of LiPSCl-study says"):
        run(config, Lake(tmp_path / "lake"))
    # Without a card, by the numbers in the file.
    numbered = replace(read_mtp(STUDY), species_types=(3, 15, 16, 17))
    write_mtp(tmp_path / "numbered.mtp", numbered)
    with pytest.raises(ConfigError, match=r"give them in that order: \['Li', 'P', 'S', 'Cl'\]"):
        run(replace(config, start=str(tmp_path / "numbered.mtp")), Lake(tmp_path / "lake"))


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        (["--labels", "none.xyz"], "neither a run of the lake nor a file", 2),
        (["--level", "7"], "level = 7: need an even number from 2 to 28", 2),
        (["--group-weights", "melt"], "'melt': expected a group and a weight >= 0", 2),
        (["--species", "Li", "S"], "the potential knows ['Li', 'S']", 2),
        (["--held-out-trajectories", "t9"], "no trajectory 't9'", 2),
        (["--start", "none.mtp"], "'none.mtp': no such file, and not a shipped potential", 3),
        (["--start", STUDY, "--cutoff", "5"], "cutoff 6 A, not fit.cutoff = 5 A; give --cutoff 6", 2),
        (["--start", STUDY, "--level", "10", "--radial-basis-size", "6"], "has a radial basis of 8, 6 is less", 3),
        (["--never-held-out", "*"], "0 of 59 frames in 59 trajectories would be held out", 2),
    ],
)
def test_wrong_requests(change: list[str], said: str, code: int, labels: Path, tmp_path: Path) -> None:
    command = ["fit", "--labels", labels, "--lake", tmp_path / "lake", "--level", "2", *change]
    done = argyase(*command, cwd=tmp_path) if change[0] != "--labels" else argyase(*command[:1], *change, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())


def test_labels_without_forces(tmp_path: Path) -> None:
    frames = [a.copy() for a in ase.io.read(LABELS, index=":2")]
    with gzip.open(tmp_path / "plain.extxyz.gz", "wt") as file:
        ase.io.write(file, frames, format="extxyz")
    done = argyase("fit", "--labels", tmp_path / "plain.extxyz.gz", "--lake", tmp_path / "lake")
    assert done.returncode == 4
    assert "frame 0 of the labels has no energy" in done.stderr


def test_weights_of_groups_by_patterns() -> None:
    groups = ["P md", "P melt", "Li6PS5Cl md", "Li6PS5Cl melt"]
    n = len(groups)
    frames = Labels([Atoms("H")] * n, np.zeros(n), [np.zeros((1, 3))] * n, [None] * n, groups, groups, np.ones(n))
    config = Config(labels=(), group_weights=("P *=0.1", "* melt=0.3"))
    # The last that fits; without one, 1 (which is said nowhere).
    assert settings_of(config, frames).weights.groups == {"P md": 0.1, "P melt": 0.3, "Li6PS5Cl melt": 0.3}
