"""The feature table: every chain with every family, against the sum over all paths (or all segmentations).

`pytest tests/chains/test_feature_table.py -v` prints it, a cell a line. In each cell two sequences of 4 and 2 steps,
one step of them missing, have

- log p(x_n) equal to the logarithm of the sum over all paths of p(path) p(x | path), where the law of the path is
  written out in `path_laws` and that of the observations is the program's own, state by state and step by step
  (`tests/families` holds it against scipy);
- a gradient of `log_joint` in the model's unconstrained coordinates equal to the central difference of that sum, in a
  direction drawn at random, so that an error in any coordinate shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import biject_to

from probseq import HMM, ModelError, Season, Sequences, families
from probseq.chains import (
    FixedTransitions,
    ForbiddenTransitions,
    FreeDurations,
    Geometric,
    HigherOrderTransitions,
    LeftRightTransitions,
    LogitTransitions,
    ProductTransitions,
    SemiMarkovTransitions,
    ShiftedNegativeBinomial,
    ShiftedPoisson,
    StationaryInitial,
    StickyTransitions,
    TiedTransitions,
)
from probseq.design import Design
from probseq.families import Family
from tests.chains import path_laws as by_hand
from tests.chains.path_laws import LONGEST, Numbers, PathLaw
from tests.every_family import FAMILIES

LENGTHS, MISSING = (4, 2), 2
STEPS = sum(LENGTHS)
NAN = float("nan")
COVARIATE = np.array([0.5, -1.0, 0.3, 1.2, -0.4, 0.8])
PHASE = 2 * np.pi * np.array([0, 1, 2, 0, 0, 1]) / 3  # of a season of three steps, from the start of each sequence
DESIGN_ROWS = np.stack([np.ones(STEPS), COVARIATE, np.cos(PHASE), np.sin(PHASE)], 1)
COVARIATES, SEASON = Design(("a",)), Design(seasons=(Season(3),))
BOTH = Design(("a",), (Season(3),))


@dataclass(frozen=True)
class Row:
    """A chain, and what is known of it.

    Attributes:
        law: of its paths, by hand.
        options: of the HMM.
        states: K.
        sizes: of its factors.
        series: what is known of the series.
        columns: of the design that its moves depend on.
    """

    law: PathLaw
    options: Mapping[str, Any] = field(default_factory=dict)
    states: int = 2
    sizes: tuple[int, ...] = ()
    series: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[int, ...] = ()


def moves(law: Any, **options: Any) -> dict[str, Any]:
    return {"transition": law, **options}


HARD = torch.tensor([-1, 1, -1, 0, 0, -1])
SOFT = torch.tensor([[1, 1], [0.2, 0.9], [0.5, 0.1], [1, 1], [0, 3], [1, 0.5]], dtype=torch.float64)
GIVEN = ((0.8, 0.2), (0.4, 0.6))
NEGATIVE_BINOMIAL = ShiftedNegativeBinomial(LONGEST)
POISSON = ShiftedPoisson(LONGEST)
TAIL = FreeDurations(2, tail=True)

ROWS = {
    "free": Row(by_hand.markov(by_hand.free)),
    "three-states": Row(by_hand.markov(by_hand.free), states=3),
    "sticky": Row(by_hand.markov(by_hand.free), moves(StickyTransitions())),
    "left-right": Row(by_hand.markov(by_hand.free), moves(LeftRightTransitions()), 3),
    "forbidden": Row(by_hand.markov(by_hand.free), moves(ForbiddenTransitions(((0, 2), (2, 0)))), 3),
    "fixed": Row(by_hand.markov(by_hand.given(*GIVEN)), moves(FixedTransitions(GIVEN))),
    "tied": Row(by_hand.markov(by_hand.tied), moves(TiedTransitions(((0, 1), (1, 0))))),
    "product": Row(by_hand.markov(by_hand.product), moves(ProductTransitions((2, 2))), 4, (2, 2)),
    "covariates": Row(by_hand.markov(by_hand.logit, by_step=True), moves(LogitTransitions(COVARIATES)), columns=(0, 1)),
    "seasonal": Row(by_hand.markov(by_hand.logit, by_step=True), moves(LogitTransitions(SEASON)), columns=(0, 2, 3)),
    "order-2": Row(by_hand.markov(by_hand.free), moves(HigherOrderTransitions(2))),
    "stationary": Row(by_hand.markov(by_hand.free, stationary=True), {"initial": StationaryInitial()}),
    "in-part-fixed": Row(by_hand.markov(by_hand.free), {"fixed": {"transition": [[NAN, 0.3], [NAN, NAN]]}}),
    "labels": Row(by_hand.markov(by_hand.free), series={"labels": HARD}),
    "soft-labels": Row(by_hand.markov(by_hand.free), series={"labels": SOFT}),
    "weights": Row(by_hand.markov(by_hand.free), series={"weights": torch.tensor([2.0, 0.5], dtype=torch.float64)}),
    "semi-geometric": Row(by_hand.semi_markov(by_hand.geometric), moves(SemiMarkovTransitions(Geometric())), 3),
    "semi-poisson": Row(by_hand.semi_markov(by_hand.shifted_poisson), moves(SemiMarkovTransitions(POISSON))),
    "semi-negative-binomial": Row(
        by_hand.semi_markov(by_hand.shifted_negative_binomial), moves(SemiMarkovTransitions(NEGATIVE_BINOMIAL))
    ),
    "semi-free": Row(by_hand.semi_markov(by_hand.free_durations), moves(SemiMarkovTransitions(FreeDurations(LONGEST)))),
    "semi-tail": Row(by_hand.semi_markov(by_hand.free_durations_with_a_tail), moves(SemiMarkovTransitions(TAIL))),
    "semi-in-progress": Row(
        by_hand.semi_markov(by_hand.free_durations_with_a_tail, in_progress=True),
        moves(SemiMarkovTransitions(TAIL, in_progress=True)),
    ),
    "semi-stationary": Row(
        by_hand.semi_markov(by_hand.shifted_poisson, in_progress=True, stationary=True),
        moves(SemiMarkovTransitions(POISSON, in_progress=True), initial=StationaryInitial()),
    ),
    "semi-labels": Row(
        by_hand.semi_markov(by_hand.shifted_poisson),
        moves(SemiMarkovTransitions(POISSON)),
        series={"labels": HARD},
    ),
}

COLUMNS: dict[str, tuple[Family | Callable[[Row], Family], int]] = {
    **FAMILIES,
    "hurdle-negative-binomial": (families.Hurdle(families.NegativeBinomial()), 0),
    "zero-inflated-negative-binomial": (families.ZeroInflated(families.NegativeBinomial()), 0),
    "independent-hurdle-gamma": (families.Independent(families.Hurdle(families.Gamma())), 2),
    "independent-bernoulli": (families.Independent(families.Bernoulli()), 3),
    "factorial-gaussian": (lambda row: families.FactorialGaussian(row.sizes or (row.states,)), 0),
    "autoregression": (families.Autoregression(2), 0),
    "deviation-autoregression": (families.DeviationAutoregression(1), 0),
    "context-categorical": (families.ContextCategorical(1, 3), 0),
    "regression-gaussian": (families.Regression(families.Gaussian(), BOTH), 0),
    "regression-poisson": (families.Regression(families.Poisson(), BOTH), 0),
    "regression-hurdle-gamma": (families.Regression(families.Hurdle(families.Gamma()), BOTH, ("nonzero", "rate")), 0),
    "regression-categorical": (families.Regression(families.Categorical(3), BOTH), 0),
}


# ---- a cell --------------------------------------------------------------------------------------------------------


def drawn_parameters(family: Family, width: int, states: int) -> dict[str, Tensor]:
    """A draw of each parameter, half-way normal in unconstrained coordinates."""
    generator, found = torch.Generator().manual_seed(3), {}
    for name, parameter in family.parameters((width,) if width else ()).items():
        transform = biject_to(parameter.constraint)
        full = torch.Size(parameter.shape if parameter.shared else (states, *parameter.shape))
        coordinates = torch.randn(transform.inverse_shape(full), generator=generator, dtype=torch.float64)
        found[name] = transform(0.7 * coordinates)
    return found


def drawn_values(family: Family, width: int, parameters: Mapping[str, Tensor], states: int) -> Tensor:
    """(T, *event) from the law of states drawn at random, all that stands before a step being zero."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        path = tuple(torch.randint(states, (STEPS,)) for _ in range(family.memory))
        values = family.emission(parameters, path, context_of(family, torch.zeros(STEPS))).sample()
    return values.expand(STEPS, *((width,) if width else ()))


def context_of(family: Family, values: Tensor) -> Tensor | None:
    """(T, W - 1) what stands beside each observation: the ones before it, or its row of the design."""
    if family.context.lags:
        before = torch.zeros(STEPS, family.context.lags, dtype=torch.float64)
        for t, lag in itertools.product(range(STEPS), range(1, family.context.lags + 1)):
            before[t, lag - 1] = values[max(t - lag, 0)]
        return before
    return torch.from_numpy(DESIGN_ROWS) if family.context.design else None


def scored(family: Family) -> np.ndarray:
    """(T,) whether a step has all that its law needs."""
    starts = np.repeat(np.cumsum([0, *LENGTHS[:-1]]), LENGTHS)
    back = range(family.context.lags + 1)
    return np.array([all(t - n >= starts[t] and t - n != MISSING for n in back) for t in range(STEPS)])


@dataclass(frozen=True)
class Cell:
    """A model at a point, and its data."""

    row: Row
    model: HMM
    point: dict[str, Tensor]
    series: Sequences

    @staticmethod
    def make(row: Row, family: Family, width: int) -> Cell:
        emission = drawn_parameters(family, width, row.states)
        values = drawn_values(family, width, emission, row.states)
        observed = torch.ones(values.shape, dtype=torch.bool)
        observed[MISSING] = False
        covariates = {"covariates": torch.from_numpy(COVARIATE[:, None]), "covariate_names": ("a",)}
        series = Sequences(values, torch.tensor(LENGTHS), observed=observed, **covariates, **row.series)
        model = HMM(row.states, family, **row.options)
        generator = torch.Generator().manual_seed(5)
        jitter = torch.rand(row.states, row.states, generator=generator, dtype=torch.float64) + 0.1
        first = torch.rand(model.codes, generator=generator, dtype=torch.float64) + 0.1
        stay = torch.rand(row.states, generator=generator, dtype=torch.float64)
        chain = model.transition.start(row.states, stay, jitter, series)
        given = {} if model.initial.follows_moves else {"initial": first / first.sum()}
        return Cell(row, model, model.complete({**given, **chain, **emission}), series)

    def by_paths(self, point: Mapping[str, Tensor]) -> np.ndarray:
        """(N,) nats: the logarithm of the sum over all paths of each sequence."""
        family, numbers = self.model.emission, {name: value.numpy() for name, value in point.items()}
        context, score = context_of(family, self.series.values), scored(family)
        table = np.empty((STEPS, self.row.states**family.memory))
        for code in range(table.shape[1]):
            path = [code // self.row.states**back % self.row.states for back in range(family.memory)]
            law = family.emission(point, tuple(torch.full((STEPS,), state) for state in path), context)
            table[:, code] = np.where(score, law.log_prob(self.series.values).expand(STEPS).numpy(), 0.0)
        parts = np.split(table, np.cumsum(LENGTHS)[:-1])
        starts = np.cumsum([0, *LENGTHS[:-1]])
        return np.array([self._sum(numbers, part, start) for part, start in zip(parts, starts, strict=True)])

    def _sum(self, numbers: Numbers, table: np.ndarray, start: int) -> float:
        memory, states, length = self.model.memory, self.row.states, len(table)
        paths = every_path(states, length + memory - 1)
        total = self.row.law(numbers, paths, memory, DESIGN_ROWS[start : start + length, self.row.columns])
        for t in range(length):
            now = t + memory - 1
            code = sum(paths[:, now - back] * states**back for back in range(self.model.emission.memory))
            total = total + table[t, code]
            if self.series.labels is not None:
                total = total + log_known(self.series.labels[start + t], paths[:, now])
        return float(np.logaddexp.reduce(total))


@cache
def every_path(states: int, steps: int) -> np.ndarray:
    return np.array(list(itertools.product(range(states), repeat=steps)), dtype=np.int64)


def log_known(label: Tensor, state: np.ndarray) -> np.ndarray:
    """(P,) nats: what the label says of each state."""
    with np.errstate(divide="ignore"):
        if label.ndim:
            return np.log(label.numpy()[state])
        return np.log((state == int(label)).astype(float)) if label >= 0 else np.zeros(len(state))


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_cell(row: str, column: str) -> None:
    chain, (family, width) = ROWS[row], COLUMNS[column]
    family = family if isinstance(family, Family) else family(chain)
    if family.memory > 1 and isinstance(chain.options.get("transition"), SemiMarkovTransitions):
        with pytest.raises(ModelError, match="must have moves between single steps"):
            HMM(chain.states, family, **chain.options)
        return
    cell = Cell.make(chain, family, width)
    coordinates = cell.model.coordinates(cell.point)
    generator = torch.Generator().manual_seed(6)
    first = coordinates.pack()
    here = first + 0.3 * torch.randn(len(first), generator=generator, dtype=torch.float64)
    direction = torch.randn(len(first), generator=generator, dtype=torch.float64)
    point = coordinates.unpack(here)
    expected = cell.by_paths(point)
    assert np.isfinite(expected).all()
    # sums of 4^4 paths at most, of logarithms of order 10: a few hundred roundings of 1e-16
    np.testing.assert_allclose(cell.model.log_prob(point, cell.series), expected, rtol=1e-11, atol=1e-11)
    weights = np.ones(2) if cell.series.weights is None else cell.series.weights.numpy()
    u = here.clone().requires_grad_()
    joint = cell.model.log_joint(coordinates.unpack(u), cell.series, priors=False)
    assert float(joint.detach()) == pytest.approx(float(weights @ expected), rel=1e-11, abs=1e-11)
    if len(first):
        (gradient,) = torch.autograd.grad(joint, u)
        step = 1e-5 * direction
        above, below = (weights @ cell.by_paths(coordinates.unpack(here + sign * step)) for sign in (1, -1))
        # the central difference errs by 1e-10 / 6 of the third derivative, and by roundings of 1e-13 / 1e-5
        assert float(gradient @ direction) == pytest.approx((above - below) / 2e-5, rel=1e-6, abs=1e-6)
