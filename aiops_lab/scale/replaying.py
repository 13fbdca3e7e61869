"""What would a monitor have found in many files? `replay_partitions`, on any number of workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError
from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.diagnosis import Rule
from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import unix_ns
from aiops_lab.pipeline import Pipeline, Report, floor_to
from aiops_lab.results import Verdict
from aiops_lab.scale.partitions import Partition, partitions_of, stacked
from aiops_lab.scale.recordings import PartitionedRecording
from aiops_lab.scale.tasks import (
    Interval,
    Names,
    Survey,
    VerdictContext,
    count,
    learn_names,
    requests_around,
    spans_between,
    survey,
    verdict_on,
)
from aiops_lab.scale.workers import Workers
from aiops_lab.spans import Key
from aiops_lab.traces.encode import EncodedSpans

AHEAD_NS = 900_000_000_000
"""How much more than was asked for is read at once of the spans around an incident, as it will be
asked for with its next windows. Raising it reads less often, and takes more memory."""

MOST_BLOCKS = 4  # of such spans that are kept


def replay_partitions(
    pattern: str | os.PathLike[str],
    sensitivity: Sensitivity | None = None,
    *,
    client: Any = None,
    detectors: Sequence[AnyDetector] = DETECTORS,
    rule: Rule | None = None,
    config: RcaConfig | None = None,
    causes: bool = True,
    progress: bool = True,
) -> Report:
    """Return what `aiops_lab.replay` returns for all spans of some Parquet files.

    Parameters
    ----------
    pattern : str
        The files, such as ``spans/*.parquet`` or ``s3://bucket/spans/*.parquet``. Each holds whole
        traces, as `write_partitions` makes them.
    sensitivity, detectors, rule, config, causes
        As for `replay`. A rule must be a function that the workers can import.
    client : distributed.Client, optional
        Of a cluster whose workers can read the files and have this package. Default: this process
        does all, one partition after the other, so that one is in memory at a time.
    progress : bool
        Whether a bar on stderr shows how far it is.

    Raises
    ------
    ValueError
        No file, or one that does not hold spans.
    """
    replayed = PartitionedReplay(pattern, Workers(client, progress=progress), sensitivity)
    return replayed.report(detectors, rule, config, causes=causes)


class PartitionedReplay:
    """A replay of some partitions; afterwards the spans of some time can be had from it."""

    def __init__(
        self,
        pattern: str | os.PathLike[str],
        workers: Workers,
        sensitivity: Sensitivity | None = None,
    ) -> None:
        self.partitions = partitions_of(pattern)
        if not self.partitions:
            raise FieldError("pattern", "must name files of Parquet", os.fspath(pattern))
        self.sensitivity = Sensitivity() if sensitivity is None else sensitivity
        self._workers = workers
        self._window_ns = int(self.sensitivity.window_s * 1e9)
        self._stuck_ns = int(self.sensitivity.timeout_s * 1e9)
        look = partial(survey, window_ns=self._window_ns, stuck_ns=self._stuck_ns)
        self.surveys = workers.map(look, self.partitions, "survey")
        self.names = learn_names([each.samples for each in self.surveys])
        self._blocks: list[tuple[Interval, EncodedSpans]] = []

    def report(
        self,
        detectors: Sequence[AnyDetector] = DETECTORS,
        rule: Rule | None = None,
        config: RcaConfig | None = None,
        *,
        causes: bool = True,
    ) -> Report:
        """Return what was found."""
        pipeline = Pipeline(self.sensitivity, detectors, rule, config)
        recording = self._recording()
        until_ns = floor_to(recording.last_ns + self._window_ns, self._window_ns)
        history = self.history if causes else None
        windows, found, _ = pipeline.advance(recording, until_ns, history)
        report = Report(windows, found, pipeline.incidents)
        if causes:
            incidents = pipeline.manager.incidents
            known = VerdictContext(self.sensitivity, incidents, pipeline.edges, rule, config)
            verdicts = self._verdicts(pipeline, known)
            for incident, verdict in zip(report.incidents, verdicts, strict=True):
                incident.verdict = verdict
        return report

    def history(
        self, since_ns: int, until_ns: int, keys: frozenset[Key] = frozenset()
    ) -> EncodedSpans:
        """Return the spans between two moments (Unix ns), and some more: of all endpoints."""
        for (since, until), spans in self._blocks:
            if since <= since_ns and until_ns <= until:
                return spans
        block = since_ns, until_ns + AHEAD_NS
        spans = spans_between(self.touched(*block), *block, self.names)
        self._blocks = [(block, spans), *self._blocks][:MOST_BLOCKS]
        return spans

    def touched(self, since_ns: int, until_ns: int) -> list[Partition]:
        """Return the partitions with spans between two moments (Unix ns)."""
        pairs = zip(self.partitions, self.surveys, strict=True)
        return [p for p, each in pairs if each.since_ns < until_ns and each.until_ns > since_ns]

    def _recording(self) -> PartitionedRecording:
        counting = partial(
            count,
            names=self.names,
            shared=_shared(self.surveys),
            window_ns=self._window_ns,
            stuck_ns=self._stuck_ns,
            lost_ns=int(self.sensitivity.resolve_after_s * 1e9),
        )
        return PartitionedRecording(
            self.names,
            self._workers.map(counting, self.partitions, "count"),
            window_ns=self._window_ns,
            last_ns=max(each.last_ns for each in self.surveys),
            around=self._around,
        )

    def _around(self, keys: frozenset[Key], intervals: list[Interval]) -> pd.DataFrame:
        look = partial(requests_around, keys=keys, intervals=intervals, names=self.names)
        there = self.touched(intervals[0][0], intervals[-1][1])
        return stacked(self._workers.map(look, there, "evidence"))

    def _verdicts(self, pipeline: Pipeline, known: VerdictContext) -> list[Verdict]:
        diagnosis = known.diagnosis()
        asked = []
        for incident in pipeline.incidents:
            shown = pipeline.names_at(unix_ns(incident.last_anomaly))
            asked.append((incident.id, shown, self.touched(*diagnosis.bounds(incident))))
        judge = partial(_judge, names=self.names, known=known)
        return self._workers.map(judge, asked, "verdict")


def _judge(
    asked: tuple[str, dict[Key, str], list[Partition]], names: Names, known: VerdictContext
) -> Verdict:
    return verdict_on(*asked, names, known)


def _shared(surveys: list[Survey]) -> NDArray:
    """Return the windows that more than one partition touches."""
    touched = [each.touched for each in surveys]
    windows, times = np.unique(np.concatenate(touched), return_counts=True)
    return windows[times > 1]
