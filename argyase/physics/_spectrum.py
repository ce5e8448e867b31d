"""Power spectra of many paths at once, summed over ions: a Fourier transform compiled by numba.

Why not scipy.fft: of thousands of paths only the sum of their power spectra is wanted. So paths can lie side by side in
SIMD lanes, the zeros that pad them need not be transformed, frequencies may come in any order, and none is ever
stored: a fifth of the time of scipy's rfft on blocks of ions (its transforms alone take more), in double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argyase.physics._kernels import fast

_LANES = 24
"""Complex numbers side by side, each of two paths of the same axis; a multiple of 3 axes and of 8 doubles."""
_IONS = 2 * _LANES // 3


def shape(frames: int) -> tuple[int, int]:
    """Of the transform that pads with enough zeros: number of pieces, and frequencies in each, a power of 4.

    That with the fewest operations: a frequency takes 4 for each piece, and 8.5 for each level, twice the time where
    the cache does not hold a piece.
    """
    found = []
    for levels in range(1, 2 + math.ceil(math.log(2 * frames, 4))):
        pieces = -(-(2 * frames - 1) // 4**levels)
        operations = 4.0 * pieces + 8.5 * levels * (1 + (levels > 7))
        found.append((pieces * 4**levels * operations, pieces, 4**levels))
    return min(found)[1:]


def waves(pieces: int, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and -sin of the first frequency of the padded transform, (time, 2), and those by which levels turn, (row, 6).

    The level that ends in transforms of length q has the rows q ... 2 q - 1: once, twice and thrice its frequency.
    """
    size = pieces * length
    turns = np.zeros((length // 2, 3, 2))
    q = 1
    while 4 * q <= length:
        turns[q : 2 * q] = _wave(np.outer(np.arange(q), [1, 2, 3]) / (4 * q))
        q *= 4
    return _wave(np.arange(size) / size), turns.reshape(-1, 6)


def _wave(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(2.0 * np.pi * turn), -np.sin(2.0 * np.pi * turn)], axis=-1)


def autocorrelation(power: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """Sum over ions and origins of r(t) r(t + lag), (lag, 3), from what `add_power` made of all of them."""
    from scipy import fft

    pieces, length, _ = power.shape
    levels = round(math.log(length, 4))
    frequencies = np.arange(length).reshape((4,) * levels).transpose().ravel()  # digits to base 4 from behind
    ordered = np.empty((length, pieces, 3))
    ordered[frequencies] = power.transpose(1, 0, 2)
    # Two paths in one complex number: what their product adds to the power is odd, and so the imaginary part here.
    found = fft.ifft(ordered.reshape(-1, 3), axis=0)[:lags].real
    return np.ascontiguousarray(found)


@fast
def add_power(paths: Any, middle: Any, wave: Any, turns: Any, power: Any, squares: Any) -> None:
    """Add power spectra and squares of the paths less their middles.

    paths (frame, ion, 3), middle (ion, 3), power (piece, frequency, 3), squares (frame, 3).

    Piece k has the frequencies k, k + pieces, k + 2 pieces ... of the padded transform. It is the transform of a
    shorter series, folded from the path (`_fold`), by radix 4, decimated in frequency, in place.
    """
    frames, ions = len(paths), paths.shape[1]
    pieces, length, _ = power.shape
    quarter = length // 4
    re, im = np.zeros((frames, _LANES)), np.zeros((frames, _LANES))
    x, y = np.empty((length, _LANES)), np.empty((length, _LANES))
    for first in range(0, ions, _IONS):
        if first + _IONS > ions:
            re[:] = 0.0
            im[:] = 0.0
        _side_by_side(paths, first, middle, re, im, squares)
        for k in range(pieces):
            _fold(re, im, wave, k, x, y)
            if length == 4:
                _last(x, y, power[k])
                continue
            _radix_4(x, y, turns)
            # Quarter by quarter, which the nearer cache holds.
            for start in range(0, length, quarter):
                u, v = x[start : start + quarter], y[start : start + quarter]
                n = quarter
                while n > 4:
                    for s in range(0, quarter, n):
                        _radix_4(u[s : s + n], v[s : s + n], turns)
                    n //= 4
                _last(u, v, power[k, start : start + quarter])


# Real and imaginary parts are arrays of their own: SIMD needs a compiler that sees that they do not overlap.


@fast
def _side_by_side(paths: Any, first: int, middle: Any, re: Any, im: Any, squares: Any) -> None:
    """The ions from the first on, half of them in the real parts; the squares of all."""
    ions = min(paths.shape[1] - first, _IONS)
    half = min(ions, _IONS // 2)
    for t in range(len(paths)):
        row, a, b = paths[t, first : first + ions], re[t], im[t]
        for i in range(half):
            for c in range(3):
                a[3 * i + c] = row[i, c] - middle[first + i, c]
        for i in range(ions - half):
            for c in range(3):
                b[3 * i + c] = row[half + i, c] - middle[first + half + i, c]
        x = y = z = 0.0
        for i in range(0, _LANES, 3):
            x += a[i] * a[i] + b[i] * b[i]
            y += a[i + 1] * a[i + 1] + b[i + 1] * b[i + 1]
            z += a[i + 2] * a[i + 2] + b[i + 2] * b[i + 2]
        squares[t, 0] += x
        squares[t, 1] += y
        squares[t, 2] += z


@fast
def _fold(re: Any, im: Any, wave: Any, k: int, x: Any, y: Any) -> None:
    """Sum over n of r(t + n length) times the wave of frequency k there."""
    length = len(x)
    x[len(re) :] = 0.0
    y[len(re) :] = 0.0
    for first in range(0, len(re), length):
        phase = k * first % len(wave)
        for t in range(min(length, len(re) - first)):
            a, b, u, v = re[first + t], im[first + t], x[t], y[t]
            c, s = wave[phase, 0], wave[phase, 1]
            if first == 0:
                for i in range(_LANES):
                    u[i] = a[i] * c - b[i] * s
                    v[i] = a[i] * s + b[i] * c
            else:
                for i in range(_LANES):
                    u[i] += a[i] * c - b[i] * s
                    v[i] += a[i] * s + b[i] * c
            phase += k
            if phase >= len(wave):
                phase -= len(wave)


@fast
def _radix_4(x: Any, y: Any, turns: Any) -> None:
    """One level: four transforms of a quarter of the length come out."""
    q = len(x) // 4
    for t in range(q):
        x0, x1, x2, x3 = x[t], x[t + q], x[t + 2 * q], x[t + 3 * q]
        y0, y1, y2, y3 = y[t], y[t + q], y[t + 2 * q], y[t + 3 * q]
        w = turns[q + t]
        c1, s1, c2, s2, c3, s3 = w[0], w[1], w[2], w[3], w[4], w[5]
        for i in range(_LANES):
            ar, ai, br, bi = x0[i] + x2[i], y0[i] + y2[i], x0[i] - x2[i], y0[i] - y2[i]
            cr, ci, dr, di = x1[i] + x3[i], y1[i] + y3[i], x1[i] - x3[i], y1[i] - y3[i]
            x0[i], y0[i] = ar + cr, ai + ci
            r, s = br + di, bi - dr
            x1[i], y1[i] = r * c1 - s * s1, r * s1 + s * c1
            r, s = ar - cr, ai - ci
            x2[i], y2[i] = r * c2 - s * s2, r * s2 + s * c2
            r, s = br - di, bi + dr
            x3[i], y3[i] = r * c3 - s * s3, r * s3 + s * c3


@fast
def _last(x: Any, y: Any, power: Any) -> None:
    """The last level, and the power of what comes out."""
    lanes = np.empty((4, _LANES))
    q0, q1, q2, q3 = lanes[0], lanes[1], lanes[2], lanes[3]
    for p in range(0, len(x), 4):
        x0, x1, x2, x3 = x[p], x[p + 1], x[p + 2], x[p + 3]
        y0, y1, y2, y3 = y[p], y[p + 1], y[p + 2], y[p + 3]
        for i in range(_LANES):
            ar, ai, br, bi = x0[i] + x2[i], y0[i] + y2[i], x0[i] - x2[i], y0[i] - y2[i]
            cr, ci, dr, di = x1[i] + x3[i], y1[i] + y3[i], x1[i] - x3[i], y1[i] - y3[i]
            q0[i] = (ar + cr) ** 2 + (ai + ci) ** 2
            q1[i] = (br + di) ** 2 + (bi - dr) ** 2
            q2[i] = (ar - cr) ** 2 + (ai - ci) ** 2
            q3[i] = (br - di) ** 2 + (bi + dr) ** 2
        for k in range(4):
            lane = lanes[k]
            for c in range(3):
                total = 0.0
                for i in range(c, _LANES, 3):
                    total += lane[i]
                power[p + k, c] += total
