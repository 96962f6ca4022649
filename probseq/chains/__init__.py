"""Path distributions and the handlers that sum them out."""

from probseq.chains.chain_evidence import evidence
from probseq.chains.laws import mean_stay, stationary_law
from probseq.chains.marginalization import marginalize
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.path_posterior import posterior
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import StateSequence

__all__ = [
    "MarkovChain",
    "StatePosterior",
    "StateSequence",
    "evidence",
    "marginalize",
    "mean_stay",
    "posterior",
    "stationary_law",
]
