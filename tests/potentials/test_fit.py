"""The trainer: rows of the design matrix, loss and gradient, and what a fit finds."""

import copy
import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st
from motep.io.mlip.mtp import read_mtp as motep_read_mtp
from motep.loss import LossFunction, LossSetting
from numpy.typing import NDArray
from strategies import SPECIES, mlip_potential, random_atoms, random_potential, seeds

from argyase.errors import ConfigError, StatisticsError
from argyase.potentials import _mtp
from argyase.potentials.basis import untrained
from argyase.potentials.fit import Fit, FitSettings, Labels, LossWeights, fit, predict, random_start, restart
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, format_mtp, write_mtp

LEVELS = (2, 4, 6, 8, 10, 12)


def rows_of(potential: MTPFile, frames: list[Atoms], *, radial: bool, threads: int = 1) -> NDArray[np.float64]:
    text = format_mtp(potential)
    native = _mtp.Frames(text, "p")
    for atoms in frames:
        types = np.array([SPECIES.index(s) for s in atoms.get_chemical_symbols()], dtype=np.int32)
        native.add(types, atoms.positions, atoms.cell.complete().array, atoms.pbc)
    design = _mtp.Design(text, "p", threads)
    count = sum(3 * len(a) + 7 for a in frames)
    columns = design.linear_columns + (design.radial_columns if radial else 0)
    out = np.full((count, columns + design.padding), np.nan)
    design.compute(native, 0, len(frames), radial, np.ones(count), out)
    return out[:, :columns]


def labelled(frames: list[Atoms], calculator: MTP, noise: float = 0.0, seed: int = 0) -> list[Atoms]:
    """Frames with the results of a potential as their labels, forces with noise (eV/A)."""
    rng = np.random.default_rng(seed)
    out = []
    for n, atoms in enumerate(frames):
        calculator.calculate(atoms)
        r = calculator.results
        forces = r["forces"] + noise * rng.normal(size=r["forces"].shape)
        stress = {"stress": r["stress"]} if atoms.cell.rank == 3 else {}
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(frame, energy=r["energy"], forces=forces, **stress)
        frame.info.update(trajectory=f"t{n // 3}", group="ab"[n % 2])
        out.append(frame)
    return out


# ---- rows ----


@given(st.sampled_from(LEVELS), st.integers(1, 4), st.booleans(), seeds)
@settings(max_examples=25, deadline=None)
def test_rows_are_derivatives(level: int, species: int, periodic: bool, seed: int) -> None:
    check_rows(level, species, periodic, seed)


def test_rows_of_level_20() -> None:
    check_rows(20, 2, True, 1)


def check_rows(level: int, species: int, periodic: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    potential = random_potential(level, species, rng)
    frames = [random_atoms(rng, n, species, periodic=periodic) for n in (1, 4, 7)]
    rows = rows_of(potential, frames, radial=True)
    linear = np.concatenate([potential.species_coeffs, potential.moment_coeffs])
    # The energy is linear in them: rows times coefficients are what the MD kernel computes.
    expected = []
    for atoms in frames:
        calculator = MTP(potential, SPECIES[:species])
        calculator.calculate(atoms)
        r = calculator.results
        _, _, virial, _, _ = calculator.kernel.compute(
            calculator._types(atoms), atoms.positions, atoms.cell.complete().array, atoms.pbc
        )
        xx, yy, zz = np.diag(virial)
        voigt = [xx, yy, zz, *((virial[a, b] + virial[b, a]) / 2 for a, b in ((1, 2), (0, 2), (0, 1)))]
        expected.append(np.concatenate([[r["energy"]], r["forces"].ravel(), voigt]))
    flat = np.concatenate(expected)
    size = np.abs(flat).max()
    # 200 sums of numbers of mixed sign, and another order of summation.
    np.testing.assert_allclose(rows[:, : len(linear)] @ linear, flat, rtol=0, atol=1e-11 * size)
    # Differences of the radial coefficients: rounding 1e-15 / h, and h^2 times the third derivative.
    direction, h = rng.normal(size=potential.radial_coeffs.shape), 1e-5

    def shifted(by: float) -> NDArray[np.float64]:
        moved = replace(potential, radial_coeffs=potential.radial_coeffs + by * direction)
        return rows_of(moved, frames, radial=False) @ linear

    numeric = (shifted(h) - shifted(-h)) / (2 * h)
    analytic = rows[:, len(linear) :] @ direction.ravel()
    np.testing.assert_allclose(analytic, numeric, rtol=0, atol=1e-7 * (np.abs(numeric).max() + size))


def test_rows_do_not_depend_on_threads_or_on_batches() -> None:
    rng = np.random.default_rng(3)
    potential = random_potential(8, 3, rng)
    frames = [random_atoms(rng, n, 3) for n in (3, 11, 2, 7, 5)]
    alone = [rows_of(potential, [atoms], radial=True) for atoms in frames]
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(rows_of(potential, frames, radial=True, threads=threads), np.concatenate(alone))


def test_wrong_shapes_are_refused() -> None:
    rng = np.random.default_rng(0)
    text = format_mtp(random_potential(6, 2, rng))
    frames, design = _mtp.Frames(text, "p"), _mtp.Design(text, "p")
    types = np.zeros(2, dtype=np.int32)
    positions, cell, pbc = np.array([[0.0, 0, 0], [0, 0, 2]]), 5 * np.eye(3), np.ones(3, dtype=bool)
    frames.add(types, positions, cell, pbc)
    columns = design.linear_columns + design.radial_columns
    with pytest.raises(ValueError, match="too small"):
        design.compute(frames, 0, 1, True, np.ones(13), np.empty((13, columns)))
    with pytest.raises(ValueError, match="one for each row"):
        design.compute(frames, 0, 1, True, np.ones(12), np.empty((13, columns + 16)))
    with pytest.raises(ValueError, match="no such frames"):
        design.compute(frames, 0, 2, True, np.ones(13), np.empty((13, columns + 16)))
    with pytest.raises(ValueError, match="is not one of the 2 species"):
        frames.add(types + 2, positions, cell, pbc)
    with pytest.raises(ValueError, match="no volume"):
        frames.add(types, positions, np.zeros((3, 3)), pbc)
    other = _mtp.Frames(format_mtp(random_potential(6, 3, rng)), "p")
    with pytest.raises(ValueError, match="made for other species"):
        design.compute(other, 0, 0, True, np.ones(0), np.empty((1, columns + 16)))


# ---- loss ----


@pytest.mark.parametrize("level", [4, 8, 12])
def test_loss_and_gradient_equal_motep(level: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(level)
    potential = random_potential(level, 3, rng)
    # motep needs two neighbours at least, and reads stress of all frames or of none.
    frames = [random_atoms(rng, n, 3) for n in (5, 8, 6)]
    images = labelled(frames, MTP(random_potential(6, 3, rng), SPECIES[:3]))
    write_mtp(tmp_path / "p.mtp", potential)
    data = motep_read_mtp(tmp_path / "p.mtp")
    data.species = [3, 15, 16]
    data.optimized = ["moment_coeffs", "species_coeffs", "radial_coeffs"]
    setting = LossSetting(energy_weight=1.0, forces_weight=0.03, stress_weight=0.002, mgrad_weight=0.0)
    theirs = LossFunction([copy.copy(a) for a in images], data, setting, engine="numpy")
    value = theirs(data.parameters)
    their_gradient = theirs.jac(data.parameters)
    ours = Fit(
        potential,
        SPECIES[:3],
        Labels.of(images),
        FitSettings(LossWeights(1.0, 0.03, 0.002), ridge_radial=0.0, ridge_linear=0.0),
    )
    loss, radial, species, moments = ours.gradient(potential)
    assert loss == pytest.approx(value, rel=1e-10)
    assert ours.loss(potential) == pytest.approx(value, rel=1e-10)
    gradient = np.concatenate([moments, species, radial.ravel()])
    np.testing.assert_allclose(gradient, their_gradient, rtol=0, atol=1e-9 * np.abs(their_gradient).max())


@given(seeds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_gradient_is_that_of_the_loss(seed: int, with_prior: bool) -> None:
    # With ridges, weights of groups and forces, and a molecule, which has no stress.
    rng = np.random.default_rng(seed)
    potential = random_potential(6, 2, rng)
    frames = [random_atoms(rng, n, 2, periodic=n != 3) for n in (4, 3, 6)]
    frames[1].cell[:] = 0
    images = labelled(frames, MTP(random_potential(4, 2, rng), SPECIES[:2]), noise=0.1)
    weights = LossWeights(0.7, 0.02, 0.003, scale_by_force=0.25, groups={"a": 3.0})
    prior = random_potential(6, 2, rng) if with_prior else None
    problem = Fit(
        potential,
        SPECIES[:2],
        Labels.of(images),
        FitSettings(weights, ridge_radial=0.01, ridge_linear=0.02),
        prior=prior,
    )
    loss, *gradients = problem.gradient(potential)
    assert loss == pytest.approx(problem.loss(potential), rel=1e-9)
    names = ("radial_coeffs", "species_coeffs", "moment_coeffs")
    directions = [rng.normal(size=g.shape) for g in gradients]

    def at(h: float) -> float:
        moved = {n: getattr(potential, n) + h * d for n, d in zip(names, directions, strict=True)}
        return problem.loss(replace(potential, **moved))

    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    h = 1e-5
    # Rounding of the loss, 1e-15 / h, and h^2 of the third derivative, which is of the order of the loss.
    assert slope == pytest.approx((at(h) - at(-h)) / (2 * h), abs=1e-6 * (abs(loss) + abs(slope)))


@given(seeds, st.floats(0.5, 2.0))
@settings(max_examples=10, deadline=None)
def test_a_prior_tells_the_shape_and_labels_the_size(seed: int, hardness: float) -> None:
    rng = np.random.default_rng(seed)
    prior = random_potential(6, 2, rng)
    shape = prior.moment_coeffs
    frames = [random_atoms(rng, n, 2) for n in (4, 3, 6, 5)]
    # A teacher that is harder by a factor, with free atoms of its own: no ridge keeps the fit from it.
    harder = replace(prior, moment_coeffs=hardness * shape, species_coeffs=10 * rng.normal(size=2))
    ridges = FitSettings(ridge_radial=1e8, ridge_linear=1e8, max_iterations=3)
    labels = Labels.of(labelled(frames, MTP(harder, SPECIES[:2])))
    # The rounding of the equations, 2e-16 of the ridge, is divided by what labels say of the size, which is little
    # where hardly an atom has a neighbour: in 300 such cases up to 1e-9 with this ridge, and 2e-5 with the one below.
    weaker = replace(ridges, ridge_radial=1e4, ridge_linear=1e4)
    solved, _ = Fit(prior, SPECIES[:2], labels, weaker, prior=prior).solve_linear(prior)
    np.testing.assert_allclose(solved.moment_coeffs, hardness * shape, atol=1e-7 * np.abs(shape).max())
    # Any other teacher: a strong ridge leaves a multiple of the prior, at its radial coefficients.
    other = Labels.of(labelled(frames, MTP(random_potential(4, 2, rng), SPECIES[:2]), noise=0.1))
    found = fit(prior, SPECIES[:2], other, ridges, prior=prior).potential
    np.testing.assert_allclose(found.radial_coeffs, prior.radial_coeffs, atol=1e-5)
    along = (found.moment_coeffs @ shape) / (shape @ shape) * shape
    np.testing.assert_allclose(found.moment_coeffs, along, atol=1e-5 * np.abs(shape).max())


def test_a_prior_of_another_kind_is_refused() -> None:
    rng = np.random.default_rng(2)
    potential = random_potential(6, 2, rng)
    labels = Labels.of(labelled([random_atoms(rng, 4, 2)], MTP(potential, SPECIES[:2])))
    with pytest.raises(ConfigError, match="the prior is of another level"):
        Fit(potential, SPECIES[:2], labels, prior=random_potential(4, 2, rng))


def test_loss_is_what_it_is_said_to_be() -> None:
    rng = np.random.default_rng(11)
    potential = random_potential(6, 2, rng)
    images = labelled([random_atoms(rng, n, 2) for n in (4, 7, 5)], MTP(random_potential(4, 2, rng), SPECIES[:2]))
    for atoms, weight in zip(images, (2.0, 0.0, 0.5), strict=True):
        atoms.info["weight"] = weight
    s, groups = 0.3, {"a": 3.0}
    settings = FitSettings(LossWeights(0.7, 0.02, 0.003, s, groups), ridge_radial=0.01, ridge_linear=0.02)
    expected = 0.01 * (potential.radial_coeffs**2).sum() + 0.02 * (potential.moment_coeffs**2).sum()
    for atoms in images:
        found = atoms.copy()
        found.calc = MTP(potential, SPECIES[:2])
        energy = (found.get_potential_energy() - atoms.get_potential_energy()) / len(atoms)
        force = atoms.get_forces()
        forces = (s / (s + (force**2).sum(axis=1)) * ((found.get_forces() - force) ** 2).sum(axis=1)).mean()
        stress = atoms.get_volume() / len(atoms) * (found.get_stress(voigt=False) - atoms.get_stress(voigt=False))
        terms = 0.7 * energy**2 + 0.02 * forces + 0.003 * (stress**2).sum()
        expected += atoms.info["weight"] * groups.get(atoms.info["group"], 1.0) * terms / len(images)
    problem = Fit(potential, SPECIES[:2], Labels.of(images), settings)
    # Energies of 1e2 eV, of which squares of differences are taken.
    assert problem.loss(potential) == pytest.approx(expected, rel=1e-10)
    assert problem.gradient(potential)[0] == pytest.approx(expected, rel=1e-9)


def test_linear_coefficients_are_the_least_squares_ones() -> None:
    rng = np.random.default_rng(5)
    potential = random_potential(8, 2, rng)
    frames = [random_atoms(rng, 6, 2) for _ in range(6)]
    labels = Labels.of(labelled(frames, MTP(random_potential(10, 2, rng), SPECIES[:2])))
    problem = Fit(potential, SPECIES[:2], labels, FitSettings(LossWeights(1.0, 0.01, 0.001), 0.0, 0.0))
    solved, loss = problem.solve_linear(potential)
    root = problem._rows.root[:, None]
    design = root * rows_of(potential, labels.frames, radial=False)
    virials = [labels.stresses[n] * a.get_volume() for n, a in enumerate(labels.frames)]
    target = np.concatenate(
        [np.concatenate([[e], f.ravel(), v]) for e, f, v in zip(labels.energies, labels.forces, virials, strict=True)]
    )
    x, residual, rank, _ = np.linalg.lstsq(design, root[:, 0] * target, rcond=None)
    assert rank == design.shape[1]
    # Normal equations square the condition number (1e4 here): 1e-16 x 1e8.
    np.testing.assert_allclose(np.concatenate([solved.species_coeffs, solved.moment_coeffs]), x, rtol=1e-6, atol=1e-8)
    assert loss == pytest.approx(float(residual[0]), rel=1e-8)
    # And no better ones: the loss has no slope.
    value, _, of_species, of_moments = problem.gradient(solved)
    size = np.abs(problem.gradient(replace(solved, moment_coeffs=0 * solved.moment_coeffs))[3]).max()
    assert value == pytest.approx(loss, rel=1e-8)
    assert max(np.abs(of_species).max(), np.abs(of_moments).max()) < 1e-7 * size


# ---- fits ----


def known(seed: int, count: int = 24) -> tuple[MTPFile, list[Atoms]]:
    rng = np.random.default_rng(seed)
    potential = random_potential(6, 2, rng)
    frames = [random_atoms(rng, 8, 2, apart=1.6) for _ in range(count)]
    return potential, labelled(frames, MTP(potential, SPECIES[:2]))


def test_finds_a_potential_of_the_same_form() -> None:
    truth, images = known(2)
    labels = Labels.of(images)
    rng = np.random.default_rng(7)
    near = replace(truth, radial_coeffs=truth.radial_coeffs + 0.05 * rng.normal(size=truth.radial_coeffs.shape))
    result = fit(near, SPECIES[:2], labels, FitSettings(ridge_radial=0.0, ridge_linear=0.0, tolerance=1e-9))
    # Without noise and ridge the loss can go to zero; it falls quadratically until rounding (energies of 1e2 eV).
    assert result.losses[0] > 1e-4
    assert result.losses[-1] < 1e-9 * result.losses[0]
    errors = predict(MTP(result.best, SPECIES[:2]), labels).errors()
    assert errors.force_rmse < 1e-4
    assert errors.energy_rmse < 1e-2
    assert all(b <= a for a, b in itertools.pairwise(result.losses))


def test_random_starts_and_held_out_trajectories() -> None:
    _, images = known(3, 30)
    training, held_out = Labels.of(images).hold_out(0.2, seed=1)
    template = replace(mlip_potential("cubic-06"), max_dist=5.0, radial_coeffs=np.empty((0, 0, 2, 8)))
    settings = FitSettings(max_iterations=15, threads=2)
    result = fit(template, SPECIES[:2], training, settings, held_out=held_out, seeds=(1, 2), trial_iterations=3)
    # 15 steps from nothing: forces of both sets are described far better than by no potential.
    for labels in (training, held_out):
        predicted = predict(MTP(result.best, SPECIES[:2]), labels)
        size = float(np.sqrt((predicted.forces[..., 0] ** 2).mean()))
        assert predicted.errors().force_rmse < 0.1 * size
    assert min(result.held_out) < result.held_out[0]
    assert result.finished
    assert result.lowest == min(result.held_out)
    # The errors on the way are those of predictions.
    calculator = MTP(result.potential, SPECIES[:2])
    assert len(result.errors) == len(result.losses)
    for stated, labels in zip(result.errors[-1], (training, held_out), strict=True):
        assert astuple(stated) == pytest.approx(astuple(predict(calculator, labels).errors()), rel=1e-6)
    problem = Fit(result.best, SPECIES[:2], training, settings, held_out)
    assert problem._held_out is not None
    assert problem._evaluate(problem._held_out, result.best)[0] == pytest.approx(min(result.held_out), rel=1e-9)


def test_goes_on_where_it_was() -> None:
    _, images = known(4)
    labels = Labels.of(images)
    start = random_start(replace(mlip_potential("cubic-06"), max_dist=5.0), labels, SPECIES[:2], seed=1)
    settings = FitSettings(max_iterations=6, tolerance=0.0)
    whole = list(
        Fit(start, SPECIES[:2], labels, settings).steps(Fit(start, SPECIES[:2], labels, settings).start(start))
    )
    again = Fit(start, SPECIES[:2], labels, settings)
    rest = list(again.steps(whole[2]))
    assert [s.losses for s in rest] == [s.losses for s in whole[3:]]
    assert rest[-1].best == whole[-1].best
    assert whole[-1].finished == "6 iterations"


@pytest.mark.parametrize(("level", "size", "from_mlip"), [(6, 10, False), (10, 8, True), (12, 9, True)])
def test_restarts_have_the_loss_that_they_end_with(level: int, size: int, from_mlip: bool) -> None:
    # From another program's order of moments or ours, and labels with distances below the range of the potential.
    _, images = known(6, 8)
    labels = Labels.of(images)
    template = mlip_potential("cubic-06") if from_mlip else untrained(6)
    low = random_start(replace(template, max_dist=5.0), labels, SPECIES[:2], seed=1)
    low = replace(low, min_dist=low.min_dist + 0.4)
    settings = FitSettings(ridge_radial=0.0, ridge_linear=0.0, max_iterations=3)
    end = fit(replace(low, moment_coeffs=np.ones(len(low.moment_coeffs))), SPECIES[:2], labels, settings).best
    assert labels.smallest_distance(5.0) < end.min_dist
    start = restart(end, labels, level, size)
    assert 0.9 * labels.smallest_distance(5.0) < start.min_dist < labels.smallest_distance(5.0)
    assert (start.radial_basis_size, len(start.moment_coeffs)) == (size, len(untrained(level).alpha_moment_mapping))
    before = Fit(end, SPECIES[:2], labels, settings).loss(end)
    problem = Fit(start, SPECIES[:2], labels, settings)
    # Old functions written with new coefficients: rounding, of energies of 1e2 eV.
    assert problem.loss(start) == pytest.approx(before, rel=1e-6)
    assert problem.start(start).losses[0] <= before * (1 + 1e-6)


def test_stops_when_held_out_frames_get_worse() -> None:
    # Two frames with noise, and as many coefficients as numbers: what is learnt is the noise.
    rng = np.random.default_rng(1)
    frames = [random_atoms(rng, 6, 2) for _ in range(12)]
    images = labelled(frames, MTP(random_potential(4, 2, rng), SPECIES[:2]), noise=2.0)
    labels = Labels.of(images)
    training, held_out = labels.take([0, 1]), labels.take(range(2, 12))
    start = random_start(replace(mlip_potential("cubic-08"), max_dist=5.0), training, SPECIES[:2], seed=1)
    settings = FitSettings(ridge_radial=1e-8, patience=3, tolerance=0.0)
    result = fit(start, SPECIES[:2], training, settings, held_out=held_out)
    assert result.finished == "the loss of held-out frames has not fallen for 3 iterations"
    lowest = int(np.argmin(result.held_out))
    assert len(result.held_out) == lowest + 1 + 3
    assert result.best != result.potential


def in_trajectories(names: Sequence[str]) -> Labels:
    """Frames of these trajectories, numbered by their energies."""
    n = len(names)
    energies, forces = np.arange(n, dtype=float), [np.zeros((1, 3))] * n
    return Labels([Atoms("H")] * n, energies, forces, [None] * n, [""] * n, list(names), np.ones(n))


def chance(name: str, seed: int) -> float:
    """As it is described: a hash of the seed and the name, as a number from 0 to 1."""
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:16], 16) / 16**16


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.floats(0.1, 0.6), st.integers(0, 99), st.randoms())
def test_whole_trajectories_are_held_out(numbers: list[int], fraction: float, seed: int, random: Random) -> None:
    n, names = len(numbers), {f"t{k}" for k in numbers}
    labels = in_trajectories([f"t{k}" for k in numbers])
    expected = {t for t in names if chance(t, seed) < fraction} or {min(names, key=lambda t: chance(t, seed))}
    if expected == names:
        with pytest.raises(ConfigError, match=f"hold-out: {n} of {n} frames .* another fraction or seed"):
            labels.hold_out(fraction, seed)
        return
    training, held_out = labels.hold_out(fraction, seed)
    assert set(held_out.trajectories) == expected
    assert not expected & set(training.trajectories)
    assert sorted([*training.energies, *held_out.energies]) == list(range(n))
    named, rest = labels.hold_out(0.0, 0, names=[held_out.trajectories[0]])
    assert set(rest.trajectories) == {held_out.trajectories[0]}
    assert len(named) + len(rest) == n
    # Neither the order of frames nor their number has a say.
    order = list(range(n))
    random.shuffle(order)
    assert set(labels.take([*order, *order]).hold_out(fraction, seed)[1].trajectories) == expected


@given(
    st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12), min_size=2, max_size=6),
    st.floats(0.02, 0.5),
    st.integers(0, 99),
)
def test_what_was_trained_on_is_never_held_out_later(rounds: list[list[int]], fraction: float, seed: int) -> None:
    """In active learning a fit goes on from that of the round before: what it saw is no test any more."""
    names: list[str] = []
    seen: set[str] = set()
    for added in rounds:
        names += [f"run-{k}" for k in added]
        try:
            training, held_out = in_trajectories(names).hold_out(fraction, seed)
        except ConfigError:  # all of them, or the only one: nothing was fitted
            continue
        assert not set(held_out.trajectories) & seen
        seen |= set(training.trajectories)


def test_the_held_out_fraction_is_met_on_average() -> None:
    names = [f"{k // 5:020x}" for k in range(10_000)]  # 2000 trajectories of five frames
    sizes = [len(in_trajectories(names).hold_out(0.1, seed)[1]) / len(names) for seed in range(20)]
    # Of a binomial distribution, 2000 draws of 0.1: each within five standard deviations, so their mean.
    deviation = math.sqrt(0.1 * 0.9 / 2000)
    assert np.abs(np.array(sizes) - 0.1).max() < 5 * deviation
    assert abs(np.mean(sizes) - 0.1) < 5 * deviation / math.sqrt(20)
    assert len(set(sizes)) > 10  # other seeds, other choices


def test_groups_that_are_never_held_out() -> None:
    groups = ["Li2S squeeze", "md", "LiCl squeeze", "md", "rattle", "md"]
    labels = Labels(
        [Atoms("H")] * 6, np.zeros(6), [np.zeros((1, 3))] * 6, [None] * 6, groups, list("abcdef"), np.ones(6)
    )  # fmt: skip
    for seed in range(20):
        training, held_out = labels.hold_out(0.5, seed, never=["*squeeze", "rattle"])
        assert held_out.groups == ["md"] * len(held_out)
        assert {"Li2S squeeze", "LiCl squeeze", "rattle"} <= set(training.groups)
    assert labels.hold_out(0.0, 0, ["a"], never=["*squeeze"])[1].groups == ["Li2S squeeze"]  # named
    with pytest.raises(ConfigError, match="0 of 6 frames"):
        labels.hold_out(0.5, 1, never=["*"])


def test_wrong_labels() -> None:
    plain = Atoms("Li", cell=[5, 5, 5], pbc=True)
    with pytest.raises(StatisticsError, match="frame 0 of the labels has no energy"):
        Labels.of([plain])
    plain.calc = SinglePointCalculator(plain, energy=1.0)
    with pytest.raises(StatisticsError, match="frame 0 of the labels has no energy or no forces"):
        Labels.of([plain])
    plain.calc = SinglePointCalculator(plain, energy=math.nan, forces=np.zeros((1, 3)))
    with pytest.raises(StatisticsError, match="not finite"):
        Labels.of([plain])
    plain.calc = SinglePointCalculator(plain, energy=1.0, forces=np.zeros((1, 3)))
    labels = Labels.of([plain])
    assert labels.stresses == [None]
    for wrong in (-1.0, math.nan, "much"):
        plain.info["weight"] = wrong
        with pytest.raises(ConfigError, match=f"frame 0 of the labels: weight = {wrong!r}: expected a weight >= 0"):
            Labels.of([plain])
    potential = random_potential(2, 1, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="'Li'; the potential knows"):
        Fit(potential, ["S"], labels)
    with pytest.raises(ConfigError, match="no labelled frames"):
        Fit(potential, ["Li"], labels.take([]))
    with pytest.raises(ConfigError, match="no two atoms are within the cutoff"):
        random_start(replace(potential, max_dist=3.0), labels, ["Li"], 1)
    with pytest.raises(ConfigError, match="no trajectory 'x'; there are frame 0"):
        labels.hold_out(0.1, 1, names=["x"])
