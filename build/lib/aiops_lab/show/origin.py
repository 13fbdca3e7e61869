"""Does a request that changes something come from a page of this server, or from no page at all?

A browser names the origin of the page whose form is sent. What it sends for a page of another site
is refused, and so is what reaches this server under a name that is not its own (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from flask import request

from aiops_lab.checks import FieldError

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""The names of this machine, for servers that are published to it only."""

OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site: a page of ours, or typed by the user


def check_origin(hosts: Iterable[str] | None = None) -> None:
    """Raise `FieldError` where the request comes from a page of another site.

    Parameters
    ----------
    hosts : iterable of str, optional
        The names by which this server may be called. Default: all, for applications that do not
        know them.
    """
    if hosts is not None and host_of(f"//{request.host}") not in hosts:
        rule = f"must be one of {', '.join(sorted(hosts))}"
        raise FieldError("Host", rule, request.host)
    origin = request.headers.get("Origin")
    if origin is not None and _place_of(origin) != _place_of(f"//{request.host}"):
        raise FieldError("Origin", "must be this server", origin)
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in OWN_SITES:
        raise FieldError("Sec-Fetch-Site", f"must be one of {', '.join(OWN_SITES)}", site)


def host_of(url: str) -> str:
    """Return the host of a URL without its port, in lower case; "" where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _place_of(url: str) -> tuple[str, int | None]:
    """Return host and port; no port where it is the usual one, as browsers leave that out."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return "", -1
    return host_of(url), None if port in (80, 443) else port
