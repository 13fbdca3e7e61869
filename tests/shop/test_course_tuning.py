"""The figures of lesson 03 say what they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from shop.course import tuning


def test_each_cost_of_a_setting_stands_in_its_map() -> None:
    rows = [(2, 1.5, 0, 3), (2, 3, 4, 0), (6, 1.5, 1, 5), (6, 3, 2, 0)]
    tuning.costs(pd.DataFrame(rows, columns=["z", "ratio", "missed", "false"]))
    missed, false = plt.gcf().axes
    assert [text.get_text() for text in missed.texts] == ["0", "4", "1", "2"]
    assert [text.get_text() for text in false.texts] == ["3", "0", "5", "0"]
    assert [text.get_text() for text in missed.get_xticklabels()] == ["1.5", "3"]
    assert [text.get_text() for text in missed.get_yticklabels()] == ["2", "6"]
    plt.close()


def test_a_fault_is_labelled_at_its_strongest_window_and_ringed_where_asked() -> None:
    begins = pd.date_range("2026-01-01", periods=4, freq="10s", tz="UTC")
    ends = begins + pd.Timedelta("10s")
    windows = pd.DataFrame(
        {"window": begins, "end": ends, "ratio": [1, 2, 4, 3], "z": [0, 3, 5, 6]}
    )
    faults = pd.DataFrame(
        {"start": begins[[1, 2]], "end": ends[[1, 3]], "duration_ms": [20, 80]},
    )
    tuning.effect_and_significance(windows[:1], windows[1:], faults, ringed_ms=20)
    (ax,) = plt.gcf().axes
    assert {text.get_text(): text.xy for text in ax.texts} == {"20 ms": (2, 3), "80 ms": (3, 6)}
    (ring,) = [line for line in ax.lines if line.get_label() == "fault of 20 ms"]
    assert ring.get_xydata().tolist() == [[2, 3]]
    plt.close()
