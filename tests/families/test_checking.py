"""What each family refuses, word for word where it matters, and how families are named, saved and described."""

import json

import pytest
import torch

from probseq import families as f
from probseq.errors import DataError, ModelError

F64 = torch.float64


def t(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


NAN, INF = float("nan"), float("inf")

REFUSED = [
    (f.Poisson(), t(1, -2, 3), "rain must be a whole number >= 0 for Poisson, got -2 at step 1; mark it missing"),
    (f.Poisson(), t(1, 2.5, 3), "rain must be a whole number >= 0 for Poisson, got 2.5 at step 1; use a continuous"),
    (f.NegativeBinomial(), t(1, 2.5), "rain must be a whole number >= 0 for NegativeBinomial, got 2.5 at step 1"),
    (f.Poisson(), t(1, INF), "rain must be finite, got inf at step 1; mark missing values"),
    (f.Gaussian(), t(1, NAN, 2), "rain must be finite, got nan at step 1; mark missing values"),
    (f.Gaussian(), t(3, 3, 3), "rain must vary for Gaussian, got 3 at each of 3 measured steps; provide more data"),
    (f.Gaussian(), t(3), "rain must vary for Gaussian, got 3 at each of 1 measured steps"),
    (f.StudentT(), t(3, 3), "rain must vary for StudentT"),
    (
        f.Gamma(),
        t(1, 0, 2),
        r"rain must be > 0 for Gamma, got 0 at step 1; use Hurdle\(Gamma\(\)\) if a zero is a real",
    ),
    (f.Gamma(), t(1, -1, 2), "rain must be > 0 for Gamma, got -1 at step 1; mark it missing"),
    (f.Gamma(), t(2, 2), "rain must vary for Gamma"),
    (f.LogNormal(), t(1, 0, 2), r"rain must be > 0 for LogNormal, got 0 at step 1; use Hurdle\(LogNormal\(\)\)"),
    (f.Exponential(), t(1, -1, 2), "rain must be >= 0 for Exponential, got -1 at step 1; mark it missing"),
    (f.Exponential(), t(0, 0), "rain must be above 0 at least once for Exponential, got 0 at all 2 measured steps"),
    (f.Geometric(), t(1, 2.5), "rain must be a whole number >= 0 for Geometric, got 2.5 at step 1"),
    (f.Binomial(3), t(1, 4), "rain must be at most the number of trials, 3, got 4 at step 1; give Binomial the number"),
    (f.Beta(), t(0.5, 0), r"rain must lie strictly between 0 and 1 for Beta, got 0 at step 1; use Hurdle\(Beta\(\)\)"),
    (f.Beta(), t(0.5, 1), "rain must lie strictly between 0 and 1 for Beta, got 1 at step 1; take"),
    (f.Beta(), t(0.5, 37), "rain must lie strictly between 0 and 1 for Beta, got 37 at step 1; divide by 100"),
    (f.Beta(), t(0.5, 0.5), "rain must vary for Beta"),
    (f.VonMises(), t(0, 270), "rain must be an angle of at most 4 turns of 6.283 for VonMises, got 270 at step 1; use"),
    (f.Bernoulli(), t(0, 1, 2), "rain must be 0 or 1 for Bernoulli, got 2 at step 2; code the two outcomes"),
    (f.Categorical(), t(0, -1), "rain must be a code 0, 1, ... for Categorical, got -1 at step 1"),
    (f.Categorical(), t(0, 0.5), "rain must be a code 0, 1, ... for Categorical, got 0.5 at step 1"),
    (f.Categorical(3), t(0, 3), "rain must be below the number of categories, 3, got 3 at step 1"),
    (f.Hurdle(f.Gamma()), t(0, 0, 0), "rain must be nonzero at least once for hurdle-gamma, got 0 at all 3 measured"),
    (f.Hurdle(f.Gamma()), t(0, 1, -1), "rain must be > 0 for Gamma, got -1 at step 2; mark it missing"),
    (f.Hurdle(f.Gamma()), t(0, 2, 2), "rain must vary for Gamma, got 2 at each of 2 measured steps"),
    (f.Hurdle(f.Poisson()), t(0, 1.5), "rain must be a whole number >= 0 for Poisson, got 1.5 at step 1"),
    (f.Gaussian(), torch.zeros(3, 2), r"observations must be one column for Gaussian, got 2 at each step"),
    (f.MultivariateGaussian(), t(1, 2), "observations must be several columns for MultivariateGaussian, got shape"),
    (f.MultivariateGaussian(), t([1, 2], [1, 3]), "rain must vary for MultivariateGaussian"),
    (f.Multinomial(), t([1, 2], [2, -1]), "column 1 must be a whole number >= 0 for Multinomial, got -1 at step 1"),
    (
        f.Multinomial(),
        t([0, 0], [0, 0]),
        "rows must hold a count at least once for Multinomial, got 0 in all of 2 rows",
    ),
    (f.Product((f.Gaussian(), f.Gamma())), t([1, 2], [2, 0]), "column 1 must be > 0 for Gamma, got 0 at step 1"),
    (f.Product((f.Gaussian(), f.Gamma())), t([1], [2]), "observations must be 2 columns for gaussian,gamma, got shape"),
    (f.Independent(f.Gamma()), t([1, 2], [2, 0]), "column 1 must be > 0 for Gamma, got 0 at step 1"),
    (f.Independent(f.Gamma()), t(1, 2), "observations must be several columns for independent-gamma"),
]


@pytest.mark.parametrize("family, values, message", REFUSED, ids=lambda x: x.name if isinstance(x, f.Family) else "")
def test_refused_data(family, values, message):
    with pytest.raises(DataError, match=f"^{message.replace('...', '[.][.][.]')}.*[.]$") as caught:
        family.check(values, columns=("rain",))
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_missing_values_are_not_judged():
    observed = torch.tensor([True, False, True])
    f.Gamma().check(t(1, -5, 2), observed)
    f.Poisson().check(t(1, NAN, 2), observed)
    f.Hurdle(f.Gamma()).check(t(1, -5, 2), observed)
    f.MultivariateGaussian().check(t([1, 2], [NAN, NAN], [2, 1]), observed)
    f.MultivariateGaussian().check(
        t([1, 2], [NAN, 5], [2, 1]), torch.tensor([[True, True], [False, True], [True, True]])
    )
    with pytest.raises(DataError, match="must be measured at least once, got 3 missing at all steps"):
        f.Gaussian().check(t(1, 2, 3), torch.zeros(3, dtype=torch.bool))


def test_the_place_is_the_callers():
    with pytest.raises(DataError, match="got -1 at 2012-01-02 of Seattle;"):
        f.Poisson().check(t(1, -1), where=lambda step: f"2012-01-0{step + 1} of Seattle")


def test_good_data_pass(case):
    case.family.check(case.sample(20, seed=0))


def test_symbols_as_bytes_pass():
    f.Categorical().check(torch.tensor([0, 3, 2], dtype=torch.uint8))
    f.Bernoulli().check(torch.tensor([0, 1], dtype=torch.uint8))


def test_the_number_of_categories_comes_from_the_data():
    codes = torch.tensor([0, 3, 2], dtype=torch.uint8)
    assert f.Categorical().bind(codes) == f.Categorical(4)
    assert f.Categorical().bind(codes, categories=5) == f.Categorical(5)
    assert f.Categorical(6).bind(codes) == f.Categorical(6)
    assert f.Gaussian().bind(codes) == f.Gaussian()
    with pytest.raises(ModelError, match="categories must be known, got None"):
        f.Categorical().parameters()
    with pytest.raises(ModelError, match="categories must be >= 1, got 0"):
        f.Categorical(0)


def test_names():
    wanted = """gaussian poisson negative-binomial bernoulli categorical gamma log-normal student-t
        exponential geometric beta von-mises
        hurdle-gamma hurdle-log-normal zero-inflated-poisson multivariate-gaussian"""
    for name in wanted.split():
        assert f.by_name(name).name == name and name in f.NAMES
    assert f.by_name("hurdle-negative-binomial") == f.Hurdle(f.NegativeBinomial())
    assert f.by_name("binomial-10") == f.Binomial(10) and f.Binomial(10).name == "binomial-10"
    assert f.by_name("von-mises-360") == f.VonMises(360) and f.VonMises(360).name == "von-mises-360"
    assert f.by_name("mixture-2-hurdle-gamma") == f.Mixture(f.Hurdle(f.Gamma()), 2)
    assert f.by_name("gaussian,hurdle-gamma") == f.Product((f.Gaussian(), f.Hurdle(f.Gamma())))
    assert f.by_name("gaussian,hurdle-gamma").name == "gaussian,hurdle-gamma"
    assert f.by_name("independent-hurdle-gamma") == f.Independent(f.Hurdle(f.Gamma()))


def test_an_unknown_name_lists_the_names_and_the_closest():
    with pytest.raises(
        ModelError, match=r"^family must be one of gaussian, .*got 'guassian' at family; did you mean gaussian\?"
    ):
        f.by_name("guassian")
    with pytest.raises(ModelError, match="did you mean hurdle-gamma"):
        f.by_name("Hurdle_Gamma")
    with pytest.raises(ModelError, match="got 'binomial' at family; name the number of trials, as in binomial-10"):
        f.by_name("binomial")
    with pytest.raises(ModelError, match="got 'zzz' at family"):
        f.by_name("zzz")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: f.Hurdle(f.Bernoulli()), r"Hurdle must wrap .* got bernoulli; use Bernoulli\(\) alone"),
        (lambda: f.ZeroInflated(f.Categorical(3)), "ZeroInflated must wrap .* got categorical"),
        (lambda: f.Hurdle(f.Hurdle(f.Gamma())), "Hurdle must wrap a family without an extra zero"),
        (lambda: f.Hurdle(f.Gamma), "Hurdle must wrap a family without an extra zero"),
        (lambda: f.Independent(f.MultivariateGaussian()), "Independent must wrap a univariate family"),
        (
            lambda: f.MultivariateGaussian("round"),
            "covariance must be one of full, diagonal, spherical, tied, got 'round'",
        ),
        (lambda: f.Binomial(0), "trials must be a whole number >= 1, got 0 at Binomial"),
        (lambda: f.by_name("binomial-2.5"), "trials must be a whole number >= 1, got 2.5 at Binomial"),
        (lambda: f.Multinomial(0), "trials must be a whole number >= 1, got 0 at Multinomial"),
        (lambda: f.Mixture(f.Gaussian(), 0), "components must be a whole number >= 1, got 0 at Mixture"),
        (lambda: f.Mixture(f.Mixture(f.Gaussian(), 2), 2), "Mixture must be of a family that is no mixture"),
        (lambda: f.Product((f.MultivariateGaussian(),)), "Product must be of univariate families"),
        (lambda: f.Product((f.Gaussian(),), ("a b",)), "names must be one identifier for each of the 1 columns"),
        (
            lambda: f.Product((f.Gaussian(), f.Poisson()), ("a",)),
            "names must be one identifier for each of the 2 columns",
        ),
        (
            lambda: f.Product((f.Gaussian(), f.Gaussian()), ("a", "a")),
            "names must give every parameter a name of its own",
        ),
        (lambda: f.Hurdle(f.Mixture(f.Gamma(), 2)), "Hurdle must stand inside a mixture, got mixture-2-gamma at inner"),
        (lambda: f.VonMises(0.0), "period must be a number > 0, got 0.0 at VonMises"),
        (lambda: f.Gaussian().parameters((2,)), r"observations must be single numbers for gaussian, got shape \(2,\)"),
        (lambda: f.MultivariateGaussian().parameters(()), "observations must be vectors for multivariate-gaussian"),
    ],
)
def test_refused_models(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_json_round_trip(case):
    text = json.dumps(case.family.to_json())
    assert f.from_json(json.loads(text)) == case.family


@pytest.mark.parametrize(
    "broken", [{}, {"family": "nonesuch"}, {"family": "hurdle"}, {"family": "gaussian", "x": 1}, []]
)
def test_broken_json(broken):
    with pytest.raises(ModelError, match="family's description must"):
        f.from_json(broken)


def test_free_parameters_are_counted():
    assert f.Gaussian().n_parameters(3) == 6
    assert f.Categorical(4).n_parameters(2) == 6
    assert f.Hurdle(f.Gamma()).n_parameters(2) == 6
    assert f.StudentT().n_parameters(2) == 6
    counted = {
        kind: f.MultivariateGaussian(kind).n_parameters(2, (3,)) for kind in ("full", "tied", "diagonal", "spherical")
    }
    assert counted == {"full": 18, "tied": 12, "diagonal": 12, "spherical": 8}
    assert f.Independent(f.Bernoulli()).n_parameters(4, (88,)) == 352


def test_descriptions_are_plain_words(case):
    for state in range(3):
        text = case.family.describe(case.parameters, state, unit="mm")
        assert text and "tensor" not in text and "\n" not in text
    rain = {"nonzero": t(0.03), "concentration": t(2.0), "rate": t(0.5)}
    expected = "3% nonzero, mean 4 mm, standard deviation 2.83 mm when nonzero"
    assert f.Hurdle(f.Gamma()).describe(rain, 0, "mm") == expected
