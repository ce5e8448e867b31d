"""From wrapped coordinates in a breathing cell to the paths of ions, and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from argyase.errors import TrajectoryError

AMBIGUOUS = 0.45
"""A step of more than this fraction of a cell vector cannot be told from a step the other way round."""


def wrap(positions: ArrayLike, cells: ArrayLike) -> NDArray[np.float64]:
    """Put atoms into the cell.

    Parameters
    ----------
    positions
        Shape (frame, atom, 3), A.
    cells
        Cell vectors as rows, shape (frame, 3, 3), A.
    """
    r, h = np.asarray(positions, dtype=float), np.asarray(cells, dtype=float)
    return np.asarray((r @ np.linalg.inv(h) % 1.0) @ h)


def unwrap(positions: ArrayLike, cells: ArrayLike) -> NDArray[np.float64]:
    """Continue paths across the faces of a cell that may be triclinic and may change.

    Each step is the shortest in fractional coordinates: s(t+1) = s(t) + d - rint(d), d = s_w(t+1) - s(t).

    Parameters
    ----------
    positions
        Shape (frame, atom, 3), A, wrapped or not.
    cells
        Cell vectors as rows, shape (frame, 3, 3), A.

    Returns
    -------
    ndarray
        Unwrapped positions, shape (frame, atom, 3), A; the first frame is as given.

    Raises
    ------
    TrajectoryError
        If a step is longer than `AMBIGUOUS` of a cell vector: the frames are too far apart to be unwrapped.
    """
    r, h = np.asarray(positions, dtype=float), np.asarray(cells, dtype=float)
    return np.stack(list(unwrap_frames(zip(r, h, strict=True))))


def unwrap_frames(
    frames: Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]] | zip[tuple[NDArray[np.float64], ...]],
) -> Iterator[NDArray[np.float64]]:
    """`unwrap`, frame by frame, for trajectories that do not fit in memory."""
    last: NDArray[np.float64] | None = None
    for number, (positions, cell) in enumerate(frames):
        s = positions @ np.linalg.inv(cell)
        if last is not None:
            step = s - last
            step -= np.rint(step)
            if len(step) and (largest := np.abs(step).max()) > AMBIGUOUS:
                atom = int(np.abs(step).max(axis=1).argmax())
                raise TrajectoryError(
                    f"frame {number}, atom {atom}: moved by {largest:.2f} of a cell vector since the frame before; "
                    f"above {AMBIGUOUS} its direction is ambiguous. Store frames more often, or give unwrapped ones"
                )
            s = last + step
        last = s
        yield s @ cell


def check_unwrapped(positions: NDArray[np.float64], cells: NDArray[np.float64]) -> None:
    """Refuse paths that jump across the cell.

    Raises
    ------
    TrajectoryError
        If an atom moves by half a cell vector or more between two frames, which is what wrapped coordinates do.
    """
    inverse = np.linalg.inv(cells)
    # In fractional coordinates, each in its own cell: an ion far out moves with a cell that breathes.
    fractional = (p @ i for p, i in zip(positions, inverse, strict=True))
    for t, (before, here) in enumerate(itertools.pairwise(fractional), 1):
        jump = np.abs(here - before)
        if jump.size and jump.max() >= 0.5:
            atom = int(jump.max(axis=1).argmax())
            raise TrajectoryError(
                f"frame {t}, atom {atom}: moved by {jump.max():.2f} of a cell vector since the frame before: these "
                "coordinates are wrapped; unwrap them first (argyase.physics.unwrap.unwrap, or argyase ingest)"
            )


def in_mean_cell(positions: ArrayLike, cells: ArrayLike) -> NDArray[np.float64]:
    """Unwrapped paths in the mean cell: fractional coordinates times the time average of the cell.

    Takes the breathing of a barostatted cell out of the paths. Without it, an ion that has crossed n faces is shaken by
    n times the fluctuation of the cell (von Bulow, Bullerjahn, Hummer, J. Chem. Phys. 153, 021101 (2020)).

    Parameters
    ----------
    positions
        Unwrapped, shape (frame, atom, 3), A.
    cells
        Shape (frame, 3, 3), A.
    """
    r, h = np.asarray(positions, dtype=float), np.asarray(cells, dtype=float)
    return np.asarray((r @ np.linalg.inv(h)) @ h.mean(axis=0))


def diffusing_paths(
    positions: ArrayLike, cells: ArrayLike, species: Sequence[str] | NDArray[np.str_], ion: str = "Li"
) -> NDArray[np.float64]:
    """Paths of one species in the mean cell, relative to the framework.

    The mean displacement since the first frame of all other atoms (unweighted) is subtracted: in a solid they do not
    diffuse, and their common motion is drift.

    Parameters
    ----------
    positions
        Unwrapped, shape (frame, atom, 3), A.
    cells
        Shape (frame, 3, 3), A.
    species
        Chemical symbol of each atom.
    ion
        The diffusing species.

    Returns
    -------
    ndarray
        Shape (frame, ion, 3), A.

    Raises
    ------
    TrajectoryError
        If no atom is of that species, all are, or the coordinates are wrapped.
    """
    r, h = np.asarray(positions, dtype=float), np.asarray(cells, dtype=float)
    mobile = np.asarray(species) == ion
    if not mobile.any():
        raise TrajectoryError(f"no {ion} in the trajectory; it has {', '.join(sorted(set(map(str, species))))}")
    if mobile.all():
        raise TrajectoryError(f"all atoms are {ion}: there is no framework to measure displacements against")
    check_unwrapped(r, h)
    paths = in_mean_cell(r, h)
    drift = paths[:, ~mobile].mean(axis=1) - paths[0, ~mobile].mean(axis=0)
    return np.ascontiguousarray(paths[:, mobile] - drift[:, None, :])
