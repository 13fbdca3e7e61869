"""How do Nezha's own files become, for each day, a table of spans, of resources and of log lines?

Nezha: Yu et al., ESEC/FSE 2023, doi 10.5281/zenodo.8276375;
<https://github.com/IntelligentDDS/Nezha>. A clone has::

    rca_data/<day>/<day>-fault_list.json                 what was injected, when, into which pod
    rca_data/<day>/{trace,log,metric}/                   HH_MM_trace.csv, HH_MM_log.csv,
    <pod>_metric.csv
    construct_data/<day>/{trace,log}/                    fault-free minutes, in the same form

`convert` makes ``<system>_<day>/`` with spans.parquet, resources.parquet, faults.json, and
logs.parquet where the lines name their place in the code.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.files import present, read_csv, read_json, wrong
from aiops_lab.datasets.nezha import RESOURCE_NUMBERS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SECOND = 1_000_000_000  # ns

FAULT_LENGTH_S = 180  # a fault lasts three minutes

# fault-free: a trace that starts this long before a fault, and not during another one
BEFORE_S = (130, 10)

TRACE = (
    "TraceID",
    "SpanID",
    "ParentID",
    "PodName",
    "OperationName",
    "StartTimeUnixNano",
    "Duration",
)

LOG = ("TimeUnixNano", "TraceID", "SpanID", "Log")

METRIC_COLUMNS = (  # in the order of RESOURCE_NUMBERS
    "CpuUsageRate(%)",
    "MemoryUsageRate(%)",
    "SyscallRead",
    "SyscallWrite",
    "NetworkReceiveBytes",
    "NetworkTransmitBytes",
    "NodeCpuUsageRate(%)",
    "NodeMemoryUsageRate(%)",
)

# a line reads `{"log":"17:04:11.107 INFO  u.c.UserController#48 TraceID: ...`; the hour is local,
# so it is not used. As in the published comparison a name with a digit or a bracket in it is no
# place: it becomes "?".
PLACE = r"\b(DEBUG|INFO|WARN|ERROR)\b(?:\s+([A-Za-z.]+#\d+))?"

# the place of a line that names none; the level of a line without one
UNKNOWN, STACK_TRACE = "?", "ERROR"


def convert(source: Path, out: Path) -> None:
    """Write the compact layout of the clone `source` to the folder `out`, whole or not at all.

    Raises
    ------
    FileNotFoundError
        `source` is no clone, or a file of it is missing.
    FileExistsError
        `out` is there and not an empty folder.
    ValueError
        A file is not what it should be; the message names it.
    """
    from tqdm.auto import tqdm

    days = sorted(p for p in source.glob("rca_data/*") if p.is_dir())
    if not days:
        raise FileNotFoundError(
            f"{source} is no clone of Nezha's repository: {source / 'rca_data'} has no days"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} must not exist, or be an empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        made = Path(folder) / out.name
        made.mkdir()
        for day in tqdm(days, unit="day"):
            _convert_day(day, source / "construct_data" / day.name, made)
        if out.exists():
            out.rmdir()
        shutil.move(made, out)


def _each(files: Iterable[Path], what: str) -> Iterable[Path]:
    from tqdm.auto import tqdm

    return tqdm(sorted(files), desc=what, unit="file", leave=False)


def _convert_day(day: Path, separate: Path, out: Path) -> None:
    faults = read_faults(present(day / f"{day.name}-fault_list.json"))
    spans, ids = compact_spans(day, separate, faults)
    logs = read_logs(day, separate, ids)
    resources = read_resources(day)
    of_trains = spans["service"].astype(str).str.startswith("ts-").any()
    system = "TrainTicket" if of_trains else "OnlineBoutique"
    traces = spans[spans["abnormal"]].groupby("window")["trace_id"].nunique()
    told = [fault | {"abnormal_traces": int(traces.get(fault["id"], 0))} for fault in faults]
    folder = out / f"{system}_{day.name}"
    folder.mkdir()
    spans.to_parquet(folder / "spans.parquet", engine="pyarrow")
    resources.to_parquet(folder / "resources.parquet", engine="pyarrow")
    if (logs["location"] != UNKNOWN).any():
        logs.to_parquet(folder / "logs.parquet", engine="pyarrow")
    (folder / "faults.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def read_faults(path: Path) -> list[dict[str, Any]]:
    """Return the faults in order of time, with id, inject_time, t0_ns, t1_ns, service, fault_type.

    `inject_time` is UTC. `inject_timestamp` is not read: TrainTicket's are eight hours early, and
    one is another's.
    """
    import pandas as pd

    try:
        listed = [fault for hour in read_json(path).values() for fault in hour]
        rows = [(f["inject_time"], _service(f["inject_pod"]), f["inject_type"]) for f in listed]
        timed = sorted(
            (pd.Timestamp(time, tz="UTC").as_unit("ns").value, *rest) for time, *rest in rows
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise wrong(
            path, f"must be hours with lists of inject_time, inject_pod, inject_type ({error!r})"
        ) from error
    return [
        {
            "id": number,
            "inject_time": f"{pd.Timestamp(t0, tz='UTC'):%Y-%m-%d %H:%M:%S}Z",
            "t0_ns": t0,
            "t1_ns": t0 + FAULT_LENGTH_S * SECOND,
            "service": service,
            "fault_type": kind,
        }
        for number, (t0, service, kind) in enumerate(timed)
    ]


def _service(pod: str) -> str:
    """Return the service of a pod: its name without the last two parts.

    Examples
    --------
    >>> _service("ts-order-service-5b67c48447-mv5hb")
    'ts-order-service'
    """
    return pod.rsplit("-", 2)[0]


def compact_spans(
    day: Path, separate: Path, faults: list[dict[str, Any]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the compact table of spans, and (TraceID, SpanID) of its rows.

    The minute files overlap, so a span may stand in two of them: the first counts. A trace of
    `separate` is fault-free (window -1). Else it belongs to the fault during which it starts, or it
    is fault-free and starts shortly before the fault `window`; all other traces are left out. Spans
    with damaged times are left out too.
    """
    import numpy as np
    import pandas as pd

    parts = [*_traces(separate, True), *_traces(day, False)]
    if not parts:
        raise FileNotFoundError(f"{day / 'trace' / '*_trace.csv'} is missing")
    keys = ["TraceID", "SpanID"]
    spans = pd.concat(parts, ignore_index=True).drop_duplicates(keys, ignore_index=True)
    midnight = pd.Timestamp(day.name, tz="UTC").as_unit("ns").value
    day_ns = 86400 * SECOND
    in_time = spans["StartTimeUnixNano"].between(midnight - day_ns, midnight + 2 * day_ns)
    spans = spans[in_time & spans["Duration"].between(0, np.iinfo(np.int32).max)]

    by_trace = spans.groupby("TraceID", sort=False)
    begin = by_trace["StartTimeUnixNano"].transform("min").to_numpy()
    alone = by_trace["separate"].transform("any").to_numpy()
    window, abnormal = _windows(begin, alone, faults)
    keep = np.flatnonzero(alone | (window >= 0))
    trace = by_trace.ngroup().to_numpy()
    start = spans["StartTimeUnixNano"].to_numpy()
    order = keep[np.lexsort((start[keep], trace[keep], begin[keep]))]
    spans = spans.iloc[order].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "trace_id": pd.factorize(trace[order])[0].astype(np.int32),
            "span_id": np.arange(len(spans), dtype=np.int32),
            "parent_id": _parents(spans).astype(np.int32),
            "service": spans["PodName"].map(_service).astype("category"),
            "operation": spans["OperationName"].astype("category"),
            "start_ns": spans["StartTimeUnixNano"],
            "duration_us": spans["Duration"].astype(np.int32),
            "window": window[order].astype(np.int16),
            "abnormal": abnormal[order],
        }
    )
    return table, spans[keys]


def _traces(folder: Path, separate: bool) -> Iterator[pd.DataFrame]:
    text = dict.fromkeys(TRACE[:5], "str")
    for path in _each(folder.glob("trace/*_trace.csv"), f"{folder.name} traces"):
        part = read_csv(path, TRACE, dtype=text)[[*TRACE]]
        _whole_numbers(path, part, ("StartTimeUnixNano", "Duration"))
        if part.isna().any(axis=None):
            raise wrong(path, f"column {part.columns[part.isna().any()][0]!r} has gaps")
        yield part.assign(separate=separate)


def _whole_numbers(path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    for column in columns:
        if frame[column].dtype.kind != "i" and len(frame):
            rule = "must be whole numbers without gaps"
            raise wrong(path, f"column {column!r} {rule}, got {frame[column].dtype}")


def _windows(
    begin: np.ndarray, alone: np.ndarray, faults: list[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each span the fault that its trace belongs to (-1: none) and whether it started
    during it.
    """
    import numpy as np

    window = np.full(len(begin), -1)
    abnormal = np.zeros(len(begin), dtype=bool)
    early, late = (seconds * SECOND for seconds in BEFORE_S)
    for fault in faults:
        before = (fault["t0_ns"] - early <= begin) & (begin < fault["t0_ns"] - late)
        window[before & ~alone] = fault["id"]
    # after the others: a trace during a fault is not fault-free, whatever comes next
    for fault in faults:
        during = (fault["t0_ns"] <= begin) & (begin < fault["t1_ns"]) & ~alone
        window[during], abnormal[during] = fault["id"], True
    return window, abnormal


def _parents(spans: pd.DataFrame) -> np.ndarray:
    """Return the row of each span's parent, -1 for a root (ParentID ``root``) and where the parent
    was not stored.
    """
    keys = ["TraceID", "ParentID"]
    rows = spans[["TraceID", "SpanID"]].set_axis(keys, axis=1).assign(row=range(len(spans)))
    return spans[keys].merge(rows, how="left", on=keys)["row"].fillna(-1).to_numpy()


def read_logs(day: Path, separate: Path, ids: pd.DataFrame) -> pd.DataFrame:
    """Return the log lines of the spans `ids`: span_id, location, level, time_ns, in order of time.

    Times are kept as they are; some are damaged (year 1754).
    """
    import pandas as pd

    spans = ids.assign(span_id=ids.index.astype("int32"))
    parts = [pd.DataFrame({"span_id": [], "location": [], "level": [], "time_ns": []})]
    files = [*separate.glob("log/*_log.csv"), *day.glob("log/*_log.csv")]
    for path in _each(files, f"{day.name} logs"):
        lines = read_csv(path, LOG, dtype={"TraceID": "str", "SpanID": "str", "Log": "str"})
        _whole_numbers(path, lines, ("TimeUnixNano",))
        lines = lines.merge(spans, on=["TraceID", "SpanID"])
        level_place = lines["Log"].fillna("").str.extract(PLACE)
        columns = {
            "span_id": lines["span_id"],
            "location": level_place[1].fillna(UNKNOWN),
            "level": level_place[0].fillna(STACK_TRACE),
            "time_ns": lines["TimeUnixNano"],
        }
        parts.append(pd.DataFrame(columns))
    # the minute files overlap
    logs = pd.concat(parts[1:] or parts, ignore_index=True).drop_duplicates()
    logs = logs.sort_values("time_ns", kind="stable", ignore_index=True)
    return logs.astype(
        {"span_id": "int32", "location": "category", "level": "category", "time_ns": "int64"}
    )


def read_resources(day: Path) -> pd.DataFrame:
    """Return the pods' metrics: index time (UTC), service, and `RESOURCE_NUMBERS`; a row a minute
    and pod.
    """
    import pandas as pd

    parts = []
    for path in _each(day.glob("metric/*_metric.csv"), f"{day.name} metrics"):
        part = read_csv(path, ("TimeStamp", "PodName", *METRIC_COLUMNS))
        _whole_numbers(path, part, ("TimeStamp",))
        try:
            numbers = (
                part[[*METRIC_COLUMNS]].astype("float32").set_axis([*RESOURCE_NUMBERS], axis=1)
            )
        except ValueError as error:
            raise wrong(path, f"must hold numbers ({error})") from error
        time = pd.to_datetime(part["TimeStamp"], unit="s", utc=True).dt.as_unit("ns")
        parts.append(numbers.assign(time=time, service=part["PodName"].map(_service)))
    if not parts:
        raise FileNotFoundError(f"{day / 'metric' / '*_metric.csv'} is missing")
    table = pd.concat(parts).sort_values(["time", "service"], kind="stable").set_index("time")
    return table[["service", *RESOURCE_NUMBERS]].astype({"service": "category"})
