"""An incident in one picture: what rose at each endpoint, when it was told, and its ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aiops_lab.show.plots.scores import ledger as draw_ledger
from aiops_lab.show.plots.style import PURPLE, Look, figure, literal, signs
from aiops_lab.show.plots.timeline import endpoint_windows, error_share, timeline

PANEL_INCHES, LEDGER_INCHES = 2.3, 2.2

LABEL_BOX: Look = {"fc": "white", "ec": PURPLE, "boxstyle": "round"}


def story(
    windows: pd.DataFrame,
    incident: Any,
    anomalies: Iterable[Any] = (),
    faults: Any = (),
    ledger: pd.DataFrame | None = None,
) -> Figure:
    """Draw an incident: a panel for each affected endpoint, its detection, cause and ledger.

    Parameters
    ----------
    windows : DataFrame
        As in ``Report.windows``.
    incident : Incident
        Its main anomaly decides whether a panel shows latency, or the share that failed.
    anomalies : iterable of Anomaly
        Each marks its window.
    faults : DataFrame or iterable
        The truth, shaded: ``kind``, ``endpoint``, ``start`` and ``end`` of each fault.
    ledger : DataFrame, optional
        That of an entry, as of `Verdict.ledger_table`: drawn below as a waterfall.

    Returns
    -------
    Figure
        Axes: a panel for each affected endpoint, the cause first, then the ledger.

    Raises
    ------
    ValueError
        An affected endpoint is not in `windows`.
    """
    marks = list(anomalies)
    names = incident.affected_endpoints
    heights = [PANEL_INCHES] * len(names)
    if ledger is not None:
        heights.append(LEDGER_INCHES)
    fig = figure((9, sum(heights) + 0.8))
    column = fig.subplots(len(heights), squeeze=False, height_ratios=heights)
    axes = column[:, 0].tolist()
    for name, ax in zip(names, axes[: len(names)], strict=True):
        _draw_panel(ax, name, windows, incident, marks, faults)
    for upper in axes[: len(names) - 1]:
        upper.set_xlabel("")
    fig.legend(**signs(*axes[: len(names)]), loc="outside lower center", ncols=4, fontsize=9)
    if ledger is not None:
        draw_ledger(ledger, axes[-1])
    return fig


def _draw_panel(
    ax: Axes, name: str, windows: pd.DataFrame, incident: Any, marks: list[Any], faults: Any
) -> None:
    """Draw one endpoint, with the time of detection, and "cause" where it is one."""
    if incident.main_anomaly.type == "error_spike":
        spikes = [each for each in marks if each.type == "error_spike"]
        error_share(endpoint_windows(windows, name), spikes, faults, ax)
        ax.set_title(f"Failed requests of {literal(name)}", loc="left")
    else:
        timeline(windows, marks, faults, name, ax, legend=False)
    at = incident.first_detected
    ax.axvline(at, color=PURPLE, lw=2, ls="-.", label="incident detected")
    cause = incident.root_cause
    is_cause = cause is not None and name in (cause.name, cause.endpoint)
    told = f"incident, cause: {literal(name)}" if is_cause else "incident"
    ax.annotate(
        told,
        (at, 0.5),
        (10, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=11,
        bbox=LABEL_BOX,
    )
