"""A recording of a virtual scenario."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.formats.writing import format_of, replacing, write_spans
from shop.exports import LAYOUTS, Truth, check_folder_is_free, write_changes, write_folder
from shop.recordings import CHANGES_ENDING, TRUTH_ENDING, check_file
from shop.virtual_time.scenario import Place, Scenario, end_of, fault_facts, virtual_moment
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import affected, affected_by_each, twin


def record_scenario(
    path: str | Path,
    scenario: Scenario,
    seed: int = 0,
    progress: bool | None = None,
    format: str | None = None,  # noqa: A002
) -> pd.DataFrame:
    """Run a scenario in virtual time; write and return its spans. Equal seeds give equal files.

    Parameters
    ----------
    path : path
        FILE.truth.json is written beside it, for `read_truth`; and where changes were noted,
        FILE.changes.csv, whose rows `aiops_lab.replay` takes as ``changes``. Of a folder:
        FOLDER/changes.csv. Without changes an older file of that name is removed.
    scenario, seed, progress
        As for `twin`.
    format
        As for `aiops_lab.write_spans`; or "rcaeval" or "openrca", which make a folder
        (`shop.exports`).

    Raises
    ------
    ValueError
        A parameter breaks its rule; or the faults had no effect on any request.
    """
    if format in LAYOUTS:
        check_folder_is_free(path)
    else:
        check_file(path, format)
    spans, truth = _run(scenario, seed, progress)
    if format in LAYOUTS:
        write_folder(path, spans, truth, format)
    else:
        write_recording(path, spans, truth, format)
    return spans


def _run(scenario: Scenario, seed: int, progress: bool | None) -> tuple[pd.DataFrame, Truth]:
    """Return the spans of a scenario, and what is true of them."""
    if not scenario.faults:
        return virtual(scenario, seed, progress), _truth_of(scenario, seed, [], [])
    pair = twin(scenario, seed, progress)
    degraded = affected(pair, *scenario.interval())
    by_each = affected_by_each(scenario, seed, pair, progress)
    return pair.with_fault, _truth_of(scenario, seed, degraded, by_each)


def _truth_of(
    scenario: Scenario, seed: int, degraded: list[Place], by_each: list[list[Place]]
) -> Truth:
    faults: list[dict[str, Any]] = []
    groups = _groups(scenario, by_each)
    for fault, places, group in zip(scenario.faults, by_each, groups, strict=True):
        row = {
            "id": len(faults) + 1,
            **fault_facts(fault, scenario),
            # a fault too weak to degrade any endpoint counts as affecting its own
            "affected": places or scenario.places_of(fault),
            "group": group,
        }
        faults.append(row)
    noted = [asdict(change) for change in scenario.noted]
    return {
        **({"noted": noted} if noted else {}),
        "name": scenario.name,
        "causes": scenario.causes,
        "defeats": scenario.defeats,
        "why": scenario.why,
        "faults": faults,
        "affected": degraded,
        "window": [virtual_moment(second) for second in scenario.interval()],
        "rate": scenario.rate,
        "seconds": scenario.seconds,
        "seed": seed,
    }


def _groups(scenario: Scenario, by_each: list[list[Place]]) -> list[int]:
    """Return the number of each fault's group.

    Faults that degrade a common endpoint at the same time are one group: one incident.
    """
    starts = [fault.start_s for fault in scenario.faults]
    ends = [end_of(fault, scenario.seconds) for fault in scenario.faults]
    groups = list(range(1, len(starts) + 1))
    for one, other in combinations(range(len(starts)), 2):
        at_once = starts[one] < ends[other] and starts[other] < ends[one]
        if at_once and set(by_each[one]) & set(by_each[other]):
            joined = groups[other]
            groups = [groups[one] if group == joined else group for group in groups]
    return groups


UNITS = {
    "csv": "ms",
    "parquet": "ms",
    "jaeger": "us",
    "zipkin": "us",
}
"""Units of the durations in each format; all others have ns."""


def write_recording(
    path: str | Path,
    spans: pd.DataFrame,
    truth: Truth,
    format: str | None = None,  # noqa: A002
) -> None:
    """Write the spans to FILE and the truth to FILE.truth.json: both, or neither; and the changes
    that the truth notes to FILE.changes.csv.
    """
    form = format_of(Path(path), format)
    facts = {
        **truth,
        "format": form,
        "zone": "UTC",
        "unit": UNITS.get(form, "ns"),
    }
    text = json.dumps(facts, indent=2, default=str)
    with replacing(f"{path}{TRUTH_ENDING}") as beside:
        beside.write_text(f"{text}\n", "utf-8", newline="\n")
        write_spans(spans, path, form)
        write_changes(Path(f"{path}{CHANGES_ENDING}"), truth)
