"""The service graph as numbers for a template: a box an endpoint, an arrow a pair of them.

Nothing here is drawn: a template writes the SVG, so that all names in it are escaped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

COLUMN_WIDTH, ROW_HEIGHT = 285.0, 44.0
BOX = 150.0  # the width of a box
MARGIN = 12.0
MOST_NODES = 40

GraphEdge = Mapping[Any, Any]  # a row of `Monitor.graph`


class Box(NamedTuple):
    """An endpoint in the graph: its upper left corner and its size."""

    name: str
    x: float
    y: float
    height: float

    @property
    def bottom(self) -> float:
        """Where its lower edge is."""
        return self.y + self.height

    @property
    def right(self) -> float:
        """Where its right edge is."""
        return self.x + BOX


class Arrow(NamedTuple):
    """A pair of the graph: its SVG path, where its label ends, and its row of the table."""

    path: str
    x: float
    y: float
    edge: GraphEdge


class GraphPicture(NamedTuple):
    """Boxes and arrows, the size of all, and how many endpoints are left out."""

    boxes: list[Box]
    arrows: list[Arrow]
    width: float
    height: float
    left_out: int


def graph(edges: Iterable[GraphEdge], names: Iterable[str]) -> GraphPicture:
    """Return the service graph, callers left of their callees.

    Parameters
    ----------
    edges : iterable of dict
        Rows of `Monitor.graph`.
    names : iterable of str
        Endpoints that are shown although nobody calls them. Of more than 40 those are shown that
        have most calls.
    """
    edges = list(edges)
    calls: dict[str, int] = dict.fromkeys(names, 0)
    for edge in edges:
        for name in _ends(edge):
            known = calls.get(name, 0)
            calls[name] = known + edge["calls"]
    by_calls = sorted(calls, key=lambda name: (-calls[name], name))
    chosen = by_calls[:MOST_NODES]
    edges = [each for each in edges if _ends(each).issubset(chosen)]
    by_name = _boxes(chosen, edges)
    boxes = [*by_name.values()]
    right = max((box.right for box in boxes), default=0.0)
    low = max((box.bottom for box in boxes), default=0.0)
    if any(_leads_back(edge, by_name) for edge in edges):
        low += ROW_HEIGHT
    return GraphPicture(
        boxes=boxes,
        arrows=_arrows(by_name, edges),
        width=right + MARGIN,
        height=low + MARGIN,
        left_out=len(calls) - len(chosen),
    )


def _ends(edge: GraphEdge) -> set[str]:
    return {edge["caller"], edge["callee"]}


def _boxes(names: list[str], edges: list[GraphEdge]) -> dict[str, Box]:
    callers: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        callers[edge["callee"]].add(edge["caller"])
    depth = _depths(names, callers)
    boxes: dict[str, Box] = {}

    def order(name: str) -> tuple[float, str]:
        return _height(callers[name], boxes), name

    columns = 1 + max(depth.values(), default=-1)
    for column in range(columns):
        inside = [name for name in names if depth[name] == column]
        x = MARGIN + COLUMN_WIDTH * column
        y = MARGIN
        for name in sorted(inside, key=order):
            drawn_callers = callers[name] & boxes.keys()
            size = ROW_HEIGHT * max(1, len(drawn_callers))
            boxes[name] = Box(name, x, y, height=size - 10)
            y += size
    return boxes


def _height(callers: set[str], boxes: Mapping[str, Box]) -> float:
    """Return the mean height of those that call an endpoint, so that few arrows cross."""
    drawn = callers & boxes.keys()
    if not drawn:
        return 0.0
    return fmean(boxes[name].y for name in drawn)


def _depths(names: list[str], callers: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the column of each name: one more than its callers', as far as there is no cycle."""
    depth: dict[str, int] = {}
    left = sorted(names)

    def waits_for(name: str) -> tuple[int, str]:
        without_depth = callers[name] - depth.keys()
        return len(without_depth - {name}), name

    while left:
        first = min(left, key=waits_for)
        left.remove(first)
        placed = callers[first] & depth.keys()
        deepest = max((depth[name] for name in placed), default=-1)
        depth[first] = deepest + 1
    return depth


def _arrows(boxes: Mapping[str, Box], edges: list[GraphEdge]) -> list[Arrow]:
    incoming: dict[str, list[GraphEdge]] = defaultdict(list)
    for edge in edges:
        incoming[edge["callee"]].append(edge)
    arrows = []
    for name, calls in incoming.items():
        callee = boxes[name]
        calls.sort(key=lambda edge: boxes[edge["caller"]].y)
        for row, edge in enumerate(calls):
            caller = boxes[edge["caller"]]
            if _leads_back(edge, boxes):
                arrow = _arrow_back(caller, callee, edge)
            else:
                into = callee.height * (row + 0.5) / len(calls)
                arrow = _arrow(caller, callee, callee.y + into, edge)
            arrows.append(arrow)
    return arrows


def _leads_back(edge: GraphEdge, boxes: Mapping[str, Box]) -> bool:
    caller = boxes[edge["caller"]]
    callee = boxes[edge["callee"]]
    return caller.x >= callee.x


def _arrow(caller: Box, callee: Box, end: float, edge: GraphEdge) -> Arrow:
    """Return an arrow to the right, into the height `end`."""
    middle = caller.y + caller.height / 2
    level = callee.x - (COLUMN_WIDTH - BOX) + 22
    begin = _points((caller.right, middle))
    bend = _points((level, middle), (caller.right, end), (level, end))
    tip = _points((callee.x - 3, end))
    path = f"M{begin}C{bend}L{tip}"
    return Arrow(path, callee.x - 10, end - 5, edge)


def _arrow_back(caller: Box, callee: Box, edge: GraphEdge) -> Arrow:
    """Return an arrow to the left, or to where it began, that runs below both boxes."""
    start = caller.x + BOX / 2
    end = callee.x + BOX / 3
    middle = (start + end) / 2
    low = max(caller.bottom, callee.bottom) + ROW_HEIGHT
    tip = end, callee.bottom + 3
    begin = _points((start, caller.bottom))
    bend = _points((start, low), (end, low), tip)
    path = f"M{begin}C{bend}"
    return Arrow(path, middle + BOX / 4, low - 10, edge)


def _points(*points: tuple[float, float]) -> str:
    """Return points as a part of an SVG path."""
    return " ".join(f"{x:.0f} {y:.0f}" for x, y in points)
