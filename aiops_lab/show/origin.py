"""Does a request that changes something come from a page of this server, or from no page at all?

A browser names the origin of the page whose form is sent. What it sends for a page of another site
is refused, and so is what reaches this server under a name that is not its own (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import urlsplit

from flask import current_app, request
from werkzeug.sansio.utils import host_is_trusted

from aiops_lab.checks import FieldError

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""The names of this machine, for servers that are published to it only."""

OWN_NAMES = "(addresses of this server)"
"""Among the hosts of `check_host`: those of its default, too."""

OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site: a page of ours, or typed by the user

PRIVATE_ENDINGS = (".localhost", ".local", ".internal")
"""How names end that nobody can register, and so point to a server that is not theirs."""

FROM_HERE = "open the page at the address of this server, or send the request from a program"


class RefusedError(FieldError):
    """A request that is refused for how it was sent, with status and headers of the answer."""

    status = 400
    headers: Mapping[str, str] = MappingProxyType({})


class SenderError(RefusedError):
    """A request that was sent by a page of another site, or to another name."""

    status = 403


def check_host(hosts: Collection[str] | None) -> None:
    """Raise `SenderError` where this server is called by a name that is not its own.

    Parameters
    ----------
    hosts : collection of str, optional
        The names by which it may be called. Default: addresses, names without a dot, those that
        nobody can register, and those of Flask's ``SERVER_NAME`` and ``TRUSTED_HOSTS``. With
        `OWN_NAMES` among them these as well.
    """
    name = host_of(f"//{request.host}")
    if hosts is None or OWN_NAMES in hosts:
        if not _may_be_foreign(name) or _is_name_of_app(name) or name in (hosts or ()):
            return
        rule = "must be an address, or a name that the server was given as one of its hosts"
        raise SenderError("Host", rule, request.host)
    if name not in hosts:
        rule = f"must be one of {', '.join(sorted(hosts))}: call this server by one of them"
        raise SenderError("Host", rule, request.host)


def check_origin(hosts: Iterable[str] | None, public_url: str = "") -> None:
    """Raise `SenderError` where the request comes from a page of another site.

    Parameters
    ----------
    hosts : iterable of str, optional
        As for `check_host`.
    public_url : str
        Where people reach the pages of this server: behind a proxy they are of this origin, while
        ``Host`` may be the address that the proxy calls. Default: where the request was sent.
    """
    check_host(None if hosts is None else frozenset(hosts))
    check_page(public_url)


def check_page(public_url: str) -> None:
    """Raise `SenderError` where a page of another site sent the request, whatever its ``Host``."""
    origin = request.headers.get("Origin")
    if origin is not None and not _is_own(origin, public_url):
        raise SenderError("Origin", f"must be this server: {FROM_HERE}", origin)
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in OWN_SITES:
        rule = f"must be one of {', '.join(OWN_SITES)}: {FROM_HERE}"
        raise SenderError("Sec-Fetch-Site", rule, site)


def host_of(url: str) -> str:
    """Return the host of a URL without its port, in lower case; "" where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_name_of_app(host: str) -> bool:
    """Return whether Flask was given a name; it checks that in some of its versions only."""
    name = current_app.config.get("SERVER_NAME")
    trusted = current_app.config.get("TRUSTED_HOSTS")
    names = [*(trusted or ())]
    if name:
        names.append(f".{name.lower()}")
    return bool(names) and host_is_trusted(host, names)


def _may_be_foreign(name: str) -> bool:
    """Return whether a stranger can let a name point to this server."""
    bare = name.removesuffix(".")
    if "." not in bare or bare.endswith(PRIVATE_ENDINGS):
        return False
    try:
        ip_address(bare)
    except ValueError:
        return True
    return False


def _is_own(origin: str, public_url: str) -> bool:
    """Return whether pages of an origin are pages of this server."""
    place = _place_of(origin)
    if place == _place_of(f"//{request.host}"):
        return True
    is_public = bool(public_url) and place == _place_of(public_url)
    return is_public and urlsplit(origin).scheme == urlsplit(public_url).scheme


def _place_of(url: str) -> tuple[str, int | None]:
    """Return host and port; no port where it is the usual one, as browsers leave that out."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return "", -1
    return host_of(url), None if port in (80, 443) else port
