"""Training on points: against a loop written out in PyTorch, what networks can and cannot learn, and what is told."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.training import toy_datasets as pointsets
from thalweg.concepts.training.compute import DEFAULT_LR, LR_FACTOR, NUM_FRAMES
from thalweg.errors import OptionError


def trained(*words, **settings) -> dict:
    """The numbers of one training."""
    return thalweg.explain("training", *words, **settings).result.numbers


# --- the numbers -----------------------------------------------------------------------------------------------------


def written_out(numbers: dict, width: int, lr: float, decay: float, batch: int, epochs: int, seed: int):
    """The same training as a plain loop: (losses, accuracies) of the training points, the last batch, the network."""
    points, labels = np.array(numbers["points"]), torch.tensor(numbers["labels"])
    rows = np.flatnonzero(np.array(numbers["parts"]) == 0)
    mean, std = points[rows].mean(0), points[rows].std(0)
    x = torch.tensor((points - mean) / std, dtype=torch.float32)[rows]
    y = labels[rows]
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, len(numbers["classes"])))
    losses, accuracies, taken = [], [], None
    for epoch in range(epochs + 1):
        with torch.no_grad():
            losses.append(float(F.cross_entropy(network(x), y)))
            accuracies.append(float((network(x).argmax(1) == y).double().mean()))
        if epoch == epochs:
            break
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed((seed << 20) + epoch))
        for start in range(0, len(x) - batch + 1, batch):
            taken = order[start : start + batch]
            network.zero_grad()
            F.cross_entropy(network(x[taken]), y[taken]).backward()
            with torch.no_grad():
                for weight in network.parameters():
                    pulled = decay * weight if weight.ndim > 1 else 0.0
                    weight -= lr * (weight.grad + pulled)
    return losses, accuracies, rows[taken.numpy()], network, (mean, std)


def test_it_is_the_loop_that_anyone_would_write():
    numbers = trained(
        set="blobs", points=40, hidden=[3], optimizer="sgd", lr=0.5, weight_decay=0.01, batch=7, epochs=6, seed=3
    )
    (run,) = numbers["runs"]
    losses, accuracies, batch, network, (mean, std) = written_out(numbers, 3, 0.5, 0.01, 7, 6, 3)
    np.testing.assert_allclose(run["curves"]["train"]["loss"], losses, rtol=2e-5)
    assert run["curves"]["train"]["accuracy"] == accuracies
    assert losses[-1] < 0.7 * losses[0]
    last = run["snapshots"][-1]
    assert (last["epoch"], run["steps"]) == (6, 6 * run["steps_per_epoch"])
    assert last["batch"] == batch.tolist() and all(numbers["parts"][row] == 0 for row in batch)

    def asked(side: int) -> torch.Tensor:
        left, right, lower, upper = numbers["window"]
        x, y = np.meshgrid(np.linspace(left, right, side), np.linspace(lower, upper, side))
        return torch.tensor((np.stack([x, y], 2) - mean) / std, dtype=torch.float32)

    with torch.no_grad():
        surface = network(asked(len(last["class"]))).softmax(2)
        maps = torch.tanh(network[0](asked(len(last["maps"][0][0])))).permute(2, 0, 1)
    np.testing.assert_allclose(last["probability"], surface.max(2).values, rtol=1e-3)
    first, second = surface.topk(2, 2).values.unbind(2)
    np.testing.assert_allclose(last["lead"], first - second, rtol=1e-3, atol=1e-5)
    assert np.mean(np.array(last["class"]) == surface.argmax(2).numpy()) > 0.999
    np.testing.assert_allclose(last["maps"][0], maps, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(last["weights"][1], network[2].weight.detach(), rtol=1e-3)


def test_the_random_numbers_of_the_program_stay_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = trained(points=20, epochs=2)
    assert torch.equal(torch.rand(3), expected)
    assert trained(points=20, epochs=2) == first
    assert trained(points=20, epochs=2, seed=1)["points"] != first["points"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_spirals_are_learned_by_what_is_given_for_them(seed):
    curves = trained(seed=seed)["runs"][0]["curves"]
    assert curves["train"]["accuracy"][-1] > 0.95 > 0.75 > curves["train"]["accuracy"][1]
    assert curves["test"]["accuracy"][-1] > 0.8


def test_xor_needs_a_hidden_layer():
    alone = trained(set="xor", hidden="none", noise=0)["runs"][0]
    assert alone["parameters"] == 6 and alone["snapshots"][-1]["maps"] == []
    assert max(alone["curves"]["train"]["accuracy"]) <= 0.78
    assert alone["curves"]["train"]["loss"][-1] == pytest.approx(math.log(2), abs=0.02)
    helped = trained(set="xor", hidden=[4], noise=0)["runs"][0]
    assert helped["curves"]["train"]["accuracy"][-1] > 0.95


# --- three side by side ----------------------------------------------------------------------------------------------


def test_rates_too_small_given_and_too_large():
    shown = thalweg.explain("training", set="moons", compare="rates", points=100, epochs=300)
    small, given, large = shown.result.numbers["runs"]
    assert [run["lr"] for run in (small, given, large)] == [0.02 / LR_FACTOR, 0.02, 0.02 * LR_FACTOR]
    assert given["curves"] == trained(set="moons", points=100, epochs=300)["runs"][0]["curves"]
    last = [run["curves"]["train"]["loss"][-1] for run in (small, given, large)]
    assert last[1] < min(last[0], last[2]) / 3
    assert len(shown.result.frames) == NUM_FRAMES and shown.result.frames[-1].draw().size == (1800, 1200)


def test_a_network_too_large_learns_noise_by_heart_and_it_is_told():
    shown = thalweg.explain("training", set="moons", noise=0.4, points=100, compare="sizes")
    small, _, large = shown.result.numbers["runs"]
    assert (small["hidden"], large["hidden"]) == ((2,), (64, 64))
    assert large["curves"]["train"]["loss"][-1] < 0.02 < small["curves"]["train"]["loss"][-1]
    valid = large["curves"]["valid"]["loss"]
    assert valid[-1] > 1.5 * min(valid)
    assert any(note.startswith("hidden 64, 64: overfitting: after epoch") for note in shown.result.notes)


@pytest.mark.parametrize(("given", "three"), [("adam", ["sgd", "momentum", "adam"]), ("muon", ["sgd", "adam", "muon"])])
def test_optimizers_have_their_own_rates_and_begin_alike(given, three):
    runs = trained(compare="optimizers", optimizer=given, epochs=2, points=40)["runs"]
    assert {(run["optimizer"], run["lr"]) for run in runs} == {(name, DEFAULT_LR[name]) for name in three}
    assert runs[-1]["optimizer"] == given
    assert len({run["curves"]["train"]["loss"][0] for run in runs}) == 1


def test_a_network_of_one_neuron_is_compared_with_none():
    sizes = [run["hidden"] for run in trained(compare="sizes", hidden=[1], epochs=1, points=20)["runs"]]
    assert sizes == [(), (1,), (64,)]
    sizes = [run["hidden"] for run in trained(compare="sizes", hidden=[64], epochs=1, points=20)["runs"]]
    assert sizes == [(16,), (64,), (64, 64)]


# --- too large a rate ------------------------------------------------------------------------------------------------


def test_what_diverges_is_told_and_drawn(tmp_path, capsys):
    wild = ["--set", "activation=leaky-relu", "--set", "optimizer=sgd", "--set", "lr=100"]
    assert cli.invoke(["explain", "training", *wild, "--json", "--save", str(tmp_path / "a.png")]) == 0
    told = capsys.readouterr()
    assert "the loss became infinite or not a number at update" in told.err
    found = json.loads(told.out)
    (run,) = found["numbers"]["runs"]
    assert 0 < run["ended"] == run["steps"] < 40 and found["frames"][-1].startswith("Diverged: at update")
    assert len(run["curves"]["train"]["loss"]) == run["snapshots"][-1]["epoch"]
    assert run["snapshots"][-1]["probability"][0][0] is None


def test_beside_one_that_diverges_the_others_go_on():
    shown = thalweg.explain("training", activation="leaky-relu", optimizer="sgd", lr=1.0, compare="rates", epochs=12)
    runs = shown.result.numbers["runs"]
    assert [run["ended"] is None for run in runs] == [True, True, False]
    assert len(runs[0]["curves"]["train"]["loss"]) == 13
    assert shown.result.frames[-1].caption.endswith("rate 30: diverged.")


def test_what_does_not_learn_is_told():
    (note,) = thalweg.explain("training", lr=0, epochs=3).result.notes
    assert note.startswith("nothing was learned: with the rate 0")


# --- sets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(pointsets.DATASETS))
def test_sets_have_classes_of_one_size_and_the_noise_that_is_asked_for(name):
    plain = pointsets.make_dataset(name, 600, 0.0, np.random.default_rng(1))
    noisy = pointsets.make_dataset(name, 600, 0.25, np.random.default_rng(1))
    assert np.bincount(plain.labels).tolist() == [600 // len(plain.classes)] * len(plain.classes)
    assert (noisy.points - plain.points).std() == pytest.approx(0.25, rel=0.1)


def test_shapes_of_sets():
    def of(name):
        return pointsets.make_dataset(name, 400, 0.0, np.random.default_rng(0))

    rings = of("circles")
    np.testing.assert_allclose(np.hypot(*rings.points.T), np.where(rings.labels == 0, 1, 0.5))
    crossed = of("xor")
    assert ((np.prod(crossed.points, 1) < 0) == (crossed.labels == 1)).all()
    arms = of("spirals")
    radius, angle = np.hypot(*arms.points.T), np.arctan2(*arms.points.T[::-1])
    turned = 2 * np.pi * pointsets.SPIRAL_TURNS * (radius - 0.3) / 1.7 + np.pi * arms.labels
    np.testing.assert_allclose(np.cos(turned - angle), 1)
    halves = of("moons")
    middle = np.where(halves.labels[:, None] == 0, (-0.5, -0.25), (0.5, 0.25))
    np.testing.assert_allclose(np.hypot(*(halves.points - middle).T), 1)


def test_every_part_has_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [60, 30, 1])
    part = pointsets.split_points(labels, 0.2, 0.3, np.random.default_rng(0))
    counts = [[int(((labels == k) & (part == p)).sum()) for p in range(3)] for k in range(3)]
    assert counts == [[30, 12, 18], [15, 6, 9], [1, 0, 0]]
    numbers = trained(points=20, epochs=1, valid=0, test=0)
    assert set(numbers["parts"]) == {0} and list(numbers["runs"][0]["curves"]) == ["train"]


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"valid": 0.5, "test": 0.5}, "too few points"),
        ({"batch": 1, "epochs": 5000}, "updates"),
        ({"hidden": [2] * 7}, "7 layers"),
        ({"hidden": [65]}, "hidden"),
        ({"hidden": "none", "compare": "sizes"}, "smaller"),
        ({"points": 10}, "points"),
        ({"columns": ["a", "b", "c"]}, "columns: they are of a table"),
    ],
)
def test_what_cannot_be_trained_is_refused(settings, told):
    with pytest.raises(OptionError, match=told):
        trained(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": [3, 20, 2, 1, 1, 2], "activation": "step"},
        {"hidden": "none", "set": "blobs"},
        {"valid": 0, "test": 0.4, "points": 3000, "activation": "gelu"},
    ],
)
def test_every_form_of_network_can_be_drawn(settings):
    shown = thalweg.explain("training", epochs=2, **settings)
    assert {frame.draw().size for frame in shown.result.frames} == {(1800, 1260)}
