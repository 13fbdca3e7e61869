"""The rows of what acts on incidents, by kind."""

from __future__ import annotations

from types import SimpleNamespace

from aiops_lab.respond.responders import responses_of


def responder(kind, *rows):
    return SimpleNamespace(kind=kind, status=lambda: list(rows))


def test_the_rows_of_one_kind_stand_together():
    notices = [responder("notices", {"to": "a"}), responder("notices", {"to": "b"})]
    monitor = SimpleNamespace(responders=[*notices, responder("remedies")])
    told = {"notices": [{"to": "a"}, {"to": "b"}], "remedies": []}
    assert responses_of(monitor) == told


def test_without_responders_there_are_none():
    assert responses_of(SimpleNamespace(responders=[])) == {}
