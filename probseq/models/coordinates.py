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
        self.free = Coordinates(model.learned(example), example, model.fixed)

    @property
    def slices(self) -> dict[str, slice]:
        """name -> its part of the vector, of every parameter that is learned."""
        return self.free.slices

    @property
    def labels(self) -> list[str]:
        """(P,) a name for each coordinate: the parameter and a number, not an entry of it."""
        return self.free.labels

    def pack(self) -> Tensor:
        """(P,) the example's own coordinates."""
        return self.free.pack()

    def unpack(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The parameters at a vector (..., P), leading dims first; differentiable."""
        return self.model.complete(self.free.unpack(coordinates))

    def log_jacobian(self, coordinates: Tensor) -> Tensor:
        """(...,) log |d parameters / d u|: a density of the parameters plus this is one of the coordinates.

        Only what is learned counts: not a law that is computed, nor an entry that is fixed, of which the others are
        taken as given.
        """
        return self.free.log_jacobian(coordinates)

    def unpack_with_jacobian(self, coordinates: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What `unpack` and `log_jacobian` return, in one pass."""
        parameters, log_jacobian = self.free.unpack_with_jacobian(coordinates)
        return self.model.complete(parameters), log_jacobian
