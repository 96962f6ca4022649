"""The row of numbers that a generalised linear part of a model meets at each step: covariates and seasons.

    x_t = (1, covariates_t, cos 2 pi h phi_t, sin 2 pi h phi_t for each season and harmonic h)

phi_t in [0, 1) is the phase of the step in the season (Zucchini, MacDonald & Langrock 2016, section 10.2). Rows that
repeat are held once, so that ten years of days with a year in them are 366 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.distinct import find_distinct
from probseq.errors import DataError, ModelError

if TYPE_CHECKING:
    from probseq.sequences import Sequences

CALENDAR = {"year": 366, "week": 7, "day": math.inf}
"""The named periods, with the number of their phases."""

_LEAP = np.array([0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335])  # days of a leap year before each month

_ROWS: WeakKeyDictionary[Sequences, dict[Design, tuple[Tensor, np.ndarray]]] = WeakKeyDictionary()
"""The rows of each series in use, by design: they are asked for at every iteration of a fit."""


@dataclass(frozen=True)
class Season:
    """A cycle of known length, as sines and cosines.

    Attributes:
        period: "year", "week" or "day" by the calendar of the series; or a number of steps, which are counted from the
            start of each sequence, or are the time itself where that is whole numbers (a part cut from a series then
            keeps its phase).
        harmonics: how many multiples of the base frequency, a cosine and a sine each.

    The phase of a date in the year is its place among the 366 days of a leap year, whatever the year: 1 March is always
    60 / 366, and ordinary years go from 28 February to it in one step of two. Times of one day share a phase. A week
    has 7 phases, Monday first; a day as many as the series has times of day.
    """

    period: Literal["year", "week", "day"] | float
    harmonics: int = 1

    def __post_init__(self) -> None:
        known = self.period in CALENDAR if isinstance(self.period, str) else _is_number(self.period, 2)
        if not known:
            raise ModelError(
                f'the period of a season must be "year", "week", "day" or at least 2 steps, got {self.period!r} at '
                "period; give one of these."
            )
        phases = CALENDAR[self.period] if isinstance(self.period, str) else self.period
        whole = isinstance(self.harmonics, int) and not isinstance(self.harmonics, bool) and self.harmonics >= 1
        if not whole or 2 * self.harmonics >= phases:
            most = "" if math.isinf(phases) else f" and below {phases / 2:g}, half of the period"
            raise ModelError(
                f"the harmonics of a season must be a whole number of at least 1{most}, got {self.harmonics!r} at "
                f"harmonics of {self.period!r}; one or two are usual."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its 2 * harmonics columns.

        >>> Season("year").names
        ('year_cos_1', 'year_sin_1')
        """
        stem = self.period if isinstance(self.period, str) else f"period_{self.period:g}"
        return tuple(f"{stem}_{wave}_{h}" for h in range(1, self.harmonics + 1) for wave in ("cos", "sin"))

    def phase(self, series: Sequences) -> np.ndarray:
        """(T,) float64 in [0, 1): where in the season each step stands."""
        if not isinstance(self.period, str):
            return np.mod(_step_numbers(series), self.period) / self.period
        clock = self._clock(series.time)
        if self.period == "year":
            return (_LEAP[clock.month.to_numpy() - 1] + clock.day.to_numpy() - 1) / 366
        if self.period == "week":
            return clock.day_of_week.to_numpy() / 7
        return ((clock - clock.normalize()) / pd.Timedelta(days=1)).to_numpy()

    def waves(self, phase: np.ndarray) -> np.ndarray:
        """(S, 2 * harmonics) cosines and sines at phases (S,)."""
        angles = 2 * np.pi * phase[:, None] * np.arange(1, self.harmonics + 1)
        return np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(len(phase), -1)

    def _clock(self, time: pd.Index | None) -> pd.DatetimeIndex:
        """The times as a clock on the wall shows them; periods by their start."""
        if isinstance(time, pd.DatetimeIndex):
            return time.tz_localize(None)
        if isinstance(time, pd.PeriodIndex):
            return time.to_timestamp(how="start")
        got = "no times" if time is None else f"{time.dtype} times"
        raise DataError(
            f'a season of a "{self.period}" must have dates to go by, got {got} in the series; read them with time=, '
            "or give the period as a number of steps."
        )


@dataclass(frozen=True)
class Design:
    """Which covariates and seasons a part of a model depends on, besides a constant.

    Attributes:
        covariates: names among the covariates of the series, used as they are. Where priors are used, bring them to a
            scale of about one first.
        seasons: cycles.

    >>> design = Design(("wind",), (Season("year"),))
    >>> design.names
    ('intercept', 'wind', 'year_cos_1', 'year_sin_1')
    >>> bool(design), bool(Design())
    (True, False)
    """

    covariates: tuple[str, ...] = ()
    seasons: tuple[Season, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.covariates, str) or not all(isinstance(name, str) for name in self.covariates):
            raise ModelError(
                f"the covariates of a design must be a sequence of names, got {self.covariates!r} at covariates; write "
                'covariates=("wind",).'
            )
        if not isinstance(self.seasons, Sequence) or not all(isinstance(season, Season) for season in self.seasons):
            raise ModelError(
                f"the seasons of a design must be a sequence of seasons, got {self.seasons!r} at seasons; write "
                'seasons=(Season("year"),).'
            )
        object.__setattr__(self, "covariates", tuple(self.covariates))
        object.__setattr__(self, "seasons", tuple(self.seasons))
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ModelError(
                f"the columns of a design must differ, got {sorted(twice)} more than once; name each covariate and "
                "period once."
            )

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> Design:
        """The design whose `dataclasses.asdict` this is."""
        try:
            seasons = tuple(Season(**season) for season in description["seasons"])
            return cls(tuple(description["covariates"]), seasons)
        except (KeyError, TypeError) as problem:
            raise ModelError(
                f"a design's description must hold covariates and seasons, got {description!r}; save the model again."
            ) from problem

    def __bool__(self) -> bool:
        return bool(self.covariates or self.seasons)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the P columns, the intercept first."""
        return ("intercept", *self.covariates, *(name for season in self.seasons for name in season.names))

    @property
    def width(self) -> int:
        """P, the number of columns."""
        return len(self.names)

    def rows(self, series: Sequences) -> tuple[Tensor, np.ndarray]:
        """The distinct rows of a series, and which one each step has.

        Returns:
            rows (S, P): float64, in order of first appearance.
            index (T,): integers of the smallest type that holds S; `rows[index[t]]` is the row of step t.

        Raises:
            DataError: the series lacks a covariate, or the dates that a season goes by.
        """
        known = _ROWS.setdefault(series, {})
        if self not in known:
            known[self] = self._find_rows(series)
        return known[self]

    def require_identified(self, series: Sequences) -> None:
        """Refuse columns that are a combination of the others, whose coefficients no data could tell.

        Raises:
            DataError: such as for a covariate that is constant over the series.
        """
        rows = self.rows(series)[0].numpy()
        scaled = rows / np.maximum(np.abs(rows).max(0), np.finfo(float).tiny)
        kept: list[int] = []
        for column, name in enumerate(self.names):
            if np.linalg.matrix_rank(scaled[:, [*kept, column]]) == len(kept):
                raise DataError(
                    f"the columns of a design must not determine each other, got '{name}' as a combination of "
                    f"{', '.join(self.names[k] for k in kept)} in these {series.total_steps} steps; leave it out, or "
                    "fit with priors."
                )
            kept.append(column)

    def _find_rows(self, series: Sequences) -> tuple[Tensor, np.ndarray]:
        keys = [self._covariate(series, name) for name in self.covariates]
        keys += [season.phase(series) for season in self.seasons]
        if not keys:
            return torch.ones(1, 1, dtype=torch.float64), np.zeros(series.total_steps, dtype=np.uint8)
        found = find_distinct(torch.from_numpy(np.stack(keys, axis=1)), None, None)
        distinct, plain = found.rows.numpy(), len(self.covariates)
        waves = [season.waves(distinct[:, plain + place]) for place, season in enumerate(self.seasons)]
        columns = [np.ones((len(distinct), 1)), distinct[:, :plain], *waves]
        return torch.from_numpy(np.concatenate(columns, axis=1)), found.index

    def _covariate(self, series: Sequences, name: str) -> np.ndarray:
        if series.covariates is None or name not in series.covariate_names:
            there = f"only {', '.join(series.covariate_names)}" if series.covariate_names else "a series without any"
            raise DataError(
                f"a covariate of the model must be one of the series, got {there} for '{name}'; read the series with "
                f"covariates=[..., '{name}']."
            )
        return series.covariates[:, series.covariate_names.index(name)].numpy()


def _step_numbers(series: Sequences) -> np.ndarray:
    """(T,) the time itself where it is whole numbers; else 0, 1, ... from the start of each sequence."""
    if series.time is not None and pd.api.types.is_integer_dtype(series.time.dtype):
        return series.time.to_numpy()
    return np.arange(series.total_steps) - np.repeat(series.offsets.numpy()[:-1], series.lengths.numpy())


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf
