"""New names for the states of a fitted model: which axes of which parameters the names stand on, verified.

A model whose states are exchangeable has K! sets of parameters that say the same. Where a program's parameters hold
their states cannot be known from its text, but it can be tested: a true renaming leaves the joint density of data and
parameters as it is, and permutes the smoothed probabilities of the states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from probseq.errors import ModelError
from probseq.models.hmm import HMM
from probseq.models.naming import permuted_parameters, what_names_states
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]

SAME = 1e-8
"""How far two sums over the same terms in another order may lie apart, relative to their size."""


@dataclass(frozen=True, eq=False)
class Renaming:
    """What other names of the states do to the parameters of one model.

    Args:
        model: whose states they are.
        states: K.
        axes: of a program, site -> the axes of its value that are states; an HMM knows its own.
    """

    model: HMM | ProgramModel
    states: int
    axes: Mapping[str, tuple[int, ...]]

    def apply(self, parameters: Mapping[str, Tensor], order: Tensor) -> Parameters:
        """One set of parameters by names under which new state k is the old state order[k]."""
        if isinstance(self.model, HMM):
            return permuted_parameters(self.model, parameters, order)
        renamed = dict(parameters)
        for name, axes in self.axes.items():
            for axis in axes:
                renamed[name] = renamed[name].index_select(axis, order)
        return renamed

    def apply_each(self, draws: Mapping[str, Tensor], permutations: Tensor) -> Parameters:
        """Draws (S, ...), each by the names of its own row of (S, K)."""
        renamed = {name: value.clone() for name, value in draws.items()}
        identity = torch.arange(self.states)
        for s in (permutations != identity).any(-1).nonzero().flatten().tolist():
            for name, value in self.apply({name: value[s] for name, value in draws.items()}, permutations[s]).items():
                renamed[name][s] = value
        return renamed


def renaming(
    model: HMM | ProgramModel,
    parameters: Mapping[str, Tensor],
    series: Sequences,
    states: Mapping[str, tuple[int, ...]] | None = None,
) -> Renaming:
    """How to rename the states of a model, tested at one set of parameters.

    Args:
        model: bound.
        parameters: where to test; inside their constraints, such as a draw.
        series: the data.
        states: of a program, site -> the axes of its value that are states, as in
            `{"rate": (0,), "transition": (0, 1)}`; None takes every axis of length K.

    Raises:
        ModelError: something names the states, so that they must not be exchanged, or the axes are not theirs.
    """
    if isinstance(model, HMM):
        if states is not None:
            raise ModelError(f"states must be given for a user's own program only, got {dict(states)}; leave it out.")
        found = Renaming(model, model.states, {})
        named = what_names_states(model, series)
        if named:
            raise ModelError(
                f"States to relabel must be exchangeable, got {type(model).__name__} whose states are told apart by "
                f"{named}; its draws need no relabelling."
            )
    else:
        size = model.posterior(parameters, series).states
        found = Renaming(model, size, _axes(parameters, size, states))
    _verify(found, parameters, series, states is None)
    return found


def _axes(
    parameters: Mapping[str, Tensor], size: int, given: Mapping[str, tuple[int, ...]] | None
) -> dict[str, tuple[int, ...]]:
    """Site -> axes of length K, those given or all."""
    if given is None:
        guess = {
            name: tuple(axis for axis in range(value.dim()) if value.shape[axis] == size)
            for name, value in parameters.items()
        }
        return {name: axes for name, axes in guess.items() if axes}
    for name, axes in given.items():
        shape = tuple(parameters[name].shape) if name in parameters else None
        if shape is None or any(not 0 <= axis < len(shape) or shape[axis] != size for axis in axes):
            raise ModelError(
                f"states must name sites and their axes of length {size}, got {tuple(axes)} at '{name}' of shape "
                f"{shape}; the sites are {', '.join(f'{n} {tuple(v.shape)}' for n, v in parameters.items())}."
            )
    return {name: tuple(axes) for name, axes in given.items()}


def _verify(found: Renaming, parameters: Mapping[str, Tensor], series: Sequences, guessed: bool) -> None:
    """Refuse a renaming that changes what the model says; a cycle and an exchange make every permutation."""
    model, size = found.model, found.states
    if size == 1:
        return
    joint = model.log_joint(parameters, series, priors=True).detach()
    smoothed = model.posterior(parameters, series).smoothed
    cycle = torch.arange(size).roll(1)
    exchange = torch.cat([torch.tensor([1, 0]), torch.arange(2, size)])
    for order in (cycle, exchange):
        renamed = found.apply(parameters, order)
        density = model.log_joint(renamed, series, priors=True).detach()
        moved = float((model.posterior(renamed, series).smoothed - smoothed[..., order]).abs().max())
        if torch.allclose(density, joint, rtol=SAME, atol=SAME, equal_nan=True) and moved < 1e-6:
            continue
        what = f"the log density goes from {float(joint):.6g} to {float(density):.6g}, and the states' probabilities"
        remedy = "priors that differ between states name them, and their draws need no relabelling"
        if not isinstance(model, HMM):
            used = ", ".join(f"'{name}': {axes}" for name, axes in found.axes.items())
            remedy = (
                f"{'give' if guessed else 'correct'} states={{...}}, the axes that are states (here {used}); {remedy}"
            )
        raise ModelError(
            f"States to relabel must be exchangeable, got other answers under the names {order.tolist()}: {what} "
            f"differ by {moved:.2g}; {remedy}."
        )
