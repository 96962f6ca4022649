"""Where EM starts: a rough assignment of steps to states, turned into parameters by the family's own M-step.

The first attempt is the same for every seed: equal-count groups of the ranks (one column), k-means (several columns),
k-means of the composition of blocks (symbols), or equal stretches of time (left-right chains). Further attempts
alternate between random centres and random blocks of time. Assignments are softened, so that no state starts empty.
In a random start each state has a stay of its own, within a factor of ten: regimes of very different length are what
separates the maxima of one likelihood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from probseq.models.emission_step import emission_data
from probseq.models.knowledge import agreeing
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from probseq.models.hmm import HMM

SOFTENING = 0.2  # the share of each step that is spread evenly over the states
SAMPLE = 20_000  # steps that clustering looks at
OUTLIERS = 0.01  # of the steps; a group of fewer is no regime of a deterministic start
MOST_LEAVE = 0.9  # the chance of leaving a state in a start


def start_parameters(model: HMM, series: Sequences, attempt: int, seed: int) -> dict[str, Tensor]:
    """Parameters to start EM from.

    Args:
        model: bound to the series.
        series: the data.
        attempt: 0 for the deterministic start, 1, 2, ... for random ones.
        seed: of the random ones.
    """
    rng = np.random.default_rng([seed, attempt])
    states = model.states
    data = emission_data(model.emission, series)
    rows = data.rows
    assigned, stay = _assign(model, series, attempt, rng)
    if series.labels is not None:
        assigned = agreeing(assigned, series, states)
    codes, size = _codes(assigned, series, states, model.emission.memory), states**model.emission.memory
    scored = data.scored.numpy()
    cell = data.index.astype(np.int64)[scored] * size + codes[scored]
    hard = np.bincount(cell, minlength=len(rows) * size).reshape(len(rows), size).astype(np.float64)
    soft = (1.0 - SOFTENING) * hard + SOFTENING / size * hard.sum(1, keepdims=True)
    emission = model.emission.maximise(rows, torch.from_numpy(soft), model.emission.pooled(rows, states))
    jitter = np.ones((states, states)) if attempt == 0 else rng.gamma(2.0, size=(states, states)) + 1e-3
    leave = (1.0 - stay) * (np.ones(states) if attempt == 0 else 10.0 ** rng.uniform(-1.0, 1.0, size=states))
    stays = torch.from_numpy(1.0 - np.minimum(leave, MOST_LEAVE))
    moves = model.transition.start(states, stays, torch.from_numpy(jitter), series)
    even = torch.ones(model.codes, dtype=torch.float64)
    initial = model.initial.maximise(even, lambda: model.stationary(moves), False)
    return {"initial": initial, **moves, **emission}


def _codes(assigned: np.ndarray, series: Sequences, states: int, memory: int) -> np.ndarray:
    """(T,) codes of the last `memory` states; before its start a sequence was in its first state."""
    offsets = series.offsets.numpy()
    first = np.repeat(offsets[:-1], series.lengths.numpy())
    steps = np.arange(len(assigned))
    return np.sum([assigned[np.maximum(steps - back, first)] * states**back for back in range(memory)], axis=0)


def _assign(model: HMM, series: Sequences, attempt: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """(T,) a state for every step, and a probability of staying that goes with it."""
    states, steps = model.states, series.total_steps
    stay = 0.9 if attempt == 0 else 1.0 - 10.0 ** -float(rng.uniform(0.3, 2.0))
    if states == 1:
        return np.zeros(steps, dtype=np.int64), stay
    if model.transition.progressive:
        cuts = np.linspace(0, 1, states + 1)[1:-1] if attempt == 0 else np.sort(rng.uniform(size=states - 1))
        return np.searchsorted(cuts, _progress(series), side="right"), stay
    symbols = model.emission.nominal
    if attempt and attempt % 2 == 0:
        mean = max(2.0, steps / (20.0 * states))
        return _random_blocks(steps, states, mean, rng), 1.0 - 1.0 / mean
    features, block = _composition(series, rng if attempt else None) if symbols else (_features(series), 1)
    if features.shape[1] == 1 and attempt == 0:
        groups = np.minimum((_average_rank(features[:, 0]) * states).astype(np.int64), states - 1)
    else:
        groups = _clusters(features, states, rng if attempt else None)
    return np.repeat(groups, block)[:steps], stay if block == 1 else 1.0 - 0.5 / block


def _progress(series: Sequences) -> np.ndarray:
    """(T,) how far each step is into its sequence, in [0, 1)."""
    lengths, offsets = series.lengths.numpy(), series.offsets.numpy()
    return (np.arange(series.total_steps) - np.repeat(offsets[:-1], lengths)) / np.repeat(lengths, lengths)


def _random_blocks(steps: int, states: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) stretches of geometric length, each given to a random state."""
    starts = rng.random(steps) < 1.0 / mean
    return rng.integers(states, size=int(starts.sum()) + 1)[np.cumsum(starts)]


def _features(series: Sequences) -> np.ndarray:
    """(T, D) standardised columns; a single column is replaced by its ranks, so that tails do not rule."""
    values = series.values.numpy().astype(np.float64).reshape(series.total_steps, -1)
    if values.shape[1] == 1:
        return _average_rank(values[:, 0])[:, None]
    spread = values.std(0)
    return (values - values.mean(0)) / np.where(spread > 0, spread, 1.0)


def _average_rank(values: np.ndarray) -> np.ndarray:
    """(T,) rank in [0, 1), ties sharing their average."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2.0
    return middle[inverse] / len(values)


def _composition(series: Sequences, rng: np.random.Generator | None) -> tuple[np.ndarray, int]:
    """(blocks, M) the share of each symbol in blocks of time, and the block's length."""
    codes = series.values.numpy().astype(np.int64)
    block = int(np.clip(len(codes) // 500, 1, 200))
    block = block if rng is None else int(np.clip(block * rng.uniform(0.3, 3.0), 1, 2000))
    count, symbols = -(-len(codes) // block), int(codes.max()) + 1
    table = np.bincount(np.arange(len(codes)) // block * symbols + codes, minlength=count * symbols)
    table = table.reshape(count, symbols)
    return table / table.sum(1, keepdims=True), block


def _clusters(features: np.ndarray, states: int, rng: np.random.Generator | None) -> np.ndarray:
    """(T,) k-means groups for the deterministic start, nearest of random centres otherwise."""
    from scipy.cluster.vq import kmeans2, vq

    chooser = np.random.default_rng(0) if rng is None else rng
    sample = features if len(features) <= SAMPLE else features[chooser.choice(len(features), SAMPLE, replace=False)]
    if rng is None:
        centres, _ = kmeans2(sample, min(states, len(sample)), minit="++", rng=chooser)
    else:  # different values, or states would start, and stay, the same
        sample = np.unique(sample, axis=0)
        centres = sample[chooser.choice(len(sample), states, replace=len(sample) < states)]
    groups = vq(features, centres)[0].astype(np.int64)
    few = np.bincount(groups, minlength=states).min() < OUTLIERS * len(features)
    if rng is None and few and not _ranked(features):  # a centre was spent on an outlier or two: look at ranks instead
        return _clusters(np.column_stack([_average_rank(column) for column in features.T]), states, None)
    return groups


def _ranked(features: np.ndarray) -> bool:
    return bool((features >= 0).all() and (features < 1).all())
