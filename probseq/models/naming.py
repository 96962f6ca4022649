"""Which state is which: states in a canonical order or any other, and states that are one another's double."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probseq.chains.composite import relabelled_codes
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from probseq.models.hmm import HMM


def ordered_parameters(model: HMM, parameters: dict[str, Tensor], series: Sequences) -> dict[str, Tensor]:
    """The same model with its states by ascending mean, where no structure, label or fixed value names them."""
    if what_names_states(model, series) or model.states == 1:
        return parameters
    emission = model.emission_parameters(parameters)
    order = torch.argsort(model.emission.mean(emission).reshape(model.states, -1)[:, 0], stable=True)
    return permuted_parameters(model, parameters, order)


def permuted_parameters(model: HMM, parameters: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """The same model by other names: new state k is the old state order[k]. Asked of exchangeable states only.

    Args:
        model: whose parameters they are.
        parameters: one set, without draws.
        order: (K,) int64, a permutation.
    """
    emission = model.emission_parameters(parameters)
    declared = model.declared(emission)
    return {
        "initial": parameters["initial"][relabelled_codes(order, model.memory)],
        **model.transition.relabelled(parameters, order),
        **{name: value if declared[name].shared else value[order] for name, value in emission.items()},
    }


def what_names_states(model: HMM, series: Sequences) -> str:
    """What tells the states from each other besides their parameters' values, in words; empty where nothing does."""
    if series.labels is not None:
        return "the labels of the series"
    if not model.transition.exchangeable:
        return type(model.transition).__name__
    if not model.initial.exchangeable:
        return type(model.initial).__name__
    return f"the fixed {', '.join(model.fixed)}" if model.fixed else ""


def double_states(model: HMM, parameters: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Two states with the same emission and the same moves: a saddle that EM cannot leave, treating both alike."""
    declared = model.declared(model.emission_parameters(parameters))
    own = [parameters[name].reshape(model.states, -1) for name, spec in declared.items() if not spec.shared]
    if model.states == 1 or not own or not model.transition.exchangeable or model.fixed:
        return None
    rows = torch.cat(own, -1)
    for i in range(model.states):
        for j in range(i):
            if bool(torch.isclose(rows[i], rows[j], rtol=1e-9, atol=0.0).all()):
                return j, i
    return None
