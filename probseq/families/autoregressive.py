"""What the autoregressive families have in common: Gaussian errors around a mean that lags and states make.

A concrete family says where the mean of each row lies, `_located`, and how its parameters are found again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import constraints

from probseq.context import Context
from probseq.errors import ModelError
from probseq.families import checking, scale
from probseq.families.family import NOTHING, Family, Parameter, Parameters, scalar_event, step_name
from probseq.families.gaussian import LOG_ROOT_TAU, normal_below

MAX_TURNS = 200
SETTLED = 1e-12  # share of the expected log-likelihood that a turn must gain for another to follow


@dataclass(frozen=True)
class Autoregressive(Family):
    """A family of rows (y_t, y_{t-1}, .., y_{t-p}) with three parameters: a level, coefficients, and a scale.

    Args:
        order: p, at least 1.
        shared: which of the parameters are the same in all states.
    """

    names: ClassVar[tuple[str, str, str]]

    order: int = 1
    shared: tuple[str, ...] = ()

    @property
    def context(self) -> Context:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The p observations before."""
        return Context(lags=self.order)

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        kinds = (constraints.real, constraints.real_vector, constraints.positive)
        shapes = ((), (self.order,), ())
        return {
            name: Parameter(kind, shape, name in self.shared)
            for name, kind, shape in zip(self.names, kinds, shapes, strict=True)
        }

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        """Of `loc` and `scale`, which `emission` works out of the lags and the states."""
        return dist.Normal(parameters["loc"], parameters["scale"])

    @abstractmethod
    def _located(self, values: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Mean (..., R, C) and scale (..., 1, C or 1) of the observation in each row (R, 1 + p)."""

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        loc, width = self._located(values, parameters)
        return -((values[:, :1] - loc) / width).square() / 2 - width.log() - LOG_ROOT_TAU

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            loc, width = self._located(values, parameters)
            return normal_below((values[:, :1] - loc) / width)

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            loc, width = self._located(values, parameters)
            return normal_below((loc - values[:, :1]) / width)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        if values.dim() != 2 or values.shape[1] != 1 + self.order:
            checking.require_one_column(values, columns, type(self).__name__)
        checking.require_finite(values[:, 0], None, columns[0], where)
        checking.require_varying(values[:, 0], None, columns[0], type(self).__name__)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(parameters["scale"].reshape(-1), values[:, 0])

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "order": self.order, "shared": list(self.shared)}


def check_options(order: int, shared: Sequence[str], names: Sequence[str]) -> None:
    """Refuse an order below 1, and names of shared parameters that are none."""
    if not isinstance(order, int) or order < 1:
        raise ModelError(f"order must be an integer of at least 1, got {order!r}; an order of 0 is a Gaussian.")
    unknown = [name for name in shared if name not in names]
    if unknown or isinstance(shared, str):
        raise ModelError(f"shared must name parameters among {', '.join(names)}, got {shared!r}; give a tuple of them.")


def by_state(value: Tensor, shared: bool, vector: bool) -> Tensor:
    """A parameter with its state dim, of size one where it is shared: (..., K) or (..., K, p)."""
    return value.unsqueeze(-2 if vector else -1) if shared else value


def chosen(value: Tensor, state: Tensor, shared: bool, vector: bool) -> Tensor:
    """A parameter at each step's state, (..., T) or (..., T, p)."""
    if shared:
        return value
    return Vindex(value)[(..., state, slice(None))] if vector else Vindex(value)[..., state]


def residual(own: Tensor, coefficients: Tensor) -> Tensor:
    """(..., K, 2 + p): what (1, y, lags) is multiplied with to give y - own - coefficients' lags."""
    shape = torch.broadcast_shapes(own.shape, coefficients.shape[:-1])
    own, coefficients = own.expand(shape).unsqueeze(-1), coefficients.expand(shape + coefficients.shape[-1:])
    return torch.cat([-own, torch.ones_like(own), -coefficients], -1)


def cross_products(values: Tensor, weights: Tensor) -> Tensor:
    """(K, 2 + p, 2 + p): sum over rows of weight times x x', with x = (1, y, lags)."""
    x = torch.cat([torch.ones_like(values[:, :1]), values], 1)
    return torch.einsum("ri,rk,rj->kij", x, weights, x)


def quadratic(products: Tensor, vector: Tensor) -> Tensor:
    """(..., K): v' M v for matrices (K, n, n) and vectors (..., K, n)."""
    return torch.einsum("...ki,kij,...kj->...k", vector, products, vector)


def gaussian_sum(total: Tensor, squares: Tensor, width: Tensor) -> Tensor:
    """(K,): sum of weights times log Normal, from the weights' total and the weighted sum of squared residuals."""
    return -total * (width.log() + LOG_ROOT_TAU) - 0.5 * squares / width.square()


def pooled_scale(squares: Tensor, total: Tensor, shared: bool, live: Tensor, current: Tensor) -> Tensor:
    """(K,): root mean squared residual, of all states together where the scale is shared."""
    if shared:
        return (squares[live].sum() / total[live].sum().clamp_min(NOTHING)).sqrt().expand(len(total))
    return torch.where(live, squares / total.clamp_min(NOTHING), current.square()).sqrt()


def solve(gram: Tensor, right: Tensor) -> Tensor:
    """Solutions (..., n) of symmetric systems (..., n, n), the shortest where there are several."""
    size = gram.diagonal(dim1=-2, dim2=-1).clamp_min(NOTHING).rsqrt()
    scaled = gram * size.unsqueeze(-1) * size.unsqueeze(-2)
    inverse = torch.linalg.pinv(scaled, rtol=1e-13, hermitian=True)
    return size * (inverse @ (size * right).unsqueeze(-1)).squeeze(-1)


def companion(coefficients: Tensor) -> Tensor:
    """(..., p, p): the matrix that carries (y_t, .., y_{t-p+1}) one step on."""
    order = coefficients.shape[-1]
    below = torch.eye(order, dtype=coefficients.dtype)[: order - 1].expand(coefficients.shape[:-1] + (order - 1, order))
    return torch.cat([coefficients.unsqueeze(-2), below], -2)


def stationary(coefficients: Tensor) -> Tensor:
    """(...) bool: whether the roots of the autoregression lie where it has a stationary law."""
    return torch.linalg.eigvals(companion(coefficients)).abs().amax(-1) < 1.0


def gain(coefficients: Tensor) -> Tensor:
    """(...): variance of a stationary autoregression with errors of variance one (Hamilton 1994, 10.2.18)."""
    order = coefficients.shape[-1]
    step = companion(coefficients)
    squared = torch.einsum("...ij,...kl->...ikjl", step, step).reshape(step.shape[:-2] + (order**2, order**2))
    system = torch.eye(order**2, dtype=step.dtype) - squared
    noise = torch.zeros(step.shape[:-2] + (order**2,), dtype=step.dtype)
    noise[..., 0] = 1.0
    solved, info = torch.linalg.solve_ex(system, noise.unsqueeze(-1))
    return torch.where(info == 0, solved[..., 0, 0], torch.nan)


def coefficients_in_words(coefficients: Tensor) -> str:
    """ "coefficients 0.5, -0.1 of the 2 before"."""
    numbers = ", ".join(f"{float(value):.3g}" for value in coefficients)
    before = "the one before" if len(coefficients) == 1 else f"the {len(coefficients)} before"
    return f"{numbers} of {before}"
