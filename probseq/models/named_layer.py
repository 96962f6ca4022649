"""The recurrent layer of a model, by the name of its cell."""

from __future__ import annotations

from collections.abc import Callable

from probseq.recurrent import Bidirectional, RecurrentLayer, cell_by_name

CellOf = Callable[[int], RecurrentLayer]
"""What makes a layer from the number of its inputs."""


def named_layer(
    cell: str | CellOf, hidden_size: int, *, layers: int = 1, bidirectional: bool = False, seed: int = 0
) -> CellOf:
    """What makes the layer once the number of its inputs is known.

    Args:
        cell: the kind of cell, such as "lstm"; or what makes the layer already, which the other arguments leave alone.
        hidden_size: H, of each layer and direction.
        layers: on top of each other.
        bidirectional: a second cell, from the last step backwards, beside the first.
        seed: of the first weights.

    >>> named_layer("gru", 4, bidirectional=True)(3).hidden_size
    8
    """

    def made(inputs: int) -> RecurrentLayer:
        if not isinstance(cell, str):
            return cell(inputs)
        past = cell_by_name(cell, inputs, hidden_size, layers=layers, seed=seed)
        if not bidirectional:
            return past
        return Bidirectional(past, cell_by_name(cell, inputs, hidden_size, layers=layers, seed=seed + layers))

    return made
