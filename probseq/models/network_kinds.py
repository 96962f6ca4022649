"""Which class a saved network is of, by its kind; a class is imported only when a network of it is loaded."""

from __future__ import annotations

from importlib import import_module

from probseq.errors import DataError
from probseq.models.network import Network

HOMES: dict[str, tuple[str, str]] = {
    "captioner": ("probseq.models.captioning", "Captioner"),
    "frame-tracker": ("probseq.models.tracking", "FrameTracker"),
    "video-captioner": ("probseq.models.video_captioning", "VideoCaptioner"),
    "sequence_to_sequence": ("probseq.models.sequence_to_sequence", "SequenceToSequence"),
    "sequence_classifier": ("probseq.models.sequence_classifier", "SequenceClassifier"),
    "recurrent": ("probseq.models.recurrent_model", "RecurrentModel"),
}
"""kind -> (module, class). A new network enters its line here."""


def network_class(kind: str) -> type[Network]:
    """The class of the networks of this kind.

    Raises:
        DataError: if it is none of this package's.
    """
    if kind not in HOMES:
        known = ", ".join(sorted(HOMES)) or "none"
        raise DataError(
            f"the kind of a saved network must be one of {known}, got {kind!r}; give the class of a network of your "
            "own: NetworkFit.load(directory, TheClass)."
        )
    module, name = HOMES[kind]
    return getattr(import_module(module), name)
