"""One set of parameters in the middle of many draws, inside the constraints that all of them keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from probseq.families.von_mises import CircularVonMises
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences


def mean_of_draws(model: HMM | ProgramModel, draws: Mapping[str, Tensor], series: Sequences) -> dict[str, Tensor]:
    """The posterior mean, of draws whose states have the same names.

    Rows of probabilities, positive numbers and Cholesky factors stay what they are under a mean; of angles it is the
    mean direction. What is known or follows from the rest is worked out from the mean. A program's value whose mean
    leaves its support, such as the factor of a correlation matrix, is the mean in unconstrained coordinates.

    Args:
        model: bound.
        draws: site -> (S, ...).
        series: the data.
    """
    means = {name: value.mean(0) for name, value in draws.items()}
    if isinstance(model, HMM):
        for name, prior in model.parameter_priors(series).items():
            period = _period(prior)
            if period is not None:
                means[name] = _direction(draws[name], period)
        if model.initial.follows_moves:
            del means["initial"]
        return model.complete(means)
    first = {name: value[0] for name, value in draws.items()}
    for name, declared in model.coordinates(first).declared.items():
        if not bool(declared.constraint.check(means[name]).all()):
            transform: Any = biject_to(declared.constraint)
            means[name] = transform(transform.inv(draws[name]).mean(0))
    return model.complete(means)


def _period(prior: Any) -> Tensor | None:
    """The full turn of a parameter that is an angle."""
    while hasattr(prior, "base_dist") and not isinstance(prior, CircularVonMises):
        prior = prior.base_dist
    return prior.period if isinstance(prior, CircularVonMises) else None


def _direction(angles: Tensor, period: Tensor) -> Tensor:
    """The mean direction of angles (S, ...), in [0, period) or, where some are below zero, half a turn around it."""
    turned = angles * (2.0 * math.pi / period)
    mean = torch.atan2(turned.sin().mean(0), turned.cos().mean(0)) * (period / (2.0 * math.pi))
    return mean if bool((angles < 0).any()) else mean % period
