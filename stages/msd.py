"""Stage ``msd``: mean squared displacement and tracer diffusivity of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import MSD
from argyase.stages._config import setting
from argyase.stages._observable import ion_paths, observable
from argyase.stages._run import Report, out, silent, stage_main, with_error

CONFINED_A2 = 15.0
"""What Li in the cage of an argyrodite may reach without ever leaving it: any two of its places, on a sphere of 2.4 A,
are 2 R^2 = 12 A^2 apart in the mean square; the rest is vibration."""

CONFINED_HELP = "MSD that ions may reach within their cages: a run in which it is not exceeded gives a bound, no value"


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    confined_A2: float = setting(CONFINED_A2, help=CONFINED_HELP, unit="A^2")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.msd import msd

        _, blocks, time_step = ion_paths(lake, record, config.ion, report)
        return msd(blocks, time_step, config.confined_A2)

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("msd", MSD, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print the diffusivity."""
    if reason := lake.open_run(ids[0]).attrs.get("not_determined"):
        out.print(f"D: {reason}", highlight=False, markup=False)
        return
    s = lake.record(ids[0]).scalars
    out.print(
        f"D = {with_error(s, 'diffusivity')} cm2/s, from lags of {s['fit_start']:g} to {s['fit_stop']:g} ps",
        highlight=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(argv, stage="msd", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False)


if __name__ == "__main__":
    raise SystemExit(main())
