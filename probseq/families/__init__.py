"""Emission families: the law of one observation given the parameters of a hidden state, written once for every model.

>>> import torch
>>> from probseq import families
>>> rain = torch.tensor([0.2, 1.5, 3.0, 0.7], dtype=torch.float64)
>>> gamma = families.by_name("gamma")
>>> start = gamma.pooled(rain, states=2)
>>> gamma.log_prob(rain, start).shape
torch.Size([4, 2])
"""

from probseq.families.autoregression import Autoregression
from probseq.families.beta import Beta
from probseq.families.binomial import Binomial
from probseq.families.context_symbols import ContextCategorical
from probseq.families.deviation_autoregression import DeviationAutoregression
from probseq.families.exponential import Exponential
from probseq.families.factorial import FactorialGaussian
from probseq.families.family import Family, Parameter, Parameters, Priors
from probseq.families.gamma import Gamma
from probseq.families.gaussian import Gaussian
from probseq.families.geometric import Geometric
from probseq.families.independent import Independent
from probseq.families.inverse_wishart import InverseWishartCholesky
from probseq.families.log_normal import LogNormal
from probseq.families.mixture import Mixture
from probseq.families.mixture_law import MixtureDistribution
from probseq.families.multinomial import Multinomial
from probseq.families.multivariate import MultivariateGaussian
from probseq.families.multivariate_student_t import MultivariateStudentT
from probseq.families.naming import NAMES, by_name, from_json
from probseq.families.negative_binomial import MeanNegativeBinomial, NegativeBinomial
from probseq.families.poisson import Poisson
from probseq.families.product import Product, ProductDistribution
from probseq.families.regression import Regression
from probseq.families.student_t import StudentT
from probseq.families.symbols import Bernoulli, Categorical
from probseq.families.von_mises import VonMises
from probseq.families.zero_laws import HurdleDistribution, ZeroInflatedDistribution
from probseq.families.zeros import Hurdle, ZeroInflated

__all__ = [
    "NAMES",
    "Autoregression",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "DeviationAutoregression",
    "ContextCategorical",
    "Exponential",
    "FactorialGaussian",
    "Family",
    "Gamma",
    "Gaussian",
    "Geometric",
    "Hurdle",
    "HurdleDistribution",
    "Independent",
    "InverseWishartCholesky",
    "LogNormal",
    "MeanNegativeBinomial",
    "Mixture",
    "MixtureDistribution",
    "Multinomial",
    "MultivariateGaussian",
    "MultivariateStudentT",
    "NegativeBinomial",
    "Parameter",
    "Parameters",
    "Poisson",
    "Priors",
    "Product",
    "ProductDistribution",
    "Regression",
    "StudentT",
    "VonMises",
    "ZeroInflated",
    "ZeroInflatedDistribution",
    "by_name",
    "from_json",
]
