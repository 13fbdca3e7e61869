"""The tables of the detectors, as ``python -m shop leaderboard --detector`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from shop.experiments.detection import (
    FALSE_INCIDENT,
    MINUTE,
    NEVER_FOUND_MIN,
    RANDOM_SHARE,
    detection_table,
    found_by_scenario,
)
from shop.experiments.text_tables import Section, headed, number_text, percent_cell, with_bounds

DETECTORS_NOTE = (
    "The detectors alone, without root causes. found: share of the faults that an incident shows, "
    "with bounds of 95 % (Wilson); weak: the same of the scenarios by size; median, worst: seconds "
    "from the start of the fault to the end of the window that shows it; false: share of the runs "
    "without a fault that have an incident; /h: incidents per hour that show no fault, of all "
    f"runs; cost: of a run, {FALSE_INCIDENT:g} for each of these and {MINUTE:g} for each minute "
    f"until a fault is found, {NEVER_FOUND_MIN:g} minutes where it never is. random reports "
    f"{RANDOM_SHARE:.0%} of the windows, always every one, never none."
)

BY_SCENARIO_NOTE = (
    "In percent: the share of the faults found; where there is no fault, of the runs without an "
    "incident. A row a scenario, a column a detector. An alarm at another endpoint than that of "
    "the fault counts only if it began with the fault or later: so always finds no fault that "
    "shows at callers alone (refused, host network). A deployment is no fault."
)

SHORT_DETECTORS = {
    "all of the package": "package",
    "classic thresholds": "classic",
    "error_spike": "errors",
    "latency_anomaly": "latency",
    "sustained_shift": "shift",
    "traffic_drop": "traffic",
}


def detection_sections(results: pd.DataFrame) -> Iterator[Section]:
    """Yield title, note and table of the detectors; nothing where none was compared."""
    if results.empty:
        return
    yield "The detectors", DETECTORS_NOTE, _totals(detection_table(results))
    table = found_by_scenario(results).map(percent_cell)
    shown = table.rename(columns=SHORT_DETECTORS).rename_axis(columns=None)
    yield "What each detector finds, by scenario", BY_SCENARIO_NOTE, headed(shown)


def _totals(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(index=table.index)
    shown["found"] = with_bounds(table, "found", percent_cell)
    shown["weak"] = table["weak"].map(percent_cell)
    shown["median"] = table["median_s"].map(number_text)
    shown["worst"] = table["worst_s"].map(number_text)
    shown["false"] = table["false_runs"].map(percent_cell)
    shown["/h"] = table["false_per_hour"].map("{:.1f}".format)
    shown["cost"] = table["cost"].map("{:.1f}".format)
    return shown.rename_axis(None)
