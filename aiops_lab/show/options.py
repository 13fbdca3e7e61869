"""The options of commands that start a server: who may reach it, and do what there."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable
from functools import partial


def add_access(option: Callable[..., Action]) -> None:
    """Add ``--host``, ``--token``, ``--private`` and ``--public-url``."""
    option(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; another one needs a token",
    )
    option(
        "--token",
        help="what changing anything needs, as a bearer token, or in a browser as the password of"
        " any name; AIOPS_LAB_TOKEN in the environment gives it unseen",
    )
    option("--private", action="store_true", help="looking needs the token, too")
    option(
        "--public-url",
        default="",
        metavar="URL",
        help="where people reach the page, by a name or through a proxy: notices and printed lines"
        " link to it; without a path; needs a token",
    )


def add_response(option: Callable[..., Action]) -> None:
    """Add ``--notify`` and ``--remedy``, each of which may be repeated."""
    repeated = partial(option, action="append", default=[])
    repeated(
        "--notify",
        metavar="URL",
        help="who is told of incidents: a URL of Apprise, such as slack://… or mailto://…, or"
        " FILE.py:FUNCTION; @FILE reads URLs from a file, a line each, so that no list of processes"
        " shows their secrets; may be repeated",
    )
    repeated(
        "--remedy",
        metavar="FILE.py:NAME",
        help="what is done about incidents: a Remedy, or a list of them; may be repeated",
    )
