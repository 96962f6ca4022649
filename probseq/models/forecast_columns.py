"""Simulated futures as the columns of a forecast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from probseq.errors import DataError
from probseq.families import Categorical, Family
from probseq.sequences import Sequences


def check_forecast(horizon: int, quantiles: Sequence[float]) -> None:
    """Refuse a horizon or quantiles that no forecast has."""
    if horizon < 1:
        raise DataError(f"horizon must be at least 1, got {horizon}; ask for one step or more.")
    outside = [q for q in quantiles if not 0.0 < q < 1.0]
    if outside:
        raise DataError(f"quantiles must lie between 0 and 1, got {outside[0]}; give shares such as 0.05.")


def drawn_columns(
    drawn: Tensor,
    family: Family,
    columns: tuple[str, ...],
    categories: tuple[str, ...] | None,
    quantiles: Sequence[float],
) -> dict[str, np.ndarray]:
    """Means and quantiles, or shares of symbols, of draws (n, H, *event) of the steps ahead."""
    values = drawn.numpy()
    if family.nominal:
        symbols = family.categories if isinstance(family, Categorical) else None  # also those that were never drawn
        names = categories or tuple(str(code) for code in range(symbols or int(values.max()) + 1))
        return {f"p({name})": (values == code).mean(0) for code, name in enumerate(names)}
    if values.ndim == 3:
        return {f"mean_{name}": values[..., column].mean(0) for column, name in enumerate(columns)}
    method = "inverted_cdf" if family.discrete else "linear"
    found = {f"q{q:g}": np.quantile(values, q, axis=0, method=method) for q in quantiles}
    return {"mean": values.mean(0), **found}


def forecast_frame(columns: dict[str, np.ndarray], series: Sequences, horizon: int) -> pd.DataFrame:
    """The columns (N * horizon,) by the times ahead, the sequence beside them where there are several."""
    frame = pd.DataFrame(columns, index=series.future_index(horizon))
    if series.count > 1:
        frame.insert(0, series.ids.name or "sequence", np.repeat(series.ids.to_numpy(), horizon))
    return frame
