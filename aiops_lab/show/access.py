"""Who may look, and who may change something? `guard` asks it of each request to a blueprint."""

from __future__ import annotations

import os
from collections.abc import Collection
from hmac import compare_digest
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from flask import Blueprint, Flask, request

from aiops_lab.checks import FieldError
from aiops_lab.record.redaction import redact_secrets
from aiops_lab.show.attempts import MOST_REQUESTS, MOST_WRONG, RECEIVER, Attempts
from aiops_lab.show.body import dropping_refused, note_stranger
from aiops_lab.show.origin import (
    LOCAL_HOSTS,
    OWN_NAMES,
    RefusedError,
    check_host,
    check_origin,
    host_of,
)

READING = ("GET", "HEAD", "OPTIONS")  # methods that change nothing

CHALLENGE = {"WWW-Authenticate": 'Basic realm="AIOps Lab: any name, and the token as password"'}
"""Header of an answer 401. A browser asks for name and password, and sends the form again."""

TOKEN_VARIABLE = "AIOPS_LAB_TOKEN"
"""The variable of the environment that gives commands their token, which no list of processes
shows."""

MASKED = "***"  # a token is in no message


class TokenError(RefusedError):
    """A request without the token that it needs."""

    status = 401
    headers = CHALLENGE


class Access(NamedTuple):
    """Who is admitted.

    Parameters
    ----------
    hosts : collection of str, optional
        The names by which the server may be called. Default: for reading all, for changes those
        of `aiops_lab.show.origin.check_host`.
    token : str, optional
        What a change needs, as ``Authorization: Bearer`` or as the password of ``Basic``. Default:
        nobody is asked.
    private : bool
        Whether reading needs the token, too.
    public_url : str
        Where people reach the pages, as of `checked_url`: changes are taken from there, too.
        Default: where the server is called.
    """

    hosts: Collection[str] | None = None
    token: str | None = None
    private: bool = False
    public_url: str = ""


def checked_access(access: Access) -> Access:
    """Return who is admitted, with names in lower case and a token without a line break.

    Raises
    ------
    ValueError
        ``hosts`` is one text, the token is empty, reading is closed without one, or the URL is no
        address of a server.
    """
    hosts, token, private, public_url = access
    if isinstance(hosts, str):
        raise FieldError("hosts", "must be several names", hosts)
    names = None if hosts is None else frozenset(host.lower() for host in hosts)
    token = checked_token(token)
    if private and token is None:
        raise FieldError("private", "must be False without a token", private)
    return Access(names, token, private, checked_url(public_url))


def checked_token(token: str | None) -> str | None:
    """Return a token without spaces at its ends, as one that was read from a file has them."""
    if token is None:
        return None
    if not isinstance(token, str) or not token.strip():
        raise FieldError("token", "must be a text that is not empty", token)
    return token.strip()


def access_at(
    host: str, token: str | None = None, private: bool = False, public_url: str = ""
) -> Access:
    """Return who is admitted to a server that listens on an address.

    Without a token it must be an address of this machine alone.

    Parameters
    ----------
    host : str
        The address.
    token : str, optional
        Default: that of the environment, if any.
    private : bool
        Whether reading needs it, too.
    public_url : str
        Where a proxy or a name leads to the server, as of `checked_url`; it may be called by that
        name, too. Default: nowhere.

    Raises
    ------
    ValueError
        The token is missing or empty, or the URL is no address of a server.
    """
    given = os.environ.get(TOKEN_VARIABLE) if token is None else token
    is_local = is_loopback(host)
    public_url = checked_url(public_url)
    public = host_of(public_url)
    unless = f"unless a token is given, by --token or {TOKEN_VARIABLE}"
    if given is None and not is_local:
        raise FieldError("host", f"must be 127.0.0.1 {unless}", host)
    if given is None and public and not is_loopback(public):
        raise FieldError("public_url", f"must be of this machine {unless}", public_url)
    names = [public] * bool(public)
    if is_local:
        return checked_access(Access([*LOCAL_HOSTS, host, *names], given, private, public_url))
    hosts = [OWN_NAMES, *names] if names else None
    return checked_access(Access(hosts, given, private, public_url))


def checked_url(public_url: str) -> str:
    """Return the address under which people reach a page, without a slash at its end.

    Raises
    ------
    ValueError
        It is no URL with http or https and a host, or holds more than that.
    """
    if public_url and not (public_url.isprintable() and _is_web_address(public_url)):
        rule = "must be a URL such as https://shop.example.com"
        raise FieldError("public_url", rule, redact_secrets(public_url))
    url = public_url.rstrip("/")
    if urlsplit(url).path:
        rule = "must have no path, such as https://shop.example.com: links of the page begin at /"
        raise FieldError("public_url", rule, redact_secrets(public_url))
    return url


def _is_web_address(url: str) -> bool:
    if not host_of(url):  # which also refuses what is no URL
        return False
    parts = urlsplit(url)
    has_more = parts.query or parts.fragment or parts.username is not None
    return parts.scheme in ("http", "https") and not has_more


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host in LOCAL_HOSTS:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def guard(owner: Flask | Blueprint, access: Access) -> None:
    """Refuse what may not be asked of an app or a blueprint, or is asked too often, before its body
    is read: call this before `aiops_lab.show.api.json_errors`, which reads it.

    The answers are those of its handler of `FieldError`, such as `aiops_lab.show.api.json_errors`.
    """
    hosts, token, private, public_url = checked_access(access)
    requests = Attempts("requests", MOST_REQUESTS)
    wrong = Attempts("wrong tokens", MOST_WRONG)

    def refuse() -> None:
        is_known = token is not None and has_token(token)
        is_near = is_loopback(request.remote_addr or "")
        if not (is_near or is_known or request.blueprint == RECEIVER):
            requests.check()
            requests.note()
        is_change = request.method not in READING
        if is_change:
            check_origin(hosts, public_url)
        elif hosts is not None:
            check_host(hosts)
        if token is not None and not is_known:
            if is_change or private:
                _refuse_attempt(token, wrong)
            note_stranger()

    owner.before_request(dropping_refused()(refuse))


def _refuse_attempt(token: str, wrong: Attempts) -> None:
    """Refuse a request without the token, as too many where its address has sent many others."""
    if request.authorization is not None:  # a browser asks without one first
        wrong.check()
        wrong.note(request.headers["Authorization"])
    check_token(token)


def check_token(token: str) -> None:
    """Raise `TokenError` where the request does not have the token."""
    if not has_token(token):
        rule = "must be Bearer and the token of this server, or Basic with it as the password"
        raise TokenError("Authorization", rule, MASKED)


def has_token(token: str) -> bool:
    """Return whether the request has the token; takes the same time for any that is wrong."""
    sent = request.authorization
    if sent is None:
        return False
    # not sent.token: a token with = in it would be taken for parameters
    bearer = request.headers["Authorization"].partition(" ")[2]
    given = sent.password if sent.type == "basic" else bearer
    said = (given or "").strip()
    is_equal = compare_digest(said.encode(), token.encode())
    return is_equal and sent.type in ("basic", "bearer")
