"""Recorded computations against the computations themselves, and what a tape must refuse or ask again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from probseq.chains.tape import NotRecordable, Player, Tape, compiled

WEIGHTS = torch.linspace(0.5, 2.0, 12, dtype=torch.float64).reshape(4, 3)
AT = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
ELSEWHERE = [torch.tensor(values, dtype=torch.float64) for values in ([0.1, 0.2, 0.3], [-2.0, 0.5, 4.0])]


def record(function) -> tuple[Tape, list[Tensor]]:
    """The tape of value and gradient at AT, and the two."""
    with Tape() as tape:
        return tape, plain(function, AT)


def plain(function, at: Tensor) -> list[Tensor]:
    u = at.detach().requires_grad_()
    value = function(u)
    return [value.detach(), torch.autograd.grad(value, u, torch.ones_like(value.detach()))[0]]


def every_player(function) -> list[Player]:
    """The player by torch, and those by numpy and number by number as functions of tensors."""
    tape, wanted = record(function)

    def as_tensors(by_numpy: Player) -> Player:
        def play(at: Tensor):
            found = by_numpy(at.numpy())
            return None if found is None else [torch.as_tensor(np.asarray(part)) for part in found]

        return play

    arrays, cells = tape.array_player(AT, wanted), tape.cell_player(AT, wanted)
    return [tape.player(AT, wanted), as_tensors(arrays), as_tensors(cells)]


def rows(u: Tensor) -> Tensor:
    """Broadcasting, shapes, sums and a softmax."""
    table = (WEIGHTS * u).softmax(-1).log() + torch.stack([u, u.exp(), u.sigmoid(), u * u])
    return torch.logsumexp(table.mT @ WEIGHTS[:, :2], 0).sum() + torch.lgamma(u.exp()).sum() - table[1, 2] ** 2


def selections(u: Tensor) -> Tensor:
    """Slices, joins, conditions and indices."""
    joined = torch.cat([u[1:], u[:1].clamp_min(0.0)])
    picked = joined[torch.tensor([0, 2, 2, 1])]
    return torch.where(picked > 0, picked.square(), picked).sum() + torch.xlogy(torch.tensor(2.0), u.exp()).sum()


def smooth_ends(u: Tensor) -> Tensor:
    """Extremes, running sums, logarithms of sums, what is chosen, added and scattered by an index, and in place."""
    table = torch.outer(u, WEIGHTS[:, 0]).index_fill(1, torch.tensor([2]), 0.25)
    table = table.index_copy(0, torch.tensor([1]), u[:1].exp() * WEIGHTS[:1, 0].new_ones(1, 4))
    summed = table.index_add(0, torch.tensor([0, 0]), table[1:]).scatter_add(1, torch.tensor([[3, 3]]), u[None, 1:])
    softened = torch.nn.functional.softplus(30.0 * summed).index_select(1, torch.tensor([3, 0, 3]))
    ends = softened.amax(0) - softened.amin() + torch.logaddexp(summed[0, :3], u).cumsum(0)
    return (
        ends.mul_(2.0).sum()
        + table.tril().sum()
        + (u.sin() * u.cos()).sum()
        + summed.gather(1, torch.tensor([[2]])).sum()
    )


def by_torch_alone(u: Tensor) -> Tensor:
    """Of a positive definite matrix, what numpy's table has not."""
    matrix = torch.eye(3, dtype=torch.float64) + torch.outer(u, u)
    return torch.linalg.cholesky(matrix).diagonal().log().sum() + torch.linalg.solve(matrix, u).exp().sum()


def of_cells(function, at: Tensor) -> list[Tensor]:
    tape, wanted = record(function)
    return [torch.as_tensor(np.asarray(part)) for part in tape.cell_player(AT, wanted)(at.numpy()) or []]


def test_what_torch_alone_can_do_is_left_to_it():
    tape, wanted = record(by_torch_alone)
    with pytest.raises(NotRecordable, match="no counterpart in numpy"):
        tape.array_player(AT, wanted)
    for at in ELSEWHERE:
        torch.testing.assert_close(of_cells(by_torch_alone, at), plain(by_torch_alone, at), rtol=1e-12, atol=1e-12)


def test_many_numbers_are_left_to_arrays():
    long = torch.linspace(0.0, 1.0, 50_000, dtype=torch.float64)
    tape, wanted = record(lambda u: (long * u[0]).exp().sum())
    with pytest.raises(NotRecordable, match="too many numbers"):
        tape.cell_player(AT, wanted)


@pytest.mark.parametrize("function", [rows, selections, smooth_ends])
def test_played_elsewhere_it_gives_what_torch_gives(function):
    for player in every_player(function):
        for at in ELSEWHERE:
            with torch.no_grad():
                found = player(at)
            assert found is not None
            for part, expected in zip(found, plain(function, at), strict=True):
                torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_what_is_written_in_place_is_written_anew_each_time():
    """A matrix of data that some entries of the input are written into, after and before it is read."""

    def function(u: Tensor) -> Tensor:
        matrix = torch.zeros(3, dtype=torch.float64)
        matrix[0] = 5.0
        before = (matrix.clone() * u).sum()
        matrix[1] = u[2]
        return before + (matrix * u).sum() + matrix.square().sum()

    for player in every_player(function):
        for at in (*ELSEWHERE, ELSEWHERE[0]):
            with torch.no_grad():
                found = player(at)
            assert found is not None
            for part, expected in zip(found, plain(function, at), strict=True):
                torch.testing.assert_close(part, expected)


def test_another_way_through_the_computation_is_not_played():
    def function(u: Tensor) -> Tensor:
        return u.exp().sum() if bool((u > 0).all()) else u.square().sum()

    for player in every_player(function):  # recorded where one coordinate is negative
        assert player(ELSEWHERE[0]) is None
        found = player(ELSEWHERE[1])
        assert found is not None
        torch.testing.assert_close(found[0], ELSEWHERE[1].square().sum())


def test_a_compiled_function_is_one_step():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            value, ctx.slope = compiled(lambda x: (2.0 * x, np.full(x.shape, 2.0)), u)
            return value

        @staticmethod
        def backward(ctx, *gradients):
            return gradients[0] * ctx.slope

    for player in every_player(lambda u: Twice.apply(u.exp()).sum()):
        found = player(ELSEWHERE[1])
        assert found is not None
        torch.testing.assert_close(found[0], 2.0 * ELSEWHERE[1].exp().sum())
        torch.testing.assert_close(found[1], 2.0 * ELSEWHERE[1].exp())


def test_only_what_depends_on_the_input_is_run_again():
    calls = []

    def count(x: np.ndarray) -> tuple[np.ndarray, ...]:
        calls.append(len(x))
        return (x,)

    with Tape() as tape:
        data = compiled(count, torch.ones(7, dtype=torch.float64))[0].sum()
        value = (data * AT).sum()
    player = tape.player(AT, [value])
    assert calls == [7]
    found = player(ELSEWHERE[0])
    assert found is not None
    torch.testing.assert_close(found[0], 7.0 * ELSEWHERE[0].sum())
    assert calls == [7]


def test_randomness_and_foreign_numbers_are_refused():
    kept = torch.zeros(3, dtype=torch.float64)

    def draws(u: Tensor) -> Tensor:
        return (u * torch.rand_like(u)).sum()

    def writes(u: Tensor) -> Tensor:
        kept.copy_(u.detach())
        return (u * kept).sum()

    tape, wanted = record(writes)
    with pytest.raises(NotRecordable, match="from outside"):
        tape.player(AT, wanted)
    with torch.random.fork_rng():
        tape, wanted = record(draws)
    with pytest.raises(NotRecordable, match="random"):
        tape.player(AT, wanted)


def shared_noise(u: Tensor) -> Tensor:
    return (u + torch.randn(3, dtype=torch.float64)).square().sum()


def some_entries(u: Tensor) -> Tensor:
    return u[u > 0].exp().sum()


def how_many(u: Tensor) -> Tensor:
    return u.sum() * len(torch.nonzero(u > 0))


def masked(u: Tensor) -> Tensor:
    return torch.masked_select(u.exp(), u > 0).prod()


@pytest.mark.parametrize("function", [shared_noise, some_entries, how_many, masked])
def test_what_the_input_or_chance_counts_is_refused(function):
    """As many numbers as the input says come back from no question; numbers that were drawn are not data."""
    with torch.random.fork_rng():
        tape, wanted = record(function)
    for make in (tape.player, tape.array_player, tape.cell_player):
        with pytest.raises(NotRecordable, match="draws random numbers|as many numbers as its arguments say"):
            make(AT, wanted)


def test_entries_that_data_choose_are_recorded():
    mask = torch.tensor([True, False, True])
    for player in every_player(lambda u: u[mask].exp().sum()):
        found = player(ELSEWHERE[0])
        assert found is not None
        torch.testing.assert_close(found[0], ELSEWHERE[0][mask].exp().sum(), rtol=1e-14, atol=0.0)
