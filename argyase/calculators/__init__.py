"""Every engine of energies, forces and stresses behind one registry of ASE calculators."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ase.calculators.calculator import BaseCalculator

from argyase.errors import CalculatorError, ConfigError

ENGINES = ("mtp", "lammps", "sevennet", "chgnet")
"""Names that `calculator` knows; ``module:factory`` names anything else."""


@dataclass(frozen=True)
class Engine:
    """How to make a calculator, and what identifies its results."""

    build: Callable[..., BaseCalculator]
    identity: Callable[..., dict[str, Any]]


def calculator(name: str, **settings: Any) -> BaseCalculator:
    """A calculator by the name of its engine.

    Parameters
    ----------
    name
        One of `ENGINES`, or ``module:factory``, a callable that returns an ASE calculator.
    settings
        Of the engine: ``potential`` (and ``species``) of mtp, ``lines`` and ``species`` of lammps, ``checkpoint`` of
        sevennet, ``model`` of chgnet, ``threads`` of all but lammps; the arguments of the factory.

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


def identity(name: str, **settings: Any) -> dict[str, Any]:
    """What the results of an engine depend on: its name, version, settings and the hash of its weights.

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
    package = module_name.partition(".")[0]
    version = str(getattr(importlib.import_module(package), "__version__", ""))
    return Engine(factory, lambda **settings: {"version": version, "settings": settings})


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
        "to do without several GB of CUDA, the CPU build of torch: see Get Started on pytorch.org)"
    )
