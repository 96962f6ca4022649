"""Order-k symbols in hidden states: counts by hand, sums over all paths, the program, and saving."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.autograd import gradcheck, gradgradcheck

from probseq import HMM, DataError, Fit, ModelError, Sequences, em, families, marginalize
from probseq.families import ContextCategorical

F64 = torch.float64


def random_law(order: int, symbols: int, states: int = 2, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.dirichlet(np.ones(symbols), (states, symbols**order)))


def ragged(order: int, symbols: int = 3) -> Sequences:
    """Sequences of 8, 1 and 3 codes, the third of the first missing."""
    codes = torch.from_numpy(np.random.default_rng(order).integers(0, symbols, 12).astype(np.uint8))
    seen = torch.ones(12, dtype=torch.bool)
    seen[2] = False
    return Sequences(codes, torch.tensor([8, 1, 3]), observed=seen, categories=tuple("abcdef"[:symbols]))


def chances(order: int) -> dict[str, torch.Tensor]:
    return {
        "initial": torch.tensor([0.3, 0.7], dtype=F64),
        "transition": torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=F64),
        "probabilities": random_law(order, 3),
    }


def by_hand(series: Sequences, parameters: dict[str, torch.Tensor], order: int) -> list[float]:
    """log p of each sequence as the sum over all of its paths, a step with a lacking context scoring one."""
    start, move, law = (parameters[name].numpy() for name in ("initial", "transition", "probabilities"))
    values, seen, offsets = series.values.tolist(), series.step_observed.tolist(), series.offsets.tolist()
    totals = []
    for first, last in zip(offsets, offsets[1:], strict=False):
        total = 0.0
        for path in itertools.product(range(2), repeat=last - first):
            chance = start[path[0]]
            for step in range(first, last):
                state = path[step - first]
                if step > first:
                    chance *= move[path[step - first - 1], state]
                before = range(step - 1, step - order - 1, -1)
                if seen[step] and step - first >= order and all(seen[s] for s in before):
                    chance *= law[state, sum(values[s] * 3**i for i, s in enumerate(before)), values[step]]
            total += chance
        totals.append(math.log(total))
    return totals


@pytest.mark.parametrize("order", [1, 2, 3])
def test_evidence_is_the_sum_over_all_paths(order) -> None:
    series, parameters = ragged(order), chances(order)
    model = HMM(2, ContextCategorical(order)).bind(series)
    expected = by_hand(series, parameters, order)
    assert model.log_prob(parameters, series).tolist() == pytest.approx(expected, abs=1e-12)
    plain = Sequences(series.values.double(), series.lengths, observed=series.observed)  # numbers, not symbols
    assert HMM(2, ContextCategorical(order, 3)).log_prob(parameters, plain).tolist() == pytest.approx(
        expected, abs=1e-12
    )
    trace = poutine.trace(pyro.condition(marginalize(model.program), parameters)).get_trace(series)
    trace.compute_log_prob()
    assert float(trace.nodes["state"]["log_prob_sum"]) == pytest.approx(sum(expected), abs=1e-12)


def test_the_program_in_vectorised_particles_and_free() -> None:
    series, model = ragged(2), HMM(2, ContextCategorical(2, 3))
    draws = {name: torch.stack([value, value.flip(-1)]) for name, value in chances(2).items()}
    found = model.log_prob(draws, series)
    for number in range(2):
        assert torch.equal(found[number], model.log_prob({n: v[number] for n, v in draws.items()}, series))

    def guide(series):
        for name, value in draws.items():
            pyro.sample(name, dist.Delta(value.unsqueeze(1), event_dim=value.dim() - 1))

    elbo = pyro.infer.Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    loss = elbo.loss(marginalize(model.program), guide, series)
    priors = [model.log_prior({n: v[number] for n, v in draws.items()}, series) for number in range(2)]
    assert -loss == pytest.approx(float((found.sum(1) + torch.stack(priors)).mean()), rel=1e-12)
    drawn = poutine.uncondition(model.program)(series)
    assert drawn.shape == (12,) and set(drawn.tolist()) <= {0.0, 1.0, 2.0}


def test_gradients() -> None:
    family = ContextCategorical(2, 3)
    rows = torch.tensor(list(itertools.product(range(3), repeat=3)), dtype=F64)
    logits = random_law(2, 3).log().requires_grad_()

    def table(logits):
        return family.log_prob(rows, {"probabilities": logits.softmax(-1)})

    assert gradcheck(table, logits) and gradgradcheck(table, logits)
    impossible = family.log_prob(
        torch.tensor([[3.0, 0, 0], [0.5, 1, 1]], dtype=F64), {"probabilities": random_law(2, 3)}
    )
    assert bool(impossible.isneginf().all())


def test_the_maximum_is_counting() -> None:
    """One state: shares of each symbol after each context; a context never met keeps what it had."""
    text = "abacabadabacabaaab"
    series = Sequences.from_arrays(np.array([ord(c) - 97 for c in text], np.uint8), categories=list("abcd"))
    model = HMM(1, ContextCategorical(2)).bind(series)
    current = model.start(series, 0, 0)
    assert current["probabilities"].sum(-1).sub(1).abs().max() < 1e-15
    law = model.maximise(current, model.expect(current, series), False, series)["probabilities"][0]
    pairs = [text[i : i + 3] for i in range(len(text) - 2)]
    for context in {pair[:2] for pair in pairs}:
        code = (ord(context[1]) - 97) + 4 * (ord(context[0]) - 97)
        after = [pair[2] for pair in pairs if pair[:2] == context]
        assert law[code].tolist() == pytest.approx([after.count(c) / len(after) for c in "abcd"], abs=1e-15)
    never = 3 + 4 * 3
    assert law[never].tolist() == [0.25] * 4
    fit = em(model, series, priors=True, restarts=1)
    code = 0 + 4 * 1  # b, then a: followed by c, d, c and a; a tenth of an observation is added to each symbol
    expected = np.array([text.count("baa"), 0, text.count("bac"), text.count("bad")]) + 0.1
    assert fit.parameters["probabilities"][0, code].tolist() == pytest.approx(expected / expected.sum(), abs=1e-9)


@pytest.mark.parametrize("priors", [False, True])
def test_em_never_decreases_and_saves(tmp_path, priors) -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.tile([0, 1, 2], 40), rng.integers(0, 3, 120)]).astype(np.uint8)
    series = Sequences.from_arrays(codes, categories=list("abc"))
    fit = em(HMM(2, ContextCategorical(1)), series, priors=priors, restarts=2)
    assert bool((fit.objective.diff() >= -1e-8 * fit.objective[1:].abs()).all())
    assert fit.n_parameters == 1 + 2 + 2 * 3 * 2
    again = Fit.load(fit.save(tmp_path / "fit"))
    assert again.model.emission == ContextCategorical(1, 3)
    assert torch.equal(again.log_prob(series), fit.log_prob(series))
    regular = fit.posterior(series).viterbi[:120].bincount(minlength=2)
    assert int(regular.max()) > 110  # the state that knows the cycle holds the first half


def test_composition_is_the_stationary_law() -> None:
    family, law = ContextCategorical(1, 3), random_law(1, 3, seed=4)
    found = family.composition({"probabilities": law})
    for state in range(2):
        assert (found[state] @ law[state]).tolist() == pytest.approx(found[state].tolist(), abs=1e-11)
    cycle = torch.eye(3, dtype=F64)[[1, 2, 0]].unsqueeze(0)
    assert family.composition({"probabilities": cycle})[0].tolist() == pytest.approx([1 / 3] * 3)
    assert "each given the 1 before" in family.describe({"probabilities": law}, 0)
    # Order 2: a simulation of 200,000 steps has a standard error of about 0.001 in each share.
    family, law = ContextCategorical(2, 2), random_law(2, 2, states=1, seed=5)
    rng, last, ones = np.random.default_rng(0), [0, 0], 0
    for uniform in rng.random(200_000):
        symbol = int(uniform < float(law[0, last[0] + 2 * last[1], 1]))
        last, ones = [symbol, last[0]], ones + symbol
    assert float(family.composition({"probabilities": law})[0, 1]) == pytest.approx(ones / 200_000, abs=0.006)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ContextCategorical(0), "order must be an integer of at least 1, got 0"),
        (lambda: ContextCategorical(13, 4), "at most 16,777,216, got 4 and order 13"),
        (lambda: ContextCategorical(1).parameters(), "categories must be known"),
    ],
)
def test_refusals(make, words) -> None:
    with pytest.raises(ModelError, match=words):
        make()
    assert families.from_json(ContextCategorical(2, 4).to_json()) == ContextCategorical(2, 4)


def test_sequences_too_short_for_their_context() -> None:
    series = Sequences.from_arrays([np.zeros(2, np.uint8)] * 3, categories=["a", "b"])
    with pytest.raises(DataError, match="3 in a row must be known at least once, got none"):
        em(HMM(1, ContextCategorical(2)), series)
