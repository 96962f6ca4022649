"""One of every layer, small and in float64, for the tests that all must pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from probseq.recurrent import (
    GRU,
    LSTM,
    Bidirectional,
    Cell,
    DeepOutput,
    DeepTransition,
    Delayed,
    Feedforward,
    Leaky,
    RecurrentLayer,
    Stacked,
    Vanilla,
)

D, H = 3, 4

# Cells with a memory: their state is not empty.
CELLS: dict[str, Callable[[], Cell]] = {
    "vanilla": lambda: Vanilla(D, H, seed=1),
    "vanilla relu": lambda: Vanilla(D, H, activation="relu", orthogonal=True, seed=1),
    "lstm": lambda: LSTM(D, H, seed=2),
    "lstm forget bias": lambda: LSTM(D, H, orthogonal=True, forget_bias=1.0, seed=2),
    "lstm long memory": lambda: LSTM(D, H, longest_lag=20.0, seed=2),
    "gru": lambda: GRU(D, H, seed=3),
    "gru orthogonal": lambda: GRU(D, H, orthogonal=True, seed=3),
    "leaky": lambda: Leaky(D, H, tau=[1.0, 2.5, 10.0, 1e6], orthogonal=True, seed=12),
    "leaky learned": lambda: Leaky(D, H, tau=1.5, tau_to=50.0, learned=True, seed=12),
    "delayed": lambda: Delayed(D, H, delays=[3], seed=13),
    "several delays": lambda: Delayed(D, H, delays=[5, 1, 2], seed=13),
    "deep transition": lambda: DeepTransition(D, H, seed=14),
    "deep transition with skip": lambda: DeepTransition(D, H, depth=3, skip=True, seed=14),
    "deep output": lambda: DeepOutput(Leaky(D, 2, seed=16), widths=[3, H], seed=17),
    "stacked mixed": lambda: Stacked(
        [DeepOutput(Feedforward(D, 2, seed=18), widths=[3], seed=19), Delayed(3, 2, delays=[2]), LSTM(2, H)]
    ),
    "stacked": lambda: Stacked([LSTM(D, 2, seed=4), GRU(2, 5, seed=5), Vanilla(5, H, seed=6)]),
}
MEMORYLESS: dict[str, Callable[[], Cell]] = {"feedforward": lambda: Feedforward(D, H, depth=2, seed=15)}
LAYERS: dict[str, Callable[[], RecurrentLayer]] = {
    **CELLS,
    **MEMORYLESS,
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
