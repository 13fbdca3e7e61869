"""The volume under the surface (VUS-PR) of the detectors on labelled series, by its authors' own
package: ``make peers``, or ``python -m benchmarks.vus [--data DIR] [--only NAME] [--series N]``
where vus is installed.

VUS-PR (Paparrizos et al. 2022, doi 10.14778/3551793.3551830) is the area under precision and recall
over all thresholds, with labels that fade out around each anomaly, averaged over how far they fade:
up to the window that the package finds in the autocorrelation of a series. It asks no threshold of
a detector and counts points, so long anomalies count more than in F1 of events. The mean over
series; those without an anomaly behind the part for learning have none.

Without the package: exit 2.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aiops_lab.datasets.cases import SeriesCase
from benchmarks import _labelled
from benchmarks._data import data_folder_or_hint, data_parser, folder_of
from benchmarks.accuracy import cases_of

SETS = ("wsd", "aiops")
THRESHOLDS = 250  # of the package
METHODS = (_labelled.MINE, *_labelled.BASELINES)

# scores, labels (0 or 1), the window -> VUS-PR
Judge = Callable[[NDArray, NDArray, int], float]


def by_package(scores: NDArray, labels: NDArray, window: int) -> float:
    """Return VUS-PR as the package has it."""
    metrics: Any = importlib.import_module("vus.metrics")
    found = metrics.get_metrics(scores, labels, metric="vus", slidingWindow=window, thre=THRESHOLDS)
    return float(found["VUS_PR"])


def window_of(values: NDArray) -> int:
    """Return the window of a series that the package finds in its autocorrelation."""
    found: Any = importlib.import_module("vus.utils.slidingWindows")
    return int(found.find_length(values))


def some_of(cases: Sequence[SeriesCase], count: int) -> list[SeriesCase]:
    """Return the shortest series with an anomaly behind the part for learning, at most `count`."""
    told = [case for case in cases if any(last >= case.scored_from for _, last in case.windows)]
    return sorted(told, key=lambda case: (len(case.values), case.name))[:count]


def table(
    cases: Sequence[SeriesCase], judge: Judge = by_package, window: Callable[..., int] = window_of
) -> str:
    """Return a row a method: the mean VUS-PR over series in percent, and its quartiles."""
    lines = ["| method | VUS-PR, mean, % | quartiles |", "|---|---|---|"]
    windows = [window(case.values) for case in cases]
    for method in METHODS:
        told = []
        for case, width in zip(tqdm(cases, desc=method.name, leave=False), windows, strict=True):
            scores, inside = _labelled.scored(method, case)
            told.append(100 * judge(scores, inside.astype(int), width))
        low, high = np.quantile(told, [0.25, 0.75])
        lines.append(f"| {method.name} | {np.mean(told):.1f} | {low:.1f} to {high:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of each set; return 2 where the package or the data are missing."""
    parser = data_parser("vus", __doc__)
    parser.add_argument("--only", choices=SETS, action="append", help="this set (default: all)")
    parser.add_argument(
        "--series", type=int, default=100, metavar="N", help="at most so many, the shortest"
    )
    asked = parser.parse_args(arguments)
    if importlib.util.find_spec("vus") is None:
        print("not installed: vus; make peers installs it", file=sys.stderr)
        return 2
    root = data_folder_or_hint(asked.data)
    if root is None:
        return 2
    for name in asked.only or SETS:
        cases = some_of(cases_of(SeriesCase, name, folder_of(name, root)), asked.series)
        print(f"{_labelled.TITLES[name]}, {len(cases)} of its series\n\n{table(cases)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
