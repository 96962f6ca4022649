"""One of every layer, small and in float64, for the tests that all must pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from probseq.recurrent import GRU, LSTM, Bidirectional, Cell, RecurrentLayer, Stacked, Vanilla

D, H = 3, 4

CELLS: dict[str, Callable[[], Cell]] = {
    "vanilla": lambda: Vanilla(D, H, seed=1),
    "vanilla relu": lambda: Vanilla(D, H, activation="relu", orthogonal=True, seed=1),
    "lstm": lambda: LSTM(D, H, seed=2),
    "lstm forget bias": lambda: LSTM(D, H, orthogonal=True, forget_bias=1.0, seed=2),
    "gru": lambda: GRU(D, H, seed=3),
    "gru orthogonal": lambda: GRU(D, H, orthogonal=True, seed=3),
    "stacked": lambda: Stacked([LSTM(D, 2, seed=4), GRU(2, 5, seed=5), Vanilla(5, H, seed=6)]),
}
LAYERS: dict[str, Callable[[], RecurrentLayer]] = {
    **CELLS,
    "bidirectional": lambda: Bidirectional(LSTM(D, H, seed=7), GRU(D, 2, seed=8)),
    "bidirectional stacked": lambda: Bidirectional(
        Stacked([GRU(D, 2, seed=9), Vanilla(2, H, seed=10)]), Vanilla(D, H, seed=11)
    ),
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def state_like(layer: RecurrentLayer, batch: int) -> tuple[Tensor, ...]:
    """A state that is not zeros."""
    return tuple(0.5 * numbers(batch, *shape, seed=30 + i) for i, shape in enumerate(layer.state_shapes))
