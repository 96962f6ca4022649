"""The hidden Markov model: a frozen description whose `program` is a readable Pyro program with named priors.

    z_1 ~ initial,  z_{t+1} | z_t ~ transition[z_t],  x_t | z_t = k ~ Family(parameters of state k)

(Rabiner 1989). The description holds no data and no parameters; parameters are a plain dict of tensors named after
the program's sites: `initial` (C,), those of the transition law (`transition` (K, K), mostly), and the family's own,
state first. Where the next state or the observation depends on the last m states, the chain's values are codes of
those, C = K^m of them (`chains.composite`); every answer is in states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from probseq.chains.composite import digits
from probseq.chains.initial_laws import FreeInitial, InitialLaw
from probseq.chains.matrix_laws import FreeTransitions
from probseq.chains.remembering import forgetting, remembering_chain, remembering_stationary, require_memory
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import StateSequence, weighted_sum
from probseq.chains.transition_laws import TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Family, Parameter
from probseq.models.coordinates import ModelCoordinates
from probseq.models.emission_step import ExpectedCounts, check, emission_data, observations, observed_rows
from probseq.models.fixed import (
    as_fixed,
    check_fixed,
    count_fixed,
    maximise_around,
    maximise_moves,
    overlay,
    whole,
    without,
)
from probseq.models.knowledge import check_labels, know, labelled_rows
from probseq.models.naming import double_states, ordered_parameters
from probseq.models.starts import start_parameters
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]

_CHECKED: WeakKeyDictionary[Sequences, list[Family]] = WeakKeyDictionary()
"""The families that each series in use has been checked for."""


@dataclass(frozen=True)
class HMM:
    """A hidden Markov model of K states with one emission family.

    Args:
        states: K, at least 1.
        emission: the family of the observations, such as `families.Hurdle(families.Gamma())`.
        initial: what is said of the first state: `FreeInitial`, `StationaryInitial` or `FixedInitial`.
        transition: what is said of the moves: `FreeTransitions`, `StickyTransitions`, `LeftRightTransitions`,
            `ForbiddenTransitions`, `TiedTransitions`, `FixedTransitions`, `ProductTransitions`, or any other
            `chains.TransitionLaw`.
        priors: one state's prior for each emission parameter to override; the others are weakly informative, on the
            data's scale.
        fixed: parameters that are given, by name, each whole (of all states) with NaN where an entry is free.

    >>> from probseq import families
    >>> HMM(states=2, emission=families.Poisson()).n_parameters()
    5
    """

    states: int
    emission: Family
    initial: InitialLaw = field(default_factory=FreeInitial)
    transition: TransitionLaw = field(default_factory=FreeTransitions)
    priors: Mapping[str, TorchDistributionMixin] = field(default_factory=dict)
    fixed: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fixed", as_fixed(self.fixed))
        if not isinstance(self.states, int) or self.states < 1:
            raise ModelError(f"states must be an integer of at least 1, got {self.states!r}; choose 2 or more regimes.")
        if not isinstance(self.emission, Family):
            raise ModelError(
                f"emission must be a family, got {self.emission!r}; pass one such as families.Gaussian(), or "
                "families.by_name('gaussian')."
            )
        require_memory(self.transition, self.memory)

    @cached_property
    def memory(self) -> int:
        """m, how many last states the chain's values hold."""
        return max(self.transition.order, self.emission.memory)

    @cached_property
    def codes(self) -> int:
        """C = K^m, the number of values of the chain."""
        return self.states**self.memory

    @property
    def designed(self) -> bool:
        """Whether moves or observations depend on covariates or seasons."""
        return bool(self.transition.design or self.emission.context.design)

    # ---- the program -----------------------------------------------------------------------------------------------

    def program(self, series: Sequences) -> Tensor:
        """The model as a Pyro program; `marginalize(model.program)` sums its states out.

        Args:
            series: the observations; steps without a score are masked. Under `pyro.poutine.uncondition` they are drawn.

        Returns:
            (T, *event) the observations.
        """
        if self.fixed:
            check_fixed(self.all_declared(_event_shape(series)), self.fixed, self.states, self.transition)
        known = whole(self.fixed)  # what is given in every entry is no site
        with poutine.block(hide=list(known)), poutine.condition(data=known):
            moves = overlay(self.transition.sample(self.states), self._moves, self.fixed)
            first = {"initial": self.initial.sample(self.codes, lambda: self.stationary(moves))}
            initial = overlay(first, self.initial.parameters(self.codes), self.fixed)["initial"]
            parameters = {name: pyro.sample(name, prior) for name, prior in self.parameter_priors(series).items()}
        parameters = overlay(parameters, self.emission.parameters(_event_shape(series)), self.fixed)
        state = pyro.sample("state", self._chain(initial, moves, series))
        data = emission_data(self.emission, series)
        emission = self.emission_at(parameters, state, data.context)
        with pyro.plate("step", series.total_steps), poutine.mask(mask=data.scored):  # pyright: ignore[reportArgumentType]
            observed = pyro.sample("y", emission, obs=observations(self.emission, series))
        if series.labels is not None:
            know(series, digits(state, self.states, self.memory)[0], self.states)
        return observed

    def parameter_priors(self, series: Sequences) -> dict[str, TorchDistributionMixin]:
        """The prior of each emission parameter over all states; the state is an event dim."""
        declared = self.emission.parameters(_event_shape(series))
        missing = [name for name in declared if name not in self.priors]
        single = self.emission.priors(observed_rows(self.emission, series)) if missing else {}
        result = {}
        for name, parameter in declared.items():
            prior = self.priors.get(name, single.get(name))
            assert prior is not None
            result[name] = prior if parameter.shared else prior.expand([self.states]).to_event(1)
        return result

    def emission_at(
        self, parameters: Mapping[str, Tensor], state: Tensor, context: Tensor | None = None
    ) -> TorchDistributionMixin:
        """The law of the observation at each step given its state; also under enumerated and vectorised states.

        Args:
            parameters: the emission's, state first; vectorised particles further left.
            state: (..., T) values of the chain or, enumerated, (C, ..., 1).
            context: (T, W - D) what stands beside each observation, for a family that asks for it.
        """
        last = digits(state, self.states, self.memory)[: self.emission.memory]
        return self.emission.emission(parameters, last, context)

    # ---- answers for given parameters ------------------------------------------------------------------------------

    def chain(self, parameters: Mapping[str, Tensor], series: Sequences) -> StateSequence:
        """The law of the hidden path; draws of the parameters are a leading dim."""
        initial = parameters["initial"]
        if initial.dim() == 1:
            return self._chain(initial, parameters, series)
        moves = {name: parameters[name].unsqueeze(-1 - len(one.shape)) for name, one in self._moves.items()}
        return self._chain(initial.unsqueeze(-2), moves, series)

    def log_table(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """(..., R, K^f) nats: log-likelihood of each distinct row of the series; zero for the missing row.

        The columns are states or, of a family that remembers, codes of the last f states.
        """
        return emission_data(self.emission, series).log_table(self.emission_parameters(parameters))

    def posterior(self, parameters: Mapping[str, Tensor], series: Sequences) -> StatePosterior:
        """Filtered, smoothed, Viterbi and sampled paths of a series."""
        if self.emission.event_shape_of(parameters) != _event_shape(series):
            raise ModelError(
                f"A series must have as many columns as the one that was fitted, got {len(series.columns)} "
                f"({', '.join(series.columns)}); choose the same columns."
            )
        table, index = self.scores(parameters, series, by_sums=True)
        found = self.chain(parameters, series).posterior(table, index)
        return found if self.memory == 1 else found.remembering(self.memory)

    def log_prob(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """(..., N) nats: log p(x_n), not weighted."""
        return self.posterior(parameters, series).log_evidence

    def mean_moves(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """(K, K) chances of the moves between states; where they vary, what is expected given the series."""
        if self.memory == 1 and not self.transition.design:
            return self.transition.tables(parameters, series)[0].squeeze(-3)
        moves = self.posterior(parameters, series).expected_transitions.sum(-3)
        return moves / moves.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)

    # ---- maximum likelihood and maximum a posteriori ---------------------------------------------------------------

    def bind(self, series: Sequences, with_priors: bool = False) -> HMM:
        """The model with all that it takes from the data filled in, the data having been checked.

        Args:
            series: the data to fit.
            with_priors: fix the priors on the scale of this series, so that parts of it see the same ones.
        """
        categories = None if series.categories is None else len(series.categories)
        bound = replace(self, emission=self.emission.bind(observed_rows(self.emission, series), categories))
        bound.check(series)
        check_fixed(bound.all_declared(_event_shape(series)), bound.fixed, self.states, self.transition)
        if not with_priors:
            return bound
        unknown = set(bound.priors) - set(bound.emission.parameters(_event_shape(series)))
        if unknown:
            names = ", ".join(bound.emission.parameters(_event_shape(series)))
            raise ModelError(f"priors must name parameters of {self.emission.name}, {names}, got {sorted(unknown)}.")
        return replace(bound, priors=bound.emission.priors(observed_rows(bound.emission, series)) | dict(bound.priors))

    def check(self, series: Sequences) -> None:
        """Refuse data that the emission family cannot have produced; a series is looked at once."""
        check_labels(series, self.states)
        passed = _CHECKED.setdefault(series, [])
        if self.emission in passed:
            return
        check(self.emission, series)
        passed.append(self.emission)

    def start(self, series: Sequences, attempt: int, seed: int) -> Parameters:
        """Parameters to start from; attempt 0 is deterministic, see `probseq.models.starts`."""
        return self.complete(start_parameters(self, series, attempt, seed))

    def complete(self, parameters: Mapping[str, Tensor]) -> Parameters:
        """With what the program computes or knows instead of sampling it: fixed moves, a stationary first state."""
        if self.fixed:
            given = {**whole(self.fixed), **parameters}
            parameters = overlay(given, self.all_declared(self.emission.event_shape_of(given)), self.fixed)
        moves = {name: parameters[name] for name in self._moves}
        moves |= {name: parameters.get(name, value) for name, value in self.transition.known(self.states).items()}
        if "initial" in parameters and not (self.fixed and self.initial.follows_moves):
            initial = parameters["initial"]
        else:
            initial = self.initial.sample(self.codes, lambda: self.stationary(moves))
        return {"initial": initial, **moves, **self.emission_parameters(parameters)}

    def expect(self, parameters: Mapping[str, Tensor], series: Sequences, by_sums: bool = True) -> ExpectedCounts:
        """E-step: exact expected counts (Baum et al. 1970).

        Args:
            parameters: where to expect them.
            series: the data.
            by_sums: let an exponential family have sums in place of the counts of every row.
        """
        table, index = self.scores(parameters, series, by_sums)
        chain = self.chain(parameters, series).expected(table, index, series.weights)
        data, counts = emission_data(self.emission, series), chain.emission
        size = self.states**self.emission.memory
        if size != self.codes:
            counts = counts.reshape(len(counts), -1, size).sum(1)
        labels = labelled_rows(data, series, self.states)
        emission = data.counts(counts, index) if labels is None else data.counts(labels.counts(counts), None)
        return ExpectedCounts(float(weighted_sum(chain.evidence, series.weights)), chain, emission)

    def maximise(
        self, parameters: Mapping[str, Tensor], counts: ExpectedCounts, priors: bool, series: Sequences
    ) -> Parameters:
        """M-step: closed form where the family has one, numerical otherwise; never lowers the objective.

        Args:
            parameters: those of the E-step.
            counts: of the E-step.
            priors: add the model's log priors (maximum a posteriori); bind them first.
            series: the data.
        """
        current = self.emission_parameters(parameters)
        data, given = emission_data(self.emission, series), self.priors if priors else None
        fixed = {name: self.fixed[name] for name in self._emission_names if name in self.fixed}
        if fixed:
            declared = self.declared(current)
            emission = maximise_around(data, counts.emission, current, given, declared, fixed)
        else:
            emission = data.maximise(counts.emission, current, given)
        if emission is None:
            emission = data.maximise(self.expect(parameters, series, by_sums=False).emission, current, given)
            assert emission is not None
        together = self.initial.follows_moves
        chain = forgetting(counts.chain, self.states, self.transition.order, self.memory, together)
        learn = self.transition.maximise_stationary if together else self.transition.maximise
        moves = learn(chain, parameters, priors, series)
        known = {name: self.fixed[name] for name in self._moves if name in self.fixed}
        if known:
            moves = maximise_moves(self.transition, chain, [moves, parameters], priors, series, together, known)
        initial = self.initial.maximise(counts.chain.initial, lambda: self.stationary(moves), priors)
        if "initial" in self.fixed:
            initial = overlay({"initial": initial}, self.initial.parameters(self.codes), self.fixed)["initial"]
        return {"initial": initial, **moves, **emission}

    def log_prior(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """(...) nats: log density of the program's priors at these parameters (draws lead); differentiable."""
        priors, known = self.parameter_priors(series), whole(self.fixed)
        draws = parameters["initial"].shape[:-1]
        if self.fixed:
            means = {name: priors[name].mean for name in self.fixed if name in priors}
            parameters = without(parameters, self.learned(parameters), self.fixed, means)
        total = torch.zeros(draws, dtype=torch.float64)
        if not self._moves.keys() <= known.keys():  # what is given in every entry is no site
            total = total + self.transition.log_prior(parameters)
        if "initial" not in known:
            total = total + self.initial.log_prior(parameters["initial"])
        for name in priors.keys() - known.keys():
            total = total + priors[name].log_prob(parameters[name]).reshape(*draws, -1).sum(-1)
        return total

    def log_joint(self, parameters: Mapping[str, Tensor], series: Sequences, priors: bool) -> Tensor:
        """() nats: weighted log-likelihood, plus the log prior where asked; twice differentiable in the parameters."""
        table, index = self.scores(parameters, series, by_sums=True)
        evidence = self.chain(parameters, series).evidence(torch.as_tensor(table), index)
        total = weighted_sum(evidence, series.weights)
        return total + self.log_prior(parameters, series) if priors else total

    def coordinates(self, parameters: Mapping[str, Tensor]) -> ModelCoordinates:
        """The unconstrained coordinates of the model around given parameters."""
        return ModelCoordinates(self, parameters)

    def learned(self, parameters: Mapping[str, Tensor]) -> dict[str, Parameter]:
        """Every parameter that is learned, at least in part, with its constraint, for observations of this shape."""
        declared = self.all_declared(self.emission.event_shape_of({**whole(self.fixed), **parameters}))
        return {name: one for name, one in declared.items() if name not in whole(self.fixed)}

    def all_declared(self, event_shape: tuple[int, ...]) -> dict[str, Parameter]:
        """Every parameter that is not known by the structure, for observations of this shape."""
        emission = self.emission.parameters(event_shape)
        return {**self._moves, **self.initial.parameters(self.codes), **emission}

    def declared(self, parameters: Mapping[str, Tensor]) -> dict[str, Parameter]:
        """The emission's parameters as the family declares them for observations of this shape."""
        return self.emission.parameters(self.emission.event_shape_of(parameters))

    def degenerate(self, parameters: Mapping[str, Tensor], series: Sequences) -> str | None:
        """Why a fitted state is no usable law, or the double of another, in plain words; None where all are well."""
        double = None if series.labels is not None else double_states(self, parameters)
        if double is not None:
            return f"states {double[0]} and {double[1]} are the same; a start must tell them apart"
        rows = emission_data(self.emission, series).rows
        return self.emission.degenerate(self.emission_parameters(parameters), rows)

    def ordered(self, parameters: Parameters, series: Sequences) -> Parameters:
        """The same model with its states by ascending mean, where neither structure nor labels name them."""
        return ordered_parameters(self, parameters, series)

    def n_parameters(self, event_shape: tuple[int, ...] = ()) -> int:
        """Free parameters, for AIC and BIC."""
        return (
            self.initial.n_parameters(self.codes)
            + self.transition.n_parameters(self.states)
            + self.emission.n_parameters(self.states, event_shape)
            - count_fixed(lambda: self.all_declared(event_shape), self.fixed, self.states, self.transition)
        )

    # ---- parts -----------------------------------------------------------------------------------------------------

    def emission_parameters(self, parameters: Mapping[str, Tensor]) -> Parameters:
        """The family's own among all parameters."""
        return {name: parameters[name] for name in self._emission_names}

    @cached_property
    def _emission_names(self) -> tuple[str, ...]:
        return tuple(self.emission.parameters((1,) * self.emission.event_dim))

    @cached_property
    def _moves(self) -> dict[str, Parameter]:
        """What the transition law learns."""
        return self.transition.parameters(self.states)

    def scores(
        self, parameters: Mapping[str, Tensor], series: Sequences, by_sums: bool
    ) -> tuple[Tensor | np.ndarray, np.ndarray | None]:
        """The table (..., R, C) that the chain is scored with, and its index; see `EmissionData.scores`."""
        data = emission_data(self.emission, series)
        labels = labelled_rows(data, series, self.states)
        table, index = data.scores(self.emission_parameters(parameters), by_sums and labels is None and not self.fixed)
        repeats = self.codes // table.shape[-1]
        if repeats > 1:  # an older state of the code makes no difference to the family
            table = torch.as_tensor(table).repeat((1,) * (table.ndim - 1) + (repeats,))
        return (table, index) if labels is None else (labels.table(torch.as_tensor(table)), labels.index)

    def _chain(self, initial: Tensor, moves: Mapping[str, Tensor], series: Sequences) -> StateSequence:
        return remembering_chain(self.transition, initial, moves, series, self.states, self.memory)

    def stationary(self, moves: Mapping[str, Tensor]) -> Tensor:
        """(..., C) the stationary law of the chain with these moves."""
        return remembering_stationary(self.transition, moves, self.states, self.memory)


def _event_shape(series: Sequences) -> tuple[int, ...]:
    return tuple(series.values.shape[1:])
