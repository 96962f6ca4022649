"""A hidden Markov model and its data as the flat arrays of `kernels.gibbs`, and the way back to named parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probseq.chains.initial_laws import FixedInitial, FreeInitial, StationaryInitial
from probseq.chains.matrix_laws import MatrixLaw
from probseq.chains.tied_transitions import TiedTransitions
from probseq.errors import ModelError
from probseq.families.conditionals import Emission, emission_of
from probseq.families.coordinates import is_simplex
from probseq.kernels.conditionals import LINEAR, WISHART
from probseq.kernels.gibbs import FREE, GIVEN, STATIONARY
from probseq.models.emission_step import emission_data
from probseq.models.hmm import HMM
from probseq.models.knowledge import labelled_rows
from probseq.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Plan:
    """What the compiled sampler is called with; see `kernels.gibbs.gibbs_steps` for the tuples.

    Attributes:
        chain, emission, data: tuples of arrays.
        free: (V,) bool: which numbers of the chain's state are drawn.
        positions: name -> where the parameter's numbers lie among the V, in the parameter's own shape.
    """

    chain: tuple[Any, ...]
    emission: tuple[Any, ...]
    data: tuple[Any, ...]
    free: np.ndarray
    positions: Mapping[str, np.ndarray]

    def pack(self, parameters: Mapping[str, Tensor]) -> np.ndarray:
        """(V,) the state of the sampler at these parameters."""
        values = np.zeros(len(self.free))
        states, components = len(self.chain[1]), len(self.emission[1])
        at = states + self.chain[2].size
        values[at : at + states * components] = 1.0 / components
        for name, where in self.positions.items():
            values[where] = parameters[name].detach().numpy()
        if self.emission[0] == 1:  # of two components only the first weight is a parameter
            values[at + 1 : at + 2 * states : 2] = 1.0 - values[at : at + 2 * states : 2]
        return values

    def unpack(self, kept: np.ndarray) -> dict[str, Tensor]:
        """name -> (..., *shape), out of states (..., V)."""
        return {name: torch.from_numpy(kept[..., where]) for name, where in self.positions.items()}


def plan(model: HMM, series: Sequences) -> Plan:
    """Lay a model and its data out for the compiled sampler.

    Args:
        model: bound to the series, with its priors.
        series: the data.

    Raises:
        ModelError: something about the model has no full conditional here.
    """
    if series.weights is not None:
        raise ModelError("Gibbs sampling must count every sequence once, got weights; use nuts, or drop the weights.")
    if model.memory != 1 or model.designed:
        raise ModelError(
            "Gibbs sampling must have moves and observations that depend on no state but the current one and on no "
            "covariates, got a model that does; use nuts."
        )
    moves, chain = _chain(model)
    data = emission_data(model.emission, series)
    measured = np.ones(len(data.rows), dtype=bool)
    if data.missing_row is not None:
        measured[data.missing_row] = False
    emission = emission_of(model.emission, data.rows, measured, model.priors)
    given = emission.given.copy()
    given[emission.first :] += sum(unit.rest for unit in emission.units)
    index, given = data.index, np.tile(given, (model.states, 1))
    statistics = np.concatenate([unit.statistics for unit in emission.units])
    labels = labelled_rows(data, series, model.states)
    if labels is not None:
        row, index = labels.row.numpy(), labels.index
        known = np.repeat(labels.log_label.numpy().T, len(emission.weight_prior), 0)
        given, statistics, measured = given[:, row] + known, statistics[:, row], measured[row]
    arrays = (
        series.offsets.numpy(),
        index.astype(np.int64),
        np.ascontiguousarray(statistics, dtype=np.float64),
        np.ascontiguousarray(given, dtype=np.float64),
        measured,
    )
    units, numbers, width = _units(emission)
    positions = _positions(model, emission, moves, chain[2].shape, width)
    kernel_emission = (emission.first, emission.weight_prior, units, numbers, width)
    size = model.states * (1 + len(emission.weight_prior) * (1 + width)) + chain[2].size
    free = _free(model, emission, positions, size, tuple(series.values.shape[1:]))
    return Plan(chain, kernel_emission, arrays, free, positions)


def _chain(model: HMM) -> tuple[str, tuple[Any, ...]]:
    """The name of the moves' parameter, and what the compiled sampler knows of the chain."""
    K, law, initial = model.states, model.transition, model.initial
    if isinstance(law, MatrixLaw):
        name, prior = "transition", law.concentration(K).numpy()
        share_of, part = np.arange(K * K).reshape(K, K), np.ones((K, K))
    elif isinstance(law, TiedTransitions):
        name, prior = "shares", law.concentration.numpy()
        belongs = law._membership.numpy()
        share_of = np.where(belongs.any(0), belongs.argmax(0), -1).reshape(K, K)
        part = belongs.sum(0).reshape(K, K)
    else:
        raise ModelError(f"Gibbs sampling must have moves with a Dirichlet prior, got {type(law).__name__}; use nuts.")
    first_prior = np.ones(K)
    if isinstance(initial, FreeInitial):
        first_law, first_prior = FREE, np.full(K, float(initial.concentration))
    elif isinstance(initial, StationaryInitial):
        first_law = STATIONARY
    elif isinstance(initial, FixedInitial):
        first_law = GIVEN
    else:
        raise ModelError(
            f"Gibbs sampling must have a first state that is free, fixed or stationary, got {type(initial).__name__}; "
            "use nuts."
        )
    return name, (first_law, first_prior, np.ascontiguousarray(prior), share_of.astype(np.int64), part)


def _units(emission: Emission) -> tuple[np.ndarray, np.ndarray, int]:
    """(U, 5) the units, the numbers of all priors, and Q, how many parameters a column has."""
    rows, statistic, parameter, number = [], 0, 0, 0
    for unit in emission.units:
        rows.append((unit.kind, statistic, parameter, unit.size, number))
        statistic += len(unit.statistics)
        parameter += len(unit.places)
        number += len(unit.numbers)
    numbers = np.array([x for unit in emission.units for x in unit.numbers])
    return np.array(rows, dtype=np.int64), numbers, parameter


def _positions(
    model: HMM, emission: Emission, moves: str, shares: tuple[int, int], width: int
) -> dict[str, np.ndarray]:
    """name -> where its numbers lie in the state of the sampler."""
    K, M = model.states, len(emission.weight_prior)
    positions = {"initial": np.arange(K), moves: K + np.arange(shares[0] * shares[1]).reshape(shares)}
    at = K + shares[0] * shares[1]
    if emission.weights:
        weights = at + np.arange(K * M).reshape(K, M)
        positions[emission.weights] = weights[:, 0] if emission.first else weights
    at += K * M
    columns = at + width * (np.arange(K * M).reshape(K, M) if M > 1 and not emission.first else np.arange(K) * M)
    columns = columns + width * emission.first
    numbered: dict[str, dict[tuple[int, ...], int]] = {}
    for q, (name, index) in enumerate(place for unit in emission.units for place in unit.places):
        numbered.setdefault(name, {})[index] = q
    for name, entries in numbered.items():
        shape = tuple(1 + max(index[axis] for index in entries) for axis in range(len(next(iter(entries)))))
        offset = np.zeros(shape, dtype=np.int64)
        for index, q in entries.items():
            offset[index] = q
        positions[name] = columns.reshape(columns.shape + (1,) * len(shape)) + offset
    return positions


def _free(
    model: HMM, emission: Emission, positions: Mapping[str, np.ndarray], size: int, event_shape: tuple[int, ...]
) -> np.ndarray:
    """(V,) what is drawn: all that is not given."""
    free = np.zeros(size, dtype=bool)
    for name, where in positions.items():
        free[where] = name not in model.transition.known(model.states)
    declared = model.all_declared(event_shape)
    for name, known in model.fixed.items():
        given = ~known.isnan()
        if is_simplex(declared[name].constraint):
            _require_together(name, given.numpy().T)
        free[positions[name]] = ~given.numpy()
    for unit in emission.units:  # vectors are drawn in one piece
        if unit.kind in (WISHART, LINEAR):
            for part in (unit.places[: unit.size], unit.places[unit.size :]):
                where = np.stack([positions[name][(..., *index)] for name, index in part])
                _require_together(part[-1][0], free[where])
    return free


def _require_together(name: str, given: np.ndarray) -> None:
    """Refuse entries (M, ...) that are drawn together when only some are given."""
    if bool((given != given[:1]).any()):
        raise ModelError(f"Gibbs sampling must have {name} fixed by whole rows, got some of their entries; use nuts.")
