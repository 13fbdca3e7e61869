"""How are the detectors called? Each by its turn; one that is a user's own may fail."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError
from aiops_lab.detect.detectors import DETECTORS, AnyDetector, Detector
from aiops_lab.detect.detectors.detector import WindowRequests
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.results import Anomaly
from aiops_lab.user_code import UserCode, check_list, name_function


class DetectorCalls:
    """The detectors of a pipeline. Those that the package has are called directly, those of a user
    through `UserCode`, which may leave one out.

    Parameters
    ----------
    detectors : iterable of Detector or function
    user_code : UserCode, optional
        What happens where a user's detector fails. Default: its exception is raised.

    Attributes
    ----------
    holding : tuple of Detector
        Those that decide which windows are not learned: the package's own, whether or not they are
        among `detectors`, and those of the user.
    jumps : list of str
        The columns of those among them that also halt the test of lasting shifts.
    """

    def __init__(
        self, detectors: Sequence[AnyDetector] = DETECTORS, user_code: UserCode | None = None
    ) -> None:
        self._detectors = _functions(detectors)
        self._user_code = UserCode() if user_code is None else user_code
        self._users = _names_of_users(self._detectors)
        given = [detector for detector in self._detectors if isinstance(detector, Detector)]
        by_name = {detector.name: detector for detector in (*DETECTORS, *given)}
        self.holding = tuple(by_name.values())
        self.jumps = [detector.column for detector in self.holding if detector.halts_shift_test]

    def decide(self, windows: Columns, baselines: Columns, s: Sensitivity) -> dict[str, NDArray]:
        """Return what each detector that holds learning still decides, by its column."""
        return {d.column: self._decided(d, windows, baselines, s) for d in self.holding}

    def _decided(
        self, detector: Detector, windows: Columns, baselines: Columns, s: Sensitivity
    ) -> NDArray:
        name = self._users.get(id(detector))
        if name is None:
            return detector.decide(windows, baselines, s)
        nowhere = np.zeros(np.shape(windows["arrivals"]), dtype=bool)

        def work() -> NDArray:
            decided = detector.decide(windows, baselines, s)
            if np.shape(decided) != nowhere.shape:
                raise ValueError(f"decide must return a bool a window, got {decided!r}")
            return decided

        return self._user_code.call(name, nowhere, work)

    def anomalies(
        self, windows: pd.DataFrame, baselines: pd.DataFrame, s: Sensitivity
    ) -> list[tuple[AnyDetector, Anomaly]]:
        """Return each anomaly with the detector that found it, in the order of the detectors."""
        found: list[tuple[AnyDetector, Anomaly]] = []
        for detector in self._detectors:
            of_one = self._found(detector, windows, baselines, s)
            found += [(detector, anomaly) for anomaly in of_one]
        return found

    def _found(
        self, detector: AnyDetector, windows: pd.DataFrame, baselines: pd.DataFrame, s: Sensitivity
    ) -> list[Anomaly]:
        name = self._users.get(id(detector))
        if name is None:
            return detector(windows, baselines, s)

        def work() -> list[Anomaly]:  # copies: what one changes is not what the next one gets
            return check_list(detector(windows.copy(), baselines.copy(), s), Anomaly)

        return self._user_code.call(name, [], work)

    def shows(
        self,
        detector: Detector,
        requests: WindowRequests,
        evidence: dict[str, Any],
        s: Sensitivity,
    ) -> NDArray:
        """Return a mask of the requests that show an anomaly of a detector; all if that fails."""
        every = np.ones(requests.failed.size, dtype=bool)
        name = self._users.get(id(detector), detector.name)
        return self._user_code.call(name, every, partial(detector.shows, requests, evidence, s))


def _functions(detectors: Any) -> tuple[AnyDetector, ...]:
    """Return some detectors as a tuple, also of an iterator, which can be read once only."""
    rule = "must be functions or `Detector` values"
    if isinstance(detectors, str):
        raise FieldError("detectors", rule, detectors)
    try:
        functions = tuple(detectors)
    except TypeError:
        raise FieldError("detectors", rule, detectors) from None
    for number, detector in enumerate(functions):
        if not callable(detector):
            raise FieldError(f"detectors[{number}]", "must be a function", detector)
    return functions


def _names_of_users(detectors: Sequence[AnyDetector]) -> dict[int, str]:
    """Return how the detectors are named that are a user's own, by identity."""
    known = {id(detector) for detector in DETECTORS}
    return {
        id(detector): name_function(f"detectors[{number}]", detector)
        for number, detector in enumerate(detectors)
        if id(detector) not in known
    }
