"""The moments of a level: how many there are, that they are MLIP's, and that higher levels hold the lower ones."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motep.calculator import MTP as MotepMTP
from motep.io.mlip.mtp import read_mtp as motep_read_mtp
from numpy.typing import NDArray
from strategies import SPECIES, mlip_potential, own_potential, random_atoms, random_potential, seeds

from argyase.errors import ConfigError, PotentialFileError
from argyase.potentials.basis import LEVELS, extend_radial_basis, raise_level, untrained
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import MTPFile, format_mtp, parse_mtp, write_mtp


@pytest.mark.parametrize("level", range(2, 26, 2))
def test_as_many_as_in_mlip(level: int) -> None:
    ours, theirs = untrained(level), mlip_potential(f"cubic-{level:02d}")
    assert len(ours.alpha_moment_mapping) == len(theirs.alpha_moment_mapping)
    assert ours.radial_funcs_count == theirs.radial_funcs_count
    assert sorted(ours.alpha_index_basic.tolist()) == sorted(theirs.alpha_index_basic.tolist())
    assert len(ours.alpha_index_times) <= len(theirs.alpha_index_times)


def scalars(potential: MTPFile, count: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    functions = rng.normal(size=(1, 1, 8, 8))[:, :, : potential.radial_funcs_count]
    plain = replace(
        potential, species_count=1, min_dist=1.5, max_dist=5.0, scaling=0.02, radial_coeffs=functions,
        species_coeffs=np.zeros(1), moment_coeffs=np.zeros(len(potential.alpha_moment_mapping)),
    )  # fmt: skip
    calculator = MTP(plain, ["Li"])
    found = np.concatenate([calculator.scalars(random_atoms(rng, 10, 1))[1] for _ in range(count // 10 + 1)])
    return found / np.linalg.norm(found, axis=0)


@pytest.mark.parametrize("level", range(2, 22, 2))
def test_span_what_those_of_mlip_span(level: int) -> None:
    theirs = mlip_potential(f"cubic-{level:02d}")
    count = 2 * len(theirs.alpha_moment_mapping) + 20
    ours, mlip = scalars(untrained(level), count), scalars(theirs, count)
    for a, b in ((ours, mlip), (mlip, ours)):
        # Columns of length 1; the combination is exact but for rounding, 1e-16 times the condition number, 1e5.
        combination = np.linalg.lstsq(a, b, rcond=1e-12)[0]
        np.testing.assert_allclose(a @ combination, b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("level", LEVELS[1:10])
def test_lower_levels_come_first(level: int) -> None:
    lower, higher = untrained(level - 2), untrained(level)
    np.testing.assert_allclose(
        scalars(higher, 40)[:, : len(lower.alpha_moment_mapping)], scalars(lower, 40), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("level", [6, 12, 16])
def test_motep_computes_the_same(level: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(level)
    potential, atoms = own_potential(level, 2, rng), random_atoms(rng, 8, 2)
    write_mtp(tmp_path / "p.mtp", potential)
    data = motep_read_mtp(tmp_path / "p.mtp")
    data.species = [3, 15]
    theirs, ours = MotepMTP(data, engine="numpy"), MTP(potential, SPECIES[:2])
    theirs.calculate(atoms, ["energy", "forces"])
    ours.calculate(atoms)
    size = np.abs(ours.results["forces"]).max()
    np.testing.assert_allclose(theirs.results["forces"], ours.results["forces"], rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("level", [2, 10])
def test_templates_survive_a_file(level: int) -> None:
    template = untrained(level)
    assert template.is_template
    again = parse_mtp(format_mtp(template), "t", template=True)
    for name in ("alpha_index_basic", "alpha_index_times", "alpha_moment_mapping"):
        np.testing.assert_array_equal(getattr(again, name), getattr(template, name))


def test_factors_of_products_are_made_before() -> None:
    for level in (8, 16, 20):
        template = untrained(level)
        made = len(template.alpha_index_basic)
        for a, b, _, c in template.alpha_index_times.tolist():
            assert max(a, b) < c
            assert c in (made - 1, made)  # one moment after the other
            made = c + 1
        assert made == template.alpha_moments_count


@given(st.sampled_from([2, 4, 8, 10]), st.sampled_from([0, 2, 4]), st.booleans(), seeds)
@settings(max_examples=15, deadline=None)
def test_raised_potentials_are_the_same(level: int, more: int, from_mlip: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = random_potential(level, 2, rng) if from_mlip else own_potential(level, 2, rng)
    high = raise_level(low, level + more)
    assert len(high.alpha_moment_mapping) == len(untrained(level + more).alpha_moment_mapping)
    atoms = random_atoms(rng, 7, 2)
    results = []
    for potential in (low, high):
        calculator = MTP(potential, SPECIES[:2])
        calculator.calculate(atoms)
        results.append(calculator.results)
    size = np.abs(results[0]["forces"]).max() + np.abs(results[0]["energies"]).max()
    for name in ("energies", "forces", "stress"):
        np.testing.assert_allclose(results[1][name], results[0][name], rtol=0, atol=1e-9 * size)


@given(st.floats(0.5, 2.5), st.integers(0, 4), seeds)
@settings(max_examples=25, deadline=None)
def test_another_radial_basis_for_the_same_functions(min_dist: float, more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    potential = own_potential(6, 2, rng)
    other = extend_radial_basis(potential, min_dist, potential.radial_basis_size + more)
    assert (other.min_dist, other.radial_basis_size) == (min_dist, potential.radial_basis_size + more)
    assert not other.radial_coeffs[..., potential.radial_basis_size :].any()
    # The Chebyshev series of numpy, each over its own range, at distances of both.
    r = np.linspace(min(min_dist, potential.min_dist), potential.max_dist, 30)
    series = []
    for p in (potential, other):
        xi = 2 * (r - p.min_dist) / (p.max_dist - p.min_dist) - 1
        series.append(np.polynomial.chebyshev.chebval(xi, np.moveaxis(p.radial_coeffs, -1, 0)))
    # T_7 is 1e3 at most beyond its range here, and so are coefficients of the wider one.
    np.testing.assert_allclose(series[1], series[0], rtol=0, atol=1e-11 * np.abs(series[0]).max())
    atoms = random_atoms(rng, 7, 2)
    results = []
    for p in (potential, other):
        calculator = MTP(p, SPECIES[:2])
        calculator.calculate(atoms)
        results.append(calculator.results)
    size = np.abs(results[0]["forces"]).max() + np.abs(results[0]["energies"]).max()
    for name in ("energies", "forces", "stress"):
        np.testing.assert_allclose(results[1][name], results[0][name], rtol=0, atol=1e-9 * size)


def test_wrong_requests() -> None:
    for level in (0, 3, 30):
        with pytest.raises(ConfigError, match="even number from 2 to 28"):
            untrained(level)
    with pytest.raises(ConfigError, match="both must be positive"):
        untrained(2, max_dist=0.0)
    rng = np.random.default_rng(0)
    with pytest.raises(PotentialFileError, match="has 3 radial functions, level 8 has 2; choose a higher level"):
        raise_level(random_potential(10, 1, rng), 8)
    with pytest.raises(PotentialFileError, match=r"basis function \d+ is none of level 6"):
        raise_level(random_potential(8, 1, rng), 6)
    with pytest.raises(PotentialFileError, match="has a radial basis of 8, 7 is less"):
        extend_radial_basis(own_potential(6, 1, rng), 1.5, 7)


def test_what_is_unrolled_is_what_files_hold() -> None:
    """The tables that are compiled into the kernel; with others it would fall back to loops, and only be slower."""
    core = Path(__file__).parents[2] / "argyase" / "native" / "core"
    made = subprocess.run(
        [sys.executable, "-P", str(core / "_make_levels.py")], check=True, capture_output=True, text=True, cwd="/"
    )
    assert made.stdout == (core / "levels.inc").read_text()
