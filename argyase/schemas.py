"""Name, dimensions and units of every dataset that argyase writes: declared once, here.

Dimensions use the field's words and nothing else: frame, atom, ion, lag, window, r, xyz, cell_vector, bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Variable:
    """One labelled array: its dimensions, units (CF/UDUNITS spelling), meaning and storage type."""

    dims: tuple[str, ...]
    units: str
    long_name: str
    dtype: str = "float64"
    required: bool = True


@dataclass(frozen=True)
class Schema:
    """The variables and coordinates of one kind of dataset; `version` is raised when a meaning changes."""

    name: str
    version: int
    variables: Mapping[str, Variable]
    coords: Mapping[str, Variable] = field(default_factory=dict)

    def dataset(self, attrs: Mapping[str, Any] | None = None, **arrays: Any) -> xr.Dataset:
        """Build the labelled dataset from plain arrays, one keyword for each variable or coordinate.

        Raises
        ------
        KeyError
            If a keyword is not declared in the schema, or a required one is missing.
        """
        declared = {**self.variables, **self.coords}
        if unknown := sorted(set(arrays) - set(declared)):
            raise KeyError(f"{self.name}: not in the schema: {unknown}; declared: {sorted(declared)}")
        if missing := sorted(k for k, v in declared.items() if v.required and k not in arrays):
            raise KeyError(f"{self.name}: missing {missing}")

        def labelled(key: str) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
            v = declared[key]
            value = np.asarray(arrays[key])
            value = value.astype(str if v.dtype == "str" else v.dtype)
            return v.dims, value, {"units": v.units, "long_name": v.long_name}

        return xr.Dataset(
            {k: labelled(k) for k in self.variables if k in arrays},
            coords={k: labelled(k) for k in self.coords if k in arrays},
            attrs={"schema": self.name, "schema_version": self.version, **(attrs or {})},
        )


_ATOM_COORDS = {
    "species": Variable(("atom",), "1", "chemical symbol", "str"),
    "atom_id": Variable(("atom",), "1", "number of the atom, from 0", "int64"),
    "site": Variable(("atom",), "1", "Wyckoff site on which the atom was placed (4a 4b 4d 16e 48h)", "str"),
    "cage": Variable(("atom",), "1", "number of the Li cage (its 4d site), -1 for none", "int64"),
}
_XYZ = {"xyz": Variable(("xyz",), "1", "Cartesian axis", "str")}


def _estimate(name: str, units: str, long_name: str, dims: tuple[str, ...] = ()) -> dict[str, Variable]:
    """A number with its uncertainty: value, standard error and 95 % interval."""
    return {
        name: Variable(dims, units, long_name),
        f"{name}_stderr": Variable(dims, units, f"standard error of the {long_name}"),
        f"{name}_low": Variable(dims, units, f"lower end of the 95 % interval of the {long_name}"),
        f"{name}_high": Variable(dims, units, f"upper end of the 95 % interval of the {long_name}"),
    }


STRUCTURE = Schema(
    "structure",
    1,
    {
        "positions": Variable(("atom", "xyz"), "angstrom", "position"),
        "cell": Variable(("cell_vector", "xyz"), "angstrom", "cell vectors, one a row"),
        "configurational_entropy": Variable((), "1", "dS_conf / R per formula unit (4a and 4d, eq. 3)"),
    },
    {**_ATOM_COORDS, **_XYZ},
)

TRAJECTORY = Schema(
    "trajectory",
    1,
    {
        "positions": Variable(("frame", "atom", "xyz"), "angstrom", "unwrapped position"),
        "cell": Variable(("frame", "cell_vector", "xyz"), "angstrom", "cell vectors, one a row"),
    },
    {"time": Variable(("frame",), "ps", "time since the start of production"), **_ATOM_COORDS, **_XYZ},
)

MD = Schema(
    "md",
    1,
    {
        "temperature": Variable(("frame",), "K", "kinetic temperature"),
        "pressure": Variable(
            ("frame",), "GPa", "pressure (a third of the trace of the stress, positive in compression)"
        ),
        "potential_energy": Variable(("frame",), "eV", "potential energy of the cell"),
        "kinetic_energy": Variable(("frame",), "eV", "kinetic energy of the cell"),
        "volume": Variable(("frame",), "angstrom3", "volume of the cell"),
        "grade": Variable(
            ("frame",),
            "1",
            "largest extrapolation grade of an atom since the frame before (NaN where none was computed)",
            required=False,
        ),
    },
    {"time": Variable(("frame",), "ps", "time since the start of production")},
)

INGEST = Schema(
    "ingest",
    1,
    {"volume": Variable(("frame",), "angstrom3", "volume of the cell")},
    {"time": Variable(("frame",), "ps", "time since the first frame")},
)

MSD = Schema(
    "msd",
    2,
    {
        "msd": Variable(("lag",), "angstrom2", "mean squared displacement, all time origins"),
        "msd_stderr": Variable(("lag",), "angstrom2", "standard error of the mean squared displacement"),
        "msd_xyz": Variable(("lag", "xyz"), "angstrom2", "mean squared displacement along one axis"),
        **_estimate("diffusivity", "cm2 s-1", "tracer diffusion coefficient"),
        "running_diffusivity": Variable(("window",), "cm2 s-1", "slope / 6 of the MSD over lags window / 2 ... window"),
        "running_diffusivity_stderr": Variable(("window",), "cm2 s-1", "standard error of the running diffusivity"),
        "fit_start": Variable((), "ps", "first lag of the fit"),
        "fit_stop": Variable((), "ps", "last lag of the fit"),
        "ions": Variable((), "1", "number of diffusing ions", "int64"),
    },
    {
        "lag": Variable(("lag",), "ps", "lag time"),
        "window": Variable(("window",), "ps", "last lag of a window"),
        **_XYZ,
    },
)

CONDUCTIVITY = Schema(
    "conductivity",
    2,
    {
        **_estimate("conductivity", "mS cm-1", "Nernst-Einstein conductivity"),
        **_estimate("diffusivity", "cm2 s-1", "tracer diffusion coefficient"),
        "temperature": Variable((), "K", "mean temperature"),
        "number_density": Variable((), "angstrom-3", "diffusing ions per volume"),
    },
)

COLLECTIVE = Schema(
    "collective",
    1,
    {
        **_estimate("conductivity", "mS cm-1", "conductivity of the charge current (Einstein-Helfand)"),
        **_estimate("conductivity_tracer", "mS cm-1", "Nernst-Einstein conductivity over the same lags"),
        **_estimate("haven_ratio", "1", "Haven ratio D / D_sigma"),
        **_estimate("diffusivity_charge", "cm2 s-1", "diffusion coefficient of the charge D_sigma"),
        **_estimate("onsager", "mS cm-1", "Onsager coefficient of unit charges", ("species_a", "species_b")),
        **_estimate("onsager_self", "mS cm-1", "self part of that of the ion"),
        **_estimate("onsager_distinct", "mS cm-1", "distinct part of that of the ion"),
        "charge": Variable(("species_a",), "1", "formal charge, e"),
        "charge_msd": Variable(("lag",), "angstrom2", "mean squared displacement of the ions' sum, over their number"),
        "fit_start": Variable((), "ps", "first lag of the fit"),
        "fit_stop": Variable((), "ps", "last lag of the fit"),
        "temperature": Variable((), "K", "mean temperature"),
        "volume": Variable((), "angstrom3", "mean volume of the cell"),
        "ions": Variable((), "1", "number of diffusing ions", "int64"),
    },
    {
        "species_a": Variable(("species_a",), "1", "chemical symbol", "str"),
        "species_b": Variable(("species_b",), "1", "chemical symbol", "str"),
        "lag": Variable(("lag",), "ps", "lag time"),
    },
)

ARRHENIUS = Schema(
    "arrhenius",
    2,
    {
        **_estimate("conductivity", "mS cm-1", "conductivity, averaged over seeds", ("temperature",)),
        **_estimate("activation_energy", "eV", "activation energy of sigma T"),
        **_estimate("conductivity_at", "mS cm-1", "conductivity by the line at the temperature `at`"),
        "log_prefactor": Variable((), "1", "ln of A / (mS cm-1 K)"),
        "log_prefactor_stderr": Variable((), "1", "its standard error"),
        "at": Variable((), "K", "temperature that the line is read at"),
        "chi_squared": Variable((), "1", "sum of squared deviations from the line, in standard errors"),
        "fitted": Variable(("temperature",), "1", "whether the point is in the fit", "bool"),
        "extrapolated": Variable((), "1", "whether `at` is outside of the fitted temperatures", "bool"),
    },
    {"temperature": Variable(("temperature",), "K", "mean temperature")},
)

SERIES = Schema(
    "series",
    2,
    {
        **_estimate("conductivity", "mS cm-1", "conductivity, averaged over seeds", ("size",)),
        "deviation": Variable(("size",), "1", "difference to the largest cell, in its standard errors"),
    },
    {"size": Variable(("size",), "1", "atoms of the cell", "int64")},
)


def _correlation(name: str, units: str, what: str) -> Schema:
    return Schema(
        name,
        1,
        {
            "x": Variable(("run",), "1", "configurational entropy dS / R of the run, from its 4a and 4d sites"),
            "value": Variable(("run",), units, what),
            "value_stderr": Variable(("run",), units, f"standard error of the {what}"),
            **_estimate("slope", units, "slope of the weighted line"),
            "intercept": Variable((), units, "intercept of the weighted line"),
            **_estimate("rank_correlation", "1", "Spearman's rank correlation"),
            "chi_squared": Variable((), "1", "sum of squared deviations from the line, in standard errors"),
            "left_out": Variable((), "1", "runs that are not determined", "int64"),
        },
        {},
    )


CORRELATION = _correlation("correlation", "mS cm-1", "conductivity")
HOP_CORRELATION = _correlation("hop_correlation", "ns-1", "jumps per ion and time")

VANHOVE = Schema(
    "vanhove",
    2,
    {
        "g_self": Variable(("lag", "r"), "angstrom-3", "self part of the van Hove function G_s(r, t)"),
        "radial_probability": Variable(("lag", "r"), "angstrom-1", "4 pi r^2 G_s(r, t)"),
        "fraction_beyond": Variable(("lag",), "1", "fraction of displacements beyond the last r"),
        **_estimate("non_gaussian", "1", "non-Gaussian parameter alpha_2", ("lag",)),
    },
    {
        "lag": Variable(("lag",), "ps", "lag time"),
        "r": Variable(("r",), "angstrom", "displacement, centre of the bin"),
    },
)

DISTINCT = Schema(
    "distinct",
    1,
    {
        "g_distinct": Variable(("lag", "r"), "1", "distinct part of the van Hove function over the density"),
        "g_distinct_stderr": Variable(("lag", "r"), "1", "its standard error"),
        "origins": Variable((), "1", "number of time origins", "int64"),
    },
    {
        "lag": Variable(("lag",), "ps", "lag time"),
        "r": Variable(("r",), "angstrom", "distance, centre of the bin"),
    },
)

HOPS = Schema(
    "hops",
    1,
    {
        "ever_beyond": Variable((), "1", "ions that were ever farther than the threshold from their start", "int64"),
        "end_beyond": Variable((), "1", "ions farther than the threshold from their start at the end", "int64"),
        "crossings": Variable((), "1", "upward crossings of the threshold, all ions", "int64"),
        **_estimate("crossing_rate", "ns-1", "upward crossings per ion and time"),
        "cumulative_ever": Variable(("frame",), "1", "ions that were ever beyond the threshold, up to a time", "int64"),
        "threshold": Variable((), "angstrom", "distance from the start that counts as a hop"),
        "ions": Variable((), "1", "number of diffusing ions", "int64"),
        "duration": Variable((), "ps", "length of the trajectory"),
    },
    {"time": Variable(("frame",), "ps", "time since the start of production")},
)

JUMPS = Schema(
    "jumps",
    1,
    {
        "jumps": Variable(("jump",), "1", "jumps of each class, all ions", "int64"),
        **_estimate("rate", "ns-1", "jumps per ion and time", ("jump",)),
        **_estimate("barrier", "eV", "effective barrier kT ln(attempt frequency of T5 / rate)", ("jump",)),
        **_estimate("occupancy", "1", "fraction of the ions on each kind of site", ("site",)),
        **_estimate("residence_time", "ps", "mean time on one site", ("site",)),
        **_estimate("attempt_frequency", "THz", "attempt frequency on each kind of site", ("site",)),
        **_estimate("cage_residence_time", "ps", "mean time in one cage"),
        "residence_histogram": Variable(("site", "residence"), "1", "stays on a site, from arrival to departure"),
        "cage_residence_histogram": Variable(("residence",), "1", "stays in a cage, from arrival to departure"),
        "site_jumps": Variable(("site", "site_to"), "1", "moves between kinds of sites, all ions", "int64"),
        "cage_jumps": Variable(("environment", "environment_to"), "1", "jumps between kinds of cages", "int64"),
        "environment_time": Variable(("environment",), "ns", "time that ions spent in cages of this kind"),
        "environment_cages": Variable(("environment",), "1", "cages of this kind", "int64"),
        **_estimate("escape_rate", "ns-1", "inter-cage jumps out of this kind per ion in it", ("environment",)),
        "cage_anion": Variable(("cage",), "1", "chemical symbol on the 4d site of the cage", "str"),
        "cage_halides_4a": Variable(("cage",), "1", "halides on the four 4a sites around the cage", "int64"),
        "cage_ions": Variable(("cage",), "1", "mean number of ions in the cage"),
        "lines": Variable((), "1", "pairs of cages (images apart) with a jump between them", "int64"),
        "network_dimensions": Variable((), "1", "directions in which the network of jumps goes on for ever", "int64"),
        "network_rate": Variable(
            ("dimension",), "ns-1", "jumps over the weakest line of the strongest that wrap in so many directions"
        ),
        "network_wraps": Variable(("xyz",), "1", "whether the network wraps along this cell vector", "bool"),
        "network_fraction": Variable((), "1", "fraction of the cages in the largest part of the network"),
        **_estimate("jump_diffusivity_sites", "cm2 s-1", "diffusion coefficient of uncorrelated jumps between sites"),
        **_estimate("jump_diffusivity_cages", "cm2 s-1", "diffusion coefficient of uncorrelated jumps between cages"),
        **_estimate("correlation_factor_sites", "1", "tracer D over that of uncorrelated jumps between sites"),
        **_estimate("correlation_factor_cages", "1", "tracer D over that of uncorrelated jumps between cages"),
        **_estimate("concerted_fraction", "1", "fraction of inter-cage jumps with a partner"),
        **_estimate("concerted_expected", "1", "fraction with a partner if ions were independent"),
        "lost_fraction": Variable((), "1", "fraction of frames and ions without a tetrahedron around the ion"),
        "anions_turned": Variable((), "1", "anions that changed sites as PS4 turned", "int64"),
        "depth": Variable((), "1", "smallest barycentric coordinate of an ion that has arrived"),
        "window": Variable((), "ps", "time between concerted jumps"),
        "ions": Variable((), "1", "number of diffusing ions", "int64"),
        "duration": Variable((), "ps", "length of the trajectory"),
    },
    {
        "jump": Variable(("jump",), "1", "class of jumps", "str"),
        "site": Variable(("site",), "1", "kind of tetrahedron", "str"),
        "site_to": Variable(("site_to",), "1", "kind of tetrahedron of arrival", "str"),
        "environment": Variable(("environment",), "1", "anion on 4d (X: halide), halides on the four 4a", "str"),
        "environment_to": Variable(("environment_to",), "1", "that of the cage of arrival", "str"),
        "cage": Variable(("cage",), "1", "number of the cage", "int64"),
        "dimension": Variable(("dimension",), "1", "number of directions", "int64"),
        "residence": Variable(("residence",), "ps", "shortest time of the bin"),
        **_XYZ,
    },
)

_VOXELS = ("grid_a", "grid_b", "grid_c")
DENSITY = Schema(
    "density",
    1,
    {
        "density": Variable(_VOXELS, "angstrom-3", "probability density of the ions", "float32"),
        "free_energy": Variable(_VOXELS, "eV", "free energy -kT ln(density / largest density)", "float32"),
        "mean_density": Variable((), "angstrom-3", "mean density"),
        **_estimate("percolation_level", "1", "highest level that percolates, in mean densities", ("dimension",)),
        **_estimate("barrier", "eV", "free energy of the highest level that percolates", ("dimension",)),
        "axis_level": Variable(("xyz",), "1", "highest level that wraps along this cell vector, in mean densities"),
        "volume_fraction": Variable(("multiple",), "1", "fraction of the volume inside of the isosurface"),
        "ion_fraction": Variable(("multiple",), "1", "fraction of the ions inside of the isosurface"),
        "parts": Variable(("multiple",), "1", "separate parts of the isosurface in the cell", "int64"),
        "directions": Variable(("multiple",), "1", "directions in which the isosurface goes on for ever", "int64"),
        "cell": Variable(("cell_vector", "xyz"), "angstrom", "cell vectors of the grid, one a row"),
        "framework": Variable(("atom", "xyz"), "1", "mean fractional position of the other atoms"),
        "temperature": Variable((), "K", "temperature"),
        "smoothing": Variable((), "angstrom", "standard deviation of the smoothing"),
        "ions": Variable((), "1", "number of diffusing ions", "int64"),
    },
    {
        "grid_a": Variable(("grid_a",), "1", "fractional coordinate along the first cell vector, centre of the voxel"),
        "grid_b": Variable(("grid_b",), "1", "fractional coordinate along the second cell vector"),
        "grid_c": Variable(("grid_c",), "1", "fractional coordinate along the third cell vector"),
        "dimension": Variable(("dimension",), "1", "number of directions", "int64"),
        "multiple": Variable(("multiple",), "1", "level of the isosurface, in mean densities"),
        "species": _ATOM_COORDS["species"],
        **_XYZ,
    },
)

_ERRORS = {
    f"{prefix}{quantity}_{kind}": Variable(dims, units, f"{words} of the {quantity} ({what})")
    for prefix, dims in (("", ("set", "group")), ("iteration_", ("iteration", "set")))
    for quantity, units, what in (
        ("energy", "meV", "per atom"),
        ("force", "eV angstrom-1", "components"),
        ("stress", "GPa", "components; NaN without labels"),
    )
    for kind, words in (("mae", "mean absolute error"), ("rmse", "root mean square error"))
}

# Frames of any sizes: their atoms one after the other.
_FRAMES = {
    "positions": Variable(("atom", "xyz"), "angstrom", "position, frame by frame"),
    "cell": Variable(("frame", "cell_vector", "xyz"), "angstrom", "cell vectors, one a row; zero for a molecule"),
    "atoms": Variable(("frame",), "1", "number of atoms of the frame", "int64"),
    "group": Variable(("frame",), "1", "group of the frame: of a phase, or a way of sampling", "str"),
    "trajectory": Variable(("frame",), "1", "trajectory that the frame is of", "str"),
    "parent": Variable(("frame",), "1", "run or file that the frame is from", "str"),
    "parent_frame": Variable(("frame",), "1", "number of the frame in there", "int64"),
}
_FRAME_COORDS = {"species": Variable(("atom",), "1", "chemical symbol", "str"), **_XYZ}

SAMPLE = Schema(
    "sample",
    1,
    {
        **_FRAMES,
        "temperature": Variable(("frame",), "K", "kinetic temperature (NaN without dynamics)"),
        "sample_energy": Variable(("frame",), "eV", "energy by the calculator that sampled (NaN without one)"),
    },
    _FRAME_COORDS,
)

SELECT = Schema(
    "select",
    1,
    {**_FRAMES, "grade": Variable(("frame",), "1", "largest extrapolation grade of an atom")},
    _FRAME_COORDS,
)

LABEL = Schema(
    "label",
    1,
    {
        **_FRAMES,
        "energy": Variable(("frame",), "eV", "energy of the cell"),
        "forces": Variable(("atom", "xyz"), "eV angstrom-1", "force, frame by frame"),
        "stress": Variable(
            ("frame", "voigt"), "eV angstrom-3", "stress, positive in tension (NaN where the calculator gives none)"
        ),
    },
    {**_FRAME_COORDS, "voigt": Variable(("voigt",), "1", "component of a tensor", "str")},
)

LEARN = Schema(
    "learn",
    1,
    {"new_frames": Variable(("round",), "1", "frames new to the potential that sampled them", "int64")},
    {"round": Variable(("round",), "1", "number of the round", "int64")},
)

_PREDICTIONS = {
    **{name: v for name, v in _ERRORS.items() if not name.startswith("iteration_")},
    "frames": Variable(("set", "group"), "1", "number of frames", "int64"),
    "force_species_rmse": Variable(("set", "symbol"), "eV angstrom-1", "root mean square error of force components"),
    "energy": Variable(("frame", "source"), "eV", "energy per atom"),
    "stress": Variable(("frame", "voigt", "source"), "GPa", "stress (NaN without a label)"),
    "force": Variable(("atom", "xyz", "source"), "eV angstrom-1", "force, frame by frame"),
}
_PREDICTION_COORDS = {
    "set": Variable(("set",), "1", "training, held-out or test", "str"),
    "group": Variable(("group",), "1", "group of frames; all: all of them", "str"),
    "symbol": Variable(("symbol",), "1", "chemical symbol", "str"),
    "source": Variable(("source",), "1", "label or prediction", "str"),
    "voigt": Variable(("voigt",), "1", "component of a tensor", "str"),
    "frame_group": Variable(("frame",), "1", "group of the frame", "str"),
    "frame_set": Variable(("frame",), "1", "set of the frame", "str"),
    "trajectory": Variable(("frame",), "1", "trajectory of the frame", "str"),
    "species": Variable(("atom",), "1", "chemical symbol", "str"),
    **_XYZ,
}

FIT = Schema(
    "fit",
    3,
    {
        "loss": Variable(("iteration",), "1", "loss of the training frames"),
        "held_out_loss": Variable(("iteration",), "1", "loss of the held-out frames (NaN without)"),
        **{name: v for name, v in _ERRORS.items() if name.startswith("iteration_")},
        **_PREDICTIONS,
    },
    _PREDICTION_COORDS,
)

ERRORS = Schema("errors", 1, _PREDICTIONS, _PREDICTION_COORDS)

_PAIR = {"pair": Variable(("pair",), "1", "the two species", "str")}
_DISTANCE = {"r": Variable(("r",), "angstrom", "distance of the two")}

SCAN = Schema(
    "scan",
    1,
    {
        "energy": Variable(("pair", "r"), "eV", "energy, less that where the scan begins (NaN: no such pair is near)"),
        "start": Variable(("pair",), "angstrom", "distance where the scan begins: in a crystal, that at rest"),
    },
    {**_PAIR, **_DISTANCE},
)

ELASTICITY = Schema(
    "elasticity",
    1,
    {
        "volume": Variable(("scale",), "angstrom3", "volume per atom"),
        "energy": Variable(("scale",), "eV", "energy per atom, atoms at rest, held species where they scale to"),
        "equilibrium_volume": Variable((), "angstrom3", "volume per atom at the minimum"),
        "equilibrium_energy": Variable((), "eV", "energy per atom at the minimum"),
        "bulk_modulus": Variable((), "GPa", "bulk modulus"),
        "lattice_scale": Variable((), "1", "lengths at the minimum, in those of the structure"),
    },
    {"scale": Variable(("scale",), "1", "factor of all lengths")},
)

RDF = Schema(
    "rdf",
    1,
    {"rdf": Variable(("pair", "r"), "1", "radial distribution function")},
    {**_PAIR, "r": Variable(("r",), "angstrom", "distance, middle of the bin")},
)

COORDINATION = Schema(
    "coordination",
    1,
    {
        "rdf": Variable(("pair", "r"), "1", "radial distribution function"),
        "rdf_stderr": Variable(("pair", "r"), "1", "its standard error"),
        "neighbours": Variable(("pair", "r"), "1", "second kind within r of one of the first"),
        "neighbours_stderr": Variable(("pair", "r"), "1", "its standard error"),
        "peak": Variable(("pair",), "angstrom", "first peak (NaN: none within reach)"),
        "shell": Variable(("pair",), "angstrom", "end of the first shell (NaN: not within reach)"),
        **_estimate("coordination", "1", "neighbours in the first shell", ("pair",)),
    },
    {
        "pair": Variable(("pair",), "1", "kinds of the two, with the site of anions", "str"),
        "r": Variable(("r",), "angstrom", "distance, middle of the bin"),
    },
)

BARRIER = Schema(
    "barrier",
    4,
    {
        "energy": Variable(("image",), "eV", "energy on the path, less that of its start"),
        "positions": Variable(("image", "atom", "xyz"), "angstrom", "position on the path"),
        "cell": Variable(("cell_vector", "xyz"), "angstrom", "cell vectors (rows)"),
        "forces": Variable(("image", "atom", "xyz"), "eV angstrom-1", "force on the path"),
        "forward": Variable((), "eV", "largest climb on the path, forward"),
        "backward": Variable((), "eV", "largest climb on the path, backward"),
    },
    {"species": _ATOM_COORDS["species"], **_XYZ},
)

RELAX = Schema(
    "relax",
    1,
    {
        **STRUCTURE.variables,
        "energy": Variable((), "eV", "energy of the cell"),
        "energy_per_atom": Variable((), "eV", "energy per atom"),
        "forces": Variable(("atom", "xyz"), "eV angstrom-1", "force"),
        "stress": Variable(
            ("voigt",), "eV angstrom-3", "stress, positive in tension (NaN where the calculator gives none)"
        ),
        "volume": Variable((), "angstrom3", "volume of the cell"),
        "steps": Variable((), "1", "steps taken; of an engine that moves the atoms itself, its runs", "int64"),
        "max_force": Variable((), "eV angstrom-1", "largest force that is left", required=False),
        "max_cell_gradient": Variable(
            (), "eV", "largest component of volume times stress, per atom, that is left", required=False
        ),
        "energy_less_last_step": Variable(
            (),
            "eV",
            "energy per atom in plane waves of the final cell, less that of the last ionic step, in those of the first",
            required=False,
        ),
    },
    {**STRUCTURE.coords, "voigt": Variable(("voigt",), "1", "component of a tensor", "str")},
)

_ARRANGEMENTS = ("ordering", "arrangement")

ORDERINGS = Schema(
    "orderings",
    1,
    {
        "halide_4a": Variable(("ordering", "site"), "1", "halides on the 4a sites of the unit cell", "int64"),
        "halide_4d": Variable(("ordering", "site"), "1", "halides on the 4d sites of the unit cell", "int64"),
        "multiplicity": Variable(("ordering",), "1", "distributions that symmetry makes of the ordering", "int64"),
        "ewald_energy": Variable(_ARRANGEMENTS, "eV", "Ewald energy of formal charges of the cell, unrelaxed"),
        "relaxed_energy": Variable(_ARRANGEMENTS, "eV", "energy per atom at rest (NaN: not relaxed, or not converged)"),
        "energy_per_atom": Variable(("ordering",), "eV", "lowest energy per atom of the ordering"),
        "energy_per_formula_unit": Variable(("ordering",), "eV", "lowest energy per formula unit of the ordering"),
        "run": Variable(_ARRANGEMENTS, "1", "run of the relaxation (empty: none, or not converged)", "str"),
        "lowest": Variable(("ordering",), "1", "number of the lowest arrangement, -1 if none converged", "int64"),
    },
    {
        "ordering": Variable(("ordering",), "1", "number of the symmetry-distinct S/halide distribution", "int64"),
        "arrangement": Variable(("arrangement",), "1", "number of the Li arrangement, by Ewald energy", "int64"),
    },
)

_GRID = ("x", "inversion")

HULL = Schema(
    "hull",
    1,
    {
        "energy": Variable(_GRID, "eV", "energy per atom of the lowest ordering"),
        "reaction_energy": Variable(
            _GRID, "meV", "energy per atom, less that of Li3PS4 + (1 - x) Li2S + (1 + x) LiX (negative: stable)"
        ),
        "energy_above_references": Variable(
            _GRID, "meV", "energy per atom above the hull of the reference phases alone (negative: stable)"
        ),
        "energy_above_hull": Variable(
            _GRID, "meV", "energy per atom above the hull of reference phases and argyrodites"
        ),
        "free_energy_above_hull": Variable(
            ("temperature", *_GRID),
            "meV",
            "E - T dS_conf per atom above the hull of reference phases and argyrodites at that temperature",
        ),
        "configurational_entropy": Variable(_GRID, "1", "dS_conf / R per formula unit (4a and 4d, eq. 3)"),
        "amount": Variable(
            (*_GRID, "phase"), "1", "formula units in the decomposition of one, on the hull of all phases"
        ),
        "reference_amount": Variable(
            (*_GRID, "reference"), "1", "formula units in the decomposition of one, on the hull of the references"
        ),
        "reference_energy": Variable(("reference",), "eV", "energy per atom of the reference phase"),
        "run": Variable(_GRID, "1", "run of the relaxed structure", "str", required=False),
        "reference_run": Variable(("reference",), "1", "run of the relaxed structure", "str", required=False),
    },
    {
        "x": Variable(("x",), "1", "extra halide"),
        "inversion": Variable(("inversion",), "1", "fraction of 4d sites that hold the halide"),
        "temperature": Variable(("temperature",), "K", "temperature"),
        "phase": Variable(("phase",), "1", "phase on the hull: reference phases, then argyrodites", "str"),
        "reference": Variable(("reference",), "1", "reference phase", "str"),
    },
)

_SITE_ENERGY = {
    "charged_site_energy": "energy of one Li+ on the site of the lattice without other Li, at closed-shell charge",
    "lattice_site_energy": "energy of one Li on the site of the lattice with all other Li, neutral",
}

SITE_ENERGIES = Schema(
    "site_energies",
    1,
    {
        **{
            name: Variable(("sample",), "eV", f"{words}, less that of the same without it", required=False)
            for name, words in _SITE_ENERGY.items()
        },
        "weight": Variable(("sample",), "1", "share of the sample in the sites of its kind, all orderings together"),
        "density": Variable(("kind", "energy"), "eV-1", "kernel density of site energies, per site"),
        "mean": Variable(("kind",), "eV", "mean site energy"),
        "spread": Variable(("kind",), "eV", "standard deviation of site energies"),
        "sites": Variable(("kind",), "1", "sites of the kind in a unit cell", "int64"),
        **_estimate("overlap", "1", "overlap of two densities, the integral of the smaller", ("pair",)),
        "bandwidth": Variable((), "eV", "standard deviation of the kernel"),
    },
    {
        "site_kind": Variable(("sample",), "1", "kind of the tetrahedral site", "str"),
        "site_number": Variable(("sample",), "1", "number of the site in its orbit", "int64"),
        "ordering": Variable(("sample",), "1", "number of the S/halide ordering", "int64"),
        "kind": Variable(("kind",), "1", "kind of tetrahedral site", "str"),
        "pair": Variable(("pair",), "1", "two kinds of sites", "str"),
        "energy": Variable(("energy",), "eV", "site energy"),
    },
)

SCHEMAS: dict[str, Schema] = {
    s.name: s
    for s in (
        STRUCTURE,
        TRAJECTORY,
        MD,
        INGEST,
        MSD,
        CONDUCTIVITY,
        COLLECTIVE,
        ARRHENIUS,
        SERIES,
        CORRELATION,
        HOP_CORRELATION,
        VANHOVE,
        DISTINCT,
        HOPS,
        JUMPS,
        DENSITY,
        SAMPLE,
        SELECT,
        LABEL,
        LEARN,
        FIT,
        ERRORS,
        SCAN,
        ELASTICITY,
        RDF,
        COORDINATION,
        BARRIER,
        RELAX,
        ORDERINGS,
        HULL,
        SITE_ENERGIES,
    )
}
