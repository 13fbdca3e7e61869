"""What the ablation of the ranking by metrics asks, and what it leaves out."""

import numpy as np
import pandas as pd
import pytest

from aiops_lab.datasets.cases import MetricsCase
from benchmarks._ablation_evidence import PARTS, table


def frame(rows, start, slow=1.0):
    rng = np.random.default_rng(start)
    columns = {}
    for node, ms in (("front", 40.0), ("cart", 20.0)):
        columns[f"{node}_p50latency"] = slow * ms * rng.normal(1, 0.02, rows)
        columns[f"{node}_rps"] = rng.normal(10, 0.1, rows)
        columns[f"{node}_success_rate"] = np.ones(rows)
        columns[f"{node}_cpu"] = rng.normal(0.2, 0.002, rows)
    return pd.DataFrame(columns, pd.RangeIndex(start, start + rows))


def case():
    now = frame(10, 14, slow=1.0)
    now[["front_p50latency", "cart_p50latency"]] += 500.0
    now["cart_cpu"] *= 3
    calls = [("front", "cart")]
    return MetricsCase("set/a-1", "a", "cart", frame(14, 0), now, calls, None, "cpu")


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_removed(part):
    answer = PARTS[part](case())
    assert answer.node == "cart"


def test_the_table_counts_by_system_and_kind_of_fault():
    told = table("any", [case()], progress=False)
    assert [row.method for row in told.rows] == list(PARTS)
    assert told.columns == ("a, cpu", "silent, %")
    assert told.rows[0].others[0] == "1 of 1"
