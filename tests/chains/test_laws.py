"""Laws of transition matrices: Dirichlet rows with zeros, stationary laws, and what a start and an M-step may do."""

from __future__ import annotations

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import biject_to, transform_to

from probseq import ModelError, Sequences, stationary_law
from probseq.chains import (
    ChainCounts,
    FixedInitial,
    FixedTransitions,
    ForbiddenTransitions,
    FreeInitial,
    FreeTransitions,
    LeftRightTransitions,
    StationaryInitial,
    StickyTransitions,
    mean_stay,
)
from probseq.chains.sparse_dirichlet import SparseDirichlet, SparseSimplex

DENSE = torch.tensor([[1.5, 2.0, 0.7], [3.0, 1.0, 1.0], [0.5, 0.5, 4.0]], dtype=torch.float64)
SPARSE = torch.tensor([[1.5, 2.0, 0.0], [3.0, 1.0, 1.0], [0.0, 0.0, 4.0]], dtype=torch.float64)


def test_sparse_dirichlet_where_dense_is_torchs():
    torch.manual_seed(0)
    law, torchs = SparseDirichlet(DENSE), dist.Dirichlet(DENSE).to_event(1)
    value = torchs.sample(torch.Size([5]))
    torch.testing.assert_close(law.log_prob(value), torchs.log_prob(value), rtol=1e-13, atol=1e-13)


def test_sparse_dirichlet_is_dirichlet_over_the_allowed_entries():
    """Row by row, torch's own on the entries of positive concentration; a row of one entry is certain."""
    torch.manual_seed(0)
    law = SparseDirichlet(SPARSE)
    value = law.sample(torch.Size([5]))
    expected = dist.Dirichlet(SPARSE[0, :2]).log_prob(value[:, 0, :2]) + dist.Dirichlet(SPARSE[1]).log_prob(value[:, 1])
    torch.testing.assert_close(law.log_prob(value), expected, rtol=1e-13, atol=1e-13)
    assert (value[:, SPARSE == 0] == 0).all() and (value[:, 2, 2] == 1).all()


def test_sparse_dirichlet_moments_of_draws():
    """Means and variances of 20,000 draws within 5 standard errors; the kurtosis of these is below 6."""
    torch.manual_seed(1)
    draws = SparseDirichlet(SPARSE).sample(torch.Size([20_000]))
    total = SPARSE.sum(-1, keepdim=True)
    mean = SPARSE / total
    variance = mean * (1 - mean) / (total + 1)
    assert ((draws.mean(0) - mean).abs() <= 5 * (variance / 20_000).sqrt() + 1e-15).all()
    assert ((draws.var(0) - variance).abs() <= 5 * variance * (5.0 / 20_000) ** 0.5 + 1e-15).all()


def test_sparse_dirichlet_draws_are_reparameterised():
    """d E[f] / d concentration by the draws' own gradient, against the exact d mean / d concentration."""
    torch.manual_seed(2)
    concentration = SPARSE.clone().requires_grad_()
    draws = SparseDirichlet(concentration).rsample(torch.Size([20_000]))
    (gradient,) = torch.autograd.grad(draws[:, 0, 0].mean(), concentration)
    a, b = SPARSE[0, :2].tolist()
    exact = torch.tensor([b, -a], dtype=torch.float64) / (a + b) ** 2
    torch.testing.assert_close(gradient[0, :2], exact, rtol=0, atol=0.004)  # 5 standard errors of 20,000 draws
    assert (gradient[SPARSE == 0] == 0).all()


@pytest.mark.parametrize("concentration", [DENSE, SPARSE, torch.diag(torch.ones(2).double())])
@pytest.mark.parametrize("registry", [biject_to, transform_to])
def test_unconstrained_coordinates(concentration, registry):
    """Round trip, shapes, and log |det J| against autograd's Jacobian of the free entries."""
    law = SparseDirichlet(concentration)
    transform = registry(law.support)
    free = int(((concentration > 0).sum(-1) - 1).sum())
    assert transform.inverse_shape(concentration.shape) == (free,)
    assert transform.forward_shape((7, free)) == (7, *concentration.shape)
    torch.manual_seed(3)
    x = torch.randn(free, dtype=torch.float64)
    y = transform(x)
    assert bool(law.support.check(y))
    torch.testing.assert_close(transform.inv(y), x, rtol=1e-10, atol=1e-10)
    # Independent coordinates of y: all allowed entries of each row but the last.
    kept = concentration > 0
    for row in kept:
        row[row.nonzero()[-1]] = False
    expected = torch.zeros(()).double()
    if free:
        expected = torch.linalg.slogdet(torch.autograd.functional.jacobian(lambda point: transform(point)[kept], x))[1]
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), expected, rtol=1e-10, atol=1e-10)
    many = torch.randn(4, free, dtype=torch.float64)
    torch.testing.assert_close(transform(many), torch.stack([transform(point) for point in many]))
    assert transform.log_abs_det_jacobian(many, transform(many)).shape == (4,)


def test_sparse_simplex_refuses():
    support = SparseSimplex(SPARSE > 0)
    good = SparseDirichlet(SPARSE).sample()
    assert bool(support.check(good))
    assert not bool(support.check(good * 0.9))
    assert not bool(support.check(torch.full((3, 3), 1 / 3).double()))
    with pytest.raises(ValueError, match="support"):
        SparseDirichlet(SPARSE, validate_args=True).log_prob(torch.full((3, 3), 1 / 3).double())


def test_stationary_law_is_the_left_eigenvector():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.rand(20, 5, 5, generator=generator, dtype=torch.float64)
    matrices = matrices / matrices.sum(-1, keepdim=True)
    found = stationary_law(matrices)
    for matrix, law in zip(matrices.numpy(), found.numpy(), strict=True):
        values, vectors = np.linalg.eig(matrix.T)
        vector = np.real(vectors[:, np.argmin(abs(values - 1))])
        np.testing.assert_allclose(law, vector / vector.sum(), rtol=0, atol=1e-12)
    leaf = matrices[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(stationary_law, (leaf,))


@pytest.mark.parametrize(
    ("matrix", "law"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], [0.5, 0.5]),  # periodic
        ([[0.5, 0.5], [0.0, 1.0]], [0.0, 1.0]),  # a transient state
        ([[1.0]], [1.0]),
        ([[1 - 1e-9, 1e-9], [2e-9, 1 - 2e-9]], [2 / 3, 1 / 3]),  # visits of 1e9 steps
    ],
)
def test_stationary_law_at_the_edges(matrix, law):
    found = stationary_law(torch.tensor(matrix, dtype=torch.float64))
    assert found.tolist() == pytest.approx(law, abs=1e-6)


def test_stationary_law_of_two_closed_classes():
    with pytest.raises(ModelError, match="one closed class"):
        stationary_law(torch.eye(2, dtype=torch.float64))


def test_mean_stay_is_the_mean_of_the_geometric_law():
    stay = torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64)
    steps = np.arange(1, 2000)
    expected = [float((steps * (1 - p) * p ** (steps - 1.0)).sum()) for p in stay.tolist()]
    matrix = torch.diag(stay) + (1 - stay).unsqueeze(-1) * torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert mean_stay(matrix).tolist() == pytest.approx(expected, rel=1e-12)
    assert mean_stay(torch.eye(1).double()).tolist() == [math.inf]


# ---- what may be said of the moves ---------------------------------------------------------------------------------

MATRIX = ((0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.2, 0.0, 0.8))
LAWS = {
    "free": (FreeTransitions(), [[1, 1, 1]] * 3, 6),
    "sticky": (StickyTransitions(), [[1, 1, 1]] * 3, 6),
    "left-right": (LeftRightTransitions(), [[1, 1, 0], [0, 1, 1], [0, 0, 1]], 2),
    "left-right by two": (LeftRightTransitions(max_jump=2), [[1, 1, 1], [0, 1, 1], [0, 0, 1]], 3),
    "forbidden": (ForbiddenTransitions(((0, 2), (2, 0))), [[1, 1, 0], [1, 1, 1], [0, 1, 1]], 4),
    "fixed": (FixedTransitions(MATRIX), [[1, 1, 0], [0, 1, 1], [1, 0, 1]], 0),
}


SERIES = Sequences.from_arrays([0.0, 1.0, 2.0])


def maximise(law, counts, current, with_prior):
    """The matrix of the M-step."""
    nothing = torch.zeros(1), torch.zeros(len(counts)), counts.unsqueeze(0), torch.zeros(1)
    return law.maximise(ChainCounts(*nothing), {"transition": current}, with_prior, SERIES)["transition"]


@pytest.mark.parametrize("name", LAWS)
def test_starts_and_maxima_keep_the_structure(name):
    law, allowed, n_parameters = LAWS[name]
    mask = torch.tensor(allowed, dtype=torch.bool)
    assert law.n_parameters(3) == n_parameters
    generator = torch.Generator().manual_seed(0)
    jitter = torch.rand(3, 3, generator=generator, dtype=torch.float64) + 0.1
    stay = torch.tensor([0.9, 0.5, 0.7], dtype=torch.float64)
    start = law.start(3, stay, jitter, SERIES)["transition"]
    counts = torch.where(mask, 10.0 * torch.rand(3, 3, generator=generator, dtype=torch.float64), 0.0)
    found = [
        start,
        maximise(law, counts, start, False),
        maximise(law, counts, start, True),
        law.sample(3)["transition"],
    ]
    for matrix in found:
        torch.testing.assert_close(matrix.sum(-1), torch.ones(3).double())
        assert (matrix[~mask] == 0).all()
    if name in ("free", "sticky"):
        torch.testing.assert_close(start.diagonal(), stay)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "fixed"])
@pytest.mark.parametrize("with_prior", [False, True])
def test_the_maximum_is_one(name, with_prior):
    """No other matrix of the same structure has a higher sum counts log A (+ log prior)."""
    law, allowed, _ = LAWS[name]
    mask = torch.tensor(allowed, dtype=torch.bool)
    generator = torch.Generator().manual_seed(1)
    counts = torch.where(mask, 10.0 * torch.rand(3, 3, generator=generator, dtype=torch.float64), 0.0)

    def objective(matrix: torch.Tensor) -> float:
        value = torch.where(mask, counts * torch.where(mask, matrix, 1.0).log(), 0.0).sum()
        return float(value + (law.log_prior({"transition": matrix}) if with_prior else 0.0))

    best = maximise(law, counts, torch.full((3, 3), 1 / 3).double(), with_prior)
    top = objective(best)
    for _ in range(50):
        other = torch.where(mask, best * (0.2 * torch.randn(3, 3, generator=generator, dtype=torch.float64)).exp(), 0.0)
        assert objective(other / other.sum(-1, keepdim=True)) <= top + 1e-12


def test_a_state_that_is_never_left_keeps_its_row():
    counts = torch.tensor([[1.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    current = torch.tensor([[0.5, 0.5], [0.3, 0.7]], dtype=torch.float64)
    assert maximise(FreeTransitions(), counts, current, False).tolist() == [[0.25, 0.75], [0.3, 0.7]]


def test_initial_laws():
    counts = torch.tensor([1.0, 3.0], dtype=torch.float64)

    def transition():
        return stationary_law(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))

    assert FreeInitial().maximise(counts, transition, False).tolist() == [0.25, 0.75]
    mode = FreeInitial(concentration=2.0).maximise(counts, transition, True)
    assert mode.tolist() == pytest.approx([2 / 6, 4 / 6], abs=1e-15)
    assert StationaryInitial().maximise(counts, transition, True).tolist() == pytest.approx([0.75, 0.25], abs=1e-15)
    assert FixedInitial((1.0, 0.0)).maximise(counts, transition, False).tolist() == [1.0, 0.0]
    assert [law.n_parameters(2) for law in (FreeInitial(), StationaryInitial(), FixedInitial((1.0, 0.0)))] == [1, 0, 0]
    expected = dist.Dirichlet(torch.full((2,), 1.1).double()).log_prob(torch.tensor([0.3, 0.7], dtype=torch.float64))
    torch.testing.assert_close(FreeInitial().log_prior(torch.tensor([0.3, 0.7], dtype=torch.float64)), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedInitial((0.5, 0.6)), "probabilities that sum to 1"),
        (lambda: FixedInitial((1.5, -0.5)), "probabilities that sum to 1"),
        (lambda: FixedInitial((0.5, 0.5)).sample(3, lambda: torch.ones(3)), "one probability a state, 3, got 2"),
        (lambda: FixedTransitions(((0.5, 0.6), (0.5, 0.5))), "rows that sum to 1"),
        (lambda: FixedTransitions(((0.5, 0.5),)), "square"),
        (lambda: FixedTransitions(((1.0,),)).sample(2), "must be 2 x 2, got 1"),
        (lambda: ForbiddenTransitions(((0, 2),)).concentration(2), r"join states 0\.\.1"),
        (lambda: ForbiddenTransitions(((0, 0), (0, 1))).concentration(2), "all forbidden"),
    ],
)
def test_impossible_structures(make, message):
    with pytest.raises(ModelError, match=message):
        make()
