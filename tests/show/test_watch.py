"""``python -m aiops_lab watch STORE``: a process that watches what other processes write."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import requests

import aiops_lab as lab
from aiops_lab.__main__ import main
from aiops_lab.show import access
from aiops_lab.show.access import access_at
from aiops_lab.show.watch import watch, watch_app
from tests.support.made import BEGIN, Shop, fault
from tests.support.receiver import receiving
from tests.support.serving import wait_for
from tests.test_monitor import fill

ROOT = Path(__file__).parents[2]


class Watching:
    """The command, and what it has printed so far."""

    def __init__(self, store, *options):
        command = [sys.executable, "-W", "error::ResourceWarning", "-m", "aiops_lab", "watch"]
        command += [str(store), "--port", "0", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **streams)
        self.printed = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.printed += line

    def has(self, text):
        assert self.process.poll() is None, self.printed
        return text in self.printed

    def __enter__(self):
        wait_for(lambda: self.has("Ctrl-C"))
        self.url = re.search(r"Page: (http://localhost:\d+)/\n", self.printed)[1]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self._reader.join()
        self.process.stdout.close()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join()
        return code


def test_an_incident_is_told_with_its_page_acknowledged_and_resolved(tmp_path):
    path = tmp_path / "s.sqlite"
    shop = Shop(1, fault("/payment", 120, 180, added_ms=400))
    shop.run(220)
    late_ns = pd.Timestamp.now("UTC").value - BEGIN - 230_000_000_000
    moved = [span._replace(start_ns=span.start_ns + late_ns) for span in shop.spans]
    with lab.SpanStore(path) as store:
        fill(store, lab.to_frame(moved))
    with receiving() as receiver:
        options = "--interval", "0.5", "--notify", receiver.url
        _watch_and_move(path, options)
    what = [title.removeprefix("Latency spike detected in /payment") for title in receiver.titles]
    assert [each for each in what if each != " (changed)"] == ["", " (acknowledged)", " (resolved)"]
    assert "/aiops/page/incidents/INC-" in receiver.arrived[0]["message"]


def _watch_and_move(path, options):
    with lab.SpanStore(path), Watching(path, *options) as watching:
        wait_for(lambda: watching.has("cause /payment"))
        (page,) = set(re.findall(r"http://\S+/aiops/page/incidents/\S+", watching.printed))
        assert page.startswith(watching.url)
        told = requests.get(page, timeout=30).text
        assert "Why not /checkout?" in told
        latest = requests.get(f"{watching.url}/aiops/incidents/latest", timeout=30).json()
        assert page.endswith(latest["id"])
        for move in ("acknowledge", "resolve"):
            answer = requests.post(f"{page}/{move}", data={"sure": "true"}, timeout=30)
            answer.raise_for_status()
            wait_for(lambda move=move: watching.has(f"{latest['id']} {move}"))
            _wait_for_notice(watching, move)
        front = requests.get(watching.url, timeout=30)
        assert "No open incident" in front.text
        with requests.get(f"{watching.url}/aiops/events", stream=True, timeout=30) as events:
            assert next(events.iter_lines()) == b"retry: 5000"
            assert watching.stop() == 0  # although a page is listening
    assert "Notices: json\n" in watching.printed
    assert "S3CRET" not in watching.printed
    assert watching.printed.endswith("Stopped.\n")
    with lab.SpanStore(path) as store:
        assert lab.Monitor(store).incident(latest["id"]).status == "resolved"


def _wait_for_notice(watching, move):
    def has_arrived():
        (row,) = requests.get(f"{watching.url}/aiops/metrics", timeout=30).json()["notices"]
        return row["sent"] >= ("acknowledge", "resolve").index(move) + 2 and row["waiting"] == 0

    wait_for(has_arrived)


def test_an_empty_store_is_watched_and_said_to_be_empty(tmp_path, capsys):
    assert watch(tmp_path / "s.sqlite", 0, stop=SimpleNamespace(asked=True)) == 0
    told = capsys.readouterr().out
    assert f"Watching {tmp_path / 's.sqlite'}, every 10 s, in windows of 10 s." in told
    assert "No application has written to it yet" in told
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(1).run(5))
    assert watch(tmp_path / "s.sqlite", 0, stop=SimpleNamespace(asked=True)) == 0
    assert "No application" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--interval", "0"], "--interval must be a number between 0.1 and 86400, got 0.0"),
        (["--port", "-1"], "--port must be a whole number between 0 and 65535, got -1"),
        (["--window", "-1"], "--window must be"),
        (["--host", "0.0.0.0"], "--host must be 127.0.0.1 unless a token is given"),
        (
            ["--public-url", "http://localhost/a"],
            "--public-url must have no path, such as https://",
        ),
        (["--private"], "--private must be False without a token"),
        (["--notify", "nonsense://S3CRET"], "--notify must be a URL that Apprise knows, such as"),
        (["--remedy", "no.py:restart"], "--remedy must be importable (FileNotFoundError"),
        (["--notify", "@no/such/file"], "no/such/file: No such file or directory"),
    ],
)
def test_an_option_that_breaks_a_rule_is_refused_by_name(tmp_path, arguments, told, capsys):
    assert main(["watch", str(tmp_path / "s.sqlite"), *arguments]) == 2
    printed = capsys.readouterr().err
    assert f"aiops_lab watch: {told}" in printed
    assert "S3CRET" not in printed
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_is_refused(tmp_path, capsys):
    (tmp_path / "x").write_text("not a database")
    assert main(["watch", str(tmp_path / "x"), "--port", "0"]) == 2
    assert "aiops_lab watch: STORE must be" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "no" / "x"), "--port", "0"]) == 2
    assert "STORE must lie in an existing directory" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"aiops-lab {lab.__version__}\n"


def test_traces_of_opentelemetry_are_taken_and_links_lead_to_the_public_address(tmp_path):
    recorded = Shop(1, fault("/payment", 120, 180, added_ms=400))
    recorded.run(220)
    late_ns = pd.Timestamp.now("UTC").value - BEGIN - 230_000_000_000
    moved = [span._replace(start_ns=span.start_ns + late_ns) for span in recorded.spans]
    file = tmp_path / "traces.json"
    lab.write_spans(lab.to_frame(moved), file, "otlp")
    public = "http://localhost:81"
    options = "--otlp", "--interval", "0.5", "--public-url", f"{public}/"
    with receiving() as receiver:
        given = (*options, "--notify", receiver.url)
        with Watching(tmp_path / "s.sqlite", *given) as watching:
            headers = {"Content-Type": "application/json"}
            url = f"{watching.url}/v1/traces"
            assert requests.post(url, file.read_bytes(), headers=headers, timeout=60).ok
            wait_for(lambda: watching.has("cause /payment") and receiver.arrived)
            assert f" {public}/aiops/page/incidents/INC-" in watching.printed
            assert "/v1/traces\nWatching " in watching.printed
    assert f"{public}/aiops/page/incidents/INC-" in receiver.arrived[0]["message"]


def test_traces_are_taken_from_a_machine_that_asks_too_often(monkeypatch):
    monkeypatch.setattr(access, "MOST_REQUESTS", 3)
    with lab.SpanStore(":memory:") as store:
        admitted = access_at("0.0.0.0", "word")
        app = watch_app(lab.Monitor(store), threading.Event(), admitted, otlp=True)
        client = app.test_client()
        client.environ_base["REMOTE_ADDR"] = "10.0.0.5"
        statuses = [client.get("/aiops/changes").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]

        def send(**headers):
            answer = client.post("/v1/traces", json={"resourceSpans": []}, headers=headers)
            return answer.status_code

        assert {send(Authorization="Bearer word") for _ in range(5)} == {200}
        assert send() == 401
