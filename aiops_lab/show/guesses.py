"""What may be meant by a path or a service that is not there?"""

from __future__ import annotations

from collections.abc import Iterable

from flask import Flask

from aiops_lab.checks import shorten
from aiops_lab.known_names import known_instead, similar
from aiops_lab.spans import Key

LIKE_A_PATH = 0.85  # ratio of `difflib`; paths have long beginnings in common


def similar_paths(path: str, app: Flask) -> str:
    """Return the paths of an app that are like one which it does not have, as text."""
    fixed = {rule.rule for rule in app.url_map.iter_rules() if not rule.arguments}
    near = similar(path, fixed, LIKE_A_PATH)
    return f", perhaps {', '.join(near)}" if near else ""


def unknown_service(service: str, endpoints: Iterable[Key]) -> dict[str, str]:
    """Return a warning where no known endpoint is of this service: it may be misspelt."""
    known = {each for each, _ in endpoints}
    if not known or service in known:
        return {}
    others = known_instead(service, known)
    return {"warning": f"no request was recorded of the service {shorten(service)}, {others}"}
