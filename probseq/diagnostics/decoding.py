"""How sure the decoded states are, the uncertainty of the parameters included."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch

from probseq.chains.semi_markov_posterior import SemiMarkovPosterior
from probseq.inference.fit import Fit
from probseq.inference.simulation import draw_of
from probseq.sequences import Sequences

WITHIN = ("entropy_within", "change", "agreement")
"""Columns that are averages over the draws of each one's own."""


@dataclass(frozen=True, eq=False)
class DecodingUncertainty:
    """What is not known of the hidden path.

    Args:
        steps: the series with its index and, for each step: `state`, the Viterbi state at the point estimate;
            `probability_k`, p(z_t = k | x) averaged over the draws of the parameters; `entropy` in nats of that law,
            of which `entropy_within` is the mean over draws of each one's own and the rest comes of not knowing the
            parameters; `change`, the probability that the next step is in another state, averaged too, zero at the last
            step of a sequence; `agreement`, the share of draws whose Viterbi state is this `state`.
        sequences: one row a sequence: `steps`; `entropy` in nats of the whole path, averaged over draws (NaN for
            semi-Markov chains, whose paths have none in closed form); `entropy_per_step`; `viterbi_log_probability` =
            log p(Viterbi path | x) in nats at the point estimate; `changes`, the expected number of changes.
    """

    steps: pd.DataFrame
    sequences: pd.DataFrame


def decoding_uncertainty(fit: Fit, series: Sequences | None = None) -> DecodingUncertainty:
    """The uncertainty of the decoded states, step by step and path by path.

    Averages over draws take the states of all draws to mean the same: relabel a sampled fit first.

    Args:
        fit: its draws are averaged over; of a point fit the point is the only one.
        series: the data; None means those that were fitted.
    """
    series = fit.data(series)
    point = fit.posterior(series)
    state = point.viterbi
    per_step = {name: torch.zeros(series.total_steps, dtype=torch.float64) for name in WITHIN}
    law, path = torch.zeros_like(point.smoothed), torch.zeros(series.count, dtype=torch.float64)
    for number in range(fit.n_draws):
        parameters = draw_of(fit.draws, number)
        one = point if fit.n_draws == 1 else fit.model.posterior(fit.model.complete(parameters), series)
        found = (one.step_entropy, one.change_probability, (one.viterbi == state).double())
        for name, value in zip(WITHIN, found, strict=True):
            per_step[name] += value / fit.n_draws
        law += one.smoothed / fit.n_draws
        path += (math.nan if isinstance(one, SemiMarkovPosterior) else one.entropy) / fit.n_draws
    entropy = torch.special.entr(law).sum(-1)
    columns = {"state": state, "probability": law, "entropy": entropy, **per_step}
    changes = torch.zeros(series.count, dtype=torch.float64).index_add(0, series.step_sequence, per_step["change"])
    sequences = pd.DataFrame(
        {
            "steps": series.lengths.numpy(),
            "entropy": path.numpy(),
            "entropy_per_step": (path / series.lengths).numpy(),
            "viterbi_log_probability": point.viterbi_log_probability.numpy(),
            "changes": changes.numpy(),
        },
        index=series.ids.rename(series.ids.name or "sequence"),
    )
    return DecodingUncertainty(series.to_frame(columns), sequences)
