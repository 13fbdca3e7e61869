"""Misspelt names: what a user is told instead of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab.explain.rcaeval import rank_columns
from aiops_lab.known_names import UnknownNameWarning, warn_of_unknown
from tests.support.made import Shop
from tests.support.played import at

COLUMNS = ("cart_cpu", "cart_latency", "front_latency", "front_requests", "cart_requests")
NORMAL = pd.DataFrame([dict.fromkeys(COLUMNS, 1.0)] * 5)
CALLS = [("front", "cart")]
ALARM = {"node": "front", "metric": "latency", "timestamp": 1.5}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"calls": [("front", "crt")]}, r"calls: .* the node 'crt' \(perhaps 'cart'\)"),
        ({"placed": {"crt": "h", "db": "h"}}, r"placed: .* the node 'crt' \(perhaps 'cart'\)$"),
        ({"roles": {"cart_cpuu": "other", "x": "other"}}, r"roles: .* 'cart_cpuu' \(perhaps"),
        ({"target": ALARM | {"metric": "latncy"}}, r"target: .* 'latncy' \(perhaps 'latency'\)"),
    ],
)
def test_unknown_names_beside_metrics_are_told_to_the_caller(
    arguments: dict[str, Any], told: str
) -> None:
    with pytest.warns(UnknownNameWarning, match=told) as found:
        lab.rank_from_metrics(NORMAL, NORMAL, **arguments)
    assert [each.filename for each in found] == [__file__]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calls": [("x", "y")]}, "calls must name nodes .* 'x'; known are 'cart', 'front'"),
        ({"target": ALARM | {"node": "frnt"}}, "one of .* 2 nodes, got 'frnt'; perhaps 'front'"),
        ({"config": {}}, "config must be a MetricsConfig, got {}"),
        ({"normal": NORMAL.add_prefix("x")}, "normal must measure a node of abnormal, which has"),
        ({"normal": NORMAL.set_axis(NORMAL.index + 1.8e12)}, "normal index must be Unix seconds"),
    ],
)
def test_what_can_mean_nothing_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lab.rank_from_metrics(**{"normal": NORMAL, "abnormal": NORMAL} | arguments)


def test_a_warning_points_to_the_users_line_through_other_functions_too() -> None:
    data = NORMAL.reset_index(names="time")
    with pytest.warns(UnknownNameWarning, match="the node 'crt'") as found:
        rank_columns(data, 2, calls=[("front", "crt")])
    assert [each.filename for each in found] == [__file__]


@pytest.mark.filterwarnings("error")
def test_nodes_of_calls_that_are_not_measured_are_bridged_without_a_warning() -> None:
    calls = [("user", "front"), ("front", "queue"), ("queue", "cart"), ("cart", "carts")]
    lab.rank_from_metrics(NORMAL, NORMAL, calls)


def test_a_mapping_may_serve_more_tables_than_these() -> None:
    hosts = {"cart": "h1", "cart-2": "h2", "db": "h1"}
    lab.rank_from_metrics(NORMAL, NORMAL, placed=hosts, roles={"db_cpu": "ignore"})


def test_a_changed_service_without_spans_is_told() -> None:
    changes = [lab.Change(at(1), "shpo", "deployment 2"), lab.Change(at(1), "shop", "flag")]
    with pytest.warns(UnknownNameWarning, match=r"the service 'shpo' \(perhaps 'shop'\)$") as told:
        lab.replay(Shop(1).run(3), causes=False, changes=changes)
    assert [each.filename for each in told] == [__file__]


def test_many_unknown_names_are_five_and_a_number() -> None:
    with pytest.warns(UnknownNameWarning, match=r"^no 'u0' \(known are 'a'\), .* and 3 more$"):
        warn_of_unknown("no", [f"u{n}" for n in range(8)], ["a"])


def test_a_misspelt_name_of_the_package_is_guessed_by_python() -> None:
    for package in (lab, shop):
        with pytest.raises(AttributeError) as told:
            _ = package.replai
        assert told.value.name == "replai"
        assert told.value.obj is package


def test_other_words_than_there_are_are_refused(tmp_path: Path) -> None:
    frame = Shop(1).run(3)
    faults = pd.DataFrame(columns=["service", "endpoint", "start", "end"])
    with pytest.raises(ValueError, match="knobs of Sensitivity, got 'ratoi'; perhaps 'ratio'"):
        lab.sweep(frame, faults, {"ratoi": [2]})
    with pytest.raises(ValueError, match="faults must be a DataFrame, a row a fault, got "):
        lab.sweep(frame, [1], {})  # type: ignore[arg-type]
    with lab.SpanStore(tmp_path / "s.sqlite") as store, pytest.raises(ValueError, match="actve"):
        lab.Monitor(store).incidents("actve")
    with pytest.raises(ValueError, match="peers must map base URLs to services, such as"):
        lab.Session(print, peers={"payment": "http://localhost:8001"})
