"""Back-propagation through time by hand, against autograd and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from probseq.recurrent import Vanilla, VanillaNet, backpropagate, softmax_error, squared_error

B, L, D, H, K = 4, 9, 3, 5, 6
NAMES = ("w_xh", "w_hh", "b_h", "w_hz", "b_z")
LENGTHS = torch.tensor([9, 1, 0, 5])


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NET = VanillaNet(draw(H, D, seed=0), draw(H, H, seed=1), draw(H, seed=2), draw(K, H, seed=3), draw(K, seed=4))
INPUTS, START = draw(B, L, D, seed=5), draw(B, H, seed=6)
CODES = torch.randint(K, (B, L), generator=torch.Generator().manual_seed(7))
REALS = draw(B, L, K, seed=8)


def torch_loss(net: VanillaNet, inputs: Tensor, start: Tensor, lengths: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    """The loss by torch.nn.RNN (its input bias is b_h, its hidden bias zero), each sequence alone; and every h_t."""
    module, losses, hidden = nn.RNN(D, H, batch_first=True, dtype=torch.float64), [], []
    weights = {"weight_ih_l0": net.w_xh, "weight_hh_l0": net.w_hh, "bias_ih_l0": net.b_h}
    weights["bias_hh_l0"] = torch.zeros(H, dtype=torch.float64)
    for n, length in enumerate(lengths.tolist()):
        h, total = start[n : n + 1], inputs.new_zeros(())
        for t in range(length):
            step = inputs[n : n + 1, t : t + 1]
            h = torch.func.functional_call(module, weights, (step, h.unsqueeze(0)))[0][:, 0]
            h.retain_grad()
            hidden.append((n, t, h))
            z = nn.functional.linear(h, net.w_hz, net.b_z)
            if softmax:
                total = total + nn.functional.cross_entropy(z, CODES[n : n + 1, t], reduction="sum")
            else:
                total = total + nn.functional.mse_loss(z, REALS[n : n + 1, t], reduction="sum") / 2
        losses.append(total)
    loss = torch.stack(losses)
    loss.sum().backward()
    gradients = torch.zeros(B, L, H, dtype=torch.float64)
    for n, t, h in hidden:
        gradients[n, t] = h.grad[0]
    return loss.detach(), gradients


@pytest.mark.parametrize("softmax", [True, False], ids=["softmax", "squared error"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_every_gradient_is_that_of_autograd(softmax: bool, lengths: Tensor | None) -> None:
    leaves = VanillaNet(*(getattr(NET, name).clone().requires_grad_() for name in NAMES))
    inputs, start = INPUTS.clone().requires_grad_(), START.clone().requires_grad_()
    own = torch.full((B,), L) if lengths is None else lengths
    loss, hidden = torch_loss(leaves, inputs, start, own, softmax)
    error, targets = (softmax_error, CODES) if softmax else (squared_error, REALS)
    found = backpropagate(NET, INPUTS, targets, error, lengths, START)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(found.loss, loss, **close)
    torch.testing.assert_close(found.hidden, hidden, **close)
    torch.testing.assert_close(found.start, start.grad, **close)
    torch.testing.assert_close(found.inputs, inputs.grad, **close)
    for name in NAMES:
        torch.testing.assert_close(getattr(found.gradient, name), getattr(leaves, name).grad, **close)


def test_gradients_are_those_of_finite_differences() -> None:
    """Central differences of step 1e-6 are right to about 1e-9 of values near 10."""
    found = backpropagate(NET, INPUTS, CODES, softmax_error, LENGTHS, START)
    for name in NAMES:
        weight, place = getattr(NET, name), (1,) * getattr(NET, name).ndim
        sums = []
        for change in (1e-6, -1e-6):
            moved = weight.clone()
            moved[place] += change
            net = VanillaNet(**{other: moved if other == name else getattr(NET, other) for other in NAMES})
            sums.append(backpropagate(net, INPUTS, CODES, softmax_error, LENGTHS, START).loss.sum())
        slope = (sums[0] - sums[1]) / 2e-6
        assert abs(float(slope - getattr(found.gradient, name)[place])) < 1e-7


def test_the_weights_of_a_cell_and_a_head_are_taken_over() -> None:
    cell, head = Vanilla(D, H, seed=1).double(), nn.Linear(H, K, dtype=torch.float64)
    net = VanillaNet.of(cell, head)
    hidden, _ = cell.unroll(INPUTS, LENGTHS)
    z = head(hidden)
    runs = torch.arange(L) < LENGTHS.unsqueeze(1)
    nn.functional.cross_entropy(z[runs], CODES[runs], reduction="sum").backward()
    found = backpropagate(net, INPUTS, CODES, lengths=LENGTHS).gradient
    for one, leaf in zip(
        (found.w_xh, found.w_hh, found.b_h, found.b_h, found.w_hz, found.b_z),
        (*cell.weights, *head.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, leaf.grad, rtol=1e-12, atol=1e-12)


def test_what_stands_in_the_padding_changes_nothing() -> None:
    padded = INPUTS.clone()
    for n, length in enumerate(LENGTHS.tolist()):
        padded[n, length:] = torch.nan
    one, other = (backpropagate(NET, x, CODES, softmax_error, LENGTHS, START) for x in (INPUTS, padded))
    for name in NAMES:
        assert torch.equal(getattr(one.gradient, name), getattr(other.gradient, name))
    assert torch.equal(one.loss, other.loss) and float(one.loss[2]) == 0.0
    alone = backpropagate(NET, INPUTS[3:, :5], CODES[3:, :5], start=START[3:])
    torch.testing.assert_close(alone.hidden[0], one.hidden[3, :5], rtol=1e-13, atol=1e-13)
