"""Parameters of an HMM as one unconstrained vector and back, for gradient methods on the exact log-likelihood.

Structural facts (a fixed matrix, a stationary law) take no coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from probseq.families.coordinates import Coordinates

if TYPE_CHECKING:
    from probseq.models.hmm import HMM


class ModelCoordinates:
    """The map between a vector (P,) and the parameters of one model, made around an example.

    Args:
        model: the HMM.
        example: parameters; probabilities that are zero stay zero.
    """

    def __init__(self, model: HMM, example: Mapping[str, Tensor]) -> None:
        self.model = model
        self._free = Coordinates(model.learned(example), example, model.fixed)

    def pack(self) -> Tensor:
        """(P,) the example's own coordinates."""
        return self._free.pack()

    def unpack(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The parameters at a vector; differentiable."""
        return self.model.complete(self._free.unpack(coordinates))
