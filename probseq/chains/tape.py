"""Record a torch computation once and run it again without whatever Python stood around it.

A `Tape` sees every operation that torch runs while it is open, those of autograd's backward pass among them. Played at
another input it runs again those that depend on the input, and no others: what follows from data alone is kept as
found. Where the computation asked the value of a number to go one way or another (`if bool(...)`), the tape asks again
and refuses to play on where the answer differs. Compiled recursions, which torch does not see, say themselves what they
do (`compiled`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

SAME = frozenset((torch.ops.aten.detach.default, torch.ops.aten.alias.default, torch.ops.aten.lift_fresh.default))
"""Operations that return what they are given."""

_open: list[Tape] = []

Player = Callable[[Any], list[Any] | None]


class NotRecordable(Exception):
    """A computation that a tape cannot stand for; the message says why."""


@dataclass(frozen=True, eq=False)
class Step:
    """One operation: what was called with what, what it returned, and which of its arguments it wrote to.

    Of a compiled recursion `inner` is the function of arrays.
    """

    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any
    written: tuple[Tensor, ...] = ()
    inner: Callable[..., Any] | None = None

    @functools.cached_property
    def inputs(self) -> list[Tensor]:
        return [leaf for leaf in tree_flatten((self.arguments, self.options))[0] if isinstance(leaf, Tensor)]

    @property
    def counted(self) -> list[Tensor]:
        """The inputs that say how many numbers it returns, where that is no matter of their shapes."""
        masked = self.function in (torch.ops.aten.index.Tensor, torch.ops.aten.masked_select.default)
        return [tensor for tensor in self.inputs if tensor.dtype in (torch.bool, torch.uint8) or not masked]

    @functools.cached_property
    def outputs(self) -> list[Tensor]:
        return [leaf for leaf in tree_flatten(self.result)[0] if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):
    """Record what torch does between `with Tape() as tape:` and its end."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __enter__(self) -> Tape:
        _open.append(self)
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        _open.remove(self)
        super().__exit__(*reason)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.steps.append(Step(func, args, kwargs or {}, result, tuple(_written(func, args, kwargs or {}))))
        return result

    def player(self, given: Tensor, wanted: Sequence[Tensor]) -> Player:
        """A function of the input that returns what is wanted, or None where the computation would go another way.

        Args:
            given: the input; it must not have been written to.
            wanted: results.

        Raises:
            NotRecordable: a result is random, numbers from before the tape were written to, or the input says how many
                numbers there are (`u[u > 0]`).
        """
        return _Program(_needed(_moving(_settled(self.steps, wanted), given), wanted), given, wanted).compiled()

    def array_player(self, given: Tensor, wanted: Sequence[Tensor]) -> Player:
        """The same as a function of an array, by numpy, which is quicker where arrays are small.

        Raises:
            NotRecordable: also where an operation has no counterpart in `tape_arrays`.
        """
        from probseq.chains.tape_arrays import BY_NUMPY

        steps = _needed(_moving(_settled(self.steps, wanted), given), wanted)
        unknown = {str(step.function) for step in steps if step.inner is None and step.function not in BY_NUMPY}
        if unknown:
            raise NotRecordable(f"{', '.join(sorted(unknown))} have no counterpart in numpy")
        return _Program(steps, given, wanted, BY_NUMPY).compiled()

    def cell_player(self, given: Tensor, wanted: Sequence[Tensor]) -> Player:
        """The same, of an array, number by number in a compiled loop, which is quicker still where numbers are few.

        Raises:
            NotRecordable: also where there are too many.
        """
        from probseq.chains.cell_arrays import TooMany
        from probseq.chains.tape_cells import cell_player

        try:
            return cell_player(_needed(_moving(_settled(self.steps, wanted), given), wanted), given, wanted)
        except TooMany:
            raise NotRecordable("there are too many numbers") from None


def compiled(function: Callable[..., tuple[np.ndarray, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """function(*arrays) as tensors, one step of the tape that is open, if any; it has no gradient of its own."""
    with _disable_current_modes() if _open else contextlib.nullcontext():
        result = _on_tensors(function, *tensors)
    if _open:
        _open[-1].steps.append(Step(functools.partial(_on_tensors, function), tensors, {}, result, inner=function))
    return result


def _on_tensors(function: Callable[..., tuple[np.ndarray, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in function(*(tensor.detach().numpy() for tensor in tensors)))


def _written(function: Any, arguments: Sequence[Any], options: dict[str, Any]) -> Iterator[Tensor]:
    """The arguments that an operation of torch writes to, by its schema."""
    if not function._schema.is_mutable:
        return
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = arguments[place] if place < len(arguments) else options.get(argument.name)
            yield from (leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor))


def _tags(step: Step) -> Sequence[torch.Tag]:
    return getattr(step.function, "tags", ())


def _settled(steps: Sequence[Step], wanted: Sequence[Tensor]) -> Sequence[Step]:
    """The steps, where no random number has a bearing on the results.

    Raises:
        NotRecordable: one has, if only through data that were drawn.
    """
    for step in _needed(steps, wanted):
        if torch.Tag.nondeterministic_seeded in _tags(step):
            raise NotRecordable(f"{step.function} draws random numbers")
    return steps


def _memory(tensor: Tensor) -> int:
    """Which memory a tensor looks at; views share it."""
    return tensor.untyped_storage()._cdata


def _moving(steps: Sequence[Step], given: Tensor) -> list[Step]:
    """The steps that depend on the input, with all that fills memory which some such step writes to."""
    made = _made(steps, given)
    moving, before = {_memory(given)}, 0
    while len(moving) != before:
        before = len(moving)
        read: set[int] = set()
        for step in steps:
            touched = {_memory(tensor) for tensor in (*step.inputs, *step.outputs)}
            written = {_memory(tensor) for tensor in step.written}
            if touched & moving:
                moving |= {_memory(tensor) for tensor in step.outputs} | written
                read |= touched
            moving |= written & read  # what is written to after it was read is not data
    kept = [step for step in steps if moving & {_memory(t) for t in (*step.inputs, *step.outputs)}]
    for step in kept:
        if any(_memory(tensor) not in made for tensor in step.written):
            raise NotRecordable(f"{step.function} writes to numbers from outside")
        if torch.Tag.dynamic_output_shape in _tags(step) and any(_memory(tensor) in moving for tensor in step.counted):
            raise NotRecordable(f"{step.function} returns as many numbers as its arguments say")
    return kept


def _made(steps: Sequence[Step], given: Tensor) -> set[int]:
    """Memory that the steps themselves came by."""
    older, made = {_memory(given)}, set()
    for step in steps:
        older |= {_memory(tensor) for tensor in step.inputs} - made
        made |= {_memory(tensor) for tensor in step.outputs} - older
    return made


def _needed(steps: Sequence[Step], wanted: Sequence[Tensor]) -> list[Step]:
    """The steps without which the results, or an answer that was asked for, would be missing."""
    tensors, memory = {id(tensor) for tensor in wanted}, {_memory(tensor) for tensor in wanted}
    kept = []
    for step in reversed(steps):
        outputs = step.outputs
        fills = any(_memory(tensor) in memory for tensor in step.written)
        if fills or not outputs or any(id(tensor) in tensors for tensor in outputs):
            kept.append(step)
            tensors |= {id(tensor) for tensor in step.inputs}
            memory |= {_memory(tensor) for tensor in step.inputs}
    return kept[::-1]


@dataclass(eq=False)
class _Program:
    """Straight Python for some steps: one line each, what is data in its namespace."""

    steps: Sequence[Step]
    given: Tensor
    wanted: Sequence[Tensor]
    by_numpy: Mapping[Any, Callable[..., Any]] | None = None
    names: dict[int, str] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)

    def compiled(self) -> Player:
        self.names[id(self.given)] = "given"
        fixed = {_memory(tensor) for step in self.steps for tensor in step.written}
        lines, done = [], {}
        for step in self.steps:
            call = self._call(step)
            pure = not step.written and not any(_memory(t) in fixed for t in (*step.inputs, *step.outputs))
            if pure and step.function in SAME:
                self.names[id(step.result)] = self._spelled(step.arguments[0])
            elif pure and call in done:
                for tensor, same in zip(step.outputs, done[call], strict=True):
                    self.names[id(tensor)] = self.names[id(same)]
            else:
                lines.append(self._line(step, call))
                if pure and step.outputs:
                    done[call] = step.outputs
        results = ", ".join(self._spelled(tensor) for tensor in self.wanted)
        text = "\n    ".join(["def play(given):", *lines, f"return [{results}]"])
        exec(text, self.space)
        return self.space["play"]

    def _call(self, step: Step) -> str:
        arguments = [self._spelled(value) for value in step.arguments]
        arguments += [f"{name}={self._spelled(value)}" for name, value in step.options.items()]
        function = step.function if self.by_numpy is None else step.inner or self.by_numpy[step.function]
        return f"{self._constant(function)}({', '.join(arguments)})"

    def _line(self, step: Step, call: str) -> str:
        if not step.outputs:
            return f"if {call} != {self._constant(step.result)}: return None"
        if isinstance(step.result, Tensor):
            return f"{self._named(step.result)} = {call}"
        return f"{', '.join(self._named(leaf) for leaf in step.result)}, = {call}"

    def _named(self, result: Any) -> str:
        if not isinstance(result, Tensor):
            return "_"
        return self.names.setdefault(id(result), f"v{len(self.names)}")

    def _spelled(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return self.names[id(value)] if id(value) in self.names else self._constant(value)
        if isinstance(value, list | tuple):
            inside = "".join(self._spelled(part) + ", " for part in value)
            return f"[{inside}]" if isinstance(value, list) else f"({inside})"
        return repr(value) if value is None or type(value) in (bool, int) else self._constant(value)

    def _constant(self, value: Any) -> str:
        name = self.kept.setdefault(id(value), f"c{len(self.kept)}")
        here = value.detach().numpy() if isinstance(value, Tensor) and self.by_numpy is not None else value
        self.space[name] = here
        self.alive.append(value)
        return name
