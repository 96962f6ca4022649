"""Families by the name they have on the command line, and by the plain description they are saved under."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from probseq.errors import ModelError
from probseq.families.autoregression import Autoregression
from probseq.families.context_symbols import ContextCategorical
from probseq.families.deviation_autoregression import DeviationAutoregression
from probseq.families.family import Family
from probseq.families.gamma import Gamma
from probseq.families.gaussian import Gaussian
from probseq.families.independent import Independent
from probseq.families.log_normal import LogNormal
from probseq.families.multivariate import MultivariateGaussian
from probseq.families.negative_binomial import NegativeBinomial
from probseq.families.poisson import Poisson
from probseq.families.regression import Regression
from probseq.families.student_t import StudentT
from probseq.families.symbols import Bernoulli, Categorical
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
        MultivariateGaussian,
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
NAMES = (*PLAIN, "hurdle-gamma", "hurdle-log-normal", "zero-inflated-poisson")


def by_name(name: str) -> Family:
    """The family of this name, or any "hurdle-NAME", "zero-inflated-NAME" or "independent-NAME" around one.

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
    raise ModelError(f"family must be one of {', '.join(NAMES)}, got '{name}' at family; {hint}")


def _parse(name: str) -> Family | None:
    if name in PLAIN | BESIDE:
        return (PLAIN | BESIDE)[name]()
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
        if kind in WRAPPERS:
            return WRAPPERS[kind](from_json(fields.pop("inner")), **fields)
        if kind in PLAIN | BESIDE:
            return (PLAIN | BESIDE)[kind](**fields)
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
