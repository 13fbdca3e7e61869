"""`rank_columns` as a method of RCAEval: a wide table and the second of injection in, ranks out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiops_lab.explain.rcaeval import rank_columns


def case(rows=60, since=40):
    rng = np.random.default_rng(5)
    names = ["cart_cpu", "cart_latency-90", "pay_cpu", "pay_mem", "front-end_cpu"]
    data = pd.DataFrame({name: rng.normal(10, 0.1, rows) for name in names})
    data.loc[since:, ["pay_mem", "pay_cpu"]] *= [4.0, 2.0]
    data.insert(0, "time", np.arange(rows) + 1000.0)
    return data


def test_columns_of_the_cause_come_first_the_most_unusual_ahead():
    ranks = rank_columns(case(), inject_time=1040)["ranks"]
    assert ranks == ["pay_mem", "pay_cpu", "cart_cpu", "cart_latency-90", "front-end_cpu"]


def test_arguments_of_other_methods_are_not_needed_and_those_of_ours_are_used():
    ranks = rank_columns(case(), 1040, dataset="re1-ob", sli=None, anomalies=[1])["ranks"]
    assert ranks[0] == "pay_mem"
    ignored = {"cpu": "ignore", "mem": "ignore"}
    assert rank_columns(case(), 1040, roles=ignored)["ranks"][0] != "pay_mem"


def test_times_may_be_times_or_texts_of_them():
    data = case()
    data["time"] = pd.to_datetime(data["time"], unit="s")
    assert rank_columns(data, pd.Timestamp(1040, unit="s"))["ranks"][0] == "pay_mem"
    data["time"] = data["time"].astype(str)
    assert rank_columns(data, "1040")["ranks"][0] == "pay_mem"


def test_tables_are_taken_in_any_order_with_gaps_and_the_time_twice():
    data = case()
    data.insert(3, "time.1", data["time"])
    data.loc[3, "cart_latency-90"] = np.inf
    data.loc[4, "cart_cpu"] = np.nan
    mixed = pd.concat([data.iloc[::-1], data.iloc[:2]])
    assert rank_columns(mixed, 1040)["ranks"][:2] == ["pay_mem", "pay_cpu"]


@pytest.mark.parametrize(
    ("data", "since", "said"),
    [
        (case().drop(columns="time"), 1040, r"data must be .* column 'time', got \['cart_cpu'"),
        (3, 1040, "data must be a DataFrame with a column 'time', got int"),
        (case(), None, "inject_time must be a time or a number of seconds, got None"),
        (case()[["time"]], 1040, "data must have columns service_metric beside 'time', got none"),
        (case(), "soon", "inject_time must be a time or a number of seconds, got 'soon'"),
        (case(), 999, "inject_time must leave rows before it, got 999"),
        (case(), 2000, "inject_time must leave rows since it, got 2000"),
    ],
)
def test_an_unusable_case_is_refused(data, since, said):
    with pytest.raises(ValueError, match=said):
        rank_columns(data, since)
