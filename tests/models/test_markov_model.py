"""Markov chains of order k on observed symbols against counting by hand, chain rules and sums over all futures."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from probseq import DataError, MarkovModel, ModelError, Sequences, choose_order, datasets
from probseq.kernels import ngrams as counting
from probseq.models import KneserNey, MarkovFit, MaximumLikelihood, PosteriorMean, WittenBell

EXACT = 1e-9  # sums of at most a few hundred logarithms in double precision


def ragged(symbols: int = 3, weights: bool = True) -> Sequences:
    """Three sequences with gaps, one of them shorter than an order may be."""
    rng = np.random.default_rng(symbols)
    parts = [rng.integers(symbols, size=size).astype(float) for size in (40, 2, 17)]
    parts[0][[5, 6, 20]], parts[2][0] = np.nan, np.nan
    return Sequences.from_arrays(parts, weights=[1.0, 2.0, 0.5] if weights else None)


def grams_by_hand(series: Sequences, order: int, given: int) -> Counter:
    """(context oldest first, symbol) -> weight."""
    counts: Counter = Counter()
    for n, part in enumerate(torch.split(series.values, series.lengths.tolist())):
        known = torch.split(series.step_observed, series.lengths.tolist())[n]
        weight = 1.0 if series.weights is None else float(series.weights[n])
        for t in range(given, len(part)):
            if bool(known[t - given : t + 1].all()):
                counts[(tuple(part[t - order : t].int().tolist()), int(part[t]))] += weight
    return counts


def context_number(context: tuple[int, ...], symbols: int) -> int:
    return sum(symbol * symbols**place for place, symbol in enumerate(reversed(context)))


@pytest.mark.parametrize("order, given", [(0, 0), (1, 1), (2, 2), (3, 3), (1, 3), (0, 2)])
@pytest.mark.parametrize("cells", [counting.DENSE_CELLS, 0], ids=["array", "sorted"])
def test_counts_are_those_made_by_hand(order, given, cells, monkeypatch):
    monkeypatch.setattr(counting, "DENSE_CELLS", cells)
    series = ragged()
    grams = MarkovModel(order, given=given).fit(series).grams
    wanted = {
        context_number(context, 3) * 3 + symbol: weight
        for (context, symbol), weight in grams_by_hand(series, order, given).items()
    }
    assert dict(zip(grams.codes.tolist(), grams.counts.tolist(), strict=True)) == wanted


def test_weight_two_is_the_sequence_twice():
    series = ragged(weights=False)
    weighted = Sequences.from_arrays([series.take([0]).values], weights=[2.0])
    twice = series.take([0, 0])
    weighted = Sequences(
        weighted.values, weighted.lengths, observed=series.take([0]).observed, weights=weighted.weights
    )
    for quantity in ("log_likelihood", "log_evidence", "observations", "bic"):
        one, other = (getattr(MarkovModel(2).fit(data), quantity) for data in (weighted, twice))
        assert one == pytest.approx(other, abs=EXACT)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("concentration", [0.5, 1.0, 3.0])
def test_evidence_is_the_product_of_sequential_predictions(order, concentration):
    """Each symbol predicted from the counts before it: (n + a) / (n(c) + a M), multiplied up (Polya's urn)."""
    series = ragged(weights=False)
    counts: Counter = Counter()
    log_evidence = 0.0
    for part, known in zip(
        torch.split(series.values, series.lengths.tolist()),
        torch.split(series.step_observed, series.lengths.tolist()),
        strict=True,
    ):
        for t in range(order, len(part)):
            if bool(known[t - order : t + 1].all()):
                context = tuple(part[t - order : t].int().tolist())
                seen = [counts[(context, symbol)] for symbol in range(3)]
                log_evidence += math.log((seen[int(part[t])] + concentration) / (sum(seen) + 3 * concentration))
                counts[(context, int(part[t]))] += 1
    fit = MarkovModel(order, concentration).fit(series)
    assert fit.log_evidence == pytest.approx(log_evidence, abs=EXACT)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_program_posterior_and_evidence_agree(order):
    """log p(x, A) - log p(A | x) is log p(x) at any A (Bayes): the program against the closed forms."""
    series = ragged()
    model = MarkovModel(order, concentration=0.7)
    fit = model.fit(series)
    pyro.set_rng_seed(0)
    rows = dist.Dirichlet(fit.posterior_concentration).sample()
    with poutine.condition(data={"transition": rows}):
        joint = poutine.trace(model.program).get_trace(series).log_prob_sum()
    posterior = dist.Dirichlet(fit.posterior_concentration).log_prob(rows).sum()
    assert float(joint - posterior) == pytest.approx(fit.log_evidence, abs=EXACT)


def test_program_scores_several_draws_at_once_and_simulates():
    series = ragged(weights=False)
    model = MarkovModel(1)
    rows = dist.Dirichlet(torch.ones(3, dtype=torch.float64)).expand(torch.Size([4, 3])).sample()  # pyright: ignore

    def score(one: torch.Tensor) -> torch.Tensor:
        with poutine.condition(data={"transition": one}):
            trace = poutine.trace(model.program).get_trace(series)
        trace.compute_log_prob()
        return trace.nodes["y"]["unscaled_log_prob"].sum(-1)

    torch.testing.assert_close(score(rows), torch.stack([score(one) for one in rows]))
    drawn = poutine.uncondition(model.program)(series)
    assert drawn.shape == model.scored(series).symbol.shape


@pytest.mark.parametrize("order", [0, 1, 2])
def test_maximum_likelihood_of_phage_lambda(order):
    """-67191.388 and -66711.252 are published; all three are counted here with a dictionary."""
    genome = datasets.phage_lambda()
    bases = bytes(genome.values.tolist())
    grams = Counter(bases[t : t + order + 1] for t in range(len(bases) - order))
    contexts = Counter(bases[t : t + order] for t in range(len(bases) - order))
    wanted = sum(n * math.log(n / contexts[gram[:-1]]) for gram, n in grams.items())
    fit = MarkovModel(order).fit(genome)
    assert fit.log_likelihood == pytest.approx(wanted, abs=1e-7)  # 48,502 terms
    if order == 1:
        assert fit.log_likelihood == pytest.approx(-66711.252, abs=5.1e-4)
    assert fit.n_parameters == 3 * 4**order


def test_orders_are_compared_on_the_same_steps():
    series = ragged()
    table = choose_order(series, orders=range(4), concentration=1.0)
    for order in range(4):
        fit = MarkovModel(order, 1.0, given=3).fit(series)
        for name in ("log_likelihood", "n_parameters", "aic", "bic", "log_evidence"):
            assert table.loc[order, name] == pytest.approx(getattr(fit, name), abs=EXACT)
    assert table["probability"].sum() == pytest.approx(1.0)
    assert (table["log_likelihood"].diff().dropna() >= -EXACT).all()


def test_the_order_of_a_simulated_chain_is_found():
    rows = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]], dtype=torch.float64)
    rng, codes = np.random.default_rng(1), [0, 1]
    for uniform in rng.random(4000):
        codes.append(int(uniform >= rows[codes[-1] + 2 * codes[-2], 0]))
    series = Sequences.from_arrays(np.array(codes, dtype=np.uint8))
    table = choose_order(series, orders=range(5))
    assert table["bic"].idxmin() == table["log_evidence"].idxmax() == 2
    fit = MarkovModel(2).fit(series)
    # Each row rests on 700 steps or more, so its standard error is below 0.02.
    torch.testing.assert_close(fit.transition, rows, atol=0.06, rtol=0)


@pytest.mark.parametrize("smoothing", [PosteriorMean(), MaximumLikelihood(), WittenBell(), KneserNey(), KneserNey(0.6)])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_every_smoothing_gives_laws(smoothing, order):
    fit = MarkovModel(order, smoothing=smoothing, symbols=5).fit(ragged())
    torch.testing.assert_close(fit.transition.sum(-1), torch.ones(5**order, dtype=torch.float64))
    assert bool((fit.transition >= 0).all())


def smoothed_by_hand(grams: list[str], context: str, symbol: str, alphabet: str, rule: str, top: bool = True) -> float:
    """The recursions of Witten & Bell (1991) and Kneser & Ney (1995), read off their definitions."""
    counts: Counter = Counter(gram[-1] for gram in grams if gram[:-1] == context)
    if rule == "kneser-ney" and not top:  # how many different symbols came before the gram
        different = {gram for gram in grams}
        counts = Counter(gram[-1] for gram in different if gram[1:-1] == context)
        all_counts = Counter(gram[1:] for gram in different)
    else:
        all_counts = Counter(grams)
    return _interpolated(grams, context, symbol, alphabet, rule, counts, all_counts)


def _interpolated(grams, context, symbol, alphabet, rule, counts, all_counts) -> float:
    if rule == "witten-bell":
        shorter = [gram[1:] for gram in grams] if context else None
        lower = (
            smoothed_by_hand(shorter, context[1:], symbol, alphabet, rule) if shorter is not None else 1 / len(alphabet)
        )
        total, kinds = sum(counts.values()), len(counts)
        return lower if total == 0 else (counts[symbol] + kinds * lower) / (total + kinds)
    once, twice = (sum(1 for n in all_counts.values() if n == times) for times in (1, 2))
    discount = once / (once + 2 * twice) if once else 0.5
    if context:
        # the next shorter order counts predecessors within the grams of this one
        raw = grams if len(grams[0]) == len(context) + 1 else [gram[1:] for gram in grams]
        lower = smoothed_by_hand(raw, context[1:], symbol, alphabet, rule, top=False)
    else:
        lower = 1 / len(alphabet)
    total, kinds = sum(counts.values()), len(counts)
    if total == 0:
        return lower
    return (max(counts[symbol] - discount, 0.0) + discount * kinds * lower) / total


@pytest.mark.parametrize("rule, smoothing", [("witten-bell", WittenBell()), ("kneser-ney", KneserNey())])
def test_smoothing_follows_its_definition(rule, smoothing):
    text = "abracadabra, abracadabra! a cab, a crab"
    series = Sequences.from_text(text=text)
    fit = MarkovModel(2, smoothing=smoothing).fit(series)
    grams = [text[t - 2 : t + 1] for t in range(2, len(text))]
    alphabet = "".join(series.categories or ())
    for context in ("ab", "a ", "ra", "!!", "zz", " c"):
        known = all(symbol in alphabet for symbol in context)
        if not known:
            continue
        law = fit.next_symbol(context)
        for symbol in "abr ":
            wanted = smoothed_by_hand(grams, context, symbol, alphabet, rule)
            assert float(law[alphabet.index(symbol)]) == pytest.approx(wanted, abs=1e-14)


def test_back_off_predicts_text_better_than_added_counts():
    text = "the cat sat on the mat and the dog sat on the log while the rat ran past the cat and the dog " * 4
    train, test = Sequences.from_text(text=text[:250]), text[250:]
    held_out = Sequences.from_text(text=test, categories=train.categories)
    scores = {
        smoothing: MarkovModel(4, smoothing=smoothing).fit(train).log_prob(held_out).item()
        for smoothing in (PosteriorMean(), WittenBell(), KneserNey())
    }
    assert scores[WittenBell()] > scores[PosteriorMean()]
    assert scores[KneserNey()] > scores[PosteriorMean()]


def test_scores_are_those_of_the_table_and_add_up():
    series, model = ragged(), MarkovModel(2, smoothing=WittenBell())
    fit = model.fit(series)
    steps = fit.predictive_log_prob(series)
    scored = model.scored(series)
    torch.testing.assert_close(steps[scored.step], fit.transition[scored.context, scored.symbol].log())
    assert int((steps != 0).sum()) == len(scored.step)
    parts = [part.sum() for part in torch.split(steps, series.lengths.tolist())]
    torch.testing.assert_close(fit.log_prob(series), torch.stack(parts))


def test_the_table_is_named_oldest_symbol_first():
    fit = MarkovModel(2).fit(Sequences.from_text(text="aabab"))
    frame = fit.to_frame()
    assert frame.loc[("a", "b"), "a"] == pytest.approx(float(fit.next_symbol("ab")[0]))
    assert frame.columns.tolist() == ["a", "b"]
    assert MarkovModel(0).fit(Sequences.from_text(text="ab")).to_frame().shape == (1, 2)


def test_a_symbol_without_probability_is_impossible():
    fit = MarkovModel(1, smoothing=MaximumLikelihood()).fit(Sequences.from_text(text="abababab"))
    other = Sequences.from_text(text="abb", categories=("a", "b"))
    assert fit.predictive_log_prob(other).tolist() == [0.0, 0.0, -math.inf]


@pytest.mark.parametrize("gap", [None, -1, -2])
def test_forecast_is_the_sum_over_all_futures(gap):
    series = ragged(weights=False)
    fit = MarkovModel(2).fit(series)
    values = np.array([0.0, 1, 2, 2, 1])
    if gap is not None:
        values[gap] = np.nan
    frame = fit.forecast(Sequences.from_arrays(values), 3)
    law = np.zeros((3, 3))
    total = 0.0
    fill = [int(value) if not np.isnan(value) else None for value in values]
    free = [t for t in range(len(fill)) if fill[t] is None]
    for missing in itertools.product(range(3), repeat=len(free)):
        past = [missing[free.index(t)] if value is None else value for t, value in enumerate(fill)]
        for future in itertools.product(range(3), repeat=3):
            path, weight = past + list(future), 1.0
            for t in range(2, len(path)):
                weight *= float(fit.transition[path[t - 1] + 3 * path[t - 2], path[t]])
            total += weight
            for step, symbol in enumerate(future):
                law[step, symbol] += weight
    np.testing.assert_allclose(frame.to_numpy(), law / total, rtol=0, atol=1e-14)


def test_forecast_of_several_sequences_has_one_block_each():
    fit = MarkovModel(1).fit(ragged())
    frame = fit.forecast(ragged(), 2)
    assert frame.shape == (6, 4)
    assert frame["sequence"].tolist() == [0, 0, 1, 1, 2, 2]


def test_simulation_repeats_and_has_the_frequencies_of_the_law():
    genome = datasets.phage_lambda()
    fit = MarkovModel(2).fit(genome)
    one = fit.simulate([30_000, 10], seed=4)
    assert torch.equal(one.values, fit.simulate([30_000, 10], seed=4).values)
    assert one.lengths.tolist() == [30_000, 10] and one.categories == genome.categories
    again = MarkovModel(2).fit(one.take([0]))
    # 16 rows of about 1,900 steps: a share of 1/4 has standard error 0.01; five of them.
    torch.testing.assert_close(again.transition, fit.transition, atol=0.05, rtol=0)
    assert fit.simulate(1, seed=0).total_steps == 1


def test_generated_text_goes_on_from_a_start():
    fit = MarkovModel(3, smoothing=MaximumLikelihood()).fit(Sequences.from_text(text="hello world, " * 5))
    assert fit.generate(8, seed=0, start="hello wo") == "rld, hel"


@pytest.mark.parametrize("smoothing", [PosteriorMean(), MaximumLikelihood(), WittenBell(), KneserNey(0.4)])
def test_saved_and_loaded(smoothing, tmp_path):
    series = Sequences.from_text(text="abracadabra, abracadabra")
    fit = MarkovModel(2, 0.3, smoothing, given=3).fit(series)
    again = MarkovFit.load(fit.save(tmp_path / "fit"))
    assert again.model == fit.model and again.categories == fit.categories
    assert torch.equal(again.log_prob(series), fit.log_prob(series))
    assert (again.bic, again.log_evidence) == (fit.bic, fit.log_evidence)


def test_what_is_no_saved_fit_is_refused(tmp_path):
    with pytest.raises(DataError, match="A saved fit must be whole"):
        MarkovFit.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="must be saved in a directory that can be written"):
        MarkovModel(1).fit(ragged()).save(tmp_path / "file")


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_what_is_no_chain_of_symbols_is_refused():
    with pytest.raises(ModelError, match="order must be an integer"):
        MarkovModel(-1)
    with pytest.raises(ModelError, match="concentration must be positive"):
        MarkovModel(1, 0.0)
    with pytest.raises(ModelError, match="given must be at least the order, 2, got 1"):
        MarkovModel(2, given=1)
    with pytest.raises(ModelError, match="discount must lie between 0 and 1"):
        KneserNey(1.5)
    with pytest.raises(ModelError, match="order must be at most 6 with 256 symbols"):
        MarkovModel(8, symbols=256).fit(Sequences.from_arrays(np.arange(20, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"must be symbols, codes 0, 1, ..., got 0.5 at step 1"):
        MarkovModel(1).fit(Sequences.from_arrays([1.0, 0.5]))
    with pytest.raises(DataError, match="one column"):
        MarkovModel(1).fit(Sequences.from_arrays(np.zeros((4, 2))))
    with pytest.raises(DataError, match="4 known symbols in a row"):
        MarkovModel(3).fit(Sequences.from_arrays([0.0, 1.0, 0.0]))
    with pytest.raises(ModelError, match="symbols must be those of the data"):
        MarkovModel(1, symbols=2).fit(Sequences.from_arrays([0.0, 1.0, 2.0]))
    fit = MarkovModel(2).fit(Sequences.from_text(text="abab"))
    with pytest.raises(ModelError, match="a context must hold 2 symbols"):
        fit.next_symbol("a")
    with pytest.raises(ModelError, match="a symbol must be one of the model's, a, b, got 'z'"):
        fit.occupancy(3, start="az")
    with pytest.raises(DataError, match="lengths must be at least 1"):
        fit.simulate(0, seed=0)


def test_wet_and_dry_days():
    """Seattle: the counts of a 2 x 2 table give the first-order rows."""
    rain = datasets.rainfall("Seattle")
    wet = (rain.values > 0).to(torch.uint8)
    days = Sequences(wet, rain.lengths, time=rain.time, categories=("dry", "wet"))
    fit = MarkovModel(1, smoothing=MaximumLikelihood()).fit(days)
    table = pd.crosstab(wet[:-1].numpy(), wet[1:].numpy(), normalize="index").to_numpy()
    np.testing.assert_allclose(fit.transition.numpy(), table, atol=1e-15)
    assert fit.hitting_times("wet")[0].item() == pytest.approx(1 / table[0, 1])
