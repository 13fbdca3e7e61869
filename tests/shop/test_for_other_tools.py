"""Recordings of scenarios in the formats of other tools, with their truth."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab.formats.recognize import FORMATS
from shop.__main__ import main
from shop.command_line import FILE_FORMATS, FOLDER_FORMATS
from shop.exports import LAYOUTS
from shop.recordings import read_truth
from tests.support.golden import DATA

FILES = sorted(path.name for path in (DATA / "jaeger").glob("*.json.gz"))


def test_there_are_twenty_files():
    assert len(FILES) == 20


@pytest.mark.parametrize("name", FILES)
def test_the_truth_says_what_the_file_shows(name):
    spans, truth = lab.read_spans(DATA / "jaeger" / name), read_truth(DATA / "jaeger" / name)
    since, until = truth.attrs["window"]
    began = spans.groupby("trace_id")["start"].transform("min")
    suspects = lab.rank_root_causes(spans[began < since], spans[(since <= began) & (began < until)])
    causes = truth.attrs["causes"]
    assert {suspect.key for suspect in suspects[: len(causes)]} == set(causes)


@pytest.mark.parametrize(
    ("form", "unit"),
    [("jaeger", "us"), ("zipkin", "us"), ("otlp", "ns"), ("csv", "ms")],
)
def test_a_scenario_is_recorded_in_a_format(form, unit, tmp_path, capsys):
    path = tmp_path / "calm.gz"
    line = ["record", str(path), "--scenario", "quiet night", "--seed", "4", "--format", form]
    assert main([*line, "--quiet"]) == 0
    spans, made = lab.read_spans(path), shop.virtual(shop.SCENARIOS["quiet night"], 4)
    assert len(spans) == len(made)
    assert set(spans["endpoint"]) == set(made["endpoint"])
    told = json.loads((tmp_path / "calm.gz.truth.json").read_text())
    assert (told["format"], told["zone"], told["unit"]) == (form, "UTC", unit)
    assert pd.Timestamp(told["window"][0]).tz is not None


def test_the_formats_of_the_command_are_those_that_can_be_written():
    assert FILE_FORMATS == FORMATS
    assert (*LAYOUTS,) == FOLDER_FORMATS


@pytest.mark.parametrize("form", ["rcaeval", "openrca"])
def test_a_scenario_is_a_case_of_a_benchmark(form, tmp_path, capsys):
    folder = tmp_path / "case"
    line = ["record", str(folder), "--scenario", "delay", "--format", form, "--quiet"]
    assert main(line) == 0
    place = {"rcaeval": "payment_delay/1", "openrca": "telemetry/2026_01_01"}[form]
    metrics = lab.read_metrics(folder / place, step_s=1)
    truth = json.loads((folder / "truth.json").read_text())
    assert list(metrics.truth["node"]) == ["payment"]
    assert metrics.truth["start"][0] == pd.Timestamp(truth["window"][0])
    named = [name for name in metrics.normal if name[0] == "payment" and "latency" in name[1]]
    latency = named[0]
    assert metrics.abnormal[latency].median() > 2 * metrics.normal[latency].median()
    assert sorted(tmp_path.iterdir()) == [folder]
    assert f"read_metrics({str(folder / place)!r})" in capsys.readouterr().out
    assert main(line) == 2
    assert "FILE must be a folder that does not exist or is empty" in capsys.readouterr().err


def test_the_page_on_formats_names_the_columns_that_are_written(tmp_path):
    line = ["record", "--scenario", "delay", "--quiet", "--format"]
    for form in ("rcaeval", "openrca"):
        assert main([*line, form, str(tmp_path / form)]) == 0
    page = (DATA.parent / "docs" / "formats.md").read_text("utf-8")
    _, rows = page.split("| what | RCAEval | OpenRCA |\n|---|---|---|\n")
    table = [row.split("|")[2:4] for row in rows.split("\n\n")[0].splitlines()[1:-1]]
    for column, name in enumerate(("traces.csv", "trace_span.csv")):
        (file,) = tmp_path.rglob(name)
        named = re.findall(r"`(\w+)`", " ".join(row[column] for row in table))
        written = [*pd.read_csv(file, nrows=1).columns]
        assert sorted(named) == sorted(set(written) - {"time"})


def test_a_case_of_rcaeval_has_one_faulty_service(tmp_path, capsys):
    line = ["record", str(tmp_path / "x"), "--scenario", "two faults", "--format", "rcaeval"]
    assert main([*line, "--quiet"]) == 2
    assert "--scenario must have one faulty service" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_live_run_makes_no_folder(tmp_path, capsys):
    assert main(["record", str(tmp_path / "x"), "--format", "rcaeval"]) == 2
    assert "--format must be that of a file without --scenario" in capsys.readouterr().err
