"""Attribution has no side effects: modes, gradients, hooks, weights and statistics of the model stay the same."""

import pytest
import torch
from torch import nn

from thalweg.attribution.feature_maps import feature_maps
from thalweg.attribution.grad_cam import grad_cam
from thalweg.attribution.hooks import capture_maps
from thalweg.attribution.integrated_gradients import integrated_gradients
from thalweg.attribution.occlusion import occlusion
from thalweg.errors import OptionError

METHODS = {
    "grad-cam": grad_cam,
    "integrated-gradients": lambda *args: integrated_gradients(*args, steps=4),
    "occlusion": occlusion,
    "feature-maps": lambda model, x, _: feature_maps(model, x),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Broken(nn.Module):
    """A layer that fails."""

    def forward(self, x):
        raise RuntimeError("broken")


def build_model(*last: nn.Module) -> nn.Sequential:
    """Build a model with batch statistics, dropout, in-place layers, both modes, a frozen layer and a gradient."""
    torch.manual_seed(0)
    first = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    model = nn.Sequential(*first, nn.Conv2d(6, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(4, 3)).extend(last)
    model.train()
    model[1].eval()
    model[0].requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    return model


def get_state(model: nn.Module) -> tuple:
    """Return everything that a method might change."""
    modules = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
    weights = [(w.requires_grad, None if w.grad is None else w.grad.tolist()) for w in model.parameters()]
    return modules, weights, {name: value.tolist() for name, value in model.state_dict().items()}


@every_method
def test_methods_change_neither_model_nor_image(method):
    model = build_model()
    x = torch.randn(1, 2, 9, 9)
    state_before = get_state(model)
    x_before = x.clone()
    method(model, x, 1)
    assert get_state(model) == state_before
    assert torch.equal(x, x_before) and not x.requires_grad


@every_method
def test_the_model_is_restored_after_an_exception(method):
    model = build_model(Broken())
    before = get_state(model)
    with pytest.raises(RuntimeError, match="broken"):
        method(model, torch.randn(1, 2, 9, 9), 1)
    assert get_state(model) == before


@every_method
def test_results_do_not_depend_on_mode_freezing_or_disabled_gradients(method):
    model = build_model()
    x = torch.randn(1, 2, 9, 9)
    expected = str(method(model, x, 1))
    model.eval().requires_grad_(False)
    assert str(method(model, x, 1)) == expected
    with torch.no_grad():
        assert str(method(model, x, 1)) == expected
    with torch.inference_mode():
        assert str(method(model, x.clone(), 1)) == expected


@every_method
@pytest.mark.parametrize("shape", [(2, 2, 9, 9), (2, 9, 9)])
def test_other_shapes_than_one_image_are_rejected(method, shape):
    with pytest.raises(OptionError) as error:
        method(build_model(), torch.randn(shape), 1)
    assert error.value.value == shape and error.value.cure


@pytest.mark.parametrize("method", [METHODS[name] for name in list(METHODS)[:3]])
@pytest.mark.parametrize("target", [-1, 3])
def test_an_unknown_class_is_rejected(method, target):
    with pytest.raises(OptionError) as error:
        method(build_model(), torch.randn(1, 2, 9, 9), target)
    assert (error.value.option, error.value.value) == ("target", target)
    assert list(error.value.allowed) == [0, 1, 2]


def test_captured_maps_are_in_order_and_skip_dropout_and_pooling():
    captured = capture_maps(build_model(), torch.randn(1, 2, 9, 9))
    assert [(row.name, row.size) for row in captured] == [
        ("0", (6, 7, 7)),
        ("1", (6, 7, 7)),
        ("2", (6, 7, 7)),
        ("4", (4, 5, 5)),
        ("5", (4, 5, 5)),
    ]
