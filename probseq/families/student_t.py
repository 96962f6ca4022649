"""Student's t with df, loc and scale: a Gaussian whose precision is drawn anew at every step,

    x | u ~ Normal(loc, scale^2 / u),  u ~ Gamma(df / 2, df / 2).

The M-step is a Newton ascent on all three parameters, from the better of the current ones and the Gaussian fit. The
likelihood rises towards df = inf when the kurtosis is at most 3: then df goes to a cap, where the law is Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families import checking, numerical, scale
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, scalar_event, step_name
from probseq.families.gaussian import Gaussian, location_scale_priors
from probseq.families.special import lgamma_increment

CAP = 1e5  # of an ML df: from here on the law is Gaussian
BLOCK = 1 << 14  # rows worked on at a time, so that they stay in the cache


class TailedStudentT(dist.StudentT):
    """Student's t with its cumulative distribution."""

    def cdf(self, value: Tensor) -> Tensor:
        return StudentT()._cdf(value, {"df": self.df, "loc": self.loc, "scale": self.scale})


@dataclass(frozen=True)
class StudentT(Family):
    """Heavy tails around `loc`: a density falling as |x|^-(df + 1), with spread `scale`."""

    kind = "student-t"
    closed_form = False

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        positive = Parameter(constraints.positive)
        return {"df": positive, "loc": Parameter(constraints.real), "scale": positive}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return TailedStudentT(parameters["df"], parameters["loc"], parameters["scale"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        df, loc, width = (parameters[name].unsqueeze(-2) for name in ("df", "loc", "scale"))
        deviation = (real(values).unsqueeze(-1) - loc) * (width * df.sqrt()).reciprocal()
        constant = lgamma_increment(df / 2, torch.full_like(df, 0.5)) - 0.5 * (df * math.pi).log() - width.log()
        return torch.addcmul(constant, (deviation * deviation).log1p(), df + 1, value=-0.5)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        from scipy.special import stdtr

        deviation = (values - parameters["loc"]) / parameters["scale"]
        df, deviation = torch.broadcast_tensors(parameters["df"], deviation)
        return torch.from_numpy(stdtr(df.cpu().numpy(), deviation.cpu().numpy())).to(values.device)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return self._cdf(2 * parameters["loc"] - values, parameters)  # symmetric about loc

    def mean(self, parameters: Parameters) -> Tensor:
        """(K,): the centre `loc`, also where df <= 1 and no mean exists."""
        return parameters["loc"]

    def variance(self, parameters: Parameters) -> Tensor:
        df = parameters["df"]
        finite = parameters["scale"].square() * df / torch.where(df > 2, df - 2, 1.0)
        return torch.where(df > 2, finite, math.inf)

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """df ~ Gamma(2, 0.1) of Juarez & Steel (2010): mean 20, falls towards both 0 and the Gaussian. loc and scale
        as for the Gaussian."""
        priors = location_scale_priors(real(values))
        two = torch.full((), 2.0, dtype=torch.float64, device=values.device)
        return {"df": dist.Gamma(two, two / 20), **priors}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        values, declared, total = real(values), self.parameters(), weights.sum(0)
        likelihood = self.expected_log_prob(values, weights)
        floor = torch.minimum(scale.FLOOR * scale.spread(values), current["scale"])

        def objective(parameters: Parameters) -> Tensor:
            df, width = parameters["df"].clamp(max=CAP), parameters["scale"].maximum(floor)
            return likelihood({"df": df, "loc": parameters["loc"], "scale": width})

        gaussian = Gaussian().maximise(values, weights, {name: current[name] for name in ("loc", "scale")})
        light = _kurtosis(values, weights, gaussian) <= 3
        df = torch.where(light, 1.01 * CAP, current["df"])
        start = numerical.better(objective, declared, {"df": df, **gaussian}, current)
        derivatives = _within(_derivatives(values, weights), math.log(CAP), floor.log())
        found = numerical.maximise(objective, declared, start, total, derivatives)
        found["df"], found["scale"] = found["df"].clamp(max=CAP), found["scale"].maximum(floor)
        return numerical.choose(~empty(total), declared, found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        values, declared = real(values), self.parameters()
        likelihood, by_data = self.expected_log_prob(values, weights), _derivatives(values, weights)

        def prior(parameters: Parameters) -> Tensor:
            return numerical.log_prior(priors, parameters, declared, weights.shape[-1])

        def prior_at(u: Tensor) -> Tensor:
            df, loc, width = u.unbind(-1)
            return prior({"df": df.exp(), "loc": loc, "scale": width.exp()})

        def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            data, belief = by_data(u), numerical.by_autograd(prior_at)(u)
            return data[0] + belief[0], data[1] + belief[1], data[2] + belief[2]

        return numerical.maximise(
            lambda parameters: likelihood(parameters) + prior(parameters),
            declared,
            current,
            weights.sum(0) + 1,
            derivatives,
        )

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "StudentT")
        checking.require_finite(values, observed, columns[0], where)
        checking.require_varying(values, observed, columns[0], "StudentT")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(parameters["scale"], real(values), "scale")

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        for state, df in enumerate(parameters["df"].tolist()):
            if df >= CAP:
                return (
                    f"state {state} is Gaussian: its degrees of freedom went to the cap of {CAP:g}; "
                    "use Gaussian(), or the default priors"
                )
        return scale.within_rounding(parameters["scale"], real(values), "scale")

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        loc, width, df = (parameters[name][state] for name in ("loc", "scale", "df"))
        return f"centre {amount(loc, unit)}, scale {amount(width, unit)}, {amount(df)} degrees of freedom"


def _derivatives(values: Tensor, weights: Tensor) -> numerical.Derivatives:
    """The weighted log-likelihood, its gradient and Hessian in (log df, loc, log scale), from five sums over the rows.

    With z = (x - loc) / scale and v = 1 / (1 + z^2 / df): dv/dz = -2 z v^2 / df, dv/dlog df = v (1 - v), and
    log(1 + z^2 / df) falls by 1 - v with log df. The sums are over w times log(1 + z^2 / df), v, v^2, v z and v^2 z.
    """
    total = weights.sum(0)
    blocks = list(zip(values.split(BLOCK), weights.split(BLOCK), strict=True))

    def sums(df: Tensor, loc: Tensor, width: Tensor) -> list[Tensor]:
        added = [torch.zeros_like(total) for _ in range(5)]
        for x, w in blocks:
            z = (x.unsqueeze(-1) - loc) / width
            q = z * z / df
            v = 1 / (1 + q)
            wv = w * v
            wvz = wv * z
            for sum_, term in zip(added, (w * q.log1p(), wv, wv * v, wvz, wvz * v), strict=True):
                sum_ += term.sum(0)
        return added

    def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = u.detach()
        df, loc, width = u[:, 0].exp(), u[:, 1], u[:, 2].exp()
        logs, v, v2, vz, v2z = sums(df, loc, width)
        constant, slope, bend = (part.reshape(-1) for part in numerical.by_autograd(_log_constant)(u[:, :1]))
        ratio, rest, mixed = (df + 1) / df, total - v, v - v2
        value = total * (constant - u[:, 2]) - 0.5 * (df + 1) * logs
        by_df = total * slope - 0.5 * df * logs + 0.5 * (df + 1) * rest
        gradient = torch.stack([by_df, ratio / width * vz, (df + 1) * rest - total], -1)
        df_df = total * bend - 0.5 * df * logs + df * rest - 0.5 * (df + 1) * mixed
        df_loc = (ratio * (vz - v2z) - vz / df) / width
        df_scale = df * rest - (df + 1) * mixed
        loc_loc, loc_scale = ratio / width.square() * (v - 2 * v2), -2 * ratio / width * v2z
        rows = [df_df, df_loc, df_scale, df_loc, loc_loc, loc_scale, df_scale, loc_scale, -2 * (df + 1) * mixed]
        return value, gradient, torch.stack(rows, -1).reshape(-1, 3, 3)

    return derivatives


def _log_constant(log_df: Tensor) -> Tensor:
    """(K,): log of Gamma((df + 1) / 2) / (Gamma(df / 2) sqrt(df pi)), from log df (K, 1)."""
    df = log_df.squeeze(-1).exp()
    return lgamma_increment(df / 2, torch.full_like(df, 0.5)) - 0.5 * (df * math.pi).log()


def _within(derivatives: numerical.Derivatives, highest: float, lowest: Tensor) -> numerical.Derivatives:
    """The same held flat above `highest` log df and below `lowest` log scale (K,)."""

    def held(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        free = torch.stack([u[:, 0] < highest, torch.ones_like(u[:, 1], dtype=torch.bool), u[:, 2] > lowest], -1)
        inside = torch.stack([u[:, 0].clamp(max=highest), u[:, 1], u[:, 2].maximum(lowest)], -1)
        value, gradient, hessian = derivatives(inside)
        return value, gradient * free, hessian * (free.unsqueeze(-1) & free.unsqueeze(-2))

    return held


def _kurtosis(values: Tensor, weights: Tensor, gaussian: Parameters) -> Tensor:
    """(K,): weighted fourth moment about the Gaussian fit, in units of its variance squared."""
    deviation = (values.unsqueeze(-1) - gaussian["loc"]) / gaussian["scale"]
    total = weights.sum(0)
    return (deviation.square().square() * weights).sum(0) / torch.where(empty(total), 1.0, total)
