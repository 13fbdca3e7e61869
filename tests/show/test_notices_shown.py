"""How notices fare is visible on the page, in the JSON and for Prometheus."""

from __future__ import annotations

import pytest
from flask import Flask

import aiops_lab as lab
from aiops_lab.respond.notifier import NoticeLimits, Notifier
from aiops_lab.show.prometheus import metrics_page
from shop.__main__ import main
from tests.support.serving import wait_for
from tests.support.watching import watching_payment
from tests.test_monitor import at

FAILING = NoticeLimits(first_retry_s=0.001, last_retry_s=1e3)


def fail(notice):
    raise RuntimeError("<script>")


def test_failures_are_shown_on_the_page_in_the_json_and_for_prometheus():
    with watching_payment() as (monitor, client):
        assert "Notices" not in client.get("/aiops/").text
        assert "aiops_notice" not in client.get("/metrics").text
        arrived = []
        with Notifier(monitor, [arrived.append, fail], limits=FAILING) as notifier:
            monitor.step(at(160))
            wait_for(lambda: notifier.status()[0]["sent"] and notifier.status()[1]["failures"] > 1)
            page = client.get("/aiops/").text
            rows = client.get("/aiops/metrics").json["notices"]
            told = client.get("/metrics").text
        assert "notices" not in client.get("/aiops/metrics").json
    assert "function (append): 1 sent" in page
    assert "function (fail): 0 sent, 1 waiting" in page
    assert "failed attempts</span>, the last: <q>RuntimeError: &lt;script&gt;</q>" in page
    assert [row["sent"] for row in rows] == [1, 0]
    assert rows[1]["failures"] > 1
    assert 'aiops_notices_sent_total{to="function (append)"} 1.0' in told
    assert 'aiops_notices_waiting{to="function (fail)"} 1.0' in told
    assert 'aiops_notice_failures_total{to="function (append)"} 0.0' in told


def test_of_two_notifiers_with_equal_targets_prometheus_sees_one_series():
    with lab.SpanStore(":memory:") as store:
        monitor = lab.Monitor(store)
        app = Flask(__name__)
        app.register_blueprint(metrics_page(monitor))
        with Notifier(monitor, [fail]), Notifier(monitor, [fail]):
            told = app.test_client().get("/metrics").text
    assert told.count("aiops_notices_sent_total{") == 1


@pytest.mark.parametrize("url", ["nonsense://S3CRET", "S3CRET"])
def test_the_shop_refuses_what_is_no_url_without_showing_it(url, tmp_path, capsys):
    assert main(["serve", "--db", str(tmp_path / "s.sqlite"), "--notify", url]) == 2
    printed = capsys.readouterr().err
    assert "shop serve: --notify must be a URL that Apprise knows" in printed
    assert "S3CRET" not in printed
    assert list(tmp_path.iterdir()) == []
