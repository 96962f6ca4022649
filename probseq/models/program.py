"""A user's own Pyro program as a model: its states summed out, its parameters found by generic EM.

E: the expected counts of each chain, from the tables that the program's own sites score. M: the expected complete
log-likelihood <counts, log p(theta)>, a smooth function of the parameters through the user's torch code, is raised by
L-BFGS in unconstrained coordinates. Nothing about the program need be known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from probseq.chains.enumeration import EnumeratedChain
from probseq.chains.marginalization import PlateNesting, latent_names, log_factor, read
from probseq.chains.path_posterior import posterior
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import ChainCounts, weighted_sum
from probseq.errors import ModelError
from probseq.families.coordinates import Coordinates
from probseq.families.family import Parameter
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]

PRIOR_DRAWS = 10
"""Draws from the prior of which the likeliest is a start."""


def as_model(model: HMM | ProgramModel | Callable[..., Any]) -> HMM | ProgramModel:
    """A model as it is, a user's own program as a `ProgramModel`."""
    return model if isinstance(model, HMM | ProgramModel) else ProgramModel(model)


@dataclass(frozen=True, eq=False)
class ProgramCounts:
    """Expected counts of every chain of a program.

    Args:
        log_likelihood: nats, of everything observed, states summed out.
        chains: site -> counts of its path; those of the table are (T, C).
    """

    log_likelihood: float
    chains: dict[str, ChainCounts]


class ProgramModel:
    """A Pyro program of one argument, the series, with one or more state sites.

    Args:
        program: not marginalised; its state sites are `MarkovChain`s without batch dims.
    """

    def __init__(self, program: Callable[..., Any]) -> None:
        self.program = program
        self._nesting = PlateNesting(program, None)
        self._supports: dict[str, Any] = {}
        self._width = 0

    def bind(self, series: Sequences, with_priors: bool = False) -> ProgramModel:
        """The model with the names and supports of its parameters found by one run."""
        with torch.random.fork_rng(devices=[]), torch.no_grad(), poutine.block(), poutine.trace() as trace:
            reading, _ = read(self.program, self._nesting, series)
        if not reading.chains:
            raise ModelError("A program to fit by EM must have a state site that is not observed, got none; use svi.")
        learned = [name for name, site in trace.trace.nodes.items() if site["type"] == "param"]
        if learned:
            raise ModelError(
                f"The parameters of a program to fit must be sample sites, got pyro.param {learned}; give each a prior "
                "with pyro.sample, or train the program with pyro.infer.SVI."
            )
        unweighted = [chain.name for chain in reading.chains if chain.law.weights is None]
        if series.weights is not None and unweighted:
            raise ModelError(
                f"The chain of a weighted series, or of a minibatch, must know its weights, got none at "
                f"{unweighted}; write MarkovChain(..., series.lengths, weights=series.weights)."
            )
        if reading.deferred:
            raise ModelError(
                f"Sites {sorted(reading.deferred)} depend on a state and must be observed for EM, got no value; give "
                "them obs=."
            )
        if any(chain.law.batch_shape for chain in reading.chains):
            raise ModelError("The state sites of a program fitted by EM must have no batch dims; use svi.")
        self._supports = {name: trace.trace.nodes[name]["fn"].support for name in latent_names(trace.trace)}
        values: Any = {name: trace.trace.nodes[name]["value"] for name in self._supports}
        self._width = self.coordinates(values).pack().numel()
        return self

    def start(self, series: Sequences, attempt: int, seed: int) -> Parameters:
        """The likeliest of a few draws from the prior."""
        best: tuple[float, Parameters] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng([seed, attempt]).integers(2**62)))
            for _ in range(PRIOR_DRAWS):
                with torch.no_grad(), poutine.block(), poutine.trace() as trace:
                    reading, _ = read(self.program, self._nesting, series)
                value = sum((_evidence(chain) for chain in reading.chains), torch.zeros(()))
                if best is None or float(value) > best[0]:
                    nodes: Any = trace.trace.nodes
                    best = (float(value), {name: nodes[name]["value"].detach() for name in self._supports})
        assert best is not None
        return best[1]

    def complete(self, parameters: Mapping[str, Tensor]) -> Parameters:
        """As they are: a program computes the rest itself."""
        return dict(parameters)

    def expect(self, parameters: Mapping[str, Tensor], series: Sequences) -> ProgramCounts:
        """E-step: expected counts of every chain."""
        with torch.no_grad():
            chains, other, _ = self.score(parameters, series)
            total, counts = float(other), {}
            for chain in chains:
                found = counts[chain.name] = chain.law.expected(chain.log_table, None, chain.law.weights)
                total += float(weighted_sum(found.evidence, chain.law.weights)) * float(chain.scale)
        return ProgramCounts(total, counts)

    def maximise(
        self, parameters: Mapping[str, Tensor], counts: ProgramCounts, priors: bool, series: Sequences
    ) -> Parameters:
        """M-step by L-BFGS; never below the current expected complete log-likelihood."""
        from scipy.optimize import minimize

        scale = 1.0 + sum(float(found.emission.sum()) for found in counts.chains.values())

        coordinates = self.coordinates(parameters)

        def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
            u = torch.from_numpy(point.copy()).requires_grad_()
            with torch.enable_grad():
                value = -self._expected_log_joint(coordinates.unpack(u), counts, priors, series) / scale
                (gradient,) = torch.autograd.grad(value, u)
            return float(value.detach()), np.nan_to_num(gradient.numpy())

        start = coordinates.pack()
        found = minimize(loss, start.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 50, "gtol": 1e-9})
        better = np.isfinite(found.fun) and found.fun <= loss(start.numpy())[0]
        return coordinates.unpack(torch.from_numpy(found.x)) if better else dict(parameters)

    def log_prior(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """() nats: log density of the parameters' own sites."""
        return self.score(parameters, series)[2]

    def log_joint(self, parameters: Mapping[str, Tensor], series: Sequences, priors: bool) -> Tensor:
        """() nats: log-likelihood with the states summed out, plus the log prior where asked; differentiable."""
        chains, total, prior = self.score(parameters, series)
        for chain in chains:
            total = total + log_factor(chain)
        return total + prior if priors else total

    def coordinates(self, parameters: Mapping[str, Tensor]) -> Coordinates:
        """The unconstrained coordinates of the program's parameters."""
        declared = {
            name: Parameter(support, tuple(parameters[name].shape), shared=True)
            for name, support in self._supports.items()
        }
        return Coordinates(declared, parameters)

    def degenerate(self, parameters: Mapping[str, Tensor], series: Sequences) -> str | None:
        """Why the parameters are of no use, or None."""
        broken = [name for name, value in parameters.items() if not bool(torch.isfinite(value).all())]
        return f"parameter {broken[0]} is no longer finite" if broken else None

    def ordered(self, parameters: Parameters, series: Sequences) -> Parameters:
        """As they are: only the program knows what its states mean."""
        return parameters

    def n_parameters(self, event_shape: tuple[int, ...] = ()) -> int:
        """Unconstrained coordinates of all parameters."""
        return self._width

    def posterior(self, parameters: Mapping[str, Tensor], series: Sequences) -> StatePosterior:
        """The law of the program's path; for several chains use `probseq.posterior`, which names them."""
        found = posterior(self.program, parameters)(series)
        if len(found) != 1:
            raise ModelError(
                f"A fit's posterior must be of one chain, got the chains {', '.join(found)}; use "
                "probseq.posterior(program, fit.parameters)(series), which returns one for each."
            )
        return next(iter(found.values()))

    def chains(
        self, parameters: Mapping[str, Tensor], series: Sequences, inside: Messenger | None = None
    ) -> list[EnumeratedChain]:
        """The program's chains with what every step says of its state.

        Args:
            parameters: of every continuous site.
            series: the data.
            inside: a handler to meet the sites as the program does, their laws under every state.
        """
        given = pyro.condition(self.program, dict(parameters))  # pyright: ignore[reportArgumentType]

        def program(data: Sequences) -> Any:
            with inside or nullcontext():
                return given(data)

        with torch.no_grad(), poutine.block():
            return read(program, self._nesting, series)[0].chains

    # ---- parts -----------------------------------------------------------------------------------------------------

    def score(
        self, parameters: Mapping[str, Tensor], series: Sequences
    ) -> tuple[list[EnumeratedChain], Tensor, Tensor]:
        """The chains with their tables, log p of observed sites that depend on no state, and the log prior."""
        given = pyro.condition(self.program, dict(parameters))  # pyright: ignore[reportArgumentType]
        with poutine.block(), poutine.trace() as trace:
            reading, _ = read(given, self._nesting, series)
        trace.trace.compute_log_prob()
        prior = other = torch.zeros((), dtype=torch.float64)
        for name, site in trace.trace.nodes.items():
            if site["type"] == "sample" and name in self._supports:
                prior = prior + site["log_prob_sum"]
            elif site["type"] == "sample":
                other = other + site["log_prob_sum"]
        return reading.chains, other, prior

    def _expected_log_joint(
        self, parameters: Mapping[str, Tensor], counts: ProgramCounts, priors: bool, series: Sequences
    ) -> Tensor:
        chains, other, prior = self.score(parameters, series)
        total = other + prior if priors else other
        for chain in chains:
            found = counts.chains[chain.name]
            steps = torch.where(found.emission > 0, found.emission * chain.log_table, 0.0).sum()
            total = total + (chain.law.complete_log_prob(found) + steps) * chain.scale
        return total


def _evidence(chain: EnumeratedChain) -> Tensor:
    """Sum over sequences, NaN (parameters out of range) as -inf."""
    return torch.nan_to_num(chain.law.evidence(chain.log_table).sum(), nan=-torch.inf, neginf=-torch.inf)
