"""Several chains side by side as one: the state is a tuple, each part of which moves by a matrix of its own.

    a_(i,k),(j,l) = A(i, j) B(k, l)

(Ghahramani and Jordan 1997, the factorial hidden Markov model; here its E-step is exact, over the product of the
states.) log a is a sum over the factors, so that the M-step of each is that of a chain alone, from the expected counts
of its own moves. The first factor is the least significant digit of the state (`chains.digits`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import pyro
import torch
from torch import Tensor

from probseq.chains.coupled_chains import kronecker
from probseq.chains.digits import Digit
from probseq.chains.matrix_laws import FreeTransitions, MatrixLaw
from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.chains.state_sequence import ChainCounts
from probseq.chains.transition_laws import Parameters, TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences


@dataclass(frozen=True)
class ProductTransitions(TransitionLaw):
    """Independent chains of given sizes; the HMM's K states are all their tuples.

    The parameters are `transition_0`, `transition_1` .., one matrix a factor. A stationary first state is the product
    of the factors' stationary laws; a free one may be any law of the tuple.

    Args:
        sizes: states of each factor; K is their product.
        factor: the law of each factor's matrix.

    >>> law = ProductTransitions((2, 3))
    >>> law.digit(1).of(torch.arange(6)).tolist()
    [0, 0, 1, 1, 2, 2]
    """

    sizes: tuple[int, ...]
    factor: MatrixLaw = field(default_factory=FreeTransitions)

    def __post_init__(self) -> None:
        sizes = tuple(int(size) for size in self.sizes)
        if not sizes or min(sizes) < 1:
            raise ModelError(f"sizes must give each factor at least one state, got {sizes}; such as (2, 3).")
        object.__setattr__(self, "sizes", sizes)

    def digit(self, number: int) -> Digit:
        """Where a factor's state stands in the state of the HMM: `posterior.of(law.digit(0))` answers for it."""
        return Digit(math.prod(self.sizes[:number]), self.sizes[number])

    def parameters(self, states: int) -> dict[str, Parameter]:
        self._require(states)
        learned = [self.factor.parameters(size) for size in self.sizes]
        return {f"{name}_{n}": one for n, each in enumerate(learned) for name, one in each.items()}

    def structural_zeros(self, states: int) -> dict[str, Tensor]:
        masks = [self.factor.structural_zeros(size) for size in self.sizes]
        return {f"{name}_{n}": mask for n, each in enumerate(masks) for name, mask in each.items()}

    def known(self, states: int) -> dict[str, Tensor]:
        given = [self.factor.known(size) for size in self.sizes]
        return {f"{name}_{n}": value for n, each in enumerate(given) for name, value in each.items()}

    def sample(self, states: int) -> dict[str, Tensor]:
        declared = self.parameters(states)
        laws = {f"transition_{n}": self.factor.concentration(size) for n, size in enumerate(self.sizes)}
        return {name: pyro.sample(name, SparseDirichlet(laws[name])) for name in declared} | self.known(states)

    def log_prior(self, parameters: Parameters) -> Tensor:
        parts = [self.factor.log_prior(self._own(parameters, n)) for n in range(len(self.sizes))]
        return reduce(torch.add, parts)

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        parts = [self.factor.tables(self._own(parameters, n), series)[0] for n in range(len(self.sizes))]
        return reduce(lambda low, high: kronecker(high, low), parts), None

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """In closed form, factor by factor."""
        found = {}
        for n in range(len(self.sizes)):
            own = replace(counts, moves=self.digit(n).moves(counts.moves))
            best = self.factor.maximise(own, self._own(parameters, n), with_prior, series)
            found[f"transition_{n}"] = best["transition"]
        return found

    def maximise_stationary(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        found = super().maximise_stationary(counts, parameters, with_prior, series)
        return found | self.known(math.prod(self.sizes))

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        """Each factor stays so often that all of them together stay as asked."""
        self._require(states)
        found, codes = {}, torch.arange(states)
        for n, size in enumerate(self.sizes):
            own = self.digit(n)
            mine = torch.nn.functional.one_hot(own.of(codes), size).double()
            alone = (stay @ mine / mine.sum(0)) ** (1.0 / len(self.sizes))
            found[f"transition_{n}"] = self.factor.start(size, alone, own.moves(jitter), series)["transition"]
        return found

    def n_parameters(self, states: int) -> int:
        """The sum over the factors."""
        self._require(states)
        return sum(self.factor.n_parameters(size) for size in self.sizes)

    def _own(self, parameters: Parameters, number: int) -> dict[str, Tensor]:
        name = f"transition_{number}"
        return {"transition": parameters[name]} if name in parameters else self.factor.known(self.sizes[number])

    def _require(self, states: int) -> None:
        if math.prod(self.sizes) != states:
            raise ModelError(
                f"The states of a model must be the product of the factors' sizes {self.sizes}, "
                f"{math.prod(self.sizes)}, got {states}; give HMM(states={math.prod(self.sizes)})."
            )
