"""Random draws that depend on (seed, request, position, purpose) and not on the order of calls.

A column holds one draw for each request, made in blocks by a counter-based generator (Philox;
Salmon et al. 2011, doi 10.1145/2063384.2063405). A draw is the same in any order and any process.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048

"""Number of draws in a block."""

BLOCKS_CACHED = 3

"""Blocks of a column held in memory; an older one is drawn again when it is needed."""

Draw = Callable[[np.random.Generator], NDArray]


def key(*parts: object) -> int:
    """Return a number of 64 bits for these parts, the same in every process.

    Examples
    --------
    >>> key(0, "checkout /checkout", "own work") == key(0, "checkout /checkout", "own work")
    True
    """
    text = "\x1f".join(map(str, parts))
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


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
        if len(self._blocks) >= BLOCKS_CACHED:
            del self._blocks[min(self._blocks)]
        drawn = self._make(generator(*self._parts, number))
        # An array takes 8 bytes a draw and is indexed as fast as a list: there may be thousands of
        # columns.
        typecode = "d" if drawn.dtype.kind == "f" else "q"
        block = array(typecode, drawn.tobytes())
        self._blocks[number] = block
        return block


def generator(*parts: object) -> np.random.Generator:
    """Return a generator whose key is made of these parts, the same in every process."""
    bits = np.random.Philox(key=key(*parts))
    return np.random.Generator(bits)


def uniform(rng: np.random.Generator) -> NDArray:
    """Return a block of draws from [0, 1)."""
    return rng.random(BLOCK)


def microseconds(median_ms: float, sigma: float) -> Draw:
    """Return a function that draws lognormal times, in whole microseconds."""

    def make(rng: np.random.Generator) -> NDArray:
        exponents = sigma * rng.standard_normal(BLOCK)
        times = median_ms * 1e3 * np.exp(exponents)
        return np.rint(times).astype(np.int64)

    return make
