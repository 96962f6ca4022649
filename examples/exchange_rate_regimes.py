"""When were exchange rates calm and when not? Volatility regimes of daily euro-dollar log returns (ECB)."""

import numpy as np

from probseq import HMM, Sequences, datasets, em, families
from probseq.chains import mean_stay


def main() -> None:
    rates = datasets.frame("exchange_rates")["USD"].dropna()
    returns = 100.0 * np.log(rates).diff().dropna()
    returns = Sequences.from_arrays(returns.to_numpy(), time=returns.index, columns=["percent"])
    for family in (families.Gaussian(), families.StudentT()):
        fit = em(HMM(states=2, emission=family), returns, restarts=2, seed=0)
        stay = mean_stay(fit.parameters["transition"])
        print(f"{family.name}: log-likelihood {fit.log_likelihood:.1f}, BIC {fit.bic:.1f}")
        for k in range(2):
            print(f"  regime {k}: {family.describe(fit.parameters, k, unit='%')}; mean stay {stay[k]:.0f} days")
        turbulent = int(fit.parameters["scale"].argmax())
        by_year = fit.decode(returns)[f"probability_{turbulent}"].groupby(returns.time.year).mean()
        print("  most turbulent years:", by_year.sort_values(ascending=False).head(4).round(2).to_dict())


if __name__ == "__main__":
    main()
