"""Cells of Li6-xPS5-xCl1+x (and Br, I) with exactly the site disorder that is asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from argyase.errors import StructureError
from argyase.structures import ordering, sites

LATTICE_CONSTANT_A = {"Cl": 9.859, "Br": 9.988, "I": 10.142}
"""Cubic lattice constants at room temperature, A.

Li6PS5Cl 9.859, Li6PS5Br 9.988, Li6PS5I 10.142: M. A. Kraft et al., J. Am. Chem. Soc. 139, 10909 (2017).
"""

_TOLERANCE = 1e-6


def argyrodite(
    x: float = 0.0,
    inversion: float = 0.0,
    supercell: tuple[int, int, int] = (1, 1, 1),
    seed: int = 1,
    *,
    li_added: bool = False,
    halide: str = "Cl",
    a: float | None = None,
    decoration: Literal["random", "quasirandom", "ewald"] = "random",
) -> Atoms:
    """Li6-xPS5-xX1+x with a fraction `inversion` of the 4d sites, and 1 + x - inversion of 4a, holding the halide X.

    Li sits on 48h, never on both sites of a doublet; which doublets and which of their sites is drawn by `seed` and
    then improved by swaps until no shorter Li-Li contacts can be removed (random, quasirandom), or chosen by the
    Ewald energy (ewald).

    Parameters
    ----------
    x
        Extra halide, 0 <= x <= 1.
    inversion
        Fraction of 4d sites that hold the halide, x <= inversion <= 1.
    supercell
        Unit cells (52 atoms each at x = 0) along a, b, c.
    seed
        Seed of every random choice: the same arguments give the same atoms.
    li_added
        Put the Li that extra halide removes back: Li6PS5-xX1+x (not charge-balanced).
    halide
        Cl, Br or I.
    a
        Lattice constant of the cubic cell, A; the measured one when left out.
    decoration
        ``random``; ``quasirandom``: pair correlations of 4a and 4d as near to the random alloy's as swaps can bring
        them; ``ewald``: the lowest electrostatic energy of formal charges (one unit cell only).

    Returns
    -------
    Atoms
        Sorted Li, P, S, X, with the arrays ``site`` (Wyckoff site) and ``cage`` (number of the 4d site that a Li
        surrounds or an anion fills; -1 for other atoms); ``info`` repeats the arguments and has the formula.

    Raises
    ------
    StructureError
        If an argument is out of range, or a number of sites is not whole in this supercell; the message names the
        nearest possible values and a supercell in which the request is possible.

    Examples
    --------
    >>> atoms = argyrodite(x=0.5, inversion=0.5, supercell=(1, 1, 2))
    >>> atoms.get_chemical_formula("hill")
    'Cl12Li44P8S36'
    """
    supercell = _checked_supercell(supercell)
    if halide not in LATTICE_CONSTANT_A:
        raise StructureError(f"halide = {halide!r}: allowed are {', '.join(LATTICE_CONSTANT_A)}")
    if a is not None and not (math.isfinite(a) and a > 0):
        raise StructureError(f"a = {a}: the lattice constant must be positive (A)")
    on_4a, on_4d, lithium = occupations(x, inversion, supercell, li_added)
    cells = math.prod(supercell)
    if decoration == "ewald" and cells > 1:
        raise StructureError(
            f"decoration = 'ewald' in a supercell of {cells} cells: it ranks the orderings of one unit cell; "
            "use 'random' or 'quasirandom'"
        )
    rng = np.random.default_rng(seed)
    shape = np.asarray(supercell, dtype=float)
    s4a, s4d = sites.tile(sites.wyckoff("4a"), supercell), sites.tile(sites.wyckoff("4d"), supercell)
    if decoration == "ewald":
        is_halide_4a, is_halide_4d, taken = ordering.lowest_ewald(on_4a, on_4d, lithium, halide)
    else:
        is_halide_4a, is_halide_4d = _draw(rng, 4 * cells, on_4a), _draw(rng, 4 * cells, on_4d)
        if decoration == "quasirandom":
            ordering.decorrelate(s4a, s4d, is_halide_4a, is_halide_4d, shape, rng)
        elif decoration != "random":
            raise StructureError(f"decoration = {decoration!r}: allowed are 'random', 'quasirandom', 'ewald'")
        taken = ordering.place_lithium(supercell, lithium, rng)
    atoms = assemble(is_halide_4a, is_halide_4d, taken, supercell, halide, a)
    atoms.info.update(
        x=x, inversion=inversion, supercell=supercell, seed=seed, li_added=li_added, halide=halide,
        decoration=decoration, formula=formula(x, li_added, halide),
    )  # fmt: skip
    return atoms


def assemble(
    is_halide_4a: NDArray[np.bool_],
    is_halide_4d: NDArray[np.bool_],
    taken: NDArray[np.int64],
    supercell: tuple[int, int, int] = (1, 1, 1),
    halide: str = "Cl",
    a: float | None = None,
) -> Atoms:
    """An argyrodite from what is on its sites, as `argyrodite` returns it but for ``info``.

    Parameters
    ----------
    is_halide_4a, is_halide_4d
        Where the halide is, the free S elsewhere, shape (4 x cell,).
    taken
        Numbers of the 48h sites with Li in the tiled cell (`sites.tile`).
    supercell, halide, a
        As in `argyrodite`.
    """
    cells, shape = math.prod(supercell), np.asarray(supercell, dtype=float)
    s4a, s4d = sites.tile(sites.wyckoff("4a"), supercell), sites.tile(sites.wyckoff("4d"), supercell)
    s48h = sites.tile(sites.wyckoff("48h"), supercell)
    cage_48h = sites.nearest(s48h, s4d, supercell)

    parts: list[tuple[NDArray[np.float64], Sequence[str], str, NDArray[np.int64]]] = [
        (s48h[taken], ["Li"] * len(taken), "48h", cage_48h[taken]),
        _part("4b", ["P"] * 4 * cells, supercell),
        _part("16e", ["S"] * 16 * cells, supercell),
        (s4a, _species(is_halide_4a, halide), "4a", np.full(4 * cells, -1)),
        (s4d, _species(is_halide_4d, halide), "4d", np.arange(4 * cells)),
    ]
    symbols = np.concatenate([np.asarray(p[1]) for p in parts])
    order = np.argsort([["Li", "P", "S", halide].index(s) for s in symbols], kind="stable")
    lattice = LATTICE_CONSTANT_A[halide] if a is None else a
    atoms = Atoms(
        symbols=symbols[order].tolist(),
        positions=(np.concatenate([p[0] for p in parts]) * lattice)[order],
        cell=shape * lattice,
        pbc=True,
    )
    atoms.set_array("site", np.concatenate([np.full(len(p[0]), p[2]) for p in parts])[order])
    atoms.set_array("cage", np.concatenate([p[3] for p in parts])[order])
    return atoms


def formula(x: float, li_added: bool = False, halide: str = "Cl") -> str:
    """Chemical formula per formula unit.

    >>> formula(0.5), formula(0.0), formula(0.25, li_added=True)
    ('Li5.5PS4.5Cl1.5', 'Li6PS5Cl', 'Li6PS4.75Cl1.25')
    """
    numbers = {"Li": 6 - (0 if li_added else x), "P": 1.0, "S": 5 - x, halide: 1 + x}
    return "".join(f"{k}{'' if abs(v - 1) < 1e-12 else f'{v:.6g}'}" for k, v in numbers.items())


def occupations(
    x: float, inversion: float, supercell: tuple[int, int, int], li_added: bool = False
) -> tuple[int, int, int]:
    """Numbers of halides on 4a, of halides on 4d, and of Li in the supercell.

    Raises
    ------
    StructureError
        As `argyrodite`.
    """
    if not (math.isfinite(x) and -_TOLERANCE <= x <= 1 + _TOLERANCE):
        raise StructureError(f"x = {x}: Li6-xPS5-xCl1+x needs 0 <= x <= 1")
    if not (math.isfinite(inversion) and x - _TOLERANCE <= inversion <= 1 + _TOLERANCE):
        raise StructureError(
            f"inversion = {inversion} with x = {x}: need x <= inversion <= 1, because 4a holds a fraction "
            f"1 + x - inversion of halide; the nearest possible inversion is {min(max(inversion, x), 1.0):g}"
        )
    sites_each = 4 * math.prod(supercell)
    extra, on_4d = x * sites_each, inversion * sites_each
    if abs(extra - round(extra)) > _TOLERANCE * sites_each:
        raise StructureError(_not_whole("x", x, sites_each, 0.0, 1.0, supercell))
    if abs(on_4d - round(on_4d)) > _TOLERANCE * sites_each:
        raise StructureError(_not_whole("inversion", inversion, sites_each, x, 1.0, supercell))
    lithium = 6 * sites_each - (0 if li_added else round(extra))
    return sites_each + round(extra) - round(on_4d), round(on_4d), lithium


def possible_inversions(x: float, supercell: tuple[int, int, int]) -> NDArray[np.float64]:
    """The degrees of inversion that a supercell can hold, ascending.

    >>> possible_inversions(0.5, (1, 1, 1))
    array([0.5 , 0.75, 1.  ])
    """
    n = 4 * math.prod(_checked_supercell(supercell))
    return np.arange(math.ceil(x * n - _TOLERANCE), n + 1) / n


def _not_whole(name: str, value: float, n: int, low: float, high: float, supercell: tuple[int, int, int]) -> str:
    near = sorted({k / n for k in (math.floor(value * n), math.ceil(value * n)) if low - 1e-9 <= k / n <= high + 1e-9})
    cells = "x".join(map(str, supercell))
    text = (
        f"{name} = {value:g} is {value * n:.4g} of the {n} sites of a {cells} supercell, not a whole number; "
        f"the nearest possible values are {' and '.join(f'{v:.6g}' for v in near)}"
    )
    for shape in sorted(itertools.combinations_with_replacement(range(1, 6), 3), key=math.prod):
        m = 4 * math.prod(shape)
        if abs(value * m - round(value * m)) < _TOLERANCE * m:
            return text + f"; a {'x'.join(map(str, shape))} supercell can hold it"
    return text


def _checked_supercell(supercell: Sequence[int]) -> tuple[int, int, int]:
    if len(supercell) != 3 or any(int(n) != n or n < 1 for n in supercell):
        raise StructureError(f"supercell = {tuple(supercell)}: need three whole numbers of 1 or more")
    na, nb, nc = (int(n) for n in supercell)
    return na, nb, nc


def _draw(rng: np.random.Generator, sites_each: int, chosen: int) -> NDArray[np.bool_]:
    mask = np.zeros(sites_each, dtype=bool)
    mask[rng.permutation(sites_each)[:chosen]] = True
    return mask


def _species(is_halide: NDArray[np.bool_], halide: str) -> list[str]:
    return [halide if h else "S" for h in is_halide]


def _part(
    letter: str, species: Sequence[str], supercell: tuple[int, int, int]
) -> tuple[NDArray[np.float64], Sequence[str], str, NDArray[np.int64]]:
    where = sites.tile(sites.wyckoff(letter), supercell)
    return where, species, letter, np.full(len(where), -1)
