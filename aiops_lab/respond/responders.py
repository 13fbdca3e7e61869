"""How does what acts on the incidents of a monitor fare?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor


class Responder(Protocol):
    """What acts on incidents, beside the analysis; `Monitor.responders` holds them."""

    kind: str
    """Such as ``notices``: how its rows are called where they are shown."""

    def status(self) -> list[dict[str, Any]]:
        """Return how it fares, a row for each of its parts."""


def responses_of(monitor: Monitor) -> dict[str, list[dict[str, Any]]]:
    """Return how the responders of a monitor fare: the rows of all of a kind, by kind."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for responder in [*monitor.responders]:
        rows.setdefault(responder.kind, []).extend(responder.status())
    return rows
