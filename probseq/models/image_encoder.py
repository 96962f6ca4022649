"""From an image to a vector: a small convolutional network, and what is asked of any other that a user brings.

`ConvolutionalEncoder` is blocks of 3 x 3 convolutions with ReLU, each block ending in a 2 x 2 maximum (Simonyan &
Zisserman 2015, made small), then one linear map and layer normalisation (Ba, Kiros & Hinton 2016), which sets the
scale at which a recurrent network first sees the image and mixes nothing between images:

    E = LayerNorm(W flatten(block_n(... block_1(image))) + b)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probseq.errors import DataError, ModelError
from probseq.models.network import answering
from probseq.recurrent import Ragged, weights_of_seed
from probseq.recurrent.described import Described
from probseq.sequences import Sequences

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


class ConvolutionalEncoder(Described, nn.Module):
    """Images (B, C, H, W) to vectors (B, E).

    Args:
        image_shape: (C, H, W).
        features: E.
        blocks: the channels of each convolution of each block; a block halves height and width, rounding down.
        dropout: the share of what the linear map does not see, in training only.
        seed: of the first weights (He et al. 2015).

    >>> encoder = ConvolutionalEncoder((1, 20, 20), features=64)
    >>> encoder(torch.zeros(3, 1, 20, 20)).shape
    torch.Size([3, 64])
    """

    kind = "convolutional-encoder"

    def __init__(
        self,
        image_shape: Sequence[int],
        features: int = 64,
        blocks: Sequence[Sequence[int]] = ((16, 32), (64,)),
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        before, height, width = self.image_shape = shape_of_image(image_shape)
        self.features, self.blocks, self.dropout = features, tuple(tuple(block) for block in blocks), dropout
        halved = len(self.blocks)
        if min(height, width) >> halved < 1:
            raise ModelError(
                f"an image must be at least {2**halved} pixels high and wide for {halved} blocks, got {height} x "
                f"{width} at ConvolutionalEncoder; give fewer blocks."
            )
        layers: list[nn.Module] = []
        with weights_of_seed(seed):
            for block in self.blocks:
                for channels in block:
                    layers += [_started(nn.Conv2d(before, channels, 3, padding=1)), nn.ReLU()]
                    before = channels
                layers.append(nn.MaxPool2d(2))
            last = _started(nn.Linear(before * (height >> halved) * (width >> halved), features))
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), last, nn.LayerNorm(features))

    def forward(self, images: Tensor) -> Tensor:
        """E (B, E) of images (B, C, H, W)."""
        return self.layers(images)


def shape_of_image(image_shape: Sequence[int]) -> Shape:
    """Three numbers of at least one, or a ModelError."""
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ModelError(
            f"image_shape must be channels, height and width, got {shape} at a network of images; give all three."
        )
    return shape[0], shape[1], shape[2]


def features_of(encoder: nn.Module, image_shape: Shape) -> int:
    """E, how many numbers an encoder makes of an image; a ModelError where it makes no vectors."""
    like = next(encoder.parameters(), torch.zeros(()))
    with answering(encoder):
        made = encoder(like.new_zeros(2, *image_shape))
    if made.ndim != 2 or len(made) != 2:
        raise ModelError(
            f"an encoder must turn images (B, C, H, W) into vectors (B, E), got shape {tuple(made.shape)} for images "
            f"{(2, *image_shape)} at {type(encoder).__name__}; flatten or pool what it makes."
        )
    return made.shape[1]


def describe_encoder(encoder: nn.Module) -> dict[str, Any]:
    """An encoder as plain values, from which `Described.rebuild` makes it again."""
    if not isinstance(encoder, Described):
        raise ModelError(
            f"an encoder must be Described to be saved, got {type(encoder).__name__}; derive its class from "
            "probseq.recurrent.described.Described too, and give it a kind."
        )
    return encoder.description()


def check_images(images: Any, image_shape: Shape) -> Tensor:
    """Images (N, C, H, W) of this shape, with finite pixels, or a DataError."""
    if not isinstance(images, Tensor) or images.ndim != 4 or tuple(images.shape[1:]) != image_shape:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(
            f"images must be a tensor (N, {', '.join(map(str, image_shape))}), got {got}; reshape or resize them."
        )
    finite = torch.isfinite(images).flatten(1).all(1)
    if not bool(finite.all()):
        raise DataError(
            f"pixels must be finite, got NaN or infinity at image {int((~finite).nonzero()[0])}; leave it out."
        )
    return images if images.is_floating_point() else images.to(torch.float32)


def check_frames(videos: Any, image_shape: Shape) -> Ragged:
    """Frames (T, C, H, W) of videos that come as Sequences of flat ones, or a DataError."""
    numbers = torch.Size(image_shape).numel()
    if not isinstance(videos, Sequences) or videos.values.ndim != 2 or videos.values.shape[1] != numbers:
        got = tuple(videos.values.shape) if isinstance(videos, Sequences) else type(videos).__name__
        raise DataError(
            f"videos must be Sequences with {numbers} columns, the numbers of a frame {image_shape}, got {got}; "
            "flatten each frame."
        )
    if videos.weights is not None:
        raise DataError("videos must count once each, got weights; repeat a video that counts more often.")
    if videos.observed is not None:
        row = int(videos.step_sequence[~videos.step_observed][0])
        raise DataError(f"frames must not be missing, got one at video {row}; leave it out of the video.")
    return Ragged(videos.values.unflatten(1, image_shape), videos.lengths)


def _started(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """First weights that keep the scale of what comes in (He et al. 2015), and no bias."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if isinstance(layer, nn.Conv2d) else "linear")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
