"""Priors as plain JSON and back: the name of a law and its arguments, so that a saved fit still knows its posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin

from probseq.families import InverseWishartCholesky
from probseq.families.links import LINKS, CoefficientPrior
from probseq.families.scale import InverseGamma
from probseq.families.von_mises import CircularVonMises

OWN: dict[str, Any] = {one.__name__: one for one in (CircularVonMises, InverseGamma, InverseWishartCholesky)}
"""Laws that are written differently here than in Pyro, or not at all there."""


def describe_priors(priors: Mapping[str, TorchDistributionMixin]) -> dict[str, Any]:
    """Each prior as its law, its arguments and how many of its batch dims are events; as text where that is not it all.

    >>> describe_priors({"rate": dist.Gamma(2.0, 0.5)})
    {'rate': {'law': 'Gamma', 'events': 0, 'concentration': 2.0, 'rate': 0.5}}
    """
    return {name: _describe(prior) for name, prior in priors.items()}


def rebuild_priors(described: Mapping[str, Any]) -> dict[str, TorchDistributionMixin]:
    """The priors that `describe_priors` described; those that are text only are left out.

    Raises:
        KeyError, TypeError, ValueError: no description of a law.
    """
    return {name: _rebuild(one) for name, one in described.items() if isinstance(one, Mapping)}


def _describe(prior: Any) -> Any:
    if isinstance(prior, CoefficientPrior):
        return _of_coefficients(prior)
    law, events = prior, 0
    while isinstance(law, dist.Independent):
        law, events = law.base_dist, events + law.reinterpreted_batch_ndims
    described: dict[str, Any] = {"law": type(law).__name__, "events": events}
    try:
        arguments = {name: torch.as_tensor(getattr(law, name)) for name in law.arg_constraints}
        if not all(bool(torch.isfinite(value).all()) for value in arguments.values()):  # JSON has no infinity
            return str(prior)
        described |= {name: value.tolist() for name, value in arguments.items()}
        again = _rebuild(described)
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return str(prior)
    inner = again.base_dist if events else again
    shapes = (again.batch_shape, again.event_shape) == (prior.batch_shape, prior.event_shape)
    return described if isinstance(inner, type(law)) and shapes else str(prior)


def _of_coefficients(prior: CoefficientPrior) -> Any:
    link = next((number for number, (_, known) in enumerate(LINKS) if known is prior.link), None)
    inner = _describe(prior.prior)
    if link is None or not isinstance(inner, dict):
        return str(prior)
    described: dict[str, Any] = {"law": "CoefficientPrior", "prior": inner, "link": link}
    return described | {
        "scales": prior.scales.tolist(),
        "copies": list(prior.copies),
        "batch": list(prior.batch_shape),
    }


def _rebuild(described: Mapping[str, Any]) -> Any:
    if described["law"] == "CoefficientPrior":
        scales = torch.tensor(described["scales"], dtype=torch.float64)
        shapes = tuple(described["copies"]), tuple(described["batch"])
        return CoefficientPrior(_rebuild(described["prior"]), LINKS[described["link"]][1], scales, *shapes)
    arguments = {
        name: torch.tensor(value, dtype=torch.float64)
        for name, value in described.items()
        if name not in ("law", "events")
    }
    kind: Any = OWN.get(described["law"]) or vars(dist)[described["law"]]
    if not (arguments and isinstance(kind, type) and issubclass(kind, TorchDistributionMixin)):
        raise KeyError(described["law"])
    law = kind(**arguments)
    return law.to_event(described["events"]) if described["events"] else law
