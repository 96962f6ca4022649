"""One row a family: parameters for three states, a grid of values, and an oracle from scipy for one state."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from probseq import families as f
from probseq.families import Family

F64 = torch.float64


@dataclass(frozen=True)
class Case:
    """A family with parameters (K = 3) and what scipy says about it.

    log_prob(x, parameters of one state as numpy) is the oracle; low..high holds all but 1e-10 of every state's mass.
    """

    family: Family
    parameters: dict[str, torch.Tensor]
    log_prob: Callable[[np.ndarray, dict[str, Any]], np.ndarray]
    low: float
    high: float
    outside: tuple[float, ...] = ()
    cdf: Callable[[np.ndarray, dict[str, Any]], np.ndarray] | None = None
    columns: int = 0
    label: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.columns,) if self.columns else ()

    def state(self, k: int) -> dict[str, Any]:
        """One state's parameters as numpy arrays."""
        declared = self.family.parameters(self.event_shape)
        return {n: (v if declared[n].shared else v[k]).numpy() for n, v in self.parameters.items()}

    def sample(self, count: int, seed: int) -> torch.Tensor:
        """(3 count, *event): draws of all states, shuffled."""
        torch.manual_seed(seed)
        draws = self.family.distribution(**self.parameters).sample((count,)).flatten(0, 1)
        return draws[torch.randperm(len(draws))]


def t(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=F64)


def hurdle(inner_log_prob: Callable, none: Callable | None = None) -> Callable:
    """log p of a hurdle law from the inner scipy law; `none(p)` is the inner chance of zero for counts."""

    def log_prob(x, p):
        above = np.log(p["nonzero"]) + inner_log_prob(np.where(x == 0, 1.0, x), p)
        if none is not None:
            above = above - np.log1p(-none(p))
        return np.where(x == 0, np.log1p(-p["nonzero"]), above)

    return log_prob


def inflated(inner_log_prob: Callable, none: Callable | None = None) -> Callable:
    def log_prob(x, p):
        zero = p["inflation"] + (0 if none is None else (1 - p["inflation"]) * none(p))
        above = np.log1p(-p["inflation"]) + inner_log_prob(np.where(x == 0, 1.0, x), p)
        return np.where(x == 0, np.log(zero), above)

    return log_prob


def gaussian(x, p):
    return stats.norm.logpdf(x, p["loc"], p["scale"])


def log_normal(x, p):
    return stats.lognorm.logpdf(x, p["scale"], scale=np.exp(p["loc"]))


def gamma(x, p):
    return stats.gamma.logpdf(x, p["concentration"], scale=1 / p["rate"])


def poisson(x, p):
    return stats.poisson.logpmf(x, p["rate"])


def negative_binomial(x, p):
    r, m = p["concentration"], p["mean"]
    return stats.nbinom.logpmf(x, r, r / (r + m))


def no_negative_binomial(p):
    return np.exp(negative_binomial(0, p))


def mvn(x, p):
    tril = p.get("scale_tril")
    covariance = np.diag(np.broadcast_to(p["scale"] ** 2, p["loc"].shape)) if tril is None else tril @ tril.T
    return stats.multivariate_normal.logpdf(x, p["loc"], covariance)


def mixture(inner: Callable) -> Callable:
    """log p of a mixture: one component at a time, its parameters those with a component axis."""

    def log_prob(x, p):
        parts = []
        for m, weight in enumerate(p["weights"]):
            one = {n: v if n == "scale_tril" else v[m] for n, v in p.items() if n != "weights"}
            parts.append(np.log(weight) + inner(x, one))
        return np.logaddexp.reduce(parts)

    return log_prob


def product(x, p):
    parts = {c: {n.removeprefix(f"{c}_"): v for n, v in p.items() if n.startswith(c)} for c in ("heat", "rain", "wind")}
    wind = stats.vonmises.logpdf(x[..., 2], parts["wind"]["concentration"], parts["wind"]["loc"])
    return gaussian(x[..., 0], parts["heat"]) + hurdle(gamma)(x[..., 1], parts["rain"]) + wind


LOCS = t([0.3, -1.0], [2.0, 1.5], [-1.0, 4.0])
TRIL = t([[1.0, 0.0], [0.5, 0.8]], [[0.5, 0.0], [-0.4, 1.2]], [[1.5, 0.0], [0.0, 0.3]])
GAMMA = {"concentration": t(0.6, 2.0, 9.0), "rate": t(0.5, 1.0, 3.0)}
NB = {"mean": t(0.7, 4.0, 12.0), "concentration": t(0.5, 3.0, 80.0)}
POISSON = {"rate": t(0.4, 3.0, 11.0)}
NORMAL = {"loc": t(-1.0, 0.5, 3.0), "scale": t(0.5, 1.0, 2.0)}
LOG_NORMAL = {"loc": t(-1.0, 0.3, 1.0), "scale": t(0.5, 0.3, 0.6)}
STUDENT = {"df": t(3.5, 6.0, 80.0), **NORMAL}
NONZERO = t(0.1, 0.5, 0.95)
TINY = 1e-12

CASES = [
    Case(f.Gaussian(), NORMAL, gaussian, -20, 25, (), lambda x, p: stats.norm.cdf(x, p["loc"], p["scale"])),
    Case(
        f.LogNormal(),
        LOG_NORMAL,
        log_normal,
        TINY,
        200,
        (0.0, -2.0),
        lambda x, p: stats.lognorm.cdf(x, p["scale"], scale=np.exp(p["loc"])),
    ),
    Case(
        f.Gamma(),
        GAMMA,
        gamma,
        TINY,
        100,
        (0.0, -2.0),
        lambda x, p: stats.gamma.cdf(x, p["concentration"], scale=1 / p["rate"]),
    ),
    Case(
        f.StudentT(),
        STUDENT,
        lambda x, p: stats.t.logpdf(x, p["df"], p["loc"], p["scale"]),
        -2000,
        2000,
        (),
        lambda x, p: stats.t.cdf(x, p["df"], p["loc"], p["scale"]),
    ),
    Case(f.Poisson(), POISSON, poisson, 0, 60, (-1.0, 0.5), lambda x, p: stats.poisson.cdf(x, p["rate"])),
    Case(f.NegativeBinomial(), NB, negative_binomial, 0, 300, (-1.0, 0.5)),
    Case(
        f.Exponential(),
        {"rate": t(0.3, 1.0, 4.0)},
        lambda x, p: stats.expon.logpdf(x, scale=1 / p["rate"]),
        0,
        100,
        (-2.0,),
        lambda x, p: stats.expon.cdf(x, scale=1 / p["rate"]),
    ),
    Case(
        f.Beta(),
        {"concentration1": t(1.6, 2.0, 90.0), "concentration0": t(1.3, 5.0, 30.0)},
        lambda x, p: stats.beta.logpdf(x, p["concentration1"], p["concentration0"]),
        TINY,
        1 - TINY,
        (0.0, 1.5, -2.0),
        lambda x, p: stats.beta.cdf(x, p["concentration1"], p["concentration0"]),
    ),
    Case(
        f.VonMises(),
        {"loc": t(-1.0, 0.5, 3.0), "concentration": t(0.3, 2.0, 40.0)},
        lambda x, p: stats.vonmises.logpdf(x, p["concentration"], p["loc"]),
        -np.pi,
        np.pi,
    ),
    Case(
        f.VonMises(360.0, 0.0),
        {"loc": t(100.0, 300.0, 5.0), "concentration": t(0.3, 2.0, 40.0)},
        lambda x, p: stats.vonmises.logpdf(np.deg2rad(x - p["loc"]), p["concentration"]) - np.log(180 / np.pi),
        0,
        360,
        label="degrees",
    ),
    Case(
        f.Geometric(),
        {"probability": t(0.1, 0.5, 0.9)},
        lambda x, p: stats.geom.logpmf(x + 1, p["probability"]),
        0,
        300,
        (-1.0, 0.5),
        lambda x, p: stats.geom.cdf(x + 1, p["probability"]),
    ),
    Case(
        f.Binomial(7),
        {"probability": t(0.03, 0.5, 0.9)},
        lambda x, p: stats.binom.logpmf(x, 7, p["probability"]),
        0,
        7,
        (-1.0, 0.5, 8.0),
        lambda x, p: stats.binom.cdf(x, 7, p["probability"]),
    ),
    Case(
        f.Bernoulli(),
        {"probability": t(0.03, 0.5, 0.9)},
        lambda x, p: stats.bernoulli.logpmf(x, p["probability"]),
        0,
        1,
        (-1.0, 0.5, 2.0),
        lambda x, p: stats.bernoulli.cdf(x, p["probability"]),
    ),
    Case(
        f.Categorical(4),
        {"probabilities": t([0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.2, 0.3])},
        lambda x, p: np.log(p["probabilities"][x.astype(int)]),
        0,
        3,
        (-1.0, 0.5, 4.0),
        lambda x, p: p["probabilities"].cumsum()[x.astype(int)],
    ),
    Case(f.Hurdle(f.Gamma()), {"nonzero": NONZERO, **GAMMA}, hurdle(gamma), TINY, 100, (-2.0,)),
    Case(f.Hurdle(f.LogNormal()), {"nonzero": NONZERO, **LOG_NORMAL}, hurdle(log_normal), TINY, 200, (-2.0,)),
    Case(f.Hurdle(f.Gaussian()), {"nonzero": NONZERO, **NORMAL}, hurdle(gaussian), -20, 25),
    Case(
        f.Hurdle(f.Poisson()),
        {"nonzero": NONZERO, **POISSON},
        hurdle(poisson, lambda p: np.exp(-p["rate"])),
        0,
        60,
        (-1.0, 0.5),
    ),
    Case(
        f.Hurdle(f.NegativeBinomial()),
        {"nonzero": NONZERO, **NB},
        hurdle(negative_binomial, no_negative_binomial),
        0,
        300,
        (-1.0, 0.5),
    ),
    Case(
        f.ZeroInflated(f.Poisson()),
        {"inflation": NONZERO, **POISSON},
        inflated(poisson, lambda p: np.exp(-p["rate"])),
        0,
        60,
        (-1.0, 0.5),
    ),
    Case(
        f.ZeroInflated(f.NegativeBinomial()),
        {"inflation": NONZERO, **NB},
        inflated(negative_binomial, no_negative_binomial),
        0,
        300,
        (-1.0, 0.5),
    ),
    Case(f.ZeroInflated(f.Gamma()), {"inflation": NONZERO, **GAMMA}, inflated(gamma), TINY, 100, (-2.0,)),
    Case(f.MultivariateGaussian(), {"loc": LOCS, "scale_tril": TRIL}, mvn, -15, 15, columns=2, label="full"),
    Case(f.MultivariateGaussian("tied"), {"loc": LOCS, "scale_tril": TRIL[1]}, mvn, -15, 15, columns=2, label="tied"),
    Case(
        f.MultivariateGaussian("diagonal"),
        {"loc": LOCS, "scale": t([0.5, 1.0], [2.0, 0.3], [1.0, 1.0])},
        mvn,
        -15,
        15,
        columns=2,
        label="diagonal",
    ),
    Case(
        f.MultivariateGaussian("spherical"),
        {"loc": LOCS, "scale": t(0.5, 1.0, 2.0)},
        mvn,
        -15,
        15,
        columns=2,
        label="spherical",
    ),
    Case(
        f.MultivariateStudentT(),
        {"df": t(3.5, 6.0, 30.0), "loc": LOCS, "scale_tril": TRIL},
        lambda x, p: stats.multivariate_t.logpdf(x, p["loc"], p["scale_tril"] @ p["scale_tril"].T, p["df"]),
        -15,
        15,
        columns=2,
    ),
    Case(
        f.Multinomial(8),
        {"probabilities": t([0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.25, 0.25, 0.5])},
        lambda x, p: stats.multinomial.logpmf(x, x.sum(-1), p["probabilities"]),
        0,
        8,
        columns=3,
    ),
    Case(
        f.Mixture(f.Gaussian(), 2),
        {
            "weights": t([0.3, 0.7], [0.5, 0.5], [0.9, 0.1]),
            "loc": t([-2.0, 0.0], [0.5, 2.0], [3.0, 6.0]),
            "scale": t([0.5, 0.4], [1.0, 0.3], [2.0, 0.5]),
        },
        mixture(gaussian),
        -20,
        25,
    ),
    Case(
        f.Mixture(f.Poisson(), 2),
        {"weights": t([0.3, 0.7], [0.5, 0.5], [0.9, 0.1]), "rate": t([0.4, 5.0], [3.0, 9.0], [11.0, 1.0])},
        mixture(poisson),
        0,
        60,
        (-1.0, 0.5),
    ),
    Case(
        f.Mixture(f.MultivariateGaussian("tied"), 2),
        {
            "weights": t([0.3, 0.7], [0.5, 0.5], [0.9, 0.1]),
            "loc": torch.stack([LOCS, LOCS + 2.0], 1),
            "scale_tril": TRIL[1],
        },
        mixture(mvn),
        -15,
        15,
        columns=2,
        label="tied",
    ),
    Case(
        f.Product((f.Gaussian(), f.Hurdle(f.Gamma()), f.VonMises()), ("heat", "rain", "wind")),
        {
            **{f"heat_{n}": v for n, v in NORMAL.items()},
            "rain_nonzero": NONZERO,
            **{f"rain_{n}": v for n, v in GAMMA.items()},
            "wind_loc": t(-1.0, 0.5, 3.0),
            "wind_concentration": t(0.3, 2.0, 40.0),
        },
        product,
        TINY,
        3.0,
        columns=3,
    ),
    Case(
        f.Independent(f.Hurdle(f.Gamma())),
        {
            "nonzero": t([0.1, 0.9], [0.5, 0.3], [0.95, 0.6]),
            "concentration": t([0.6, 2.0], [3.0, 1.0], [9.0, 0.5]),
            "rate": t([0.5, 1.0], [1.0, 2.0], [3.0, 0.2]),
        },
        lambda x, p: sum(hurdle(gamma)(x[..., d], {n: v[d] for n, v in p.items()}) for d in range(2)),
        TINY,
        100,
        columns=2,
    ),
    Case(
        f.Independent(f.Bernoulli()),
        {"probability": t([0.1, 0.9], [0.5, 0.3], [0.95, 0.6])},
        lambda x, p: stats.bernoulli.logpmf(x, p["probability"]).sum(-1),
        0,
        1,
        columns=2,
    ),
]


@pytest.fixture(params=CASES, ids=[f"{case.family.name}-{case.label}".rstrip("-") for case in CASES])
def case(request) -> Case:
    return request.param


@pytest.fixture
def weighted(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows drawn from all three states, and random weights (R, 3) of which some, and the whole last state, are zero."""
    values = case.sample(60, seed=5)
    weights = torch.rand(len(values), 3, dtype=F64)
    weights[torch.rand(len(values)) < 0.1] = 0
    weights[:, 2] = 0
    return values, weights
