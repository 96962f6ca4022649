"""The HMM against its own program: the readable one is the reference, the fast answers must be its."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO

from probseq import HMM, DataError, ModelError, Sequences, families, marginalize, posterior
from probseq.chains import FixedInitial, FixedTransitions, ForbiddenTransitions, LeftRightTransitions, StationaryInitial

# Sums of a dozen terms of order one to a hundred, twice.
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def program_scores(case, number: int, states: bool = True):
    """(log-likelihood, log prior) of the marginalised program at one draw."""
    given = pyro.condition(marginalize(case.model.program), case.draw(number))
    trace = poutine.trace(given).get_trace(case.series)
    trace.compute_log_prob()
    likelihood = trace.nodes["state"]["log_prob_sum"]
    return likelihood, trace.log_prob_sum() - likelihood


@pytest.mark.parametrize("weighted", [False, True])
def test_likelihood_and_prior_are_the_programs(make_case, case, weighted):
    if weighted:
        weights = torch.tensor([2.0, 0.0, 0.5], dtype=torch.float64)
        width = 0 if case.series.values.dim() == 1 else 2
        case = make_case(case.model.emission, width, weights)
    for number in range(4):
        point = case.draw(number)
        likelihood, prior = program_scores(case, number)
        scores = case.model.log_prob(point, case.series)
        assert scores.shape == (3,)
        total = (scores * (1.0 if case.series.weights is None else case.series.weights)).sum()
        torch.testing.assert_close(total, likelihood, **EXACT)
        torch.testing.assert_close(case.model.log_prior(point, case.series), prior, **EXACT)
        for priors in (False, True):
            joint = case.model.log_joint(point, case.series, priors)
            torch.testing.assert_close(joint, likelihood + prior if priors else likelihood, **EXACT)
        counts = case.model.expect(point, case.series)
        assert counts.log_likelihood == pytest.approx(float(likelihood), abs=1e-9)


def test_draws_at_once_are_draws_one_by_one(case):
    """Scores, posteriors and the vectorised program of four draws."""
    singles = [case.model.posterior(case.draw(number), case.series) for number in range(4)]
    together = case.model.posterior(case.draws, case.series)
    for name in ("log_evidence", "predictive_log_prob", "smoothed", "filtered", "viterbi_log_prob", "pairwise"):
        expected = torch.stack([getattr(one, name) for one in singles])
        torch.testing.assert_close(getattr(together, name), expected, **EXACT)
    assert torch.equal(together.viterbi, torch.stack([one.viterbi for one in singles]))

    def guide(series):
        for name, value in case.draws.items():
            pyro.sample(name, dist.Delta(value.unsqueeze(1), event_dim=value.dim() - 1))

    elbo = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    found = -elbo.loss(marginalize(case.model.program), guide, case.series)
    expected = [sum(program_scores(case, number)) for number in range(4)]
    assert found == pytest.approx(float(torch.stack(expected).mean()), rel=1e-10)


def test_posterior_is_that_of_the_program(case):
    point = case.draw(0)
    fast, slow = case.model.posterior(point, case.series), posterior(case.model.program, point)(case.series)["state"]
    for name in ("log_evidence", "predictive_log_prob", "smoothed", "filtered", "viterbi_log_prob", "pairwise"):
        torch.testing.assert_close(getattr(fast, name), getattr(slow, name), **EXACT)
    assert torch.equal(fast.viterbi, slow.viterbi)


def test_expected_counts_are_the_gradient(case):
    """d log p / d log transition by autograd of the program, and by the E-step; likewise the first states."""
    point = case.draw(0)
    logs = {name: point[name].log().requires_grad_() for name in ("initial", "transition")}
    given = pyro.condition(case.model.program, point | {name: value.exp() for name, value in logs.items()})
    with pyro.validation_enabled(False):
        trace = poutine.trace(marginalize(given)).get_trace(case.series)
        trace.compute_log_prob()
    gradient = torch.autograd.grad(trace.nodes["state"]["log_prob_sum"], list(logs.values()))
    counts = case.model.expect(point, case.series, by_sums=False)
    torch.testing.assert_close(counts.chain.initial, gradient[0], **EXACT)
    torch.testing.assert_close(counts.chain.moves[0], gradient[1], **EXACT)
    # Four steps were seen whole and one in part; every one was emitted by some state.
    partly = case.model.emission.partly_missing
    assert float(counts.emission.expected.sum()) == pytest.approx(5.0 if partly else 4.0, abs=1e-10)


def test_the_program_simulates_as_it_stands(case):
    """Unconditioned it draws a path and data of the series' own shape; in Predictive, for each draw of parameters."""
    torch.manual_seed(0)
    free = poutine.uncondition(case.model.program)
    drawn = pyro.condition(free, case.draw(0))(case.series)
    assert drawn.shape == case.series.values.shape
    found = Predictive(free, case.draws, return_sites=["state", "y"])(case.series)
    assert found["state"].reshape(4, 6).max() <= 1
    assert found["y"].reshape(4, *case.series.values.shape).isfinite().all()


def test_prior_predictive_draws_parameters_within_their_support(case):
    torch.manual_seed(0)
    trace = poutine.trace(poutine.uncondition(case.model.program)).get_trace(case.series)
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and name in case.draws:
            assert bool(site["fn"].support.check(site["value"]).all()), name
            assert site["value"].shape == case.draws[name].shape[1:]


def test_a_prior_of_ones_own_is_used():
    own = dist.Gamma(torch.tensor(3.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    model = HMM(2, families.Poisson(), priors={"rate": own})
    series = Sequences.from_arrays([1.0, 5.0, 2.0])
    rate = torch.tensor([1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(model.parameter_priors(series)["rate"].log_prob(rate), own.log_prob(rate).sum())
    with pytest.raises(ModelError, match=r"priors must name parameters of poisson, rate, got \['rates'\]"):
        HMM(2, families.Poisson(), priors={"rates": own}).bind(series, with_priors=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HMM(0, families.Poisson()), "states must be an integer of at least 1, got 0"),
        (lambda: HMM(2.0, families.Poisson()), "states must be an integer"),  # type: ignore[arg-type]
        (lambda: HMM(2, "poisson"), "emission must be a family, got 'poisson'"),  # type: ignore[arg-type]
        (lambda: HMM(2, families.Poisson), "emission must be a family"),  # type: ignore[arg-type]
    ],
)
def test_descriptions_that_are_none(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_data_that_the_family_cannot_have_made():
    with pytest.raises(DataError, match=r"-1.*step 2"):
        HMM(2, families.Poisson()).bind(Sequences.from_arrays([1.0, 0.0, -1.0]))


def test_columns_must_be_those_of_the_parameters(make_case):
    case = make_case(families.MultivariateGaussian("diagonal"), 2)
    with pytest.raises(ModelError, match="as many columns"):
        case.model.posterior(case.draw(0), Sequences.from_arrays(np.zeros((3, 4)) + np.arange(4)))


def test_categories_are_taken_from_the_data():
    series = Sequences(torch.tensor([0, 1, 0], dtype=torch.uint8), torch.tensor([3]), categories=("a", "b", "c", "d"))
    assert HMM(2, families.Categorical()).bind(series).emission == families.Categorical(4)


def test_what_is_computed_is_completed():
    """Sites that the program computes or knows, when only the sampled ones are given."""
    transition = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    rate = {"rate": torch.tensor([1.0, 4.0], dtype=torch.float64)}
    stationary = HMM(2, families.Poisson(), StationaryInitial()).complete({"transition": transition, **rate})
    assert stationary["initial"].tolist() == pytest.approx([0.75, 0.25], abs=1e-12)
    fixed = HMM(2, families.Poisson(), FixedInitial((1.0, 0.0)), FixedTransitions(((0.5, 0.5), (0.1, 0.9))))
    completed = fixed.complete(rate)
    assert completed["initial"].tolist() == [1.0, 0.0] and completed["transition"].tolist() == [[0.5, 0.5], [0.1, 0.9]]
    assert list(completed) == ["initial", "transition", "rate"]


# ---- coordinates ---------------------------------------------------------------------------------------------------

STRUCTURES = [
    HMM(3, families.Poisson()),
    HMM(3, families.Poisson(), StationaryInitial()),
    HMM(3, families.Poisson(), FixedInitial((1.0, 0.0, 0.0)), LeftRightTransitions()),
    HMM(3, families.Poisson(), transition=ForbiddenTransitions(((0, 2),))),
    HMM(2, families.Poisson(), FixedInitial((0.5, 0.5)), FixedTransitions(((0.5, 0.5), (0.1, 0.9)))),
]


@pytest.mark.parametrize("model", STRUCTURES, ids=range(5))
def test_coordinates_go_and_come(model):
    """A round trip, with the zeros kept, and moved coordinates still in the model."""
    series = Sequences.from_arrays(np.array([1.0, 4.0, 2.0, 9.0, 3.0, 12.0, 1.0]))
    point = model.start(series, 0, 0)
    coordinates = model.coordinates(point)
    packed = coordinates.pack()
    for name, value in coordinates.unpack(packed).items():
        torch.testing.assert_close(value, point[name])
    moved = coordinates.unpack(packed + 0.3 * torch.randn(len(packed), dtype=torch.float64))
    for name in ("initial", "transition"):
        torch.testing.assert_close(moved[name].sum(-1), torch.ones_like(moved[name][..., 0]))
    allowed = model.transition.concentration(model.states) > 0
    assert (moved["transition"][~allowed] == 0).all() and (moved["rate"] > 0).all()


def test_coordinates_of_every_family(case):
    for number in range(4):
        coordinates = case.model.coordinates(case.draw(number))
        for name, value in coordinates.unpack(coordinates.pack()).items():
            torch.testing.assert_close(value, case.draw(number)[name], rtol=1e-9, atol=1e-12)


# ---- states by their mean ------------------------------------------------------------------------------------------


def test_ordering_moves_every_parameter_alike(case):
    """The likelihood knows nothing of labels; ordering twice changes nothing more."""
    point = case.draw(1)
    ordered = case.model.ordered(point, case.series)
    flipped = {
        name: value if case.model.declared(point).get(name) is not None and case.model.declared(point)[name].shared else
        value.flip(0).flip(1) if name == "transition" else value.flip(0)
        for name, value in point.items()
    }  # fmt: skip
    torch.testing.assert_close(case.model.log_prob(ordered, case.series), case.model.log_prob(point, case.series))
    for name, value in case.model.ordered(flipped, case.series).items():
        torch.testing.assert_close(value, ordered[name])
    for name, value in case.model.ordered(ordered, case.series).items():
        assert torch.equal(value, ordered[name])


@pytest.mark.parametrize(
    "options", [{"transition": LeftRightTransitions()}, {"initial": FixedInitial((0.0, 1.0))}], ids=["moves", "first"]
)
def test_states_that_have_names_are_not_reordered(options):
    model = HMM(2, families.Poisson(), **options)
    point = {
        "initial": torch.tensor([0.0, 1.0], dtype=torch.float64),
        "transition": torch.tensor([[0.9, 0.1], [0.0, 1.0]], dtype=torch.float64),
        "rate": torch.tensor([9.0, 1.0], dtype=torch.float64),
    }
    assert model.ordered(point, Sequences.from_arrays([1.0, 9.0]))["rate"].tolist() == [9.0, 1.0]


def test_degenerate_states_are_named():
    series = Sequences.from_arrays(np.random.default_rng(0).normal(size=30))
    point = {
        "initial": torch.tensor([0.5, 0.5], dtype=torch.float64),
        "transition": torch.full((2, 2), 0.5, dtype=torch.float64),
        "loc": torch.tensor([0.0, 1.0], dtype=torch.float64),
        "scale": torch.tensor([1.0, 1e-12], dtype=torch.float64),
    }
    model = HMM(2, families.Gaussian()).bind(series)
    assert "state 1" in (model.degenerate(point, series) or "")
    assert model.degenerate(point | {"scale": torch.tensor([1.0, 0.5]).double()}, series) is None
    twins = point | {"loc": torch.zeros(2).double(), "scale": torch.ones(2).double()}
    assert "states 0 and 1 are the same" in (model.degenerate(twins, series) or "")


def test_all_pairs_of_a_small_hmm_by_hand():
    """Two states, two steps, four paths: nothing but multiplication."""
    model, series = HMM(2, families.Bernoulli()), Sequences.from_arrays([1.0, 0.0])
    point = {
        "initial": torch.tensor([0.3, 0.7], dtype=torch.float64),
        "transition": torch.tensor([[0.6, 0.4], [0.1, 0.9]], dtype=torch.float64),
        "probability": torch.tensor([0.2, 0.9], dtype=torch.float64),
    }
    emit = ((0.8, 0.2), (0.1, 0.9))
    chance = {
        (i, j): (0.3, 0.7)[i] * emit[i][1] * point["transition"][i, j].item() * emit[j][0]
        for i, j in itertools.product((0, 1), repeat=2)
    }
    found = model.posterior(point, series)
    assert float(found.log_evidence.exp()) == pytest.approx(sum(chance.values()), rel=1e-12)
    for (i, j), value in chance.items():
        assert float(found.pairwise[0, i, j]) == pytest.approx(value / sum(chance.values()), rel=1e-12)
    assert tuple(found.viterbi.tolist()) == max(chance, key=chance.__getitem__)
