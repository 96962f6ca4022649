"""Standard errors of a maximum likelihood or maximum a posteriori fit: from the Hessian, the scores, or both.

With u the unconstrained coordinates, A the negative Hessian of the objective and s_i the scores, the covariance of u is

    A^-1                          observed information (`standard_errors`)
    A^-1 (sum s_i s_i') A^-1      robust to a wrong law of the data (`sandwich_errors`; Huber 1967, White 1982)
    (sum s_i s_i')^-1             outer product of gradients (`outer_product_errors`; Berndt et al. 1974)

and that of the parameters follows by the delta method, J cov(u) J'. A is exact, by automatic differentiation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from probseq.diagnostics.estimates import Estimate, estimate, flat_entries, jacobian_of
from probseq.diagnostics.ranges import Range, normal_quantile
from probseq.diagnostics.scores import robust_information, scores
from probseq.errors import FitError
from probseq.inference.fit import Fit
from probseq.sequences import Sequences

NEAR = "near the edge of its range"
"""Said of a number whose plain interval leaves the range."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Estimates of E numbers with their standard errors and intervals.

    Args:
        names: (E,) such as "rate[0]", "transition[0, 1]".
        estimate: (E,).
        covariance: (E, E) of the estimates; NaN rows and columns where there is none.
        range: where each number can lie, which the intervals respect.
        notes: (E,) why a number has no standard error; empty where it has one.
        kind: what the covariance is made of: "observed information", "sandwich of ...", ...
        objective: what is at its maximum: "log-likelihood" or "log posterior".
        point: the fit's own maximum, in coordinates.
        coordinate_covariance: (p, p) of the moving coordinates of the point.
    """

    names: tuple[str, ...]
    estimate: Tensor
    covariance: Tensor
    range: Range
    notes: tuple[str, ...]
    kind: str
    objective: str
    point: Estimate = field(repr=False)
    coordinate_covariance: Tensor = field(repr=False)

    @property
    def standard_error(self) -> Tensor:
        """(E,) NaN where there is none; `notes` says why."""
        return self.covariance.diagonal().clamp_min(0.0).sqrt()

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(E,) lower and upper ends of Wald's interval on the log odds or logarithm, mapped back on the range."""
        return self.range.interval(self.estimate, self.standard_error, check_level(level))

    def plain_interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(E,) estimate -+ z standard errors, which may leave the range."""
        reach = normal_quantile(check_level(level)) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a number, by name.

        Columns: `estimate`, `standard_error`, `z` (their ratio), `lower` and `upper` (within the range),
        `plain_lower` and `plain_upper` (estimate -+ z standard errors), and `note`: why there is no standard error,
        or that the plain interval leaves the range, so near the edge of which no standard error says much; `profile`
        has better intervals there.
        """
        ends, plain = self.interval(level), self.plain_interval(level)
        columns = {
            "estimate": self.estimate,
            "standard_error": self.standard_error,
            "z": self.estimate / self.standard_error,
            "lower": ends[0],
            "upper": ends[1],
            "plain_lower": plain[0],
            "plain_upper": plain[1],
        }
        numbers = {name: column.numpy() for name, column in columns.items()}
        outside = (plain[0] < self.range.low) | (plain[1] > self.range.high)
        near = [NEAR if left else "" for left in outside.tolist()]
        notes = [why or remark for why, remark in zip(self.notes, near, strict=True)]
        return pd.DataFrame(numbers | {"note": notes}, index=pd.Index(self.names, name="parameter"))

    @property
    def table(self) -> pd.DataFrame:
        """`frame` at 95%."""
        return self.frame()


def standard_errors(fit: Fit, series: Sequences | None = None) -> Errors:
    """Standard errors from the exact observed information.

    Args:
        fit: at a maximum: of `em`, by maximum likelihood or (with priors) maximum a posteriori; the result says which.
        series: the data; the fit remembers it while it is in memory.

    Raises:
        FitError: the objective does not curve down in every direction; the message names the one where it does not.

    >>> from probseq import HMM, datasets, em, families
    >>> fit = em(HMM(2, families.Poisson()), datasets.earthquakes(), restarts=1)
    >>> standard_errors(fit).table.loc[["rate[0]", "rate[1]"], ["estimate", "standard_error"]].round(2)
               estimate  standard_error
    parameter
    rate[0]       15.42            0.72
    rate[1]       26.02            1.38
    """
    found, information = estimate(fit, series)
    return errors_of(found, torch.linalg.inv(information), "observed information")


def sandwich_errors(fit: Fit, series: Sequences | None = None, *, per: str | None = None, lags: int = 0) -> Errors:
    """Standard errors that hold where the law of the data is not quite the model's (Huber 1967; White 1982).

    Args:
        fit: as for `standard_errors`.
        series: the data.
        per: "sequence" adds up the scores of each sequence, which are independent; "step" takes the score of each
            observation given those before it, d log p(x_t | x_<t) / du, martingale differences under the model. By
            default sequences where there are at least two for each coordinate and no lags, else steps.
        lags: of Newey & West (1987): how many steps apart scores of one sequence may still be correlated.

    Raises:
        FitError: the objective does not curve down in every direction, or lags of scores by sequence.
    """
    found, information = estimate(fit, series)
    unit = per if per is not None else "step" if lags else _unit(found)
    if lags and unit == "sequence":
        raise FitError(
            f"lags must be of scores by step, got {lags} by sequence, which are independent; give "
            "per='step', or no lags."
        )
    rows = scores(found, unit)
    inverse = torch.linalg.inv(information)
    covariance = inverse @ robust_information(rows, lags) @ inverse
    apart = f", {lags} lags" if lags else ""
    return errors_of(found, covariance, f"sandwich of scores by {unit}{apart}")


def outer_product_errors(fit: Fit, series: Sequences | None = None, *, per: str | None = None) -> Errors:
    """Standard errors from the scores alone (Berndt, Hall, Hall & Hausman 1974), for comparison.

    Args:
        fit: as for `standard_errors`.
        series: the data.
        per: "sequence" or "step", as for `sandwich_errors`.
    """
    found, _ = estimate(fit, series)
    unit = per if per is not None else _unit(found)
    information = robust_information(scores(found, unit), 0)
    if len(information) and float(torch.linalg.cond(information)) > 1e12:
        raise FitError(
            f"Scores must span every direction for their outer product to have an inverse, got rank "
            f"{int(torch.linalg.matrix_rank(information))} of {len(information)} by {unit}; take them by step, or use "
            "standard_errors."
        )
    return errors_of(found, torch.linalg.inv(information), f"outer product of scores by {unit}")


def errors_of(found: Estimate, covariance: Tensor, kind: str) -> Errors:
    """The delta method: errors of the entries from the covariance (p, p) of the moving coordinates."""
    jacobian = jacobian_of(found.entries, found.start)
    known = torch.tensor([not note for note in found.notes], dtype=torch.bool)
    whole = jacobian @ covariance @ jacobian.mT
    whole = torch.where(known & known.unsqueeze(-1), whole, math.nan)
    ranges = [Range.of(one.constraint, tuple(found.parameters[name].shape)) for name, one in found.declared.items()]
    value = flat_entries(found.parameters, found.declared)
    where = Range.joined(ranges)
    return Errors(found.names, value, whole, where, found.notes, kind, found.objective_name, found, covariance)


def check_level(level: float) -> float:
    """The probability of an interval."""
    if not 0.0 < level < 1.0:
        raise FitError(f"The level of an interval must lie between 0 and 1, got {level}; give 0.95.")
    return level


def _unit(found: Estimate) -> str:
    """By what scores are taken unless it is said."""
    return "sequence" if found.series.count >= 2 * len(found.start) else "step"
