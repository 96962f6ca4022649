"""Path distributions and the handlers that sum them out."""

from probseq.chains.chain_evidence import evidence
from probseq.chains.digits import Digit
from probseq.chains.durations import DurationLaw, FreeDurations, Geometric, ShiftedNegativeBinomial, ShiftedPoisson
from probseq.chains.higher_order_chain import HigherOrderMarkovChain
from probseq.chains.higher_order_law import HigherOrderTransitions
from probseq.chains.initial_laws import FixedInitial, FreeInitial, InitialLaw, StationaryInitial
from probseq.chains.laws import mean_stay, stationary_law
from probseq.chains.logit_transitions import LogitTransitions
from probseq.chains.marginalization import marginalize
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.matrix_laws import (
    FixedTransitions,
    ForbiddenTransitions,
    FreeTransitions,
    LeftRightTransitions,
    StickyTransitions,
)
from probseq.chains.passage_times import hitting_law, hitting_times, occupancy
from probseq.chains.path_posterior import posterior
from probseq.chains.product_transitions import ProductTransitions
from probseq.chains.semi_markov_chain import SemiMarkovChain
from probseq.chains.semi_markov_posterior import SemiMarkovPosterior
from probseq.chains.semi_markov_transitions import SemiMarkovTransitions
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import ChainCounts, StateSequence
from probseq.chains.tied_transitions import TiedTransitions
from probseq.chains.transition_laws import TransitionLaw

__all__ = [
    "ChainCounts",
    "Digit",
    "DurationLaw",
    "FixedInitial",
    "FixedTransitions",
    "ForbiddenTransitions",
    "FreeDurations",
    "FreeInitial",
    "FreeTransitions",
    "Geometric",
    "HigherOrderMarkovChain",
    "HigherOrderTransitions",
    "InitialLaw",
    "LeftRightTransitions",
    "LogitTransitions",
    "MarkovChain",
    "ProductTransitions",
    "SemiMarkovChain",
    "SemiMarkovPosterior",
    "SemiMarkovTransitions",
    "ShiftedNegativeBinomial",
    "ShiftedPoisson",
    "StatePosterior",
    "StateSequence",
    "StationaryInitial",
    "StickyTransitions",
    "TiedTransitions",
    "TransitionLaw",
    "evidence",
    "hitting_law",
    "hitting_times",
    "marginalize",
    "mean_stay",
    "occupancy",
    "posterior",
    "stationary_law",
]
