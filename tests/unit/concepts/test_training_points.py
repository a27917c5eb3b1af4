"""Training on points in the plane: against a plain PyTorch loop, what models can learn, and divergence."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.training.compute import DEFAULT_LR, LR_FACTOR, NUM_FRAMES
from thalweg.concepts.training.toy_datasets import DATASETS, SPIRAL_TURNS, make_dataset, split_points
from thalweg.errors import OptionError


def train(*words, **settings) -> dict:
    """Run the concept and return its numbers."""
    return thalweg.explain("training", *words, **settings).result.numbers


# --- the numbers -----------------------------------------------------------------------------------------------------


def train_reference(numbers: dict, width: int, lr: float, decay: float, batch: int, epochs: int, seed: int):
    """The same training as a plain loop: losses, accuracies, rows of the last batch, the model, (mean, std)."""
    points = np.array(numbers["points"])
    labels = torch.tensor(numbers["labels"])
    rows = np.flatnonzero(np.array(numbers["parts"]) == 0)
    mean = points[rows].mean(0)
    std = points[rows].std(0)
    x = torch.tensor((points - mean) / std, dtype=torch.float32)[rows]
    y = labels[rows]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, len(numbers["classes"])))
    losses = []
    accuracies = []
    batch_rows = None
    for epoch in range(epochs + 1):
        with torch.no_grad():
            losses.append(float(F.cross_entropy(model(x), y)))
            accuracies.append(float((model(x).argmax(1) == y).double().mean()))
        if epoch == epochs:
            break
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed((seed << 20) + epoch))
        for start in range(0, len(x) - batch + 1, batch):
            batch_rows = order[start : start + batch]
            model.zero_grad()
            F.cross_entropy(model(x[batch_rows]), y[batch_rows]).backward()
            with torch.no_grad():
                for weight in model.parameters():
                    decay_term = decay * weight if weight.ndim > 1 else 0.0
                    weight -= lr * (weight.grad + decay_term)
    return losses, accuracies, rows[batch_rows.numpy()], model, (mean, std)


def test_training_matches_a_plain_pytorch_loop():
    numbers = train(
        dataset="blobs",
        points=40,
        hidden=[3],
        optimizer="sgd",
        lr=0.5,
        weight_decay=0.01,
        batch_size=7,
        epochs=6,
        seed=3,
    )
    (run,) = numbers["runs"]
    losses, accuracies, batch, model, (mean, std) = train_reference(numbers, 3, 0.5, 0.01, 7, 6, 3)
    np.testing.assert_allclose(run["curves"]["train"]["loss"], losses, rtol=2e-5)
    assert run["curves"]["train"]["accuracy"] == accuracies
    assert losses[-1] < 0.7 * losses[0]
    last = run["snapshots"][-1]
    assert (last["epoch"], run["steps"]) == (6, 6 * run["steps_per_epoch"])
    assert last["batch"] == batch.tolist() and all(numbers["parts"][row] == 0 for row in batch)

    def make_grid(side: int) -> torch.Tensor:
        left, right, bottom, top = numbers["window"]
        x, y = np.meshgrid(np.linspace(left, right, side), np.linspace(bottom, top, side))
        return torch.tensor((np.stack([x, y], 2) - mean) / std, dtype=torch.float32)

    with torch.no_grad():
        surface = model(make_grid(len(last["class"]))).softmax(2)
        maps = torch.tanh(model[0](make_grid(len(last["maps"][0][0])))).permute(2, 0, 1)
    np.testing.assert_allclose(last["probability"], surface.max(2).values, rtol=1e-3)
    first, second = surface.topk(2, 2).values.unbind(2)
    np.testing.assert_allclose(last["lead"], first - second, rtol=1e-3, atol=1e-5)
    assert np.mean(np.array(last["class"]) == surface.argmax(2).numpy()) > 0.999
    np.testing.assert_allclose(last["maps"][0], maps, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(last["weights"][1], model[2].weight.detach(), rtol=1e-3)


def test_the_global_random_state_is_left_unchanged():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train(points=20, epochs=2)
    assert torch.equal(torch.rand(3), expected)
    assert train(points=20, epochs=2) == first
    assert train(points=20, epochs=2, seed=1)["points"] != first["points"]


@pytest.mark.parametrize("seed", [0, 1])
def test_default_settings_learn_the_spirals(seed):
    curves = train(seed=seed)["runs"][0]["curves"]
    assert curves["train"]["accuracy"][-1] > 0.95 > 0.75 > curves["train"]["accuracy"][1]
    assert curves["test"]["accuracy"][-1] > 0.8


def test_xor_needs_a_hidden_layer():
    linear = train(dataset="xor", hidden="none", noise=0)["runs"][0]
    assert linear["num_params"] == 6 and linear["snapshots"][-1]["maps"] == []
    assert max(linear["curves"]["train"]["accuracy"]) <= 0.78
    assert linear["curves"]["train"]["loss"][-1] == pytest.approx(math.log(2), abs=0.02)
    nonlinear = train(dataset="xor", hidden=[4], noise=0)["runs"][0]
    assert nonlinear["curves"]["train"]["accuracy"][-1] > 0.95


# --- comparisons ----------------------------------------------------------------------------------------------------


def test_compare_lr_runs_smaller_and_larger_learning_rates():
    rendered = thalweg.explain("training", dataset="moons", compare="lr", points=100, epochs=300)
    small, default, large = rendered.result.numbers["runs"]
    assert [run["lr"] for run in (small, default, large)] == [0.02 / LR_FACTOR, 0.02, 0.02 * LR_FACTOR]
    assert default["curves"] == train(dataset="moons", points=100, epochs=300)["runs"][0]["curves"]
    final = [run["curves"]["train"]["loss"][-1] for run in (small, default, large)]
    assert final[1] < min(final[0], final[2]) / 3
    assert len(rendered.result.frames) == NUM_FRAMES and rendered.result.frames[-1].draw().size == (1800, 1200)


def test_a_large_network_overfits_noisy_points_and_a_note_says_so():
    rendered = thalweg.explain("training", dataset="moons", noise=0.4, points=100, compare="hidden")
    small, _, large = rendered.result.numbers["runs"]
    assert (small["hidden"], large["hidden"]) == ((2,), (64, 64))
    assert large["curves"]["train"]["loss"][-1] < 0.02 < small["curves"]["train"]["loss"][-1]
    valid = large["curves"]["val"]["loss"]
    assert valid[-1] > 1.5 * min(valid)
    assert any(note.startswith("hidden 64, 64: overfitting: after epoch") for note in rendered.result.notes)


@pytest.mark.parametrize(
    ("optimizer", "compared"), [("adam", ["sgd", "momentum", "adam"]), ("muon", ["sgd", "adam", "muon"])]
)
def test_compare_optimizer_uses_default_learning_rates_and_equal_initial_weights(optimizer, compared):
    runs = train(compare="optimizer", optimizer=optimizer, epochs=2, points=40)["runs"]
    assert {(run["optimizer"], run["lr"]) for run in runs} == {(name, DEFAULT_LR[name]) for name in compared}
    assert runs[-1]["optimizer"] == optimizer
    assert len({run["curves"]["train"]["loss"][0] for run in runs}) == 1


def test_compare_hidden_has_a_smaller_and_a_larger_network_at_the_limits():
    sizes = [run["hidden"] for run in train(compare="hidden", hidden=[1], epochs=1, points=20)["runs"]]
    assert sizes == [(), (1,), (64,)]
    sizes = [run["hidden"] for run in train(compare="hidden", hidden=[64], epochs=1, points=20)["runs"]]
    assert sizes == [(16,), (64,), (64, 64)]


# --- divergence ------------------------------------------------------------------------------------------------------


def test_divergence_is_recorded_noted_and_drawn(tmp_path, capsys):
    settings = ["--set", "activation=leaky-relu", "--set", "optimizer=sgd", "--set", "lr=100"]
    assert cli.invoke(["explain", "training", *settings, "--json", "--save", str(tmp_path / "a.png")]) == 0
    captured = capsys.readouterr()
    assert "diverged" in captured.err
    output = json.loads(captured.out)
    (run,) = output["numbers"]["runs"]
    assert 0 < run["diverged_at"] == run["steps"] < 40 and output["frames"][-1].startswith("Diverged")
    assert len(run["curves"]["train"]["loss"]) == run["snapshots"][-1]["epoch"]
    assert run["snapshots"][-1]["probability"][0][0] is None


def test_other_runs_continue_when_one_diverges():
    rendered = thalweg.explain("training", activation="leaky-relu", optimizer="sgd", lr=1.0, compare="lr", epochs=12)
    runs = rendered.result.numbers["runs"]
    assert [run["diverged_at"] is None for run in runs] == [True, True, False]
    assert len(runs[0]["curves"]["train"]["loss"]) == 13
    assert rendered.result.frames[-1].caption.endswith("lr 30: diverged.")


def test_a_run_that_does_not_learn_has_a_note():
    (note,) = thalweg.explain("training", lr=0, epochs=3).result.notes
    assert note.startswith("not learning")


# --- datasets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_datasets_have_balanced_classes_and_the_requested_noise(name):
    clean = make_dataset(name, 600, 0.0, np.random.default_rng(1))
    noisy = make_dataset(name, 600, 0.25, np.random.default_rng(1))
    assert np.bincount(clean.labels).tolist() == [600 // len(clean.classes)] * len(clean.classes)
    assert (noisy.points - clean.points).std() == pytest.approx(0.25, rel=0.1)


def test_datasets_without_noise_have_their_shapes():
    def generate(name):
        return make_dataset(name, 400, 0.0, np.random.default_rng(0))

    circles = generate("circles")
    np.testing.assert_allclose(np.hypot(*circles.points.T), np.where(circles.labels == 0, 1, 0.5))
    xor = generate("xor")
    assert ((np.prod(xor.points, 1) < 0) == (xor.labels == 1)).all()
    spirals = generate("spirals")
    radius = np.hypot(*spirals.points.T)
    angle = np.arctan2(*spirals.points.T[::-1])
    expected = 2 * np.pi * SPIRAL_TURNS * (radius - 0.3) / 1.7 + np.pi * spirals.labels
    np.testing.assert_allclose(np.cos(expected - angle), 1)
    moons = generate("moons")
    center = np.where(moons.labels[:, None] == 0, (-0.5, -0.25), (0.5, 0.25))
    np.testing.assert_allclose(np.hypot(*(moons.points - center).T), 1)


def test_splits_are_stratified():
    labels = np.repeat([0, 1, 2], [60, 30, 1])
    split = split_points(labels, 0.2, 0.3, np.random.default_rng(0))
    counts = [[int(((labels == k) & (split == index)).sum()) for index in range(3)] for k in range(3)]
    assert counts == [[30, 12, 18], [15, 6, 9], [1, 0, 0]]
    numbers = train(points=20, epochs=1, val_fraction=0, test_fraction=0)
    assert set(numbers["parts"]) == {0} and list(numbers["runs"][0]["curves"]) == ["train"]


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "test_fraction"),
        ({"batch_size": 1, "epochs": 5000}, "epochs"),
        ({"hidden": [2] * 7}, "hidden"),
        ({"hidden": "none", "compare": "hidden"}, "hidden"),
        ({"columns": ["a", "b", "c"]}, "columns"),
    ],
)
def test_invalid_settings_are_rejected(settings, option):
    with pytest.raises(OptionError) as error:
        train(**settings)
    assert error.value.option == option
    assert error.value.cure


@pytest.mark.parametrize("settings", [{"hidden": [65]}, {"points": 10}, {"compare": "rates"}])
def test_values_out_of_range_are_rejected(settings):
    with pytest.raises(OptionError) as error:
        train(**settings)
    assert next(iter(settings)) in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": [3, 20, 2, 1, 1, 2], "activation": "step"},
        {"hidden": "none", "dataset": "blobs"},
        {"val_fraction": 0, "test_fraction": 0.4, "points": 3000, "activation": "gelu"},
    ],
)
def test_networks_of_every_shape_are_drawn(settings):
    rendered = thalweg.explain("training", epochs=2, **settings)
    assert {frame.draw().size for frame in rendered.result.frames} == {(1800, 1260)}
