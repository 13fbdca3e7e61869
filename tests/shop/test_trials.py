"""What comes of one run: ranks counted by hand, and pipeline results of doctored twins."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial

import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab.explain.rules import RULES
from aiops_lab.record.faults import Fault
from aiops_lab.results import Suspect
from shop.catalogue import SCENARIOS
from shop.experiments import trials
from shop.experiments.trials import RuleResult, pipeline_result, truth
from shop.shops import CHECKOUT, INVENTORY, PAYMENT
from shop.virtual_time.scenario import BEGIN, Scenario
from shop.virtual_time.twins import Twin

SLOW = Fault("delay", *PAYMENT, start_s=60.0, end_s=80.0, duration_ms=400)
SHORT = Scenario("short", (PAYMENT,), (SLOW,), seconds=90.0)
CALM = Scenario("calm", seconds=90.0)
BOTH = Scenario(
    "both",
    (PAYMENT, INVENTORY),
    (SLOW, Fault("error", *INVENTORY, start_s=60.0, end_s=80.0)),
    seconds=90.0,
)


def suspects(*places: tuple[str, str]) -> list[Suspect]:
    return [Suspect(*place, score=1.0, confidence=0.9 - 0.1 * n) for n, place in enumerate(places)]


def always(*places: tuple[str, str]):
    """A rule that does not look."""
    return lambda usual, abnormal: suspects(*places)


@cache
def twins(scenario_name: str) -> Twin:
    return shop.twin({s.name: s for s in (SHORT, CALM, BOTH)}[scenario_name], 1, progress=False)


def asked(scenario: Scenario, *places: tuple[str, str]) -> RuleResult:
    (trial,) = trials.rule_results(
        scenario, 1, twins(scenario.name).with_fault, {"mine": always(*places)}
    )
    return trial


# ---- the rules


@pytest.mark.parametrize(
    ("scenario", "places", "rank", "exact", "silent"),
    [
        (SHORT, (PAYMENT,), 1, True, False),
        (SHORT, (PAYMENT, CHECKOUT), 1, True, False),
        (SHORT, (CHECKOUT, INVENTORY, PAYMENT), 3, False, False),
        (SHORT, (CHECKOUT,), 0, False, False),
        (SHORT, (), 0, False, True),
        (BOTH, (INVENTORY, PAYMENT), 1, True, False),
        (BOTH, (PAYMENT, CHECKOUT, INVENTORY), 1, False, False),
        (BOTH, (PAYMENT,), 1, False, False),
        (CALM, (), 0, True, True),
        (CALM, (PAYMENT,), 0, False, False),
    ],
)
def test_an_answer_is_held_against_the_true_causes(
    scenario, places, rank: int, exact: bool, silent: bool
) -> None:
    trial = asked(scenario, *places)
    assert (trial.scenario, trial.seed, trial.rule, trial.causes) == (
        scenario.name,
        1,
        "mine",
        len(scenario.causes),
    )
    assert (trial.rank, trial.exact, trial.silent) == (rank, exact, silent)
    assert trial.said == (" ".join(places[0]) if places else "")
    assert trial.confidence == 0.9 if places else math.isnan(trial.confidence)
    assert trial.cpu_s >= 0


def test_every_rule_gets_the_same_windows_and_what_is_usual_is_learned_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned, seen = [], []

    def learn(frame: pd.DataFrame):
        learned.append(lab.learn(frame))
        return learned[-1]

    def look(usual, abnormal) -> list[Suspect]:
        seen.append((usual, abnormal))
        return []

    monkeypatch.setattr(trials, "learn", learn)
    told = trials.rule_results(SHORT, 1, twins("short").with_fault, {"one": look, "two": look})
    assert [trial.rule for trial in told] == ["one", "two"]
    assert len(learned) == 1
    for usual, now in seen:
        pd.testing.assert_frame_equal(usual.frame, learned[0].frame)
        pd.testing.assert_frame_equal(now, seen[0][1])
    start = (seen[0][1]["start"].min() - BEGIN).total_seconds()
    assert 55 < start < 80


def test_what_a_rule_does_to_its_spans_no_other_rule_sees() -> None:
    spans = twins("short").with_fault
    before = spans.copy()

    def vandal(usual, abnormal) -> list[Suspect]:
        abnormal["duration_ms"] = 0.0
        del abnormal["trace_id"]
        usual.frame.loc[:, "status"] = 500
        usual.costs.endpoints.loc[:, "ms"] = 0.0
        usual.endpoint_profile.nodes.loc[:, "ns"] = 0.0
        usual.spans.keys.clear()
        return []

    alone, after = (
        trials.rule_results(SHORT, 1, spans, rules)[-1]
        for rules in (
            {"ledger": lab.rank_root_causes},
            {"vandal": vandal, "ledger": lab.rank_root_causes},
        )
    )
    assert after._replace(cpu_s=0) == alone._replace(cpu_s=0)
    assert alone.rank == 1
    pd.testing.assert_frame_equal(spans, before)


def test_without_other_rules_all_the_classic_ones_and_the_ledger_answer() -> None:
    told = trials.rule_results(SHORT, 1, twins("short").with_fault)
    assert [trial.rule for trial in told] == list(RULES)
    assert {trial.rule: trial.rank for trial in told}["ledger"] == 1


def divide(usual, abnormal) -> list[Suspect]:
    raise ZeroDivisionError("no requests")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            divide,
            r"rule mine must not raise, got ZeroDivisionError: no requests \(test_trials.py, "
            r"line \d+\)",
        ),
        (lambda usual, abnormal: None, "rule mine must return a list of Suspect, got None"),
        (
            lambda usual, abnormal: ["/payment"],
            r"rule mine must return a list of Suspect, got \['/payment'\]",
        ),
        (
            lambda usual, abnormal: tuple(suspects(PAYMENT)),
            r"rule mine must return a list of Suspect, got \(Suspect",
        ),
    ],
)
def test_a_rule_that_breaks_its_contract_is_named(rule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trials.rule_results(SHORT, 1, twins("short").with_fault, {"fine": always(), "mine": rule})


# ---- the pipeline


def replayed(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, str]) -> None:
    """Let the pipeline blame these."""
    monkeypatch.setattr(trials, "replay", partial(lab.replay, rule=always(*places)))


def test_a_fault_is_found_in_its_first_window_and_its_cause_is_named() -> None:
    found = pipeline_result(SHORT, 1, twins("short"))
    assert found[:5] == ("short", 1, 1, 1, 0)
    assert found.incidents > 0
    assert found.hours == pytest.approx(90 / 3600)
    assert (found.detect_s, found.detector) == (10.0, "latency_anomaly")
    assert (found.rank, found.named, found.jaccard, found.exact) == (1, 1.0, 1.0, True)


def test_a_calm_run_has_nothing_to_find() -> None:
    found = pipeline_result(CALM, 1, twins("calm"))
    assert found[:5] == ("calm", 1, 0, 0, 0)
    assert found.incidents == 0
    assert found.detector == ""
    assert all(
        math.isnan(value)
        for value in (found.detect_s, found.rank, found.named, found.jaccard, found.exact)
    )


def test_an_incident_without_a_fault_is_a_false_one() -> None:
    found = pipeline_result(CALM, 1, twins("short"))
    assert (found.incidents, found.false_incidents) == (0, 1)


def test_an_anomaly_that_the_fault_has_nothing_to_do_with_makes_a_false_incident() -> None:
    pair = twins("short")
    elsewhere = replace(
        SHORT,
        faults=(replace(SLOW, service="health", endpoint="/health"),),
        causes=(("health", "/health"),),
    )
    found = pipeline_result(elsewhere, 1, pair._replace(without_fault=pair.with_fault))
    assert (found.incidents, found.false_incidents) == (0, 1)


def test_the_rank_is_that_of_the_cause_or_0_if_it_is_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replayed(monkeypatch, CHECKOUT, PAYMENT)
    assert pipeline_result(SHORT, 1, twins("short"))[8:10] == (2, 0.0)
    replayed(monkeypatch)
    assert pipeline_result(SHORT, 1, twins("short"))[8:10] == (0, 0.0)


def test_of_two_causes_both_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for places, named in (
        ((INVENTORY, PAYMENT), 1.0),
        ((PAYMENT, CHECKOUT, INVENTORY), 0.5),
        ((CHECKOUT,), 0.0),
    ):
        replayed(monkeypatch, *places)
        assert pipeline_result(BOTH, 1, twins("both")).named == named


def test_no_incident_may_miss_the_cause() -> None:
    assert [trials._worst(ranks) for ranks in ((1, 3, 2), (1, 0), (0,), (1, 1))] == [3, 0, 0, 1]


@pytest.mark.parametrize(
    ("too_much", "jaccard"),
    [((), 2 / 3), (("/checkout",), 1 / 3)],
    ids=["one not named", "and one named wrongly"],
)
def test_affected_are_held_against_the_twin(too_much: tuple[str, ...], jaccard: float) -> None:
    pair = twins("short")
    usual = pair.without_fault.copy()
    # as if the fault had slowed it, too
    usual.loc[usual["endpoint"] == "/health", "duration_ms"] -= 5
    # as if it had always been slow
    usual.loc[usual["endpoint"].isin(too_much), "duration_ms"] = 10_000
    found = pipeline_result(SHORT, 1, pair._replace(without_fault=usual))
    assert found.jaccard == pytest.approx(jaccard)
    assert not found.exact


def test_the_truth_has_a_row_a_fault_and_a_whole_service_where_all_of_it_is_struck() -> None:
    both = truth(BOTH, 1, twins("both"))
    assert both["endpoint"].tolist() == ["/payment", "/inventory"]
    assert [(moment - BEGIN).total_seconds() for moment in both.loc[0, ["start", "end"]]] == [
        60,
        80,
    ]
    assert both["affected"].tolist() == [[CHECKOUT, PAYMENT], [CHECKOUT, INVENTORY]]
    network = SCENARIOS["host network"]
    wide = truth(network, 1, twins("both"))
    assert wide[["service", "endpoint"]].values.tolist() == [["catalog", None]]
    weak = truth(SHORT, 1, twins("short")._replace(without_fault=twins("short").with_fault))
    assert weak["affected"].tolist() == [[PAYMENT]]
    assert truth(CALM, 1, twins("calm")).empty
