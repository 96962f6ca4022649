"""What a step's observation is scored beside: earlier observations, and a row of a design."""

from __future__ import annotations

from dataclasses import dataclass

from probseq.design import Design


@dataclass(frozen=True)
class Context:
    """What a row of data carries besides the observation y_t.

    A row is (W,) float64 = [y_t (D numbers) | y_{t-1} | ... | y_{t-p} | design row (P numbers)]; without a context it
    is the observation alone.

    Attributes:
        lags: p, how many earlier observations.
        design: covariates and seasons; an empty one takes no columns.

    >>> Context(lags=2).width(1), bool(Context())
    (2, False)
    """

    lags: int = 0
    design: Design = Design()

    def __bool__(self) -> bool:
        return self.lags > 0 or bool(self.design)

    def width(self, columns: int) -> int:
        """W - D: the numbers that follow an observation of D columns."""
        return self.lags * columns + (self.design.width if self.design else 0)

    def columns(self, width: int) -> int:
        """D: the numbers of the observation in a row of W."""
        return (width - (self.design.width if self.design else 0)) // (1 + self.lags)


NO_CONTEXT = Context()
"""The observation alone."""
