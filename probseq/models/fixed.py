"""Parameters that are given, whole or in part: NaN marks what is free.

Among probabilities the free entries of a row share what the given ones leave, in the proportions that they would have
without them. That is the maximum of sum_i n_i log p_i under the constraint, and the conditional law of a Dirichlet
row, so it serves the M-step and the prior alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probseq.chains.state_sequence import ChainCounts
from probseq.chains.stationary_step import maximise_numerically
from probseq.chains.transition_laws import TransitionLaw
from probseq.errors import ModelError
from probseq.families import numerical
from probseq.families.coordinates import Coordinates, is_simplex
from probseq.families.family import Parameter, Priors
from probseq.models.emission_step import EmissionCounts, EmissionData
from probseq.sequences import Sequences

Values = Mapping[str, Tensor]
Declared = Mapping[str, Parameter]

ITERATIONS = 200
"""Of the M-step of a family some of whose parameters are given."""


def as_fixed(given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Numbers as float64 tensors."""
    try:
        return {name: _double(value) for name, value in given.items()}
    except (TypeError, ValueError, RuntimeError, AttributeError) as problem:
        raise ModelError(
            f"fixed parameters must be numbers, NaN where free, got {dict(given)!r}; {problem}."
        ) from problem


def _double(value: Any) -> Tensor:
    """Float64; a number of single precision is read as the decimal number of seven digits that was meant."""
    tensor = torch.as_tensor(value)
    if tensor.dtype != torch.float32:
        return tensor.to(torch.float64)
    meant = [float(f"{number:.7g}") for number in tensor.reshape(-1).tolist()]
    return torch.tensor(meant, dtype=torch.float64).reshape(tensor.shape)


def whole(fixed: Values) -> dict[str, Tensor]:
    """Those that are given in every entry."""
    return {name: value for name, value in fixed.items() if not bool(value.isnan().any())}


def overlay(values: Values, declared: Declared, fixed: Values) -> dict[str, Tensor]:
    """The values with what is given in its place; differentiable in the rest.

    Args:
        values: by name, maybe with leading dims.
        declared: those that may be fixed.
        fixed: of the shapes of the parameters, NaN where free.
    """
    result = dict(values)
    for name in fixed.keys() & values.keys() & declared.keys():
        value, known = values[name], fixed[name]
        given = ~known.isnan()
        free = torch.where(given, 0.0, value)
        if is_simplex(declared[name].constraint):
            total = free.sum(-1, keepdim=True)
            even = (~given).to(value.dtype) / (~given).sum(-1, keepdim=True).clamp_min(1)
            shares = torch.where(total > 0, free / torch.where(total > 0, total, 1.0), even)
            free = shares * (1.0 - known.nan_to_num(nan=0.0).sum(-1, keepdim=True))
        result[name] = torch.where(given, known.nan_to_num(nan=0.0), free)
    return result


def without(values: Values, declared: Declared, fixed: Values, means: Values) -> dict[str, Tensor]:
    """Values at which the prior of the free entries is the one at `values`, up to a constant, whatever is given.

    Args:
        values: by name.
        declared: those that may be fixed.
        fixed: of the shapes of the parameters, NaN where free.
        means: of the priors, for the entries that are given.
    """
    result = dict(values)
    for name in fixed.keys() & values.keys() & declared.keys():
        value, known = values[name], fixed[name]
        given = ~known.isnan()
        if is_simplex(declared[name].constraint):
            many = given.sum(-1, keepdim=True)
            left = torch.where(given, 0.0, value).sum(-1, keepdim=True)
            half = torch.where(many == value.shape[-1], 1.0, 0.5) / many.clamp_min(1)
            moved = torch.where(given, half, 0.5 * value / torch.where(left > 0, left, 1.0))
            result[name] = torch.where(many > 0, moved, value)
        elif name in means:
            result[name] = torch.where(given, means[name].nan_to_num(nan=1.0, posinf=1.0), value)
    return result


def count_fixed(declare: Callable[[], Declared], fixed: Values, states: int, law: TransitionLaw) -> int:
    """How many free numbers are given: of a row of M probabilities at most M - 1.

    Args:
        declare: gives those that may be fixed; asked only where some are.
        fixed: of their shapes, NaN where free.
        states: K.
        law: of the moves; to give an entry that it forbids takes nothing away.

    Raises:
        ModelError: as `check_fixed`.
    """
    if not fixed:
        return 0
    total, zeros, declared = 0, law.structural_zeros(states), declare()
    check_fixed(declared, fixed, states, law)
    for name, known in fixed.items():
        parameter, given = declared[name], ~known.isnan()
        if is_simplex(parameter.constraint):
            allowed = ~zeros.get(name, torch.zeros_like(given))
            total += int(torch.minimum((given & allowed).sum(-1), allowed.sum(-1) - 1).sum())
        elif bool(given.all()):
            total += parameter.free * (1 if parameter.shared else states)
        else:
            total += int(given.sum())
    return total


def check_fixed(declared: Declared, fixed: Values, states: int, law: TransitionLaw) -> None:
    """Refuse names, shapes and values that the parameters cannot have, and moves that the law forbids."""
    zeros = law.structural_zeros(states)
    for name, known in fixed.items():
        if name not in declared:
            raise ModelError(f"fixed must name parameters of the model, {', '.join(declared)}, got {name!r}.")
        parameter = declared[name]
        shape = parameter.shape if parameter.shared else (states, *parameter.shape)
        if tuple(known.shape) != tuple(shape):
            raise ModelError(
                f"the fixed {name} must have shape {tuple(shape)}, got {tuple(known.shape)}; write NaN where free."
            )
        given = ~known.isnan()
        if is_simplex(parameter.constraint):
            left = 1.0 - known.nan_to_num(nan=0.0).sum(-1)
            short = torch.where(given.all(-1), left.abs() < 1e-8, left > -1e-8)
            fits = bool(short.all()) and bool((known[given] >= 0).all())
        else:
            fits = not bool(given.all()) or bool(parameter.constraint.check(known).all())
        if not fits:
            raise ModelError(
                f"the fixed {name} must lie in {parameter.constraint}, got {known.tolist()}; rows of probabilities "
                "must leave room for what is free."
            )
        if name in zeros and bool((known[zeros[name]] > 0).any()):
            raise ModelError(
                f"the fixed {name} must be 0 or NaN where the structure forbids a move, got {known.tolist()}; write 0, "
                "or use other transitions."
            )


def maximise_around(
    data: EmissionData,
    counts: EmissionCounts,
    current: Values,
    priors: Priors | None,
    declared: Declared,
    fixed: Values,
) -> dict[str, Tensor]:
    """The family's M-step with some parameters given; never below `current`.

    In closed form where only probabilities are given, else by L-BFGS in the coordinates that are free.
    """
    found = data.maximise(counts, current, priors)
    assert found is not None
    candidate = overlay(found, declared, fixed)
    if all(is_simplex(declared[name].constraint) for name in fixed):
        return candidate
    likelihood = data.family.expected_log_prob(data.rows, counts.expected)

    def objective(parameters: Values) -> Tensor:
        value = likelihood(parameters).sum()
        if priors is None:
            return value
        means = {name: torch.ones(()) for name in fixed}
        prior = numerical.log_prior(
            priors, without(parameters, declared, fixed, means), declared, counts.expected.shape[-1]
        )
        return value + prior.sum()

    start = max((candidate, current), key=lambda one: float(objective(one).nan_to_num(nan=-torch.inf)))
    coordinates = Coordinates(declared, start, fixed)
    first = coordinates.pack()
    if len(first) == 0:
        return candidate
    scale = 1.0 + float(counts.expected.sum())
    better = _climb(lambda u: -objective(coordinates.unpack(u)) / scale, first)
    return dict(start) if better is None else coordinates.unpack(better)


def maximise_moves(
    law: TransitionLaw,
    counts: ChainCounts,
    found: Sequence[Values],
    with_prior: bool,
    series: Sequences,
    stationary: bool,
    fixed: Values,
) -> dict[str, Tensor]:
    """The M-step of a transition law with some parameters given.

    Args:
        law: of the moves.
        counts: of the E-step.
        found: the M-step without what is given, and the parameters of the E-step.
        with_prior: add the log prior.
        series: the data.
        stationary: whether the first state follows the stationary law.
        fixed: the law's, NaN where free.
    """
    declared = law.parameters(round(len(counts.initial) ** (1.0 / law.order)))
    candidate = overlay(found[0], declared, fixed)
    if not stationary and all(is_simplex(declared[name].constraint) for name in declared):
        return candidate
    starts = [candidate, *found[1:]]
    return maximise_numerically(law, counts, starts, with_prior, series, stationary, known=fixed)


def _climb(loss: Any, first: Tensor) -> Tensor | None:
    """Where L-BFGS ends, if lower than where it began."""
    from scipy.optimize import minimize

    def both(point: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(point.copy()).requires_grad_()
        with torch.enable_grad():
            value = loss(u)
            if not bool(torch.isfinite(value)):
                return np.inf, np.zeros_like(point)
            (gradient,) = torch.autograd.grad(value, u)
        return float(value.detach()), np.nan_to_num(gradient.numpy())

    options = {"maxiter": ITERATIONS, "gtol": 1e-11, "ftol": 1e-16}
    found = minimize(both, first.numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x) if found.fun < both(first.numpy())[0] else None
