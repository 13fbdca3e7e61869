"""What does each column of a table of metrics measure, and where?

Tools write ``cart_latency-90``, ``cart-cpu``, (cart, latency, p90) or (cart, "requests", "Sum"), by
seconds or by times. Here all become one shape: a row an interval by its start (s), and columns
(node, metric, statistic), each with a role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LATENCY, REQUESTS = "latency", "requests"
SUCCESS, ERRORS, ERROR_RATE = "success", "errors", "error_rate"
OTHER, IGNORE = "other", "ignore"
FAILURES = (SUCCESS, ERROR_RATE, ERRORS)
PRICED = (LATENCY, REQUESTS, *FAILURES)
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
    r"|median|std|stddev|bucket|milliseconds|microseconds|nanoseconds|us|ns"
)
_ROLE_OF = [(role, re.compile(rf"(?:^|_)(?:{words})(?:_|$)")) for role, words in _WORDS]
_FIRST = re.compile("|".join(words for _, words in _WORDS) + r"|istio|container|p\d\d")
_NEXT = re.compile("|".join(words for _, words in _WORDS) + "|" + _BESIDE)
_SEPARATOR = re.compile(r"[-_.:]")  # not /: an endpoint may be a node
_QUANTILE = re.compile(
    r"(?:^|_)(?:p|q)?(\d\d)(?:th)?(?:latency)?(?:_|$)|(?:^|_)p(\d\d)latency"
    r"|(?:^|_)[pq](\d{3})(?:_|$)"
)
_QUALIFIER = re.compile(
    r"[-_.](?:avg|average|mean|median|max|min|(?:http|grpc|rpc)(?:[-_](?:server|client))?)$"
)
_PERCENT = 100.0
_ROUNDED = 1e-9  # 100 % may be a little more, as a quotient
_NANOSECONDS = 1e9  # of a second
_LATEST_S = 4_102_444_800.0  # 2100-01-01
_WORD = re.compile(r"[a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")  # CPU|Usage|Rate
_PER_SECOND = re.compile(r"(?:^|_)(?:rps|qps|per_second|per_s|rate)(?:_|$)")
_UNITS = (
    (1e-3, re.compile(r"(?:^|_)(?:ms|millis|milliseconds)(?:_|$)")),
    (1e-6, re.compile(r"(?:^|_)(?:us|micros|microseconds)(?:_|$)")),
    (1e-9, re.compile(r"(?:^|_)(?:ns|nanos|nanoseconds)(?:_|$)")),
)
_COUNTED = re.compile(r"(?:^|_)(?:count|cnt)(?:_|$)")  # duration_seconds_count
_NUMBER = re.compile(r"(?:^|_)(?:count|cnt|total)(?:_|$)")  # success_total
_EXTREME = re.compile(r"(?:^|_)(?:max|maximum|min|minimum|std|stddev|bucket|p100)(?:_|$)")
_MEDIAN = re.compile(r"(?:^|_)median(?:_|$)")
MEANS = ("average", "mean", "avg", "value", "sum", "")

_UNTOLD = "value"  # the statistic of a metric that tells none
_LEVELS = ("node", "metric", "statistic")
_COLUMNS_RULE = "must have columns (node, metric[, statistic]) or names node_metric"
_TIMES = ("time", "timestamp", "date", "datetime")
_INDEX_RULE = "must have its times as the index, not as a column: frame.set_index"

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
        found: list[MetricColumn] = []
        for columns in self.by_node.values():
            found.extend(columns)
        return found

    @property
    def step_s(self) -> float:
        """The usual length of an interval (s); 1 where there is one row."""
        if len(self.starts) < 2:
            return 1.0
        steps = np.diff(self.starts)
        return float(np.median(steps))

    def columns_of(self, node: str, kinds: Iterable[str]) -> list[MetricColumn]:
        """Return the columns of a node that measure one of these kinds."""
        wanted = set(kinds)
        columns = self.by_node.get(node, ())
        return [column for column in columns if self.roles[column].kind in wanted]


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
    _check_frame(name, frame, rows)
    settled = _checked_roles(roles)
    starts = seconds(name, frame.index)
    _check_increases(name, frame.index, starts)
    columns = _columns(name, frame.columns, settled)
    values = _numbers(name, frame, columns)
    told: dict[MetricColumn, Role] = {}
    by_node: dict[str, list[MetricColumn]] = {}
    for label, column in zip(frame.columns, columns, strict=True):
        role = _settled_role(label, column, settled)
        told[column] = role
        of_node = by_node.setdefault(column[0], [])
        if role.kind != IGNORE:
            of_node.append(column)
    values = _finite(values, told)
    kept = [column for column in columns if told[column].kind != IGNORE]
    arrays = dict(zip(columns, values.to_numpy().T, strict=True))
    metrics = Metrics(name, starts, values[kept], told, by_node, arrays)
    _check_ranges(metrics)
    return metrics


def nodes_of(name: str, labels: pd.Index) -> set[str]:
    """Return the nodes that the names of a table's columns tell."""
    return {node for node, _, _ in _columns(name, labels, {})}


def _check_frame(name: str, frame: pd.DataFrame, rows: int) -> None:
    """Refuse what is no table of at least so many rows, each column once."""
    if not isinstance(frame, pd.DataFrame):
        given = type(frame).__name__
        raise ValueError(f"{name} must be a DataFrame, got {given}")
    labels = frame.columns
    if not labels.is_unique:
        twice = labels[labels.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    count = len(frame)
    if count < rows:
        rule = f"must have at least {rows} interval(s)"
        raise ValueError(f"{name} {rule}, got {count}")


def _check_increases(name: str, index: pd.Index, starts: NDArray) -> None:
    is_late = np.diff(starts) <= 0
    if not is_late.any():
        return
    first = int(is_late.argmax())
    earlier, later = index[first], index[first + 1]
    raise ValueError(f"{name} index must increase, got {earlier} before {later}")


def seconds(name: str, index: pd.Index) -> NDArray:
    """Return the starts of the intervals as Unix s; times without a zone are taken for UTC.

    Examples
    --------
    >>> seconds("normal", pd.Index(["1970-01-01T00:01:00Z", "1970-01-01T01:02:00+01:00"])).tolist()
    [60.0, 120.0]
    """
    told = _parsed(index)
    if isinstance(told, pd.DatetimeIndex) and not told.hasnans:
        is_without_zone = told.tz is None
        moments = told.tz_localize("UTC") if is_without_zone else told
        nanoseconds = moments.as_unit("ns").asi8
        return nanoseconds / _NANOSECONDS
    if pd.api.types.is_numeric_dtype(told.dtype):
        numbers = told.to_numpy(dtype=float, na_value=np.nan)
        if np.isfinite(numbers).all():
            return numbers
    rule = "must be indexed by Unix seconds or times"
    first = index[int(np.argmax(told.isna()))]
    raise ValueError(f"{name} {rule}, got {index.dtype} from {first}")


def _parsed(index: pd.Index) -> pd.Index:
    """Return an index of numbers or times where it holds them as texts (ISO 8601), as objects or as
    periods; else the index.
    """
    if isinstance(index, pd.PeriodIndex):
        return index.to_timestamp()
    is_text = pd.api.types.is_string_dtype(index.dtype)
    if not is_text and not pd.api.types.is_object_dtype(index.dtype):
        return index
    parsers: tuple[Any, ...] = (pd.to_numeric, _iso_times)
    for parse in parsers:
        with suppress(ValueError, TypeError):
            return pd.Index(parse(index))
    return index


def _iso_times(index: pd.Index) -> pd.DatetimeIndex:
    return pd.to_datetime(index, utc=True, format="ISO8601")


def moment_s(name: str, moment: Any) -> float:
    """Return a time as Unix s; ValueError names the argument `name`."""
    is_truth = isinstance(moment, (bool, np.bool_))
    if np.ndim(moment) == 0 and moment is not None and not is_truth:
        try:
            (start,) = seconds(name, pd.Index([moment]))
            return float(start)
        except ValueError:
            pass  # the rule of one time, below
    rule = "must be a time or a number of seconds"
    raise ValueError(f"{name} {rule}, got {moment!r}")


# ---- names


def _columns(name: str, labels: pd.Index, settled: Mapping[Any, str]) -> list[MetricColumn]:
    """Return (node, metric, statistic) of each column."""
    levels = labels.nlevels
    if levels == 1:
        return _of_flat_names(name, list(map(str, labels)), settled)
    if levels > len(_LEVELS):
        raise ValueError(f"{name} {_COLUMNS_RULE}, got {levels} levels")
    columns: list[MetricColumn] = []
    for label in labels:
        node, metric, *rest = map(str, label)
        statistic = rest[0] if rest else _UNTOLD
        columns.append((node, metric, statistic))
    return columns


def _of_flat_names(name: str, labels: list[str], settled: Mapping[Any, str]) -> list[MetricColumn]:
    """Return (node, metric, statistic) of names ``node_metric``."""
    split = {label: _split(label, settled) for label in labels}
    known = {parts[0] for parts in split.values() if parts}
    if not known and all(map(_begins_with_metric, labels)):
        return [_split_behind_metric(label) for label in labels]
    longest_first = sorted(known)
    longest_first.sort(key=len, reverse=True)
    columns: list[MetricColumn] = []
    for label in labels:
        parts = split[label]
        if parts is None:
            parts = _split_by_node(name, label, longest_first)
        node, metric = _with_qualifier(*parts, known)
        columns.append((node, metric, _UNTOLD))
    return columns


def _with_qualifier(node: str, metric: str, known: set[str]) -> tuple[str, str]:
    """Return node and metric where a node's last word belongs to the metric: cart_mean_latency, if
    there is a node cart.
    """
    found = _QUALIFIER.search(node)
    if found and node[: found.start()] in known:
        return node[: found.start()], f"{found[0][1:]}_{metric}"
    return node, metric


def _begins_with_metric(label: str) -> bool:
    found = _SEPARATOR.search(label)
    return bool(found and _is_metric(label[: found.start()]) and label[found.end() :])


def _split_behind_metric(label: str) -> MetricColumn:
    """Return the column of a name ``metric_node``."""
    found = next(_SEPARATOR.finditer(label))
    return label[found.end() :], label[: found.start()], _UNTOLD


def _split(label: str, settled: Mapping[Any, str]) -> tuple[str, str] | None:
    """Return node and metric where the end of a flat name reads as a metric: the longest such
    end.
    """
    for found in _SEPARATOR.finditer(label):
        node = label[: found.start()]
        metric = label[found.end() :]
        if not node:
            continue
        if metric in settled or _is_metric(metric):
            return node, metric
    return None


def _is_metric(name: str) -> bool:
    first, *others = _plain(name).split("_")
    if not _FIRST.fullmatch(first):
        return False
    return all(map(_NEXT.fullmatch, others))


def _split_by_node(name: str, label: str, nodes: Iterable[str]) -> tuple[str, str]:
    """Return node and metric of a flat name whose metric is unknown: by a known node, else at the
    first underscore, else at the last hyphen.
    """
    for node in nodes:
        if not label.startswith(node):
            continue
        rest = label[len(node) :]
        if _SEPARATOR.match(rest):
            return node, rest[1:]
    if "_" in label:
        node, _, metric = label.partition("_")
    else:
        node, _, metric = label.rpartition("-" if "-" in label else ".")
    if label.lower() in _TIMES:
        raise ValueError(f"{name} {_INDEX_RULE}({label!r})")
    if not node or not metric:
        raise ValueError(f"{name} {_COLUMNS_RULE}, got {label!r}")
    return node, metric


# ---- roles


def _checked_roles(roles: Mapping[Any, str] | None) -> Mapping[Any, str]:
    if roles is None:
        return {}
    if not isinstance(roles, Mapping):
        given = type(roles).__name__
        raise ValueError(f"roles must be a mapping, got {given}")
    for column, role in roles.items():
        if role not in ROLES:
            rule = f"must be one of {list(ROLES)}"
            raise ValueError(f"roles[{column!r}] {rule}, got {role!r}")
    return roles


def _settled_role(label: Any, column: MetricColumn, settled: Mapping[Any, str]) -> Role:
    """Return the role that the user settled for a column or its metric, else that of its name."""
    node, metric, statistic = column
    told = role_of(metric, statistic)
    keys = (
        label,
        column,
        (node, metric),
        (metric, statistic),
        metric,
    )
    for key in keys:
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
    name = _plain(metric)
    whole = f"{name}_{_plain(statistic)}"
    kind = _kind_of(name)
    factor = _factor(whole)
    if kind == REQUESTS:
        is_rate = bool(_PER_SECOND.search(name))
        return Role(kind, None, factor, is_rate)
    if kind == SUCCESS and _NUMBER.search(whole):
        return Role(OTHER)  # no share
    if kind != LATENCY:
        return Role(kind, None, factor)
    if _COUNTED.search(whole):
        return Role(REQUESTS)
    if _EXTREME.search(whole):
        return Role(OTHER)  # no cost of a request
    if _MEDIAN.search(whole):
        return Role(kind, 0.5, factor)
    found = _QUANTILE.search(whole)
    if found:
        digits = found[1] or found[2] or found[3]
        return Role(kind, float(f"0.{digits}"), factor)
    if statistic.lower() in MEANS:
        return Role(kind, None, factor)
    return Role(OTHER)


def _plain(name: str) -> str:
    """Return the words of a name in small letters, joined by underscores.

    Examples
    --------
    >>> _plain("CPUUsageRate(%)"), _plain("ClientLatencyP99(s)"), _plain("p95latency")
    ('cpu_usage_rate', 'client_latency_p99_s', 'p95latency')
    """
    apart = _CAMEL.sub("_", name)
    words = _WORD.findall(apart.lower())
    return "_".join(words)


def _kind_of(name: str) -> str:
    for role, word in _ROLE_OF:
        if word.search(name):
            return role
    return OTHER


def _factor(name: str) -> float:
    """Return how many seconds the unit is, where the name tells one of time."""
    for factor, unit in _UNITS:
        if unit.search(name):
            return factor
    return 1.0


# ---- numbers


def _numbers(name: str, frame: pd.DataFrame, columns: list[MetricColumn]) -> pd.DataFrame:
    """Return the table as numbers, with columns (node, metric, statistic)."""
    labels = pd.MultiIndex.from_tuples(columns, names=_LEVELS)
    if not labels.is_unique:
        twice = labels[labels.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    try:
        table = frame.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        wrong = _first_without_numbers(frame, columns)
        rule = "must hold numbers in the column"
        raise ValueError(f"{name} {rule} {wrong}") from None
    return pd.DataFrame(table, columns=labels)


def _finite(values: pd.DataFrame, roles: Mapping[MetricColumn, Role]) -> pd.DataFrame:
    """Return the table with infinite values as not measured, but for costs and requests."""
    is_infinite = np.isinf(values.to_numpy())
    columns: list[Any] = values.columns.tolist()
    is_priced = [roles[column].kind in PRICED for column in columns]
    is_infinite[:, is_priced] = False
    return values.mask(is_infinite) if is_infinite.any() else values


def _first_without_numbers(frame: pd.DataFrame, columns: list[MetricColumn]) -> MetricColumn:
    given = zip(columns, frame.items(), strict=True)
    wrong = [column for column, (_, values) in given if not _is_numeric(values)]
    return wrong[0]


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
        if kind not in PRICED:
            continue
        is_share = kind in (SUCCESS, ERROR_RATE)
        highest = _PERCENT if is_share else np.inf
        rounded = highest * (1 + _ROUNDED)
        values = metrics.arrays[column]
        is_wrong = (values < 0) | (values > rounded) | np.isinf(values)
        if is_wrong.any():
            got = values[is_wrong][0]
            rule = f"must be finite, from 0 to {highest:g}"
            raise ValueError(f"{metrics.name} column {column} {rule}, got {got}")
