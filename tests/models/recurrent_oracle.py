"""A recurrent model's law by hand: one sequence and one step at a time, from the weights alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributions as laws

from probseq import RecurrentModel, Sequences, families
from probseq.families import Family
from probseq.recurrent import Cell

Law = Callable[[Tensor], laws.Distribution]
"""From the unconstrained numbers of one step to the law of its observation."""


@dataclass(frozen=True)
class ByHand:
    """A family with its law written out.

    Args:
        family: for the model.
        columns: of an observation, 0 for a single one.
        law: from the head's numbers, in the order of the family's parameters.
        values: five observations.
    """

    family: Family
    columns: int
    law: Law
    values: Tensor


def _gaussian_mixture(u: Tensor) -> laws.Distribution:
    return laws.MixtureSameFamily(laws.Categorical(logits=u[:2]), laws.Normal(u[2:4], u[4:].exp()))


def _full(u: Tensor) -> laws.Distribution:
    factor = torch.zeros(2, 2, dtype=u.dtype)
    factor[0, 0], factor[1, 0], factor[1, 1] = u[2].exp(), u[3], u[4].exp()
    return laws.MultivariateNormal(u[:2], scale_tril=factor)


BY_HAND = {
    "gaussian": ByHand(
        families.Gaussian(), 0, lambda u: laws.Normal(u[0], u[1].exp()), torch.tensor([0.3, -1, 2, 0, 4])
    ),
    "poisson": ByHand(families.Poisson(), 0, lambda u: laws.Poisson(u[0].exp()), torch.tensor([0.0, 3, 1, 2, 7])),
    "bernoulli": ByHand(
        families.Bernoulli(), 0, lambda u: laws.Bernoulli(logits=u[0]), torch.tensor([0.0, 1, 1, 0, 1])
    ),
    "categorical": ByHand(
        families.Categorical(3), 0, lambda u: laws.Categorical(logits=u), torch.tensor([0.0, 2, 1, 1, 2])
    ),
    "mixture": ByHand(families.Mixture(families.Gaussian(), 2), 0, _gaussian_mixture, torch.tensor([0.3, -1, 2, 0, 4])),
    "vectors": ByHand(
        families.MultivariateGaussian("full"), 2, _full, torch.tensor([[0.3, 1], [-1, 2], [2, 2], [0, 1], [4, -1]])
    ),
}


@torch.no_grad()
def by_hand(model: RecurrentModel, case: ByHand, series: Sequences) -> list[list[float]]:
    """log p of each step of each sequence, of what was observed; zero elsewhere; ends and lengths left out.

    Every sequence runs by itself through `cell.step`, its inputs put together here from their definition.
    """
    cell, head, reader = model.cell, model.head, model.reader
    assert isinstance(cell, Cell)
    found = []
    for n in range(series.count):
        one = series.take([n])
        state = cell.start(1)
        fed, steps = _fed(model, None), []
        for t in range(one.total_steps):
            parts = [] if model.feedback is None else [fed]
            if one.covariates is not None and model.covariates.names:
                parts.append((one.covariates[t] - model.covariates.shift) / model.covariates.scale)
            hidden, state = cell.step(torch.cat(parts).unsqueeze(0), state)
            output = (head.linear.weight @ hidden[0] + head.linear.bias) * head.spread + head.centre[: len(head.spread)]
            law = case.law(output)
            seen = one.observed is None or bool(one.observed[t].all())
            steps.append(float(law.log_prob(one.values[t])) if seen else 0.0)
            if model.feedback == "observed":
                fed = _fed(model, one.values[t] if seen else None)
            elif model.feedback == "predicted" and isinstance(law, laws.Categorical):
                fed = torch.cat([law.probs @ reader.vectors, torch.ones(1)])
            elif model.feedback == "predicted":
                fed = _fed(model, law.mean)
        found.append(steps)
    return found


def _fed(model: RecurrentModel, value: Tensor | None) -> Tensor:
    """What is fed back of one observation."""
    reader = model.reader
    if value is None:
        return torch.zeros(reader.width, dtype=torch.float64)
    if isinstance(model.family, families.Categorical):
        vectors: Tensor = reader.vectors  # type: ignore[assignment]
        return torch.cat([vectors[int(value)], torch.ones(1)])
    standard = (value.reshape(-1) - reader.shift) / reader.scale  # type: ignore[operator]
    return torch.cat([standard, torch.ones_like(standard)])


def strings(symbols: int, longest: int) -> Sequences:
    """Every string of 1 to `longest` symbols."""
    codes = [
        torch.tensor([(number // symbols**place) % symbols for place in range(length)], dtype=torch.uint8)
        for length in range(1, longest + 1)
        for number in range(symbols**length)
    ]
    lengths = torch.tensor([len(code) for code in codes])
    return Sequences(torch.cat(codes), lengths, categories=tuple("abcdefgh"[:symbols]))


def log_share(logs: Tensor) -> float:
    """The sum of probabilities."""
    return math.fsum(logs.exp().tolist())
