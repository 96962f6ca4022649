"""Chapters of hand-made fits: the numbers are known, and nothing has to converge."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from probseq import HMM, Fit, Sequences, families
from probseq.inference import Attempt
from probseq.report import Chapter

CHAIN = torch.tensor([[0.9, 0.1], [0.4, 0.6]], dtype=torch.float64)


def made_fit(model: HMM, emission: dict[str, Tensor], series: Sequences) -> Fit:
    """A fit with the parameters given."""
    states = model.states
    chain = CHAIN if states == 2 else torch.eye(states, dtype=torch.float64) * 0.7 + 0.3 / states
    point = {"initial": torch.full((states,), 1 / states, dtype=torch.float64), "transition": chain, **emission}
    likelihood = float(model.log_prob(point, series).sum())
    return Fit(
        model=model,
        parameters=point,
        draws={name: value.unsqueeze(0) for name, value in point.items()},
        method="em",
        with_priors=False,
        log_likelihood=likelihood,
        observations=int(series.step_observed.sum()),
        n_parameters=model.n_parameters(tuple(series.values.shape[1:])),
        objective=torch.tensor([likelihood - 5, likelihood - 1, likelihood], dtype=torch.float64),
        converged=True,
        stop_reason="converged: by hand",
        seconds=0.1,
        fingerprint=series.fingerprint(),
        columns=series.columns,
        categories=series.categories,
        attempts=(Attempt(0, likelihood, 3, "by hand"), Attempt(1, float("nan"), 1, "collapsed")),
    )


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rain_chapter() -> Chapter:
    """Two years of daily rain with a missing week."""
    generator = np.random.default_rng(1)
    rain = np.where(generator.random(731) < 0.6, 0.0, generator.gamma(0.8, 10.0, 731).round(1) + 0.1)
    rain[100:107] = np.nan
    frame = pd.DataFrame({"rain": rain}, index=pd.date_range("2019-01-01", periods=731, name="date"))
    series = Sequences.from_frame(frame, "rain")
    emission = {"nonzero": numbers(0.03, 0.9), "concentration": numbers(1.0, 0.8), "rate": numbers(2.5, 0.08)}
    fit = made_fit(HMM(2, families.by_name("hurdle-gamma")), emission, series)
    tried = pd.DataFrame(
        {
            "states": [1, 2, 3],
            "log_likelihood": [-2000.0, fit.log_likelihood, np.nan],
            "n_parameters": [3.0, 9.0, np.nan],
            "aic": [4006.0, fit.aic, np.nan],
            "bic": [4020.0, fit.bic, np.nan],
            "failed": ["", "", "A state collapsed."],
        }
    )
    return Chapter("Rain <here> & there", fit, series, "mm", tried, "probseq fit 'rain.csv'", seed=4)


def symbol_chapter() -> Chapter:
    """Two sequences of DNA."""
    generator = np.random.default_rng(2)
    frame = pd.DataFrame({"base": generator.choice(list("ACGT"), 900), "who": ["one"] * 600 + ["two"] * 300})
    series = Sequences.from_frame(frame, "base", group="who", symbols=tuple("ACGT"))
    chances = torch.tensor([[0.2, 0.3, 0.3, 0.2], [0.3, 0.2, 0.2, 0.3]], dtype=torch.float64)
    fit = made_fit(HMM(2, families.Categorical(4)), {"probabilities": chances}, series)
    return Chapter("DNA", fit, series)


def count_chapter() -> Chapter:
    """Forty counts without times."""
    series = Sequences.from_arrays(np.random.default_rng(3).poisson(4, 40))
    return Chapter("Counts", made_fit(HMM(2, families.Poisson()), {"rate": numbers(2.0, 9.0)}, series), series)


def return_chapter() -> Chapter:
    """Weekday returns: three states that differ in spread."""
    frame = pd.DataFrame({"usd": np.random.default_rng(4).normal(size=700)}, index=pd.bdate_range("2020", periods=700))
    series = Sequences.from_frame(frame, "usd")
    emission = {"loc": numbers(0.0, 0.01, 0.02), "scale": numbers(2.0, 0.5, 1.0)}
    return Chapter("Returns", made_fit(HMM(3, families.Gaussian()), emission, series), series, "%")


def vector_chapter() -> Chapter:
    """Three sequences of two columns, one state."""
    arrays = [np.random.default_rng(seed).normal(size=(30, 2)) for seed in range(3)]
    series = Sequences.from_arrays(arrays, columns=["a", "b"])
    emission = {"loc": torch.zeros(1, 2).double(), "scale_tril": torch.eye(2).double().unsqueeze(0)}
    return Chapter("Vectors", made_fit(HMM(1, families.MultivariateGaussian()), emission, series), series)


CHAPTERS = {
    "rain": rain_chapter,
    "symbols": symbol_chapter,
    "counts": count_chapter,
    "returns": return_chapter,
    "vectors": vector_chapter,
}


@pytest.fixture
def chapter(request: pytest.FixtureRequest) -> Chapter:
    """The chapter of this name."""
    return CHAPTERS[request.param]()
