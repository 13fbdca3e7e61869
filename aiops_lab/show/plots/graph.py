"""The service graph as a picture."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import networkx as nx
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from aiops_lab.show.plots.style import BLACK, BLUE, VERMILLION, Look, dress, literal, plain_rows

Point = tuple[float, float]
_Call = tuple[str, str]  # caller, callee

COLUMN = 2.6  # from one column to the next
LANE = 0.6  # the height of a call to the left
LEVEL = 0.86 - COLUMN  # from a box to where the calls that come in begin to run level
SIDE = 0.46  # from the middle of a box to its side
BOX_LOOK: Look = {
    "boxstyle": "round,pad=0.06",
    "fc": "white",
    "ec": BLUE,
    "lw": 1.5,
    "zorder": 2.5,  # over the calls to the left
}


def call_graph(graph: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw who calls whom: an arrow a pair, with its calls, median duration and errors.

    Parameters
    ----------
    graph : DataFrame
        Columns caller, callee, calls, errors, p50_ms and p95_ms, as `aiops_lab.call_graph`
        returns it. A caller that is missing means a request from outside.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Callers stand left of their callees. Red and dashed: calls that failed.
    """
    edges = graph[graph["caller"].notna()]
    ahead = _without_cycles(edges, graph["callee"])
    boxes, paths, rows = _layout(ahead)
    calls = plain_rows(edges)
    back = [edge for edge in calls if _ends(edge) not in paths]
    top = rows / 2
    bottom = -top
    margin = 0.6
    if back:
        lanes = len(back) + 0.5
        bottom -= LANE * lanes
        margin = 1.4
    right = max((box.x for box in boxes.values()), default=0)
    columns = right / COLUMN
    width = max(9, 3.4 * columns + 3)
    height = 1 + 0.75 * (top - bottom)
    ax = dress(ax, (width, height), "Who calls whom")
    ax.axis("off")
    for name, box in boxes.items():
        _draw_box(ax, name, box)
    for edge in calls:
        path = paths.get(_ends(edge))
        if path:
            _draw_ahead(ax, boxes[edge.caller], path, edge)
    lane = -top
    for edge in back:
        lane -= LANE
        caller = boxes[edge.caller]
        callee = boxes[edge.callee]
        _draw_back(ax, caller, callee, lane, edge)
    ax.set_xlim(-0.6, right + margin)
    ax.set_ylim(bottom, top)
    return ax


def _ends(edge: Any) -> _Call:
    return edge.caller, edge.callee


def _without_cycles(edges: pd.DataFrame, callees: pd.Series) -> nx.DiGraph:
    """Return the calls without those that lead back: they are drawn, but order no columns."""
    calls = zip(edges["caller"], edges["callee"], strict=True)
    graph = nx.DiGraph(sorted(calls))
    graph.add_nodes_from(sorted(callees))
    while not nx.is_directed_acyclic_graph(graph):
        *_, last_call = nx.find_cycle(graph)
        caller, callee = last_call[:2]
        graph.remove_edge(caller, callee)
    return graph


class _Box(NamedTuple):
    x: float
    y: float
    half: float  # half its height, which grows with the calls that come in


def _layout(
    graph: nx.DiGraph,
) -> tuple[dict[str, _Box], dict[_Call, list[Point]], int]:
    """Return the box of each name, the points where each call passes or ends, and the rows.

    Each name stands in the column of its depth, and each call has a row in all columns that it
    passes, and in its callee's. A column is sorted by the mean height of the calls that come in:
    the first half of the method of Sugiyama, Tagawa & Toda 1981
    (doi 10.1109/TSMC.1981.4308636).
    """
    generations = nx.topological_generations(graph)
    columns: list[list[Any]] = [sorted(names) for names in generations]
    depth = {name: n for n, column in enumerate(columns) for name in column}
    steps = nx.create_empty_copy(graph)
    chains = {}
    for caller, callee in sorted(graph.edges):
        between = range(depth[caller] + 1, depth[callee])
        passed = [(column, caller, callee) for column in between]
        for place in passed:
            columns[place[0]].append(place)
        chain = [caller, *passed, callee]
        nx.add_path(steps, chain)
        chains[caller, callee] = chain
    boxes, ends, rows = _stack(columns, steps)
    paths = {}
    for call, chain in chains.items():
        paths[call] = [ends[step] for step in pairwise(chain)]
    return {name: boxes[name] for name in depth}, paths, rows


def _stack(
    columns: list[list[Any]],
    steps: nx.DiGraph,
) -> tuple[dict[Any, _Box], dict[Any, Point], int]:
    """Return the box of each place, the point where each step ends, and the rows.

    A place is a name, or a call where it passes a column; a step leads from column to column.
    """
    boxes: dict[Any, _Box] = {}
    ends: dict[Any, Point] = {}
    most = 1

    def depth_of_callers(place: Any) -> float:
        callers = [-boxes[source].y for source in steps.pred[place]]
        return fmean(callers or [0])

    for n, column in enumerate(columns):
        x = COLUMN * n
        rows = sum(max(steps.in_degree(place), 1) for place in column)
        most = max(most, rows)
        top = rows / 2
        for place in sorted(column, key=depth_of_callers):
            sources = sorted(steps.pred[place], key=lambda source: -boxes[source].y)
            for row, source in enumerate(sources):
                ends[source, place] = x, top - row - 0.5
            size = max(len(sources), 1)
            half = size / 2
            boxes[place] = _Box(x, top - half, half - 0.28)
            top -= size
    return boxes, ends, most


def _draw_box(ax: Axes, name: str, box: _Box) -> None:
    bottom = box.y - box.half
    corner = box.x - 0.4, bottom + 0.06
    height = 2 * box.half - 0.12
    frame = FancyBboxPatch(corner, 0.8, height, **BOX_LOOK)
    ax.add_patch(frame)
    method_above_route = literal(name).replace(" ", "\n", 1)
    ax.text(box.x, box.y, method_above_route, ha="center", va="center", fontsize=11)


def _draw_ahead(ax: Axes, caller: _Box, path: list[Point], edge: Any) -> None:
    """Draw a call from column to column.

    Its last stretch runs level and carries the label, so that no two labels meet.
    """
    *passed, (x, y) = path
    points = [(caller.x + SIDE, caller.y)]
    for column, height in passed:
        points.append((column + LEVEL, height))
        points.append((column + SIDE, height))
    points.append((x + LEVEL, y))
    points.append((x - SIDE - 0.05, y))
    _draw_line(ax, points, ">", edge)
    _label(ax, x - SIDE - 0.1, y, edge, "right")


def _draw_back(ax: Axes, caller: _Box, callee: _Box, lane: float, edge: Any) -> None:
    """Draw a call to the left, or to itself, along a lane below all boxes."""
    start = caller.x + 0.2
    end = callee.x - 0.2
    foot = callee.y - callee.half - 0.05
    points = [(start, caller.y), (start, lane), (end, lane), (end, foot)]
    _draw_line(ax, points, "^", edge)
    _label(ax, start + 0.1, lane, edge, "left")


def _draw_line(ax: Axes, points: list[Point], head: str, edge: Any) -> None:
    x, y = zip(*points, strict=True)
    look: Look = {
        "color": _colour(edge),
        "ls": "--" if edge.errors else "-",
        "lw": 1.3,
        "marker": head,
        "ms": 7,
        "markevery": [-1],
    }
    ax.plot(x, y, **look)


def _label(ax: Axes, x: float, y: float, edge: Any, side: str) -> None:
    calls = _counted(edge.calls, "call")
    errors = _counted(edge.errors, "error")
    text = f"{calls}, p50 {edge.p50_ms:,.3g} ms\n{errors}"
    look: Look = {
        "color": _colour(edge),
        "ha": side,
        "va": "center",
        "fontsize": 9,
        "linespacing": 1.7,
    }
    ax.text(x, y, text, **look)


def _counted(n: int, what: str) -> str:
    if n == 1:
        return f"1 {what}"
    return f"{n:,} {what}s"


def _colour(edge: Any) -> str:
    return VERMILLION if edge.errors else BLACK
