"""The best climb tried again from every other first state.

With a single sequence the likelihood is highest where the law of the first state is a certainty, and EM cannot leave
that certainty, because a probability of zero stays zero. Random starts settle on a first state within a few
iterations, and seldom on the right one.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from probseq.inference.climbing import Climb, Climber
from probseq.models.hmm import HMM

CERTAIN = 0.9
"""A first state more probable than this was settled by very few sequences."""

PROBE = 10
"""Iterations that another first state has to overtake in."""


def try_other_first_states(climb: Climb, climber: Climber) -> Climb:
    """The climb, or a higher one that begins in another state."""
    for other in _other_first_states(climber, climb.parameters):
        probe = replace(climber, max_iterations=PROBE).climb(other, None)
        if probe.stop_reason == "interrupted":
            return replace(climb, stop_reason="interrupted", converged=False)
        if probe.failed or probe.objective[-1] <= climb.objective[-1]:
            continue
        found = climber.climb(probe.parameters, None)
        if not found.failed and found.objective[-1] > climb.objective[-1]:
            climb = replace(found, objective=[*climb.objective, found.objective[-1]])
    return climb


def _other_first_states(climber: Climber, parameters: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The parameters with the certain first state exchanged for each other one; none where nothing is certain."""
    model = climber.model
    if not isinstance(model, HMM) or not model.initial.parameters(model.codes):
        return []
    initial = parameters["initial"]
    settled = int(initial.argmax())
    if float(initial[settled]) < CERTAIN:
        return []
    others = []
    for state in range(model.codes):
        if state != settled:
            exchanged = initial.clone()
            exchanged[settled], exchanged[state] = initial[state], initial[settled]
            others.append({**parameters, "initial": exchanged})
    return others
