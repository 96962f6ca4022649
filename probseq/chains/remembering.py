"""A transition law in a chain that remembers more states than it needs itself (`chains.composite`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from probseq.chains.composite import forget, remember, remember_law, unfold
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.state_sequence import ChainCounts, StateSequence
from probseq.chains.transition_laws import TransitionLaw
from probseq.errors import ModelError
from probseq.sequences import Sequences


def require_memory(law: TransitionLaw, memory: int) -> None:
    """Refuse a law that cannot remember as many states as the emissions depend on."""
    if memory > law.order and not law.lengthens:
        raise ModelError(
            f"emissions that depend on the last {memory} states must have moves between single steps, got "
            f"{type(law).__name__}; use Autoregression, or a law of matrices such as FreeTransitions."
        )


def remembering_chain(
    law: TransitionLaw, initial: Tensor, parameters: Mapping[str, Tensor], series: Sequences, states: int, memory: int
) -> StateSequence:
    """The chain of a transition law over codes of `memory` states, at least as many as its order.

    Args:
        law: of the moves.
        initial: (..., K^m) law of the first code.
        parameters: of the law.
        series: the data.
        states: K.
        memory: m.
    """
    if memory == law.order:
        return law.chain(initial, parameters, series)
    matrices, index = law.tables(parameters, series)
    return MarkovChain.over(initial, remember(matrices, states, law.order, memory), index, series)


def remembering_stationary(law: TransitionLaw, parameters: Mapping[str, Tensor], states: int, memory: int) -> Tensor:
    """(..., K^m) the stationary law of the codes of `memory` states."""
    found = law.stationary(parameters)
    if memory == law.order:
        return found
    matrix = law.tables(parameters, None)[0].squeeze(-3)
    return remember_law(found, matrix, states, law.order, memory)


def forgetting(counts: ChainCounts, states: int, order: int, memory: int, stationary: bool) -> ChainCounts:
    """Counts over codes of `memory` states as counts over the codes of a law of `order`.

    Args:
        counts: of the longer codes.
        states: K.
        order: o.
        memory: m >= o.
        stationary: whether the first code follows from the moves, and so counts moves too.
    """
    if memory == order:
        return counts
    first, since = unfold(counts.initial, states, order, memory)
    moves = forget(counts.moves, states, order, memory)
    return replace(counts, initial=first, moves=moves + since if stationary else moves)
