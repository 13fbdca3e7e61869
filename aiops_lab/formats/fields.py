"""Is a field of a foreign file what it must be? Errors name the field, the rule and the value."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from aiops_lab.checks import FieldError
from aiops_lab.formats.status import whole_number

TRACE_DIGITS, SPAN_DIGITS = 32, 16


def integer(field: str, value: Any) -> int:
    """Return a whole number, also where it is given as its digits; 0 for None."""
    if value is None:
        return 0
    number = whole_number(value)
    if number is None:
        raise FieldError(field, "must be a whole number", value)
    return number


def text(field: str, value: Any) -> str:
    """Return a text, half characters replaced by ``?``; "" for None."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FieldError(field, "must be text", value)
    return whole_text(value)


def whole_text(value: str) -> str:
    """Return a text, half characters replaced by ``?``: no file, store or terminal takes them."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def whole_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of attributes as they are, half characters in texts replaced."""
    return {
        name: whole_text(value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def listed(field: str, value: Any) -> list[Any]:
    """Return a list; an empty one for None."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise FieldError(field, "must be an array", value)
    return value


def mapping(field: str, value: Any) -> Mapping[str, Any]:
    """Return an object; an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldError(field, "must be an object", value)
    return value


def hex_id(field: str, value: Any, digits: int) -> str:
    """Return an id as so many lower-case hexadecimal digits, zeros first; "" for none, and for 0.

    Also reads base64, as protobuf's own JSON has it: 24 characters for 32 digits, 12 for 16.
    """
    if value is None:
        return ""
    rule = f"must be at most {digits} hexadecimal digits"
    if not isinstance(value, str):
        raise FieldError(field, rule, value)
    digits_in_base64 = digits * 3 // 4
    if len(value) == digits_in_base64 and value.endswith("="):
        value = _from_base64(field, value)
    if len(value) < digits:
        value = value.rjust(digits, "0")
    try:
        size = len(bytes.fromhex(value))
    except ValueError:
        size = 0
    if len(value) != digits or 2 * size != digits:
        raise FieldError(field, rule, value)
    return value.lower() if value.strip("0") else ""


def _from_base64(field: str, value: str) -> str:
    try:
        return b64decode(value, validate=True).hex()
    except ValueError:  # also what is not ASCII
        raise FieldError(field, "must be hexadecimal digits, or base64", value) from None


def to_microseconds(ns: int) -> int:
    """Return nanoseconds as the nearest whole microseconds; exact, which a float is not."""
    return (ns + 500) // 1000


def inside(place: str, error: FieldError) -> FieldError:
    """Return the same error of a field that lies in `place`: ``spans[3].`` and the like."""
    return FieldError(place + error.field, error.rule, error.value)
