"""python -m shop: serve, demo, check, record."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import requests

import shop
from aiops_lab import Sensitivity
from aiops_lab.faults import Fault
from shop import check, demo
from shop.__main__ import main
from shop.record import fault_of, read_spans, record, write_spans

COMMANDS = ("serve", "demo", "check", "record")


@contextmanager
def served(*options: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Yield a serving process, its URL, and its banner."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "shop", "serve", "--port", "0", *options]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(Path(shop.__file__).parents[1])}
    with subprocess.Popen(command, cwd=cwd, env=environment, **streams) as process:  # type: ignore[call-overload]
        killer = threading.Timer(30, process.kill)  # reading the banner must not wait for ever
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
    rest, _ = process.communicate(timeout=15)
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


def test_the_general_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(command in told for command in COMMANDS)


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
def test_what_is_no_command_is_refused_with_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--window", "-1"], "window_s must be > 0, got -1.0"),
        (["serve", "--window", "nan"], "window_s must be a finite number, got nan"),
        (["serve", "--interval", "0"], "interval_s must be a number between 0.001 and 86400, got 0.0"),
        (["serve", "--interval", "inf"], "interval_s must be a number between 0.001 and 86400, got inf"),
        (["serve", "--traffic", "-5"], "traffic must be a number between 0 and 100000, got -5.0"),
        (["serve", "--port", "70000"], "port must be a number between 0 and 65535, got 70000"),
        (["record", "x.parquet"], "file must end in one of .csv, .csv.gz, got 'x.parquet'"),
        (["record", "x.csv", "--endpoint", "/nowhere", "--warmup", "0"], "fault must be at one of"),
        (["record", "x.csv", "--rate", "0"], "rate must be a number"),
    ],
)
def test_a_number_that_breaks_its_rule_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--db", str(tmp_path / "x.sqlite")]) == 2
    assert f"port {port} on 127.0.0.1 is in use; choose another one" in capsys.readouterr().err


# ---- serve


def test_serve_tells_everything_in_its_banner_answers_and_stops_on_sigterm(tmp_path: Path) -> None:
    with served("--traffic", "20", "--interval", "0.5", "--window", "1", cwd=tmp_path) as (process, url, banner):
        for told in (
            "AIOps Lab", "Starting AIOps background analysis", "Background worker started", "Starting Flask server",
            "GET  /health", "GET  /inventory", "POST /payment", "POST /checkout", "/aiops/metrics", "/aiops/incidents",
            "/aiops/analyze", "/simulate/delay", "/simulate/error", "/simulate/clear", "/simulate/status",
            str(tmp_path / "aiops-lab.sqlite"), "every 0.5 s", "windows of 1 s", "20 requests/s",
        ):  # fmt: skip
            assert told in banner
        assert requests.post(f"{url}/checkout", timeout=10).status_code == 200
        requests.post(f"{url}/simulate/hang?endpoint=/payment", timeout=10).raise_for_status()
        process.send_signal(signal.SIGTERM)
        code, rest, seconds = ended(process)
    assert (code, rest) == (0, "Stopped.\n")
    assert seconds < 2
    assert (tmp_path / "aiops-lab.sqlite").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_serve_stops_on_ctrl_c_and_its_incidents_survive_a_restart(tmp_path: Path) -> None:
    db = ("--db", "mine.sqlite", "--services", "many", "--interval", "0.2", "--window", "0.5", "--traffic", "100")
    with served(*db, cwd=tmp_path) as (process, url, banner):
        assert "http://127.0.0.1" in banner
        deadline = time.monotonic() + 20
        while "/payment" not in (told := requests.get(f"{url}/aiops/metrics", timeout=10).json()["metrics"]) or (
            told["/payment"]["baseline_latency_ms"] is None
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        requests.post(f"{url}/simulate/error?endpoint=/payment&rate=1", timeout=10).raise_for_status()
        while not (before := requests.get(f"{url}/aiops/incidents", timeout=10).json())["incident_count"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code, rest, seconds = ended(process)
    assert (code, rest) == (0, "Stopped.\n")
    assert seconds < 2
    with served("--db", "mine.sqlite", "--interval", "60", cwd=tmp_path) as (_, url, _):
        after = requests.get(f"{url}/aiops/incidents", timeout=10).json()
    assert after["active_incidents"][0]["id"] == before["active_incidents"][0]["id"]


# ---- demo and check, with shorter windows


def test_the_demo_names_the_cause_with_its_books_and_draws_two_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("WINDOW_S", 1.0), ("WARMUP_S", 2.5), ("FAULT_S", 1.5)):
        monkeypatch.setattr(demo, name, value)
    assert main(["demo", "--rate", "60", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    line = re.search(r"Incident INC-\d+-1 critical: root cause /payment, confidence (\d\.\d+)", told)
    assert line, told
    assert float(line[1]) > 0.9
    assert "Affected: /payment, /checkout\n" in told
    assert re.search(r"Support: .* in (\d+) of (\d+) bad requests", told)
    born, excess = re.findall(r"(?:born inside, in all|excess at /checkout) +\+(\d\.\d{3})", told)
    assert born == excess
    for picture in ("timeline.png", "ledger.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


def test_check_passes_against_a_server_by_http_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "SCENARIOS", check.SCENARIOS[2:3])
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
    wrong = check.Scenario("wrong", "/simulate/clear", "/payment", frozenset({"/payment"}), "timeout")
    monkeypatch.setattr(check, "SCENARIOS", (wrong,))
    monkeypatch.setattr(check, "DEADLINE_S", 0.1)
    monkeypatch.setattr(check, "QUICK_WINDOW_S", 0.2)
    assert main(["check", "--quick"]) == 1
    assert "FAIL  wrong     one incident opens" in capsys.readouterr().out


def test_check_without_a_server_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--quick", "--url", "http://127.0.0.1:1"]) == 2
    assert "http://127.0.0.1:1" in capsys.readouterr().err


def test_a_wrong_cause_is_judged_wrong() -> None:
    scenario = check.SCENARIOS[1]
    good = {
        "root_cause": {"endpoint": "/inventory"},
        "affected_endpoints": ["/inventory", "/checkout"],
        "anomalies": [{"type": "error_spike", "endpoint": "/inventory", "sample_errors": ["deadlock"]}],
    }
    assert all(check.judge([good], scenario).values())
    for changed in (
        {"root_cause": {"endpoint": "/checkout"}},
        {"root_cause": None},
        {"affected_endpoints": ["/inventory"]},
        {"anomalies": [{"type": "error_spike", "endpoint": "/inventory", "sample_errors": []}]},
        {"anomalies": []},
    ):
        assert not all(check.judge([good | changed], scenario).values())
    assert not all(check.judge([good, good], scenario).values())
    assert not any(check.judge([], scenario).values())


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
        "delay", "shop", "/payment", 1000,
    )  # fmt: skip
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
            back, spans, check_exact=True, check_dtype=False, check_categorical=False, check_column_type=False
        )
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_a_recording_of_normal_days_has_no_fault(tmp_path: Path) -> None:
    record(tmp_path / "calm.csv", None, warmup_s=0, fault_s=0.5, rate=20, services="many", progress=False)
    assert json.loads((tmp_path / "calm.csv.truth.json").read_text())["faults"] == []
    assert fault_of("none", "one") is None


def test_an_ending_that_is_not_known_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file must end in one of"):
        record(tmp_path / "x.json", None)
