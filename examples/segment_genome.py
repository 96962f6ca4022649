"""Where does the composition of a genome change? Phage lambda in two states (Churchill 1989)."""

import pandas as pd

from probseq import HMM, datasets, em, families


def main() -> None:
    genome = datasets.phage_lambda()
    fit = em(HMM(states=2, emission=families.Categorical()), genome, restarts=5, seed=0)
    print(f"{genome}\nlog-likelihood {fit.log_likelihood:.3f} ({fit.stop_reason})")
    table = pd.DataFrame(fit.parameters["probabilities"].numpy(), columns=list(genome.categories or ()))
    table["stay"] = fit.parameters["transition"].diagonal().numpy()
    print(table.round(6))
    path = fit.posterior(genome).viterbi.numpy()
    starts = [0, *(1 + (path[1:] != path[:-1]).nonzero()[0])]
    for start, end in zip(starts, [*starts[1:], len(path)], strict=True):
        print(f"{start:>6} - {end:>6}  state {path[start]}")


if __name__ == "__main__":
    main()
