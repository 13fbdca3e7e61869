"""What is asked of one partition? Pure functions, each of which runs on any worker."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.incidents import Incident
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.windows import Counts, Grid, count_windows, is_given_up, log_ms
from aiops_lab.diagnosis import Diagnosis, Rule
from aiops_lab.explain.config import RcaConfig
from aiops_lab.results import Verdict
from aiops_lab.scale.partitions import Partition, below_each_other, read_partition, stacked
from aiops_lab.spans import SERVING, Key
from aiops_lab.traces.encode import NEVER, EncodedSpans, encode, end_ns, start_ns, status_of
from aiops_lab.traces.graph import calls_of
from aiops_lab.traces.ids import find_parents
from aiops_lab.traces.kinds import with_kinds

_PLACE = ("kind", "service", "endpoint", "peer", "method")  # columns

COUNT_TABLES = (
    "n",
    "errors",
    "total",
    "squares",
    "ok_n",
    "ok_total",
    "long",
    "aged",
    "arrivals",
    "given_up",
)
"""The fields of `Counts` that have an entry a window and endpoint."""

Interval = tuple[int, int]  # Unix ns


# ---- survey


class Survey(NamedTuple):
    """What a partition holds, before there are names for all."""

    spans: int
    since_ns: int  # the first start; all spans are over before ``until_ns``
    until_ns: int  # `NEVER` where one is open
    last_ns: int  # the last start or end
    touched: NDArray  # numbers of windows since 1970, in which a request may count
    samples: pd.DataFrame  # the first span of each kind


def survey(partition: Partition, window_ns: int, stuck_ns: int) -> Survey:
    """Return what a partition holds."""
    frame = with_kinds(read_partition(partition))
    start, end = start_ns(frame), end_ns(frame)
    closed = end != NEVER
    kind = frame["kind"]
    serves = kind.isin(SERVING).to_numpy()
    gave_up = ((kind == "client") | (kind == "producer")).to_numpy() & closed
    gave_up &= status_of(frame) == 0
    aged = start[serves] + np.minimum(end[serves] - start[serves], stuck_ns)
    moments = [start[serves], aged, end[serves & closed], end[gave_up]]
    touched = np.unique(np.concatenate(moments) // window_ns)
    last = max(int(start.max(initial=0)), int(end[closed].max(initial=0)))
    until = int(end.max(initial=0))
    return Survey(
        spans=len(frame),
        since_ns=int(start.min(initial=NEVER)),
        until_ns=until if until == NEVER else until + 1,
        last_ns=last,
        touched=touched,
        samples=_samples(frame),
    )


def _samples(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the first span at each place, of calls with the first server span below them, by
    service.
    """
    codes = [pd.factorize(frame[name])[0] for name in _PLACE if name in frame]
    below = _server_below(frame)
    service = codes[1]
    codes.append(np.where(below >= 0, service[below], -1))
    place = np.zeros(len(frame), dtype=np.int64)
    for code in codes:  # numbered anew each time, so that the product stays small
        joint = place * (int(code.max(initial=0)) + 2) + code + 1
        place = pd.factorize(joint)[0]
    first = np.unique(place, return_index=True)[1]
    servers = below[first]
    rows = np.unique(np.concatenate([first, servers[servers >= 0]]))
    return frame.iloc[rows].reset_index(drop=True)


def _server_below(frame: pd.DataFrame) -> NDArray:
    """Return the position of the last server span below each call, -1 for none."""
    below = np.full(len(frame), -1)
    kind = frame["kind"]
    served = frame["service"][kind.isin(SERVING)]
    peers = frame["peer"].dropna().unique()
    if pd.Index(peers).isin(served.unique()).all():
        return below  # each call names a service: nothing is to be learned
    parent = find_parents(frame).position
    server = np.flatnonzero((kind == "server").to_numpy() & (parent >= 0))
    below[parent[server]] = server
    below[(kind != "client").to_numpy()] = -1
    return below


# ---- names


class Names(NamedTuple):
    """The codes and names of all partitions, as one encoding of all spans would give them."""

    samples: pd.DataFrame
    keys: list[Key]
    methods: dict[Key, str]
    addresses: dict[tuple[str, str], str]
    served: int  # how many of the keys have requests: the first ones


def learn_names(samples: list[pd.DataFrame]) -> Names:
    """Return the names, learned from the samples of all partitions."""
    frame = stacked(samples)
    spans = encode(frame)
    served = int(spans.node[spans.server].max(initial=-1)) + 1
    return Names(frame, spans.keys, spans.methods, spans.addresses, served)


def encode_rows(frame: pd.DataFrame, names: Names) -> EncodedSpans:
    """Return some spans as integers, with the codes that they have among all spans."""
    samples = names.samples
    frame = with_kinds(frame)  # as of the samples
    here = frame["span_id"][frame["span_id"].isin(samples["span_id"])]
    others = samples[~samples["span_id"].isin(here)]
    every = below_each_other([frame, others]) if len(others) else frame
    spans = encode(every, names.keys, names.methods, names.addresses)
    return spans.select(spans.row < len(frame)) if len(others) else spans


# ---- counts


class PartCounts(NamedTuple):
    """The requests of a partition, by window and endpoint."""

    number: int
    first: NDArray  # of each endpoint: when it was first asked, `NEVER` where it was not
    windows: NDArray  # numbers since 1970, of those in which something happens
    tables: dict[str, NDArray]  # of each of `COUNT_TABLES`: shape (windows, endpoints)
    # the requests that hang for long, and those that ended in shared windows: node, start, end,
    # failed, log_ms, answered, and the ids by which spans are ordered
    requests: pd.DataFrame
    calls: pd.DataFrame  # caller, callee (codes) and start (Unix ns) of the first one


def count(
    partition: Partition,
    names: Names,
    shared: NDArray,
    *,
    window_ns: int,
    stuck_ns: int,
    lost_ns: int,
) -> PartCounts:
    """Return the requests of a partition, by window and endpoint.

    `shared` holds the numbers of the windows that other partitions touch, too.
    """
    frame = read_partition(partition)
    spans = encode_rows(frame, names)
    requests = spans.select(spans.server)
    given_up = spans.select((spans.node < names.served) & is_given_up(spans))
    age = requests.end - requests.start
    aged = requests.start + np.minimum(age, stuck_ns)
    ended = requests.end[requests.end != NEVER]
    moments = np.concatenate([requests.start, aged, ended, given_up.end])
    windows = np.unique(moments // window_ns)
    base, after = (int(windows[0]), int(windows[-1]) + 1) if windows.size else (0, 0)
    grid = Grid(base * window_ns, after * window_ns, window_ns)
    counts = count_windows(
        requests,
        given_up,
        names.served,
        grid,
        stuck_ns=stuck_ns,
        lost_ns=lost_ns,
        walked=windows - base,
    )
    first = np.full(names.served, NEVER)
    np.minimum.at(first, requests.node, requests.start)
    sent = (age > stuck_ns) | np.isin(requests.end // window_ns, shared)
    return PartCounts(
        number=requests.row.size,
        first=first,
        windows=windows,
        tables=_tables(counts),
        requests=_requests(requests.select(sent)),
        calls=first_calls(calls_of(spans)),
    )


def first_calls(calls: pd.DataFrame) -> pd.DataFrame:
    """Return the first of the calls of each pair: caller, callee and start."""
    first = calls.groupby(["caller", "callee"], as_index=False).agg({"start": "min"})
    return first.astype("int64")


def _tables(counts: Counts) -> dict[str, NDArray]:
    return {name: getattr(counts, name) for name in COUNT_TABLES}


def _requests(requests: EncodedSpans) -> pd.DataFrame:
    every = np.arange(requests.row.size)
    ids = {name: requests.texts(name, every) for name in ("kind", "trace_id", "span_id")}
    return pd.DataFrame(
        {
            "node": requests.node,
            "start": requests.start,
            "end": requests.end,
            "failed": requests.failed,
            "log_ms": log_ms(requests),
            "answered": ~requests.failed & (requests.status < 400),
            **ids,
        }
    )


# ---- rows


def requests_around(
    partition: Partition, keys: frozenset[Key], intervals: list[Interval], names: Names
) -> pd.DataFrame:
    """Return the requests to some endpoints that were there in one of some intervals, which are
    in order and apart.
    """
    frame = read_partition(partition, intervals[0][0], intervals[-1][1])
    if not len(frame):
        return frame
    spans = encode_rows(frame, names)
    wanted = [code for code, key in enumerate(names.keys[: names.served]) if key in keys]
    since, until = np.array(intervals, dtype=np.int64).T
    at = np.searchsorted(until, spans.start, side="right")
    inside = at < until.size
    inside[inside] = since[at[inside]] <= spans.end[inside]
    mine = spans.server & np.isin(spans.node, wanted) & inside
    return frame.iloc[spans.row[mine]].reset_index(drop=True)


# ---- verdicts


def spans_between(
    partitions: list[Partition], since_ns: int, until_ns: int, names: Names
) -> EncodedSpans:
    """Return the spans of some partitions that were there between two moments (Unix ns)."""
    frames = [read_partition(partition, since_ns, until_ns) for partition in partitions]
    return encode_rows(stacked(frames), names)


class VerdictContext(NamedTuple):
    """What a verdict depends on beside the spans."""

    sensitivity: Sensitivity
    incidents: dict[str, Incident]
    edges: dict[tuple[Key, Key], int]
    rule: Rule | None
    config: RcaConfig | None

    def diagnosis(self) -> Diagnosis:
        """Return what finds the causes of the incidents."""
        return Diagnosis(self.sensitivity, self.incidents, self.rule, self.config, edges=self.edges)


def verdict_on(
    number: str,
    shown: dict[Key, str],
    partitions: list[Partition],
    names: Names,
    known: VerdictContext,
) -> Verdict:
    """Return the verdict on an incident; `shown` holds the names of endpoints at that moment."""

    def history(since_ns: int, until_ns: int, keys: frozenset[Key]) -> EncodedSpans:
        return spans_between(partitions, since_ns, until_ns, names)

    return known.diagnosis().verdict(known.incidents[number], history, shown)
