"""Stage ``conductivity``: Nernst-Einstein conductivity of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import CONDUCTIVITY
from argyase.stages import msd
from argyase.stages._config import setting
from argyase.stages._observable import observable, temperature_of
from argyase.stages._run import Report, out, silent, stage_main, with_error


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    charge: float = setting(1.0, help="charge of the ion", unit="e")
    temperature_K: float | None = setting(None, help="temperature, if the run does not know it", unit="K")
    confined_A2: float = setting(msd.CONFINED_A2, help=msd.CONFINED_HELP, unit="A^2")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.conductivity import conductivity

        source = msd.run(msd.Config(run=record.id, ion=config.ion, confined_A2=config.confined_A2), lake)[0]
        volume = float(np.abs(np.linalg.det(lake.trajectory(record.id).cell())).mean())
        return conductivity(lake.open_run(source), volume, temperature_of(record, config.temperature_K), config.charge)

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("conductivity", CONDUCTIVITY, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print the conductivity."""
    if reason := lake.open_run(ids[0]).attrs.get("not_determined"):
        out.print(f"sigma: {reason}", highlight=False, markup=False)
    s = lake.record(ids[0]).scalars
    if (value := with_error(s, "conductivity")) != "not determined":
        equals = "" if value.startswith("<") else "= "
        out.print(f"sigma {equals}{value} mS/cm at {s['temperature']:.0f} K (Nernst-Einstein)", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="conductivity", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
