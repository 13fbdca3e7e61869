"""Recordings: the spans of a run, and its faults as JSON; ``python -m shop record FILE``.

FILE holds the spans in one of the formats of `aiops_lab.write_spans`; FILE.truth.json the faults.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.formats.writing import format_of
from aiops_lab.record.faults import Fault
from shop.topology import SEED_SHOP
from shop.virtual_time.scenario import Place, Scenario, fault_facts

TRUTH_ENDING = ".truth.json"

"""Ending of the file of the faults, after the name of the recording."""

CHANGES_ENDING = ".changes.csv"

"""Ending of the file of what was changed on purpose, after the name of the recording."""


FAULT_COLUMNS = ("start", "end", "kind", "service", "endpoint")

"""Columns of the faults of a scenario, also if there are none."""


def check_folder(field: str, folder: Path, value: object) -> None:
    """Raise `FieldError`, with `field` and `value`, unless `folder` can be written to."""
    if not folder.is_dir():
        raise FieldError(field, "must be in a folder that exists", str(value))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise FieldError(field, "must be in a folder that can be written to", str(value)) from None


def read_truth(path: str | Path) -> pd.DataFrame:
    """Return the faults of a recording, by its name or that of its truth, as `aiops_lab.score`
    takes them.

    A row a fault: id, start, end (UTC), kind, service, endpoint (None: all of the service) and its
    numbers. Recordings of a scenario also have ``affected``, the (service, endpoint) pairs that the
    fault degrades according to the twin, and ``group``, equal for faults that belong to one
    incident. Other values, such as seed, causes and the window to be explained, are in ``attrs``.

    Raises
    ------
    ValueError
        The file beside the recording has no faults.
    """
    recording = str(path).removesuffix(TRUTH_ENDING)
    truth = json.loads(Path(f"{recording}{TRUTH_ENDING}").read_text("utf-8"))
    if not isinstance(truth, dict) or "faults" not in truth:
        raise FieldError("path", "must be a recording with its truth beside it", str(path))
    faults = _faults_frame(truth.pop("faults"), ["id", *FAULT_COLUMNS])
    if "affected" in faults:
        faults["affected"] = faults["affected"].map(_places)
    for name in ("causes", "affected"):
        if name in truth:
            truth[name] = _places(truth[name])
    if "window" in truth:
        truth["window"] = tuple(map(pd.Timestamp, truth["window"]))
    faults.attrs |= truth
    return faults


def _faults_frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows as a frame, with start and end as times; `columns` are those of no row."""
    faults = pd.DataFrame(rows, columns=None if rows else list(columns))
    for column in ("start", "end"):
        times = pd.to_datetime(faults[column], utc=True, format="ISO8601")
        faults[column] = times.dt.as_unit("ns")
    return faults


def _places(pairs: list[list[str]]) -> list[Place]:
    return [(service, endpoint) for service, endpoint in pairs]


def true_faults(scenario: Scenario) -> pd.DataFrame:
    """Return the faults of a scenario as `aiops_lab.score` takes them, for the spans of `virtual`.

    A row a fault: start, end (UTC), kind, service, endpoint (None: all of the service) and its
    numbers. The endpoints that a fault degrades are known from a twin only: `record_scenario`
    writes them to a file.
    """
    rows = [fault_facts(fault, scenario) for fault in scenario.faults]
    return _faults_frame(rows, FAULT_COLUMNS)


def check_file(path: str | Path, form: str | None) -> None:
    """Raise `FieldError` unless a recording in a format can be written to this path."""
    if Path(path).is_dir():
        raise FieldError("file", "must be a file", str(path))
    format_of(Path(path), form)
    check_folder("file", Path(path).parent, path)


def fault_of(
    kind: str,
    services: str,
    endpoint: str = "/payment",
    duration_ms: float = 1000.0,
    share: float = 1.0,
) -> Fault | None:
    """Return the fault that a command's ``--fault`` names, at an endpoint of the seed's shop.

    A delay takes `duration_ms`, give or take a fifth; the fault affects `share` of the requests.
    None if `kind` is "none".
    """
    topology = SEED_SHOP.as_one() if services == "one" else SEED_SHOP
    places = {e.route: e.service for e in topology.endpoints}
    if endpoint not in places:
        raise FieldError("endpoint", f"must be one of {', '.join(places)}", endpoint)
    check_number("share", share, 0, 1)
    if kind == "none":
        return None
    fault = Fault(kind, places[endpoint], endpoint, rate=share)
    if kind == "delay":
        return replace(fault, duration_ms=duration_ms, jitter_ms=duration_ms / 5)
    return fault
