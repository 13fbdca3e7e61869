"""What does each column of a table of metrics measure, and where?

Tools write ``cart_latency-90``, ``cart-cpu``, (cart, latency, p90) or (cart, "requests", "Sum"), by
seconds or by times. Here all become one shape: a row an interval by its start (s), and columns
(node, metric, statistic), each with a role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LATENCY, REQUESTS = "latency", "requests"
SUCCESS, ERRORS, ERROR_RATE = "success", "errors", "error_rate"
OTHER, IGNORE = "other", "ignore"
FAILURES = (SUCCESS, ERROR_RATE, ERRORS)
RESOURCE_KINDS = ("cpu", "memory", "disk", "network", "restarts")
ROLES = (LATENCY, REQUESTS, *FAILURES, *RESOURCE_KINDS, OTHER, IGNORE)
"""What a metric may be. A success is a share (0 to 1, or percent), errors are a number, an error
rate is a share.
"""

_WORDS = (  # the first that occurs in a metric's name says its role
    ("cpu", r"cpu|cfs"),
    ("memory", r"mem|memory|rss|heap|swap"),
    ("disk", r"disk|diskio|fs|io|iops|storage"),
    ("network", r"network|net|tcp|socket|sockets|receive|transmit|bytes|packets|bandwidth"),
    ("restarts", r"restart|restarts"),
    (LATENCY, r"latency|latencies|lat|duration|p\d\dlatency|rt|mrt|response_time|elapsed"),
    (SUCCESS, r"availability|success|sr|success_rate|success_ratio"),
    (ERROR_RATE, r"error_rate|error_ratio|failure_rate|failed_rate|err_rate"),
    (ERRORS, r"error|errors|err|failure|failures|failed|exceptions|5xx"),
    (REQUESTS, r"requests|request|rps|qps|workload|load|lod|throughput|calls|count|cnt"),
)
# what may stand beside these words in a name of a metric: container-cpu-usage-seconds-total
_BESIDE = (
    r"usage|used|total|seconds|ms|s|percent|pct|rate|ratio|avg|average|mean|max|min|sum|value|util"
    r"|utilization|working|set|time|response|reads|writes|read|write|p\d\d\d?|\d\d?|istio|container"
)
_ROLE_OF = [(role, re.compile(rf"(?:^|_)(?:{words})(?:_|$)")) for role, words in _WORDS]
_FIRST = re.compile("|".join(words for _, words in _WORDS) + r"|istio|container|p\d\d")
_NEXT = re.compile("|".join(words for _, words in _WORDS) + "|" + _BESIDE)
_SEPARATOR = re.compile(r"[-_]")
_QUANTILE = re.compile(r"(?:^|_)(?:p|q)?(\d\d)(?:th)?(?:latency)?(?:_|$)|(?:^|_)p(\d\d)latency")
_PERCENT = 100.0
_PER_SECOND = re.compile(r"(?:^|_)(?:rps|qps|per_second|per_s|rate)(?:_|$)")
_MILLISECONDS = re.compile(r"(?:^|_)(?:ms|millis|milliseconds)(?:_|$)")
MEANS = ("average", "mean", "avg", "value", "sum", "")

MetricColumn = tuple[str, str, str]


class Role(NamedTuple):
    """What a column measures: its kind (one of `ROLES`), which quantile of it (None: its mean or
    its sum), and the factor to s.
    """

    kind: str
    quantile: float | None = None
    factor: float = 1.0
    per_second: bool = False


class Metrics(NamedTuple):
    """Metrics by the start of the interval: `values` has columns (node, metric, statistic)."""

    name: str  # of the argument
    starts: NDArray
    values: pd.DataFrame
    roles: dict[MetricColumn, Role]
    by_node: dict[str, list[MetricColumn]]  # the columns of each node
    arrays: dict[MetricColumn, NDArray]  # the same values; a frame with such labels is slow to read

    @property
    def columns(self) -> list[MetricColumn]:
        """The columns, in their order."""
        return [column for columns in self.by_node.values() for column in columns]

    @property
    def step_s(self) -> float:
        """The usual length of an interval (s); 1 where there is one row."""
        return float(np.median(np.diff(self.starts))) if len(self.starts) > 1 else 1.0

    def columns_of(self, node: str, kinds: Iterable[str]) -> list[MetricColumn]:
        """Return the columns of a node that measure one of these kinds."""
        return [column for column in self.by_node.get(node, ()) if self.roles[column].kind in kinds]


def read_frame(
    name: str, frame: pd.DataFrame, rows: int, roles: Mapping[Any, str] | None = None
) -> Metrics:
    """Return a table of metrics in the one shape; errors name the argument `name`.

    Parameters
    ----------
    rows : int
        How many rows it must have.
    roles : mapping
        Of columns or metrics, where the names mislead: what each measures, one of `ROLES`.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} must be a DataFrame, got {type(frame).__name__}")
    settled = _checked_roles(roles)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    if len(frame) < rows:
        raise ValueError(f"{name} must have at least {rows} interval(s), got {len(frame)}")
    starts = seconds(name, frame.index)
    late = np.flatnonzero(np.diff(starts) <= 0)
    if late.size:
        at, after = frame.index[late[0]], frame.index[late[0] + 1]
        raise ValueError(f"{name} index must increase, got {at} before {after}")
    columns = _columns(name, frame.columns, settled)
    told = {
        column: _settled_role(label, column, settled)
        for label, column in zip(frame.columns, columns, strict=True)
    }
    values = _numbers(name, frame, columns)
    kept = [column for column in columns if told[column].kind != IGNORE]
    by_node: dict[str, list[MetricColumn]] = {column[0]: [] for column in columns}
    for column in kept:
        by_node[column[0]].append(column)
    arrays = dict(zip(columns, values.to_numpy().T, strict=True))
    metrics = Metrics(name, starts, values[kept], told, by_node, arrays)
    _check_ranges(metrics)
    return metrics


def seconds(name: str, index: pd.Index) -> NDArray:
    """Return the starts of the intervals as Unix s; times without a zone are taken for UTC."""
    if isinstance(index, pd.DatetimeIndex) and not index.hasnans:
        moments = index.tz_localize("UTC") if index.tz is None else index
        return moments.as_unit("ns").asi8 / 1e9
    is_number = pd.api.types.is_numeric_dtype(index.dtype)
    if is_number and np.isfinite(index.to_numpy(dtype=float)).all():
        return index.to_numpy(dtype=float)
    rule = "must be indexed by Unix seconds or times"
    raise ValueError(f"{name} {rule}, got {index.dtype} from {index[0]}")


# ---- names


def _columns(name: str, labels: pd.Index, settled: Mapping[Any, str]) -> list[MetricColumn]:
    """Return (node, metric, statistic) of each column."""
    if labels.nlevels == 3:
        return [(str(a), str(b), str(c)) for a, b, c in labels]
    if labels.nlevels == 2:
        return [(str(a), str(b), "value") for a, b in labels]
    if labels.nlevels > 3:
        rule = "must have columns (node, metric[, statistic]) or names node_metric"
        raise ValueError(f"{name} {rule}, got {labels.nlevels} levels")
    flat = [str(label) for label in labels]
    split = {label: _split(label, settled) for label in flat}
    nodes = sorted({parts[0] for parts in split.values() if parts}, key=len, reverse=True)
    return [(*(split[label] or _split_by_node(name, label, nodes)), "value") for label in flat]


def _split(label: str, settled: Mapping[Any, str]) -> tuple[str, str] | None:
    """Return node and metric where the end of a flat name reads as a metric: the longest such
    end.
    """
    for found in _SEPARATOR.finditer(label):
        node, metric = label[: found.start()], label[found.end() :]
        if node and (metric in settled or _is_metric(metric)):
            return node, metric
    return None


def _is_metric(name: str) -> bool:
    first, *others = _SEPARATOR.split(name.lower())
    return bool(_FIRST.fullmatch(first)) and all(_NEXT.fullmatch(word) for word in others)


def _split_by_node(name: str, label: str, nodes: Iterable[str]) -> tuple[str, str]:
    """Return node and metric of a flat name whose metric is unknown: by a known node, else at the
    first underscore, else at the last hyphen.
    """
    for node in nodes:
        if label.startswith(node) and _SEPARATOR.match(label[len(node) :]):
            return node, label[len(node) + 1 :]
    node, _, metric = label.partition("_") if "_" in label else label.rpartition("-")
    if not node or not metric:
        rule = "must have columns (node, metric[, statistic]) or names node_metric"
        raise ValueError(f"{name} {rule}, got {label!r}")
    return node, metric


# ---- roles


def _checked_roles(roles: Mapping[Any, str] | None) -> Mapping[Any, str]:
    if roles is None:
        return {}
    if not isinstance(roles, Mapping):
        raise ValueError(f"roles must be a mapping, got {type(roles).__name__}")
    for column, role in roles.items():
        if role not in ROLES:
            raise ValueError(f"roles[{column!r}] must be one of {list(ROLES)}, got {role!r}")
    return roles


def _settled_role(label: Any, column: MetricColumn, settled: Mapping[Any, str]) -> Role:
    told = role_of(column[1], column[2])
    for key in (label, column, column[:2], column[1:], column[1]):
        if key in settled:
            return told._replace(kind=settled[key])
    return told


def role_of(metric: str, statistic: str = "value") -> Role:
    """Return what a metric measures by its name.

    Examples
    --------
    >>> role_of("latency-90")
    Role(kind='latency', quantile=0.9, factor=1.0, per_second=False)
    >>> role_of("container-cpu-usage-seconds-total").kind
    'cpu'
    >>> role_of("rps").per_second
    True
    """
    name = "_".join(re.findall(r"[a-z0-9]+", metric.lower()))
    whole = "_".join([name, *re.findall(r"[a-z0-9]+", statistic.lower())])
    kind = next((role for role, word in _ROLE_OF if word.search(name)), OTHER)
    found = _QUANTILE.search(whole)
    if kind == LATENCY and found:
        quantile = int(found[1] or found[2]) / _PERCENT
        return Role(kind, quantile, _factor(whole))
    if kind == LATENCY and statistic.lower() not in MEANS:
        return Role(OTHER)  # a maximum is no cost of a request
    return Role(kind, None, _factor(whole), kind == REQUESTS and bool(_PER_SECOND.search(name)))


def _factor(name: str) -> float:
    return 1e-3 if _MILLISECONDS.search(name) else 1.0


# ---- numbers


def _numbers(name: str, frame: pd.DataFrame, columns: list[MetricColumn]) -> pd.DataFrame:
    labels = pd.MultiIndex.from_tuples(columns, names=["node", "metric", "statistic"])
    if not labels.is_unique:
        twice = labels[labels.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    try:
        table = frame.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        wrong = next(k for k, column in enumerate(columns) if not _is_numeric(frame.iloc[:, k]))
        raise ValueError(f"{name} must hold numbers in the column {columns[wrong]}") from None
    return pd.DataFrame(table, columns=labels)


def _is_numeric(values: pd.Series) -> bool:
    try:
        values.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return False
    return True


def _check_ranges(metrics: Metrics) -> None:
    """Refuse impossible costs and requests. Other metrics may hold anything."""
    for column in metrics.columns:
        kind = metrics.roles[column].kind
        values = metrics.arrays[column]
        if kind not in (LATENCY, REQUESTS, *FAILURES):
            continue
        highest = _PERCENT if kind in (SUCCESS, ERROR_RATE) else np.inf
        rounded = highest * (1 + 1e-9)  # 100 % may be a little more, as a quotient
        wrong = np.flatnonzero((values < 0) | (values > rounded) | np.isinf(values))
        if wrong.size:
            rule = f"must be finite, from 0 to {highest:g}"
            got = values[wrong[0]]
            raise ValueError(f"{metrics.name} column {column} {rule}, got {got}")
