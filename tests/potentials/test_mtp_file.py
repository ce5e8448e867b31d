"""The reader of .mtp files: round trips, and broken files of every kind."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from motep.io.mlip.mtp import read_mtp as motep_read_mtp
from motep.io.mlip.mtp import write_mtp as motep_write_mtp
from strategies import SPECIES, mlip_potential, random_atoms, random_potential, seeds

from argyase.errors import ConfigError, PotentialFileError
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
        (
            b"species_count = 2",
            b"species_count = 3",
            "the pair 0- with another species (species_count is 3), got '1-0'",
        ),
        (b"RBChebyshev", b"RBSpline", "radial_basis_type 'RBSpline': this reader knows RBChebyshev"),
        (b"RBChebyshev", b"RBChebyshev_repuls", "'RBChebyshev_repuls': a basis of MLIP that argyase does not evaluate"),
        (b"\tradial_funcs_count", b"magnetic_basis_type = BChebyshev\n\tradial_funcs_count", "on magnetic moments"),
        (b"\tmin_dist", b"\tmin_mag = 0\n\tmin_dist", "min_mag: the potential depends on magnetic moments"),
        (b"\tmin_dist", b"\tscaling = 1e200\n\tscaling = 1\n\tmin_dist", "scaling of the radial basis occurs twice"),
        (b"\tradial_coeffs", b"\tmin_val = 1\n\tradial_coeffs", "min_dist occurs twice"),
        # Another spelling of a key must not change a size after it was used.
        (b"alpha_moments_count", b"basis_size = 900\nalpha_moments_count", "radial_basis_size occurs twice"),
        (b"min_dist = 1.5000000000000000e+00", b"min_dist = nan", "is not finite"),
        (b"min_dist = 1.5", b"min_dist = -1.5", "need 0 <= min_dist < max_dist"),
        (b"max_dist = 5.0", b"max_dist = 1.0", "need 0 <= min_dist < max_dist"),
        (b"max_dist = 5.0000000000000000e+00", b"max_dist = 1e9", "more than 1000 A"),
        (b"radial_basis_size = 8", b"radial_basis_size = 7", "expected 7 numbers (radial_basis_size), got 8"),
        (b"radial_funcs_count = ", b"radial_funcs_count = 9", "radial_coeffs: expected"),
        (b"\t\t0-1\n", b"\t\t0-0\n", "the pair '0-0' occurs twice"),
        (b"\t\t1-1\n", b"\t\t1-7\n", "expected the pair 1-1 (species_count is 2), got '1-7'"),
        (b"\t\t1-0\n", b"\t\t0-1\n", "expected the pair 1-0 (species_count is 2), got '0-1'"),
        (b"\t\t0-0\n", b"\t\t0-7\n", "expected the pair of a species with itself (species_count is 2), got '0-7'"),
        (b"\t\t1-1\n", b"\t\t11\n", "expected the pair of species 1-1 (species_count is 2), got '11'"),
        (b"radial_funcs_count = 2\n\tradial_coeffs", b"radial_coeffs", "without radial_funcs_count; is it cut?"),
        (b"alpha_moments_count", b"radial_funcs_count = 2\nalpha_moments_count", "radial_funcs_count occurs twice"),
        (b"\t\t1-1\n", b"\t\t1-1000\n", "radial_coeffs species = 1000: allowed are 0 to 999"),
        (b"alpha_moments_count = ", b"alpha_moments_count = 9999", "larger than the moments that the file defines"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{0, 0, 0}", "alpha_index_basic"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{9, 0, 0, 0}", "radial function 9 is not one of"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{0, -1, 0, 0}", "must be 0 or more"),
        (b"alpha_index_basic = {{0, 0, 0, 0}", b"alpha_index_basic = {{0, 9, 9, 9}", "and 24 or less in sum"),
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


# ---- what MLIP-2, MLIP-3 and motep write differently ----


@pytest.mark.parametrize(
    ("low", "high", "size"), [("min_val", "max_val", "basis_size"), ("min", "max", "size")], ids=["MLIP", "motep"]
)
def test_other_names_of_keys(low: str, high: str, size: str) -> None:
    text = TEXT.decode().replace("min_dist", low).replace("max_dist", high).replace("radial_basis_size", size)
    assert low in text
    assert parse_mtp(text.encode(), "p") == parse_mtp(TEXT, "p")


def test_motep_writes_what_we_read(tmp_path: Path) -> None:
    potential = random_potential(8, 3, np.random.default_rng(4))
    write_mtp(tmp_path / "ours.mtp", potential)
    theirs = motep_read_mtp(tmp_path / "ours.mtp")
    for legacy in (True, False):
        motep_write_mtp(tmp_path / "theirs.mtp", theirs, legacy=legacy)
        read = read_mtp(tmp_path / "theirs.mtp")
        # motep writes 15 decimals: 16 digits.
        np.testing.assert_allclose(read.radial_coeffs, potential.radial_coeffs, rtol=1e-15)
        np.testing.assert_allclose(read.moment_coeffs, potential.moment_coeffs, rtol=1e-15)
        assert (read.min_dist, read.max_dist) == (potential.min_dist, potential.max_dist)


def test_scaling() -> None:
    """MLIP multiplies the factor before the radial basis with the one in it; without any it is 1."""
    line = b"scaling = 1.0000000000000000e-02\n"
    assert parse_mtp(TEXT.replace(line, b""), "p").scaling == 1.0
    both = TEXT.replace(line, b"scaling = 4\n").replace(b"\tmin_dist", b"\tscaling = 0.5\n\tmin_dist")
    assert parse_mtp(both, "p").scaling == 2.0
    inner = TEXT.replace(line, b"").replace(b"\tmin_dist", b"\tscaling = 0.01\n\tmin_dist")
    assert parse_mtp(inner, "p") == parse_mtp(TEXT, "p")


def test_species_numbered_by_types() -> None:
    """MLIP-3 keeps species in the order of its training set, under the types there: 17 (Cl), 3 (Li) here."""
    potential = random_potential(6, 2, np.random.default_rng(1))
    text = format_mtp(potential)
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        text = text.replace(f"\t\t{a}-{b}\n".encode(), f"\t\t{(17, 3)[a]}-{(17, 3)[b]}\n".encode())
    read = parse_mtp(text, "p")
    assert read.species_types == (3, 17)
    np.testing.assert_array_equal(read.radial_coeffs, potential.radial_coeffs[::-1, ::-1])
    np.testing.assert_array_equal(read.species_coeffs, potential.species_coeffs[::-1])
    assert parse_mtp(format_mtp(read), "p") == read
    atoms = random_atoms(np.random.default_rng(2), 6, 2)
    atoms.symbols[:] = ["Cl", "Li", "Li", "Cl", "Li", "Cl"]
    ours, plain = MTP(read, ["Li", "Cl"]), MTP(potential, ["Cl", "Li"])
    for calculator in (ours, plain):
        calculator.calculate(atoms)
    # The neighbours of the two species are summed in another order: see ROUNDING in test_mtp.py.
    scale = np.abs(plain.results["forces"]).max()
    np.testing.assert_allclose(ours.results["forces"], plain.results["forces"], rtol=0, atol=1e-12 * scale)
    with pytest.raises(ConfigError, match=r"atomic numbers; give them in that order: \['Li', 'Cl'\]"):
        MTP(read, ["Cl", "Li"])
    MTP(read, ["Na", "Br"])  # the numbers are types of whatever kind


def test_radial_funcs_count_behind_the_coefficients() -> None:
    """So writes motep 0.2.0, whose own reader then fails."""
    line = b"\tradial_funcs_count = 2\n"
    assert line in TEXT
    moved = TEXT.replace(line, b"").replace(b"alpha_moments_count", b"radial_funcs_count = 2\nalpha_moments_count")
    assert parse_mtp(moved, "p") == parse_mtp(TEXT, "p")
    with pytest.raises(PotentialFileError, match="radial_funcs_count = 3: each pair of radial_coeffs has 2"):
        parse_mtp(moved.replace(b"funcs_count = 2", b"funcs_count = 3"), "p")
    with pytest.raises(PotentialFileError, match="no coefficients below the pairs of species"):
        parse_mtp(re.sub(rb"\t\t\t.*\n", b"", moved), "p")


# ---- templates ----

TEMPLATE = b"\n".join(
    line for line in TEXT.split(b"\n") if not line.startswith((b"\t\t", b"species_coeffs", b"moment_coeffs"))
)


@pytest.mark.parametrize("without", [b"nothing", b"\tradial_coeffs\n", b"species_count = 2\n"])
def test_templates(without: bytes) -> None:
    """MLIP's untrained files; what it saves of them keeps the heading radial_coeffs with nothing below."""
    text = TEMPLATE.replace(without, b"")
    with pytest.raises(
        PotentialFileError, match=r"without (radial_coeffs|species_count): an untrained template, or cut"
    ):
        parse_mtp(text, "p")
    template = parse_mtp(text, "p", template=True)
    assert template.is_template
    assert template.species_count == (0 if b"species_count" in without else 2)
    assert template.radial_coeffs.shape == (0, 0, template.radial_funcs_count, template.radial_basis_size)
    assert template.species_coeffs.size == template.moment_coeffs.size == 0
    whole = parse_mtp(TEXT, "p", template=True)
    assert not whole.is_template
    np.testing.assert_array_equal(template.alpha_index_times, whole.alpha_index_times)
    assert parse_mtp(format_mtp(template), "p", template=True) == template
    with pytest.raises(PotentialFileError, match="untrained template"):
        MTP(template, SPECIES[:2])
    trained = replace(
        template,
        species_count=2,
        radial_coeffs=whole.radial_coeffs,
        species_coeffs=whole.species_coeffs,
        moment_coeffs=whole.moment_coeffs,
    )
    assert trained == whole


def test_a_template_lacks_nothing_else() -> None:
    with pytest.raises(PotentialFileError, match=r"the file ends without max_dist; is it cut\?"):
        parse_mtp(re.sub(rb"\tmax_dist.*\n", b"", TEMPLATE), "p", template=True)


# ---- damaged files ----


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
