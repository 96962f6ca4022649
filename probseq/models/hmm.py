"""The hidden Markov model: a frozen description whose `program` is a readable Pyro program with named priors.

    z_1 ~ initial,  z_{t+1} | z_t ~ transition[z_t],  x_t | z_t = k ~ Family(parameters of state k)

(Rabiner 1989). The description holds no data and no parameters; parameters are a plain dict of tensors named after
the program's sites: `initial` (K,), `transition` (K, K), and the family's own, state first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor

from probseq import kernels
from probseq.chains.initial_laws import FreeInitial, InitialLaw, StationaryInitial
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import weighted_sum
from probseq.chains.transition_laws import FreeTransitions, TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Family, Parameter
from probseq.models.coordinates import Coordinates
from probseq.models.emission_step import EmissionCounts, emission_data
from probseq.models.starts import start_parameters
from probseq.models.stationary_step import maximise_stationary
from probseq.places import step_place
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]

_CHECKED: WeakKeyDictionary[Sequences, list[Family]] = WeakKeyDictionary()
"""The families that each series in use has been checked for."""


@dataclass(frozen=True, eq=False)
class ExpectedCounts:
    """What an M-step needs to know of the data.

    Args:
        log_likelihood: nats, weighted sum over sequences, at the parameters of the E-step.
        initial: (K,) expected number of sequences that start in each state.
        transition: (K, K) expected number of moves.
        emission: of the observations.
    """

    log_likelihood: float
    initial: Tensor
    transition: Tensor
    emission: EmissionCounts


@dataclass(frozen=True)
class HMM:
    """A hidden Markov model of K states with one emission family.

    Args:
        states: K, at least 1.
        emission: the family of the observations, such as `families.Hurdle(families.Gamma())`.
        initial: what is said of the first state: `FreeInitial`, `StationaryInitial` or `FixedInitial`.
        transition: what is said of the moves: `FreeTransitions`, `StickyTransitions`, `LeftRightTransitions`,
            `ForbiddenTransitions` or `FixedTransitions`.
        priors: one state's prior for each emission parameter to override; the others are weakly informative, on the
            data's scale.

    >>> from probseq import families
    >>> HMM(states=2, emission=families.Poisson()).n_parameters()
    5
    """

    states: int
    emission: Family
    initial: InitialLaw = field(default_factory=FreeInitial)
    transition: TransitionLaw = field(default_factory=FreeTransitions)
    priors: Mapping[str, TorchDistributionMixin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.states, int) or self.states < 1:
            raise ModelError(f"states must be an integer of at least 1, got {self.states!r}; choose 2 or more regimes.")
        if not isinstance(self.emission, Family):
            raise ModelError(
                f"emission must be a family, got {self.emission!r}; pass one such as families.Gaussian(), or "
                "families.by_name('gaussian')."
            )

    # ---- the program -----------------------------------------------------------------------------------------------

    def program(self, series: Sequences) -> Tensor:
        """The model as a Pyro program; `marginalize(model.program)` sums its states out.

        Args:
            series: the observations; missing steps are masked. Under `pyro.poutine.uncondition` they are drawn.

        Returns:
            (T, *event) the observations.
        """
        transition = self.transition.sample(self.states)
        initial = self.initial.sample(self.states, transition)
        parameters = {name: pyro.sample(name, prior) for name, prior in self.parameter_priors(series).items()}
        state = pyro.sample("state", MarkovChain(initial, transition, series.lengths, weights=series.weights))
        emission = self.emission_at(parameters, state)
        with pyro.plate("step", series.total_steps), poutine.mask(mask=series.step_observed):  # pyright: ignore[reportArgumentType]
            return pyro.sample("y", emission, obs=self._observations(series))

    def parameter_priors(self, series: Sequences) -> dict[str, TorchDistributionMixin]:
        """The prior of each emission parameter over all states; the state is an event dim."""
        declared = self.emission.parameters(_event_shape(series))
        missing = [name for name in declared if name not in self.priors]
        single = self.emission.priors(_observed_rows(series)) if missing else {}
        result = {}
        for name, parameter in declared.items():
            prior = self.priors.get(name, single.get(name))
            assert prior is not None
            result[name] = prior if parameter.shared else prior.expand([self.states]).to_event(1)
        return result

    def emission_at(self, parameters: Mapping[str, Tensor], state: Tensor) -> TorchDistributionMixin:
        """The law of the observation at each step given its state; also under enumerated and vectorised states.

        Args:
            parameters: the emission's, state first; vectorised particles further left.
            state: (..., T) or, enumerated, (K, ..., 1).
        """
        declared = self.declared(parameters)
        chosen = {}
        for name, parameter in declared.items():
            value, inner = parameters[name], (slice(None),) * len(parameter.shape)
            chosen[name] = value if parameter.shared else Vindex(value)[(..., state, *inner)]
        return self.emission.distribution(**chosen)

    # ---- answers for given parameters ------------------------------------------------------------------------------

    def chain(self, parameters: Mapping[str, Tensor], series: Sequences) -> MarkovChain:
        """The law of the hidden path; draws of the parameters are a leading dim."""
        initial, transition = parameters["initial"], parameters["transition"]
        if initial.dim() > 1:
            initial, transition = initial.unsqueeze(-2), transition.unsqueeze(-3)
        return MarkovChain(initial, transition, series.lengths, weights=series.weights, validate_args=False)

    def log_table(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """(..., R, K) nats: log-likelihood of each distinct row of the series; zero for the missing row."""
        return emission_data(self.emission, series).log_table(self._emission_parameters(parameters))

    def posterior(self, parameters: Mapping[str, Tensor], series: Sequences) -> StatePosterior:
        """Filtered, smoothed, Viterbi and sampled paths of a series."""
        if self._event_shape_of(self._emission_parameters(parameters)) != _event_shape(series):
            raise ModelError(
                f"A series must have as many columns as the one that was fitted, got {len(series.columns)} "
                f"({', '.join(series.columns)}); choose the same columns."
            )
        return StatePosterior(tuple(parameters["initial"].shape[:-1]), self._kernel_arguments(parameters, series))

    def log_prob(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """(..., N) nats: log p(x_n), not weighted."""
        return self.posterior(parameters, series).log_evidence

    # ---- maximum likelihood and maximum a posteriori ---------------------------------------------------------------

    def bind(self, series: Sequences, with_priors: bool = False) -> HMM:
        """The model with all that it takes from the data filled in, the data having been checked.

        Args:
            series: the data to fit.
            with_priors: fix the priors on the scale of this series, so that parts of it see the same ones.
        """
        categories = None if series.categories is None else len(series.categories)
        bound = replace(self, emission=self.emission.bind(_observed_rows(series), categories))
        bound.check(series)
        if not with_priors:
            return bound
        known = set(bound.priors)
        unknown = known - set(bound.emission.parameters(_event_shape(series)))
        if unknown:
            names = ", ".join(bound.emission.parameters(_event_shape(series)))
            raise ModelError(f"priors must name parameters of {self.emission.name}, {names}, got {sorted(unknown)}.")
        return replace(bound, priors=bound.emission.priors(_observed_rows(series)) | dict(bound.priors))

    def check(self, series: Sequences) -> None:
        """Refuse data that the emission family cannot have produced; a series is looked at once."""
        passed = _CHECKED.setdefault(series, [])
        if self.emission in passed:
            return
        self.emission.check(series.values, series.observed, columns=series.columns, where=step_place(series))
        passed.append(self.emission)

    def start(self, series: Sequences, attempt: int, seed: int) -> Parameters:
        """Parameters to start from; attempt 0 is deterministic, see `probseq.models.starts`."""
        return start_parameters(self, series, attempt, seed)

    def complete(self, parameters: Mapping[str, Tensor]) -> Parameters:
        """With `initial` and `transition` added where the program computes or knows them instead of sampling."""
        transition = parameters["transition"] if "transition" in parameters else self.transition.sample(self.states)
        initial = parameters["initial"] if "initial" in parameters else self.initial.sample(self.states, transition)
        return {"initial": initial, "transition": transition, **self._emission_parameters(parameters)}

    def expect(self, parameters: Mapping[str, Tensor], series: Sequences, by_sums: bool = True) -> ExpectedCounts:
        """E-step: exact expected counts (Baum et al. 1970).

        Args:
            parameters: where to expect them.
            series: the data.
            by_sums: let an exponential family have sums in place of the counts of every row.
        """
        weights = None if series.weights is None else series.weights.numpy()[None]
        arguments = self._kernel_arguments(parameters, series, by_sums)
        counts = kernels.expected_counts(**arguments, weights=weights)
        emission = emission_data(self.emission, series).counts(counts.emission[0], arguments["emission_index"])
        log_likelihood = weighted_sum(torch.from_numpy(counts.evidence[0]), series.weights)
        return ExpectedCounts(
            float(log_likelihood),
            torch.from_numpy(counts.initial[0].sum(0)),
            torch.from_numpy(counts.transition[0, 0]),
            emission,
        )

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
        current = self._emission_parameters(parameters)
        data, given = emission_data(self.emission, series), self.priors if priors else None
        emission = data.maximise(counts.emission, current, given)
        if emission is None:
            emission = data.maximise(self.expect(parameters, series, by_sums=False).emission, current, given)
            assert emission is not None
        transition = self.transition.maximise(counts.transition, parameters["transition"], priors)
        if isinstance(self.initial, StationaryInitial):
            concentration = self.transition.concentration(self.states)
            transition = maximise_stationary(
                counts.initial, counts.transition, parameters["transition"], transition, concentration, priors
            )
        initial = self.initial.maximise(counts.initial, transition, priors)
        return {"initial": initial, "transition": transition, **emission}

    def log_prior(self, parameters: Mapping[str, Tensor], series: Sequences) -> Tensor:
        """() nats: log density of the priors of the program at these parameters; differentiable."""
        total = self.transition.log_prior(parameters["transition"]) + self.initial.log_prior(parameters["initial"])
        for name, prior in self.parameter_priors(series).items():
            total = total + prior.log_prob(parameters[name]).sum()
        return total

    def log_joint(self, parameters: Mapping[str, Tensor], series: Sequences, priors: bool) -> Tensor:
        """() nats: weighted log-likelihood, plus the log prior where asked; twice differentiable in the parameters."""
        data = emission_data(self.emission, series)
        table, index = data.scores(self._emission_parameters(parameters))
        evidence = self.chain(parameters, series).evidence(torch.as_tensor(table), index)
        total = weighted_sum(evidence, series.weights)
        return total + self.log_prior(parameters, series) if priors else total

    def coordinates(self, parameters: Mapping[str, Tensor]) -> Coordinates:
        """The unconstrained coordinates of the model around given parameters."""
        return Coordinates(self, parameters)

    def declared(self, parameters: Mapping[str, Tensor]) -> dict[str, Parameter]:
        """The emission's parameters as the family declares them for observations of this shape."""
        return self.emission.parameters(self._event_shape_of(parameters))

    def degenerate(self, parameters: Mapping[str, Tensor], series: Sequences) -> str | None:
        """Why a fitted state is no usable law, or the double of another, in plain words; None where all are well."""
        double = self._double(parameters)
        if double is not None:
            return f"states {double[0]} and {double[1]} are the same; a start must tell them apart"
        return self.emission.degenerate(self._emission_parameters(parameters), series.distinct().rows)

    def ordered(self, parameters: Parameters, series: Sequences) -> Parameters:
        """The same model with its states by ascending mean, where the structure does not name them."""
        if not (self.transition.exchangeable and self.initial.exchangeable) or self.states == 1:
            return parameters
        emission = self._emission_parameters(parameters)
        order = torch.argsort(self.emission.mean(emission).reshape(self.states, -1)[:, 0], stable=True)
        declared = self.emission.parameters(_event_shape(series))
        return {
            "initial": parameters["initial"][order],
            "transition": parameters["transition"][order][:, order],
            **{name: value if declared[name].shared else value[order] for name, value in emission.items()},
        }

    def n_parameters(self, event_shape: tuple[int, ...] = ()) -> int:
        """Free parameters, for AIC and BIC."""
        return (
            self.initial.n_parameters(self.states)
            + self.transition.n_parameters(self.states)
            + self.emission.n_parameters(self.states, event_shape)
        )

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _double(self, parameters: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Two states with the same emission and the same moves: a saddle that EM cannot leave, because it treats
        both alike."""
        declared = self.declared(self._emission_parameters(parameters))
        own = [parameters[name].reshape(self.states, -1) for name, spec in declared.items() if not spec.shared]
        if self.states == 1 or not own or not self.transition.exchangeable:
            return None
        rows = torch.cat(own, -1)
        for i in range(self.states):
            for j in range(i):
                if bool(torch.isclose(rows[i], rows[j], rtol=1e-9, atol=0.0).all()):
                    return j, i
        return None

    def _kernel_arguments(
        self, parameters: Mapping[str, Tensor], series: Sequences, by_sums: bool = True
    ) -> dict[str, Any]:
        """What `probseq.kernels` takes; numpy, because small series are made of overhead."""
        states, data = self.states, emission_data(self.emission, series)
        table, index = data.scores(self._emission_parameters(parameters), by_sums)
        table = table if isinstance(table, np.ndarray) else table.detach().numpy()
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant
            return {
                "log_initial": np.log(parameters["initial"].detach().numpy()).reshape(-1, 1, states),
                "log_transition": np.log(parameters["transition"].detach().numpy()).reshape(-1, 1, states, states),
                "log_table": table.reshape(-1, *table.shape[-2:]),
                "offsets": series.offsets.numpy(),
                "emission_index": index,
                "transition_index": None,
            }

    def _emission_parameters(self, parameters: Mapping[str, Tensor]) -> Parameters:
        return {name: value for name, value in parameters.items() if name not in ("initial", "transition")}

    def _event_shape_of(self, parameters: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The shape of one observation, which only families of vectors need: all of these have a (D, ...) parameter."""
        if self.emission.event_dim == 0:
            return ()
        declared = self.emission.parameters((1,)).items()
        name, parameter = next((name, parameter) for name, parameter in declared if parameter.shape)
        return (int(parameters[name].shape[-len(parameter.shape)]),)

    def _observations(self, series: Sequences) -> Tensor:
        return series.values if series.values.is_floating_point() else series.values.to(torch.float64)


def _event_shape(series: Sequences) -> tuple[int, ...]:
    return tuple(series.values.shape[1:])


def _observed_rows(series: Sequences) -> Tensor:
    """(., *event) the values that were measured."""
    return series.values if series.observed is None else series.values[series.step_observed]
