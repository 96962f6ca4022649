"""Captions of images: a convolutional network reads, a recurrent one tells.

    v = CNN(image),   p(caption | image) = prod_t p(y_t | v, y_<t)

where v is the decoder's input x_{-1} before the start symbol (Vinyals, Toshev, Bengio & Erhan 2015, "Show and Tell"),
or its first state h_0 (Karpathy & Fei-Fei 2015), or both; sentences begin after a start and stop at an end symbol.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from probseq.models.describing import Describer
from probseq.models.image_encoder import check_images


class Captioner(Describer):
    """Sentences about images.

    Data are `Pairs` of images (N, C, H, W) and word sequences.

    >>> import torch
    >>> from probseq import Pairs, Sequences
    >>> captions = Sequences.from_text(text="a dot\\nno dot", level="word", separator="\\n")
    >>> images = torch.zeros(2, 1, 8, 8)
    >>> images[0, 0, 3, 4] = 1.0
    >>> network = Captioner.of(Pairs(images, captions), enters=("first", "state"))
    >>> network.log_prob(Pairs(images, captions)).shape, len(network.describe(images))
    (torch.Size([2]), 2)
    """

    kind = "captioner"

    def see(self, inputs: Any) -> Tensor:
        """Images (N, C, H, W)."""
        return check_images(inputs, self.image_shape)

    def vectors(self, seen: Tensor) -> Tensor:
        """What the encoder makes of images (B, C, H, W)."""
        return self.encoder(seen.to(self.decoder.head.weight.dtype))
