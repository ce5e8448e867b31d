"""sbatch, squeue and scontrol that run the scripts they are given, one after the other, and nothing else of Slurm.

`install` puts them on the PATH; what they queue is run by `run`, tasks in their order, dependencies heeded. The time of
the task that `run` is told is up after its first checkpoint.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path


def install(folder: Path) -> None:
    """Put the three commands into a folder that is on the PATH; their state beside them."""
    for name in ("sbatch", "squeue", "scontrol"):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -I {__file__} {folder}/slurm.json {name} "$@"\n')
        path.chmod(0o755)
    (folder / "slurm.json").write_text('{"jobs": [], "requeued": []}')


def _options(script: str) -> dict[str, str]:
    found = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.M)
    known = {"job-name", "array", "time", "nodes", "ntasks", "cpus-per-task", "mem", "requeue", "open-mode",
             "output", "chdir", "kill-on-invalid-dep", "partition", "account", "qos"}  # fmt: skip
    assert {name for name, _ in found} <= known, f"unknown to sbatch: {found}"
    return dict(found)


def sbatch(state: Path, arguments: list[str]) -> None:
    """Queue the tasks of an array."""
    data = json.loads(state.read_text())
    assert arguments[0] == "--parsable"
    dependency = next((a.partition("=")[2] for a in arguments if a.startswith("--dependency=")), "")
    options = _options(Path(arguments[-1]).read_text())
    first, last = re.fullmatch(r"(\d+)-(\d+)(?:%\d+)?", options["array"]).groups()
    job = str(len({j["job"] for j in data["jobs"]}) + 100)
    for index in range(int(first), int(last) + 1):
        data["jobs"].append({"job": job, "index": index, "script": arguments[-1], "dependency": dependency,
                             "state": "PENDING", "code": None, "restarts": 0})  # fmt: skip
    state.write_text(json.dumps(data))
    print(job)


def squeue(state: Path) -> None:
    """What is not done."""
    for job in json.loads(state.read_text())["jobs"]:
        if job["state"] in ("PENDING", "RUNNING"):
            print(f"{job['job']}|{job['index']}|{job['state']}|{'Dependency' if job['dependency'] else 'None'}")


def scontrol(state: Path, arguments: list[str]) -> None:
    """Only ``scontrol requeue JOB``."""
    assert arguments[0] == "requeue"
    data = json.loads(state.read_text())
    data["requeued"].append(arguments[1])
    state.write_text(json.dumps(data))


def _ready(job: dict, jobs: list[dict]) -> bool | None:
    """Whether its dependency is fulfilled; None if it never will be."""
    kind, _, names = job["dependency"].partition(":")
    others = [j for j in jobs if j["job"] in names.split(":")]
    if kind == "aftercorr":
        (other,) = [j for j in others if j["index"] == job["index"]]
        return True if other["code"] == 0 else None if other["state"] == "DONE" else False
    assert kind in ("", "afterany"), kind
    return all(j["state"] == "DONE" for j in others)


def _end_time(bash: int) -> None:
    """What the clock of ``timeout`` does when the time that it was given is over."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, name, _, parent, *_ = path.read_text().split()
            if (name, int(parent)) == ("(timeout)", bash):
                os.kill(int(pid), signal.SIGALRM)


def run(state: Path, late: str = "", lake: Path | None = None) -> None:
    """Run all that is in the queue. For `late`, a task of an MD array, the time is up after its first checkpoint."""
    while True:
        data = json.loads(state.read_text())
        pending = [j for j in data["jobs"] if j["state"] == "PENDING"]
        if not pending:
            return
        job = next(j for j in pending if _ready(j, data["jobs"]) is not False)
        code, identity = None, f"{job['job']}_{job['index']}"
        if _ready(job, data["jobs"]):
            options = _options(Path(job["script"]).read_text())
            log = Path(options["output"].replace("%a", str(job["index"])))
            environment = {**os.environ, "SLURM_JOB_ID": job["job"], "SLURM_ARRAY_JOB_ID": job["job"],
                           "SLURM_ARRAY_TASK_ID": str(job["index"]),
                           "SLURM_RESTART_COUNT": str(job["restarts"])}  # fmt: skip
            with open(log, "a") as out:
                process = subprocess.Popen(["bash", job["script"]], cwd=options["chdir"], stdout=out, stderr=out,
                                           env=environment)  # fmt: skip
                if late == f"{Path(job['script']).stem}-{job['index']}" and not job["restarts"]:
                    assert lake is not None
                    while not list(lake.glob("work/*/progress.json")) and process.poll() is None:
                        time.sleep(0.02)
                    _end_time(process.pid)
                code = process.wait()
        data = json.loads(state.read_text())
        (job,) = [j for j in data["jobs"] if (j["job"], j["index"]) == (job["job"], job["index"])]
        if identity in data["requeued"]:
            data["requeued"].remove(identity)
            job["restarts"] += 1
        else:
            job.update(state="DONE", code=code)
        state.write_text(json.dumps(data))


if __name__ == "__main__":
    state_file, command, *rest = sys.argv[1:]
    if "%L" in rest:
        print("UNLIMITED")
    elif command == "squeue":
        squeue(Path(state_file))
    else:
        {"sbatch": sbatch, "scontrol": scontrol}[command](Path(state_file), rest)
