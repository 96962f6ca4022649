"""Sum the discrete states out of a Pyro program: `marginalize(program)` is an ordinary continuous Pyro model.

The states of each `StateSequence` site are enumerated in parallel, every observed site scores all of them at once,
and the compiled forward pass sums over paths exactly. What handlers outside see is the program without its states,
plus one factor, under the state's own name, that is log p(observed | everything else). SVI with any guide, MAP and
NUTS then run on it unchanged.

Where log-probabilities are not wanted (`pyro.infer.Predictive` masks them), the states are drawn from their law
given the data, and sites that depend on them and are not observed are drawn after them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK, get_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from probseq.chains.enumeration import Enumerate, EnumeratedChain
from probseq.chains.replay import Replay
from probseq.chains.state_sequence import weighted_sum
from probseq.chains.step_check import Scores, check_steps
from probseq.errors import ModelError

_MEASURING_DIM = -16  # left of any plate that a program may have


def marginalize(program: Callable[..., Any], *, max_plate_nesting: int | None = None) -> Callable[..., Any]:
    """The same program with every state site summed out.

    Works on any program with one or more `StateSequence` sites, independent of each other given the parameters, and any
    number of observed sites in a plate of the steps at dim -1. Chains that one site depends on are summed out together,
    exactly, over the product of their states; the first of them carries the factor. To condition or intervene on a
    state, do so inside: `marginalize(pyro.condition(program, {"state": path}))`; a value for a state from outside
    raises.

    Args:
        program: a Pyro program.
        max_plate_nesting: how deep the program's own plates go; None measures it by one silent run.

    Returns:
        A Pyro program with the same arguments. It returns what `program` returns.

    Raises:
        ModelError: (when run) a site whose dependence on the state cannot be summed out, each with the remedy.
    """
    nesting = PlateNesting(program, max_plate_nesting)

    @functools.wraps(program)
    def marginal(*args: Any, **kwargs: Any) -> Any:
        predict = get_mask() is False
        reading, result = read(program, nesting, *args, **kwargs)
        if not predict:
            for chain in reading.chains:
                factor = log_factor(chain)
                for site in chain.sites:
                    _emit(site.name, factor, nesting.frame(site.name))
                    factor = torch.zeros_like(factor)  # one factor for all that are coupled
        if not (predict and reading.chains) and not reading.deferred:
            return result
        with Replay(reading, predict, nesting.frame):
            return program(*args, **kwargs)

    return marginal


class PlateNesting:
    """How many dims a program's own plates take; measured on first use, when the program is also checked."""

    def __init__(self, program: Callable[..., Any], known: int | None) -> None:
        self.program, self.known, self.checked = program, known, False

    def measure(self, *args: Any, **kwargs: Any) -> int:
        if not self.checked:
            program = functools.partial(self.program, *args, **kwargs)
            silent = torch.random.fork_rng(devices=[]), torch.no_grad(), pyro.poutine.block()
            with silent[0], silent[1], silent[2]:
                with Enumerate(_MEASURING_DIM) as reading, Scores(lambda msg: not reading.depends(msg)) as others:
                    program()
                check_steps(program, reading, others)
            self.known = max(1, reading.plate_nesting) if self.known is None else self.known
            self.checked = True
        assert self.known is not None
        return self.known

    def frame(self, name: str) -> CondIndepStackFrame:
        """A plate of size one over all dims that the program's hidden sites took.

        Whoever stands outside and looks for room for a plate of its own (`vectorize_particles`, `Predictive`) goes
        by the plates of the sites that it sees.
        """
        assert self.known is not None
        return CondIndepStackFrame(f"_plates_of_{name}", -self.known, 1, 0)


def read(program: Callable[..., Any], nesting: PlateNesting, *args: Any, **kwargs: Any) -> tuple[Enumerate, Any]:
    """Run a program with its states enumerated left of its own plates and of all plates it stands in."""
    depth = max(nesting.measure(*args, **kwargs), len(_DIM_ALLOCATOR._stack), 1)
    with Enumerate(-1 - depth) as reading:
        result = program(*args, **kwargs)
    return reading, result


def latent_names(trace: Trace) -> list[str]:
    """The sites that were drawn and neither observed nor made by a plate: the parameters of a marginalised program."""
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and type(site["fn"]).__name__ != "_Subsample"
    ]


def log_factor(chain: EnumeratedChain) -> Tensor:
    """log p(x | all else) of one chain, weighted and scaled, with the dims of the plates around the program left."""
    total = weighted_sum(chain.law.evidence(chain.log_table), chain.law.weights)
    if total.dim() == 0:
        return total * chain.scale
    total = total.unsqueeze(-1) * chain.scale
    for dim in chain.plates.values():
        if -dim <= total.dim():
            total = total.sum(dim, keepdim=True)
    return total


class SummedOut(dist.Unit):
    """What is left of a state site: its factor, and no value."""

    def log_prob(self, value: Tensor) -> Tensor:
        _require_no_value("", value)
        return super().log_prob(value)


class _Framed(Messenger):
    """Put a site into a plate."""

    def __init__(self, frame: CondIndepStackFrame) -> None:
        super().__init__()
        self.frame = frame

    def _pyro_sample(self, msg: Any) -> None:
        msg["cond_indep_stack"] = (self.frame, *msg["cond_indep_stack"])


def _emit(name: str, factor: Tensor, frame: CondIndepStackFrame) -> None:
    assert frame.dim is not None
    law = SummedOut(factor.reshape((1,) * (-frame.dim - factor.dim()) + tuple(factor.shape)))
    with _Framed(frame):
        value: Any = pyro.sample(name, law, obs=law.sample(), infer={"is_auxiliary": True})
    for handler in _PYRO_STACK:  # one that replays does not say so at a site that is observed
        replayed = handler.trace.nodes.get(name) if isinstance(handler, ReplayMessenger) and handler.trace else None
        if replayed is not None and replayed["type"] == "sample" and not replayed["is_observed"]:
            value = replayed["value"]
    _require_no_value(f" '{name}'", value)


def _require_no_value(name: str, value: Tensor) -> None:
    if value.numel():
        raise ModelError(
            f"State site{name} is summed out and must not be given a value, got one of shape {tuple(value.shape)}; "
            "condition or intervene first, then marginalise: marginalize(pyro.condition(program, data))."
        )
