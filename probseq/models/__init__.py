"""Sequence models as Pyro programs."""

from probseq.models.beam_search import AverageLength, Beam, WuLength
from probseq.models.captioning import Captioner
from probseq.models.decoder import Decoder, Given
from probseq.models.hmm import HMM
from probseq.models.image_encoder import ConvolutionalEncoder
from probseq.models.markov_fit import MarkovFit
from probseq.models.markov_model import MarkovModel, choose_order
from probseq.models.ngrams import KneserNey, MaximumLikelihood, PosteriorMean, WittenBell
from probseq.models.phrase_states import PrincipalComponents, phrase_states, principal_components, variance_shares
from probseq.models.recurrent_model import RecurrentModel
from probseq.models.sentence_search import Greedy, Hypothesis, Sampling
from probseq.models.sequence_classifier import SequenceClassifier
from probseq.models.sequence_to_sequence import SequenceToSequence
from probseq.models.stopping import LengthLaw
from probseq.models.tracking import FrameTracker
from probseq.models.video_captioning import VideoCaptioner, transferred
from probseq.models.vocabulary import Vocabulary

__all__ = [
    "AverageLength",
    "Beam",
    "Captioner",
    "ConvolutionalEncoder",
    "Decoder",
    "FrameTracker",
    "Given",
    "Greedy",
    "HMM",
    "Hypothesis",
    "KneserNey",
    "LengthLaw",
    "MarkovFit",
    "MarkovModel",
    "MaximumLikelihood",
    "PosteriorMean",
    "PrincipalComponents",
    "RecurrentModel",
    "Sampling",
    "SequenceClassifier",
    "SequenceToSequence",
    "VideoCaptioner",
    "Vocabulary",
    "WittenBell",
    "WuLength",
    "choose_order",
    "phrase_states",
    "principal_components",
    "transferred",
    "variance_shares",
]
