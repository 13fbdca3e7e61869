"""Recordings of DeLag as cases with spans frames: requests of two systems, some with a delay.

A folder holds a table of requests for each recording (``NNN.csv``, gzip or not), the call tree of
all of them (``tree.json``) and which calls were delayed (``labels.json``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab.datasets.cases import Case, ReadCases
from aiops_lab.datasets.files import NUMBERS, WHOLE, check_rows, csv_table, read_json, wrong

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


RATE = 10.0
"""Requests/s that a recording is played at: it has no times of its own. Raising it shortens the
recordings."""

STREAM_BEGIN = "2026-01-01"
"""When a recording is played (UTC)."""

OF_A_NODE = ("column", "service", "endpoint", "parent", "share")


class CallNode(NamedTuple):
    """A call in the tree of a request.

    ``share`` is the part of the time in ``column`` that is this call's: the column sums all calls
    of its kind.
    """

    column: str
    service: str
    endpoint: str
    parent: int | None  # position in the tree, None for the entry
    share: float


@dataclass(frozen=True, eq=False)
class DelayCase(Case):
    """One of the two delays of a recording; `truth` holds each delayed (service, endpoint).

    A recording is played at `RATE`: first all requests without a delay, in their order, then those
    with this one. So ``pandas.concat([case.normal, case.abnormal])`` is a stream.
    """

    number: int  # of the delay, 1 or 2
    recording: DelayRecording = field(repr=False)

    @property
    def normal(self) -> pd.DataFrame:
        """The spans of the requests without a delay."""
        return self.recording.normal

    @cached_property
    def abnormal(self) -> pd.DataFrame:
        """The spans of the requests with this delay."""
        rows = self.recording.rows_of(self.number)
        normal = self.recording.rows_of(0)
        return self.recording.spans(rows, first=normal.size)


class DelayRecording:
    """A table of requests, and the call tree that they have in common."""

    def __init__(self, path: Path, tree: list[CallNode]) -> None:
        self.tree = tree
        columns = {node.column for node in tree}
        self.requests = csv_table(path)
        check_rows(path, self.requests, dict.fromkeys(sorted(columns), NUMBERS))
        check_rows(path, self.requests, {"anomaly": WHOLE})

    def rows_of(self, number: int) -> np.ndarray:
        """Return the rows of the requests with a delay (0: without one)."""
        import numpy as np

        return np.flatnonzero(self.requests["anomaly"] == number)

    @cached_property
    def normal(self) -> pd.DataFrame:
        """The spans of the requests without a delay."""
        return self.spans(self.rows_of(0))

    def spans(self, rows: np.ndarray, first: int = 0, rate: float = RATE) -> pd.DataFrame:
        """Return the spans frame of some requests, one after the other.

        Parameters
        ----------
        rows : array of int
            Rows of the table.
        first : int
            How many requests came before.
        rate : float, default `RATE`
            Requests/s.

        Notes
        -----
        Calls of one caller follow each other, in the order of the tree. Where they take longer than
        their caller, they overlap, each by the same part of its time, and the last one ends with
        its caller.
        """
        import numpy as np
        import pandas as pd

        number = first + np.arange(rows.size)
        since_ns = (number * 1e9 / rate).astype(np.int64)
        begin_ns = pd.Timestamp(STREAM_BEGIN, tz="UTC").value + since_ns
        ms = np.array([self._ms(node)[rows] for node in self.tree])
        start_ms = _starts(self.tree, ms)
        parts = []
        for place in range(len(self.tree)):
            times = start_ms[place], ms[place]
            parts.append(self._part(place, number, begin_ns, times))
        frame = pd.concat(parts, ignore_index=True)
        return frame.sort_values(["start", "span_id"], ignore_index=True)

    def _ms(self, node: CallNode) -> np.ndarray:
        return node.share * self.requests[node.column].to_numpy(float)

    def _part(
        self,
        place: int,
        number: np.ndarray,
        begin_ns: np.ndarray,
        times: tuple[np.ndarray, np.ndarray],
    ) -> pd.DataFrame:
        """Return the spans of one call of the tree."""
        import numpy as np
        import pandas as pd

        node = self.tree[place]
        start_ms, ms = times
        start_ns = begin_ns + np.rint(start_ms * 1e6).astype(np.int64)
        nothing: list[str | None] = [None] * number.size
        parent = nothing
        if node.parent is not None:
            parent = [*_ids(number, node.parent + 1, 16)]
        return pd.DataFrame(
            {
                "trace_id": _ids(number, 0, 32),
                "span_id": _ids(number, place + 1, 16),
                "parent_id": pd.array(parent, dtype="str"),
                "service": node.service,
                "endpoint": node.endpoint,
                "kind": "server",
                "peer": pd.array(nothing, dtype="str"),
                "start": pd.to_datetime(start_ns, unit="ns", utc=True),
                "duration_ms": ms,
                "status": 200,
                "error": pd.array(nothing, dtype="str"),
            }
        )


def _ids(number: np.ndarray, place: int, digits: int) -> list[str]:
    """Return an id for each request and one place in the tree."""
    of_requests = (number + 1) << 8
    return [f"{each | place:0{digits}x}" for each in of_requests.tolist()]


def _starts(tree: list[CallNode], ms: np.ndarray) -> np.ndarray:
    """Return when each call begins, in ms after its request; shape (calls, requests)."""
    import numpy as np

    start = np.zeros_like(ms)
    for caller in range(len(tree)):
        callees = [place for place, node in enumerate(tree) if node.parent == caller]
        if not callees:
            continue
        *earlier, last = callees
        before = ms[earlier].sum(axis=0)
        room = np.clip(ms[caller] - ms[last], 0.0, before)
        pace = np.divide(room, before, out=np.ones_like(room), where=before > 0)
        begin = start[caller].copy()
        for callee in callees:
            start[callee] = begin
            begin = begin + pace * ms[callee]
    return start


def read_delag(directory: Path) -> ReadCases:
    """Return a case for each delay of each recording."""
    path = directory / "tree.json"
    paths = sorted([*directory.glob("*.csv"), *directory.glob("*.csv.gz")])
    tables = {path.name.partition(".csv")[0]: path for path in paths}
    if not path.exists() and not tables:
        return [], []
    tree = _tree(path)
    labels_path = directory / "labels.json"
    labels = _labels(labels_path)
    cases: list[Case] = []
    left_out: list[str] = []
    for name, table in tables.items():
        if name not in labels:
            raise wrong(labels_path, f"lacks {name}")
        recording = DelayRecording(table, tree)
        for number in sorted(set(labels[name]) & {"1", "2"}):
            truth = _truth(labels_path, name, labels[name][number])
            case = f"{directory.name}/{name}/{number}"
            if recording.rows_of(int(number)).size:
                cases.append(DelayCase(case, directory.name, truth, int(number), recording))
            else:
                left_out.append(case)
    return cases, left_out


def _tree(path: Path) -> list[CallNode]:
    """Return the call tree, in which each caller comes before its callees."""
    nodes = read_json(path)
    if not isinstance(nodes, list) or not nodes:
        raise wrong(path, "must be a list with at least one call")
    try:
        tree = [CallNode(*map(node.__getitem__, OF_A_NODE)) for node in nodes]
        callers = [-1 if node.parent is None else node.parent for node in tree]
        late = [at for at, caller in enumerate(callers) if caller >= at]
    except (TypeError, KeyError, AttributeError) as error:
        raise wrong(path, f"must be a list of objects with {', '.join(OF_A_NODE)}") from error
    if late:
        raise wrong(path, "must name each caller before its callees")
    return tree


def _labels(path: Path) -> dict[str, dict[str, Any]]:
    """Return by recording, and number of the delay, which calls were delayed."""
    labels = read_json(path)
    is_table = isinstance(labels, dict)
    if not is_table or not all(isinstance(delays, dict) for delays in labels.values()):
        raise wrong(path, "must be an object with an object for each recording")
    return labels


def _truth(path: Path, name: str, delayed: Any) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((call["service"], call["endpoint"]) for call in delayed)
    except (TypeError, KeyError) as error:
        raise wrong(path, f"{name}: must list calls with service and endpoint") from error
