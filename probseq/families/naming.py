"""Families by the name they have on the command line, and by the plain description they are saved under."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from probseq.errors import ModelError
from probseq.families.autoregression import Autoregression
from probseq.families.beta import Beta
from probseq.families.binomial import Binomial
from probseq.families.context_symbols import ContextCategorical
from probseq.families.deviation_autoregression import DeviationAutoregression
from probseq.families.exponential import Exponential
from probseq.families.factorial import FactorialGaussian
from probseq.families.family import Family
from probseq.families.gamma import Gamma
from probseq.families.gaussian import Gaussian
from probseq.families.geometric import Geometric
from probseq.families.independent import Independent
from probseq.families.log_normal import LogNormal
from probseq.families.mixture import Mixture
from probseq.families.multinomial import Multinomial
from probseq.families.multivariate import MultivariateGaussian
from probseq.families.multivariate_student_t import MultivariateStudentT
from probseq.families.negative_binomial import NegativeBinomial
from probseq.families.poisson import Poisson
from probseq.families.product import Product
from probseq.families.regression import Regression
from probseq.families.student_t import StudentT
from probseq.families.symbols import Bernoulli, Categorical
from probseq.families.von_mises import VonMises
from probseq.families.zeros import Hurdle, ZeroInflated

PLAIN: dict[str, type[Family]] = {
    family.kind: family
    for family in (
        Gaussian,
        Poisson,
        NegativeBinomial,
        Bernoulli,
        Categorical,
        Gamma,
        LogNormal,
        StudentT,
        Exponential,
        Geometric,
        Beta,
        VonMises,
        MultivariateGaussian,
        MultivariateStudentT,
        Multinomial,
    )
}
BESIDE: dict[str, type[Family]] = {
    family.kind: family for family in (Autoregression, ContextCategorical, DeviationAutoregression)
}
"""Families that see more than the observation itself."""

WRAPPERS: dict[str, type[Hurdle] | type[ZeroInflated] | type[Independent]] = {
    "hurdle": Hurdle,
    "zero-inflated": ZeroInflated,
    "independent": Independent,
}
NUMBERED: dict[str, Callable[[float], Family]] = {
    "binomial": lambda trials: Binomial(int(trials)) if trials.is_integer() else Binomial(trials),  # type: ignore
    "von-mises": VonMises,
}
NAMES = (*PLAIN, "hurdle-gamma", "hurdle-log-normal", "zero-inflated-poisson")
PATTERNS = (
    "binomial-TRIALS",
    "von-mises-PERIOD",
    "hurdle-NAME",
    "zero-inflated-NAME",
    "independent-NAME",
    "mixture-COMPONENTS-NAME",
    "NAME,NAME for one family a column",
)


def by_name(name: str) -> Family:
    """The family of this name, or any "hurdle-NAME", "zero-inflated-NAME" or "independent-NAME" around one.

    Numbers that a family needs follow its name: "binomial-10" has ten trials, "von-mises-360" is in degrees,
    "mixture-2-gamma" has two components. Names with commas between them are the families of several columns.

    >>> by_name("hurdle-gamma")
    Hurdle(inner=Gamma())

    Raises:
        ModelError: listing the names, the closest first.
    """
    family = _parse(name) if isinstance(name, str) else None
    if family is not None:
        return family
    close = get_close_matches(str(name).lower().replace("_", "-"), NAMES, n=1)
    hint = f"did you mean {close[0]}?" if close else "see the names above"
    if name == Binomial.kind:
        hint = "name the number of trials, as in binomial-10"
    raise ModelError(f"family must be one of {', '.join((*NAMES, *PATTERNS))}, got '{name}' at family; {hint}")


def _parse(name: str) -> Family | None:
    if name in PLAIN | BESIDE:
        return (PLAIN | BESIDE)[name]()
    for prefix, numbered in NUMBERED.items():
        number = re.fullmatch(rf"{prefix}-([0-9]+(?:[.][0-9]*)?)", name)
        if number:
            return numbered(float(number[1]))
    if "," in name:
        columns = [_parse(part.strip()) for part in name.split(",")]
        return None if any(one is None for one in columns) else Product(tuple(columns))  # type: ignore[arg-type]
    mixed = re.fullmatch(r"mixture-([0-9]+)-(.+)", name)
    if mixed:
        inner = _parse(mixed[2])
        return None if inner is None else Mixture(inner, int(mixed[1]))
    for prefix, wrapper in WRAPPERS.items():
        rest = name.removeprefix(f"{prefix}-")
        inner = _parse(rest) if rest != name else None
        if inner is not None:
            return wrapper(inner)
    return None


def from_json(description: Mapping[str, Any]) -> Family:
    """The family that `to_json` described.

    Raises:
        ModelError: when the description is not one.
    """
    fields = dict(description) if isinstance(description, Mapping) else {}
    kind = fields.pop("family", None)
    try:
        if kind == Product.kind:
            names = fields.pop("names")
            columns = tuple(from_json(one) for one in fields.pop("families"))
            return Product(columns, None if names is None else tuple(names), **fields)
        if kind == Mixture.kind:
            return Mixture(from_json(fields.pop("inner")), **fields)
        if kind in WRAPPERS:
            return WRAPPERS[kind](from_json(fields.pop("inner")), **fields)
        if kind == Binomial.kind:
            return Binomial(**fields)
        if kind in PLAIN | BESIDE:
            return (PLAIN | BESIDE)[kind](**fields)
        if kind == FactorialGaussian.kind:
            return FactorialGaussian(**fields)
        if kind == Regression.kind:
            return Regression(from_json(fields.pop("inner")), **fields)
    except (KeyError, TypeError) as problem:
        raise ModelError(
            f"a family's description must hold the fields of {kind}, got {dict(description)!r} at its fields; "
            "save the model again."
        ) from problem
    raise ModelError(
        f"a family's description must name a known family, got {description!r} at 'family'; "
        "save the model again with this version."
    )
