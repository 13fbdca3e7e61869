"""python -m shop: serve, demo, check, record; tests/test_recordings.py has what is done with
scenarios.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from flask import Flask

import shop
from aiops_lab import Sensitivity, Span, read_spans, to_frame, write_spans
from aiops_lab.formats.writing import replacing
from aiops_lab.record.faults import Fault
from aiops_lab.show.api import aiops, simulate
from shop.__main__ import main
from shop.command_line import parser
from shop.live import check, demo, serve
from shop.live import record as record_module
from shop.live.record import record
from shop.live.serve import banner
from shop.recordings import fault_of

STOP_MAX_S = 40  # far above what a stop takes, below the minute of a held request

COMMANDS = ("serve", "demo", "check", "record", "leaderboard")


@contextmanager
def served(*options: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Yield a serving process, its URL, and its banner."""
    command = [
        sys.executable,
        "-W",
        "error::ResourceWarning",
        "-m",
        "shop",
        "serve",
        "--port",
        "0",
        *options,
    ]
    streams: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "encoding": "utf-8",
    }
    environment = os.environ | {
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": str(Path(shop.__file__).parents[1]),
    }
    with subprocess.Popen(command, cwd=cwd, env=environment, **streams) as process:
        killer = threading.Timer(120, process.kill)  # reading the banner must not wait for ever
        killer.start()
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            banner = "".join(lines)
            found = re.search(r"Server running on http://localhost:(\d+)", banner)
            assert found, banner
            yield process, f"http://127.0.0.1:{found[1]}", banner
        finally:
            killer.cancel()
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    """Exit code, the rest of the output, and how long the end took."""
    begin = time.monotonic()
    rest, _ = process.communicate(timeout=60)
    return process.returncode, rest, time.monotonic() - begin


# ---- help and refusals


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_each_option_its_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    told = capsys.readouterr().out
    assert caught.value.code == 0
    assert len(told.splitlines()) > 8
    assert "default" in told
    assert "Write" in told or "write" in told
    assert "default: None" not in told


@pytest.mark.parametrize("command", [*COMMANDS, "scenarios"])
def test_help_ends_with_examples_that_the_command_accepts(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    _, _, examples = capsys.readouterr().out.partition("\nexample:\n")
    typed = [shlex.split(line) for line in examples.splitlines()]
    words = [line[3:] for line in typed if line[0] == "python"]
    assert words
    accepted = [parser().parse_args(line).command for line in words]
    assert set(accepted) <= {command, "record"}


def test_the_general_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(command in told for command in (*COMMANDS, "scenarios"))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["sell"],
        ["serve", "--services", "few"],
        ["serve", "--port", "many"],
        ["demo", "--fault", "fire"],
        ["record"],
    ],
)
def test_what_is_no_command_is_refused_with_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--window", "-1"], "--window must be >= 0.001, got -1.0"),
        (["serve", "--window", "nan"], "--window must be a finite number, got nan"),
        (
            ["serve", "--interval", "0"],
            "--interval must be a number between 0.001 and 86400, got 0.0",
        ),
        (
            ["serve", "--interval", "inf"],
            "--interval must be a number between 0.001 and 86400, got inf",
        ),
        (
            ["serve", "--otlp-token", "s3"],
            "--otlp-token must not be given without --otlp, got '***'",
        ),
        (["serve", "--traffic", "-5"], "--traffic must be a number between 0 and 100000, got -5.0"),
        (["serve", "--port", "70000"], "--port must be a number between 0 and 65535, got 70000"),
        (
            ["serve", "--port", "0", "--db", "no/x.sqlite"],
            "--db must be a file that can be written to, in a folder that",
        ),
        (
            ["serve", "--port", "0", "--db", "README.md"],
            "--db must be an SQLite database or a new file, got README.md",
        ),
        (
            ["serve", "--port", "0", "--host", "0.0.0.0"],
            "--host must be 127.0.0.1 unless a token is given, by --token or AIOPS_LAB_TOKEN",
        ),
        (
            ["serve", "--port", "0", "--private"],
            "--private must be False without a token, got True",
        ),
        (["serve", "--port", "0", "--db", "."], "--db must be a file, got ."),
        (["record", "x.txt"], "--format must be given as one of csv, parquet, otlp, "),
        (["record", "no/x.csv"], "FILE must be in a folder that exists, got 'no/x.csv'"),
        (
            ["record", "README.md/x.csv"],
            "FILE must be in a folder that exists, got 'README.md/x.csv'",
        ),
        (["record", "folder.csv"], "FILE must be a file, got 'folder.csv'"),
        (
            ["record", "x.csv", "--endpoint", "/nope"],
            "--endpoint must be one of /health, /inventory, /payment, /checkout, got '/nope'",
        ),
        (
            ["record", "x.csv", "--rate", "0"],
            "--rate must be a number between 0.001 and 100000, got 0.0",
        ),
        (
            ["record", "x.csv", "--warmup", "-1"],
            "--warmup must be a number between 0 and 1e+06, got -1.0",
        ),
        (
            ["record", "x.csv", "--seconds", "nan"],
            "--seconds must be a number between 0 and 1e+06, got nan",
        ),
        (
            ["record", "x.csv", "--recovery", "-1"],
            "--recovery must be a number between 0 and 1e+06, got -1.0",
        ),
        (
            ["record", "x.csv", "--share", "1.5"],
            "--share must be a number between 0 and 1, got 1.5",
        ),
        (
            ["record", "x.csv", "--fault", "delay", "--duration", "-1"],
            "--duration must be a number between 0 and 60000,",
        ),
        (["demo", "--out", "README.md"], "--out must be a folder, got 'README.md'"),
        (["demo", "--out", "README.md/x"], "--out must be a folder, got 'README.md/x'"),
        (["demo", "--rate", "0"], "--rate must be a number between 0.001 and 100000, got 0.0"),
        (["leaderboard", "--out", "README.md"], "--out must be a folder, got 'README.md'"),
        (["leaderboard", "--seeds", "0"], "--seeds must be a number between 1 and 10000, got 0"),
        (["leaderboard", "--first-seed", "-1"], "--first-seed must be a number between 0 and"),
        (
            ["leaderboard", "--scenario", "fire"],
            "--scenario must be one that `scenarios` lists, such as",
        ),
        (
            ["leaderboard", "--rule", "mine"],
            "--rule must be file.py:function or module:function, got 'mine'",
        ),
        (["leaderboard", "--jobs", "0"], "--jobs must be a whole number above 0, got 0"),
        (["check", "--rate", "-1"], "--rate must be a number between 0.001 and 100000, got -1.0"),
        (
            ["check", "--url", "localhost"],
            "--url must be a running shop or a URL such as http://127.0.0.1:5000, got",
        ),
    ],
)
def test_an_option_that_breaks_its_rule_is_named_as_it_was_typed_before_anything_runs(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("no folder")
    (tmp_path / "folder.csv").mkdir()
    for module in (serve, record_module, demo, check):
        monkeypatch.setattr(module, "running", None)  # calling it would be another error
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"shop {words[0]}: {message}")
    assert out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "folder.csv"]


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere, Windows knows no mode"
)
@pytest.mark.parametrize("words", [["record", "shut/x.csv"], ["demo", "--out", "shut/x"]])
def test_a_folder_that_cannot_be_written_to_is_named(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shut").mkdir(mode=0o500)
    assert main(words) == 2
    assert "must be in a folder that can be written to, got 'shut/x" in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--db", str(tmp_path / "x.sqlite")]) == 2
    told = capsys.readouterr()
    free = r" \(the next free one is \d+\)"
    rule = rf"shop serve: --port must be free on 127\.0\.0\.1{free}, got {port}\n"
    assert re.fullmatch(rule, told.err)
    assert told.out == ""


# ---- serve


def test_serve_tells_everything_in_its_banner_answers_and_stops_on_sigterm(tmp_path: Path) -> None:
    with served("--traffic", "20", "--interval", "0.5", "--window", "1", cwd=tmp_path) as (
        process,
        url,
        banner,
    ):
        for told in (
            "AIOps Lab",
            "Starting AIOps background analysis",
            "Background worker started",
            "Starting Flask server",
            "GET  /health",
            "GET  /inventory",
            "POST /payment",
            "POST /checkout",
            "/aiops/metrics",
            "/aiops/incidents",
            "/aiops/analyze",
            "/simulate/delay",
            "/simulate/error",
            "/simulate/clear",
            "/simulate/status",
            str(tmp_path / "aiops-lab.sqlite"),
            "every 0.5 s",
            "windows of 1 s",
            "20 requests/s",
        ):
            assert told in banner
        assert requests.post(f"{url}/checkout", timeout=10).status_code == 200
        requests.post(f"{url}/simulate/hang?endpoint=/payment", timeout=10).raise_for_status()
        process.send_signal(signal.SIGTERM)
        code, rest, seconds = ended(process)
    assert code == 0
    assert rest.endswith("Stopped.\n")
    assert seconds < STOP_MAX_S
    assert (tmp_path / "aiops-lab.sqlite").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_serve_stops_on_ctrl_c_and_its_incidents_survive_a_restart(tmp_path: Path) -> None:
    db = (
        "--db",
        "mine.sqlite",
        "--services",
        "many",
        "--interval",
        "0.2",
        "--window",
        "0.5",
        "--traffic",
        "100",
    )
    with served(*db, cwd=tmp_path) as (process, url, banner):
        assert "http://127.0.0.1" in banner
        deadline = time.monotonic() + 60
        while "/payment" not in (
            told := requests.get(f"{url}/aiops/metrics", timeout=10).json()["metrics"]
        ) or (told["/payment"]["baseline_latency_ms"] is None):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        requests.post(
            f"{url}/simulate/error?endpoint=/payment&rate=1", timeout=10
        ).raise_for_status()
        while not (before := requests.get(f"{url}/aiops/incidents", timeout=10).json())[
            "incident_count"
        ]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code, rest, seconds = ended(process)
    assert code == 0
    assert rest.endswith("Stopped.\n")
    assert re.search(r"INC-\S+ opened: .*http://localhost:\d+/aiops/page/incidents/INC-", rest)
    assert seconds < STOP_MAX_S
    with served("--db", "mine.sqlite", "--interval", "60", cwd=tmp_path) as (_, url, _):
        after = requests.get(f"{url}/aiops/incidents", timeout=10).json()
    assert after["active_incidents"][0]["id"] == before["active_incidents"][0]["id"]


STATEMENT = "SELECT name FROM orders WHERE id = ?"


def orders(since: float, seconds: float, query_ms: int) -> pd.DataFrame:
    """Spans of a service that is not the shop: 20 requests/s, each with one statement."""
    spans = []
    for number in range(int(seconds * 20)):
        start = int((since + number / 20) * 1e9)
        trace = f"{start:032x}"
        request, query = f"{2 * start:016x}", f"{2 * start + 1:016x}"
        ms = query_ms + number % 3
        spans += [
            Span(
                trace,
                request,
                None,
                "orders",
                "/orders/{id}",
                "server",
                None,
                start,
                (ms + 4) * 1_000_000,
                200,
                None,
                "GET",
            ),
            Span(
                trace,
                query,
                request,
                "orders",
                STATEMENT,
                "client",
                "postgresql",
                start + 2_000_000,
                ms * 1_000_000,
                200,
                None,
            ),
        ]
    return to_frame(spans)


def test_serve_takes_traces_of_other_services_and_finds_their_incident(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.proto")
    calm, trouble = tmp_path / "calm.json", tmp_path / "trouble.binpb"
    since = time.time() - 60
    write_spans(orders(since, 45, query_ms=10), calm, "otlp")
    write_spans(orders(since + 45, 12, query_ms=90), trouble, "otlp-protobuf")
    (line,) = calm.read_bytes().splitlines()
    json_kind = {"Content-Type": "application/json"}
    kind = {"Content-Type": "application/x-protobuf"}
    packed = {"Content-Encoding": "gzip"}
    sent = [(line, json_kind), (gzip.compress(trouble.read_bytes()), kind | packed)]
    assert len(line) > 500_000  # as large as the batches of an SDK
    options = ("--otlp", "--otlp-token", "s3", "--interval", "60", "--window", "1")
    with served(*options, cwd=tmp_path) as (_, url, banner):
        assert "POST /v1/traces" in banner
        for body, headers in sent:
            refused = requests.post(f"{url}/v1/traces", body, headers=headers, timeout=10)
            assert refused.status_code == 401
            headers = headers | {"Authorization": "Bearer s3"}
            taken = requests.post(f"{url}/v1/traces", body, headers=headers, timeout=10)
            assert (taken.status_code, taken.content) in [(200, b"{}"), (200, b"")]
        requests.post(f"{url}/aiops/analyze", timeout=60).raise_for_status()
        told = requests.get(f"{url}/aiops/incidents", timeout=10).json()
    (incident,) = told["active_incidents"]
    cause = incident["root_cause"]
    assert (cause["service"], cause["endpoint"]) == ("postgresql", STATEMENT)
    assert incident["title"] == "Latency spike detected in /orders/{id}"


def test_serve_has_no_receiver_unless_it_is_asked_for(tmp_path: Path) -> None:
    with served("--interval", "60", cwd=tmp_path) as (_, url, banner):
        assert "/v1/traces" not in banner
        answer = requests.post(f"{url}/v1/traces", json={"resourceSpans": []}, timeout=10)
    assert answer.status_code == 404


def test_the_banner_lists_every_path_there_is() -> None:
    with shop.running() as running:
        told = banner(running, "x.sqlite", 30, 10, 0)
        monitor, injector = running.monitor, running.injector
    app = Flask("all")
    app.register_blueprint(aiops(monitor))
    app.register_blueprint(simulate(injector, []))
    mine = [
        rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("aiops.page.")
    ]
    rules = [str(rule) for rule in mine if not str(rule).startswith("/static")]
    assert len(rules) == 17
    rules.append("/aiops/incidents/latest")  # of any of them, by name
    assert sorted(re.findall(r"/(?:aiops|simulate)/[^ ?)]+(?= +- )", told)) == sorted(rules)


# ---- stopping


@contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a command that says on stderr which modules it has imported."""
    temporary = cwd / "tmp"
    temporary.mkdir()
    environment = os.environ | {
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": str(Path(shop.__file__).parents[1]),
        "TMPDIR": str(temporary),
    }
    command = [sys.executable, "-X", "importtime", "-m", "shop", *words]
    streams: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "encoding": "utf-8",
    }
    with subprocess.Popen(command, cwd=cwd, env=environment, **streams) as process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        try:
            yield process
        finally:
            killer.cancel()
            process.kill()


POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals to another process")


@POSIX
@pytest.mark.parametrize(
    ("words", "imported", "sent", "code"),
    [
        ("serve --port 0", "argparse", signal.SIGINT, 0),  # while it imports
        ("serve --port 0", "shop.live.serve", signal.SIGTERM, 0),  # while it starts
        ("demo", "pandas", signal.SIGINT, 130),
        ("record x.csv --quiet", "shop.recordings", signal.SIGTERM, 130),
        (
            "record x.csv --quiet --scenario long.toml",
            "shop.virtual_time.scenario_file",
            signal.SIGINT,
            130,
        ),
    ],
)
def test_a_signal_at_any_moment_stops_a_command_cleanly_and_a_second_one_does_no_harm(
    words: str, imported: str, sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "long.toml").write_text('name = "a week"\nseconds = 600_000')
    with started(*words.split(), cwd=tmp_path) as process:
        for line in process.stderr:
            if line.startswith("import time:") and line.split()[-1] == imported:
                break
        if imported.startswith("shop."):
            time.sleep(0.1)  # into the start of the shop
        process.send_signal(sent)
        time.sleep(0.05)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert process.returncode == code, err[-2000:]
    assert (out.splitlines()[-1:] if code == 0 else said) == ["Stopped."]
    assert "Traceback" not in err
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".csv", ".json", ".part")]


@POSIX
def test_check_stops_within_seconds_on_ctrl_c_in_the_middle_of_its_scenarios(
    tmp_path: Path,
) -> None:
    with started("check", cwd=tmp_path) as process:
        threading.Thread(target=process.stderr.read).start()
        assert "4 scenarios" in process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.wait(60) == 130
        assert time.monotonic() - begin < 40  # of more than 60 without


# ---- demo and check, with shorter windows


def test_the_demo_names_the_cause_with_its_ledger_draws_it_and_opens_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("DEMO_WINDOW_S", 1.0), ("WARMUP_S", 2.5), ("DEMO_FAULT_S", 1.5)):
        monkeypatch.setattr(demo, name, value)
    shown: list[str] = []

    def browse(url: str) -> None:
        shown.append(requests.get(url, timeout=30).text)
        raise KeyboardInterrupt  # as Ctrl-C does

    monkeypatch.setattr(demo.webbrowser, "open", browse)
    assert main(["demo", "--rate", "60", "--open", "--out", str(tmp_path / "out")]) == 0
    assert "/payment" in shown[0]
    told = capsys.readouterr().out
    line = re.search(r"Incident INC-\d+-1 high: root cause /payment, confidence (\d\.\d+)", told)
    assert line, told
    assert float(line[1]) > 0.9
    assert "Affected: /payment, /checkout\n" in told
    assert re.search(r"Support: .* in (\d+) of (\d+) bad requests", told)
    originated, excess = re.findall(
        r"(?:originated inside, in all|excess at /checkout) +\+(\d+\.\d{3})", told
    )
    assert originated == excess
    assert (tmp_path / "out" / "incident.png").read_bytes().startswith(b"\x89PNG")


def test_check_passes_against_a_server_by_http_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "CHECKS", check.CHECKS[2:3])
    monkeypatch.setattr(check, "QUICK_WINDOW_S", 1.0)
    monkeypatch.setattr(check, "ELSEWHERE_CALM_S", 3.0)
    with shop.running(sensitivity=Sensitivity(window_s=1.0)) as running:
        assert main(["check", "--quick", "--url", running.url, "--rate", "60"]) == 0
        assert running.injector.active() == []
    told = capsys.readouterr().out
    assert "ok    cascade   its root cause is /payment" in told
    assert " 0 failed" in told


def test_check_says_what_failed_and_its_exit_code_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = check.LiveCheck(
        "wrong", "/simulate/clear", "/payment", frozenset({"/payment"}), "timeout"
    )
    monkeypatch.setattr(check, "CHECKS", (wrong,))
    monkeypatch.setattr(check, "DEADLINE_S", 0.1)
    monkeypatch.setattr(check, "QUICK_WINDOW_S", 0.2)
    assert main(["check", "--quick"]) == 1
    assert "FAIL  wrong     one incident opens" in capsys.readouterr().out


def test_check_without_a_server_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--quick", "--url", "http://127.0.0.1:1"]) == 2
    told = capsys.readouterr()
    assert (
        told.err == "shop check: --url must be that of a running shop, got 'http://127.0.0.1:1'\n"
    )
    assert told.out == ""


def test_a_wrong_cause_is_judged_wrong() -> None:
    scenario = check.CHECKS[1]
    good = {
        "root_cause": {"endpoint": "/inventory"},
        "affected_endpoints": ["/inventory", "/checkout"],
        "anomalies": [
            {"type": "error_spike", "endpoint": "/inventory", "sample_errors": ["deadlock"]}
        ],
    }
    assert all(check.judge_check([good], scenario).values())
    for changed in (
        {"root_cause": {"endpoint": "/checkout"}},
        {"root_cause": None},
        {"affected_endpoints": ["/inventory"]},
        {"anomalies": [{"type": "error_spike", "endpoint": "/inventory", "sample_errors": []}]},
        {"anomalies": []},
    ):
        assert not all(check.judge_check([good | changed], scenario).values())
    assert not all(check.judge_check([good, good], scenario).values())
    assert not any(check.judge_check([], scenario).values())


# ---- record


def test_record_writes_spans_that_read_back_and_the_truth_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.csv.gz"
    words = "--fault delay --warmup 0.5 --seconds 0.5 --rate 40 --seed 7"
    assert main(["record", str(file), *words.split()]) == 0
    spans, truth = read_spans(file), json.loads((tmp_path / "run.csv.gz.truth.json").read_text())
    assert f"{len(spans)} spans in {file}" in capsys.readouterr().out
    (fault,) = truth["faults"]
    assert (fault["kind"], fault["service"], fault["endpoint"], fault["duration_ms"]) == (
        "delay",
        "shop",
        "/payment",
        1000,
    )
    assert (truth["seed"], truth["rate"], truth["warmup_s"], truth["fault_s"]) == (7, 40, 0.5, 0.5)
    begin, end = pd.Timestamp(fault["start"]), pd.Timestamp(fault["end"])
    payments = spans[(spans["endpoint"] == "/payment") & (spans["kind"] == "server")]
    struck = payments["start"].between(begin, end)
    assert payments[struck]["duration_ms"].min() > 700
    assert payments[~struck]["duration_ms"].max() < 700


def test_spans_come_back_from_a_file_exactly_as_they_were(tmp_path: Path) -> None:
    with shop.running() as running:
        running.inject(Fault("error", "shop", "/payment"))
        shop.drive(running, 0.5, 30, progress=False)
        running.store.flush()
        spans = running.store.spans()
    for ending in (".csv", ".csv.gz"):
        write_spans(spans, tmp_path / f"a{ending}")
        write_spans(spans, tmp_path / f"b{ending}")
        back = read_spans(tmp_path / f"a{ending}")
        pd.testing.assert_frame_equal(
            back,
            spans,
            check_exact=True,
            check_dtype=False,
            check_categorical=False,
            check_column_type=False,
        )
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_a_recording_of_normal_days_has_no_fault(tmp_path: Path) -> None:
    record(
        tmp_path / "calm.csv",
        None,
        warmup_s=0,
        fault_s=0.5,
        rate=20,
        services="many",
        progress=False,
    )
    assert json.loads((tmp_path / "calm.csv.truth.json").read_text())["faults"] == []
    assert fault_of("none", "one") is None


def test_an_ending_that_is_not_known_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be given as one of"):
        record(tmp_path / "x.json", None)


def test_a_file_that_cannot_be_finished_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("old")

    def fail() -> None:
        with replacing(file) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_text() == "old"
    with replacing(file) as part:
        part.write_text("new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (
            "--fault delay --duration 40 --share 0.5",
            {"duration_ms": 40, "jitter_ms": 8, "rate": 0.5, "status": 500},
        ),
        (
            "--fault error --share 0.25",
            {"duration_ms": 0, "jitter_ms": 0, "rate": 0.25, "status": 500},
        ),
    ],
)
def test_record_takes_the_size_of_the_fault_and_can_be_quiet(
    words: str, fields: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.csv"
    length = "--warmup 0 --seconds 0.3 --rate 10 --services many --endpoint /inventory --quiet"
    assert main(["record", str(file), *length.split(), *words.split()]) == 0
    (fault,) = json.loads((tmp_path / "run.csv.truth.json").read_text())["faults"]
    assert (fault["service"], fault["endpoint"]) == ("inventory", "/inventory")
    assert {name: fault[name] for name in fields} == fields
    assert capsys.readouterr().err == ""
