"""Refusals that several families share: each names the first bad value, its place and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probseq.errors import DataError, ModelError

if TYPE_CHECKING:
    from probseq.families.family import Family


def measured(values: Tensor, observed: Tensor | None) -> Tensor:
    """(T,) bool: where there is a value to judge."""
    return torch.ones(values.shape, dtype=torch.bool, device=values.device) if observed is None else observed.bool()


def require(
    good: Tensor,
    values: Tensor,
    observed: Tensor | None,
    name: str,
    rule: str,
    remedy: str | Callable[[float], str],
    where: Callable[[int], str],
) -> None:
    """Refuse the first measured value (T,) that is not `good`; the remedy may depend on that value."""
    bad = measured(values, observed) & ~good
    if bool(bad.any()):
        step = int(bad.nonzero()[0, 0])
        value = values[step].item()
        advice = remedy if isinstance(remedy, str) else remedy(value)
        raise DataError(f"{name} must {rule}, got {value:g} at {where(step)}; {advice}.")


def require_one_column(values: Tensor, columns: Sequence[str], family: str) -> None:
    """Refuse (T, D) data for a family of single numbers."""
    if values.dim() != 1:
        names = ", ".join(columns) if len(columns) > 1 else f"{tuple(values.shape[1:])}"
        raise DataError(
            f"observations must be one column for {family}, got {values.shape[-1]} at each step ({names}); "
            "choose one column, or use MultivariateGaussian or Independent."
        )


def require_measured(values: Tensor, observed: Tensor | None, name: str) -> Tensor:
    """The measured values (M,); refuse data without any."""
    mask = measured(values, observed)
    present = values[mask]
    if present.numel() == 0:
        missing = f"{mask.numel()} missing" if mask.numel() else "no steps"
        raise DataError(f"{name} must be measured at least once, got {missing} at all steps; provide data.")
    return present


def require_finite(values: Tensor, observed: Tensor | None, name: str, where: Callable[[int], str]) -> None:
    """Refuse the first measured NaN or infinity."""
    require(torch.isfinite(values), values, observed, name, "be finite", "mark missing values as not observed", where)


def require_varying(values: Tensor, observed: Tensor | None, name: str, family: str) -> None:
    """Refuse a constant series for a continuous law, which has no likelihood maximum on it."""
    present = require_measured(values, observed, name)
    if bool((present == present[0]).all()):
        raise DataError(
            f"{name} must vary for {family}, got {present[0].item():g} at each of {present.numel()} measured steps; "
            "provide more data, or drop this column."
        )


def require_counts(
    values: Tensor, observed: Tensor | None, name: str, family: str, where: Callable[[int], str]
) -> None:
    """Refuse the first negative or fractional value for a law of counts."""
    require_finite(values, observed, name, where)
    require_measured(values, observed, name)
    if not values.is_floating_point():
        return
    require(
        (values >= 0) & (values == values.floor()),
        values,
        observed,
        name,
        f"be a whole number >= 0 for {family}",
        lambda value: "mark it missing if it is a code for no data" if value < 0 else "use a continuous family",
        where,
    )


def require_positive(
    values: Tensor, observed: Tensor | None, name: str, family: str, where: Callable[[int], str]
) -> None:
    """Refuse the first zero or negative value for a law on the positive numbers."""
    require_finite(values, observed, name, where)

    def remedy(value: float) -> str:
        if value < 0:
            return "mark it missing if it is a code for no data, or use a family on the whole line"
        return f"use Hurdle({family}()) if a zero is a real outcome, or mark it missing"

    require(values > 0, values, observed, name, f"be > 0 for {family}", remedy, where)


def require_plain(outer: str, inner: Family) -> None:
    """Refuse to wrap a family that sees more than the observation itself: lags, a design, or earlier states."""
    if inner.context or inner.memory > 1:
        raise ModelError(
            f"{outer} must wrap a family of the observation alone, got {inner.name} at inner; turn it round, as in "
            f"Regression({outer}(...), design), or write a Pyro program."
        )
