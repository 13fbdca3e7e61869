"""What would a monitor have found? `replay`: a recording, run through the pipeline at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.diagnosis import Rule
from aiops_lab.explain.changes import Change, check_changes, services_of
from aiops_lab.explain.config import RcaConfig
from aiops_lab.known_names import warn_of_unknown
from aiops_lab.numerics import to_utc, unix_ns
from aiops_lab.pipeline import Pipeline, Report
from aiops_lab.spans import check


def replay(
    frame: pd.DataFrame,
    sensitivity: Sensitivity | None = None,
    *,
    detectors: Sequence[AnyDetector] = DETECTORS,
    rule: Rule | None = None,
    config: RcaConfig | None = None,
    causes: bool = True,
    until: pd.Timestamp | None = None,
    changes: Iterable[Change] | pd.DataFrame = (),
) -> Report:
    """Run a recording through the pipeline and return what a monitor would have found, step by
    step, without a clock.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    sensitivity : Sensitivity
    detectors : functions (windows, baselines, sensitivity) -> list of Anomaly, or `Detector` values
        Which anomalies are reported. Default: those of the package. A baseline does not learn from
        windows that a `Detector` among them, or one of the package, decides to be abnormal.
    rule : function (reference, abnormal) -> list of Suspect
        What names the root cause. Default: the ledger.
    config : RcaConfig, optional
        The constants of root cause analysis; ``timeout_s`` is taken from `sensitivity`.
    causes : bool
        Whether to look for root causes at all; without, a replay is several times faster, and
        links alone decide which anomalies are one incident.
    until : Timestamp, optional
        When the recording ended. Default: with its last span.
    changes : iterable of Change, or DataFrame with the columns time, service and what
        What was changed on purpose. A verdict tells what of it came before. Default: nothing is
        known. Warns of a service that no span has or calls.

    Returns
    -------
    Report
        Equal to that of a live monitor that began with the same spans and stopped at `until`.

    Raises
    ------
    Exception
        What a detector or rule of a user's own raises, with a note that names it; ValueError where
        it returns something else than a list of `Anomaly`, or of `Suspect`.
    """
    knobs = Sensitivity() if sensitivity is None else sensitivity
    pipeline = Pipeline(knobs, detectors, rule, config)
    if not isinstance(causes, (bool, np.bool_)):
        raise FieldError("causes", "must be True or False", causes)
    spans = check(frame)
    recording = Recording(spans, {})
    until_ns = None if until is None else unix_ns(to_utc(until))
    known = check_changes(changes)
    if known:
        services = {change.service for change in known}
        told = "changes: no span is of the service"
        warn_of_unknown(told, services, services_of(spans))
    report = pipeline.replay(recording, until_ns, causes=causes)
    if causes:
        for incident in report.incidents:
            incident.verdict = pipeline.verdict(
                incident, lambda since, until, keys: recording.spans, known
            )
    return report
