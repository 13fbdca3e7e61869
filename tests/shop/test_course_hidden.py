"""The growth of self time names the step that was slowed, also where it is the way of a call."""

from __future__ import annotations

from shop.course.drawing import step_medians
from shop.course.hidden import HIDING_PLACES, hidden_step, slowed

SEEDS = range(13)


def test_the_self_time_that_grows_is_that_of_the_hidden_step_and_of_no_other() -> None:
    assert {hidden_step(seed) for seed in SEEDS} == set(HIDING_PLACES)
    for seed in SEEDS:
        before, since = slowed(seed)
        growth = step_medians(since)["self"] - step_medians(before)["self"]
        assert list(growth.index[growth > 100]) == [hidden_step(seed)]
