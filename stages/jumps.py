"""Stage ``jumps``: site-resolved jumps of Li in the argyrodite, residence times, rates, the network of cages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import xarray as xr
from rich.table import Table

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import JUMPS
from argyase.stages import msd
from argyase.stages._config import setting
from argyase.stages._observable import chunks_of, observable, temperature_of
from argyase.stages._run import Report, out, silent, stage_main, with_error


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the diffusing species")
    depth: float = setting(0.1, help="smallest barycentric coordinate of an ion that has arrived (0.25: the centre)")
    window: float = setting(0.3, help="time between concerted jumps", unit="ps")
    temperature_K: float | None = setting(None, help="temperature, if the run does not know it", unit="K")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.intervals import Interval
        from argyase.physics.jumps import site_jumps

        transport = lake.open_run(msd.run(msd.Config(run=record.id, ion=config.ion), lake)[0])
        trajectory = lake.trajectory(record.id)
        return site_jumps(
            chunks_of(lake, record, report),
            trajectory.coords["species"],
            trajectory.time_step_ps,
            ion=config.ion,
            depth=config.depth,
            window=config.window,
            temperature=temperature_of(record, config.temperature_K),
            diffusivity=Interval.read(transport, "diffusivity"),
        )

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("jumps", JUMPS, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print rates, residence times and the network."""
    data = lake.open_run(ids[0])

    def estimate(name: str, **where: str) -> str:
        found = {key: float(data[key].sel(where)) for key in data.data_vars if str(key).startswith(name)}
        return with_error({str(k): v for k, v in found.items()}, name)

    rates = Table("jumps", "per ion and ns", "effective barrier (eV)")
    for name in data["jump"].values.tolist():
        rates.add_row(name, estimate("rate", jump=name), estimate("barrier", jump=name))
    sites = Table("site", "occupancy", "residence time (ps)", "attempt frequency (THz)")
    for name in data["site"].values.tolist():
        quantities = ("occupancy", "residence_time", "attempt_frequency")
        sites.add_row(name, *(estimate(quantity, site=name) for quantity in quantities))
    out.print(rates, sites)
    factors = f"of cages {estimate('correlation_factor_cages')}, of sites {estimate('correlation_factor_sites')}"
    out.print(f"cage residence {estimate('cage_residence_time')} ps; correlation factor {factors}", highlight=False)
    out.print(f"the network of cages goes on in {int(data['network_dimensions'])} directions", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="jumps", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
