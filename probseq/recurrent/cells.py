"""Cells by name, as the command line and comparisons choose them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from probseq.errors import ModelError
from probseq.recurrent.cell import Cell
from probseq.recurrent.deep_transition import DeepTransition
from probseq.recurrent.delayed import Delayed
from probseq.recurrent.feedforward import Feedforward
from probseq.recurrent.gru import GRU
from probseq.recurrent.leaky import Leaky
from probseq.recurrent.lstm import LSTM
from probseq.recurrent.stacked import Stacked
from probseq.recurrent.vanilla import Vanilla

NAMES: dict[str, Callable[..., Cell]] = {
    one.kind: one for one in (Vanilla, Leaky, Delayed, DeepTransition, LSTM, GRU, Feedforward)
}
"""The cells that are made of two sizes."""


def cell_by_name(
    name: str,
    input_size: int,
    hidden_size: int,
    *,
    layers: int = 1,
    dropout: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> Cell:
    """A cell, or several of a kind stacked.

    Args:
        name: its kind, such as "lstm".
        input_size: D.
        hidden_size: H, of every layer.
        layers: how many are on top of each other.
        dropout: between layers, in training only.
        seed: of the first weights; each layer has its own, counted up from this one.
        options: what the cell's constructor takes besides.

    Raises:
        ModelError: no such cell, or no such option of it.

    >>> cell_by_name("gru", 2, 8).kind
    'gru'
    >>> cell_by_name("lstm", 2, 8, layers=2, forget_bias=1.0).state_shapes
    ((8,), (8,), (8,), (8,))
    """
    if name not in NAMES:
        raise ModelError(f"the cell must be one of {', '.join(sorted(NAMES))}, got '{name}' at its name; choose one.")
    if layers < 1:
        raise ModelError(f"layers must be at least 1, got {layers} at cell '{name}'; choose how many to stack.")
    if layers == 1 and dropout:
        raise ModelError(f"dropout must be 0 with one layer, got {dropout} at cell '{name}'; it stands between layers.")
    make = NAMES[name]
    known = set(inspect.signature(make).parameters) - {"input_size", "hidden_size", "seed"}
    if unknown := sorted(set(options) - known):
        raise ModelError(
            f"options must be among {', '.join(sorted(known))}, got {unknown[0]} at cell '{name}'; leave it out."
        )
    cells = [make(input_size if k == 0 else hidden_size, hidden_size, seed=seed + k, **options) for k in range(layers)]
    return cells[0] if layers == 1 else Stacked(cells, dropout)
