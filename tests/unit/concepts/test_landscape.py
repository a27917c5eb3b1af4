"""The loss landscape of a training, against closed forms, full Hessians, and independently computed losses."""

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
from thalweg.concepts.landscape import compute
from thalweg.concepts.landscape.compute import (
    LandscapeSettings,
    classify_minimum,
    count_evaluations,
    format_eigenvalue,
    landscape,
    take_fraction,
)
from thalweg.concepts.landscape.loss_surface import LossSurface, flatten, lanczos
from thalweg.concepts.landscape.measurements import filter_normalize, largest_barrier, path_pca
from thalweg.losses.classification import cross_entropy, squared_error
from thalweg.objectives.base import Loss
from thalweg.objectives.supervised import Supervised


def build_objective(model, function=cross_entropy):
    def criterion(model, batch):
        logits_BK = model(batch["image"])
        accuracy = (logits_BK.argmax(1) == batch["label"]).float().mean()
        return Loss(function(logits_BK, batch["label"]), len(batch["label"]), {"accuracy": accuracy})

    return Supervised(model, criterion)


def random_batch(count, size, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(count, size, generator=generator),
        "label": torch.randint(0, classes, (count,), generator=generator),
    }


def param_names(model):
    return [name for name, _ in model.named_parameters()]


def weight_vector(model):
    return flatten([weight.detach() for weight in model.parameters()]).clone()


# --- curvature -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_lanczos_finds_the_extreme_eigenvalues(size, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    spectrum = lanczos(lambda v: matrix @ v, size, 60, seed, torch.float64)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert spectrum.smallest == pytest.approx(float(eigenvalues[0]), abs=1e-6)
    assert spectrum.largest == pytest.approx(float(eigenvalues[-1]), abs=1e-6)


def test_lanczos_error_bounds_hold_before_convergence():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(200, 200, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    eigenvalues = torch.linalg.eigvalsh(matrix)
    spectrum = lanczos(lambda v: matrix @ v, 200, 12, 0, torch.float64)
    assert spectrum.largest_error > 1e-3
    assert float((eigenvalues - spectrum.largest).abs().min()) <= spectrum.largest_error
    assert float((eigenvalues - spectrum.smallest).abs().min()) <= spectrum.smallest_error


def test_hessian_extremes_match_the_full_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    batch = random_batch(40, 4, 3)
    start = weight_vector(model)

    def loss(weights_D):
        pieces = weights_D.split([param.numel() for param in model.parameters()])
        shaped = [piece.view(param.shape) for piece, param in zip(pieces, model.parameters(), strict=True)]
        params = dict(zip(param_names(model), shaped, strict=True))
        return cross_entropy(torch.func.functional_call(model, params, batch["image"]), batch["label"])

    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))
    for num_batches in (1, 3):
        surface = LossSurface(build_objective(model), split_batch(batch, num_batches), param_names(model))
        spectrum = surface.hessian_extremes(start, 43, seed=1)
        assert spectrum.smallest == pytest.approx(float(eigenvalues[0]), abs=1e-4)
        assert spectrum.largest == pytest.approx(float(eigenvalues[-1]), rel=1e-4)
        gradient = torch.autograd.functional.jacobian(loss, start)
        torch.testing.assert_close(surface.compute_gradient(start), gradient, atol=1e-6, rtol=1e-4)
        assert surface.evaluate(start)[0] == pytest.approx(float(loss(start)), rel=1e-5)


def split_batch(batch, count):
    pieces = {name: values.tensor_split(count) for name, values in batch.items()}
    return [{name: pieces[name][i] for name in batch} for i in range(count)]


def test_hessian_of_a_linear_layer_with_squared_error_matches_its_closed_form():
    """The Hessian is 2 X^T X / N for every output, whatever the weights."""
    model = nn.Linear(6, 2, bias=False)
    batch = random_batch(50, 6, 2)
    eigenvalues = torch.linalg.eigvalsh(2 * batch["image"].T @ batch["image"] / 50)
    surface = LossSurface(build_objective(model, squared_error), [batch], ["weight"])
    spectrum = surface.hessian_extremes(torch.randn(12), 12, 0)
    assert spectrum.largest == pytest.approx(float(eigenvalues[-1]), rel=1e-4)
    assert spectrum.smallest == pytest.approx(float(eigenvalues[0]), rel=1e-3)


def test_running_statistics_stay_unchanged_and_dropout_is_off():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in model.named_buffers()}
    surface = LossSurface(build_objective(model), [random_batch(30, 4, 3)], param_names(model))
    weights_D = weight_vector(model)
    assert surface.evaluate(weights_D) == surface.evaluate(weights_D)
    surface.hessian_extremes(weights_D, 5, 0)
    assert all(torch.equal(value, before[n]) for n, value in model.named_buffers() if "tracked" not in n)


# --- directions ------------------------------------------------------------------------------------------------------


def test_principal_directions_match_a_singular_value_decomposition():
    path = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)).cumsum(0)
    directions, explained_variance = path_pca(path)
    centered = (path[:-1] - path[-1]).double().numpy()
    _, values, expected = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(directions.numpy() * expected[:2], 1)), 1, atol=1e-5)
    np.testing.assert_allclose(explained_variance, values[:2] ** 2 / np.sum(values**2), rtol=1e-6)


def test_a_path_without_a_second_direction_gets_a_random_orthogonal_one():
    path = torch.stack([torch.zeros(20), torch.ones(20)])
    directions, explained_variance = path_pca(path)
    assert explained_variance == [pytest.approx(1), 0.0]
    torch.testing.assert_close(directions @ directions.T, torch.eye(2), atol=1e-6, rtol=0)


def test_filter_normalization_gives_each_filter_the_norm_of_the_weights():
    shapes = [torch.Size((4, 3, 2, 2)), torch.Size((4,)), torch.Size((5, 16))]
    generator = torch.Generator().manual_seed(0)
    direction, weights = (torch.randn(48 + 4 + 80, generator=generator) for _ in range(2))
    scaled = filter_normalize(direction, weights, shapes)
    for start, end, rows in ((0, 48, 4), (52, 132, 5)):
        norms = [tensor[start:end].view(rows, -1).norm(dim=1) for tensor in (scaled, weights)]
        torch.testing.assert_close(norms[0], norms[1])
        cosine = torch.cosine_similarity(scaled[start:end].view(rows, -1), direction[start:end].view(rows, -1))
        torch.testing.assert_close(cosine, torch.ones(rows))
    assert not scaled[48:52].any()


@pytest.mark.parametrize(
    ("losses", "barrier"), [([3, 2, 1], 0), ([3, 1, 2, 0.5, 1], 1), ([1, 2, 3], 2), ([1, 0, 0.2, 0.1], 0.2)]
)
def test_barrier_is_the_largest_rise_above_an_earlier_loss(losses, barrier):
    assert largest_barrier(losses) == pytest.approx(barrier)


@pytest.mark.parametrize(("smallest", "same_class_as"), [(-1, -10), (-0.05, -0.02), (-1e-5, 1), (0, 1)])
def test_minima_are_classified_by_the_sign_and_size_of_the_smallest_eigenvalue(smallest, same_class_as):
    assert classify_minimum(smallest, 10) == classify_minimum(same_class_as, 10)
    assert len({classify_minimum(value, 10) for value in (-1, -0.05, 1)}) == 3


def test_uncertain_eigenvalues_are_shown_with_their_error_bound():
    assert format_eigenvalue(-0.1628, 0.0145) == "-0.163 ± 0.01"
    assert format_eigenvalue(15.82, 1e-4) == "15.8"


def copy_weights(model):
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def test_convex_loss_has_no_barrier_and_its_minimum_at_the_end():
    """Logistic regression, trained to convergence."""
    model = nn.Linear(2, 2)
    batch = random_batch(60, 2, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    snapshots = [(0, copy_weights(model))]

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(batch["image"]), batch["label"])
        loss.backward()
        return loss

    for step in range(1, 4):
        optimizer.step(closure)
        snapshots.append((step, copy_weights(model)))
    settings = LandscapeSettings(points=11, grid=9, iterations=6, curvature_points=2)
    result = landscape(settings, build_objective(model), snapshots, [batch], [batch])
    numbers = result.numbers
    assert numbers["line"]["barrier"] < 1e-6 and numbers["line"]["fall"] > 0
    assert numbers["line"]["train_loss"] == numbers["line"]["test_loss"]
    assert min(map(min, numbers["plane"]["loss"])) >= numbers["path"]["loss"][-1] - 1e-6
    assert numbers["path"]["gradient_norm"][-1] < 1e-3 and numbers["curvature"]["smallest"][-1] > -1e-5
    smallest, largest = (numbers["curvature"][name][-1] for name in ("smallest", "largest"))
    assert classify_minimum(smallest, largest) == classify_minimum(1, 10)
    assert classify_minimum(smallest, largest) in result.key_numbers["curvature at the end"]


# --- time budget -----------------------------------------------------------------------------------------------------


class FakeClock:
    """A clock that advances by a fixed time for every example that the model evaluates."""

    def __init__(self, seconds_per_example):
        self.seconds_per_example = seconds_per_example
        self.now = 0.0

    def __call__(self):
        return self.now

    def watch(self, objective):
        """Advance the clock whenever the objective evaluates a batch."""
        criterion = objective.criterion

        def timed(model, batch):
            self.now += self.seconds_per_example * len(batch["label"])
            return criterion(model, batch)

        objective.criterion = timed
        return objective


def run_landscape(monkeypatch, seconds, seconds_per_example=0.001, num_snapshots=3):
    """Run the concept on a tiny model with a fake clock; return result and clock."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    snapshots = []
    for step in range(num_snapshots):
        snapshots.append((step, copy_weights(model)))
        with torch.no_grad():
            for param in model.parameters():
                param.add_(torch.randn(param.shape))
    clock = FakeClock(seconds_per_example)
    monkeypatch.setattr(compute, "perf_counter", clock)
    train = split_batch(random_batch(100, 3, 2), 4)
    test = split_batch(random_batch(40, 3, 2, seed=1), 2)
    settings = LandscapeSettings(points=5, grid=5, iterations=4, curvature_points=2, seconds=seconds)
    return landscape(settings, clock.watch(build_objective(model)), snapshots, train, test), clock


@pytest.mark.parametrize("seconds", [2, 5, 10])
def test_fewer_examples_are_used_to_stay_within_the_time_budget(monkeypatch, seconds):
    result, clock = run_landscape(monkeypatch, seconds)
    settings = LandscapeSettings(points=5, grid=5, iterations=4, curvature_points=2)
    expected = seconds / (count_evaluations(settings, 3, 2) * 0.001)
    assert result.numbers["examples"] == int(expected) < 100
    assert len(result.notes) == 1
    assert f"{result.numbers['examples']} of 100" in result.notes[0]
    # the budget covers everything but the measurement itself
    assert clock.now - 0.125 <= seconds


def test_all_examples_are_used_within_the_time_budget(monkeypatch):
    result, _ = run_landscape(monkeypatch, 1000)
    assert result.numbers["examples"] == 100
    assert not result.notes
    same, _ = run_landscape(monkeypatch, 2000)
    assert same.numbers["line"] == result.numbers["line"]


def test_a_minimum_of_examples_is_used_whatever_the_budget(monkeypatch):
    result, _ = run_landscape(monkeypatch, 1, seconds_per_example=1.0)
    assert result.numbers["examples"] == compute.MIN_EXAMPLES


def test_a_random_second_direction_has_a_note(monkeypatch):
    result, _ = run_landscape(monkeypatch, 1000, num_snapshots=2)
    assert result.numbers["plane"]["explained_variance"][1] == 0
    assert len(result.notes) == 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.floats(0, 1))
def test_a_fraction_of_the_examples_keeps_their_order(sizes, fraction):
    batches = torch.arange(sum(sizes)).split(sizes)
    taken = take_fraction([{"label": label} for label in batches], fraction)
    labels = torch.cat([batch["label"] for batch in taken])
    expected = min(sum(sizes), max(compute.MIN_EXAMPLES, int(fraction * sum(sizes))))
    assert labels.tolist() == list(range(expected))


# --- runs of the user -----------------------------------------------------------------------------------------------

QUICK = ["--set", "grid=5", "--set", "points=5", "--set", "iterations=4", "--set", "curvature_points=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("landscape") / "run"
    return thalweg.train("classify", "digits", model="lenet", epochs=2, cpu_threads=1, out=out, report=False)


def test_final_loss_and_accuracy_match_those_of_the_trained_model(run):
    settings = {"grid": 5, "points": 5, "iterations": 4, "curvature_points": 1, "examples": 10_000}
    numbers = thalweg.explain("landscape", run, **settings, seconds=86_400).result.numbers
    path = numbers["path"]
    line = numbers["line"]
    start = line["fraction"].index(0.0)
    end = line["fraction"].index(1.0)
    data = run.load_data()
    probability = run.model(run.task.to_input(data.train.images, run.spec)).softmax(1).detach().numpy()
    probability = probability.astype(np.float64)
    probability /= probability.sum(1, keepdims=True)
    expected = log_loss(data.train.labels, probability, labels=range(10))
    assert numbers["examples"] == len(data.train)
    assert path["loss"][-1] == pytest.approx(expected, rel=1e-3)
    assert line["train_loss"][end] == pytest.approx(path["loss"][-1], rel=1e-5)
    assert line["train_loss"][start] == pytest.approx(path["loss"][0], rel=1e-5)
    assert path["loss"][0] > 2 and path["step"][-1] == run.results["steps"]
    accuracy = float((probability.argmax(1) == data.train.labels).mean())
    assert line["train_accuracy"][end] == pytest.approx(accuracy, abs=1e-6)


def test_a_run_without_its_initial_weights_is_rejected(tmp_path, capsys):
    out = str(tmp_path / "a")
    assert (
        cli.invoke(
            ["train", "classify", "--model", "mlp", "--steps", "2", "--snapshots", "0", "--no-report", "--out", out]
        )
        == 0
    )
    assert cli.invoke(["explain", "landscape", out, *QUICK]) == 4
    assert out in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"), [([], 2), (["digits-lenet"], 4), (["no/such/run"], 2), (["a", "b"], 2), (["resnet18"], 2)]
)
def test_inputs_that_are_not_a_run_are_rejected(words, code, capsys, monkeypatch):
    from thalweg.inference.inputs import weight_path

    load = weight_path.load
    pretrained = type("Pretrained", (), {"name": "resnet18"})()
    monkeypatch.setattr(
        weight_path, "load", lambda name, *more: pretrained if name == "resnet18" else load(name, *more)
    )
    assert cli.invoke(["explain", "landscape", *words]) == code
    assert len(capsys.readouterr().err.splitlines()) >= 2


def test_only_trained_layers_of_a_frozen_model_are_varied(tmp_path):
    run = thalweg.train(
        "classify", "digits", model="convnet", freeze=True, steps=8, cpu_threads=1, out=tmp_path / "a", report=False
    )
    settings = {"grid": 5, "points": 5, "iterations": 6, "curvature_points": 2}
    numbers = thalweg.explain("landscape", run, **settings).result.numbers
    assert numbers["weights"] == sum(param.numel() for param in run.model.head.parameters())
    assert min(numbers["curvature"]["smallest"]) > -1e-3, "a linear layer under cross-entropy is convex"
