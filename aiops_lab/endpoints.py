"""What behaves alike? Endpoints: a method and a route, and the rule that folds ids in paths.

Where a framework tells the route, that is the endpoint: ``/items/<int:number>``. A path that no
route explains (a service of others, a plain WSGI application) is folded segment by segment::

    /v1/charges/ch_00f2a1/refunds   ->   /v1/charges/<id>/refunds

A segment is an id if one of its words (parts between ``-``, ``_``, ``.`` and the like) is

- a whole number: ``17``, ``order-17``, ``2024-05-01``, ``10.0.0.1``;
- hexadecimal: 8 digits or more with at least one of 0-9, or 16 without;
- mixed: letters with two digits or more, except versions and names in `NAMES_WITH_DIGITS`:
  ``ch_00f2a1``, ``01HZXW7K``, but not ``v1``, ``oauth2``, ``base64``;
- long: 12 letters or more with a digit among them, or with as many changes between upper and lower
  case as random ones have, or more than `MAX_WORD` characters;

or if the whole segment is a UUID, names a user (``@ada``, ``ada@example.com``) or is longer than
`MAX_SEGMENT`.

What is still too many is one endpoint, `OVERFLOW`, counted by `EndpointNames`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote
from zlib import crc32

from aiops_lab.checks import cut
from aiops_lab.spans import Key

UNMATCHED = "(unmatched)"  # paths that lead nowhere
OVERFLOW = "(other)"  # endpoints beyond the most that a service may have

# Ten times what a large service has in routes; each costs a baseline and a row in every table.
MAX_ENDPOINTS = 500
MAX_SERVICES = 1_000  # that one caller can call; a customer's webhooks may be one each

MAX_WORD, MAX_SEGMENT, MAX_SEGMENTS = 40, 100, 16

# RFC 9110 and RFC 5789. Anybody can send a method of his own, so the others are one.
METHODS = frozenset(
    ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY")
)
OTHER_METHOD = "_OTHER"  # as OpenTelemetry's semantic conventions have it

NAMES_WITH_DIGITS = frozenset(
    (
        *("base32", "base58", "base64", "sha224", "sha256", "sha384", "sha512"),
        *("x509", "x86", "x64", "h264", "h265", "utf16", "utf32", "win32", "win64"),
        *("amd64", "arm64", "iso8601", "iso3166", "iso4217", "rfc3339", "gb2312"),
    )
)

_ID = "<id>"
_UUID = re.compile(r"\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE)
_VERSION = re.compile(r"v\d{1,3}(?:(?:a|b|rc|alpha|beta|p)\d*)*", re.IGNORECASE)
_ARGUMENTS = re.compile(r"\([^()]*\)")
_BETWEEN = re.compile(r"[\W_]+")
_HEX = re.compile(r"[0-9a-f]+", re.IGNORECASE)
_CASE = re.compile(r"[a-z](?=[A-Z])|[A-Z](?=[a-z])")


def known_method(method: str) -> str:
    """Return a method in capitals; ``_OTHER`` where HTTP does not have it."""
    if method in METHODS:
        return method
    name = method.upper()
    return name if name in METHODS else OTHER_METHOD


@lru_cache(maxsize=2048)
def fold(path: str) -> str:
    """Return a path with ``<id>`` for each segment that is one, by the rule above.

    Examples
    --------
    >>> fold("/v1/charges/ch_00f2a1/refunds")
    '/v1/charges/<id>/refunds'
    >>> fold("/oauth2/token")
    '/oauth2/token'
    """
    first, *rest = path.split("/", MAX_SEGMENTS)
    if len(rest) == MAX_SEGMENTS:
        rest[-1] = "<path:rest>"
    segments = [first, *rest]
    return "/".join([_folded(segment) for segment in segments])


def _folded(segment: str) -> str:
    """Return a segment, ``<id>`` where it is one; without parameters, as in ``;jsessionid=1``."""
    before_parameters, _, _ = segment.partition(";")
    name = unquote(before_parameters)
    if _UUID.fullmatch(name):
        return _ID
    if name.endswith(")"):  # OData: Orders(17)
        return _ARGUMENTS.sub(f"({_ID})", name)
    head, colon, verb = name.partition(":")
    if colon and verb.isalpha():  # a custom method: /operations/17:cancel
        return _folded(head) + colon + verb
    return _ID if _is_id(name) else name


def _is_id(name: str) -> bool:
    if len(name) > MAX_SEGMENT or "@" in name:
        return True
    without_dots = name.replace(".", "")
    if name == "<path:rest>" or _VERSION.fullmatch(without_dots):
        return False
    words = _BETWEEN.split(name)
    return any(map(_is_id_word, words))


def _is_id_word(word: str) -> bool:
    digits = sum(map(str.isdigit, word))
    size = len(word)
    if digits == size:
        return digits > 0
    if size > MAX_WORD:
        return True
    least_of_hex = 8 if digits else 16
    if size >= least_of_hex and _HEX.fullmatch(word):
        return True
    if digits >= 2:
        is_name = word.lower() in NAMES_WITH_DIGITS
        return not is_name and not _VERSION.fullmatch(word)
    if size < 12:
        return False
    changes = len(_CASE.findall(word))
    return digits > 0 or 3 * changes >= size


def join_method(method: str | None, route: str) -> str:
    """Return the name of an endpoint among all of its service: "POST /users".

    A route without a known method, and what is no path, is named by itself.
    """
    return f"{method} {route}" if method and route.startswith("/") else route


def split_method(endpoint: str) -> tuple[str, str]:
    """Return method and route of an endpoint; the method is "" where it names none.

    Examples
    --------
    >>> split_method("POST /users"), split_method("/users")
    (('POST', '/users'), ('', '/users'))
    """
    method, blank, route = endpoint.partition(" ")
    if blank and method.isupper() and route.startswith("/"):
        return method, route
    return "", endpoint


def printable(text: str, length: int = 120) -> str:
    """Return a text from outside as it may be shown: on one line, without control, cut to `length`.

    Control characters, and those that turn the direction of what follows, are shown as Python
    writes them.

    Examples
    --------
    >>> print(printable("/a\\x1b[31m"))
    /a\\x1b[31m
    """
    if len(text) <= length and text.isprintable():
        return text
    short = cut(text, length)
    characters = [c if c.isprintable() else repr(c)[1:-1] for c in short]
    return "".join(characters)


def display_names(keys: Iterable[Key]) -> dict[Key, str]:
    """Return how each (service, endpoint) is shown: by its route, or as "service route".

    The service is named where two share a route. Names come from requests: they are shown as
    `printable`, with a number where two would look the same.
    """
    distinct = dict.fromkeys(keys)
    owners = Counter(endpoint for _, endpoint in distinct)
    names: dict[Key, str] = {}
    for service, endpoint in distinct:
        is_shared = owners[endpoint] > 1
        names[service, endpoint] = f"{service} {endpoint}" if is_shared else endpoint
    shown = {key: printable(name) for key, name in names.items()}
    alike = Counter(shown.values())
    for key, name in shown.items():
        if alike[name] > 1:
            in_bytes = names[key].encode("utf-8", "replace")
            shown[key] = f"{name} #{crc32(in_bytes):08x}"
    return shown


class EndpointNames:
    """The names that one recorder has given out: each service may have `MAX_ENDPOINTS`.

    Attributes
    ----------
    overflowed : int
        How many requests and calls were recorded as `OVERFLOW`.
    """

    def __init__(self) -> None:
        self.overflowed = 0
        self._of_service: dict[str, set[str]] = {}

    def limit(self, service: str, endpoint: str) -> str:
        """Return the endpoint, or `OVERFLOW` where the service has too many others."""
        names = self._of_service.get(service)
        if names is None:
            names = self._of_service.setdefault(service, set())
        if endpoint in names:
            return endpoint
        if len(names) >= MAX_ENDPOINTS:
            self.overflowed += 1
            return OVERFLOW
        names.add(endpoint)
        return endpoint

    def limit_service(self, service: str) -> str:
        """Return a called service, or `OVERFLOW` where there are too many others."""
        known = self._of_service
        if service in known or len(known) < MAX_SERVICES:
            return service
        self.overflowed += 1
        return OVERFLOW
