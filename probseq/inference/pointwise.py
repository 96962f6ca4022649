"""An answer of the posterior of the states for every draw of the parameters, such as log p(x_t | x_-t, theta)."""

from __future__ import annotations

import torch
from torch import Tensor

from probseq.inference.fit import Fit
from probseq.inference.simulation import draw_of
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

ENTRIES = 1 << 22
"""Numbers of the tables of log-likelihoods that are held at a time."""


def per_draw(fit: Fit, series: Sequences, answer: str) -> Tensor:
    """(S, ...) an answer of `StatePosterior`, by draw.

    Args:
        fit: with draws; a point is one.
        series: the data.
        answer: the name of a property, such as "log_evidence" (N,), "predictive_log_prob" (T,) or
            "leave_one_out_log_prob" (T,).
    """
    model, count = fit.model, fit.n_draws
    if isinstance(model, ProgramModel):
        each = [getattr(model.posterior(draw_of(fit.draws, s), series), answer) for s in range(count)]
        return torch.stack(each)
    at_once = max(1, ENTRIES // (series.total_steps * model.codes))
    parts = []
    for first in range(0, count, at_once):
        some = {name: value[first : first + at_once] for name, value in fit.draws.items()}
        parts.append(getattr(model.posterior(some, series), answer))
    return torch.cat(parts)
