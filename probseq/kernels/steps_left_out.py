"""What the other steps of a sequence say of one: p(z_t | x_-t) and log p(x_t | x_-t), x_-t being all but step t.

    c_t(k) = p(z_t = k, x_-t) = a_t(k) beta_t(k),      p(x_t | x_-t) = sum_k c_t(k) b_t(k) / sum_k c_t(k)

with the predicted a_t = alpha_t-1 A, beta_t = A (b_t+1 beta_t+1) (Rabiner 1989) and b_t the likelihoods of the step. It
equals 1 / sum_k [gamma_t(k) / b_t(k)], but is exact where some b_t(k) is zero and gamma_t(k) has lost what is known of
c_t(k), too: the smoothed law divides by nothing. Everything is in logarithms, so no entry is lost however far it falls
behind; a product with A is made of plain numbers where those lose nothing, and of logarithms where they would.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from probseq.kernels.bits import row_at
from probseq.kernels.combinations import combine_wide
from probseq.kernels.inputs import Floats, Inputs
from probseq.kernels.jit import entry, kernel
from probseq.kernels.schedule import chunks
from probseq.kernels.threads import run

ENOUGH = 1e-250
"""Sum of terms relative to one, above which terms that underflow (below 1e-308) are no part of it."""


def fill_left_out(inputs: Inputs, cavity: Floats, log_prob: Floats) -> None:
    """log p(z_t | x_-t) (B, T, K), -inf throughout where x_-t is impossible, and log p(x_t | x_-t) (B, T)."""
    run([partial(left_out_range, *chunk, *inputs.arrays, cavity, log_prob) for chunk in chunks(inputs)])


@entry
def left_out_range(first, last, log_initial, log_transition, log_table, offsets, indices, cavity, log_prob):
    """cavity and log_prob of items first .. last - 1; item i is sequence i % N of draw i // N."""
    N, S, K = offsets.size - 1, log_transition.shape[1], log_initial.shape[2]
    forth, back = (np.empty((S, K, K)), np.empty((S, K, K))), (np.empty((S, K, K)), np.empty((S, K, K)))
    for b in range(first // N, (last - 1) // N + 1):
        set_out(log_transition[b], forth, back)
        flat = log_table[b].ravel()
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            bounds, law = (offsets[n], offsets[n + 1]), log_initial[b, n if log_initial.shape[1] > 1 else 0]
            predict(bounds, law, forth, flat, indices, cavity[b])
            look_back(bounds, back, flat, indices, cavity[b], log_prob[b])


@kernel
def set_out(log_transition, forth, back):
    """Matrices of both directions, (logarithm, number); row j of each holds what leads to j."""
    for s in range(log_transition.shape[0]):
        for i in range(log_transition.shape[1]):
            for j in range(log_transition.shape[2]):
                back[0][s, i, j] = forth[0][s, j, i] = log_transition[s, i, j]
                back[1][s, i, j] = forth[1][s, j, i] = math.exp(log_transition[s, i, j])


@kernel
def predict(bounds, law, matrices, flat, indices, predicted):
    """log a_t (T, K), each relative to any number, of one sequence."""
    message, room = np.empty(law.size), np.empty(law.size)
    for t in range(bounds[0], bounds[1]):
        if t == bounds[0]:
            for k in range(law.size):
                predicted[t, k] = law[k]
        else:
            s = row_at(indices[2], indices[3], t - 1) if indices[3] else 0
            move(message, matrices[0][s], matrices[1][s], room, predicted[t])
        emit(flat, indices, t, message)
        for k in range(law.size):
            message[k] += predicted[t, k]


@kernel
def look_back(bounds, matrices, flat, indices, cavity, log_prob):
    """Join what `predict` has left in cavity (T, K) with beta, last step first."""
    K = cavity.shape[1]
    beta, message, joint, room = np.zeros(K), np.empty(K), np.empty(K), np.empty(K)
    for t in range(bounds[1] - 1, bounds[0] - 1, -1):
        if t < bounds[1] - 1:
            s = row_at(indices[2], indices[3], t) if indices[3] else 0
            move(message, matrices[0][s], matrices[1][s], room, beta)
        emit(flat, indices, t, message)
        for k in range(K):
            cavity[t, k] += beta[k]
        left = log_sum(cavity[t])
        for k in range(K):
            joint[k] = cavity[t, k] + message[k]
            cavity[t, k] = cavity[t, k] - left if left > -np.inf else -np.inf
            message[k] += beta[k]
        log_prob[t] = log_sum(joint) - left if left > -np.inf else -np.inf  # exactly zero where all b_t(k) are one


@kernel
def emit(flat, indices, step, out):
    """Log-likelihoods (K,) of a step."""
    e_raw, e_width, _, _, weights = indices
    if weights.shape[1]:
        combine_wide((out.size,), weights.ravel(), weights.shape[1], flat, out.size, step, 1, out)
    else:
        row = row_at(e_raw, e_width, step) * out.size
        for k in range(out.size):
            out[k] = flat[row + k]


@kernel
def move(message, log_matrix, matrix, room, out):
    """log sum_i matrix[j, i] exp(message(i)) to out, relative to the largest of message, which ends relative to it."""
    top = -np.inf
    for i in range(message.size):
        top = max(top, message[i])
    for i in range(message.size):
        message[i] = message[i] - top if top > -np.inf else -np.inf
        room[i] = math.exp(message[i])
    for j in range(message.size):
        total = 0.0
        for i in range(message.size):
            total += matrix[j, i] * room[i]
        out[j] = math.log(total) if total > ENOUGH else log_sum(log_matrix[j] + message)


@kernel
def log_sum(values):
    """log sum exp; -inf where all are."""
    top, total = -np.inf, 0.0
    for value in values:
        top = max(top, value)
    if not top > -np.inf:
        return -np.inf
    for value in values:
        total += math.exp(value - top)
    return top + math.log(total)
