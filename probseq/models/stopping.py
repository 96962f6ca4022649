"""How a sequence ends by itself: by an end symbol, or at a length that is drawn first.

End symbol: the network says after each step how likely the end is, s_t, so that a sequence of T >= 1 steps has

    p(y) = prod_{t<=T} (1 - s_t) p(y_t | y_<t) * s_{T+1},    s_1 = 0;

for symbols this is one symbol more, whose chance is s_t; other laws have an end in the same way. Length model: p(y) =
P(T) p(y | T), T - 1 of any law of counts, and the network may be told T or what is left of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from probseq import families
from probseq.errors import DataError, ModelError
from probseq.families.family import Family

TOLD = ("remaining", "total")

CLIMBS = 1000
"""Steps towards the law of weighted lengths, at most."""


class LengthLaw(nn.Module):
    """The law of a sequence's length: T - 1 follows a family of counts, fitted to the lengths of the training data.

    Args:
        family: of T - 1, such as Geometric(), NegativeBinomial(), Mixture(Poisson(), 2), or Categorical(M) for the
            share of each length from 1 to M; lengths never seen keep a tenth of an observation there.
        tells: what the network is told at each step, of "remaining", log(1 + T - t), and "total", log T.

    >>> law = LengthLaw(families.Geometric())
    >>> law.prepare(torch.tensor([1, 2, 3]))
    >>> round(float(law.log_prob(torch.tensor([1])).exp()), 3)
    0.5
    """

    def __init__(self, family: Family, tells: Sequence[str] = ("remaining",)) -> None:
        super().__init__()
        if not isinstance(family, Family) or family.event_dim or family.context or not family.discrete:
            raise ModelError(
                f"the law of lengths must be a family of counts, got {getattr(family, 'name', family)!r} at LengthLaw; "
                "use Geometric(), NegativeBinomial() or Categorical(longest)."
            )
        unknown = [name for name in tells if name not in TOLD]
        if unknown:
            raise ModelError(f"tells must be among {', '.join(TOLD)}, got {unknown[0]!r} at LengthLaw; leave it out.")
        self.family, self.tells = family, tuple(tells)
        most = family.categories or 1 if isinstance(family, families.Categorical) else 10
        for name, value in _learned(family, torch.arange(1, most + 1)).items():
            self.register_buffer(name, value)

    @property
    def width(self) -> int:
        """Numbers that the network is told at each step."""
        return len(self.tells)

    @property
    def law(self) -> TorchDistributionMixin:
        """Of T - 1."""
        return self.family.distribution(**self.parameters_of_law)

    @property
    def parameters_of_law(self) -> dict[str, Tensor]:
        """The family's, of one law."""
        return {name: getattr(self, name)[0] for name in self.family.parameters()}

    def prepare(self, lengths: Tensor, weights: Tensor | None = None) -> None:
        """Fit the law to lengths (N,), each as often as its weight (N,) says; None is once each."""
        if weights is not None:
            lengths, weights = lengths[weights > 0], weights[weights > 0]
        for name, value in _learned(self.family, lengths, weights).items():
            getattr(self, name).copy_(value)

    def log_prob(self, lengths: Tensor) -> Tensor:
        """(N,) nats: log P(T), -inf for a length that the law rules out."""
        parameters = {name: getattr(self, name) for name in self.family.parameters()}
        return self.family.log_prob((lengths - 1).double(), parameters)[:, 0]

    def sample(self, count: int) -> Tensor:
        """(count,) int64 lengths of at least 1, from torch's current random numbers."""
        with torch.no_grad():
            return 1 + self.law.sample(torch.Size([count])).long().reshape(count)

    def told(self, place: Tensor, lengths: Tensor) -> Tensor:
        """(T, width) what the network is told at steps `place` (T,), from 0, of sequences of `lengths` (T,) steps."""
        every = {"remaining": (lengths - place).double().log(), "total": lengths.double().log()}
        columns = [every[name] for name in self.tells]
        return torch.stack(columns, -1) if columns else torch.zeros(len(place), 0, dtype=torch.float64)

    def description(self) -> dict[str, Any]:
        """Plain values from which `rebuild` makes the same law, without its parameters."""
        return {"family": self.family.to_json(), "tells": list(self.tells)}

    @staticmethod
    def rebuild(description: dict[str, Any]) -> LengthLaw:
        """The law that `description` describes."""
        return LengthLaw(families.from_json(description["family"]), description["tells"])


def _learned(family: Family, lengths: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
    """The parameters of one law of T - 1, at their maximum likelihood; a Categorical's smoothed by its weak prior."""
    counts = (lengths - 1).double()
    often = (torch.ones_like(counts) if weights is None else weights.double()).unsqueeze(-1)
    if isinstance(family, families.Categorical):
        if family.categories is not None and bool((counts >= family.categories).any()):
            raise DataError(
                f"lengths must be at most {family.categories} for this law of lengths, got {int(lengths.max())}; give "
                "Categorical as many categories as the longest sequence has steps."
            )
        found = {"probabilities": torch.full((1, family.categories or 1), 1.0 / (family.categories or 1))}
        found = {name: value.double() for name, value in found.items()}
        return family.maximise_posterior(counts, often, found, family.priors(counts))
    found = family.pooled(counts, 1)
    if weights is None:
        return found
    reached = -math.inf
    for _ in range(CLIMBS):  # more than twice for mixtures alone, whose maximum is climbed by steps
        found = family.maximise(counts, often, found)
        before, reached = reached, float((often * family.log_prob(counts, found)).sum())
        if reached - before <= 1e-10 * abs(reached):
            break
    return found
