"""Two tasks that ask for nothing but memory: adding marked numbers, and copying symbols, over a lag.

Adding (Hochreiter & Schmidhuber 1997, task 4): a number in [0, 1) and a marker arrive at each step; two of the first
`window` steps are marked; after `lag` more steps, unmarked, the sum of the two marked numbers is asked for. Without
memory the best answer is their mean, 1, whose mean squared error is Var(u + v) = 1/6. Here both marks lie at least
`lag` steps before the answer; in the usual form the second may be near the end, where it takes no memory.

Copying (Hochreiter & Schmidhuber 1997; Arjovsky, Shah & Bengio 2016): ten of eight symbols, then blanks, and when a cue
appears the ten are to be repeated in order. The first symbol and its copy are lag + 10 steps apart. Whoever answers
blanks until the cue and guesses after it pays 10 log 8 nats in lag + 20 steps.
"""

from __future__ import annotations

import math

import torch

from probseq.sequences import Sequences

ADDING_WITHOUT_MEMORY = 1 / 6
"""Mean squared error of the best answer to adding that knows none of the numbers."""


def adding_task(count: int, lag: int, *, window: int = 20, seed: int) -> Sequences:
    """Sequences of window + lag steps, of which only the last has a value: the sum of the two marked numbers.

    Args:
        count: N sequences.
        lag: steps after the window, none marked, at least 1.
        window: steps at the start, two of them marked.
        seed: of the draws.

    Returns:
        Covariates `number` and `marker`; the value `total`, missing but at the last step.

    >>> one = adding_task(1, lag=3, window=4, seed=0)
    >>> number, marker = one.covariates.T
    >>> bool((number * marker).sum() == one.values[-1]), int(marker.sum()), int(one.step_observed.sum())
    (True, 2, 1)
    """
    generator = torch.Generator().manual_seed(seed)
    steps = window + lag
    number = torch.rand(count, steps, generator=generator, dtype=torch.float64)
    places = torch.rand(count, window, generator=generator).argsort(dim=1)[:, :2]
    marker = torch.zeros_like(number).scatter_(1, places, 1.0)
    total = torch.zeros_like(number)
    total[:, -1] = (number * marker).sum(1)
    observed = torch.zeros(count, steps, dtype=torch.bool)
    observed[:, -1] = True
    return Sequences(
        values=total.flatten(),
        lengths=torch.full((count,), steps),
        observed=observed.flatten(),
        columns=("total",),
        covariates=torch.stack([number, marker], dim=-1).flatten(0, 1),
        covariate_names=("number", "marker"),
    )


def copy_task(count: int, lag: int, *, length: int = 10, symbols: int = 8, seed: int) -> Sequences:
    """Sequences of lag + 2 length steps: symbols are shown, and asked for at the end.

    Args:
        count: N sequences.
        lag: steps from the last symbol shown to the first asked for, at least 1; the cue comes with the last of them.
        length: how many symbols are shown.
        symbols: how many different ones there are, 1 to 26.
        seed: of the draws.

    Returns:
        The covariate `shown`, codes: 0.. are the symbols, then the blank, then the cue. The values are the answers:
        the blank, and at the last `length` steps the symbols; categories name them.

    >>> one = copy_task(1, lag=4, length=3, symbols=2, seed=1)
    >>> "".join("ab_?"[int(code)] for code in one.covariates[:, 0])
    'bba___?___'
    >>> "".join(one.categories[code] for code in one.values)
    '_______bba'
    """
    generator = torch.Generator().manual_seed(seed)
    steps, blank, cue = lag + 2 * length, symbols, symbols + 1
    drawn = torch.randint(symbols, (count, length), generator=generator)
    shown = torch.full((count, steps), blank)
    shown[:, :length] = drawn
    shown[:, length + lag - 1] = cue
    answer = torch.full((count, steps), blank)
    answer[:, -length:] = drawn
    return Sequences(
        values=answer.flatten().to(torch.uint8),
        lengths=torch.full((count,), steps),
        columns=("answer",),
        covariates=shown.flatten().unsqueeze(1),
        covariate_names=("shown",),
        categories=tuple("abcdefghijklmnopqrstuvwxyz"[:symbols]) + ("_",),
    )


def copying_without_memory(lag: int, *, length: int = 10, symbols: int = 8) -> float:
    """Nats per step of the best answer to copying that knows none of the symbols: 10 log 8 / (lag + 20)."""
    return length * math.log(symbols) / (lag + 2 * length)
