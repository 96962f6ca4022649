"""Sequence models as Pyro programs, at the speed of compiled HMM code, with a complete statistical answer.

Names are imported on first use, so that `import probseq` and `probseq --help` stay instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Captioner": "probseq.models",
    "DataError": "probseq.errors",
    "Design": "probseq.design",
    "Fit": "probseq.inference",
    "FitError": "probseq.errors",
    "FrameTracker": "probseq.models",
    "HMM": "probseq.models",
    "LengthLaw": "probseq.models",
    "MarkovChain": "probseq.chains",
    "MarkovModel": "probseq.models",
    "ModelError": "probseq.errors",
    "Pairs": "probseq.pairs",
    "NetworkFit": "probseq.inference",
    "ProbseqError": "probseq.errors",
    "RecurrentModel": "probseq.models",
    "Season": "probseq.design",
    "SequenceClassifier": "probseq.models",
    "SequenceToSequence": "probseq.models",
    "Sequences": "probseq.sequences",
    "VideoCaptioner": "probseq.models",
    "choose_order": "probseq.models",
    "em": "probseq.inference",
    "gibbs": "probseq.inference",
    "join_chains": "probseq.inference",
    "laplace": "probseq.inference",
    "marginalize": "probseq.chains",
    "nuts": "probseq.inference",
    "posterior": "probseq.chains",
    "pyro_nuts": "probseq.inference",
    "read_parallel": "probseq.io",
    "segment": "probseq.genome",
    "select": "probseq.inference",
    "standard_errors": "probseq.diagnostics",
    "stationary_law": "probseq.chains",
    "svi": "probseq.inference",
    "train": "probseq.inference",
}
_MODULES = ("datasets", "families", "recurrent")

__all__ = [
    "Captioner",
    "DataError",
    "Design",
    "Fit",
    "FitError",
    "FrameTracker",
    "HMM",
    "LengthLaw",
    "MarkovChain",
    "MarkovModel",
    "ModelError",
    "Pairs",
    "NetworkFit",
    "ProbseqError",
    "RecurrentModel",
    "Season",
    "SequenceClassifier",
    "SequenceToSequence",
    "Sequences",
    "VideoCaptioner",
    "choose_order",
    "datasets",
    "em",
    "families",
    "gibbs",
    "join_chains",
    "laplace",
    "marginalize",
    "nuts",
    "posterior",
    "pyro_nuts",
    "read_parallel",
    "recurrent",
    "segment",
    "select",
    "standard_errors",
    "stationary_law",
    "svi",
    "train",
]

if TYPE_CHECKING:
    from probseq import datasets, families, recurrent
    from probseq.chains import MarkovChain, marginalize, posterior, stationary_law
    from probseq.design import Design, Season
    from probseq.diagnostics import standard_errors
    from probseq.errors import DataError, FitError, ModelError, ProbseqError
    from probseq.genome import segment
    from probseq.inference import Fit, NetworkFit, em, gibbs, join_chains, laplace, nuts, pyro_nuts, select, svi, train
    from probseq.io import read_parallel
    from probseq.models import (
        HMM,
        Captioner,
        FrameTracker,
        LengthLaw,
        MarkovModel,
        RecurrentModel,
        SequenceClassifier,
        SequenceToSequence,
        VideoCaptioner,
        choose_order,
    )
    from probseq.pairs import Pairs
    from probseq.sequences import Sequences


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(f"probseq.{name}")
    else:
        raise AttributeError(f"module 'probseq' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
