"""One answer for a whole sequence, against the cell's own steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch import distributions as laws

from probseq import DataError, ModelError, NetworkFit, Pairs, SequenceClassifier, Sequences, families, train
from probseq.recurrent import GRU, LSTM, Bidirectional, Cell, Vanilla

CELLS = {
    "vanilla": lambda inputs: Vanilla(inputs, 4, seed=1),
    "lstm": lambda inputs: LSTM(inputs, 4, seed=1),
    "bidirectional": lambda inputs: Bidirectional(GRU(inputs, 3, seed=1), GRU(inputs, 2, seed=2)),
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """The oracle's own tensors in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def inputs() -> Sequences:
    """Two columns and a covariate over nine steps in sequences of 5, 1 and 3; two entries are missing."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    observed = torch.ones(9, 2, dtype=torch.bool)
    observed[1], observed[7, 0] = False, False
    x = torch.randn(9, 1, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([5, 1, 3])
    ids = pd.Index(list("abc"))
    return Sequences(values, lengths, observed=observed, covariates=x, covariate_names=("x",), ids=ids)


PAIRS = Pairs(inputs(), torch.tensor([2, 0, 1]), classes=("sit", "stand", "run"))


def vectors(model: SequenceClassifier, series: Sequences) -> Tensor:
    """(N, H) what stands for each sequence, one cell step after the other."""
    found = []
    for n in range(series.count):
        one = series.take([n])
        assert one.covariates is not None
        seen = torch.ones(one.values.shape, dtype=torch.bool) if one.observed is None else one.observed
        values = torch.where(seen, (one.values - model.reader.shift) / model.reader.scale, 0.0)  # type: ignore[operator]
        x = (one.covariates - model.covariates.shift) / model.covariates.scale
        steps = torch.cat([values, seen.double(), x], -1)
        if isinstance(model.cell, Bidirectional):
            past, future = run(model.cell.past, steps), run(model.cell.future, steps.flip(0))
            last = torch.cat([past[-1], future[-1]])
            mean = torch.cat([past.mean(0), future.mean(0)])
        else:
            assert isinstance(model.cell, Cell)
            hidden = run(model.cell, steps)
            last, mean = hidden[-1], hidden.mean(0)
        found.append(last if model.pooling == "last" else mean)
    return torch.stack(found)


def run(cell: Cell, steps: Tensor) -> Tensor:
    """(T, H) of one sequence."""
    state, outputs = cell.start(1), []
    for step in steps:
        output, state = cell.step(step.unsqueeze(0), state)
        outputs.append(output[0])
    return torch.stack(outputs)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_scores_and_probabilities_are_those_of_single_steps(cell: str, pooling: str) -> None:
    model = SequenceClassifier.for_pairs(PAIRS, None, CELLS[cell], covariates=("x",), pooling=pooling, seed=3).double()
    if cell != "vanilla":
        model.prepare(PAIRS)
    series = inputs()
    logits = vectors(model, series) @ model.head.linear.weight.T + model.head.linear.bias + model.head.centre
    law = laws.Categorical(logits=logits)
    assert isinstance(PAIRS.targets, Tensor)
    assert model.log_prob(PAIRS).tolist() == pytest.approx(law.log_prob(PAIRS.targets).tolist(), rel=1e-11)
    table = model.predict_proba(series)
    assert list(table.columns) == ["sit", "stand", "run"] and list(table.index) == ["a", "b", "c"]
    torch.testing.assert_close(torch.tensor(table.to_numpy()), law.probs, rtol=1e-11, atol=0.0)
    assert model.predict(PAIRS).tolist() == law.probs.argmax(1).tolist()
    alone = torch.cat([model.log_prob(PAIRS.take([n])) for n in (2, 0, 1)])
    assert alone.tolist() == pytest.approx(model.log_prob(PAIRS)[[2, 0, 1]].tolist(), rel=1e-12)


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        (families.Categorical(3), torch.tensor([2, 0, 1])),
        (families.Gaussian(), torch.tensor([0.5, -2.0, 1.0])),
        (families.Poisson(), torch.tensor([3, 0, 9])),
        (families.MultivariateGaussian("tied"), torch.tensor([[0.5, 1.0], [-2.0, 0.0], [1.0, 4.0]])),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@torch.no_grad()
def test_the_program_is_the_score_for_any_answer(family: families.Family, targets: Tensor) -> None:
    weighted = replace(inputs(), weights=torch.tensor([1.0, 0.0, 2.5]))
    pairs = Pairs(weighted, targets)
    model = SequenceClassifier.for_pairs(pairs, family, "gru", 4, seed=1).double()
    each = model.log_prob(pairs)
    law = family.distribution(**model.predictive_parameters(pairs))
    assert each.tolist() == pytest.approx(law.log_prob(targets.double()).tolist(), rel=1e-12)
    expected = [float(each[0]), 0.0, 2.5 * float(each[2])]
    assert model.score(model.encode(pairs)).log_prob.tolist() == pytest.approx(expected, rel=1e-12)
    assert Trace_ELBO().loss(model.program, lambda data: None, pairs) == pytest.approx(-sum(expected), abs=1e-10)
    copy = SequenceClassifier.rebuild(model.description()).double()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.log_prob(pairs), each) and copy.description() == model.description()


def test_training_tells_rising_from_falling_symbols(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    up = torch.randint(0, 2, (60,), generator=generator)
    begins = torch.randint(0, 5, (60,), generator=generator)
    ways = enumerate(zip(begins, up, strict=True))
    steps = [(begin + (2 * way - 1) * torch.arange(4 + n % 3)) % 5 for n, (begin, way) in ways]
    pairs = Pairs(Sequences.from_arrays(steps, categories=list("abcde")), up, classes=("down", "up"))
    model = SequenceClassifier.for_pairs(pairs, cell="lstm", hidden_size=8, embedding=4, dropout=0.1, seed=1)
    fit = train(model, pairs.take(slice(0, 40)), epochs=25, learning_rate=0.03, seed=1)
    held_out = pairs.take(slice(40, None))
    right = fit.network.predict(held_out) == held_out.targets  # type: ignore[operator]
    assert float(right.double().mean()) == 1.0
    again = NetworkFit.load(fit.save(tmp_path / "fit"))
    assert torch.equal(again.log_prob(pairs), fit.log_prob(pairs))
    with pytest.raises(DataError, match="read it with categories"):
        again.network.encode(Sequences.from_arrays([[0, 1, 2, 3, 4]], categories=list("edcba")))


def test_refusals() -> None:
    with pytest.raises(ModelError, match="pooling must be one of"):
        SequenceClassifier(families.Categorical(2), CELLS["lstm"], pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="input_size of the cell must be 2"):
        SequenceClassifier(families.Categorical(2), LSTM(3, 4))
    with pytest.raises(ModelError, match="embedding must be None"):
        SequenceClassifier(families.Categorical(2), CELLS["lstm"], embedding=4)
    with pytest.raises(ModelError, match="among covariates"):
        SequenceClassifier(families.Categorical(2), CELLS["lstm"], embeddings={"day": (7, 2)})
    model = SequenceClassifier.for_pairs(PAIRS)
    with pytest.raises(DataError, match="classes must be those"):
        model.encode(Pairs(inputs(), torch.tensor([0, 0, 0]), classes=("sit", "run", "stand")))
    with pytest.raises(DataError, match="targets must have shape"):
        model.encode(Pairs(inputs(), torch.zeros(3, 2)))
    with pytest.raises(DataError, match="targets must be finite"):
        model.encode(Pairs(inputs(), torch.tensor([0.0, 1.0, float("nan")])))
    with pytest.raises(DataError, match="2 columns"):
        model.encode(Sequences.from_arrays([[1.0, 2.0]]))
    with pytest.raises(DataError, match="Pairs of Sequences and a tensor"):
        model.prepare(Pairs(torch.zeros(2, 3), torch.tensor([0, 1])))
    with pytest.raises(ModelError, match="must be asked of classes"):
        SequenceClassifier(families.Gaussian(), CELLS["lstm"], columns=2).predict_proba(inputs())
