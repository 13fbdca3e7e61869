"""Self time and service graph as a good user of duckdb writes them: joins and a window in SQL.

They hold for recordings in which span ids are unique, clocks agree and every call is recorded.
"""

from __future__ import annotations

import duckdb
import pandas as pd

LOAD = """
CREATE TABLE spans AS SELECT row_number() OVER () - 1 AS row, span_id, parent_id, endpoint,
  kind = 'server' AS is_server, epoch_ns(start) AS start,
  epoch_ns(start) + CAST(round(duration_ms * 1e6) AS BIGINT) AS stop, duration_ms,
  status >= 500 OR status = 0 OR error IS NOT NULL AS failed
FROM frame
"""

SELF_TIME = """
WITH parts AS (
  SELECT p.row AS parent, greatest(c.start, p.start) AS low, least(c.stop, p.stop) AS high
  FROM spans c JOIN spans p ON c.parent_id = p.span_id
  WHERE least(c.stop, p.stop) > greatest(c.start, p.start)
), reached AS (
  SELECT parent, low, high, max(high) OVER (PARTITION BY parent ORDER BY low
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM parts
), covered AS (
  SELECT parent, sum(greatest(high - greatest(low, coalesce(before, low)), 0)) AS ns
  FROM reached GROUP BY parent
)
SELECT s.duration_ms - coalesce(c.ns, 0) / 1e6 AS self_ms
FROM spans s LEFT JOIN covered c ON s.row = c.parent ORDER BY s.row
"""

GRAPH = """
WITH calls AS (
  SELECT CASE WHEN p.is_server THEN p.endpoint ELSE g.endpoint END AS caller, s.endpoint AS callee,
    CASE WHEN p.is_server THEN s.duration_ms ELSE p.duration_ms END AS ms,
    s.failed OR (NOT p.is_server AND p.failed) AS failed
  FROM spans s JOIN spans p ON s.parent_id = p.span_id
  LEFT JOIN spans g ON NOT p.is_server AND p.parent_id = g.span_id
  WHERE s.is_server AND (p.is_server OR g.span_id IS NOT NULL)
)
SELECT caller, callee, count(*) AS calls, sum(failed::INT) AS errors,
  quantile_cont(ms, 0.5) AS p50_ms, quantile_cont(ms, 0.95) AS p95_ms
FROM calls GROUP BY caller, callee ORDER BY caller, callee
"""


def loaded(frame: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that holds the spans; not timed."""
    db = duckdb.connect(config={"threads": 1})  # CPU time on one core, as for the others
    names = frame.select_dtypes("category").columns
    db.register("frame", frame.astype(dict.fromkeys(names, object)))
    db.execute(LOAD)
    db.unregister("frame")
    return db


def self_time_and_graph(db: duckdb.DuckDBPyConnection) -> tuple[pd.Series, pd.DataFrame]:
    """Return what `lab.self_time` and `lab.service_graph` return."""
    return db.execute(SELF_TIME).df()["self_ms"], db.execute(GRAPH).df()
