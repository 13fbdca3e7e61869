"""A real Prometheus scrapes the live shop, and answers what the dashboard asks."""

import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

import shop
from aiops_lab.show.ports import HOST
from tests.show.test_prometheus import DASHBOARD
from tests.support.serving import wait_for

PROGRAM = shutil.which("prometheus")

pytestmark = [
    pytest.mark.apps,
    pytest.mark.skipif(PROGRAM is None, reason="prometheus is a package of the system"),
]


@contextmanager
def scraping(folder: Path, target: str):
    """Yield a function that asks a Prometheus which scrapes `target` every second."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "lab", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server((HOST, 0)) as free:
        address = f"{HOST}:{free.getsockname()[1]}"
    command = [PROGRAM, f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(query):
        try:
            url = f"http://{address}/api/v1/query"
            answer = requests.get(url, params={"query": query}, timeout=10).json()
        except requests.ConnectionError:  # it is starting
            return []
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(30)


def value_of(rows):
    return sum(float(row["value"][1]) for row in rows)


def test_a_prometheus_shows_the_requests_of_the_shop_and_fills_the_dashboard(tmp_path):
    with shop.running() as live, scraping(tmp_path, live.url.removeprefix("http://")) as ask:
        for _ in range(30):
            requests.get(f"{live.url}/inventory", timeout=10).raise_for_status()
        live.monitor.step(live.store.spans()["start"].max())
        total = 'aiops_requests_total{job="lab", endpoint="/inventory"}'
        wait_for(lambda: value_of(ask(total)) == 30)
        assert value_of(ask('up{job="lab"}')) == 1
        assert not ask('aiops_requests_total{endpoint="/metrics"}')
        assert value_of(ask('aiops_request_duration_seconds_bucket{le="+Inf"}')) == 30
        panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
        asked = {target["expr"] for panel in panels for target in panel["targets"]}
        learned_later = {"aiops_baseline_latency_seconds"}
        waiting = asked - learned_later
        for query in sorted(waiting):
            wait_for(lambda query=query: ask(query))
