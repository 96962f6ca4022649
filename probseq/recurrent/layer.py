"""What turns a batch of sequences into a vector at each of their steps: cells, and what is made of several."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from probseq.errors import DataError, ModelError
from probseq.recurrent.described import Described

State = tuple[Tensor, ...]
"""What a layer carries from step to step, each (B, ...)."""


class RecurrentLayer(Described, nn.Module, ABC):
    """A network over sequences, causal or not.

    Attributes:
        input_size: D, numbers in x_t.
        hidden_size: H, numbers in h_t.
    """

    input_size: int
    hidden_size: int

    @property
    @abstractmethod
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each tensor of the state, without its batch axis."""

    def start(self, batch: int) -> State:
        """The state before the first step: zeros (B, ...)."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch, *shape) for shape in self.state_shapes)

    @abstractmethod
    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps.

        Args:
            inputs: (B, L, D), padded after the end of each sequence with whatever it may be.
            lengths: (B,) int64 on the CPU, 0 to L; None when all have L steps.
            state: before the first step; None is `start`.

        Returns:
            h (B, L, H), zeros after the end; and the state after each sequence's own last step, which is the state
            before it where a sequence has no steps.

        Raises:
            DataError: sizes, types or lengths do not fit.
        """

    def admit(self, inputs: Tensor, lengths: Tensor | None, state: State | None) -> tuple[Tensor | None, State]:
        """Refuse a batch that does not fit; the lengths, None where all have L steps, and the state to start from."""
        where = type(self).__name__
        if inputs.ndim != 3 or inputs.shape[-1] != self.input_size:
            raise DataError(
                f"inputs must be (sequences, steps, {self.input_size}), got {tuple(inputs.shape)} at {where}; "
                "give each step as many numbers as the input_size says."
            )
        like = next(self.parameters())
        if inputs.dtype != like.dtype or inputs.device != like.device:
            raise DataError(
                f"inputs must be {like.dtype} on {like.device} as the weights are, got {inputs.dtype} on "
                f"{inputs.device} at {where}; convert one of them by .to()."
            )
        if lengths is not None:
            _require_lengths(lengths, inputs, where)
            lengths = None if bool((lengths == inputs.shape[1]).all()) else lengths
        if state is None:
            return lengths, self.start(len(inputs))
        shapes = [(len(inputs), *shape) for shape in self.state_shapes]
        if [tuple(one.shape) for one in state] != shapes or any(one.dtype != like.dtype for one in state):
            got = ", ".join(f"{tuple(one.shape)} {one.dtype}" for one in state) or "nothing"
            fit = ", ".join(f"{shape} {like.dtype}" for shape in shapes) or "nothing"
            raise DataError(
                f"the state must be {fit}, got {got} at {where}; take it from start() or from the window before."
            )
        return lengths, state


def _require_lengths(lengths: Tensor, inputs: Tensor, where: str) -> None:
    batch, longest = inputs.shape[:2]
    if lengths.shape != (batch,) or lengths.dtype != torch.int64 or lengths.device.type != "cpu":
        raise DataError(
            f"lengths must be ({batch},) torch.int64 on cpu, got {tuple(lengths.shape)} {lengths.dtype} on "
            f"{lengths.device} at {where}; give one whole number for each sequence, by .to('cpu', torch.int64)."
        )
    bad = (lengths < 0) | (lengths > longest)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise DataError(
            f"lengths must be 0 to {longest}, the steps of the inputs, got {int(lengths[row])} at sequence {row} of "
            f"{where}; pad the inputs to the longest sequence."
        )


def running(lengths: Tensor, inputs: Tensor) -> Tensor:
    """(B, L, 1) bool: True at the steps of each sequence."""
    steps = torch.arange(inputs.shape[1]) < lengths.unsqueeze(-1)
    return steps.to(inputs.device).unsqueeze(-1)


def require_sizes(where: object, **sizes: int) -> None:
    """Refuse the first size below one."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ModelError(
                f"{name} must be a whole number of at least 1, got {size} at {type(where).__name__}; "
                "choose how many numbers there are."
            )
