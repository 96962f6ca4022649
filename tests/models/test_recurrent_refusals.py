"""What a recurrent model refuses, and what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from probseq import DataError, LengthLaw, ModelError, RecurrentModel, Sequences, families
from probseq.recurrent import GRU, Bidirectional
from tests.models.recurrent_models import CELLS, model_of, ragged, symbol_model
from tests.models.recurrent_oracle import BY_HAND

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        (families.Autoregression(1), {}, "feedback='observed'"),
        (families.Gaussian(), {"feedback": "seen"}, "feedback must be one of"),
        (families.Gaussian(), {"vector": ("v",), "vector_as": "sky"}, "vector_as must be one of"),
        (families.Gaussian(), {"stopping": "never"}, "stopping must be"),
        (families.Gaussian(), {"dropout": 1.0}, "dropout must be"),
        (families.Gaussian(), {"embedding": 3}, "only symbols"),
        (families.Gaussian(), {"feedback": None}, "must have an input"),
        (families.Gaussian(), {"stopping": "end", "covariates": ("x",)}, "covariates give the length"),
        (families.Gaussian(), {"stopping": "end", "feedback": "predicted", "covariates": ("x",)}, "end symbol"),
        (families.Gaussian(), {"embeddings": {"month": (12, 3)}}, "among covariates and vector"),
        (families.Categorical(), {}, "categories must be known"),
        (families.FactorialGaussian((2, 2)), {}, "network to drive"),
    ],
)
def test_refused_models(family: families.Family, options: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        RecurrentModel(family, CELLS["gru"], **options)


def test_a_layer_is_taken_as_it_is_or_refused() -> None:
    series = Sequences.from_arrays([[0.5, 1.0], [2.0]])
    layer = GRU(2, 4)
    assert RecurrentModel.for_series(series, "gaussian", layer).cell is layer
    with pytest.raises(ModelError, match="layers and bidirectional must be left out"):
        RecurrentModel.for_series(series, "gaussian", layer, layers=2)
    with pytest.raises(ModelError, match="a cell must be a recurrent layer"):
        RecurrentModel.for_series(series, "gaussian", lambda inputs: torch.nn.LSTM(inputs, 4))  # type: ignore


def test_sizes_and_names_of_what_enters() -> None:
    with pytest.raises(ModelError, match="embedding must be a whole number of at least 1, got 0"):
        RecurrentModel(families.Categorical(3), lambda inputs: GRU(inputs, 3), embedding=0)
    for sizes in ((7,), (7, 0)):
        with pytest.raises(ModelError, match="embeddings must say how many codes"):
            RecurrentModel(
                families.Gaussian(), lambda inputs: GRU(inputs, 3), covariates=["day"], embeddings={"day": sizes}
            )
    model = RecurrentModel(families.Gaussian(), lambda inputs: GRU(inputs, 3), covariates="temperature")
    assert model.covariates.names == ("temperature",)


@pytest.mark.parametrize("value", [-1.0, 3.0, 0.5])
def test_what_is_no_symbol_is_refused(value: float) -> None:
    model = RecurrentModel(families.Categorical(3), lambda inputs: GRU(inputs, 3))
    with pytest.raises(DataError, match=f"codes from 0 to 2, got {value:g}"):
        model.log_prob(Sequences.from_arrays([[0.0, value, 1.0]]))
    with pytest.raises(DataError, match="a series must be Sequences, got list"):
        model.log_prob([[0.0, 1.0]])  # type: ignore[arg-type]


def test_how_many_are_drawn_must_be_a_number() -> None:
    series = Sequences.from_arrays([[0.5, 1.0], [2.0]])
    model = RecurrentModel.for_series(series, "gaussian", "gru", 3, stopping="end")
    assert model.simulate(np.int64(3), seed=1).lengths.tolist() == [3]  # type: ignore[arg-type]
    for lengths in (2.5, [1.5], 0, []):
        with pytest.raises(DataError, match="lengths must be whole numbers of at least 1"):
            model.simulate(lengths, seed=1)  # type: ignore[arg-type]
    for count in (0, -1, 1.5):
        with pytest.raises(DataError, match="count must be a whole number of at least 1"):
            model.simulate(count=count, seed=1)  # type: ignore[arg-type]


def test_a_cell_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match="input_size of the cell must be 2"):
        RecurrentModel(families.Gaussian(), GRU(3, 4))
    with pytest.raises(ModelError, match="sees the future"):
        RecurrentModel(families.Gaussian(), lambda i: Bidirectional(GRU(i, 2), GRU(i, 2)))
    with pytest.raises(ModelError, match="family of counts"):
        LengthLaw(families.Gaussian())


def test_refused_data() -> None:
    case = BY_HAND["categorical"]
    model, series = model_of(case, covariates=("x",), embeddings={"x": (2, 2)}), ragged(case)
    with pytest.raises(DataError, match="code from 0 to 1"):
        model.encode(series)
    with pytest.raises(DataError, match="none named 'x'"):
        model.encode(replace(series, covariates=None, covariate_names=()))
    with pytest.raises(DataError, match="symbols must be codes from 0 to 2, got 7"):
        model.encode(replace(series, values=torch.full((9,), 7.0)))
    with pytest.raises(DataError, match="single numbers or symbols"):
        model.encode(Sequences(torch.zeros(2, 2), torch.tensor([2])))
    text = Sequences.from_text(text="abab")
    made = RecurrentModel.for_series(text, "categorical", "gru", 2)
    with pytest.raises(DataError, match="read it with categories"):
        made.log_prob(Sequences.from_text(text="bcb"))
    assert made.log_prob(Sequences.from_text(text="bb", categories=text.categories)).isfinite().all()
    with pytest.raises(DataError, match="simulated along a series"):
        model.simulate([3], seed=1)
    with pytest.raises(ModelError, match="without an end"):
        symbol_model(2, None).simulate(count=3, seed=1)
    with pytest.raises(DataError, match="must come with count"):
        symbol_model(2, "end").simulate(seed=1)
    with pytest.raises(ModelError, match="knows its length"):
        known = symbol_model(2, LengthLaw(families.Geometric()))
        known.simulate([2], seed=1, past=Sequences.from_arrays([[0, 1]], categories=["a", "b"]))


def test_a_sequence_without_end_is_cut_and_said_so() -> None:
    model = symbol_model(2, "end")
    assert model.stop is not None
    torch.nn.init.constant_(model.stop.bias, -50.0)
    with pytest.warns(UserWarning, match="3 of 3 sequences had no end after 7 steps"):
        assert model.simulate(count=3, seed=1, longest=7).lengths.tolist() == [7, 7, 7]
