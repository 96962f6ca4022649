"""Sequence models as Pyro programs."""

from probseq.models.beam_search import AverageLength, Beam, WuLength
from probseq.models.decoder import Decoder, Given
from probseq.models.hmm import HMM
from probseq.models.markov_fit import MarkovFit
from probseq.models.markov_model import MarkovModel, choose_order
from probseq.models.ngrams import KneserNey, MaximumLikelihood, PosteriorMean, WittenBell
from probseq.models.sentence_search import Greedy, Hypothesis, Sampling
from probseq.models.sequence_to_sequence import SequenceToSequence
from probseq.models.vocabulary import Vocabulary

__all__ = [
    "AverageLength",
    "Beam",
    "Decoder",
    "Given",
    "Greedy",
    "HMM",
    "Hypothesis",
    "KneserNey",
    "MarkovFit",
    "MarkovModel",
    "MaximumLikelihood",
    "PosteriorMean",
    "Sampling",
    "SequenceToSequence",
    "Vocabulary",
    "WittenBell",
    "WuLength",
    "choose_order",
]
