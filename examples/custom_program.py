"""Can I write an HMM that no package has? Rain and temperature share a hidden weather regime, with a season.

Ten lines of Pyro with two observed sites and one covariate. The states are summed out exactly, so that MAP
(AutoDelta), variational inference (AutoNormal) and NUTS run on it unchanged; then Viterbi paths and predictions.
"""

import os

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal

from probseq import MarkovChain, datasets, marginalize, posterior

K = 2


def program(rain: torch.Tensor, season: torch.Tensor, temperature: torch.Tensor) -> None:
    """Wet or dry (rain) and the day's maximum (temperature, degrees C), given K hidden regimes and the season."""
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(K)))
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(K, K)).to_event(1))
    wet = pyro.sample("wet", dist.Beta(1.0, 1.0).expand([K]).to_event(1))
    level = pyro.sample("level", dist.Normal(15.0, 10.0).expand([K]).to_event(1))
    swing = pyro.sample("swing", dist.Normal(0.0, 10.0))
    state = pyro.sample("state", MarkovChain(initial, transition, len(rain)))
    with pyro.plate("day", len(rain)):
        pyro.sample("rain", dist.Bernoulli(wet[state]), obs=rain)
        pyro.sample("temperature", dist.Normal(level[state] + swing * season, 3.0), obs=temperature)


def main() -> None:
    quick = "PROBSEQ_QUICK" in os.environ  # the test suite asks for fewer draws
    frame = datasets.frame("rainfall").query("location == 'Seattle'").head(365)
    day = torch.arange(365.0)
    season = torch.cos(2 * torch.pi * (day - 200) / 365.25)
    rain = torch.tensor((frame["precipitation"] > 0).to_numpy(), dtype=torch.float32)
    temperature = torch.tensor(frame["temp_max"].to_numpy(), dtype=torch.float32)
    data = (rain, season, temperature)

    model = marginalize(program)
    guides = {}
    for make_guide in (AutoDelta, AutoNormal):
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        guide = make_guide(model)
        svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.995}), Trace_ELBO())
        losses = [svi.step(*data) for _ in range(300)]
        guides[make_guide.__name__] = guide.median()
        print(
            f"{make_guide.__name__}: loss {losses[0]:.1f} -> {losses[-1]:.1f}, wet = {guide.median()['wet'].tolist()}"
        )

    best = guides["AutoDelta"]
    path = posterior(program, best)(*data)["state"]
    print(
        f"Viterbi: {path.viterbi.bincount(minlength=K).tolist()} days in each regime, {path.viterbi[:20].tolist()} ..."
    )

    draws = 20 if quick else 200
    nuts = MCMC(NUTS(model), num_samples=draws, warmup_steps=draws, initial_params=None, disable_progbar=True)
    nuts.run(*data)
    samples = nuts.get_samples()
    print(f"NUTS: wet = {samples['wet'].mean(0).tolist()}, swing = {samples['swing'].mean():.2f} degrees C")

    states = Predictive(model, samples)(*data)["state"]  # drawn from their law given the data
    print(f"Predictive: share of days in regime 1 = {states.double().mean():.3f}")
    replicas = Predictive(pyro.poutine.uncondition(program), samples)(*data)["rain"]
    print(f"replicated wet share {replicas.mean():.3f}, observed {rain.mean():.3f}")


if __name__ == "__main__":
    main()
