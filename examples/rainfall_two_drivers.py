"""Does a hidden state or a recurrent network tell tomorrow's rain better? Seattle's daily rain, one family for both.

Rain is a hurdle gamma law: dry, or a gamma amount. Its parameters are driven by nothing (climatology), by a hidden
Markov chain, or by the hidden vector of a recurrent network that reads past rain. All learn from 2012 to 2014 and are
scored by the log-probability of each day of 2015 given the days before it. PROBSEQ_QUICK=1 trains for a moment only.
"""

import os

import numpy as np

from probseq import HMM, RecurrentModel, datasets, em, families, train

QUICK = "PROBSEQ_QUICK" in os.environ


def main() -> None:
    rain = datasets.rainfall("Seattle")
    past, year = rain.split("2015-01-01")
    family = families.Hurdle(families.Gamma())
    scores = {}

    one = em(HMM(states=1, emission=family), past, seed=0)
    scores["climatology, one law for all days"] = one.predictive_log_prob(rain)
    for states in (2, 3):
        fit = em(HMM(states=states, emission=family), past, restarts=2 if QUICK else 5, seed=0)
        scores[f"hidden Markov chain of {states} states"] = fit.predictive_log_prob(rain)
    for cell in ("vanilla", "gru"):
        network = RecurrentModel.for_series(past, family, cell, 8, dropout=0.2, seed=1)
        options = {"epochs": 2 if QUICK else 150, "patience": 30, "learning_rate": 3e-3, "truncate": 50}
        learned = train(network, past, validation=0.2, seed=1, **options)
        scores[f"{cell} network of 8 units"] = learned.predictive_log_prob(rain)

    print(f"{year.total_steps} days of 2015; nats a day, and better (+) than climatology with its standard error")
    base = scores["climatology, one law for all days"][-year.total_steps :]
    for name, found in scores.items():
        found = found[-year.total_steps :]
        gain = (found - base).numpy()
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        print(f"  {name:36s} {float(found.mean()):8.4f}  {gain.mean():+.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
