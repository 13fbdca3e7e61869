"""The peers' own packages, where they are installed: river and adtk on series, dowhy and PyRCA on
metrics.

All run with their defaults. What is not installed is said, not replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.datasets.cases import unscored
from benchmarks._petshop import SIGMAS, SILENT, Answer, Calls, Method, cost_of

INSTALL = {
    "river": "pip install -e '.[bench]'",
    "adtk": "pip install -e '.[bench]'",
    "dowhy": "pip install -e '.[bench]'",
    "pyrca": "its release sfr-pyrca 1.0.1 wants scikit-learn < 1.2 and javabridge, which needs a "
    "JDK; both do not go "
    "together with numpy 2. pip install --no-deps sfr-pyrca schema dill gives what is used here; "
    "pyrca itself is "
    "another project",
}
WINDOW = 10  # of adtk's rolling aggregates
Scores = Callable[[np.ndarray], np.ndarray]


def missing(names: tuple[str, ...]) -> list[str]:
    """Return a note for each package that is not installed, with how to get it."""
    return [f"Not installed: {name} ({INSTALL[name]})." for name in names if not _there(name)]


def _there(name: str) -> bool:
    module = "pyrca.analyzers.ht" if name == "pyrca" else name
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


# ---- series


def on_series() -> dict[str, Scores]:
    """Return the detectors of river and adtk that look at the past alone."""
    found: dict[str, Scores] = {}
    if _there("river"):
        found |= {
            f"river {version('river')} EWMean, EWVar": river_z,
            "river GaussianScorer": river_gaussian,
            "river HalfSpaceTrees": river_trees,
        }
    if _there("adtk"):
        found |= {
            f"adtk {version('adtk')} PersistAD's statistic": adtk_persist,
            "adtk InterQuartileRangeAD": adtk_range,
        }
    return found


def river_z(values: np.ndarray) -> np.ndarray:
    """Score by the distance from river's EWMean in standard deviations, the point itself not yet
    learned.
    """
    from river import stats

    mean, var = stats.EWMean(), stats.EWVar()
    z = np.zeros(len(values))
    for i, value in enumerate(values.tolist()):
        if i:
            # rounding makes it negative at times
            z[i] = abs(value - mean.get()) / max(var.get(), 1e-12) ** 0.5
        mean.update(value)
        var.update(value)
    return z / (1 + z)


def river_gaussian(values: np.ndarray) -> np.ndarray:
    """Score by river's GaussianScorer over the last 500 points."""
    from river.anomaly import GaussianScorer

    scorer, scores = GaussianScorer(window_size=500, grace_period=100), np.zeros(len(values))
    for i, value in enumerate(values.tolist()):
        scores[i] = scorer.score_one(None, value)
        scorer.learn_one(None, value)
    return np.nan_to_num(scores)


def river_trees(values: np.ndarray) -> np.ndarray:
    """Score by river's HalfSpaceTrees, behind its MinMaxScaler, which has seen the past alone."""
    from river import anomaly, preprocessing

    scale, trees = preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=1)
    scores = np.zeros(len(values))
    for i, value in enumerate(values.tolist()):
        scale.learn_one({"x": value})
        x = {"x": min(max(scale.transform_one({"x": value})["x"], 0.0), 1.0)}
        scores[i] = trees.score_one(x)
        trees.learn_one(x)
    return scores


def adtk_persist(values: np.ndarray) -> np.ndarray:
    """Score by what adtk's PersistAD looks at: how far a point is from the median of the 10 before
    it, in usual IQRs.

    Its rolling aggregate is adtk's; the detector around it raises under pandas 3 (it writes NaN
    among booleans).
    """
    from adtk.transformer import DoubleRollingAggregate

    moved = DoubleRollingAggregate(
        agg="median", window=(WINDOW, 1), center=False, diff="l1"
    ).transform(_timed(values))
    step = moved.fillna(0.0).to_numpy()
    first = step[WINDOW : max(unscored(len(values)), WINDOW + 2)]
    iqr = np.subtract(*np.quantile(first, [0.75, 0.25]))
    return step / (step + max(float(iqr), 1e-12))


def adtk_range(values: np.ndarray) -> np.ndarray:
    """Alarm where adtk's InterQuartileRangeAD does, fitted on the rows that are not scored: it
    knows 0 and 1 only.
    """
    from adtk.detector import InterQuartileRangeAD

    series = _timed(values)
    detector = InterQuartileRangeAD()
    detector.fit(series.iloc[: unscored(len(values))])
    return detector.detect(series).to_numpy(dtype=float)


def _timed(values: np.ndarray) -> pd.Series:
    return pd.Series(values, pd.date_range("2014-01-01", periods=len(values), freq="5min"))


# ---- metrics


def on_metrics() -> list[Method]:
    """Return the root-cause methods of dowhy and PyRCA; a counterfactual a node is slow, so it only
    sees the issues.
    """
    found = []
    if _there("pyrca"):
        found.append(Method("PyRCA HT (CIRCA)", "peer", hypothesis_test))
    if _there("dowhy"):
        found.append(
            Method(
                f"dowhy {version('dowhy')} counterfactual", "peer", Counterfactual(), whole=False
            )
        )
    return found


def _table(frame: pd.DataFrame, metric: str, nodes: list[str], typical: pd.Series) -> pd.DataFrame:
    return cost_of(frame, metric).reindex(columns=nodes).fillna(typical[nodes])


def _known(
    normal: pd.DataFrame, abnormal: pd.DataFrame, metric: str
) -> tuple[list[str], pd.Series]:
    typical = cost_of(normal, metric).median().dropna()
    return sorted(set(typical.index) & set(cost_of(abnormal, metric).columns)), typical


def hypothesis_test(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Ask PyRCA's HT, CIRCA's regression test with adjustment: callees cause what callers show."""
    from pyrca.analyzers.ht import HT, HTConfig

    metric = target["metric"]
    nodes, typical = _known(normal, abnormal, metric)
    graph = pd.DataFrame(0, nodes, nodes)
    for caller, callee in calls:
        if caller in nodes and callee in nodes:
            graph.loc[callee, caller] = 1
    test = HT(HTConfig(graph=graph, root_cause_top_k=1))
    test.train(_table(normal, metric, nodes, typical))
    found = test.find_root_causes(
        _table(abnormal, metric, nodes, typical)[1:], adjustment=True
    ).root_cause_nodes
    return Answer(found[0][0], bool(found[0][1] > SIGMAS)) if found else SILENT


class Counterfactual:
    """Ask dowhy: if only this node's own noise had been as usual, how much less would the alarmed
    node have cost?

    Linear models of each node by its callees, learned from normal intervals; the interval asked
    about is the dearest.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[int, str, tuple[str, ...]], Any] = {}

    def __call__(
        self, normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
    ) -> Answer:
        """Return the node whose noise explains most of the alarm."""
        from dowhy import gcm
        from dowhy.gcm._noise import compute_noise_from_data

        metric, alarmed = target["metric"], target["node"]
        nodes, typical = _known(normal, abnormal, metric)
        model, usual_noise = self._model(normal, metric, nodes, typical, calls)
        now = _table(abnormal, metric, nodes, typical)[1:]
        noise = compute_noise_from_data(model, now.loc[[now[alarmed].idxmax()]])
        what_if = pd.concat([noise] * len(nodes), ignore_index=True)
        for row, node in enumerate(nodes):
            what_if.loc[row, node] = usual_noise[node]
        cost = gcm.counterfactual_samples(model, {}, noise_data=what_if)[alarmed]
        best = int(np.argmin(cost.to_numpy()))
        return Answer(nodes[best])

    def _model(
        self, normal: pd.DataFrame, metric: str, nodes: list[str], typical: pd.Series, calls: Calls
    ) -> tuple[Any, pd.Series]:
        import networkx as nx
        from dowhy import gcm
        from dowhy.gcm._noise import compute_noise_from_data

        key = id(normal), metric, tuple(nodes)
        if key in self._models:
            return self._models[key]
        graph = nx.DiGraph()
        graph.add_nodes_from(nodes)
        graph.add_edges_from(
            (callee, caller) for caller, callee in calls if {caller, callee} <= set(nodes)
        )
        model = gcm.InvertibleStructuralCausalModel(graph)
        for node in nodes:
            linear = gcm.AdditiveNoiseModel(gcm.ml.create_linear_regressor())
            model.set_causal_mechanism(
                node, linear if graph.in_degree(node) else gcm.EmpiricalDistribution()
            )
        usual = _table(normal, metric, nodes, typical)
        gcm.config.disable_progress_bars()
        gcm.fit(model, usual)
        self._models[key] = model, compute_noise_from_data(model, usual).median()
        return self._models[key]
