"""What remedies did is visible with the incident, on the overview, in the JSON, for Prometheus."""

from __future__ import annotations

from aiops_lab.respond.healer import Healer
from aiops_lab.respond.remedies import Remedy
from tests.support.watching import watching_payment
from tests.test_monitor import at


def fail(incident):
    raise RuntimeError("<script>")


def test_what_remedies_did_is_shown():
    with watching_payment() as (monitor, client):
        (found,) = monitor.step(at(160))
        page = f"/aiops/page/incidents/{found.id}"
        assert f"{page}/remedies" not in client.get(page).text
        assert "No remedy was called for it" in client.get(f"{page}/remedies").text
        assert "remedies" not in client.get(f"/aiops/incidents/{found.id}").json
        assert "Remedies" not in client.get("/aiops/").text
        assert "aiops_remedy" not in client.get("/metrics").text
        remedies = [Remedy("restart", fail, dry_run=False), Remedy("scale", fail)]
        with Healer(monitor, remedies) as healer:
            assert healer.flush()
            overview = client.get("/aiops/").text
            told = client.get("/metrics").text
            rows = client.get("/aiops/metrics").json["remedies"]
        shown = client.get(page).text
        listed = client.get(f"{page}/remedies").text
        calls = client.get("/aiops/incidents/latest").json["remedies"]
    assert "restart failed" in shown
    assert "scale would have acted" in shown
    assert f'href="{page}/remedies"' in shown
    assert "restart</th><td>failed</td><td>RuntimeError: &lt;script&gt;</td>" in listed
    assert "scale</th><td>would have acted</td><td></td>" in listed
    assert listed.count(" UTC</time>") == 3
    assert "restart: acted 0 ×, would have acted 0 ×, held back 0 ×" in overview
    assert "failed 1 ×</span>, the last: <q>RuntimeError: &lt;script&gt;</q>" in overview
    assert "scale (dry run): acted 0 ×, would have acted 1 ×" in overview
    assert {(each["remedy"], each["outcome"]) for each in calls} == {
        ("restart", "failed"),
        ("scale", "would have acted"),
    }
    assert [(row["remedy"], row["failed"]) for row in rows] == [("restart", 1), ("scale", 0)]
    assert 'aiops_remedy_calls_total{outcome="failed",remedy="restart"} 1.0' in told
    assert 'aiops_remedy_calls_total{outcome="would_have_acted",remedy="scale"} 1.0' in told
