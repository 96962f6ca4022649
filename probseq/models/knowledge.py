"""What is known of the states of a series, in the table that its chain is scored with.

A hard label makes every other state impossible; a soft one is the likelihood of what is known given each state. Both
add to the emission's log-likelihood, so that every recursion honours them. Steps that share a row and what is known
share one row of the labelled table: DNA with three labels and an unknown has 16 rows, whatever its length.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import pyro
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from probseq.distinct import find_distinct
from probseq.errors import DataError
from probseq.models.emission_step import EmissionData
from probseq.places import step_place
from probseq.sequences import Sequences

_KNOWN: WeakKeyDictionary[Sequences, dict[tuple[object, int], LabelledRows]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Distinct pairs of a row of the emission's table and of what is known of the state there.

    Args:
        row: (R',) int64, of the emission's table.
        log_label: (R', K) nats: log-likelihood of what is known given each state.
        index: (T,) the pair of each step.
        rows: R, of the emission's table.
    """

    row: Tensor
    log_label: Tensor
    index: np.ndarray
    rows: int

    def table(self, log_table: Tensor) -> Tensor:
        """(..., R', C) nats out of the emission's (..., R, C); the current state is the code modulo K."""
        repeats = log_table.shape[-1] // self.log_label.shape[-1]
        return log_table[..., self.row, :] + self.log_label.repeat(1, repeats)

    def counts(self, expected: Tensor) -> Tensor:
        """(R, C) counts on the emission's table out of those on the labelled one."""
        return expected.new_zeros(self.rows, expected.shape[-1]).index_add(0, self.row, expected)


def labelled_rows(data: EmissionData, series: Sequences, states: int) -> LabelledRows | None:
    """What the labels of a series add to its rows; None without labels."""
    if series.labels is None:
        return None
    known = _KNOWN.setdefault(series, {})
    key = (data.family, states)
    if key not in known:
        known[key] = _find(data, series, states)
    return known[key]


def know(series: Sequences, state: Tensor, states: int) -> None:
    """Score what the labels of a series say of its states, step by step, inside a Pyro program.

    Args:
        series: with labels.
        state: (..., T) or, enumerated, (C, ..., 1): the current state of each step.
        states: K.
    """
    logs, kind = _kinds(series, states)
    with pyro.plate("label_step", series.total_steps):
        pyro.factor("label", Vindex(logs[torch.from_numpy(kind)])[torch.arange(series.total_steps), state])


def all_known(series: Sequences) -> bool:
    """Whether the state of every step is known for sure."""
    labels = series.labels
    if labels is None:
        return False
    return bool((labels >= 0).all() if labels.ndim == 1 else ((labels > 0).sum(1) == 1).all())


def agreeing(groups: np.ndarray, series: Sequences, states: int) -> np.ndarray:
    """(T,) states: groups (T,) renumbered so that they agree best with the labels, and known states as they are."""
    from scipy.optimize import linear_sum_assignment

    labels = series.labels
    assert labels is not None
    if labels.ndim == 1:
        hard = labels.numpy()
        known = hard >= 0
        agreement = np.bincount(groups[known] * states + hard[known], minlength=states * states)
        agreement = agreement.reshape(states, states).astype(np.float64)
    else:
        shares = (labels / labels.sum(1, keepdim=True)).numpy()
        agreement = np.stack([shares[groups == group].sum(0) for group in range(states)])
        known, hard = (labels > 0).sum(1).numpy() == 1, labels.argmax(1).numpy()
    number = np.empty(states, dtype=np.int64)
    group, state = linear_sum_assignment(agreement, maximize=True)
    number[group] = state
    return np.where(known, hard, number[groups])


def check_labels(series: Sequences, states: int) -> None:
    """Refuse labels of states that the model does not have."""
    labels = series.labels
    if labels is None:
        return
    if labels.ndim == 2 and labels.shape[1] != states:
        raise DataError(
            f"soft labels must have one column for each of the {states} states, got {labels.shape[1]} columns; give "
            "the likelihood of what is known under each state."
        )
    if labels.ndim == 1 and int(labels.max()) >= states:
        step = int((labels >= states).int().argmax())
        raise DataError(
            f"labels must lie in 0..{states - 1}, the states of the model, or be -1 where unknown, got "
            f"{int(labels[step])} at {step_place(series)(step)}; use more states, or series.unlabelled()."
        )


def _kinds(series: Sequences, states: int) -> tuple[Tensor, np.ndarray]:
    """(M, K) distinct log labels, and (T,) int64 which of them each step has."""
    check_labels(series, states)
    labels = series.labels
    assert labels is not None
    if labels.ndim == 1:
        known = torch.eye(states, dtype=torch.float64)
        return torch.cat([torch.ones(1, states, dtype=torch.float64), known]).log(), labels.numpy() + 1
    distinct = find_distinct(labels, None, None)
    return distinct.rows.log(), distinct.index.astype(np.int64)


def _find(data: EmissionData, series: Sequences, states: int) -> LabelledRows:
    logs, kind = _kinds(series, states)
    pair = data.index.astype(np.int64) * len(logs) + kind
    size = len(data.rows) * len(logs)
    if size <= max(1 << 20, 2 * len(pair)):  # one pass, no sorting
        used = np.flatnonzero(np.bincount(pair, minlength=size))
        number = np.zeros(size, dtype=np.min_scalar_type(max(len(used) - 1, 0)))
        number[used] = np.arange(len(used))
        own = number[pair]
    else:
        used, own = np.unique(pair, return_inverse=True)
    row, what = torch.from_numpy(used // len(logs)), torch.from_numpy(used % len(logs))
    return LabelledRows(row, logs[what], own.reshape(-1), len(data.rows))
