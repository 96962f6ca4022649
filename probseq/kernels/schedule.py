"""Which sequences run where: scaled recursions on as many threads as pay, then the exact ones where they are needed.

Item i is sequence i % N of draw i // N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from probseq.kernels import compiled, decoding, meeting
from probseq.kernels.blocks import BLOCK
from probseq.kernels.inputs import Floats, Inputs, refuse_nan
from probseq.kernels.kit import exact_kit, scaled_kit, shape_for
from probseq.kernels.threads import run, thread_count

WORTH_A_THREAD = 20_000
"""Steps below which handing work to a thread takes longer than it saves."""

STEADY = (math.log(1e-40), math.log(2.0))
"""Entries of a transition matrix within this range keep both directions from underflow: rule (i) of `scaled`."""


@dataclass(frozen=True, eq=False)
class Sums:
    """What the loops over sequences add to: see `recursions.ExpectedCounts`; emission by step if by_step."""

    evidence: Floats
    initial: Floats
    transition: Floats
    emission: Floats
    by_step: bool

    @property
    def arrays(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The four tables."""
        return self.evidence, self.initial, self.transition, self.emission

    def own(self, inputs: Inputs) -> Sums:
        """Sums of a thread's own; a table with a row for each step is shared, for no two sequences write one row."""
        shared = self.by_step or not inputs.tabled
        emission = self.emission if shared else np.zeros_like(self.emission)
        return Sums(self.evidence, np.zeros_like(self.initial), np.zeros_like(self.transition), emission, self.by_step)

    def add(self, other: Sums) -> None:
        """Take in the sums of another thread."""
        self.initial[...] += other.initial
        self.transition[...] += other.transition
        if other.emission is not self.emission:
            self.emission[...] += other.emission


def add_counts(inputs: Inputs, weights: Floats, sums: Sums) -> None:
    """Evidence and weighted expected counts of every sequence; weights (B, N), or (0, 0) for ones."""
    paired = long_items(inputs)
    if paired:
        _count_pairs(inputs, paired, weights, sums)
    lost = _count(inputs, scaled_kit(inputs.states), chunks(inputs, paired), weights, sums)
    if lost or paired:
        _count(inputs, exact_kit(inputs.states), _lost_ranges(sums.evidence), weights, sums)
        refuse_nan(inputs, sums.evidence)


def fill_evidence(inputs: Inputs, evidence: Floats) -> None:
    """Evidence (B, N) of every sequence."""
    paired = long_items(inputs)
    for item, forward, backward in _halves(inputs, paired):
        evidence.flat[item] = _evidence_at_the_middle(inputs, item, forward, backward)
    _fill(inputs, compiled.evidence_range, (evidence,), evidence, paired)


def fill_filtered(inputs: Inputs, evidence: Floats, filtered: Floats, predictive: Floats) -> None:
    """Filtered states (B, T, K), predictive log densities (B, T) and evidence (B, N)."""
    _fill(inputs, compiled.filter_range, (evidence, filtered, predictive), evidence, [])


def fill_samples(inputs: Inputs, uniforms: Floats, evidence: Floats, paths: np.ndarray) -> None:
    """Paths (B, M, T) drawn from the posterior by uniforms (B, M, T); -1 where impossible, and evidence -inf."""
    _fill(inputs, compiled.sample_range, (uniforms, evidence, paths), evidence, [])


def fill_simulated(inputs: Inputs, uniforms: Floats, paths: np.ndarray) -> None:
    """Paths (B, T) drawn from the chain by uniforms (B, T)."""
    index = inputs.transition.raw, inputs.transition.width
    arguments = inputs.log_initial, inputs.log_transition, inputs.offsets, index, uniforms, paths
    run([partial(compiled.simulate_range, *chunk, *arguments) for chunk in chunks(inputs)])


def fill_viterbi(inputs: Inputs, log_prob: Floats, paths: np.ndarray) -> None:
    """Likeliest paths (B, T) and their log joint (B, N)."""
    climber, room = decoding.climber_for(shape_for(inputs.states)), decoding.ROOM
    arguments = *inputs.arrays, room, log_prob, paths
    run([partial(decoding.viterbi_range, climber, *chunk, *arguments) for chunk in chunks(inputs)])


def chunks(inputs: Inputs, without: list[int] | None = None) -> list[tuple[int, int]]:
    """Ranges of items of about equal numbers of steps, one for each thread that pays, leaving out the given items."""
    if without:
        edges = [-1, *without, inputs.draws * inputs.count]
        gaps = [(before + 1, after) for before, after in zip(edges, edges[1:], strict=False)]
        return [gap for gap in gaps if gap[1] > gap[0]]
    items, steps = inputs.draws * inputs.count, inputs.draws * inputs.steps
    parts = min(thread_count(), items, steps // WORTH_A_THREAD)
    if parts < 2:
        return [(0, items)] if items else []
    draws, within = np.divmod(np.arange(1, parts) * (steps / parts), inputs.steps)
    edges = draws.astype(int) * inputs.count + np.searchsorted(inputs.offsets[1:], within)
    bounds = [0, *edges.tolist(), items]
    return [(first, last) for first, last in zip(bounds, bounds[1:], strict=False) if last > first]


def long_items(inputs: Inputs) -> list[int]:
    """Items so long that other threads would wait for them, and fit for `meeting`."""
    threads = thread_count()
    if threads < 2 or inputs.draws * inputs.steps < 2 * WORTH_A_THREAD:
        return []
    share = max(1.25 * inputs.draws * inputs.steps / threads, 2 * WORTH_A_THREAD)
    lengths = np.diff(inputs.offsets)
    within = [n for n in range(inputs.count) if lengths[n] > share]
    if not within or inputs.log_transition.min() < STEADY[0] or inputs.log_transition.max() > STEADY[1]:
        return []
    return [b * inputs.count + n for b in range(inputs.draws) for n in within]


def _fill(inputs: Inputs, loop: Any, outputs: tuple, evidence: Floats, paired: list[int]) -> None:
    """Run a loop whose sequences share no output, by scaled and where that is not enough by exact arithmetic."""
    lost = _each(loop, scaled_kit(inputs.states), chunks(inputs, paired), (*inputs.arrays, *outputs))
    if lost or paired:
        _each(loop, exact_kit(inputs.states), _lost_ranges(evidence), (*inputs.arrays, *outputs))
        refuse_nan(inputs, evidence)


def _each(loop: Any, kit: Any, ranges: list[tuple[int, int]], arguments: tuple) -> bool:
    """Whether a loop over ranges of items, one for each thread, lost any."""
    if len(ranges) == 1:
        return loop(kit, *ranges[0], *arguments) > 0
    return any(run([partial(loop, kit, *part, *arguments) for part in ranges]))


def _count(inputs: Inputs, kit: Any, ranges: list[tuple[int, int]], weights: Floats, sums: Sums) -> bool:
    """Whether the loop of counts, each thread with sums of its own, lost any item."""
    arguments = *inputs.arrays, weights, sums.by_step
    if len(ranges) == 1:
        return compiled.count_range(kit, *ranges[0], *arguments, *sums.arrays) > 0
    parts = [sums.own(inputs) if i else sums for i in range(len(ranges))]
    tasks = [
        partial(compiled.count_range, kit, *part, *arguments, *own.arrays)
        for part, own in zip(ranges, parts, strict=True)
    ]
    lost = any(run(tasks))
    for part in parts[1:]:
        sums.add(part)
    return lost


def _lost_ranges(evidence: Floats) -> list[tuple[int, int]]:
    """Runs of items whose evidence is NaN."""
    items = np.flatnonzero(np.isnan(evidence))
    starts = items[np.diff(items, prepend=-2) > 1]
    ends = items[np.diff(items, append=evidence.size + 1) > 1] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _count_pairs(inputs: Inputs, items: list[int], weights: Floats, sums: Sums) -> None:
    kit, indices = scaled_kit(inputs.states), inputs.arrays[-1]
    for item, forward, backward in _halves(inputs, items):
        b, n, law, tables, bounds = _one(inputs, item)
        value = _evidence_at_the_middle(inputs, item, forward, backward)
        sums.evidence[b, n] = value
        if math.isnan(value):
            continue
        parts = sums, sums.own(inputs)
        tasks = []
        for direction, (_, carry, _, _), (_, _, kept, block), part in (
            (-1, backward, forward, parts[0]),
            (1, forward, backward, parts[1]),
        ):
            weight = weights[b, n] if weights.size else 1.0
            results = weight, sums.by_step, part.transition[b], part.emission[b]
            task = (kit, direction, law, *tables, *bounds, indices, carry, kept, block, *results)
            tasks.append(partial(meeting.combine_half, *task))
        gamma, _ = run(tasks)
        sums.initial[b, n if sums.initial.shape[1] > 1 else 0] += gamma[: inputs.states]
        sums.add(parts[1])


def _halves(inputs: Inputs, items: list[int]):
    """Each item with what `advance_half` gives forward and backward."""
    for item in items:
        _, _, law, tables, bounds = _one(inputs, item)
        arguments = (law, *tables, *bounds, inputs.arrays[-1])
        kit = scaled_kit(inputs.states)
        yield item, *run([partial(meeting.advance_half, kit, direction, *arguments) for direction in (1, -1)])


def _one(inputs: Inputs, item: int) -> tuple:
    b, n = divmod(item, inputs.count)
    law = inputs.log_initial[b, n if inputs.log_initial.shape[1] > 1 else 0]
    return b, n, law, (inputs.log_transition[b], inputs.log_table[b]), inputs.offsets[n : n + 2].tolist()


def _evidence_at_the_middle(inputs: Inputs, item: int, forward: tuple[Any, ...], backward: tuple[Any, ...]) -> float:
    """log sum_ij alpha(i) A(i, j) w(j) for the states i, j on both sides of the middle; NaN if `exact` is needed."""
    b, _, _, _, (start, end) = _one(inputs, item)
    blocks = -(-(end - start) // BLOCK)
    step = end - (blocks - blocks // 2) * BLOCK  # the blocks of the later half are whole
    A = np.exp(inputs.log_transition[b, inputs.transition.row(step - 1)])
    alpha, w = forward[1][: inputs.states], backward[1][: inputs.states]
    joint = float(alpha @ A @ w)
    return forward[0] + backward[0] + math.log(joint) if joint > 0.0 else math.nan
