"""The families that the batteries share, each with the number of columns that it observes (0: one number)."""

from __future__ import annotations

from probseq import families
from probseq.families import Family

FAMILIES: dict[str, tuple[Family, int]] = {
    **{name: (families.by_name(name), 0) for name in families.NAMES if families.by_name(name).event_dim == 0},
    "binomial": (families.Binomial(7), 0),
    "categorical": (families.Categorical(3), 0),
    "hurdle-poisson": (families.Hurdle(families.Poisson()), 0),
    "zero-inflated-gamma": (families.ZeroInflated(families.Gamma()), 0),
    "mixture-gaussian": (families.Mixture(families.Gaussian(), 2), 0),
    "mixture-gamma": (families.Mixture(families.Gamma(), 2), 0),
    "multinomial": (families.Multinomial(6), 3),
    "multivariate-student-t": (families.MultivariateStudentT(), 2),
    "product": (families.Product((families.Poisson(), families.VonMises())), 2),
    "mixture-tied": (families.Mixture(families.MultivariateGaussian("tied"), 2), 2),
    "full": (families.MultivariateGaussian("full"), 2),
    "tied": (families.MultivariateGaussian("tied"), 2),
    "diagonal": (families.MultivariateGaussian("diagonal"), 2),
    "spherical": (families.MultivariateGaussian("spherical"), 2),
}
