"""Sentences about videos: the mean of what a convolutional network sees in the frames, told by a recurrent one.

    v = (1 / T) sum_t CNN(frame_t),   p(sentence | video) = prod_t p(y_t | v, y_<t)

with two layers of LSTM that read v beside each word (Venugopalan, Xu, Donahue, Rohrbach, Mooney & Saenko 2015), whose
encoder and decoder begin with weights learned from captions of images: `transferred`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from probseq.errors import ModelError
from probseq.models.captioning import Captioner
from probseq.models.describing import Describer
from probseq.models.image_encoder import check_frames
from probseq.pairs import Pairs
from probseq.recurrent import Ragged


class VideoCaptioner(Describer):
    """Sentences about videos.

    Data are `Pairs` of `Sequences` of frames, each flattened to C H W numbers, and word sequences.
    """

    kind = "video-captioner"

    @classmethod
    def of(cls, data: Pairs, *, enters: Sequence[str] = ("input",), layers: int = 2, **options: Any) -> Self:  # type: ignore[override]
        """A network for data like these, of two layers that read the vector at every step; see `Describer.of`."""
        return super().of(data, enters=enters, layers=layers, **options)

    def see(self, inputs: Any) -> Ragged:
        """Videos of frames (T, C, H, W)."""
        return check_frames(inputs, self.image_shape)

    def vectors(self, seen: Ragged) -> Tensor:
        """The mean over the frames of each video of what the encoder makes of them, (B, E)."""
        made = self.encoder(seen.values.to(self.decoder.head.weight.dtype))
        video = torch.arange(seen.count).repeat_interleave(seen.lengths).to(made.device)
        total = made.new_zeros(seen.count, made.shape[1]).index_add(0, video, made)
        return total / seen.lengths.to(made).unsqueeze(-1)


def transferred(
    captioner: Captioner, video: VideoCaptioner, parts: Sequence[str] = ("encoder", "decoder")
) -> VideoCaptioner:
    """The video network with the weights of one that captions images; both stay as they are.

    Words that both know keep what was learned of them, wherever they stand in the two vocabularies; words that only
    the videos' sentences have keep their first weights.

    Args:
        captioner: trained on images of the size of the frames.
        video: of an encoder and a decoder of the same make.
        parts: what is transferred, "encoder", "decoder" or both.

    Raises:
        ModelError: the two differ in the size of images or in the weights of a part that is to be transferred.
    """
    result = copy.deepcopy(video)
    strange = [part for part in parts if part not in ("encoder", "decoder")]
    if strange or not parts:
        raise ModelError(f"parts must be of encoder, decoder, got {list(parts)} in transferred; choose among the two.")
    if captioner.image_shape != video.image_shape:
        raise ModelError(
            f"frames must be of the shape of the images, {captioner.image_shape}, got {video.image_shape} in "
            "transferred; resize the frames, or train the captions on images of their size."
        )
    if "encoder" in parts:
        _copy(captioner.encoder, result.encoder, "encoder", None)
    if "decoder" in parts:
        learned = captioner.vocabulary.names
        known = [learned.index(word) if word in learned else -1 for word in video.vocabulary.names]
        rows = torch.tensor([*known, captioner.decoder.end])
        _copy(captioner.decoder, result.decoder, "decoder", rows)
    return result


WORDS = ("embed.weight", "head.weight", "head.bias")
"""The decoder's weights that have a row for each word, and a last one for the start or end."""


def _copy(source: nn.Module, target: nn.Module, part: str, rows: Tensor | None) -> None:
    """The weights and buffers of one module into another, in place; those of words by their rows, -1 for none."""
    given, kept = source.state_dict(), target.state_dict()
    if type(source) is not type(target) or set(given) != set(kept):
        raise ModelError(
            f"the {part} must be of the same make in both networks, got {type(source).__name__} with {len(given)} "
            f"tensors and {type(target).__name__} with {len(kept)} in transferred; build both alike."
        )
    for name, value in kept.items():
        by_word = rows is not None and name in WORDS
        skip = 1 if by_word else 0
        if given[name].shape[skip:] != value.shape[skip:]:
            raise ModelError(
                f"the {part} must be of the same size in both networks, got {tuple(given[name].shape)} and "
                f"{tuple(value.shape)} at {name} in transferred; build both alike."
            )
        if rows is not None and by_word:
            value[rows >= 0] = given[name][rows[rows >= 0]].to(value)
        else:
            value.copy_(given[name])
