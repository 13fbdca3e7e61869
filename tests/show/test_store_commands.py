"""``python -m aiops_lab store``: a store is exported, pruned and described."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.__main__ import main
from aiops_lab.formats.recognize import FORMATS
from aiops_lab.show.store_commands import EXPORT_FORMATS, age_s
from tests.support.made import Shop
from tests.test_monitor import fill


@pytest.fixture
def path(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(1).run(5))
    return tmp_path / "s.sqlite"


def spans_of(path):
    with lab.SpanStore(path) as store:
        return store.spans()


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv.gz", "out.parquet"])
def test_an_export_holds_what_the_store_does(path, name, capsys):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    out = path.with_name(name)
    assert main(["store", "export", str(path), str(out)]) == 0
    spans = spans_of(path)
    assert capsys.readouterr().out == f"{len(spans):,} spans written: {out}\n"
    read = lab.read_spans(out)
    order = ["span_id", "kind"]
    left, right = (f.sort_values(order)["duration_ms"].tolist() for f in (read, spans))
    assert left == pytest.approx(right)


def test_an_export_may_be_of_one_service_and_format(path, capsys):
    out = path.with_name("out.json")
    line = ["store", "export", str(path), str(out), "--format", "zipkin", "--service"]
    assert main([*line, "shop"]) == 0
    assert set(lab.read_spans(out)["service"]) == {"shop"}
    assert main([*line, "bank"]) == 2
    assert "--service must be one of shop, got 'bank'" in capsys.readouterr().err


def test_an_export_does_not_replace_the_store(path, capsys):
    assert main(["store", "export", str(path), str(path), "--format", "csv"]) == 2
    assert "FILE must be another file than the store" in capsys.readouterr().err
    assert len(spans_of(path))


def test_info_tells_counts_and_times(path, capsys):
    assert main(["store", "info", str(path)]) == 0
    told = capsys.readouterr().out
    count = len(spans_of(path))
    assert f"{count:,} spans, 0 open, 0 stack traces" in told
    assert f"  shop: {count:,} spans, 2026-01-01T00:00:00" in told
    assert "version 3" in told


def test_old_spans_are_deleted(path, capsys):
    new = lab.Span("1" * 32, "2" * 16, None, "shop", "/new", "server", None, 0, 5, 200, None)
    with lab.SpanStore(path) as store:
        store.add(new._replace(start_ns=pd.Timestamp.now("UTC").value))
    line = ["store", "prune", str(path), "--older-than"]
    with lab.SpanStore(path):
        assert main([*line, "1h"]) == 0
    told = capsys.readouterr().out
    assert "spans deleted" in told
    assert "The store is in use" in told
    assert spans_of(path)["endpoint"].tolist() == ["/new"]
    assert main([*line, "soon"]) == 2
    assert "--older-than must be a number with one of s, min, h, d" in capsys.readouterr().err
    assert main(["store", "prune", str(path)]) == 2
    assert "prune must be told --older-than AGE or --service NAME" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["info", "export", "prune"])
def test_what_is_no_store_is_refused_and_not_made(tmp_path, task, capsys):
    more = {"export": ["out.csv"], "prune": ["--older-than", "1d"]}.get(task, [])
    assert main(["store", task, str(tmp_path / "none.sqlite"), *more]) == 2
    assert "STORE must be the file of a span store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", [["info"], ["prune", "--older-than", "1d"], ["export", "x.csv"]])
def test_a_store_with_a_damaged_page_is_told_by_its_name(path, tmp_path, monkeypatch, task, capsys):
    monkeypatch.chdir(tmp_path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))
    assert main(["store", task[0], str(path), *task[1:]]) == 2
    said = capsys.readouterr().err
    assert said.startswith("aiops_lab store: ")
    assert str(path) in said


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5min", 90), ("2h", 7200), ("7d", 604_800)]
)
def test_ages_have_a_unit(text, seconds):
    assert age_s(text) == seconds


def test_all_formats_that_are_written_may_be_chosen():
    assert EXPORT_FORMATS == FORMATS
