"""How do the days of Nezha's data become cases with spans frames? Reads the compact layout that
`nezha_clone` makes.

A day is a folder ``<system>_<day>/``: spans.parquet, resources.parquet, faults.json, and
logs.parquet (TrainTicket).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.cases import Case, TracesCase
from aiops_lab.datasets.files import raise_first, read_json, read_parquet, wrong

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# the columns, and the kinds of numbers that they may hold (numpy's dtype.kind); "" is text
SPANS = {
    "trace_id": "iu",
    "span_id": "iu",
    "parent_id": "iu",
    "service": "",
    "operation": "",
    "start_ns": "iu",
    "duration_us": "iu",
    "window": "iu",
    "abnormal": "b",
}

LOGS = {"span_id": "iu", "location": "", "time_ns": "iu"}

RESOURCE_NUMBERS = (
    "cpu_percent",
    "memory_percent",
    "reads",
    "writes",
    "received_bytes",
    "sent_bytes",
    "node_cpu_percent",
    "node_memory_percent",
)

RESOURCES = {"service": "", **dict.fromkeys(RESOURCE_NUMBERS, "fiu")}

FAULT = {
    "id": int,
    "t0_ns": int,
    "t1_ns": int,
    "service": str,
    "fault_type": str,
    "abnormal_traces": int,
}


def read_nezha(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    """Return a case for each fault, and the names of the faults without an abnormal trace."""
    cases: list[Case] = []
    left_out: list[str] = []
    for folder in sorted(filter(_is_day, directory.iterdir())):
        day = NezhaDay(folder, logs)
        for fault in day.faults:
            name = f"{folder.name}/{fault['id']}"
            if fault["abnormal_traces"] == 0:
                left_out.append(name)
                continue
            truth = fault["service"]
            kind = fault["fault_type"]
            cases.append(TracesCase(name, folder.name, truth, kind, fault["id"], day))
    return cases, left_out


def _is_day(folder: Path) -> bool:
    """Return whether the folder holds a day, even a damaged one."""
    names = ("faults.json", "spans.parquet", "resources.parquet")
    return any((folder / name).is_file() for name in names)


def _has_logs(folder: Path) -> bool:
    """Return whether a file of logs must be there: OnlineBoutique's lines do not name their place
    in the code.
    """
    return not folder.name.startswith("OnlineBoutique") or (folder / "logs.parquet").exists()


class NezhaDay:
    """A system's day of Nezha: tables read and checked at once, spans frames made at first use."""

    def __init__(self, folder: Path, logs: bool) -> None:
        self.folder = folder
        spans_path = folder / "spans.parquet"
        faults_path = folder / "faults.json"
        self.spans = _table(spans_path, SPANS)
        self.faults = _faults(faults_path)
        self.resources = _resources(folder / "resources.parquet")
        raise_first(spans_path, _span_problems(self.spans, self.faults))
        raise_first(faults_path, _label_problems(self.faults, self.spans, self.resources))
        self._logs = None
        if logs and _has_logs(folder):
            self._logs = _table(folder / "logs.parquet", LOGS)
            if not self._logs["span_id"].isin(self.spans["span_id"]).all():
                raise wrong(folder / "logs.parquet", "names a span_id that is not in spans.parquet")

    @cached_property
    def _frame(self) -> tuple[pd.DataFrame, np.ndarray]:
        """All spans of the day in order, and for each the id of its fault (-1: fault-free)."""
        import numpy as np

        frame, row = spans_frame(self.spans, self._logs)
        fault = np.where(self.spans["abnormal"], self.spans["window"], -1)
        return frame, fault[row]

    @cached_property
    def normal(self) -> pd.DataFrame:
        """All fault-free spans."""
        return self.of_fault(-1)

    def of_fault(self, fault: int) -> pd.DataFrame:
        """The spans of a fault (-1: the fault-free ones), sorted by (start, span_id)."""
        frame, of_fault = self._frame
        return frame[of_fault == fault].reset_index(drop=True)


def spans_frame(
    spans: pd.DataFrame, logs: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the spans frame of a day's compact table, and for each of its rows the row of `spans`
    it comes from.

    The source records neither kind, peer nor status. A span is ``client`` when its (service,
    operation) ever has a child in another service that day, else ``server``. Its peer is the
    service of that child; where the call never arrived, the only peer that (service, operation)
    has; else None. Status is 200 throughout. A log line comes from the row of the span that wrote
    it.
    """
    import numpy as np
    import pandas as pd

    whole = [column for column, kinds in SPANS.items() if kinds == "iu"]
    names = spans[["service", "operation"]].astype(object)
    spans = spans[whole].astype("int64").join(names).rename_axis("row").reset_index()
    spans = spans.sort_values(["start_ns", "span_id"], kind="stable", ignore_index=True)
    ids = pd.Index(spans["span_id"])
    service, services = pd.factorize(spans["service"])
    operation, operations = pd.factorize(spans["operation"])
    of_service = service * len(operations) + operation
    client, peer = _clients(ids.get_indexer(spans["parent_id"]), service, of_service, len(services))
    spans["kind"] = np.where(client, "client", "server").astype(object)
    peers = np.array([*services, None], dtype=object)[peer]
    spans["peer"] = pd.Series(peers, dtype=object)
    if logs is not None and len(logs):
        wrote = spans.iloc[ids.get_indexer(logs["span_id"])]
        end_ns = wrote["start_ns"] + wrote["duration_us"] * 1000
        lines = wrote.assign(
            span_id=ids.max() + 1 + np.arange(len(logs)),
            parent_id=wrote["span_id"],
            operation=logs["location"].astype(object).to_numpy(),
            kind="log",
            peer=None,
            start_ns=np.clip(logs["time_ns"].to_numpy("int64"), wrote["start_ns"], end_ns),
            duration_us=0,
        )
        spans = pd.concat([spans, lines.astype({"kind": object, "peer": object})])
        spans = spans.sort_values(["start_ns", "span_id"], ignore_index=True)
    return _to_frame(spans), spans["row"].to_numpy()


def _clients(
    parent: np.ndarray, service: np.ndarray, operation: np.ndarray, services: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which spans are client spans, and the code of each span's peer (-1: none).

    `parent` is the row of each span's parent (-1: none); `operation` codes (service, operation).
    """
    import numpy as np

    entered = np.flatnonzero((parent >= 0) & (service[parent] != service))
    caller = parent[entered]
    peer = np.full(len(service), -1)
    # of several children the first: it is assigned last
    peer[caller[::-1]] = service[entered[::-1]]
    met = np.unique(operation[caller] * services + service[entered])
    operations, peers = np.unique(met // services, return_counts=True)
    only = np.full(operation.max(initial=-1) + 1, -1)
    only[operations[peers == 1]] = met[np.isin(met // services, operations[peers == 1])] % services
    client = np.isin(operation, operations)
    return client, np.where(client & (peer < 0), only[operation], peer)


def _hex_ids(parents: pd.Series) -> list[str | None]:
    return [None if parent < 0 else f"{parent:016x}" for parent in parents.tolist()]


def _to_frame(spans: pd.DataFrame) -> pd.DataFrame:
    """Return the spans frame of a table in order, with peer and kind."""
    import pandas as pd

    traces = {trace: f"{trace:032x}" for trace in spans["trace_id"].unique().tolist()}
    columns = {
        "trace_id": spans["trace_id"].map(traces),
        "span_id": spans["span_id"].map("{:016x}".format),
        "parent_id": _hex_ids(spans["parent_id"]),
        "service": spans["service"],
        "endpoint": spans["operation"],
        "kind": spans["kind"],
        "peer": spans["peer"],
    }
    frame = pd.DataFrame({name: pd.Series(c, dtype=object) for name, c in columns.items()})
    frame["start"] = pd.DatetimeIndex(spans["start_ns"], tz="UTC")
    frame["duration_ms"] = spans["duration_us"] / 1000
    frame["status"] = 200
    frame["error"] = pd.Series(None, frame.index, dtype=object)
    return frame


def _table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Return the table; `columns` tells each column's kinds (as numpy's dtype.kind; "" = text)."""
    frame = read_parquet(path, columns)
    raise_first(path, _column_problems(frame, columns))
    return frame


def _column_problems(frame: pd.DataFrame, columns: dict[str, str]) -> Iterator[str]:
    from pandas.api.types import is_numeric_dtype

    for column, kinds in columns.items():
        dtype = frame[column].dtype
        if kinds and getattr(dtype, "kind", "O") not in kinds:
            wanted = "numbers" if "i" in kinds else "booleans"
            yield f"column {column!r} must be {wanted}, got {dtype}"
        if not kinds and (is_numeric_dtype(dtype) or frame[column].isna().any()):
            yield f"column {column!r} must be text without gaps"
    if frame.empty:
        yield "has no rows"


def _faults(path: Path) -> list[dict[str, Any]]:
    faults = read_json(path)
    raise_first(path, _fault_problems(faults))
    return faults


def _fault_problems(faults: Any) -> Iterator[str]:
    if not isinstance(faults, list) or not faults:
        yield "must be a list of faults"
    for number, fault in enumerate(faults):
        for key, kind in FAULT.items():
            if not isinstance(fault, dict) or type(fault.get(key)) is not kind:
                yield f"fault {number} must have {key!r} ({kind.__name__})"
        if fault["t0_ns"] >= fault["t1_ns"]:
            yield f"fault {number} must end after it begins"
    if len({fault["id"] for fault in faults}) < len(faults):
        yield "an id stands twice"


def _resources(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame = _table(path, RESOURCES)
    if not isinstance(frame.index.dtype, pd.DatetimeTZDtype) or frame.index.hasnans:
        raise wrong(path, f"the index must be times (UTC) without gaps, got {frame.index.dtype}")
    dtypes = {column: "float64" if kinds else "str" for column, kinds in RESOURCES.items()}
    return frame.astype(dtypes)


def _span_problems(spans: pd.DataFrame, faults: list[dict[str, Any]]) -> Iterator[str]:
    import numpy as np
    import pandas as pd

    ids = pd.Index(spans["span_id"])
    trace = spans["trace_id"].to_numpy()
    if not ids.is_unique or ids.min() < 0:
        yield "span_id must be >= 0 and unique"
    shortest = spans["duration_us"].min()
    if shortest < 0:
        yield f"duration_us must be >= 0, got {shortest}"
    child = np.flatnonzero(spans["parent_id"] != -1)
    parent_id = spans["parent_id"].to_numpy()[child]
    parent = ids.get_indexer(parent_id)
    if (parent < 0).any():
        yield f"parent_id {parent_id[parent < 0][0]} is no span_id (-1: none was stored)"
    if (trace[parent] != trace[child]).any() or (parent == child).any():
        yield "a parent must be another span of the same trace"
    by_trace = spans.groupby("trace_id")
    if (by_trace[["window", "abnormal"]].nunique() > 1).any(axis=None):
        yield "window and abnormal must be the same for all spans of a trace"
    if spans["abnormal"].all():
        yield "has no fault-free spans"
    traces = by_trace[["window", "abnormal"]].first().assign(begin=by_trace["start_ns"].min())
    yield from _trace_problems(traces, pd.DataFrame(faults).set_index("id"))


def _trace_problems(traces: pd.DataFrame, faults: pd.DataFrame) -> Iterator[str]:
    """Yield what is wrong between the traces and the faults that they belong to."""
    of_fault = traces["window"]
    abnormal = traces[traces["abnormal"]]
    free = (of_fault == -1) & ~traces["abnormal"]
    unknown = of_fault[~free & ~of_fault.isin(faults.index)]
    if len(unknown):
        yield f"window {unknown.iloc[0]} is no fault of faults.json"
    during = abnormal.join(faults[["t0_ns", "t1_ns"]], on="window")
    if not during["begin"].between(during["t0_ns"], during["t1_ns"], inclusive="left").all():
        yield "an abnormal trace starts outside of its fault (t0_ns to t1_ns of faults.json)"
    found = abnormal["window"].value_counts().reindex(faults.index, fill_value=0)
    for fault, has, told in zip(faults.index, found, faults["abnormal_traces"], strict=True):
        if has != told:
            yield f"has {has} traces of fault {fault}, faults.json tells {told}"


def _label_problems(faults: list[dict[str, Any]], *tables: pd.DataFrame) -> Iterator[str]:
    services = {service for table in tables for service in table["service"].unique()}
    for fault in faults:
        if fault["service"] not in services:
            named = f"the service {fault['service']!r}, which no table of the day has"
            yield f"fault {fault['id']} names {named}"
