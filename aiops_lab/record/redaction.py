"""What of an error's text is a secret? `redact_secrets`, the default of ``redact=``."""

from __future__ import annotations

import re
from collections.abc import Callable

Redact = Callable[[str], str]
"""From a text, such as an error message or a stack trace, to what may be stored of it."""

HIDDEN = "***"

_NAMES = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?|authorization|cookie|session[_-]?id|signature"
)

# What stands before a secret is kept (the first group). None tries a long word from each of its
# letters: the time would grow with the square of its length.
_RULES = (
    # user and password of a URL
    (re.compile(r"(://)[^\s/?#'\"@]+@"), rf"\1{HIDDEN}@"),
    # the query of a URL, or of a path
    (re.compile(r"([\w/.:\]-]\?)[\w.\[\]%-]+=[^\s'\"<>)]*"), rf"\1{HIDDEN}"),
    # the value of a header such as Authorization
    (re.compile(r"\b((?:bearer|basic)\s+)[\w.~+/=-]{6,}", re.I), rf"\1{HIDDEN}"),
    # name=value, name: value, 'name': 'value'
    (
        re.compile(
            rf"((?:{_NAMES})['\"]?\s*[=:]\s*)"
            rf"(?:(['\"])(?:(?!\2)[^\n])*\2|(?!['\"]|(?:bearer|basic)\s)[^\s,;&'\")\]}}]+)",
            re.I,
        ),
        rf"\1{HIDDEN}",
    ),
)


def redact_secrets(text: str) -> str:
    """Return a text without what is likely a secret: each becomes ``***``.

    That is the user and password of a URL, the query of a URL or path, what follows ``Bearer`` or
    ``Basic``, and the value behind a name that contains password, secret, token, api_key,
    authorization, cookie or the like. A secret that nothing marks as one is not found.

    >>> redact_secrets("no answer from https://ann:pw@host/pay?card=4111")
    'no answer from https://***@host/pay?***'
    >>> redact_secrets("{'password': 'hunter2', 'user': 'ann'}")
    "{'password': ***, 'user': 'ann'}"
    """
    for pattern, shown in _RULES:
        text = pattern.sub(shown, text)
    return text
