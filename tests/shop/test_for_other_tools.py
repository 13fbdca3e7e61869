"""Recordings of scenarios in the formats of other tools, with their truth."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from shop.__main__ import main
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
