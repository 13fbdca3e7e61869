"""Cloud-OpsBench and RCD's sock shop: faults told by metrics as tools write them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from aiops_lab import datasets
from aiops_lab.datasets.cases import MetricsCase
from tests.support import public

BEGIN = pd.Timestamp("2026-03-16 14:20:00")


def cloudopsbench(root: Path, name: str = "shop-performance-1", cause: str = "app/cart") -> Path:
    """A case of twelve rows, five seconds each; the alerts last from row 6 to row 9."""
    folder = root / name
    folder.mkdir(parents=True)
    times = BEGIN + pd.to_timedelta(range(0, 60, 5), unit="s")
    metrics = {"time": times, "cart-rps": 3.0, "cart-p90latency": range(12), "db-cpu": 0.1}
    pd.DataFrame(metrics).to_csv(folder / "metrics.csv.gz", index=False, encoding="utf-8-sig")
    span = "2026-03-16 14:20:30 ~ 2026-03-16 14:20:45"
    slow = {"name": "cart", "time_range": span, "evidence": ["LATENCY_DEGRADATION [Slow] | x"]}
    busy = {"name": "db", "time_range": span, "evidence": ["CPU [High] | y"]}
    alerts = {"alerts": [slow, busy]}
    result = {"result": {"fault_object": cause, "root_cause": "pod_network_delay"}}
    for file, told in (("alert", alerts), ("metadata", result), ("calls", [["cart", "db"]])):
        (folder / f"{file}.json").write_text(json.dumps(told), "utf-8")
    return root


def rcd(root: Path) -> Path:
    folder = root / "front-end-cpu-2"
    folder.mkdir(parents=True)
    for name, start in (("normal", 0), ("anomalous", 900)):
        frame = pd.DataFrame({"time": range(start, start + 5), "front-end_cpu": 1.0})
        frame.to_csv(folder / f"{name}.csv.gz", index=False)
    return root


def only_case(name: str, root: Path) -> MetricsCase:
    (case,) = datasets.load(name, root)
    assert isinstance(case, MetricsCase)
    return case


def test_cloudopsbench_is_cut_at_the_alerts(tmp_path: Path) -> None:
    case = only_case("cloudopsbench", cloudopsbench(tmp_path))
    assert (case.name, case.group, case.truth) == ("shop-performance-1", "shop", "cart")
    assert case.fault == "pod_network_delay"
    assert case.normal["cart-p90latency"].tolist() == [0, 1, 2, 3, 4, 5]
    assert case.abnormal["cart-p90latency"].tolist() == [6, 7, 8, 9]
    assert case.abnormal.index[0] == pd.Timestamp("2026-03-16 14:20:30")
    assert case.calls == [("cart", "db")]
    assert case.alerts == {"cart": ("LATENCY_DEGRADATION",), "db": ("CPU",)}
    assert case.target is None


def test_a_fault_of_a_host_is_a_group_of_its_own(tmp_path: Path) -> None:
    case = only_case("cloudopsbench", cloudopsbench(tmp_path, cause="node/worker-02"))
    assert (case.group, case.truth) == ("node", "worker-02")


def test_a_case_without_metrics_is_left_out_by_name(tmp_path: Path) -> None:
    root = cloudopsbench(cloudopsbench(tmp_path), "shop-startup-3")
    (root / "shop-startup-3/metrics.csv.gz").unlink()
    assert datasets.load("cloudopsbench", root).left_out == ("shop-startup-3",)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("metadata.json", "{}", "must have result.fault_object and root_cause"),
        ("metadata.json", "[", "not valid JSON"),
        ("alert.json", '{"alerts": []}', "must have at least one alert"),
        ("alert.json", '{"alerts": [{"name": "cart"}]}', "each with a name, time_range"),
        ("calls.json", '[["a"]]', "must be a list of pairs"),
        ("calls.json", "3", "must be a list of pairs"),
        ("calls.json", "{}", "must be a list of pairs"),
    ],
)
def test_an_altered_file_of_cloudopsbench_is_an_error_with_its_name(
    file: str, text: str, words: str, tmp_path: Path
) -> None:
    root = cloudopsbench(tmp_path)
    (root / "shop-performance-1" / file).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"{file}: .*{words}"):
        datasets.load("cloudopsbench", root)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([0, 2, 1, 6], "must be in order, each once"),
        ([0, 0, 6], "must be in order, each once"),
        ([7, 8], "must have rows before the alerts"),
        ([0, 1], "must have rows during the alerts"),
    ],
)
def test_altered_metrics_of_cloudopsbench_are_an_error(
    rows: list[int], words: str, tmp_path: Path
) -> None:
    path = cloudopsbench(tmp_path) / "shop-performance-1/metrics.csv.gz"
    pd.read_csv(path).iloc[rows].to_csv(path, index=False)
    with pytest.raises(ValueError, match=rf"metrics.csv.gz: .*{words}"):
        datasets.load("cloudopsbench", tmp_path)


def test_rcd_tells_service_and_fault_by_the_folder(tmp_path: Path) -> None:
    case = only_case("rcd", rcd(tmp_path))
    assert (case.name, case.truth, case.fault) == ("sockshop/front-end-cpu-2", "front-end", "cpu")
    assert case.normal.index.tolist() == [0, 1, 2, 3, 4]
    assert case.abnormal.index.tolist() == [900, 901, 902, 903, 904]
    assert list(case.abnormal) == ["front-end_cpu"]
    assert case.calls is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.iloc[:0], "has no rows"),
        (lambda f: f.iloc[::-1], "in order"),
        (lambda f: f.rename(columns={"time": "at"}), "lacks the column 'time'"),
        (lambda f: f.assign(**{"front-end_cpu": "high"}), "must be numbers"),
    ],
)
def test_an_altered_file_of_rcd_is_an_error_with_its_name(
    change, words: str, tmp_path: Path
) -> None:
    path = rcd(tmp_path) / "front-end-cpu-2/anomalous.csv.gz"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"anomalous.csv.gz: .*{words}"):
        datasets.load("rcd", tmp_path)


@pytest.mark.parametrize("change", [lambda raw: raw[: len(raw) // 2], lambda _: b"null"])
def test_a_truncated_or_replaced_gzip_file_is_an_error_with_its_name(
    change, tmp_path: Path
) -> None:
    path = rcd(tmp_path) / "front-end-cpu-2/anomalous.csv.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"anomalous.csv.gz: not a readable CSV"):
        datasets.load("rcd", tmp_path)


def test_metrics_without_their_truth_are_an_error_not_left_out(tmp_path: Path) -> None:
    root = cloudopsbench(tmp_path)
    (root / "shop-performance-1/metadata.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"metadata.json is missing"):
        datasets.load("cloudopsbench", root)


@pytest.mark.parametrize("name", ["cloudopsbench", "rcd"])
def test_without_a_directory_the_error_says_where_the_data_comes_from(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="git clone https://github.com/"):
        datasets.load(name)


def test_the_real_sets_are_read_whole() -> None:
    cases = datasets.load("cloudopsbench", public.real("cloudopsbench"))
    assert {case.group for case in cases} == {"boutique", "trainticket", "node"}
    assert len(datasets.load("rcd", public.real("rcd_sockshop"))) >= 25
