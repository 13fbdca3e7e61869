"""Figures of the lesson on confidence: how sure the answers are, and how often they are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import missing_extra
from aiops_lab.evaluate.calibration import Calibration
from aiops_lab.show.plots.style import BLACK, BLUE, GREEN, GREY, SERIES, SKY, VERMILLION, Look
from shop.course.drawing import new_axes, plain_ticks

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

CURVE_LOOKS: tuple[Look, ...] = (
    {"color": BLUE, "ls": "-"},
    {"color": VERMILLION, "ls": "--"},
)

KIND_LOOKS: dict[str, Look] = {
    "slow": {"marker": "o", "color": GREEN},
    "errors": {"marker": "s", "color": SKY},
    "deployment": {"marker": "X", "color": BLACK},
}

FEW_POINTS = 3
"""A curve of so few points has its first one labelled: the answers that are equally sure."""

BAND = 0.24
"""Height of the bands above and below the curves in which the single answers lie."""


class SetLook(NamedTuple):
    """How the points of one set of answers are drawn.

    They stand `aside` of their true place, so that no bar covers another, and their numbers on the
    side `align`.
    """

    colour: str
    marker: str
    aside: float
    align: str


SET_LOOKS = (
    SetLook(BLUE, "o", -0.014, "right"),
    SetLook(VERMILLION, "X", 0.014, "left"),
)


def diagrams(panels: Mapping[str, Mapping[str, Calibration]], said: str = "it said it was") -> None:
    """Draw reliability diagrams side by side: in each up to two sets of answers, by name.

    `said`: whose answers they are, below the axis.
    """
    width = 5 * len(panels)
    fig = plt.figure(figsize=(width, 4.6), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)
    for ax, (title, found) in zip(axes[0], panels.items(), strict=True):
        ax.set_title(title, loc="left")
        _reliability(ax, found)
        aside = ""
        if len(found) > 1:
            aside = "\n(the two sets are moved apart)"
        ax.set_xlabel(f"how sure {said}{aside}")


def _reliability(ax: Axes, found: Mapping[str, Calibration]) -> None:
    """Draw the sets of answers of one diagram."""
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", label="as sure as right")
    for (name, each), look in zip(found.items(), SET_LOOKS, strict=False):
        _bins(ax, name, each, look)
    ax.set_ylabel("share of right answers")
    ax.set_xlim(0, 1.15)  # room for the numbers at 1
    ax.set_ylim(-0.03, 1.06)
    ax.set_aspect("equal")
    below = (0.5, -0.2)
    ax.legend(loc="upper center", bbox_to_anchor=below, fontsize=9)


def _bins(ax: Axes, name: str, found: Calibration, look: SetLook) -> None:
    """Draw each bin as a point with its 95 % bounds and its number of answers; no line joins
    them, as bins of few answers make no trend.
    """
    rows = found.table
    right = rows["right"]
    moved = rows["confidence"] + look.aside
    x = np.minimum(moved, 1)
    below = right - rows["right_low"]
    above = rows["right_high"] - right
    bounds = np.clip([below, above], 0, None)
    error = f"error {found.ece:.2f}, of a perfect model {found.ece_perfect:.2f}"
    points: Look = {
        "fmt": look.marker,
        "color": look.colour,
        "capsize": 3,
        "ms": 7,
        "label": f"{name}: {found.n:,} answers, {error}",
    }
    ax.errorbar(x, right, bounds, **points)
    numbers: Look = {
        "ha": look.align,
        "va": "center",
        "color": look.colour,
        "bbox": {"fc": "white", "ec": "none", "pad": 0.5},  # over the diagonal
    }
    beside = x + 1.5 * look.aside
    for n, left, top in zip(rows["n"], beside, right, strict=True):
        ax.text(left, top, f"{n:,}", **numbers)


def curves_and_answers(
    answers: pd.DataFrame, curves: Mapping[str, Callable[[NDArray, NDArray], NDArray]]
) -> None:
    """Draw curves of confidence over the score, right answers above them and wrong ones below.

    `answers` has score (a multiple of the least), kind and right; curves take scores and shares.
    Answers lie in three rows, so that none covers another.
    """
    ax = new_axes(9, 4)
    scores = np.geomspace(1, 200, 100)
    shares = np.ones(100)
    for (name, curve), look in zip(curves.items(), CURVE_LOOKS, strict=False):
        confidence = curve(scores, shares)
        ax.semilogx(scores, confidence, label=name, **look)
    _band(ax, 1.03, "right answers")
    _band(ax, -0.27, "wrong answers")
    _answers(ax, answers.sort_values("score"))
    ax.set(
        xlabel="score, as a multiple of the least one (log scale)",
        ylabel="probability of being right",
        yticks=np.linspace(0, 1, 6),
        ylim=(-0.27, 1.27),
    )
    plain_ticks(ax, (1, 2, 5, 10, 40, 100))
    ax.legend(loc="center right")


def _band(ax: Axes, low: float, name: str) -> None:
    """Draw a band for answers, from a height `low` on."""
    ax.axhspan(low, low + BAND, color=GREY, alpha=0.15, lw=0)
    ax.text(1, low + BAND / 2, name, va="center")


def _answers(ax: Axes, answers: pd.DataFrame) -> None:
    """Draw each answer in its band, in three rows by turns."""
    aside = np.resize([-0.06, 0.0, 0.06], len(answers))
    band = np.where(answers["right"], 1.15, -0.15)
    heights = band + aside
    for kind, look in KIND_LOOKS.items():
        mine = answers["kind"] == kind
        scores = answers.loc[mine, "score"]
        ax.plot(scores, heights[mine], ls="none", label=kind, ms=8, mfc="none", **look)


def risks(curves: Mapping[str, pd.DataFrame]) -> None:
    """Draw the risk of each rule over its coverage, as `risk_coverage` returns them."""
    ax = new_axes(10, 4)
    looks = cycle(SERIES)
    for name, curve in curves.items():
        colour, marker, style = next(looks)
        look: Look = {"color": colour, "marker": marker, "ls": style, "ms": 4}
        ax.plot(curve["coverage"], curve["risk"], label=name, **look)
        if len(curve) <= FEW_POINTS:
            first = curve.iloc[0]
            text = f"{name}: {first['answered']:.0f} at once"
            ax.text(first["coverage"], first["risk"] - 0.07, text)
    ax.set(
        xlabel="coverage: share of the runs that get an answer, the surest first",
        ylabel="risk: share of wrong answers",
        xlim=(0, 1.02),
        ylim=(-0.03, 1.03),
    )
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
