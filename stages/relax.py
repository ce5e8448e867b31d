"""Stage ``relax``: a structure at rest: positions, and the cell unless it is kept, by any calculator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from ase import Atoms

from argyase.datalake.lake import Lake
from argyase.errors import CalculatorError, ConfigError
from argyase.schemas import RELAX
from argyase.stages import structures
from argyase.stages._config import setting
from argyase.stages._frames import CALCULATOR_HELP, SETTINGS_HELP, made_by, parse_settings
from argyase.stages._run import Report, collect_provenance, labels, published, silent, stage_main

if TYPE_CHECKING:
    from argyase.dynamics.relaxation import Descent


@dataclass(frozen=True)
class Config:
    """What to relax, and by what."""

    structure: str = setting(help="run of the lake (structures, relax) or structure file")
    calculator: str = setting("mtp", help=CALCULATOR_HELP)
    settings: tuple[str, ...] = setting((), help=SETTINGS_HELP)
    fmax: float = setting(0.03, help="largest force that is left", unit="eV/A")
    steps: int = setting(1000, help="most steps of ASE (of vasp: nsw=200)")
    cell: bool = setting(True, help="relax the cell, too, until volume times stress, per atom, is below fmax")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Relax the structure unless the lake has it; the id of the run.

    Raises
    ------
    ConfigError
        If the settings of a calculator that moves the atoms itself contradict `fmax` or `cell`, or do not relax; or if
        it finds them wrong when it computes.
    CalculatorError
        If it does not come to rest, or the calculator fails; what there is is kept as a failure, which is told again
        instead of computed again.
    """
    from argyase.calculators import calculator, identity, relaxing
    from argyase.dynamics.relaxation import descend, unconverged

    structure = structures.find(config.structure, lake)
    settings = parse_settings(config.settings, "relax.settings")
    settings, moves = relaxing(config.calculator, settings, fmax=config.fmax, cell=config.cell)
    parameters: dict[str, Any] = {
        **labels(lake.record(structure)),
        "calculator": identity(config.calculator, **settings),
        "fmax": config.fmax,
        "steps": config.steps,
        "cell": config.cell,
    }
    if moves and config.cell:
        parameters["results_of"] = "a single point in the final cell"  # and not, as in older runs, of the last step
    if run_id := published(lake, "relax", parameters, [structure], RELAX.version):
        return [run_id]
    if failed := lake.failure("relax", parameters, [structure], RELAX.version):
        raise CalculatorError(_again(str(failed.scalars["reason"]), failed.id))
    with lake.begin("relax", parameters, [structure], RELAX, collect_provenance(config)) as attempt:
        parent = lake.open_run(structure)
        atoms = structures.to_atoms(parent)
        entropy = float(parent["configurational_entropy"])
        atoms.calc = calculator(config.calculator, **settings)
        report(0, 1)
        try:
            steps = 0 if moves is False else config.steps
            found = descend(atoms, fmax=config.fmax, steps=steps, cell=config.cell)
            if moves is False and not found.at_rest:
                raise CalculatorError(f"{found}: it computes single points by these settings; take preset=relax")
            reason = "" if found.at_rest else unconverged(atoms, found)
            dataset = _dataset(atoms, found, entropy)
        except ConfigError:
            raise  # of the settings
        except Exception as error:  # calculators raise anything
            # A calculator that moves the atoms itself can go on from where it was: nothing is settled by its failure.
            raise CalculatorError(f"relaxation of {atoms.get_chemical_formula()}: {error}") from error
        if reason:
            raise CalculatorError(_again(reason, attempt.publish_failure(reason, dataset)))
        report(1, 1)
        corrections = "; ".join(found.corrections)  # of vasp, by custodian
        return [
            attempt.publish(dataset, {**made_by(atoms.calc), **({"corrections": corrections} if corrections else {})})
        ]


def _again(reason: str, run_id: str) -> str:
    return f"{reason} (kept as run {run_id}; to try the same again, remove it with: argyase lake rm {run_id})"


def _dataset(atoms: Atoms, found: Descent, entropy: float) -> xr.Dataset:
    base = structures.to_dataset(atoms, entropy)
    arrays: dict[str, Any] = {str(name): base[name].values for name in base.variables}
    energy = float(atoms.get_potential_energy())
    if not np.isfinite(energy):
        raise CalculatorError("the energy is not finite")
    stress = np.full(6, np.nan)
    if "stress" in atoms.calc.implemented_properties:
        stress = atoms.get_stress()
    if found.cell_gradient is not None:
        arrays["max_cell_gradient"] = found.cell_gradient
    if found.energy_less_last_step is not None:
        arrays["energy_less_last_step"] = found.energy_less_last_step / len(atoms)
    return RELAX.dataset(
        **arrays,
        energy=energy,
        energy_per_atom=energy / len(atoms),
        forces=atoms.get_forces(),
        stress=stress,
        volume=atoms.get_volume(),
        steps=found.steps,
        max_force=found.force,
        voigt=["xx", "yy", "zz", "yz", "xz", "xy"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="relax", config=Config, run=run, description=__doc__ or "")


if __name__ == "__main__":
    raise SystemExit(main())
