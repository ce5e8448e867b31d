"""MSD against loops and exact motion; the error bar of D against what many runs show."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinisi_example import XDATCAR, direct_msd
from scipy import signal
from strategies import seeds
from walks import WALKS, brownian, caged, trapped

from argyase.errors import StatisticsError, TrajectoryError
from argyase.physics import _spectrum
from argyase.physics._kernels import squared_displacements
from argyase.physics.msd import diffusivity, mean_squared_displacement, msd
from argyase.physics.statistics import mean_of_series


def naive(paths: np.ndarray) -> np.ndarray:
    """The definition, written out."""
    frames = len(paths)
    return np.array([((paths[lag:] - paths[: frames - lag]) ** 2).mean(axis=(0, 1)) for lag in range(frames)])


@given(seeds, st.integers(1, 40), st.integers(1, 70))
def test_equals_the_definition(seed: int, frames: int, ions: int) -> None:
    paths = np.random.default_rng(seed).normal(size=(frames, ions, 3)).cumsum(axis=0) + 1000.0
    expected = naive(paths)
    # FFT rounding: 1e-16 of the squared extent of a path, times log2 of its length.
    np.testing.assert_allclose(mean_squared_displacement(paths), expected, atol=1e-11 * (1 + expected.max()))


@pytest.mark.parametrize(
    ("frames", "ions", "drift"), [(100, 50, 0.0), (515, 17, 0.0), (3000, 5, 0.0), (3000, 5, 1.0), (20_000, 2, 0.0)]
)
def test_long_paths_to_the_last_lag(frames: int, ions: int, drift: float) -> None:
    """Transforms of 1, 5, 6 and 3 pieces; a drift of 3000 A beside steps of 0.1 A; against extended precision."""
    paths = np.random.default_rng(frames).normal(0.0, 0.1, (frames, ions, 3)).cumsum(axis=0)
    paths += drift * np.arange(frames)[:, None, None]
    found = mean_squared_displacement(paths)
    exact = paths.astype(np.longdouble)
    # Rounding of sums of thousands of squares, 2^-53 each, that mostly add up at random.
    tolerance = 1e-12 * float(np.ptp(paths, axis=0).max()) ** 2
    for lag in (1, 2, 3, 4, frames // 3, frames // 2, frames - 3, frames - 2, frames - 1):
        expected = ((exact[lag:] - exact[: frames - lag]) ** 2).mean(axis=(0, 1))
        np.testing.assert_allclose(found[lag], expected.astype(float), rtol=0, atol=tolerance)


@given(seeds, st.integers(1, 300), st.integers(1, 40))
def test_power_spectra(seed: int, frames: int, ions: int) -> None:
    """Against numpy's Fourier transform of each path, frequency by frequency."""
    paths = np.random.default_rng(seed).normal(size=(frames, ions, 3))
    pieces, length = _spectrum.shape(frames)
    size = pieces * length
    assert size >= 2 * frames - 1
    power, squares = np.zeros((pieces, length, 3)), np.zeros((frames, 3))
    _spectrum.add_power(paths, np.zeros((ions, 3)), *_spectrum.waves(pieces, length), power, squares)
    np.testing.assert_allclose(squares, (paths**2).sum(axis=1), rtol=1e-12)
    spectra = np.abs(np.fft.fft(paths, size, axis=0)) ** 2
    expected = np.fft.ifft(spectra.sum(axis=1), axis=0).real[:frames]
    found = _spectrum.autocorrelation(power, frames)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * frames * ions)
    # Each piece has all frequencies that are k more than a multiple of their number: their sum is that of the spectrum.
    sums = spectra.sum(axis=1).reshape(length, pieces, 3).sum(axis=0)
    both = (power.sum(axis=1) + power.sum(axis=1)[-np.arange(pieces) % pieces]) / 2
    np.testing.assert_allclose(both, sums, rtol=1e-12)


@given(seeds, st.integers(2, 200))
def test_straight_motion(seed: int, frames: int) -> None:
    """r = v t: MSD = v^2 t^2 for every lag."""
    velocities = np.random.default_rng(seed).normal(size=(5, 3))
    paths = np.arange(frames)[:, None, None] * velocities
    exact = np.arange(frames)[:, None] ** 2 * (velocities**2).mean(axis=0)
    np.testing.assert_allclose(mean_squared_displacement(paths), exact, rtol=0, atol=1e-11 * (1 + exact.max()))


@pytest.fixture(scope="module")
def published() -> np.ndarray:
    """Paths of Li in 140 frames of Li6PS5Cl by VASP, 0.1 ps apart."""
    from argyase.dynamics.readers import read_frames
    from argyase.physics.unwrap import diffusing_paths, unwrap

    frames = list(read_frames(XDATCAR))
    cells = np.array([f.cell for f in frames])
    return diffusing_paths(unwrap(np.array([f.positions for f in frames]), cells), cells, frames[0].species)


def test_a_published_trajectory_by_a_direct_loop(published: np.ndarray) -> None:
    np.testing.assert_allclose(mean_squared_displacement(published).sum(axis=1), direct_msd(), atol=1e-9)


def test_a_published_trajectory_by_kinisi(published: np.ndarray) -> None:
    """kinisi 2.1.0 on its own example: `DiffusionAnalyzer.from_xdatcar(Xdatcar(...), specie="Li", time_step=2 fs,
    step_skip=50)`, then `diffusion(1700 fs, random_state=RandomState(1))`: mean and 2.5 and 97.5 % of `D`.
    """
    theirs = {1: 0.4430292948, 2: 0.7065562853, 10: 1.5992692287, 35: 3.7303809682, 70: 6.7428451961,
              100: 8.9372199005, 140: 11.8137059477}  # fmt: skip
    twice = np.concatenate([published[:1], published])  # its reader takes the first frame twice
    found = mean_squared_displacement(twice).sum(axis=1)
    np.testing.assert_allclose(found[list(theirs)], list(theirs.values()), rtol=1e-9)

    d, low, high = 1.3527e-5, 1.2105e-5, 1.4957e-5
    ours = diffusivity(published, 0.1)
    assert ours.start == pytest.approx(1.7)  # ps: the lag from which kinisi was told to fit
    value = 1e-4 * ours.estimate.value
    least, most = (1e-4 * end for end in ours.estimate.interval)
    assert least < d < most
    assert low < value < high
    # kinisi knows of a straight line alone; ours knows that the slope may still fall, too.
    assert high - low < most - least < 4 * (high - low)


# ---- error bars ----


def test_mean_of_white_noise() -> None:
    """The standard error is sigma / sqrt(n), within the 4 % that its own degrees of freedom (1000) leave."""
    series = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    found = mean_of_series(series, 1)
    assert found.stderr == pytest.approx(2.0 / math.sqrt(2000), rel=0.1)
    assert abs(found.value - 3.0) < 4 * found.stderr


RUNS = 200


@pytest.mark.statistical
@pytest.mark.parametrize("name", sorted(WALKS))
def test_what_is_said_of_d_holds(name: str) -> None:
    """Of 200 independent runs, 92 to 98 % of the intervals, or of the bounds where D is not determined, hold the truth.

    Two standard deviations of the binomial of 200 x 0.95 are 3 %.
    """
    holds, determined, half = 0, [], []
    for seed in range(RUNS):
        try:
            found = diffusivity(WALKS[name](np.random.default_rng(seed), 600, 32), 1.0).estimate
        except StatisticsError as error:
            holds += error.upper >= 0.1
            continue
        low, high = found.interval
        holds += low <= 0.1 <= high
        half.append((high - low) / 2)
        determined.append(found.value)
    assert 0.92 <= holds / RUNS <= 0.98
    # The motion is diffusive: in nine of ten runs a value comes out. Falls are tested at 5 %, several times.
    assert len(determined) >= 0.9 * RUNS
    # An interval that covers because it is wide is of no use. 1.96 standard deviations of the values would be ideal.
    assert np.mean(half) < 3 * np.std(determined)


@pytest.mark.statistical
def test_motion_that_levels_off_has_a_bound_and_no_value() -> None:
    values, bounds = 0, []
    for seed in range(100):
        try:
            diffusivity(trapped(np.random.default_rng(seed), 600, 64), 1.0)
            values += 1
        except StatisticsError as error:
            bounds.append(error.upper)
    assert values <= 2
    # The last slope scatters about zero; what the ions do within their cage, 0.18 A^2/ps, is far above its bound.
    assert 0.0 < np.median(bounds) < 0.02


def test_an_msd_that_still_falls_off_is_not_diffusion() -> None:
    """Ions that forget their cage after 100 of 600 frames."""
    paths = caged(np.random.default_rng(1), 600, 192, d=0.02, pull=0.01)
    with pytest.raises(
        StatisticsError, match=r"not yet diffusive in 600 ps: the slope of the MSD has not settled"
    ) as caught:
        diffusivity(paths, 1.0)
    assert 0.02 < caught.value.upper < 0.1
    dataset = msd(paths, 1.0)
    assert np.isnan(dataset.diffusivity)
    running = dataset.running_diffusivity
    assert dataset.window[-1] == 300.0
    assert (np.diff(running) < 0).all()


@given(seeds, st.sets(st.integers(1, 599), min_size=1, max_size=8), st.integers(0, 8), st.integers(1, 40))
def test_marginals_of_squared_displacements(seed: int, chosen: set[int], series: int, ions: int) -> None:
    paths = brownian(np.random.default_rng(seed), 600, ions)
    lags = np.array(sorted(chosen))
    of_origins, of_ions = np.zeros((min(series, len(lags)), 600)), np.zeros((len(lags), ions))
    for factor in (1.0, 2.0):  # it adds
        squared_displacements(factor * paths, lags, of_origins, of_ions)
    for n, lag in enumerate(lags):
        squares = (1 + 4) * ((paths[lag:] - paths[:-lag]) ** 2).sum(axis=2)
        np.testing.assert_allclose(of_ions[n], squares.sum(axis=0), rtol=1e-12)
        if n < len(of_origins):
            np.testing.assert_allclose(of_origins[n, : 600 - lag], squares.sum(axis=1), rtol=1e-12)
            assert not of_origins[n, 600 - lag :].any()


@pytest.mark.statistical
def test_a_single_ion() -> None:
    """No spread over ions: lags up to an eighth of the run serve. 40 x 0.95 falls below 34 once in 70 times."""
    found = [msd(brownian(np.random.default_rng(seed), 4000, 1), 1.0) for seed in range(40)]
    assert found[0].window[-1] == 4000 / 8
    assert sum(bool(f.diffusivity_low < 1e-5 < f.diffusivity_high) for f in found) >= 34


@given(seeds)
def test_units_and_scaling(seed: int) -> None:
    """D scales as length^2 / time, and does not depend on where the motion starts."""
    paths = brownian(np.random.default_rng(seed), 300, 8)
    scaled = 3.0 * paths + 50.0
    base, other = msd(paths, 1.0), msd(scaled, 0.5)
    names = ["", "_stderr", "_low", "_high"]
    before, after = ([float(d[f"diffusivity{name}"]) for name in names] for d in (base, other))
    np.testing.assert_allclose(after, 18 * np.array(before), rtol=1e-9)  # NaN where it is not determined, in both
    assert other.fit_stop == pytest.approx(0.5 * base.fit_stop, nan_ok=True)
    if np.isfinite(base.diffusivity):
        found = diffusivity(paths, 1.0)
        assert before[0] == pytest.approx(1e-4 * found.estimate.value)  # 1 A^2/ps = 1e-4 cm^2/s


def test_one_dimension() -> None:
    rng = np.random.default_rng(2)
    paths = brownian(rng, 2000, 40)
    paths[:, :, 1:] = 0.0
    low, high = diffusivity(paths, 1.0, dimensions=1).estimate.interval
    assert low < 0.1 < high


def test_no_diffusion_is_said_with_a_bound() -> None:
    rng = np.random.default_rng(0)
    rattling_only = rng.normal(scale=0.3, size=(500, 20, 3))
    with pytest.raises(
        StatisticsError, match=r"no diffusion beyond the error bar .* D is at most .* Run longer"
    ) as caught:
        diffusivity(rattling_only, 0.1)
    assert 0 < caught.value.upper < 0.1
    dataset = msd(rattling_only, 0.1)
    assert np.isnan(dataset.diffusivity)
    assert float(dataset.diffusivity_low) == 0.0
    assert float(dataset.diffusivity_high) == pytest.approx(1e-4 * caught.value.upper)
    assert "no diffusion" in dataset.attrs["not_determined"]


def test_short_runs_keep_their_msd() -> None:
    paths = brownian(np.random.default_rng(0), 30, 5)
    with pytest.raises(StatisticsError, match=r"30 frames .* at least 100 are needed"):
        diffusivity(paths, 1.0)
    dataset = msd(paths, 1.0)
    np.testing.assert_allclose(dataset.msd, naive(paths).sum(axis=1), atol=1e-9)
    assert np.isnan(dataset.diffusivity_high)


def test_motion_that_is_not_yet_diffusive_has_a_wide_interval() -> None:
    short = diffusivity(caged(np.random.default_rng(4), 200, 64), 1.0).estimate
    long = diffusivity(caged(np.random.default_rng(4), 4000, 64), 1.0).estimate
    assert short.interval[0] < 0.1 < short.interval[1]
    assert long.interval[0] < 0.1 < long.interval[1]
    assert short.stderr > 4 * long.stderr


def test_bad_paths() -> None:
    with pytest.raises(TrajectoryError, match="at least one ion"):
        msd(np.zeros((10, 0, 3)), 1.0)
    with pytest.raises(TrajectoryError, match="not finite"):
        msd(np.full((10, 2, 3), np.nan), 1.0)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_what_stays_in_a_cage_gives_no_value_however_straight_its_msd(seed: int) -> None:
    """Ions on springs that relax within 40 ps, 60 ps long: their MSD (12 A^2 at last) still looks like a line."""
    rng = np.random.default_rng(seed)
    frames, step, relaxation, plateau = 600, 0.1, 40.0, 12.0
    keep = math.exp(-step / relaxation)
    kicks = rng.normal(size=(frames, 200, 3)) * math.sqrt((1 - keep**2) * plateau / 6)
    kicks[0] = rng.normal(size=(200, 3)) * math.sqrt(plateau / 6)
    paths = signal.lfilter([1.0], [1.0, -keep], kicks, axis=0)
    with pytest.raises(StatisticsError, match=r"may be motion within a cage|has not settled") as error:
        diffusivity(paths, step, confined=15.0)
    # The bound is that of the last slope, which is above zero.
    assert error.value.upper > 0.0


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_what_goes_beyond_a_cage_is_what_it_was(seed: int) -> None:
    """D of 1 A^2/ps: 300 A^2 after 50 ps. Some walks seem to slow down, by chance: of them it says so, as before."""
    paths = np.cumsum(np.random.default_rng(seed).normal(0, math.sqrt(0.2), (1000, 20, 3)), axis=0)

    def said(confined: float) -> str:
        try:
            return str(diffusivity(paths, 0.1, confined=confined))
        except StatisticsError as error:
            return str(error)

    assert said(15.0) == said(0.0)
    if said(0.0).startswith("Diffusion"):
        assert re.search(r"the MSD is .* A\^2 at 50 ps, and up to 1000 A\^2", said(1000.0))
