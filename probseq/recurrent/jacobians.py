"""What becomes of a gradient on its way back through any cell: Jacobians of the step, their products, and its norm.

With s_t the whole state of a cell (h_t; h_t and c_t; the last D hidden vectors; ...) laid out as one vector,

    dL_T/ds_{T-k} = (J_T J_{T-1} ... J_{T-k+1})' dL_T/ds_T        J_t = ds_t / ds_{t-1}

so that over a span of k steps a gradient shrinks or grows as a product of k matrices does. Near a fixed point of the
step they are all one matrix J, and the norm goes as rho(J)^k, rho being the spectral radius: the slope of its
logarithm against the span is log rho. For h_t = tanh(W h_{t-1}) at rest, J = W.

Source: Hochreiter (1991), "Untersuchungen zu dynamischen neuronalen Netzen"; Bengio, Simard & Frasconi (1994),
"Learning long-term dependencies with gradient descent is difficult"; Pascanu, Mikolov & Bengio (2013), "On the
difficulty of training recurrent neural networks", section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.recurrent.cell import Cell, State


def step_jacobians(cell: Cell, inputs: Tensor, state: State | None = None) -> Tensor:
    """J_t = ds_t / ds_{t-1} at every step that a cell takes along its inputs.

    Args:
        cell: any with a state; not in training with dropout, which `torch.func` does not map.
        inputs: x (B, L, D).
        state: before the first step; None is the cell's start.

    Returns:
        (B, L, S, S), S numbers in the whole state, each tensor of it laid out row by row, one after the other.
    """
    states = _states_before(cell, inputs, state)
    with torch.no_grad():
        before = torch.stack([_flat(one) for one in states], dim=1)

        def step(x: Tensor, s: Tensor) -> Tensor:
            return _flat(cell.step(x.unsqueeze(0), _unflat(cell, s.unsqueeze(0)))[1])[0]

        rows = torch.func.vmap(torch.func.jacrev(step, argnums=1))(inputs.flatten(0, 1), before.flatten(0, 1))
    return rows.reshape(*inputs.shape[:2], *rows.shape[1:])


def span_jacobians(jacobians: Tensor) -> Tensor:
    """ds_T / ds_{T-k} for every span k.

    Args:
        jacobians: (..., L, S, S), of `step_jacobians`.

    Returns:
        (..., L, S, S): at [k - 1] the product of the last k Jacobians, the latest on the left.
    """
    products = [torch.eye(jacobians.shape[-1]).to(jacobians).expand(*jacobians.shape[:-3], -1, -1)]
    for jacobian in reversed(jacobians.unbind(-3)):
        products.append(products[-1] @ jacobian)
    return torch.stack(products[1:], dim=-3)


def log_singular_values(jacobians: Tensor) -> Tensor:
    """The logarithms of the singular values of ds_T / ds_{T-k}, by span.

    The product is rescaled at each step, so that it neither underflows nor overflows. Singular values that are below
    the greatest of their span by more than the precision of the type are rounding; for the growth of all directions
    over long spans see `probseq.recurrent.products.lyapunov_exponents`.

    Args:
        jacobians: (..., L, S, S), of `step_jacobians`.

    Returns:
        (..., L, S) nats, the greatest first: at [k - 1] those of span k.
    """
    product = torch.eye(jacobians.shape[-1]).to(jacobians).expand(*jacobians.shape[:-3], -1, -1)
    scale = product.new_zeros(product.shape[:-2])
    logs = []
    for jacobian in reversed(jacobians.unbind(-3)):
        product = product @ jacobian
        size = torch.linalg.matrix_norm(product)
        product = product / torch.where(size > 0, size, torch.ones_like(size))[..., None, None]
        scale = scale + size.log()
        logs.append(torch.linalg.svdvals(product).log() + scale.unsqueeze(-1))
    return torch.stack(logs, dim=-2)


def gradients_by_span(
    cell: Cell, inputs: Tensor, loss: Callable[[Tensor], Tensor], state: State | None = None
) -> tuple[Tensor, ...]:
    """dL_T / ds_{T-k} for a loss of the last output alone, passed back step by step.

    Args:
        cell: any with a state.
        inputs: x (B, L, D).
        loss: h_T (B, H) to L_T, one number or (B,).
        state: before the first step; None is the cell's start.

    Returns:
        For each tensor of the state (B, L, ...): at [:, k - 1] the gradient with respect to it k steps before the end.
    """
    states = _states_before(cell, inputs, state)
    spans: list[State] = []
    with torch.enable_grad():
        for t in reversed(range(inputs.shape[1])):
            before = tuple(one.detach().requires_grad_() for one in states[t])
            output, after = cell.step(inputs[:, t], before)
            if spans:
                found = torch.autograd.grad(after, before, spans[-1], materialize_grads=True)
            else:
                found = torch.autograd.grad(loss(output).sum(), before, materialize_grads=True)
            spans.append(found)
    return tuple(torch.stack(one, dim=1) for one in zip(*spans, strict=True))


def gradient_norms(
    cell: Cell, inputs: Tensor, loss: Callable[[Tensor], Tensor], state: State | None = None
) -> np.ndarray:
    """|dL_T / ds_{T-k}| of the whole state, by span: (L,) for k = 1..L, the root mean square over the batch.

    The arguments are those of `gradients_by_span`.
    """
    whole = torch.cat([one.flatten(2) for one in gradients_by_span(cell, inputs, loss, state)], dim=2).double()
    return whole.square().sum(2).mean(0).sqrt().detach().cpu().numpy()


@dataclass(frozen=True)
class Decay:
    """A straight line through the logarithm of a norm against the span.

    Attributes:
        exponent: slope, nats per step; negative where gradients vanish.
        intercept: at span 0, nats.
        first, last: the spans it was fitted to.
        deviation: root mean square of what is left, nats.
    """

    exponent: float
    intercept: float
    first: int
    last: int
    deviation: float

    def norm(self, span: np.ndarray) -> np.ndarray:
        """The line as a norm at these spans."""
        return np.exp(self.intercept + self.exponent * np.asarray(span))


def fit_decay(norms: np.ndarray, first: int = 1, last: int | None = None) -> Decay:
    """Least squares through the logarithms of norms by span.

    Args:
        norms: (L,) > 0 at spans 1..L, as `gradient_norms` gives them.
        first, last: the spans to use, both included; by default all. Early ones still know the direction of the
            gradient at the end, later ones only the slowest direction.

    >>> round(fit_decay(0.9 ** np.arange(1, 50)).exponent, 6) == round(float(np.log(0.9)), 6)
    True
    """
    last = len(norms) if last is None else last
    spans = np.arange(first, last + 1)
    used = np.asarray(norms, dtype=float)[first - 1 : last]
    if len(used) < 2 or len(used) < len(spans) or not (np.isfinite(used) & (used > 0)).all():
        raise DataError(
            f"norms must be positive and finite at two spans at least, got {used} at spans {first} to {last};"
            " choose other spans."
        )
    slope, intercept = np.polyfit(spans, np.log(used), 1)
    left = np.log(used) - intercept - slope * spans
    return Decay(float(slope), float(intercept), first, last, float(np.sqrt(np.mean(left**2))))


def spectral_radius(matrix: Tensor) -> float:
    """The greatest modulus of an eigenvalue of a square matrix."""
    return float(torch.linalg.eigvals(matrix.detach()).abs().max())


def resting_exponent(cell: Cell, inputs: Tensor | None = None, settle: int = 1000) -> float:
    """log rho(J), nats per step: how a small gradient decays in a cell that has come to rest.

    Args:
        cell: any that comes to rest under a constant input.
        inputs: that input, (D,); None is zeros.
        settle: steps that it is given to come to rest.
    """
    like = next(cell.parameters())
    x = like.new_zeros(1, cell.input_size) if inputs is None else inputs.reshape(1, -1).to(like)
    state = cell.start(1)
    with torch.no_grad():
        for _ in range(settle):
            before, state = state, cell.step(x, state)[1]
            if all(torch.equal(old, new) for old, new in zip(before, state, strict=True)):
                break
    return float(np.log(spectral_radius(step_jacobians(cell, x.unsqueeze(0), state)[0, 0])))


def _states_before(cell: Cell, inputs: Tensor, state: State | None) -> list[State]:
    """The state before each step, without gradients."""
    if not cell.state_shapes or not inputs.shape[1]:
        got = "no steps" if cell.state_shapes else "no state"
        raise DataError(
            f"a gradient through time must pass states over one step at least, got {got} at {type(cell).__name__}; give"
            " a cell with a memory, and inputs."
        )
    with torch.no_grad():
        states = [cell.start(len(inputs)) if state is None else state]
        for t in range(inputs.shape[1] - 1):
            states.append(cell.step(inputs[:, t], states[-1])[1])
    return states


def _flat(state: State) -> Tensor:
    """(B, S)."""
    return torch.cat([one.flatten(1) for one in state], dim=1)


def _unflat(cell: Cell, flat: Tensor) -> State:
    sizes = [int(np.prod(shape)) for shape in cell.state_shapes]
    parts = flat.split(sizes, dim=1)
    return tuple(one.reshape(len(flat), *shape) for one, shape in zip(parts, cell.state_shapes, strict=True))
