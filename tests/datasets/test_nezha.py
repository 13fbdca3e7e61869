"""Nezha's data: from a clone to the compact layout, from there to spans frames, and what is wrong
with a file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiops_lab as lab
from aiops_lab import datasets
from aiops_lab.datasets import nezha, nezha_clone
from aiops_lab.datasets.__main__ import main
from tests.support import naive, public

DAY = "TrainTicket_2023-01-29"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted clone, which no test changes."""
    root = tmp_path_factory.mktemp("nezha")
    assert main(["nezha", str(public.clone(root / "clone")), str(root / "out")]) == 0
    return root / "out"


@pytest.fixture
def made(converted: Path, tmp_path: Path) -> Path:
    """A converted clone of a test's own."""
    return shutil.copytree(converted, tmp_path / "out")


def table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(root / DAY / f"{name}.parquet")


# The conversion


def test_each_trace_goes_where_it_starts(made: Path) -> None:
    spans = table(made, "spans")
    begin = (spans["start_ns"] - public.DAY_NS) // public.SECOND
    first = spans.assign(begin=begin).groupby("trace_id").first()
    assert [(row.begin, row.window, row.abnormal) for row in first.itertuples()] == [
        # usual; the one 131 s before the fault is left out, and the one 5 s before it
        (3500, 0, False),
        (3600, 0, True),  # during
        (3601, -1, False),  # apart: a trace of construct_data is fault-free
        (3779, 0, True),  # end; the one after the fault is left out
        (3925, 1, False),  # next
        (4001, 1, True),  # second
    ]


def test_spans_are_numbered_in_order_and_stand_once(made: Path) -> None:
    spans = table(made, "spans")
    assert spans["span_id"].tolist() == list(range(17))
    assert spans["trace_id"].tolist() == [t for t in range(5) for _ in range(3)] + [5, 5]
    assert spans["parent_id"].tolist()[:6] == [-1, 0, 1, -1, 3, 4]
    assert spans["service"].tolist()[:3] == [
        "ts-front-service",
        "ts-front-service",
        "ts-back-service",
    ]
    assert spans["duration_us"].tolist()[:3] == [100_000, 80_000, 60_000]
    dtypes = {
        "trace_id": "int32",
        "span_id": "int32",
        "parent_id": "int32",
        "start_ns": "int64",
        "duration_us": "int32",
    }
    assert {column: str(spans[column].dtype) for column in dtypes} == dtypes


def test_a_parent_that_was_not_stored_is_minus_one(tmp_path: Path) -> None:
    root = public.clone(tmp_path / "clone")
    for path in root.glob("*/*/trace/*.csv"):
        frame = pd.read_csv(path)
        frame[(frame["TraceID"] != "usual") | (frame["SpanID"] != "b")].to_csv(path, index=False)
    nezha_clone.convert(root, tmp_path / "out")
    assert table(tmp_path / "out", "spans")["parent_id"].tolist()[:2] == [-1, -1]


def test_spans_with_damaged_times_are_left_out(tmp_path: Path) -> None:
    root = public.clone(tmp_path / "clone")
    for path in root.glob("*/*/trace/*.csv"):
        frame = pd.read_csv(path)
        frame.loc[(frame["TraceID"] == "usual") & (frame["SpanID"] == "c"), "StartTimeUnixNano"] = (
            public.YEAR_1754
        )
        frame.loc[(frame["TraceID"] == "during") & (frame["SpanID"] == "c"), "Duration"] = -1
        frame.to_csv(path, index=False)
    nezha_clone.convert(root, tmp_path / "out")
    spans = table(tmp_path / "out", "spans")
    assert spans.groupby("trace_id").size().tolist() == [2, 2, 3, 3, 3, 2]
    assert spans["start_ns"].min() == public.DAY_NS + 3500 * public.SECOND


def test_faults_are_in_order_of_time_with_their_traces(made: Path) -> None:
    first, second = json.loads((made / DAY / "faults.json").read_text("utf-8"))
    assert first == {
        "id": 0,
        "inject_time": "2023-01-29 01:00:00Z",
        "t0_ns": public.DAY_NS + 3600 * public.SECOND,
        "t1_ns": public.DAY_NS + 3780 * public.SECOND,
        "service": "ts-front-service",
        "fault_type": "return",
        "abnormal_traces": 2,
    }
    assert (second["id"], second["service"], second["abnormal_traces"]) == (1, "ts-back-service", 1)


def test_log_lines_belong_to_spans_and_name_their_place(made: Path) -> None:
    logs = table(made, "logs")
    assert len(logs) == 5 * 3  # the second request wrote none
    damaged = logs.iloc[0]
    assert (damaged["time_ns"], damaged["span_id"], damaged["location"]) == (
        public.YEAR_1754,
        5,
        "?",
    )
    lines = logs[logs["span_id"] == 2]
    # Back2 has a digit in it
    assert lines["location"].tolist() == ["b.c.BackController#48", "?", "?"]
    assert lines["level"].tolist() == ["INFO", "WARN", "ERROR"]
    ms = (lines["time_ns"] - public.DAY_NS - 3500 * public.SECOND) // 1_000_000
    assert ms.tolist() == [50, 60, 500]


def test_resources_are_the_pods_metrics(made: Path) -> None:
    resources = table(made, "resources")
    assert resources.index.tolist()[:2] == [pd.Timestamp("2023-01-29", tz="UTC")] * 2
    assert resources["service"].tolist() == ["ts-back-service", "ts-front-service"] * 3
    assert resources.iloc[0, 1:].tolist() == [1, 3, 4, 5, 6, 7, 8, 9]
    assert resources.columns.tolist() == [*nezha.RESOURCES]


def test_without_places_in_the_code_there_is_no_file_of_logs(tmp_path: Path) -> None:
    root = public.clone(tmp_path / "clone")
    for path in root.glob("*/*/log/*.csv"):
        path.write_text(path.read_text("utf-8").replace("BackController", "2"), "utf-8")
    nezha_clone.convert(root, tmp_path / "out")
    assert not (tmp_path / "out" / DAY / "logs.parquet").exists()


def test_a_shop_without_services_named_ts_is_online_boutique(tmp_path: Path) -> None:
    root = public.clone(tmp_path / "clone")
    for path in root.glob("*_data/*/*/*.csv"):
        path.write_text(
            path.read_text("utf-8").replace("ts-", "").replace("BackController", "2"), "utf-8"
        )
    path = root / "rca_data/2023-01-29/2023-01-29-fault_list.json"
    path.write_text(path.read_text("utf-8").replace("ts-", ""), "utf-8")
    nezha_clone.convert(root, tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "OnlineBoutique_2023-01-29"
    assert len(datasets.load("nezha", tmp_path / "out", logs=True)) == 2  # it has no logs to add


def test_an_empty_folder_is_filled_and_a_full_one_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root, out = public.clone(tmp_path / "clone"), tmp_path / "new/out"
    out.mkdir(parents=True)
    assert main(["nezha", str(root), str(out)]) == 0
    before = sorted(p.name for p in out.rglob("*"))
    assert main(["nezha", str(root), str(out)]) == 1
    assert f"error: {out} must not exist, or be an empty folder" in capsys.readouterr().err
    assert sorted(p.name for p in out.rglob("*")) == before
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_what_is_no_clone_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["nezha", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "is no clone of Nezha's repository" in capsys.readouterr().err


TRACE, LOG = "rca_data/2023-01-29/trace/00_59_trace.csv", "rca_data/2023-01-29/log/00_59_log.csv"
POD = "rca_data/2023-01-29/metric/ts-back-service-3c-4d_metric.csv"
LIST = "rca_data/2023-01-29/2023-01-29-fault_list.json"


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (TRACE, "SpanID", "Span", "lacks the column 'SpanID'"),
        (TRACE, ",100000\n", ",quick\n", "'Duration' must be whole numbers"),
        (TRACE, ",100000\n", "\n", "'Duration' must be whole numbers"),
        (TRACE, ",GET,", ",,", "column 'OperationName' must be text without gaps"),
        (TRACE, "000\n", "000,1\n", "more fields than the header"),
        (LOG, "TimeUnixNano", "Time", "lacks the column 'TimeUnixNano'"),
        (LOG, ",1674", ",x1674", "'TimeUnixNano' must be whole numbers"),
        (POD, "CpuUsageRate(%)", "Cpu", "lacks the column"),
        (POD, ",1.0,", ",much,", "'CpuUsageRate.%.' must be numbers"),
        (POD, "1674950400", "now", "'TimeStamp' must be whole numbers"),
        (LIST, "inject_pod", "pod", "inject_pod"),
        (LIST, "2023-01-29 01", "noon", "inject_time"),
        (LIST, "{", "[", "not valid JSON"),
        (LIST, '"00"', "", "not valid JSON"),
    ],
)
def test_an_altered_file_of_a_clone_is_named_and_nothing_is_written(
    file: str, old: str, new: str, words: str, tmp_path: Path
) -> None:
    root = public.clone(tmp_path / "clone")
    text = (root / file).read_text("utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=f"{Path(file).name}: .*({words})"):
        nezha_clone.convert(root, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["clone"]


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (LIST, "fault_list.json is missing"),
        ("rca_data/2023-01-29/metric", "_metric.csv is missing"),
        ("*_data/2023-01-29/trace", "_trace.csv is missing"),
    ],
)
def test_a_missing_file_of_a_clone_is_named(gone: str, words: str, tmp_path: Path) -> None:
    root = public.clone(tmp_path / "clone")
    for path in root.glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=words):
        nezha_clone.convert(root, tmp_path / "out")


# The spans frames


def test_a_fault_gives_its_spans_and_the_days_fault_free_ones(made: Path) -> None:
    first, second = datasets.load("nezha", made)
    assert (first.name, first.group, first.truth, first.fault_type) == (
        f"{DAY}/0",
        DAY,
        "ts-front-service",
        "return",
    )
    assert first.normal is second.normal
    assert first.abnormal is first.abnormal
    assert first.resources is second.resources
    assert (len(first.normal), len(first.abnormal), len(second.abnormal)) == (9, 6, 2)
    for frame in (first.normal, first.abnormal, second.abnormal):
        assert lab.check(frame) is frame
    request = first.abnormal.iloc[:3]
    assert request["span_id"].tolist() == [f"{i:016x}" for i in (3, 4, 5)]
    assert request["trace_id"].tolist() == [f"{1:032x}"] * 3
    assert request["parent_id"].tolist() == [None, f"{3:016x}", f"{4:016x}"]
    assert request["kind"].tolist() == ["server", "client", "server"]
    assert request["peer"].tolist() == [None, "ts-back-service", None]
    assert request["duration_ms"].tolist() == [100, 80, 60]
    assert request["start"][0] == pd.Timestamp("2023-01-29 01:00", tz="UTC")


def test_a_call_that_never_arrived_has_the_only_peer_of_its_operation(made: Path) -> None:
    _, second = datasets.load("nezha", made)
    assert second.abnormal["peer"].tolist() == [None, "ts-back-service"]


def test_log_lines_are_spans_within_the_span_that_wrote_them(made: Path) -> None:
    first, second = datasets.load("nezha", made, logs=True)
    assert lab.check(first.abnormal)["kind"].value_counts().to_dict() == {
        "server": 4,
        "client": 2,
        "log": 6,
    }
    lines = first.abnormal[first.abnormal["parent_id"] == f"{5:016x}"]
    assert sorted(lines["endpoint"]) == ["?", "?", "b.c.BackController#48"]
    since = (lines["start"] - first.abnormal["start"][0]).dt.total_seconds() * 1000
    assert since.tolist() == [20, 50, 60]  # the damaged time is clipped to the begin of the span
    assert lines["duration_ms"].tolist() == [0, 0, 0]
    assert second.abnormal["kind"].tolist() == ["server", "client"]
    assert first.abnormal["span_id"].is_unique
    assert set(first.abnormal["span_id"]).isdisjoint(first.normal["span_id"])


def test_resources_come_as_text_and_float64(made: Path) -> None:
    resources = datasets.load("nezha", made).cases[0].resources
    assert str(resources["service"].dtype) == "str"
    assert set(map(str, resources.dtypes[1:])) == {"float64"}
    assert str(resources.index.tz) == "UTC"


@st.composite
def days(draw: st.DrawFn):
    """A table of spans with calls inside and across services, in any order, and log lines."""
    number = draw(st.integers(1, 25))
    names, operations = st.sampled_from("abc"), st.sampled_from(["x", "y"])
    ids = draw(st.permutations(range(0, 2 * number, 2)))
    spans: list[dict] = []
    for i in range(number):
        parent = draw(st.sampled_from(spans)) if spans and draw(st.booleans()) else None
        spans.append(
            {
                "trace_id": parent["trace_id"] if parent else i,
                "span_id": ids[i],
                "parent_id": parent["span_id"] if parent else -1,
                "service": draw(names),
                "operation": draw(operations),
                "start_ns": public.DAY_NS + draw(st.integers(0, 9)) * 1000,
                "duration_us": draw(st.integers(0, 5)),
                "window": parent["window"] if parent else draw(st.integers(0, 1)),
                "abnormal": parent["abnormal"] if parent else draw(st.booleans()),
            }
        )
    wrote = st.fixed_dictionaries(
        {
            "span_id": st.sampled_from(ids),
            "location": st.sampled_from(["?", "l"]),
            "time_ns": st.integers(-5, 20_000),
        }
    )
    return draw(st.permutations(spans)), draw(st.lists(wrote, max_size=5))


@settings(max_examples=50, deadline=None)
@given(days())
def test_the_frame_is_that_of_the_slow_reading(day) -> None:
    spans, logs = day
    frame, row = nezha.spans_frame(pd.DataFrame(spans), pd.DataFrame(logs) if logs else None)
    same_as_slow(
        frame,
        [spans[i]["window"] if spans[i]["abnormal"] else -1 for i in row],
        naive.nezha_rows(spans, logs),
    )


def same_as_slow(frame: pd.DataFrame, fault, slow: list[dict]) -> None:
    lab.check(frame)
    got = frame.assign(start=frame["start"].astype("int64"), fault=fault).astype(object)
    assert got.where(got.notna(), None).to_dict("records") == slow


# Files that are not what they should be


def damage(root: Path, name: str, change) -> None:
    path = root / DAY / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def put(column: str, value, row: int = 0):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object).tolist()
        values[row] = value
        return frame.assign(**{column: values})

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("spans", lambda f: f.drop(columns="operation"), "lacks the column 'operation'"),
        ("spans", lambda f: f.iloc[:0], "has no rows"),
        ("spans", lambda f: f.iloc[:-2], "has 0 traces of fault 1, faults.json tells 1"),
        ("spans", lambda f: f[f["abnormal"]], "no fault-free spans"),
        ("spans", lambda f: f.drop(index=1), "parent_id 1 is no span_id"),
        ("spans", put("span_id", 5), "unique"),
        ("spans", put("parent_id", 4), "same trace"),
        ("spans", put("parent_id", 0), "another span"),
        ("spans", put("duration_us", -5), "duration_us must be >= 0, got -5"),
        (
            "spans",
            put("duration_us", 1.5),
            "'duration_us' must be whole numbers without gaps, got float64",
        ),
        ("spans", put("duration_us", None), "'duration_us' must be whole numbers"),
        ("spans", put("service", None), "'service' must be text without gaps"),
        ("spans", lambda f: f.assign(abnormal="no"), "'abnormal' must be true or false"),
        ("spans", put("window", 1), "the same for all spans of a trace"),
        ("spans", put("abnormal", True), "the same for all spans of a trace"),
        (
            "spans",
            lambda f: f.assign(window=f["window"].where(f["trace_id"] != 5, 7)),
            "window 7 is no fault",
        ),
        (
            "spans",
            lambda f: f.assign(window=f["window"].where(f["trace_id"] != 5, -1)),
            "window -1 is no fault",
        ),
        ("spans", lambda f: f.assign(start_ns=f["start_ns"] - 10**12), "outside of its fault"),
        ("resources", lambda f: f.reset_index(), "index must be times"),
        ("resources", lambda f: f.tz_localize(None), "index must be times"),
        ("resources", lambda f: f.drop(columns="reads"), "lacks the column 'reads'"),
        ("resources", lambda f: f.assign(cpu_percent="much"), "'cpu_percent' must be numbers"),
        ("logs", put("span_id", 99), "span_id that is not in spans.parquet"),
        ("logs", lambda f: f.drop(columns="time_ns"), "lacks the column 'time_ns'"),
    ],
)
def test_an_altered_table_is_an_error_with_the_files_name(
    name: str, change, words: str, made: Path
) -> None:
    damage(made, name, change)
    with pytest.raises(ValueError, match=f"{name}.parquet: .*{words}"):
        datasets.load("nezha", made, logs=True)


@pytest.mark.parametrize("name", ["spans", "resources", "logs"])
def test_a_truncated_table_is_an_error_with_the_files_name(name: str, made: Path) -> None:
    path = made / DAY / f"{name}.parquet"
    whole = path.read_bytes()
    for part in (
        b"",
        whole[:10],
        whole[: len(whole) // 2],
        whole[:-1],
        b"version https://git-lfs.github.com/spec/v1",
    ):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=f"{name}.parquet: not a readable Parquet file"):
            datasets.load("nezha", made, logs=True)


@pytest.mark.parametrize(
    "file", ["spans.parquet", "resources.parquet", "logs.parquet", "faults.json"]
)
def test_a_missing_table_is_named(file: str, made: Path) -> None:
    (made / DAY / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} is missing"):
        datasets.load("nezha", made, logs=True)


def test_logs_are_read_only_when_they_are_asked_for(made: Path) -> None:
    (made / DAY / "logs.parquet").unlink()
    assert len(datasets.load("nezha", made)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": "nobody"}, "names the service 'nobody'"),
        ({"service": None}, "'service' must be text without gaps"),
        ({"t1_ns": 0}, "must end after it begins"),
        ({"id": 1}, "an id stands twice"),
        ({"id": "0"}, "'id' must be whole numbers"),
        ({"abnormal_traces": True}, "'abnormal_traces' must be whole numbers"),
    ],
)
def test_altered_faults_are_an_error(change: dict, words: str, made: Path) -> None:
    path = made / DAY / "faults.json"
    first, second = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps([first | change, second]), "utf-8")
    with pytest.raises(ValueError, match=f"faults.json: .*{words}"):
        datasets.load("nezha", made)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", "null"])
def test_faults_that_are_no_list_of_faults_are_an_error(content: str, made: Path) -> None:
    (made / DAY / "faults.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"faults.json: "):
        datasets.load("nezha", made)


def test_a_fault_without_traces_is_left_out_and_told(made: Path) -> None:
    path = made / DAY / "faults.json"
    first, second = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps([first, second, second | {"id": 2, "abnormal_traces": 0}]), "utf-8")
    loaded = datasets.load("nezha", made)
    assert len(loaded) == 2
    assert loaded.left_out == (f"{DAY}/2",)


def test_without_pyarrow_the_error_says_what_to_install(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[fast\]"'):
        datasets.load("nezha", made)


# The real data


@pytest.fixture(scope="module")
def real_days() -> datasets.Dataset:
    """Both days of the real data, with the log lines of the one that has some."""
    return datasets.load("nezha", public.real("nezha"), logs=True)


PART = 20  # one in so many fault-free traces


def test_the_real_frames_are_those_of_the_slow_reading(real_days: datasets.Dataset) -> None:
    folder = public.real("nezha")
    cases = [case for case in real_days if case.group == DAY]
    assert len(cases) == 28
    columns = [
        "trace_id",
        "span_id",
        "parent_id",
        "service",
        "operation",
        "start_ns",
        "duration_us",
        "window",
        "abnormal",
    ]
    spans = pd.read_parquet(folder / DAY / "spans.parquet")[columns]
    logs = pd.read_parquet(folder / DAY / "logs.parquet")[["span_id", "location", "time_ns"]]
    normal = cases[0].normal
    parts = {f"{trace:032x}" for trace in spans["trace_id"].unique() if trace % PART == 0}
    part = normal[normal["trace_id"].isin(parts)].reset_index(drop=True)
    assert len(part) > 5000
    frames = {-1: part, 3: cases[3].abnormal, 24: cases[24].abnormal}
    slow = naive.nezha_rows(
        spans.astype({"service": "str", "operation": "str"}).to_dict("records"),
        logs.to_dict("records"),
        lambda row: row["window"] in frames if row["abnormal"] else row["trace_id"] % PART == 0,
    )
    for fault, frame in frames.items():
        same_as_slow(frame, fault, [row for row in slow if row["fault"] == fault])


def test_the_real_online_boutique(real_days: datasets.Dataset) -> None:
    cases = [case for case in real_days if case.group == "OnlineBoutique_2022-08-22"]
    assert len(cases) == 20
    assert [name for name in real_days.left_out if "2022-08-22" in name] == [
        f"OnlineBoutique_2022-08-22/{fault}" for fault in (7, 8, 12, 15)
    ]
    abnormal = sum(len(case.abnormal) for case in cases)  # type: ignore[misc]
    assert abnormal + len(cases[0].normal) == 794_810
    lab.check(cases[0].normal)
    assert np.mean(cases[0].normal["kind"] == "client") > 0.1


def test_the_real_sample_of_a_clone_becomes_what_the_compact_files_hold(tmp_path: Path) -> None:
    folder = public.real("nezha")
    root = tmp_path / "clone"
    shutil.copytree(folder / "source-sample", root)
    (root / "rca_data/2022-08-22/metric").mkdir()  # the sample has metrics of the other day only
    shutil.copy(
        *(
            root / f"rca_data/{day}/metric/ts-order-service-5b67c48447-mv5hb_metric.csv"
            for day in ("2023-01-29", "2022-08-22")
        )
    )
    nezha_clone.convert(root, tmp_path / "out")
    for day, spans, traces in ((DAY, 2499, 35), ("OnlineBoutique_2022-08-22", 799, 32)):
        got, held = (
            pd.read_parquet(where / day / "spans.parquet") for where in (tmp_path / "out", folder)
        )
        held = held[held["trace_id"].isin(held["trace_id"][held["start_ns"].isin(got["start_ns"])])]
        keys = ["start_ns", "duration_us", "service", "operation"]
        text = {"service": "str", "operation": "str"}
        both = got.astype(text).merge(held.astype(text), on=keys, suffixes=("", "_held"))
        assert (len(got), len(both), got["trace_id"].nunique()) == (spans, spans, traces)
        assert (both["window"] == both["window_held"]).all()
        assert (both["abnormal"] == both["abnormal_held"]).all()
        assert both.groupby("trace_id")["trace_id_held"].nunique().eq(1).all()
        parent = both["parent_id"].map(both.set_index("span_id")["span_id_held"]).fillna(-1)
        stored = both["parent_id"] >= 0  # the sample is cut off: a parent may not be in it
        assert (parent[stored] == both["parent_id_held"][stored]).all()
        faults = [
            json.loads((where / day / "faults.json").read_text("utf-8"))
            for where in (tmp_path / "out", folder)
        ]
        assert [f | {"abnormal_traces": 0} for f in faults[0]] == [
            f | {"abnormal_traces": 0} for f in faults[1]
        ]
        if day == DAY:
            same_logs_and_resources(
                tmp_path / "out", folder, both.set_index("span_id")["span_id_held"]
            )


def same_logs_and_resources(out: Path, folder: Path, ids: pd.Series) -> None:
    got, held = (
        table(out, "logs").astype({"location": "str", "level": "str"}),
        table(folder, "logs"),
    )
    held = (
        held[held["span_id"].isin(ids)]
        .astype({"location": "str", "level": "str"})
        .reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(
        got.assign(span_id=got["span_id"].map(ids)), held, check_dtype=False
    )
    assert len(got) == 1268
    got, held = table(out, "resources"), table(folder, "resources")
    held = held[held["service"] == "ts-order-service"].iloc[: len(got)]
    pd.testing.assert_frame_equal(got.astype({"service": "str"}), held.astype({"service": "str"}))
