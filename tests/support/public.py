"""Small files in the formats of the public data sets, and the real ones where they are at hand."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DATA = Path(os.environ.get("AIOPS_LAB_DATA", Path(__file__).parents[3] / "shared/data"))
DAY_NS = pd.Timestamp("2023-01-29", tz="UTC").as_unit("ns").value
SECOND = 1_000_000_000
YEAR_1754 = -6795364578871345152
NODES = ("PetSite", "Search_AWS::ECS", "Table, of pets")


def real(name: str) -> Path:
    """Return the folder of a real data set; skip the test where there is none."""
    if not (DATA / name).is_dir():
        pytest.skip(f"no public data at hand ({name}); AIOPS_LAB_DATA names its folder")
    return DATA / name


def petshop(
    root: Path, scenarios=("low_traffic", "temporal_traffic1"), issues=(("train", 2), ("train", 10))
) -> Path:
    """PetSite calls search, search calls the table; only low_traffic has fault-free data of its
    own.
    """
    for scenario in scenarios:
        folder = root / scenario
        folder.mkdir(parents=True)
        graph = pd.DataFrame(0, index=NODES, columns=NODES)
        graph.loc["PetSite", NODES[1]] = graph.loc[NODES[1], NODES[2]] = 1
        graph.to_csv(folder / "graph.csv")
        if scenario == "low_traffic":
            _metrics(folder / "noissue/metrics.csv", 40)
        for split, number in issues:
            issue = folder / split / f"issue_{number}"
            begin = _metrics(issue / "metrics.csv", 5, slow=NODES[1])
            target = {
                "node": "PetSite",
                "metric": "latency",
                "agg": "Average",
                "timestamp": begin + 400,
            }
            told = {
                "target": target,
                "root_cause": {"node": NODES[1], "metric": None},
                "metadata": {"command": "x"},
            }
            (issue / "target.json").write_text(json.dumps(told), "utf-8")
    return root


def _metrics(path: Path, rows: int, slow: str = "") -> int:
    begin = 1_690_000_000 - rows * 300
    columns = {}
    for node in NODES:
        latency = np.full(rows, 0.1)
        latency[2:4] += 0.5 * (node == slow)
        columns |= {
            (node, "latency", statistic): latency for statistic in ("Average", "p50", "p90")
        }
        columns |= {
            (node, "requests", "Sum"): np.full(rows, 50.0),
            (node, "availability", "Average"): 100.0,
        }
    frame = pd.DataFrame(
        columns, index=pd.Index(begin + 300.0 * np.arange(rows), name="unix_timestamp")
    )
    frame.columns.names = ["microservice", "metric", "statistic"]
    silent = [
        (NODES[2], *metric) for metric in (("latency", "Average"), ("availability", "Average"))
    ]
    frame.loc[frame.index[0], silent] = np.nan  # an interval without traffic
    frame.loc[frame.index[0], (NODES[2], "requests", "Sum")] = 0
    path.parent.mkdir(parents=True)
    frame.to_csv(path)
    return begin


def nab(root: Path) -> Path:
    """Two files of 100 rows, an hour apart each; the second without an anomaly, its clock set back
    before row 50.
    """
    times = pd.date_range("2014-04-01", periods=100, freq="h").to_numpy()
    windows = {
        "realX/a.csv": [[times[40], times[49]], [times[70], times[70]]],
        "artificialY/b.csv": [],
    }
    for name, labels in windows.items():
        path = root / "data" / name
        path.parent.mkdir(parents=True)
        shown = times - (np.arange(100) >= 50) * (not labels) * np.timedelta64(90, "m")
        pd.DataFrame({"timestamp": shown, "value": np.arange(100)}).to_csv(path, index=False)
        windows[name] = [
            [f"{pd.Timestamp(t):%Y-%m-%d %H:%M:%S.%f}" for t in pair] for pair in labels
        ]
    (root / "labels").mkdir()
    (root / "labels/combined_windows.json").write_text(json.dumps(windows), "utf-8")
    return root


# A clone of Nezha. Seconds since midnight; a request of two services and a call that may not
# arrive:
#
#     ts-front /*      |-----------------------|   100 ms
#       ts-front GET     |-------------------|      80 ms
#         ts-back /b        |-------------|         60 ms, writes a log line in its middle

FAULTS = [
    (3600, "ts-front-service-1a-2b", "return"),
    (4000, "ts-back-service-3c-4d", "cpu_contention"),
]
STEPS = (
    # id, parent, pod, operation, starts after (ms), lasts (us)
    ("a", "root", "ts-front-service-1a-2b", "/*", 0, 100_000),
    ("b", "a", "ts-front-service-1a-2b", "GET", 10, 80_000),
    ("c", "b", "ts-back-service-3c-4d", "/b", 20, 60_000),
)
REQUESTS = {  # trace: starts at second; the last of `end`'s spans starts after the fault
    "usual": 3500,
    "early": 3600 - 131,
    "late": 3595,
    "during": 3600,
    "end": 3779.99,
    "after": 3781,
    "next": 3925,
    "second": 4001,
}


def labelled(root: Path, series: int = 3) -> Path:
    """Series with one event each, behind 1,200 points for learning."""
    root.mkdir(parents=True)
    for number in range(series):
        values = np.random.default_rng(number).normal(size=1600).astype(np.float32)
        labels = np.zeros(1600, dtype=np.int8)
        values[1400:1405] += 30
        labels[1400:1405] = 1
        parts: dict[str, np.ndarray] = {"train": values[:1200], "test": values[1200:]}
        parts |= {"train_label": labels[:1200], "test_label": labels[1200:]}
        np.savez(root / f"{number}.npz", **parts)
    return root


def clone(root: Path) -> Path:
    """A clone of Nezha's repository with one day of TrainTicket: requests at `REQUESTS`, and one in
    construct_data.
    """
    day = root / "rca_data/2023-01-29"
    faults = [
        {
            "inject_time": str(pd.Timestamp(DAY_NS + second * SECOND))[:19],
            "inject_timestamp": "1",
            "inject_pod": pod,
            "inject_type": kind,
        }
        for second, pod, kind in FAULTS
    ]
    day.mkdir(parents=True)
    (day / "2023-01-29-fault_list.json").write_text(
        json.dumps({"01": faults[1:], "00": faults[:1]}), "utf-8"
    )
    # the second file repeats all but two traces of the first
    for number, overlap in (("00_58", 0), ("00_59", 2)):
        traces = dict(list(REQUESTS.items())[overlap:])
        _spans(day / f"trace/{number}_trace.csv", traces)
        _logs(day / f"log/{number}_log.csv", traces)
    _spans(root / "construct_data/2023-01-29/trace/00_30_trace.csv", {"apart": 3601})
    _logs(root / "construct_data/2023-01-29/log/00_30_log.csv", {"apart": 3601})
    for _, pod, _ in FAULTS:
        _pod(day / f"metric/{pod}_metric.csv", pod)
    return root


def _rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _spans(path: Path, traces: dict[str, float]) -> None:
    rows = []
    for trace, second in traces.items():
        for span, parent, pod, operation, after_ms, us in STEPS[: 2 if trace == "second" else 3]:
            start = DAY_NS + int(second * SECOND) + after_ms * 1_000_000
            rows.append(
                {
                    "TraceID": trace,
                    "SpanID": span,
                    "ParentID": parent,
                    "PodName": pod,
                    "OperationName": operation,
                    "StartTimeUnixNano": start,
                    "EndTimeUnixNano": start + us * 1000,
                    "Duration": us,
                }
            )
    _rows(path, rows)


def _logs(path: Path, traces: dict[str, float]) -> None:
    lines = {
        50: "17:00:00.000 INFO  b.c.BackController#48 TraceID: x [get][Get]\n",
        60: "17:00:00.000 WARN  b.c.Back2Controller#9 TraceID: x\n",
        # after the end of its span
        500: "java.lang.IllegalStateException: no\n\tat x.y(Z.java:1)\n",
    }
    rows = []
    for trace, second in traces.items():
        for after_ms, text in lines.items():
            damaged = trace == "during" and after_ms == 500
            time = DAY_NS + int(second * SECOND) + after_ms * 1_000_000
            rows.append(
                {
                    "Timestamp": "",
                    "TimeUnixNano": YEAR_1754 if damaged else time,
                    "Node": "1.1.1.1",
                    "PodName": "ts-back-service-3c-4d",
                    "Container": "server",
                    "TraceID": trace,
                    "SpanID": "c",
                    "Log": json.dumps({"log": text, "stream": "stdout"}),
                }
            )
    _rows(path, rows)


def _pod(path: Path, pod: str) -> None:
    names = (
        "CpuUsage(m)",
        "CpuUsageRate(%)",
        "MemoryUsage(Mi)",
        "MemoryUsageRate(%)",
        "SyscallRead",
        "SyscallWrite",
        "NetworkReceiveBytes",
        "NetworkTransmitBytes",
        "NodeCpuUsageRate(%)",
        "NodeMemoryUsageRate(%)",
    )
    numbers = {name: float(i) for i, name in enumerate(names)}
    _rows(
        path,
        [
            {"Time": "t", "TimeStamp": DAY_NS // SECOND + 60 * i, "PodName": pod, **numbers}
            for i in range(3)
        ],
    )
