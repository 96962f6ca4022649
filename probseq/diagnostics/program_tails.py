"""The law of every observed site of a user's program at each step, states summed out: what its residuals stand on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.enumeration import EnumeratedChain
from probseq.diagnostics.tails import LOST, Tails, tail
from probseq.errors import ModelError
from probseq.families import MixtureDistribution, ProductDistribution
from probseq.families.missing_entries import PartlyObserved
from probseq.families.student_t import TailedStudentT
from probseq.families.zero_laws import _ZeroLaw
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

ROUNDED = 1e-13
"""An upper tail that is one minus a cumulative probability has too few digits below this."""

NEGLIGIBLE = 45.0
"""Nats below the sum so far at which the terms of a tail of counts are no longer added."""

MOST_TERMS = 1_000_000
"""Terms of such a tail after which the law is said to have none."""


@dataclass(frozen=True, eq=False)
class ObservedSite:
    """An observed site as the program met it: its law under every state, its values, mask and plates."""

    name: str
    law: Any
    value: Tensor
    mask: Tensor | bool | None
    plates: tuple[Any, ...]


class ObservedSites(Messenger):
    """Write down the observed sites of a program."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[ObservedSite] = []

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] and isinstance(msg["value"], Tensor):
            plates = tuple(msg["cond_indep_stack"])
            self.sites.append(ObservedSite(msg["name"], msg["fn"], msg["value"], msg["mask"], plates))


def program_tails(
    model: ProgramModel, parameters: Mapping[str, Tensor], series: Sequences, side: str
) -> Iterator[tuple[str, Tails, np.ndarray]]:
    """Of every observed site that depends on a state, column by column: name, law at each step, and where it is known.

    Args:
        model: a program of one or more chains.
        parameters: one draw of its sites.
        series: the data.
        side: "cavity", given all other steps, or "predicted", given those before.

    Raises:
        ModelError: a site without a cumulative distribution, or one that looks at other steps' observations.
    """
    recorder = ObservedSites()
    with pyro.validation_enabled(False):  # pyright: ignore[reportGeneralTypeIssues]
        chains = model.chains(parameters, series, recorder)
        if side == "cavity":
            _require_own_steps(model, parameters, series, chains)
        weights = [getattr(_posterior(chain), side).log() for chain in chains]
        for site in recorder.sites:
            if site.name in parameters:
                continue
            for name, law, seen in _columns(site):
                found = next((c for c, chain in enumerate(chains) if _depends(law.less, chain)), None)
                if found is None:
                    continue
                at = [replace(chains[found], scores=[part]).log_table for part in (law.less, law.equal, law.more)]
                yield name, Tails(*at).mixed(weights[found]), seen.expand(len(at[0])).numpy()


def _posterior(chain: EnumeratedChain) -> Any:
    if chain.law.path_shape[:-1] or chain.log_table.dim() > 2:
        raise ModelError(
            f"Residuals must be of a chain without batch dims, got the plates {', '.join(chain.plates)} at "
            f"'{chain.name}'; hold the sequences flat, one after the other (series.lengths)."
        )
    return chain.law.posterior(chain.log_table)


def _depends(part: Tensor, chain: EnumeratedChain) -> bool:
    return any(part.dim() >= -site.dim and part.shape[site.dim] == site.law.states for site in chain.sites)


def _require_own_steps(
    model: ProgramModel, parameters: Mapping[str, Tensor], series: Sequences, chains: list[EnumeratedChain]
) -> None:
    """Refuse a program in which an observation changes the scores of other steps: ask it with one value changed."""
    values = series.values
    flat = values.reshape(len(values), -1)
    first = int(series.step_observed.to(torch.int8).argmax())
    other = (series.step_observed & (flat != flat[first]).any(1)).nonzero()
    if not len(other):
        return
    changed = values.clone()
    changed[first] = values[int(other[0])]
    after = model.chains(parameters, replace(series, values=changed))
    for chain, again in zip(chains, after, strict=True):
        moved = ~torch.isclose(chain.log_table, again.log_table, rtol=1e-9, atol=1e-9, equal_nan=True).all(-1)
        moved[first] = False
        if bool(moved.any()):
            raise ModelError(
                f"Ordinary residuals must be of observations that no later one depends on, got a program whose scores "
                f"at step {int(moved.nonzero()[0])} change with the observation of step {first}; use "
                "forecast_residuals."
            )


def _columns(site: ObservedSite) -> Iterator[tuple[str, Tails, Tensor]]:
    """The univariate columns of a site: name, tails with the dims of its scores, and (T,) where it is known."""
    parts = law_tails(site.law, site.value, site.name)
    outer = [frame for frame in site.plates if frame.dim is not None and frame.dim < -1]
    for number, (tails, known) in enumerate(parts):
        name = site.name if len(parts) == 1 else f"{site.name}_{number}"
        known = known if site.mask is None else known & site.mask
        if not outer:
            yield name, tails, known.reshape(known.shape[-1:])
            continue
        for place in np.ndindex(*(frame.size for frame in outer)):
            one = tails
            chosen = known
            for frame, at in zip(outer, place, strict=True):
                one = Tails(*(_at(part, frame.dim, at) for part in (one.less, one.equal, one.more)))
                chosen = _at(chosen, frame.dim, at)
            yield f"{name}_{'_'.join(map(str, place))}", one, chosen.reshape(chosen.shape[-1:])


def _at(part: Tensor, dim: int, place: int) -> Tensor:
    """One place of a plate, its dim kept."""
    if part.dim() < -dim or part.shape[dim] == 1:
        return part
    return part.narrow(dim, place, 1)


# ---- laws of torch and pyro -----------------------------------------------------------------------------------------


def law_tails(law: Any, value: Tensor, name: str) -> list[tuple[Tails, Tensor]]:
    """For each column of a law's event, its tails at the value (batch dims of the law) and where the value is known."""
    if isinstance(law, dist.MaskedDistribution):
        return [(tails, known & law._mask) for tails, known in law_tails(law.base_dist, value, name)]
    if isinstance(law, PartlyObserved):
        return law_tails(law.whole, value, name)
    if isinstance(law, ProductDistribution):
        return [law_tails(one, value[..., d], name)[0] for d, one in enumerate(law.columns)]
    known = ~value.isnan()
    value = torch.where(known, value, value[known][0] if bool(known.any()) else 0.0).double()
    if not law.event_shape:
        return [(_univariate(law, value, name), known)]
    whole = _univariate(_column_law(law, name), value, name)
    parts = zip(whole.less.unbind(-1), whole.equal.unbind(-1), whole.more.unbind(-1), known.unbind(-1), strict=True)
    return [(Tails(less, equal, more), seen) for less, equal, more, seen in parts]


def _column_law(law: Any, name: str) -> Any:
    """The laws of the columns of a vector, each by itself, as one law with the columns as its last batch dim."""
    if isinstance(law, torch.distributions.MultivariateNormal):
        return dist.Normal(law.loc, law.variance.sqrt())
    if isinstance(law, dist.MultivariateStudentT):
        return TailedStudentT(law.df.unsqueeze(-1), law.loc, law.scale_tril.square().sum(-1).sqrt())
    if isinstance(law, torch.distributions.Independent) and law.reinterpreted_batch_ndims == 1:
        return law.base_dist
    raise _no_cdf(law, name)


def _no_cdf(law: Any, name: str) -> ModelError:
    return ModelError(
        f"A residual must be of a site whose law has a cumulative distribution, got {type(law).__name__} at '{name}'; "
        "use a law with .cdf, or one of probseq.families (family.distribution(...))."
    )


def _univariate(law: Any, value: Tensor, name: str) -> Tails:
    """The tails of single numbers, in the batch dims of the law."""
    if law.event_shape:
        raise _no_cdf(law, name)
    value = value.expand(torch.broadcast_shapes(law.batch_shape, value.shape))
    if law.support.is_discrete:
        return _counted(law, value, name)
    if isinstance(law, torch.distributions.Normal):
        deviation = (value - law.loc) / law.scale
        below, above = torch.special.log_ndtr(deviation), torch.special.log_ndtr(-deviation)
        return Tails(below, torch.full_like(below, -math.inf), above)
    try:
        share = law.cdf(value).double().clamp(0.0, 1.0)
    except NotImplementedError as error:
        raise _no_cdf(law, name) from error
    atom = torch.where((value == 0) & _has_zero(law), law.log_prob(value).double(), -math.inf)
    ends = []
    for part, least, sign in ((share - atom.exp(), LOST, -1), (1.0 - share, ROUNDED, 1)):
        lost = (part < least) & (atom == -math.inf)
        logs = part.clamp_min(0.0).log()
        if bool(lost.any()):
            found = tail(lambda flat: _density(law, flat, value.shape), value.reshape(-1), sign, False)
            found = found.reshape(value.shape)
            logs = torch.where(lost & (found > -math.inf), found, logs)
        ends.append(logs)
    return Tails(ends[0], atom, ends[1])


def _density(law: Any, flat: Tensor, shape: torch.Size) -> Tensor:
    """The log density at values (M,) of this shape; -inf where there is none."""
    return law.log_prob(flat.reshape(shape)).double().reshape(-1).nan_to_num(nan=-math.inf)


def _has_zero(law: Any) -> bool:
    """Whether a continuous law has a chance of exactly zero."""
    return isinstance(law, _ZeroLaw) or isinstance(law, MixtureDistribution) and _has_zero(law.components)


def _counted(law: Any, value: Tensor, name: str) -> Tails:
    """By adding up the probabilities of whole numbers."""
    support: Any = law.support
    bounds = (0, 1) if support is constraints.boolean else (0, math.inf)
    lower = torch.as_tensor(getattr(support, "lower_bound", bounds[0]))
    upper = torch.as_tensor(getattr(support, "upper_bound", bounds[1]))
    less, equal, more = (torch.full(value.shape, -math.inf, dtype=torch.float64) for _ in range(3))
    x, last = int(lower.min()), float(value.max())
    while x <= float(upper.max()):
        here = _density(law, torch.full_like(value, float(x)).reshape(-1), value.shape).reshape(value.shape)
        here = torch.where(lower.le(x) & upper.ge(x), here, -math.inf)
        less = torch.where(value > x, torch.logaddexp(less, here), less)
        equal = torch.where(value == x, here, equal)
        more = torch.where(value < x, torch.logaddexp(more, here), more)
        if x > last and bool((here <= more - NEGLIGIBLE).all()):
            break
        if x > last + MOST_TERMS:
            raise _no_cdf(law, name)
        x += 1
    return Tails(less, equal, more)
