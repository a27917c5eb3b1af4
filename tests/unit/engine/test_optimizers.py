"""Every optimizer compared with its formula, written out in NumPy from the paper."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thalweg.engine import optimizers
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.optimizers import Muon, newton_schulz
from thalweg.models.classify.lenet import lenet

LR = 0.05
MU = 0.8
#: w, gradient, memory, step from 1 -> new w
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
    update = np.sqrt(memory.get("u", 0) + 1e-6) / np.sqrt(memory["s"] + 1e-6) * g
    memory["u"] = 0.9 * memory.get("u", 0) + 0.1 * update**2
    return w - LR * update


def rmsprop(w, g, memory, t):
    memory["s"] = 0.99 * memory.get("s", 0) + 0.01 * g**2
    return w - LR * g / (np.sqrt(memory["s"]) + 1e-8)


def adam(w, g, memory, t, beta1=MU, beta2=0.999, lr=LR):
    memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
    memory["s"] = beta2 * memory.get("s", 0) + (1 - beta2) * g**2
    mean = memory["m"] / (1 - beta1**t)
    square = memory["s"] / (1 - beta2**t)
    return w - lr * mean / (np.sqrt(square) + 1e-8)


FORMULAS: dict[str, Update] = {f.__name__: f for f in (sgd, momentum, nesterov, adagrad, adadelta, rmsprop, adam)}
FORMULAS["adamw"] = adam


def random_gradients(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return three gradients of different sizes, with a zero among them."""
    random = np.random.default_rng(1)
    gradients = [random.normal(size=shape) * scale for scale in (1.0, 30.0, 1e-3)]
    gradients[1].flat[0] = 0.0
    return gradients


def gradients_by_step(module: nn.Module) -> list[list[np.ndarray]]:
    by_param = [random_gradients(tuple(param.shape)) for param in module.parameters()]
    return [list(gradients) for gradients in zip(*by_param, strict=True)]


def run_steps(
    module: nn.Module, optimizer: torch.optim.Optimizer, gradients: list[list[np.ndarray]]
) -> list[np.ndarray]:
    for step_gradients in gradients:
        for param, gradient in zip(module.parameters(), step_gradients, strict=True):
            param.grad = torch.tensor(gradient, dtype=param.dtype)
        optimizer.step()
    return [param.detach().numpy() for param in module.parameters()]


def build(module: nn.Module, **settings) -> torch.optim.Optimizer:
    return optimizers.build_optimizer(module, module.parameters(), TrainConfig(**{"lr": LR, **settings}))


def three_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", FORMULAS)
def test_three_updates_match_the_formula(name, decay):
    """Weight decay is added to the gradient, or subtracted from the weight by AdamW; biases have none."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    params = [param.detach().numpy().copy() for param in layer.parameters()]
    gradients = gradients_by_step(layer)
    results = run_steps(layer, build(layer, optimizer=name, momentum=MU, weight_decay=decay), gradients)
    memories = [{}, {}]
    for t, step_gradients in enumerate(gradients, start=1):
        for i, g in enumerate(step_gradients):
            param_decay = decay if params[i].ndim > 1 else 0.0
            if name == "adamw":
                params[i] = params[i] * (1 - LR * param_decay)
            else:
                g = g + param_decay * params[i]
            params[i] = FORMULAS[name](params[i], g, memories[i], t)
    for result, expected in zip(results, params, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_takes_betas_of_a_gan(name):
    """The first beta may be the integer 0 (StyleGAN2 trains with betas 0 and 0.99)."""
    layer = nn.Linear(3, 2).double()
    param = layer.weight.detach().numpy().copy()
    gradients = gradients_by_step(layer)
    optimizer = build(layer, optimizer=name, momentum=0, beta2=0.99)
    assert all(isinstance(beta, float) for beta in optimizer.param_groups[0]["betas"])
    result, _ = run_steps(layer, optimizer, gradients)
    memory = {}
    for t, (g, _) in enumerate(gradients, start=1):
        param = adam(param, g, memory, t, beta1=0.0, beta2=0.99)
    np.testing.assert_allclose(result, param, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", DEFAULT_LR)
def test_the_learning_rate_can_change_from_step_to_step(name):
    """The trainer sets it before every step; the optimizer stores no other."""
    torch.manual_seed(0)
    model = three_layers()
    optimizer = build(model, optimizer=name)
    before = copy.deepcopy(model.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    run_steps(model, optimizer, [[np.ones(param.shape) for param in model.parameters()]])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", DEFAULT_LR)
def test_a_parameter_without_a_gradient_does_not_change(name):
    model = three_layers()
    optimizer = build(model, optimizer=name, weight_decay=0.1)
    before = copy.deepcopy(model[1].state_dict())
    model[0](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in model[1].state_dict().items())


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError):
        build(nn.Linear(3, 2), optimizer="adamm")


# --- Muon ------------------------------------------------------------------------------------------------------------


def test_bfloat16_is_accurate_enough_for_newton_schulz():
    torch.manual_seed(0)
    matrix = torch.randn(48, 120)
    expected = newton_schulz(matrix)
    difference = newton_schulz(matrix.bfloat16()).float() - expected
    assert float(difference.norm() / expected.norm()) < 0.05


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5), (1, 7), (64, 25)])
def test_newton_schulz_keeps_singular_vectors_and_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ newton_schulz(matrix) @ v.T
    values = core.diag()
    torch.testing.assert_close(core, torch.diag(values), atol=1e-9, rtol=0)
    assert 0.3 < float(values.min()) and float(values.max()) < 1.3
    assert 0.6 < float(values.mean()) < 1.15
    torch.testing.assert_close(newton_schulz(1000 * matrix), newton_schulz(matrix), atol=1e-5, rtol=0)


def test_a_zero_gradient_gives_no_update():
    assert float(newton_schulz(torch.zeros(3, 4)).abs().max()) == 0


def test_muon_updates_the_hidden_matrices_and_adam_everything_else():
    model = lenet(in_channels=1, num_classes=10)
    muon = build(model, optimizer="muon")
    assert isinstance(muon, Muon)
    shapes = {group["muon"]: sorted(tuple(p.shape) for p in group["params"]) for group in muon.param_groups}
    assert shapes[True] == [(50, 20, 5, 5), (500, 800)]
    assert shapes[False] == sorted([(20, 1, 5, 5), (20,), (50,), (500,), (10, 500), (10,)])
    trainable = [param for param in model.parameters() if param.shape != (500, 800)]
    muon = optimizers.build_optimizer(model, trainable, TrainConfig(optimizer="muon"))
    shapes = [tuple(param.shape) for group in muon.param_groups for param in group["params"]]
    assert (500, 800) not in shapes and len(shapes) == 7


def test_three_updates_of_muon_match_the_formula():
    """Orthogonalized Nesterov momentum times sqrt(rows / columns); AdamW (0.9, 0.95) at the first and last matrix."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 8, (1, 2)), nn.Linear(4, 2)).double()
    params = [param.detach().numpy().copy() for param in model.parameters()]
    gradients = gradients_by_step(model)
    results = run_steps(model, build(model, optimizer="muon", momentum=MU, weight_decay=0.1), gradients)
    hidden = 2
    memories = [{} for _ in params]
    for t, step_gradients in enumerate(gradients, start=1):
        for i, g in enumerate(step_gradients):
            lr = LR if i == hidden else 0.1 * LR
            decay = 0.1 if params[i].ndim > 1 else 0.0
            params[i] = params[i] * (1 - lr * decay)
            if i == hidden:
                v = MU * memories[i].get("v", 0) + (1 - MU) * g
                memories[i]["v"] = v
                matrix = ((1 - MU) * g + MU * v).reshape(8, 6)
                update = newton_schulz(torch.tensor(matrix)).numpy() * np.sqrt(8 / 6)
                params[i] = params[i] - lr * update.reshape(g.shape)
            else:
                params[i] = adam(params[i], g, memories[i], t, beta1=0.9, beta2=0.95, lr=lr)
    for result, expected in zip(results, params, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)


def test_muon_continues_from_its_saved_state():
    torch.manual_seed(0)
    model = three_layers()
    first = build(model, optimizer="muon", lr=1e-3)
    gradients = gradients_by_step(model)
    run_steps(model, first, gradients[:2])
    clone = copy.deepcopy(model)
    second = build(clone, optimizer="muon", lr=1e-3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    continued = run_steps(model, first, gradients[2:])
    restored = run_steps(clone, second, gradients[2:])
    for a, b in zip(continued, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_learning_rate_tensors_stay_in_place_when_the_state_is_restored():
    layer = nn.Linear(3, 2)
    optimizer = build(layer, optimizer="adamw")
    lrs = [torch.tensor(0.5) for _ in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    state = optimizers.optimizer_state(optimizer)
    assert [group["lr"] for group in state["param_groups"]] == [0.5, 0.5]
    optimizers.load_optimizer_state(optimizer, state)
    groups: list[dict[str, Tensor]] = optimizer.param_groups
    assert all(group["lr"] is lr for group, lr in zip(groups, lrs, strict=True))
