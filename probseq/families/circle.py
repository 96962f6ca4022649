"""The von Mises law's special functions, in float64 and to all digits, at any concentration.

    log_bessel(k) = log(exp(-k) I_0(k)),   spread(k) = 1 - I_1(k) / I_0(k),   upper_tail(d, k) = P(D > d), 0 <= d <= pi

Below `ASYMPTOTIC` by torch's scaled Bessel functions, above by Hankel's series (Abramowitz & Stegun 9.7.1), in which
1 - I_1 / I_0 is a sum of positive terms, where the plain difference would lose a digit for every one of k.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

ASYMPTOTIC = 30.0  # the last term of the series is below 1e-17 from here on
TERMS = 20
FLAT = 1e4  # from here on the slope of spread is that of its first terms to 8 digits, which Newton steps need
NEWTON_STEPS = 100
NODES = 64
NEGLIGIBLE = 20.0  # exp(-2 * 20) of the density at the start of a tail is its last digit


def log_bessel(concentration: Tensor) -> Tensor:
    """log(exp(-k) I_0(k)); twice differentiable."""
    large = concentration > ASYMPTOTIC
    small = torch.special.i0e(torch.where(large, 1.0, concentration)).log()
    if not bool(large.any()):
        return small
    k = torch.where(large, concentration, ASYMPTOTIC)
    return torch.where(large, _hankel(k, 0.0).log() - 0.5 * (2 * math.pi * k).log(), small)


def spread(concentration: Tensor) -> Tensor:
    """1 - I_1(k) / I_0(k), the circular variance; 1 for a flat law, about 1 / (2 k) for a narrow one."""
    large = concentration > ASYMPTOTIC
    k = torch.where(large, 1.0, concentration)
    small = (torch.special.i0e(k) - torch.special.i1e(k)) / torch.special.i0e(k)
    k = torch.where(large, concentration, ASYMPTOTIC)
    zero, terms = torch.ones_like(k), torch.zeros_like(k)
    first = torch.ones_like(k)
    for j in range(1, TERMS + 1):
        zero = zero * (2 * j - 1) ** 2 / (8 * j * k)
        first = first * ((2 * j - 1) ** 2 - 4) / (8 * j * k)
        terms = terms + (zero - first)
    return torch.where(large, terms / _hankel(k, 0.0), small)


def concentration_of(variance: Tensor, highest: float) -> Tensor:
    """The k at which `spread(k)` is the given circular variance, to machine precision; at most `highest`.

    Newton's steps on I_1 / I_0, which is concave, from the approximation of Banerjee et al. (2005).
    """
    length = 1 - variance
    k = (length * (2 - length.square()) / (variance * (1 + length)).clamp(min=1e-300)).clamp(1e-8, highest)
    for _ in range(NEWTON_STEPS):
        now = spread(k)
        slope = now * (2 - now) - (1 - now) / k  # of I_1 / I_0
        slope = torch.where(k > FLAT, (1 + 0.5 / k) / (2 * k.square()), slope)
        step = (k + (now - variance) / slope).clamp(1e-8, highest)
        done = bool(((step - k).abs() <= 1e-12 * k).all())
        k = step.maximum(k / 8)
        if done:
            break
    return k


def upper_tail(deviation: Tensor, concentration: Tensor) -> Tensor:
    """P(D > d) for 0 <= d <= pi, by Gauss and Legendre from d to where nothing is left, with a small relative error."""
    below = torch.sin(deviation / 2).square()
    end = 2 * torch.asin((below + NEGLIGIBLE / concentration).clamp(max=1).sqrt())
    half = (end - deviation).clamp(min=0) / 2
    total = torch.zeros_like(half + concentration)
    for node, weight in zip(*np.polynomial.legendre.leggauss(NODES), strict=True):
        angle = deviation + half * (1 + node)
        total = total + weight * torch.exp(-2 * concentration * torch.sin(angle / 2).square())
    return total * half / (2 * math.pi * log_bessel(concentration).exp())


def _hankel(k: Tensor, order: float) -> Tensor:
    """sqrt(2 pi k) exp(-k) I_order(k), by its series for large k."""
    term, total = torch.ones_like(k), torch.ones_like(k)
    for j in range(1, TERMS + 1):
        term = term * ((2 * j - 1) ** 2 - 4 * order**2) / (8 * j * k)
        total = total + term
    return total
