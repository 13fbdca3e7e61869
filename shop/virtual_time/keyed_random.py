"""Where does chance come from? Draws that are a function of (seed, request, position, purpose),
never of call order.

A column holds one draw for each request, made in blocks by a counter-based generator (Philox;
Salmon et al. 2011, doi 10.1145/2063384.2063405). Whoever asks first, or in which process, gets the
same number.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048

KEPT = 3

"""Blocks kept of each column; an older one is made again when it is asked for."""

Draw = Callable[[np.random.Generator], NDArray]


def key(*parts: object) -> int:
    """Return a number of 64 bits for these parts, the same in every process.

    Examples
    --------
    >>> key(0, "checkout /checkout", "own work") == key(0, "checkout /checkout", "own work")
    True
    """
    return int.from_bytes(
        blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest(), "big"
    )


def mixed(numbers: NDArray) -> NDArray:
    """Return well-mixed 64 bits for each number (splitmix64; Steele et al. 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Column:
    """One draw for each request: ``column[n]`` is that of request n.

    Parameters
    ----------
    make : callable
        Draws a block: takes a generator, returns `BLOCK` values.
    *parts : object
        The key: seed, position, purpose.
    """

    __slots__ = ("_blocks", "_make", "_parts")

    def __init__(self, make: Draw, *parts: object) -> None:
        self._make = make
        self._parts = parts
        self._blocks: dict[int, array] = {}

    def __getitem__(self, n: int) -> float:
        block = self._blocks.get(n // BLOCK)
        if block is None:
            block = self._fill(n // BLOCK)
        return block[n % BLOCK]

    def _fill(self, number: int) -> array:
        if len(self._blocks) >= KEPT:
            del self._blocks[min(self._blocks)]
        drawn = self._make(generator(*self._parts, number))
        # An array holds a draw in 8 bytes and is indexed like a list: there may be thousands of
        # columns.
        values = self._blocks[number] = array(
            "d" if drawn.dtype.kind == "f" else "q", drawn.tobytes()
        )
        return values


def generator(*parts: object) -> np.random.Generator:
    """Return a generator that starts at these parts, the same in every process."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def uniform(rng: np.random.Generator) -> NDArray:
    """Draw a block from [0, 1)."""
    return rng.random(BLOCK)


def microseconds(median_ms: float, sigma: float) -> Draw:
    """Return how to draw lognormal times, in whole microseconds."""

    def make(rng: np.random.Generator) -> NDArray:
        return np.rint(median_ms * 1e3 * np.exp(sigma * rng.standard_normal(BLOCK))).astype(
            np.int64
        )

    return make
