"""Nezha's days as cases."""

from __future__ import annotations

from pathlib import Path

from aiops_lab.datasets import nezha
from aiops_lab.datasets.cases import Case, TracesCase

# Nezha


def read_nezha(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    cases: list[Case] = []
    left_out: list[str] = []
    for folder in sorted(p for p in directory.iterdir() if nezha.is_day(p)):
        day = nezha.NezhaDay(folder, logs)
        for fault in day.faults:
            name = f"{folder.name}/{fault['id']}"
            if fault["abnormal_traces"] == 0:
                left_out.append(name)
                continue
            cases.append(
                TracesCase(
                    name, folder.name, fault["service"], fault["fault_type"], fault["id"], day
                )
            )
    return cases, left_out
