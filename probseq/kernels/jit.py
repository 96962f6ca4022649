"""How the kernels are compiled: without the interpreter's lock, and kept on disk for the next process.

Numba's cache looks at the file a function is in, not at the files of the functions it calls, so it would serve stale
code after an edit or an upgrade. It does look at closure variables: `kernel` adds one that holds a hash of every source
file in this folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import CellType, FunctionType
from typing import Any

import numba
from numba.extending import intrinsic as _intrinsic
from numba.extending import overload

_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()

intrinsic: Any = _intrinsic
"""numba's, seen by type checkers as taking any arguments: the first parameter of the definition is the compiler's."""


_njit: Any = numba.njit
_SHARED: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "no_cfunc_wrapper": True}


def kernel(function: Callable) -> Any:
    """Compile a part of a recursion: callable from other kernels only.

    A product and a sum may be fused; nothing is reordered, and infinities and NaN keep their meaning.
    """
    return _njit(**_SHARED, no_cpython_wrapper=True)(function)


def entry(function: Callable) -> Any:
    """Compile a recursion to be called from Python, and keep it on disk."""
    return _njit(**_SHARED, cache=True)(_with_sources(function))


def native(signature: Any, function: Callable) -> Any:
    """Compile a function of numbers and pointers to be called by its address, and keep it on disk."""
    options: Any = {"nopython": True, "error_model": "numpy", "fastmath": {"contract"}}
    return numba.cfunc(signature, cache=True, **options)(_with_sources(function))


def _with_sources(function: Callable) -> FunctionType:
    """The function, with the hash of the sources among its closure variables."""
    code, cells = function.__code__, function.__closure__ or ()
    code = code.replace(co_freevars=(*code.co_freevars, "sources"))
    closed = FunctionType(code, function.__globals__, function.__name__, None, (*cells, CellType(_SOURCES)))
    closed.__doc__, closed.__module__ = function.__doc__, function.__module__
    return closed


def by_shape(narrow: Any, wide: Any) -> Any:
    """The function that calls one of two kernels: the second if its first argument is a tuple of one."""

    def stub(*arguments):
        raise NotImplementedError("this function is for compiled callers")

    @overload(stub)
    def choose(*arguments):
        if len(arguments[0]) == 1:
            return lambda *arguments: wide(*arguments)
        return lambda *arguments: narrow(*arguments)

    return stub
