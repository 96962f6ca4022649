"""Recurrence over images in four directions (Graves & Schmidhuber, 2009; without their peepholes).

Each of four sweeps starts in a corner of the image; in the one from the top left, with l the left and u the upper
neighbour, zero outside the image,

    vanilla: h = tanh(W_x x + W_l h_l + W_u h_u + b)
    LSTM:    i, f_l, f_u, o = sigmoid(same), g = tanh(same), c = f_l c_l + f_u c_u + i g, h = o tanh(c)

The pixels of an anti-diagonal do not depend on each other and are taken at once, in all four sweeps together.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import DataError, ModelError
from probseq.recurrent.described import Described
from probseq.recurrent.first_weights import uniform, weights_of_seed
from probseq.recurrent.layer import State, require_sizes

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""The axes (rows -2, columns -1) to flip so that a sweep starts at the top left: first from there, then from the top
right, the bottom left and the bottom right."""


class FourDirections(Described, nn.Module):
    """Images (B, D, rows, columns) to features (B, 4 H, rows, columns), each pixel's from all of the image.

    Args:
        input_size: D, numbers at each pixel.
        hidden_size: H, numbers of each direction.
        cell: "lstm" or "vanilla".
        seed: of the first weights.

    Attributes:
        weight_x: (4, gates H, D); gates are i, f_l, f_u, o, g of the LSTM, one of the vanilla cell.
        weight_left: (4, gates H, H).
        weight_upper: (4, gates H, H).
        bias: (4, gates H).

    >>> FourDirections(1, 3)(torch.zeros(2, 1, 5, 7)).shape
    torch.Size([2, 12, 5, 7])
    """

    kind = "four-directions"

    def __init__(
        self, input_size: int, hidden_size: int, *, cell: Literal["vanilla", "lstm"] = "lstm", seed: int = 0
    ) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        if cell not in ("vanilla", "lstm"):
            raise ModelError(f"cell must be 'vanilla' or 'lstm', got {cell!r} at FourDirections; choose one.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.cell = cell
        width = hidden_size * (5 if cell == "lstm" else 1)
        with weights_of_seed(seed):
            self.weight_x = uniform(hidden_size, 4, width, input_size)
            self.weight_left = uniform(hidden_size, 4, width, hidden_size)
            self.weight_upper = uniform(hidden_size, 4, width, hidden_size)
            self.bias = uniform(hidden_size, 4, width)

    def forward(self, images: Tensor) -> Tensor:
        """The same as `unroll`, so that it stands among a network's other layers."""
        return self.unroll(images)

    def unroll(self, images: Tensor) -> Tensor:
        """All pixels, by anti-diagonals.

        Args:
            images: (B, D, rows, columns).

        Returns:
            h (B, 4 H, rows, columns): the sweeps from the top left, top right, bottom left and bottom right.

        Raises:
            DataError: sizes or types do not fit.
        """
        self._admit(images)
        batch, _, rows, columns = images.shape
        if images.numel() == 0:
            return images.new_zeros(batch, 4 * self.hidden_size, rows, columns)
        turned = torch.stack([images.flip(axes) for axes in _FLIPS]).permute(0, 3, 4, 1, 2)  # (4, rows, columns, B, D)
        pixels, back = _diagonal_order(rows, columns, images.device)
        sweep = self._sweep(turned.flatten(1, 2)[:, pixels], rows, columns)[:, back]
        h = sweep.reshape(4, rows, columns, batch, self.hidden_size).permute(0, 3, 4, 1, 2)  # (4, B, H, rows, columns)
        return torch.cat([one.flip(axes) for one, axes in zip(h, _FLIPS, strict=True)], dim=1)

    def _sweep(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        """Pixels (4, rows columns, B, D) in the order of their anti-diagonals to h (4, rows columns, B, H)."""
        batch = pixels.shape[2]
        drive = torch.baddbmm(self.bias.unsqueeze(1), pixels.flatten(1, 2), self.weight_x.mT).unflatten(1, (-1, batch))
        weight = torch.cat((self.weight_left, self.weight_upper), dim=-1).mT  # (4, 2 H, gates H)
        bounds = [(max(0, k - columns + 1), min(rows - 1, k)) for k in range(rows + columns - 1)]  # rows on diagonal k
        first, outputs = 0, []
        state: State = (pixels.new_zeros(4, 0, batch, self.hidden_size),) * (2 if self.cell == "lstm" else 1)
        for (top, bottom), here in zip(bounds, drive.split([b - a + 1 for a, b in bounds], dim=1), strict=True):
            count, shift = bottom - top + 1, top - first
            framed = [functional.pad(one, (0, 0, 0, 0, 1, 1)) for one in state]  # from row first - 1
            left = [one[:, shift + 1 : shift + 1 + count] for one in framed]
            upper = [one[:, shift : shift + count] for one in framed]
            z = torch.baddbmm(here.flatten(1, 2), torch.cat((left[0], upper[0]), dim=-1).flatten(1, 2), weight)
            z = z.unflatten(1, (count, batch))
            state = (torch.tanh(z),) if self.cell == "vanilla" else _two_forget_gates(z, left[1], upper[1])
            outputs.append(state[0])
            first = top
        return torch.cat(outputs, dim=1)

    def _admit(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != self.input_size:
            raise DataError(
                f"images must be (images, {self.input_size}, rows, columns), got {tuple(images.shape)} at "
                "FourDirections; give each pixel as many numbers as the input_size says."
            )
        if images.dtype != self.bias.dtype or images.device != self.bias.device:
            raise DataError(
                f"images must be {self.bias.dtype} on {self.bias.device} as the weights are, got {images.dtype} on "
                f"{images.device} at FourDirections; convert one of them by .to()."
            )


def _two_forget_gates(z: Tensor, c_left: Tensor, c_upper: Tensor) -> State:
    """h and c of the two-dimensional LSTM from the sums z (..., 5 H) of its gates."""
    i, f_l, f_u, o, g = z.chunk(5, dim=-1)
    c = torch.sigmoid(f_l) * c_left + torch.sigmoid(f_u) * c_upper + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _diagonal_order(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(rows columns,): the pixels, row by row, in the order of their anti-diagonals, and the way back."""
    row, column = torch.arange(rows).unsqueeze(-1), torch.arange(columns)
    pixels = (row + column).flatten().argsort(stable=True).to(device)  # within a diagonal from the top
    return pixels, pixels.argsort()
