"""Sequence models as Pyro programs."""

from probseq.models.hmm import HMM
from probseq.models.markov_fit import MarkovFit
from probseq.models.markov_model import MarkovModel, choose_order
from probseq.models.ngrams import KneserNey, MaximumLikelihood, PosteriorMean, WittenBell

__all__ = [
    "HMM",
    "KneserNey",
    "MarkovFit",
    "MarkovModel",
    "MaximumLikelihood",
    "PosteriorMean",
    "WittenBell",
    "choose_order",
]
