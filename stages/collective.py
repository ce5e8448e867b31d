"""Stage ``collective``: conductivity of the charge current, Haven ratio and Onsager coefficients of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import COLLECTIVE
from argyase.stages._config import setting
from argyase.stages._observable import ion_paths, observable, temperature_of
from argyase.stages._run import Report, out, silent, stage_main, with_error


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    temperature_K: float | None = setting(None, help="temperature, if the run does not know it", unit="K")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.collective import collective

        temperature = temperature_of(record, config.temperature_K)
        sums, blocks, time_step = ion_paths(lake, record, config.ion, report)
        return collective(sums, blocks, time_step, temperature, ion=config.ion)

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("collective", COLLECTIVE, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print conductivity and Haven ratio."""
    if reason := lake.open_run(ids[0]).attrs.get("not_determined"):
        out.print(f"sigma: {reason}", highlight=False, markup=False)
    s = lake.record(ids[0]).scalars
    out.print(
        f"sigma = {with_error(s, 'conductivity')} mS/cm at {s['temperature']:.0f} K (all ions together); Haven ratio "
        f"{with_error(s, 'haven_ratio')}, from lags of {s['fit_start']:g} to {s['fit_stop']:g} ps",
        highlight=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="collective", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
