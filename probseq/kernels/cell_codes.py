"""Names and numbers of the operations that `probseq.kernels.cells` computes."""

OPERATIONS = (
    *("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "xlogy", "logaddexp"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "logical_and", "logical_or"),
    *("negative", "exp", "log", "log1p", "expm1", "sqrt", "absolute", "sign", "reciprocal", "expit", "tanh"),
    *("sin", "cos", "gammaln", "psi", "logical_not", "isfinite", "isnan", "where"),
)
"""By the names of numpy and scipy.special; the number of each is its place. Truth is 1, falsehood 0."""

CODES = {name: number for number, name in enumerate(OPERATIONS)}
