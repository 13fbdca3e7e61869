"""AIOps Lab: watch a machine learn what is normal, notice what is not, and name the cause.

The modules, in the order in which data flows:

spans        what a span is, the spans frame, the trace context on the wire
tracing      instrument(app) and Session: server and client spans
store        SpanStore: one SQLite file of spans, stack traces, incidents and baselines
sensitivity  Sensitivity: every knob with its unit, default and reason
windows      requests counted on a fixed grid of windows
baselines    what is usual: the EWMA recurrences and envelopes
envelopes    how unusual each point of a series is, from its past alone
traces       self time, edge gap, shape, critical path, service graph
faults       injected faults and the log of the truth
detectors    windows that are unusual -> Anomaly
steps        how an explanation reads: as text, and as HTML in a notebook
incidents    anomalies that belong together -> Incident, and its life cycle
accounts     what each request cost, on whose account
holding      who held the workers that others waited for
symptoms     what is not done as usual, whatever it costs: self time, failures, shapes, resources
confidence   how often such a verdict was right where the truth is known
rca          the ledger: where an incident's excess was born
metrics_rca  the same account where there are only metrics and a call graph
verdict      what a verdict rests on: the affected, sample traces, the steps of the explanation
rules        classic root-cause rules to compare with
monitor      the one pipeline: Monitor.step live, replay on a recording
evaluation   incidents against the truth: precision, delay, ranks, calibration, cost; what-if sweeps
files        tables and JSON, read so that an error names the file
nezha        a day of Nezha's data as spans frames
nezha_clone  a clone of Nezha's repository -> its days in a compact layout
datasets     public incident data behind one interface: load(name, directory)
api          the Flask blueprints /aiops and /simulate
plots        figures
tuner        the sensitivity sliders
"""

from importlib import import_module

_HOMES = {
    "Span": "spans",
    "to_frame": "spans",
    "check": "spans",
    "instrument": "tracing",
    "Session": "tracing",
    "SpanStore": "store",
    "Sensitivity": "sensitivity",
    "ewma": "baselines",
    "anomaly_scores": "envelopes",
    "self_time": "traces",
    "service_graph": "traces",
    "Fault": "faults",
    "FaultInjector": "faults",
    "Anomaly": "detectors",
    "Incident": "incidents",
    "Suspect": "incidents",
    "learn": "rca",
    "rank_root_causes": "rca",
    "rank_from_metrics": "metrics_rca",
    "Monitor": "monitor",
    "Report": "monitor",
    "replay": "monitor",
    "score": "evaluation",
    "sweep": "evaluation",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first used, so that ``import aiops_lab`` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'aiops_lab' has no attribute {name!r}")
    value = getattr(import_module(f"aiops_lab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
