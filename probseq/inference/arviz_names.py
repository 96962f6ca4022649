"""The names of dims and coordinates of a fit in ArviZ: state, state_to, time, sequence, column, category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from probseq.chains.durations import FreeDurations
from probseq.chains.product_transitions import ProductTransitions
from probseq.chains.semi_markov_transitions import SemiMarkovTransitions
from probseq.errors import ModelError
from probseq.families.mixture import Mixture
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.models.renaming import renaming
from probseq.sequences import Sequences

Names = dict[str, list[str]]
Coordinates = dict[str, Any]


def parameter_names(
    model: HMM | ProgramModel, parameters: Mapping[str, Tensor], series: Sequences
) -> tuple[Names, Coordinates]:
    """Parameter -> a name for each of its axes, and the labels along those that have some.

    Args:
        model: of the parameters.
        parameters: one draw.
        series: the data.
    """
    if isinstance(model, HMM):
        names, coordinates = _moves(model)
        own, more = _emission(model, parameters, series)
        names, coordinates = names | own, coordinates | more
    else:
        names, coordinates = _program(model, parameters, series)
    full = {
        name: [(names.get(name, []) + [""] * value.dim())[axis] or f"{name}_dim_{axis}" for axis in range(value.dim())]
        for name, value in parameters.items()
    }
    return full, coordinates


def step_coordinates(series: Sequences, steps: np.ndarray) -> Coordinates:
    """What stands along `time`: real times where each is of one step, step numbers otherwise.

    With several sequences `sequence` names the one of each step; where they share their times, `timestamp` holds them.

    Args:
        series: the data.
        steps: (n,) numbers of the steps that are asked for.
    """
    times = None if series.time is None else _plain(series.time)
    unique = series.time is not None and series.time.is_unique and not series.time.hasnans
    found: Coordinates = {"time": times[steps] if unique and times is not None else steps}
    if times is not None and not unique:
        found["timestamp"] = ("time", times[steps])
    if series.count > 1:
        found["sequence"] = ("time", _plain(series.ids)[series.step_sequence.numpy()[steps]])
    return found


def _plain(index: pd.Index) -> np.ndarray:
    """An index as an array that netCDF can hold: numbers, times without a zone (UTC), or text."""
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex):
        plain = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
        return plain.to_numpy().astype("datetime64[ns]")
    values = index.to_numpy()
    return values if values.dtype.kind in "iuf" else np.array([str(value) for value in index])


def _moves(model: HMM) -> tuple[Names, Coordinates]:
    """Of the first state and the moves."""
    states = np.arange(model.states)
    coordinates: Coordinates = {"state": states, "state_to": states}
    names = {"initial": ["state"]}
    if model.memory > 1:
        names["initial"] = ["recent_states"]
        digits = [np.arange(model.codes) // model.states**back % model.states for back in range(model.memory)]
        coordinates["recent_states"] = np.array([",".join(map(str, code)) for code in zip(*digits, strict=True)])
    law = model.transition
    order = range(law.order, 1, -1)
    before = [f"state_{back - 1}_before" for back in order]
    names["transition"] = [*before, "state", "state_to"]
    coordinates |= dict.fromkeys(before, states)
    names["transition_coefficients"] = ["state", "other_state", "transition_term"]
    coordinates |= {"transition_term": np.array(law.design.names)} if law.design else {}
    if isinstance(law, ProductTransitions):
        for n, size in enumerate(law.sizes):
            names[f"transition_{n}"] = [f"state_{n}", f"state_{n}_to"]
            coordinates |= {f"state_{n}": np.arange(size), f"state_{n}_to": np.arange(size)}
    if isinstance(law, SemiMarkovTransitions):
        names |= {name: ["state"] for name in law.duration.parameters()}
        if isinstance(law.duration, FreeDurations):
            names["duration"] = ["state", "segment_steps"]
            coordinates["segment_steps"] = np.arange(1, law.duration.max + 1)
    return names, coordinates


def _emission(model: HMM, parameters: Mapping[str, Tensor], series: Sequences) -> tuple[Names, Coordinates]:
    """Of the family: an axis that grows with the columns is theirs; the others are known by their length."""
    family, event = model.emission, model.emission.event_shape_of(parameters)
    declared = family.parameters(event)
    try:
        wider = family.parameters(tuple(size + 1 for size in event))
    except ModelError:  # the number of columns is part of the family
        wider = declared
    design, lags = family.context.design, family.context.lags
    symbols = series.categories if family.nominal else None
    coordinates: Coordinates = {}
    names: Names = {}
    for name, one in declared.items():
        axes = []
        for size, grown in zip(one.shape, wider[name].shape if name in wider else one.shape, strict=True):
            if size != grown:
                axes.append("column" if "column" not in axes else "column_to")
                coordinates[axes[-1]] = np.array([str(column) for column in series.columns])
            elif isinstance(family, Mixture) and not axes:
                axes.append("component")
                coordinates["component"] = np.arange(size)
            elif design and name.endswith("_coefficients") and size == design.width:
                axes.append("term")
                coordinates["term"] = np.array(design.names)
            elif lags and name == "coefficients" and size == lags:
                axes.append("lag")
                coordinates["lag"] = np.arange(1, lags + 1)
            elif symbols is not None and size == len(symbols):
                axes.append("category")
                coordinates["category"] = np.array(symbols)
            else:
                axes.append("")
        names[name] = axes if one.shared else ["state", *axes]
    return names, coordinates


def _program(model: ProgramModel, parameters: Mapping[str, Tensor], series: Sequences) -> tuple[Names, Coordinates]:
    """Of a program's sites: the axes that are states, where that can be proved (`models.renaming`)."""
    try:
        found = renaming(model, parameters, series)
    except ModelError:
        return {}, {}
    names: Names = {}
    for name, axes in found.axes.items():
        labels = [""] * parameters[name].dim()
        for axis, label in zip(axes, ("state", "state_to"), strict=False):
            labels[axis] = label
        names[name] = labels
    return names, {"state": np.arange(found.states), "state_to": np.arange(found.states)}
