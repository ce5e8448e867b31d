"""The modules of the three rooms of the house: argyase, argyase.stages, argyase.datalake."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = {"argyase": ROOT / "argyase", "argyase.stages": ROOT / "stages", "argyase.datalake": ROOT / "datalake"}


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in ROOMS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *(p for p in parts if p != "__init__")))
            found[name] = path
    return found


MODULES = _modules()
