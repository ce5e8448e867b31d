"""Stage ``coordination``: radial distribution functions and coordination numbers, by species and by site of anions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from argyase.datalake.lake import Lake, RunRecord
from argyase.schemas import COORDINATION
from argyase.stages._config import setting
from argyase.stages._observable import chunks_of, labelled_sites, observable
from argyase.stages._run import Report, out, silent, stage_main, with_error


@dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    run: str = setting(help="id of a trajectory in the lake (stage md or ingest), or its first digits")
    ion: str = setting("Li", help="the species in the middle of each pair")
    sites: bool = setting(True, help="tell anions on 4a, 4d and 16e of an argyrodite apart")
    r_max: float = setting(10.0, help="largest distance", unit="A")
    bins: int = setting(200, help="number of bins")


def run(config: Config, lake: Lake, report: Report = silent) -> list[str]:
    """Compute the observable unless the lake has it; its id."""

    def compute(record: RunRecord) -> xr.Dataset:
        from argyase.physics.rdf import coordination, site_labels

        trajectory = lake.trajectory(record.id)
        labels = site_labels(*labelled_sites(lake, record)) if config.sites else trajectory.coords["species"]
        pairs = [(config.ion, str(other)) for other in np.unique(labels)]
        chunks = chunks_of(lake, record, report)
        return coordination(chunks, labels, pairs, trajectory.n_frames, r_max=config.r_max, bins=config.bins)

    settings = {k: v for k, v in asdict(config).items() if k != "run"}
    return observable("coordination", COORDINATION, lake, config.run, settings, compute, config)


def show(lake: Lake, ids: Sequence[str]) -> None:
    """Print the first shells."""
    data = lake.open_run(ids[0])
    for pair in data["pair"].values.tolist():
        one = data.sel(pair=pair)
        found = {str(k): float(v) for k, v in one.data_vars.items() if not v.dims}
        text = f"peak {found['peak']:.2f} A, {with_error(found, 'coordination')} within {found['shell']:.2f} A"
        out.print(f"{pair}: {text}", highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the stage."""
    return stage_main(
        argv, stage="coordination", config=Config, run=run, description=__doc__ or "", epilogue=show, create=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
