"""This package inside RCAEval's evaluation: cases in its form, and its tables where it is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from aiops_lab.datasets.cases import MetricsCase
from benchmarks import _metrics, rcaeval
from shop.catalogue import SCENARIOS

THERE = importlib.util.find_spec("RCAEval") and importlib.util.find_spec("baro")


def test_two_recordings_become_one_table_with_the_second_of_the_injection() -> None:
    normal = pd.DataFrame({"a_b_cpu": [1, 2]}, index=[100, 101])
    abnormal = pd.DataFrame({"a_b_cpu": [9, None]}, index=[5000, 5001])
    case = MetricsCase("n", "g", "a_b", normal, abnormal, None, None)
    data, injected, truth = rcaeval._joined(case)
    assert (injected, truth) == (161, "a-b")
    assert data["time"].tolist() == [100, 101, 161, 162]
    assert data["a-b_cpu"].tolist() == [1, 2, 9, 9]


def test_an_export_is_read_as_rcaeval_reads_it() -> None:
    (case,) = rcaeval.of_exports(["delay"])
    assert case.truth == SCENARIOS["delay"].causes[0][0]
    assert {"time", "payment_latency-50"} <= set(case.data.columns)
    assert (case.data["time"] < case.inject_time).sum() > 60
    assert rcaeval.rank_columns(case.data, case.inject_time)["ranks"][0].startswith("payment_")


def test_a_drawn_order_is_drawn_again() -> None:
    data = pd.DataFrame({"time": [1, 2], "a_cpu": 1, "b_cpu": 2, "c_cpu": 3})
    assert rcaeval.at_random(data, 1) == rcaeval.at_random(data, 1)
    assert sorted(rcaeval.at_random(data, 1)["ranks"]) == ["a_cpu", "b_cpu", "c_cpu"]


@pytest.mark.skipif(bool(THERE), reason="the packages are installed")
def test_without_the_packages_it_says_what_installs_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert rcaeval.main(["--data", str(tmp_path)]) == 2
    assert "make peers installs them" in capsys.readouterr().err


# ---- BARO among the methods of the table


def case_of(normal: dict[str, list[float]], now: dict[str, list[float]]) -> MetricsCase:
    frames = pd.DataFrame(normal), pd.DataFrame(now).set_axis(range(90, 94), axis=0)
    return MetricsCase("n", "g", "a", *frames, None, None)


def test_baro_looks_at_rises_alone_leaves_constants_out_and_takes_memory_in_mb() -> None:
    usual = {"a_cpu": [1.0, 2, 3, 4], "b_cpu": [1.0, 2, 3, 4]}
    fallen = {"a_cpu": [5.0, 6, 7, 8], "b_cpu": [-90.0, -91, -92, -93]}
    assert _metrics.baro(case_of(usual, fallen)).node == "a"
    still = {"b_cpu": [1.0] * 4}
    assert _metrics.baro(case_of(usual | still, fallen | {"b_cpu": [9.0, 90, 91, 92]})).node == "a"
    # more than half of the values are equal: the IQR is 0
    memory = {"b_mem": [1e6, 1e6, 1e6, 1e6, 1e6, 1.1e6]}
    usual = {"a_cpu": [1.0, 2, 3, 4, 5, 6]}
    now = {"a_cpu": [9.0, 20, 30, 40], "b_mem": [2e6, 2e6, 2e6, 3e6]}
    assert _metrics.baro(case_of(usual | memory, now)).node == "a"
