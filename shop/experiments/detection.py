"""Comparison of detectors, those of the user too, on runs of the scenarios.

A detector is given the windows of a run and has to find the fault; root causes play no part, and
what is one incident is decided by the calls between endpoints alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.detect.detectors import DETECTORS, AnyDetector, Detector
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.evaluate.scoring import score
from aiops_lab.numerics import wilson
from aiops_lab.pipeline import Report
from aiops_lab.replaying import replay
from aiops_lab.results import Anomaly
from aiops_lab.user_functions import load_function, raised
from shop.catalogue import BY_SIZE
from shop.experiments.trials import truth
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.twins import Twin

PACKAGE_DETECTORS = "all of the package"

RANDOM_SHARE = 0.01

"""Share of the windows that the random baseline reports. Higher: more faults are found by luck, and
more incidents are false."""

FALSE_INCIDENT, MINUTE = 10.0, 3.0

"""Cost of an incident that shows no fault, and of a minute of fault before it is found. Only their
ratio matters to the order of detectors; with costlier incidents, silent ones fare better."""

NEVER_FOUND_MIN = 10.0

"""Minutes that a fault counts that is never found. Without a detector it would last until a person
notices it, not only for the minute of the catalogue's faults. Higher: silent detectors fare worse.
"""


NO_FAULT = "no fault"  # the group of scenarios in which nothing is to be found


class Entry(NamedTuple):
    """What is compared: detectors that work together, with one sensitivity."""

    detectors: tuple[AnyDetector, ...]
    sensitivity: Sensitivity = Sensitivity()


class DetectionResult(NamedTuple):
    """The result of one entry for one run.

    ``faults``: number of injected faults; ``found``: of these, by an incident. ``detect_s``:
    seconds from the start of the first fault that was found to the end of the window that shows
    it, NaN where none is. ``false_incidents``: number of incidents that show no fault. ``pages``:
    number of times that an incident opened or reopened. ``missed_minutes``: minutes of fault
    before it was found. ``hours``: length of the run.
    """

    scenario: str
    seed: int
    detector: str
    faults: int
    found: int
    detect_s: float
    delay_min: float
    false_incidents: int
    hours: float


# ---- who is compared


def always(
    windows: pd.DataFrame, baselines: pd.DataFrame, sensitivity: Sensitivity
) -> list[Anomaly]:
    """Return an anomaly for every window: the constant baseline."""
    return _anomalies("always", windows)


def never(
    windows: pd.DataFrame, baselines: pd.DataFrame, sensitivity: Sensitivity
) -> list[Anomaly]:
    """Return no anomaly: the other constant baseline."""
    return []


def random_detector(
    windows: pd.DataFrame, baselines: pd.DataFrame, sensitivity: Sensitivity
) -> list[Anomaly]:
    """Return an anomaly for a share of the windows, drawn by lot; equal windows, equal draws."""
    drawn = pd.util.hash_pandas_object(windows[["window", "service", "endpoint"]], index=False)
    chosen = drawn.to_numpy() < np.uint64(RANDOM_SHARE * 2**64)
    return _anomalies("random", windows[chosen])


def _anomalies(type_: str, windows: pd.DataFrame) -> list[Anomaly]:
    rows: Any = windows.itertuples()
    return [Anomaly(type_, w.service, w.endpoint, w.window, w.end) for w in rows]


def read_detectors(specs: Iterable[str]) -> dict[str, Entry]:
    """Return what is compared, by name: the detectors of the user, alone and beside the package's;
    those of the package, together, each alone and with the classic thresholds; baselines.

    A detector with the name of another entry is named by the whole of its spec.

    Raises
    ------
    ValueError
        A spec has another form than ``file.py:name`` or ``module:name``, cannot be imported, or
        names nothing that can be called.
    """
    known = {
        PACKAGE_DETECTORS: Entry(DETECTORS),
        "classic thresholds": Entry(DETECTORS, Sensitivity.classic()),
        **{detector.name: Entry((detector,)) for detector in DETECTORS},
        "random": Entry((random_detector,)),
        "always": Entry((always,)),
        "never": Entry((never,)),
    }
    own: dict[str, Entry] = {}
    for spec in specs:
        last = spec.rpartition(":")[2]
        name = spec if last in known or last in own else last
        detector = _checked(name, load_function("detector", spec))
        own[name] = Entry((detector,))
        own[f"package and {name}"] = Entry((*DETECTORS, detector))
    return own | known


def _checked(name: str, detector: Any) -> AnyDetector:
    """Return a detector whose answers are checked; a `Detector` needs no check."""
    return detector if isinstance(detector, Detector) else partial(_answer, name, detector)


def _answer(
    name: str,
    detector: AnyDetector,
    windows: pd.DataFrame,
    baselines: pd.DataFrame,
    sensitivity: Sensitivity,
) -> list[Anomaly]:
    found = detector(windows.copy(), baselines.copy(), sensitivity)
    is_list = isinstance(found, list)
    if not is_list or not all(isinstance(each, Anomaly) for each in found):
        raise FieldError(f"detector {name}", "must return a list of Anomaly", found)
    return found


# ---- one run


def detection_results(
    scenario: Scenario, seed: int, pair: Twin, specs: Sequence[str]
) -> list[DetectionResult]:
    """Return the result of each entry of `read_detectors` for one run.

    Raises
    ------
    ValueError
        A detector raises, or does not return a list of `Anomaly`; the message names it.
    """
    faults = truth(scenario, seed, pair)
    entries = read_detectors(specs)
    return [_result(scenario, seed, pair, faults, *entry) for entry in entries.items()]


def _result(
    scenario: Scenario, seed: int, pair: Twin, faults: pd.DataFrame, name: str, entry: Entry
) -> DetectionResult:
    report = _replayed(name, entry, pair.with_fault)
    found = score(report, faults)
    delays = [event.detect_s for event in found.events if event.incidents]
    shown = {incident for event in found.events for incident in event.incidents}
    return DetectionResult(
        scenario=scenario.name,
        seed=seed,
        detector=name,
        faults=found.faults,
        found=len(delays),
        detect_s=min(delays, default=nan),
        delay_min=sum(delays) / 60 + NEVER_FOUND_MIN * (found.faults - len(delays)),
        false_incidents=len(report.incidents) - len(shown),
        hours=found.hours,
    )


def _replayed(name: str, entry: Entry, spans: pd.DataFrame) -> Report:
    try:
        return replay(spans, entry.sensitivity, detectors=entry.detectors, causes=False)
    except FieldError:
        raise
    except Exception as error:
        raise raised(f"detector {name}", error) from error


# ---- all runs


def detection_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return a row an entry, the cheapest first; `results` as `Board.detection` holds them.

    Of the runs with a fault that count: found (share of the faults, with the bounds of 95 %,
    found_low and found_high, Wilson), median_s and worst_s (of the delays). weak: share of the
    faults found of the scenarios by size. Of the runs without a fault: false_runs (share with an
    incident). Of all: false_per_hour (incidents that show no fault), cost (of a run:
    `FALSE_INCIDENT` for each of these, `MINUTE` for each of ``delay_min``).
    """
    groups = results.groupby("detector", sort=False)
    rows = {name: _summary(mine) for name, mine in groups}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("detector")
    return table.sort_values(["cost", "false_per_hour"], kind="stable")


def _summary(mine: pd.DataFrame) -> dict[str, float]:
    counted = mine[mine["group"] != BY_SIZE]
    weak = mine[mine["group"] == BY_SIZE]
    faulty = counted[counted["faults"] > 0]
    calm = counted[counted["faults"] == 0]
    found = faulty["found"].sum()
    faults = faulty["faults"].sum()
    low, high = nan, nan
    if faults:
        low, high = map(float, wilson(found, faults, 1.96))
    costs = FALSE_INCIDENT * mine["false_incidents"] + MINUTE * mine["delay_min"]
    return {
        "found": _share(found, faults),
        "found_low": max(low, 0.0),
        "found_high": high,
        "weak": _share(weak["found"].sum(), weak["faults"].sum()),
        "median_s": faulty["detect_s"].median(),
        "worst_s": faulty["detect_s"].max(),
        "false_runs": (calm["false_incidents"] > 0).mean(),
        "false_per_hour": mine["false_incidents"].sum() / mine["hours"].sum(),
        "cost": costs.mean(),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else nan


def found_by_scenario(results: pd.DataFrame) -> pd.DataFrame:
    """Return a row a (group, scenario), a column an entry, the cheapest first: the share of the
    faults that it finds; where there is no fault, the share of the runs without an incident, in
    a group of their own, the last.
    """
    keys = ["group", "scenario"]
    is_fault = results["faults"] > 0
    silent = (results["false_incidents"] == 0).astype(float)
    share = results["found"] / results["faults"].clip(lower=1)
    group = results["group"].where(is_fault, NO_FAULT)
    judged = results.assign(right=share.where(is_fault, silent), group=group)
    table = judged.pivot_table(index=keys, columns="detector", values="right", sort=False)
    in_groups = table.sort_index(level=0, key=_places, sort_remaining=False, kind="stable")
    return in_groups[detection_table(results).index]


def _places(groups: pd.Index) -> pd.Index:
    """Return the place of each group in the order in which they first occur, no fault at last."""
    codes, _ = pd.factorize(groups)
    return pd.Index(np.where(groups == NO_FAULT, len(codes), codes))
