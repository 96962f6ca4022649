"""Parameters of an HMM as one unconstrained vector and back, for gradient methods on the exact log-likelihood.

Rows of probabilities go by a softmax over their positive entries, so a zero stays a zero; the family's own
parameters go by torch's bijections. Structural facts (a fixed matrix, a stationary law) take no coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from probseq.chains.initial_laws import FreeInitial
from probseq.chains.transition_laws import FixedTransitions

if TYPE_CHECKING:
    from probseq.models.hmm import HMM

FAR = 30.0
"""A boundary value of an emission parameter starts this far out."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map between a vector (P,) and the parameters of one model, made around an example.

    Args:
        model: the HMM.
        example: parameters whose zeros of `initial` and `transition` are kept.
    """

    model: HMM
    example: Mapping[str, Tensor]

    def pack(self) -> Tensor:
        """(P,) the example's own coordinates."""
        parts = []
        for name in self._simplexes():
            value = self.example[name]
            parts.append(value[value > 0].log())
        for name, transform in self._transforms().items():
            inverse: Any = transform.inv
            free = inverse(self.example[name]).reshape(-1)
            parts.append(free.nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR))
        return torch.cat(parts).detach().double()

    def unpack(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The parameters at a vector; differentiable."""
        result, at = {}, 0
        for name in self._simplexes():
            positive = self.example[name] > 0
            size = int(positive.sum())
            logits = torch.full_like(self.example[name], -torch.inf)
            result[name] = logits.masked_scatter(positive, coordinates[at : at + size]).softmax(-1)
            at += size
        for name, transform in self._transforms().items():
            shape = torch.Size(transform.inverse_shape(self.example[name].shape))
            result[name] = transform(coordinates[at : at + shape.numel()].reshape(shape))
            at += shape.numel()
        return self.model.complete(result)

    def _simplexes(self) -> list[str]:
        names = [] if isinstance(self.model.transition, FixedTransitions) else ["transition"]
        return names + (["initial"] if isinstance(self.model.initial, FreeInitial) else [])

    def _transforms(self) -> dict[str, Transform]:
        names = [name for name in self.example if name not in ("initial", "transition")]
        declared = self.model.declared(self.example)
        return {name: biject_to(declared[name].constraint) for name in names}
