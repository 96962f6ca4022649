"""p(x_t | all other steps) of whole laws of paths: against sums over all paths, and against series without the step."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from probseq import HMM, DataError, MarkovChain, Sequences, families
from probseq.chains import HigherOrderTransitions, LogitTransitions, SemiMarkovChain
from probseq.design import Design

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # sums of at most a few hundred terms of order one
DOUBLE = torch.float64
NAN = float("nan")


def without(series: Sequences, step: int) -> Sequences:
    """The series with one more step missing."""
    observed = series.step_observed.clone()
    observed[step] = False
    return replace(series, observed=observed)


def test_a_poisson_model_by_the_definition() -> None:
    """Ragged, with a step missing, for two draws of the parameters at once; every number from scipy."""
    series = Sequences.from_arrays([[3.0, NAN, 0.0, 7.0], [1.0]])
    parameters = {
        "initial": torch.tensor([[0.3, 0.7], [1.0, 0.0]], dtype=DOUBLE),
        "transition": torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.0, 1.0]]], dtype=DOUBLE),
        "rate": torch.tensor([[1.0, 6.0], [2.0, 3.0]], dtype=DOUBLE),
    }
    found = HMM(2, families.Poisson()).posterior(parameters, series).leave_one_out_log_prob
    expected = torch.zeros(2, 5, dtype=DOUBLE)
    for s in range(2):
        initial, transition, rate = (parameters[name][s].numpy() for name in ("initial", "transition", "rate"))

        def total(values: dict[int, float], length: int, law=(initial, transition, rate)) -> float:
            weight = 0.0
            for path in itertools.product(range(2), repeat=length):
                chance = law[0][path[0]] * np.prod([law[1][i, j] for i, j in itertools.pairwise(path)])
                weight += chance * np.prod([stats.poisson.pmf(y, law[2][path[t]]) for t, y in values.items()])
            return weight

        seen = {0: 3.0, 2: 0.0, 3: 7.0}
        for t in seen:
            rest = {step: y for step, y in seen.items() if step != t}
            expected[s, t] = np.log(total(seen, 4) / total(rest, 4))
        expected[s, 4] = np.log(total({0: 1.0}, 1))
    torch.testing.assert_close(found, expected, **EXACT)
    assert (found[:, 1] == 0.0).all()


def cases() -> dict[str, tuple[HMM, Sequences]]:
    rng = np.random.default_rng(3)
    values = [rng.normal(size=7) * 2, rng.normal(size=3)]
    values[0][4] = NAN
    plain = Sequences.from_arrays(values)
    slope = Sequences.from_arrays(values, covariates=[rng.normal(size=(7, 1)), rng.normal(size=(3, 1))])
    labelled = replace(plain, labels=torch.tensor([-1, 0, -1, -1, -1, 1, -1, -1, 1, -1]))
    second = HigherOrderTransitions(2)
    return {
        "plain": (HMM(3, families.Gaussian()), plain),
        "second order": (HMM(2, families.Gaussian(), transition=second), plain),
        "moves that depend on a covariate": (
            HMM(2, families.Gaussian(), transition=LogitTransitions(Design(("covariate",)))),
            slope,
        ),
        "labels": (HMM(2, families.Gaussian()), labelled),
    }


@pytest.mark.parametrize("name", cases())
def test_what_the_step_adds_to_the_evidence(name) -> None:
    """log p(x) - log p(x_-t), the second from the series without the step; the evidence has its own oracles."""
    model, series = cases()[name]
    model = model.bind(series)
    parameters = model.start(series, 1, 0)
    law = model.posterior(parameters, series)
    for t in range(series.total_steps):
        left = without(series, t)
        if left.labels is not None:  # a label goes with its step
            left = replace(left, labels=torch.where(torch.arange(series.total_steps) == t, -1, left.labels))
        rest = model.posterior(parameters, left)
        added = (law.log_evidence - rest.log_evidence)[series.step_sequence[t]]
        torch.testing.assert_close(law.leave_one_out_log_prob[t], added, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(law.cavity[t], rest.smoothed[t], rtol=1e-11, atol=1e-11)


def test_a_likelihood_of_zero_divides_nothing() -> None:
    """State 1 cannot emit the middle step, so the smoothed law has lost what the others say of it."""
    half = torch.full((2,), 0.5, dtype=DOUBLE)
    sticky = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=DOUBLE)
    table = torch.tensor([[0.0, 0.0], [0.0, -torch.inf], [0.0, 0.0]], dtype=DOUBLE)
    law = MarkovChain(half, sticky, 3).posterior(table)
    torch.testing.assert_close(law.cavity[1], half, **EXACT)
    torch.testing.assert_close(law.leave_one_out_log_prob[1], half[0].log(), **EXACT)
    assert law.smoothed[1, 1] == 0.0


def test_an_impossible_sequence_is_minus_infinity() -> None:
    half, fair = torch.full((2,), 0.5, dtype=DOUBLE), torch.full((2, 2), 0.5, dtype=DOUBLE)
    table = torch.zeros(5, 2, dtype=DOUBLE)
    table[1] = -torch.inf
    law = MarkovChain(half, fair, [3, 2]).posterior(table)
    assert law.leave_one_out_log_prob.tolist() == [-np.inf] * 3 + [0.0] * 2
    with pytest.raises(DataError, match="must be possible under the model"):
        _ = law.cavity


def semi_markov(tail: bool, in_progress: bool, draws: int, seed: int) -> SemiMarkovChain:
    rng = np.random.default_rng(seed)
    lead = (draws, 1) if draws else ()

    def law(*shape: int) -> Tensor:
        return torch.tensor(rng.dirichlet(np.ones(shape[-1]), lead + shape[:-1]))

    moves = law(3, 3) * (1.0 - torch.eye(3))
    stay = torch.tensor(rng.uniform(0.2, 0.8, (*lead, 3))) if tail else None
    moves = moves / moves.sum(-1, keepdim=True)
    return SemiMarkovChain(law(3), moves, law(3, 2), [4, 1, 2], stay=stay, in_progress=in_progress)


@pytest.mark.parametrize("tail, in_progress, draws", [(True, False, 0), (False, True, 2), (True, True, 0)])
@pytest.mark.parametrize("far", [1.0, 2000.0])
def test_semi_markov_paths_by_the_definition(tail, in_progress, draws, far) -> None:
    """Sums over all 3^7 paths; with a zero, with a step missing, and with likelihoods 2000 nats apart."""
    chain = semi_markov(tail, in_progress, draws, seed=int(tail))
    table = torch.randn(7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    table[1], table[2, 0], table[5] = 0.0, -torch.inf, far * table[5]
    law = chain.posterior(table)
    paths = torch.tensor(list(itertools.product(range(3), repeat=7)))
    prior = chain.log_prob(paths.unsqueeze(1) if draws else paths).reshape(len(paths), *law.batch)
    scores = table[torch.arange(7), paths]
    joint = prior + scores.sum(-1).reshape(-1, *(1,) * len(law.batch))
    for t in range(7):
        rest = (
            joint
            if t == 1
            else prior + scores[:, [s for s in range(7) if s != t]].sum(-1).reshape(-1, *(1,) * len(law.batch))
        )
        expected = joint.logsumexp(0) - rest.logsumexp(0)
        # differences of log-probabilities of up to 4000 nats, with a rounding of 1e-16 of those
        torch.testing.assert_close(law.leave_one_out_log_prob[..., t], expected, rtol=1e-12, atol=1e-12 * far)
        states = torch.stack([rest[paths[:, t] == k].logsumexp(0) for k in range(3)], -1)
        torch.testing.assert_close(law.cavity[..., t, :], states.softmax(-1), rtol=1e-11, atol=1e-12 * far)
    assert (law.leave_one_out_log_prob[..., 1] == 0.0).all()
