"""Training against a plain loop, exact resumption, early stopping, refusals, and fits on disk."""

import copy
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from probseq import DataError, FitError, ModelError, NetworkFit, RecurrentModel, Sequences, train
from probseq.inference import training_run
from probseq.inference.training_checkpoint import RunDirectory
from probseq.inference.training_options import TrainingOptions
from probseq.inference.training_steps import batches
from tests.inference.letter_network import LetterNetwork, letters


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Bit by bit."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == named and torch.equal(value, valued) for (name, value), (named, valued) in pairs)


def test_the_weights_are_those_of_a_plain_loop() -> None:
    """The oracle is torch's own loop on the batches that seed and epoch decide; equal to the last bit."""
    network, data = LetterNetwork(), letters()
    fit = train(network, data, epochs=3, batch_size=10, learning_rate=0.01, clip=0.5, patience=None, seed=4)
    plain, options = copy.deepcopy(network), TrainingOptions(batch_size=10, seed=4)
    plain.prepare(data)
    optimiser, examples, losses = torch.optim.Adam(plain.parameters(), lr=0.01), plain.encode(data), []
    for epoch in range(3):
        nats = 0.0
        for chosen in batches(examples.lengths, epoch, options):
            scored = plain.score(examples.take(chosen))
            loss = -scored.log_prob.sum() / scored.steps.sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimiser.step()
            nats -= float(scored.log_prob.detach().sum())
        losses.append(nats / data.total_steps)
    assert same_weights(fit.network, plain)
    np.testing.assert_allclose(fit.curves["train"], losses, rtol=1e-12)  # sums of the same numbers
    assert fit.best_epoch == 3 and not fit.converged and fit.stop_reason == "all 3 epochs are done"
    assert same_weights(network, LetterNetwork())


def test_it_learns_what_there_is_to_learn() -> None:
    """The rate of the source: a slip (0.1) chooses among 3 evenly, so a step has probability 0.9 + 0.1/3 or 0.1/3."""
    right, wrong = 0.9 + 0.1 / 3, 0.1 / 3
    rate = -(right * math.log(right) + 2 * wrong * math.log(wrong))
    data, held_out = letters(200), letters(200, seed=1)
    fit = train(LetterNetwork(16), data, validation=held_out, epochs=30, learning_rate=0.01)
    scored = -float(fit.log_prob(held_out).sum()) / held_out.total_steps
    assert scored == pytest.approx(fit.curves["validation"].min(), abs=1e-9)  # sums in another order
    assert rate - 0.05 < scored < rate + 0.1  # the first letter is nearly certain, too; 1,600 steps: error 0.03


def test_early_stopping_restores_the_best_weights() -> None:
    network, data, held_out = LetterNetwork(12), letters(8), letters(30, seed=1)
    fit = train(network, data, validation=held_out, epochs=200, learning_rate=0.05, patience=3)
    watched = fit.curves["validation"]
    assert fit.converged and len(fit.curves) == fit.best_epoch + 3 < 200
    assert watched[fit.best_epoch - 1] == watched.min() and "no lower for 3 epochs" in fit.stop_reason
    assert -float(fit.log_prob(held_out).sum()) / held_out.total_steps == pytest.approx(watched.min(), abs=1e-9)
    shorter = train(network, data, validation=held_out, epochs=fit.best_epoch, learning_rate=0.05, patience=3)
    assert same_weights(fit.network, shorter.network)


def test_the_learning_rate_is_halved_when_the_loss_stays() -> None:
    options = {"epochs": 25, "learning_rate": 0.05, "patience": None, "halve_after": 2}
    curves = train(LetterNetwork(12), letters(8), validation=letters(30, seed=1), **options).curves
    rate, waited, best, expected = 0.05, 0, math.inf, []
    for loss in curves["validation"]:
        expected.append(rate)
        waited, best = (0, loss) if loss < best else (waited + 1, best)
        if waited >= 2:
            rate, waited = rate / 2, 0
    assert curves["learning_rate"].tolist() == expected and len(set(expected)) > 2


def test_the_learning_rate_falls_in_a_line(tmp_path: Path) -> None:
    fit = train(LetterNetwork(), letters(8), epochs=4, learning_rate=0.02, anneal=True, directory=tmp_path)
    np.testing.assert_allclose(fit.curves["learning_rate"], [0.02, 0.015, 0.01, 0.005], rtol=1e-12)
    with pytest.raises(FitError, match="epochs of a resumed training must be 4"):
        train(LetterNetwork(), letters(8), epochs=5, learning_rate=0.02, anneal=True, directory=tmp_path, resume=True)
    with pytest.raises(FitError, match="halve_after must be None"):
        train(LetterNetwork(), letters(8), anneal=True, halve_after=2)


def test_windows_carry_the_state_and_score_the_same() -> None:
    """Evaluated by windows the loss is the same; trained by windows, the number of updates is that of the windows."""
    data, held_out = letters(), letters(seed=1)
    kept = train(LetterNetwork(), data, validation=held_out, epochs=4, learning_rate=1e-9)
    cut = train(LetterNetwork(), data, validation=held_out, epochs=4, learning_rate=1e-9, truncate=5)
    np.testing.assert_allclose(kept.curves["validation"], cut.curves["validation"], atol=1e-6)  # float32 weights
    np.testing.assert_allclose(kept.curves["train"], cut.curves["train"], atol=1e-6)
    learned = train(LetterNetwork(), letters(200), epochs=20, learning_rate=0.01, truncate=3)
    assert learned.curves["train"].iloc[-1] < 0.5  # of log 3 = 1.1 that knows nothing


def test_batches_hold_every_example_once() -> None:
    lengths = torch.randint(1, 90, (500,), generator=torch.Generator().manual_seed(0))
    for bucketed in (False, True):
        options = TrainingOptions(batch_size=8, bucketed=bucketed)
        found = [batches(lengths, epoch, options) for epoch in (0, 1)]
        assert [torch.cat(one).sort().values.tolist() for one in found] == [list(range(500))] * 2
        assert torch.cat(found[0]).tolist() != torch.cat(found[1]).tolist()
        spread = sum(int(lengths[one].max() - lengths[one].min()) for one in found[0]) / len(found[0])
        assert spread < 10 if bucketed else spread > 40


def test_what_is_random_repeats_by_seed_and_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        train(LetterNetwork(dropped=0.3), letters(), validation=0.25, epochs=2, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert same_weights(first.network, again.network) and not same_weights(first.network, other.network)
    columns = ["epoch", "train", "validation", "learning_rate", "gradient_norm"]
    pd.testing.assert_frame_equal(first.curves[columns], again.curves[columns])


def test_a_share_is_held_out_by_examples_or_from_the_end_of_one_series() -> None:
    fit = train(LetterNetwork(), letters(40), validation=0.25, epochs=1)
    total = int(fit.network.seen)  # type: ignore[call-overload]
    assert 0.6 < total / letters(40).total_steps < 0.9
    single = train(LetterNetwork(), letters(1).take([0]), validation=0.25, epochs=1)
    assert "validation" in single.curves


class Diverging(LetterNetwork):
    """Its loss or its gradient is not finite from the third batch on."""

    what = "loss"

    def __init__(self, hidden: int = 8, dropped: float = 0.0, seed: int = 0) -> None:
        super().__init__(hidden, dropped, seed)
        self.scored = 0

    def score(self, examples, state=None):  # noqa: ANN001, ANN201
        found = super().score(examples, state)
        if self.training:
            self.scored += 1
        if self.scored < 3 or not self.training:
            return found
        zero = (found.log_prob * 0.0).sum()
        odd = {"loss": zero / 0.0, "impossible": zero - math.inf, "gradient": zero.abs().sqrt()}[self.what]
        return found._replace(log_prob=found.log_prob + odd)


@pytest.mark.parametrize(
    ("what", "said"),
    [("loss", "loss was NaN"), ("impossible", "an observation is impossible"), ("gradient", "gradient was NaN")],
)
def test_what_is_not_finite_ends_the_training_and_keeps_the_weights_before(what, said, monkeypatch) -> None:
    monkeypatch.setattr(Diverging, "what", what)
    with pytest.warns(UserWarning, match=f"{said}.* in batch 1 of epoch 2; the weights are those of epoch 1"):
        fit = train(Diverging(), letters(20), batch_size=10, epochs=3)
    assert not fit.converged and said.split(" in ")[0] in fit.stop_reason and "lower learning_rate" in fit.stop_reason
    assert same_weights(fit.network, train(Diverging(), letters(20), batch_size=10, epochs=1).network)
    with pytest.warns(UserWarning, match="batch 3 of epoch 1; the weights are those before that batch"):
        early = train(Diverging(), letters(30), batch_size=10, epochs=3)
    assert early.best_epoch == 0 and all(bool(one.isfinite().all()) for one in early.network.parameters())


def test_an_interrupt_returns_the_best_so_far(monkeypatch) -> None:
    inner, calls = training_run.update, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return inner(*arguments)

    monkeypatch.setattr(training_run, "update", interrupted)
    fit = train(LetterNetwork(), letters(30), batch_size=10, epochs=5)
    assert fit.stop_reason == "interrupted" and len(fit.curves) == 2 and not fit.converged
    assert same_weights(fit.network, train(LetterNetwork(), letters(30), batch_size=10, epochs=2).network)


# ---- checkpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_run_in_pieces_is_the_run_in_one(optimizer: str, tmp_path: Path) -> None:
    options = {"validation": letters(seed=1), "batch_size": 7, "seed": 3, "optimizer": optimizer, "halve_after": 1}
    network, data = LetterNetwork(dropped=0.3), letters()
    options |= {"learning_rate": 0.02, "weight_decay": 0.01}
    whole = train(network, data, epochs=6, patience=None, **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training_run.Run, "_late", lambda run: run.batch == 2 and run.epoch in (0, 3))
        for _ in range(2):  # stops within the first epoch and within the fourth
            piece = train(network, data, epochs=6, patience=None, directory=tmp_path, resume=True, **options)
        assert len(piece.curves) == 3
    for _ in range(2):  # the second finds it done
        piece = train(network, data, epochs=6, patience=None, directory=tmp_path, resume=True, **options)
        assert same_weights(whole.network, piece.network) and piece.best_epoch == whole.best_epoch
        pd.testing.assert_frame_equal(whole.curves.drop(columns="seconds"), piece.curves.drop(columns="seconds"))
    written = pd.read_csv(tmp_path / "curves.csv")
    pd.testing.assert_frame_equal(written, piece.curves)
    further = train(network, data, epochs=8, patience=None, directory=tmp_path, resume=True, **options)
    pd.testing.assert_frame_equal(
        further.curves.drop(columns="seconds"),
        train(network, data, epochs=8, patience=None, **options).curves.drop(columns="seconds"),
    )


def test_a_directory_of_another_run_is_refused(tmp_path: Path) -> None:
    network, data = LetterNetwork(), letters()
    train(network, data, epochs=1, directory=tmp_path)
    refusals = [
        ("hold no other one", network, data, {}),
        ("learning_rate of a resumed training must be 0.001", network, data, {"resume": True, "learning_rate": 0.1}),
        ("the data of a resumed", network, letters(seed=5), {"resume": True}),
        ("the validation data of a resumed", network, data, {"resume": True, "validation": letters(3)}),
        ("the network of a resumed", LetterNetwork(seed=1), data, {"resume": True}),
    ]
    for said, asked, given, options in refusals:
        with pytest.raises(FitError, match=said):
            train(asked, given, epochs=1, directory=tmp_path, **options)
    for half in (".checkpoint.safetensors-x", ".curves.csv-x"):  # of a process that was killed while it wrote
        (tmp_path / half).touch()
    train(network, data, epochs=1, directory=tmp_path, resume=True)
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(FitError, match="a checkpoint must be whole"):
        train(network, data, epochs=1, directory=tmp_path, resume=True)


def test_two_trainings_at_once_do_not_share_a_directory(tmp_path: Path) -> None:
    """Of one, the weights, and of the other, the words: what two of them wrote in turns would be neither."""
    place = tmp_path / "run"
    with RunDirectory(place, {}).alone(), pytest.raises(FitError, match="got another one at work"):
        train(LetterNetwork(), letters(), epochs=1, directory=place)
    assert train(LetterNetwork(), letters(), epochs=1, directory=place).best_epoch == 1


# ---- refusals and files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": 2.5},
        {"learning_rate": -1.0},
        {"clip": math.nan},
        {"weight_decay": -0.1},
        {"optimizer": "lion"},
        {"patience": True},
        {"validation": 1.5},
        {"validation": True},
        {"validation": "half"},
        {"seed": -1},
        {"time_limit": math.nan},
        {"checkpoint_minutes": -1.0},
        {"resume": True},
        {"lr": 0.1},
    ],
)
def test_options_without_meaning_are_refused(options: dict) -> None:
    with pytest.raises(FitError, match=f"({next(iter(options))}|an option of train) must .*got "):
        train(LetterNetwork(), letters(), **options)


def test_what_is_no_network_or_no_data_is_refused_by_name() -> None:
    fit = train(LetterNetwork(), letters(), epochs=1)
    with pytest.raises(FitError, match=r"got NetworkFit in train; of a fit give fit\.network"):
        train(fit, letters())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="data must be Sequences or Pairs, got list"):
        train(LetterNetwork(), [[1.0, 2.0]])
    for steps in (1, 2):
        with pytest.raises(DataError, match=f"got 0.1 of {steps} steps of a single sequence"):
            train(LetterNetwork(), Sequences.from_arrays([[1.0] * steps]), validation=0.1)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    options = {"epochs": np.int64(1), "learning_rate": np.float32(0.5), "validation": np.float32(0.2)}
    fit = train(LetterNetwork(), letters(), seed=np.int64(3), directory=tmp_path, **options)  # type: ignore[arg-type]
    assert fit.seed == 3 and fit.options["learning_rate"] == 0.5 and "validation" in fit.curves


@pytest.mark.parametrize("double", [False, True])
def test_a_fit_comes_back_from_disk_bit_by_bit(double: bool, tmp_path: Path) -> None:
    network = LetterNetwork().double() if double else LetterNetwork()
    fit = train(network, letters(), validation=letters(5, seed=1), epochs=2)
    fit.save(tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"network.json", "network.safetensors"}
    back = NetworkFit.load(tmp_path / "kept", LetterNetwork)
    assert same_weights(fit.network, back.network)
    assert torch.equal(fit.log_prob(letters(seed=2)), back.log_prob(letters(seed=2)))
    pd.testing.assert_frame_equal(fit.curves, back.curves)
    assert back.summary() == fit.summary() and back.summary()["nats_per_step"]["validation"] > 0.0
    with pytest.raises(DataError, match="kind of a saved network must be one of .* got 'letters'"):
        NetworkFit.load(tmp_path / "kept")
    with pytest.raises(DataError, match="must hold network.json"):
        NetworkFit.load(tmp_path)
    with pytest.raises(ModelError, match="able to simulate"):
        back.simulate(3, seed=0)


def test_ignite_is_imported_without_a_warning_and_prints_nothing(capsys: pytest.CaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(LetterNetwork(), Sequences.from_arrays([[0, 1, 2]], categories=("a", "b", "c")), epochs=1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("held_out", "loss"), [([0.5, 1.0], "inf"), ([math.nan], "nan")])
def test_a_validation_that_is_impossible_or_missing_chooses_no_epoch(held_out: list, loss: str) -> None:
    """Every epoch would be as good as the first, and patience end the training as if it had converged."""
    counts = Sequences.from_arrays([[1.0, 0.0, 2.0], [3.0, 1.0]] * 3)
    network = RecurrentModel.for_series(counts, "poisson", "gru", 3)
    with pytest.raises(FitError, match=f"possible under the network, got {loss} nats"):
        train(network, counts, validation=Sequences.from_arrays([held_out, [1.0]]).take([0]), epochs=3)
