"""Where a step of a series is, in the words of whoever made the series."""

from __future__ import annotations

from collections.abc import Callable

from probseq.sequences import Sequences


def step_place(series: Sequences) -> Callable[[int], str]:
    """A function from a flat step to words: "step 3 (2012-01-04) of sequence 'Seattle'"; steps count from 0."""

    def place(step: int) -> str:
        sequence = int(series.step_sequence[step])
        words = f"step {step - int(series.offsets[sequence])}"
        if series.time is not None:
            words += f" ({series.time[step]})"
        return words if series.count == 1 else f"{words} of sequence {series.ids[sequence]!r}"

    return place
