"""Why a fit cannot begin: a series that the model's structure makes impossible, whatever is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.places import step_place
from probseq.sequences import Sequences


def why_impossible(model: HMM | ProgramModel, parameters: dict[str, Tensor], series: Sequences) -> str:
    """The refusal of a series without probability at the parameters of a start, naming its first impossible step.

    Args:
        model: bound to the series.
        parameters: of the start.
        series: the data; a sequence of weight zero is not looked at.
    """
    where = _first_impossible_step(model, parameters, series) if isinstance(model, HMM) else None
    place = "" if where is None else f" at {step_place(series)(where)}"
    return (
        f"A series to fit must be possible under the model's structure, got probability zero{place}; check the value "
        "and the label there, the longest durations, the forbidden moves, and zeros among given probabilities."
    )


def _first_impossible_step(model: HMM, parameters: dict[str, Tensor], series: Sequences) -> int | None:
    """The flat step where log p(x_1:t) first falls to -inf in a sequence that counts."""
    impossible = torch.isneginf(model.posterior(parameters, series).predictive_log_prob)
    if series.weights is not None:
        impossible &= series.weights[series.step_sequence] > 0
    found = impossible.nonzero()
    return int(found[0]) if len(found) else None
