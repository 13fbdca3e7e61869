"""Tables of metrics as tools write them: names, roles, times."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiops_lab.explain.metric_columns import role_of
from aiops_lab.explain.metric_costs import in_percent, mean_of_quantiles, tables
from aiops_lab.explain.metric_frames import moment_s, read_frame, seconds


def read(columns, rows=3, roles=None, index=None):
    frame = pd.DataFrame(columns, index=range(rows) if index is None else index)
    return read_frame("normal", frame.astype(float), 1, roles)


@pytest.mark.parametrize(
    ("name", "node", "metric"),
    [
        ("carts_lat_50", "carts", "lat_50"),
        ("carts-db_cpu", "carts-db", "cpu"),
        ("worker-01-cpu", "worker-01", "cpu"),
        ("ts-order-service-network_receive", "ts-order-service", "network_receive"),
        ("redis-cart-p90latency", "redis-cart", "p90latency"),
        ("cart_istio-latency-90", "cart", "istio-latency-90"),
        (
            "front-end_container-cpu-usage-seconds-total",
            "front-end",
            "container-cpu-usage-seconds-total",
        ),
        ("cart_queue-depth", "cart", "queue-depth"),
        ("front_end_CpuUsageRate(%)", "front_end", "CpuUsageRate(%)"),
        ("ts-order.memory.usage", "ts-order", "memory.usage"),
        ("10.0.0.1:cpu", "10.0.0.1", "cpu"),
        ("/api/requests_latency", "/api/requests", "latency"),
    ],
)
def test_a_flat_name_is_split_where_the_metric_begins(name, node, metric):
    assert list(read({name: 1.0}).values.columns) == [(node, metric, "value")]


def test_a_qualifier_belongs_to_the_metric_where_its_node_is_known():
    columns = ["cart_cpu", "cart_mean_latency", "cart_http_server_duration", "pay_mean_latency"]
    found = [column[:2] for column in read(dict.fromkeys(columns, 1.0)).values.columns]
    assert found[1:3] == [("cart", "mean_latency"), ("cart", "http_server_duration")]
    assert found[3] == ("pay_mean", "latency")  # nothing else tells of a node pay


@pytest.mark.parametrize(
    ("sure", "doubtful", "node"),
    [
        ("cart_cpu", "cart_container-spec-memory-limit-bytes", "cart"),
        ("carts-db_cpu", "carts-db_istio-tcp-sent-bytes", "carts-db"),
        ("web_requests", "web_container_spec_memory_limit_bytes", "web"),
        ("web_requests", "web_process_resident_memory_bytes", "web"),
        ("web_requests", "web_http_request_duration_seconds_sum", "web"),
        ("my-http_cpu", "my-http_requests", "my-http"),
        ("order-request-cache_cpu", "order-request-cache_latency", "order-request-cache"),
    ],
)
def test_a_name_is_split_where_the_other_names_of_its_table_are(sure, doubtful, node):
    assert list(read({sure: 1.0, doubtful: 1.0}).by_node) == [node]


def test_series_of_prometheus_are_read_by_their_labels():
    names = [f'reqs{{job="shop", service="cart", code="{code}"}}' for code in (200, 500)]
    latency = 'duration_seconds{job="shop",service="cart",quantile="0.5"}'
    metrics = read(dict.fromkeys([*names, latency], 1.0))
    assert metrics.columns == [
        ("cart", "reqs", "200"),
        ("cart", "reqs", "500"),
        ("cart", "duration_seconds", "p50"),
    ]
    assert metrics.roles["cart", "duration_seconds", "p50"].quantile == 0.5
    with pytest.raises(ValueError, match=r"normal must have one label .* got \['zone'\]"):
        read({'cpu{zone="a"}': 1.0})
    with pytest.raises(ValueError, match="normal must have labels in all names or in none"):
        read({latency: 1.0, "cart_cpu": 1.0})


def test_of_a_summary_the_quantiles_0_and_1_are_extremes_and_no_quantiles():
    levels = ("0", "0.25", "0.5", "0.9950", "1.0")
    names = [f'rpc_duration_seconds{{service="cart",quantile="{level}"}}' for level in levels]
    roles = read(dict.fromkeys(names, 1.0)).roles
    assert [column[2] for column in roles] == ["min", "p25", "p50", "p995", "max"]
    assert [role.quantile for role in roles.values()] == [None, 0.25, 0.5, 0.995, None]
    assert [role.kind for role in roles.values()] == ["other", *["latency"] * 3, "other"]


def test_values_of_labels_may_hold_braces_commas_and_quotes_and_labels_may_be_missing():
    names = [
        'rps{service="c\\"art",route="/x/{id}",pod="p1"}',
        'rps{service="c\\"art",route="/y,z=\\"}\\"",pod="p1"}',
        "rps{service='pay',pod='p2'}",
        'errs{service="pay"}',
        'errs{service="pay",code="500"}',
    ]
    assert read(dict.fromkeys(names, 1.0)).columns == [
        ('c"art', "rps", "/x/{id}"),
        ('c"art', "rps", '/y,z="}"'),
        ("pay", "rps", "value"),  # its pod is another, but nothing else of its rps
        ("pay", "errs", "value"),
        ("pay", "errs", "500"),
    ]


@pytest.mark.parametrize(
    "levels", [("metric", "service"), (None, "service", "metric"), (None, "metric", "service")]
)
def test_levels_of_columns_may_stand_as_a_pivot_puts_them(levels):
    told = {None: "value", "service": "memory", "metric": "hits"}
    labels = [tuple(told[level] for level in levels)]
    frame = pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples(labels, names=levels))
    assert read_frame("normal", frame, 1).columns == [("memory", "hits", "value")]


@pytest.mark.parametrize(
    ("labels", "nodes"),
    [
        ([("latency", "cart"), ("cpu", "cart")], ["cart"]),
        ([("cpu_usage", "cart"), ("mem", "pay")], ["cart", "pay"]),
        ([("memory", "hits"), ("disk", "hits")], ["memory", "disk"]),
        ([("load", "foo"), ("load", "bar")], ["load"]),
        ([("errors", "used"), ("errors", "left")], ["errors"]),
        ([("errors", "jvm_threads_live"), ("errors", "left")], ["errors"]),
        ([("cart", "placed", "count"), ("cart", "custom", "p99")], ["cart"]),
        ([("value", "cpu", "p90"), ("value", "cpu", "mean")], ["value"]),
    ],
)
def test_without_names_of_levels_metrics_come_first_only_where_no_node_is_called_so(labels, nodes):
    for columns in (pd.MultiIndex.from_tuples(labels), pd.Index(labels, tupleize_cols=False)):
        metrics = read_frame("normal", pd.DataFrame([[1.0] * 2], columns=columns), 1)
        assert list(metrics.by_node) == nodes
    if len(labels[0]) == 3:
        assert metrics.columns == labels


def test_where_all_names_begin_with_a_metric_the_node_comes_behind():
    assert list(read({"cpu_cart": 1.0, "mem_pay-db": 1.0}).values.columns) == [
        ("cart", "cpu", "value"),
        ("pay-db", "mem", "value"),
    ]
    assert read({"cpu_cart": 1.0, "cpu_mem": 1.0}).by_node.keys() == {"cpu"}


def test_an_unknown_metric_is_split_at_a_known_node():
    columns = read({"worker-01-cpu": 1.0, "worker-01-retries_left": 1.0}).values.columns
    assert list(columns)[1] == ("worker-01", "retries_left", "value")


@pytest.mark.parametrize(
    ("metric", "statistic", "kind", "quantile"),
    [
        ("latency", "Average", "latency", None),
        ("latency", "p99", "latency", 0.99),
        ("lat_50", "value", "latency", 0.5),
        ("p95latency", "value", "latency", 0.95),
        ("latency", "Maximum", "other", None),
        ("request_duration_ms", "value", "latency", None),
        ("availability", "Average", "success", None),
        ("success_rate", "value", "success", None),
        ("error_rate", "value", "error_rate", None),
        ("errors", "Sum", "errors", None),
        ("requests", "Sum", "requests", None),
        ("lod", "value", "requests", None),
        ("cpu_cfs", "value", "cpu", None),
        ("mem", "value", "memory", None),
        ("diskio", "value", "disk", None),
        ("network_receive", "value", "network", None),
        ("restarts", "value", "restarts", None),
        ("queue_depth", "value", "other", None),
        ("latency_max", "value", "other", None),
        ("latency_p999", "value", "latency", 0.999),
        ("latency", "median", "latency", 0.5),
        ("http_duration_seconds_count", "value", "requests", None),
        ("success_count", "value", "other", None),
        ("PodClientLatencyP99(s)", "value", "latency", 0.99),
        ("CPUUtilization", "Average", "cpu", None),
        ("HTTPCode_Target_5XX_Count", "Sum", "errors", None),
        ("SuccessRate", "Average", "success", None),
    ],
)
def test_a_metric_is_recognized_by_its_name(metric, statistic, kind, quantile):
    role = role_of(metric, statistic)
    assert (role.kind, role.quantile) == (kind, quantile)


@pytest.mark.parametrize("key", ["a_depth", "depth", ("a", "depth"), ("a", "depth", "value")])
def test_roles_settle_what_a_name_does_not_say(key):
    metrics = read({"a_depth": 1.0}, roles={key: "latency"})
    assert metrics.roles["a", "depth", "value"].kind == "latency"


def test_an_ignored_metric_is_left_out():
    metrics = read({"a_cpu": 1.0, "a_mem": 1.0}, roles={"cpu": "ignore"})
    assert list(metrics.values.columns) == [("a", "mem", "value")]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_become_seconds_and_without_a_zone_they_are_utc(zone):
    times = pd.date_range("2026-01-01 00:00", periods=3, freq="5s", tz=zone)
    start = pd.Timestamp("2026-01-01", tz=zone or "UTC").timestamp()
    metrics = read({"a_cpu": 1.0}, index=times)
    assert metrics.starts.tolist() == [start, start + 5, start + 10]
    assert metrics.step_s == 5


@pytest.mark.parametrize(
    "told",
    [
        pd.Index(["2026-01-01T00:00:00Z", "2026-01-01 00:00:05", "2026-01-01T01:00:10+01:00"]),
        pd.period_range("2026-01-01", periods=3, freq="5s"),
        pd.Index(list(pd.date_range("2026-01-01", periods=3, freq="5s", tz="UTC")), dtype=object),
        pd.Index(["1767225600", "1767225605", "1767225610"]),
    ],
)
def test_times_may_be_texts_periods_or_objects(told):
    starts = read({"a_cpu": 1.0}, index=told).starts
    assert starts.tolist() == [1767225600, 1767225605, 1767225610]


def test_dates_without_hyphens_are_dates_and_other_numbers_as_texts_are_seconds():
    days = seconds("normal", pd.Index(["20240131", "20240201"]))
    assert days.tolist() == [1706659200.0, 1706745600.0]
    assert seconds("normal", pd.Index(["20240131", "20240132"])).tolist() == [20240131, 20240132]


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (60 + 5j, r"since must be a time .*, got \(60\+5j\)"),
        (7.26e12, "since must be Unix .* unit?"),
    ],
)
def test_a_time_that_is_complex_or_in_another_unit_is_refused(moment, said):
    with pytest.raises(ValueError, match=said):
        moment_s("since", moment)


def test_what_is_infinite_is_not_measured_and_takes_nothing_from_other_columns():
    metrics = read({"a_cpu": [1.0, np.inf, -np.inf], "b_mem": 1.0})
    assert metrics.values["a"]["cpu"]["value"].isna().tolist() == [False, True, True]
    assert metrics.arrays["b", "mem", "value"].tolist() == [1, 1, 1]


def costs(columns, metric, rows=3, step=1.0):
    metrics = read(columns, rows, index=step * np.arange(rows))
    percent = in_percent(metrics)
    return tables(metrics, sorted({name.split("_")[0] for name in columns}), metric, percent)


def test_milliseconds_become_seconds_and_rates_become_numbers_of_requests():
    for name, value in (("a_latency_ms", 30.0), ("a_latencyUs", 3e4), ("a_duration_ns_mean", 3e7)):
        found = costs({name: value, "a_rps": 4.0}, "latency", step=5.0)
        assert found.cost[:, 0].tolist() == pytest.approx([0.03] * 3)
    assert found.requests[:, 0].tolist() == [20.0] * 3


def test_a_mean_is_taken_before_quantiles():
    found = costs({"a_latency": 3.0, "a_latency-90": 9.0, "a_rps": 1.0}, "latency")
    assert found.cost[0, 0] == 3


def test_the_mean_of_quantiles_is_between_them():
    values = np.array([[2.0], [4.0], [8.0]])
    # 0 to .5: 1.5 on average, to .9: 3, to .95: 6, beyond: 8
    assert mean_of_quantiles([0.5, 0.9, 0.95], values)[0] == pytest.approx(
        0.5 * 1.5 + 0.4 * 3 + 0.05 * 6 + 0.05 * 8
    )


@pytest.mark.parametrize(
    ("name", "value", "failed"),
    [
        ("a_success_rate", 0.9, 0.1),
        ("a_success_rate", 90.0, 0.1),
        ("a_availability", 0.9, 0.1),
        ("a_availability_percent", 0.9, 0.991),
        ("a_error_rate", 0.2, 0.2),
        ("a_errors", 3.0, 0.3),
        ("a_errors", 30.0, 1.0),
    ],
)
def test_failures_are_a_share_however_they_are_told(name, value, failed):
    found = costs({name: value, "a_requests": 10.0}, "availability")
    assert found.cost[0, 0] == pytest.approx(failed)


@pytest.mark.parametrize(
    ("columns", "roles", "said"),
    [
        ({"cpu": 1.0}, None, "normal must have columns .* or names node_metric, got 'cpu'"),
        ({"time": 1.0}, None, r"normal must have its times as the index, .*set_index\('time'\)"),
        ({"a_cpu": 1.0, "a-cpu": 1.0}, None, r"normal must have each column once, got \('a'"),
        ({"a_cpu": 1.0}, {"cpu": "heat"}, r"roles\['cpu'\] must be one of \['latency'.* 'heat'"),
        ({"a_cpu": 1.0}, ["cpu"], "roles must be a mapping, got list"),
        ({"a_success_rate": 101.0}, None, "must be finite, from 0 to 100, got 101.0"),
    ],
)
def test_an_unusable_table_or_role_is_refused(columns, roles, said):
    with pytest.raises(ValueError, match=said):
        read(columns, roles=roles)
