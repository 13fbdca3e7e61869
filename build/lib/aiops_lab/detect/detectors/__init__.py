"""What makes a window abnormal? One file for each detector, and the list of all.

A new detector is a new file with one `Detector`, and its name in `DETECTORS`.
"""

from aiops_lab.detect.detectors.detector import AnyDetector, Detector
from aiops_lab.detect.detectors.errors import error_spike
from aiops_lab.detect.detectors.latency import latency_anomaly
from aiops_lab.detect.detectors.shift import sustained_shift
from aiops_lab.detect.detectors.timeouts import timeout
from aiops_lab.detect.detectors.traffic import silence_limit, silence_run_limit, traffic_drop

DETECTORS: tuple[Detector, ...] = (
    latency_anomaly,
    error_spike,
    timeout,
    traffic_drop,
    sustained_shift,
)
"""The detectors of the package. They hold learning still even where others report.

Anomalies of one window and endpoint come in this order.
"""

__all__ = [
    "DETECTORS",
    "AnyDetector",
    "Detector",
    "error_spike",
    "latency_anomaly",
    "silence_limit",
    "silence_run_limit",
    "sustained_shift",
    "timeout",
    "traffic_drop",
]
