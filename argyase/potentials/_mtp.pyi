from typing import Any

import numpy as np
from numpy.typing import NDArray

def parse_mtp(text: bytes, name: str, untrained: bool = False) -> dict[str, Any]: ...

class Kernel:
    def __init__(self, text: bytes, name: str, threads: int = 1, precision: str = "double") -> None: ...
    @property
    def cutoff(self) -> float: ...
    @property
    def species_count(self) -> int: ...
    @property
    def species_types(self) -> NDArray[np.int32]: ...
    @property
    def isa(self) -> str: ...
    def compute(
        self,
        types: NDArray[np.int32],
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        periodic: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
