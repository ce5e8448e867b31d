"""Work for processes of their own: it must be found by a name that they know, too."""

import os
import signal
import sys
import time

from argyase.stages._run import in_processes, silent


def killed(number: int) -> int:
    """The number; but 3 kills its process."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def note(file: str) -> None:
    """Write down which process this is, and stay."""
    with open(file, "a") as f:
        f.write(f"{os.getpid()}\n")
    time.sleep(60)


if __name__ == "__main__":
    import many_processes  # under its name, not as __main__

    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell of the tests made of it
    in_processes(many_processes.note, [sys.argv[1]] * 2, 2, silent)
