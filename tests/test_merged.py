"""What monitors, their store and HTTP say of an incident that became part of another one."""

from __future__ import annotations

import pytest
from flask import Flask

import aiops_lab as lab
from aiops_lab.results import Suspect
from aiops_lab.show.api import aiops
from tests.support.made import Shop, fault
from tests.support.played import at, to_spans
from tests.test_diagnosis import both

SLOW = both(fault("/health", 120, 300, 400.0), fault("/payment", 120, 300, 400.0))


class LateRule:
    """Names one cause for everything, once it is told to."""

    def __init__(self) -> None:
        self.is_known = False

    def __call__(self, *_: object) -> list[Suspect]:
        return [Suspect("shop", "/payment", 1.0, 0.9)] if self.is_known else []


@pytest.fixture(scope="module")
def recording():
    return Shop(1, SLOW).run(240, mix=("/health", "/payment"))


@pytest.fixture
def store(tmp_path, recording):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        for row in to_spans(recording):
            store.add(lab.Span(*row))
        store.flush()
        yield store


@pytest.fixture
def merged(store):
    """The monitor, and the ids of two incidents as they were before they became one."""
    rule = LateRule()
    monitor = lab.Monitor(store, rule=rule)
    monitor.step(at(141))
    older, younger = (i.id for i in monitor.incidents())
    monitor.acknowledge(younger, at(142))
    rule.is_known = True
    assert [i.id for i in monitor.step(at(181))] == [older]
    return monitor, older, younger


def test_its_id_leads_to_the_one_that_stays_in_every_monitor_and_after_a_restart(store, merged):
    monitor, older, younger = merged
    for each in (monitor, lab.Monitor(store)):
        (incident,) = each.incidents()
        assert each.incident(younger) == incident
        assert (incident.id, incident.merged) == (older, [younger])
        assert incident.status == "acknowledged"
    assert lab.Monitor(store).resolve(younger, at(190)).id == older


def test_its_addresses_show_the_one_that_stays(merged):
    monitor, older, younger = merged
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(aiops(monitor, now=lambda: at(190)))
    client = app.test_client()
    shown = client.get(f"/aiops/incidents/{younger}").json
    assert (shown["id"], shown["merged"]) == (older, [younger])
    assert client.get(f"/aiops/incidents/{younger}/explain").json["id"] == older
    page = client.get(f"/aiops/page/incidents/{younger}")
    assert page.status_code == 200
    assert f"part of it: {younger}." in page.text


def test_what_somebody_does_to_it_in_the_step_that_merges_it_changes_no_other(store, monkeypatch):
    rule = LateRule()
    monitor = lab.Monitor(store, rule=rule)
    monitor.step(at(141))
    older, younger = (i.id for i in monitor.incidents())
    rule.is_known = True
    judge = monitor._pipeline.advance

    def judge_while_somebody_resolves(*given):
        lab.Monitor(store).resolve(younger, at(150))
        return judge(*given)

    monkeypatch.setattr(monitor._pipeline, "advance", judge_while_somebody_resolves)
    monitor.step(at(181))
    assert [(i.id, i.status) for i in monitor.incidents()] == [(older, "active")]
