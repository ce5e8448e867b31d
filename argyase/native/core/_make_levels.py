"""Writes levels.inc: of what the potentials are made whose products are unrolled.

    python argyase/native/core/_make_levels.py > argyase/native/core/levels.inc

For each level the products of this package's basis and those of the files that come with MLIP, which are other ones.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

from argyase.potentials.basis import untrained
from argyase.potentials.mtp_file import MTPFile, parse_mtp

LEVELS = (8, 10, 12, 14, 16)
MLIP = Path(__file__).parents[3] / "tests" / "data" / "mlip"


def of_mlip(level: int) -> MTPFile:
    path = MLIP / f"cubic-{level:02d}.mtp.gz"
    return parse_mtp(gzip.decompress(path.read_bytes()), path.name)


def lines() -> Iterator[str]:
    yield "// Basic moments {mu, a, b, c} and products {a, b, factor, c} of MTP levels, in the order of this package's"
    yield "// files and of MLIP's. Made by _make_levels.py. Part of mtp_simd.inc.\n// clang-format off"
    for level in LEVELS:
        for name, mtp in ((f"Level{level}", untrained(level)), (f"Mlip{level}", of_mlip(level))):
            yield ""
            yield f"struct {name} {{"
            yield f"  static constexpr int level = {level}, moments = {mtp.alpha_moments_count};"
            for what, kind, table in (
                ("basic", "std::array<int, 4>", mtp.alpha_index_basic),
                ("times", "Times", mtp.alpha_index_times),
            ):
                yield f"  static constexpr {kind} {what}[] = {{"
                for first in range(0, len(table), 6):
                    rows = ("{" + ", ".join(map(str, row)) + "}" for row in table[first : first + 6].tolist())
                    yield "      " + ", ".join(rows) + ","
                yield "  };"
            yield "};"


if __name__ == "__main__":
    print("\n".join(lines()))
