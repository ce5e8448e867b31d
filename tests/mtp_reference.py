"""A Moment Tensor Potential as the papers write it: no neighbour blocks, no SIMD, derivatives by complex steps.

A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016); I. S. Novikov et al., Mach. Learn.: Sci. Technol. 2, 025002
(2021), eqs. 2-8.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.potentials.mtp_file import MTPFile

STEP = 1e-30


def site_energy(
    p: MTPFile, centre: int, types: Sequence[int], vectors: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Energy of one atom with the neighbours at `vectors`, shape (..., neighbour, 3)."""
    r = np.sqrt((vectors**2).sum(axis=-1))
    unit = vectors / r[..., None]
    xi = (2 * r - (p.min_dist + p.max_dist)) / (p.max_dist - p.min_dist)
    chebyshev = [np.ones_like(xi), xi]
    while len(chebyshev) < p.radial_basis_size:
        chebyshev.append(2 * xi * chebyshev[-1] - chebyshev[-2])
    moments = np.zeros((p.alpha_moments_count, *r.shape[:-1]), dtype=complex)
    for m, (mu, nx, ny, nz) in enumerate(p.alpha_index_basic):
        c = p.radial_coeffs[centre, list(types), mu]  # (neighbour, basis)
        f = p.scaling * sum(c[:, b] * chebyshev[b] for b in range(p.radial_basis_size)) * (p.max_dist - r) ** 2
        moments[m] = (f * unit[..., 0] ** nx * unit[..., 1] ** ny * unit[..., 2] ** nz).sum(axis=-1)
    for a, b, factor, c in p.alpha_index_times:
        moments[c] += factor * moments[a] * moments[b]
    scalars = sum(w * moments[m] for w, m in zip(p.moment_coeffs, p.alpha_moment_mapping, strict=True))
    return np.asarray(p.species_coeffs[centre] + scalars)


Pair = tuple[int, int, NDArray[np.float64], NDArray[np.float64]]


def gradients(
    p: MTPFile, atoms: Atoms, species: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Pair]]:
    """Energies (atom,), forces (atom, 3), and for each neighbour i, j, r_ij and dE_i/dr_ij."""
    types = [list(species).index(s) for s in atoms.get_chemical_symbols()]
    n, cell, x = len(atoms), atoms.cell.array, atoms.get_positions()
    images = np.zeros((1, 3))
    if atoms.pbc.any():
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        # Positions may lie outside of the cell.
        reach = np.ceil(p.max_dist / heights + np.ptp(x @ np.linalg.inv(cell), axis=0)).astype(int)
        images = np.array([[a, b, c] for a in range(-reach[0], reach[0] + 1) for b in range(-reach[1], reach[1] + 1)
                           for c in range(-reach[2], reach[2] + 1)]) @ cell  # fmt: skip
    energies, forces = np.zeros(n), np.zeros((n, 3))
    all_pairs: list[Pair] = []
    for i in range(n):
        pairs = [(j, v) for j in range(n) for v in x[j] + images - x[i] if 0 < np.linalg.norm(v) < p.max_dist]
        vectors = np.array([v for _, v in pairs], dtype=complex).reshape(-1, 3)
        kinds = [types[j] for j, _ in pairs]
        size = vectors.size
        stepped = np.repeat(vectors[None], size + 1, axis=0).reshape(size + 1, size)
        stepped[np.arange(size), np.arange(size)] += 1j * STEP
        found = site_energy(p, types[i], kinds, stepped.reshape(size + 1, -1, 3))
        energies[i] = found[-1].real
        gradient = (found[:-1].imag / STEP).reshape(-1, 3)
        for (j, v), g in zip(pairs, gradient, strict=True):
            forces[i] += g
            forces[j] -= g
            all_pairs.append((i, j, v, g))
    return energies, forces, all_pairs


def evaluate(
    p: MTPFile, atoms: Atoms, species: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Energies (atom,), forces (atom, 3) and the virial dE/dstrain (3, 3)."""
    energies, forces, pairs = gradients(p, atoms, species)
    virial = sum((np.outer(v, g) for _, _, v, g in pairs), np.zeros((3, 3)))
    return energies, forces, virial
