"""Self time and service graph as a good user of polars writes them: lazy, joined on the span's id.

They hold for recordings in which span ids are unique, clocks agree and every call is recorded.
"""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # CPU time on one core, as for the others

import pandas as pd
import polars as pl

COLUMNS = ["span_id", "parent_id", "endpoint", "kind", "duration_ms", "status", "error"]


def loaded(frame: pd.DataFrame) -> pl.DataFrame:
    """Return the spans as polars holds them; not timed."""
    spans = pl.from_pandas(frame[COLUMNS])
    start = frame["start"].astype("int64").to_numpy()
    end = start + (frame["duration_ms"] * 1e6).round().astype("int64").to_numpy()
    return spans.with_columns(
        pl.Series("start", start),
        pl.Series("end", end),
        pl.col("endpoint", "kind").cast(pl.Categorical),
    ).with_row_index("row")


def self_time_and_graph(spans: pl.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Return what `lab.self_time` and `lab.service_graph` return."""
    self_time, graph = pl.collect_all([_self_time(spans.lazy()), _graph(spans.lazy())])
    return self_time["self_ms"].to_pandas(), graph.to_pandas()


def _self_time(spans: pl.LazyFrame) -> pl.LazyFrame:
    above = spans.select(parent_id="span_id", parent="row", from_="start", to="end")
    parts = (
        spans.select("parent_id", "start", "end")
        .join(above, on="parent_id")
        .select(
            "parent",
            low=pl.max_horizontal("start", "from_"),
            high=pl.min_horizontal("end", "to"),
        )
        .filter(pl.col("high") > pl.col("low"))
        .sort("parent", "low")
    )
    before = pl.col("high").cum_max().shift(1).over("parent")
    more = (pl.col("high") - pl.max_horizontal("low", before)).clip(0)
    covered = parts.with_columns(more=more).group_by("parent").agg(pl.col("more").sum())
    joined = spans.select("row", "duration_ms").join(
        covered, left_on="row", right_on="parent", how="left", maintain_order="left"
    )
    own = pl.col("duration_ms") - pl.col("more").fill_null(0) / 1e6
    return joined.select(self_ms=own)


def _graph(spans: pl.LazyFrame) -> pl.LazyFrame:
    failed = (pl.col("status") >= 500) | (pl.col("status") == 0) | pl.col("error").is_not_null()
    spans = spans.with_columns(failed=failed)
    named = spans.select("span_id", "parent_id", "endpoint", "kind", "duration_ms", "failed")
    above = named.select(
        parent_id="span_id",
        through=pl.col("kind") != "server",
        up="parent_id",
        above_endpoint="endpoint",
        above_ms="duration_ms",
        above_failed="failed",
    )
    further = named.select(up="span_id", caller="endpoint")
    served = named.filter(pl.col("kind") == "server").join(above, on="parent_id")
    direct = served.filter(~pl.col("through")).select(
        caller="above_endpoint", callee="endpoint", ms="duration_ms", failed="failed"
    )
    called = (
        served.filter(pl.col("through"))
        .join(further, on="up")
        .select(
            "caller",
            callee="endpoint",
            ms="above_ms",
            failed=pl.col("failed") | pl.col("above_failed"),
        )
    )
    ms = pl.col("ms")
    return (
        pl.concat([direct, called])
        .group_by("caller", "callee")
        .agg(
            calls=pl.len(),
            errors=pl.col("failed").sum(),
            p50_ms=ms.quantile(0.5, "linear"),
            p95_ms=ms.quantile(0.95, "linear"),
        )
        .with_columns(pl.col("caller", "callee").cast(pl.String))
        .sort("caller", "callee")
    )
