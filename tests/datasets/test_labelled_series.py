"""WSD, AIOPS KPI and the UCR archive: series with a part for learning and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiops_lab import datasets
from aiops_lab.datasets.cases import SeriesCase
from tests.support import public

WHOLE: dict[str, Any] = {
    "train": np.arange(6, dtype=np.float32),
    "train_label": np.array([0, 1, 1, 0, 0, 1], dtype=np.int8),
    "test": np.arange(6, 10, dtype=np.float32),
    "test_label": np.array([1, 0, 0, 1], dtype=np.int8),
}


def written(root: Path, **changes: Any) -> Path:
    root.mkdir(exist_ok=True)
    parts = {part: array for part, array in (WHOLE | changes).items() if array is not None}
    np.savez(root / "7.npz", **parts)
    return root


@pytest.mark.parametrize("name", ["wsd", "ucr", "aiops"])
def test_a_series_goes_on_where_its_part_for_learning_ends(name: str, tmp_path: Path) -> None:
    loaded = datasets.load(name, written(tmp_path))
    (case,) = loaded
    assert isinstance(case, SeriesCase)
    assert (case.name, case.group, case.times) == (f"{name}/7", name, None)
    assert case.values.tolist() == list(range(10))
    assert case.values.dtype == np.float64
    assert case.windows == ((1, 2), (5, 6), (9, 9))
    assert case.scored_from == len(case.normal) == 6
    assert case.abnormal.tolist() == [6, 7, 8, 9]
    assert loaded.licence.startswith("none stated")


def test_the_layout_of_the_public_collection_is_read_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "7"
    folder.mkdir(parents=True)
    for part, array in WHOLE.items():
        np.save(folder / f"{part}.npy", array)
    (case,), (packed,) = (
        datasets.load("wsd", root) for root in (tmp_path / "a", written(tmp_path / "b"))
    )
    assert isinstance(case, SeriesCase)
    assert isinstance(packed, SeriesCase)
    assert (case.name, case.windows) == (packed.name, packed.windows)
    np.testing.assert_array_equal(case.values, packed.values)
    (folder / "test.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.npy is missing"):
        datasets.load("wsd", tmp_path / "a")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_label": None}, r"7\.npz: not readable as arrays train, test, .*test_label"),
        ({"test": np.array([1.0, np.nan, 1, 1])}, "test must be a series of finite numbers"),
        (
            {"test": np.array(["a"] * 4)},
            r"7\.npz: test must be a series of finite numbers, got <U1",
        ),
        ({"train": np.zeros((6, 1))}, "train must be a series"),
        ({"train": np.zeros(5)}, "train has 5 points and 6 labels"),
        ({"test": np.zeros(0), "test_label": np.zeros(0)}, "test has no points"),
        ({"train": np.array([{}] * 6)}, "not readable"),
    ],
)
def test_an_altered_file_is_an_error_with_its_name(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        datasets.load("wsd", written(tmp_path, **changes))


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path) / "7.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"7\.npz: not readable"):
        datasets.load("wsd", tmp_path)


def test_without_data_it_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="CSTCloudOps/datasets, then give .* UTS/UCR"):
        datasets.load("ucr", tmp_path)


@pytest.mark.parametrize(("name", "folder"), [("wsd", "wsd"), ("aiops", "aiops_kpi")])
def test_the_real_series(name: str, folder: str) -> None:
    for case in datasets.load(name, public.real(folder)):
        assert isinstance(case, SeriesCase)
        assert len(case.values) > 30_000
        assert abs(len(case.normal) - len(case.abnormal)) <= 1
