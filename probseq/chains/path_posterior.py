"""`posterior(program, parameters)`: filtered, smoothed, Viterbi and sampled paths of any program's states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from probseq.chains.marginalization import PlateNesting, latent_names, read
from probseq.chains.state_posterior import StatePosterior
from probseq.errors import ModelError


def posterior(
    program: Callable[..., Any], parameters: Mapping[str, Tensor] | None = None
) -> Callable[..., dict[str, StatePosterior]]:
    """The law of a program's hidden paths given its observed sites and its parameters.

    Args:
        program: a Pyro program with one or more state sites; not marginalised.
        parameters: value of every continuous site, such as a guide's median or one posterior draw.

    Returns:
        A function of the program's arguments that returns state site -> `StatePosterior`. Of chains that a site
        couples, each answers for itself out of their joint law: its marginals, and its part of the paths.

    Raises:
        ModelError: (when called) the program has no state site, or a site was left without a value.
    """
    nesting = PlateNesting(program, None)

    def decode(*args: Any, **kwargs: Any) -> dict[str, StatePosterior]:
        given = pyro.condition(program, dict(parameters or {}))  # pyright: ignore[reportArgumentType]
        with torch.no_grad(), pyro.poutine.block(), pyro.poutine.trace() as trace:
            reading, _ = read(given, nesting, *args, **kwargs)
        free = latent_names(trace.trace)
        if free:
            raise ModelError(
                f"Every parameter must be given to decode, got no value for {', '.join(free)}; pass them in parameters."
            )
        if not reading.chains:
            raise ModelError(
                "A program to decode must have a state site that is not observed, got none; sample one from a "
                "MarkovChain."
            )
        found = {}
        for chain in reading.chains:
            joint = chain.law.posterior(chain.log_table)
            for site, digit in zip(chain.sites, chain.digits, strict=True):
                found[site.name] = joint if len(chain.sites) == 1 else joint.of(digit)
        return found

    return decode
