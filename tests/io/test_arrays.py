"""Arrays, tensors and lists in."""

import numpy as np
import pytest
import torch

from probseq import DataError, Sequences


@pytest.mark.parametrize(
    ("arrays", "lengths", "values"),
    [
        ([1.0, 2.0, 3.0], [3], [1.0, 2.0, 3.0]),
        (np.arange(3), [3], [0.0, 1.0, 2.0]),
        (torch.arange(3, dtype=torch.float32), [3], [0.0, 1.0, 2.0]),
        ([[1, 2], [3, 4, 5]], [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0]),
        ([np.zeros(1), torch.ones(2)], [1, 2], [0.0, 1.0, 1.0]),
        (np.arange(3)[:, None], [3], [0.0, 1.0, 2.0]),
        (np.array([True, False]), [2], [1.0, 0.0]),
        (np.arange(4).reshape(2, 2, 1), [2, 2], [0.0, 1.0, 2.0, 3.0]),
        ([np.arange(4).reshape(2, 2)], [2], [[0.0, 1.0], [2.0, 3.0]]),
        ((np.arange(2), np.arange(1)), [2, 1], [0.0, 1.0, 0.0]),
    ],
)
def test_shapes(arrays: object, lengths: list[int], values: list) -> None:
    series = Sequences.from_arrays(arrays)  # type: ignore[arg-type]
    assert series.lengths.tolist() == lengths
    assert series.values.tolist() == values
    assert series.values.dtype == torch.float64


def test_lengths_cut_one_array() -> None:
    series = Sequences.from_arrays(np.arange(5), lengths=[2, 3], ids=["a", "b"])
    assert series.lengths.tolist() == [2, 3]
    assert series.ids.tolist() == ["a", "b"]


def test_missing_by_nan_by_none_and_by_mask() -> None:
    masked = np.ma.masked_array([1.0, 2.0, np.nan], [False, True, False])
    assert Sequences.from_arrays(masked).step_observed.tolist() == [True, False, False]
    assert Sequences.from_arrays([1.0, None, 3.0]).step_observed.tolist() == [True, False, True]  # type: ignore[list-item]
    ragged = Sequences.from_arrays([np.array([1.0, np.nan]), np.array([2.0])])
    assert ragged.step_observed.tolist() == [True, False, True]


def test_codes_stay_bytes_and_are_not_copied() -> None:
    codes = np.array([0, 3, 2], dtype=np.uint8)
    series = Sequences.from_arrays(codes, categories="ACGT")
    assert series.values.dtype == torch.uint8
    assert series.categories == ("A", "C", "G", "T")
    assert np.shares_memory(series.values.numpy(), codes)


def test_a_read_only_array_is_read_in_place() -> None:
    codes = np.array([0, 3, 2], dtype=np.uint8)
    codes.setflags(write=False)
    assert np.shares_memory(Sequences.from_arrays(codes).values.numpy(), codes)


def test_numbers_are_copied() -> None:
    numbers = np.array([1.0, 2.0])
    series = Sequences.from_arrays(numbers)
    numbers[0] = 9.0
    assert series.values.tolist() == [1.0, 2.0]


def test_fields_beside_the_values() -> None:
    series = Sequences.from_arrays(
        [[1.0, 2.0], [3.0]],
        covariates=[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]],
        covariate_names=["a", "b"],
        weights=[1, 2],
        labels=[[0, -1], [1]],
        columns=["rain"],
    )
    assert series.covariates is not None and series.covariates.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert series.covariate_names == ("a", "b")
    assert series.weights is not None and series.weights.tolist() == [1.0, 2.0]
    assert series.labels is not None and series.labels.tolist() == [0, -1, 1]
    assert series.columns == ("rain",)


def test_one_covariate_may_be_flat() -> None:
    series = Sequences.from_arrays([1.0, 2.0], covariates=[5.0, 6.0])
    assert series.covariates is not None and series.covariates.tolist() == [[5.0], [6.0]]
    assert series.covariate_names == ("covariate",)


BAD = [
    ([], "values must hold at least one sequence, got an empty list; "),
    ([[1.0], []], r"every sequence must be a non-empty .* got shape \(0,\) of values at sequence 1; "),
    ([1.0, float("inf")], "values must be finite, got inf at step 1 of sequence 0; "),
    ([[1.0, 2.0], [3.0, -np.inf]], "values must be finite, got -inf at step 1 of sequence 1; "),
    (["a", "b"], "values must be numbers in a regular array, got 'a' .* at sequence 0; "),
    (
        [np.ones((2, 2)), np.ones((2, 3))],
        "values must have the same columns in every sequence, got 3 at sequence 1 after 2",
    ),
    ([np.ones((2, 2)), np.ones(2)], "values must have the same columns in every sequence, got 1 at sequence 1 after 2"),
    (
        [float("nan"), float("nan")],
        "values must have at least one observed entry per column, got only missing at column 0",
    ),
    (np.ones((1, 1, 1, 1)), r"every sequence must be a non-empty .* got shape \(1, 1, 1, 1\)"),
    (np.array([1j]), "values must be numbers in a regular array, got .*1j.* at sequence 0; "),
    (5.0, r"every sequence must be a non-empty .* got shape \(\) of values at sequence 0; "),
]


@pytest.mark.parametrize(("arrays", "words"), BAD)
def test_bad_arrays_are_refused(arrays: object, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        Sequences.from_arrays(arrays)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lengths": [1, 1]}, "lengths must add up to the number of steps, got 2 for 3 steps"),
        ({"lengths": [1.5, 1.5]}, "lengths must be whole numbers"),
        ({"covariates": [1.0, np.nan, 2.0]}, "covariates must be known at every step, got a missing one at step 1"),
        ({"labels": [0, 0.5, 1]}, "labels must be one whole number per step"),
        ({"time": [1, 3, 2]}, "time must increase within a sequence, got 2 after 3 at step 2; "),
        ({"time": [1, 1, 2]}, "time must not repeat within a sequence, got 1 twice at step 1; "),
        ({"weights": [1, 2]}, "weights must have one entry per sequence, 1, got 2"),
    ],
)
def test_bad_fields_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Sequences.from_arrays([1.0, 2.0, 3.0], **fields)
