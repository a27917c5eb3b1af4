"""Every optimiser against its formula, written out in NumPy from the paper."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.engine import optimizers
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.optimizers import Muon, newton_schulz
from thalweg.models.classify.lenet import lenet

LR, MU = 0.05, 0.8
Update = Callable[[np.ndarray, np.ndarray, dict, int], np.ndarray]


def sgd(w, g, memory, t):
    return w - LR * g


def momentum(w, g, memory, t):
    memory["v"] = MU * memory.get("v", 0) + g
    return w - LR * memory["v"]


def nesterov(w, g, memory, t):
    memory["v"] = MU * memory.get("v", 0) + g
    return w - LR * (g + MU * memory["v"])


def adagrad(w, g, memory, t):
    memory["s"] = memory.get("s", 0) + g**2
    return w - LR * g / (np.sqrt(memory["s"]) + 1e-7)


def adadelta(w, g, memory, t):
    memory["s"] = 0.9 * memory.get("s", 0) + 0.1 * g**2
    change = np.sqrt(memory.get("u", 0) + 1e-6) / np.sqrt(memory["s"] + 1e-6) * g
    memory["u"] = 0.9 * memory.get("u", 0) + 0.1 * change**2
    return w - LR * change


def rmsprop(w, g, memory, t):
    memory["s"] = 0.99 * memory.get("s", 0) + 0.01 * g**2
    return w - LR * g / (np.sqrt(memory["s"]) + 1e-8)


def adam(w, g, memory, t, first=MU, second=0.999, rate=LR):
    memory["m"] = first * memory.get("m", 0) + (1 - first) * g
    memory["s"] = second * memory.get("s", 0) + (1 - second) * g**2
    mean, square = memory["m"] / (1 - first**t), memory["s"] / (1 - second**t)
    return w - rate * mean / (np.sqrt(square) + 1e-8)


FORMULAS: dict[str, Update] = {f.__name__: f for f in (sgd, momentum, nesterov, adagrad, adadelta, rmsprop, adam)}
FORMULAS["adamw"] = adam


def gradients(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Three gradients of any size and sign, with a zero among them."""
    random = np.random.default_rng(1)
    made = [random.normal(size=shape) * scale for scale in (1.0, 30.0, 1e-3)]
    made[1].flat[0] = 0.0
    return made


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, given: list[list[np.ndarray]]) -> list[np.ndarray]:
    for one in given:
        for weight, gradient in zip(module.parameters(), one, strict=True):
            weight.grad = torch.tensor(gradient, dtype=weight.dtype)
        optimizer.step()
    return [w.detach().numpy() for w in module.parameters()]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", FORMULAS)
def test_three_updates_are_those_of_the_formula(name, decay):
    """Weight decay: added to the gradient, or, by AdamW, taken from the weight itself; never for biases."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    weights = [w.detach().numpy().copy() for w in layer.parameters()]
    given = list(zip(gradients((2, 3)), gradients((2,)), strict=True))
    recipe = TrainConfig(optimizer=name, lr=LR, momentum=MU, weight_decay=decay)
    found = steps(layer, optimizers.build_optimizer(layer, layer.parameters(), recipe), given)
    memories = [{}, {}]
    for t, one in enumerate(given, start=1):
        for i, g in enumerate(one):
            share = decay if weights[i].ndim > 1 else 0.0
            if name == "adamw":
                weights[i] = weights[i] * (1 - LR * share)
            else:
                g = g + share * weights[i]
            weights[i] = FORMULAS[name](weights[i], g, memories[i], t)
    for a, b in zip(found, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", DEFAULT_LR)
def test_the_rate_can_change_from_step_to_step(name):
    """The trainer sets it before every step; none of it is kept by the optimiser."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = optimizers.build_optimizer(layer, layer.parameters(), TrainConfig(optimizer=name, lr=LR))
    before = copy.deepcopy(layer.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    steps(layer, optimizer, [[np.ones(w.shape) for w in layer.parameters()]])
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", DEFAULT_LR)
def test_a_weight_without_a_gradient_stays(name):
    layer = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = optimizers.build_optimizer(
        layer, layer.parameters(), TrainConfig(optimizer=name, lr=LR, weight_decay=0.1)
    )
    before = copy.deepcopy(layer[1].state_dict())
    layer[0](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in layer[1].state_dict().items())


# --- Muon ------------------------------------------------------------------------------------------------------------


def test_half_precision_is_enough_for_the_orthogonal_matrix():
    torch.manual_seed(0)
    matrix = torch.randn(48, 120)
    apart = newton_schulz(matrix.bfloat16()).float() - newton_schulz(matrix)
    assert float(apart.norm() / newton_schulz(matrix).norm()) < 0.05


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5), (1, 7), (64, 25)])
def test_the_orthogonal_matrix_has_the_singular_vectors_and_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ newton_schulz(matrix) @ v.T
    values = core.diag()
    torch.testing.assert_close(core, torch.diag(values), atol=1e-9, rtol=0)
    assert 0.3 < float(values.min()) and float(values.max()) < 1.3
    assert 0.6 < float(values.mean()) < 1.15
    torch.testing.assert_close(newton_schulz(1000 * matrix), newton_schulz(matrix), atol=1e-5, rtol=0)


def test_no_gradient_gives_no_update():
    assert float(newton_schulz(torch.zeros(3, 4)).abs().max()) == 0


def test_muon_takes_the_hidden_matrices_and_adam_all_else():
    network = lenet(in_channels=1, num_classes=10)
    muon = optimizers.build_optimizer(network, network.parameters(), TrainConfig(optimizer="muon"))
    assert isinstance(muon, Muon)
    shapes = {group["muon"]: sorted(tuple(w.shape) for w in group["params"]) for group in muon.param_groups}
    assert shapes[True] == [(50, 20, 5, 5), (500, 800)]
    assert shapes[False] == sorted([(20, 1, 5, 5), (20,), (50,), (500,), (10, 500), (10,)])
    frozen = [w for w in network.parameters() if w.shape != (500, 800)]
    shapes = [
        tuple(w.shape)
        for g in optimizers.build_optimizer(network, frozen, TrainConfig(optimizer="muon")).param_groups
        for w in g["params"]
    ]
    assert (500, 800) not in shapes and len(shapes) == 7


def test_three_updates_of_muon_are_those_of_the_formula():
    """Nesterov momentum, made orthogonal, times the root of rows over columns; AdamW (0.9, 0.95) at the edges."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 8, (1, 2)), nn.Linear(4, 2)).double()
    weights = [w.detach().numpy().copy() for w in network.parameters()]
    given = [list(one) for one in zip(*[gradients(w.shape) for w in weights], strict=True)]
    recipe = TrainConfig(optimizer="muon", lr=LR, momentum=MU, weight_decay=0.1)
    found = steps(network, optimizers.build_optimizer(network, network.parameters(), recipe), given)
    hidden, memories = 2, [{} for _ in weights]
    for t, one in enumerate(given, start=1):
        for i, g in enumerate(one):
            rate, decay = (LR if i == hidden else 0.1 * LR), (0.1 if weights[i].ndim > 1 else 0.0)
            weights[i] = weights[i] * (1 - rate * decay)
            if i == hidden:
                v = memories[i]["v"] = MU * memories[i].get("v", 0) + (1 - MU) * g
                matrix = ((1 - MU) * g + MU * v).reshape(8, 6)
                change = newton_schulz(torch.tensor(matrix)).numpy() * np.sqrt(8 / 6)
                weights[i] = weights[i] - rate * change.reshape(g.shape)
            else:
                weights[i] = adam(weights[i], g, memories[i], t, first=0.9, second=0.95, rate=rate)
    for a, b in zip(found, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_muon_is_restored_from_its_state():
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    first = optimizers.build_optimizer(one, one.parameters(), TrainConfig(optimizer="muon"))
    given = [list(g) for g in zip(*[gradients(tuple(w.shape)) for w in one.parameters()], strict=True)]
    steps(one, first, given[:2])
    other = copy.deepcopy(one)
    second = optimizers.build_optimizer(other, other.parameters(), TrainConfig(optimizer="muon"))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for a, b in zip(steps(one, first, given[2:]), steps(other, second, given[2:]), strict=True):
        np.testing.assert_array_equal(a, b)
