"""Output recurrence: what is fed back is what the network itself expected, never what was observed.

h_t = step([E(y_{t-1}), x_t], h_{t-1}), where the expectation is that of the law at h_{t-1}, or of symbols their
probabilities. With a cell that has no state of its own this is a network whose only memory is its last output; it runs
in training as it does afterwards, without the observations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probseq.models.step_examples import WholeExamples
from probseq.recurrent import Cell, State

if TYPE_CHECKING:
    from probseq.models.recurrent_model import RecurrentModel


def output_recurrence(
    model: RecurrentModel, examples: WholeExamples, fixed: Tensor, state: State | None
) -> tuple[Tensor, State]:
    """The hidden vectors where the expected y_{t-1} is fed back.

    Args:
        model: with a cell that steps.
        examples: N sequences.
        fixed: (T, ...) what enters besides.
        state: after the window before: the cell's, and what is to be fed; None at the start.

    Returns:
        h (N, L, H), and the state after each sequence's last step.
    """
    cell, reader = model.cell, model.reader
    assert isinstance(cell, Cell)
    inputs, count = examples.padded(fixed), examples.count
    if state is None:
        state = (*model.start(examples), reader(reader.absent(count)).to(model.dtype))
    outputs = []
    for t in range(inputs.shape[1]):
        *before, fed = state
        output, after = cell.step(torch.cat([fed, inputs[:, t]], -1), tuple(before))
        expected = reader.expected(model.head.expectation(output)).to(model.dtype)
        runs = (examples.lengths > t).to(fed.device)
        changed = zip((*after, expected), state, strict=True)
        state = tuple(torch.where(runs.reshape(-1, *[1] * (new.ndim - 1)), new, old) for new, old in changed)
        outputs.append(output)
    padded = torch.stack(outputs, 1) if outputs else inputs.new_zeros(count, 0, cell.hidden_size)
    return padded, state
