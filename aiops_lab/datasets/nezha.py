"""Days of Nezha's data as cases with spans frames, from the compact layout of `nezha_clone`.

A day is a folder ``<system>_<day>/``: spans.parquet, resources.parquet, faults.json, and
logs.parquet (TrainTicket).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.cases import Case, ReadCases
from aiops_lab.datasets.files import (
    NUMBERS,
    TEXT,
    TRUTHS,
    WHOLE,
    check_rows,
    parquet_table,
    raise_first,
    read_json,
    wrong,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# of each table the columns, with what they hold
SPANS = {
    "trace_id": WHOLE,
    "span_id": WHOLE,
    "parent_id": WHOLE,
    "service": TEXT,
    "operation": TEXT,
    "start_ns": WHOLE,
    "duration_us": WHOLE,
    "window": WHOLE,
    "abnormal": TRUTHS,
}

LOGS = {"span_id": WHOLE, "location": TEXT, "time_ns": WHOLE}

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

RESOURCES = {"service": TEXT, **dict.fromkeys(RESOURCE_NUMBERS, NUMBERS)}

FAULTS = {
    "id": WHOLE,
    "t0_ns": WHOLE,
    "t1_ns": WHOLE,
    "service": TEXT,
    "fault_type": TEXT,
    "abnormal_traces": WHOLE,
}


@dataclass(frozen=True, eq=False)
class TracesCase(Case):
    """A fault of Nezha: spans frames, and resources by minute."""

    fault_type: str
    id: int
    day: NezhaDay = field(repr=False)

    @property
    def normal(self) -> pd.DataFrame:
        """All fault-free spans of the day: the same frame for all its faults, so learn from it
        once.
        """
        return self.day.normal

    @cached_property
    def abnormal(self) -> pd.DataFrame:
        """The spans of the traces that began during the fault."""
        return self.day.of_fault(self.id)

    @property
    def resources(self) -> pd.DataFrame:
        """The day's resources: index time (UTC), column service, the rest numbers (per minute and
        pod).
        """
        return self.day.resources


def read_nezha(directory: Path, logs: bool) -> ReadCases:
    """Return a case for each fault, and the names of the faults without an abnormal trace."""
    cases: list[Case] = []
    left_out: list[str] = []
    for folder in sorted({table.parent for table in directory.glob("*/*.parquet")}):
        day = NezhaDay(folder, logs)
        group = folder.name
        rows: Iterator[Any] = day.faults.itertuples()
        for fault in rows:
            name = f"{group}/{fault.id}"
            if fault.abnormal_traces:
                kind = fault.fault_type
                cases.append(TracesCase(name, group, fault.service, kind, fault.id, day))
            else:
                left_out.append(name)
    return cases, left_out


class NezhaDay:
    """A system's day of Nezha: tables read and checked at once, spans frames made at first use."""

    def __init__(self, folder: Path, logs: bool) -> None:
        spans_path = folder / "spans.parquet"
        faults_path = folder / "faults.json"
        logs_path = folder / "logs.parquet"
        self.folder = folder
        self.spans = parquet_table(spans_path, SPANS)
        self.faults = _faults(faults_path)
        self.resources = _resources(folder / "resources.parquet")
        raise_first(spans_path, _span_problems(self.spans))
        raise_first(spans_path, _trace_problems(self.spans, self.faults))
        raise_first(faults_path, _label_problems(self.faults, self.spans, self.resources))
        self._logs = None
        # OnlineBoutique's lines do not name their place in the code: it has no file of logs
        if logs and (logs_path.exists() or not folder.name.startswith("OnlineBoutique")):
            self._logs = parquet_table(logs_path, LOGS)
            is_known = self._logs["span_id"].isin(self.spans["span_id"])
            if not is_known.all():
                raise wrong(logs_path, "names a span_id that is not in spans.parquet")

    @cached_property
    def _frame(self) -> tuple[pd.DataFrame, np.ndarray]:
        """All spans of the day in order, and for each the id of its fault (-1: fault-free)."""
        frame, row = spans_frame(self.spans, self._logs)
        fault = self.spans["window"].where(self.spans["abnormal"], -1)
        return frame, fault.to_numpy()[row]

    @cached_property
    def normal(self) -> pd.DataFrame:
        """All fault-free spans."""
        return self.of_fault(-1)

    def of_fault(self, fault: int) -> pd.DataFrame:
        """The spans of a fault (-1: the fault-free ones), sorted by (start, span_id)."""
        frame, of_fault = self._frame
        return frame[of_fault == fault].reset_index(drop=True)


def spans_frame(spans: pd.DataFrame, logs: pd.DataFrame | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the spans frame of a day's compact table, and for each of its rows the row of `spans`
    it comes from.

    The source records neither kind, peer nor status. A span is ``client`` when its (service,
    operation) ever has a child in another service that day, else ``server``. Its peer is the
    service of that child; where the call never arrived, the only peer that (service, operation)
    has; else None. Status is 200 throughout. A log line comes from the row of the span that wrote
    it.
    """
    import pandas as pd

    names = spans[["service", "operation"]].astype(object)
    whole = [column for column, kind in SPANS.items() if kind == WHOLE]
    spans = spans[whole].astype("int64").join(names)
    spans = spans.rename_axis("row").reset_index()
    spans = spans.sort_values(["start_ns", "span_id"], ignore_index=True)
    spans = _with_peers(spans)
    if logs is not None:
        spans = pd.concat([spans, _log_lines(spans, logs)])
        spans = spans.sort_values(["start_ns", "span_id"], ignore_index=True)
    has_parent = spans["parent_id"] >= 0
    parents = spans["parent_id"].map("{:016x}".format).astype(object)
    texts = {
        "trace_id": spans["trace_id"].map("{:032x}".format),
        "span_id": spans["span_id"].map("{:016x}".format),
        "parent_id": parents.where(has_parent, None),
        "service": spans["service"],
        "endpoint": spans["operation"],
        "kind": spans["kind"],
        "peer": spans["peer"],
    }
    frame = pd.DataFrame(texts, dtype=object).assign(
        start=pd.to_datetime(spans["start_ns"], unit="ns", utc=True),
        duration_ms=spans["duration_us"] / 1000,
        status=200,
        error=None,
    )
    return frame, spans["row"].to_numpy()


def _with_peers(spans: pd.DataFrame) -> pd.DataFrame:
    """Return the table with kind (client or server) and peer (None: none), in the same order."""
    place = ["service", "operation"]
    callers = spans[["span_id", *place]].rename(columns={"span_id": "parent_id"})
    called = spans[["parent_id", "service"]].rename(columns={"service": "peer"})
    calls = called.merge(callers, on="parent_id")
    calls = calls[calls["service"] != calls["peer"]]
    # of several children the first
    first = calls.drop_duplicates("parent_id")
    own = first.set_index("parent_id")["peer"]
    usual = calls.groupby(place)["peer"].agg(peers="nunique", only="first")
    of_place = spans[place].join(usual, on=place)
    only = of_place["only"].where(of_place["peers"] == 1)
    peer = spans["span_id"].map(own).astype(object)
    peer = peer.where(peer.notna(), only.astype(object))
    peer = peer.where(peer.notna(), None)
    is_client = of_place["peers"].notna()
    kind = is_client.map({True: "client", False: "server"})
    return spans.assign(kind=kind.astype(object), peer=peer)


def _log_lines(spans: pd.DataFrame, logs: pd.DataFrame) -> pd.DataFrame:
    """Return a row of kind ``log`` for each line, at its time within the span that wrote it."""
    first_id = spans["span_id"].max() + 1
    wrote = spans.set_index("span_id").loc[logs["span_id"]].reset_index()
    end_ns = wrote["start_ns"] + wrote["duration_us"] * 1000
    time_ns = logs["time_ns"].reset_index(drop=True).astype("int64")
    return wrote.assign(
        span_id=first_id + wrote.index,
        parent_id=wrote["span_id"],
        operation=logs["location"].to_numpy(object),
        kind="log",
        peer=None,
        start_ns=time_ns.clip(wrote["start_ns"], end_ns),
        duration_us=0,
    )


def _faults(path: Path) -> pd.DataFrame:
    """Return the faults in the order of the file, a row each."""
    import pandas as pd

    try:
        faults = pd.DataFrame(read_json(path))
    except (ValueError, AttributeError) as error:
        raise wrong(path, f"must be a list of faults ({error})") from error
    check_rows(path, faults, FAULTS)
    if (faults["t0_ns"] >= faults["t1_ns"]).any():
        raise wrong(path, "a fault must end after it begins")
    if not faults["id"].is_unique:
        raise wrong(path, "an id stands twice")
    return faults


def _resources(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame = parquet_table(path, RESOURCES)
    times = frame.index
    if not isinstance(times.dtype, pd.DatetimeTZDtype) or times.hasnans:
        raise wrong(path, f"the index must be times (UTC) without gaps, got {times.dtype}")
    types = {"service": "str", **dict.fromkeys(RESOURCE_NUMBERS, "float64")}
    return frame.astype(types)


def _span_problems(spans: pd.DataFrame) -> Iterator[str]:
    """Yield what is wrong with single spans, and between spans and their parents."""
    ids = spans["span_id"]
    if not ids.is_unique or ids.min() < 0:
        yield "span_id must be >= 0 and unique"
    shortest = spans["duration_us"].min()
    if shortest < 0:
        yield f"duration_us must be >= 0, got {shortest}"
    child = spans[spans["parent_id"] != -1]
    trace_of = spans.set_index("span_id")["trace_id"]
    parent = trace_of.reindex(child["parent_id"])
    if parent.hasnans:
        unknown = parent.index[parent.isna()]
        yield f"parent_id {unknown[0]} is no span_id (-1: none was stored)"
    is_other = child["parent_id"] != child["span_id"]
    has_same_trace = child["trace_id"] == parent.to_numpy()
    if not (is_other & has_same_trace).all():
        yield "a parent must be another span of the same trace"


def _trace_problems(spans: pd.DataFrame, faults: pd.DataFrame) -> Iterator[str]:
    """Yield what is wrong between the traces and the faults that they belong to."""
    by_trace = spans.groupby("trace_id")
    different = by_trace[["window", "abnormal"]].nunique()
    if (different > 1).any(axis=None):
        yield "window and abnormal must be the same for all spans of a trace"
    if spans["abnormal"].all():
        yield "has no fault-free spans"
    traces = by_trace[["window", "abnormal", "start_ns"]].min()
    of_fault = traces.join(faults.set_index("id"), on="window")
    is_free = (traces["window"] == -1) & ~traces["abnormal"]
    is_unknown = ~is_free & of_fault["t0_ns"].isna()
    unknown = traces.loc[is_unknown, "window"]
    if len(unknown):
        yield f"window {unknown.iloc[0]} is no fault of faults.json"
    during = of_fault[traces["abnormal"]]
    is_inside = during["start_ns"].between(during["t0_ns"], during["t1_ns"], inclusive="left")
    if not is_inside.all():
        yield "an abnormal trace starts outside of its fault (t0_ns to t1_ns of faults.json)"
    found = during["window"].value_counts()
    for fault in faults.itertuples():
        has = found.get(fault.id, 0)
        if has != fault.abnormal_traces:
            yield f"has {has} traces of fault {fault.id}, faults.json tells {fault.abnormal_traces}"


def _label_problems(faults: pd.DataFrame, *tables: pd.DataFrame) -> Iterator[str]:
    services = {service for table in tables for service in table["service"].unique()}
    is_unknown = ~faults["service"].isin(services)
    for fault in faults[is_unknown].itertuples():
        named = f"the service {fault.service!r}, which no table of the day has"
        yield f"fault {fault.id} names {named}"
