"""What is a detector? A decision about windows, and how its anomalies read and look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.results import Anomaly, AnomalyKind, register_kind


class WindowRequests(NamedTuple):
    """The requests of one endpoint that ended in one window, or that were open at its end."""

    failed: NDArray
    log_ms: NDArray
    age_s: NDArray  # at the end of the window


def all_requests(requests: WindowRequests, evidence: dict[str, Any], s: Sensitivity) -> NDArray:
    """Return a mask of all requests."""
    return np.ones(requests.failed.size, bool)


@dataclass(frozen=True)
class Detector:
    """A detector: one decision, and all that belongs to it.

    Parameters
    ----------
    name : str
        The type of its anomalies, such as ``"latency_anomaly"``.
    title : str
        How an incident's title names it, such as ``"Latency spike"``.
    column : str
        The column of a report's windows that holds the decision, such as ``"slow"``.
    decide : function (windows, baselines, sensitivity) -> array of bool
        Which windows are abnormal. It is given the columns that `scoring.judge` describes, as
        arrays of shape (windows, endpoints) or as columns of a DataFrame, and must treat each
        window by itself. Windows with fewer than ``sensitivity.min_window`` requests are among
        them. It must also treat each endpoint by itself: in the DataFrame there is one row for a
        window and endpoint. Where it is True the baseline does not learn.
    evidence : function (row) -> dict
        The numbers that led to the decision, as an anomaly carries them. The row holds a window's
        columns as attributes, and those of its baseline in ``row.baseline``.
    describe : function (evidence) -> str
        The evidence in one line.
    severity : function (evidence) -> str
        "low", "medium", "high" or "critical". Default: always "medium".
    size : str or tuple of str, optional
        The evidence that says how large an anomaly is, the first name that is there. An incident
        keeps the largest one of a kind and endpoint. Default: the first one is kept, unless a later
        one is more severe.
    lasts : str, optional
        The evidence that says for how many seconds it lasts at the end of the window. Default: as
        long as the window.
    shows : function (requests, evidence, sensitivity) -> array of bool
        Which requests that ended in the window show the anomaly; their traces are its traces.
        Default: all.
    looks_at_open : bool
        Whether ``shows`` is asked about requests that are open at the end of the window, instead of
        those that ended in it.
    with_messages : bool
        Whether the anomaly carries sample error messages of the requests that show it.
    halts_shift_test : bool
        Whether the test of lasting shifts also leaves such a window out. Default True, so that one
        spike does not look like a lasting rise afterwards. False where neither the latency nor the
        failures of the window are what is abnormal, and for the test itself.
    mark : (str, str)
        Colour and marker in figures. Colours are grey, black, orange, sky, green, yellow, blue,
        vermillion and purple (Okabe and Ito's palette), or any of matplotlib's, as the markers. In
        use are ``[detector.mark for detector in DETECTORS]``.
    heading : function (evidence) -> str, optional
        What one anomaly is called. Default: ``title``.
    is_faint : bool
        Whether, of one severity, anomalies of other types are told before it. Default False.

    Examples
    --------
    A detector is called with the two frames that `scoring.judge` returns. This one has no guard
    against chance, which a real one needs:

    >>> import pandas as pd
    >>> from aiops_lab import Sensitivity
    >>> start = pd.Timestamp("2026-01-01", tz="UTC")
    >>> busy = Detector(
    ...     name="busy",
    ...     title="Many requests",
    ...     column="busy",
    ...     decide=lambda windows, baselines, s: windows["arrivals"] > 2 * baselines["rate"],
    ...     evidence=lambda row: {"arrivals": row.arrivals, "usual": row.baseline.rate},
    ...     describe=lambda found: f"{found['arrivals']} (usual: {found['usual']:.0f})",
    ... )
    >>> windows = pd.DataFrame({"window": [start], "end": [start + pd.Timedelta("10s")],
    ...     "service": ["shop"], "endpoint": ["/payment"], "arrivals": [90]})
    >>> baselines = pd.DataFrame({"rate": [20.0]})
    >>> windows["busy"] = busy.decide(windows, baselines, Sensitivity())
    >>> [anomaly.evidence for anomaly in busy(windows, baselines, Sensitivity())]
    [{'arrivals': 90, 'usual': 20.0}]
    """

    name: str
    title: str
    column: str
    decide: Callable[[Columns, Columns, Sensitivity], NDArray]
    evidence: Callable[[Any], dict[str, Any]]
    describe: Callable[[dict[str, Any]], str]
    severity: Callable[[dict[str, Any]], str] = lambda evidence: "medium"
    size: str | tuple[str, ...] = ()
    lasts: str | None = None
    shows: Callable[[WindowRequests, dict[str, Any], Sensitivity], NDArray] = all_requests
    looks_at_open: bool = False
    with_messages: bool = False
    halts_shift_test: bool = True
    mark: tuple[str, str] = ("grey", "o")
    heading: Callable[[dict[str, Any]], str] | None = None
    is_faint: bool = False

    def __post_init__(self) -> None:
        register_kind(self.name, self._kind)

    @property
    def _kind(self) -> AnomalyKind:
        about = self.title, self.describe, self.mark
        size = (self.size,) if isinstance(self.size, str) else self.size
        return AnomalyKind(*about, size, self.heading, self.is_faint)

    def __call__(
        self, windows: pd.DataFrame, baselines: pd.DataFrame, sensitivity: Sensitivity
    ) -> list[Anomaly]:
        """Return an anomaly for each window whose decision is True, in the order of `windows`."""
        at = np.flatnonzero(windows[self.column])
        if at.size == 0:
            return []
        found = _Chosen(windows, at)
        usual = _Chosen(baselines, at)
        return [self._anomaly(_Row(found, n, _Row(usual, n))) for n in range(at.size)]

    def _anomaly(self, row: Any) -> Anomaly:
        evidence = self.evidence(row)
        anomaly = Anomaly(self.name, row.service, row.endpoint, row.window, row.end)
        return replace(
            anomaly,
            severity=self.severity(evidence),
            evidence=evidence,
            since=self._since(row.end, evidence),
        )

    def _since(self, end: pd.Timestamp, evidence: dict[str, Any]) -> pd.Timestamp | None:
        if self.lasts is None:
            return None
        return end - pd.Timedelta(evidence[self.lasts], unit="s")


class _Chosen:
    """Some rows of a frame with many columns, of which few are looked at."""

    def __init__(self, frame: pd.DataFrame, at: NDArray) -> None:
        self._frame = frame
        self._at = at
        self._known: dict[str, list[Any]] = {}

    def column(self, name: str) -> list[Any]:
        """Return a column as Python values, made when it is first asked for."""
        if name not in self._known:
            values = self._frame[name].array.take(self._at)
            is_time = values.dtype.kind in "mM"
            plain = values if is_time else values.to_numpy()
            self._known[name] = plain.tolist()
        return self._known[name]


class _Row:
    """One of some chosen windows, with its columns and its baseline as attributes."""

    def __init__(self, chosen: _Chosen, number: int, baseline: _Row | None = None) -> None:
        self._chosen = chosen
        self._number = number
        self.baseline = baseline

    def __getattr__(self, name: str) -> Any:
        if "_chosen" not in vars(self):  # while a copy is made
            raise AttributeError(name)
        try:
            column = self._chosen.column(name)
        except KeyError:
            raise AttributeError(f"a window has no column {name!r}") from None
        return column[self._number]


AnyDetector = Callable[[pd.DataFrame, pd.DataFrame, Sensitivity], list[Anomaly]]
"""A `Detector`, or a function of a user with the same signature."""
