"""Sequence models as Pyro programs."""

from probseq.models.hmm import HMM

__all__ = ["HMM"]
