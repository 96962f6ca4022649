"""When was the US economy in recession? Hamilton's (1989) two regimes of real GNP growth, 1951-1984.

Growth deviates from the mean of its regime, and the deviations follow an autoregression of order four, so that a
quarter depends on the regimes of the last five. EM and a last stretch of L-BFGS find the published maximum, -181.26339.
"""

import numpy as np
import pandas as pd

from probseq import HMM, datasets, em, families, standard_errors
from probseq.chains import StationaryInitial, mean_stay

LAGS = 4


def spans(inside: np.ndarray, quarters: pd.DatetimeIndex) -> list[str]:
    """The runs of True, as "1953Q3-1954Q2"."""
    edges = np.flatnonzero(np.diff(np.r_[0, inside.astype(int), 0]))
    names = quarters.to_period("Q").astype(str)
    return [f"{names[start]}-{names[stop - 1]}" for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def main() -> None:
    growth = datasets.gnp()
    model = HMM(states=2, emission=families.DeviationAutoregression(order=LAGS), initial=StationaryInitial())
    fit = em(model, growth, restarts=5, seed=0)
    print(f"{growth}\nlog-likelihood {fit.log_likelihood:.5f} ({fit.stop_reason})")
    stay = mean_stay(fit.parameters["transition"])
    for k, name in enumerate(("recession", "expansion")):
        words = fit.model.emission.describe(fit.parameters, k, unit="%")
        print(f"  {name}: {words}; lasts {stay[k]:.1f} quarters on average")

    errors = standard_errors(fit).table  # of the exact Hessian; published: 0.0965, 0.0377, 0.2645, 0.0745
    print(errors.loc[["transition[0, 0]", "transition[1, 0]", "loc[0]", "loc[1]"], ["estimate", "standard_error"]])

    decoded = fit.decode(growth).iloc[LAGS:]
    recession = decoded["probability_0"].to_numpy() > 0.5
    official = datasets.frame("gnp")["nber_rec"].to_numpy()[LAGS:] > 0
    print(f"agrees with the NBER in {(recession == official).mean():.0%} of {len(official)} quarters")
    print("decoded:", ", ".join(spans(recession, decoded.index)))
    print("NBER:   ", ", ".join(spans(official, decoded.index)))
    print(decoded.loc["1981":"1982", ["rgnp_growth", "filtered_0", "probability_0"]].round(3))


if __name__ == "__main__":
    main()
