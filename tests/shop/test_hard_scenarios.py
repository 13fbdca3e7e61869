"""The harder scenarios: filed by name, each with an effect; and what was noted of changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab.explain.rules import RULES
from aiops_lab.record.faults import Fault
from shop.__main__ import main
from shop.catalogue import SCENARIOS, listing
from shop.comparison_options import LEADERBOARD_GROUPS
from shop.experiments import report, trials
from shop.experiments.leaderboard import ALL_GROUPS
from shop.hard_scenarios import HARD_GROUPS, HARD_SCENARIOS
from shop.recordings import read_truth
from shop.shops import INVENTORY, PAYMENT
from shop.virtual_time.record import record_scenario, write_recording
from shop.virtual_time.scenario import NotedChange, Scenario
from shop.virtual_time.scenario_file import find_scenario

SLOW = Fault("delay", *PAYMENT, start_s=400.0, end_s=440.0, duration_ms=400)
DEPLOYED = NotedChange(398.0, "payment", "deployment 2", behind=True)
CHANGED = Scenario("changed", (PAYMENT,), (SLOW,), rate=6, seconds=450, noted=(DEPLOYED,))


def told_of(*noted: NotedChange) -> float:
    scenario = replace(CHANGED, noted=noted)
    return trials.pipeline_result(scenario, 1, shop.twin(scenario, 1, progress=False)).change


def test_they_are_filed_by_name_and_by_group_and_none_is_in_the_catalogue() -> None:
    assert all(name == scenario.name for name, scenario in HARD_SCENARIOS.items())
    grouped = [name for names in HARD_GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(HARD_SCENARIOS)
    assert not set(HARD_SCENARIOS) & set(SCENARIOS)
    assert list(ALL_GROUPS) == list(LEADERBOARD_GROUPS)
    assert find_scenario("guilty flag") is HARD_SCENARIOS["guilty flag"]
    faulty = [scenario for scenario in HARD_SCENARIOS.values() if scenario.causes]
    assert all(scenario.defeats in RULES and scenario.why for scenario in faulty)
    assert max(map(len, listing(80, HARD_SCENARIOS).splitlines())) <= 80


def test_in_both_metastable_ways_the_failure_outlives_its_trigger() -> None:
    for name in ("metastable, retries of retries", "metastable, a backlog"):
        scenario = HARD_SCENARIOS[name]
        effect = shop.twin(scenario, 1, progress=False).effect
        since, until = scenario.interval()
        at = (effect["start"] - effect["start"].dt.normalize()).dt.total_seconds()
        late = effect[(at > since) & (at < until) & (effect["entry"] == "/order")]
        assert max(fault.end_s or 0 for fault in scenario.faults) < since - 10
        assert late["failed_with"].mean() > 0.8
        assert late["failed_without"].mean() < 0.01


def test_the_change_that_is_behind_a_fault_is_told_from_those_that_are_not() -> None:
    before = NotedChange(200.0, "inventory", "deployment 7")
    after = NotedChange(425.0, "payment", "scaled to 4 instances")
    assert told_of(DEPLOYED, before, after) == 1
    assert told_of(replace(DEPLOYED, behind=False)) == 0
    assert told_of(replace(DEPLOYED, service="inventory")) == 0
    assert told_of(replace(DEPLOYED, service="inventory", behind=False)) == 1
    assert pd.isna(told_of())


def test_what_was_noted_is_recorded_beside_the_spans_without_what_it_did(tmp_path) -> None:
    file = tmp_path / "x.csv"
    spans = record_scenario(file, CHANGED, 1)
    noted = pd.read_csv(f"{file}.changes.csv")
    assert noted.values.tolist() == [
        ["2026-01-01T00:06:38.000000Z", "payment", "deployment 2"],
    ]
    (incident,) = lab.replay(spans, changes=noted).incidents
    assert "deployment 2 of payment" in incident.verdict.changes[0].text
    (told,) = read_truth(file).attrs["noted"]
    assert told["behind"]
    record_scenario(tmp_path / "case", CHANGED, 1, format="rcaeval")
    assert pd.read_csv(tmp_path / "case" / "changes.csv").equals(noted)
    write_recording(file, spans, {"faults": []})
    assert not Path(f"{file}.changes.csv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (NotedChange(1.0, "bank", "x"), r"noted\[0\].service must be one of health, "),
        (
            NotedChange(451.0, "payment", "x"),
            r"noted\[0\].second must be a number between 0",
        ),
        (NotedChange(9.0, "payment", ""), r"noted\[0\].what must be a text of 1 to 200 char"),
    ],
)
def test_a_change_is_in_the_run_at_one_of_its_services_and_told(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CHANGED, noted=(change,))


def test_a_group_can_be_compared_and_the_table_of_changes_is_shown(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALL_GROUPS, "changes", ("changed", "steady"))
    calm = Scenario("steady", seconds=60, rate=5)
    monkeypatch.setattr(report, "find_scenario", {"changed": CHANGED, "steady": calm}.__getitem__)
    monkeypatch.setattr(report, "read_rules", lambda specs: {"ledger": RULES["ledger"]})
    words = ["--group", "changes", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path / "out")]
    words += ["--format", "latex"]
    assert main(["leaderboard", *words]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 scenarios, 1 rule, ")
    assert "What the verdicts say of changes" in told
    assert not (tmp_path / "out" / "sizes.csv").exists()
    assert INVENTORY[1] not in told
    latex = (tmp_path / "out" / "leaderboard.tex").read_text("utf-8")
    assert "\\caption{What the verdicts say of changes}" in latex
