"""The service graph as a picture."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import networkx as nx
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from aiops_lab.show.plots.style import BLACK, BLUE, VERMILLION, dress, literal, plain_rows

Point = tuple[float, float]

COLUMN, LANE = 2.6, 0.6  # from one column to the next, and the height of a call to the left
LEVEL = 0.86 - COLUMN  # from a box to where the calls that come in begin to run level
SIDE = 0.46  # from the middle of a box to its side


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
    boxes, paths, rows = _layout(_without_cycles(edges, graph["callee"]))
    calls = {(edge.caller, edge.callee): edge for edge in plain_rows(edges)}
    back = calls.keys() - paths.keys()
    bottom = -rows / 2 - LANE * (len(back) + 0.5 * bool(back))
    right = max((box.x for box in boxes.values()), default=0)
    size = max(9, 3.4 * right / COLUMN + 3), 1 + 0.75 * (rows / 2 - bottom)
    ax = dress(ax, size, "Who calls whom")
    ax.axis("off")
    for name, box in boxes.items():
        _draw_box(ax, name, box)
    lane = -rows / 2
    for (caller, callee), edge in sorted(calls.items(), key=lambda item: item[0] in back):
        if (caller, callee) in paths:
            _draw_ahead(ax, boxes[caller], paths[caller, callee], edge)
        else:
            lane -= LANE
            _draw_back(ax, boxes[caller], boxes[callee], lane, edge)
    ax.set(xlim=(-0.6, right + (1.4 if back else 0.6)), ylim=(bottom, rows / 2))
    return ax


def _without_cycles(edges: pd.DataFrame, callees: pd.Series) -> nx.DiGraph:
    """Return the calls without those that lead back: they are drawn, but order no columns."""
    graph = nx.DiGraph(sorted(zip(edges["caller"], edges["callee"], strict=True)))
    graph.add_nodes_from(sorted(callees))
    while not nx.is_directed_acyclic_graph(graph):
        caller, callee = nx.find_cycle(graph)[-1][:2]
        graph.remove_edge(caller, callee)
    return graph


class _Box(NamedTuple):
    x: float
    y: float
    half: float  # half its height, which grows with the calls that come in


def _layout(
    graph: nx.DiGraph,
) -> tuple[dict[str, _Box], dict[tuple[str, str], list[Point]], int]:
    """Return the box of each name, the points where each call passes or ends, and the rows.

    Each name stands in the column of its depth, and each call has a row in all columns that it
    passes, and in its callee's. A column is sorted by the mean height of the calls that come in:
    the first half of the method of Sugiyama, Tagawa & Toda 1981
    (doi 10.1109/TSMC.1981.4308636).
    """
    columns: list[list[Any]] = [sorted(layer) for layer in nx.topological_generations(graph)]
    depth = {name: n for n, column in enumerate(columns) for name in column}
    steps = nx.create_empty_copy(graph)
    chains = {}
    for caller, callee in sorted(graph.edges):
        passed = [(n, caller, callee) for n in range(depth[caller] + 1, depth[callee])]
        for place in passed:
            columns[place[0]].append(place)
        chains[caller, callee] = [caller, *passed, callee]
        nx.add_path(steps, chains[caller, callee])
    boxes: dict[Any, _Box] = {}
    ends: dict[tuple[Any, Any], Point] = {}
    most = 1
    for n, column in enumerate(columns):
        x = COLUMN * n
        rows = sum(max(steps.in_degree(place), 1) for place in column)
        most = max(most, rows)
        top = rows / 2
        column.sort(key=lambda place: -fmean([boxes[s].y for s in steps.pred[place]] or [0]))
        for place in column:
            sources = sorted(steps.pred[place], key=lambda source: -boxes[source].y)
            for row, source in enumerate(sources):
                ends[source, place] = x, top - row - 0.5
            size = max(len(sources), 1)
            boxes[place] = _Box(x, top - size / 2, size / 2 - 0.28)
            top -= size
    paths = {call: list(map(ends.__getitem__, pairwise(chain))) for call, chain in chains.items()}
    return {name: boxes[name] for name in depth}, paths, most


def _draw_box(ax: Axes, name: str, box: _Box) -> None:
    corner = box.x - 0.4, box.y - box.half + 0.06
    height = 2 * box.half - 0.12
    # over the calls to the left
    ax.add_patch(
        FancyBboxPatch(
            corner, 0.8, height, zorder=2.5, boxstyle="round,pad=0.06", fc="white", ec=BLUE, lw=1.5
        )
    )
    ax.text(
        box.x, box.y, literal(name).replace(" ", "\n", 1), ha="center", va="center", fontsize=11
    )


def _draw_ahead(ax: Axes, caller: _Box, path: list[Point], edge: Any) -> None:
    """Draw a call from column to column.

    Its last stretch runs level and carries the label, so that no two labels meet.
    """
    *passed, (x, y) = path
    points = [(caller.x + SIDE, caller.y)]
    for column, height in passed:
        points += [(column + LEVEL, height), (column + SIDE, height)]
    points += [(x + LEVEL, y), (x - SIDE - 0.05, y)]
    _draw_line(ax, points, ">", edge)
    _label(ax, x - SIDE - 0.1, y, edge, "right")


def _draw_back(ax: Axes, caller: _Box, callee: _Box, lane: float, edge: Any) -> None:
    """Draw a call to the left, or to itself, along a lane below all boxes."""
    start, end = caller.x + 0.2, callee.x - 0.2
    foot = callee.y - callee.half - 0.05
    _draw_line(ax, [(start, caller.y), (start, lane), (end, lane), (end, foot)], "^", edge)
    _label(ax, start + 0.1, lane, edge, "left")


def _draw_line(ax: Axes, points: list[Point], head: str, edge: Any) -> None:
    x, y = zip(*points, strict=True)
    style = "--" if edge.errors else "-"
    ax.plot(x, y, color=_colour(edge), ls=style, lw=1.3, marker=head, ms=7, markevery=[-1])


def _label(ax: Axes, x: float, y: float, edge: Any, side: str) -> None:
    calls = f"{edge.calls:,} call{'s' * (edge.calls != 1)}"
    errors = f"{edge.errors:,} error{'s' * (edge.errors != 1)}"
    text = f"{calls}, p50 {edge.p50_ms:,.3g} ms\n{errors}"
    ax.text(x, y, text, color=_colour(edge), ha=side, va="center", fontsize=9, linespacing=1.7)


def _colour(edge: Any) -> str:
    return VERMILLION if edge.errors else BLACK
