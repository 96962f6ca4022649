"""Straight-line arithmetic on single numbers, given as lists of operations: computed without the interpreter.

A memory of numbers, the cells; instruction i puts operation code[i] of up to three cells into another. It is compiled
once for all such lists and kept on disk, so that a computation met for the first time runs at once.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.jit import entry, kernel

_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _POWER, _MAXIMUM, _MINIMUM, _XLOGY, _LOGADDEXP = range(9)
_GREATER, _GREATER_EQUAL, _LESS, _LESS_EQUAL, _EQUAL, _NOT_EQUAL, _AND, _OR = range(9, 17)
_NEGATIVE, _EXP, _LOG, _LOG1P, _EXPM1, _SQRT, _ABSOLUTE, _SIGN, _RECIPROCAL, _EXPIT, _TANH = range(17, 28)
_SIN, _COS, _GAMMALN, _PSI, _NOT, _ISFINITE, _ISNAN, _WHERE = range(28, 36)


@entry
def compute(codes, first, second, third, results, memory):
    """Run instructions in order: memory[results[i]] = operation codes[i] of memory[first[i]], second, third."""
    for i in range(codes.size):
        code, x = codes[i], memory[first[i]]
        if code == _WHERE:
            memory[results[i]] = memory[second[i]] if x != 0.0 else memory[third[i]]
        elif code >= _NEGATIVE:
            memory[results[i]] = _of_one(code, x)
        elif code >= _GREATER:
            memory[results[i]] = 1.0 if _holds(code, x, memory[second[i]]) else 0.0
        else:
            memory[results[i]] = _of_two(code, x, memory[second[i]])


@kernel
def _of_two(code, x, y):
    """A number of two."""
    if code == _ADD:
        return x + y
    if code == _SUBTRACT:
        return x - y
    if code == _MULTIPLY:
        return x * y
    if code == _DIVIDE:
        return x / y
    if code == _POWER:
        return x**y
    if code == _MAXIMUM:
        return x if x >= y or x != x else y
    if code == _MINIMUM:
        return x if x <= y or x != x else y
    if code == _LOGADDEXP:
        return x + math.log(2.0) if x == y else max(x, y) + math.log1p(math.exp(-abs(x - y)))
    if y != y:  # xlogy
        return y
    return 0.0 if x == 0.0 else x * np.log(y)


@kernel
def _holds(code, x, y):
    """A comparison, or a connective."""
    if code == _GREATER:
        return x > y
    if code == _GREATER_EQUAL:
        return x >= y
    if code == _LESS:
        return x < y
    if code == _LESS_EQUAL:
        return x <= y
    if code == _EQUAL:
        return x == y
    if code == _NOT_EQUAL:
        return x != y
    if code == _AND:
        return x != 0.0 and y != 0.0
    return x != 0.0 or y != 0.0


@kernel
def _of_one(code, x):
    """A number of one."""
    if code == _NEGATIVE:
        return -x
    if code == _EXP:
        return math.exp(x)
    if code == _LOG:
        return np.log(x)
    if code == _LOG1P:
        return np.log1p(x)
    if code == _EXPM1:
        return math.expm1(x)
    if code == _SQRT:
        return np.sqrt(x)
    if code == _ABSOLUTE:
        return abs(x)
    if code == _SIGN:
        return np.sign(x)
    if code == _RECIPROCAL:
        return 1.0 / x
    return _of_one_more(code, x)


@kernel
def _of_one_more(code, x):
    if code == _EXPIT:
        return 1.0 / (1.0 + math.exp(-x))
    if code == _TANH:
        return math.tanh(x)
    if code == _SIN:
        return math.sin(x)
    if code == _COS:
        return math.cos(x)
    if code == _GAMMALN:
        return math.lgamma(x)
    if code == _PSI:
        return _digamma(x)
    if code == _NOT:
        return 1.0 if x == 0.0 else 0.0
    if code == _ISFINITE:
        return 1.0 if math.isfinite(x) else 0.0
    return 1.0 if x != x else 0.0


@kernel
def _digamma(x):
    """psi(x) by recurrence to x >= 10 and the asymptotic series there (Bernardo 1976), to about 1e-15; x > 0."""
    if not x > 0.0:
        return math.nan
    total = 0.0
    while x < 10.0:
        total -= 1.0 / x
        x += 1.0
    y = 1.0 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * (691 / 32760 - y / 12))))))
    return total + math.log(x) - 0.5 / x - series
