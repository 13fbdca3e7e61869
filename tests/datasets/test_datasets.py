"""The public data sets: what `load` gives, and that no missing, truncated or altered file passes
for a good one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiops_lab import datasets
from aiops_lab.datasets import cases
from aiops_lab.datasets.__main__ import main
from tests.support import public

CLONED = {
    "petshop": "petshop-root-cause-analysis",
    "nezha": "IntelligentDDS/Nezha",
    "nab": "numenta/NAB",
}


@pytest.mark.parametrize("name", CLONED)
def test_without_a_directory_it_says_where_the_data_comes_from(name: str, tmp_path: Path) -> None:
    for directory in (None, tmp_path / "none", tmp_path):
        with pytest.raises(
            FileNotFoundError, match=f"git clone https://github.com/.*{CLONED[name]}"
        ):
            datasets.load(name, directory)


def test_for_nezha_it_also_says_how_to_convert(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m aiops_lab.datasets nezha Nezha nezha"):
        datasets.load("nezha", tmp_path)


def test_an_unknown_name_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of \['aiops', .*'wsd'\], got 'petshp'"):
        datasets.load("petshp", ".")


@pytest.mark.parametrize("name", CLONED)
def test_every_set_tells_its_licence_and_source(name: str, made: dict[str, Path]) -> None:
    loaded = datasets.load(name, made[name])
    assert loaded.licence.startswith(("MIT", "CC-BY-4.0"))
    assert CLONED[name] in loaded.source
    assert len(loaded) == len(list(loaded)) == len({case.name for case in loaded}) > 0
    for case in loaded:
        assert len(case.normal) > 0
        assert len(case.abnormal) > 0
        assert case.group
        assert case.group in case.name


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    """Small data sets of this test's own, in the layouts that `load` reads."""
    main(["nezha", str(public.clone(tmp_path / "clone")), str(tmp_path / "nezha")])
    return {
        "petshop": public.petshop(tmp_path / "petshop"),
        "nab": public.nab(tmp_path / "nab"),
        "nezha": tmp_path / "nezha",
    }


# PetShop


def test_petshop_gives_what_rank_from_metrics_takes(tmp_path: Path) -> None:
    first, second, third, _ = datasets.load("petshop", public.petshop(tmp_path / "p"))
    assert [c.name for c in (first, second, third)] == [
        "low_traffic/train/issue_2",
        "low_traffic/train/issue_10",
        "temporal_traffic1/train/issue_2",
    ]
    site, search, table = public.NODES
    assert first.truth == search
    assert first.calls == [(site, search), (search, table)]
    assert first.target == {
        "node": site,
        "metric": "latency",
        "agg": "Average",
        "timestamp": 1_690_000_000 - 1500 + 400,
    }
    assert first.abnormal[search, "latency", "Average"].tolist() == [0.1, 0.1, 0.6, 0.6, 0.1]
    assert first.abnormal.index.tolist() == [1_690_000_000 - 1500 + 300 * i for i in range(5)]
    assert np.isnan(first.normal[table, "latency", "Average"].iloc[0])
    assert len(first.normal) == 40


def test_a_scenario_without_fault_free_data_borrows_that_of_low_traffic(tmp_path: Path) -> None:
    cases = datasets.load("petshop", public.petshop(tmp_path / "p")).cases
    assert all(case.normal is cases[0].normal for case in cases)


def test_petshop_is_found_in_the_folder_dataset_of_a_clone(tmp_path: Path) -> None:
    public.petshop(tmp_path / "clone/dataset")
    assert len(datasets.load("petshop", tmp_path / "clone")) == 4


def change_csv(path: Path, change) -> None:
    frame = pd.read_csv(path, header=[0, 1, 2], index_col=0)
    change(frame).to_csv(path)


def put(column: int, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        if isinstance(value, str):
            frame = frame.astype(object)
        frame.iloc[1, column] = value
        return frame

    return change


ISSUE = "low_traffic/train/issue_2/metrics.csv"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.iloc[:4], "must have 5 rows, got 4"),
        (lambda f: f.iloc[[0, 2, 1, 3, 4]], "in order"),
        (lambda f: f.iloc[[0, 1, 1, 3, 4]], "in order, each once"),
        (lambda f: f.rename(index={f.index[1]: None}), "Unix seconds"),
        (lambda f: f.rename(index={f.index[1]: "yesterday"}), "Unix seconds"),
        (
            lambda f: f.drop(columns=[("PetSite", "requests", "Sum")]),
            r"lacks the column \('PetSite', 'requests'",
        ),
        (put(0, "fast"), "must be numbers"),
        (put(0, -0.1), ">= 0"),
        (put(0, np.inf), "finite"),
        (put(3, np.nan), "requests must not be missing"),
        (put(4, 101.0), "availability <= 100"),
        (lambda f: f.iloc[:, :0], "three header rows"),
    ],
)
def test_altered_metrics_are_an_error_with_the_files_name(
    change, words: str, tmp_path: Path
) -> None:
    root = public.petshop(tmp_path / "p")
    change_csv(root / ISSUE, change)
    with pytest.raises(ValueError, match=f"issue_2/metrics.csv: .*({words})"):
        datasets.load("petshop", root)


@pytest.mark.parametrize(
    "file", [ISSUE, "low_traffic/noissue/metrics.csv", "low_traffic/graph.csv"]
)
def test_a_truncated_table_is_an_error_with_the_files_name(file: str, tmp_path: Path) -> None:
    root = public.petshop(tmp_path / "p")
    text = (root / file).read_text("utf-8")
    for kept in ("", text[:20], text[: len(text) * 2 // 3], text.replace(",", "\0")):
        (root / file).write_text(kept, "utf-8")
        with pytest.raises(ValueError, match=f"{file}: "):
            datasets.load("petshop", root)
    (root / file).write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(ValueError, match=f"{file}: "):
        datasets.load("petshop", root)


@pytest.mark.parametrize(
    "file",
    [
        ISSUE,
        "low_traffic/noissue/metrics.csv",
        "low_traffic/graph.csv",
        "low_traffic/train/issue_2/target.json",
    ],
)
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    root = public.petshop(tmp_path / "p")
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} is missing"):
        datasets.load("petshop", root)


def test_without_any_fault_free_data_petshop_is_an_error(tmp_path: Path) -> None:
    root = public.petshop(tmp_path / "p")
    shutil.rmtree(root / "low_traffic/noissue")
    with pytest.raises(FileNotFoundError, match="noissue/metrics.csv is missing"):
        datasets.load("petshop", root)


def test_a_scenario_without_issues_is_an_error(tmp_path: Path) -> None:
    root = public.petshop(tmp_path / "p")
    shutil.rmtree(root / "temporal_traffic1/train")
    with pytest.raises(FileNotFoundError, match="temporal_traffic1 holds no issues"):
        datasets.load("petshop", root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.iloc[:2], "same nodes"),
        (lambda g: g.iloc[::-1], "same order"),
        (lambda g: g + 0.5, "0 and 1"),
        (lambda g: g.where(g == 0), "0 and 1"),
    ],
)
def test_an_altered_graph_is_an_error(change, words: str, tmp_path: Path) -> None:
    path = public.petshop(tmp_path / "p") / "low_traffic/graph.csv"
    change(pd.read_csv(path, index_col=0)).to_csv(path)
    with pytest.raises(ValueError, match=f"graph.csv: .*{words}"):
        datasets.load("petshop", tmp_path / "p")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": None}, "must have target"),
        ({"root_cause": {}}, "must have target .* root_cause.node"),
        ({"root_cause": {"node": "Nobody"}}, "'Nobody' is no node of graph.csv"),
        (
            {"target": {"node": "PetSite", "metric": "latency", "agg": "p100", "timestamp": 1}},
            "no column of metrics.csv",
        ),
        (
            {"target": {"node": "PetSite", "metric": "latency", "agg": "p50", "timestamp": 1}},
            "1 lies outside",
        ),
        (
            {"target": {"node": "PetSite", "metric": "latency", "agg": "p50", "timestamp": "noon"}},
            "must have target",
        ),
    ],
)
def test_an_altered_target_is_an_error(change, words: str, tmp_path: Path) -> None:
    path = public.petshop(tmp_path / "p") / "low_traffic/train/issue_2/target.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(ValueError, match=f"target.json: .*{words}"):
        datasets.load("petshop", tmp_path / "p")


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '"text"'])
def test_a_target_that_is_no_object_is_an_error(content: str, tmp_path: Path) -> None:
    path = public.petshop(tmp_path / "p") / "low_traffic/train/issue_2/target.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match="target.json: "):
        datasets.load("petshop", tmp_path / "p")


def test_the_real_petshop() -> None:
    cases = datasets.load("petshop", public.real("petshop")).cases
    train = [case for case in cases if "/train/" in case.name]
    assert len(train) == 20
    assert {case.truth for case in train} == {"PetSearch_AWS::ECS::Fargate"}
    assert {case.group for case in train} == {
        "low_traffic",
        "high_traffic",
        "temporal_traffic1",
        "temporal_traffic2",
    }
    for case in train:
        assert len(case.abnormal) == 5
        assert len(case.normal) == 589
        assert case.truth in {callee for _, callee in case.calls}


# NAB


def test_nab_gives_values_and_the_rows_of_their_anomalies(tmp_path: Path) -> None:
    back, case = datasets.load("nab", public.nab(tmp_path / "n"))
    assert (case.name, case.group) == ("realX/a.csv", "realX")
    assert case.windows == case.truth == ((40, 49), (70, 70))
    assert case.values.dtype == np.float64
    assert case.values.tolist() == list(range(100))
    assert case.normal.tolist() == list(range(15))
    assert case.abnormal.tolist() == list(range(15, 100))
    assert case.times[40] == pd.Timestamp("2014-04-02 16:00")
    assert back.windows == ()
    assert back.times[50] < back.times[49]


@pytest.mark.parametrize(
    ("rows", "first"), [(0, 0), (6, 0), (7, 1), (4032, 604), (5000, 750), (22695, 750)]
)
def test_the_first_15_percent_but_no_more_than_750_rows_are_not_scored(
    rows: int, first: int
) -> None:
    assert cases.unscored(rows) == first


@pytest.mark.parametrize(
    ("row", "line", "words"),
    [
        (30, "2014-04-02 06:00:00", "row 30 has no time or no finite value"),
        (30, "2014-04-02 06:00:00,nan", "row 30 has no"),
        (30, "2014-04-02 06:00:00,inf", "row 30 has no"),
        (30, ",30", "row 30 has no"),
        (30, "2014-04-02 06:00:00,thirty", "times and numbers"),
        (30, "noon,30", "times and numbers"),
        (30, "2014-03-02 06:00:00,30", "row 30 is out of order"),
        (30, "2014-04-02 06:00:00,30,1", "not a readable CSV"),
        (-1, "time,value", "lacks the column 'timestamp'"),
    ],
)
def test_an_altered_series_is_an_error_with_the_files_name(
    row: int, line: str, words: str, tmp_path: Path
) -> None:
    path = public.nab(tmp_path / "n") / "data/realX/a.csv"
    lines = path.read_text("utf-8").splitlines()
    lines[row + 1] = line
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=f"a.csv: .*{words}"):
        datasets.load("nab", tmp_path / "n")


def test_a_series_with_a_field_too_many_in_every_row_is_an_error(tmp_path: Path) -> None:
    path = public.nab(tmp_path / "n") / "data/realX/a.csv"
    header, *rows = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([header, *(f"{row},1" for row in rows)]), "utf-8")
    with pytest.raises(ValueError, match=r"a\.csv: .*more fields than the header"):
        datasets.load("nab", tmp_path / "n")


def test_a_series_without_rows_is_an_error(tmp_path: Path) -> None:
    path = public.nab(tmp_path / "n") / "data/artificialY/b.csv"
    path.write_text("timestamp,value\n", "utf-8")
    with pytest.raises(ValueError, match=r"b\.csv: has no rows"):
        datasets.load("nab", tmp_path / "n")


def test_a_series_cut_off_within_a_window_is_an_error(tmp_path: Path) -> None:
    path = public.nab(tmp_path / "n") / "data/realX/a.csv"
    path.write_text("\n".join(path.read_text("utf-8").splitlines()[:46]), "utf-8")
    with pytest.raises(
        ValueError, match=r"windows.json: realX/a.csv: no rows for the whole window 2014-04-02 16"
    ):
        datasets.load("nab", tmp_path / "n")


def test_a_label_of_an_absent_file_is_an_error(tmp_path: Path) -> None:
    root = public.nab(tmp_path / "n")
    (root / "data/realX/a.csv").unlink()
    with pytest.raises(ValueError, match="labels realX/a.csv, which is not in data/"):
        datasets.load("nab", root)


def test_files_of_a_category_that_is_not_there_are_left_out_by_name(tmp_path: Path) -> None:
    root = public.nab(tmp_path / "n")
    (root / "data/realX/a.csv").unlink()
    (root / "data/realX").rmdir()
    loaded = datasets.load("nab", root)
    assert [case.name for case in loaded] == ["artificialY/b.csv"]
    assert loaded.left_out == ("realX/a.csv",)


def test_a_file_without_a_label_is_an_error(tmp_path: Path) -> None:
    root = public.nab(tmp_path / "n")
    shutil.copy(root / "data/realX/a.csv", root / "data/realX/c.csv")
    with pytest.raises(ValueError, match="lacks data/realX/c.csv"):
        datasets.load("nab", root)


@pytest.mark.parametrize(
    "windows",
    [
        "x",
        [["2014-04-02 16:00:00"]],
        [["noon", "night"]],
        5,
        None,
        [["2014-04-03 02:00:00", "2014-04-02 16:00:00"]],
        [
            ["2014-04-02 16:00:00", "2014-04-02 20:00:00"],
            ["2014-04-02 20:00:00", "2014-04-02 21:00:00"],
        ],
        [["2019-04-02 16:00:00", "2019-04-03 16:00:00"]],
        [[None, None]],
    ],
)
def test_altered_windows_are_an_error(windows, tmp_path: Path) -> None:
    path = public.nab(tmp_path / "n") / "labels/combined_windows.json"
    path.write_text(
        json.dumps(json.loads(path.read_text("utf-8")) | {"realX/a.csv": windows}), "utf-8"
    )
    with pytest.raises(ValueError, match=r"combined_windows.json: realX/a.csv: "):
        datasets.load("nab", tmp_path / "n")


def test_missing_or_broken_labels_are_an_error(tmp_path: Path) -> None:
    path = public.nab(tmp_path / "n") / "labels/combined_windows.json"
    path.write_text("[]", "utf-8")
    with pytest.raises(ValueError, match="combined_windows.json: must be an object"):
        datasets.load("nab", tmp_path / "n")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="combined_windows.json is missing; .*git clone"):
        datasets.load("nab", tmp_path / "n")


def test_the_real_nab() -> None:
    cases = {case.name: case for case in datasets.load("nab", public.real("nab"))}
    assert sum(len(case.values) for case in cases.values()) >= 65_000  # type: ignore[misc]
    case = cases["realTraffic/speed_7578.csv"]
    assert len(case.values) == 1127
    assert [case.times[first] for first, _ in case.windows] == [
        pd.Timestamp(first)
        for first, _ in json.loads(
            (public.real("nab") / "labels/combined_windows.json").read_text("utf-8")
        )[case.name]
    ]
    assert [last - first + 1 for first, last in case.windows] == [29, 29, 29, 29]
