"""Ways to fit a model: each returns a `Fit`."""

from probseq.inference.expectation_maximisation import em
from probseq.inference.fit import Attempt, Fit
from probseq.inference.gibbs import gibbs
from probseq.inference.sampling import Sampling
from probseq.inference.selection import Selection, select
from probseq.inference.variational import svi

__all__ = ["Attempt", "Fit", "Sampling", "Selection", "em", "gibbs", "select", "svi"]
