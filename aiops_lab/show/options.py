"""The options of commands that start a server: who may reach it, and do what there."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable


def add_access(option: Callable[..., Action]) -> None:
    """Add ``--host``, ``--token`` and ``--private``."""
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
