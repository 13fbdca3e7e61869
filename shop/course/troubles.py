"""What lesson 06 works with: anomalies made by hand, an incident to move, the shop that is broken
twice, and incidents drawn below each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import requests
from matplotlib.axes import Axes

from aiops_lab.detect.grouping import IllegalMoveError, IncidentManager
from aiops_lab.detect.incidents import Incident
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.pipeline import Report
from aiops_lab.results import Anomaly
from aiops_lab.show.plots.style import BLACK
from aiops_lab.show.plots.timeline import incidents
from shop.course.waiting import somebody_waits
from shop.live.traffic import drive
from shop.virtual_time.scenario import BEGIN

WINDOW_S = 10

_RATE = 40.0
"""Requests a second of the live shop: enough for windows of one second."""


def second(s: float) -> pd.Timestamp:
    """Return the time of a second of the virtual clock."""
    return BEGIN + pd.Timedelta(s, "s")


def anomaly(at_s: float, kind: str, endpoint: str, severity: str = "medium") -> Anomaly:
    """Return an anomaly of a window of 10 s that ends at second `at_s`."""
    return Anomaly(kind, "shop", endpoint, second(at_s - WINDOW_S), second(at_s), severity)


def managed(sensitivity: Sensitivity | None = None) -> tuple[IncidentManager, Incident]:
    """Return a manager and its one incident: a timeout of /payment at second 10."""
    manager = IncidentManager(sensitivity or Sensitivity())
    return manager, returned(manager, 10)


def returned(manager: IncidentManager, at_s: float) -> Incident:
    """Return the incident that takes in a timeout of /payment at second `at_s`."""
    found = [anomaly(at_s, "timeout", "/payment")]
    (incident,) = manager.window(second(at_s), found, _no_calls)
    return incident


def _no_calls(caller: object, called: object) -> bool:
    return False


def may_move(start: str, end: str) -> bool:
    """Return whether an incident may be moved by hand from one status to another."""
    manager, incident = managed()
    incident.status = start
    try:
        manager.move(incident.id, end, second(20))
    except IllegalMoveError:
        return False
    return True


# ---- the live shop


def post(shop: Any, path: str, **parameters: str | float) -> requests.Response:
    """Return the answer of the live shop to a POST."""
    return requests.post(shop.url + path, params=parameters, timeout=10)


def traffic(shop: Any, seconds: float) -> list[dict[str, Any]]:
    """Send customers to the live shop for some seconds; return what is open then."""
    drive(shop, seconds, _RATE, progress=somebody_waits())
    answer = post(shop, "/aiops/analyze").json()
    return answer["active_incidents"]


def move(shop: Any, incident: Mapping[str, Any], to: str) -> str:
    """Acknowledge or resolve an incident; return what was answered."""
    answer = post(shop, f"/aiops/incidents/{incident['id']}/{to}")
    status = answer.json().get("status", "refused")
    return f"{to}: {answer.status_code}, {status}"


# ---- figures


def incidents_figure(reports: Mapping[str, Report], faults: pd.DataFrame) -> None:
    """Draw the incidents of each report below the true faults and a line, on one axis of time.

    Faults of one ``group``, a column of `faults`, have its name beside them.
    """
    rows = len(reports)
    _, axes = plt.subplots(rows, figsize=(10, 2.5 * rows), sharex=True, layout="constrained")
    for ax, (title, report) in zip(axes, reports.items(), strict=True):
        incidents(report, faults, ax).set_title(title, loc="left")
        ax.axhline(len(faults) - 0.5, color=BLACK, lw=1)
        _name_groups(ax, faults)
    for ax in axes[:-1]:
        ax.set_xlabel("")


def _name_groups(ax: Axes, faults: pd.DataFrame) -> None:
    if "group" not in faults:
        return
    middle = faults["end"].mean()
    look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    for row, fault in enumerate(faults.to_dict("records")):
        if fault["end"] < middle:
            ax.annotate(fault["group"], (fault["end"], row), (4, 0), **look)
        else:  # there is no room on its right
            ax.annotate(fault["group"], (fault["start"], row), (-4, 0), ha="right", **look)
