"""A point fit in its unconstrained coordinates: what may move, what is at an edge, and the exact information.

The objective is the log-likelihood, or the log-likelihood plus log prior where the fit is a maximum a posteriori. At a
maximum its second derivatives are the same in every set of coordinates (Pawitan 2001, section 2.5), so that standard
errors of the parameters follow from those of the coordinates by the delta method.

A maximum may lie at an edge, such as a move that never happened, where the likelihood knows no curvature. There the
usual theory of standard errors fails (Self & Liang 1987); such parameters are held where they are, those of the others
are given them, and they are named.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.families.coordinates import is_simplex
from probseq.families.family import Parameter
from probseq.inference.fit import Fit
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

Parameters = Mapping[str, Tensor]

NO_COUNT = 1e-2
"""A probability whose expected count, p d(log-likelihood)/dp, is below this has nothing to be learned from."""

NO_INFORMATION = 1e-3
"""Of the logarithm or log odds of a number: its standard error would be 30 or more, a factor of 10^13."""

OFF_PEAK = 1e-2
"""Nats that a Newton step may still promise at what is called a maximum."""

SINGULAR = 1e-8
"""Least eigenvalue of the information, each coordinate in units of its own curvature."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A maximum of an objective, in P coordinates of which p move.

    Args:
        model: bound to the series.
        series: the data.
        priors: whether the log prior is part of the objective.
        parameters: site -> value, probabilities at an edge being exactly zero.
        declared: name -> constraint of every parameter that is learned.
        coordinates: the map between vectors (P,) and parameters.
        point: (P,) where the maximum is.
        moving: (P,) bool: the coordinates that the data say something about.
        names: (E,) of the entries of the parameters, such as "rate[0]" and "transition[0, 1]".
        notes: (E,) why an entry has no standard error; empty where it has one.
    """

    model: HMM | ProgramModel
    series: Sequences
    priors: bool
    parameters: dict[str, Tensor]
    declared: Mapping[str, Parameter]
    coordinates: Any
    point: Tensor
    moving: Tensor
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def objective_name(self) -> str:
        """What is maximal here."""
        return "log posterior" if self.priors else "log-likelihood"

    def at(self, moved: Tensor) -> dict[str, Tensor]:
        """The parameters at a vector (p,) of the moving coordinates; differentiable."""
        return self.coordinates.unpack(self.point.masked_scatter(self.moving, moved))

    def objective(self, moved: Tensor) -> Tensor:
        """() nats at a vector (p,) of the moving coordinates; twice differentiable."""
        return self.model.log_joint(self.at(moved), self.series, self.priors)

    def entries(self, moved: Tensor) -> Tensor:
        """(E,) all entries of the learned parameters; differentiable."""
        return flat_entries(self.at(moved), self.declared)

    @property
    def start(self) -> Tensor:
        """(p,) the moving coordinates of the maximum."""
        return self.point[self.moving]


def flat_entries(parameters: Parameters, declared: Mapping[str, Parameter]) -> Tensor:
    """(E,) the learned parameters, one after the other."""
    return torch.cat([torch.zeros(0, dtype=torch.float64), *(parameters[name].reshape(-1) for name in declared)])


def entry_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """The entries of one array, in order.

    >>> entry_names("rate", (2,)), entry_names("scale", ())
    (['rate[0]', 'rate[1]'], ['scale'])
    """
    if not shape:
        return [name]
    places = torch.cartesian_prod(*(torch.arange(size) for size in shape)).reshape(-1, len(shape))
    return [f"{name}[{', '.join(map(str, place))}]" for place in places.tolist()]


def estimate(fit: Fit, series: Sequences | None = None) -> tuple[Estimate, Tensor]:
    """The maximum that a fit stands at, and the exact observed information (p, p) of its moving coordinates.

    The information is the negative second derivative of the objective, by automatic differentiation through the
    forward recursion: O(T K^2) steps, all P columns at once.

    Raises:
        FitError: the information is not positive definite (the message names the direction), or the priors are lost.
    """
    series = fit.data(series)
    model, priors = fit.model, fit.with_priors
    if priors and not fit.knows_priors:
        raise FitError(
            "A maximum a posteriori must know its priors, got a fit that was saved without them; fit again, and ask "
            "before it is saved."
        )
    declared = declared_by(model, fit.parameters)
    parameters = without_edges(model, fit.parameters, declared, series, priors)
    coordinates = model.coordinates(parameters)
    point = coordinates.pack()
    everything = torch.ones(point.shape, dtype=torch.bool)
    names = [name for key in declared for name in entry_names(key, tuple(parameters[key].shape))]
    whole = Estimate(model, series, priors, parameters, declared, coordinates, point, everything, tuple(names), ())
    gradient, information = derivatives(whole)
    jacobian = jacobian_of(whole.entries, point)
    moving = information.diagonal() > NO_INFORMATION
    moving |= _plain(point, flat_entries(parameters, declared), jacobian)
    notes = _notes(whole, fit.parameters, jacobian, moving)
    found = Estimate(model, series, priors, parameters, declared, coordinates, point, moving, tuple(names), notes)
    information = information[moving][:, moving]
    _check(found, gradient[moving], information, jacobian[:, moving])
    return found, information


def declared_by(model: HMM | ProgramModel, parameters: Parameters) -> dict[str, Parameter]:
    """name -> constraint of what is learned."""
    if isinstance(model, HMM):
        return model.learned(parameters)
    return dict(model.coordinates(parameters).declared)


def without_edges(
    model: HMM | ProgramModel,
    parameters: Parameters,
    declared: Mapping[str, Parameter],
    series: Sequences,
    priors: bool,
) -> dict[str, Tensor]:
    """The parameters with zero for every probability without a count; the largest of a row stays."""
    rows = {name for name, one in declared.items() if is_simplex(one.constraint)}
    leaves = {name: parameters[name].detach().double().clone().requires_grad_(name in rows) for name in declared}
    result = {name: value.detach() for name, value in leaves.items()}
    if rows:
        with torch.enable_grad():
            value = model.log_joint(model.complete(leaves), series, priors)
            slopes = torch.autograd.grad(value, [leaves[name] for name in rows], allow_unused=True)
        for name, slope in zip(rows, slopes, strict=True):
            if slope is not None:
                result[name] = _snapped(result[name], slope, _given(model, name, result[name]))
    return model.complete(result)


def _given(model: HMM | ProgramModel, name: str, value: Tensor) -> Tensor:
    """Which entries of a parameter the model fixes."""
    known = model.fixed.get(name) if isinstance(model, HMM) else None
    return torch.zeros_like(value, dtype=torch.bool) if known is None else ~known.isnan().expand(value.shape)


def _snapped(rows: Tensor, slope: Tensor, given: Tensor) -> Tensor:
    """Rows with entries that have no count at zero, what they had going to the others in proportion."""
    count = torch.where(rows > 0, rows * slope.nan_to_num(), 0.0).abs()
    kept = given | (count >= NO_COUNT) | (rows == torch.where(given, -1.0, rows).amax(-1, keepdim=True))
    kept |= (torch.where(given, 0.0, count).sum(-1, keepdim=True) < NO_COUNT) | (rows > 0.5)
    free = torch.where(given | ~kept, 0.0, rows)
    total = free.sum(-1, keepdim=True)
    left = torch.where(given, 0.0, rows).sum(-1, keepdim=True)
    scaled = free * torch.where(total > 0, left / torch.where(total > 0, total, 1.0), 0.0)
    return torch.where(given, rows, scaled)


def derivatives(found: Estimate) -> tuple[Tensor, Tensor]:
    """(p,) gradient and (p, p) negative Hessian of the objective at its point, nats per coordinate."""
    start = found.start.clone().requires_grad_()
    if start.numel() == 0:
        return start.detach(), start.new_zeros((0, 0)).detach()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(found.objective(start), start, create_graph=True)
        unit = torch.eye(len(start), dtype=torch.float64)
        (hessian,) = torch.autograd.grad(gradient, start, unit, is_grads_batched=True)
    return gradient.detach(), -0.5 * (hessian + hessian.mT).detach()


def jacobian_of(function: Any, point: Tensor) -> Tensor:
    """(E, p) derivatives of a vector-valued function."""
    if point.numel() == 0:
        return point.new_zeros((len(function(point)), 0))
    with torch.enable_grad():
        return torch.autograd.functional.jacobian(function, point).detach()


def _plain(point: Tensor, entries: Tensor, jacobian: Tensor) -> Tensor:
    """(P,) bool: coordinates that are an entry as it stands, whose information has the data's own units."""
    same = (entries.unsqueeze(-1) == point) & (jacobian == 1.0)
    return same.any(0)


def _notes(found: Estimate, given: Parameters, jacobian: Tensor, moving: Tensor) -> tuple[str, ...]:
    """(E,) why an entry has no standard error."""
    zero = [given[name] == (0.0 if is_simplex(one.constraint) else torch.nan) for name, one in found.declared.items()]
    impossible = torch.cat([part.reshape(-1) for part in zero])
    fixed = torch.cat([_given(found.model, name, found.parameters[name]).reshape(-1) for name in found.declared])
    still = (jacobian[:, moving] == 0).all(-1)
    adrift = (jacobian[:, ~moving].abs() > 1e-300).any(-1)
    notes = []
    for i in range(len(found.names)):
        if bool(fixed[i]):
            notes.append("fixed")
        elif bool(impossible[i]):
            notes.append("zero")
        elif bool(adrift[i]) or bool(still[i]):
            notes.append("at the edge of its range")
        else:
            notes.append("")
    return tuple(notes)


def _check(found: Estimate, gradient: Tensor, information: Tensor, jacobian: Tensor) -> None:
    """Refuse a point that is no strict maximum; warn of one that is off it."""
    if len(information) == 0:
        return
    unit = information.diagonal().abs().clamp_min(1e-300).rsqrt()
    values, vectors = torch.linalg.eigh(unit.unsqueeze(-1) * information * unit)
    if float(values[0]) < SINGULAR:
        raise FitError(
            f"A maximum of the {found.objective_name} must curve down in every direction, got curvature "
            f"{-float(values[0]):.2g} (own units) along {_direction(found, jacobian @ (unit * vectors[:, 0]))}; fit "
            "again from more starts or to the end, with fewer states, or with priors."
        )
    gain = 0.5 * float(gradient @ torch.linalg.solve(information, gradient))
    if gain > OFF_PEAK:
        warnings.warn(
            f"Standard errors must be taken at a maximum of the {found.objective_name}, got a point from which a "
            f"Newton step gains {gain:.2g} nats; fit with em, or use the draws of the fit.",
            stacklevel=4,
        )


def _direction(found: Estimate, move: Tensor) -> str:
    """The entries that a direction (E,) moves most, as shares of themselves, with the signs they move in."""
    value = flat_entries(found.parameters, found.declared).abs()
    share = move / torch.where(value > 0, value, 1.0)
    order = share.abs().argsort(descending=True, stable=True)[:3]
    kept = [int(i) for i in order if float(share[i].abs()) > 0.1 * float(share.abs().max())]
    return ", ".join(f"{'+' if float(share[i]) > 0 else '-'}{found.names[i]}" for i in kept)
