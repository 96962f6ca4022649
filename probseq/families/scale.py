"""The scale of the data: what "too narrow to be a law" means, and where an ML estimate has to stop.

The likelihood of a continuous mixture has no maximum: a state that settles on one value gains without bound as its
scale goes to zero (Day 1969). The default priors prevent it. Maximum likelihood stops at a floor so far below the
data's spread that only a collapsed state reaches it, and `collapsed` then says so.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

NARROW = 1e-5  # relative to the other states: worth comparing with the spread
FLOOR = 1e-8  # times the spread: no ML scale goes lower
COLLAPSED = 1e-6  # times the spread: reported
ROUNDING = 12**-0.5  # standard deviation of a uniform rounding error, in units of the rounding step


class InverseGamma(dist.InverseGamma):
    """Pyro's inverse gamma with its density written out.

    Pyro differentiates it through a transform whose second derivative loads the torch compiler: a second of waiting.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration, self.rate
        return a * b.log() - torch.lgamma(a) - (a + 1) * value.log() - b / value


def spread(values: Tensor) -> Tensor:
    """Standard deviation over the first axis; for constant data the size of the constant; for zeros or no rows, one.

    Missing entries of vectors, NaN, are left out.
    """
    if values.dim() == 2 and bool(values.isnan().any()):
        return torch.stack([spread(column[~column.isnan()]) for column in values.unbind(1)])
    if values.shape[0] == 0:
        return values.new_ones(values.shape[1:])
    deviation = (values - values.mean(0)).square().mean(0).sqrt()
    size = values.abs().amax(0)
    fallback = torch.where(size > 0, size, 1.0)
    return torch.where(deviation > 1e-14 * size, deviation, fallback)


def resolution(values: Tensor) -> Tensor:
    """The smallest step between two different values (R,): the rounding of the data, or nearly zero if it has none."""
    ordered = values.unique()
    gaps = ordered.diff()
    gaps = gaps[gaps > 1e-12 * ordered.abs().amax()] if gaps.numel() else gaps
    return gaps.min() if gaps.numel() else values.new_zeros(())


def collapsed(scale: Tensor, values: Tensor, what: str = "standard deviation") -> str | None:
    """Why a state's scale (K,) is no longer that of a law on `values` (R,); None when all are."""
    width = float(spread(values))
    for state, size in enumerate(scale.tolist()):
        if size < COLLAPSED * width:
            return (
                f"state {state} has collapsed onto one value: its {what} is {size:.3g}, less than a millionth of the "
                f"data's spread ({width:.3g}); use fewer states, or the default priors if this is maximum likelihood"
            )
    return None


def within_rounding(scale: Tensor, values: Tensor, what: str = "standard deviation") -> str | None:
    """Why a state's scale (K,) says more about the rounding of `values` (R,) than about them; None when none does."""
    rounding = ROUNDING * float(resolution(values))
    for state, size in enumerate(scale.tolist()):
        if size < rounding:
            return (
                f"state {state} sits on one recorded value: its {what} is {size:.3g}, below the rounding of the data "
                f"({rounding:.3g}); use finer data, or a family for counts or with an extra zero"
            )
    return None
