"""A recurrent model against its law written out by hand, step by step, and against every string there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from probseq import DataError, LengthLaw, ModelError, RecurrentModel, Sequences, families, train
from probseq.models.emission_step import observed_rows
from probseq.models.free_running import complete, run_along
from probseq.models.stopping import TOLD
from probseq.recurrent import GRU, LSTM, Bidirectional, Feedforward, Leaky, Stacked, Vanilla
from tests.models.conftest import FAMILIES
from tests.models.recurrent_oracle import BY_HAND, ByHand, by_hand, log_share, strings

CELLS = {
    "vanilla": lambda inputs: Vanilla(inputs, 4, seed=1),
    "lstm": lambda inputs: LSTM(inputs, 4, seed=1),
    "gru": lambda inputs: GRU(inputs, 4, seed=1),
    "leaky": lambda inputs: Leaky(inputs, 4, seed=1),
    "memoryless": lambda inputs: Feedforward(inputs, 4, seed=1),
    "stacked": lambda inputs: Stacked([LSTM(inputs, 3, seed=1), GRU(3, 4, seed=2)]),
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """The oracle's own tensors in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def ragged(case: ByHand, **more: object) -> Sequences:
    """Nine steps in sequences of 5, 1 and 3, two of them missing, with two covariates."""
    values = torch.cat([case.values, case.values[:4]])
    observed = torch.ones(values.shape, dtype=torch.bool)
    observed[[1, 7]] = False
    x = torch.tensor(np.random.default_rng(0).normal(size=(9, 2)))
    about = {"covariates": x, "covariate_names": ("x", "z")}
    return Sequences(values.double(), torch.tensor([5, 1, 3]), observed=observed, **{**about, **more})


def model_of(case: ByHand, cell: str = "lstm", **options: object) -> RecurrentModel:
    return RecurrentModel(case.family, CELLS[cell], columns=case.columns, seed=2, **options).double()  # type: ignore


@pytest.mark.parametrize("feedback", ["observed", "predicted", None])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", BY_HAND)
def test_scores_are_those_of_single_steps(name: str, cell: str, feedback: str | None) -> None:
    case = BY_HAND[name]
    series = ragged(case)
    covariates = () if feedback == "observed" and cell == "gru" else ("x", "z")
    model = model_of(case, cell, feedback=feedback, covariates=covariates)
    if cell != "vanilla":  # as training prepares it
        model.prepare(series)
    expected = by_hand(model, case, series)
    found = model.predictive_log_prob(series).split(series.lengths.tolist())
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.tolist() == pytest.approx(theirs, rel=1e-11, abs=1e-11)  # sums in another order
    assert model.log_prob(series).tolist() == pytest.approx([sum(steps) for steps in expected], rel=1e-11)


def test_embedded_symbols_are_fed_back_as_their_vectors() -> None:
    case = BY_HAND["categorical"]
    series = ragged(case)
    for feedback in ("observed", "predicted"):
        model = model_of(case, feedback=feedback, embedding=2)
        assert model.reader.width == 3
        expected = [sum(steps) for steps in by_hand(model, case, series)]
        assert model.log_prob(series).tolist() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("stopping", ["none", "end", "length"])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_program_is_the_score(name: str, stopping: str, make_case) -> None:
    family, width = FAMILIES[name]
    series = make_case(family, width, torch.tensor([1.0, 0.0, 2.5])).series
    how = {"none": None, "end": "end", "length": LengthLaw(families.Geometric(), TOLD)}[stopping]
    model = RecurrentModel(family, CELLS["gru"], columns=width, stopping=how, seed=1).double()  # type: ignore[arg-type]
    each = model.log_prob(series)
    assert series.weights is not None
    loss = Trace_ELBO().loss(model.program, lambda data: None, series)
    assert loss == pytest.approx(-float(series.weights @ each), abs=1e-10, rel=1e-12)
    scored = model.score(model.encode(series))
    assert scored.log_prob.tolist() == pytest.approx((series.weights * each).tolist(), rel=1e-12)
    by_step = [float(part.sum()) for part in model.predictive_log_prob(series).split(series.lengths.tolist())]
    assert by_step == pytest.approx(each.tolist(), rel=1e-12)
    copy = RecurrentModel.rebuild(model.description()).double()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.log_prob(series), each) and copy.description() == model.description()


@pytest.mark.parametrize("feedback", ["observed", "predicted", None])
@torch.no_grad()
def test_batches_and_windows_change_nothing(feedback: str | None) -> None:
    case = BY_HAND["gaussian"]
    series = ragged(case, weights=torch.tensor([1.0, 0.0, 2.5]))
    stopping = "end" if feedback == "observed" else None
    covariates = () if stopping else ("x", "z")
    model = model_of(case, feedback=feedback, covariates=covariates, stopping=stopping)
    whole = model.log_prob(series)
    alone = torch.cat([model.log_prob(replace(series, weights=None).take([n])) for n in (2, 0, 1)])
    assert alone.tolist() == pytest.approx(whole[[2, 0, 1]].tolist(), rel=1e-12)
    assert model.log_prob(series, batch_size=1).tolist() == pytest.approx(whole.tolist(), rel=1e-12)
    examples, state = model.encode(series), None
    once, pieces, steps = model.score(examples), [], []
    for start in range(0, 6, 2):
        scored = model.score(examples.window(start, start + 2), state)
        state = scored.state
        pieces.append(scored.log_prob)
        steps.append(scored.steps)
    assert torch.stack(pieces).sum(0).tolist() == pytest.approx(once.log_prob.tolist(), rel=1e-12)
    assert torch.stack(steps).sum(0).tolist() == once.steps.tolist()
    for mine, theirs in zip(state or (), once.state, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_long_series_are_scored_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    case = BY_HAND["gaussian"]
    series = ragged(case)
    for feedback in ("observed", "predicted"):
        model = model_of(case, feedback=feedback, covariates=("x",))
        whole, by_step = model.log_prob(series), model.predictive_log_prob(series)
        with monkeypatch.context() as patched:
            patched.setattr("probseq.models.network.WINDOW", 2)
            patched.setattr("probseq.models.recurrent_model.WINDOW", 2)
            patched.setattr("probseq.models.recurrent_model.BATCH", 2)
            torch.testing.assert_close(model.log_prob(series), whole, rtol=1e-12, atol=0.0)
            torch.testing.assert_close(model.predictive_log_prob(series), by_step, rtol=1e-12, atol=0.0)


def test_missing_values_are_not_looked_at() -> None:
    case = BY_HAND["gaussian"]
    series = ragged(case)
    assert series.observed is not None
    model = model_of(case)
    model.prepare(series)
    garbled = replace(series, values=torch.where(series.observed, series.values, 1e6))
    object.__setattr__(garbled, "values", torch.where(series.observed, series.values, 1e6))
    assert torch.equal(model.predictive_log_prob(garbled), model.predictive_log_prob(series))
    assert model.predictive_log_prob(series)[~series.observed].tolist() == [0.0, 0.0]
    present = replace(series, observed=None)
    assert not torch.equal(model.predictive_log_prob(present)[2:5], model.predictive_log_prob(series)[2:5])


def test_values_outside_the_support_are_impossible() -> None:
    model = model_of(BY_HAND["poisson"])
    series = Sequences.from_arrays([[1.0, 2.0], [0.5, 1.0], [3.0]])
    assert model.log_prob(series).isfinite().tolist() == [True, False, True]
    assert float(model.log_prob(series)[1]) == -math.inf


@torch.no_grad()
def test_a_bidirectional_layer_sees_all_covariates() -> None:
    case = BY_HAND["bernoulli"]
    series = ragged(case)

    def both(inputs: int) -> Bidirectional:
        return Bidirectional(GRU(inputs, 3, seed=1), GRU(inputs, 3, seed=2))

    model = RecurrentModel(case.family, both, feedback=None, covariates=("x", "z"), seed=1).double()
    assert not hasattr(model.encode(series), "window")
    layer: Bidirectional = model.cell  # type: ignore[assignment]
    total = []
    for n in range(3):  # by hand: forward, and backward on the reversed covariates
        x = series.take([n]).covariates
        assert x is not None
        (g, _), (h, _) = layer.past.unroll(x.unsqueeze(0)), layer.future.unroll(x.flip(0).unsqueeze(0))
        u = model.head.linear(torch.cat([g[0], h[0].flip(0)], -1))[:, 0]
        scores = torch.distributions.Bernoulli(logits=u).log_prob(series.take([n]).values)
        total.append(float(scores[series.take([n]).step_observed].sum()))
    assert model.log_prob(series).tolist() == pytest.approx(total, rel=1e-11)
    assert model.simulate(series, seed=1).total_steps == 9


@pytest.mark.parametrize("vector_as", ["input", "state", "both"])
@torch.no_grad()
def test_a_vector_enters_where_it_is_told(vector_as: str) -> None:
    case = BY_HAND["gaussian"]
    v = torch.tensor([[0.5, 2.0]] * 5 + [[-1.0, 0.0]] + [[0.3, 1.0]] * 3)
    series = ragged(case, covariates=v, covariate_names=("v", "kind"))
    options = {"vector": ("v", "kind"), "vector_as": vector_as, "embeddings": {"kind": (3, 2)}}
    model = model_of(case, **options)
    examples = model.encode(series)
    width = 2 + (3 if vector_as != "state" else 0)
    assert model.cell.input_size == width
    entered = model.vector(v)
    torch.testing.assert_close(entered, torch.cat([v[:, :1], model.vector.tables[0].weight[v[:, 1].long()]], -1))
    start = model.start(examples)
    if vector_as == "input":
        assert not any(one.any() for one in start)
    else:
        assert model.first_state is not None
        flat = model.first_state(entered[[0, 5, 6]])
        torch.testing.assert_close(torch.cat(start, -1), flat)
    if vector_as != "state":
        torch.testing.assert_close(model.fixed_inputs(examples), entered)
    drawn = model.simulate(series, seed=0)
    assert torch.equal(drawn.covariates, v)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="same at all steps"):
        model.encode(ragged(case, covariates=v.flip(0), covariate_names=("v", "kind")))


# ---- stopping --------------------------------------------------------------------------------------------------------


def symbol_model(symbols: int, stopping: object, seed: int = 5) -> RecurrentModel:
    made = RecurrentModel(families.Categorical(symbols), CELLS["lstm"], stopping=stopping, seed=seed)  # type: ignore
    for weight in made.parameters():  # far from uniform
        weight.data.mul_(3.0)
    return made.double()


@pytest.mark.parametrize("symbols", [2, 3])
@torch.no_grad()
def test_an_end_symbol_gives_a_proper_law(symbols: int) -> None:
    model, longest = symbol_model(symbols, "end"), 6
    every = strings(symbols, longest)
    short = model.log_prob(every)
    full = every.lengths == longest  # prefixes of what is longer, and whole strings
    by_step = model.step_log_prob(examples := model.encode(every), model.hidden(examples)[0]).detach()
    prefix = short - examples.by_sequence(torch.where(examples.steps["end"], by_step, 0.0))
    assert log_share(short[~full]) + log_share(prefix[full]) == pytest.approx(1.0, abs=1e-12)
    assert log_share(short) < 1.0 - 1e-6  # some are longer
    assert log_share(short[every.lengths == 1]) == pytest.approx(
        float(
            (
                model.stop(model.hidden(model.encode(strings(symbols, 1)))[0])[1::2, 0].sigmoid()  # type: ignore[misc]
                * model.predictive_parameters(strings(symbols, 1))["probabilities"][0]
            ).sum()
        ),
        rel=1e-12,
    )


@pytest.mark.parametrize(
    "law",
    [
        LengthLaw(families.Geometric()),
        LengthLaw(families.NegativeBinomial(), TOLD),
        LengthLaw(families.Mixture(families.Poisson(), 2), ()),
        LengthLaw(families.Categorical(5), ("total",)),
    ],
    ids=lambda law: law.family.name,
)
def test_a_length_law_gives_a_proper_law(law: LengthLaw) -> None:
    law.prepare(torch.tensor([1, 2, 2, 3, 5, 5, 4]))
    model, every = symbol_model(2, law), strings(2, 5)
    beyond = float(
        law.family.survival(torch.tensor([4.0]), {n: v.unsqueeze(0) for n, v in law.parameters_of_law.items()})
    )
    assert log_share(model.log_prob(every)) + beyond == pytest.approx(1.0, abs=1e-12)
    lengths = torch.arange(1, 6)
    given = [log_share(model.log_prob(every)[every.lengths == T]) for T in range(1, 6)]
    assert given == pytest.approx(law.log_prob(lengths).exp().tolist(), abs=1e-12)


def test_the_law_of_lengths_is_fitted_to_the_data() -> None:
    series = Sequences.from_arrays([[0, 1], [1], [0, 1, 1], [1, 0]], categories=["a", "b"])
    model = symbol_model(2, LengthLaw(families.Geometric()))
    model.prepare(series)
    # the mean of T - 1 is 1, so that the chance of an end is 1/2 at each step
    assert model.length_law is not None
    assert model.length_law.log_prob(torch.tensor([1, 2, 3])).exp().tolist() == pytest.approx([0.5, 0.25, 0.125])
    told = model.length_law.told(torch.tensor([0, 2]), torch.tensor([3, 3]))
    assert told.exp().flatten().tolist() == pytest.approx([3, 1])


def chi_square(drawn: Sequences, every: Sequences, logs: Tensor) -> float:
    """The p-value of drawn strings against probabilities of all short ones, the longer ones together."""
    from scipy.stats import chisquare

    def names(series: Sequences) -> list[str]:
        return ["".join(map(str, part.long().tolist())) for part in series.values.split(series.lengths.tolist())]

    known = names(every)
    counts = dict.fromkeys([*known, "longer"], 0)
    for name in names(drawn):
        counts[name if name in counts else "longer"] += 1
    expected = np.append(logs.exp().numpy(), max(0.0, 1.0 - log_share(logs))) * drawn.count
    observed = np.array(list(counts.values()), dtype=float)
    rare = expected < 5
    assert observed[rare].sum() == 0 or expected[rare].sum() > 1e-6
    cells = [np.append(one[~rare], one[rare].sum()) for one in (observed, expected)]
    cells = cells if expected[rare].sum() > 1e-6 else [one[:-1] for one in cells]
    return float(chisquare(cells[0], cells[1] * (cells[0].sum() / cells[1].sum())).pvalue)  # equal to rounding


@pytest.mark.parametrize(
    "family", [families.Geometric(), families.Categorical(4), families.Mixture(families.Poisson(), 2)]
)
def test_the_law_of_lengths_counts_sequences_as_often_as_they_count(family: families.Family) -> None:
    """A weight of two is the sequence twice, a weight of zero is no sequence."""
    sizes, often = [1, 2, 4, 3], [2, 1, 3, 0]
    series = replace(
        Sequences.from_arrays([[0.0, 1.0, 0.5, 2.0][:n] for n in sizes]), weights=torch.tensor(often) * 1.0
    )
    model = RecurrentModel.for_series(series, "gaussian", "gru", 2, stopping=LengthLaw(family))
    model.prepare(series)
    repeated = LengthLaw(family)
    repeated.prepare(torch.tensor(sizes).repeat_interleave(torch.tensor(often)))
    assert model.length_law is not None
    logs = [law.log_prob(torch.arange(1, 5)) for law in (model.length_law, repeated)]
    if not isinstance(family, families.Mixture):
        assert logs[0].tolist() == pytest.approx(logs[1].tolist(), rel=1e-10)
    totals = [float((one[torch.tensor(sizes) - 1] * torch.tensor(often)).sum()) for one in logs]
    assert totals[0] > totals[1] - 1e-6  # a mixture's maximum is flat, and climbed by steps


@pytest.mark.parametrize("how", ["end", "length", "vector"])
def test_what_is_drawn_has_the_law(how: str) -> None:
    law = LengthLaw(families.Geometric(), TOLD)
    law.prepare(torch.tensor([1, 2, 3]))
    model = symbol_model(2, law if how == "length" else "end")
    every = strings(2, 5)
    drawn = model.simulate(count=4000, seed=1)
    assert chi_square(drawn, every, model.log_prob(every)) > 0.001  # one seeded draw
    assert torch.equal(drawn.values, model.simulate(count=4000, seed=1).values)


def test_what_is_drawn_along_lengths_has_the_law() -> None:
    model = symbol_model(2, None)
    every = strings(2, 3)
    every = every.take(every.lengths.numpy() == 3)
    drawn = model.simulate([3] * 3000, seed=2)
    assert chi_square(drawn, every, model.log_prob(every)) > 0.001
    begun = Sequences.from_arrays([[1, 0]] * 3000, categories=["a", "b"])  # given the first two symbols, the third
    third = model.simulate([1] * 3000, seed=3, past=begun).values.double().mean()
    one = Sequences.from_arrays([[1, 0, 1]], categories=["a", "b"])
    chance = float(model.predictive_parameters(one)["probabilities"][2, 1])
    assert abs(float(third) - chance) < 4 * (chance * (1 - chance) / 3000) ** 0.5


@pytest.mark.parametrize("feedback", ["observed", "predicted", None])
@pytest.mark.parametrize("name", ["gaussian", "categorical", "vectors"])
def test_a_simulation_knows_its_own_score(name: str, feedback: str | None) -> None:
    case = BY_HAND[name]
    series = replace(ragged(case), observed=None)
    model = model_of(case, feedback=feedback, covariates=("x", "z"))
    model.prepare(series)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = run_along(model, series)
    again = replace(series, values=drawn.values)
    assert model.log_prob(again).tolist() == pytest.approx(drawn.log_prob.tolist(), rel=1e-11)


def test_what_is_random_in_training_is_not_in_answers() -> None:
    """A network that is in training mode answers as one that is not, and stays in it."""
    series = Sequences.from_arrays([[0, 1, 1, 0], [1, 0]], categories=["a", "b"])
    model = RecurrentModel.for_series(
        series, "categorical", lambda d: Stacked([GRU(d, 6), GRU(6, 6)], dropout=0.5), dropout=0.5, seed=1
    )
    asked = (
        lambda: model.log_prob(series).tolist(),
        lambda: model.predictive_log_prob(series).tolist(),
        lambda: model.predictive_parameters(series)["probabilities"].tolist(),
        lambda: model.simulate(30, seed=1).values.tolist(),
        lambda: model.forecast(series, 3).to_numpy().tolist(),
        lambda: complete(model, series, 30, seed=1).values.tolist(),
    )
    for one in asked:
        in_training = (model.train(), one())[1]
        assert model.training and torch.is_grad_enabled()
        assert in_training == (model.eval(), one())[1]


def test_a_forecast_is_the_law_of_the_next_step() -> None:
    case = BY_HAND["gaussian"]
    series = ragged(case)
    model = model_of(case, "gru", covariates=("x",))
    model.prepare(series)
    ahead = np.array([0.5, -0.5] * 3)
    shown = replace(series, covariates=series.covariates[:, :1], covariate_names=("x",))  # type: ignore[index]
    frame = model.forecast(shown, 2, [0.5], covariates=ahead, seed=1)
    assert list(frame.columns) == ["sequence", "mean", "q0.5"] and len(frame) == 6
    longer = shown.future(2, ahead)
    law = model.predictive(longer)
    first = longer.offsets[1:] - 2
    error = 4 * law.stddev[first] / 2000**0.5  # type: ignore[attr-defined]
    assert bool(((torch.tensor(frame["mean"].to_numpy()[::2]) - law.mean[first]).abs() < error).all())  # type: ignore
    with pytest.raises(DataError, match="depends on"):
        model.forecast(shown, 2)


def test_what_is_fixed_stays_so_in_a_forecast() -> None:
    """Only what moves is asked for; the vector is the one that was seen, and no other."""
    series = replace(ragged(BY_HAND["gaussian"]), covariate_names=("x", "z"))
    fixed = replace(series, covariates=torch.stack([series.covariates[:, 0], series.step_sequence.double()], 1))  # type: ignore[index]
    model = RecurrentModel.for_series(fixed, "gaussian", "gru", 4, covariates=("x",), vector=("z",), vector_as="both")
    ahead = pd.DataFrame({"x": np.array([0.5, -0.5] * 3), "z": np.repeat([0.0, 1.0, 2.0], 2)})
    asked = model.forecast(fixed, 2, covariates=ahead)
    pd.testing.assert_frame_equal(model.forecast(fixed, 2, covariates=ahead[["x"]]), asked)
    pd.testing.assert_frame_equal(model.forecast(fixed, 2, covariates=ahead.assign(z=9.0)), asked)
    longer = fixed.future(2, ahead)
    law, first = model.predictive(longer), longer.offsets[1:] - 2
    error = 4 * law.stddev[first] / 2000**0.5  # type: ignore[attr-defined]
    assert bool(((torch.tensor(asked["mean"].to_numpy()[::2]) - law.mean[first]).abs() < error).all())  # type: ignore


def test_a_forecast_has_a_column_for_symbols_that_are_never_drawn() -> None:
    model = RecurrentModel(families.Categorical(5), lambda inputs: GRU(inputs, 3))
    with torch.no_grad():
        model.head.linear.bias[2:] = -60.0
    assert list(model.forecast(Sequences.from_arrays([[0, 1, 0]]), 1).columns) == [f"p({code})" for code in range(5)]


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prepared_network_begins_at_the_pooled_law(name: str, make_case) -> None:
    family, width = FAMILIES[name]
    series = make_case(family, width).series
    model = RecurrentModel(family, CELLS["gru"], columns=width)
    model.prepare(series)
    assert not any(value.isnan().any() for value in model.state_dict().values())
    torch.nn.init.zeros_(model.head.linear.weight)
    rows = observed_rows(family, series)
    pooled = family.log_prob(rows, family.pooled(rows, 1))[:, 0].sum()
    found = model.log_prob(series).sum()
    # of a symbol that was never seen, the mode under the prior: a tenth of an observation out of ten
    assert float(found) == pytest.approx(float(pooled), rel=1e-6, abs=0.2 if name == "categorical" else 1e-9)


def test_training_finds_a_dependence() -> None:
    generator = np.random.default_rng(0)
    symbols = [np.cumsum(generator.integers(1, 3, size=30)) % 3 for _ in range(20)]  # each next one is one or two on
    series = Sequences.from_arrays(symbols, categories=["a", "b", "c"])
    network = RecurrentModel.for_series(series, "categorical", "gru", 8, seed=1)
    before = network.log_prob(series)
    fit = train(network, series, epochs=12, learning_rate=0.05, seed=1)
    assert torch.equal(network.log_prob(series), before)
    per_step = -float(fit.log_prob(series).sum()) / series.total_steps
    assert per_step == pytest.approx(math.log(2), abs=0.05)  # the entropy, and log 3 for the first symbol


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        (families.Autoregression(1), {}, "feedback='observed'"),
        (families.Gaussian(), {"feedback": "seen"}, "feedback must be one of"),
        (families.Gaussian(), {"vector": ("v",), "vector_as": "sky"}, "vector_as must be one of"),
        (families.Gaussian(), {"stopping": "never"}, "stopping must be"),
        (families.Gaussian(), {"dropout": 1.0}, "dropout must be"),
        (families.Gaussian(), {"embedding": 3}, "only symbols"),
        (families.Gaussian(), {"feedback": None}, "must have an input"),
        (families.Gaussian(), {"stopping": "end", "covariates": ("x",)}, "covariates give the length"),
        (families.Gaussian(), {"stopping": "end", "feedback": "predicted", "covariates": ("x",)}, "end symbol"),
        (families.Gaussian(), {"embeddings": {"month": (12, 3)}}, "among covariates and vector"),
        (families.Categorical(), {}, "categories must be known"),
        (families.FactorialGaussian((2, 2)), {}, "network to drive"),
    ],
)
def test_refused_models(family: families.Family, options: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        RecurrentModel(family, CELLS["gru"], **options)


def test_a_layer_is_taken_as_it_is_or_refused() -> None:
    series = Sequences.from_arrays([[0.5, 1.0], [2.0]])
    layer = GRU(2, 4)
    assert RecurrentModel.for_series(series, "gaussian", layer).cell is layer
    with pytest.raises(ModelError, match="layers and bidirectional must be left out"):
        RecurrentModel.for_series(series, "gaussian", layer, layers=2)
    with pytest.raises(ModelError, match="a cell must be a recurrent layer"):
        RecurrentModel.for_series(series, "gaussian", lambda inputs: torch.nn.LSTM(inputs, 4))  # type: ignore


def test_sizes_and_names_of_what_enters() -> None:
    with pytest.raises(ModelError, match="embedding must be a whole number of at least 1, got 0"):
        RecurrentModel(families.Categorical(3), lambda inputs: GRU(inputs, 3), embedding=0)
    for sizes in ((7,), (7, 0)):
        with pytest.raises(ModelError, match="embeddings must say how many codes"):
            RecurrentModel(
                families.Gaussian(), lambda inputs: GRU(inputs, 3), covariates=["day"], embeddings={"day": sizes}
            )
    model = RecurrentModel(families.Gaussian(), lambda inputs: GRU(inputs, 3), covariates="temperature")
    assert model.covariates.names == ("temperature",)


@pytest.mark.parametrize("value", [-1.0, 3.0, 0.5])
def test_what_is_no_symbol_is_refused(value: float) -> None:
    model = RecurrentModel(families.Categorical(3), lambda inputs: GRU(inputs, 3))
    with pytest.raises(DataError, match=f"codes from 0 to 2, got {value:g}"):
        model.log_prob(Sequences.from_arrays([[0.0, value, 1.0]]))
    with pytest.raises(DataError, match="a series must be Sequences, got list"):
        model.log_prob([[0.0, 1.0]])  # type: ignore[arg-type]


def test_how_many_are_drawn_must_be_a_number() -> None:
    series = Sequences.from_arrays([[0.5, 1.0], [2.0]])
    model = RecurrentModel.for_series(series, "gaussian", "gru", 3, stopping="end")
    assert model.simulate(np.int64(3), seed=1).lengths.tolist() == [3]  # type: ignore[arg-type]
    for lengths in (2.5, [1.5], 0, []):
        with pytest.raises(DataError, match="lengths must be whole numbers of at least 1"):
            model.simulate(lengths, seed=1)  # type: ignore[arg-type]
    for count in (0, -1, 1.5):
        with pytest.raises(DataError, match="count must be a whole number of at least 1"):
            model.simulate(count=count, seed=1)  # type: ignore[arg-type]


def test_a_cell_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match="input_size of the cell must be 2"):
        RecurrentModel(families.Gaussian(), GRU(3, 4))
    with pytest.raises(ModelError, match="sees the future"):
        RecurrentModel(families.Gaussian(), lambda i: Bidirectional(GRU(i, 2), GRU(i, 2)))
    with pytest.raises(ModelError, match="family of counts"):
        LengthLaw(families.Gaussian())


def test_refused_data() -> None:
    case = BY_HAND["categorical"]
    model, series = model_of(case, covariates=("x",), embeddings={"x": (2, 2)}), ragged(case)
    with pytest.raises(DataError, match="code from 0 to 1"):
        model.encode(series)
    with pytest.raises(DataError, match="none named 'x'"):
        model.encode(replace(series, covariates=None, covariate_names=()))
    with pytest.raises(DataError, match="symbols must be codes from 0 to 2, got 7"):
        model.encode(replace(series, values=torch.full((9,), 7.0)))
    with pytest.raises(DataError, match="single numbers or symbols"):
        model.encode(Sequences(torch.zeros(2, 2), torch.tensor([2])))
    text = Sequences.from_text(text="abab")
    made = RecurrentModel.for_series(text, "categorical", "gru", 2)
    with pytest.raises(DataError, match="read it with categories"):
        made.log_prob(Sequences.from_text(text="bcb"))
    assert made.log_prob(Sequences.from_text(text="bb", categories=text.categories)).isfinite().all()
    with pytest.raises(DataError, match="simulated along a series"):
        model.simulate([3], seed=1)
    with pytest.raises(ModelError, match="without an end"):
        symbol_model(2, None).simulate(count=3, seed=1)
    with pytest.raises(DataError, match="must come with count"):
        symbol_model(2, "end").simulate(seed=1)
    with pytest.raises(ModelError, match="knows its length"):
        known = symbol_model(2, LengthLaw(families.Geometric()))
        known.simulate([2], seed=1, past=Sequences.from_arrays([[0, 1]], categories=["a", "b"]))


def test_a_sequence_without_end_is_cut_and_said_so() -> None:
    model = symbol_model(2, "end")
    assert model.stop is not None
    torch.nn.init.constant_(model.stop.bias, -50.0)
    with pytest.warns(UserWarning, match="3 of 3 sequences had no end after 7 steps"):
        assert model.simulate(count=3, seed=1, longest=7).lengths.tolist() == [7, 7, 7]
