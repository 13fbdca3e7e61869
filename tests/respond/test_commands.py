"""What --notify and --remedy of a command ask for."""

from __future__ import annotations

import pytest

import aiops_lab as lab
from aiops_lab.respond.commands import responding, typed_response
from tests.support.incidents import MadeMonitor, incident
from tests.support.serving import wait_for

MINE = """
from aiops_lab.respond.remedies import Remedy

def tell(notice):
    told.append(notice.url)

told = []
calls = []
restart = Remedy("restart", calls.append, dry_run=False)
others = [Remedy("scale", calls.append), Remedy("roll back", calls.append)]
number = 7
numbers = [7]
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE + f"# {tmp_path}")
    return str(file)


def test_urls_functions_and_remedies_are_named(mine):
    remedies = [f"{mine}:restart", f"{mine}:others"]
    notify = ["json://localhost:9/S3CRET", f"{mine}:tell"]
    response = typed_response(notify, remedies)
    assert response.lines() == [
        "Notices: json, function (tell)",
        "Remedies: restart, scale (dry run), roll back (dry run)",
    ]
    assert typed_response([], []).lines() == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("{}:number", "remedy must name a Remedy of .*mine.py, or a list of them, got"),
        ("{}:numbers", "remedy must name a Remedy of"),
        ("{}:nothing", "remedy must name a Remedy of"),
        ("{}", "remedy must be file.py:name or module:name, got"),
        ("no.py:restart", "remedy must be importable"),
    ],
)
def test_what_is_no_remedy_is_refused(mine, spec, told):
    with pytest.raises(ValueError, match=told):
        typed_response([], [spec.format(mine)])


def test_the_same_remedy_twice_is_refused(mine):
    with pytest.raises(ValueError, match="remedies must have different names, got 'restart'"):
        typed_response([], [f"{mine}:restart"] * 2)


def test_what_is_no_function_is_refused(mine):
    with pytest.raises(ValueError, match="notify must name a function of .*mine.py, got"):
        typed_response([f"{mine}:number"], [])


def test_both_are_at_work_while_the_block_runs(mine):
    response = typed_response([f"{mine}:tell"], [f"{mine}:restart"])
    told = response.targets[0].send.__globals__["told"]
    with lab.SpanStore(":memory:") as store:
        monitor = MadeMonitor(store, incident())
        with responding(monitor, response, "http://x"):
            kinds = [each.kind for each in monitor.responders]
            wait_for(lambda: monitor.responders[1].status()[0]["acted"] and told)
        assert monitor.responders == []
        with responding(monitor, typed_response([], []), ""):
            assert monitor.responders == []
    assert kinds == ["notices", "remedies"]
    assert told == ["http://x/aiops/page/incidents/INC-1"]
