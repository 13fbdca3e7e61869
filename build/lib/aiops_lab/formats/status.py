"""How does a status of another system read as a status of HTTP?"""

from __future__ import annotations

from typing import Any

# As google.rpc maps its codes; https://github.com/googleapis/googleapis, google/rpc/code.proto
GRPC = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP status of each code of gRPC, in the order of their numbers, which begin with 0."""

_BY_NUMBER = (*GRPC.values(),)


def http_status(value: Any) -> int | None:
    """Return a status of HTTP (100 to 599), given as a number or its text; None if it is none."""
    number = whole_number(value)
    return number if number is not None and 100 <= number <= 599 else None


def grpc_status(value: Any) -> int | None:
    """Return the HTTP status of a gRPC code, given as number, its text, or name; None if unknown.

    Examples
    --------
    >>> grpc_status(14), grpc_status("0"), grpc_status("DEADLINE_EXCEEDED"), grpc_status(99)
    (503, 200, 504, None)
    """
    number = whole_number(value)
    if number is not None:
        return _BY_NUMBER[number] if 0 <= number < len(_BY_NUMBER) else None
    return GRPC.get(str(value).upper().replace("CANCELED", "CANCELLED"))


def whole_number(value: Any) -> int | None:
    """Return a whole number, given as one or as its decimal digits; None for anything else."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return None
