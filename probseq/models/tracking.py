"""Where something is in every frame of a video, as a law: the real-valued output of a recurrent network that sees.

    e_t = CNN(frame_t),   h_t = layer(e_1..e_t),   p(y_t | frame_1..frame_t) = Family(parameters(h_t))

y_t is a vector of real numbers, the place (x, y) say, under any `Family` of vectors: with a Gaussian of two dimensions
the network says where, how surely and in which direction it may be wrong. While the object is out of sight the layer
goes by what it remembers; a layer that is not causal (`Bidirectional`) sees the later frames, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from probseq import families
from probseq.errors import DataError, ModelError
from probseq.families import Family
from probseq.models.emission_step import check, observations, observed_rows
from probseq.models.family_head import FamilyHead
from probseq.models.image_encoder import (
    ConvolutionalEncoder,
    check_frames,
    describe_encoder,
    features_of,
    shape_of_image,
)
from probseq.models.network import Network, Scored, answering
from probseq.models.step_examples import WholeExamples
from probseq.pairs import Pairs
from probseq.recurrent import RecurrentLayer, State, cell_by_name
from probseq.recurrent.described import Described
from probseq.sequences import Sequences


class FrameTracker(Network):
    """p(y_t | frame_1..frame_t) = Family(parameters(h_t)), h_t of a recurrent layer over what an encoder sees.

    Data are `Pairs` of `Sequences` of frames, each flattened to C H W numbers, and `Sequences` of y, as many steps of
    each. A step whose y is missing is seen but not scored.

    Args:
        encoder: any module from images (B, C, H, W) to vectors (B, E); to be saved it must be `Described`.
        layer: reads E numbers.
        family: of y_t.
        image_shape: (C, H, W).
        columns: numbers in y_t; 0 where it is a single number.
        seed: of the first weights of the head.

    >>> from probseq import Pairs, Sequences
    >>> frames = Sequences.from_arrays(torch.zeros(3, 4, 64).numpy())
    >>> places = Sequences.from_arrays(torch.rand(3, 4, 2).numpy(), columns=("x", "y"))
    >>> network = FrameTracker.of(Pairs(frames, places), image_shape=(1, 8, 8))
    >>> network.expected(frames).shape
    torch.Size([12, 2])
    """

    kind = "frame-tracker"

    def __init__(
        self,
        encoder: nn.Module,
        layer: RecurrentLayer,
        family: Family,
        image_shape: Sequence[int],
        *,
        columns: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.image_shape, self.columns, self.family = shape_of_image(image_shape), columns, family
        self.encoder, self.layer = encoder, layer
        features = features_of(encoder, self.image_shape)
        if layer.input_size != features:
            raise ModelError(
                f"the layer must read the {features} numbers that the encoder makes, got input_size {layer.input_size}"
                f" at FrameTracker; make it with {features} inputs."
            )
        self.head = FamilyHead(family, layer.hidden_size, (columns,) if columns else (), seed=seed)

    @classmethod
    def of(
        cls,
        data: Pairs,
        *,
        image_shape: Sequence[int],
        family: Family | str = "multivariate-gaussian",
        encoder: nn.Module | None = None,
        layer: str | Callable[[int], RecurrentLayer] = "lstm",
        hidden_size: int = 64,
        seed: int = 0,
    ) -> FrameTracker:
        """A network for data like these.

        Args:
            data: frames, and y of each.
            image_shape: (C, H, W) of a frame.
            family: of y_t, or its name.
            encoder: None makes a small `ConvolutionalEncoder`.
            layer: a cell's name ("lstm", "gru", "vanilla"), or what makes a layer from the number of inputs.
            hidden_size: H of a cell that is named.
            seed: of the first weights.
        """
        shape, targets = shape_of_image(image_shape), _places(data)
        family = families.by_name(family) if isinstance(family, str) else family
        family = family.bind(observed_rows(family, targets))
        if encoder is None:
            encoder = ConvolutionalEncoder(shape, features=32, blocks=((8,), (16,)), seed=seed)
        features = features_of(encoder, shape)
        named = isinstance(layer, str)
        made = cell_by_name(layer, features, hidden_size, seed=seed + 1) if named else layer(features)  # type: ignore
        columns = 0 if targets.values.ndim == 1 else targets.values.shape[1]
        return cls(encoder, made, family, shape, columns=columns, seed=seed + 2)

    # ---- the law ---------------------------------------------------------------------------------------------------

    def encode(self, data: Pairs) -> WholeExamples:
        """By step: `frame` (T, C, H, W), `value` (T, *event), `scored` (T,) bool, True where y was measured.

        Raises:
            DataError: frames and y of different lengths, frames of another shape or missing, or a y that the family
                cannot produce.
        """
        frames, targets = check_frames(data.inputs, self.image_shape), _places(data)
        if not torch.equal(frames.lengths, targets.lengths):
            row = int((frames.lengths != targets.lengths).nonzero()[0])
            raise DataError(
                f"a video must have a target for each of its frames, got {int(frames.lengths[row])} frames and "
                f"{int(targets.lengths[row])} targets at pair {row}; mark as missing those that are not known."
            )
        width = 0 if targets.values.ndim == 1 else targets.values.shape[1]
        if width != self.columns:
            raise DataError(f"targets must have {self.columns} columns, got {width}; give those of the training.")
        check(self.family, targets)
        partly = self.family.partly_missing and targets.observed is not None and targets.observed.ndim == 2
        scored = targets.observed.any(1) if partly else targets.step_observed  # type: ignore[union-attr]
        steps = {"frame": frames.values, "value": observations(self.family, targets), "scored": scored}
        return WholeExamples(steps, {}, frames.lengths)

    def hidden(self, examples: WholeExamples) -> Tensor:
        """h (T, H)."""
        seen = self.encoder(examples.steps["frame"].to(self.head.linear.weight.dtype))
        h, _ = self.layer.unroll(examples.padded(seen), examples.lengths)
        return examples.flat(h)

    def score(self, examples: WholeExamples, state: State | None = None) -> Scored:
        """log p of the y of each video, given its frames."""
        scored, hidden = examples.steps["scored"], self.hidden(examples)
        found = self.head.log_prob(hidden[scored], examples.steps["value"][scored])
        by_step = torch.zeros(len(scored), dtype=found.dtype, device=found.device).masked_scatter(scored, found)
        return Scored(examples.by_sequence(by_step), examples.by_sequence(scored.double()))

    def program(self, data: Pairs) -> None:
        """The Pyro program: `y` is that of all frames, one video after the other."""
        pyro.module(self.kind, self)
        examples = self.encode(data)
        law = self.head.distribution(self.hidden(examples))
        mask: Any = examples.steps["scored"]
        with pyro.plate("step", len(mask)), poutine.mask(mask=mask):
            pyro.sample("y", law, obs=examples.steps["value"])

    def prepare(self, data: Pairs) -> None:
        """Let the head begin at the law of all y together."""
        check(self.family, _places(data))
        self.head.prepare(observed_rows(self.family, _places(data)))

    # ---- answers ---------------------------------------------------------------------------------------------------

    def laws(self, videos: Sequences, batch_size: int = 64) -> dict[str, Tensor]:
        """The family's parameters at each frame, (T, *shape) float64; what all steps share as it is."""
        parts = self._of_batches(videos, batch_size, self.head)
        declared = self.head.declared
        return {
            name: parts[0][name] if declared[name].shared else torch.cat([part[name] for part in parts])
            for name in declared
        }

    def expected(self, videos: Sequences, batch_size: int = 64) -> Tensor:
        """(T, *event) float64: the expected y at each frame."""
        return torch.cat(self._of_batches(videos, batch_size, self.head.expectation))

    def _of_batches(self, videos: Sequences, batch_size: int, answer: Callable[[Tensor], Any]) -> list[Any]:
        """What `answer` makes of the hidden vectors, as when all is learned, a batch of videos at a time."""
        frames = check_frames(videos, self.image_shape)
        whole = WholeExamples({"frame": frames.values}, {}, frames.lengths).to(self.head.linear.weight.device)
        with answering(self):
            return [answer(self.hidden(whole.take(index))) for index in torch.arange(whole.count).split(batch_size)]

    # ---- files -----------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Encoder, layer, family, shape and columns."""
        return {
            "encoder": describe_encoder(self.encoder),
            "layer": self.layer.description(),
            "family": self.family.to_json(),
            "image_shape": list(self.image_shape),
            "columns": self.columns,
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any]) -> FrameTracker:
        """The network that `description` describes; an encoder of the user's own must have been imported."""
        encoder: Any = Described.rebuild(description["encoder"])
        layer = RecurrentLayer.rebuild(description["layer"])
        family = families.from_json(description["family"])
        return cls(encoder, layer, family, description["image_shape"], columns=description["columns"])


def _places(data: Pairs) -> Sequences:
    targets = data.targets
    if not isinstance(targets, Sequences) or targets.weights is not None:
        got = "weights" if isinstance(targets, Sequences) else type(targets).__name__
        raise DataError(f"targets must be Sequences that count once each, got {got}; give y of each frame.")
    return targets
