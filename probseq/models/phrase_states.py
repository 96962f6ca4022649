"""What an encoder makes of phrases: its hidden states after them, their principal components, and what sets them apart.

After figure 2 of Sutskever, Vinyals & Le (2014), where phrases with the same words in another order lie apart and an
active phrase lies beside its passive. `variance_shares` measures what that figure shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from probseq.errors import DataError
from probseq.io.parallel import read_sentences
from probseq.models.network import answering
from probseq.models.sequence_to_sequence import SequenceToSequence
from probseq.recurrent import Cell
from probseq.sequences import Sequences


def phrase_states(network: SequenceToSequence, sentences: Sequence[str] | Sequences) -> pd.DataFrame:
    """The encoder's hidden state after each sentence: h of its uppermost cell.

    Args:
        network: trained.
        sentences: N texts, or symbols.

    Returns:
        (N, H) float64, a row for each sentence under its text; the columns `state_0`, ... are the numbers of the last
        h; of an encoder in both directions, of its whole state where each of them ends. What an LSTM carries besides,
        c and the states of lower cells, is in `network.final_state`.
    """
    if not isinstance(sentences, Sequences):
        sentences = read_sentences(sentences, network.source.level)
    with answering(network):
        outputs, state = network.final_state(network.encode_source(sentences).to(network.embed.weight.device))
    if isinstance(network.encoder, Cell):
        found = outputs[torch.arange(len(outputs)), sentences.lengths - 1]
    else:
        found = torch.cat([one.flatten(1) for one in state], dim=1)
    numbers = found.double().cpu().numpy()
    return pd.DataFrame(numbers, pd.Index(_texts(network, sentences)), [f"state_{i}" for i in range(numbers.shape[1])])


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The directions in which rows differ most (Pearson 1901).

    Args:
        scores: (N, C) where each row lies along them, from the mean of all; named `component_1`, ...
        shares: (C,) of the variance of all rows.
        directions: (C, H) of unit length.
    """

    scores: pd.DataFrame
    shares: np.ndarray
    directions: np.ndarray


def principal_components(states: pd.DataFrame, components: int = 2) -> PrincipalComponents:
    """Principal components by singular values; each is turned so that its largest number is positive.

    >>> line = pd.DataFrame({"x": [0.0, 3.0, 6.0], "y": [0.0, 4.0, 8.0]})
    >>> found = principal_components(line, 1)
    >>> found.scores["component_1"].round(6).tolist(), found.shares.round(6).tolist()
    ([-5.0, 0.0, 5.0], [1.0])
    """
    rows, columns = states.shape
    if not 1 <= components <= min(rows, columns):
        raise DataError(
            f"components must be 1 to {min(rows, columns)}, for {rows} rows of {columns} numbers, got {components} in "
            "principal_components; ask for fewer, or give more rows."
        )
    centred = states.to_numpy(dtype=np.float64) - states.to_numpy(dtype=np.float64).mean(axis=0)
    left, singular, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    scores = (left * (signs * singular))[:, :components]
    total = (singular**2).sum()
    names = [f"component_{i + 1}" for i in range(components)]
    return PrincipalComponents(
        pd.DataFrame(scores, states.index, names),
        singular[:components] ** 2 / total if total > 0 else np.zeros(components),
        (directions * signs[:, None])[:components],
    )


def variance_shares(states: pd.DataFrame, factors: pd.DataFrame, within: Sequence[str] = ()) -> pd.Series:
    """How much of the variance of states each factor explains: sums of squares between its groups over those of all.

    Args:
        states: (N, H).
        factors: (N, ...) names of groups, a column for each factor, in the order of the states.
        within: columns of factors that are held fixed: rows are compared with rows that share these alone.

    Returns:
        A share for each other column, and the `rest`: interactions, and what no factor explains. Where the design is
        balanced they are an analysis of variance (Fisher 1925) and the rest is at least 0.

    >>> states = pd.DataFrame({"x": [0.0, 0.2, 1.0, 1.2]})
    >>> factors = pd.DataFrame({"order": ["a", "a", "b", "b"], "voice": ["active", "passive"] * 2})
    >>> {name: round(share, 4) for name, share in variance_shares(states, factors).items()}
    {'order': 0.9615, 'voice': 0.0385, 'rest': 0.0}
    """
    missing = [name for name in within if name not in factors]
    if len(states) != len(factors) or missing:
        raise DataError(
            f"factors must have a row for each of the {len(states)} states and the columns {list(within)}, got "
            f"{len(factors)} rows of {list(factors)} in variance_shares; give a table of the same phrases."
        )
    numbers, held = states.to_numpy(dtype=np.float64), list(within)
    centred = numbers - _group_means(numbers, factors[held])
    total = (centred**2).sum()
    if total == 0:
        raise DataError("states must differ, got all alike in variance_shares; give phrases of more than one kind.")
    shares = {
        str(name): float((_group_means(centred, factors[[*held, name]]) ** 2).sum() / total)
        for name in factors
        if name not in held
    }
    return pd.Series(shares | {"rest": 1 - sum(shares.values())})


def _group_means(numbers: np.ndarray, keys: pd.DataFrame) -> np.ndarray:
    """(N, H): for each row the mean of its group; of all rows where there are no keys."""
    if not len(keys.columns):
        return np.broadcast_to(numbers.mean(axis=0), numbers.shape)
    group = keys.groupby(list(keys.columns), sort=False).ngroup().to_numpy()
    return pd.DataFrame(numbers).groupby(group).transform("mean").to_numpy()


def _texts(network: SequenceToSequence, sentences: Sequences) -> list[str]:
    names = np.array(sentences.categories or (), dtype=object)[sentences.values.numpy()].tolist()
    offsets, joint = sentences.offsets.tolist(), " " if network.source.level == "word" else ""
    return [joint.join(names[start:stop]) for start, stop in zip(offsets, offsets[1:], strict=False)]
