"""Cells that torch has, against torch.nn on the same weights: values, last states and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from probseq.errors import ModelError
from probseq.recurrent import GRU, LSTM, Bidirectional, Cell, RecurrentLayer, Stacked, Vanilla, cell_by_name
from tests.recurrent.every_cell import D, H, numbers

EXACT = {"rtol": 0, "atol": 1e-10}
LENGTHS = torch.tensor([4, 2, 7, 1, 7])
EVERY_LENGTHS = pytest.mark.parametrize(
    "lengths", [None, LENGTHS, torch.tensor([1, 2, 7, 1, 1])], ids=["equal", "ragged", "very ragged"]
)
KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "vanilla": (Vanilla, nn.RNN),
    "lstm": (LSTM, nn.LSTM),
    "gru": (GRU, nn.GRU),
}


def of_torch(name: str, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return KINDS[name][1](D, H, batch_first=True, dtype=torch.float64, **options)


def borrow(cell: Cell, torch_layer: Any, suffix: str) -> None:
    """Give a cell the weights of one layer and direction of a torch module."""
    with torch.no_grad():
        for name, weight in cell.layer.named_parameters():  # pyright: ignore
            weight.copy_(getattr(torch_layer, name.removesuffix("_l0") + suffix))


def compare(ours: RecurrentLayer, theirs: Any, lengths: Tensor | None) -> None:
    """Outputs, last states (in torch's order of layers, then directions) and the inputs' gradient."""
    inputs = numbers(5, 7, D).requires_grad_()
    outputs, state = ours.unroll(inputs, lengths)
    if lengths is None:
        expected, hidden = theirs(inputs)
    else:
        packed, hidden = theirs(pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False))
        expected, _ = pad_packed_sequence(packed, batch_first=True)
    torch.testing.assert_close(outputs, expected, **EXACT)
    last = hidden if isinstance(hidden, tuple) else (hidden,)  # h_n or (h_n, c_n), each (layers, B, H)
    for k, one in enumerate(last):
        torch.testing.assert_close(torch.stack(state[k :: len(last)]), one, **EXACT)
    weights = numbers(*outputs.shape, seed=9)
    (found,) = torch.autograd.grad((outputs * weights).sum(), inputs)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), inputs)
    torch.testing.assert_close(found, wanted, **EXACT)


@EVERY_LENGTHS
@pytest.mark.parametrize("name", KINDS)
def test_a_cell_is_torchs(name: str, lengths: Tensor | None) -> None:
    theirs = of_torch(name)
    ours = KINDS[name][0](D, H).double()
    borrow(ours, theirs, "_l0")
    compare(ours, theirs, lengths)


def test_relu_is_torchs() -> None:
    theirs = of_torch("vanilla", nonlinearity="relu")
    ours = Vanilla(D, H, activation="relu").double()
    borrow(ours, theirs, "_l0")
    compare(ours, theirs, LENGTHS)


def test_relu_that_would_overflow_after_the_end_does_not() -> None:
    """With W_hh = 1e30 the h of a second step would be 1e30, of a third more than float32 has."""
    cell = Vanilla(1, 1, activation="relu")
    with torch.no_grad():
        for weight, value in zip(cell.weights, (1.0, 1e30, 0.0, 0.0), strict=True):
            weight.fill_(value)
    inputs = torch.tensor([1.0, 0.0]).reshape(2, 1, 1).expand(2, 5, 1)
    outputs, (last,) = cell.unroll(inputs, torch.tensor([1, 5]))
    found = torch.autograd.grad(outputs[0].sum() + last[0].sum(), list(cell.parameters()))
    assert all(bool(one.isfinite().all()) for one in found)


@pytest.mark.parametrize("name", KINDS)
def test_stacked_is_torchs_layers(name: str) -> None:
    theirs = of_torch(name, num_layers=3)
    ours = Stacked([KINDS[name][0](D if k == 0 else H, H) for k in range(3)], dropout=0.5).double().eval()
    for k, cell in enumerate(ours.layers):
        borrow(cell, theirs, f"_l{k}")
    compare(ours, theirs, LENGTHS)


@EVERY_LENGTHS
@pytest.mark.parametrize("name", KINDS)
def test_bidirectional_is_torchs(name: str, lengths: Tensor | None) -> None:
    theirs = of_torch(name, bidirectional=True)
    ours = Bidirectional(KINDS[name][0](D, H), KINDS[name][0](D, H)).double()
    borrow(ours.past, theirs, "_l0")
    borrow(ours.future, theirs, "_l0_reverse")
    compare(ours, theirs, lengths)


@pytest.mark.parametrize("name", KINDS)
def test_first_weights_are_torchs(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        theirs = KINDS[name][1](D, H)
    for ours, expected in zip(KINDS[name][0](D, H, seed=7).parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("name", KINDS)
def test_orthogonal_weights_keep_lengths(name: str) -> None:
    cell = KINDS[name][0](D, H, orthogonal=True)
    for gate in cell.layer.weight_hh_l0.detach().split(H):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H), rtol=0, atol=1e-6)  # float32


def test_memories_are_spread_up_to_the_longest_lag() -> None:
    """Biases log u and -log u of the gates forget and input: a unit then keeps u / (1 + u) of its memory a step."""
    cell = LSTM(D, 400, longest_lag=101.0, seed=1).double()
    _, _, b_x, b_h = (weight.detach().reshape(4, 400, *weight.shape[1:]) for weight in cell.weights)
    steps = (b_x + b_h)[1].exp()
    assert torch.equal(b_x[0], -b_x[1]) and not bool(b_h[:2].any())
    assert bool(((steps >= 1) & (steps <= 100.001)).all())
    assert abs(float(steps.mean()) - 50.5) < 4 * 99 / (12 * 400) ** 0.5  # uniform on (1, 100)
    assert torch.equal(cell.weights[1], LSTM(D, 400, seed=1).double().weights[1])


def test_the_forget_bias_is_the_forget_gates() -> None:
    """With no input and no weights but that bias, the memory keeps sigmoid(bias) of itself at each step."""
    cell = LSTM(D, H, forget_bias=2.0).double()
    with torch.no_grad():
        for weight in cell.parameters():
            if weight.ndim == 2:
                weight.zero_()
            else:
                weight[2 * H : 3 * H] = 0.0  # g
    _, (_, c) = cell.step(numbers(1, D), (numbers(1, H), torch.ones(1, H, dtype=torch.float64)))
    torch.testing.assert_close(c, torch.full_like(c, 1 / (1 + torch.tensor(-2.0, dtype=torch.float64).exp())), **EXACT)


def test_dropout_stands_between_layers_in_training_only() -> None:
    deep = Stacked([Vanilla(D, 50, seed=1), Vanilla(50, H, seed=2)], dropout=0.5).double()
    inputs = numbers(3, 4, D)
    calm = deep.eval().unroll(inputs)[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shaken = deep.train().unroll(inputs)[0]
        torch.manual_seed(0)
        hidden = torch.nn.functional.dropout(deep.layers[0].unroll(inputs)[0], 0.5)
    assert not torch.allclose(calm, shaken)
    torch.testing.assert_close(shaken, deep.layers[1].unroll(hidden)[0], **EXACT)
    assert torch.equal(deep.eval().unroll(inputs)[0], calm)


def test_cells_by_name() -> None:
    cell = cell_by_name("lstm", D, H, layers=2, dropout=0.1, seed=5, forget_bias=1.0)
    assert isinstance(cell, Stacked) and cell.dropout == 0.1
    low, high = cell.layers
    for one, other in ((low, LSTM(D, H, forget_bias=1.0, seed=5)), (high, LSTM(H, H, forget_bias=1.0, seed=6))):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LSTM(0, 3), "input_size must be a whole number of at least 1, got 0 at LSTM"),
        (lambda: GRU(2, -1), "hidden_size must be a whole number of at least 1, got -1 at GRU"),
        (lambda: Vanilla(2, 2.0), "hidden_size must be a whole number of at least 1, got 2.0 at Vanilla"),  # pyright: ignore
        (lambda: Vanilla(2, 3, activation="sine"), "activation must be 'tanh' or 'relu', got 'sine'"),  # pyright: ignore
        (lambda: Stacked([]), "cells must be at least one"),
        (lambda: Stacked([Bidirectional(LSTM(2, 1), LSTM(2, 1))]), "causal cells, got .* 'bidirectional' at cell 0"),  # pyright: ignore
        (lambda: Stacked([LSTM(2, 3), LSTM(2, 3)]), "the hidden_size of the cell below, 3, got 2 at cell 1 of Stacked"),
        (lambda: Stacked([LSTM(2, 3)], dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: Stacked([LSTM(2, 2)] * 2), "cells must differ, got one of them twice"),
        (lambda: Bidirectional(LSTM(2, 3), LSTM(3, 3)), "input_size must be the same for both cells, got 2 and 3"),
        (lambda: Bidirectional(*[LSTM(2, 3)] * 2), "cells must be two, got one and the same"),
        (lambda: cell_by_name("elman", 2, 3), "the cell must be one of .*vanilla.*, got 'elman'"),
        (lambda: LSTM(2, 3, longest_lag=9.0, forget_bias=1.0), "without a forget_bias, got 9.0 and 1.0 at LSTM"),
        (lambda: LSTM(2, 3, longest_lag=2.0), "above 2"),
        (lambda: cell_by_name("gru", 2, 3, forget_bias=1.0), "options must be among orthogonal, got forget_bias"),
        (lambda: cell_by_name("gru", 2, 3, layers=0), "layers must be at least 1, got 0"),
        (lambda: cell_by_name("gru", 2, 3, dropout=0.5), "dropout must be 0 with one layer, got 0.5"),
        (lambda: Cell.rebuild({"kind": "elman"}), "the kind of a Cell must be one of .*, got 'elman'"),
        (lambda: Cell.rebuild({"kind": "bidirectional"}), "the kind of a Cell must be one of .*, got 'bidirectional'"),
    ],
)
def test_what_is_not_well_defined_is_refused_in_one_line(make: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_kind_belongs_to_one_class() -> None:
    with pytest.raises(ModelError, match="kinds of layers must differ, got 'lstm'"):
        type("Other", (GRU,), {"kind": "lstm"})
