"""The style of all figures: colours that everybody can tell apart, each with a marker.

Each drawing function takes an optional ``ax``, returns it, and draws what it is given: nothing is
decided here.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import MINUTELY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from aiops_lab.endpoints import printable
from aiops_lab.results import ANOMALY_KINDS, kind_of

Look = dict[str, Any]
"""How something is drawn: arguments of matplotlib by name."""

MAX_LABEL = 50  # characters of a name beside an axis
ROOMY_WINDOWS = 120  # so many in a figure leave room for marks of full size
SMALLEST_MARK = 0.4  # of the full size
MAX_TEXT = 90  # characters of a text with names, so that the axes keep their room

# Okabe and Ito's palette
COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#777777",
}
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE, GREY = COLOURS.values()

UNKNOWN_MARK = "grey", "o"  # of a type that no detector has registered

SERIES = (
    (BLUE, "o", "-"),
    (VERMILLION, "X", "--"),
    (GREEN, "^", ":"),
    (PURPLE, "s", "-."),
    (ORANGE, "D", "-"),
    (BLACK, "v", "--"),
)


FAULT_LOOK: Look = {"fc": YELLOW, "ec": ORANGE, "hatch": "..", "lw": 0.5}


def figure(size: tuple[float, float], dpi: float = 100) -> Figure:
    """Return an empty figure that pyplot has let go of.

    A notebook shows it once, as what the cell returns.
    """
    fig = plt.figure(figsize=size, dpi=dpi, layout="constrained")
    plt.close(fig)
    return fig


def dress(
    ax: Axes | None,
    size: tuple[float, float],
    title: str = "",
    x: str = "",
    y: str = "",
) -> Axes:
    """Return `ax`, or that of a new figure of `size` inches, with its title, labels and grid."""
    ax = ax or plt.subplots(figsize=size, layout="constrained")[1]
    ax.set_title(literal(title), fontsize=12, loc="left")
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    ax.tick_params(labelsize=10)
    ax.grid(axis="both" if y else "x", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def literal(text: str, longest: int = MAX_TEXT) -> str:
    """Return a text with names from outside as it may be drawn: printable, short, no formula."""
    return printable(text, longest).replace("$", r"\$")


def axis_label(name: str) -> str:
    """Return a name as it stands beside an axis, cut so that it leaves room for the figure."""
    return literal(name, MAX_LABEL)


def write_cell(ax: Axes, x: float, y: float, text: str, colour: str, size: int) -> None:
    """Write a text into the middle of a cell of a table."""
    ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=size)


def note(
    ax: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **look: Any
) -> None:
    """Write `text` beside a place of the data; the offset is in points."""
    ax.annotate(text, place, offset, textcoords="offset points", **{"va": "center"} | look)


def log_axis(ax: Axes) -> None:
    """Make y logarithmic, with plain numbers beside it."""
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    ax.yaxis.set_minor_formatter(StrMethodFormatter("{x:,.6g}"))


def three_digits(number: float) -> str:
    """Return a number with three significant digits, but never as 1e+03."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,g}"


def plain_rows(frame: Any) -> list[Any]:
    """Return the rows of a frame, or the items of another iterable, to be read by field name."""
    if isinstance(frame, pd.DataFrame):
        return list(frame.itertuples())
    return list(frame)


def mark_of(kind: str) -> tuple[str, str]:
    """Return colour and marker of a type of anomaly, as its detector has registered them.

    Each has both, so that a copy in grey still tells them apart.
    """
    known = kind_of(kind)
    colour, marker = known.mark if known else UNKNOWN_MARK
    return COLOURS.get(colour, colour), marker


def _kinds_in_order(anomalies: list[Any]) -> list[str]:
    """Return the types of some anomalies in the order in which they were registered."""
    types = {a.type: kind_of(a.type) for a in anomalies}  # which registers those of the package
    known = [kind for kind in ANOMALY_KINDS if kind in types]
    return [*known, *sorted(types.keys() - known)]


def draw_marks(ax: Axes, rows: pd.DataFrame, anomalies: list[Any], heights: pd.Series) -> None:
    """Mark the windows of anomalies, each at its height; smaller where many would bury the line."""
    n = max(1, len(rows))
    room = (ROOMY_WINDOWS / n) ** 0.5
    size = max(SMALLEST_MARK, min(1.0, room))
    at = rows.assign(x=interval_ends(rows), y=heights)
    at = at.set_index(["service", "endpoint", "window"])
    for kind in _kinds_in_order(anomalies):
        keys = [(a.service, a.endpoint, a.window) for a in anomalies if a.type == kind]
        marked = at[at.index.isin(keys)]
        if marked.empty:
            continue
        colour, marker = mark_of(kind)
        look: Look = {"mec": BLACK, "mew": 0.6 * size, "ms": 10 * size}
        if marker == "o":  # a ring, so that a second mark on the same window shows inside it
            look = {"mfc": "none", "mew": 2 * size, "ms": 12 * size}
        label = kind.replace("_", " ")
        ax.plot(marked["x"], marked["y"], marker, color=colour, label=label, zorder=5, **look)


def interval_ends(rows: pd.DataFrame) -> pd.Series:
    """Return when each window ended; without a column ``end`` all are as long as the shortest."""
    if "end" in rows:
        return rows["end"]
    starts = rows["window"].drop_duplicates().sort_values()
    shortest = pd.Timedelta(0)
    if len(starts) > 1:
        shortest = starts.diff().min()
    return rows["window"] + shortest


def known_ends(faults: Any, last: pd.Timestamp, sizes: bool = False) -> list[tuple[str, Any, Any]]:
    """Return what each fault is, with `sizes` also how large, its start and its end, `last` where
    it has none.
    """
    told = []
    for fault in plain_rows(faults):
        end = last if pd.isna(fault.end) else fault.end
        size = _size_of(fault) if sizes else ""
        name = literal(f"{fault.kind}{size} at {fault.endpoint}")
        told.append((name, fault.start, end))
    return told


def _size_of(fault: Any) -> str:
    """Return how large a fault is, such as " of 400 ms" or " of 80 %"; "" where it has no size."""
    duration_ms = getattr(fault, "duration_ms", 0)
    factor = getattr(fault, "factor", 1)
    rate = getattr(fault, "rate", 0)
    if duration_ms > 0:
        return f" of {duration_ms:g} ms"
    if factor > 1:
        return f" of {factor:g} times"
    if fault.kind == "error" and rate > 0:
        return f" of {100 * rate:g} %"
    return ""


def shade_faults(ax: Axes, faults: Any, times: pd.Series) -> None:
    """Shade each true fault, up to the last of `times` where it has no end."""
    for name, start, end in known_ends(faults, times.max()):
        ax.axvspan(start, end, zorder=0, label=f"true fault: {name}", alpha=0.35, **FAULT_LOOK)
    time_axis(ax, times)


def time_axis(ax: Axes, times: pd.Series) -> None:
    """Put whole times in UTC on the ticks of x, and the date in its label where all share one."""
    fig: Any = ax.get_figure(root=True)
    inches = round(ax.bbox.width / fig.dpi)
    locator = AutoDateLocator(minticks=2, maxticks=max(5, inches))
    # by default no 2: eight minutes would get one tick
    locator.intervald[MINUTELY] = [1, 2, 5, 10, 15, 30]
    # whole times on every tick: a bare "30" would leave the reader to guess its unit
    clock = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"]
    zeros = ["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M:%S"]
    formatter = ConciseDateFormatter(locator, "UTC", clock, zero_formats=zeros, show_offset=False)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(formatter)
    if times.empty:
        return
    first_day = times.min().date()
    last_day = times.max().date()
    if first_day == last_day:
        ax.set_xlabel(f"time on {first_day:%Y-%m-%d} (UTC)")


def signs(*axes: Axes) -> dict[str, Any]:
    """Return the handles and labels of a legend: each label once, in the order of drawing."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    return {"handles": list(handles.values()), "labels": list(handles)}


def legend_beside(ax: Axes) -> None:
    """Explain the signs of `ax` to its right."""
    ax.legend(**signs(ax), loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
