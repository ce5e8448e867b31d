"""The tree of errors that the physics raises.

A message says what was wrong, the value found, what is allowed, and the remedy. The command line maps the tree
to exit codes: 2 configuration, 3 data, 4 physics.
"""

from __future__ import annotations

import math


class ArgyaseError(Exception):
    """Base of every error that argyase raises on purpose."""

    exit_code = 4


class ConfigError(ArgyaseError):
    """A key or a value of a campaign or of a flag is not valid."""

    exit_code = 2


class StructureError(ArgyaseError):
    """A structure that was asked for cannot be built."""

    exit_code = 2


class PotentialFileError(ArgyaseError):
    """A potential file cannot be read; the message names file, line and reason."""

    exit_code = 3


class TrajectoryError(ArgyaseError):
    """A trajectory cannot be read or analysed (wrapped, too short, inconsistent)."""

    exit_code = 3


class ExtrapolationError(ArgyaseError):
    """A simulation left the domain in which its potential was trained."""


class SimulationError(ArgyaseError):
    """Molecular dynamics became unphysical: atoms lost, cell exploded, temperature out of bounds."""


class StatisticsError(ArgyaseError):
    """The data do not determine the quantity that was asked for; `upper` bounds it (95 %) where they do that much."""

    def __init__(self, message: str, upper: float = math.nan) -> None:
        super().__init__(message)
        self.upper = upper


class CalculatorError(ArgyaseError):
    """A calculator is unknown, missing, or failed."""
