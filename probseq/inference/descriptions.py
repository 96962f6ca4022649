"""Laws as plain JSON and back: the name of a frozen dataclass and its fields, which may be such dataclasses too."""

from __future__ import annotations

import dataclasses
from typing import Any

from probseq import chains, design


def describe(value: Any) -> Any:
    """A law as plain numbers, lists and names.

    >>> from probseq.chains import StickyTransitions
    >>> describe(StickyTransitions(extra=5.0))
    {'law': 'StickyTransitions', 'extra': 5.0, 'prior': 1.1}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: describe(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return {"law": type(value).__name__, **fields}
    return [describe(item) for item in value] if isinstance(value, list | tuple) else value


def rebuild(described: Any) -> Any:
    """What `describe` described.

    Raises:
        KeyError, TypeError: it is no description of a law of this version.
    """
    if isinstance(described, dict):
        name = described["law"]
        kind = getattr(chains, name, None) or getattr(design, name, None)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise KeyError(name)
        return kind(**{field: rebuild(value) for field, value in described.items() if field != "law"})
    return tuple(rebuild(item) for item in described) if isinstance(described, list) else described
