"""Enumerate the state sites of a Pyro program in parallel and collect what each step says about its state.

Every `StateSequence` site takes the value 0..K-1 on a new dim left of all plates, so that an observed site scores
as (K, T). Those scores are the log tables of the compiled recursions; the sites themselves are hidden from the
handlers outside, which see one factor for each chain in their place (`marginalize`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from probseq.chains.coupled_chains import coupled_law, digits_of
from probseq.chains.digits import Digit
from probseq.chains.state_sequence import StateSequence
from probseq.errors import ModelError

MIXES_STEPS = frozenset(
    ("__iter__", "__len__", "argsort", "bincount", "cat", "chunk", "concat", "concatenate", "cummax", "cummin")
    + ("cumprod", "cumsum", "diff", "flip", "fliplr", "flipud", "hstack", "index_select", "narrow", "numpy", "roll")
    + ("select", "sort", "split", "tensor_split", "tolist", "unbind", "unfold", "unique", "unique_consecutive")
)
"""Functions of torch that would take, move or join the steps of a path; an enumerated state has none."""


class EnumeratedStates(Tensor):
    """The values 0..K-1 on the enumeration dim. It is not a path: what works on its steps raises."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Elementwise functions and indexing with the state give plain tensors."""
        name = getattr(func, "__name__", "")
        own = name == "__getitem__" and isinstance(args[0], EnumeratedStates)
        if own or name in MIXES_STEPS:
            what = "an index on the state itself" if own else f"{name.strip('_')}() of the state"
            raise ModelError(
                f"A state that is summed out must not be indexed by step, got {what}; a site may depend on its own "
                "step's state only - use a chain whose states remember what the site needs."
            )
        with torch._C.DisableTorchFunctionSubclass():  # pyright: ignore[reportPrivateImportUsage]
            return func(*args, **(kwargs or {}))


class DeferredValue(Tensor):
    """Stands for an unobserved site that depends on a state; whatever is computed from it is of this type too."""


@dataclass(frozen=True, eq=False)
class StateSite:
    """One state site as the program met it.

    Args:
        name: of the site.
        law: its distribution.
        dim: its enumeration dim, negative.
        plates: name -> dim of the program's own plates that it stands in.
        scale: of the handlers inside the program.
    """

    name: str
    law: StateSequence
    dim: int
    plates: dict[str, int]
    scale: float | Tensor


@dataclass(frozen=True, eq=False)
class EnumeratedChain:
    """A state site, or several that observed sites couple, with the scores of the sites that depend on them.

    Args:
        sites: in the order of the program, which is that of their dims from right to left.
        law: of their path; of the tuples' codes where there are several (`coupled_chains`).
        scores: log-probabilities, each (..., plates..., T) with K states, or 1, at the dim of each site.
    """

    sites: tuple[StateSite, ...]
    law: StateSequence
    scores: list[Tensor] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the site, or of all, as messages quote them."""
        return "', '".join(site.name for site in self.sites)

    @property
    def plates(self) -> dict[str, int]:
        """Name -> dim of the program's own plates that all sites stand in."""
        return self.sites[0].plates

    @property
    def scale(self) -> float | Tensor:
        """Of the handlers inside the program, the same for all sites."""
        return self.sites[0].scale

    @property
    def digits(self) -> list[Digit]:
        """The place of each site's state in a value of the path."""
        return digits_of([site.law for site in self.sites])

    @property
    def log_table(self) -> Tensor:
        """(*lead, T, C) nats: log p(all that was observed at step t | z_t = c); lead are the batch dims -2, -3, ..."""
        law, lead = self.law, tuple(self.law.path_shape[:-1])
        if not self.scores:
            return torch.zeros((*law.path_shape, law.states), dtype=torch.float64)
        table = reduce(torch.add, self.scores)
        table = table.reshape((1,) * (-self.sites[-1].dim - table.dim()) + table.shape)
        shape = list(table.shape)
        for site in self.sites:
            shape[site.dim] = site.law.states
        states = [table.dim() + site.dim for site in reversed(self.sites)]
        others = [place for place in range(table.dim()) if place not in states]
        table = table.expand(shape).permute(*states, *others).reshape((law.states, *(shape[n] for n in others)))
        middle = list(table.shape[1:-1])
        while len(middle) > len(lead) and middle[0] == 1:
            middle.pop(0)
        lead = torch.broadcast_shapes(tuple(middle), lead)
        table = table.reshape((table.shape[0],) + (1,) * (len(lead) - len(middle)) + (*middle, table.shape[-1]))
        return table.expand((table.shape[0], *lead, law.total_steps)).movedim(0, -1)

    def codes(self, paths: Mapping[str, Tensor]) -> Tensor:
        """(..., T) the path of this chain out of the paths of its sites by name."""
        return sum(paths[site.name] * digit.stride for site, digit in zip(self.sites, self.digits, strict=True))  # pyright: ignore[reportReturnType]


class Enumerate(Messenger):
    """Give every unobserved state site its enumerated values and collect the scores that depend on them.

    Args:
        first_dim: the enumeration dim of the first chain; each further chain goes one to the left.
    """

    def __init__(self, first_dim: int) -> None:
        super().__init__()
        self.first_dim = first_dim
        self.chains: list[EnumeratedChain] = []
        self.deferred: set[str] = set()
        self.scored: set[str] = set()
        self.recorded: dict[str, Any] = {}
        self.plate_nesting = 0
        self._states: list[str] = []
        self._open: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        too_deep = [f for f in msg["cond_indep_stack"] if f.dim is not None and f.dim <= self.first_dim]
        if too_deep:
            raise ModelError(
                f"The plates of a program must go no deeper than when it first ran, got plate '{too_deep[0].name}' at "
                f"dim {too_deep[0].dim}; pass marginalize(program, max_plate_nesting={-too_deep[0].dim})."
            )
        self.plate_nesting = max([self.plate_nesting, *(-f.dim for f in msg["cond_indep_stack"] if f.dim)])
        if isinstance(msg["fn"], StateSequence):
            if not msg["is_observed"] and msg["value"] is None:
                self._enumerate(msg)
        elif msg["is_observed"]:
            depends = self.depends(msg)
            if not depends:
                self._require_no_hidden_state(msg)
            msg["stop"] = msg["stop"] or depends
        elif self.depends(msg):
            self.deferred.add(msg["name"])
            with torch.no_grad():
                msg["value"] = msg["fn"].sample().as_subclass(DeferredValue)
            msg["stop"] = msg["done"] = True
        else:
            self._open.add(msg["name"])

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.deferred or name in self._states:
            return
        if name in self._open:
            _restore_batch_dims(msg)
        elif self.depends(msg):
            self._score(msg)
            return
        self.recorded[name] = msg["value"]

    def _enumerate(self, msg: Any) -> None:
        law: StateSequence = msg["fn"]
        dim = self.first_dim - len(self._states)
        values = torch.arange(law.states).reshape((-1,) + (1,) * (-1 - dim))
        msg["value"] = values.as_subclass(EnumeratedStates)
        msg["stop"] = msg["done"] = True
        plates = {frame.name: frame.dim for frame in msg["cond_indep_stack"] if frame.dim is not None}
        self._states.append(msg["name"])
        self.chains.append(EnumeratedChain((StateSite(msg["name"], law, dim, plates, msg["scale"]),), law))

    def depends(self, msg: Any) -> bool:
        """Enumeration dims stand left of every plate, so a batch that reaches them depends on a state."""
        if not self.chains:
            return False
        rank = len(getattr(msg["fn"], "batch_shape", ()))
        return rank >= -self.first_dim or bool(self.deferred) and _uses_deferred(msg["fn"])

    def _require_no_hidden_state(self, msg: Any) -> None:
        """Refuse a site whose state was turned into a part of the event, where it would be summed over."""
        law, value = msg["fn"], msg["value"]
        if not self.chains or not isinstance(value, Tensor) or not hasattr(law, "shape"):
            return
        if len(law.shape()) >= -self.first_dim > value.dim():
            steps = self.chains[-1].law.total_steps
            raise ModelError(
                f"Site '{msg['name']}' must score step by step in a plate of its {steps} steps at dim -1, got a law of "
                f"shape {tuple(law.shape())} for a value of shape {tuple(value.shape)}; write "
                f"`with pyro.plate('step', {steps}):` around it and keep the steps out of to_event."
            )

    def _score(self, msg: Any) -> None:
        """Add an observed site's log-probability to the chain that it depends on."""
        log_prob = msg["fn"].log_prob(msg["value"])
        if isinstance(log_prob, DeferredValue):
            raise ModelError(
                f"Site '{msg['name']}' must depend on a state through observed sites only, got a dependence on one of "
                f"the unobserved sites {sorted(self.deferred)}; observe that site, or sum it out in the distribution."
            )
        if msg["mask"] is not None:
            log_prob = torch.where(torch.as_tensor(msg["mask"]), log_prob, torch.zeros((), dtype=log_prob.dtype))
        chain = self._chain_of(msg["name"], log_prob)
        steps = chain.law.total_steps
        in_step_plate = any(frame.dim == -1 and frame.size == steps for frame in msg["cond_indep_stack"])
        if not in_step_plate or log_prob.shape[-1] != steps:
            raise ModelError(
                f"Site '{msg['name']}' depends on the state '{chain.name}' and must score step by step in a plate of "
                f"its {steps} steps at dim -1, got log-probabilities of shape {tuple(log_prob.shape)}; write "
                f"`with pyro.plate('step', {steps}):` around it."
            )
        _check_scale(msg, chain)
        for frame in msg["cond_indep_stack"]:
            if frame.dim is not None and frame.dim != -1 and frame.name not in chain.plates:
                log_prob = log_prob.sum(frame.dim, keepdim=True)
        chain.scores.append(log_prob)
        self.scored.add(msg["name"])

    def _chain_of(self, name: str, log_prob: Tensor) -> EnumeratedChain:
        """The chain whose dims this score has; several that it touches become one."""
        rank = log_prob.dim()
        sites = [site for chain in self.chains for site in chain.sites]
        touched = [site for site in sites if rank >= -site.dim and log_prob.shape[site.dim] > 1]
        touched = touched or [site for site in sites if rank == -site.dim]
        for site in touched:
            if log_prob.shape[site.dim] != site.law.states:
                raise ModelError(
                    f"Site '{name}' must score each of the {site.law.states} values of '{site.name}', got "
                    f"{log_prob.shape[site.dim]} scores; do not slice or reduce the enumerated state."
                )
        found = [chain for chain in self.chains if any(site in touched for site in chain.sites)]
        if len(found) > 1:
            self.chains = [chain for chain in self.chains if chain not in found] + [_couple(found)]
            return self.chains[-1]
        return found[0]


def _couple(chains: Sequence[EnumeratedChain]) -> EnumeratedChain:
    """Chains that one site depends on, as one chain over the tuples of their states."""
    sites = tuple(sorted((site for chain in chains for site in chain.sites), key=lambda site: -site.dim))
    first = sites[0]
    for site in sites[1:]:
        if site.plates != first.plates or not _same(site.scale, first.scale):
            raise ModelError(
                f"States that one site depends on must stand in the same plates and under the same scale, got "
                f"{list(first.plates)} and {first.scale} for '{first.name}' but {list(site.plates)} and {site.scale} "
                f"for '{site.name}'; sample both in the same place."
            )
    law = coupled_law([site.name for site in sites], [site.law for site in sites])
    return EnumeratedChain(sites, law, [score for chain in chains for score in chain.scores])


def _same(left: Any, right: Any) -> bool:
    left, right = torch.as_tensor(left, dtype=torch.float64), torch.as_tensor(right, dtype=torch.float64)
    return bool((left == right).all())


def _uses_deferred(law: Any) -> bool:
    """Whether a distribution was made from a deferred value."""
    found = [value for value in vars(law).values() if isinstance(value, DeferredValue)]
    return bool(found) or (hasattr(law, "base_dist") and _uses_deferred(law.base_dist))


def _restore_batch_dims(msg: Any) -> None:
    """Give a value from outside the batch dims of its site.

    `Predictive(parallel=True)` hands over (S, K) for a site that the vectorising plate makes (S, 1, K).
    """
    value, shape = msg["value"], getattr(msg["fn"], "shape", None)
    if not isinstance(value, Tensor) or shape is None or isinstance(msg["fn"], StateSequence):
        return
    expected = shape()
    if value.shape != expected and value.dim() < len(expected) and value.numel() == expected.numel():
        msg["value"] = value.reshape(expected)


def _check_scale(msg: Any, chain: EnumeratedChain) -> None:
    """A scale weighs whole sequences, so a site and its state must stand under the same one."""

    weights = chain.law.step_weights()
    if _same(msg["scale"], chain.scale) or (weights is not None and _same(msg["scale"], chain.scale * weights)):
        return
    raise ModelError(
        f"Site '{msg['name']}' must stand under the same scale as its state '{chain.name}', got {msg['scale']} against "
        f"{chain.scale}; put both under one poutine.scale, and take minibatches by whole sequences (Sequences.take)."
    )
