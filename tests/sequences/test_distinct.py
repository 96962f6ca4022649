"""Distinct rows against their definition: values[t] == rows[index[t]], each row once, missing steps in their own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq import Sequences


def check(series: Sequences) -> None:
    found = series.distinct()
    complete = series.step_observed.numpy()
    rows, values = found.rows.numpy(), series.values.numpy()
    assert found.index.shape == (series.total_steps,)
    assert np.array_equal(rows[found.index][complete], values[complete])
    if found.missing_row is None:
        assert complete.all()
    else:
        assert (found.index[~complete] == found.missing_row).all()
        assert (found.index[complete] != found.missing_row).all()
    assert found.index.dtype == np.min_scalar_type(max(len(rows) - 1, 0)) or len(rows) > 65536
    assert found.dense == (found.missing_row is None and np.array_equal(found.index, np.arange(len(values))))


@settings(max_examples=100)
@given(st.lists(st.sampled_from([0.0, 0.1, 2.5, float("nan")]), min_size=1, max_size=30))
def test_numbers(values: list[float]) -> None:
    array = torch.tensor(values, dtype=torch.float64)
    check(Sequences(array, torch.tensor([len(values)]), observed=~array.isnan()))


@settings(max_examples=100)
@given(st.integers(1, 3), st.lists(st.integers(0, 26), min_size=1, max_size=40), st.booleans())
def test_rows_of_several_columns(width: int, numbers: list[int], gaps: bool) -> None:
    digits = torch.tensor([[number // 3**column % 3 for column in range(width)] for number in numbers]).double()
    observed = digits != 2 if gaps else None
    check(Sequences(digits, torch.tensor([len(numbers)]), observed=observed))


def test_repeated_values_make_a_short_table() -> None:
    found = Sequences(torch.tensor([0.0, 3.0, 0.0, 0.0, 3.0, 0.0]), torch.tensor([6])).distinct()
    assert found.rows.tolist() == [0.0, 3.0]
    assert found.index.tolist() == [0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("steps", [50, 200_000])
def test_values_that_do_not_repeat_are_their_own_table(steps: int) -> None:
    values = torch.linspace(0, 1, steps, dtype=torch.float64)
    found = Sequences(values, torch.tensor([steps])).distinct()
    assert found.dense
    assert len(found.rows) == steps
    assert found.index.dtype == (np.uint8 if steps == 50 else np.int32)


def test_many_rows_take_a_wider_index() -> None:
    values = torch.arange(300.0).repeat(4)
    found = Sequences(values, torch.tensor([1200])).distinct()
    assert found.index.dtype == np.uint16
    assert len(found.rows) == 300
    check(Sequences(values, torch.tensor([1200])))


def test_codes_are_their_own_index() -> None:
    codes = np.array([0, 3, 1, 1], dtype=np.uint8)
    series = Sequences.from_arrays(codes, categories="ACGT")
    found = series.distinct()
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert np.shares_memory(found.index, codes)


def test_codes_with_missing_steps() -> None:
    series = Sequences.from_arrays(
        np.ma.masked_array(np.array([0, 3, 1], np.uint8), [False, True, False]), categories="ACGT"
    )
    found = series.distinct()
    assert found.missing_row == 4
    assert found.index.tolist() == [0, 4, 1]
    check(series)


def test_all_256_codes_and_a_missing_step_need_two_bytes() -> None:
    codes = np.ma.masked_array(np.arange(256, dtype=np.uint8), np.arange(256) == 7)
    found = Sequences.from_arrays(codes).distinct()
    assert (found.missing_row, found.index.dtype) == (256, np.uint16)


def test_it_is_worked_out_once() -> None:
    series = Sequences(torch.zeros(3), torch.tensor([3]))
    assert series.distinct() is series.distinct()


@pytest.mark.slow
def test_a_hundred_million_symbols_cost_no_copy() -> None:
    codes = np.tile(np.arange(4, dtype=np.uint8), 25_000_000)
    series = Sequences.from_arrays(codes, categories="ACGT")
    assert np.shares_memory(series.values.numpy(), codes)
    assert np.shares_memory(series.distinct().index, codes)
