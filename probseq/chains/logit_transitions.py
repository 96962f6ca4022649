"""Moves that depend on covariates and seasons: each row of the matrix is a multinomial logit of a design.

    p(z_t = j | z_{t-1} = i, x_t)  is proportional to  exp(eta_ij),   eta_ii = 0,   eta_ij = b_ij . x_t  for j != i

(Zucchini, MacDonald & Langrock 2016, section 10.4; momentuHMM, McClintock & Michelot 2018.) The diagonal is the
baseline: a coefficient says how a covariate changes the log odds of moving to j against staying. The move into step t
goes by the design row x_t of the step it enters. Distinct rows give distinct matrices: a year of days is 366 of them.

The M-step maximises sum_s n_sij log p_sij, a weighted multinomial logit for each row i, concave in its coefficients, by
Newton's method with the exact gradient and Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.matrix_laws import FreeTransitions
from probseq.chains.state_sequence import ChainCounts
from probseq.chains.transition_laws import Parameters, TransitionLaw
from probseq.design import Design
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences

SITE = "transition_coefficients"
MAX_NEWTON = 50
MAX_HALVINGS = 40
DONE = 1e-13  # a predicted rise, relative to the objective, after which the last (quadratically better) step is taken
FLAT = 1e-12  # a curvature, relative to the largest, of a direction that the data say nothing about


@dataclass(frozen=True)
class LogitTransitions(TransitionLaw):
    """Transition probabilities by multinomial logit of covariates and seasons, staying being the baseline.

    The parameter `transition_coefficients` is (K, K - 1, P): from state i to each other state, in ascending order, by
    column of the design. There is no stationary law, unless the design is empty: no law of the states is left as it is
    by matrices that differ (momentuHMM refuses the same); use a free or a fixed first state.

    Attributes:
        design: covariates and seasons. Bring covariates to a scale of about one where priors are used.
        scale: standard deviation of the normal prior of each slope, in log odds.
        intercept_scale: of each intercept; 10 leaves a mean stay of 20,000 steps within one of it.

    >>> from probseq import Season
    >>> LogitTransitions(Design(seasons=(Season("year"),))).n_parameters(3)
    18
    """

    design: Design = Design()  # pyright: ignore[reportIncompatibleVariableOverride]
    scale: float = 2.5
    intercept_scale: float = 10.0

    exchangeable = True

    def __post_init__(self) -> None:
        if not isinstance(self.design, Design):
            raise ModelError(
                f"transitions by logit must have a design, got {self.design!r}; write "
                'LogitTransitions(Design(seasons=(Season("year"),))).'
            )
        for name, value in (("scale", self.scale), ("intercept_scale", self.intercept_scale)):
            if not 0 < value < np.inf:
                raise ModelError(f"the {name} of a prior must be positive, got {value} at LogitTransitions; try 2.5.")

    # ---- the program ----

    def parameters(self, states: int) -> dict[str, Parameter]:
        return {SITE: Parameter(constraints.real, (states, states - 1, self.design.width), shared=True)}

    def sample(self, states: int) -> dict[str, Tensor]:
        return {SITE: pyro.sample(SITE, self._prior(states))}

    def log_prior(self, parameters: Parameters) -> Tensor:
        coefficients = parameters[SITE]
        return self._prior(coefficients.shape[-3]).log_prob(coefficients)

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        rows, index = self._rows(series)
        return matrices(parameters[SITE], rows), None if index is None else entered(index)

    # ---- learning ----

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """By Newton's method, each row until nothing more is to be gained; the row of a state never left is kept."""
        rows, _ = self._rows(series)
        precision = self._scales().square().reciprocal() if with_prior else torch.zeros(rows.shape[1]).double()
        return {SITE: maximise_logit(torch.as_tensor(counts.moves), rows, parameters[SITE].detach(), precision)}

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        """The homogeneous law that `FreeTransitions` starts from: the slopes are zero."""
        matrix = FreeTransitions().start(states, stay, jitter, series)["transition"]
        odds = (matrix / matrix.diagonal().unsqueeze(-1)).log()
        coefficients = torch.zeros(states, states - 1, self.design.width, dtype=torch.float64)
        coefficients[..., 0] = odds[~torch.eye(states, dtype=torch.bool)].reshape(states, states - 1)
        return {SITE: coefficients}

    def n_parameters(self, states: int) -> int:
        return states * (states - 1) * self.design.width

    def relabelled(self, parameters: Parameters, order: Tensor) -> dict[str, Tensor]:
        coefficients = parameters[SITE]
        states, width = coefficients.shape[0], coefficients.shape[-1]
        away = ~torch.eye(states, dtype=torch.bool)
        whole = coefficients.new_zeros(states, states, width)
        whole[away] = coefficients.reshape(-1, width)
        return {SITE: whole[order][:, order][away].reshape(coefficients.shape)}

    # ---- parts ----

    def _scales(self) -> Tensor:
        """(P,) prior standard deviations."""
        scales = torch.full((self.design.width,), self.scale, dtype=torch.float64)
        scales[0] = self.intercept_scale
        return scales

    def _prior(self, states: int) -> dist.Independent:
        shape = (states, states - 1, self.design.width)
        return dist.Normal(torch.zeros(shape, dtype=torch.float64), self._scales().expand(shape)).to_event(3)

    def _rows(self, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        """(S, P) design rows and (T,) the row of each step; None where there is one."""
        if not self.design:
            return torch.ones(1, 1, dtype=torch.float64), None
        if series is None:
            raise ModelError(
                f"moves that depend on {', '.join(self.design.names[1:])} must be asked for with a series, got none; "
                "pass the series, or its future."
            )
        return self.design.rows(series)


def entered(index: np.ndarray) -> np.ndarray:
    """(T,) the row of the step that is entered from each; that of a last step, which is never read, is its own.

    >>> entered(np.array([4, 5, 6], dtype=np.uint8))
    array([5, 6, 6], dtype=uint8)
    """
    return np.concatenate([index[1:], index[-1:]])


def matrices(coefficients: Tensor, rows: Tensor) -> Tensor:
    """(*batch, S, K, K) transition matrices from coefficients (*batch, K, K - 1, P) at design rows (S, P)."""
    logits = torch.einsum("...ijp,sp->...sij", coefficients, rows)
    states = coefficients.shape[-3]
    staying = torch.zeros_like(logits[..., :1]) if states > 1 else logits.new_zeros(logits.shape[:-1] + (1,))
    logits = torch.cat([logits, staying], -1)  # the others in ascending order, then the state itself
    row, column = torch.arange(states).unsqueeze(-1), torch.arange(states)
    place = torch.where(column < row, column, torch.where(column == row, states - 1, column - 1))
    return logits.gather(-1, place.expand(logits.shape)).softmax(-1)


def maximise_logit(moves: Tensor, rows: Tensor, start: Tensor, precision: Tensor) -> Tensor:
    """The coefficients with the highest sum_sij n_sij log p_sij - 1/2 sum precision b^2; never below `start`.

    Args:
        moves: (S, K, K) expected number of moves at each design row.
        rows: (S, P) the design.
        start: (K, K - 1, P) where to begin.
        precision: (P,) of the normal prior of each coefficient; zeros for maximum likelihood.
    """
    states = len(start)
    if states == 1:
        return start
    away = ~torch.eye(states, dtype=torch.bool)
    wanted = moves[:, away].reshape(-1, states, states - 1)
    total = moves.sum(-1)
    products = (rows.unsqueeze(-1) * rows.unsqueeze(-2)).flatten(1)
    objective = _Objective(wanted, total, rows, products, precision)
    found, value = start, objective.value(start)
    active = torch.ones(states, dtype=torch.bool)
    for _ in range(MAX_NEWTON):
        step, rise = objective.newton_step(found)
        done = rise <= DONE * (1.0 + value.abs())
        length, climbing = torch.ones(states, dtype=torch.float64), active.clone()
        for _ in range(MAX_HALVINGS):
            candidate = found + length[:, None, None] * step
            reached = objective.value(candidate)
            up = climbing & (reached >= value + torch.where(done, 0.0, 1e-4 * length * rise))
            found, value = torch.where(up[:, None, None], candidate, found), torch.where(up, reached, value)
            climbing = climbing & ~up & ~done
            if not bool(climbing.any()):
                break
            length = length / 2
        active = active & ~done & ~climbing
        if not bool(active.any()):
            break
    return found


@dataclass(frozen=True, eq=False)
class _Objective:
    """The weighted multinomial logits of the K rows of the matrix, one problem each.

    Attributes:
        wanted: (S, K, K - 1) moves away at each design row.
        total: (S, K) moves from each state, staying included.
        rows: (S, P).
        products: (S, P * P) x x' of each row.
        precision: (P,).
    """

    wanted: Tensor
    total: Tensor
    rows: Tensor
    products: Tensor
    precision: Tensor

    def value(self, coefficients: Tensor) -> Tensor:
        """(K,) the objective of each row; -inf where it is no number."""
        logits = self._logits(coefficients)
        log_sum = torch.cat([logits, torch.zeros_like(logits[..., :1])], -1).logsumexp(-1)
        likelihood = (self.wanted * logits).sum((0, 2)) - (self.total * log_sum).sum(0)
        value = likelihood - 0.5 * (self.precision * coefficients.square()).sum((1, 2))
        return value.nan_to_num(nan=-torch.inf)

    def newton_step(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """(K, K - 1, P) the step, and (K,) the rise of the objective that its tangent promises."""
        states, others, width = coefficients.shape
        logits = self._logits(coefficients)
        chances = torch.cat([logits, torch.zeros_like(logits[..., :1])], -1).softmax(-1)[..., :-1]
        expected = self.total.unsqueeze(-1) * chances
        gradient = torch.einsum("ska,sp->kap", self.wanted - expected, self.rows) - self.precision * coefficients
        spread = expected.unsqueeze(-1) * (torch.eye(others, dtype=torch.float64) - chances.unsqueeze(-2))
        blocks = (spread.flatten(1).T @ self.products).reshape(states, others, others, width, width)
        curvature = blocks.transpose(2, 3).reshape(states, others * width, others * width)
        curvature = curvature + self.precision.repeat(others).diag()
        eigenvalues, axes = torch.linalg.eigh((curvature + curvature.mT) / 2)
        along = axes.mT @ gradient.flatten(1).unsqueeze(-1)
        known = (eigenvalues > FLAT * eigenvalues[:, -1:]) & (eigenvalues > 0)
        strides = torch.where(known, along.squeeze(-1) / torch.where(known, eigenvalues, 1.0), 0.0)
        step = (axes @ strides.unsqueeze(-1)).reshape(states, others, width)
        return step, (step * gradient).sum((1, 2))

    def _logits(self, coefficients: Tensor) -> Tensor:
        """(S, K, K - 1)."""
        return torch.einsum("kap,sp->ska", coefficients, self.rows)
