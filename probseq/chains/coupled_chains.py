"""Several chains of a program that meet at a site, read as one chain over the tuples of their states.

Chains that are independent given the parameters move together by the Kronecker product of their matrices,

    p((i, k) -> (j, l)) = A(i, j) B(k, l),

which makes the sum over all paths of all of them exact (the factorial hidden Markov model of Ghahramani and Jordan
1997, whose E-step they approximate). A tuple is the code z_1 + K_1 (z_2 + K_2 (...)): the first chain is the least
significant digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from probseq.chains.digits import Digit
from probseq.chains.higher_order_chain import HigherOrderMarkovChain
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.state_sequence import StateSequence
from probseq.errors import ModelError

MOST_ENTRIES = 1 << 26
"""Entries of all matrices of coupled chains: 512 MB."""


def digits_of(laws: Sequence[StateSequence]) -> list[Digit]:
    """The digit of each chain."""
    sizes = [law.states for law in laws]
    return [Digit(int(np.prod(sizes[:n], dtype=np.int64)), size) for n, size in enumerate(sizes)]


def coupled_law(names: Sequence[str], laws: Sequence[StateSequence]) -> StateSequence:
    """The law of the tuples' path; one law alone stays what it is.

    Args:
        names: of the sites, for messages.
        laws: of their paths, the least significant digit first.

    Raises:
        ModelError: chains of another kind, over different sequences, or of too many states together.
    """
    if len(laws) == 1:
        return laws[0]
    listed = ", ".join(f"'{name}'" for name in names)
    of_values = [law.codes if isinstance(law, HigherOrderMarkovChain) else law for law in laws]
    chains = [law for law in of_values if isinstance(law, MarkovChain)]
    if len(chains) != len(laws):
        kinds = ", ".join(sorted({type(law).__name__ for law in of_values if not isinstance(law, MarkovChain)}))
        raise ModelError(
            f"Chains that one site depends on must be Markov chains, got {kinds} among {listed}; give each its own "
            "sites, or write the pair as one chain."
        )
    _check_alike(listed, chains)
    count = int(np.prod([law.states for law in chains], dtype=np.int64))
    moves, index = _joint_index(chains)
    batch = torch.broadcast_shapes(*(law.batch_shape for law in chains))
    if batch.numel() * len(moves[0]) * count**2 > MOST_ENTRIES:
        raise ModelError(
            f"Chains that one site depends on must have at most {int(MOST_ENTRIES**0.5)} states together, or fewer "
            f"where matrices or particles are many, got {count} with {len(moves[0])} matrices for {listed}; couple "
            "fewer chains at a site, or give them fewer states."
        )
    initial = reduce(lambda low, high: _joint(high, low), [law.initial for law in chains])
    parts = [_matrices(law)[..., used, :, :] for law, used in zip(chains, moves, strict=True)]
    transition = reduce(lambda low, high: kronecker(high, low), parts)
    return MarkovChain(
        initial,
        transition.squeeze(-3) if index is None else transition,
        chains[0].lengths,
        transition_index=index,
        weights=chains[0].weights,
        validate_args=False,
    )


def _check_alike(listed: str, chains: Sequence[MarkovChain]) -> None:
    first = chains[0]
    for law in chains[1:]:
        if not torch.equal(law.lengths, first.lengths):
            raise ModelError(
                f"Chains that one site depends on must run over the same sequences, got lengths "
                f"{first.lengths.tolist()} and {law.lengths.tolist()} for {listed}; give all of them the same lengths."
            )
        same = law.weights is first.weights or (
            law.weights is not None and first.weights is not None and torch.equal(law.weights, first.weights)
        )
        if not same:
            raise ModelError(
                f"Chains that one site depends on must weigh the sequences alike, got different weights for {listed}; "
                "give all of them weights=series.weights."
            )


def _matrices(law: MarkovChain) -> Tensor:
    """(*batch, S, K, K)."""
    return law.transition.unsqueeze(-3) if law.transition_index is None else law.transition


def _joint_index(chains: Sequence[MarkovChain]) -> tuple[list[np.ndarray], Tensor | None]:
    """The matrix of each chain in each combination that occurs (S,), and the combination of each move (T,)."""
    if all(law.transition_index is None for law in chains):
        return [np.zeros(1, np.int64)] * len(chains), None
    none = np.zeros(chains[0].total_steps, np.int64)
    indices = [none if law.transition_index is None else np.asarray(law.transition_index) for law in chains]
    used, index = np.unique(np.stack(indices, 1).astype(np.int64), axis=0, return_inverse=True)
    return list(used.T), torch.from_numpy(index.reshape(-1).astype(np.int64))


def _joint(high: Tensor, low: Tensor) -> Tensor:
    """(..., K L) the joint law of two independent states (..., K) and (..., L)."""
    return torch.einsum("...i,...k->...ik", high, low).flatten(-2)


def kronecker(high: Tensor, low: Tensor) -> Tensor:
    """(..., K L, K L) out of (..., K, K) and (..., L, L)."""
    product = torch.einsum("...ij,...kl->...ikjl", high, low)
    size = high.shape[-1] * low.shape[-1]
    return product.reshape(product.shape[:-4] + (size, size))
