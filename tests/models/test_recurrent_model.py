"""A recurrent model against its law written out by hand, step by step, and against every string there is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pyro.infer import Trace_ELBO

from probseq import DataError, LengthLaw, RecurrentModel, Sequences, families, train
from probseq.models.emission_step import observed_rows
from probseq.models.free_running import complete
from probseq.models.stopping import TOLD
from probseq.recurrent import GRU, Bidirectional, Stacked
from tests.models.conftest import FAMILIES
from tests.models.recurrent_models import CELLS, model_of, ragged
from tests.models.recurrent_oracle import BY_HAND, by_hand

pytestmark = pytest.mark.usefixtures("float64")


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
