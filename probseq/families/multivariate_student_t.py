"""Multivariate Student's t: a Gaussian vector whose precision is drawn anew at every step,

    x | u ~ Normal(loc, S / u),  u ~ Gamma(df / 2, df / 2),  S = scale_tril scale_tril'.

The M-step is the parameter-expanded ECME of Liu, Rubin & Wu (1998): with d2 the squared Mahalanobis distance and
u = (df + D) / (df + d2), loc = sum w u x / sum w u and S = sum w u (x - loc)(x - loc)' / sum w u; then df climbs the
likelihood itself. Entries that are missing are completed first, as for the Gaussian (Liu & Rubin 1995).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import ModelError
from probseq.families import missing_entries, numerical
from probseq.families.family import Family, Parameter, Parameters, amount, empty, real, step_name
from probseq.families.missing_entries import marginal_factor
from probseq.families.multivariate import MultivariateGaussian, bounded_factor
from probseq.families.scale import spread
from probseq.families.special import lgamma_increment
from probseq.families.student_t import CAP

STEPS = 500  # of ECME at most in one M-step; a few dozen do
FEW_STEPS = 4  # with many rows, or entries missing: each raises the likelihood, and EM comes back anyway
MANY = 1 << 16  # weights of one M-step
STILL = 1e-11  # a relative change that ends them
GAUSSIAN = 1e7  # a df from which the law is Gaussian to seven digits, and up to which its density keeps them


@dataclass(frozen=True)
class MultivariateStudentT(Family):
    """Heavy-tailed vectors of D columns around `loc` (K, D), with the spread `scale_tril` (K, D, D) and `df` (K,)."""

    kind = "multivariate-student-t"
    event_dim = 1
    partly_missing = True
    closed_form = False

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        if len(event_shape) != 1:
            raise ModelError(
                f"observations must be vectors for {self.name}, got shape {tuple(event_shape)} at each step; "
                "give several columns, or use StudentT."
            )
        gaussian = MultivariateGaussian().parameters(event_shape)
        return {"df": Parameter(constraints.positive), **gaussian}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        df = parameters["df"].clamp(max=GAUSSIAN)
        whole = dist.MultivariateStudentT(df, parameters["loc"], parameters["scale_tril"])
        score = missing_entries.score_by_pattern(_marginal)
        return missing_entries.PartlyObserved(whole, score, constraints.real)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        values = real(values)
        if not bool(values.isnan().any()):
            return _table(values, parameters)
        parts, order = [], []
        for rows, columns in missing_entries.patterns(values):
            loc = parameters["loc"].index_select(-1, columns)
            part = {
                "df": parameters["df"],
                "loc": loc,
                "scale_tril": marginal_factor(parameters["scale_tril"], columns),
            }
            parts.append(_table(values[rows][:, columns], part))
            order.append(rows)
        return torch.cat(parts, -2).index_select(-2, torch.cat(order).argsort())

    def mean(self, parameters: Parameters) -> Tensor:
        """(K, D): the centre `loc`, also where df <= 1 and no mean exists."""
        return parameters["loc"]

    def variance(self, parameters: Parameters) -> Tensor:
        """(K, D): of each column."""
        df = parameters["df"].unsqueeze(-1)
        finite = parameters["scale_tril"].square().sum(-1) * df / torch.where(df > 2, df - 2, 1.0)
        return torch.where(df > 2, finite, math.inf)

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """df ~ Gamma(2, 0.1) of Juarez & Steel (2010). loc and scale_tril as for the multivariate Gaussian."""
        two = torch.full((), 2.0, dtype=torch.float64, device=values.device)
        return {"df": dist.Gamma(two, two / 20), **MultivariateGaussian().priors(values)}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        values, total = real(values), weights.sum(0)
        declared = self.parameters(self._event_shape(values))
        objective, width = self.expected_log_prob(values, weights), spread(values)
        gaussian = MultivariateGaussian().maximise(values, weights, {n: current[n] for n in ("loc", "scale_tril")})
        with torch.no_grad():
            start = numerical.better(objective, declared, {"df": current["df"], **gaussian}, current)
            found = start
            short = weights.numel() > MANY or bool(values.isnan().any())
            for _ in range(FEW_STEPS if short else STEPS):
                before, found = found, _conditional_step(values, weights, found, width)
                changes = [((found[n] - before[n]).abs() / (before[n].abs().amax() + 1e-300)).amax() for n in before]
                if bool((torch.stack(changes) <= STILL).all()):
                    break
            found = numerical.better(objective, declared, found, current)
        return numerical.choose(~empty(total), declared, found, current)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = (),
        where: Callable[[int], str] = step_name,
    ) -> None:
        MultivariateGaussian().check(values, observed, columns, where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return MultivariateGaussian().degenerate(parameters, values)

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        for state, df in enumerate(parameters["df"].tolist()):
            if df >= CAP:
                return (
                    f"state {state} is Gaussian: its degrees of freedom went to the cap of {CAP:g}; "
                    "use MultivariateGaussian(), or the default priors"
                )
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        widths = parameters["scale_tril"][state].square().sum(-1).sqrt()
        pairs = [
            f"{amount(c, unit)} ± {amount(w, unit)}" for c, w in zip(parameters["loc"][state], widths, strict=True)
        ]
        return f"centres {', '.join(pairs)}, {amount(parameters['df'][state])} degrees of freedom"


def _table(values: Tensor, parameters: Parameters) -> Tensor:
    """(..., R, K) of whole rows (R, D)."""
    tril, df = parameters["scale_tril"], parameters["df"].unsqueeze(-2)
    size = values.shape[-1]
    log_volume = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1).unsqueeze(-2)
    half = torch.full_like(df, size / 2)
    constant = lgamma_increment(df / 2, half) - 0.5 * size * (df * math.pi).log() - log_volume
    distance = _distances(values, parameters["loc"], tril)
    return torch.addcmul(constant, (distance / df).log1p(), df + size, value=-0.5)


def _distances(values: Tensor, loc: Tensor, tril: Tensor) -> Tensor:
    """(..., R, K): squared Mahalanobis distances."""
    centre = values.detach().mean(0) if len(values) else values.new_zeros(values.shape[-1])
    unit = torch.eye(values.shape[-1], dtype=tril.dtype, device=tril.device)
    whiten = torch.linalg.solve_triangular(tril, unit.expand(tril.shape), upper=False)
    deviation = (values - centre) @ whiten.mT - (whiten @ (loc - centre).unsqueeze(-1)).mT
    return deviation.square().sum(-1).mT.contiguous()


def _conditional_step(values: Tensor, weights: Tensor, current: Parameters, width: Tensor) -> dict[str, Tensor]:
    """One round: loc and scatter given the expected precisions, then df given both. A state without weight rests."""
    loc, covariance = current["loc"], current["scale_tril"] @ current["scale_tril"].mT
    first, second = torch.zeros_like(loc), torch.zeros_like(covariance)
    precision = torch.zeros_like(current["df"])
    for rows, columns in missing_entries.patterns(values):
        x, weight = values[rows][:, columns], weights[rows]
        distance = _distances(x, loc[:, columns], marginal_factor(current["scale_tril"], columns))
        u = weight * (current["df"] + len(columns)) / (current["df"] + distance)
        gain = missing_entries.regression(covariance, columns)
        deviation = (x - loc[:, columns].unsqueeze(-2)) @ gain.mT
        weighted = deviation * u.mT.unsqueeze(-1)
        left = covariance - gain @ covariance[:, columns]
        first, precision = first + weighted.sum(-2), precision + u.sum(0)
        second = second + weighted.mT @ deviation + weight.sum(0)[:, None, None] * left
    total = weights.sum(0)
    weighted_states = ~empty(total) & ~empty(precision)
    safe = torch.where(weighted_states, precision, 1.0)
    offset = first / safe.unsqueeze(-1)
    # with every entry there, dividing by the precisions instead of the weights is the parameter expansion
    divisor = torch.where(weighted_states, total if bool(values.isnan().any()) else precision, 1.0)
    scatter = second - safe[:, None, None] * (offset.unsqueeze(-1) * offset.unsqueeze(-2))
    shape = torch.where(weighted_states[:, None, None], scatter / divisor[:, None, None], covariance)
    moved = {"loc": loc + offset, "scale_tril": bounded_factor(shape, width)}
    declared = {"df": Parameter(constraints.positive)}
    likelihood = _of_df(values, weights, moved)
    df = numerical.maximise(likelihood, declared, {"df": current["df"].clamp(max=CAP)}, total)["df"].clamp(max=CAP)
    return {"df": torch.where(weighted_states, df, current["df"]), **moved}


def _of_df(values: Tensor, weights: Tensor, moved: Parameters) -> Callable[[Parameters], Tensor]:
    """(K,): the weighted log-likelihood as a function of df alone; flat beyond the cap."""
    parts = []
    for rows, columns in missing_entries.patterns(values):
        factor = marginal_factor(moved["scale_tril"], columns)
        distance = _distances(values[rows][:, columns], moved["loc"][:, columns], factor)
        parts.append((weights[rows], distance, len(columns)))

    def objective(parameters: Parameters) -> Tensor:
        df = parameters["df"].clamp(max=CAP)
        total = 0 * df
        for weight, distance, size in parts:
            constant = lgamma_increment(df / 2, torch.full_like(df, size / 2)) - 0.5 * size * df.log()
            total = total + weight.sum(0) * constant - 0.5 * (df + size) * (weight * (distance / df).log1p()).sum(0)
        return total

    return objective


def _marginal(whole: Any, columns: Tensor, here: Tensor) -> TorchDistributionMixin:
    """The law of some columns at the marked places of the batch: a Student's t of the same df."""
    factor = marginal_factor(whole._unbroadcasted_scale_tril, columns)
    factor = factor.expand(here.shape + factor.shape[-2:])[here]
    df, loc = whole.df.expand(here.shape)[here], whole.loc[here][:, columns]
    return dist.MultivariateStudentT(df, loc, factor, validate_args=False)
