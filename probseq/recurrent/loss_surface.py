"""The loss as a surface over the weights: slices of it, the plateaus and cliffs they show, and descents across a cliff.

Where the product of Jacobians is small the loss is flat, a plateau that gradient descent does not leave; where it is
large the loss rises like a wall. On the wall the gradient is so long that one step of descent throws the weights far
away, unless its norm is clipped: g <- g min(1, c / |g|), which keeps its direction.

`one_unit_loss` has a wall in closed form. In h_t = tanh(w h_{t-1} + b) started at h_0, the weights on the line
b = atanh(h_0) - w h_0 keep h_t = h_0 for ever; where mu = w (1 - h_0^2) > 1 this fixed point is unstable, so that on
the two sides of the line the unit ends in two different states, and on it
dh_T/db = (1 - h_0^2) (mu^T - 1) / (mu - 1).

Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", section 2.3 and
figure 6; Mikolov (2012), "Statistical language models based on neural networks", for clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Loss = Callable[[Tensor], Tensor]
"""A point (P,) in weight space to the loss, one number, differentiable."""


@dataclass(frozen=True, eq=False)
class LossSlice:
    """The loss along a line.

    Attributes:
        positions: (A,) multiples of the direction.
        loss: (A,).
        gradient_norm: (A,) of the whole gradient, not only along the line.
    """

    positions: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray


@dataclass(frozen=True, eq=False)
class LossPlane:
    """The loss over two directions.

    Attributes:
        first: (A,) multiples of the first direction.
        second: (B,) multiples of the second.
        loss: (A, B).
        gradient_norm: (A, B) of the whole gradient.
    """

    first: np.ndarray
    second: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray


@dataclass(frozen=True, eq=False)
class Descent:
    """Gradient descent, step by step.

    Attributes:
        points: (steps + 1, P), the start first.
        loss: (steps + 1,) at each point.
        gradient_norm: (steps + 1,) at each point, before clipping.
    """

    points: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray


def loss_slice(loss: Loss, point: Tensor, direction: Tensor, positions: np.ndarray) -> LossSlice:
    """The loss and the norm of its gradient at point + a direction, for each a.

    Args:
        loss: over weight space.
        point: (P,) where a = 0.
        direction: (P,), not normalised here.
        positions: (A,).
    """
    values = [_value_and_norm(loss, point + float(a) * direction) for a in positions]
    found = np.array(values).reshape(-1, 2)
    return LossSlice(np.asarray(positions), found[:, 0], found[:, 1])


def loss_plane(
    loss: Loss, point: Tensor, directions: tuple[Tensor, Tensor], first: np.ndarray, second: np.ndarray
) -> LossPlane:
    """The loss and the norm of its gradient at point + a d_1 + b d_2, for each a and b.

    Args:
        loss: over weight space.
        point: (P,) where a = b = 0.
        directions: d_1 and d_2, (P,) each, not normalised here.
        first: (A,) values of a.
        second: (B,) values of b.
    """
    one, other = directions
    found = np.array(
        [[_value_and_norm(loss, point + float(a) * one + float(b) * other) for b in second] for a in first]
    )
    return LossPlane(np.asarray(first), np.asarray(second), found[..., 0], found[..., 1])


def descend(loss: Loss, start: Tensor, learning_rate: float, steps: int, clip: float | None = None) -> Descent:
    """Plain gradient descent.

    Args:
        loss: over weight space.
        start: (P,).
        learning_rate: multiplies the gradient.
        steps: how many.
        clip: the longest gradient; longer ones are shortened to it, keeping their direction. None: as they come.
    """
    point = start.detach()
    points, values, norms = [], [], []
    for step in range(steps + 1):
        value, gradient = _value_and_gradient(loss, point)
        norm = float(gradient.norm())
        points.append(point.numpy())
        values.append(value)
        norms.append(norm)
        if step < steps:
            shorter = 1.0 if clip is None or norm <= clip else clip / norm
            point = point - learning_rate * shorter * gradient
    return Descent(np.stack(points), np.array(values), np.array(norms))


def weight_loss(module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> tuple[Loss, Tensor]:
    """A module's loss as a function of all its weights laid out as one vector.

    Args:
        module: any; it is not changed.
        loss: the module with some weights to one number.

    Returns:
        The function of a point (P,), and the point where the module stands now.

    >>> module = nn.Linear(2, 1)
    >>> surface, point = weight_loss(module, lambda m: m(torch.ones(2)).square().sum())
    >>> point.shape, bool(surface(torch.zeros(3)) == 0)
    (torch.Size([3]), True)
    """
    scored = _Scored(module, loss)
    names, weights = zip(*scored.named_parameters(), strict=True)
    sizes = [weight.numel() for weight in weights]

    def surface(point: Tensor) -> Tensor:
        parts = zip(names, weights, point.split(sizes), strict=True)
        return torch.func.functional_call(scored, {name: part.reshape(like.shape) for name, like, part in parts}, ())

    return surface, torch.cat([weight.detach().flatten() for weight in weights])


def random_directions(point: Tensor, count: int, seed: int) -> tuple[Tensor, ...]:
    """Orthonormal directions in the space of a point (P,), uniform over the sphere."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(len(point), count, generator=generator, dtype=torch.float64)
    return tuple(torch.linalg.qr(draws)[0].T.to(point))


def one_unit_loss(steps: int, start: float = 0.5, target: float = 0.7) -> Loss:
    """(h_T - target)^2 of h_t = tanh(w h_{t-1} + b) as a function of the point (w, b).

    Args:
        steps: T.
        start: h_0.
        target: what h_T should be.
    """

    def surface(point: Tensor) -> Tensor:
        h = point.new_tensor(start)
        for _ in range(steps):
            h = torch.tanh(point[0] * h + point[1])
        return (h - target).square()

    return surface


class _Scored(nn.Module):
    """A module whose forward pass is the loss, as `functional_call` wants it."""

    def __init__(self, module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self) -> Tensor:
        return self.loss(self.module)


def _value_and_gradient(loss: Loss, point: Tensor) -> tuple[float, Tensor]:
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        value = loss(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def _value_and_norm(loss: Loss, point: Tensor) -> tuple[float, float]:
    value, gradient = _value_and_gradient(loss, point)
    return value, float(gradient.norm())
