"""Digits that are looked at eight at a time say what `binascii.unhexlify` says of them."""

from __future__ import annotations

from binascii import unhexlify

import numpy as np
import pytest

from aiops_lab.traces import hexadecimal

DIGITS = b"0123456789abcdefABCDEF0f9aAF0918"


def packed(digits: bytes) -> bytes:
    """Return what the function says that is compiled for many digits, as plain Python."""
    words = np.frombuffer(digits, dtype="<u8").astype(np.uint64)
    into = np.empty(words.size, dtype=np.uint32)
    if hexadecimal._pack.__wrapped__(words, into):  # type: ignore[attr-defined]
        raise ValueError
    return into.astype("<u4").tobytes()


def test_eight_digits_are_four_bytes() -> None:
    assert packed(DIGITS) == unhexlify(DIGITS)


@pytest.mark.parametrize("place", [0, 13])
def test_what_is_no_digit_is_refused_at_any_place(place: int) -> None:
    refused = set()
    for byte in range(256):
        digits = DIGITS[:place] + bytes([byte]) + DIGITS[place + 1 : 16]
        try:
            assert packed(digits) == unhexlify(digits)
        except ValueError:
            refused.add(byte)
    assert refused == set(range(256)) - set(DIGITS)


def test_many_digits_are_read_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function that is compiled for many, here as plain Python."""
    monkeypatch.setattr(hexadecimal, "_HAS_COMPILER", True)
    monkeypatch.setattr(hexadecimal, "_pack", hexadecimal._pack.__wrapped__)  # type: ignore[attr-defined]
    few, many = (bytes(hexadecimal.decode(memoryview(DIGITS), many=m)) for m in (False, True))
    assert few == many
    with pytest.raises(ValueError, match="digits must be hexadecimal"):
        hexadecimal.decode(memoryview(b"0123456g"), many=True)
