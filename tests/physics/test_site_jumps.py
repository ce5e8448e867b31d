"""Site-resolved jumps against walks whose every step is known, and against slow searches."""

import itertools
from collections import Counter

import numpy as np
import pytest
from argyrodite_walk import STEP, A, Site, cage_walk, centres, neighbours, of_kind, trajectory
from hypothesis import given, settings
from hypothesis import strategies as st
from kinisi_example import XDATCAR
from scipy import constants
from strategies import seeds

from argyase.dynamics.readers import read_frames
from argyase.errors import TrajectoryError
from argyase.physics.intervals import Interval
from argyase.physics.jumps import CLASSES, site_jumps
from argyase.physics.msd import diffusivity
from argyase.physics.unwrap import unwrap
from argyase.structures.tetrahedra import KINDS, Topology, find_framework, topology


def random_walks(
    ideal: Topology, rng: np.random.Generator, ions: int, frames: int, often: float = 0.3
) -> list[list[Site]]:
    """Ions that go through a random face now and then."""
    walks = []
    for _ in range(ions):
        at: Site = (int(rng.choice(of_kind(ideal, "T5"))), (0, 0, 0))
        path = [at]
        for _ in range(frames - 1):
            if rng.random() < often:
                choices = neighbours(ideal, at)
                at = choices[rng.integers(4)]
            path.append(at)
        walks.append(path)
    return walks


def told(ideal: Topology, walk: list[Site]) -> tuple[Counter[str], Counter[tuple[str, str]], list[tuple[int, int]]]:
    """Classes of the jumps of a walk, moves between kinds, and (cage, cage) of inter-cage jumps, by plain rules."""
    classes: Counter[str] = Counter()
    moves: Counter[tuple[str, str]] = Counter()
    between = []

    def cage(site: Site) -> tuple[int, ...] | None:
        number = int(ideal.cage[site[0]])
        return None if number < 0 else (number, *(ideal.cage_image[site[0]] + site[1]).tolist())

    home, way = walk[0], ""
    for old, new in itertools.pairwise(walk):
        if new == old:
            continue
        kinds = KINDS[ideal.kind[old[0]]], KINDS[ideal.kind[new[0]]]
        moves[kinds] += 1
        if kinds == ("T2", "T2"):
            way = "inter_cage_T2"
        elif kinds[1] == "T4":
            way = "inter_cage_T4"
        elif kinds[1] == "T0":
            way = "inter_cage_other"
        if cage(new) is None or new == home:
            home = new if cage(new) is not None else home
            continue
        if cage(new) != cage(home):
            classes[way] += 1
            between.append((int(ideal.cage[home[0]]), int(ideal.cage[new[0]])))
        elif KINDS[ideal.kind[home[0]]] == kinds[1] == "T5" and new in neighbours(ideal, home):
            classes["doublet"] += 1
        else:
            classes["intra_cage"] += 1
        home = new
    return classes, moves, between


@given(seeds, st.sampled_from([(1, 1, 1), (2, 1, 1)]))
@settings(max_examples=8)
def test_every_jump_of_a_known_walk(seed: int, supercell: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    ideal = topology(supercell)
    walks = random_walks(ideal, rng, 6, 120)
    positions, cells, species = trajectory(supercell, centres(ideal, walks), rng)
    cut = int(rng.integers(1, 119))
    found = site_jumps([(positions[:cut], cells[:cut]), (positions[cut:], cells[cut:])], species, STEP)
    classes: Counter[str] = Counter()
    moves: Counter[tuple[str, str]] = Counter()
    between: list[tuple[int, int]] = []
    for walk in walks:
        for total, part in zip((classes, moves), told(ideal, walk), strict=False):
            total.update(part)  # type: ignore[arg-type]
        between += told(ideal, walk)[2]
    classes["inter_cage"] = len(between)
    assert dict(zip(CLASSES, found.jumps.values.tolist(), strict=True)) == {k: classes[k] for k in CLASSES}
    matrix = {(a, b): int(found.site_jumps.sel(site=a, site_to=b)) for a in KINDS for b in KINDS}
    assert {k: v for k, v in matrix.items() if v} == dict(moves)
    # Time on each kind, and between kinds of cages.
    time = Counter(KINDS[ideal.kind[tet]] for walk in walks for tet, _ in walk)
    np.testing.assert_allclose(found.occupancy, [time[k] / (6 * 120) for k in KINDS])
    assert int(found.cage_jumps.sum()) == len(between)
    assert float(found.lost_fraction) == 0.0
    assert float(found.environment_time.sum()) == pytest.approx(6 * 120 * STEP * 1e-3)


@given(seeds)
@settings(max_examples=4)
def test_the_tetrahedron_is_that_of_a_slow_search(seed: int) -> None:
    """Ions thrown anywhere in each frame, among anions that vibrate: all tetrahedra and images are tried."""
    rng = np.random.default_rng(seed)
    ideal = topology((1, 1, 1))
    lithium = rng.uniform(-A / 2, 1.5 * A, (20, 5, 3))
    positions, cells, species = trajectory((1, 1, 1), lithium, rng, shake=0.15)
    found = site_jumps([(positions, cells)], species, STEP, depth=1e-12)
    expected: Counter[str] = Counter()
    framework = find_framework(positions.mean(axis=0), cells.mean(axis=0), species)
    for place, cell in zip(positions, cells, strict=True):
        anions = place[framework.atoms] - framework.images @ cell
        corners = anions[ideal.vertex] + ideal.vertex_image @ cell
        edges = (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)
        for ion in place[:5]:
            for shift in np.ndindex(5, 5, 5):
                there = ion + (np.array(shift) - 2) @ cell
                weights = np.linalg.solve(edges, (there - corners[:, 0])[..., None])[..., 0]
                inside = (weights >= 0).all(axis=1) & (weights.sum(axis=1) <= 1)
                expected.update(KINDS[k] for k in ideal.kind[inside])
    assert sum(expected.values()) == 100
    np.testing.assert_allclose(found.occupancy * 100, [expected[k] for k in KINDS])


def test_rattling_across_a_face_is_no_jump() -> None:
    """From the middle of T5 to just beyond the face, back and forth, among anions at rest."""
    ideal = topology((1, 1, 1))
    tet = of_kind(ideal, "T5")[0]
    start = centres(ideal, [[(tet, (0, 0, 0))]])[0, 0]
    rng = np.random.default_rng(0)
    for beyond, jumps in ((0.05, 0), (0.35, 39)):  # fractions of the way to the middle of the next site
        path = []
        for frame in range(40):
            other = centres(ideal, [[neighbours(ideal, (tet, (0, 0, 0)))[0]]])[0, 0]
            # The face is somewhere about half of the way: 0.5 + beyond is on the other side.
            path.append(start + (other - start) * (frame % 2) * (0.5 + beyond))
        positions, cells, species = trajectory((1, 1, 1), np.array(path)[:, None], rng, shake=0.0, breathe=0.0)
        found = site_jumps([(positions, cells)], species, STEP)
        assert int(found.site_jumps.sum()) == jumps


@pytest.mark.statistical
@pytest.mark.parametrize("back", [0.0, 0.5])
def test_known_rate_and_correlation_factor(back: float) -> None:
    """Random steps on the fcc lattice of the cages: D = rate a^2/2 / 6 x (1 - p) / (1 + p) for steps back with p.

    The mean cosine of successive steps is -p, and each depends on the one before it only: Mehrer, eq. 7.22.
    """
    rng = np.random.default_rng(5)
    rate, ions = 0.1, 64
    lithium, made = cage_walk(rng, (1, 1, 1), ions, 4000, rate, back)
    positions, cells, species = trajectory((1, 1, 1), lithium, rng)
    tracer = Interval.of(diffusivity(lithium, STEP).estimate.scaled(1e-4))
    found = site_jumps([(positions, cells)], species, STEP, diffusivity=tracer, temperature=500.0)
    inter = found.sel(jump="inter_cage")
    assert int(inter.jumps) == made
    # At most one jump a frame, so that the rate is exactly what was asked for. Four standard errors: 1 in 1000 or so,
    # with the nine degrees of freedom that they have.
    d = rate * A**2 / 2 / 6 * 1e-4
    for variable, exact in (
        (inter.rate, rate * 1e3),
        (found.cage_residence_time, 1 / rate),
        (found.jump_diffusivity_cages, d),
        (found.correlation_factor_cages, (1 - back) / (1 + back)),
    ):
        source = inter if variable.name == "rate" else found
        assert abs(float(variable) - exact) < 4 * float(source[f"{variable.name}_stderr"])
        assert float(source[f"{variable.name}_stderr"]) < (0.7 if "factor" in str(variable.name) else 0.15) * exact
    assert int(found.network_dimensions) == 3
    # Independent ions: partners as often as by chance.
    error = np.hypot(found.concerted_fraction_stderr, found.concerted_expected_stderr)
    assert abs(found.concerted_fraction - found.concerted_expected) < 4 * error


def test_attempt_frequency_of_a_harmonic_well() -> None:
    """Thermal oscillators of 6 THz, in frames that are half a period apart."""
    rng = np.random.default_rng(3)
    frequency, temperature, ions, frames = 6.0, 300.0, 24, 600
    ideal = topology((1, 1, 1))
    sites = [(tet, (0, 0, 0)) for tet in of_kind(ideal, "T5")[:ions]]
    mass = 6.94 * constants.atomic_mass
    width = np.sqrt(constants.k * temperature / mass) / (2 * np.pi * frequency * 1e12) * 1e10
    # Energy in each frame anew (a bath): amplitude and phase of thermal oscillators.
    u = rng.normal(0.0, width, (frames, ions, 3))
    lithium = centres(ideal, [[s] * frames for s in sites]) + u
    positions, cells, species = trajectory((1, 1, 1), lithium, rng, shake=0.0, breathe=0.0)
    found = site_jumps([(positions, cells)], species, STEP, temperature=temperature)
    assert width < 0.17
    nu = found.sel(site="T5")
    # Positions outside the tetrahedron are left out, beyond 4 widths; 3 x 24 x 600 deviations: 0.5 %. Four of them.
    assert float(nu.attempt_frequency) == pytest.approx(frequency, rel=0.02)
    assert float(nu.attempt_frequency_low) < float(nu.attempt_frequency) < float(nu.attempt_frequency_high)
    # No jump: only bounds.
    assert float(found.rate.sel(jump="inter_cage")) == 0
    bound = 3.689 / (ions * frames * STEP * 1e-3)
    assert float(found.rate_high.sel(jump="inter_cage")) == pytest.approx(bound, rel=1e-3)
    assert np.isinf(found.barrier_high.sel(jump="inter_cage"))


def test_network_along_one_axis_and_partners() -> None:
    """One ion circles through the cell along x; another always enters the cage that the first one leaves."""
    ideal = topology((1, 1, 1))
    # From cage to cage along x: twice half a face diagonal, up in y and down again.
    middle = ideal.anion_sites[ideal.letters == "4d"]
    t5 = np.array(of_kind(ideal, "T5"))
    frames = 60

    def at(cage_place: np.ndarray) -> np.ndarray:
        cage = int(np.argmin(np.linalg.norm((middle - cage_place + 0.5) % 1 - 0.5, axis=1)))
        tet = t5[ideal.cage[t5] == cage][0]
        return np.asarray(ideal.centres()[tet] - ideal.cage_image[tet] - middle[cage] + cage_place)

    first, second = [], []
    for t in range(frames):
        n = t // 10
        first.append(at(middle[0] + [n / 2, (n % 2) / 2, 0]))
        n -= 1
        second.append(at(middle[0] + [n / 2, (n % 2) / 2, 0]))
    lithium = np.stack([np.array(first), np.array(second)], axis=1) * A
    positions, cells, species = trajectory((1, 1, 1), lithium, np.random.default_rng(0))
    found = site_jumps([(positions, cells)], species, STEP, window=0.2)
    assert int(found.jumps.sel(jump="inter_cage")) == 10
    assert found.network_wraps.values.tolist() == [True, False, False]
    assert int(found.network_dimensions) == 1
    assert int(found.lines) == 2
    # Both lines wrap only together; of the five jumps of each ion, each line has two or three: five of the ten in all.
    assert float(found.network_rate.sel(dimension=1)) == pytest.approx(5 / (frames * STEP * 1e-3))
    assert np.isnan(found.network_rate.sel(dimension=2))
    assert float(found.concerted_fraction) == 1.0
    assert float(found.concerted_expected) < 0.6


def test_a_published_trajectory() -> None:
    """140 frames of Li6PS5Cl by VASP at 800 K or so: where Li is known to be, whatever program says it."""
    frames = list(read_frames(XDATCAR))
    cells = np.array([f.cell for f in frames])
    positions = unwrap(np.array([f.positions for f in frames]), cells)
    found = site_jumps([(positions, cells)], np.array(frames[0].species), 0.1)
    occupied = dict(zip(KINDS, found.occupancy.values.tolist(), strict=True))
    assert occupied["T5"] + occupied["T2"] > 0.9
    assert occupied["T0"] == 0.0
    assert float(found.lost_fraction) < 1e-3
    # Six Li a cage; one that is between cages at the start is of none yet.
    assert float(found.cage_ions.mean()) == pytest.approx(6.0, rel=0.01)


def test_what_is_wrong_is_named() -> None:
    rng = np.random.default_rng(0)
    ideal = topology((1, 1, 1))
    walks = random_walks(ideal, rng, 2, 40)
    positions, cells, species = trajectory((1, 1, 1), centres(ideal, walks), rng)
    with pytest.raises(TrajectoryError, match="19 frames: at least 20"):
        site_jumps([(positions[:19], cells[:19])], species, STEP)
    with pytest.raises(TrajectoryError, match=r"depth = 0.3"):
        site_jumps([(positions, cells)], species, STEP, depth=0.3)
    with pytest.raises(TrajectoryError, match="no Na"):
        site_jumps([(positions, cells)], species, STEP, ion="Na")
    molten = rng.random((20, positions.shape[1], 3)) * A
    with pytest.raises(TrajectoryError, match="melted"):
        site_jumps([(positions, cells), (molten, cells[:20])], species, STEP)
