"""How many kinds of years does the world have, by its number of large earthquakes? (Zucchini et al. 2016)"""

from probseq import HMM, datasets, em, families
from probseq.chains import StationaryInitial


def main() -> None:
    counts = datasets.earthquakes()
    for states in (1, 2, 3, 4):
        model = HMM(states=states, emission=families.Poisson(), initial=StationaryInitial())
        fit = em(model, counts, restarts=8, seed=0)
        rates = ", ".join(f"{rate:.4f}" for rate in fit.parameters["rate"])
        print(f"K = {states}: log-likelihood {fit.log_likelihood:.4f}, AIC {fit.aic:.4f}, BIC {fit.bic:.4f}; {rates}")


if __name__ == "__main__":
    main()
