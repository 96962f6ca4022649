"""Relabelling against names that are known, and against every permutation of tiny cases."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from probseq import HMM, DataError, Design, MarkovChain, ModelError, Sequences, datasets, families
from probseq.chains import (
    FixedInitial,
    FixedTransitions,
    ForbiddenTransitions,
    FreeDurations,
    HigherOrderTransitions,
    LeftRightTransitions,
    LogitTransitions,
    SemiMarkovTransitions,
    ShiftedPoisson,
    StationaryInitial,
    StickyTransitions,
)
from probseq.design import Season
from probseq.diagnostics import (
    Relabelled,
    relabel_by,
    relabel_ecr,
    relabel_ecr_iterative,
    relabel_pivotal,
    relabel_stephens,
)
from probseq.inference import Fit, gibbs
from probseq.models.point import mean_of_draws
from probseq.models.program import ProgramModel
from probseq.models.renaming import renaming
from tests.diagnostics.conftest import concentrated, made_fit, renamed

RATES = torch.tensor([2.0, 8.0, 20.0], dtype=torch.float64)
MOVES = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]], dtype=torch.float64)
POINT = {"initial": torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), "transition": MOVES, "rate": RATES}
PERMUTATIONS = torch.tensor(list(itertools.permutations(range(3))))

WAYS: dict[str, Callable[[Fit], Relabelled]] = {
    "ecr": relabel_ecr,
    "ecr iterative": relabel_ecr_iterative,
    "stephens": relabel_stephens,
    "pivotal": relabel_pivotal,
    "by rate": lambda fit: relabel_by(fit, "rate"),
    "by stay": lambda fit: relabel_by(fit, lambda draw: draw["rate"].log()),
}


def program(series: Sequences) -> None:
    """Poisson counts of three states, written by a user; `mood` has three numbers that are no states."""
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(3, dtype=torch.float64)))
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(3, 3, dtype=torch.float64)).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(torch.ones(3, dtype=torch.float64), 0.1).to_event(1))
    state = pyro.sample("state", MarkovChain(initial, transition, series.lengths))
    with pyro.plate("step", series.total_steps):
        pyro.sample("y", dist.Poisson(rate[state]), obs=series.values)


def simulated(steps: int, seed: int = 3) -> Sequences:
    """Counts of the three states in turn."""
    generator = torch.Generator().manual_seed(seed)
    states = (torch.arange(steps) // 5) % 3
    return Sequences.from_arrays([torch.poisson(RATES[states], generator=generator)])


def shuffled(draws: int, seed: int = 5) -> Tensor:
    """(S, 3) permutations."""
    chosen = torch.randint(6, (draws,), generator=torch.Generator().manual_seed(seed))
    chosen[0] = 0  # the point keeps its names
    return PERMUTATIONS[chosen]


def three_states(draws: int = 400, chains: int = 1, spread: float = 0.04) -> Fit:
    series = simulated(60)
    model = HMM(3, families.Poisson()).bind(series, with_priors=True)
    return made_fit(model, series, concentrated(POINT, draws, spread), chains)


def by_program(draws: int = 200) -> Fit:
    series = simulated(60)
    return made_fit(ProgramModel(program).bind(series), series, concentrated(POINT, draws, 0.04))


@pytest.mark.parametrize("make", [three_states, by_program])
@pytest.mark.parametrize("way", WAYS)
def test_known_names_come_back(way: str, make: Callable[[], Fit]) -> None:
    """The draws as they were, to the last bit, whatever their names had been."""
    fit = make()
    found = WAYS[way](renamed(fit, shuffled(fit.n_draws)))
    assert torch.equal(found.permutations, shuffled(fit.n_draws).argsort(-1))
    for name, value in fit.draws.items():
        assert torch.equal(found.fit.draws[name], value)
    assert found.fit.sampling is not None and found.fit.sampling.relabelled
    assert found.unresolved == ()
    assert 0.6 < found.renamed < 0.9  # five in six had other names


def test_chains_that_disagreed_agree_after(request: pytest.FixtureRequest) -> None:
    """Chains of different names: R-hat above 1.5 before and below 1.01 after; the point is the mean of one model."""
    fit = three_states(draws=2000, chains=4)
    by_chain = PERMUTATIONS[torch.tensor([0, 2, 3, 5])].repeat_interleave(500, 0)
    mixed = renamed(fit, by_chain)
    found = relabel_stephens(mixed)
    rates = found.convergence.filter(like="rate", axis=0)
    assert (rates["rhat_before"] > 1.5).all() and (found.convergence["rhat_after"] < 1.01).all()
    assert rates["split_before"].all() and not found.convergence["split_after"].any()
    assert (found.convergence["ess_bulk_after"] > 1000).all()
    assert torch.allclose(found.fit.parameters["rate"], fit.draws["rate"].mean(0))
    expected = float(fit.model.log_prob(found.fit.parameters, fit.data()).sum())
    assert found.fit.log_likelihood == pytest.approx(expected, rel=1e-12)


def test_gibbs_chains_with_names_of_their_own() -> None:
    """Three kinds of earthquake years: the sampler's chains name them otherwise, and agree when that is put right."""
    fit = gibbs(HMM(3, families.Poisson()), datasets.earthquakes(), draws=1000, thin=2, seed=0)
    found = relabel_ecr_iterative(fit)
    assert found.convergence["rhat_before"].max() > 1.5 and found.convergence["rhat_after"].max() < 1.01
    assert found.renamed > 0.2 and found.unresolved == ()
    # 13.1, 19.7 and 29.7 a year is the likeliest model (Zucchini, MacDonald & Langrock 2016, table 3.1)
    assert found.fit.parameters["rate"].tolist() == pytest.approx([13.1, 19.7, 29.7], rel=0.05)


def test_modes_that_are_no_renaming_are_named() -> None:
    fit = three_states(draws=400, chains=4)
    draws = {name: value.clone() for name, value in fit.draws.items()}
    draws["rate"][:200, 2] *= 1.5
    with pytest.warns(UserWarning, match=r"left several modes in rate\[2\] \(R-hat"):
        found = relabel_ecr(replace(fit, draws=draws))
    assert found.unresolved == ("rate[2]",)


def test_a_given_path_names_the_states() -> None:
    fit = three_states()
    path = fit.posterior(fit.data()).viterbi
    found = relabel_ecr(fit, pivot=torch.tensor([2, 0, 1])[path])
    assert found.permutations.unique(dim=0).tolist() == [[1, 2, 0]]
    with pytest.raises(DataError, match="pivot must give each of the 60 steps a state of 0..2"):
        relabel_ecr(fit, pivot=path + 1)


# ---- every permutation of tiny cases ---------------------------------------------------------------------------------


@pytest.fixture(name="tiny")
def _tiny() -> Iterator[Fit]:
    """Five vague draws, so that no answer is plain to see."""
    series = Sequences.from_arrays([[3.0, 9.0, 18.0, 2.0, 7.0]])
    model = HMM(3, families.Poisson()).bind(series, with_priors=True)
    fit = made_fit(model, series, concentrated(POINT, 4, 0.9, seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four draws agree on nothing
        yield fit


def each_smoothed(fit: Fit) -> list[Tensor]:
    return [
        fit.model.posterior({name: value[s] for name, value in fit.draws.items()}, fit.data()).smoothed
        for s in range(fit.n_draws)
    ]


def test_ecr_is_the_best_of_all_permutations(tiny: Fit) -> None:
    pivot = fit_path = tiny.posterior(tiny.data()).local
    if bool((tiny.parameters["rate"].diff() < 0).any()):  # named by ascending mean
        pivot = tiny.parameters["rate"].argsort().argsort()[fit_path]
    found = relabel_ecr(tiny)
    for s, smoothed in enumerate(each_smoothed(tiny)):
        agreement = [float(smoothed[torch.arange(5), order[pivot]].sum()) for order in PERMUTATIONS]
        best = PERMUTATIONS[int(torch.tensor(agreement).argmax())]
        assert torch.equal(found.permutations[s], best)


def test_stephens_is_the_best_of_all_permutations(tiny: Fit) -> None:
    smoothed = each_smoothed(tiny)

    def divergence(orders: tuple[Tensor, ...]) -> float:
        named = torch.stack([one[:, order] for one, order in zip(smoothed, orders, strict=True)])
        return float((named * (named / named.mean(0)).log()).sum())

    choices = itertools.product(PERMUTATIONS, repeat=tiny.n_draws - 1)
    best = min(divergence((PERMUTATIONS[0], *rest)) for rest in choices)
    found = relabel_stephens(tiny)
    assert divergence(tuple(found.permutations)) == pytest.approx(best, rel=1e-12)


def test_pivotal_is_the_best_of_all_permutations(tiny: Fit) -> None:
    stay = tiny.draws["transition"].diagonal(dim1=1, dim2=2)
    marks = torch.stack([tiny.draws["rate"], stay], -1)
    pivot = marks[0][tiny.draws["rate"][0].argsort()]
    everything = torch.cat([pivot.unsqueeze(0), marks])
    scale = everything.sort(1).values.var(0, correction=0).mean(0).sqrt()  # the pivot counts as a draw
    found = relabel_pivotal(tiny)
    for s in range(tiny.n_draws):
        distance = [float(((marks[s][order] - pivot) / scale).square().sum()) for order in PERMUTATIONS]
        assert torch.equal(found.permutations[s], PERMUTATIONS[int(torch.tensor(distance).argmin())])


def test_the_answer_is_the_same_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing kept, two draws a block."""
    fit = renamed(three_states(), shuffled(400))
    whole = relabel_stephens(fit).permutations
    monkeypatch.setattr("probseq.diagnostics.state_probabilities.KEPT", 0)
    monkeypatch.setattr("probseq.diagnostics.state_probabilities.BLOCK", 400)
    assert torch.equal(relabel_stephens(fit).permutations, whole)


def test_states_that_are_impossible_somewhere() -> None:
    """Probabilities of zero, in the average too: log 0 is met and is no trouble."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2] * 10, dtype=torch.uint8)
    series = Sequences(labels, torch.tensor([60]), categories=("a", "b", "c"))
    model = HMM(3, families.Categorical()).bind(series)
    point = {name: POINT[name] for name in ("initial", "transition")}
    draws = concentrated(point, 200, 0.04) | {"probabilities": torch.eye(3).double().expand(200, 3, 3).clone()}
    fit = made_fit(model, series, draws)
    found = relabel_stephens(renamed(fit, shuffled(200)))
    assert torch.equal(found.fit.draws["probabilities"], draws["probabilities"])


# ---- which models ----------------------------------------------------------------------------------------------------

SEASON = Design(seasons=(Season(period=6),))
MODELS = {
    "sticky": HMM(3, families.Gaussian(), transition=StickyTransitions()),
    "stationary": HMM(3, families.Gaussian(), initial=StationaryInitial()),
    "second order": HMM(3, families.Gaussian(), transition=HigherOrderTransitions(2)),
    "logit": HMM(3, families.Gaussian(), transition=LogitTransitions(SEASON)),
    "semi-Markov": HMM(3, families.Gaussian(), transition=SemiMarkovTransitions(ShiftedPoisson(9))),
    "free durations": HMM(3, families.Gaussian(), transition=SemiMarkovTransitions(FreeDurations(5))),
    "autoregression": HMM(3, families.Autoregression(2, shared=("scale",))),
    "deviations": HMM(2, families.DeviationAutoregression(1)),
    "von mises": HMM(3, families.VonMises()),
    "mixture": HMM(2, families.Mixture(families.Gaussian(), 3)),
    "regression": HMM(3, families.Regression(families.Gaussian(), SEASON)),
    "tied": HMM(3, families.MultivariateGaussian("tied")),
    "full": HMM(3, families.MultivariateGaussian()),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_exchangeable_model(name: str) -> None:
    """Each draw keeps its likelihood under other names, and the mean of the draws is a set of parameters."""
    generator = torch.Generator().manual_seed(0)
    columns = 2 if MODELS[name].emission.event_dim else 1
    values = torch.randn(40, columns, generator=generator, dtype=torch.float64).squeeze(-1)
    series = Sequences.from_arrays([values[:25], values[25:]])
    model = MODELS[name].bind(series, with_priors=True)
    each = [model.start(series, attempt, 0) for attempt in range(4)]
    draws = {site: torch.stack([one[site] for one in each]) for site in each[0]}
    names = renaming(model, each[0], series)
    size = model.states
    orders = torch.stack([torch.randperm(size, generator=generator) for _ in range(4)])
    moved = names.apply_each(draws, orders)
    likelihood = model.log_prob(draws, series)
    assert torch.allclose(model.log_prob(moved, series), likelihood, rtol=1e-10)  # the same sums in another order
    back = names.apply_each(moved, orders.argsort(-1))
    assert all(torch.equal(back[site], draws[site]) for site in draws)
    point = mean_of_draws(model, draws, series)
    assert bool(torch.isfinite(model.log_prob(point, series)).all())
    for site, declared in model.learned(point).items():
        assert bool(declared.constraint.check(point[site]).all())
    if model.initial.follows_moves:
        assert torch.allclose(point["initial"] @ point["transition"], point["initial"])


def test_angles_have_a_mean_direction() -> None:
    series = Sequences.from_arrays([[0.1, 6.2, 3.0, 3.2]])
    model = HMM(2, families.VonMises()).bind(series, with_priors=True)
    first = model.start(series, 0, 0)
    draws = {site: torch.stack([value, value]) for site, value in first.items()}
    draws["loc"] = torch.tensor([[0.1, 3.0], [2 * torch.pi - 0.3, 3.2]], dtype=torch.float64)
    point = mean_of_draws(model, draws, series)
    assert point["loc"].tolist() == pytest.approx([2 * torch.pi - 0.1, 3.1])


def twins(series: Sequences) -> None:
    """Two states of vectors with a correlation matrix, whose factors have rows of length one that a mean has not."""
    half = torch.full((2, 2), 0.5, dtype=torch.float64)
    factor = pyro.sample("factor", dist.LKJCholesky(2, 1.0).expand([2]).to_event(1))
    state = pyro.sample("state", MarkovChain(half[0], half, series.lengths))
    with pyro.plate("step", series.total_steps):
        law = dist.MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale_tril=factor.double()[state])
        pyro.sample("y", law, obs=series.values)


def test_the_mean_of_a_program_stays_in_its_support() -> None:
    series = Sequences.from_arrays([torch.eye(2, dtype=torch.float64)])
    model = ProgramModel(twins).bind(series)
    angles = torch.tensor([[0.2, -0.9], [1.0, 0.4]], dtype=torch.float64)
    rows = torch.stack([torch.ones_like(angles), torch.zeros_like(angles), angles.sin(), angles.cos()], -1)
    point = mean_of_draws(model, {"factor": rows.reshape(2, 2, 2, 2)}, series)
    assert torch.allclose(point["factor"].square().sum(-1), torch.ones(2, 2).double())
    assert point["factor"][0, 1, 0] > angles[:, 0].min().sin()


@pytest.mark.parametrize(
    ("model", "culprit"),
    [
        (HMM(2, families.Poisson(), transition=LeftRightTransitions()), "LeftRightTransitions"),
        (HMM(2, families.Poisson(), transition=ForbiddenTransitions(((0, 0),))), "ForbiddenTransitions"),
        (HMM(2, families.Poisson(), transition=FixedTransitions(((0.9, 0.1), (0.1, 0.9)))), "FixedTransitions"),
        (HMM(2, families.Poisson(), initial=FixedInitial((0.5, 0.5))), "FixedInitial"),
        (HMM(2, families.Poisson(), fixed={"rate": torch.tensor([1.0, torch.nan])}), "the fixed rate"),
    ],
)
def test_states_that_have_names_are_refused(model: HMM, culprit: str) -> None:
    series = Sequences.from_arrays([[1.0, 4.0, 2.0, 7.0]])
    model = model.bind(series, with_priors=True)
    with pytest.raises(ModelError, match=f"told apart by {culprit}; its draws need no relabelling"):
        renaming(model, model.start(series, 0, 0), series)


def test_labels_and_priors_name_states_too() -> None:
    series = Sequences.from_arrays([[1.0, 4.0, 2.0, 7.0]], labels=[[0, -1, -1, 1]])
    model = HMM(2, families.Poisson()).bind(series, with_priors=True)
    with pytest.raises(ModelError, match="told apart by the labels of the series"):
        renaming(model, model.start(series, 0, 0), series)
    free = series.unlabelled()
    apart = HMM(2, families.Poisson(), priors={"rate": dist.Gamma(torch.tensor([1.0, 9.0]).double(), 1.0)}).bind(free)
    with pytest.raises(ModelError, match="priors that differ between states name them"):
        renaming(apart, apart.start(free, 0, 0), free)


# ---- a user's program ------------------------------------------------------------------------------------------------


def symbols(series: Sequences) -> None:
    """As many symbols as states, so that the axes of `chances` cannot be told apart by their length."""
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(2, dtype=torch.float64)))
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(2, 2, dtype=torch.float64)).to_event(1))
    chances = pyro.sample("chances", dist.Dirichlet(torch.ones(2, 2, dtype=torch.float64)).to_event(1))
    state = pyro.sample("state", MarkovChain(initial, transition, series.lengths))
    with pyro.plate("step", series.total_steps):
        pyro.sample("y", dist.Categorical(chances[state]), obs=series.values.long())


def test_axes_that_are_no_states_are_found_out() -> None:
    series = Sequences.from_arrays([[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    model = ProgramModel(symbols).bind(series)
    half = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    point = {"initial": half[0], "transition": half, "chances": torch.tensor([[0.2, 0.8], [0.6, 0.4]]).double()}
    fit = made_fit(model, series, {name: value.expand(10, *value.shape).clone() for name, value in point.items()})
    with pytest.raises(ModelError, match=r"give states=\{...\}, the axes that are states"):
        relabel_ecr(fit)
    given = {"initial": (0,), "transition": (0, 1), "chances": (0,)}
    found = relabel_pivotal(fit, states=given)
    assert torch.equal(found.fit.draws["chances"], fit.draws["chances"])
    with pytest.raises(ModelError, match=r"got \(1,\) at 'initial' of shape \(2,\)"):
        relabel_ecr(fit, states=given | {"initial": (1,)})
    with pytest.raises(ModelError, match="correct states="):
        relabel_ecr(fit, states=given | {"transition": (0,)})


def test_misuse_is_refused() -> None:
    fit = three_states()
    with pytest.raises(ModelError, match="for a user's own program only"):
        relabel_ecr(fit, states={"rate": (0,)})
    with pytest.raises(DataError, match="with the series that was fitted"):
        relabel_ecr(fit, simulated(60, seed=9))
    with pytest.raises(ModelError, match="parameter must be one of initial, transition, rate, got 'mean'"):
        relabel_by(fit, "mean")
    with pytest.raises(ModelError, match=r"one number for each of the 3 states, got shape \(3, 3\)"):
        relabel_by(fit, "transition")
