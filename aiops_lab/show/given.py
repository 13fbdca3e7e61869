"""What does a request ask for? Its parameters, each read by the rule of its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from flask import request

from aiops_lab.checks import FieldError
from aiops_lab.show.origin import RefusedError

Data = dict[str, Any]
Pairs = list[tuple[str, Any]]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


OF_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
"""Types of a body that a browser sends for a page of any site without asking."""


class MediaTypeError(RefusedError):
    """A body of a type that is not taken."""

    status = 415


def parameters(allowed: Collection[str] = ()) -> Data:
    """Return the parameters of the request, from its query or its JSON body.

    Raises
    ------
    FieldError
        One is unknown or given twice, or the body is not a JSON object.
    MediaTypeError
        The body is of a type that a form of any page may send.
    """
    found: Data = {}
    for name, value in [*_query(), *_body()]:
        if name not in allowed:
            choices = ", ".join(allowed) or "(none)"
            raise FieldError("parameter", f"must be one of {choices}", name)
        if name in found:
            raise FieldError(name, "must be given once", value)
        found[name] = value
    return found


def _query() -> Pairs:
    try:
        return list(request.args.items(multi=True))
    except UnicodeDecodeError as error:
        sample = request.query_string[:60].decode(errors="replace")
        raise FieldError("query", "must be UTF-8", sample) from error


def _body() -> Pairs:
    if request.mimetype in OF_FORMS:
        rule = "must be application/json; or give the parameters in the address"
        raise MediaTypeError("Content-Type", rule, request.mimetype)
    raw = request.get_data()
    if not raw.strip():
        return []
    if request.is_json or raw.lstrip().startswith((b"{", b"[")):
        return _json_pairs(raw)
    raise FieldError("body", "must be a JSON object", request.mimetype)


def _json_pairs(raw: bytes) -> Pairs:
    pairs: Pairs = []

    def keep(found: Pairs) -> Data:
        pairs[:] = found  # the outermost object is finished last; a dict would hide repeated names
        return dict(found)

    try:
        body = json.loads(raw, object_pairs_hook=keep)
    except (ValueError, RecursionError) as error:
        sample = raw[:60].decode(errors="replace")
        raise FieldError("body", "must be valid JSON", sample) from error
    if not isinstance(body, dict):
        raise FieldError("body", "must be a JSON object", body)
    return pairs


def required(given: Data, name: str) -> Any:
    """Return a parameter, or raise `FieldError` where it was not given."""
    if name not in given:
        raise FieldError(name, "must be given", None)
    return given[name]


def number(name: str, value: object) -> float:
    """Return a parameter as a number; text must be a plain decimal, as in ``2000`` or ``0.8``."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip(" ")):
        return float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise FieldError(name, "must be a number", value)


def whole(name: str, value: object) -> int:
    """Return a parameter as a whole number."""
    found = number(name, value)
    if not (isinstance(found, int) or found.is_integer()):
        raise FieldError(name, "must be a whole number", value)
    return int(found)


def one_of(name: str, value: object, choices: Collection[str]) -> str:
    """Return a parameter that must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise FieldError(name, f"must be one of {', '.join(choices)}", value)
    return value


def is_true(name: str, given: Data) -> bool:
    """Return a parameter that is true or false, as text or in JSON; without it False."""
    value = given.get(name, False)
    if isinstance(value, bool):
        return value
    return one_of(name, value, ("true", "false")) == "true"
