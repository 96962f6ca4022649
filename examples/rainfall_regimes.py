"""Which weather regimes does daily rainfall in Seattle have, and what does the next week look like?

A dry day is a point mass at zero, a wet day a gamma: a hurdle. The number of regimes is chosen by BIC. The weak
priors matter: the gauge repeats values, and maximum likelihood would pile a state onto one of them.
"""

from probseq import HMM, datasets, em, families
from probseq.chains import mean_stay


def main() -> None:
    rain = datasets.rainfall("Seattle")
    print(rain)
    fits = {}
    for states in (1, 2, 3, 4):
        model = HMM(states=states, emission=families.Hurdle(families.Gamma()))
        fits[states] = em(model, rain, priors=True, restarts=3, seed=1)
        print(f"K = {states}: log-likelihood {fits[states].log_likelihood:.1f}, BIC {fits[states].bic:.1f}")

    states = min(fits, key=lambda k: fits[k].bic)
    fit = fits[states]
    print(f"\nBIC chooses {states} regimes ({fit.stop_reason})")
    stay = mean_stay(fit.parameters["transition"])
    for k in range(states):
        words = fit.model.emission.describe(fit.parameters, k, unit="mm")
        print(f"  regime {k}: {words}; a visit lasts {stay[k]:.1f} days on average")

    decoded = fit.decode(rain)
    print("\nthe last days of 2015, decoded:")
    print(decoded[["precipitation", "state", *[f"probability_{k}" for k in range(states)]]].tail(5).round(3))
    print("\nforecast, mm a day:")
    print(fit.forecast(rain, horizon=7, quantiles=(0.5, 0.9, 0.99)).round(2))


if __name__ == "__main__":
    main()
