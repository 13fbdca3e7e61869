"""Data sets of your own: what a manifest may say, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.datasets import MetricsCase, SpansCase, read_folder
from aiops_lab.known_names import UnknownNameWarning
from tests.support.made import Shop, fault
from tests.support.played import to_spans

BEGIN = Shop(1).run(10)["start"].min().floor("s")


def at(second: float) -> str:
    return (BEGIN + pd.Timedelta(second, "s")).isoformat()


SPANS: dict[str, Any] = {
    "name": "broken",
    "kind": "errors",
    "spans": "spans.csv",
    "normal": [at(0), at(60)],
    "abnormal": [at(60), at(90)],
    "truth": ["shop"],
}
METRICS: dict[str, Any] = {
    "name": "cpu",
    "system": "other",
    "metrics": "metrics.csv",
    "calls": [["front", "cart"]],
    "normal": [1_800_000_000, 1_800_000_010],
    "abnormal": [1_800_000_010, 1_800_000_012.5],
    "truth": ["cart"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    lab.write_spans(Shop(1, fault("/payment", 60, 90, status=500)).run(90), folder / "spans.csv")
    times = range(1_800_000_000, 1_800_000_020)
    table = pd.DataFrame({"time": times, "cart_cpu": range(20), "front_cpu": 1.0})
    table.to_csv(folder / "metrics.csv", index=False)
    return folder


def written(files: Path, *cases: Any, **more: Any) -> Path:
    (files / "manifest.json").write_text(json.dumps({"cases": list(cases), **more}), "utf-8")
    return files


def test_cases_are_cut_by_time_and_no_trace_in_two(files: Path) -> None:
    dataset = read_folder(written(files, SPANS, METRICS, name="mine", licence="MIT"))
    spans, metrics = dataset
    assert dataset[0] is spans
    assert dataset[-1] is metrics
    assert (dataset.name, dataset.licence, dataset.source) == ("mine", "MIT", "not stated")
    assert isinstance(spans, SpansCase)
    assert (spans.group, spans.truth, spans.fault) == ("mine", ("shop",), "errors")
    first = spans.abnormal.groupby("trace_id", observed=True)["start"].min()
    assert first.min() >= BEGIN + pd.Timedelta("60s")
    assert not set(spans.normal["trace_id"]) & set(spans.abnormal["trace_id"])
    assert len(spans.normal) + len(spans.abnormal) == len(lab.read_spans(files / "spans.csv"))
    assert isinstance(metrics, MetricsCase)
    assert (metrics.group, metrics.truth, metrics.calls) == ("other", "cart", [("front", "cart")])
    assert metrics.normal["cart_cpu"].tolist() == list(range(10))
    assert metrics.abnormal["cart_cpu"].tolist() == [10, 11, 12]


def test_spans_may_lie_in_a_store(files: Path, tmp_path: Path) -> None:
    with lab.SpanStore(tmp_path / "my.sqlite") as store:
        for row in to_spans(lab.read_spans(files / "spans.csv")):
            store.add(lab.Span(*row))
    (case,) = read_folder(written(tmp_path, SPANS | {"spans": "my.sqlite"}))
    (same,) = read_folder(written(files, SPANS))
    times = [len(case.normal), case.abnormal["duration_ms"].sum()]
    assert times == [len(same.normal), pytest.approx(same.abnormal["duration_ms"].sum())]


def test_toml_says_the_same_and_several_files_are_one(files: Path, tmp_path: Path) -> None:
    spans = lab.read_spans(files / "spans.csv")
    lab.write_spans(spans.iloc[:100], tmp_path / "a.csv")
    lab.write_spans(spans.iloc[100:], tmp_path / "b.csv")
    text = f"""
        [[cases]]
        name = "broken"
        spans = ["a.csv", "b.csv"]
        normal = [{at(0)}, {at(60)}]
        abnormal = [{at(60)}, "{at(90)}"]
        truth = []
    """
    (tmp_path / "manifest.toml").write_text(text, "utf-8")
    (case,) = read_folder(tmp_path)
    assert (case.group, case.truth) == (tmp_path.name, ())
    assert len(case.normal) + len(case.abnormal) == len(spans)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": None}, r"case 1 must have 'truth', got \["),
        ({"color": "red"}, r"case 1: 'color' must be one of \["),
        ({"metrics": "metrics.csv"}, "case 1 must have 'spans' or 'metrics', and not both"),
        ({"spans": None}, "case 1 must have 'spans' or 'metrics', and not both"),
        ({"normal": "noon"}, r"case 1 \(broken\): normal must be a start and a later end, got"),
        ({"normal": [at(9), at(9)]}, "normal must be a start and a later end, got"),
        ({"normal": [at(9), "noon"]}, r"must be a start and a later end \(it must be a time, got"),
        ({"abnormal": [at(900), at(999)]}, "abnormal must be a time in which traces start, got"),
        ({"truth": "shop"}, "truth must be a list of services, got 'shop'"),
        ({"truth": ["shpo"]}, r"truth must be services that .* \('shpo': perhaps 'shop'\), got"),
        ({"knid": "x"}, r"'knid' must be one of \[.*\], perhaps 'kind'"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_case_key_and_value(
    change: dict[str, Any], message: str, files: Path
) -> None:
    row = {key: value for key, value in (SPANS | change).items() if value is not None}
    with pytest.raises(ValueError, match=message) as caught:
        read_folder(written(files, row))
    assert str(files / "manifest.json") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": ["cart", "front"]}, "truth must be one service where metrics are given, got"),
        ({"calls": ["front"]}, r"calls must be pairs of caller and callee, got \['front'\]"),
        ({"normal": [0, 1]}, "normal must be a time with rows, got"),
        ({"truth": ["crt"]}, r"truth must be services with metrics \('crt': perhaps 'cart'\), got"),
        ({"calls": [["frnt", "crt"]]}, r"calls must be .* with metrics \('cart', 'front'\), got"),
    ],
)
def test_so_are_metrics(change: dict[str, Any], message: str, files: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_folder(written(files, METRICS | change))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("yesterday,1\n", r"m.csv: column 'time' must hold Unix seconds or times \("),
        ("0,1\n0,2\n", "m.csv: column 'time' must have each time once, got 0"),
        ("0,high\n", "m.csv: column 'cart_cpu' must be numbers"),
    ],
)
def test_altered_metrics_are_an_error_with_the_name_of_the_file(
    rows: str, message: str, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text(f"time,cart_cpu\n{rows}", "utf-8")
    row = METRICS | {"metrics": str(tmp_path / "m.csv")}
    with pytest.raises(ValueError, match=message):
        read_folder(written(files, row))


def test_metrics_may_be_by_times_of_iso_8601(files: Path, tmp_path: Path) -> None:
    table = pd.read_csv(files / "metrics.csv")
    table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
    table.to_csv(tmp_path / "m.csv", index=False)
    (case,) = read_folder(written(files, METRICS | {"metrics": str(tmp_path / "m.csv")}))
    assert isinstance(case, MetricsCase)
    assert case.normal["cart_cpu"].tolist() == list(range(10))


def test_a_called_service_without_metrics_is_told_to_the_caller(files: Path) -> None:
    mine = written(files, METRICS | {"calls": [["frnt", "cart"]]})
    with pytest.warns(UnknownNameWarning, match=r"case 1 .* 'frnt' \(perhaps 'front'\)") as told:
        read_folder(mine)
    assert [each.filename for each in told] == [__file__]


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], r"cases must be a list with at least one case, got \[\]"),
        ([3], "case 1 must be an object, got 3"),
        ([SPANS, SPANS], "name must be that of one case only, got 'broken' twice"),
    ],
)
def test_a_manifest_has_cases_each_once(cases: list[Any], message: str, files: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_folder(written(files, *cases))


def test_a_missing_file_or_manifest_is_named(files: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must hold manifest.json or manifest.toml"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none.csv is missing, which .*manifest.json"):
        read_folder(written(files, SPANS | {"spans": "none.csv"}))
    (tmp_path / "manifest.toml").write_text("cases = [", "utf-8")
    with pytest.raises(ValueError, match="not valid TOML"):
        read_folder(tmp_path)
