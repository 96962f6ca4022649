"""What every recurrent cell offers: one step, and the same step unrolled over a batch of sequences.

h_t, state_t = step(x_t, state_{t-1})

Ragged batches are packed: longest first, so that the sequences still running at a step are the first rows of it, and
nothing is ever computed of the padding.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from probseq.recurrent.layer import RecurrentLayer, State


class Cell(RecurrentLayer):
    """A recurrent network's step; causal: h_t depends on x_1..x_t alone.

    A subclass gives `state_shapes` and `step`. Where part of a step can be had for all steps at once, it gives `drive`
    and `advance` too, with step(x, state) = advance(drive(x), state).
    """

    @abstractmethod
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x_t (B, D) and the state before it to h_t (B, H) and the state after it.

        Made of plain tensor operations on the last axis, so that `torch.func` differentiates and maps it, and without
        a batch axis too.
        """

    def drive(self, inputs: Tensor) -> Tensor:
        """What the inputs (..., D) alone contribute to their steps (..., any)."""
        return inputs

    def advance(self, drive: Tensor, state: State) -> tuple[Tensor, State]:
        """A step from what its input contributes."""
        return self.step(drive, state)

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps, one after the other; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        if inputs.numel() == 0:
            return self._silence(inputs), state
        if lengths is None:
            return self._run(inputs, state)
        some = lengths.nonzero()[:, 0]
        if len(some) == len(lengths):
            return self._run_ragged(inputs, lengths, state)
        if len(some) == 0:
            return self._silence(inputs), state
        rows = some.to(inputs.device)  # torch packs no sequence without steps
        ran, after = self._run_ragged(inputs[rows], lengths[some], tuple(one[rows] for one in state))
        outputs = self._silence(inputs).index_copy(0, rows, ran)
        return outputs, tuple(old.index_copy(0, rows, new) for old, new in zip(state, after, strict=True))

    def _silence(self, inputs: Tensor) -> Tensor:
        return inputs.new_zeros(*inputs.shape[:2], self.hidden_size)

    def _run(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps of sequences of the same length, at least 1: h (B, L, H), and the state after the last."""
        outputs = []
        for drive in self.drive(inputs).unbind(1):
            output, state = self.advance(drive, state)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state

    def _run_ragged(self, inputs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps of sequences of at least 1 step each: h (B, L, H), and the state after each one's last."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        ran, after = self._run_packed(packed, state)
        outputs, _ = pad_packed_sequence(ran, batch_first=True, total_length=inputs.shape[1])
        return outputs, after

    def _run_packed(self, packed: PackedSequence, state: State) -> tuple[PackedSequence, State]:
        """Packed inputs to packed h, in the order of the batch."""
        data, counts, order, back = packed
        assert order is not None and back is not None  # sorted by the packing
        state = tuple(one[order] for one in state)
        running, outputs, ended = len(order), [], []
        for drive in self.drive(data).split(counts.tolist()):
            count = len(drive)
            if count < running:
                ended.append(tuple(one[count:] for one in state))
                state = tuple(one[:count] for one in state)
                running = count
            output, state = self.advance(drive, state)
            outputs.append(output)
        ended.append(state)
        after = tuple(torch.cat(parts[::-1])[back] for parts in zip(*ended, strict=True))
        return PackedSequence(torch.cat(outputs), counts, order, back), after
