"""The reader of .mtp files: round trips, and broken files of every kind."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from motep.io.mlip.mtp import read_mtp as motep_read_mtp
from strategies import SPECIES, mlip_potential, random_atoms, random_potential, seeds

from argyase.errors import PotentialFileError
from argyase.potentials.mtp import MTP
from argyase.potentials.mtp_file import format_mtp, parse_mtp, read_mtp, write_mtp

TEXT = format_mtp(random_potential(6, 2, np.random.default_rng(0)))


@given(st.sampled_from([2, 8, 16]), st.integers(1, 5), seeds)
def test_what_is_written_is_read_to_the_last_bit(level: int, species: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    potential = random_potential(level, species, rng)
    # Numbers of every magnitude, denormal ones too.
    potential.moment_coeffs[:] = rng.normal(size=len(potential.moment_coeffs)) * 10.0 ** rng.integers(-320, 300)
    assert parse_mtp(format_mtp(potential), "p") == potential


@pytest.mark.parametrize("name", ["cubic-20", "multi-10", "291-02"])
def test_motep_reads_what_we_write(name: str, tmp_path: Path) -> None:
    potential = mlip_potential(name)
    write_mtp(tmp_path / "p.mtp", potential)
    assert read_mtp(tmp_path / "p.mtp") == potential
    theirs = motep_read_mtp(tmp_path / "p.mtp")
    np.testing.assert_array_equal(theirs.moment_coeffs, potential.moment_coeffs)
    np.testing.assert_array_equal(theirs.alpha_index_times, potential.alpha_index_times)
    coefficients = np.array(theirs.radial_coeffs)
    np.testing.assert_array_equal(coefficients.reshape(potential.radial_coeffs.shape), potential.radial_coeffs)


def test_line_ends_and_spaces_do_not_matter() -> None:
    assert parse_mtp(TEXT.replace(b"\n", b"\r\n"), "p") == parse_mtp(TEXT, "p")
    assert parse_mtp(TEXT.replace(b"\n", b"\n\n").replace(b"\t", b"      "), "p") == parse_mtp(TEXT, "p")


def test_an_active_set_of_mlip_is_left_alone() -> None:
    assert parse_mtp(TEXT + b"#MVS_v1.1\n\x00\xff\x13binary", "p") == parse_mtp(TEXT, "p")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"MTP\n", b"MPT\n", "p, line 1: the first line must be MTP, got 'MPT'"),
        (b"version = 1.1.0", b"version = 2.0.0", "line 2: version '2.0.0': this reader knows 1.1.0"),
        (b"species_count = 2", b"species_count = two", "expected a whole number, got 'two'"),
        (b"species_count = 2", b"species_count = 0", "species_count = 0: allowed are 1 to 200"),
        (b"species_count = 2", b"species_count = 3", "radial_coeffs: expected a pair of species"),
        (b"RBChebyshev", b"RBSpline", "radial_basis_type 'RBSpline': this reader knows RBChebyshev"),
        (b"min_dist = 1.5000000000000000e+00", b"min_dist = nan", "is not finite"),
        (b"min_dist = 1.5", b"min_dist = -1.5", "need 0 <= min_dist < max_dist"),
        (b"max_dist = 5.0", b"max_dist = 1.0", "need 0 <= min_dist < max_dist"),
        (b"max_dist = 5.0000000000000000e+00", b"max_dist = 1e9", "more than 1000 A"),
        (b"radial_basis_size = 8", b"radial_basis_size = 7", "expected 7 numbers (radial_basis_size), got 8"),
        (b"radial_funcs_count = ", b"radial_funcs_count = 9", "radial_coeffs: expected"),
        (b"\t\t0-1\n", b"\t\t0-0\n", "the pair '0-0' occurs twice"),
        (b"\t\t1-1\n", b"\t\t1-7\n", "radial_coeffs species = 7: allowed are 0 to 1"),
        (b"alpha_moments_count = ", b"alpha_moments_count = 9999", "larger than the moments that the file defines"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{0, 0, 0}", "alpha_index_basic"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{9, 0, 0, 0}", "radial function 9 is not one of"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{0, -1, 0, 0}", "must be 0 or more"),
        (b"alpha_index_times = {{0, 0, 1,", b"alpha_index_times = {{0, 999, 1,", "moment 999 is not one of"),
        (b"alpha_index_times = {{0, 0, 1,", b"alpha_index_times = {{7, 0, 1,", "is read before it is computed"),
        (b"alpha_moment_mapping = {0, ", b"alpha_moment_mapping = {-1, ", "moment -1 is not one of"),
        (
            b"species_coeffs = {",
            b"species_coeffs = {1.0, ",
            "species_coeffs: expected 2 entries (species_count), got 3",
        ),
        (b"moment_coeffs = {", b"moment_coeffs = {inf, ", "'inf' is not finite"),
        (b"moment_coeffs = {", b"moment_coeffs = {1.0x, ", "expected a number, got '1.0x'"),
        (b"scaling = ", b"scalling = ", "unknown key 'scalling'"),
        (b"species_count = 2", b"species_count = 2\nspecies_count = 2", "species_count occurs twice"),
    ],
)
def test_broken_files_are_named_by_line_and_reason(old: bytes, new: bytes, said: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(PotentialFileError) as caught:
        parse_mtp(TEXT.replace(old, new, 1), "p")
    assert said in str(caught.value)
    assert str(caught.value).startswith("p, line ")


@given(st.integers(0, len(TEXT) - 3))
def test_cut_files(length: int) -> None:
    with pytest.raises(PotentialFileError, match=r"p, line \d+: "):
        parse_mtp(TEXT[:length], "p")


@given(
    st.lists(
        st.tuples(st.integers(0, len(TEXT) - 1), st.sampled_from(b"0123456789-+.eE{},=# \n\t\x00\xffnaif")), max_size=6
    )
)
def test_no_file_breaks_the_kernel(changes: list[tuple[int, int]]) -> None:
    """A damaged file is refused, or is a potential that can be evaluated."""
    text = bytearray(TEXT)
    for place, byte in changes:
        text[place] = byte
    try:
        potential = parse_mtp(bytes(text), "p")
    except PotentialFileError:
        return
    assume(potential.species_count == 2)
    calculator = MTP(potential, SPECIES[:2])
    calculator.calculate(random_atoms(np.random.default_rng(1), 4, 2))
    assert calculator.results["forces"].shape == (4, 3)


@given(st.binary(max_size=200))
def test_garbage(text: bytes) -> None:
    with pytest.raises(PotentialFileError):
        parse_mtp(b"MTP\n" + text, "p")
