"""The second reading of a program: states drawn given the data, then the sites that depend on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.digits import Digit
from probseq.chains.enumeration import Enumerate, EnumeratedChain
from probseq.chains.state_sequence import StateSequence
from probseq.errors import ModelError

Drawn = dict[torch.Size, tuple[Tensor, frozenset[Digit]]]
"""Paths of tuples by their shape, and the chains that have taken theirs."""


class PathGivenData(TorchDistribution):
    """p(path | data) as a Pyro distribution, drawn by forward filtering and backward sampling.

    Args:
        law: of the chain, or of the tuples of several chains that a site couples.
        log_table: (*lead, T, C) nats: log-likelihood of each step under each value.
        digit: which chain of the tuple this one is; None where there is one.
        drawn: shared by the chains of a tuple, so that each takes its part of the same draw.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = False

    def __init__(
        self, law: StateSequence, log_table: Tensor, digit: Digit | None = None, drawn: Drawn | None = None
    ) -> None:
        self.law, self.log_table, self.digit = law, log_table, digit
        self.drawn: Drawn = {} if drawn is None else drawn
        lead = torch.broadcast_shapes(law.path_shape[:-1], log_table.shape[:-2])
        super().__init__(lead + torch.Size([1]) if lead else law.batch_shape, law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        size = self.law.states if self.digit is None else self.digit.size
        return constraints.independent(constraints.integer_interval(0, size - 1), 1)

    def expand(self, batch_shape: torch.Size | Sequence[int], _instance: Any = None) -> PathGivenData:
        batch = torch.Size(batch_shape)
        table = self.log_table.expand(batch[:-1] + self.log_table.shape[-2:])
        return PathGivenData(self.law.expand(batch), table, self.digit, self.drawn)

    def shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008  (the signature of torch)
        return torch.Size(sample_shape) + torch.Size(self.batch_shape[:-1]) + self.event_shape

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (the signature of torch)
        if self.digit is None:
            return self._codes(torch.Size(sample_shape))
        codes, taken = self.drawn.get(self.shape(sample_shape), (None, frozenset()))
        if codes is None or self.digit in taken:
            codes, taken = self._codes(torch.Size(sample_shape)), frozenset()
        self.drawn[self.shape(sample_shape)] = codes, taken | {self.digit}
        return self.digit.of(codes)

    def _codes(self, sample_shape: torch.Size) -> Tensor:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        lead = torch.Size(self.batch_shape[:-1])
        posterior = self.law.posterior(self.log_table.expand(lead + self.log_table.shape[-2:]))
        return posterior.sample(sample_shape.numel(), seed=generator).reshape(self.shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch) log p(path | data), other chains of the tuple summed out: the change in evidence."""
        states = torch.arange(self.law.states)
        known = value.unsqueeze(-1) == (states if self.digit is None else self.digit.of(states))
        given = self.law.evidence(torch.where(known, self.log_table, -torch.inf))
        total = (given - self.law.evidence(self.log_table)).sum(-1)
        return total.unsqueeze(-1) if self.batch_shape else total


class Replay(Messenger):
    """Read a program again: states take paths given the data, deferred sites are drawn, the rest stays as recorded.

    Args:
        first: the first, enumerated reading.
        predict: whether log-probabilities are masked outside, so that handlers outside see states, draws and what was
            observed of them; else all of them stay hidden.
        frame: site -> the plate that stands for the dims of the program's plates.
    """

    def __init__(self, first: Enumerate, predict: bool, frame: Callable[[str], CondIndepStackFrame]) -> None:
        super().__init__()
        self.frame = frame
        self.laws = {name: law for chain in first.chains for name, law in _laws_of(chain).items()}
        self.recorded, self.deferred, self.scored, self.predict = first.recorded, first.deferred, first.scored, predict
        self._drawn: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.laws and not msg["is_observed"]:
            msg["fn"] = self.laws[name]
            msg["stop"] = not self.predict
            msg["cond_indep_stack"] = (self.frame(name), *msg["cond_indep_stack"])
        elif name in self.deferred:
            if not self.predict:
                msg["value"] = self._drawn[name] = msg["fn"]()
        else:
            if name in self.recorded and not msg["is_observed"]:
                msg["value"] = self.recorded[name]
            msg["stop"] = not (self.predict and name in self.scored)

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        from_outside = msg["is_observed"] or (not self.predict and msg["value"] is not self._drawn.get(name))
        if name in self.deferred and from_outside:
            raise ModelError(
                f"Site '{name}' depends on a state that is summed out and must get its value inside, got one from a "
                "handler or guide outside; condition first, then marginalise: "
                "marginalize(pyro.condition(program, data))."
            )
        if name in self.laws and self.predict and msg["is_observed"]:
            raise ModelError(
                f"State site '{name}' is summed out and must not be given a value; condition or intervene first, then "
                "marginalise: marginalize(pyro.condition(program, data))."
            )


def _laws_of(chain: EnumeratedChain) -> dict[str, PathGivenData]:
    """The law of each site of a chain given the data."""
    table, drawn = chain.log_table.detach(), {}
    if len(chain.sites) == 1:
        return {chain.name: PathGivenData(chain.law, table)}
    pairs = zip(chain.sites, chain.digits, strict=True)
    return {site.name: PathGivenData(chain.law, table, digit, drawn) for site, digit in pairs}
