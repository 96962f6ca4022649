"""The recurrent layer of a model, by the name of its cell."""

from __future__ import annotations

from collections.abc import Callable

from probseq.errors import ModelError
from probseq.recurrent import Bidirectional, RecurrentLayer, cell_by_name

CellOf = Callable[[int], RecurrentLayer]
"""What makes a layer from the number of its inputs."""


def named_layer(
    cell: str | RecurrentLayer | CellOf,
    hidden_size: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    seed: int = 0,
) -> RecurrentLayer | CellOf:
    """What makes the layer once the number of its inputs is known.

    Args:
        cell: the kind of cell, such as "lstm"; or the layer, or what makes it, as it is to be.
        hidden_size: H, of each layer and direction.
        layers: on top of each other.
        bidirectional: a second cell, from the last step backwards, beside the first.
        seed: of the first weights.

    >>> named_layer("gru", 4, bidirectional=True)(3).hidden_size
    8
    """

    if not isinstance(cell, str):
        if layers != 1 or bidirectional:
            raise ModelError(
                f"layers and bidirectional must be left out where the layer is given, got {layers} and "
                f"{bidirectional}; make it with Stacked and Bidirectional, or name its cell."
            )
        return cell

    def made(inputs: int) -> RecurrentLayer:
        past = cell_by_name(cell, inputs, hidden_size, layers=layers, seed=seed)
        if not bidirectional:
            return past
        return Bidirectional(past, cell_by_name(cell, inputs, hidden_size, layers=layers, seed=seed + layers))

    return made


def made_layer(cell: RecurrentLayer | CellOf, inputs: int) -> RecurrentLayer:
    """The layer, made for so many inputs where it is not there yet.

    Raises:
        ModelError: it is no layer.
    """
    made = cell if isinstance(cell, RecurrentLayer) or not callable(cell) else cell(inputs)
    if not isinstance(made, RecurrentLayer):
        raise ModelError(
            f"a cell must be a recurrent layer, or make one from its number of inputs, got {made!r:.60}; give "
            "one of probseq.recurrent: lambda inputs: LSTM(inputs, 32)."
        )
    return made
