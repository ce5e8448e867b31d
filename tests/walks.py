"""Synthetic motion whose diffusion coefficient is known exactly. Paths are (frame, ion, 3) in A; frames 1 ps apart."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Paths = NDArray[np.float64]


def brownian(rng: np.random.Generator, frames: int, ions: int, d: float = 0.1) -> Paths:
    """Independent ions, D = d."""
    return np.cumsum(rng.normal(0.0, np.sqrt(2 * d), (frames, ions, 3)), axis=0)


def rattling(rng: np.random.Generator, frames: int, ions: int, d: float = 0.1) -> Paths:
    """Brownian ions that rattle about their path by 0.5 A, forgotten within about 3 frames; D = d."""
    noise = rng.normal(0.0, 0.5, (frames, ions, 3))
    rattle = np.empty_like(noise)
    rattle[0] = noise[0]
    for t in range(1, frames):
        rattle[t] = 0.7 * rattle[t - 1] + np.sqrt(1 - 0.7**2) * noise[t]
    return brownian(rng, frames, ions, d) + rattle


def caged(rng: np.random.Generator, frames: int, ions: int, d: float = 0.1, pull: float = 0.1) -> Paths:
    """Ions tied by a spring to a centre that itself diffuses with D = d: subdiffusive for about 1 / pull frames."""
    centre = brownian(rng, frames, ions, d)
    # Started in the stationary state of the relative coordinate, u' = (1 - pull) u - centre step + noise.
    u = np.empty_like(centre)
    kick = 0.6
    steps = np.diff(centre, axis=0, prepend=centre[:1] * 0)
    variance = (kick**2 + 2 * d) / (1 - (1 - pull) ** 2)
    u[0] = rng.normal(0.0, np.sqrt(variance), centre.shape[1:])
    for t in range(1, frames):
        u[t] = (1 - pull) * u[t - 1] - steps[t] + rng.normal(0.0, kick, centre.shape[1:])
    return centre + u


def concerted(rng: np.random.Generator, frames: int, ions: int, d: float = 0.1) -> Paths:
    """Groups of 8 ions that move as one; D = d. Regression errors, and errors over ions, are far too small here."""
    return np.repeat(brownian(rng, frames, ions // 8, d), 8, axis=1)


def trapped(rng: np.random.Generator, frames: int, ions: int) -> Paths:
    """Ions tied by a spring to a centre at rest: within 30 frames they are where they will be for ever; D = 0."""
    pull, kick = 0.03, 0.6
    u = np.empty((frames, ions, 3))
    u[0] = rng.normal(0.0, kick / np.sqrt(1 - (1 - pull) ** 2), (ions, 3))
    for t in range(1, frames):
        u[t] = (1 - pull) * u[t - 1] + rng.normal(0.0, kick, (ions, 3))
    return u


WALKS: dict[str, Callable[..., Paths]] = {
    "brownian": brownian, "rattling": rattling, "caged": caged, "concerted": concerted,
}  # fmt: skip
