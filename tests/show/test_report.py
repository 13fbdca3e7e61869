"""What is told of a file of traces: as text, as JSON, as a page, and by the command."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import sqlite3
import subprocess
import sys
from base64 import b64decode
from contextlib import closing
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib import pyplot

from aiops_lab import Sensitivity, SpanStore, read_spans, write_spans
from aiops_lab.__main__ import main
from aiops_lab.formats.writing import frame_spans
from aiops_lab.results import Step, Verdict
from aiops_lab.show import findings as found_in
from aiops_lab.show import report
from aiops_lab.show.changes_file import read_changes
from tests.support.golden import DATA

SLOW = DATA / "slow_payment.csv.gz"


@pytest.fixture(scope="module")
def spans():
    return read_spans(SLOW)


@pytest.fixture(scope="module")
def findings(spans):
    return found_in.find_incidents(spans, SLOW.name, Sensitivity())


@pytest.fixture(scope="module")
def halves(spans, tmp_path_factory):
    """The normal half and the troubled half of the recording, as files."""
    folder = tmp_path_factory.mktemp("halves")
    first = spans.groupby("trace_id")["start"].transform("min")
    trouble = (first >= "2026-11-23 16:48:20Z") & (first < "2026-11-23 16:50:10Z")
    write_spans(spans[first < "2026-11-23 16:48:00Z"], folder / "normal.json", format="jaeger")
    write_spans(spans[trouble], folder / "trouble.json", format="zipkin")
    return folder


def test_a_page_has_cause_pictures_and_doubts(findings):
    page = report.to_html(findings)
    assert "Root cause: /payment (service shop), confidence 99%." in page
    assert "/checkout is degraded" in page
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)"', page)
    assert len(pictures) == 4
    for content, caption in pictures:
        assert ElementTree.fromstring(b64decode(content)).tag.endswith("svg")
        assert len(caption) > 20
    outside = re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)
    assert outside == []


def test_a_page_leaves_no_figures_open(findings):
    open_before = pyplot.get_fignums()
    report.to_html(findings)
    assert pyplot.get_fignums() == open_before


def test_the_facts_say_what_was_lost_by_which_path_and_with_which_errors():
    spans = read_spans(DATA / "jaeger" / "load_shedding.json.gz")
    found = found_in.find_incidents(spans, "x", Sensitivity(window_s=5))
    told = report.facts(found.cases[0], found)
    assert told[0].endswith("UTC, over.")
    lost = "In all: 55 requests of /order from outside: 65% failed (usually 0%)."
    assert told[1] == lost  # faster is not worse
    assert told[2] == "Path of a request: /order (front) → /reserve (stock)."
    assert told[3].startswith("It fails fast: 10.9 ms instead of 29.7 ms.")
    assert told[4] == "What /reserve calls itself: /shelf 17.1 ms (usually 16.2 ms)."
    assert told[5].startswith("Failed requests at the cause: 36 × status 503: 'BackendError")


def test_what_changed_is_told_of_the_cause_its_victims_and_what_it_calls():
    spans = read_spans(DATA / "jaeger" / "load_shedding.json.gz")
    found = found_in.find_incidents(spans, "x", Sensitivity(window_s=5))
    table = found_in.differences(found.cases[0], spans)
    assert [(change.endpoint, change.role) for change in table] == [
        ("/reserve", "the cause"),
        ("/order", "worse too"),
        ("/shelf", "called by the cause"),
    ]
    cause = table[0]
    assert (cause.usual_requests, cause.requests, cause.usual_failed) == (80, 55, 0)
    assert (round(cause.usual_ms), round(cause.now_ms)) == (30, 11)
    assert round(cause.now_failed, 2) == 0.65
    assert report.to_dict(found)["cases"][0]["differences"][0] == cause._asdict()
    page = report.to_html(found)
    assert "<td>/reserve</td><td>the cause</td><td>80</td><td>55</td>" in page
    assert '<td>0%</td><td class="worse">65%</td>' in page


@pytest.fixture(scope="module")
def processor():
    """One fault, of a whole service, that two incidents show."""
    spans = read_spans(DATA / "jaeger" / "processor.json.gz")
    return found_in.find_incidents(spans, "x", Sensitivity())


@pytest.fixture(scope="module")
def processor_page(processor):
    return report.to_html(processor)


@pytest.fixture(scope="module")
def processor_text(processor):
    return report.to_text(processor)


def test_one_fault_of_a_service_that_two_incidents_show_is_told_in_every_form(
    processor, processor_page, processor_text
):
    told = (
        "These are probably one fault of the service catalog: /products and /find, the causes of 2 "
        "incidents at one time, are endpoints of it."
    )
    against = "Against /find alone: /products of the same service became abnormal at the same time"
    for form in (processor_text, processor_page):
        assert told in form
        assert against in form
    assert '<a href="#incident-2">' in processor_page
    assert '<section id="incident-2">' in processor_page
    data = report.to_dict(processor)
    assert data["service_faults"][0]["text"] == told
    assert data["cases"][1]["certainty"][1].startswith(against)
    assert data["cases"][0]["path"] == [
        "/home (front)",
        "/similar (recommend)",
        "/products (catalog)",
    ]
    json.dumps(data, default=str)


def test_figures_and_words_are_labelled(processor_page, processor_text):
    for form in (processor_page, processor_text):
        assert "In all: 47 requests of /home from outside: mean latency 122.8 ms (us" in form
        assert "severity high" in form
        assert "A confidence of 99% means: in simulated incidents, " in form
    assert "<th>mean latency before</th><th>mean latency now</th>" in processor_page
    assert (
        "/home, /products, /similar" in processor_text
    )  # in call order: no arrow, which would be a call


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"account": "/a own time"}], ["account"]),
        ([{"account": "/a own time"}, {"account": "edge /a → /b"}], ["account", "edge"]),
        ([{"score": 1.0, "unit": "usual requests"}], ["score"]),
        ([{"score": 1.0, "unit": "0 to 1"}], ["unusual"]),
        ([{"entry": "/a"}], []),
        ([], []),
    ],
)
def test_the_words_of_a_table_are_explained_above_it(rows, words):
    (step,) = report.steps_to_cause(Verdict(steps=(Step("1.", "Text.", rows),)))
    assert step.text.splitlines() == ["Text.", *(report.WORDS[word] for word in words)]


CHANGE = found_in.Difference("/a", "the cause", 9, 9, 100.0, 50.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("changed", "is_fast"),
    [
        ({}, True),
        ({"now_ms": 79.0}, True),
        ({"now_ms": 81.0}, False),
        ({"now_failed": 0.03}, True),
        ({"now_failed": 0.02}, False),
        ({"usual_failed": 0.5}, False),
        ({"now_ms": None}, False),
        ({"usual_ms": None}, False),
    ],
)
def test_a_failure_is_fast_where_it_takes_less_than_the_work(changed, is_fast):
    assert bool(found_in.fast_failure(CHANGE._replace(**changed))) == is_fast


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"now_failed": 0.02}, "/a 50.0 ms (usually 100.0 ms)"),
        ({}, "/a 50.0 ms (usually 100.0 ms), 50% failed"),
        ({"usual_ms": None, "now_failed": 0.0}, "/a 50.0 ms (not called before)"),
        ({"now_ms": None}, "/a was not reached any more"),
    ],
)
def test_what_is_called_is_compared_with_before(changed, told):
    assert found_in.before_and_now(CHANGE._replace(**changed)) == told


def test_a_slow_cause_does_not_fail_fast(findings):
    told = report.facts(findings.cases[0], findings)
    assert not any(line.startswith("It fails fast") for line in told)


def test_calls_that_were_refused_are_the_errors_of_a_cause_without_spans():
    spans = read_spans(DATA / "jaeger" / "refused.json.gz")
    found = found_in.find_incidents(spans, "x", Sensitivity(window_s=5))
    told = report.facts(found.cases[0], found)
    assert "Path of a request: /checkout (checkout) → /payment (payment)." in told
    assert any(line.startswith("Failed requests at the cause: 73 × no answer") for line in told)


def test_names_cannot_become_markup(spans):
    evil = spans.copy()
    evil["endpoint"] = evil["endpoint"].replace("/payment", "/<script>alert(1)</script>&$x$")
    found = found_in.find_incidents(evil, "<b>.csv", Sensitivity())
    page = report.to_html(found)
    assert found.has_cause
    assert "<script" not in page
    assert "<b>" not in page


def test_without_matplotlib_a_page_says_so(findings, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("aiops_lab.show.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = report.to_html(findings)
    assert "This page has no pictures" in page
    assert ".[plots]" in page
    assert "Root cause: /payment" in page


def test_the_ledger_is_that_of_an_entry_that_waits(findings):
    table = findings.cases[0].verdict.ledger_table()
    assert table.attrs["entry"] == "/checkout"
    assert table["excess"].sum() == pytest.approx(table.attrs["total"], rel=0.01)
    with pytest.raises(ValueError, match=r"entry must be one of \['/checkout', '/payment'\]"):
        findings.cases[0].verdict.ledger_table("/elsewhere")


def test_a_short_recording_asks_for_normal_traffic(spans):
    short = spans[spans["start"] < spans["start"].min() + pd.Timedelta("8s")]
    told = report.summary(found_in.find_incidents(short, "short.csv", Sensitivity()))
    assert "0 incidents found. What is normal could not be learned" in told


# ---- the command


def test_the_command_explains_a_file(capsys):
    assert main(["explain", str(SLOW)]) == 0
    told = capsys.readouterr().out
    assert "1 incident found." in told
    assert "Root cause: /payment (service shop)" in told
    assert "3. Where the excess originated" in told


def test_the_command_compares_with_normal_traffic(halves, capsys):
    trouble, normal = str(halves / "trouble.json"), str(halves / "normal.json")
    assert main(["explain", trouble, "--normal", normal, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (case,) = told["cases"]
    assert case["suspects"][0]["endpoint"] == "/payment"
    assert "/checkout" in case["affected_endpoints"]


def test_the_exit_code_is_1_where_no_cause_is_found(halves, capsys):
    normal = str(halves / "normal.json")
    assert main(["explain", normal, "--normal", normal]) == 1
    assert "No cause found" in capsys.readouterr().out


def test_the_page_is_written_whole_and_may_be_read_by_others(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", str(SLOW), "--format", "html"]) == 0
    assert "Written: slow_payment.html" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["slow_payment.html"]
    (plain := tmp_path / "plain").touch()
    assert (tmp_path / "slow_payment.html").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("empty", ["[]", "{}", '{"data": []}', '{"resourceSpans": []}'])
def test_a_file_without_spans_is_refused(empty, tmp_path, capsys):
    (tmp_path / "x.json").write_text(empty)
    assert main(["explain", str(tmp_path / "x.json")]) == 2
    assert "x.json must hold spans, got none" in capsys.readouterr().err
    assert main(["explain", str(SLOW), "--normal", str(tmp_path / "x.json")]) == 2
    assert "normal must hold spans" in capsys.readouterr().err


def test_normal_traffic_of_another_system_is_refused(capsys):
    other = str(DATA / "jaeger" / "load_shedding.json.gz")
    assert main(["explain", str(SLOW), "--normal", other]) == 2
    assert "normal must hold requests of the same entries" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["html", "text"])
def test_what_cannot_be_written_is_named_and_not_the_file_beside_it(form, tmp_path, capsys):
    for out, told in (("no/x", "No such file or directory"), (".", "Is a directory")):
        target = str(tmp_path / out)
        assert main(["explain", str(SLOW), "--format", form, "--out", target]) == 2
        assert capsys.readouterr().err.endswith(f"{target}: {told}\n")
    assert [*tmp_path.iterdir()] == []


def test_a_store_is_explained_like_a_file(tmp_path, capsys):
    with SpanStore(tmp_path / "my.sqlite") as store:
        for span in frame_spans(read_spans(SLOW)):
            store.add(span)
    assert main(["explain", str(tmp_path / "my.sqlite")]) == 0
    assert "Root cause: /payment" in capsys.readouterr().out


def test_a_database_that_is_no_store_is_refused(tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE t (a)")
    assert main(["explain", str(tmp_path / "x.db")]) == 2
    assert "x.db" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m aiops_lab explain {SLOW} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert "1 incident found" in done.stdout
    assert done.stderr == ""


def test_what_was_changed_before_is_told_from_a_file(tmp_path, capsys):
    changes = tmp_path / "changes.csv"
    changes.write_text("time,service,what\n2026-11-23T16:48:15Z,shop,deployment 2.4\n")
    assert main(["explain", str(SLOW), "--changes", str(changes)]) == 0
    assert "deployment 2.4 of shop came at most " in capsys.readouterr().out
    changes.write_text("time,service\n")
    assert main(["explain", str(SLOW), "--changes", str(changes)]) == 2
    said = capsys.readouterr().err
    rule = "changes must have the columns time, service, what (what is missing)"
    assert f"changes.csv: {rule}, got ['time', 'service']" in said


def a_pipe_with(text: str) -> str:
    receiver, sender = os.pipe()
    os.write(sender, text.encode())
    os.close(sender)
    return f"/dev/fd/{receiver}"


@pytest.mark.parametrize("name", ["pipe", "c.csv", "c.csv.gz", "c.csv.bz2", "c.csv.xz"])
def test_changes_come_from_pipes_compressed_and_below_headers_of_any_length(name, tmp_path):
    others = ",".join(f"column {number}" for number in range(300))
    text = f"{others},time,service,what\n{',' * 300}2026-11-23T16:48:15Z,shop,2.40\n"
    content = text.encode()
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path = tmp_path / name
    path.write_bytes(packed.get(path.suffix, bytes)(content))
    (change,) = read_changes(a_pipe_with(text) if name == "pipe" else str(path))
    assert (change.service, change.what) == ("shop", "2.40")


def test_compressed_changes_that_are_cut_off_are_an_error_with_the_rule(tmp_path):
    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(b"time,service,what\n")[:-6])
    with pytest.raises(ValueError, match="must be whole, got damaged content"):
        read_changes(str(path))


def test_changes_are_read_as_text_and_unknown_services_are_named(tmp_path, capsys):
    changes = tmp_path / "changes.csv"
    time = "2026-11-23T16:48:15Z"
    rows = [f"{time},{service},2.40\n" for service in ("shop", "Shop", "NA")]
    changes.write_text("".join(["time,service,what\n", *rows]))
    assert main(["explain", str(SLOW), "--changes", str(changes)]) == 0
    told = capsys.readouterr()
    assert "2.40 of shop came at most " in told.out
    unlike, alike = told.err.splitlines()
    assert "changes.csv: no span is of the service 'NA', they have " in unlike
    assert alike.endswith("changes.csv: no span is of the service 'Shop', perhaps 'shop'")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["missing.json"], "missing.json"),
        ([str(SLOW), "--normal", str(SLOW), "--window", "5"], "--window must be left out"),
        ([str(SLOW), "--normal", str(SLOW), "--changes", "x"], "--changes must be left out"),
        ([str(SLOW), "--window", "0"], "--window must be >= "),
        ([str(SLOW), "--out", str(SLOW)], "--out must be another file than those that are read"),
        ([str(SLOW), "--changes", str(SLOW)], "changes must have the columns time, service, what"),
        ([str(SLOW), "--out", "no/such/folder/x"], "no/such/folder"),
    ],
)
def test_a_wrong_file_or_option_is_an_error_in_one_line(arguments, rule, capsys):
    assert main(["explain", *arguments]) == 2
    told = capsys.readouterr()
    assert rule in told.err
    assert len(told.err.splitlines()) == 1
