"""Jumps of Li in the ideal argyrodite."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argyase.errors import StructureError
from argyase.structures import sites
from argyase.structures.argyrodite import argyrodite
from argyase.structures.jumps import ROUTES, jumps

# Ends of the jumps at a = 9.859 A: of the 48h sites, 2.22 A apart across T4, 2.88 A inside a cage; from the published
# coordinates of the sites alone. Through two T2, the ends are those across T4 or the farther ones.
LENGTHS = {"T5-T4-T5": (2.22,), "T5-T2-T5": (2.88,), "T5-T2-T2-T5": (2.22, 3.64)}


@given(st.sampled_from(sorted(ROUTES)), st.integers(1, 50), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_jumps(route: str, seed: int, inversion: float) -> None:
    atoms = argyrodite(0.0, inversion, (1, 1, 2), seed)
    found = jumps(atoms, route)
    # Each Li has two neighbouring doublets across T4, and two within its cage; all doublets hold a Li.
    assert len(found) == 48 * (4 if route == "T5-T2-T2-T5" else 2)
    a = atoms.cell.lengths()[0]
    centres = sites.tile(sites.wyckoff("4d"), (1, 1, 2))
    for jump in found:
        assert len(jump.initial) == len(atoms) - 1
        assert (jump.initial.numbers == jump.final.numbers).all()
        step = jump.final.positions - jump.initial.positions
        assert np.flatnonzero(np.linalg.norm(step, axis=1)).tolist() == [jump.ion]
        assert jump.initial[jump.ion].symbol == "Li"
        length = np.linalg.norm(step[jump.ion])
        assert min(abs(length - known) for known in LENGTHS[route]) < 0.01
        # Out of the cage, or not.
        cages = sites.nearest(
            np.stack([jump.initial.positions[jump.ion], jump.final.positions[jump.ion]]) / a, centres, (1, 1, 2)
        )
        assert (cages[0] == cages[1]) == (route == "T5-T2-T5")
        # Nothing is where the Li goes: the next Li of a doublet that is left is farther than a doublet is long.
        distance = jump.final.get_distances(jump.ion, [k for k in range(len(jump.final)) if k != jump.ion], mic=True)
        assert distance.min() > 1.9
        # The voids lie between, one after the other.
        path = [jump.initial, *jump.through, jump.final]
        places = np.array([image.positions[jump.ion] for image in path])
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert max(steps) < 2.3
        assert len(jump.through) == len(ROUTES[route])


def test_wrong_requests() -> None:
    with pytest.raises(StructureError, match="allowed are T5-T4-T5"):
        jumps(argyrodite(), "T5-T3-T5")
    plain = argyrodite()
    plain.info.clear()
    with pytest.raises(StructureError, match="need an argyrodite with its labels"):
        jumps(plain, "T5-T4-T5")
