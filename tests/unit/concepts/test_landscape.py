"""The way of a training over its loss, against closed forms, full Hessians, and losses computed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import nn

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.landscape.compute import (
    LandscapeSettings,
    classify_minimum,
    filter_normalize,
    format_eigenvalue,
    landscape,
    largest_barrier,
    path_pca,
)
from thalweg.concepts.landscape.loss_surface import LossSurface, flatten, lanczos
from thalweg.losses.classification import cross_entropy, squared_error
from thalweg.objectives.base import Loss
from thalweg.objectives.supervised import Supervised


def objective(network, function=cross_entropy):
    def criterion(network, batch):
        logits_BK = network(batch["image"])
        accuracy = (logits_BK.argmax(1) == batch["label"]).float().mean()
        return Loss(function(logits_BK, batch["label"]), len(batch["label"]), {"accuracy": accuracy})

    return Supervised(network, criterion)


def examples(count, size, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(count, size, generator=generator),
        "label": torch.randint(0, classes, (count,), generator=generator),
    }


def names(network):
    return [name for name, _ in network.named_parameters()]


def vector(network):
    return flatten([weight.detach() for weight in network.parameters()]).clone()


# --- curvature -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_lanczos_finds_the_extreme_eigenvalues_of_a_matrix(size, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    found = lanczos(lambda v: matrix @ v, size, 60, seed, torch.float64)
    true = torch.linalg.eigvalsh(matrix)
    assert found.smallest == pytest.approx(float(true[0]), abs=1e-6)
    assert found.largest == pytest.approx(float(true[-1]), abs=1e-6)


def test_its_bounds_hold_before_it_has_converged():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(200, 200, generator=generator, dtype=torch.float64)
    matrix, true = matrix + matrix.T, torch.linalg.eigvalsh(matrix + matrix.T)
    found = lanczos(lambda v: matrix @ v, 200, 12, 0, torch.float64)
    assert found.largest_error > 1e-3
    assert float((true - found.largest).abs().min()) <= found.largest_error
    assert float((true - found.smallest).abs().min()) <= found.smallest_error


def test_the_curvature_of_a_network_is_that_of_its_whole_hessian():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    batch, start = examples(40, 4, 3), vector(network)

    def loss(vector_D):
        parts = vector_D.split([weight.numel() for weight in network.parameters()])
        shaped = [part.view(w.shape) for part, w in zip(parts, network.parameters(), strict=True)]
        given = dict(zip(names(network), shaped, strict=True))
        return cross_entropy(torch.func.functional_call(network, given, batch["image"]), batch["label"])

    true = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))
    for parts in (1, 3):
        surface = LossSurface(objective(network), split(batch, parts), names(network))
        found = surface.curvature(start, 43, seed=1)
        assert found.smallest == pytest.approx(float(true[0]), abs=1e-4)
        assert found.largest == pytest.approx(float(true[-1]), rel=1e-4)
        gradient = torch.autograd.functional.jacobian(loss, start)
        torch.testing.assert_close(surface.gradient(start), gradient, atol=1e-6, rtol=1e-4)
        assert surface.loss(start)[0] == pytest.approx(float(loss(start)), rel=1e-5)


def split(batch, parts):
    pieces = {name: values.tensor_split(parts) for name, values in batch.items()}
    return [{name: pieces[name][part] for name in batch} for part in range(parts)]


def test_the_squared_error_of_a_linear_layer_curves_as_its_inputs_say():
    """Its Hessian is 2 X^T X / N for every output, whatever the weights."""
    network = nn.Linear(6, 2, bias=False)
    batch = examples(50, 6, 2)
    true = torch.linalg.eigvalsh(2 * batch["image"].T @ batch["image"] / 50)
    found = LossSurface(objective(network, squared_error), [batch], ["weight"]).curvature(torch.randn(12), 12, 0)
    assert found.largest == pytest.approx(float(true[-1]), rel=1e-4)
    assert found.smallest == pytest.approx(float(true[0]), rel=1e-3)


def test_statistics_of_batches_stay_what_they_are_and_dropout_is_off():
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in network.named_buffers()}
    surface = LossSurface(objective(network), [examples(30, 4, 3)], names(network))
    place = vector(network)
    assert surface.loss(place) == surface.loss(place)
    surface.curvature(place, 5, 0)
    assert all(torch.equal(value, before[n]) for n, value in network.named_buffers() if "tracked" not in n)


# --- directions ------------------------------------------------------------------------------------------------------


def test_the_principal_directions_are_those_of_a_singular_value_decomposition():
    path = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)).cumsum(0)
    found, shares, notes = path_pca(path)
    around = (path[:-1] - path[-1]).double().numpy()
    _, values, true = np.linalg.svd(around, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(found.numpy() * true[:2], 1)), 1, atol=1e-5)
    np.testing.assert_allclose(shares, values[:2] ** 2 / np.sum(values**2), rtol=1e-6)
    assert not notes


def test_a_path_without_a_second_direction_gets_one_by_chance_and_says_so():
    path = torch.stack([torch.zeros(20), torch.ones(20)])
    found, shares, notes = path_pca(path)
    assert shares == [pytest.approx(1), 0.0] and len(notes) == 1
    torch.testing.assert_close(found @ found.T, torch.eye(2), atol=1e-6, rtol=0)


def test_every_filter_of_a_scaled_direction_is_as_long_as_the_trained_one():
    shapes = [torch.Size((4, 3, 2, 2)), torch.Size((4,)), torch.Size((5, 16))]
    generator = torch.Generator().manual_seed(0)
    direction, weights = (torch.randn(48 + 4 + 80, generator=generator) for _ in range(2))
    scaled = filter_normalize(direction, weights, shapes)
    for start, end, rows in ((0, 48, 4), (52, 132, 5)):
        length = [tensor[start:end].view(rows, -1).norm(dim=1) for tensor in (scaled, weights)]
        torch.testing.assert_close(length[0], length[1])
        cosine = torch.cosine_similarity(scaled[start:end].view(rows, -1), direction[start:end].view(rows, -1))
        torch.testing.assert_close(cosine, torch.ones(rows))
    assert not scaled[48:52].any()


@pytest.mark.parametrize(
    ("losses", "rise"), [([3, 2, 1], 0), ([3, 1, 2, 0.5, 1], 1), ([1, 2, 3], 2), ([1, 0, 0.2, 0.1], 0.2)]
)
def test_an_obstacle_is_what_has_to_be_climbed(losses, rise):
    assert largest_barrier(losses) == pytest.approx(rise)


@pytest.mark.parametrize(
    ("smallest", "told"), [(-1, "no minimum"), (-0.05, "bends down a little"), (-1e-5, "nothing bends"), (1, "nothing")]
)
def test_a_negative_eigenvalue_is_never_said_to_be_none(smallest, told):
    assert told in classify_minimum(smallest, 10)


def test_an_eigenvalue_that_is_not_sure_is_told_with_its_bound():
    assert format_eigenvalue(-0.1628, 0.0145) == "-0.163 ± 0.01" and format_eigenvalue(15.82, 1e-4) == "15.8"


def test_on_a_convex_loss_the_straight_line_only_falls_and_the_plane_has_its_minimum_at_the_end():
    """Logistic regression, trained to the end by itself."""
    network, batch = nn.Linear(2, 2), examples(60, 2, 2)
    descent = torch.optim.LBFGS(network.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    trail = [(0, {name: weight.detach().clone() for name, weight in network.named_parameters()})]

    def closure():
        descent.zero_grad()
        loss = cross_entropy(network(batch["image"]), batch["label"])
        loss.backward()
        return loss

    for step in range(1, 4):
        descent.step(closure)
        trail.append((step, {name: weight.detach().clone() for name, weight in network.named_parameters()}))
    asked = LandscapeSettings(points=11, grid=9, iterations=6, curvatures=2)
    found = landscape(asked, objective(network), trail, [batch], [batch])
    numbers = found.numbers
    assert numbers["line"]["rise"] < 1e-6 and numbers["line"]["fall"] > 0
    assert numbers["line"]["train_loss"] == numbers["line"]["test_loss"]
    assert min(map(min, numbers["plane"]["loss"])) >= numbers["path"]["loss"][-1] - 1e-6
    assert numbers["path"]["gradient_norm"][-1] < 1e-3 and numbers["curvature"]["smallest"][-1] > -1e-5
    assert "a minimum" in found.key_numbers["curvature at the end"]
    assert found.key_numbers["obstacles on the straight line"] == "none, the loss falls all the way"


# --- a run of the user's ---------------------------------------------------------------------------------------------

SMALL = ["--set", "grid=5", "--set", "points=5", "--set", "iterations=4", "--set", "curvatures=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("landscape") / "run"
    return thalweg.train("classify", "digits", model="lenet", epochs=2, threads=1, out=out, report=False)


def test_the_loss_at_the_end_is_that_of_the_trained_network(run):
    shown = thalweg.explain("landscape", run, grid=5, points=5, iterations=4, curvatures=1, examples=10_000)
    path, line = shown.result.numbers["path"], shown.result.numbers["line"]
    data = run.read()
    probability = run.task.infer(run.model, {"image": torch.from_numpy(data.train.images.copy())}, run.facts).numpy()
    probability = probability.astype(np.float64)
    probability /= probability.sum(1, keepdims=True)
    true = log_loss(data.train.labels, probability, labels=range(10))
    assert shown.result.numbers["examples"] == len(data.train)
    assert path["loss"][-1] == pytest.approx(true, rel=1e-3)
    assert line["train_loss"][line["share"].index(1.0)] == pytest.approx(path["loss"][-1], rel=1e-5)
    assert line["train_loss"][line["share"].index(0.0)] == pytest.approx(path["loss"][0], rel=1e-5)
    assert path["loss"][0] > 2 and path["step"][-1] == run.results["steps"]
    accuracy = float((probability.argmax(1) == data.train.labels).mean())
    assert line["train_accuracy"][line["share"].index(1.0)] == pytest.approx(accuracy, abs=1e-6)


def test_a_run_without_its_initial_weights_is_refused(tmp_path, capsys):
    out = str(tmp_path / "a")
    assert (
        cli.invoke(["train", "classify", "--model", "mlp", "--steps", "2", "--trail", "0", "--no-report", "--out", out])
        == 0
    )
    assert cli.invoke(["explain", "landscape", out, *SMALL]) == 4
    assert "does not have its initial weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "about a run"),
        (["digits-lenet"], 4, "does not have its initial weights"),
        (["no/such/run"], 2, "no/such/run"),
        (["a", "b"], 2, "one word too many"),
        (["resnet18"], 2, "without a run"),
    ],
)
def test_what_is_no_run_is_refused(words, code, told, capsys, monkeypatch):
    from thalweg.inference.inputs import weight_path as trail

    honest = trail.load
    fake = type("Pretrained", (), {"name": "resnet18"})()
    monkeypatch.setattr(trail, "load", lambda name, *more: fake if name == "resnet18" else honest(name, *more))
    assert cli.invoke(["explain", "landscape", *words]) == code
    assert told in capsys.readouterr().err


def test_a_frozen_network_is_walked_in_its_last_layer_only(tmp_path):
    run = thalweg.train(
        "classify", "digits", model="convnet", freeze=True, steps=8, threads=1, out=tmp_path / "a", report=False
    )
    shown = thalweg.explain("landscape", run, grid=5, points=5, iterations=6, curvatures=2)
    numbers = shown.result.numbers
    last = sum(w.numel() for w in run.model.head.parameters()) if hasattr(run.model, "head") else 0
    assert numbers["weights"] == last
    assert min(numbers["curvature"]["smallest"]) > -1e-3, "a linear layer under cross-entropy is convex"
