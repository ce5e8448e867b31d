"""Copy potentials, and some of MLIP's own results, out of a clone of https://github.com/imw-md/motep (MIT licence).

python make.py path/to/motep.git
"""

import gzip
import lzma
import re
import subprocess
import sys
from pathlib import Path

COMMIT = "eaddbf3"
HERE = Path(__file__).parent
CASES = {
    "crystals/cubic": range(2, 22, 2),
    "crystals/noncubic": range(2, 12, 2),
    "crystals/multi": range(2, 12, 2),
    "molecules/291": (2, 6, 8, 10),
    "molecules/762": (2, 4, 6, 8, 10),
}
WITHOUT_RESULTS = {"crystals/cubic": (22, 24, 26)}  # the moments of MLIP's levels, coefficients made up for timings
FRAMES = (5, 500)  # of the 1000 in a file of crystals; the files of molecules hold fewer


def show(repository: str, path: str) -> bytes:
    command = ["git", "--git-dir", repository, "show", f"{COMMIT}:tests/data_path/fitting/{path}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


for folder, levels in CASES.items():
    for level in levels:
        name = f"{folder.split('/')[1]}-{level:02d}"
        potential = show(sys.argv[1], f"{folder}/{level:02d}/pot.mtp")
        frames = re.findall(rb"BEGIN_CFG\n.*?END_CFG\n", show(sys.argv[1], f"{folder}/{level:02d}/out.cfg"), re.S)
        chosen = [frames[min(n, len(frames) - 1)] for n in FRAMES]
        for suffix, content in (("mtp", potential), ("cfg", b"\n".join(chosen))):
            (HERE / f"{name}.{suffix}.gz").write_bytes(gzip.compress(content, 9, mtime=0))

for folder, without in WITHOUT_RESULTS.items():
    for level in without:
        packed = lzma.compress(show(sys.argv[1], f"{folder}/{level:02d}/pot.mtp"), preset=9 | lzma.PRESET_EXTREME)
        (HERE / f"{folder.split('/')[1]}-{level:02d}.mtp.xz").write_bytes(packed)
