"""The errors probseq raises on purpose.

Every message is one line that names what is wrong, the rule, the offending value, where it is, and what to do:
"<what> must <rule>, got <value> at <where>; <remedy>." The command line prints it as it stands.
"""


class ProbseqError(ValueError):
    """Any refusal of probseq; a `ValueError`, so that callers who do not know probseq still catch it."""


class DataError(ProbseqError):
    """The data cannot be used as given."""


class ModelError(ProbseqError):
    """The model is not well defined, or does not suit the data."""


class FitError(ProbseqError):
    """A fit could not be made, saved or loaded."""
