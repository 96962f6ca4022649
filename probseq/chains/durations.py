"""How long a segment of a state lasts: laws of d = 1, 2, ... for semi-Markov chains.

A law gives each state a table of log probabilities of d = 1..D, whose last entry is D steps or more, and the
probability `stay` of each step beyond D (see `semi_markov_chain`). The parametric laws with a `max` are the laws given
that d <= max, exactly: their tables are renormalised, the likelihood is that of the truncated law, and nothing lasts
longer. `Geometric`, and `FreeDurations` with a tail, have no longest segment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.laws import log_probability
from probseq.errors import ModelError
from probseq.families import numerical
from probseq.families.family import NOTHING, Parameter

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class DurationTable:
    """Logarithms of a duration law, of every state.

    Args:
        log_duration: (*batch, K, D) nats: P(d), the last entry P(d >= D).
        log_stay: (*batch, K) nats: probability of each step beyond D; -inf where D is the most.
        log_leave: (*batch, K) nats: log(1 - stay).
    """

    log_duration: Tensor
    log_stay: Tensor
    log_leave: Tensor


@dataclass(frozen=True, eq=False)
class DurationCounts:
    """Expected numbers of segments by what they say of a duration law.

    Args:
        duration: (K, D) segments by length, the last entry those of D steps or more.
        stay, leave: (K,) steps beyond D, and ends of segments of D or more.
    """

    duration: Tensor
    stay: Tensor
    leave: Tensor


class DurationLaw(ABC):
    """The law of the steps of a segment, of one form for all states; frozen dataclasses of plain values."""

    @abstractmethod
    def parameters(self) -> dict[str, Parameter]:
        """The parameters and their shapes for one state."""

    @abstractmethod
    def priors(self) -> dict[str, TorchDistributionMixin]:
        """One state's weakly informative prior of each parameter."""

    @abstractmethod
    def table(self, parameters: Parameters) -> DurationTable:
        """The law of every state, from parameters (*batch, K, *shape); differentiable."""

    @abstractmethod
    def start(self, mean: Tensor) -> dict[str, Tensor]:
        """Parameters (K, *shape) whose means are about `mean` (K,) steps."""

    def maximise(self, counts: DurationCounts, current: Parameters) -> dict[str, Tensor]:
        """The likeliest parameters given the counts; never less likely than `current`, kept where nothing counts."""
        return self._climb(counts, current, {})

    def maximise_posterior(self, counts: DurationCounts, current: Parameters) -> dict[str, Tensor]:
        """The mode of likelihood times priors, as densities of the parameters themselves; never below `current`."""
        return self._climb(counts, current, self.priors())

    def log_prior(self, parameters: Parameters) -> Tensor:
        """() nats: log prior density of the parameters of all states."""
        return torch.stack([prior.log_prob(parameters[name]).sum() for name, prior in self.priors().items()]).sum()

    def mean(self, parameters: Parameters) -> Tensor:
        """(*batch, K) expected steps of a segment."""
        table = self.table(parameters)
        duration, longest = table.log_duration.exp(), table.log_duration.shape[-1]
        steps = torch.arange(1, longest + 1, dtype=duration.dtype)
        return duration @ steps + duration[..., -1] * (table.log_stay - table.log_leave).exp()

    def describe(self, parameters: Parameters, state: int) -> str:
        """One state in plain words: "lasts 12.3 steps on average"."""
        return f"lasts {float(self.mean(parameters)[state]):.3g} steps on average"

    def n_parameters(self, states: int) -> int:
        """Free parameters of all states."""
        return states * sum(one.free for one in self.parameters().values())

    def expected_log_prob(self, counts: DurationCounts) -> Callable[[Parameters], Tensor]:
        """(K,) nats, as a function of the parameters: sum of counts times log probabilities."""

        def objective(parameters: Parameters) -> Tensor:
            table = self.table(parameters)
            pairs = (counts.stay, table.log_stay), (counts.leave, table.log_leave)
            ends = sum(torch.where(count > 0, count * log, 0.0) for count, log in pairs)
            spread = torch.where(counts.duration > 0, counts.duration * table.log_duration, 0.0)
            return spread.sum(-1) + ends

        return objective

    def _climb(
        self, counts: DurationCounts, current: Parameters, priors: Mapping[str, TorchDistributionMixin]
    ) -> dict[str, Tensor]:
        likelihood, declared = self.expected_log_prob(counts), self.parameters()
        total = counts.duration.sum(-1) + counts.stay

        def objective(parameters: Parameters) -> Tensor:
            return likelihood(parameters) + numerical.log_prior(priors, parameters, declared, len(total))

        found = numerical.maximise(objective, declared, current, total + 1 if priors else total)
        return found if priors else numerical.choose(total > NOTHING, declared, found, current)


@dataclass(frozen=True)
class Geometric(DurationLaw):
    """P(d) = (1 - stay) stay^(d - 1), the law of an ordinary Markov chain; no longest segment."""

    def parameters(self) -> dict[str, Parameter]:
        return {"stay": Parameter(constraints.unit_interval)}

    def priors(self) -> dict[str, TorchDistributionMixin]:
        return {"stay": dist.Beta(_number(1.1), _number(1.1))}

    def table(self, parameters: Parameters) -> DurationTable:
        stay = parameters["stay"]
        return DurationTable(torch.zeros_like(stay).unsqueeze(-1), log_probability(stay), log_probability(1.0 - stay))

    def start(self, mean: Tensor) -> dict[str, Tensor]:
        return {"stay": 1.0 - 1.0 / mean.clamp_min(1.01)}

    def maximise(self, counts: DurationCounts, current: Parameters) -> dict[str, Tensor]:
        return {"stay": _share(counts.stay, counts.leave, current["stay"], 0.0)}

    def maximise_posterior(self, counts: DurationCounts, current: Parameters) -> dict[str, Tensor]:
        return {"stay": _share(counts.stay, counts.leave, current["stay"], 0.1)}


@dataclass(frozen=True)
class ShiftedPoisson(DurationLaw):
    """d - 1 is Poisson, given that d <= max.

    Args:
        max: D, the longest segment.
    """

    max: int = 100

    def __post_init__(self) -> None:
        _require_longest(self.max)

    def parameters(self) -> dict[str, Parameter]:
        return {"duration_rate": Parameter(constraints.positive)}

    def priors(self) -> dict[str, TorchDistributionMixin]:
        return {"duration_rate": dist.Gamma(_number(1.1), _number(1.1 / self.max))}

    def table(self, parameters: Parameters) -> DurationTable:
        rate = parameters["duration_rate"].unsqueeze(-1)
        beyond = torch.arange(self.max, dtype=rate.dtype)
        return _truncated(beyond * rate.log() - torch.lgamma(beyond + 1.0))

    def start(self, mean: Tensor) -> dict[str, Tensor]:
        return {"duration_rate": (mean.clamp_max(0.8 * self.max) - 1.0).clamp_min(0.1)}


@dataclass(frozen=True)
class ShiftedNegativeBinomial(DurationLaw):
    """d - 1 is negative binomial with mean m and variance m + m^2 / size, given that d <= max.

    Args:
        max: D, the longest segment.
    """

    max: int = 100

    def __post_init__(self) -> None:
        _require_longest(self.max)

    def parameters(self) -> dict[str, Parameter]:
        return {"duration_mean": Parameter(constraints.positive), "duration_size": Parameter(constraints.positive)}

    def priors(self) -> dict[str, TorchDistributionMixin]:
        return {
            "duration_mean": dist.Gamma(_number(1.1), _number(1.1 / self.max)),
            "duration_size": dist.Gamma(_number(1.1), _number(0.05)),
        }

    def table(self, parameters: Parameters) -> DurationTable:
        mean, size = parameters["duration_mean"].unsqueeze(-1), parameters["duration_size"].unsqueeze(-1)
        beyond = torch.arange(self.max, dtype=mean.dtype)
        ways = torch.lgamma(beyond + size) - torch.lgamma(size) - torch.lgamma(beyond + 1.0)
        return _truncated(ways - beyond * torch.log1p(size / mean))

    def start(self, mean: Tensor) -> dict[str, Tensor]:
        return {
            "duration_mean": (mean.clamp_max(0.8 * self.max) - 1.0).clamp_min(0.1),
            "duration_size": torch.full_like(mean, 2.0),
        }


@dataclass(frozen=True)
class FreeDurations(DurationLaw):
    """Any law of d = 1..max; with a tail, the last entry is max steps or more, each further one with one probability.

    Args:
        max: D.
        tail: whether segments may last longer, with a geometric tail (Langrock & Zucchini 2011).
        prior: concentration of the Dirichlet prior of the table; just above 1 keeps its mode inside.
    """

    max: int = 20
    tail: bool = False
    prior: float = 1.1

    def __post_init__(self) -> None:
        _require_longest(self.max)

    def parameters(self) -> dict[str, Parameter]:
        tail = {"stay": Parameter(constraints.unit_interval)} if self.tail else {}
        return {"duration": Parameter(constraints.simplex, (self.max,)), **tail}

    def priors(self) -> dict[str, TorchDistributionMixin]:
        tail = {"stay": dist.Beta(_number(1.1), _number(1.1))} if self.tail else {}
        return {"duration": dist.Dirichlet(torch.full((self.max,), self.prior, dtype=torch.float64)), **tail}

    def table(self, parameters: Parameters) -> DurationTable:
        log_duration = log_probability(parameters["duration"])
        if not self.tail:
            return _without_tail(log_duration)
        stay = parameters["stay"]
        return DurationTable(log_duration, log_probability(stay), log_probability(1.0 - stay))

    def start(self, mean: Tensor) -> dict[str, Tensor]:
        """Powers, so that no length is excluded: geometric with a tail, else of the base that gives the mean."""
        steps = torch.arange(self.max, dtype=torch.float64)
        if self.tail:
            stay = 1.0 - 1.0 / mean.clamp_min(1.01)
            law = stay.unsqueeze(-1) ** steps
            law = torch.cat([law[:, :-1] * (1.0 - stay).unsqueeze(-1), law[:, -1:]], -1)
            return {"duration": law, "stay": stay}
        low, high = torch.full_like(mean, -5.0), torch.full_like(mean, 1.0)
        for _ in range(60):
            middle = (low + high) / 2.0
            below = (middle.unsqueeze(-1) * steps).softmax(-1) @ (steps + 1.0) < mean
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return {"duration": (low.unsqueeze(-1) * steps).softmax(-1)}

    def maximise(self, counts: DurationCounts, current: Parameters) -> dict[str, Tensor]:
        return self._shares(counts, current, 0.0, 0.0)

    def maximise_posterior(self, counts: DurationCounts, current: Parameters) -> dict[str, Tensor]:
        return self._shares(counts, current, self.prior - 1.0, 0.1)

    def _shares(self, counts: DurationCounts, current: Parameters, extra: float, in_tail: float) -> dict[str, Tensor]:
        pseudo = (counts.duration + extra).clamp_min(0.0)
        total = pseudo.sum(-1, keepdim=True)
        seen = total > NOTHING
        found = {"duration": torch.where(seen, pseudo / torch.where(seen, total, 1.0), current["duration"])}
        if self.tail:
            found["stay"] = _share(counts.stay, counts.leave, current["stay"], in_tail)
        return found


def _truncated(weights: Tensor) -> DurationTable:
    """The law with these log weights (*batch, K, D), of at most D steps."""
    return _without_tail(weights - weights.logsumexp(-1, keepdim=True))


def _without_tail(log_duration: Tensor) -> DurationTable:
    none = torch.zeros_like(log_duration[..., 0])
    return DurationTable(log_duration, torch.full_like(none, -torch.inf), none)


def _share(count: Tensor, other: Tensor, current: Tensor, extra: float) -> Tensor:
    """(K,) the mode of a probability that `count` times happened, `other` times not; below 1 by a digit or more."""
    total = count + other + 2.0 * extra
    share = torch.where(total > NOTHING, (count + extra) / torch.where(total > NOTHING, total, 1.0), current)
    return torch.where(other + extra > 0.0, share, current)


def _require_longest(longest: int) -> None:
    if not isinstance(longest, int) or longest < 1:
        raise ModelError(
            f"max must be a whole number of at least 1, got {longest!r}; give the longest segment, in steps."
        )


@cache
def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
