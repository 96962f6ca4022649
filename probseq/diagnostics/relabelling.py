"""Draws of a posterior by the same names of the states, and whether their chains agree once they are.

The posterior of a model with K exchangeable states is the same under all K! names of them, so that a sampler may name
them otherwise in each draw: means are then means over different states, and R-hat compares different states with each
other (Papastamoulis 2016). Relabelling chooses one permutation for each draw. By what is chosen is a matter of taste:
the states' probabilities (`relabelling_by_states`), their parameters (`relabel_pivotal`), or the order of one parameter
(`relabel_by`). Nothing is gained where a chain found another mode that is no renaming: that is said in a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.diagnostics.convergence import convergence_of
from probseq.errors import DataError, ModelError
from probseq.inference.fit import Fit
from probseq.inference.sampling import Sampling
from probseq.inference.simulation import draw_of
from probseq.models.hmm import HMM
from probseq.models.point import mean_of_draws
from probseq.models.renaming import Renaming, renaming
from probseq.sequences import Sequences

MIXED = 1.05
"""An R-hat above this says that chains are in different modes, and not only that there are few draws."""

States = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Relabelled:
    """A fit whose draws have their states by the same names.

    Args:
        fit: with permuted draws; its point is their mean, and `fit.sampling.relabelled` says how they were matched.
            Draws of the warm-up stay as they were.
        permutations: (S, K) int64: state k of draw s was state permutations[s, k].
        convergence: one row for each number, as in `transition[0, 1]`: `rhat`, `ess_bulk`, `ess_tail` (in draws) and
            `split` (whether its density has several modes), each `_before` and `_after`.
    """

    fit: Fit
    permutations: Tensor = field(repr=False)
    convergence: pd.DataFrame = field(repr=False)

    @property
    def renamed(self) -> float:
        """The share of draws that had other names than most."""
        _, counts = self.permutations.unique(dim=0, return_counts=True)
        return 1.0 - float(counts.max()) / len(self.permutations)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """The numbers whose draws still fall apart: R-hat above 1.05, or several modes."""
        after = self.convergence
        apart = (after["rhat_after"] > MIXED) | after["split_after"].eq(True)
        return tuple(str(name) for name in after.index[apart])


def relabel_pivotal(fit: Fit, series: Sequences | None = None, *, states: States | None = None) -> Relabelled:
    """The pivotal reordering of Marin, Mengersen and Robert (2005): each draw is brought closest to the fit's point.

    Closeness is the scalar product of the states' own parameters: those of the emission and the chance of staying of an
    HMM; of a program every site with one axis of states, and the diagonal of those with two. Each is in units of its
    standard deviation over draws, that of its K values in ascending order, which no renaming touches. It costs no pass
    over the data.

    Args:
        fit: with draws.
        series: the data; None is the one that was fitted.
        states: of a user's program, site -> the axes of its value that are states; None finds them.

    Raises:
        ModelError: the states are told apart by something, or `states` is needed and missing.
    """
    data, names = opened(fit, series, states)
    pivot = pivot_of(fit, data)
    everything = {name: torch.cat([pivot[name].unsqueeze(0), value]) for name, value in fit.draws.items()}
    marks = _marks(names, everything, data)
    centre, spread = marks.mean((0, 1)), marks.sort(1).values.var(0, correction=0).mean(0).sqrt()
    marks = torch.where(spread > 0, (marks - centre) / torch.where(spread > 0, spread, 1.0), 0.0)
    likeness = torch.einsum("kf,sjf->skj", marks[0], marks[1:])
    return relabelled(fit, data, names, assign(likeness), "pivotal")


def relabel_by(
    fit: Fit,
    parameter: str | Callable[[dict[str, Tensor]], Tensor],
    series: Sequences | None = None,
    *,
    states: States | None = None,
) -> Relabelled:
    """The states of each draw in the ascending order of one of their parameters.

    An order cuts through the posterior wherever two states have close values, so that it is the right choice only for
    a parameter that keeps all states apart.

    Args:
        fit: with draws.
        parameter: the name of one with a number for each state, or a function of one draw's parameters that gives (K,)
            numbers, such as `lambda draw: draw["loc"][:, 0]`.
        series: the data; None is the one that was fitted.
        states: of a user's program, site -> the axes of its value that are states; None finds them.

    Raises:
        ModelError: there is no such parameter, or it is not one number a state; or the states cannot be exchanged.
    """
    data, names = opened(fit, series, states)
    if isinstance(parameter, str):
        if parameter not in fit.draws:
            raise ModelError(f"parameter must be one of {', '.join(fit.draws)}, got {parameter!r}; or give a function.")
        keys, called = fit.draws[parameter], parameter
    else:
        keys = torch.stack([torch.as_tensor(parameter(draw_of(fit.draws, s))) for s in range(fit.n_draws)])
        called = getattr(parameter, "__name__", "a function")
    if tuple(keys.shape[1:]) != (names.states,):
        raise ModelError(
            f"A parameter to order by must be one number for each of the {names.states} states, got shape "
            f"{tuple(keys.shape[1:])} of {called}; give a function of a draw's parameters that picks or makes one."
        )
    return relabelled(fit, data, names, torch.argsort(keys, dim=1, stable=True), f"by {called}")


# ---- what all ways of relabelling share ------------------------------------------------------------------------------


def opened(fit: Fit, series: Sequences | None, states: States | None) -> tuple[Sequences, Renaming]:
    """The data of a fit, and how the states of its model are renamed."""
    data = fit.data(series)
    if data.fingerprint() != fit.fingerprint:
        raise DataError("A fit must be relabelled with the series that was fitted, got another one; pass that series.")
    return data, renaming(fit.model, draw_of(fit.draws, 0), data, states)


def pivot_of(fit: Fit, data: Sequences) -> dict[str, Tensor]:
    """The point that gives the states their names: the fit's own, an HMM's states by ascending mean."""
    return fit.model.ordered(dict(fit.parameters), data)


def assign(likeness: Tensor) -> Tensor:
    """(S, K) permutations with the highest sum_k likeness[s, k, permutation[s, k]], each by linear assignment.

    >>> assign(torch.tensor([[[0.0, 3.0], [1.0, 0.0]]]))
    tensor([[1, 0]])
    """
    from scipy.optimize import linear_sum_assignment

    found = [linear_sum_assignment(one, maximize=True)[1] for one in likeness.numpy()]
    return torch.from_numpy(np.stack(found).astype(np.int64))


def relabelled(fit: Fit, data: Sequences, names: Renaming, permutations: Tensor, how: str) -> Relabelled:
    """The record of a relabelling; it warns where draws fall apart all the same."""
    draws = names.apply_each(fit.draws, permutations)
    point = mean_of_draws(fit.model, draws, data)
    sampling = replace(fit.sampling or Sampling(1, {}), relabelled=how)
    renamed = replace(
        fit,
        parameters=point,
        draws=draws,
        log_likelihood=fit.model.expect(point, data).log_likelihood,
        sampling=sampling,
    )
    both = {"before": fit.draws, "after": draws}
    tables = [convergence_of(one, sampling.chains).add_suffix(f"_{when}") for when, one in both.items()]
    found = Relabelled(renamed, permutations, pd.concat(tables, axis=1))
    if found.unresolved:
        rhat = found.convergence["rhat_after"]
        listed = [f"{name} (R-hat {rhat[name]:.2f})" for name in found.unresolved]
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        warnings.warn(
            f"Relabelling ({how}) left several modes in {', '.join(listed[:5])}{more}: they are no renaming of the "
            "states; look at the chains one by one, sample for longer, or choose fewer states or stronger priors.",
            stacklevel=3,
        )
    return found


def _marks(names: Renaming, draws: Mapping[str, Tensor], data: Sequences) -> Tensor:
    """(S, K, F) what tells each state from the others, in numbers of its own."""
    model = names.model
    if isinstance(model, HMM):
        declared = model.declared(draw_of(draws, 0))
        own = [draws[name] for name, one in declared.items() if not one.shared]
        if model.memory == 1 and not model.transition.design:
            own.append(model.transition.tables(draws, data)[0].squeeze(-3).diagonal(dim1=-2, dim2=-1))
    else:
        single = {name: axes[0] + 1 for name, axes in names.axes.items() if len(axes) == 1}
        own = [draws[name].movedim(axis, 1) for name, axis in single.items()]
        double = {name: (axes[0] + 1, axes[1] + 1) for name, axes in names.axes.items() if len(axes) == 2}
        own += [draws[name].diagonal(dim1=one, dim2=two).movedim(-1, 1) for name, (one, two) in double.items()]
    return torch.cat([value.reshape(len(value), names.states, -1).double() for value in own], -1)
