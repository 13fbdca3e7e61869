"""What does a column of a table of metrics measure, and at which node, by its name?

Tools write ``cart_latency-90``, ``cart-cpu``, (cart, latency, p90), (cart, "requests", "Sum") or
``cpu_seconds_total{service="cart"}``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.explain.metric_selectors import (
    NO_STATISTIC,
    NODE_LABELS,
    is_series,
    series_columns,
)

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
    (
        LATENCY,
        r"latency|latencies|lat|duration|p\d\dlatency|rt|mrt|response_time|elapsed"
        r"|requests?_(?:seconds|milliseconds)",
    ),
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
_FAMILY = re.compile(  # how names of Prometheus and of Micrometer begin
    r"(?:container_(?:cpu|memory|network|fs|blkio|spec|file|start|last|threads|processes|sockets)"
    r"|container_tasks"
    r"|istio_(?:requests?|response|tcp)|process_(?:cpu_seconds|resident|virtual|open|start)"
    r"|jvm_(?:memory|gc|threads|buffer|classes)|go_(?:goroutines|gc|memstats|threads)"
    r"|(?:http|grpc|rpc)_requests?"
    r"|(?:http|grpc|rpc)_(?:server|client)_(?:requests?|responses?|duration|handled|handling)"
    r")(?:_|$)"
)
_AMOUNT = re.compile(  # no name of a node has such a word
    r"(?:^|_)(?:usage|utilization|util|percent|pct|seconds|bytes|total|rate|ratio)(?:_|$)"
)
_SEPARATOR = re.compile(r"[-_.:]")  # not /: an endpoint may be a node
_QUANTILE = re.compile(
    r"(?:^|_)(?:p|q)?(\d\d)(?:th)?(?:latency)?(?:_|$)|(?:^|_)p(\d\d)latency"
    r"|(?:^|_)[pq](\d{3})(?:_|$)"
)
_QUALIFIER = re.compile(
    r"[-_.](?:avg|average|mean|median|max|min|(?:http|grpc|rpc)(?:[-_](?:server|client))?)$"
)
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

COLUMN_LEVELS = ("node", "metric", "statistic")
_LEVEL_NAMES = (  # of each of them, what it may be called
    {"node", "host", "component", "microservice", "endpoint", *NODE_LABELS},
    {"metric", "metrics", "metric_name", "measurement", "indicator", "kpi", "kpi_name"},
    {"statistic", "stat", "aggregation", "quantile", "percentile"},
)
_COLUMNS_RULE = "must have columns (node, metric[, statistic]) or names node_metric"
_TIMES = ("time", "timestamp", "date", "datetime")
_INDEX_RULE = "must have its times as the index, not as a column: frame.set_index"

MetricColumn = tuple[str, str, str]
Split = tuple[str, str]  # node and metric


class Role(NamedTuple):
    """What a column measures: its kind (one of `ROLES`), which quantile of it (None: its mean or
    its sum), and the factor to s.
    """

    kind: str
    quantile: float | None = None
    factor: float = 1.0
    per_second: bool = False


# ---- names


def node_columns(name: str, labels: pd.Index, settled: Mapping[Any, str]) -> list[MetricColumn]:
    """Return (node, metric, statistic) of each column."""
    levels = [*zip(*labels, strict=True)] if _are_tuples(labels) else []
    if not levels:
        return _of_flat_names(name, list(map(str, labels)), settled)
    if not 2 <= len(levels) <= len(COLUMN_LEVELS):
        raise ValueError(f"{name} {_COLUMNS_RULE}, got {len(levels)} levels")
    names = labels.names if labels.nlevels > 1 else [None] * len(levels)
    node, metric, *rest = _in_order([[*map(str, level)] for level in levels], names)
    statistic = rest[0] if rest else [NO_STATISTIC] * len(metric)
    return [*zip(node, metric, statistic, strict=True)]


def _are_tuples(labels: pd.Index) -> bool:
    """Return whether each label is a tuple of several names, all of one length."""
    sizes = {len(label) if isinstance(label, tuple) else 0 for label in labels}
    return len(sizes) == 1 and sizes != {0}


def _in_order(levels: list[list[str]], names: Sequence[Any]) -> list[list[str]]:
    """Return the levels as nodes, metrics and statistics.

    They are in this order, unless their names tell another one: `pandas.DataFrame.pivot` calls them
    "metric" and "service", say. A level above them that only holds "value" is left out, but not
    above (metric, statistic). Where the names tell nothing, metrics come first in the table only if
    they must: all names of the first level are metrics, one of them is certainly no node (a
    latency, a share of failures, a name with a word such as "usage" or "total"), and no name of the
    second is a metric or a part of one. So in (memory, hits) and (load, rising) the node is memory,
    or load.
    """
    if _says_only_value(levels, names):
        levels, names = levels[1:], names[1:]
    places = _told_places(names)
    if not places and _has_metrics_first(levels):
        places = {0: 1}  # of the metrics
    for role in range(len(levels)):
        free = [place for place in range(len(levels)) if place not in places]
        if role not in places.values():
            places[free[0]] = role
    in_order = sorted(places, key=places.__getitem__)
    return [levels[place] for place in in_order]


def _says_only_value(levels: list[list[str]], names: Sequence[Any]) -> bool:
    """Return whether the first of three levels is none, and the others are node and metric."""
    if len(levels) < len(COLUMN_LEVELS) or not set(levels[0]) <= {"value", "values"}:
        return False
    places = _told_places(names)
    if places:
        return 0 not in places
    return not all(map(_is_statistic, set(levels[2])))


def _told_places(names: Sequence[Any]) -> dict[int, int]:
    """Return by place of a level what it holds (a place in `COLUMN_LEVELS`), where names tell."""
    places: dict[int, int] = {}
    for role in range(len(names)):
        told = [
            place for place, name in enumerate(names) if _plain(str(name)) in _LEVEL_NAMES[role]
        ]
        if told:
            places[told[0]] = role
    return places


def _has_metrics_first(levels: list[list[str]]) -> bool:
    first, second = set(levels[0]), set(levels[1])
    if not all(map(_is_metric, first)) or not any(map(_is_no_node, first)):
        return False
    return not any(map(_is_metric, second)) and not any(map(_is_part, second))


def _is_no_node(metric: str) -> bool:
    name = _plain(metric)
    return _kind_of(name) in (LATENCY, *FAILURES) or bool(_AMOUNT.search(name))


def _is_part(name: str) -> bool:
    """Return whether a name may be a part of a metric's: "used", "p99"."""
    return all(map(_NEXT.fullmatch, _plain(name).split("_")))


def _is_statistic(name: str) -> bool:
    return _is_part(name) and _kind_of(_plain(name)) == OTHER


def _of_flat_names(name: str, labels: list[str], settled: Mapping[Any, str]) -> list[MetricColumn]:
    """Return (node, metric, statistic) of names ``node_metric``, or of series of Prometheus.

    A name that could be split at several places is split where most names of the table are: at the
    same separator, then at the node that most of them may have, then where the metric is longest.
    """
    if any(map(is_series, labels)):
        return series_columns(name, labels)
    ends = {label: _splits(label, settled) for label in labels}
    if not any(ends.values()) and all(map(_begins_with_metric, labels)):
        return [_split_behind_metric(label) for label in labels]
    usual = _usual_separator(ends)
    named = Counter(node for splits in ends.values() for node, _ in splits)
    split = {label: _usually(label, splits, usual, named) for label, splits in ends.items()}
    known = {parts[0] for parts in split.values() if parts}
    longest_first = sorted(known)
    longest_first.sort(key=len, reverse=True)
    columns: list[MetricColumn] = []
    for label in labels:
        parts = split[label]
        if parts is None:
            parts = _split_by_node(name, label, longest_first)
        node, metric = _with_qualifier(*parts, known)
        columns.append((node, metric, NO_STATISTIC))
    return columns


def _usual_separator(ends: Mapping[str, list[Split]]) -> str:
    """Return what stands between node and metric in more than half of the names; else nothing.

    A name that can be split in one way only counts twice.
    """
    found: Counter[str] = Counter()
    for label, splits in ends.items():
        for node, _ in splits[:1]:
            found[label[len(node)]] += 2 if len(splits) == 1 else 1
    for separator, count in found.most_common(1):
        if 2 * count > found.total():
            return separator
    return ""


def _usually(label: str, splits: list[Split], usual: str, named: Counter[str]) -> Split | None:
    """Return the split of a name, where most names of its table are split."""
    as_usual = [split for split in splits if label[len(split[0])] == usual]
    if as_usual:
        return max(as_usual, key=lambda split: named[split[0]])
    node, separator, metric = label.partition(usual or " ")
    if separator and metric and node in named:
        return node, metric
    return splits[0] if splits else None


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
    return label[found.end() :], label[: found.start()], NO_STATISTIC


def _splits(label: str, settled: Mapping[Any, str]) -> list[Split]:
    """Return node and metric wherever the end of a flat name reads as a metric, the longest end
    first.
    """
    found: list[Split] = []
    for separator in _SEPARATOR.finditer(label):
        node = label[: separator.start()]
        metric = label[separator.end() :]
        if node and (metric in settled or _is_metric(metric)):
            found.append((node, metric))
    return found


def _is_metric(name: str) -> bool:
    plain = _plain(name)
    if _FAMILY.match(plain):
        return True
    first, *others = plain.split("_")
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


def checked_roles(roles: Mapping[Any, str] | None) -> Mapping[Any, str]:
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


def settled_role(label: Any, column: MetricColumn, settled: Mapping[Any, str]) -> Role:
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
