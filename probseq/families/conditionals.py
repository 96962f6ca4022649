"""What each family tells a Gibbs sampler: statistics of its rows, and the numbers of its conjugate priors.

A family is a list of `Unit`s, each an exponential family that `kernels.conditionals` scores and draws in compiled code.
A new conjugate family is one function here, and at most one kind there. Hurdles, products and independent columns are
the units of their parts, on the rows that are each part's business; mixtures and zero-inflated laws are `Emission`s of
several components, one of which is drawn at every step (Diebolt & Robert 1994).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product as pairs
from typing import Any

import numpy as np
import torch.distributions as td
from pyro.distributions import InverseGamma
from scipy.special import gammaln
from torch import Tensor

from probseq.errors import ModelError
from probseq.families.autoregression import Autoregression
from probseq.families.beta import Beta
from probseq.families.binomial import Binomial
from probseq.families.exponential import Exponential
from probseq.families.family import Family, real
from probseq.families.gamma import Gamma
from probseq.families.gaussian import Gaussian
from probseq.families.geometric import Geometric
from probseq.families.independent import Independent, law_of_column
from probseq.families.inverse_wishart import InverseWishartCholesky
from probseq.families.log_normal import LogNormal
from probseq.families.mixture import Mixture, law_of_component
from probseq.families.multinomial import Multinomial
from probseq.families.multivariate import MultivariateGaussian
from probseq.families.poisson import Poisson
from probseq.families.product import Product
from probseq.families.symbols import Bernoulli, Categorical
from probseq.families.zeros import Hurdle, ZeroInflated
from probseq.kernels import conditionals as kinds

Place = tuple[str, tuple[int, ...]]
"""A number among a state's parameters: the parameter's name, and the index into it."""

Laws = Mapping[str, Any]
"""One state's prior of each parameter, by name."""


@dataclass(frozen=True, eq=False)
class Unit:
    """One exponential family with conjugate priors; zero statistics mean a row that is none of its business.

    Attributes:
        kind: one of `kernels.conditionals`.
        statistics (P, R): of the rows, as the kind wants them.
        rest (R,): what the log-likelihood has besides, whatever the parameters.
        size: D or M.
        numbers: of the priors, as the kind wants them.
        places: where each of its parameters is among the family's.
    """

    kind: int
    statistics: np.ndarray
    rest: np.ndarray
    size: int
    numbers: tuple[float, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class Emission:
    """A law of rows as components, each with its own copy of the parameters of the units.

    Attributes:
        units: of every component from `first` on.
        first: components before it have no parameters.
        given (M, R): log-likelihoods that do not depend on the parameters, without the units' own rest.
        weight_prior (M,): Dirichlet concentrations of the components' weights.
        weights: the weights' name among the parameters: all M of a state, or, before `first`, the first alone.
    """

    units: tuple[Unit, ...]
    first: int
    given: np.ndarray
    weight_prior: np.ndarray
    weights: str = ""


def emission_of(family: Family, values: Tensor, measured: np.ndarray, priors: Laws) -> Emission:
    """The family as a Gibbs sampler wants it.

    Args:
        family: bound to the data.
        values (R, *event): rows; NaN where an entry of a vector is missing.
        measured (R,): False for rows that stand for missing steps.
        priors: one state's prior of each parameter.

    Raises:
        ModelError: a family or a prior without full conditionals.
    """
    rows = real(values).numpy()
    if isinstance(family, Mixture):
        (weights,) = _numbers("weights", priors["weights"], td.Dirichlet, "concentration")
        inner = {n: law_of_component(p) for n, p in priors.items() if n != "weights"}
        none = next((name for name, law in inner.items() if law is None), None)
        if none is not None:
            raise _refused(f"the same prior of {none} for every component", priors[none])
        units = _units(family.inner, rows, measured, inner)
        return Emission(tuple(units), 0, np.zeros((family.components, len(rows))), weights, "weights")
    if isinstance(family, ZeroInflated):
        one, zero = _numbers("inflation", priors["inflation"], td.Beta, "concentration1", "concentration0")
        is_zero, given = ~_nonzero(rows), np.zeros((2, len(rows)))
        given[0, measured & ~is_zero] = -np.inf
        if not family.discrete:
            given[1, measured & is_zero] = -np.inf
        inside = measured if family.discrete else measured & ~is_zero
        units = _units(family.inner, rows, inside, priors)
        return Emission(tuple(units), 1, given, np.array([float(one), float(zero)]), "inflation")
    return Emission(tuple(_units(family, rows, measured, priors)), 0, np.zeros((1, len(rows))), np.ones(1))


def _units(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    """The units of a family without components, on the rows where `here`."""
    make = _UNITS.get(type(family))
    if make is None:
        raise ModelError(f"Gibbs sampling must have a family with full conditionals, got {family.name}; use nuts.")
    return make(family, rows, here, priors)


# ---- one number ----


def _rate(priors: Laws, kind: int, statistics: np.ndarray, rest: np.ndarray) -> Unit:
    numbers = _numbers("rate", priors["rate"], td.Gamma, "concentration", "rate")
    return Unit(kind, statistics, rest, 1, _flat(*numbers), (("rate", ()),))


def _poisson(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    x = np.where(here, rows, 0.0)
    return [_rate(priors, kinds.RATE, np.stack([x, 1.0 * here]), -gammaln(x + 1.0))]


def _exponential(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    return [_rate(priors, kinds.RATE, np.stack([1.0 * here, np.where(here, rows, 0.0)]), np.zeros(len(rows)))]


def _chance(priors: Laws, name: str, ones: np.ndarray, others: np.ndarray, rest: Any = 0.0) -> Unit:
    numbers = _numbers(name, priors[name], td.Beta, "concentration1", "concentration0")
    both = np.stack([ones, others]).astype(np.float64)
    return Unit(kinds.PROBABILITY, both, np.zeros(len(ones)) + rest, 1, _flat(*numbers), ((name, ()),))


def _bernoulli(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    x = np.where(here, rows, 0.0)
    return [_chance(priors, "probability", x, here - x)]


def _binomial(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    x, trials = np.where(here, rows, 0.0), here * float(family.trials)  # type: ignore[attr-defined]
    ways = gammaln(trials + 1) - gammaln(x + 1) - gammaln(trials - x + 1)
    return [_chance(priors, "probability", x, trials - x, ways)]


def _geometric(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    return [_chance(priors, "probability", 1.0 * here, np.where(here, rows, 0.0))]


def _gaussian(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    return [_normal(rows[:, None], here, priors)]


def _log_normal(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    logs = np.log(np.where(here, rows, 1.0))
    unit = _normal(logs[:, None], here, priors)
    return [replace(unit, rest=-logs)]


def _normal(rows: np.ndarray, here: np.ndarray, priors: Laws) -> Unit:
    """Columns (R, D) with a loc each and one scale."""
    size = rows.shape[1]
    x, origin = _centred(rows, here)
    loc = _numbers("loc", priors["loc"], td.Normal, "loc", "scale", size=size)
    scale = _numbers("scale", priors["scale"], InverseGamma, "concentration", "rate")
    statistics = np.concatenate([here[None], x.T, np.square(x).sum(1)[None]])
    places = [("loc", (d,)) for d in range(size)] if priors["loc"].event_shape else [("loc", ())]
    return Unit(
        kinds.NORMAL, statistics, np.zeros(len(rows)), size, _flat(origin, *loc, *scale), (*places, ("scale", ()))
    )


def _gamma(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    x = np.where(here, rows, 1.0)
    names = ("concentration", "rate")
    return [_two_gammas(kinds.GAMMA, np.stack([1.0 * here, x * here, np.log(x)]), names, priors)]


def _beta(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    x = np.where(here, rows, 0.5)
    names = ("concentration1", "concentration0")
    unit = _two_gammas(kinds.BETA, np.stack([1.0 * here, here * np.log(x), here * np.log1p(-x)]), names, priors)
    return [unit]


def _two_gammas(kind: int, statistics: np.ndarray, names: tuple[str, str], priors: Laws) -> Unit:
    numbers = [_numbers(name, priors[name], td.Gamma, "concentration", "rate") for name in names]
    places = tuple((name, ()) for name in names)
    return Unit(kind, statistics, np.zeros(statistics.shape[1]), 1, _flat(*numbers[0], *numbers[1]), places)


# ---- probabilities, vectors ----


def _categorical(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    size = family.parameters()["probabilities"].shape[0]
    return [_simplex(priors, (rows[None] == np.arange(size)[:, None]) * 1.0 * here, np.zeros(len(rows)))]


def _multinomial(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    x = np.where(here[:, None], rows, 0.0)
    return [_simplex(priors, x.T, gammaln(x.sum(1) + 1) - gammaln(x + 1).sum(1))]


def _simplex(priors: Laws, statistics: np.ndarray, rest: np.ndarray) -> Unit:
    numbers = _numbers("probabilities", priors["probabilities"], td.Dirichlet, "concentration")
    places = tuple(("probabilities", (m,)) for m in range(len(statistics)))
    return Unit(kinds.SIMPLEX, np.ascontiguousarray(statistics), rest, len(statistics), _flat(*numbers), places)


def _multivariate(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    covariance, size = family.covariance, rows.shape[1]  # type: ignore[attr-defined]
    if covariance == "diagonal":
        return _independent(Independent(Gaussian()), rows, here, priors)
    if covariance == "tied":
        raise ModelError(
            "Gibbs sampling must have parameters of each state's own, got the tied covariance of MultivariateGaussian; "
            "use nuts."
        )
    if bool(np.isnan(rows[here]).any()):
        raise ModelError(
            f"Gibbs sampling must have vectors measured whole for {family.name}, got missing entries; use nuts."
        )
    if covariance == "spherical":
        return [_normal(rows, here, priors)]
    x, origin = _centred(rows, here)
    loc = _numbers("loc", priors["loc"], td.Normal, "loc", "scale", size=size)
    spread = _numbers("scale_tril", priors["scale_tril"], InverseWishartCholesky, "df", "scale_tril")
    outer = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    places = [("loc", (d,)) for d in range(size)] + [("scale_tril", ij) for ij in pairs(range(size), repeat=2)]
    statistics = np.concatenate([here[None], x.T, outer.T])
    return [Unit(kinds.WISHART, statistics, np.zeros(len(rows)), size, _flat(origin, *loc, *spread), tuple(places))]


def _autoregression(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    """Rows (R, 1 + p) of an observation and its lags."""
    if family.shared:  # type: ignore[attr-defined]
        raise ModelError(
            f"Gibbs sampling must have parameters of each state's own, got shared={family.shared}; use nuts."  # type: ignore[attr-defined]
        )
    order = rows.shape[1] - 1
    v = np.where(here, np.concatenate([np.ones((1, len(rows))), rows.T[1:], rows.T[:1]]), 0.0)
    first = _numbers("intercept", priors["intercept"], td.Normal, "loc", "scale")
    others = _numbers("coefficients", priors["coefficients"], td.Normal, "loc", "scale", size=order)
    scale = _numbers("scale", priors["scale"], InverseGamma, "concentration", "rate")
    numbers = _flat(first[0], others[0], first[1], others[1], *scale)
    products = (v[:, None] * v[None]).reshape(-1, len(rows))
    places = [("intercept", ()), *(("coefficients", (i,)) for i in range(order)), ("scale", ())]
    statistics = np.concatenate([v, products])
    return [Unit(kinds.LINEAR, statistics, np.zeros(len(rows)), order + 1, numbers, tuple(places))]


# ---- parts ----


def _hurdle(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    inner: Family = family.inner  # type: ignore[attr-defined]
    nonzero = here & _nonzero(rows)
    crossed = _chance(priors, "nonzero", nonzero, here & ~nonzero)
    if not family.discrete:
        return [crossed, *_units(inner, rows, nonzero, priors)]
    x = np.where(nonzero, rows, 0.0)
    if isinstance(inner, Poisson):  # given that it is not zero
        return [crossed, _rate(priors, kinds.TRUNCATED, np.stack([x, 1.0 * nonzero]), -gammaln(x + 1.0))]
    if isinstance(inner, Geometric):
        return [crossed, _chance(priors, "probability", nonzero, np.maximum(x - 1.0, 0.0))]
    raise ModelError(f"Gibbs sampling must have a family with full conditionals, got {family.name}; use nuts.")


def _independent(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    inner: Family = family.inner  # type: ignore[attr-defined]
    result = []
    for d in range(rows.shape[1]):
        laws = {}
        for name, prior in priors.items():
            laws[name] = law_of_column(prior, d, rows.shape[1])
            if laws[name] is None:
                raise _refused(f"a prior of {name} that is a law for each of {rows.shape[1]} columns", prior)
        for unit in _units(inner, rows[:, d], here & ~np.isnan(rows[:, d]), laws):
            result.append(replace(unit, places=tuple((name, (d, *index)) for name, index in unit.places)))
    return result


def _product(family: Family, rows: np.ndarray, here: np.ndarray, priors: Laws) -> list[Unit]:
    assert isinstance(family, Product)
    result = []
    for d, one in enumerate(family.families):
        laws = family._column(priors, d)
        for unit in _units(one, rows[:, d], here & ~np.isnan(rows[:, d]), laws):
            result.append(replace(unit, places=tuple((family._key(d, name), index) for name, index in unit.places)))
    return result


_UNITS: dict[type[Family], Callable[[Any, np.ndarray, np.ndarray, Laws], list[Unit]]] = {
    Autoregression: _autoregression,
    Bernoulli: _bernoulli,
    Beta: _beta,
    Binomial: _binomial,
    Categorical: _categorical,
    Exponential: _exponential,
    Gamma: _gamma,
    Gaussian: _gaussian,
    Geometric: _geometric,
    Hurdle: _hurdle,
    Independent: _independent,
    LogNormal: _log_normal,
    Multinomial: _multinomial,
    MultivariateGaussian: _multivariate,
    Poisson: _poisson,
    Product: _product,
}


# ---- numbers ----


def _numbers(name: str, prior: Any, law: type, *attributes: str, size: int = 0) -> list[np.ndarray]:
    """The prior's numbers, where it is of the conjugate kind; of `size` entries each if asked."""
    inner = prior
    while isinstance(inner, td.Independent):
        inner = inner.base_dist
    if not isinstance(inner, law):
        raise _refused(f"a prior of {name} that is {law.__name__}", prior)
    found = [np.asarray(getattr(inner, one).double()) for one in attributes]
    return [np.broadcast_to(one, (size,)) if size else one for one in found]


def _refused(what: str, prior: Any) -> ModelError:
    shown = type(prior.base_dist if isinstance(prior, td.Independent) else prior).__name__
    return ModelError(f"Gibbs sampling must have {what}, got {shown}; use nuts, or the default priors.")


def _nonzero(rows: np.ndarray) -> np.ndarray:
    """(R,) rows that are not zero in every column."""
    return rows != 0 if rows.ndim == 1 else (rows != 0).any(1)


def _flat(*numbers: Any) -> tuple[float, ...]:
    return tuple(float(x) for one in numbers for x in np.asarray(one, dtype=np.float64).reshape(-1))


def _centred(rows: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, D) rows less the mean (D,) of those that count, zero elsewhere; and that mean."""
    origin = rows[here].mean(0) if here.any() else np.zeros(rows.shape[1])
    return np.where(here[:, None], rows - origin, 0.0), origin
