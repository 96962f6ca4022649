"""Recurrent models that several tests are about."""

from __future__ import annotations

import numpy as np
import torch

from probseq import RecurrentModel, Sequences, families
from probseq.recurrent import GRU, LSTM, Feedforward, Leaky, Stacked, Vanilla
from tests.models.recurrent_oracle import ByHand

CELLS = {
    "vanilla": lambda inputs: Vanilla(inputs, 4, seed=1),
    "lstm": lambda inputs: LSTM(inputs, 4, seed=1),
    "gru": lambda inputs: GRU(inputs, 4, seed=1),
    "leaky": lambda inputs: Leaky(inputs, 4, seed=1),
    "memoryless": lambda inputs: Feedforward(inputs, 4, seed=1),
    "stacked": lambda inputs: Stacked([LSTM(inputs, 3, seed=1), GRU(3, 4, seed=2)]),
}


def ragged(case: ByHand, **more: object) -> Sequences:
    """Nine steps in sequences of 5, 1 and 3, two of them missing, with two covariates."""
    values = torch.cat([case.values, case.values[:4]])
    observed = torch.ones(values.shape, dtype=torch.bool)
    observed[[1, 7]] = False
    x = torch.tensor(np.random.default_rng(0).normal(size=(9, 2)))
    about = {"covariates": x, "covariate_names": ("x", "z")}
    return Sequences(values.double(), torch.tensor([5, 1, 3]), observed=observed, **{**about, **more})


def model_of(case: ByHand, cell: str = "lstm", **options: object) -> RecurrentModel:
    return RecurrentModel(case.family, CELLS[cell], columns=case.columns, seed=2, **options).double()  # type: ignore


def symbol_model(symbols: int, stopping: object, seed: int = 5) -> RecurrentModel:
    made = RecurrentModel(families.Categorical(symbols), CELLS["lstm"], stopping=stopping, seed=seed)  # type: ignore
    for weight in made.parameters():  # far from uniform
        weight.data.mul_(3.0)
    return made.double()
