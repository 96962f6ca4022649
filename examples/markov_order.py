"""How long is the memory of a genome, and of wet and dry days? The order of a Markov chain on observed symbols.

Evidence (the rows integrated out over their Dirichlet priors) and BIC for orders 0 to 8, all scored on the same steps;
then what the chosen chain of rain says of spells and of the days to come.
"""

import torch

from probseq import MarkovModel, Sequences, choose_order, datasets


def wet_days(rain: Sequences, threshold: float = 0.1) -> Sequences:
    """Days with at least `threshold` mm as "wet", others as "dry"; missing days stay missing."""
    return Sequences(
        (rain.values >= threshold).to(torch.uint8),
        rain.lengths,
        observed=rain.observed,
        time=rain.time,
        columns=("day",),
        categories=("dry", "wet"),
    )


def main() -> None:
    for name, series in (
        ("phage lambda", datasets.phage_lambda()),
        ("Seattle", wet_days(datasets.rainfall("Seattle"))),
    ):
        table = choose_order(series, orders=range(9))
        print(f"{name}: {series}")
        print(table.round({"log_likelihood": 3, "aic": 1, "bic": 1, "log_evidence": 3, "probability": 4}).to_string())
        chosen = table["log_evidence"].idxmax(), table["bic"].idxmin()
        print(f"  the evidence chooses order {chosen[0]}, BIC order {chosen[1]}\n")

    days = wet_days(datasets.rainfall("Seattle"))
    order = int(choose_order(days)["bic"].idxmin())
    fit = MarkovModel(order).fit(days)
    print(f"the chain of order {order}: the law of a day after the {order} before it\n{fit.to_frame().round(4)}")
    print(f"long-run share of wet days {fit.stationary[1]:.4f}")
    print(f"after a wet day, {fit.occupancy(30, start=['wet'] * order)[1]:.2f} of the next 30 are wet on average")
    arrival = fit.hitting_law("wet", 7, start=["dry"] * order)
    print(f"after a dry day, the first wet one comes within a week with probability {arrival.sum():.3f}")
    print(f"and on average after {fit.hitting_times('wet')[0]:.2f} days")
    print(fit.forecast(days, horizon=3).round(4))


if __name__ == "__main__":
    main()
