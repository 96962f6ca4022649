"""Multivariate Gaussian with a full, tied, diagonal or spherical covariance; closed-form M-steps.

With N_k = sum_r w[r, k], means m_k and scatter matrices S_k = sum_r w[r, k] (x_r - m_k)(x_r - m_k)', maximum likelihood
is S_k / N_k (full), sum_k S_k / sum_k N_k (tied), the diagonal of S_k over N_k (diagonal), or the mean of that one
(spherical).

Entries may be missing one by one: the density is then the marginal one, and an M-step completes them first
(`probseq.families.missing_entries`).

Default priors: loc ~ Normal in each column; a full or tied covariance ~ inverse Wishart (D + 2 degrees of freedom, as
in Fraley & Raftery 2007), said through its Cholesky factor; standard deviations ~ InverseGamma(2, spread / 2). The
posterior mode given loc is in closed form, that of loc given the covariance too; they alternate on N, m and S alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import DataError, ModelError
from probseq.families import checking, missing_entries, numerical, scale
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, step_name
from probseq.families.gaussian import LOG_ROOT_TAU, PRIOR_SHAPE
from probseq.families.inverse_wishart import InverseWishartCholesky, cholesky_factor

COVARIANCES = ("full", "diagonal", "spherical", "tied")
FLOOR = 1e-6  # of a standard deviation in any direction, in units of the columns' spreads; squared it is 1e-12
BLOCK = 1 << 18  # numbers worked on at a time, so that they stay in the cache
MAX_ALTERNATIONS = 10_000


class Scatter(NamedTuple):
    """Weighted sums: total (K,), mean (K, D), and the scatter about the mean, (K, D, D) or (K, D) for its diagonal."""

    total: Tensor
    mean: Tensor
    scatter: Tensor


@dataclass(frozen=True)
class MultivariateGaussian(Family):
    """Normal vectors of D columns.

    Attributes:
        covariance: "full" (`scale_tril` (K, D, D), the Cholesky factor), "tied" (one `scale_tril` (D, D) for all
            states), "diagonal" (`scale` (K, D)) or "spherical" (`scale` (K,)).
    """

    kind = "multivariate-gaussian"
    event_dim = 1
    partly_missing = True
    covariance: str = "full"

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise ModelError(
                f"covariance must be one of {', '.join(COVARIANCES)}, got {self.covariance!r} at MultivariateGaussian; "
                "choose one of them."
            )

    @property
    def _triangular(self) -> bool:
        return self.covariance in ("full", "tied")

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        if len(event_shape) != 1:
            raise ModelError(
                f"observations must be vectors for {self.name}, got shape {tuple(event_shape)} at each step; "
                "give several columns, or use Gaussian."
            )
        size = event_shape[0]
        loc = Parameter(constraints.real_vector, (size,))
        if self._triangular:
            tril = Parameter(cholesky_factor, (size, size), shared=self.covariance == "tied")
            return {"loc": loc, "scale_tril": tril}
        if self.covariance == "diagonal":
            return {"loc": loc, "scale": Parameter(constraints.independent(constraints.positive, 1), (size,))}
        return {"loc": loc, "scale": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        loc = parameters["loc"]
        if self._triangular:
            whole = dist.MultivariateNormal(loc, scale_tril=parameters["scale_tril"])
            score = missing_entries.score_by_pattern(missing_entries.gaussian_marginal)
            return missing_entries.PartlyObserved(whole, score, constraints.real)
        width = parameters["scale"]
        whole = dist.Normal(loc, width if self.covariance == "diagonal" else width.unsqueeze(-1)).to_event(1)
        return missing_entries.PartlyObserved(whole, missing_entries.score_by_entry, constraints.real)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        values = real(values)
        if bool(values.isnan().any()):
            return self._partly_missing(values, parameters)
        centre = values.detach().mean(0)  # taken off first: whitening a large common offset would cost digits
        loc = parameters["loc"] - centre
        whiten, log_volume = self._whitening(parameters, loc)

        def squares(rows: Tensor) -> Tensor:
            """Squared length (..., r, K) of the whitened deviations (..., K, r, D)."""
            if not self._triangular:
                deviation = (rows - loc.unsqueeze(-2)) * whiten.unsqueeze(-2)
            else:
                deviation = rows @ whiten.mT - (whiten @ loc.unsqueeze(-1)).mT
            return deviation.square().sum(-1).mT

        blocks = (values - centre).split(max(1024, BLOCK // loc.shape[-2:].numel()))
        table = torch.cat([squares(rows) for rows in blocks], -2)
        return torch.add(-log_volume.unsqueeze(-2), table, alpha=-0.5)

    def _partly_missing(self, values: Tensor, parameters: Parameters) -> Tensor:
        """The table of the marginal law, pattern by pattern of what is there."""
        parts, order = [], []
        for rows, columns in missing_entries.patterns(values):
            loc = parameters["loc"].index_select(-1, columns)
            shape = {"scale": parameters["scale"]} if self.covariance == "spherical" else {}
            if self._triangular:
                shape = {"scale_tril": missing_entries.marginal_factor(parameters["scale_tril"], columns)}
            elif self.covariance == "diagonal":
                shape = {"scale": parameters["scale"].index_select(-1, columns)}
            parts.append(self.log_prob(values[rows][:, columns], {"loc": loc, **shape}))
            order.append(rows)
        return torch.cat(parts, -2).index_select(-2, torch.cat(order).argsort())

    def _whitening(self, parameters: Parameters, loc: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse scales (..., K, D) or Cholesky factors (..., K or 1, D, D), and log volumes (..., K or 1)."""
        size = loc.shape[-1]
        if not self._triangular:
            width = parameters["scale"]
            width = width if self.covariance == "diagonal" else width.unsqueeze(-1).expand(loc.shape)
            return width.reciprocal(), width.log().sum(-1) + size * LOG_ROOT_TAU
        tril = parameters["scale_tril"]
        tril = tril.unsqueeze(-3) if self.covariance == "tied" else tril
        unit = torch.eye(size, dtype=tril.dtype, device=tril.device)
        log_volume = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + size * LOG_ROOT_TAU
        return torch.linalg.solve_triangular(tril, unit.expand(tril.shape), upper=False), log_volume

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["loc"]

    def variance(self, parameters: Parameters) -> Tensor:
        """(K, D): of each column."""
        loc = parameters["loc"]
        if self._triangular:
            return parameters["scale_tril"].square().sum(-1).expand(loc.shape)
        variance = parameters["scale"].square()
        return variance if self.covariance == "diagonal" else variance.unsqueeze(-1).expand(loc.shape)

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """As for the Gaussian in each column; a covariance is as if D + 2 rows with half the columns' spreads and no
        correlation had been seen."""
        values = real(values)
        if values.shape[0] == 0:
            values = values.new_zeros(1, values.shape[-1])
        width = scale.spread(values)
        range_ = values.nan_to_num(nan=-math.inf).amax(0) - values.nan_to_num(nan=math.inf).amin(0)
        loc = dist.Normal(values.nanmean(0).nan_to_num(nan=0.0), range_.maximum(width)).to_event(1)
        if self._triangular:
            df = width.new_tensor(len(width) + 2.0)
            return {"loc": loc, "scale_tril": InverseWishartCholesky(df, torch.diag(width / 2))}
        if self.covariance == "diagonal":
            shape = torch.full_like(width, PRIOR_SHAPE)
            return {"loc": loc, "scale": scale.InverseGamma(shape, width / 2).to_event(1)}
        typical = width.square().mean().sqrt()
        return {"loc": loc, "scale": scale.InverseGamma(torch.full_like(typical, PRIOR_SHAPE), typical / 2)}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        if bool(real(values).isnan().any()):
            return super().expected_log_prob(values, weights)
        return self._likelihood(scatter(real(values), weights, full=self._triangular))

    def _sums(self, values: Tensor, weights: Tensor, current: Parameters) -> Scatter:
        """The sums of the rows, missing entries completed at the current parameters."""
        if not bool(values.isnan().any()):
            return scatter(values, weights, full=self._triangular)
        loc, total = current["loc"], weights.sum(0)
        if self._triangular:
            tril = current["scale_tril"].expand(*loc.shape, loc.shape[-1])
            first, second = missing_entries.completed(values, weights, loc, tril)
        else:
            width = current["scale"] if self.covariance == "diagonal" else current["scale"].unsqueeze(-1)
            first, second = missing_entries.completed_by_column(values, weights, loc, width.expand(loc.shape))
        offset = first / torch.where(empty(total), 1.0, total).unsqueeze(-1)
        outer = offset.unsqueeze(-1) * offset.unsqueeze(-2) if self._triangular else offset.square()
        return Scatter(total, loc + offset, second - total.reshape(-1, *[1] * (outer.dim() - 1)) * outer)

    def _likelihood(self, sums: Scatter) -> Callable[[Parameters], Tensor]:
        def objective(parameters: Parameters) -> Tensor:
            about = _about(sums, parameters["loc"])
            whiten, log_volume = self._whitening(parameters, sums.mean)
            squares = (whiten @ about) * whiten if self._triangular else about * whiten.square()  # tr(L^-1 S L^-T)
            return -sums.total * log_volume - 0.5 * squares.flatten(1).sum(-1)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        values = real(values)
        sums, width = self._sums(values, weights, current), scale.spread(values)
        declared = self.parameters(self._event_shape(values))
        weighted = ~empty(sums.total)
        safe = torch.where(weighted, sums.total, 1.0).unsqueeze(-1)
        if self.covariance == "full":
            shape = {"scale_tril": bounded_factor(sums.scatter / safe.unsqueeze(-1), width)}
        elif self.covariance == "tied":
            pooled = sums.scatter.sum(0) / sums.total.sum().clamp(min=1e-250)
            shape = {"scale_tril": bounded_factor(pooled, width)}
        elif self.covariance == "diagonal":
            shape = {"scale": (sums.scatter / safe).sqrt().maximum(FLOOR * width)}
        else:
            typical = (sums.scatter.mean(-1) / safe.squeeze(-1)).sqrt()
            shape = {"scale": typical.maximum(FLOOR * width.square().mean().sqrt())}
        found = numerical.choose(weighted, declared, {"loc": sums.mean, **shape}, current)
        if bool(weighted.all()) and not any(parameter.shared for parameter in declared.values()):
            return found
        found["loc"] = torch.where(weighted.unsqueeze(-1), sums.mean, current["loc"])
        return found

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        if not self._conjugate(priors):
            return super().maximise_posterior(values, weights, current, priors)
        sums = self._sums(real(values), weights, current)
        declared = self.parameters(self._event_shape(values))
        likelihood = self._likelihood(sums)

        def objective(parameters: Parameters) -> Tensor:
            return likelihood(parameters) + numerical.log_prior(priors, parameters, declared, len(sums.total))

        found = self._mode(sums, priors, sums.mean)
        chosen = numerical.better(objective, declared, found, current)
        if bool((chosen["loc"] == found["loc"]).all()):
            return chosen
        again = self._mode(sums, priors, current["loc"])  # a second mode: climb from where we stand
        return numerical.better(objective, declared, again, chosen)

    def _conjugate(self, priors: Priors) -> bool:
        """True for exactly the default kinds of prior, whose conditional modes are known in closed form."""
        shape = ("scale_tril", InverseWishartCholesky) if self._triangular else ("scale", dist.InverseGamma)
        kinds = dict([("loc", dist.Normal), shape])
        found = {name: _of_columns(prior) for name, prior in priors.items()}
        return found.keys() == kinds.keys() and all(isinstance(found[name], kind) for name, kind in kinds.items())

    def _mode(self, sums: Scatter, priors: Priors, loc: Tensor) -> dict[str, Tensor]:
        """Alternate the conditional modes from `loc` (K, D) until they stand still; no step lowers the posterior."""
        normal = _of_columns(priors["loc"])
        centre, precision = normal.loc, normal.scale.square().reciprocal()
        loc = torch.where(empty(sums.total).unsqueeze(-1), centre, loc)
        shape: dict[str, Tensor] = {}
        for _ in range(MAX_ALTERNATIONS):
            shape = self._shape_mode(sums, priors, loc)
            whiten, _volume = self._whitening(shape, loc)
            previous = loc
            if self._triangular:
                information = sums.total[:, None, None] * (whiten.mT @ whiten)
                goal = (information @ sums.mean.unsqueeze(-1)).squeeze(-1) + precision * centre
                loc = torch.linalg.solve(information + torch.diag(precision), goal)
                width = shape["scale_tril"].square().sum(-1).sqrt()
            else:
                information = sums.total.unsqueeze(-1) * whiten.square()
                loc = (information * sums.mean + precision * centre) / (information + precision)
                width = whiten.reciprocal()
            if bool(((loc - previous).abs() <= 1e-13 * (loc.abs() + width)).all()):
                break
        return {"loc": loc, **shape}

    def _shape_mode(self, sums: Scatter, priors: Priors, loc: Tensor) -> dict[str, Tensor]:
        """Conditional mode of the covariance parameter, given loc."""
        about, total = _about(sums, loc), sums.total
        if self._triangular:
            prior = priors["scale_tril"]
            if self.covariance == "tied":
                about, total = about.sum(0), total.sum()
            root = torch.linalg.cholesky(about + prior.scale_tril @ prior.scale_tril.mT)  # type: ignore[attr-defined]
            order = torch.arange(1, loc.shape[-1] + 1, dtype=loc.dtype, device=loc.device)
            powers = total.unsqueeze(-1) + prior.df + order  # type: ignore[attr-defined]
            return {"scale_tril": root / powers.sqrt().unsqueeze(-2)}
        if self.covariance == "diagonal":
            total = total.unsqueeze(-1)
        else:
            about, total = about.sum(-1), total * loc.shape[-1]
        prior = _of_columns(priors["scale"])
        weight, rate = total + prior.concentration + 1, prior.rate
        return {"scale": (rate + (rate * rate + 4 * weight * about).sqrt()) / (2 * weight)}

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = (),
        where: Callable[[int], str] = step_name,
    ) -> None:
        if values.dim() != 2:
            raise DataError(
                f"observations must be several columns for MultivariateGaussian, got shape "
                f"{tuple(values.shape)} at values; give several value columns, or use Gaussian."
            )
        for column in range(values.shape[1]):
            name = columns[column] if column < len(columns) else f"column {column}"
            seen = None if observed is None else (observed if observed.dim() == 1 else observed[:, column])
            checking.require_finite(values[:, column], seen, name, where)
            checking.require_varying(values[:, column], seen, name, "MultivariateGaussian")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        width = scale.spread(real(values))
        if self._triangular:
            tril = parameters["scale_tril"] / width.unsqueeze(-1)
            narrowest = torch.linalg.svdvals(tril).amin(-1).reshape(-1)
        elif self.covariance == "diagonal":
            narrowest = (parameters["scale"] / width).amin(-1)
        else:
            narrowest = parameters["scale"] / width.square().mean().sqrt()
        for state, size in enumerate(narrowest.tolist()):
            if size < 10 * FLOOR:
                who = "the tied covariance" if self.covariance == "tied" else f"the covariance of state {state}"
                return (
                    f"{who} has collapsed: in one direction its standard deviation is {size:.2g} of the data's; "
                    "use fewer states, a diagonal covariance, or the default priors if this is maximum likelihood"
                )
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        means, widths = self.mean(parameters)[state], self.variance(parameters)[state].sqrt()
        pairs = [f"{amount(mean, unit)} ± {amount(width, unit)}" for mean, width in zip(means, widths, strict=True)]
        return f"means {', '.join(pairs)}"

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "covariance": self.covariance}


def scatter(values: Tensor, weights: Tensor, full: bool) -> Scatter:
    """Weighted sums of `values` (R, D) under `weights` (R, K), in two passes: means, then deviations from them."""
    centre = values.mean(0) if values.shape[0] else values.new_zeros(values.shape[1])
    total = weights.sum(0)
    safe = torch.where(empty(total), 1.0, total).unsqueeze(-1)
    mean = centre + (weights.mT @ (values - centre)) / safe
    parts = []
    for state in range(weights.shape[-1]):
        deviation = values - mean[state]
        weighted = deviation * weights[:, state, None]
        parts.append(weighted.mT @ deviation if full else (weighted * deviation).sum(0))
    return Scatter(total, torch.where(empty(total).unsqueeze(-1), 0.0, mean), torch.stack(parts))


def _of_columns(prior: TorchDistributionMixin) -> Any:
    """The law of one column of an independent vector; any other law as it is."""
    return prior.base_dist if isinstance(prior, dist.Independent) else prior


def _about(sums: Scatter, loc: Tensor) -> Tensor:
    """The scatter about `loc` (K, D) instead of about the mean."""
    offset = sums.mean - loc
    if sums.scatter.dim() == offset.dim():
        return sums.scatter + sums.total.unsqueeze(-1) * offset.square()
    return sums.scatter + sums.total[:, None, None] * (offset.unsqueeze(-1) * offset.unsqueeze(-2))


def bounded_factor(covariance: Tensor, width: Tensor) -> Tensor:
    """Cholesky factor of covariances (..., D, D), none of whose directions is narrower than the floor.

    Raising the small eigenvalues, in units of the columns' spreads (D,), is the ML estimate under that bound.
    """
    outer = width.unsqueeze(-1) * width
    eigenvalues, axes = torch.linalg.eigh(covariance / outer)
    if bool((eigenvalues.amin(-1) >= FLOOR**2).all()):
        return torch.linalg.cholesky(covariance)
    raised = (axes * eigenvalues.clamp(min=FLOOR**2).unsqueeze(-2)) @ axes.mT * outer
    return torch.linalg.cholesky((raised + raised.mT) / 2)
