"""Whom does a call reach, and how does the trace go with it? What all HTTP clients share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from time import perf_counter_ns, time_ns
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiops_lab.checks import FieldError
from aiops_lab.endpoints import METHODS, OVERFLOW, fold, known_method
from aiops_lab.record.recorder import Callee, Context, OpenSpan, Recorder, context_of_call
from aiops_lab.record.trace_context import format_traceparent, new_span_id

PORTS = {"http": 80, "https": 443}

MAX_PLACES = 512  # that are remembered: with an id in each URL, those of the last seconds

_USER = re.compile(r"^(\s*(?:[a-zA-Z][\w+.-]*:)?//)[^/]*@")  # at the begin of an address

_new_span = OpenSpan.__new__

Peers = Mapping[str, str]
"""The names of called services, by their base urls."""


def checked_peers(peers: Peers | None) -> Peers:
    """Return the names of called services; FieldError where a key is no base URL.

    The mapping itself is returned, since it is read at each call.
    """
    if peers is None:
        return {}
    for base in peers:
        if not isinstance(base, str) or "://" not in base:
            rule = "must map base URLs to services, such as {'http://localhost:8001': 'payment'}"
            raise FieldError("peers", rule, dict(peers))
    return peers


def begin_call(
    recorder: Recorder,
    peers: Peers,
    method: str,
    address: str,
    headers: Any,
    context: Context | None = None,
) -> OpenSpan:
    """Return the client span of a call that begins now; its headers carry the trace on.

    Parameters
    ----------
    recorder
        Of the caller.
    peers
        The longest base that fits is taken; without one a peer is named host:port.
    method, address
        Of the request; an address may be any text.
    headers
        Of the request: what they said of a trace is replaced.
    context
        Where the call belongs. Default: below the current request, else a new trace.
    """
    # One frame for what could be four: this runs once a call, with cold caches.
    place = None if peers else recorder.places.get(address)
    if place is None:
        place = _place_of(recorder, peers, address)
    span = _new_span(OpenSpan)
    span.recorder = recorder
    span.peer, span.endpoint = place
    span.kind = "client"
    span.method = method if method in METHODS else known_method(method)
    span.status = 0
    span.error = span.first_byte_ns = None
    span.ended = False
    trace_id, span.parent_id, flags, state = context_of_call() if context is None else context
    span.trace_id, span.flags, span.tracestate = trace_id, flags, state
    span_id = span.span_id = new_span_id()
    sent = format_traceparent(trace_id, span_id, flags)
    # The mapping of requests is slow, and to miss a key in it costs an exception: more than all
    # else here. The dict inside has the key in small letters, and beside the value as it is sent.
    inside = getattr(headers, "_store", None)
    if inside is None:
        headers["traceparent"] = sent
    else:
        inside["traceparent"] = "traceparent", sent
    if state:
        headers["tracestate"] = state
    else:  # a copied header would belong to another trace
        (headers if inside is None else inside).pop("tracestate", None)
    span.start_ns = time_ns()
    span.begun = perf_counter_ns()
    recorder.opened[span_id] = span
    return span


def _place_of(recorder: Recorder, peers: Peers, address: str) -> Callee:
    """Return whom a call reaches and where, from what is known of calls before where that serves.

    What is known is kept by what `_without_private` leaves, so a whole address that is known has
    nothing private.
    """
    address = _without_private(address)
    known = None if peers else recorder.places.get(address)
    return known or _find_place(recorder, peers, address)


def _find_place(recorder: Recorder, peers: Peers, address: str) -> Callee:
    """Return whom a call reaches and where; keep that for the next call, where it cannot change."""
    url, host, route = _split_place(address)
    named = _name_peer(peers, url) if peers else None
    names = recorder.names
    peer = names.limit_service(host) if named is None else named
    place = peer, names.limit(peer, route)
    if not peers and OVERFLOW not in place:  # what is too many is counted each time
        if len(recorder.places) >= MAX_PLACES:
            recorder.places.clear()
        recorder.places[address] = place
    return place


def _without_private(address: str) -> str:
    """Return a URL without user, password, query and fragment: it is remembered."""
    bare = address.partition("#")[0].partition("?")[0]
    return _USER.sub(r"\1", bare) if "@" in bare else bare


def _name_peer(peers: Peers, address: str) -> str | None:
    """Return the name of the service at an address of `_split_place`; None without one."""
    bases = [base for base in peers if _is_below(address, _normal(base))]
    return peers[max(bases, key=len)] if bases else None


@lru_cache(maxsize=MAX_PLACES)
def _split_place(address: str) -> tuple[str, str, str]:
    """Return where a call goes: its URL with the port, host:port, the folded path.

    The arguments are kept, so an address comes from `_without_private`.
    """
    url = _split(address)
    host = _host(url.scheme, url.netloc)
    return f"{url.scheme}://{host}{url.path}", host, fold(url.path or "/")


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, empty where it is none: an adapter may take any text."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


@lru_cache(maxsize=256)
def _host(scheme: str, netloc: str) -> str:
    """Return host:port, without user and password."""
    parts = SplitResult(scheme, netloc, "", "", "")
    name = parts.hostname
    try:
        port = parts.port or PORTS.get(scheme, 0)
    except ValueError:
        port = 0
    return f"[{name}]:{port}" if name and ":" in name else f"{name}:{port}"


@lru_cache(maxsize=256)
def _normal(base: str) -> str:
    """Return a base URL in small letters, with its port, without user, password and last slash."""
    url = _split(base.rstrip("/"))
    return f"{url.scheme}://{_host(url.scheme, url.netloc)}{url.path}"


def _is_below(address: str, base: str) -> bool:
    return address.startswith(base) and address[len(base) : len(base) + 1] in ("", "/")
