"""From a hidden vector to the law of an observation: an affine map, and each parameter brought into its set.

u_t = centre + spread * (W h_t + b),   parameter = T(u_t),

where T is torch's transform onto the parameter's constraint (exp for a scale, softmax for probabilities), and what
all steps share is learned as it stands. `centre` and `spread` come from the data: at W h = b = 0 the law is that of
all observations together, and one unit of the output moves a location by one standard error of a single observation.
"""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import constraints, transform_to
from torch.distributions.constraints import Constraint
from torch.nn import functional

from probseq.errors import ModelError
from probseq.families import Categorical
from probseq.families.family import Family, Parameter
from probseq.recurrent.first_weights import weights_of_seed

FAR = 30.0
"""A parameter on the boundary of its set starts this far out."""

WIDEST = 1e6
"""The largest spread, of a location that the observations all but leave open."""


class FamilyHead(nn.Module):
    """The parameters of a family's law, at each of a batch of hidden vectors.

    Args:
        family: with whatever it takes from data filled in (`Family.bind`).
        hidden_size: H.
        event_shape: of one observation, () or (D,).
        seed: of the first weights.

    >>> from probseq.families import Gaussian
    >>> head = FamilyHead(Gaussian(), 3)
    >>> {name: value.shape for name, value in head(torch.zeros(5, 3)).items()}
    {'loc': torch.Size([5]), 'scale': torch.Size([5])}
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, family: Family, hidden_size: int, event_shape: tuple[int, ...] = (), *, seed: int = 0) -> None:
        super().__init__()
        require_drivable(family, event_shape)
        self.family, self.event_shape = family, tuple(event_shape)
        self.declared = family.parameters(self.event_shape)
        self.shapes = {name: _free_shape(one) for name, one in self.declared.items()}
        driven = sum(self._size(name) for name, one in self.declared.items() if not one.shared)
        with weights_of_seed(seed):
            self.linear = nn.Linear(hidden_size, driven)
        self.shared = nn.Parameter(torch.zeros(sum(map(self._size, self.declared)) - driven))
        self.register_buffer("centre", torch.zeros(driven + len(self.shared), dtype=torch.float64))
        self.register_buffer("spread", torch.ones(driven, dtype=torch.float64))

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """The parameters, float64: each (..., *shape) for hidden vectors (..., H), shared ones of their own shape."""
        return self._transformed(*self._coordinates(hidden))

    def distribution(self, hidden: Tensor) -> TorchDistributionMixin:
        """The law of the observation at each hidden vector."""
        return self.family.distribution(**self(hidden))

    def log_prob(self, hidden: Tensor, values: Tensor) -> Tensor:
        """(S,) float64 nats: log p(values[s] | hidden[s]); -inf outside the support.

        Args:
            hidden: (S, H).
            values: (S, *event); NaN at entries of a vector that are missing, for families that sum them out.
        """
        if isinstance(self.family, Categorical):  # the same law without the detour over probabilities, summed in the
            bias = self.linear.bias + self.centre.to(hidden.dtype)  # weights' type: in float64 an eighth of a training
            logits = functional.linear(hidden, self.linear.weight, bias)  # (S, M); the spread of logits is one
            inside = (values >= 0) & (values < logits.shape[-1]) & (values == values.floor())
            codes = torch.where(inside, values, torch.zeros_like(values)).long()
            found = -functional.cross_entropy(logits, codes, reduction="none").double()
            return torch.where(inside, found, -math.inf)
        with pyro.validation_enabled(False):  # weights that diverged are the training's to report
            law: Any = self.distribution(hidden)
            inside = law.support.check(values)
            if bool(inside.all()):
                return law.log_prob(values)
            result = torch.full(values.shape[: values.dim() - len(self.event_shape)], -math.inf, dtype=torch.float64)
            chosen: Any = self.distribution(hidden[inside])
            return result.to(values.device).masked_scatter(inside, chosen.log_prob(values[inside]))

    @torch.no_grad()
    def mean(self, hidden: Tensor) -> Tensor:
        """The expected observation, or of symbols their probabilities; without gradients."""
        return self.expectation(hidden)

    def expectation(self, hidden: Tensor) -> Tensor:
        """(S, *event) float64 the expected observation, or (S, M) the probabilities of symbols; differentiable.

        Zero where the law has no mean.
        """
        parameters = self(hidden)
        if isinstance(self.family, Categorical):
            return parameters["probabilities"]
        return self.family.mean(parameters).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    @torch.no_grad()
    def prepare(self, values: Tensor) -> None:
        """Start from the law of all observations: the maximum likelihood of one law for them all.

        Where that lies on the boundary of a parameter's set, the mode under the family's weak priors stands in.

        Args:
            values: (R, *event) every observation once.
        """
        with torch.enable_grad():
            pooled = self.family.pooled(values, 1)
        free = self._free(pooled)
        if not bool(free.isfinite().all()):
            ones = torch.ones(len(values), 1, dtype=torch.float64)
            with torch.enable_grad():
                kept = self.family.maximise_posterior(values, ones, pooled, self.family.priors(values))
            free = torch.where(free.isfinite(), free, self._free(kept))
        self.centre.copy_(free.nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR))
        self.spread.copy_(self._spreads(values))
        self.linear.bias.zero_()
        self.shared.zero_()

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _coordinates(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(..., P) what is driven and (Q,) what is shared, unconstrained, float64."""
        driven = len(self.spread)
        free = self.centre[:driven] + self.spread * self.linear(hidden).double()
        return free, self.centre[driven:] + self.shared.double()

    def _transformed(self, driven: Tensor, shared: Tensor) -> dict[str, Tensor]:
        result, at = {}, {True: 0, False: 0}
        for name, one in self.declared.items():
            source, first = (shared if one.shared else driven), at[one.shared]
            piece = source[..., first : first + self._size(name)].reshape(*source.shape[:-1], *self.shapes[name])
            result[name] = transform_to(one.constraint)(piece)
            at[one.shared] += self._size(name)
        return result

    def _size(self, name: str) -> int:
        return math.prod(self.shapes[name])

    def _free(self, parameters: dict[str, Tensor]) -> Tensor:
        """(P + Q,) the coordinates of one state's parameters, what is shared last."""
        parts: dict[bool, list[Tensor]] = {False: [], True: []}
        for name, one in self.declared.items():
            value = parameters[name] if one.shared else parameters[name][0]
            parts[one.shared].append(transform_to(one.constraint).inv(value.double()).reshape(-1))
        return torch.cat(parts[False] + parts[True])

    def _spreads(self, values: Tensor) -> Tensor:
        """(P,) 1 / sqrt(E[score^2]) of coordinates in the units of the data, 1 of all others."""
        driven = len(self.spread)
        driven_ones = [(name, one) for name, one in self.declared.items() if not one.shared]
        scaled = torch.tensor([_in_units(one.constraint) for name, one in driven_ones for _ in range(self._size(name))])
        if not bool(scaled.any()):
            return torch.ones(driven, dtype=torch.float64)
        with torch.enable_grad():
            free = self.centre[:driven].detach().expand(len(values), driven).clone().requires_grad_()
            law: Any = self.family.distribution(**self._transformed(free, self.centre[driven:]))
            (score,) = torch.autograd.grad(law.log_prob(values).sum(), free)
        squares = score.square().mean(0)
        return torch.where(scaled & squares.isfinite() & (squares > 0), squares.rsqrt().clamp(max=WIDEST), 1.0)


def require_drivable(family: Family, event_shape: tuple[int, ...]) -> None:
    """Refuse a family whose parameters a network cannot drive.

    Raises:
        ModelError: it sees more than the observation itself, or all states share its parameters.
    """
    if not isinstance(family, Family):
        raise ModelError(f"family must be a family, got {family!r}; pass one such as families.Gaussian().")
    if family.context or family.memory > 1:
        raise ModelError(
            f"family must be of the observation alone under a network, got {family.name}, which has lags or a design; "
            "let the network read them: past values as feedback='observed', regressors as covariates."
        )
    if all(one.shared for one in family.parameters(event_shape).values()):
        raise ModelError(
            f"family must have a parameter for the network to drive, got {family.name}, whose parameters all states "
            "share; use Gaussian, say."
        )


def _free_shape(one: Parameter) -> tuple[int, ...]:
    return tuple(transform_to(one.constraint).inverse_shape(torch.Size(one.shape)))


def _in_units(constraint: Constraint) -> bool:
    """Whether free coordinates of values in this set have the units of the data, as those of a location do."""
    inner: Any = constraint
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    return isinstance(inner, type(constraints.real) | type(constraints.lower_cholesky))
