"""Vectors of which some entries are missing (NaN): what the entries that are there say about the law.

The missing entries are summed out. In the M-step of a Gaussian they are replaced by their conditional mean given the
others, at the current parameters, and what that leaves uncertain is added to the scatter (Dempster, Laird & Rubin 1977;
Little & Rubin 2019, chapter 11):

    E[e_m | e_o] = B e_o,   B = S_mo S_oo^-1,   Cov[e_m | e_o] = S_mm - B S_om.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor
from torch.distributions.constraints import Constraint

CODED = 63  # columns that fit into the bits of an integer
Score = Callable[[Any, Tensor], Tensor]


class PartlyMissing(Constraint):
    """Vectors whose entries lie in the given sets or are missing, though not all of them.

    Args:
        entries: one constraint for every entry, or one for all.
    """

    event_dim = 1

    def __init__(self, *entries: Constraint) -> None:
        self.entries = entries

    def check(self, value: Tensor) -> Tensor:
        if len(self.entries) == 1:
            good = self.entries[0].check(value)
        else:
            columns = zip(self.entries, value.unbind(-1), strict=True)
            good = torch.stack([entry.check(column) for entry, column in columns], -1)
        missing = value.isnan()
        return (good | missing).all(-1) & ~missing.all(-1)


class PartlyObserved(TorchDistribution):
    """A law of vectors that scores the entries that are there.

    Args:
        whole: the law of whole vectors.
        score: log-probability of vectors (..., D) with some entries NaN, from the law and the vectors.
        entry: the set that an entry lies in.
    """

    arg_constraints = {}  # type: ignore
    has_rsample = False

    def __init__(self, whole: Any, score: Score, entry: Constraint) -> None:
        self.whole, self.score, self.entry = whole, score, entry
        super().__init__(whole.batch_shape, whole.event_shape, validate_args=False)
        self._validate_args = whole._validate_args

    @property
    def support(self) -> Constraint:  # type: ignore[override]
        return PartlyMissing(self.entry)

    def expand(self, batch_shape, _instance=None):
        return PartlyObserved(self.whole.expand(torch.Size(batch_shape)), self.score, self.entry)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            return self.whole.sample(sample_shape)

    @property
    def mean(self) -> Tensor:
        return self.whole.mean

    @property
    def variance(self) -> Tensor:
        return self.whole.variance

    def log_prob(self, value: Tensor) -> Tensor:
        if not bool(value.isnan().any()):
            return self.whole.log_prob(value)
        if self._validate_args:
            self._validate_sample(value)
        return self.score(self.whole, value)


def score_by_entry(whole: Any, value: Tensor) -> Tensor:
    """The score of entries that are independent of each other: those of the entries that are there, added up."""
    missing = value.isnan()
    present = value[~missing]
    if present.numel() == 0:
        return value.new_zeros(torch.broadcast_shapes(value.shape[:-1], whole.batch_shape))
    filled = torch.where(missing, present[0], value)
    return torch.where(missing, 0.0, whole.base_dist.log_prob(filled)).sum(-1)


def score_by_pattern(marginal: Callable[[Any, Tensor, Tensor], TorchDistributionMixin]) -> Score:
    """The score by the marginal law of the entries that are there.

    Args:
        marginal: the law of some columns (M,) at some places of its batch (a mask), from the law of the whole.
    """

    def score(whole: Any, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape[:-1], whole.batch_shape)
        value, whole = value.expand(shape + value.shape[-1:]), whole.expand(shape)
        result = torch.zeros(shape, dtype=value.dtype, device=value.device)
        for rows, columns in patterns(value.reshape(-1, value.shape[-1])):
            if len(columns):
                here = torch.zeros(result.numel(), dtype=torch.bool, device=value.device)
                here[rows] = True
                here = here.reshape(shape)
                law: Any = marginal(whole, columns, here)
                result = result.masked_scatter(here, law.log_prob(value[here][:, columns]))
        return result

    return score


def patterns(values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows (M,) of `values` (R, D) that have the same entries, and the columns of those."""
    if not bool(values.isnan().any()):
        yield torch.arange(len(values), device=values.device), torch.arange(values.shape[1], device=values.device)
        return
    seen = ~values.isnan()
    if values.shape[1] < CODED:  # numbers sort many times faster than rows
        code = seen.long() @ (1 << torch.arange(values.shape[1], device=values.device))
        _, index = torch.unique(code, return_inverse=True)
    else:
        _, index = torch.unique(seen, dim=0, return_inverse=True)
    order, sizes = index.argsort(stable=True), torch.bincount(index)
    for rows in order.split(sizes.tolist()):
        yield rows, seen[rows[0]].nonzero().squeeze(-1)


def marginal_factor(scale_tril: Tensor, columns: Tensor) -> Tensor:
    """Cholesky factor (..., M, M) of the covariance of some columns."""
    part = scale_tril.index_select(-2, columns)
    return torch.linalg.cholesky(part @ part.mT)


def gaussian_marginal(whole: Any, columns: Tensor, here: Tensor) -> TorchDistributionMixin:
    """The law of some columns of a `MultivariateNormal` at the marked places of its batch."""
    factor = marginal_factor(whole._unbroadcasted_scale_tril, columns)
    factor = factor.expand(here.shape + factor.shape[-2:])[here]
    return dist.MultivariateNormal(whole.loc[here][:, columns], scale_tril=factor, validate_args=False)


def completed(values: Tensor, weights: Tensor, loc: Tensor, scale_tril: Tensor) -> tuple[Tensor, Tensor]:
    """Expected weighted sums of the completed deviations from `loc`, given the entries that are there.

    Args:
        values (R, D): NaN where missing.
        weights (R, K).
        loc (K, D).
        scale_tril (K, D, D).

    Returns:
        (K, D) sum of w e, and (K, D, D) sum of w e e', with the conditional covariances added.
    """
    covariance = scale_tril @ scale_tril.mT
    first, second = torch.zeros_like(loc), torch.zeros_like(covariance)
    for rows, columns in patterns(values):
        gain = regression(covariance, columns)
        weight = weights[rows]
        deviation = (values[rows][:, columns] - loc[:, columns].unsqueeze(-2)) @ gain.mT  # (K, r, D)
        weighted = deviation * weight.mT.unsqueeze(-1)
        left = covariance - gain @ covariance[:, columns]  # zero but for missing entries
        first = first + weighted.sum(-2)
        second = second + weighted.mT @ deviation + weight.sum(0)[:, None, None] * left
    return first, second


def regression(covariance: Tensor, columns: Tensor) -> Tensor:
    """(K, D, M): the matrix that turns deviations of some columns into the expected deviations of all."""
    across = covariance[:, :, columns]
    gain = torch.linalg.solve(covariance[:, columns][:, :, columns], across, left=False)
    exact = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)[:, columns]
    gain = gain.clone()
    gain[:, columns] = exact[columns]
    return gain


def completed_by_column(values: Tensor, weights: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """As `completed` for independent columns: `scale` (K, D); the second sum is its diagonal (K, D)."""
    missing = values.isnan()
    absent = weights.mT @ missing.to(weights.dtype)
    first, second = [], []
    for state in range(loc.shape[0]):
        deviation = torch.where(missing, 0.0, values - loc[state])
        weighted = deviation * weights[:, state, None]
        first.append(weighted.sum(0))
        second.append((weighted * deviation).sum(0))
    return torch.stack(first), torch.stack(second) + absent * scale.square()
