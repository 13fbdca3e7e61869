"""Which numbers are hexadecimal ids? Of many, eight digits are looked at at once."""

from __future__ import annotations

import sys
from binascii import unhexlify
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops_lab.numerics import compiled_after

# 2^64 over the golden ratio: spreads the bits of a number (Knuth, TAOCP 6.4)
HASH = np.uint64(0x9E3779B97F4A7C15)

_HAS_COMPILER = sys.byteorder == "little" and find_spec("numba") is not None


def numbers_of(data: Any, length: int) -> NDArray:
    """Return ids of 16 or 32 digits, given as bytes, as numbers of 64 bits."""
    words = np.frombuffer(data, dtype=">u8").astype(np.uint64)
    if length == 16:
        return words
    high, low = words.reshape(-1, 2).T
    spread = high * HASH
    spread += high
    spread ^= low
    return spread


def decode(digits: memoryview, *, many: bool) -> Any:
    """Return the bytes of hexadecimal digits, as `binascii.unhexlify` does.

    Raises
    ------
    ValueError
        Something else is among them.
    """
    if not (many and _HAS_COMPILER) or len(digits) % 8:
        return unhexlify(digits)
    words = np.frombuffer(digits, dtype=np.uint64)
    if not words.flags.aligned:
        return unhexlify(digits)
    packed = np.empty(words.size, dtype=np.uint32)
    if _pack(words, packed):
        raise ValueError("digits must be hexadecimal")
    return packed


# The same number in each of the eight bytes of a word.
_ONE = np.uint64(0x0101010101010101)
_LOW_FOUR_BITS = np.uint64(15) * _ONE
_FIFTH_BIT = np.uint64(16) * _ONE
_TO_128 = np.uint64(128 - 10) * _ONE  # added to a value from 10 on, it sets the highest bit
_ZERO = np.uint64(ord("0")) * _ONE
_SMALL = np.uint64(ord("a") - ord("A")) * _ONE

_LETTER = np.uint64(ord("a") - ord("0") - 10)  # how far letters stand behind digits
_PAIRS = np.uint64(0x00FF00FF00FF00FF)
_FOURS = np.uint64(0x0000FFFF0000FFFF)
_NINE = np.uint64(9)  # a letter's low four bits and 9 are its value

# How many bits to shift by.
_TO_NEXT = np.uint64(1)
_DIGIT = np.uint64(4)
_TO_LETTER_BIT = np.uint64(6)  # which is set in letters
_TO_HIGHEST = np.uint64(7)
_BYTE = np.uint64(8)
_TWO_BYTES = np.uint64(16)


@compiled_after(0)
def _pack(words: NDArray, packed: NDArray) -> bool:
    """Fill `packed` with what the eight digits in each word stand for; return whether something
    else is among them.

    Values are written as digits again: what is no digit does not become what it was.
    """
    wrong = np.uint64(0)
    for i in range(words.size):
        word = words[i]
        is_letter = (word >> _TO_LETTER_BIT) & _ONE
        value = (word & _LOW_FOUR_BITS) + is_letter * _NINE
        from_ten = ((value + _TO_128) >> _TO_HIGHEST) & _ONE
        written = value + _ZERO + from_ten * _LETTER
        wrong |= written ^ (word | _SMALL)
        wrong |= value & _FIFTH_BIT
        wrong |= ~(word | (word >> _TO_NEXT)) & _SMALL  # stands before all digits and letters
        pairs = ((value << _DIGIT) | (value >> _BYTE)) & _PAIRS
        fours = (pairs | (pairs >> _BYTE)) & _FOURS
        packed[i] = fours | (fours >> _TWO_BYTES)
    return wrong != 0
