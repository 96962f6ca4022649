"""The law of one column of a vector, by itself: what residuals of several columns are made of."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from probseq.errors import ModelError
from probseq.families.family import Family
from probseq.families.gaussian import Gaussian
from probseq.families.independent import Independent
from probseq.families.mixture import Mixture
from probseq.families.multivariate import MultivariateGaussian
from probseq.families.multivariate_student_t import MultivariateStudentT
from probseq.families.product import Product
from probseq.families.student_t import StudentT


def marginal(family: Family, parameters: Mapping[str, Tensor], column: int) -> tuple[Family, dict[str, Tensor]]:
    """The univariate family of one column, and its parameters (..., K, *shape), the other columns summed out.

    Args:
        family: of the vectors; a family of single numbers is its own column 0.
        parameters: of the family, state first.
        column: from 0.

    Raises:
        ModelError: a family whose columns have no law of their own.

    >>> import torch
    >>> law, own = marginal(MultivariateGaussian(), {"loc": torch.zeros(2, 2), "scale_tril": torch.ones(2, 2, 2)}, 1)
    >>> law, own["scale"]
    (Gaussian(), tensor([1.4142, 1.4142]))
    """
    if family.event_dim == 0:
        return family, dict(parameters)
    if isinstance(family, Independent):
        return family.inner, family._column(parameters, column)
    if isinstance(family, Product):
        return family.families[column], family._column(parameters, column)
    if isinstance(family, MultivariateGaussian):
        loc = parameters["loc"]
        return Gaussian(), {"loc": loc[..., column], "scale": family.variance(parameters).sqrt()[..., column]}
    if isinstance(family, MultivariateStudentT):
        spread = parameters["scale_tril"].square().sum(-1).sqrt()
        return StudentT(), {
            "df": parameters["df"],
            "loc": parameters["loc"][..., column],
            "scale": spread[..., column],
        }
    if isinstance(family, Mixture):
        inner = {name: one for name, one in parameters.items() if name != "weights"}
        law, own = marginal(family.inner, inner, column)
        return Mixture(law, family.components), {"weights": parameters["weights"], **own}
    raise ModelError(
        f"A residual must be of a family whose columns have a law of their own, got {family.name}; look at one column "
        "with a univariate family, or use Independent or Product."
    )
