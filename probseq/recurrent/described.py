"""Layers as plain JSON values and back, nested ones too: what a saved network needs beside its weights."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import nn

from probseq.errors import ModelError

_KINDS: dict[str, type[Described]] = {}


class Described(ABC):
    """A module that can say how it was made.

    Each argument of its constructor is kept as an attribute of the same name; a `seed` need not be, since it bears on
    the first weights alone. A class that gives itself a `kind` can be rebuilt by it.

    >>> from probseq.recurrent import GRU, Cell
    >>> GRU(3, 5).description()
    {'kind': 'gru', 'input_size': 3, 'hidden_size': 5, 'orthogonal': False}
    >>> Cell.rebuild(GRU(3, 5).description()).hidden_size
    5
    """

    kind: ClassVar[str]
    """The name under which it is saved."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "kind" in cls.__dict__:
            known = _KINDS.setdefault(cls.kind, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ModelError(
                    f"kinds of layers must differ, got '{cls.kind}' at {cls.__qualname__}, which is that of "
                    f"{known.__qualname__}; choose another name."
                )
            _KINDS[cls.kind] = cls

    def description(self) -> dict[str, Any]:
        """Plain values (JSON) from which `rebuild` makes the same layer, without its weights.

        Raises:
            ModelError: its class, or that of a part, has no kind, or does not keep what it was made of.
        """
        where = type(self).__name__
        if not hasattr(self, "kind"):
            raise ModelError(f"a layer must have a kind to be saved, got none at {where}; name its class by `kind`.")
        names = [name for name in inspect.signature(type(self)).parameters if name != "seed"]
        if lost := [name for name in names if not hasattr(self, name)]:
            raise ModelError(
                f"a layer must keep its constructor's arguments to be saved, got no '{lost[0]}' at {where}; make it an "
                "attribute of that name."
            )
        return {"kind": self.kind, **{name: _plain(getattr(self, name)) for name in names}}

    @classmethod
    def rebuild(cls, description: Mapping[str, Any]) -> Self:
        """The layer that `description` describes, with weights of no account.

        Raises:
            ModelError: no such kind is known, or it is not of this class.
        """
        kind = _KINDS.get(description["kind"])
        if kind is None or not issubclass(kind, cls):
            known = ", ".join(sorted(name for name, one in _KINDS.items() if issubclass(one, cls)))
            raise ModelError(
                f"the kind of a {cls.__name__} must be one of {known}, got '{description['kind']}' at its description; "
                "import the module that defines it first."
            )
        return kind(**{name: _rebuilt(value) for name, value in description.items() if name != "kind"})


def _plain(value: Any) -> Any:
    if isinstance(value, Described):
        return value.description()
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_plain(one) for one in value]
    return value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, Mapping) and "kind" in value:
        return Described.rebuild(value)
    return [_rebuilt(one) for one in value] if isinstance(value, list) else value
