"""The families that the batteries share, each with the number of columns that it observes (0: one number)."""

from __future__ import annotations

from probseq import families
from probseq.families import Family

FAMILIES: dict[str, tuple[Family, int]] = {
    **{name: (families.by_name(name), 0) for name in families.NAMES if "multivariate" not in name},
    "categorical": (families.Categorical(3), 0),
    "hurdle-poisson": (families.Hurdle(families.Poisson()), 0),
    "zero-inflated-gamma": (families.ZeroInflated(families.Gamma()), 0),
    "full": (families.MultivariateGaussian("full"), 2),
    "tied": (families.MultivariateGaussian("tied"), 2),
    "diagonal": (families.MultivariateGaussian("diagonal"), 2),
    "spherical": (families.MultivariateGaussian("spherical"), 2),
}
