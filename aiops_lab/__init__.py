"""AIOps Lab: watch a machine learn what is normal, notice what is not, and name the cause.

Each module or wing answers one question. In the order in which data flows:

checks     Checks of arguments, with errors that name the field, the rule and the value.
known_names  Is a name misspelt? The known names that are like it, for errors and warnings.
columns    How are texts kept in a frame? As objects, or in buffers of Arrow.
unchanged  What was found out about ids and names of a large frame, while they stay.
spans      What is a span? The span, and the spans frame that all analysis takes.
logs       The logger ``aiops_lab``, and its output on stderr.
endpoints  What behaves alike? The rule that folds ids in paths; methods and routes.
user_code  Detectors and rules of a user's own, whose errors are told and harm nothing else.
user_functions  What has a user written? Functions and remedies, loaded from a file.
numerics   Small numeric helpers: the optional compiler, Wilson bounds, times as integers.
progress   How far is long work? A progress bar.
background  What runs beside a block? A function, in a thread that stops with it.
results    Plain data that crosses wings: Anomaly, Suspect, Verdict, Step, Explanation.
formats    Whose traces? Files of OTLP, Jaeger, Zipkin, Parquet and CSV, read and written.
record     What happened? instrument(app), Session, trace_connection, SpanStore, injected faults.
traces     How do spans hang together? Encoding, trees, critical path, service graph.
detect     What is unusual? Windows, baselines, detectors, incidents, sensitivity.
explain    Why? Reference, cost attribution, ledger, deviations, ranking, confidence.
diagnosis  Which requests is an incident made of, and what is their cause?
pipeline   What is known as time passes? Baselines, known calls, incidents and verdicts.
health     How well is an endpoint? A score, its band, and when it will be slow.
learned    What has a pipeline learned of the system? Its calls and endpoints, and back.
acceptance  Which levels were taken as normal by hand, and which were taken back?
processes  Which processes know each other by number, and is one still alive?
shared_state  What do several monitors of one store share? Their state, one at a time.
watched_spans  Which spans of a store are judged? Those whose values can be, none twice.
recent_traffic  What do the endpoints do at present? Their requests of the last five minutes.
past_traces  Which traces does a step of a monitor look back at? Those that its incidents touch.
monitor    Who watches? Monitor.step on a live store.
replaying  What would a monitor have found? replay on a recording.
scale      Past one machine? Spans in many Parquet files, replayed on many workers.
evaluate   Is it right? Scores against injected faults, calibration, sweeps.
datasets   Public incident data behind one interface: load(name, directory).
respond    What is done about an incident? Notices to people, remedies.
show       Who looks? The HTTP interface, the OTLP receiver, figures, reports, sliders.
__main__   The commands: explain.
"""

from importlib import import_module
from sys import modules
from typing import Any

_HOMES = {
    "Span": "spans",
    "to_frame": "spans",
    "check": "spans",
    "instrument": "record.middleware",
    "Session": "record.session",
    "trace_connection": "record.dbapi",
    "SpanStore": "record.store",
    "read_spans": "formats.files",
    "write_spans": "formats.writing",
    "read_metrics": "formats.metrics_folders",
    "Sensitivity": "detect.sensitivity",
    "ewma": "detect.baselines",
    "anomaly_scores": "detect.series",
    "self_time": "traces.trees",
    "service_graph": "traces.graph",
    "Fault": "record.faults",
    "FaultInjector": "record.faults",
    "Anomaly": "results",
    "Incident": "detect.incidents",
    "Suspect": "results",
    "RcaConfig": "explain.config",
    "learn": "explain.reference",
    "rank_root_causes": "explain.ranking",
    "rank_from_metrics": "explain.metrics",
    "Monitor": "monitor",
    "Change": "explain.changes",
    "Report": "pipeline",
    "replay": "replaying",
    "score": "evaluate.scoring",
    "sweep": "evaluate.sweep",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that ``import aiops_lab`` stays cheap."""
    if name not in _HOMES:
        told = f"module 'aiops_lab' has no attribute {name!r}"
        raise AttributeError(told, name=name, obj=modules[__name__])  # Python tells similar names
    value = getattr(import_module(f"aiops_lab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
