"""What a network learns from: batches in a seeded order, windows of a batch, the loss, one update of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from probseq.inference.training_options import TrainingOptions
from probseq.models.network import Network, answering

EVALUATED = 256
"""Examples of a batch that is scored without gradients."""

POOL = 50
"""Batches whose examples are sorted by length together, where they are."""


class NotFinite(Exception):
    """A loss or gradient that no update can be made from; its text says what and where."""


class Sums(NamedTuple):
    """What an epoch, or a batch of it, adds up to.

    Attributes:
        nats: minus the log-probability.
        steps: observations that it is of.
        norm: of the gradients, before clipping.
        updates: how many.
    """

    nats: float = 0.0
    steps: float = 0.0
    norm: float = 0.0
    updates: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def loss(self) -> float:
        """Nats per step."""
        return self.nats / self.steps if self.steps else math.nan


def derived_seed(*parts: int) -> int:
    """A seed for one part of a run: far from that of any other (O'Neill's seed sequence, as in numpy)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def seed_draws(seed: int, device: str) -> None:
    """Seed what is random in a network (such as dropout) on the device where it is."""
    if device == "cpu":
        torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack trace of every call for CUDA
    else:
        torch.manual_seed(seed)


def batches(lengths: Tensor, epoch: int, options: TrainingOptions) -> list[Tensor]:
    """The examples of each batch of an epoch (numbered from 0), in an order that seed and epoch alone decide.

    Args:
        lengths: (N,) of the examples.
        epoch: numbered from 0.
        options: `bucketed` puts examples of like length together: each POOL batches' worth of examples is sorted by
            length before it is cut into batches, and the batches are shuffled.
    """
    generator = torch.Generator().manual_seed(derived_seed(options.seed, 1, epoch))
    order = torch.randperm(len(lengths), generator=generator)
    if not options.bucketed:
        return list(order.split(options.batch_size))
    pools = order.split(POOL * options.batch_size)
    found = [one for pool in pools for one in pool[lengths[pool].argsort(stable=True)].split(options.batch_size)]
    return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]


def windows(examples: Any, length: int | None) -> Iterator[Any]:
    """The examples, a window of `length` steps of all of them after the other; all at once for None."""
    longest = int(examples.lengths.max()) if len(examples.lengths) else 0
    if length is None or longest <= length:
        yield examples
        return
    for start in range(0, longest, length):
        yield examples.window(start, start + length)


def update(network: Network, examples: Any, optimiser: torch.optim.Optimizer, options: TrainingOptions) -> Sums:
    """Go down the gradient of nats per step, once for each window of a batch; states are carried over, detached.

    Raises:
        NotFinite: the loss or the gradient is not; the weights are those before.
    """
    weights = optimiser.param_groups[0]["params"]
    total, state = Sums(), None
    for window in windows(examples, options.truncate):
        scored = network.score(window, state)
        nats, steps = -scored.log_prob.sum(), float(scored.steps.sum())
        state = tuple(one.detach() for one in scored.state) or None
        if steps == 0.0:
            continue
        found = float(nats.detach())
        if not math.isfinite(found):
            raise NotFinite("loss was NaN" if math.isnan(found) else "loss was infinite (an observation is impossible)")
        optimiser.zero_grad(set_to_none=True)
        (nats / steps).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(weights, options.clip or math.inf))
        if not math.isfinite(norm):
            raise NotFinite(f"gradient was {'NaN' if math.isnan(norm) else 'infinite'}")
        optimiser.step()
        total = total.plus(Sums(found, steps, norm, 1.0))
    return total


def mean_loss(network: Network, examples: Any, truncate: int | None = None) -> float:
    """Nats per step of all examples, each by the weights as they are."""
    total = Sums()
    with answering(network):
        for chosen in examples.lengths.argsort(stable=True).split(EVALUATED):
            state = None
            for window in windows(examples.take(chosen), truncate):
                scored = network.score(window, state)
                state = scored.state or None
                total = total.plus(Sums(-float(scored.log_prob.sum()), float(scored.steps.sum())))
    return total.loss
