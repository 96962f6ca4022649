"""Chains that cannot meet at a site: each reason is said with the sites, and what is in the way."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from probseq import MarkovChain, ModelError, marginalize
from probseq.chains import coupled_chains

MEASURES = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
HALF = torch.full((2,), 0.5, dtype=torch.float64)


def crossed(first: MarkovChain, second: MarkovChain, scale: float = 1.0):
    def program():
        with poutine.scale(scale=scale):
            one = pyro.sample("one", first)
        other = pyro.sample("other", second)
        with pyro.plate("step", 3):
            pyro.sample("y", dist.Normal((one + other).double(), 1.0), obs=MEASURES)

    return marginalize(program)


def test_chains_that_cannot_meet_are_refused(monkeypatch):
    matrix = HALF.expand(2, 2)
    chain = MarkovChain(HALF, matrix, 3)
    with pytest.raises(ModelError, match=r"same sequences, got lengths \[3\] and \[1, 2\] for 'one', 'other'"):
        crossed(chain, MarkovChain(HALF, matrix, [1, 2]))()
    with pytest.raises(ModelError, match="must weigh the sequences alike"):
        crossed(chain, MarkovChain(HALF, matrix, 3, weights=torch.ones(1).double()))()
    with pytest.raises(ModelError, match="same plates and under the same scale, got .* 2.0 for 'one' but .* 1.0 for"):
        crossed(chain, chain, scale=2.0)()
    monkeypatch.setattr(coupled_chains, "MOST_ENTRIES", 15)
    with pytest.raises(ModelError, match="at most 3 states together.* got 4 with 1 matrices for 'one', 'other'"):
        crossed(chain, chain)()
