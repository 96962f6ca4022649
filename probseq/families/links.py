"""Links between the parameters of a family and linear predictors, and the prior of the coefficients behind one.

The link of a parameter is torch's bijection from the real numbers onto its constraint: identity, log for positive
numbers, logit for probabilities, log above a bound; for M probabilities that sum to one a multinomial logit against the
last of them (McCullagh & Nelder 1989, chapters 2 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import ExpTransform, SigmoidTransform, Transform, identity_transform

FAR = 30.0
"""A value on the boundary of its constraint has its linear predictor this far out."""


class BaselineSoftmax(Transform):
    """M - 1 real numbers to M probabilities: exp(x_m) and 1 for the last, normalised."""

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaselineSoftmax)

    def __hash__(self) -> int:
        return hash(BaselineSoftmax)

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x[..., :1])], -1).softmax(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y[..., :-1].log() - y[..., -1:].log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """sum log p: the determinant of diag(p) - p p' over the first M - 1 is the product of all M."""
        return torch.cat([x, torch.zeros_like(x[..., :1])], -1).log_softmax(-1).sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        return torch.Size([*shape[:-1], shape[-1] + 1])

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        return torch.Size([*shape[:-1], shape[-1] - 1])


LINKS: tuple[tuple[Constraint, Any], ...] = (
    (constraints.real, identity_transform),
    (constraints.positive, ExpTransform()),
    (constraints.nonnegative, ExpTransform()),
    (constraints.unit_interval, SigmoidTransform()),
    (constraints.simplex, BaselineSoftmax()),
)
NAMES = {ExpTransform: "log", SigmoidTransform: "logit", BaselineSoftmax: "log odds against the last,"}


def link_of(constraint: Constraint) -> Any:
    """The transform from linear predictors to values that satisfy the constraint."""
    for known, link in LINKS:
        if constraint is known:
            return link
    return biject_to(constraint)


def predictor(link: Any, value: Tensor) -> Tensor:
    """The linear predictor of a value, within `FAR` of zero where the value is on its boundary."""
    return link.inv(value).nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR)


def name_of(link: Any, parameter: str) -> str:
    """What the predictor is, in words: "log rate"."""
    return f"{NAMES.get(type(link).__name__, 'predictor of')} {parameter}".strip()


class CoefficientPrior(TorchDistribution):
    """The law of the coefficients (*shape, P) of one parameter: an intercept, then P - 1 slopes.

    The intercept is the linear predictor of a parameter that follows its own prior: where every other column of the
    design is zero the parameter is what it would be without them. The slopes are normal around zero.

    Args:
        prior: of the parameter itself.
        link: from predictors to the parameter.
        scales: (P - 1,) standard deviations of the slopes.
        copies: (*shape) of the predictor: () for one number, (M - 1,) for probabilities.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    has_rsample = False

    def __init__(
        self, prior: TorchDistributionMixin, link: Any, scales: Tensor, copies: tuple[int, ...] = (), batch: Any = ()
    ) -> None:
        self.prior, self.link, self.scales, self.copies = prior, link, scales, copies
        super().__init__(torch.Size(batch), torch.Size([*copies, len(scales) + 1]), validate_args=False)

    @property
    def support(self) -> Any:
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """(*batch, *shape, P): the predictor of the parameter's prior mean, and no slopes."""
        result = self.scales.new_zeros(self.shape())
        result[..., 0] = predictor(self.link, self.prior.mean)
        return result

    def expand(self, batch_shape: Any, _instance: Any = None) -> CoefficientPrior:
        return CoefficientPrior(self.prior, self.link, self.scales, self.copies, batch_shape)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (the signature of torch)
        shape = self.shape(torch.Size(sample_shape))
        with torch.no_grad():
            drawn = self.prior.sample(shape[: len(shape) - len(self.event_shape)])  # pyright: ignore
            slopes = torch.randn(shape[:-1] + (len(self.scales),), dtype=self.scales.dtype) * self.scales
            return torch.cat([predictor(self.link, drawn).unsqueeze(-1), slopes], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        first, slopes = value[..., 0], value[..., 1:]
        parameter = self.link(first)
        normal = (
            -0.5 * (slopes / self.scales).square()
            - self.scales.log()
            - 0.5 * torch.log(2 * self.scales.new_tensor(torch.pi))
        )
        total = normal.sum(tuple(range(-1 - len(self.copies), 0)))
        return total + self.prior.log_prob(parameter) + self.link.log_abs_det_jacobian(first, parameter)
