"""Figures over time show what they were given. Looks at what was plotted, never at pixels."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.dates import num2date

from aiops_lab.detect.detectors import DETECTORS, Detector
from aiops_lab.results import ANOMALY_KINDS
from aiops_lab.show import plots
from aiops_lab.show.plots.style import COLOURS, mark_of
from tests.support.figures import FAULTS, anomaly, labelled, labels, line, second, windows, x_names

pytestmark = pytest.mark.usefixtures("closed_figures")


def test_a_timeline_shows_each_window_at_its_end() -> None:
    ax = plots.timeline(windows(), endpoint="/payment")
    times, latency = line(ax, "latency")
    assert times == [10, 20, 30, 40, 50, 60]
    assert latency[:4] == [100, 100, 110, 900]
    assert line(ax, "baseline")[1] == [100] * 6
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time on 2026-01-01 (UTC)", "latency (ms)")


def test_a_pooled_window_is_drawn_at_its_own_end() -> None:
    rows = windows(("/payment",)).iloc[:3]
    rows = rows.assign(end=[second(10), second(20), second(50)])
    ax = plots.timeline(rows, [anomaly("latency_anomaly", 20)])
    assert line(ax, "latency")[0] == [10, 20, 50]
    assert line(ax, "latency anomaly") == ([50], [110])


def test_an_anomaly_is_marked_on_its_window() -> None:
    ax = plots.timeline(windows(), [anomaly("latency_anomaly", 30)])
    assert line(ax, "latency anomaly") == ([40], [900])


def test_each_type_of_anomaly_has_a_mark_of_its_own() -> None:
    ax = plots.timeline(windows(), [anomaly("latency_anomaly", 30), anomaly("error_spike", 20)])
    assert line(ax, "latency anomaly") == ([40], [900])
    assert line(ax, "error spike") == ([30], [110])
    assert len({mark_of(detector.name) for detector in DETECTORS}) == len(DETECTORS)


def test_a_detector_of_the_user_has_its_own_mark() -> None:
    Detector(
        name="made_up",
        title="Made up",
        column="made_up",
        decide=lambda windows, baselines, sensitivity: windows["n"] > 0,
        evidence=lambda row: {},
        describe=lambda evidence: "",
        mark=("sky", "P"),
    )
    try:
        ax = plots.timeline(windows(), [anomaly("made_up", 30)])
        marked = labelled(ax, "made up")
        assert (marked.get_color(), marked.get_marker()) == (plots.SKY, "P")
    finally:
        del ANOMALY_KINDS["made_up"]


def test_a_type_that_nobody_registered_is_marked_in_grey() -> None:
    ax = plots.timeline(windows(), [anomaly("of_yore", 30)])
    marked = labelled(ax, "of yore")
    assert marked.get_color() == plots.GREY


def test_the_colours_that_a_detector_may_name_are_those_there_are() -> None:
    told = re.search(r"Colours are (.*?) \(Okabe", " ".join(str(Detector.__doc__).split()))
    assert told is not None
    assert set(re.split(r", | and ", told[1])) == COLOURS.keys()


def test_an_anomaly_of_another_endpoint_is_not_marked() -> None:
    ax = plots.timeline(
        windows(), [anomaly("latency_anomaly", 30, "/checkout")], endpoint="/payment"
    )
    assert "latency anomaly" not in labels(ax)


def test_a_window_without_an_answer_is_marked_on_its_baseline() -> None:
    assert line(plots.timeline(windows(), [anomaly("timeout", 40)]), "timeout") == ([50], [100])


def test_the_learning_windows_are_hollow() -> None:
    times, latency = line(plots.timeline(windows()), "learning")
    assert [t for t, y in zip(times, latency, strict=True) if y == y] == [10]


@pytest.mark.parametrize("faults", [FAULTS, list(FAULTS.itertuples())])
def test_a_true_fault_is_shaded_from_start_to_end(faults: object) -> None:
    (span,) = plots.timeline(windows(), faults=faults).patches
    left, right = num2date([span.get_x(), span.get_x() + span.get_width()])
    assert span.get_label() == "true fault: delay at /payment"
    assert abs(left - second(31)) < pd.Timedelta("1ms")
    assert abs(right - second(50)) < pd.Timedelta("1ms")


def test_without_faults_nothing_is_shaded() -> None:
    assert not plots.timeline(windows()).patches


def test_a_fault_that_goes_on_is_shaded_to_the_end() -> None:
    (span,) = plots.timeline(windows(), faults=FAULTS.assign(end=pd.NaT)).patches
    assert abs(num2date(span.get_x() + span.get_width()) - second(60)) < pd.Timedelta("1ms")


def test_an_unknown_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="endpoint must be one of"):
        plots.timeline(windows(), endpoint="/pay")


def test_rings_are_smaller_where_many_would_bury_the_line() -> None:
    few = windows(("/payment",))
    later = [few.assign(window=few["window"] + pd.Timedelta(n, "min")) for n in range(80)]
    sizes = []
    for rows in (few, pd.concat(later, ignore_index=True)):
        ax = plots.timeline(rows, [anomaly("latency_anomaly", 30)])
        ring = labelled(ax, "latency anomaly")
        sizes.append((ring.get_markersize(), ring.get_markeredgewidth()))
    assert sizes == [(12, 2), (6, 1)]


def test_no_windows_give_an_empty_timeline() -> None:
    assert not plots.timeline(windows()[:0]).lines


@pytest.mark.parametrize("minutes", [0.2, 1.7, 2.9, 17, 119, 170, 2_879, 80_000])
def test_the_time_axis_finds_its_ticks(minutes: float) -> None:
    rows = windows(("/payment",))
    rows["window"] = [second(60 * minutes * i / 5) for i in range(6)]
    fig = plots.overview(rows)
    fig.canvas.draw()  # warnings are errors: the locator warns when it has no interval
    labels = x_names(fig.axes[1])
    assert len(labels) >= 2


def test_an_overview_is_left_to_the_notebook_to_show_once() -> None:
    plots.overview(windows())
    assert plt.get_fignums() == []


def test_a_figure_draws_into_the_axes_it_is_given() -> None:
    ax = plt.figure().add_subplot()
    assert plots.timeline(windows(), ax=ax) is ax


def test_the_overview_has_latency_and_errors_of_every_endpoint() -> None:
    fig = plots.overview(windows(("/a", "/b", "/c")), [anomaly("error_spike", 30, "/b")], FAULTS)
    assert [ax.get_title(loc="left") for ax in fig.axes[::2]] == [
        "/a (shop)",
        "/b (shop)",
        "/c (shop)",
    ]
    assert line(fig.axes[3], "failed share")[1] == [0, 0, 0, 0.5, 0, 0]
    assert line(fig.axes[3], "error spike") == ([40], [0.5])
    assert "error spike" not in labels(fig.axes[1])
    assert "error spike" not in labels(fig.axes[2])
    explained = [text.get_text() for text in fig.legends[0].texts]
    assert len(explained) == len(set(explained))


def test_an_overview_of_nothing_is_an_empty_figure() -> None:
    assert plots.overview(windows().iloc[:0]).axes == []


def test_an_overview_leaves_its_windows_untouched() -> None:
    given = windows()
    plots.overview(given, [], FAULTS)
    pd.testing.assert_frame_equal(given, windows())
