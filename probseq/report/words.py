"""A fit in plain words: what a step is called, what each state is, how long it lasts.

"dry spell: 3% wet days, 0.4 mm on a wet day, mean stay 6 days"
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.calendar import find_calendar
from probseq.chains import mean_stay
from probseq.families import Categorical, Family, Hurdle, ZeroInflated
from probseq.inference import Fit
from probseq.models import HMM
from probseq.sequences import Sequences

_STEPS = {
    "daily": "day",
    "weekday": "weekday",
    "weekly": "week",
    "monthly": "month",
    "quarterly": "quarter",
    "yearly": "year",
    "hourly": "hour",
}
_NOUNS = (*_STEPS.values(), "minute", "second")
_RAIN = ("rain", "precip", "prcp", "prec", "rr", "pluie", "niederschlag", "lluvia", "snow")
_AMOUNTS = ("mm", "cm", "in", "inch", "inches")
_LEVELS = {
    2: ("low", "high"),
    3: ("low", "middle", "high"),
    4: ("lowest", "low", "high", "highest"),
    5: ("lowest", "low", "middle", "high", "highest"),
    6: ("lowest", "very low", "low", "high", "very high", "highest"),
    7: ("lowest", "very low", "low", "middle", "high", "very high", "highest"),
}
METHODS = {"em": "EM", "svi": "SVI", "laplace": "Laplace's approximation", "nuts": "NUTS", "gibbs": "Gibbs sampling"}
"""What the ways to fit are called."""

DRY = 0.2
"""A state with a smaller share of wet steps is a dry one."""


@dataclass(frozen=True)
class Words:
    """What to call things.

    Args:
        step: one step, as "day".
        unit: of the data, as "mm"; may be empty.
        wet: whether zeros are dry steps and the others wet ones.
    """

    step: str
    unit: str
    wet: bool

    def label(self, column: str) -> str:
        """An axis label with its unit."""
        return f"{column} ({self.unit})" if self.unit else column

    @property
    def occurring(self) -> tuple[str, str]:
        """What a step with and one without an occurrence are called."""
        return ("wet", "dry") if self.wet else ("nonzero", "zero")


@dataclass(frozen=True)
class StateRow:
    """One state, for a table.

    Args:
        number: from 0.
        name: in a word or two.
        reading: what it emits and how long it lasts, in words.
        share: expected share of the steps of the series.
        stay: mean number of steps before it is left; inf where it never is.
        parameters: the family's, by name, as text.
    """

    number: int
    name: str
    reading: str
    share: float
    stay: float
    parameters: dict[str, str]


def words_for(series: Sequences, family: Family, unit: str = "") -> Words:
    """What to call the steps and values of this series."""
    column = series.columns[0].lower()
    rainlike = unit.lower() in _AMOUNTS or any(column == name or (len(name) > 2 and name in column) for name in _RAIN)
    return Words(step_name(series), unit, has_extra_zero(family) and rainlike)


def step_name(series: Sequences) -> str:
    """What one step of the series is called: "day", "year", "base", or "step"."""
    if series.categories == ("A", "C", "G", "T"):
        return "base"
    if series.time is None:
        return "step"
    named = str(series.time.name).lower()
    if named in _NOUNS:
        return named
    if isinstance(series.time, pd.DatetimeIndex | pd.PeriodIndex):
        calendar = find_calendar(series.time, series.lengths.numpy())
        return "step" if calendar is None else _STEPS.get(calendar.describe(series.time), "step")
    return "step"


def has_extra_zero(family: Family) -> bool:
    """Whether the family gives zero a chance of its own, as rainfall needs."""
    return isinstance(family, Hurdle | ZeroInflated)


def emission_parameters(fit: Fit) -> dict[str, Tensor]:
    """The family's parameters of the point estimate."""
    assert isinstance(fit.model, HMM)
    return fit.model.emission_parameters(fit.parameters)


def transition_matrix(fit: Fit, series: Sequences) -> Tensor:
    """(K, K) chances of the moves; where they depend on more than the last state, the average over the series."""
    assert isinstance(fit.model, HMM)
    return fit.model.mean_moves(fit.parameters, series)


def occupancy(fit: Fit, series: Sequences) -> Tensor:
    """(K,) expected share of the steps of the series in each state."""
    return fit.posterior(series).smoothed.mean(0)


def state_rows(fit: Fit, series: Sequences, words: Words) -> list[StateRow]:
    """Every state of a fitted HMM, for a table."""
    assert isinstance(fit.model, HMM)
    shares = occupancy(fit, series)
    stays = mean_stay(transition_matrix(fit, series)).tolist()
    names = state_names(fit, series, words)
    rows = []
    for k, name in enumerate(names):
        emits = _emits(fit, series, words, k)
        lasts = "never left" if math.isinf(stays[k]) else f"mean stay {plural(stays[k], words.step)}"
        reading = f"{emits}, {lasts}" if fit.model.states > 1 else emits
        rows.append(StateRow(k, name, reading, float(shares[k]), stays[k], _parameter_texts(fit, series, k)))
    return rows


def state_names(fit: Fit, series: Sequences, words: Words) -> list[str]:
    """A name for each state, in a word or two; always K different ones."""
    assert isinstance(fit.model, HMM)
    states = fit.model.states
    if states == 1:
        return ["all steps"]
    if isinstance(fit.model.emission, Categorical):
        names = _symbol_names(fit, series)
    elif words.wet:
        names = _rain_names(*wet_shares(fit))
    else:
        names = _level_names(fit)
    repeated = {name for name in names if names.count(name) > 1}
    return [f"{name} ({k})" if name in repeated else name for k, name in enumerate(names)]


def wet_shares(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """(K,) chance of a step that is not zero, and (K,) mean of such a step."""
    assert isinstance(fit.model, HMM)
    parameters = emission_parameters(fit)
    wet = fit.model.emission.survival(torch.zeros(1, dtype=torch.float64), parameters)[0].numpy()
    mean = fit.model.emission.mean(parameters).numpy()
    return wet, np.divide(mean, wet, out=np.zeros_like(mean), where=wet > 0)


def plural(count: float, noun: str) -> str:
    """A length of time, in as many digits as it deserves.

    >>> plural(6.04, "day"), plural(1.42, "day"), plural(1.0, "year"), plural(23_400.0, "base")
    ('6 days', '1.4 days', '1 year', '23,400 bases')
    """
    shown = f"{count:,.0f}" if count >= 9.95 else f"{count:.1f}".removesuffix(".0")
    return f"{shown} {noun}{'' if shown == '1' else 's'}"


def share(value: float) -> str:
    """A share in per cent, with the decimals that tell it from 0 and from 100.

    >>> share(0.0312), share(0.5), share(0.004), share(0.9991), share(1e-9)
    ('3%', '50%', '0.4%', '99.9%', '<0.001%')
    """
    for digits in range(4):
        shown = f"{100 * value:.{digits}f}"
        if float(shown) not in (0.0, 100.0) or value in (0.0, 1.0):
            return f"{shown}%"
    return "<0.001%" if value < 0.5 else ">99.999%"


def number(value: float) -> str:
    """A parameter to four digits, without an exponent where none is needed."""
    size = abs(value)
    if size != 0 and not 1e-4 <= size < 1e7:
        return f"{value:.3e}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(size))) if size >= 1 else 4}f}" if size else "0"


# ---- parts ---------------------------------------------------------------------------------------------------------


def _emits(fit: Fit, series: Sequences, words: Words, state: int) -> str:
    assert isinstance(fit.model, HMM)
    parameters = emission_parameters(fit)
    if isinstance(fit.model.emission, Categorical) and series.categories is not None:
        chances = parameters["probabilities"][state].tolist()
        most = sorted(zip(chances, series.categories, strict=True), reverse=True)[:6]
        return ", ".join(f"{share(chance)} {name}" for chance, name in most)
    if words.wet:
        wet, amount = (values[state] for values in wet_shares(fit))
        unit = f" {words.unit}" if words.unit else ""
        typical = f"{amount:.0f}" if amount >= 9.95 else f"{amount:.2g}"
        return f"{share(float(wet))} wet {words.step}s, {typical}{unit} on a wet {words.step}"
    return fit.model.emission.describe(parameters, state, words.unit)


def _rain_names(wet: np.ndarray, amount: np.ndarray) -> list[str]:
    """Dry below a fifth of wet steps; the others by how much it rains when it rains."""
    dry = wet < DRY
    names = ["dry spell"] * len(wet)
    typical = float((wet * amount).sum() / wet.sum())
    for state in np.flatnonzero(dry)[np.argsort(wet[dry], kind="stable")][1:]:  # all but the driest
        names[state] = "dry, rare drizzle" if amount[state] < 0.5 * typical else "dry, rare downpours"
    wetter = np.flatnonzero(~dry)
    wetter = wetter[np.argsort(amount[wetter], kind="stable")]
    kinds = {1: ("wet spell",), 2: ("light rain", "heavy rain"), 3: ("light rain", "moderate rain", "heavy rain")}
    ranked = kinds.get(len(wetter), tuple(f"rain level {i + 1} of {len(wetter)}" for i in range(len(wetter))))
    for state, name in zip(wetter, ranked, strict=True):
        names[state] = name
    return names


def _level_names(fit: Fit) -> list[str]:
    """By mean, of the first column if there are several; by spread where means hardly differ (calm and volatile)."""
    assert isinstance(fit.model, HMM)
    parameters, states = emission_parameters(fit), fit.model.states
    mean, variance = fit.model.emission.mean(parameters), fit.model.emission.variance(parameters)
    levels = _LEVELS.get(states, tuple(f"level {i + 1} of {states}" for i in range(states)))
    if mean.dim() > 1:
        return [f"{level} {fit.columns[0]}" for level in _ranked(mean[:, 0], levels)]
    spread = variance.sqrt()
    alike = bool(spread.isfinite().all()) and float(mean.max() - mean.min()) < 0.5 * float(spread.min())
    if alike and float(spread.max()) > 1.4 * float(spread.min()):
        kinds = {2: ("calm", "volatile"), 3: ("calm", "unsettled", "volatile")}
        return _ranked(spread, kinds.get(states, tuple(f"volatility {i + 1} of {states}" for i in range(states))))
    return _ranked(mean, levels)


def _ranked(values: Tensor, names: tuple[str, ...]) -> list[str]:
    order = torch.argsort(values, stable=True).tolist()
    result = [""] * len(names)
    for rank, state in enumerate(order):
        result[state] = names[rank]
    return result


def _symbol_names(fit: Fit, series: Sequences) -> list[str]:
    """The symbols that a state has more of than the data: "AT-rich"."""
    chances = emission_parameters(fit)["probabilities"].numpy()
    overall = (occupancy(fit, series).numpy()[:, None] * chances).sum(0)
    symbols = series.categories or tuple(str(code) for code in range(chances.shape[1]))
    glue = "" if all(len(symbol) == 1 for symbol in symbols) else "/"
    names = []
    for row in chances:
        more = [symbol for symbol, chance, usual in zip(symbols, row, overall, strict=True) if chance > 1.03 * usual]
        most = str(symbols[int(np.argmax(row / np.maximum(overall, 1e-300)))])
        rich = glue.join(more) if 0 < len(more) <= 3 else most
        names.append(f"{'GC' if rich == 'CG' else rich}-rich")
    return names


def _parameter_texts(fit: Fit, series: Sequences, state: int) -> dict[str, str]:
    """One state's parameters as text, a vector an entry each where it is short."""
    assert isinstance(fit.model, HMM)
    shape = tuple(series.values.shape[1:])
    texts: dict[str, str] = {}
    for name, declared in fit.model.emission.parameters(shape).items():
        value = fit.parameters[name] if declared.shared else fit.parameters[name][state]
        if value.dim() == 0:
            texts[name] = number(float(value))
        elif name == "probabilities" and series.categories is not None and value.dim() == 1 and len(value) <= 8:
            texts |= {f"p({symbol})": number(float(v)) for symbol, v in zip(series.categories, value, strict=True)}
        elif value.dim() == 1 and len(value) <= 6:
            by_column = len(value) == len(series.columns) and name != "weights"
            labels = series.columns if by_column else range(len(value))
            texts |= {f"{name}[{label}]": number(float(v)) for label, v in zip(labels, value, strict=True)}
    return texts
