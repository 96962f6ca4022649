"""Ways to fit a model: each returns a `Fit`."""

from probseq.inference.expectation_maximisation import em
from probseq.inference.fit import Attempt, Fit
from probseq.inference.gibbs import gibbs
from probseq.inference.joining import join_chains
from probseq.inference.laplace import laplace
from probseq.inference.network_fit import NetworkFit
from probseq.inference.nuts import nuts
from probseq.inference.pyro_nuts import pyro_nuts
from probseq.inference.sampling import Sampling
from probseq.inference.selection import Selection, select
from probseq.inference.training import train
from probseq.inference.variational import svi

__all__ = [
    "Attempt",
    "Fit",
    "NetworkFit",
    "Sampling",
    "Selection",
    "em",
    "gibbs",
    "join_chains",
    "laplace",
    "nuts",
    "pyro_nuts",
    "select",
    "svi",
    "train",
]
