"""What does a day of Nezha's data say, as spans frames? Reads the compact layout that `nezha_clone`
makes.

A day is a folder ``<system>_<day>/``: spans.parquet, resources.parquet, faults.json, and
logs.parquet (TrainTicket).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.files import read_json, read_parquet, wrong

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


def is_day(folder: Path) -> bool:
    """Return whether the folder holds a day, be it a damaged one."""
    return any(
        (folder / file).is_file() for file in ("faults.json", "spans.parquet", "resources.parquet")
    )


def _has_logs(folder: Path) -> bool:
    """Return whether there must be a file of logs: OnlineBoutique's lines do not name their place
    in the code.
    """
    return not folder.name.startswith("OnlineBoutique") or (folder / "logs.parquet").exists()


class NezhaDay:
    """A system's day of Nezha: tables read and checked at once, spans frames made when they are
    first asked for.
    """

    def __init__(self, folder: Path, logs: bool) -> None:
        self.folder = folder
        self.spans = _table(folder / "spans.parquet", SPANS)
        self.faults = _faults(folder / "faults.json")
        self.resources = _resources(folder / "resources.parquet")
        self._logs = _table(folder / "logs.parquet", LOGS) if logs and _has_logs(folder) else None
        _check_spans(folder / "spans.parquet", self.spans, self.faults)
        _check_labels(
            folder / "faults.json",
            self.faults,
            {*self.spans["service"], *self.resources["service"]},
        )
        if self._logs is not None and not self._logs["span_id"].isin(self.spans["span_id"]).all():
            raise wrong(folder / "logs.parquet", "names a span_id that is not in spans.parquet")

    @cached_property
    def _frame(self) -> tuple[pd.DataFrame, np.ndarray]:
        """Return all spans of the day in order, and for each the id of its fault, -1 where it is
        fault-free.
        """
        import numpy as np

        frame, row = spans_frame(self.spans, self._logs)
        fault = np.where(self.spans["abnormal"], self.spans["window"], -1)
        return frame, fault[row]

    @cached_property
    def normal(self) -> pd.DataFrame:
        """All fault-free spans."""
        return self.of_fault(-1)

    def of_fault(self, fault: int) -> pd.DataFrame:
        """The spans of a fault (-1: the fault-free ones), sorted by (start, span_id), index 0..n-1."""
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

    spans = spans.sort_values(["start_ns", "span_id"], kind="stable")
    ids = spans["span_id"].to_numpy(np.int64)
    parent = pd.Index(ids).get_indexer(spans["parent_id"].to_numpy(np.int64))
    service, services = pd.factorize(spans["service"].astype(object))
    operation, operations = pd.factorize(spans["operation"].astype(object))
    client, peer = _clients(parent, service, service * len(operations) + operation, len(services))
    start = spans["start_ns"].to_numpy(np.int64)
    row = np.arange(len(spans))
    columns = {
        "trace": spans["trace_id"].to_numpy(np.int64),
        "id": ids,
        "parent": spans["parent_id"].to_numpy(np.int64),
        "service": _names(services)[service],
        "endpoint": _names(operations)[operation],
        "kind": np.where(client, "client", "server").astype(object),
        "peer": _names(services)[peer],
        "start": start,
        "us": spans["duration_us"].to_numpy(np.int64),
    }
    if logs is not None and len(logs):
        wrote = pd.Index(ids).get_indexer(logs["span_id"].to_numpy(np.int64))
        lines = {column: values[wrote] for column, values in columns.items()}
        end = lines["start"] + lines["us"] * 1000
        lines |= {
            "id": ids.max() + 1 + np.arange(len(logs)),
            "parent": lines["id"],
            "endpoint": logs["location"].astype(object).to_numpy(),
            "kind": np.full(len(logs), "log", dtype=object),
            "peer": np.full(len(logs), None),
            "us": np.zeros(len(logs), dtype=np.int64),
            "start": np.clip(logs["time_ns"].to_numpy(np.int64), lines["start"], end),
        }
        columns = {
            column: np.concatenate([values, lines[column]]) for column, values in columns.items()
        }
        row = np.concatenate([row, wrote])
        order = np.lexsort((columns["id"], columns["start"]))
        columns, row = {column: values[order] for column, values in columns.items()}, row[order]
    return _to_frame(columns), spans.index.to_numpy()[row]


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


def _names(names: Iterable[str]) -> np.ndarray:
    """Return `names` as objects, with None behind them: what code -1 picks."""
    import numpy as np

    return np.array([*names, None], dtype=object)


def _to_frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    traces, trace = np.unique(columns["trace"], return_inverse=True)
    made = {
        "trace_id": np.array([f"{t:032x}" for t in traces.tolist()], dtype=object)[trace],
        "span_id": [f"{i:016x}" for i in columns["id"].tolist()],
        "parent_id": [None if p < 0 else f"{p:016x}" for p in columns["parent"].tolist()],
        **{name: columns[name] for name in ("service", "endpoint", "kind", "peer")},
    }
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in made.items()})
    frame["start"] = pd.DatetimeIndex(columns["start"], tz="UTC")
    frame["duration_ms"] = columns["us"] / 1000
    frame["status"] = 200
    frame["error"] = pd.Series([None] * len(frame), dtype=object)
    return frame


def _table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Return the table; `columns` tells each column's kinds (as numpy's dtype.kind; "" = text)."""
    from pandas.api.types import is_numeric_dtype

    frame = read_parquet(path, columns)
    for column, kinds in columns.items():
        values = frame[column]
        if kinds and getattr(values.dtype, "kind", "O") not in kinds:
            raise wrong(
                path,
                f"column {column!r} must be {'numbers' if 'i' in kinds else 'booleans'}, got {values.dtype}",
            )
        if not kinds and (is_numeric_dtype(values.dtype) or values.isna().any()):
            raise wrong(path, f"column {column!r} must be text without gaps")
    if frame.empty:
        raise wrong(path, "has no rows")
    return frame


def _faults(path: Path) -> list[dict[str, Any]]:
    faults = read_json(path)
    if not isinstance(faults, list) or not faults:
        raise wrong(path, "must be a list of faults")
    for number, fault in enumerate(faults):
        for key, kind in FAULT.items():
            if not isinstance(fault, dict) or type(fault.get(key)) is not kind:
                raise wrong(path, f"fault {number} must have {key!r} ({kind.__name__})")
        if not fault["t0_ns"] < fault["t1_ns"]:
            raise wrong(path, f"fault {number} must end after it begins")
    if len({fault["id"] for fault in faults}) < len(faults):
        raise wrong(path, "an id stands twice")
    return faults


def _resources(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame = _table(path, RESOURCES)
    if not isinstance(frame.index.dtype, pd.DatetimeTZDtype) or frame.index.hasnans:
        raise wrong(path, f"the index must be times (UTC) without gaps, got {frame.index.dtype}")
    return frame.astype(
        {column: "float64" if kinds else "str" for column, kinds in RESOURCES.items()}
    )


def _check_spans(path: Path, spans: pd.DataFrame, faults: list[dict[str, Any]]) -> None:
    import numpy as np
    import pandas as pd

    ids, parent = pd.Index(spans["span_id"]), spans["parent_id"].to_numpy()
    if not ids.is_unique or ids.min() < 0:
        raise wrong(path, "span_id must be >= 0 and unique")
    if (spans["duration_us"] < 0).any():
        raise wrong(path, f"duration_us must be >= 0, got {spans['duration_us'].min()}")
    row, has = ids.get_indexer(parent), parent != -1
    if (row[has] < 0).any():
        raise wrong(
            path, f"parent_id {parent[has & (row < 0)][0]} is no span_id (-1: none was stored)"
        )
    trace = spans["trace_id"].to_numpy()
    if (trace[row[has]] != trace[has]).any() or (row[has] == np.flatnonzero(has)).any():
        raise wrong(path, "a parent must be another span of the same trace")
    traces = spans.groupby("trace_id").agg(
        begin=("start_ns", "min"),
        fault=("window", "min"),
        last=("window", "max"),
        abnormal=("abnormal", "all"),
        some=("abnormal", "any"),
    )
    if (traces["fault"] != traces["last"]).any() or (traces["abnormal"] != traces["some"]).any():
        raise wrong(path, "window and abnormal must be the same for all spans of a trace")
    if not spans["abnormal"].all():
        return _check_faults(path, traces, pd.DataFrame(faults).set_index("id"))
    raise wrong(path, "has no fault-free spans")


def _check_faults(path: Path, traces: pd.DataFrame, faults: pd.DataFrame) -> None:
    """Check the traces against the faults that they belong to."""
    unknown = ~traces["fault"].isin([-1, *faults.index]) | (
        traces["abnormal"] & (traces["fault"] == -1)
    )
    if unknown.any():
        raise wrong(path, f"window {traces['fault'][unknown].iloc[0]} is no fault of faults.json")
    abnormal = traces[traces["abnormal"]]
    begin, end = (faults[c].reindex(abnormal["fault"]).to_numpy() for c in ("t0_ns", "t1_ns"))
    if not ((begin <= abnormal["begin"]) & (abnormal["begin"] < end)).all():
        raise wrong(
            path, "an abnormal trace starts outside of its fault (t0_ns to t1_ns of faults.json)"
        )
    found = abnormal["fault"].value_counts().reindex(faults.index, fill_value=0)
    for fault, has, told in zip(faults.index, found, faults["abnormal_traces"], strict=True):
        if has != told:
            raise wrong(path, f"has {has} traces of fault {fault}, faults.json tells {told}")


def _check_labels(path: Path, faults: list[dict[str, Any]], services: set[str]) -> None:
    for fault in faults:
        if fault["service"] not in services:
            raise wrong(
                path,
                f"fault {fault['id']} names the service {fault['service']!r}, which no table of the day has",
            )
