"""DeLag: requests with delays, read as cases with spans frames."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab import datasets
from tests.support import public

TREE = [
    {"column": "Latency", "service": "web", "endpoint": "Home", "parent": None, "share": 1.0},
    {"column": "Get", "service": "gateway", "endpoint": "Get", "parent": 0, "share": 0.5},
    {"column": "Get", "service": "gateway", "endpoint": "Get", "parent": 0, "share": 0.5},
    {"column": "Find", "service": "items", "endpoint": "Find", "parent": 1, "share": 1.0},
]
LABELS = {
    "001": {
        "1": [{"service": "items", "endpoint": "Find", "own_ms": 30.0}],
        "2": [{"service": "gateway", "endpoint": "Get", "own_ms": 20.0}],
        "published": True,
    }
}
ROWS = "Latency,Get,Find,anomaly\n100,60,10,0\n140,100,40,1\n50,80,10,0\n"


def made(root: Path, rows: str = ROWS, tree: Any = TREE, labels: Any = LABELS) -> Path:
    root.mkdir()
    (root / "001.csv.gz").write_bytes(gzip.compress(rows.encode()))
    (root / "tree.json").write_text(json.dumps(tree), "utf-8")
    (root / "labels.json").write_text(json.dumps(labels), "utf-8")
    return root


def test_each_delay_is_a_case_and_one_without_requests_is_left_out(tmp_path: Path) -> None:
    loaded = datasets.load("delag", made(tmp_path / "shop"))
    (case,) = loaded
    assert (case.name, case.group) == ("shop/001/1", "shop")
    assert case.truth == (("items", "Find"),)
    assert loaded.left_out == ("shop/001/2",)
    assert loaded.licence.startswith("MIT")


def test_requests_become_spans_ten_a_second_and_the_delayed_ones_follow(tmp_path: Path) -> None:
    (case,) = datasets.load("delag", made(tmp_path / "shop"))
    stream = lab.check(pd.concat([case.normal, case.abnormal]))
    entries = stream[stream["parent_id"].isna()]
    begin = pd.Timestamp("2026-01-01", tz="UTC")
    after_s = (entries["start"] - begin).dt.total_seconds()
    assert after_s.tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert entries["duration_ms"].tolist() == [100, 50, 140]
    assert stream["trace_id"].nunique() == 3
    assert len(stream) == 12
    assert stream["span_id"].is_unique


def test_calls_follow_each_other_or_overlap_where_they_do_not_fit(tmp_path: Path) -> None:
    (case,) = datasets.load("delag", made(tmp_path / "shop"))
    first, second = (trace for _, trace in case.normal.groupby("trace_id"))
    for trace, start_ms in ((first, [0, 0, 0, 30]), (second, [0, 0, 0, 10])):
        after = trace["start"] - trace["start"].min()
        assert sorted(after / pd.Timedelta("1ms")) == start_ms
    by_id = first.set_index("span_id")
    find = by_id[by_id["endpoint"] == "Find"].iloc[0]
    caller = by_id.loc[find["parent_id"]]
    assert caller["endpoint"] == "Get"
    assert (caller["duration_ms"], find["duration_ms"]) == (30, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": "Latency,Get,anomaly\n1,1,0\n"}, "001.csv.gz: lacks the column 'Find'"),
        ({"rows": "Latency,Get,Find\n1,1,0\n"}, "001.csv.gz: lacks the column 'anomaly'"),
        ({"tree": [{"column": "Latency"}]}, "tree.json: must be a list of objects with column"),
        ({"tree": [TREE[3] | {"parent": 0}]}, "tree.json: must name each caller before"),
        ({"tree": []}, "tree.json: must be a list with at least one call"),
        ({"tree": [None]}, "tree.json: must be a list of objects with column"),
        ({"labels": {}}, "labels.json: lacks 001"),
        ({"labels": {"001": None}}, "labels.json: must be an object with an object for each"),
        ({"labels": {"001": {"1": [{"service": "items"}]}}}, "labels.json: 001: must list calls"),
    ],
)
def test_altered_files_are_an_error_with_their_name(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        datasets.load("delag", made(tmp_path / "shop", **changes))


def test_tables_are_read_as_in_the_repository_too_without_gzip(tmp_path: Path) -> None:
    folder = made(tmp_path / "shop")
    packed = folder / "001.csv.gz"
    packed.with_name("001.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    (case,) = datasets.load("delag", folder)
    assert case.name == "shop/001/1"


def test_a_folder_without_recordings_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="git clone https://github.com/SpencerLabAQ"):
        datasets.load("delag", tmp_path)


def test_the_real_delag() -> None:
    case = next(iter(datasets.load("delag", public.real("delag_eshopper"))))
    assert case.normal["duration_ms"].max() > 300
    assert case.truth == (("products", "Findproduct"),)
