"""Special functions that stay accurate, and twice differentiable, at the edges of their domains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STIRLING_FROM = 32.0  # with four terms the series below is exact to 1e-17 from here on


def safe_log(probability: Tensor) -> Tensor:
    """Natural log with log 0 = -inf and gradient zero there, instead of NaN once it meets a zero count."""
    positive = probability > 0
    return torch.where(positive, torch.where(positive, probability, 1.0).log(), -math.inf)


def log1mexp(value: Tensor) -> Tensor:
    """log(1 - exp(value)) for value <= 0, by the branch that loses no digits (Maechler 2012)."""
    near = value > -math.log(2.0)
    by_expm1 = safe_log(-torch.expm1(torch.where(near, value, -1.0)))
    by_log1p = torch.log1p(-torch.exp(torch.where(near, -1.0, value)))
    return torch.where(near, by_expm1, by_log1p)


def lgamma_increment(argument: Tensor, increment: Tensor) -> Tensor:
    """log Gamma(argument + increment) - log Gamma(argument), for increment >= 0.

    The plain difference loses every digit once `argument` is large (the Poisson limit of the negative
    binomial, the Gaussian limit of Student's t); there the difference of two Stirling series is taken
    term by term, so that the large parts cancel on paper.
    """
    large = argument >= STIRLING_FROM
    if not bool(large.any()):
        return torch.lgamma(argument + increment) - torch.lgamma(argument)
    big = torch.where(large, argument, STIRLING_FROM)
    stirling = (
        (big - 0.5) * torch.log1p(increment / big)
        + increment * torch.log(big + increment)
        - increment
        + _stirling_tail(big + increment)
        - _stirling_tail(big)
    )
    if bool(large.all()):
        return stirling
    small = torch.where(large, 1.0, argument)
    return torch.where(large, stirling, torch.lgamma(small + increment) - torch.lgamma(small))


def _stirling_tail(value: Tensor) -> Tensor:
    inverse = 1 / value
    square = inverse * inverse
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


def safe_log1m(probability: Tensor) -> Tensor:
    """log(1 - probability), with log 0 = -inf and gradient zero there."""
    below = probability < 1
    return torch.where(below, torch.log1p(-torch.where(below, probability, 0.0)), -math.inf)


def log_minus_digamma(argument: Tensor) -> Tensor:
    """log a - digamma(a), which is 1 / (2 a) for large a, where the plain difference has no digits left."""
    big = argument.clamp(min=STIRLING_FROM)
    square = big.square().reciprocal()
    series = 0.5 / big + square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return torch.where(argument >= STIRLING_FROM, series, argument.log() - torch.digamma(argument))
