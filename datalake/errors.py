"""The tree of errors that the lake raises; the command line maps it to exit code 3 (data)."""

from __future__ import annotations


class DatalakeError(Exception):
    """Base of every error that the lake raises on purpose."""

    exit_code = 3


class SchemaError(DatalakeError):
    """A dataset or a parameter does not satisfy what was declared for it."""


class NotInLakeError(DatalakeError):
    """The lake has no such run."""


class CorruptRunError(DatalakeError):
    """Files of a run are missing, cut or changed."""


class RunningElsewhereError(DatalakeError):
    """Another living process works on the same run."""
