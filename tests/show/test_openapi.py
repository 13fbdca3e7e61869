"""The published description says what the interface does: no path and no parameter less or more."""

from __future__ import annotations

import re

import pytest
import requests
from flask import Flask
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

import shop
from aiops_lab import Monitor, SpanStore
from aiops_lab.show.api import aiops, routes_of, simulate
from aiops_lab.show.openapi import EVERY, OPERATIONS, Operation, describe

FOR_PEOPLE = re.compile(r"/aiops/(page/.*|events)?")
ID = "INC-0-1"


@pytest.fixture(scope="module")
def running():
    with shop.running() as running:
        yield running


@pytest.fixture(scope="module")
def described(running):
    return requests.get(f"{running.url}/aiops/openapi.json", timeout=10).json()


def ask(running, operation, **given):
    url = running.url + operation.path.replace("<id>", ID)
    return requests.request(operation.method, url, timeout=10, **given)


def test_all_paths_of_the_interface_are_described_and_no_others(running):
    app = Flask("all", static_folder=None)
    app.register_blueprint(aiops(running.monitor))
    app.register_blueprint(simulate(running.injector, []))
    mounted = {
        (method, path)
        for method, path in routes_of(app)
        if path.startswith(("/aiops/", "/simulate/")) and not FOR_PEOPLE.fullmatch(path)
        if method not in ("HEAD", "OPTIONS")
    }
    assert mounted == {(each.method, each.path) for each in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_all_parameters_are_described_and_no_others(running, operation: Operation):
    answer = ask(running, operation, params={"other": "1"})
    assert answer.status_code == 400
    names = [each.name for each in operation.parameters]
    assert answer.json()["rule"] == f"must be one of {', '.join(names) or '(none)'}"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_what_must_be_given_is_described(running, operation: Operation):
    required = [each.name for each in operation.parameters if each.required]
    answer = ask(running, operation)
    missing = [answer.json()["field"]] if answer.status_code == 400 else []
    assert missing == required[:1]
    statuses = {operation.status, *EVERY, *operation.refusals}
    assert answer.status_code in statuses


def test_answers_are_as_described(running, described):
    for operation in OPERATIONS:
        answer = ask(running, operation)
        path = operation.path.replace("<", "{").replace(">", "}")
        one = described["paths"][path][operation.method.lower()]
        content = one["responses"][str(answer.status_code)]["content"]
        schema = content["application/json"]["schema"] | {"components": described["components"]}
        Draft202012Validator(schema).validate(answer.json())


def test_only_what_an_application_has_is_described(tmp_path):
    app = Flask("alone", static_folder=None)
    with SpanStore(tmp_path / "s.sqlite") as store:
        app.register_blueprint(aiops(Monitor(store)))
        told = app.test_client().get("/aiops/openapi.json", base_url="http://localhost/mine").json
    assert {path.split("/")[1] for path in told["paths"]} == {"aiops"}
    assert told["servers"] == [{"url": "/mine"}]
    assert describe([])["paths"] == {}
