"""Quantities derived from the parameters, with errors: by the delta method at a maximum, directly over draws.

With g(theta) the quantity and G its derivative by the coordinates u, cov(g) = G cov(u) G' (Cramér 1946, section 28.4).
G is by automatic differentiation, so that any torch function of the parameters will do. Over draws, be they of a
posterior or of a bootstrap, the quantity is simply computed for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from probseq.chains.laws import mean_stay, stationary_law
from probseq.diagnostics.bootstrap import Bootstrap
from probseq.diagnostics.estimates import entry_names, jacobian_of
from probseq.diagnostics.ranges import Range
from probseq.diagnostics.standard_errors import Errors, check_level, standard_errors
from probseq.errors import FitError, ModelError
from probseq.inference.fit import Fit
from probseq.inference.simulation import draw_of
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

Parameters = Mapping[str, Tensor]
Quantity = Callable[[Parameters], Tensor | Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Derived:
    """A quantity of E numbers with its uncertainty.

    Args:
        names: (E,) such as "mean_stay[0]".
        estimate: (E,) at the fit's point.
        covariance: (E, E).
        range: where each number can lie, which intervals at a maximum respect.
        kind: what the uncertainty is made of, in words.
        draws: (S, E) over which the covariance and the intervals are; None for the delta method.
    """

    names: tuple[str, ...]
    estimate: Tensor
    covariance: Tensor
    range: Range
    kind: str
    draws: Tensor | None = field(default=None, repr=False)

    @property
    def standard_error(self) -> Tensor:
        """(E,) standard error, or standard deviation of the draws."""
        return self.covariance.diagonal().clamp_min(0.0).sqrt()

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(E,) lower and upper ends: Wald's on the scale of the range; of draws, their central quantiles."""
        tail = 0.5 * (1.0 - check_level(level))
        if self.draws is None:
            return self.range.interval(self.estimate, self.standard_error, level)
        ends = torch.quantile(self.draws, torch.tensor([tail, 1.0 - tail], dtype=torch.float64), dim=0)
        return ends[0], ends[1]

    def frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a number: `estimate`, `standard_error`, `lower`, `upper`."""
        lower, upper = self.interval(level)
        columns = {"estimate": self.estimate, "standard_error": self.standard_error, "lower": lower, "upper": upper}
        numbers = {name: column.numpy() for name, column in columns.items()}
        return pd.DataFrame(numbers, index=pd.Index(self.names, name="quantity"))

    @property
    def table(self) -> pd.DataFrame:
        """`frame` at 95%."""
        return self.frame()


def derived(
    source: Fit | Errors | Bootstrap,
    quantity: str | Quantity,
    series: Sequences | None = None,
    *,
    support: Constraint | None = None,
) -> Derived:
    """A quantity derived from the parameters, with its uncertainty.

    Args:
        source: a fit at a maximum, for the delta method with its observed information; the `Errors` of one, with their
            own covariance; or a fit with draws or a `Bootstrap`, for its law over the draws.
        quantity: "stationary_law" (share of time in each state), "mean_stay" (steps of a visit), "second_eigenvalue"
            (modulus; how much of the state a step remembers) or "half_life" (steps until half of that is gone); or a
            function of the parameters by site that returns a tensor, or several by name, in torch.
        series: the data of a fit that does not remember it.
        support: where the numbers of a function can lie, such as `constraints.positive`, for the intervals.

    >>> from probseq import HMM, datasets, em, families
    >>> fit = em(HMM(2, families.Poisson()), datasets.earthquakes(), restarts=1)
    >>> derived(fit, "mean_stay").table.round(1)
                  estimate  standard_error  lower  upper
    quantity
    mean_stay[0]      14.0             7.3    5.3   40.3
    mean_stay[1]       8.4             4.5    3.3   25.3
    """
    if isinstance(source, Bootstrap):
        return _over(source.draws, source.fit, quantity, support, "bootstrap")
    if isinstance(source, Fit) and source.n_draws > 1:
        return _over(source.draws, source, quantity, support, f"draws of {source.method}")
    errors = standard_errors(source, series) if isinstance(source, Fit) else source
    found = errors.point
    function, support = _resolved(quantity, found.model, support)
    names, value, ranges = _flat(function, quantity, found.parameters, support)

    def of_coordinates(moved: Tensor) -> Tensor:
        return _flat(function, quantity, found.at(moved), support)[1]

    slope = jacobian_of(of_coordinates, found.start)
    covariance = slope @ errors.coordinate_covariance @ slope.mT
    constant = (slope == 0).all(-1)  # a number that nothing moves has no error to speak of
    covariance = torch.where(constant | constant.unsqueeze(-1), math.nan, covariance)
    return Derived(names, value, covariance, ranges, f"delta method, {errors.kind}")


def _over(draws: Parameters, fit: Fit, quantity: str | Quantity, support: Constraint | None, kind: str) -> Derived:
    """The quantity of every draw."""
    model, count = fit.model, int(next(iter(draws.values())).shape[0])
    function, support = _resolved(quantity, model, support)
    names, value, ranges = _flat(function, quantity, fit.parameters, support)
    rows = torch.stack([_flat(function, quantity, model.complete(draw_of(draws, s)), support)[1] for s in range(count)])
    return Derived(names, value, torch.cov(rows.mT).reshape(len(names), len(names)), ranges, kind, rows)


def _flat(
    function: Quantity, quantity: str | Quantity, parameters: Parameters, support: Constraint | None
) -> tuple[tuple[str, ...], Tensor, Range]:
    """Names, numbers (E,) and ranges of what a function returns."""
    found = function(parameters)
    plain = quantity if isinstance(quantity, str) else getattr(quantity, "__name__", "value")
    parts = found if isinstance(found, Mapping) else {"value" if plain == "<lambda>" else plain: found}
    if not all(isinstance(part, Tensor) for part in parts.values()):
        raise FitError(f"A quantity must be a tensor, or several by name, got {found!r}; compute it with torch.")
    names = [name for key, part in parts.items() for name in entry_names(key, tuple(part.shape))]
    value = torch.cat([part.double().reshape(-1) for part in parts.values()])
    ranges = Range.joined([Range.of(support, tuple(part.shape)) for part in parts.values()])
    return tuple(names), value, ranges


# ---- what is asked for most ----------------------------------------------------------------------------------------


def _resolved(
    quantity: str | Quantity, model: HMM | ProgramModel, support: Constraint | None
) -> tuple[Quantity, Constraint | None]:
    """The function of the parameters, and the range of its numbers."""
    if not isinstance(quantity, str):
        return quantity, support
    if quantity not in READY:
        raise FitError(f"A quantity must be a function, or one of {', '.join(READY)}, got {quantity!r}.")
    of_model, known = READY[quantity]
    return lambda parameters: of_model(model, parameters), known if support is None else support


def _matrix(model: HMM | ProgramModel, parameters: Parameters) -> Tensor:
    """(K, K) the moves between states."""
    if isinstance(model, HMM):
        if model.transition.order > 1 or model.transition.design:
            raise ModelError(
                "A quantity of the transition matrix must be of moves that depend on the last state alone, got "
                f"{type(model.transition).__name__}; pass a function of the parameters instead."
            )
        return model.transition.tables(parameters, None)[0].squeeze(-3)
    found = parameters.get("transition")
    if found is None or found.dim() != 2 or found.shape[0] != found.shape[1]:
        raise ModelError(
            f"A program must have its matrix at the site 'transition' (K, K), got the sites {', '.join(parameters)}; "
            "pass a function of the parameters instead."
        )
    return found


def _stationary(model: HMM | ProgramModel, parameters: Parameters) -> Tensor:
    """(K,) share of time in each state."""
    if isinstance(model, HMM):
        return model.stationary(parameters).reshape(-1, model.states).sum(0)  # codes are z_t + K z_t-1 + ...
    return stationary_law(_matrix(model, parameters))


def _stay(model: HMM | ProgramModel, parameters: Parameters) -> Tensor:
    """(K,) steps."""
    return mean_stay(_matrix(model, parameters))


def _memory(model: HMM | ProgramModel, parameters: Parameters) -> Tensor:
    """() modulus of the second largest eigenvalue of the matrix; 0 for one state."""
    matrix = _matrix(model, parameters)
    if len(matrix) == 1:
        return matrix.new_zeros(())
    return torch.linalg.eigvals(matrix).abs().sort(descending=True).values[1]


def _half_life(model: HMM | ProgramModel, parameters: Parameters) -> Tensor:
    """() steps until the memory of the state has halved, log(1/2) / log |lambda_2|."""
    return -math.log(2.0) / _memory(model, parameters).log()


READY: dict[str, tuple[Callable[[HMM | ProgramModel, Parameters], Tensor], Constraint]] = {
    "stationary_law": (_stationary, constraints.unit_interval),
    "mean_stay": (_stay, constraints.greater_than(1.0)),
    "second_eigenvalue": (_memory, constraints.unit_interval),
    "half_life": (_half_life, constraints.positive),
}
"""Of a model and its parameters, and the range of each number."""
