"""Where a fit might begin instead: the same parameters with another first state.

With a single sequence the likelihood is highest where the law of the first state is a certainty, and EM cannot leave
that certainty, because a probability of zero stays zero. Random starts settle on the first state within a few
iterations and seldom on the right one, so the best climb is tried again from every other.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from probseq.chains.initial_laws import FreeInitial
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel

CERTAIN = 0.9
"""A first state more probable than this was settled by the data of very few sequences."""


def other_first_states(model: HMM | ProgramModel, parameters: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The parameters with the certain first state exchanged for each other one; none where nothing is certain.

    Args:
        model: that was fitted; only a free initial law has somewhere else to go.
        parameters: where EM stopped.
    """
    if not isinstance(model, HMM) or not isinstance(model.initial, FreeInitial):
        return []
    initial = parameters["initial"]
    settled = int(initial.argmax())
    if float(initial[settled]) < CERTAIN:
        return []
    others = []
    for state in range(model.states):
        if state != settled:
            exchanged = initial.clone()
            exchanged[settled], exchanged[state] = initial[state], initial[settled]
            others.append({**parameters, "initial": exchanged})
    return others
