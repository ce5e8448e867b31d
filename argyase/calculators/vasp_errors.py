"""Errors of VASP that custodian knows, and what of its corrections is made: nothing that makes it another calculation.

custodian (S. P. Ong et al., Comput. Mater. Sci. 68, 314 (2013)) finds known messages in the output of a run that failed
and changes its input. Its handlers serve searches through many materials, and some of their corrections change what is
computed, as the smearing or the k-points do; a label so made would be of another method than all others. Here they only
advise: tags that lead to the same energy by another way are taken, everything else is refused by name.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argyase.errors import CalculatorError

CORRECTIONS = 5
"""Most corrections of one calculation, as many as custodian's own workflows allow."""

WAY = (
    "ALGO", "IALGO", "ISEARCH", "TIME", "AMIX", "BMIX", "AMIX_MAG", "BMIX_MAG", "AMIN", "IMIX", "MAXMIX", "WC",
    "INIMIX", "MIXPRE", "NELM", "NELMIN", "NELMDL", "ISTART", "LSCALAPACK", "LSCALU", "NCORE", "NPAR", "KPAR", "NSIM",
    "LPLANE", "LWAVE", "LCHARG", "ISYM",
)  # fmt: skip
"""Tags of INCAR that say how the ground state is looked for, over how many processes, and by which symmetry."""

_PROCESSES = ("NCORE", "NPAR", "KPAR", "NSIM", "LPLANE", "LWAVE", "LCHARG")
"""Those of them by which not even the way there is another, or what is written."""

_WAYS = {
    "ALGO": ("normal", "n", "veryfast", "v", "fast", "f", "conjugate", "c", "all", "a", "damped", "d", "subrot", "s"),
    "IALGO": ("38", "44", "46", "48", "53", "54", "58"),
    "ISTART": ("0", "1"),
}
"""Values that look for the ground state of the electrons; others (Eigenval, Nothing, GW, CHI, ...) do another thing."""

_FINER = {"EDIFF": 1e-4, "SYMPREC": 1e-5}
"""Tolerances that may become smaller, and VASP's own."""


def same_result(tag: str, value: Any, moves_atoms: bool) -> bool:
    """Whether a tag of INCAR is no part of what a result depends on.

    Where VASP moves the atoms, symmetry is: by it forces are made symmetric.

    >>> same_result("NELM", 200, False), same_result("ALGO", "All", False), same_result("ALGO", "Nothing", False)
    (True, True, False)
    """
    if tag == "ISYM" and moves_atoms:
        return False
    return tag in WAY and (tag not in _WAYS or str(value).lower() in _WAYS[tag])


def way(tags: Mapping[str, Any], moves_atoms: bool) -> dict[str, Any]:
    """Those of the tags that say how the ground state is looked for."""
    return {tag: v for tag, v in tags.items() if same_result(tag, v, moves_atoms) and tag not in _PROCESSES}


@dataclass(frozen=True)
class Advice:
    """What custodian would do about a run that failed."""

    errors: str
    """Handler and names of the errors, as ``VaspErrorHandler (edddav)``."""
    tags: Mapping[str, Any]
    """Tags of INCAR to be set; None takes one away."""

    def __str__(self) -> str:
        changes = [f"{tag} = {value}" if value is not None else f"no {tag}" for tag, value in self.tags.items()]
        return f"{self.errors}: {', '.join(changes) or 'begin anew'}"


def handlers() -> list[Any]:
    """Custodian's handlers of runs that ended; they count what they have tried, so that each calculation needs its own.

    Those left out watch a run while it goes on (`argyase.calculators.vasp` has its own time limit), or change what is
    computed whatever they find (smearing, drift, grids).

    Raises
    ------
    CalculatorError
        If custodian is not installed.
    """
    try:
        from custodian.vasp import handlers as known
    except ImportError as error:
        raise CalculatorError(
            f"vasp: custodian = true, but custodian is not installed ({error}); install it by pip install "
            "'argyase[custodian]'"
        ) from None
    found = [
        known.VaspErrorHandler(),
        known.StdErrHandler(output_filename="vasp.out"),  # where both streams go
        known.MeshSymmetryErrorHandler(),
        known.NonConvergingErrorHandler(),
        known.UnconvergedErrorHandler(),
    ]
    silent = logging.Logger("custodian")
    silent.addHandler(logging.NullHandler())
    for handler in found:
        handler.logger = silent  # what it finds is told in errors and in the record of the run
    return found


def advise(known: Sequence[Any], folder: Path, *, relaxes: bool) -> Advice | str:
    """What the first handler that knows the error would do; or why nothing is to be done.

    The files of the run are packed into ``error.1.tar.gz``, ... of the folder. The handler changes its input files, and
    takes WAVECAR away where it does not trust it; the caller has to write the input anew.

    Parameters
    ----------
    known
        Of `handlers`.
    folder
        Of the run.
    relaxes
        Whether VASP relaxes the atoms: then the optimizer and its step may change, and a new start from CONTCAR is
        progress.
    """
    from custodian.utils import tracked_lru_cache
    from pymatgen.io.vasp.inputs import Incar

    why = "custodian knows no correction, or none that was not tried"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of POTCARs that pymatgen does not know, and custodian's asides
        before, waves = dict(Incar.from_file(folder / "INCAR")), (folder / "WAVECAR").is_file()
        for handler in known:
            name = type(handler).__name__
            try:
                found = handler.check(directory=str(folder)) and handler.correct(directory=str(folder))
            except (
                Exception
            ) as error:  # of files that a run which died has left cut off, anything: another may know more
                why = f"custodian's {name} failed ({type(error).__name__}: {error})"
                continue
            finally:
                tracked_lru_cache.tracked_cache_clear()
            if not found:
                continue
            errors, actions = f"{name} ({', '.join(sorted(found['errors']))})", found["actions"] or []
            tags, refused = taken_and_refused(actions, before, relaxes)
            if refused:
                return (
                    f"custodian ({errors}) would change {', '.join(refused)}, which makes it another calculation: that "
                    "is for you to decide, in the settings"
                )
            anew = waves and not (folder / "WAVECAR").is_file()
            if tags or anew or (relaxes and any(action.get("file") == "CONTCAR" for action in actions)):
                return Advice(errors, tags)
    return why


def taken_and_refused(
    actions: Sequence[Mapping[str, Any]], incar: Mapping[str, Any], relaxes: bool
) -> tuple[dict[str, Any], list[str]]:
    """Custodian's actions as tags that are taken (None: taken away), and changes that are not."""
    tags: dict[str, Any] = {}
    refused: list[str] = []
    for action in actions:
        if (file := action.get("file", "")) in ("WAVECAR", "CHGCAR", "CONTCAR"):
            continue  # taken away, or copied to POSCAR, where `argyase.calculators.vasp` goes on from it by itself
        if action.get("dict") != "INCAR":
            refused.append(str(action.get("dict", file)))
            continue
        for how, changes in action["action"].items():
            for tag, value in changes.items():
                tag, value = tag.upper(), None if how == "_unset" else value
                if value == incar.get(tag):
                    continue
                if how in ("_set", "_unset") and _same_result(tag, value, incar, relaxes):
                    tags[tag] = value
                else:
                    refused.append(f"{tag} = {value}")
    return tags, refused


def _same_result(tag: str, value: Any, incar: Mapping[str, Any], relaxes: bool) -> bool:
    """Whether a tag changes the way to the energy, and not the energy that is found."""
    if tag in WAY:
        return True
    if value is None:
        return False
    if tag == "ICHARG":
        return int(value) < 10  # from 10 on the density is kept as it is
    if tag in _FINER:
        return bool(value < incar.get(tag, _FINER[tag]))
    if tag == "NBANDS":
        return bool(value > incar.get("NBANDS", 0))
    if tag == "IBRION":
        return relaxes and value in (1, 2, 3)
    return tag == "POTIM" and relaxes
