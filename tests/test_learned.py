"""What a pipeline has learned of the system becomes rows for JSON, and a pipeline again."""

import json

import pytest

import aiops_lab as lab
from aiops_lab.detect.recording import Recording
from aiops_lab.learned import LEARNED_TABLES, learned_to_record, take_learned
from aiops_lab.pipeline import Pipeline
from tests.support.made import Shop


@pytest.fixture(scope="module")
def learned() -> Pipeline:
    pipeline = Pipeline(lab.Sensitivity(), ())
    recording = Recording(Shop(1).run(30), pipeline.keys)
    pipeline.replay(recording)
    pipeline.learn_calls(recording)
    pipeline.methods["shop", "/payment"] = "POST"
    return pipeline


def test_what_was_learned_comes_back_from_json_with_its_types(learned):
    again = Pipeline(lab.Sensitivity(), ())
    take_learned(again, json.loads(json.dumps(learned_to_record(learned))))
    for name in ("edges", "keys", "seen", "methods"):
        assert getattr(again, name) == getattr(learned, name)
        assert getattr(again, name)


def test_addresses_are_written_only_where_some_are_known(learned):
    assert set(learned_to_record(learned)) == set(LEARNED_TABLES)
    again = Pipeline(lab.Sensitivity(), ())
    again.addresses["shop", "10.0.0.1"] = "bank"
    third = Pipeline(lab.Sensitivity(), ())
    take_learned(third, learned_to_record(again))
    assert third.addresses == {("shop", "10.0.0.1"): "bank"}
