"""Nezha's own files as tables of spans, resources and log lines, for each day.

Nezha: Yu et al., ESEC/FSE 2023, doi 10.5281/zenodo.8276375;
<https://github.com/IntelligentDDS/Nezha>. A clone has::

    rca_data/<day>/<day>-fault_list.json   what was injected, when, into which pod
    rca_data/<day>/trace/                  HH_MM_trace.csv
    rca_data/<day>/log/                    HH_MM_log.csv
    rca_data/<day>/metric/                 <pod>_metric.csv
    construct_data/<day>/{trace,log}/      fault-free minutes, in the same form

`convert` makes ``<system>_<day>/`` with spans.parquet, resources.parquet, faults.json, and
logs.parquet where the lines name their place in the code.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.files import (
    NUMBERS,
    TEXT,
    WHOLE,
    check_kinds,
    csv_table,
    present,
    read_json,
    wrong,
)
from aiops_lab.datasets.nezha import RESOURCE_NUMBERS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SECOND = 1_000_000_000  # ns

FAULT_LENGTH_S = 180  # a fault lasts three minutes

# fault-free: a trace that starts this long before a fault, and not during another one
BEFORE_S = (130, 10)

# of each table the columns, with what they hold
TRACE = {
    "TraceID": TEXT,
    "SpanID": TEXT,
    "ParentID": TEXT,
    "PodName": TEXT,
    "OperationName": TEXT,
    "StartTimeUnixNano": WHOLE,
    "Duration": WHOLE,
}

LOG = {"TimeUnixNano": WHOLE}

LOG_TEXT = ("TraceID", "SpanID", "Log")  # may have gaps

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

METRIC = {"TimeStamp": WHOLE, "PodName": TEXT, **dict.fromkeys(METRIC_COLUMNS, NUMBERS)}

# a line reads `{"log":"17:04:11.107 INFO  u.c.UserController#48 TraceID: ...`; the hour is local,
# so it is not used. As in the published comparison a name with a digit or a bracket in it is no
# place: it becomes "?".
PLACE = r"\b(DEBUG|INFO|WARN|ERROR)\b(?:\s+([A-Za-z.]+#\d+))?"

# the place of a line that names none; the level of a line without one
NO_PLACE, STACK_TRACE = "?", "ERROR"


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

    folders = filter(Path.is_dir, source.glob("rca_data/*"))
    days = sorted(folders)
    if not days:
        missing = source / "rca_data"
        raise FileNotFoundError(
            f"{source} is no clone of Nezha's repository: {missing} has no days"
        )
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty:
        raise FileExistsError(f"{out} must not exist, or be an empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        made = Path(folder) / out.name
        made.mkdir()
        for day in tqdm(days, unit="day"):
            separate = source / "construct_data" / day.name
            _convert_day(day, separate, made)
        if out.exists():
            out.rmdir()
        shutil.move(made, out)


def _tables(
    folders: Iterable[Path], pattern: str, kinds: dict[str, str], text: Iterable[str] = ()
) -> Iterator[pd.DataFrame]:
    """Yield the table of each file, checked by `kinds`; columns of `text` may have gaps."""
    from tqdm.auto import tqdm

    names = [*kinds, *text]
    dtypes = {name: "str" for name in names if kinds.get(name, TEXT) == TEXT}
    files = [path for folder in folders for path in sorted(folder.glob(pattern))]
    for path in tqdm(files, desc=pattern, unit="file", leave=False):
        table = csv_table(path, names, dtype=dtypes)
        check_kinds(path, table, kinds)
        yield table[names]


def _joined(tables: Iterable[pd.DataFrame], files: Path) -> pd.DataFrame:
    """Return the rows of all tables; FileNotFoundError names the `files` if there is none."""
    import pandas as pd

    tables = list(tables)
    if not tables:
        raise FileNotFoundError(f"{files} is missing")
    return pd.concat(tables, ignore_index=True)


def _convert_day(day: Path, separate: Path, out: Path) -> None:
    faults = read_faults(present(day / f"{day.name}-fault_list.json"))
    spans, ids = compact_spans(day, separate, faults)
    logs = read_logs(day, separate, ids)
    resources = read_resources(day)
    of_trains = spans["service"].astype(str).str.startswith("ts-").any()
    system = "TrainTicket" if of_trains else "OnlineBoutique"
    abnormal = spans[spans["abnormal"]]
    traces = abnormal.groupby("window")["trace_id"].nunique()
    counts = faults["id"].map(traces)
    faults["abnormal_traces"] = counts.fillna(0).astype(int)
    folder = out / f"{system}_{day.name}"
    folder.mkdir()
    spans.to_parquet(folder / "spans.parquet", engine="pyarrow")
    resources.to_parquet(folder / "resources.parquet", engine="pyarrow")
    has_place = logs["location"] != NO_PLACE
    if has_place.any():
        logs.to_parquet(folder / "logs.parquet", engine="pyarrow")
    told = json.dumps(faults.to_dict("records"), indent=1)
    (folder / "faults.json").write_text(told + "\n", "utf-8")


def read_faults(path: Path) -> pd.DataFrame:
    """Return the faults in order of time: id, inject_time, t0_ns, t1_ns, service, fault_type.

    `inject_time` is UTC. `inject_timestamp` is not read: TrainTicket's are eight hours early, and
    one is another's.
    """
    import pandas as pd

    try:
        hours = read_json(path).values()
        listed = pd.DataFrame([*chain.from_iterable(hours)])
        time = pd.to_datetime(listed["inject_time"], format="ISO8601", utc=True)
        time = time.dt.as_unit("ns")
        service = listed["inject_pod"].map(_service)
        listed = listed.assign(t0_ns=time.astype("int64"), service=service, time=time)
        listed = listed.sort_values(["t0_ns", "service", "inject_type"], ignore_index=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise wrong(
            path, f"must be hours with lists of inject_time, inject_pod, inject_type ({error!r})"
        ) from error
    columns = {
        "id": listed.index,
        "inject_time": listed["time"].dt.strftime("%Y-%m-%d %H:%M:%SZ"),
        "t0_ns": listed["t0_ns"],
        "t1_ns": listed["t0_ns"] + FAULT_LENGTH_S * SECOND,
        "service": listed["service"],
        "fault_type": listed["inject_type"],
    }
    return pd.DataFrame(columns)


def _service(pod: str) -> str:
    """Return the service of a pod: its name without the last two parts.

    Examples
    --------
    >>> _service("ts-order-service-5b67c48447-mv5hb")
    'ts-order-service'
    """
    return pod.rsplit("-", 2)[0]


def compact_spans(
    day: Path, separate: Path, faults: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the compact table of spans, and (TraceID, SpanID) of its rows.

    The minute files overlap, so a span may stand in two of them: the first counts. A trace of
    `separate` is fault-free (window -1). Else it belongs to the fault during which it starts, or it
    is fault-free and starts shortly before the fault `window`; all other traces are left out. Spans
    with damaged times are left out too.
    """
    import numpy as np
    import pandas as pd

    pattern = "trace/*_trace.csv"
    parts = [
        part.assign(alone=folder is separate)
        for folder in (separate, day)
        for part in _tables([folder], pattern, TRACE)
    ]
    keys = ["TraceID", "SpanID"]
    spans = _joined(parts, day / pattern).drop_duplicates(keys)
    midnight = pd.Timestamp(day.name, tz="UTC").as_unit("ns").value
    day_ns = 86400 * SECOND
    end_of_next_day = midnight + 2 * day_ns
    is_near = spans["StartTimeUnixNano"].between(midnight - day_ns, end_of_next_day)
    is_possible = spans["Duration"].between(0, np.iinfo(np.int32).max)
    spans = spans[is_near & is_possible]

    by_trace = spans.groupby("TraceID", sort=False)
    spans = spans.assign(
        trace=by_trace.ngroup(),
        begin=by_trace["StartTimeUnixNano"].transform("min"),
        alone=by_trace["alone"].transform("any"),
    )
    window, abnormal = _windows(spans["begin"], spans["alone"], faults)
    spans = spans.assign(window=window, abnormal=abnormal)
    is_of_fault = window >= 0
    spans = spans[spans["alone"] | is_of_fault]
    spans = spans.sort_values(["begin", "trace", "StartTimeUnixNano"], ignore_index=True)
    columns = {
        "trace_id": pd.factorize(spans["trace"])[0].astype(np.int32),
        "span_id": spans.index.astype(np.int32),
        "parent_id": _parents(spans).astype(np.int32),
        "service": spans["PodName"].map(_service).astype("category"),
        "operation": spans["OperationName"].astype("category"),
        "start_ns": spans["StartTimeUnixNano"],
        "duration_us": spans["Duration"].astype(np.int32),
        "window": spans["window"].astype(np.int16),
        "abnormal": spans["abnormal"],
    }
    return pd.DataFrame(columns), spans[keys]


def _windows(
    begin: pd.Series, alone: pd.Series, faults: pd.DataFrame
) -> tuple[pd.Series, pd.Series]:
    """Return for each span the fault that its trace belongs to (-1: none) and whether it started
    during it.
    """
    early, late = (seconds * SECOND for seconds in BEFORE_S)
    window = begin * 0 - 1
    abnormal = window >= 0
    bounds = faults[["id", "t0_ns", "t1_ns"]]
    times: list[Any] = list(bounds.itertuples(index=False))
    for fault, start, _ in times:
        before = begin.between(start - early, start - late, inclusive="left")
        window[before & ~alone] = fault
    # after the others: a trace during a fault is not fault-free, whatever comes next
    for fault, start, end in times:
        during = begin.between(start, end, inclusive="left") & ~alone
        window[during] = fault
        abnormal |= during
    return window, abnormal


def _parents(spans: pd.DataFrame) -> np.ndarray:
    """Return the row of each span's parent, -1 for a root (ParentID ``root``) and where the parent
    was not stored.
    """
    ids = spans[["TraceID", "SpanID"]]
    keys = ["TraceID", "ParentID"]
    rows = ids.set_axis(keys, axis=1).assign(row=range(len(spans)))
    parents = spans[keys].merge(rows, how="left", on=keys)["row"]
    return parents.fillna(-1).to_numpy()


def read_logs(day: Path, separate: Path, ids: pd.DataFrame) -> pd.DataFrame:
    """Return the log lines of the spans `ids`: span_id, location, level, time_ns, in order of time.

    Times are kept as they are; some are damaged (year 1754).
    """
    import pandas as pd

    spans = ids.assign(span_id=ids.index.astype("int32"))
    parts = [pd.DataFrame(columns=["TimeUnixNano", *LOG_TEXT, "span_id"])]
    for table in _tables([separate, day], "log/*_log.csv", LOG, LOG_TEXT):
        parts.append(table.merge(spans, on=["TraceID", "SpanID"]))
    lines = pd.concat(parts[1:] or parts, ignore_index=True)
    level_place = lines["Log"].astype("str").str.extract(PLACE)
    columns = {
        "span_id": lines["span_id"].astype("int32"),
        "location": level_place[1].fillna(NO_PLACE).astype("category"),
        "level": level_place[0].fillna(STACK_TRACE).astype("category"),
        "time_ns": lines["TimeUnixNano"].astype("int64"),
    }
    # the minute files overlap
    logs = pd.DataFrame(columns).drop_duplicates()
    return logs.sort_values("time_ns", kind="stable", ignore_index=True)


def read_resources(day: Path) -> pd.DataFrame:
    """Return the pods' metrics: index time (UTC), service, and `RESOURCE_NUMBERS`; a row a minute
    and pod.
    """
    import pandas as pd

    pattern = "metric/*_metric.csv"
    table = _joined(_tables([day], pattern, METRIC), day / pattern)
    time = pd.to_datetime(table["TimeStamp"], unit="s", utc=True)
    service = table["PodName"].map(_service)
    columns = {"time": time.dt.as_unit("ns"), "service": service.astype("category")}
    numbers = table[[*METRIC_COLUMNS]].astype("float32")
    numbers = numbers.set_axis([*RESOURCE_NUMBERS], axis=1)
    resources = pd.DataFrame(columns).join(numbers)
    resources = resources.sort_values(["time", "service"], kind="stable")
    return resources.set_index("time")
