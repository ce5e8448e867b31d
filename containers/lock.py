"""Print what the image has, extras included, at the newest versions that pip finds: containers/lock.txt.

Run with the Python of the image (Debian's 3.11): ``python3.11 containers/lock.py > containers/lock.txt``
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

EXTRAS = ("sevennet", "gpaw")
TOOLS = ("cmake", "ninja", "setuptools", "wheel")
TORCH = "torch==2.13.0"  # of its CPU index, which pip has to know: elsewhere it brings gigabytes of CUDA

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], *TOOLS, TORCH]
wanted += [r for extra in EXTRAS for r in project["project"]["optional-dependencies"][extra]]
with tempfile.TemporaryDirectory() as folder:
    report = Path(folder) / "report.json"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    subprocess.run([*pip, "--report", str(report), *wanted], check=True, stdout=sys.stderr)
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
print("# Written by containers/lock.py: the versions in the image.")
for line in sorted(f"{m['name'].lower().replace('_', '-')}=={m['version'].partition('+')[0]}" for m in found):
    print(line)
