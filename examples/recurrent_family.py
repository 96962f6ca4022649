"""Which recurrent network remembers, and for how long?

A coin is tossed at every step; each network is asked, at every step, for the tosses 1, 2, 4, 8 and 16 steps before. A
bit is remembered where its predicted probability is right: the table has the mean bits of information at each lag on
new tosses, 1 being a perfect memory and 0 none, of networks of one size after the same training, from one seed each.
"""

import os

import numpy as np
import pandas as pd
import torch

from probseq import Sequences, train
from probseq.families import Bernoulli, Independent
from probseq.models import RecurrentModel
from probseq.recurrent import (
    GRU,
    LSTM,
    Bidirectional,
    DeepOutput,
    DeepTransition,
    Delayed,
    Feedforward,
    Leaky,
    Stacked,
    Vanilla,
)

LAGS = (1, 2, 4, 8, 16)
UNITS = 32


def tosses(count: int, steps: int, seed: int) -> Sequences:
    """Covariate `toss`, and as values the tosses at each lag before; steps without all of them are missing."""
    toss = np.random.default_rng(seed).integers(0, 2, (count, steps)).astype(float)
    earlier = np.stack([np.roll(toss, lag, axis=1) for lag in LAGS], axis=-1)
    known = np.broadcast_to((np.arange(steps) >= max(LAGS))[:, None], earlier.shape)
    return Sequences(
        torch.from_numpy(earlier.reshape(-1, len(LAGS))),
        torch.full((count,), steps),
        observed=torch.from_numpy(known.reshape(-1, len(LAGS)).copy()),
        columns=tuple(f"{lag} before" for lag in LAGS),
        covariates=torch.from_numpy(toss.reshape(-1, 1)),
        covariate_names=("toss",),
    )


NETWORKS = {
    "feedforward, no memory": lambda d: Feedforward(d, UNITS),
    "vanilla": lambda d: Vanilla(d, UNITS),
    "vanilla, orthogonal at first": lambda d: Vanilla(d, UNITS, orthogonal=True),
    "leaky, tau 1 to 30, learned": lambda d: Leaky(d, UNITS, tau=1.1, tau_to=30.0, learned=True),
    "delayed by 8": lambda d: Delayed(d, UNITS, delays=[8]),
    "deep transition": lambda d: DeepTransition(d, UNITS),
    "deep transition with skip": lambda d: DeepTransition(d, UNITS, skip=True),
    "deep output": lambda d: DeepOutput(Vanilla(d, UNITS), widths=[UNITS]),
    "two vanilla layers": lambda d: Stacked([Vanilla(d, UNITS), Vanilla(UNITS, UNITS, seed=1)]),
    "GRU": lambda d: GRU(d, UNITS),
    "LSTM": lambda d: LSTM(d, UNITS),
    "bidirectional LSTM": lambda d: Bidirectional(LSTM(d, UNITS), LSTM(d, UNITS, seed=1)),
}


def bits_by_lag(network: RecurrentModel, series: Sequences) -> np.ndarray:
    """1 - (mean of -log2 p(toss)) at each lag."""
    probability = network.predictive_parameters(series)["probability"]
    right = torch.where(series.values == 1, probability, 1 - probability)[series.step_observed]
    return (1 + right.log2().mean(0)).clamp(min=0).numpy()


def main() -> None:
    quick = "PROBSEQ_QUICK" in os.environ  # the test suite trains for less long, and fewer networks
    learn, fresh = tosses(64 if quick else 512, 64, seed=0), tosses(200, 64, seed=1)
    rows = []
    for name, cell in NETWORKS.items():
        if quick and name not in ("feedforward, no memory", "vanilla", "delayed by 8", "LSTM"):
            continue
        network = RecurrentModel.for_series(learn, Independent(Bernoulli()), cell, feedback=None, covariates=("toss",))
        fit = train(network, learn, epochs=2 if quick else 40, learning_rate=5e-3, patience=None)
        bits = bits_by_lag(fit.network, fresh)
        rows.append({"network": name, **dict(zip(LAGS, bits, strict=True)), "bits": bits.sum(), "seconds": fit.seconds})
    table = pd.DataFrame(rows).set_index("network")
    print(table.round({**dict.fromkeys(LAGS, 2), "bits": 2, "seconds": 1}).to_string())
    best = table["bits"].idxmax()
    print(f"\nof {len(LAGS)} bits asked for, most are remembered by the {best}: {table['bits'].max():.2f}")


if __name__ == "__main__":
    main()
