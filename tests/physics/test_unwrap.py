"""Unwrapping: round trips in triclinic, breathing cells; what cannot be unwrapped is refused."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import seeds

from argyase.errors import TrajectoryError
from argyase.physics.unwrap import check_unwrapped, diffusing_paths, in_mean_cell, unwrap, wrap


def breathing(rng: np.random.Generator, frames: int, atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Paths that leave a triclinic cell which changes by a few per cent a frame."""
    base = 8.0 * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
    cells = base @ (np.eye(3) + rng.normal(scale=0.01, size=(frames, 3, 3)))
    # In fractional coordinates steps stay below 0.45: what can be unwrapped.
    steps = rng.uniform(-0.4, 0.4, (frames, atoms, 3))
    return np.cumsum(steps, axis=0) @ cells, cells


@given(seeds, st.integers(1, 30), st.integers(1, 6))
def test_unwrap_undoes_wrap(seed: int, frames: int, atoms: int) -> None:
    paths, cells = breathing(np.random.default_rng(seed), frames, atoms)
    wrapped = wrap(paths, cells)
    fractional = wrapped @ np.linalg.inv(cells)
    assert (fractional > -1e-9).all()
    assert (fractional < 1 + 1e-9).all()
    back = unwrap(wrapped, cells)
    # The first frame stays in the cell: paths agree up to the lattice vector that wrapped it.
    shift = np.rint((paths[0] - back[0]) @ np.linalg.inv(cells[0]))
    np.testing.assert_allclose(back + shift @ cells, paths, atol=1e-9)
    np.testing.assert_allclose(unwrap(back, cells), back, atol=1e-9)


@given(seeds, st.integers(2, 20))
@example(1644, 20)  # far from the origin, a breathing cell moves an atom by 0.51 of a cell vector
def test_what_is_unwrapped_passes_and_what_is_wrapped_does_not(seed: int, frames: int) -> None:
    paths, cells = breathing(np.random.default_rng(seed), frames, 3)
    check_unwrapped(unwrap(wrap(paths, cells), cells), cells)
    across = np.zeros((2, 1, 3))
    across[1, 0] = 0.99 * cells[0, 0]  # from one face to the other
    with pytest.raises(TrajectoryError, match=r"frame 1, atom 0: .* these coordinates are wrapped; unwrap them first"):
        check_unwrapped(across, np.stack([cells[0], cells[0]]))


def test_steps_that_are_too_long_are_refused() -> None:
    cells = np.stack([10.0 * np.eye(3)] * 2)
    with pytest.raises(TrajectoryError, match=r"frame 1, atom 0: moved by 0\.48 of a cell vector"):
        unwrap([[[0.0, 0, 0]], [[4.8, 0, 0]]], cells)


@given(seeds)
def test_the_mean_cell_takes_breathing_out(seed: int) -> None:
    """Atoms at rest in fractional coordinates rest in the mean cell, however far from the origin they are."""
    rng = np.random.default_rng(seed)
    _, cells = breathing(rng, 10, 1)
    fractional = rng.uniform(-5, 5, (4, 3))
    paths = in_mean_cell(fractional @ cells, cells)
    np.testing.assert_allclose(paths, np.broadcast_to(paths[0], paths.shape), atol=1e-10)


@given(seeds)
def test_drift_of_the_framework_is_removed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.stack([12.0 * np.eye(3)] * 30)
    steps = rng.normal(scale=0.3, size=(30, 4, 3))
    still = np.cumsum(steps, axis=0)
    species = ["Li", "S", "Li", "P"]
    still[:, [1, 3]] = still[0, [1, 3]]
    drift = np.cumsum(rng.normal(scale=0.3, size=(30, 1, 3)), axis=0)
    moving = diffusing_paths(still + drift, cells, species)
    np.testing.assert_allclose(moving - moving[0], still[:, [0, 2]] - still[0, [0, 2]], atol=1e-10)


def test_which_ions() -> None:
    cells = np.stack([10.0 * np.eye(3)] * 2)
    positions = np.zeros((2, 2, 3))
    with pytest.raises(TrajectoryError, match="no Na in the trajectory; it has Li, S"):
        diffusing_paths(positions, cells, ["Li", "S"], "Na")
    with pytest.raises(TrajectoryError, match="no framework"):
        diffusing_paths(positions, cells, ["Li", "Li"])
