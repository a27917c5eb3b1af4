"""Asking a network leaves no trace: its modes, gradients, hooks, weights and statistics are what they were."""

import pytest
import torch
from torch import nn

from thalweg.attribution import hooks as probe
from thalweg.attribution.feature_maps import feature_maps
from thalweg.attribution.grad_cam import grad_cam
from thalweg.attribution.integrated_gradients import integrated_gradients
from thalweg.attribution.occlusion import occlusion
from thalweg.errors import OptionError

METHODS = {
    "grad-cam": grad_cam,
    "integrated-gradients": lambda *asked: integrated_gradients(*asked, steps=4),
    "occlusion": occlusion,
    "feature-maps": lambda network, x, _: feature_maps(network, x),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Broken(nn.Module):
    """A layer that fails."""

    def forward(self, x):
        raise RuntimeError("broken")


def network(*last: nn.Module) -> nn.Sequential:
    """Everything that could be disturbed: batch statistics, dropout, in-place layers, both modes, a frozen part."""
    torch.manual_seed(0)
    first = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    made = nn.Sequential(*first, nn.Conv2d(6, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made.append(nn.Linear(4, 3)).extend(last)
    made.train()
    made[1].eval()
    made[0].requires_grad_(False)
    made[4].weight.grad = torch.ones_like(made[4].weight)
    return made


def state(made: nn.Module) -> tuple:
    """All that a method might change."""
    modules = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in made.modules()]
    weights = [(w.requires_grad, None if w.grad is None else w.grad.tolist()) for w in made.parameters()]
    return modules, weights, {name: value.tolist() for name, value in made.state_dict().items()}


@every_method
def test_nothing_is_left_behind(method):
    made, x = network(), torch.randn(1, 2, 9, 9)
    before, given = state(made), x.clone()
    method(made, x, 1)
    assert state(made) == before
    assert torch.equal(x, given) and not x.requires_grad


@every_method
def test_nothing_is_left_behind_by_a_failure(method):
    made = network(Broken())
    before = state(made)
    with pytest.raises(RuntimeError, match="broken"):
        method(made, torch.randn(1, 2, 9, 9), 1)
    assert state(made) == before


@every_method
def test_the_answer_is_the_same_wherever_it_is_asked(method):
    """In training mode too, frozen or not, with gradients switched off around it."""
    made, x = network(), torch.randn(1, 2, 9, 9)
    expected = str(method(made, x, 1))
    made.eval().requires_grad_(False)
    assert str(method(made, x, 1)) == expected
    with torch.no_grad():
        assert str(method(made, x, 1)) == expected
    with torch.inference_mode():
        assert str(method(made, x.clone(), 1)) == expected


@every_method
@pytest.mark.parametrize("shape", [(2, 2, 9, 9), (2, 9, 9)])
def test_only_one_picture_is_taken(method, shape):
    with pytest.raises(OptionError, match="not one picture.\n  Give"):
        method(network(), torch.randn(shape), 1)


@pytest.mark.parametrize("method", [METHODS[name] for name in list(METHODS)[:3]])
@pytest.mark.parametrize("target", [-1, 3])
def test_a_class_that_does_not_exist_is_named(method, target):
    with pytest.raises(OptionError, match=f"no class number {target}.\n  Give 0 to 2"):
        method(network(), torch.randn(1, 2, 9, 9), target)


def test_maps_are_seen_in_order_without_what_computes_nothing():
    seen = probe.capture_maps(network(), torch.randn(1, 2, 9, 9))
    assert [(one.name, one.size) for one in seen] == [
        ("0", (6, 7, 7)),
        ("1", (6, 7, 7)),
        ("2", (6, 7, 7)),
        ("4", (4, 5, 5)),
        ("5", (4, 5, 5)),
    ]
