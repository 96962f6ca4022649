"""First weights: drawn under a seed of their own, torch's default or better ones for long lags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def weights_of_seed(seed: int) -> Iterator[None]:
    """Modules made inside have the weights of this seed; global random numbers go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def uniform(hidden_size: int, *shape: int) -> nn.Parameter:
    """Weights uniform in +-1/sqrt(H), as torch draws those of its recurrent layers."""
    return nn.Parameter(torch.empty(shape).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))


def make_orthogonal(weight: Tensor) -> None:
    """Draw, in place, recurrent weights (gates H, H) as one orthogonal matrix for each gate (Saxe et al., 2014)."""
    with torch.no_grad():
        for gate in weight.split(weight.shape[1]):
            nn.init.orthogonal_(gate)
