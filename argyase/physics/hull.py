r"""Energy of argyrodites above the convex hull, and what they decompose into.

Li6-xPS5-xCl1+x = Li3PS4 + (1 - x) Li2S + (1 + x) LiCl holds exactly, so that argyrodites decompose into these unless
an element or another argyrodite lies lower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from argyase.errors import StatisticsError
from argyase.schemas import HULL
from argyase.structures.entropy import configurational_entropy
from argyase.units import BOLTZMANN_EV_K

COMPOUNDS = ("Li3PS4", "Li2S", "LiCl")
"""What the argyrodites are made of."""

ELEMENTS = ("Li", "P", "S")
"""With LiCl, the corners of the diagram; chlorine itself is not needed."""


def atoms_per_formula_unit(x: ArrayLike) -> NDArray[np.float64]:
    """Atoms in a formula unit of Li6-xPS5-xCl1+x.

    >>> float(atoms_per_formula_unit(0.5))
    12.5
    """
    return np.asarray(13.0 - np.asarray(x, dtype=float))


def reaction_energy(x: ArrayLike, energy: ArrayLike, references: Mapping[str, float]) -> NDArray[np.float64]:
    r"""Energy per atom of an argyrodite less that of what it is made of.

    .. math:: \Delta E = E - \frac{8 E(\mathrm{Li_3PS_4}) + 3 (1 - x) E(\mathrm{Li_2S}) +
        2 (1 + x) E(\mathrm{LiCl})}{13 - x}

    Parameters
    ----------
    x
        Extra halide.
    energy
        Of the argyrodites, eV/atom; it is broadcast with `x`.
    references
        Energies of `COMPOUNDS`, eV/atom.

    Returns
    -------
    ndarray
        eV/atom; negative if the argyrodite is stable.

    Examples
    --------
    >>> float(reaction_energy(1.0, -4.0, {"Li3PS4": -4.2, "Li2S": 99.0, "LiCl": -3.6}))  # (8 * 4.2 + 4 * 3.6) / 12 - 4
    0.0
    """
    x = np.asarray(x, dtype=float)
    parts = 8 * references["Li3PS4"] + 3 * (1 - x) * references["Li2S"] + 2 * (1 + x) * references["LiCl"]
    return np.asarray(np.asarray(energy, dtype=float) - parts / atoms_per_formula_unit(x))


Phase = tuple[str, str, float]
"""Name, formula, energy (eV/atom)."""


def decompose(phases: Sequence[Phase], others: Sequence[Phase]) -> list[tuple[float, dict[str, float]]]:
    """Energies above the hull of `phases`, and decompositions, of `others`, which may be among them or not.

    By pymatgen's `CompoundPhaseDiagram` with the corners Li, P, S and LiCl, or Li3PS4, Li2S and LiCl where an element
    is missing among the phases.

    Returns
    -------
    list
        For each of `others` its energy above the hull, eV/atom (negative if it is below), and the fraction of its
        atoms that go into each phase, by name.

    Raises
    ------
    StatisticsError
        If a corner is missing, or a composition lies outside.

    Examples
    --------
    >>> known = [("Li3PS4", "Li3PS4", -4.4), ("Li2S", "Li2S", -4.0), ("LiCl", "LiCl", -3.7)]
    >>> [(above, parts)] = decompose(known, [("argyrodite", "Li6PS5Cl", -4.1)])
    >>> round(13 * above, 6)  # 8 * 4.4 + 3 * 4.0 + 2 * 3.7 - 13 * 4.1
    1.3
    >>> {name: round(13 * part, 6) for name, part in sorted(parts.items())}
    {'Li2S': 3.0, 'Li3PS4': 8.0, 'LiCl': 2.0}
    """
    from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PDEntry
    from pymatgen.core import Composition

    def entry(phase: Phase) -> Any:
        composition = Composition(phase[1])
        return PDEntry(composition, phase[2] * composition.num_atoms, name=phase[0])

    known = {formula for _, formula, _ in phases}
    corners = [*ELEMENTS, "LiCl"] if known.issuperset(ELEMENTS) else list(COMPOUNDS)
    if missing := sorted(set(corners) - known):
        raise StatisticsError(
            f"hull: {missing[0]} is missing among the phases; needed are {', '.join(COMPOUNDS)}, and all of "
            f"{', '.join(ELEMENTS)} or none"
        )
    diagram = CompoundPhaseDiagram([entry(phase) for phase in phases], [Composition(c) for c in corners])
    found = []
    for other in others:
        inside, _ = diagram.transform_entries([entry(other)], diagram.terminal_compositions)
        if not inside:
            raise StatisticsError(f"hull: {other[1]} is no mixture of {', '.join(corners)}")
        parts, above = diagram.get_decomp_and_e_above_hull(inside[0], allow_negative=True, check_stable=False)
        found.append((float(above), {e.original_entry.name: float(part) for e, part in parts.items()}))
    return found


def hull(
    x: ArrayLike,
    inversion: ArrayLike,
    energy: ArrayLike,
    references: Mapping[str, float],
    temperatures: ArrayLike = (300.0,),
) -> xr.Dataset:
    r"""Stability of a grid of argyrodites against reference phases and against each other.

    The free energy is that of the ideal configurational entropy alone,

    .. math:: F(x, y, T) = E(x, y) - \frac{k_B T}{13 - x} \frac{\Delta S(x, y)}{R}

    per atom, with dS/R per formula unit of `configurational_entropy`; reference phases have none. Vibrations are not in
    it; and E is of one ordering (the lowest), while the entropy is of all of them, each as likely as any: F is a lower
    bound of that of the disordered crystal.

    Parameters
    ----------
    x, inversion
        The grid, shapes (x,) and (inversion,), 0 <= x <= inversion <= 1.
    energy
        eV/atom, shape (x, inversion); NaN where there is no such argyrodite.
    references
        Energies of the reference phases by formula, eV/atom.
    temperatures
        K, shape (temperature,).

    Returns
    -------
    Dataset
        Of schema ``hull``.

    Raises
    ------
    StatisticsError
        As `decompose`.

    References
    ----------
    Jang et al., J. Mater. Chem. A 13, 16547 (2025), fig. S4.
    S. P. Ong et al., Chem. Mater. 20, 1798 (2008), for the diagram.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(inversion, dtype=float)
    energy, temperatures = np.asarray(energy, dtype=float), np.asarray(temperatures, dtype=float)
    points = [(int(i), int(j)) for i, j in np.argwhere(np.isfinite(energy))]
    names = [_name(x[i], y[j]) for i, j in points]
    size = atoms_per_formula_unit(x)
    entropy = np.full(energy.shape, np.nan)
    for i, j in points:
        entropy[i, j] = configurational_entropy(x[i], y[j])
    known: list[Phase] = [(name, name, value) for name, value in references.items()]
    reference_amount = np.full((*energy.shape, len(references)), np.nan)
    amount = np.full((*energy.shape, len(references) + len(points)), np.nan)
    above_references, above = np.full(energy.shape, np.nan), np.full((1 + len(temperatures), *energy.shape), np.nan)

    def argyrodites(temperature: float) -> list[Phase]:
        free = energy - BOLTZMANN_EV_K * temperature * entropy / size[:, None]
        return [(n, _cell(x[i]), float(free[i, j])) for n, (i, j) in zip(names, points, strict=True)]

    units = dict(zip(names, (size[i] for i, _ in points), strict=True))
    for name, formula, _ in known:
        units[name] = _atoms(formula)
    for (i, j), (value, parts) in zip(points, decompose(known, argyrodites(0.0)), strict=True):
        above_references[i, j] = value
        reference_amount[i, j] = [parts.get(n, 0.0) * size[i] / units[n] for n in references]
    for t, temperature in enumerate((0.0, *temperatures.tolist())):
        own = argyrodites(temperature)
        for (i, j), (value, parts) in zip(points, decompose([*known, *own], own), strict=True):
            above[t, i, j] = value
            if t == 0:
                amount[i, j] = [parts.get(n, 0.0) * size[i] / units[n] for n in (*references, *names)]
    return HULL.dataset(
        energy=energy,
        reaction_energy=1000 * reaction_energy(x[:, None], energy, references),
        energy_above_references=1000 * above_references,
        energy_above_hull=1000 * above[0],
        free_energy_above_hull=1000 * above[1:],
        configurational_entropy=entropy,
        amount=amount,
        reference_amount=reference_amount,
        reference_energy=list(references.values()),
        x=x,
        inversion=y,
        temperature=temperatures,
        phase=[*references, *names],
        reference=list(references),
    )


def _name(x: float, inversion: float) -> str:
    from argyase.structures.argyrodite import formula

    return f"{formula(x)} {100 * inversion:g} %"


def _cell(x: float) -> str:
    """Formula that pymatgen reads.

    >>> _cell(0.25)
    'Li5.75P1S4.75Cl1.25'
    """
    return f"Li{6 - x:.8g}P1S{5 - x:.8g}Cl{1 + x:.8g}"


def _atoms(formula: str) -> float:
    from pymatgen.core import Composition

    return float(Composition(formula).num_atoms)
