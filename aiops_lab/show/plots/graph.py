"""The service graph as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from aiops_lab.show.plots.style import BLUE, dress, endpoint_colour, plain_rows


def service_graph(graph: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw who calls whom: callers left, callees right, each arrow with its calls, median and
    errors.

    Parameters
    ----------
    graph : DataFrame
        Columns caller, callee, calls, errors, p50_ms and p95_ms, as `aiops_lab.service_graph`
        returns it. A caller that is missing means a request from outside.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Red and dashed: calls that failed.
    """
    edges = graph[graph["caller"].notna()]
    nodes, chains = _layout([*graph["caller"].dropna(), *graph["callee"]], edges)
    low = min((n.low for n in nodes.values()), default=0)
    high = max((n.high for n in nodes.values()), default=1)
    back = [edge for edge in plain_rows(edges) if (edge.caller, edge.callee) not in chains]
    bottom = low - _CALL * (len(back) + 0.5 * bool(back))
    right = max((n.x for n in nodes.values()), default=0)
    ax = dress(
        ax,
        (max(9, 3.4 * right / _COLUMN + 3), 1 + 0.85 * (high - bottom)),
        "Who calls whom",
        "",
        "",
    )
    ax.axis("off")
    for name, node in nodes.items():
        if isinstance(name, str):
            _draw_node(ax, name, node)
    for edge in plain_rows(edges):
        if chain := chains.get((edge.caller, edge.callee)):
            _draw_call(ax, [nodes[n] for n in chain], chain, edge)
    for n, edge in enumerate(back, 1):
        _draw_call_back(ax, nodes[edge.caller], nodes[edge.callee], low - _CALL * n, edge)
    ax.set(xlim=(-0.6, right + (1.4 if back else 0.6)), ylim=(bottom, high))
    return ax


_COLUMN, _CALL = 2.6, 0.5  # from one column to the next, and the height of a call's label

_LEVEL = 0.86 - _COLUMN  # from a box to where the calls that come in begin to run level


class _Node(NamedTuple):
    """A name in the service graph, or where a long call passes a column."""

    x: float
    low: float
    high: float
    calls: list[Any]  # the chains of the calls that come in, from above

    @property
    def y(self) -> float:
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """Half the height of its box, which grows with the calls that come in."""
        return 0.22 + _CALL * max(len(self.calls) - 1, 0) / 2

    def port(self, chain: Any) -> float:
        """At what height a call comes in."""
        return self.y + _CALL * ((len(self.calls) - 1) / 2 - self.calls.index(chain))


def _layout(
    names: list[str], edges: pd.DataFrame
) -> tuple[dict[Any, _Node], dict[tuple[str, str], tuple[Any, ...]]]:
    """Each name in a column of its depth, and the columns that each call passes, with few
    crossings.

    After Sugiyama, Tagawa & Toda 1981 (doi 10.1109/TSMC.1981.4308636): a call that skips a column
    takes a place in it, and a column is sorted by the middle of its neighbours.
    """
    graph = nx.DiGraph(zip(edges["caller"], edges["callee"], strict=True))
    graph.add_nodes_from(names)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    # a call back: drawn, but not counted for the columns
    while not nx.is_directed_acyclic_graph(graph):
        graph.remove_edge(*nx.find_cycle(graph)[-1][:2])
    columns: list[list[Any]] = [sorted(layer) for layer in nx.topological_generations(graph)]
    depth = {name: x for x, column in enumerate(columns) for name in column}
    chains = {
        (a, b): (a, *((a, b, x) for x in range(depth[a] + 1, depth[b])), b)
        for a, b in sorted(graph.edges)
    }
    for chain in chains.values():
        for passed in chain[1:-1]:
            columns[passed[2]].append(passed)
    near = nx.Graph()
    near.add_nodes_from(names)
    for chain in chains.values():
        nx.add_path(near, chain)
    for _ in range(4):  # to the right and back
        for x in range(1, len(columns)):
            _uncross(columns[x], columns[x - 1], near)
        for x in range(len(columns) - 1, 0, -1):
            _uncross(columns[x - 1], columns[x], near)
    return _placed(columns, chains), chains


def _uncross(column: list[Any], beside: list[Any], near: nx.Graph) -> None:
    """Sort a column by the middle of each one's neighbours in the column beside it; who has none
    there stays.
    """
    place = {node: y for y, node in enumerate(beside)}
    middle = {node: float(y) for y, node in enumerate(column)}
    for node in column:
        found = [place[n] for n in near[node] if n in place]
        middle[node] = float(np.mean(found)) if found else middle[node]
    column.sort(key=middle.__getitem__)


def _placed(columns: list[list[Any]], chains: Mapping[Any, tuple[Any, ...]]) -> dict[Any, _Node]:
    nodes: dict[Any, _Node] = {}
    for x, column in enumerate(columns):
        calls = [[c for c in chains.values() if c[-1] == node] for node in column]
        heights = [
            max(1.0, 0.5 + _CALL * len(c)) if isinstance(n, str) else _CALL
            for n, c in zip(column, calls, strict=True)
        ]
        top = sum(heights) / 2
        for node, incoming, height in zip(column, calls, heights, strict=True):
            incoming.sort(key=lambda chain: -nodes[chain[-2]].y)
            nodes[node] = _Node(_COLUMN * x, top - height, top, incoming)
            top -= height
    return nodes


def _draw_node(ax: Axes, name: str, node: _Node) -> None:
    corner = node.x - 0.4, node.y - node.half + 0.06
    box = FancyBboxPatch(
        corner, 0.8, 2 * node.half - 0.12, boxstyle="round,pad=0.06", fc="white", ec=BLUE, lw=1.5
    )
    ax.add_patch(box).set_zorder(2.5)  # over the calls back
    ax.text(node.x, node.y, name.replace(" ", "\n", 1), ha="center", va="center", fontsize=11)


def _draw_call(ax: Axes, nodes: list[_Node], chain: Any, edge: Any) -> None:
    """Draw a call from column to column. Its last stretch runs level and carries the label: no two
    labels meet.
    """
    first = nodes[0]
    last = nodes[-1]
    y = last.port(chain)
    head = last.x - 0.46
    points = [(first.x + 0.46, first.y)]
    points += [(node.x + side, node.y) for node in nodes[1:-1] for side in (_LEVEL, 0.46)]
    _draw_line(ax, [*points, (last.x + _LEVEL, y), (head, y)], edge)
    _label(ax, head - 0.1, y, edge, "right")


def _draw_call_back(ax: Axes, caller: _Node, callee: _Node, lane: float, edge: Any) -> None:
    """Draw a call to the left, or to itself, along a lane below all boxes."""
    start = caller.x + 0.2
    end = callee.x - 0.2
    _draw_line(
        ax, [(start, caller.y), (start, lane), (end, lane), (end, callee.y - callee.half)], edge
    )
    _label(ax, start + 0.1, lane, edge, "left")


def _draw_line(ax: Axes, points: list[tuple[float, float]], edge: Any) -> None:
    look: dict[str, Any] = {
        "ls": "--" if edge.errors else "-",
        "color": endpoint_colour(edge),
        "lw": 1.3,
    }
    ax.plot(*zip(*points[:-1], strict=True), **look)
    arrow = look | {"arrowstyle": "-|>", "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", points[-1], points[-2], arrowprops=arrow)


def _label(ax: Axes, x: float, y: float, edge: Any, side: str) -> None:
    calls, errors = (
        f"{n:,} {what}{'s' * (n != 1)}"
        for n, what in ((edge.calls, "call"), (edge.errors, "error"))
    )
    text = f"{calls}, p50 {edge.p50_ms:,.3g} ms\n{errors}"
    ax.text(
        x, y, text, ha=side, va="center", fontsize=9, color=endpoint_colour(edge), linespacing=1.7
    )
