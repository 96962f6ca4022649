"""What every recursion is given, checked once: tables of log-probabilities and indices into them.

A model with K states on T steps in N sequences, for B draws of its parameters, is
    log_initial (B, I, K)       I = 1 shared by the sequences, or I = N
    log_transition (B, S, K, K) log p(z_t+1 = j | z_t = i) in row i, column j
    log_table (B, R, K)         log-likelihood of each distinct emission row in each state
    offsets (N + 1,)            sequence n holds steps offsets[n] .. offsets[n+1] - 1
    emission_index (T,)         row of log_table of each step; None: step t has row t; or, (T, R), the weights with
                                which each step combines the rows: its log-likelihoods are weights @ log_table
    transition_index (T,)       matrix of the move from step t to step t+1; None: S = 1
so a dense series, DNA with four rows and a seasonal chain with 366 matrices are the same problem. An exponential family
on dense data is one too: the rows are its natural parameters, the weights its sufficient statistics, and no table of T
rows is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Index:
    """Row numbers as raw bytes, so that one compiled function reads every integer type.

    raw (T * width,): the little-endian bytes of the row numbers; width: bytes of each, 0 for no index.
    """

    raw: Bytes
    width: int

    def row(self, step: int) -> int:
        """Row number of a step; 0 without an index."""
        return int.from_bytes(self.raw[step * self.width : (step + 1) * self.width].tobytes(), "little")


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written."""
    view = array.view()
    view.setflags(write=False)
    return view


NO_INDEX = Index(read_only(np.zeros(0, np.uint8)), 0)
NO_WEIGHTS = read_only(np.empty((0, 0)))


@dataclass(frozen=True, eq=False)
class Inputs:
    """Checked, contiguous, read-only arrays of one problem; see the module for their meaning.

    Read-only, whatever they were, because the compiler makes separate code for arrays that may be written.
    """

    log_initial: Floats
    log_transition: Floats
    log_table: Floats
    offsets: NDArray[np.int64]
    emission: Index
    transition: Index
    row_weights: Floats

    @property
    def arrays(self) -> tuple:
        """The problem as the compiled loops take it."""
        emission, transition = self.emission, self.transition
        indices = emission.raw, emission.width, transition.raw, transition.width, self.row_weights
        return self.log_initial, self.log_transition, self.log_table, self.offsets, indices

    @property
    def tabled(self) -> bool:
        """Whether steps share the rows of the table, so that their counts add up; else step t has row t."""
        return self.emission.width != 0 or self.row_weights.size != 0

    @property
    def draws(self) -> int:
        """B."""
        return self.log_table.shape[0]

    @property
    def states(self) -> int:
        """K."""
        return self.log_table.shape[2]

    @property
    def count(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def steps(self) -> int:
        """T."""
        return int(self.offsets[-1])


def prepare(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> Inputs:
    """Check shapes and indices, and lay all out for the compiled code.

    Tables are not scanned: a NaN in one surfaces as a NaN evidence, which `refuse_nan` turns into an error.

    Raises:
        ValueError: a shape, an index or a value that no recursion could use.
    """
    initial, transition, table = _floats(log_initial), _floats(log_transition), _floats(log_table)
    bounds = _offsets(offsets)
    steps, count = int(bounds[-1]), len(bounds) - 1
    if table.ndim != 3:
        raise ValueError(f"log_table must have shape (B, R, K), got {table.shape}; add the missing leading dimension.")
    draws, rows, states = table.shape
    if initial.ndim != 3 or initial.shape[::2] != (draws, states) or initial.shape[1] not in (1, count):
        expected = f"({draws}, 1 or {count}, {states})"
        raise ValueError(f"log_initial must have shape {expected} to match log_table, got {initial.shape}; reshape it.")
    if transition.ndim != 4 or transition.shape[::2] != (draws, states) or transition.shape[3] != states:
        expected = f"({draws}, S, {states}, {states})"
        raise ValueError(f"log_transition must have shape {expected}, got {transition.shape}; reshape it.")
    emission, row_weights = NO_INDEX, NO_WEIGHTS
    if emission_index is not None and np.ndim(emission_index) == 2:
        row_weights = _row_weights(emission_index, (steps, rows))
        _require_finite(table)
    else:
        emission = _index(emission_index, rows, steps, "emission_index")
    if emission.width == 0 and not row_weights.size and rows != steps:
        raise ValueError(f"log_table must have one row per step ({steps}), got {rows}; or pass emission_index.")
    moves = _index(transition_index, transition.shape[1], steps, "transition_index")
    if moves.width == 0 and transition.shape[1] != 1:
        raise ValueError(f"transition_index must be given for {transition.shape[1]} matrices, got None; pass one.")
    return Inputs(initial, transition, table, bounds, emission, moves, row_weights)


def refuse_nan(inputs: Inputs, evidence: Floats) -> None:
    """Raise the ValueError that explains a NaN evidence, if there is one."""
    if np.isnan(evidence).any():
        refuse_bad(inputs, with_table=True)


def refuse_bad(inputs: Inputs, with_table: bool) -> None:
    """Raise a ValueError for a NaN or +inf in the laws, and in the log table if asked."""
    named = {"log_initial": inputs.log_initial, "log_transition": inputs.log_transition}
    if with_table:
        named["log_table"] = inputs.log_table
    for name, array in named.items():
        if array.size and not array.max() < np.inf:  # one pass; a NaN fails the comparison too
            where = tuple(int(i) for i in np.argwhere(~(array < np.inf))[0])
            rule = "hold log-probabilities below infinity"
            raise ValueError(f"{name} must {rule}, got {array[where]} at {where}; check the parameters behind it.")


def _floats(values: ArrayLike) -> Floats:
    return read_only(np.ascontiguousarray(values, dtype=np.float64))


def _row_weights(values: ArrayLike, shape: tuple[int, int]) -> Floats:
    array = _floats(values)
    if array.shape != shape:
        raise ValueError(f"emission_index must have shape {shape} as weights of rows, got {array.shape}; reshape it.")
    return array


def _require_finite(table: Floats) -> None:
    if not np.isfinite(table).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise ValueError(
            f"log_table must be finite where rows are combined, got {table[where]} at {where}; index rows."
        )


def _offsets(offsets: ArrayLike) -> NDArray[np.int64]:
    bounds = np.ascontiguousarray(offsets, dtype=np.int64)
    rises = bounds.ndim == 1 and bounds.size > 0 and bounds[0] == 0 <= bounds[-1]
    if not rises or (bounds.size > 2 and (bounds[1:] < bounds[:-1]).any()):
        raise ValueError(f"offsets must rise from 0 to T, got {bounds}; use the cumulative lengths, with a leading 0.")
    return read_only(bounds)


def _index(values: ArrayLike | None, rows: int, steps: int, name: str) -> Index:
    if values is None:
        return NO_INDEX
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "iu" or array.shape != (steps,):
        got = f"{array.dtype} {array.shape}"
        raise ValueError(f"{name} must hold {steps} whole numbers, got {got}; give one row number per step.")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.size and (int(array.max()) >= rows or (array.dtype.kind == "i" and int(array.min()) < 0)):
        step = int(np.argmax((array >= rows) | (array < 0)))
        raise ValueError(f"{name} must lie in 0..{rows - 1}, got {array[step]} at step {step}; fix the row number.")
    return Index(read_only(array.view(np.uint8)), array.dtype.itemsize)
