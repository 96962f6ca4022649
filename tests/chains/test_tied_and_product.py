"""Tied moves and products of chains: their matrices, M-steps and whole fits, by means that know nothing of the code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy.optimize import minimize
from torch import Tensor

from probseq import HMM, MarkovChain, ModelError, Sequences, families, marginalize, posterior, stationary_law
from probseq.chains import (
    ChainCounts,
    FixedTransitions,
    FreeInitial,
    ProductTransitions,
    StationaryInitial,
    StickyTransitions,
    TiedTransitions,
    TransitionLaw,
)
from probseq.inference import Fit, em

CIRCLE = ((0, 1, 2), (2, 0, 1), (1, 2, 0))
MIXED = ((7, 7, 3, -1), (3, 7, 7, -1), (0, 0, 0, 5), (-1, 5, 5, 0))
LAWS = {
    "circle": (TiedTransitions(CIRCLE), 3, 2),
    "mixed": (TiedTransitions(MIXED, prior=1.5), 4, 1 + 1 + 1),
    "product": (ProductTransitions((2, 2)), 4, 2 + 2),
    "sticky product": (ProductTransitions((2, 3), StickyTransitions(extra=3.0)), 6, 2 + 6),
    "product of known": (ProductTransitions((2, 2), FixedTransitions(((0.9, 0.1), (0.2, 0.8)))), 4, 0),
}
NONE = torch.zeros(0, dtype=torch.float64)
SERIES = Sequences.from_arrays([np.array([0.0, 4, 2, 9, 14, 3]), np.array([2.0, 11, 12, 1])])


def point(law: TransitionLaw, states: int, seed: int = 0) -> dict[str, Tensor]:
    """Parameters from the prior."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return law.sample(states)


def counted(states: int, seed: int = 0) -> ChainCounts:
    moves = torch.rand((1, states, states), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ChainCounts(NONE, torch.zeros(states, dtype=torch.float64), 20.0 * moves, NONE)


def test_a_tied_matrix_has_the_pattern():
    """Equal labels in a row share, rows of the same labels are alike, -1 never happens; rows sum to one."""
    matrix = LAWS["mixed"][0].tables(point(LAWS["mixed"][0], 4), None)[0][0]
    torch.testing.assert_close(matrix.sum(-1), torch.ones(4, dtype=torch.float64))
    for a, b in itertools.combinations(np.ndindex(4, 4), 2):
        labels = MIXED[a[0]][a[1]], MIXED[b[0]][b[1]]
        alike = a[0] == b[0] or {a[0], b[0]} == {0, 1}  # rows 0 and 1 both hold 7, 7, 3
        if alike and labels[0] == labels[1]:
            assert float(matrix[a]) == float(matrix[b])
    assert [float(matrix[i]) for i in ((0, 3), (1, 3), (3, 0))] == [0.0] * 3
    assert len({round(float(matrix[2, 3]), 9), round(float(matrix[3, 1]) * 2, 9)}) == 2  # other counts of the labels


def test_a_product_is_the_product_of_the_moves_of_its_parts():
    law = ProductTransitions((2, 3))
    parameters = point(law, 6)
    matrix = law.tables(parameters, None)[0][0]
    first, second = parameters["transition_0"], parameters["transition_1"]
    for i, k, j, m in itertools.product(range(2), range(3), range(2), range(3)):
        assert float(matrix[i + 2 * k, j + 2 * m]) == pytest.approx(float(first[i, j] * second[k, m]), rel=1e-14)
    own = [law.digit(n).law(law.stationary(parameters)) for n in range(2)]
    torch.testing.assert_close(own, [stationary_law(first), stationary_law(second)])


@pytest.mark.parametrize("name", LAWS)
def test_draws_of_the_parameters_come_as_leading_dims(name):
    law, states, _ = LAWS[name]
    many = [point(law, states, seed) for seed in range(3)]
    stacked = {key: torch.stack([one[key] for one in many]).unsqueeze(1) for key in many[0]}
    together = law.tables(stacked, None)[0]
    for n, one in enumerate(many):
        single = law.tables(one, None)[0]
        torch.testing.assert_close(together.expand(3, 1, *single.shape)[n, 0], single, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("name", ["circle", "mixed", "product", "sticky product"])
def test_the_m_step_is_the_highest_point(name, with_prior):
    """Against a general optimiser on softmax coordinates of each row of the parameters, zeros left out."""
    law, states, _ = LAWS[name]
    counts, parameters = counted(states), point(law, states)
    found = law.maximise(counts, parameters, with_prior, SERIES)
    sizes = {key: value > 0 for key, value in parameters.items()}

    def objective(values: dict[str, Tensor]) -> float:
        matrix = law.tables(values, None)[0][0]
        total = torch.xlogy(torch.where(matrix > 0, counts.moves[0], 0.0), matrix).sum()
        return float(total + law.log_prior(values)) if with_prior else float(total)

    def unpack(x: np.ndarray) -> dict[str, Tensor]:
        values, at = {}, 0
        for key, free in sizes.items():
            size = int(free.sum())
            logits = torch.full(free.shape, -torch.inf, dtype=torch.float64)
            values[key] = logits.masked_scatter(free, torch.from_numpy(x[at : at + size])).softmax(-1)
            at += size
        return values

    start = np.zeros(sum(int(free.sum()) for free in sizes.values()))
    best = minimize(lambda x: -objective(unpack(x)), start, method="BFGS", options={"gtol": 1e-6})
    # Central differences of step 1e-8 leave the optimum known to about 1e-5 in each coordinate, 1e-9 in value.
    assert objective(found) == pytest.approx(-best.fun, abs=1e-6)
    for key, value in unpack(best.x).items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)


def test_states_that_are_never_left_keep_their_law():
    law = TiedTransitions(((0, 1, 1), (0, 1, 1), (2, 2, 3)))
    parameters, counts = point(law, 3), counted(3)
    counts.moves[0, 2] = 0.0
    found = law.maximise(counts, parameters, False, SERIES)["shares"]
    assert torch.equal(found[1], parameters["shares"][1]) and not torch.equal(found[0], parameters["shares"][0])
    expected = counts.moves[0, :2, 0].sum() / counts.moves[0, :2].sum()
    assert float(found[0, 0]) == pytest.approx(float(expected), rel=1e-14)


@pytest.mark.parametrize("name", LAWS)
def test_prior_start_and_number_of_parameters(name):
    """The prior is that of the program's sites; a start is a law of the same zeros that stays about as asked."""
    law, states, free = LAWS[name]
    parameters = point(law, states)
    trace = poutine.trace(pyro.condition(lambda: law.sample(states), parameters)).get_trace()
    assert float(trace.log_prob_sum()) == pytest.approx(float(law.log_prior(parameters)), abs=1e-12)
    assert law.n_parameters(states) == free and set(law.parameters(states)) | set(law.known(states)) == set(parameters)
    stay = torch.full((states,), 0.8, dtype=torch.float64)
    started = law.start(states, stay, torch.ones((states, states), dtype=torch.float64), SERIES)
    matrix = law.tables(started, None)[0][0]
    torch.testing.assert_close(matrix.sum(-1), torch.ones(states, dtype=torch.float64))
    assert bool(((matrix > 0) == (law.tables(parameters, None)[0][0] > 0)).all())
    if name in ("circle", "product", "sticky product"):
        torch.testing.assert_close(matrix.diagonal(), stay)


@pytest.mark.parametrize("initial", [FreeInitial(), StationaryInitial()], ids=["free", "stationary"])
@pytest.mark.parametrize("name", LAWS)
def test_a_whole_model_learns_with_it(name, initial, tmp_path):
    """The program summed out is the model's own joint, EM never falls, and a fit comes back from disk."""
    law, states, _ = LAWS[name]
    model = HMM(states, families.Poisson(), initial=initial, transition=law).bind(SERIES, with_priors=True)
    parameters = model.start(SERIES, 0, 0)
    joint = model.log_joint(parameters, SERIES, priors=True)
    marginal = pyro.condition(lambda: marginalize(model.program)(SERIES), parameters)  # pyright: ignore
    assert float(poutine.trace(marginal).get_trace().log_prob_sum()) == pytest.approx(float(joint), abs=1e-9)
    fit = em(model, SERIES, priors=True, restarts=1, tolerance=1e-4)
    assert (fit.objective.diff() >= -1e-8 * fit.objective[1:].abs()).all()
    loaded = Fit.load(fit.save(tmp_path / "fit"))
    assert loaded.model.transition == law
    torch.testing.assert_close(loaded.log_prob(SERIES), fit.log_prob(SERIES))


@pytest.mark.parametrize("name", ["mixed", "sticky product"])
def test_first_and_second_derivatives(name):
    """Of the joint of data and parameters, in the model's unconstrained coordinates."""
    law, states, _ = LAWS[name]
    model = HMM(states, families.Poisson(), initial=StationaryInitial(), transition=law)
    model = model.bind(SERIES, with_priors=True)
    coordinates = model.coordinates(model.start(SERIES, 1, 0))

    def joint(u: Tensor) -> Tensor:
        return model.log_joint(coordinates.unpack(u), SERIES, priors=True)

    at = coordinates.pack().requires_grad_()
    assert torch.autograd.gradcheck(joint, at)
    # Along one direction: the whole Hessian by differences takes a second.
    direction = torch.randn(len(at), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda t: joint(at.detach() + t * direction), torch.zeros(()).double().requires_grad_()
    )


def test_a_product_model_is_a_program_of_two_chains():
    """Each factor's posterior in the HMM is that of its own chain in a program whose site looks at both."""
    law = ProductTransitions((2, 3))
    rates = torch.tensor([1.0, 4.0, 2.0, 9.0, 5.0, 15.0], dtype=torch.float64)
    moves = point(law, 6, seed=4)
    parameters = {"initial": law.stationary(moves), "rate": rates, **moves}
    found = HMM(6, families.Poisson(), StationaryInitial(), law).posterior(parameters, SERIES)

    def program():
        state = [
            pyro.sample(f"state{n}", MarkovChain(stationary_law(matrix), matrix, SERIES.lengths))
            for n, matrix in enumerate((moves["transition_0"], moves["transition_1"]))
        ]
        with pyro.plate("step", SERIES.total_steps):
            pyro.sample("y", dist.Poisson(rates[state[0] + 2 * state[1]]), obs=SERIES.values)

    expected = posterior(program)()
    for n in range(2):
        own = found.of(law.digit(n))
        torch.testing.assert_close(own.smoothed, expected[f"state{n}"].smoothed, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(own.viterbi, expected[f"state{n}"].viterbi)
        assert own.sample(3, seed=1).max() < law.sizes[n]
    assert math.isclose(float(found.log_evidence.sum()), float(expected["state0"].log_evidence.sum()), rel_tol=1e-12)


def test_refusals_name_the_remedy():
    for pattern in (((0, 1),), ((0, -2), (0, 1)), ((-1, -1), (0, 1)), ((0, 1), (0,))):
        with pytest.raises(ModelError, match="pattern of tied moves must be square"):
            TiedTransitions(pattern)
    with pytest.raises(ModelError, match="one row a state, 2, got 3"):
        TiedTransitions(CIRCLE).parameters(2)
    with pytest.raises(ModelError, match="sizes must give each factor"):
        ProductTransitions((2, 0))
    with pytest.raises(ModelError, match=r"product of the factors' sizes \(2, 3\), 6, got 5"):
        HMM(5, families.Poisson(), transition=ProductTransitions((2, 3))).n_parameters()
