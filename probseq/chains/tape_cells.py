"""A recorded computation as arithmetic on single numbers, which a compiled loop runs (`probseq.kernels.cells`).

On the few numbers that the parameters of a model are, an array library spends a microsecond on each operation and next
to nothing on the numbers. So the numpy functions that stand for torch's (`tape_arrays`) are run once on `Cells`, which
write instructions down. Compiled recursions, and what torch alone can do, are called between stretches of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from probseq.chains.cell_arrays import Builder, Run, functions
from probseq.chains.tape import NotRecordable, Player, Step

_NOT_ARITHMETIC = (NotRecordable, TypeError, ValueError, AttributeError, IndexError)
"""What numpy and `Cells` raise at what they cannot do; torch does it then, as a function of arrays."""


def cell_player(steps: Sequence[Step], given: Tensor, wanted: Sequence[Tensor]) -> Player:
    """A function of an array (P,) that runs the steps and returns what is wanted, as `Tape.player`.

    Raises:
        NotRecordable: an operation is not arithmetic on numbers, or there are too many numbers.
    """
    builder = Builder()
    values: dict[int, Any] = {id(given): builder.new(given.shape)}
    table, stages, asked = functions(builder), [], []

    def valued(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return values[id(leaf)] if id(leaf) in values else leaf.detach().numpy()

    for step in steps:
        try:
            results = _run(step, table, valued)
        except _NOT_ARITHMETIC:
            if step.written:
                raise
            inputs = [tensor for tensor in step.inputs if id(tensor) in values]
            results = [builder.new(tensor.shape) for tensor in step.outputs]
            inner, places = step.inner or _by_torch(step, inputs), [builder.of(valued(tensor)) for tensor in inputs]
            if step.inner is not None:
                places = [builder.of(valued(tensor)) for tensor in step.arguments]
            stages.append(_Stage(builder.taken(), asked, inner, places, list(map(builder.of, results))))
            asked = []
        if step.outputs:
            values |= {id(tensor): value for tensor, value in zip(step.outputs, results, strict=True)}
        elif step.result is not None:
            asked.append((builder.of(results[0]), float(step.result)))
    stages.append(_Stage(builder.taken(), asked))
    return _played(builder, stages, [builder.of(valued(tensor)) for tensor in wanted])


def _run(step: Step, table: Mapping[Any, Callable[..., Any]], valued: Callable[[Any], Any]) -> list[Any]:
    """What a step returns, of places."""
    if step.inner is not None or step.function not in table:
        raise NotRecordable(f"{step.function} is not arithmetic on single numbers")
    found = table[step.function](*tree_map(valued, step.arguments), **tree_map(valued, step.options))
    return list(found) if isinstance(step.result, list | tuple) else [found]


def _by_torch(step: Step, moving: Sequence[Tensor]) -> Callable[..., list[np.ndarray]]:
    """An operation as a function of arrays of the inputs that change."""
    leaves, form = tree_flatten((step.arguments, step.options))
    changing = [(i, leaf.dtype) for i, leaf in enumerate(leaves) if any(leaf is tensor for tensor in moving)]

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        for (i, kind), array in zip(changing, arrays, strict=True):
            leaves[i] = torch.from_numpy(np.asarray(array)).to(kind)
        arguments, options = tree_unflatten(leaves, form)
        with torch.no_grad():
            result = step.function(*arguments, **options)
        return [part.numpy() for part in tree_flatten(result)[0] if isinstance(part, Tensor)]

    return call


def _played(builder: Builder, stages: list[_Stage], wanted: list[np.ndarray]) -> Player:
    """The stages as a function of the first numbers in memory."""
    from probseq.kernels.cells import compute  # imports numba

    memory = np.zeros(builder.size)
    memory[list(builder.known.values())] = np.array(list(builder.known), np.int64).view(np.float64)
    used = np.zeros(builder.size, bool)
    for places in wanted:
        used[places] = True
    compiled = [stage.compiled(used) for stage in reversed(stages)][::-1]

    def play(given: np.ndarray) -> list[Any] | None:
        memory[: len(given)] = given
        for code, places, expected, inner, inputs, outputs in compiled:
            compute(*code, memory)
            if len(places) and (memory[places] != expected).any():
                return None
            if inner is not None:
                for span, found in zip(outputs, inner(*[memory[array] for array in inputs]), strict=True):
                    memory[span] = found.reshape(-1)
        return [memory[places] for places in wanted]

    return play


@dataclass(frozen=True, eq=False)
class _Stage:
    """Instructions, what is asked after them, and a compiled recursion that is called then, if any."""

    code: list[Run]
    asked: list[tuple[np.ndarray, float]]
    inner: Callable[..., Any] | None = None
    inputs: Sequence[np.ndarray] = ()
    outputs: Sequence[np.ndarray] = ()

    def compiled(self, used: np.ndarray) -> tuple:
        """What is run of it: nothing that is not `used`, to which what it uses itself is added."""
        places = np.array([int(place) for place, _ in self.asked], np.int64)
        for array in (places, *self.inputs):
            used[array] = True
        runs = []
        for code, *operands, results in reversed(self.code):
            here = used[results]
            for operand in operands:
                used[operand[here]] = True
            runs.append((np.full(here.sum(), code), *(operand[here] for operand in operands), results[here]))
        columns = [np.concatenate([np.zeros(0, int), *part]).astype(np.int32) for part in zip(*runs[::-1], strict=True)]
        code = columns or [np.zeros(0, np.int32)] * 5
        spans = [slice(int(array.min()), int(array.max()) + 1) if array.size else slice(0) for array in self.outputs]
        return code, places, np.array([answer for _, answer in self.asked]), self.inner, self.inputs, spans
