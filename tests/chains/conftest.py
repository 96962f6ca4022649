"""The oracle of every test here: the sum over all K^T paths of the program as it stands, nothing summed out.

`state` is conditioned on each path, the program is traced, and the log-probabilities of its sites are added.
No enumeration, no recursion and no table of the code under test takes part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import biject_to

from probseq import MarkovChain, families
from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.families import Family
from tests.every_family import FAMILIES as SHARED

FAMILIES = SHARED | {
    "hurdle-negative-binomial": (families.Hurdle(families.NegativeBinomial()), 0),
    "zero-inflated-negative-binomial": (families.ZeroInflated(families.NegativeBinomial()), 0),
    "independent-hurdle-gamma": (families.Independent(families.Hurdle(families.Gamma())), 2),
}


@dataclass(frozen=True)
class Problem:
    """A program with one chain, a value for every parameter, and data that some states make possible.

    Args:
        program: of no argument.
        parameters: site -> value, leaves that want a gradient.
        lengths: of the sequences.
        states: K.
    """

    program: Callable[[], Any]
    parameters: dict[str, Tensor]
    lengths: list[int]
    states: int

    @property
    def given(self) -> Callable[[], Any]:
        """The program with its parameters fixed."""
        return pyro.condition(self.program, self.parameters)

    @property
    def starts(self) -> list[int]:
        return [sum(self.lengths[:n]) for n in range(len(self.lengths))]


@dataclass(frozen=True)
class Paths:
    """Every path with its log-probability.

    Args:
        paths: (P, T) int64.
        joint: (P,) nats: all sites of the program.
        steps: (P, T) nats: the observed sites that depend on the state, step by step.
    """

    paths: Tensor
    joint: Tensor
    steps: Tensor

    @property
    def chance(self) -> Tensor:
        """(P,) p(path | data)."""
        return (self.joint - self.joint.logsumexp(0)).exp().detach()

    def share(self, step: int, state: int) -> float:
        """p(z_step = state | data)."""
        return float(self.chance[self.paths[:, step] == state].sum())

    def seen_only(self, steps: list[int]) -> Paths:
        """The same with the observations of all other steps left out."""
        unseen = [t for t in range(self.paths.shape[1]) if t not in steps]
        return Paths(self.paths, self.joint - self.steps[:, unseen].sum(1), self.steps)


def sum_over_paths(
    program: Callable[[], Any], states: int, steps: int, site: str = "state", observed: tuple[str, ...] = ("y",)
) -> Paths:
    """The oracle, for a program whose other latent sites all have values.

    All paths are given at once, (P, T), where the step's plate has its dim; a few are given one by one as well.

    Args:
        program: of no argument, not marginalised.
        states: K.
        steps: T.
        site: of the chain.
        observed: sites that score step by step.
    """
    paths = torch.tensor(list(itertools.product(range(states), repeat=steps)))
    trace = traced(pyro.condition(program, {site: paths}))
    scores = {name: node["log_prob"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    by_step = torch.stack([scores[name].expand(paths.shape) for name in observed]).sum(0)
    joint = scores[site] + by_step.sum(-1)
    joint = joint + sum(score.sum() for name, score in scores.items() if name not in (site, *observed))
    for number in range(0, len(paths), max(1, len(paths) // 4)):
        single = traced(pyro.condition(program, {site: paths[number]})).log_prob_sum()
        torch.testing.assert_close(single, joint[number], rtol=1e-12, atol=1e-12)
    return Paths(paths, joint, by_step)


def traced(program: Callable[[], Any]) -> Any:
    trace = poutine.trace(program).get_trace()
    trace.compute_log_prob()
    return trace


def log_joint(program: Callable[[], Any]) -> Tensor:
    """() nats: sum over the sites of a program all of whose sites have values."""
    return poutine.trace(program).get_trace().log_prob_sum()


def random_laws(generator: torch.Generator, *shape: int, zero: tuple[int, ...] | None = None) -> Tensor:
    """(*shape) rows that sum to one; the entry `zero` of each row of the last matrix is a structural zero."""
    laws = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    if zero is not None:
        laws[(..., *zero)] = 0.0
    return laws / laws.sum(-1, keepdim=True)


def random_parameters(family: Family, width: int, states: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A draw of each parameter, half-way normal in unconstrained coordinates."""
    shape = (width,) if width else ()
    result = {}
    for name, parameter in family.parameters(shape).items():
        transform = biject_to(parameter.constraint)
        full = torch.Size(parameter.shape if parameter.shared else (states, *parameter.shape))
        coordinates = torch.randn(transform.inverse_shape(full), generator=generator, dtype=torch.float64)
        result[name] = transform(0.7 * coordinates)
    return result


def pick(family: Family, width: int, parameters: Mapping[str, Tensor], state: Tensor) -> Any:
    """The family's law at each step; particles and draws stand left of the states."""
    declared = family.parameters((width,) if width else ())
    chosen = {}
    for name, parameter in declared.items():
        value = parameters[name]
        inner = (slice(None),) * len(parameter.shape)
        chosen[name] = value if parameter.shared else Vindex(value)[(..., state, *inner)]
    return family.distribution(**chosen)


def make_problem(
    family: Family,
    width: int = 0,
    *,
    states: int = 2,
    lengths: tuple[int, ...] = (4, 2),
    missing: tuple[int, ...] = (),
    matrices: int | None = None,
    zero: tuple[int, int] | None = None,
    weights: Tensor | None = None,
    seed: int = 0,
) -> Problem:
    """A program in which everything varies that may vary, with values for all of its parameters.

    Args:
        family: of the observations.
        width: number of columns; 0 is one that is no vector.
        states: K.
        lengths: of the sequences.
        missing: steps that are masked.
        matrices: S, with a random transition_index; None is a homogeneous chain.
        zero: a structural zero of every transition matrix.
        weights: (N,) of the sequences.
        seed: of all of it.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = sum(lengths)
    laws = {
        "initial": random_laws(generator, states),
        "transition": random_laws(generator, *(() if matrices is None else (matrices,)), states, states, zero=zero),
    }
    emission = random_parameters(family, width, states, generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        truth = torch.randint(states, (steps,))
        values = pick(family, width, emission, truth).expand(torch.Size([steps])).sample()
    index = None if matrices is None else torch.randint(matrices, (steps,), generator=generator)
    mask = torch.ones(steps, dtype=torch.bool)
    mask[list(missing)] = False
    allowed = torch.ones_like(laws["transition"])
    if zero is not None:
        allowed[(..., *zero)] = 0.0
    priors = family.priors(values)

    def program() -> Tensor:
        initial = pyro.sample("initial", pyro.distributions.Dirichlet(torch.full((states,), 1.5).double()))
        transition = pyro.sample("transition", SparseDirichlet(1.5 * allowed).to_event(allowed.dim() - 2))
        drawn = {}
        for name, parameter in family.parameters((width,) if width else ()).items():
            prior = priors[name] if parameter.shared else priors[name].expand([states]).to_event(1)
            drawn[name] = pyro.sample(name, prior)
        chain = MarkovChain(initial, transition, list(lengths), transition_index=index, weights=weights)
        state = pyro.sample("state", chain)
        with pyro.plate("step", steps), poutine.mask(mask=mask):
            return pyro.sample("y", pick(family, width, drawn, state), obs=values)

    parameters = {name: value.clone().requires_grad_() for name, value in (laws | emission).items()}
    return Problem(program, parameters, list(lengths), states)


@pytest.fixture(params=FAMILIES)
def family(request) -> tuple[Family, int]:
    """Every family, with its number of columns."""
    return FAMILIES[request.param]


@pytest.fixture(name="make_problem")
def _make_problem() -> Callable[..., Problem]:
    return make_problem


@pytest.fixture(name="sum_over_paths")
def _sum_over_paths() -> Callable[..., Paths]:
    return sum_over_paths


@pytest.fixture(name="log_joint")
def _log_joint() -> Callable[..., Tensor]:
    return log_joint


@pytest.fixture(name="random_laws")
def _random_laws() -> Callable[..., Tensor]:
    return random_laws
