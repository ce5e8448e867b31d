"""Every engine of energies, forces and stresses behind one registry of ASE calculators."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.errors import CalculatorError, ConfigError

ENGINES = ("mtp", "lammps", "sevennet", "chgnet", "mace", "gpaw", "vasp")
"""Names that `calculator` knows; ``module:factory`` names anything else."""

WEIGHTS = (
    ".pt", ".pt2", ".pth", ".ckpt", ".model", ".tar", ".mtp", ".almtp", ".xml", ".yaml", ".yace",
    ".eam", ".alloy", ".fs", ".meam", ".tersoff", ".sw",
)  # fmt: skip
"""Suffixes of files that hold a potential."""


@dataclass(frozen=True)
class Engine:
    """How to make a calculator, and what identifies its results."""

    build: Callable[..., BaseCalculator]
    identity: Callable[..., dict[str, Any]]
    relaxation: Callable[..., tuple[dict[str, Any], bool]] | None = None
    """Of an engine that moves atoms itself (see `relaxing`)."""


def calculator(name: str, **settings: Any) -> BaseCalculator:
    """A calculator by the name of its engine.

    Parameters
    ----------
    name
        One of `ENGINES`, or ``module:factory``, a callable that returns an ASE calculator.
    settings
        Of the engine: ``potential`` (and ``species``) of mtp, ``lines`` and ``species`` of lammps, ``checkpoint`` (and
        ``modal``) of sevennet, ``model`` of chgnet, ``model`` (and ``head``, ``dtype``) of mace, ``threads`` of all
        these but lammps; those of
        `argyase.calculators.gpaw.GpawInPresets`; ``preset`` and tags of INCAR of vasp (see
        `argyase.calculators.vasp.VaspInFolders`); the arguments of the factory.

    Raises
    ------
    ConfigError
        If the name is unknown, or the engine has no such setting.
    CalculatorError
        If the engine is not installed; the message says how to install it.

    Examples
    --------
    >>> calculator("ase.calculators.lj:LennardJones", rc=5.0).parameters["rc"]
    5.0
    """
    return _call(_engine(name).build, name, settings)


def single_point(name: str, **settings: Any) -> BaseCalculator:
    """As `calculator`, for atoms that must stay where they are.

    Raises
    ------
    ConfigError
        If with these settings the engine moves the atoms itself: its results are then of another structure.
    """
    made = calculator(name, **settings)
    if getattr(made, "moves_atoms", False):
        raise ConfigError(
            f"calculator {name} with {settings} moves the atoms; single points are needed here: of vasp, preset=label "
            "or site_energy, or nsw=0"
        )
    return made


def relaxing(name: str, settings: dict[str, Any], *, fmax: float, cell: bool) -> tuple[dict[str, Any], bool | None]:
    """Settings by which an engine that moves the atoms itself brings them to rest, and True.

    False if it could, but its settings are those of single points; None for all other engines. In both cases the
    settings are as they were.

    Parameters
    ----------
    fmax
        Largest force that is left, eV/A.
    cell
        Whether the cell is free, too.

    Raises
    ------
    ConfigError
        If they say something else, or move the atoms without bringing them to rest.
    """
    made = _engine(name).relaxation
    if made is None:
        return settings, None
    own, moves = _call(partial(made, fmax, cell), name, settings)
    return dict(own), bool(moves)


def identity(name: str, **settings: Any) -> dict[str, Any]:
    """What the results of an engine depend on: its name, version, settings and the hash of its weights.

    Of ``module:factory``, the content of the files of weights that its settings name (by suffix: `WEIGHTS`; other files
    may be what it writes); the source of the module stands in for the version that a module of one's own does not have.

    Raises
    ------
    ConfigError, CalculatorError
        As `calculator`.
    """
    own = {k: v for k, v in settings.items() if k != "threads"}
    return {"name": name, **_call(_engine(name).identity, name, own)}


def _engine(name: str) -> Engine:
    if ":" in name:
        return _foreign(name)
    if name not in ENGINES:
        raise ConfigError(
            f"calculator = {name!r}: known are {', '.join(ENGINES)}, and module:factory for any other, "
            "e.g. ase.calculators.lj:LennardJones"
        )
    engine: Engine = importlib.import_module(f"argyase.calculators.{name}").ENGINE
    return engine


def _foreign(name: str) -> Engine:
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
        factory = getattr(module, factory_name)
    except ImportError as error:
        raise CalculatorError(f"calculator = {name!r}: cannot import {module_name}: {error}") from None
    except AttributeError:
        raise ConfigError(f"calculator = {name!r}: the module {module_name} has no {factory_name!r}") from None

    def build(**settings: Any) -> BaseCalculator:
        try:
            made = factory(**settings)
        except TypeError:
            raise  # most often a setting that it does not have
        except Exception as error:  # it is somebody's code
            raise CalculatorError(f"calculator {name} with {settings}: {type(error).__name__}: {error}") from error
        if not hasattr(made, "get_property"):
            raise ConfigError(f"calculator = {name!r}: gives a {type(made).__name__}, not an ASE calculator")
        assert isinstance(made, BaseCalculator)
        return made

    def who(**settings: Any) -> dict[str, Any]:
        named = {k: [v] if isinstance(v, str) else v for k, v in settings.items() if isinstance(v, str | list)}
        files = {
            k: sha256_of(*found)
            for k, values in named.items()
            if (found := [v for v in values if isinstance(v, str) and v.endswith(WEIGHTS) and Path(v).is_file()])
        }
        known = {"version": _version(module), "settings": settings}
        return {**known, "files": files} if files else known

    return Engine(build, who)


def _version(module: ModuleType) -> str:
    package = module.__name__.partition(".")[0]
    found = getattr(importlib.import_module(package), "__version__", None)
    if found is None and (names := packages_distributions().get(package)):
        found = version(names[0])
    if found is None and module.__file__:
        found = f"sha256 {sha256_of(module.__file__)}"
    return str(found or "")


def sha256_of(*paths: str | Path) -> str:
    """Hash of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def _call(function: Callable[..., Any], name: str, settings: dict[str, Any]) -> Any:
    try:
        return function(**settings)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise ConfigError(f"calculator {name}: settings {settings}: {error}") from None


def missing(extra: str, error: ImportError) -> CalculatorError:
    """The error of an engine that is not installed."""
    return CalculatorError(
        f"calculator {extra!r} is not installed ({error}); install it by pip install 'argyase[{extra}]' (before that, "
        "to do without several GB of CUDA, the CPU build of torch: pip install torch --index-url "
        "https://download.pytorch.org/whl/cpu)"
    )
