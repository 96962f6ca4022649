"""Does an encoder see who does what to whom, or only which words there are?

Sutskever, Vinyals & Le (2014, figure 2) show that sentences with two names swapped lie apart in the states of a
translating LSTM, while a sentence and its passive lie close. Here a small one learns to translate a made-up grammar
into an order of its own, agent, patient, verb, in which voice leaves no trace; and the figure is measured: of the
variance among the four sentences of one verb and two names, how much is due to who acts, and how much to voice?
"""

import itertools
import os
from typing import Any

import pandas as pd

from probseq import SequenceToSequence, plots, read_parallel, train
from probseq.models import Beam, phrase_states, principal_components, variance_shares

EPOCHS = 40 if os.environ.get("PROBSEQ_QUICK") else 300
NAMES = ["Mary", "John", "Ann", "Paul", "Ruth", "Tom"]
VERBS = {"admires": "admired", "sees": "seen", "helps": "helped", "hears": "heard", "knows": "known", "loves": "loved"}


def grammar() -> pd.DataFrame:
    """Every sentence, active and passive, with its translation and what it is about; a fifth of the scenes unseen."""
    rows = []
    for verb, (agent, patient) in itertools.product(VERBS, itertools.permutations(NAMES, 2)):
        about = {"verb": verb, "names": " ".join(sorted((agent, patient))), "agent": agent}
        target = f"{agent} ga {patient} o {verb.removesuffix('s')}"
        rows.append({"source": f"{agent} {verb} {patient}", "target": target, **about, "voice": "active"})
        rows.append({"source": f"{patient} is {VERBS[verb]} by {agent}", "target": target, **about, "voice": "passive"})
    table = pd.DataFrame(rows)
    scenes = table["verb"] + table["names"]  # whoever acts, in whatever voice
    return table.assign(unseen=scenes.isin(scenes.drop_duplicates().sample(frac=0.2, random_state=1)))


def learn(table: pd.DataFrame, seed: int, epochs: int) -> tuple[SequenceToSequence, SequenceToSequence]:
    """A network before and after it has learned the scenes that it sees."""
    seen = table[~table["unseen"]]
    pairs = read_parallel(text="\n".join(seen["source"] + "\t" + seen["target"]))
    fresh = SequenceToSequence.of(pairs, hidden_size=16, embedding_size=16, reverse=False, seed=seed)
    options: dict[str, Any] = {
        "learning_rate": 0.01,
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "patience": None,
        "bucketed": True,
    }
    network = train(fresh, pairs, epochs=epochs, seed=seed, **options).network
    assert isinstance(network, SequenceToSequence)
    return fresh, network


def exact(network: SequenceToSequence, table: pd.DataFrame) -> float:
    """The share of sentences translated exactly."""
    found = network.translate(table["source"].tolist(), Beam(3))
    return float((found["translation"].to_numpy() == table["target"].to_numpy()).mean())


def shares(states: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """Of the variance among sentences of the same verb and names."""
    factors = table[["verb", "names", "agent", "voice"]].rename(columns={"agent": "who acts"})
    return variance_shares(states, factors, within=["verb", "names"])


def measured(table: pd.DataFrame, fresh: SequenceToSequence, network: SequenceToSequence) -> pd.DataFrame:
    """The shares, of states and of what a bag of words knows of the same sentences."""
    sources, unseen = table["source"].tolist(), table[table["unseen"]]
    return pd.DataFrame(
        {
            "bag of words": shares(table["source"].str.get_dummies(sep=" ").astype(float), table),
            "untrained": shares(phrase_states(fresh, sources), table),
            "trained": shares(phrase_states(network, sources), table),
            "trained, unseen scenes": shares(phrase_states(network, unseen["source"].tolist()), unseen),
        }
    ).T


def main() -> None:
    table = grammar()
    fresh, network = learn(table, seed=0, epochs=EPOCHS)
    unseen = table[table["unseen"]]
    print(f"{(~table['unseen']).sum()} sentences learned; {exact(network, unseen):.0%} of {len(unseen)} others exact")
    two = unseen["source"].tolist()[:2]
    print(network.translate(two)[["translation", "log_prob"]].assign(of=two).to_string(index=False))
    print("share of variance among sentences of the same verb and names:")
    print(measured(table, fresh, network).round(3).to_string())

    shown = table[table["names"].eq("John Mary") & table["verb"].isin(["admires", "helps", "sees"])]
    components = principal_components(phrase_states(network, shown["source"].tolist()))
    figure, axes = plots.figure(8, 6)
    groups = (shown["verb"] + shown["agent"]).tolist()
    plots.phrase_plane(axes, components.scores, components.shares, groups=groups, marks=shown["voice"].tolist())
    figure.savefig("phrase_states.png")
    print(
        f"two components have {components.shares.sum():.0%} of the variance; in their plane, of sentences like these:"
    )
    print(shares(components.scores, shown).round(3).to_string())


if __name__ == "__main__":
    main()
