"""Figures: each function takes ``ax``, returns it, and computes nothing heavy."""

from aiops_lab.checks import missing_extra

try:
    from aiops_lab.show.plots.graph import call_graph
    from aiops_lab.show.plots.rules import RIVALS, leaderboard, size_curve
    from aiops_lab.show.plots.scores import (
        cost_curve,
        heat_map,
        ledger,
        precision_recall,
        reliability,
    )
    from aiops_lab.show.plots.story import story
    from aiops_lab.show.plots.style import (
        BLACK,
        BLUE,
        GREEN,
        GREY,
        ORANGE,
        PURPLE,
        SKY,
        VERMILLION,
        YELLOW,
        figure,
    )
    from aiops_lab.show.plots.timeline import incidents, overview, timeline
    from aiops_lab.show.plots.trace import waterfall
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "RIVALS",
    "SKY",
    "VERMILLION",
    "YELLOW",
    "call_graph",
    "cost_curve",
    "figure",
    "heat_map",
    "incidents",
    "leaderboard",
    "ledger",
    "overview",
    "precision_recall",
    "reliability",
    "size_curve",
    "story",
    "timeline",
    "waterfall",
]
