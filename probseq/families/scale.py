"""The scale of the data: what "too narrow to be a law" means, and where an ML estimate has to stop.

The likelihood of a continuous mixture has no maximum: a state that settles on one value gains without bound as its
scale goes to zero (Day 1969). The default priors prevent it. Maximum likelihood stops at a floor so far below the
data's spread that only a collapsed state reaches it, and `collapsed` then says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-8  # times the spread: no ML scale goes lower
COLLAPSED = 1e-6  # times the spread: reported
ROUNDING = 12**-0.5  # standard deviation of a uniform rounding error, in units of the rounding step


def spread(values: Tensor) -> Tensor:
    """Standard deviation of the rows, over the first axis; for constant data the size of the constant, or one."""
    deviation = (values - values.mean(0)).square().mean(0).sqrt()
    size = values.abs().amax(0)
    fallback = torch.where(size > 0, size, 1.0)
    return torch.where(deviation > 1e-14 * size, deviation, fallback)


def resolution(values: Tensor) -> Tensor:
    """The smallest step between two different values (R,): the rounding of the data, or nearly zero if it has none."""
    gaps = values.unique().diff()
    gaps = gaps[gaps > 1e-12 * values.abs().max()]
    return gaps.min() if gaps.numel() else values.new_zeros(())


def collapsed(scale: Tensor, values: Tensor, what: str = "standard deviation") -> str | None:
    """Why a state's scale (K,) is no longer that of a law on `values` (R,); None when all are.

    A scale below the rounding error of the data means that the state sits on one recorded value.
    """
    rounding = ROUNDING * resolution(values)
    width = spread(values)
    for state, size in enumerate(scale.tolist()):
        if size < max(float(rounding), COLLAPSED * float(width)):
            against = (
                f"the rounding of the data ({float(rounding):.3g})"
                if size >= COLLAPSED * float(width)
                else f"a millionth of the data's spread ({float(width):.3g})"
            )
            return (
                f"state {state} has collapsed onto one value: its {what} is {size:.3g}, less than {against}; "
                "use fewer states, or the default priors if this is maximum likelihood"
            )
    return None
