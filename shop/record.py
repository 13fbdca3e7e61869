"""How is a run kept? ``python -m shop record FILE``: the spans as CSV, and beside them what was broken.

FILE has one row a span, in the columns of the spans frame; start is ISO 8601 in UTC with nanoseconds, an empty
cell is a missing value. It is compressed if its name ends in .gz. FILE.truth.json has the faults.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.faults import Fault, FieldError, check_number
from aiops_lab.spans import COLUMNS, TEXT_COLUMNS, check
from shop.live import Shop, running
from shop.scenario import EVERYWHERE, Place, Scenario, end_of
from shop.topology import SEED_SHOP
from shop.traffic import drive
from shop.twins import affected, affected_by_each, twin
from shop.virtual_time import BEGIN_NS, virtual

ENDINGS = (".csv", ".csv.gz")
BESIDE = ".truth.json"


def write_spans(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a spans frame to a file that `read_spans` reads back exactly.

    Raises
    ------
    ValueError
        The name of the file does not end in .csv or .csv.gz.
    """
    _check_ending(path)
    data = _encoded(frame, path)
    with replacing(path) as part:
        part.write_bytes(data)


def _encoded(frame: pd.DataFrame, path: str | Path) -> bytes:
    frame = check(frame)[list(COLUMNS)]
    text = frame.assign(start=frame["start"].map(lambda start: start.isoformat(timespec="nanoseconds")))
    data = text.to_csv(index=False, lineterminator="\n").encode()
    # Neither name nor time of writing in the file: the same spans give the same bytes.
    return gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a name to write to; the file takes its place when the block is done, and is never half-written."""
    part = Path(f"{path}.{os.getpid()}.part")  # so that two runs do not write into one file
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_folder(field: str, folder: Path, value: object) -> None:
    """Raise `FieldError`, with `field` and `value`, unless files can be written into `folder`."""
    if not folder.is_dir():
        raise FieldError(field, "must be in a folder that exists", str(value))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise FieldError(field, "must be in a folder that can be written to", str(value)) from None


def read_spans(path: str | Path) -> pd.DataFrame:
    """Return the spans frame that `write_spans` wrote."""
    frame = pd.read_csv(
        path,
        dtype=dict.fromkeys((*TEXT_COLUMNS, "duration_ms"), object) | {"status": "int64"},
        keep_default_na=False,
        na_values={column: [""] for column in COLUMNS},
    )
    frame["start"] = pd.to_datetime(frame["start"], utc=True, format="ISO8601").dt.as_unit("ns")
    frame["duration_ms"] = frame["duration_ms"].map(float)  # Python reads back exactly what it wrote
    frame = frame.astype(dict.fromkeys(TEXT_COLUMNS, object))
    return check(frame.where(frame.notna() | ~frame.columns.isin(TEXT_COLUMNS), None))


def read_truth(path: str | Path) -> pd.DataFrame:
    """Return the faults of a recording, by its name or that of its truth, as `aiops_lab.score` takes them.

    A row a fault: id, start, end (UTC), kind, service, endpoint (None: all of the service) and its numbers. Only a
    scenario knows ``affected``, the (service, endpoint) pairs that the fault truly degrades, as its twin tells, and
    ``group``, equal for faults that one incident should hold. What else is in the file, such as seed, causes and the
    window to be explained, is in ``attrs``.

    Raises
    ------
    ValueError
        The file beside the recording is not its truth.
    """
    truth = json.loads(Path(f"{str(path).removesuffix(BESIDE)}{BESIDE}").read_text("utf-8"))
    if not isinstance(truth, dict) or "faults" not in truth:
        raise FieldError("path", "must be a recording with its truth beside it", str(path))
    rows = truth.pop("faults")
    faults = pd.DataFrame(rows, columns=None if rows else ["id", "start", "end", "kind", "service", "endpoint"])
    for column in ("start", "end"):
        faults[column] = pd.to_datetime(faults[column], utc=True, format="ISO8601").dt.as_unit("ns")
    if "affected" in faults:
        faults["affected"] = faults["affected"].map(_places)
    truth |= {name: _places(truth[name]) for name in ("causes", "affected") if name in truth}
    truth |= {name: tuple(map(pd.Timestamp, truth[name])) for name in ("window",) if name in truth}
    faults.attrs |= truth
    return faults


def _places(pairs: list[list[str]]) -> list[Place]:
    return [(service, endpoint) for service, endpoint in pairs]


def true_faults(scenario: Scenario) -> pd.DataFrame:
    """Return the faults of a scenario as `aiops_lab.score` takes them, without a file: for spans that `virtual` made.

    A row a fault: start, end (UTC), kind, service, endpoint (None: all of the service) and its numbers. What each fault
    truly degrades only a twin tells: `record_scenario` writes it down.
    """
    columns = ["start", "end", "kind", "service", "endpoint"]
    rows = [_facts(fault, scenario) for fault in scenario.faults]
    faults = pd.DataFrame(rows, columns=None if rows else columns)
    for column in columns[:2]:
        faults[column] = pd.to_datetime(faults[column], utc=True, format="ISO8601").dt.as_unit("ns")
    return faults


def _facts(fault: Fault, scenario: Scenario) -> dict[str, Any]:
    numbers = {name: value for name, value in asdict(fault).items() if name not in ("start_s", "end_s")}
    times = {"start": _moment(fault.start_s), "end": _moment(end_of(fault, scenario.seconds))}
    return times | numbers | {"endpoint": None if fault.endpoint == EVERYWHERE else fault.endpoint}


def record_scenario(path: str | Path, scenario: Scenario, seed: int = 0, progress: bool | None = None) -> pd.DataFrame:
    """Run a scenario in virtual time; write and return the spans. The same seed gives equal files.

    Parameters
    ----------
    path : path
        FILE.csv or FILE.csv.gz. FILE.truth.json is written beside it: what `read_truth` tells.
    scenario, seed, progress
        As for `twin`.

    Raises
    ------
    ValueError
        A parameter breaks its rule; or the faults had no effect on any request.
    """
    _check_file(path)
    if not scenario.faults:
        spans = virtual(scenario, seed, progress)
        write_recording(path, spans, _truth_of(scenario, seed, [], []))
        return spans
    pair = twin(scenario, seed, progress)
    touched, by_each = affected(pair, *scenario.interval()), affected_by_each(scenario, seed, pair, progress)
    write_recording(path, pair.with_fault, _truth_of(scenario, seed, touched, by_each))
    return pair.with_fault


def _truth_of(scenario: Scenario, seed: int, touched: list[Place], by_each: list[list[Place]]) -> dict[str, Any]:
    faults: list[dict[str, Any]] = []
    for fault, places, group in zip(scenario.faults, by_each, _groups(scenario, by_each), strict=True):
        told = {"id": len(faults) + 1} | _facts(fault, scenario)
        told["affected"] = places or scenario.places_of(fault)  # too weak to degrade anything: felt where it strikes
        faults.append(told | {"group": group})
    return {
        "name": scenario.name, "causes": scenario.causes, "defeats": scenario.defeats, "why": scenario.why,
        "faults": faults, "affected": touched, "window": [_moment(second) for second in scenario.interval()],
        "rate": scenario.rate, "seconds": scenario.seconds, "seed": seed,
    }  # fmt: skip


def _groups(scenario: Scenario, by_each: list[list[Place]]) -> list[int]:
    """Return a number for each fault, equal for those that degrade a common endpoint at once: they are one incident."""
    times = [(fault.start_s, end_of(fault, scenario.seconds)) for fault in scenario.faults]
    groups = list(range(1, len(times) + 1))
    for (n, (start, end)), (k, (since, until)) in combinations(enumerate(times), 2):
        if start < until and since < end and set(by_each[n]) & set(by_each[k]):
            groups = [groups[n] if group == groups[k] else group for group in groups]
    return groups


def _moment(second: float) -> str:
    """Return a virtual second as the time that the spans have, in ISO 8601."""
    time = pd.Timestamp(BEGIN_NS + round(second * 1e6) * 1000, tz="UTC")
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def write_recording(path: str | Path, spans: pd.DataFrame, truth: dict[str, Any]) -> None:
    """Write the spans to FILE and the truth to FILE.truth.json: both, or neither."""
    data, told = _encoded(spans, path), json.dumps(truth, indent=2, default=str) + "\n"
    with replacing(path) as file, replacing(f"{path}{BESIDE}") as beside:
        file.write_bytes(data)
        beside.write_text(told, "utf-8", newline="\n")


def record(
    path: str | Path,
    fault: Fault | None,
    *,
    warmup_s: float = 60.0,
    fault_s: float = 30.0,
    recovery_s: float = 0.0,
    rate: float = 20.0,
    seed: int = 0,
    services: str = "one",
    progress: bool = True,
) -> pd.DataFrame:
    """Run normal traffic, then break something, then mend it; write and return the spans.

    Parameters
    ----------
    path : path
        FILE.csv or FILE.csv.gz; FILE.truth.json is written beside it.
    fault : Fault or None
        What is broken after `warmup_s` for `fault_s` seconds; None = nothing, a recording of normal days.
    recovery_s : float
        Seconds of traffic after it was mended.
    rate, seed, services, progress
        As for `drive` and `running`.

    Raises
    ------
    ValueError
        A parameter breaks its rule; said before anything runs.
    """
    _check_file(path)
    for name, seconds in (("warmup_s", warmup_s), ("fault_s", fault_s), ("recovery_s", recovery_s)):
        check_number(name, seconds, 0, 1e6)
    check_number("rate", rate, 0.001, 1e5)
    with running(services, seed=seed) as shop:
        _phase(shop, warmup_s, rate, seed, progress)
        if fault is not None:
            shop.inject(fault)
        _phase(shop, fault_s, rate, seed + 1, progress)
        shop.clear()
        _phase(shop, recovery_s, rate, seed + 2, progress)
        shop.store.flush()
        spans, faults = shop.store.spans(), shop.truth.faults()
    settings = {"rate": rate, "seed": seed, "services": services}
    lengths = {"warmup_s": warmup_s, "fault_s": fault_s, "recovery_s": recovery_s}
    write_recording(path, spans, {"faults": rows_of(faults)} | settings | lengths)
    return spans


def rows_of(faults: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a log of faults as JSON has them."""
    return json.loads(faults.to_json(orient="records", date_format="iso", date_unit="us"))


def _phase(shop: Shop, seconds: float, rate: float, seed: int, progress: bool) -> None:
    if seconds > 0:
        drive(shop, seconds, rate, seed=seed, progress=progress, timeout_s=6.0)


def _check_ending(path: str | Path) -> None:
    if not str(path).endswith(ENDINGS):
        raise FieldError("file", f"must end in one of {', '.join(ENDINGS)}", str(path))


def _check_file(path: str | Path) -> None:
    _check_ending(path)
    if Path(path).is_dir():
        raise FieldError("file", "must be a file", str(path))
    check_folder("file", Path(path).parent, path)


def fault_of(
    kind: str,
    services: str,
    endpoint: str = "/payment",
    duration_ms: float = 1000.0,
    share: float = 1.0,
) -> Fault | None:
    """Return the fault that a command's ``--fault`` names, at `endpoint` of the seed's shop.

    A delay lasts `duration_ms`, give or take a fifth; `share` of the requests are struck.
    """
    topology = SEED_SHOP.as_one() if services == "one" else SEED_SHOP
    places = {e.route: e.service for e in topology.endpoints}
    if endpoint not in places:
        raise FieldError("endpoint", f"must be one of {', '.join(places)}", endpoint)
    check_number("share", share, 0, 1)
    if kind == "none":
        return None
    lasts_ms = duration_ms if kind == "delay" else 0.0
    return Fault(kind, places[endpoint], endpoint, duration_ms=lasts_ms, jitter_ms=lasts_ms / 5, rate=share)
