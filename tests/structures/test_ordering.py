"""Orderings of S and halide: counted by Burnside's lemma; Li beside them: energies of pymatgen."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import spglib
from ase import Atoms
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.groups import SpaceGroup

from argyase.errors import StructureError
from argyase.structures import sites
from argyase.structures.argyrodite import assemble
from argyase.structures.ordering import distinct_orderings, ewald_arrangements, inequivalent, permutations

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
EIGHT = np.concatenate([FCC, FCC + np.array([0.25, 0.25, 0.75])]) % 1


def cycles_by_hand() -> list[tuple[list[int], list[int]]]:
    """Lengths of the cycles on 4a and on 4d of each operation of F-43m, from pymatgen's tables."""
    found = []
    for operation in SpaceGroup("F-43m").symmetry_ops:
        images = operation.operate_multi(EIGHT) % 1
        image = [int(np.argmin(np.abs(np.mod(EIGHT - p + 0.5, 1) - 0.5).sum(axis=1))) for p in images]
        lengths: tuple[list[int], list[int]] = ([], [])
        left = set(range(8))
        while left:
            start = n = min(left)
            length = 0
            while n in left:
                left.remove(n)
                n, length = image[n], length + 1
            assert n == start
            lengths[start // 4].append(length)
        found.append(lengths)
    return found


def colourings_fixed(lengths: list[int], chosen: int) -> int:
    """Ways to choose so many sites as a union of whole cycles."""
    return sum(
        sum(part) == chosen for size in range(len(lengths) + 1) for part in itertools.combinations(lengths, size)
    )


def test_counts_by_burnside() -> None:
    """Every number of halides on 4a and 4d: among them x = 0 (4 halides), 0.5 (6), 1 (8)."""
    group = cycles_by_hand()
    assert len(group) == 96
    for on_4a, on_4d in itertools.product(range(5), repeat=2):
        fixed = sum(colourings_fixed(a, on_4a) * colourings_fixed(d, on_4d) for a, d in group)
        assert fixed % 96 == 0
        found = distinct_orderings(on_4a, on_4d)
        assert len(found) == fixed // 96
        assert sum(o.multiplicity for o in found) == math.comb(4, on_4a) * math.comb(4, on_4d)
        assert all((o.halide_4a.sum(), o.halide_4d.sum()) == (on_4a, on_4d) for o in found)
    by_x = {x: [len(distinct_orderings(4 + 4 * x - d, d)) for d in range(4 * x, 5)] for x in (0, 1)}
    assert by_x == {0: [1, 1, 2, 1, 1], 1: [1]}


def test_sites_in_an_ordering() -> None:
    """Classes of equivalent sites are those that spglib finds in the decorated crystal with all of them filled."""
    for ordering in (*distinct_orderings(2, 2), *distinct_orderings(3, 1), *distinct_orderings(4, 0)):
        host = assemble(ordering.halide_4a, ordering.halide_4d, np.empty(0, dtype=int), a=10.0)
        for kind in ("T1", "T2", "T4", "T5"):
            where = sites.orbit(sites.TETRAHEDRAL_SITES[kind])
            filled = host + Atoms(["He"] * len(where), 10.0 * where, cell=host.cell, pbc=True)
            data = spglib.get_symmetry_dataset(
                (filled.cell.array, filled.get_scaled_positions(), filled.numbers), symprec=1e-4
            )
            theirs = Counter(Counter(data.equivalent_atoms[len(host) :].tolist()).values())
            assert Counter(count for _, count in inequivalent(ordering, where)) == theirs


def test_sites_that_are_not_whole() -> None:
    with pytest.raises(StructureError, match="not whole Wyckoff positions"):
        permutations(sites.wyckoff("4a")[:2])


@pytest.mark.parametrize("beside", [None, ("T2", 5), ("T4", 3), ("T5", 40)])
def test_arrangements_have_the_energies_of_pymatgen(beside: tuple[str, int] | None) -> None:
    (ordering,) = distinct_orderings(3, 2)
    found = ewald_arrangements(
        ordering.halide_4a, ordering.halide_4d, 23 if beside is None else 22, starts=6, beside=beside, a=9.5
    )
    assert len(found) > 1
    energies = [energy for energy, _ in found]
    assert energies == sorted(energies)
    for energy, taken in found:
        atoms = assemble(ordering.halide_4a, ordering.halide_4d, taken, a=9.5)
        if beside is not None:
            place = 9.5 * sites.orbit(sites.TETRAHEDRAL_SITES[beside[0]])[beside[1]]
            atoms += Atoms("Li", [place], cell=atoms.cell, pbc=True)
            lithium = np.flatnonzero(atoms.symbols == "Li")[:-1]
            assert atoms.get_distances(len(atoms) - 1, lithium, mic=True).min() > 1.9
        structure = AseAtomsAdaptor.get_structure(atoms)
        structure.add_oxidation_state_by_element({"Li": 1, "P": 5, "S": -2, "Cl": -1})
        # Both sums are converged to some 1e-7 of the energy.
        assert energy == pytest.approx(EwaldSummation(structure).total_energy, rel=1e-6)


def test_electrostatics_does_not_tell_the_two_orderings_at_half_inversion_apart() -> None:
    """With one Li in each doublet: its two-fold axis leaves the pattern of 4d alone. Only relaxation can rank them."""
    first, second = (ewald_arrangements(o.halide_4a, o.halide_4d, 24)[0][0] for o in distinct_orderings(2, 2))
    assert first == pytest.approx(second, abs=1e-6)
