"""Tracking, against torch's own layers and closed forms on the same weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from probseq import DataError, ModelError, NetworkFit, Pairs, Sequences, families, train
from probseq.models.image_encoder import ConvolutionalEncoder
from probseq.models.tracking import FrameTracker
from probseq.recurrent import GRU, LSTM, Bidirectional, Feedforward, RecurrentLayer

SHAPE = (1, 8, 9)
STEPS = (5, 1, 4, 7)


def made(seed: int = 0, columns: int = 2) -> Pairs:
    rng = np.random.default_rng(seed)
    films = Sequences.from_arrays([rng.random((steps, math.prod(SHAPE))) for steps in STEPS])
    shape = (columns,) if columns else ()
    return Pairs(films, Sequences.from_arrays([rng.normal(3.0, 2.0, (steps, *shape)) for steps in STEPS]))


DATA = made()


def tracker(
    layer: str | Callable[[int], RecurrentLayer] = "lstm",
    data: Pairs = DATA,
    family: Any = "multivariate-gaussian",
    prepared: bool = True,
) -> FrameTracker:
    encoder = ConvolutionalEncoder(SHAPE, features=5, blocks=((3,), (4,)))
    network = FrameTracker.of(data, image_shape=SHAPE, family=family, encoder=encoder, layer=layer, hidden_size=6)
    network = network.double()
    if prepared:
        network.prepare(data)
    return network


def sides(data: Pairs = DATA) -> tuple[Sequences, Sequences]:
    assert isinstance(data.inputs, Sequences) and isinstance(data.targets, Sequences)
    return data.inputs, data.targets


def test_the_density_is_that_of_a_gaussian_driven_by_torchs_lstm() -> None:
    """Film by film: torch's LSTM on the frames' vectors, the head's map and the normal density by hand."""
    network, (films, places) = tracker(), sides()
    lstm = nn.LSTM(5, 6, batch_first=True).double()
    assert isinstance(network.layer, LSTM)
    lstm.load_state_dict(network.layer.layer.state_dict())
    head, expected = network.head, []
    with torch.no_grad():
        for film, way in zip(films.values.split(STEPS), places.values.split(STEPS), strict=True):
            h = lstm(network.encoder(film.reshape(-1, *SHAPE)).unsqueeze(0))[0][0]
            u = head.centre + head.spread * (h @ head.linear.weight.T + head.linear.bias)
            loc, free = u[:, :2].numpy(), u[:, 2:].numpy()  # the lower triangle, row by row
            total = 0.0
            for t, y in enumerate(way.numpy()):
                factor = np.array([[np.exp(free[t, 0]), 0.0], [free[t, 1], np.exp(free[t, 2])]])
                z = np.linalg.solve(factor, y - loc[t])
                total -= z @ z / 2 + np.log(np.diag(factor)).sum() + math.log(2 * math.pi)
            expected.append(total)
    np.testing.assert_allclose(network.log_prob(DATA).numpy(), expected, atol=1e-10, rtol=0.0)
    laws = network.laws(films)
    assert laws["loc"].shape == (17, 2) and laws["scale_tril"].shape == (17, 2, 2)
    torch.testing.assert_close(network.expected(films), laws["loc"], atol=0.0, rtol=0.0)


LAYERS: dict[str, Any] = {
    "lstm": "lstm",
    "gru": lambda inputs: GRU(inputs, 6),
    "none": lambda inputs: Feedforward(inputs, 6),
    "both ways": lambda inputs: Bidirectional(LSTM(inputs, 4), LSTM(inputs, 4, seed=1)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_the_company_of_others_changes_nothing(layer: Any) -> None:
    network, (films, _) = tracker(layer), sides()
    whole, order = network.log_prob(DATA), torch.tensor([3, 0, 3, 1, 2])
    torch.testing.assert_close(network.log_prob(DATA.take(order)), whole[order], atol=1e-12, rtol=0.0)
    torch.testing.assert_close(network.log_prob(DATA, batch_size=1), whole, atol=1e-12, rtol=0.0)
    torch.testing.assert_close(network.expected(films, batch_size=1), network.expected(films), atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_only_memory_knows_the_past_and_only_both_ways_the_future(layer: Any, request: pytest.FixtureRequest) -> None:
    network, (films, _) = tracker(layer), sides()
    before = network.expected(films)[10:]  # of the last film, seven frames
    values = films.values.clone()
    values[13] += 1.0  # its fourth
    changed = (network.expected(Sequences(values, films.lengths))[10:] != before).any(1).tolist()
    causal, memory = "both ways" not in request.node.name, "none" not in request.node.name
    assert changed == [not causal] * 3 + [True] + [memory] * 3


@pytest.mark.parametrize(
    ("family", "columns"),
    [
        (families.MultivariateGaussian(), 2),
        (families.MultivariateGaussian("tied"), 2),
        (families.Gaussian(), 0),
        (families.Mixture(families.Gaussian(), 2), 0),
    ],
    ids=lambda one: getattr(one, "name", str(one)),
)
def test_the_program_is_the_score_and_plain_values_rebuild_it(family: Any, columns: int) -> None:
    """With an empty guide the negative ELBO is the sum of the scores, missing y or not."""
    data = made(columns=columns)
    films, places = sides(data)
    observed = torch.ones(places.values.shape, dtype=torch.bool)
    observed[[2, 11]] = False
    for targets in (places, Sequences(places.values, places.lengths, observed=observed)):
        pairs = Pairs(films, targets)
        network = tracker(data=pairs, family=family)
        total = network.log_prob(pairs).sum().item()
        assert Trace_ELBO().loss(network.program, lambda data: None, pairs) == pytest.approx(-total, abs=1e-9)
        pyro.clear_param_store()
        again = FrameTracker.rebuild(json.loads(json.dumps(network.description()))).double()
        again.load_state_dict(network.state_dict())
        assert torch.equal(again.log_prob(pairs), network.log_prob(pairs))


def test_a_missing_place_is_seen_but_not_scored() -> None:
    """A gap leaves the other steps' densities alone; of a place measured in part, what was measured is scored."""
    films, places = sides()
    network = tracker()
    laws = network.laws(films)
    by_step = torch.distributions.MultivariateNormal(laws["loc"], scale_tril=laws["scale_tril"]).log_prob(places.values)
    observed = torch.ones(17, 2, dtype=torch.bool)
    observed[12] = False
    observed[8, 1] = False
    gap = Pairs(films, Sequences(places.values, places.lengths, observed=observed))
    deviation = laws["scale_tril"][8, 0, 0]
    by_step[8] = torch.distributions.Normal(laws["loc"][8, 0], deviation).log_prob(places.values[8, 0])
    by_step[12] = 0.0
    expected = torch.stack([part.sum() for part in by_step.split(STEPS)])
    torch.testing.assert_close(network.log_prob(gap), expected, atol=1e-10, rtol=0.0)
    assert network.score(network.encode(gap)).steps.tolist() == [5, 1, 4, 6]


def test_before_training_the_law_is_that_of_all_places_together() -> None:
    network, (films, places) = tracker(), sides()
    with torch.no_grad():
        network.head.linear.weight.zero_()
    laws = network.laws(films)
    torch.testing.assert_close(laws["loc"][0], places.values.mean(0), atol=1e-6, rtol=0.0)  # the head's bias is float32
    spread = laws["scale_tril"][0] @ laws["scale_tril"][0].T
    torch.testing.assert_close(spread, torch.cov(places.values.T, correction=0), atol=1e-6, rtol=0.0)


def test_a_bright_spot_is_followed(tmp_path: Path) -> None:
    """One lit pixel of 8 x 9 that walks to the right: after training the error is below half a pixel, of about two."""
    rng = np.random.default_rng(1)
    starts = rng.integers(0, [8, 4], (60, 2))
    frames, places = np.zeros((60, 6, *SHAPE[1:])), np.zeros((60, 6, 2))
    for n, (row, column) in enumerate(starts):
        for t in range(6):
            frames[n, t, row, column + t] = 1.0
            places[n, t] = column + t, row
    data = Pairs(Sequences.from_arrays(frames.reshape(60, 6, -1)), Sequences.from_arrays(places, columns=("x", "y")))
    network = FrameTracker.of(data, image_shape=SHAPE, hidden_size=24)
    fit = train(network, data, epochs=25, batch_size=10, learning_rate=0.01, patience=None)
    assert isinstance(fit.network, FrameTracker)
    films, where = sides(data)
    error = (fit.network.expected(films) - where.values).norm(dim=1).mean()
    assert error < 0.5 < (where.values - where.values.mean(0)).norm(dim=1).mean() / 4
    fit.save(tmp_path / "kept")
    assert torch.equal(NetworkFit.load(tmp_path / "kept").log_prob(data), fit.log_prob(data))


def test_what_does_not_fit_is_refused() -> None:
    network, (films, places) = tracker(), sides()
    with pytest.raises(DataError, match="got 5 frames and 1 targets at pair 0"):
        network.log_prob(Pairs(films, places.take([1, 0, 2, 3])))
    with pytest.raises(DataError, match="targets must have 2 columns, got 0"):
        network.log_prob(made(columns=0))
    with pytest.raises(DataError, match="videos must be Sequences with 72 columns"):
        network.expected(places)
    with pytest.raises(DataError, match="targets must be Sequences that count once each, got Tensor"):
        network.log_prob(Pairs(films, torch.zeros(4)))
    with pytest.raises(DataError, match="videos must count once each, got weights"):
        network.expected(Sequences(films.values, films.lengths, weights=torch.ones(4)))
    observed = torch.ones(films.values.shape, dtype=torch.bool)
    observed[7, 3] = False
    with pytest.raises(DataError, match="frames must not be missing, got one at video 2"):
        network.expected(Sequences(films.values, films.lengths, observed=observed))
    with pytest.raises(ModelError, match="must read the 5 numbers that the encoder makes, got input_size 3"):
        FrameTracker(network.encoder, LSTM(3, 4), families.Gaussian(), SHAPE, columns=0)
