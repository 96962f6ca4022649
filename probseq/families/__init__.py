"""Emission families: the law of one observation given the parameters of a hidden state, written once for every model.

>>> import torch
>>> from probseq import families
>>> rain = torch.tensor([0.2, 1.5, 3.0, 0.7], dtype=torch.float64)
>>> gamma = families.Gamma()
>>> start = gamma.pooled(rain, states=2)
>>> gamma.log_prob(rain, start).shape
torch.Size([4, 2])
"""

from probseq.families.family import Family, Parameter, Parameters, Priors
from probseq.families.gamma import Gamma
from probseq.families.gaussian import Gaussian, LogNormal
from probseq.families.poisson import Poisson
from probseq.families.symbols import Bernoulli, Categorical

__all__ = [
    "Bernoulli",
    "Categorical",
    "Family",
    "Gamma",
    "Gaussian",
    "LogNormal",
    "Parameter",
    "Parameters",
    "Poisson",
    "Priors",
]
