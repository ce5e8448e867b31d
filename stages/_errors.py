"""Errors of a potential on labelled frames, by group: what the stages fit and errors put into the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from argyase.physics.statistics import Estimate
    from argyase.potentials.fit import Labels
    from argyase.potentials.mtp import MTP

ERROR_UNITS = {"energy": "meV_per_atom", "force": "eV_per_A", "stress": "GPa"}
"""Units of the errors, as model cards spell them."""

ERROR_COLUMNS = tuple(f"{quantity}_{kind}" for quantity in ERROR_UNITS for kind in ("mae", "rmse"))


def error_arrays(calculator: MTP, sets: Mapping[str, Labels]) -> dict[str, Any]:
    """Variables and coordinates of schema ``errors``: labels beside predictions, and their errors by group."""
    from argyase.potentials.fit import predict

    species = calculator.species
    predictions = {key: predict(calculator, labels) for key, labels in sets.items()}
    groups = ["all", *sorted({group for labels in sets.values() for group in labels.groups})]
    errors = {column: np.full((len(sets), len(groups)), np.nan) for column in ERROR_COLUMNS}
    frames = np.zeros((len(sets), len(groups)), dtype=int)
    by_species = np.full((len(sets), len(species)), np.nan)
    symbols = {key: [s for a in labels.frames for s in a.get_chemical_symbols()] for key, labels in sets.items()}
    for k, (key, labels) in enumerate(sets.items()):
        for g, group in enumerate(groups):
            chosen = np.array([group == "all" or own == group for own in labels.groups], dtype=bool)
            frames[k, g] = chosen.sum()
            if chosen.any():
                part = predictions[key].take(chosen, np.array([len(a) for a in labels.frames])).errors()
                for column in ERROR_COLUMNS:
                    errors[column][k, g] = getattr(part, column)
        difference = np.diff(predictions[key].forces, axis=-1)[..., 0]
        for z, symbol in enumerate(species):
            own = difference[np.array(symbols[key], dtype=str) == symbol]
            by_species[k, z] = np.sqrt((own**2).mean()) if own.size else np.nan
    return {
        **errors,
        "frames": frames,
        "force_species_rmse": by_species,
        "energy": np.concatenate([p.energies for p in predictions.values()]),
        "stress": np.concatenate([p.stresses for p in predictions.values()]),
        "force": np.concatenate([p.forces for p in predictions.values()]),
        "set": list(sets),
        "group": groups,
        "symbol": list(species),
        "source": ["label", "prediction"],
        "voigt": ["xx", "yy", "zz", "yz", "xz", "xy"],
        "frame_group": [g for labels in sets.values() for g in labels.groups],
        "frame_set": [key for key, labels in sets.items() for _ in range(len(labels))],
        "trajectory": [t for labels in sets.values() for t in labels.trajectories],
        "species": [s for key in sets for s in symbols[key]],
        "xyz": ["x", "y", "z"],
    }


def force_slopes(data: xr.Dataset, atoms: Sequence[int]) -> dict[str, Estimate]:
    """Sum F F' / sum F F of labelled forces F and predicted ones F', of all atoms and of each species.

    Below 1 the potential is softer than what labelled the frames. The error is that of independent frames.

    Parameters
    ----------
    data
        Of schema ``errors``.
    atoms
        Number of atoms of each frame.
    """
    from argyase.physics.intervals import ratio_of_sums

    both = data["force"].transpose("atom", "xyz", "source").values
    above, below = both.prod(axis=-1).sum(axis=1), (both[..., 0] ** 2).sum(axis=1)
    species, first = data["species"].values, np.cumsum([0, *atoms])[:-1]
    found = {}
    for name in ("all", *(s for s in data["symbol"].values.tolist() if s in species)):
        counts = (species == name) | (name == "all")
        found[name] = ratio_of_sums(*(np.add.reduceat(v * counts, first) for v in (above, below)))
    return found
