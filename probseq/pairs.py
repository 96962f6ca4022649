"""Inputs beside targets: what a model of p(target | input) learns from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False, repr=False)
class Pairs:
    """N inputs and their targets, in the same order.

    Args:
        inputs: Sequences, or a tensor (N, ...), of images, say.
        targets: Sequences (sentences, say), or a tensor (N, ...): class codes (N,), or real numbers.
        classes: what the target codes 0, 1, ... stand for; None for other targets, or codes without names.

    >>> heard = Sequences.from_arrays([[0.1, 0.2], [0.3], [0.5, 0.4]])
    >>> pairs = Pairs(heard, torch.tensor([0, 1, 1]), classes=("a", "b"))
    >>> pairs
    Pairs(3 pairs: Sequences(3 sequences, 5 steps, column 'value') to 3 of classes a/b)
    >>> pairs.take([2, 0]).targets.tolist()
    [1, 0]
    """

    inputs: Sequences | Tensor
    targets: Sequences | Tensor
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            side = getattr(self, name)
            if not isinstance(side, Sequences):
                object.__setattr__(self, name, _tensor(side, name))
        sizes = _count(self.inputs), _count(self.targets)
        if sizes[0] != sizes[1] or not sizes[0]:
            raise DataError(
                f"Pairs must have one target for each input, and at least one, got {sizes[0]} inputs and {sizes[1]} "
                "targets; give both in the same order."
            )
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
            self._check_codes(len(self.classes))

    @property
    def count(self) -> int:
        """N."""
        return _count(self.inputs)

    def take(self, index: ArrayLike | Tensor | slice) -> Pairs:
        """The chosen pairs, in the order given (a repeat repeats); integers, a boolean mask, or a slice."""
        chosen = torch.from_numpy(np.arange(self.count)[index if isinstance(index, slice) else _indices(index)])
        if chosen.numel() == 0:
            raise DataError("take must choose at least one pair, got none; give at least one number.")

        def part(side: Sequences | Tensor) -> Sequences | Tensor:
            return side.take(chosen) if isinstance(side, Sequences) else side[chosen.to(side.device)]

        return replace(self, inputs=part(self.inputs), targets=part(self.targets))

    def fingerprint(self) -> str:
        """SHA-256, in hex, of both sides."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for side in (self.inputs, self.targets):
            if isinstance(side, Sequences):
                digest.update(side.fingerprint().encode())
            else:
                digest.update(f"{side.dtype} {tuple(side.shape)};".encode())
                array: Any = np.atleast_1d(side.detach().cpu().contiguous().numpy())
                digest.update(memoryview(array).cast("B"))
        return digest.hexdigest()

    def _check_codes(self, classes: int) -> None:
        """Refuse targets that are no codes of the classes."""
        targets = self.targets
        if isinstance(targets, Sequences) or targets.ndim != 1 or targets.is_floating_point():
            kind = "sequences" if isinstance(targets, Sequences) else f"{targets.dtype} {tuple(targets.shape)}"
            raise DataError(f"targets with classes must be (N,) whole codes, got {kind}; leave classes out.")
        bad = ((targets < 0) | (targets >= classes)).nonzero()
        if len(bad):
            number = int(bad[0, 0])
            raise DataError(
                f"a target must be a code from 0 to {classes - 1}, got {int(targets[number])} at pair {number}; name "
                "every class."
            )

    def __repr__(self) -> str:
        def words(side: Sequences | Tensor) -> str:
            return repr(side) if isinstance(side, Sequences) else f"{tuple(side.shape)} {side.dtype}"

        named = self.classes is not None
        shown = "/".join((self.classes or ())[:6]) + ("/..." if named and len(self.classes or ()) > 6 else "")
        target = f"{self.count} of classes {shown}" if named else words(self.targets)
        return f"Pairs({self.count} pair{'' if self.count == 1 else 's'}: {words(self.inputs)} to {target})"


def _indices(index: Any) -> np.ndarray:
    found = np.atleast_1d(np.asarray(index))
    return found if found.dtype == bool else found.astype(np.int64)


def _tensor(side: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(side)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} of Pairs must be Sequences or numbers, got {str(error).splitlines()[0][:80]!r}; code names as "
            "0, 1, ... and give them as classes."
        ) from error


def _count(side: Sequences | Tensor) -> int:
    if isinstance(side, Sequences):
        return side.count
    return len(side) if side.ndim else 0
