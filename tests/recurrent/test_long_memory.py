"""Leaky, delayed and deep cells against each other, where one is a case of another."""

from typing import Any

import pytest
import torch

from probseq.errors import ModelError
from probseq.recurrent import (
    DeepOutput,
    DeepTransition,
    Delayed,
    Feedforward,
    Leaky,
    RecurrentLayer,
    Vanilla,
    cell_by_name,
)
from tests.recurrent.every_cell import D, H, numbers

LENGTHS = torch.tensor([4, 0, 7, 1, 7])


def borrow(cell: Any, vanilla: Vanilla) -> None:
    """Give a cell the weights of a vanilla one, whose second bias is made zero."""
    w_xh, w_hh, b_x, b_h = vanilla.weights
    with torch.no_grad():
        b_h.zero_()
        for mine, its in ((cell.weight_xh, w_xh), (cell.weight_hh, w_hh), (cell.bias, b_x)):
            mine.copy_(its)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_time_constant_of_one_is_vanilla_to_the_last_bit(dtype: torch.dtype) -> None:
    vanilla, leaky = Vanilla(D, H).to(dtype), Leaky(D, H, tau=1).to(dtype)
    borrow(leaky, vanilla)
    inputs, state = numbers(5, D).to(dtype), (numbers(5, H, seed=1).to(dtype),)
    assert torch.equal(leaky.step(inputs, state)[0], vanilla.step(inputs, state)[0])
    whole = numbers(5, 7, D).to(dtype)
    for one, other in zip(leaky.unroll(whole, LENGTHS), vanilla.unroll(whole, LENGTHS), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-15 if dtype == torch.float64 else 1e-6)


def test_a_slow_unit_is_an_average_of_the_past() -> None:
    """Without recurrent weights h_t is the exponentially weighted mean of tanh(W x + b), in closed form."""
    cell = Leaky(D, H, tau=4.0).double()
    torch.nn.init.zeros_(cell.weight_hh)
    inputs = numbers(1, 20, D)
    fast = torch.tanh(inputs[0] @ cell.weight_xh.T + cell.bias)
    weights = 0.25 * 0.75 ** torch.arange(19, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(cell.unroll(inputs)[0][0, -1], weights @ fast, rtol=0, atol=1e-12)


def test_time_constants_start_where_they_are_put() -> None:
    for learned in (False, True):
        spread = Leaky(D, 3, tau=2.0, tau_to=200.0, learned=learned).double()
        torch.testing.assert_close(
            spread.time_constants, torch.tensor([2.0, 20.0, 200.0]).double(), rtol=1e-6, atol=0
        )  # made in float32
        torch.testing.assert_close(spread.leak, 1 / spread.time_constants, rtol=1e-12, atol=0)
        assert Leaky(D, 2, tau=[3.0, 5.0], learned=learned).time_constants.tolist() == pytest.approx([3.0, 5.0])
    assert [name for name, _ in Leaky(D, H).named_parameters()] == ["weight_xh", "weight_hh", "bias"]


def test_learned_time_constants_stay_at_least_one_and_are_learned() -> None:
    """Wild steps of training, and a target that is constant: the leak must go up for all units."""
    cell = Leaky(1, 3, tau=100.0, learned=True).double()
    inputs = torch.ones(1, 5, 1, dtype=torch.float64)
    optimiser = torch.optim.SGD([cell.log_excess], lr=1e4)
    before = cell.time_constants.detach()
    for _ in range(20):
        optimiser.zero_grad()
        target = torch.tanh(cell.drive(inputs)).detach()
        (cell.unroll(inputs)[0] - target).square().sum().backward()
        optimiser.step()
        assert (cell.time_constants >= 1).all() and (cell.leak > 0).all() and (cell.leak <= 1).all()
    assert (cell.time_constants < before).all()


def test_a_delay_without_weight_is_vanilla() -> None:
    vanilla, delayed = Vanilla(D, H).double(), Delayed(D, H, delays=[2, 6]).double()
    borrow(delayed, vanilla)
    for weight in delayed.delayed_weights:
        torch.nn.init.zeros_(weight)
    inputs = numbers(5, 7, D)
    torch.testing.assert_close(
        delayed.unroll(inputs, LENGTHS)[0], vanilla.unroll(inputs, LENGTHS)[0], rtol=0, atol=1e-14
    )


def test_a_delay_carries_over_its_lag_alone() -> None:
    """Without W_hh, an input at step 0 is seen at multiples of the delay and nowhere else."""
    cell = Delayed(D, H, delays=[3]).double()
    with torch.no_grad():
        cell.weight_hh.zero_()
        cell.bias.zero_()
    inputs = torch.zeros(1, 10, D, dtype=torch.float64)
    inputs[0, 0] = 1.0
    seen = cell.unroll(inputs)[0][0].abs().sum(-1) > 0
    assert seen.nonzero()[:, 0].tolist() == [0, 3, 6, 9]


def test_the_state_of_a_delay_is_the_last_hidden_vectors() -> None:
    cell = Delayed(D, H, delays=[4]).double()
    outputs, state = cell.unroll(numbers(5, 7, D), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        for back, one in enumerate(state):
            expected = outputs[row, length - 1 - back] if length > back else torch.zeros(H, dtype=torch.float64)
            torch.testing.assert_close(one[row], expected, rtol=0, atol=0)


def test_a_skip_without_weight_changes_nothing() -> None:
    plain, skipping = DeepTransition(D, H, depth=3).double(), DeepTransition(D, H, depth=3, skip=True).double()
    weights = skipping.state_dict()
    weights["weight_skip"].zero_()
    plain.load_state_dict({name: value for name, value in weights.items() if name != "weight_skip"})
    inputs = numbers(5, 7, D)
    assert torch.equal(plain.unroll(inputs)[0], skipping.unroll(inputs)[0])


def test_without_memory_steps_do_not_know_of_each_other() -> None:
    cell = Feedforward(D, H).double()
    inputs = numbers(2, 7, D)
    order = torch.tensor([6, 2, 0, 1, 5, 4, 3])
    whole, state = cell.unroll(inputs)
    torch.testing.assert_close(cell.unroll(inputs[:, order])[0], whole[:, order], rtol=0, atol=1e-15)
    assert state == () == cell.start(2)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Leaky(2, 3, tau=0.5), "tau must be at least 1, got 0.5 at unit 0 of Leaky"),
        (lambda: Leaky(2, 3, tau=[1.0, 2.0, float("nan")]), "tau must be at least 1, got nan at unit 2"),
        (lambda: Leaky(2, 3, tau=float("inf")), "tau must be at least 1, got inf at unit 0"),
        (lambda: Leaky(2, 3, tau=1.0, learned=True), "tau must be above 1 to be learned, got 1 at unit 0"),
        (lambda: Leaky(2, 3, tau=[1.0, 2.0]), "tau must be one number or 3, got 2 at Leaky"),
        (lambda: Leaky(2, 3, tau=[2.0] * 3, tau_to=9.0), "tau must be one number where tau_to is given, got 3"),
        (lambda: Leaky(2, 3, tau=2.0, tau_to=0.5), "tau and tau_to must be at least 1, got 2 and 0.5 at Leaky"),
        (lambda: Leaky(2, 3, tau=2.0, tau_to=-1.0), "tau and tau_to must be at least 1, got 2 and -1 at Leaky"),
        (lambda: Delayed(2, 3, delays=[2, 0]), "delay 1 must be a whole number of at least 1, got 0 at Delayed"),
        (lambda: Delayed(2, 3, delays=[]), "delays must be at least one, got none"),
        (lambda: Delayed(2, 3, delays=[2, 2]), r"delays must differ, got \[2, 2\] at Delayed"),
        (lambda: DeepTransition(2, 3, depth=1), "depth must be at least 2, got 1 at DeepTransition"),
        (lambda: DeepOutput(Leaky(2, 3), widths=[]), "widths must be at least one, got none"),
        (lambda: DeepOutput(Leaky(2, 3), widths=[4, 0]), "width 1 must be a whole number of at least 1, got 0"),
        (lambda: Feedforward(2, 3, depth=0), "depth must be a whole number of at least 1, got 0 at Feedforward"),
        (lambda: cell_by_name("leaky", 2, 3, layers=2, tau=0.1), "tau must be at least 1, got 0.1"),
    ],
)
def test_what_is_not_well_defined_is_refused_in_one_line(make: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vanilla", "leaky", "delayed", "deep-transition", "lstm", "gru", "feedforward"])
def test_every_name_makes_its_cell(name: str) -> None:
    cell = cell_by_name(name, D, H, layers=2)
    assert [one.kind for one in cell.layers] == [name, name]  # pyright: ignore
    again = RecurrentLayer.rebuild(cell.description())
    assert again.state_dict().keys() == cell.state_dict().keys()
