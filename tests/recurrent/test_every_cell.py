"""What every layer must pass: its formula, ragged batches, windows, gradients, saving.

Tolerances: 1e-10 is the promise against formulas; 1e-12 stands where only the order of sums in a matrix product may
differ (numbers are of order one, sums of a dozen terms); what does the same arithmetic must be equal to the last bit.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from probseq.errors import DataError, ModelError
from probseq.recurrent import Cell, RecurrentLayer, Stacked
from tests.recurrent.every_cell import CELLS, LAYERS, MEMORYLESS, D, numbers, state_like
from tests.recurrent.transcriptions import transcribed

EXACT = {"rtol": 0, "atol": 1e-12}
LENGTHS = torch.tensor([4, 0, 7, 1, 7])
FEW_STEPS = torch.tensor([1, 0, 7, 1, 2])  # most is padding, which cells of torch treat otherwise


@pytest.fixture(params=CELLS | MEMORYLESS)
def cell(request: pytest.FixtureRequest) -> Cell:
    return (CELLS | MEMORYLESS)[request.param]().double()


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> RecurrentLayer:
    return LAYERS[request.param]().double()


@pytest.fixture(params=[LENGTHS, FEW_STEPS], ids=["ragged", "very ragged"])
def lengths(request: pytest.FixtureRequest) -> Tensor:
    return request.param


def gradients(layer: RecurrentLayer, outputs: Tensor, state: tuple[Tensor, ...], *others: Tensor) -> list[Tensor]:
    """Of a sum of all results with unequal weights, in the weights and in others."""
    parts = [(one * numbers(*one.shape, seed=40 + i)).sum() for i, one in enumerate((outputs, *state))]
    found = torch.autograd.grad(sum(parts), (*layer.parameters(), *others), materialize_grads=True)
    return list(found)


def assert_all_close(one: tuple[Tensor, ...] | list[Tensor], other: tuple[Tensor, ...] | list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_it_is_its_formula(layer: RecurrentLayer) -> None:
    inputs = numbers(2, 6, D)
    outputs, _ = layer.unroll(inputs)
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    for x, h in zip(inputs.numpy(), outputs.detach().numpy(), strict=True):
        np.testing.assert_allclose(h, transcribed(layer, weights, x), rtol=0, atol=1e-10)


def test_unfolded_is_step_by_step(cell: Cell) -> None:
    inputs, state = numbers(3, 5, D), state_like(cell, 3)
    outputs, after = cell.unroll(inputs, state=state)
    for t in range(5):
        h, state = cell.step(inputs[:, t], state)
        torch.testing.assert_close(outputs[:, t], h, **EXACT)
    assert_all_close(after, state)


def plainly(cell: Cell, inputs: Tensor, lengths: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """h and the last state of a ragged batch by `step` alone, a sequence and a step at a time."""
    outputs = torch.zeros(*inputs.shape[:2], cell.hidden_size, dtype=inputs.dtype)
    states = []
    for row, length in enumerate(lengths.tolist()):
        own = tuple(one[row] for one in state)
        for t in range(length):
            outputs[row, t], own = cell.step(inputs[row, t], own)
        states.append(own)
    return outputs, *(torch.stack(parts) for parts in zip(*states, strict=True))


def test_the_fast_way_is_the_plain_loop(cell: Cell, lengths: Tensor) -> None:
    inputs = numbers(5, 7, D).requires_grad_()
    state = tuple(one.requires_grad_() for one in state_like(cell, 5))
    for given in (lengths, None):
        outputs, after = cell.unroll(inputs, given, state)
        plain = plainly(cell, inputs, torch.full((5,), 7) if given is None else given, state)
        assert_all_close((outputs, *after), plain)
        found = gradients(cell, outputs, after, inputs, *state)
        assert_all_close(found, gradients(cell, plain[0], plain[1:], inputs, *state))


def test_each_sequence_is_as_if_alone(layer: RecurrentLayer, lengths: Tensor) -> None:
    inputs, state = numbers(5, 7, D), state_like(layer, 5)
    outputs, after = layer.unroll(inputs, lengths, state)
    assert outputs.shape == (5, 7, layer.hidden_size)
    for row, length in enumerate(lengths.tolist()):
        own = tuple(one[row : row + 1] for one in state)
        alone, end = layer.unroll(inputs[row : row + 1, :length], state=own)
        torch.testing.assert_close(outputs[row : row + 1, :length], alone, **EXACT)
        assert not outputs[row, length:].any()
        assert_all_close(tuple(one[row : row + 1] for one in after), end)
        if length == 0:
            assert all(torch.equal(a[row], b[row]) for a, b in zip(after, state, strict=True))


def test_the_order_of_a_batch_does_not_matter(layer: RecurrentLayer, lengths: Tensor) -> None:
    inputs, state = numbers(5, 7, D), state_like(layer, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    one = layer.unroll(inputs, lengths, state)
    other = layer.unroll(inputs[order], lengths[order], tuple(part[order] for part in state))
    assert_all_close((one[0][order], *(part[order] for part in one[1])), (other[0], *other[1]))


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, 1e300])
def test_padding_changes_not_a_bit(layer: RecurrentLayer, lengths: Tensor, junk: float) -> None:
    pads = torch.arange(7) >= lengths.unsqueeze(-1)
    state = tuple(one.requires_grad_() for one in state_like(layer, 5))
    results = []
    for fill in (0.0, junk):
        inputs = numbers(5, 7, D).masked_fill(pads.unsqueeze(-1), fill).requires_grad_()
        outputs, after = layer.unroll(inputs, lengths, state)
        found = gradients(layer, outputs, after, inputs, *state)
        assert not found[len(list(layer.parameters()))][pads].any()
        results.append([outputs, *after, *found])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_windows_are_the_whole(cell: Cell, lengths: Tensor) -> None:
    inputs, state = numbers(5, 7, D), state_like(cell, 5)
    whole, end = cell.unroll(inputs, lengths, state)
    parts = []
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        outputs, state = cell.unroll(inputs[:, start:stop], (lengths.clamp(max=stop) - start).clamp(min=0), state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **EXACT)
    assert_all_close(state, end)


@pytest.mark.parametrize(("batch", "steps"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_gives_nothing(layer: RecurrentLayer, batch: int, steps: int) -> None:
    state = state_like(layer, batch)
    for lengths in (None, torch.full((batch,), steps)):
        outputs, after = layer.unroll(numbers(batch, steps, D), lengths, state)
        assert outputs.shape == (batch, steps, layer.hidden_size)
        assert all(torch.equal(a, b) for a, b in zip(after, state, strict=True))
    if batch and not steps:
        outputs, after = layer.unroll(numbers(batch, 2, D), torch.zeros(batch, dtype=torch.int64), state)
        assert not outputs.any() and all(torch.equal(a, b) for a, b in zip(after, state, strict=True))


def test_gradients_are_finite_differences(layer: RecurrentLayer) -> None:
    def results(inputs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        outputs, after = layer.unroll(inputs, torch.tensor([3, 1]), state)
        return outputs, *after

    weights = [one.requires_grad_() for one in layer.parameters()]
    inputs = [one.requires_grad_() for one in (numbers(2, 3, D), *state_like(layer, 2))]
    assert torch.autograd.gradcheck(results, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(lambda *_: results(*inputs), weights, fast_mode=True)


@pytest.mark.parametrize("name", CELLS)
def test_torch_func_differentiates_a_step(name: str) -> None:
    """The Jacobian of the whole state after a step in that before it, for many sequences at once."""
    cell = CELLS[name]().double()
    inputs, state = numbers(6, D), state_like(cell, 6)

    def after(x: Tensor, before: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return cell.step(x, before)[1]

    found = torch.func.vmap(torch.func.jacrev(after, argnums=1))(inputs, state)
    own = tuple(one[2] for one in state)
    expected = torch.autograd.functional.jacobian(lambda *before: after(inputs[2], before), own)
    for jacobians, row in zip(found, expected, strict=True):
        assert_all_close([one[2] for one in jacobians], row)


def test_single_precision_is_double_to_its_precision(layer: RecurrentLayer, lengths: Tensor) -> None:
    inputs = numbers(5, 7, D)
    wide = layer.unroll(inputs, lengths)
    narrow = layer.float().unroll(inputs.float(), lengths)
    for one, other in zip((narrow[0], *narrow[1]), (wide[0], *wide[1]), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5)  # a dozen steps of 6e-8 each, with room


def test_saved_and_rebuilt_it_is_the_same(layer: RecurrentLayer) -> None:
    described = json.loads(json.dumps(layer.description()))
    again = RecurrentLayer.rebuild(described).double()
    again.load_state_dict(load(save(layer.state_dict())))
    assert type(again) is type(layer) and again.description() == layer.description() == described
    inputs = numbers(5, 7, D)
    assert torch.equal(again.unroll(inputs, LENGTHS)[0], layer.unroll(inputs, LENGTHS)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_first_weights_leave_global_random_numbers_alone(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = LAYERS[name](), LAYERS[name]()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("inputs", "lengths", "match"),
    [
        (numbers(5, 7, D + 1), None, r"inputs must be \(sequences, steps, 3\), got \(5, 7, 4\)"),
        (numbers(5, D), None, r"inputs must be \(sequences, steps, 3\), got \(5, 3\)"),
        (numbers(5, 7, D).float(), None, "inputs must be torch.float64 on cpu as the weights are, got torch.float32"),
        (numbers(5, 7, D), LENGTHS[:4], r"lengths must be \(5,\) torch.int64 on cpu, got \(4,\)"),
        (numbers(5, 7, D), LENGTHS.double(), r"lengths must be \(5,\) torch.int64 on cpu, got \(5,\) torch.float64"),
        (numbers(5, 7, D), LENGTHS.to("meta"), r"lengths must be .* on meta"),
        (numbers(5, 7, D), torch.tensor([4, 0, 8, 1, 7]), "lengths must be 0 to 7, .* got 8 at sequence 2"),
        (numbers(5, 7, D), torch.tensor([4, -1, 8, 1, 7]), "lengths must be 0 to 7, .* got -1 at sequence 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    layer: RecurrentLayer, inputs: Tensor, lengths: Tensor | None, match: str
) -> None:
    with pytest.raises(DataError, match=match) as caught:
        layer.unroll(inputs, lengths)
    assert "\n" not in str(caught.value)


def test_a_state_that_does_not_fit_is_refused(layer: RecurrentLayer) -> None:
    right = state_like(layer, 5)
    wrong = [(*right, numbers(5, 2))]
    if right:
        wrong += [state_like(layer, 4), tuple(one.float() for one in right)]
    for state in wrong:
        with pytest.raises(DataError, match=r"the state must be .*; take it from start\(\)"):
            layer.unroll(numbers(5, 7, D), LENGTHS, state)


def test_a_layer_of_ones_own_is_saved_if_it_can_be() -> None:
    class Mean(Cell):
        """h_t = x_t / n, without a name."""

        def __init__(self, n: int) -> None:
            super().__init__()
            self.input_size = self.hidden_size = D
            self.n = torch.nn.Parameter(torch.tensor(float(n)))

        state_shapes = ()

        def step(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            return inputs / self.n, state

    class NamedMean(Mean):
        kind = "mean of the tests"

        def __init__(self, count: int) -> None:
            super().__init__(count)

    class SavedMean(NamedMean):
        kind = "saved mean of the tests"

        def __init__(self, count: int, about: dict[str, int]) -> None:
            super().__init__(count)
            self.count, self.about = count, about

    with pytest.raises(ModelError, match="a layer must have a kind to be saved, got none at Mean"):
        Mean(2).description()
    with pytest.raises(ModelError, match="keep its constructor's arguments to be saved, got no 'count' at NamedMean"):
        Stacked([NamedMean(2)]).description()
    again = Cell.rebuild(Stacked([SavedMean(2, {"any": 1})]).description())
    inputs = numbers(5, 7, D).float()
    assert torch.equal(again.unroll(inputs, LENGTHS)[0], SavedMean(2, {}).unroll(inputs, LENGTHS)[0])
