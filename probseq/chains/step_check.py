"""Does every site depend on the state of its own step only? A program is asked once, before its states are summed out.

Enumerated, a step scores each state without knowing the others. So for any path the sites must score what the
enumerated tables hold along it; a site that shifts, joins or reduces the steps of its state does not, however it
was written. One random path tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from probseq.chains.enumeration import Enumerate
from probseq.errors import ModelError

ROUNDING = 1e-6
"""Share of the sum of absolute scores that float32 programs may differ by between the two readings."""


class Scores(Messenger):
    """Add up what observed sites score, unscaled.

    Args:
        counts: which sites to add; every one by default.
    """

    def __init__(self, counts: Callable[[Any], bool] = lambda msg: True) -> None:
        super().__init__()
        self.counts = counts
        self.total, self.size = 0.0, 0.0

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] and self.counts(msg):
            self.add(msg["fn"].log_prob(msg["value"]), msg["mask"])

    def add(self, log_prob: Tensor, mask: Any = None) -> None:
        """Add a tensor of scores, those that are masked left out."""
        if mask is not None:
            log_prob = torch.where(torch.as_tensor(mask), log_prob, torch.zeros((), dtype=log_prob.dtype))
        self.total += float(log_prob.double().sum())
        self.size += float(log_prob.double().abs().sum())


class _Given(Messenger):
    """Give the sites that are not observed known values, and hide all from the handlers outside."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["value"] = self.values.get(msg["name"], msg["value"])
        msg["stop"] = True


def check_steps(program: Callable[[], Any], reading: Enumerate, others: Scores) -> None:
    """Refuse a program in which a site depends on the states of other steps.

    Args:
        program: as it was read, with its arguments.
        reading: its enumerated reading, whose values are used again.
        others: what the observed sites scored that depend on no state.

    Raises:
        ModelError: the scores along a random path are not those of the enumerated tables.
    """
    if not reading.chains:
        return
    sites = [site for chain in reading.chains for site in chain.sites]
    paths = {site.name: torch.randint(site.law.states, site.law.path_shape) for site in sites}
    for chain in reading.chains:
        table = chain.log_table
        others.add(table.gather(-1, chain.codes(paths).expand(table.shape[:-1]).unsqueeze(-1)))
    along = _along(program, paths | reading.recorded)
    if _same(along, others):
        return
    if not _same(along, _along(program, paths | reading.recorded)):
        return  # the program draws numbers of its own (dropout): nothing can be told
    names = ", ".join(f"'{name}'" for name in paths)
    raise ModelError(
        f"Every site must depend on its own step's state only, got along a random path of {names} the log-probability "
        f"{along.total:.6g} where the enumerated states give {others.total:.6g}; do not shift, join or reduce the "
        "steps of a state - use a chain whose states remember what the site needs."
    )


def _along(program: Callable[[], Any], values: dict[str, Any]) -> Scores:
    with _Given(values), Scores() as scores:
        program()
    return scores


def _same(left: Scores, right: Scores) -> bool:
    """Equal up to rounding; where a score is impossible or undefined, nothing can be told."""
    if not (math.isfinite(left.size) and math.isfinite(right.size)):
        return True
    return abs(left.total - right.total) <= ROUNDING * (1.0 + left.size + right.size)
