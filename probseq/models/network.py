"""What training, saving and comparison know of a neural model: data in as examples, log-probabilities out.

A network is a Pyro program besides: `program(data)` registers its weights (`pyro.module`) and observes the data, so
that with an empty guide the negative ELBO is exactly the negative sum of `log_prob`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from pyro import poutine
from torch import Tensor, nn

from probseq.recurrent import State

BATCH = 256
"""Examples that are scored at a time without gradients."""

WINDOW = 2048
"""Steps that are scored at a time without gradients, where examples have windows."""


class Examples(Protocol):
    """A network's data as tensors, ready for batches; what is in it, the network alone knows."""

    @property
    def lengths(self) -> Tensor:
        """(N,) int64 on the CPU: how long each example is, by which batches may be sorted."""
        ...

    def take(self, index: Tensor) -> Any:
        """The examples of these numbers, in this order."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """The same on another device."""
        ...


class Scored(NamedTuple):
    """What a network says of a batch.

    Attributes:
        log_prob: (B,) nats, differentiable.
        steps: (B,) how many observations each score is of.
        state: after the batch, where a following window may go on; empty where a network cannot.
    """

    log_prob: Tensor
    steps: Tensor
    state: State = ()


class Network(nn.Module, ABC):
    """A neural model of sequences."""

    kind: ClassVar[str]
    """The name under which it is saved."""

    @abstractmethod
    def encode(self, data: Any) -> Any:
        """The data as `Examples`; a DataError names what does not fit the network."""

    @abstractmethod
    def score(self, examples: Any, state: State | None = None) -> Scored:
        """log p of each example; `state` is that after the window before, of networks whose examples have windows."""

    @abstractmethod
    def program(self, data: Any) -> None:
        """The Pyro program: the weights as a module, and an observed site for what is modelled."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Plain values (JSON) from which `rebuild` makes the same network, without its weights."""

    @classmethod
    @abstractmethod
    def rebuild(cls, description: dict[str, Any]) -> Network:
        """The network that `description` describes, with weights of no account."""

    def prepare(self, data: Any) -> None:  # noqa: B027 - most networks have nothing to prepare
        """Settle in place, before training, what the training data alone decide: scales, biases of the output."""

    def log_prob(self, data: Any, batch_size: int = BATCH) -> Tensor:
        """(N,) float64 nats: log p of each example, without gradients, a batch at a time."""
        examples = self.encode(data)
        with answering(self):
            chosen = torch.arange(len(examples.lengths)).split(batch_size)
            parts = [self._summed(examples.take(index)) for index in chosen]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def _summed(self, examples: Any) -> Tensor:
        """(B,) log p of each example of a batch; a window at a time where there are any, which bounds the memory."""
        longest = int(examples.lengths.max())
        if longest <= WINDOW or not hasattr(examples, "window"):
            return self.score(examples).log_prob.double()
        total, state = torch.zeros(len(examples.lengths), dtype=torch.float64), None
        for start in range(0, longest, WINDOW):
            scored = self.score(examples.window(start, start + WINDOW), state)
            total, state = total + scored.log_prob.double().cpu(), scored.state
        return total


@contextmanager
def answering(network: nn.Module) -> Iterator[None]:
    """Without gradients and without what is random in training; its mode is afterwards what it was."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


@contextmanager
def counted(weight: Tensor | None) -> Iterator[None]:
    """Sites inside count as often as their weights (B,) say, some of which may be zero; None is once each."""
    if weight is None:
        yield
        return
    there: Any = weight > 0
    with poutine.mask(mask=there), poutine.scale(scale=torch.where(there, weight, 1.0)):  # pyright: ignore
        yield
