"""Optimized models give the outputs of the original; models that cannot be optimized are returned unchanged."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from thalweg import registry
from thalweg.data.images.image_decoding import decode_image
from thalweg.data.images.input_spec import InputSpec, to_normalized_float
from thalweg.layers.fuse import TOLERANCE, FusedConv2d, fold_batch_norm, fuse_activations, optimize_for_inference

#: model -> image size, arguments
MODELS = {
    "resnet18": (32, {}),
    "resnet50": (65, {}),
    "squeezenet1_1": (49, {}),
    "mobilenet_v3_small": (64, {}),
    "mobilenet_v3_large": (48, {}),
    "inception_v3": (80, {}),
    "vgg11": (32, {"hidden": 20}),
    "vgg11_bn": (32, {"hidden": 20}),
    "airbench": (32, {}),
    "convnet": (28, {}),
    "lenet": (28, {}),
    "mlp": (28, {}),
    "perceptron": (28, {}),
    "lenet with step": (28, {"activation": "step"}),
    "mlp with arctan": (28, {"activation": "arctan"}),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomize_batch_norm(model: nn.Module) -> nn.Module:
    """Set statistics and scales of batch normalization as if after training, and evaluation mode."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return model.eval()


def assert_same_outputs(optimized: nn.Module, model: nn.Module, *shape: int) -> None:
    x = torch.randn(*shape)
    with torch.inference_mode():
        expected = model(x)
        outputs = optimized(x)
    assert (outputs - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_optimized_and_keeps_its_outputs(name):
    size, arguments = MODELS[name]
    builder = registry.find_model(name.split()[0])
    model = randomize_batch_norm(builder(in_channels=3, num_classes=7, image_size=size, **arguments))
    optimized = optimize_for_inference(model, (4, 3, size, size))
    assert optimized is not model
    for batch_size in (1, 4, 5):
        assert_same_outputs(optimized, model, batch_size, 3, size, size)


def test_the_model_is_left_unchanged():
    model = randomize_batch_norm(registry.find_model("resnet18")(in_channels=3, num_classes=7, image_size=32))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, 32, 32)
    expected = model(x).detach()
    optimized = optimize_for_inference(model, (2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x), expected) and model(x).requires_grad
    nn.init.zeros_(model.conv1.weight)
    assert torch.allclose(optimized(x), expected, atol=1e-4)


def test_batch_norm_sums_and_activations_are_fused_into_convolutions():
    model = randomize_batch_norm(registry.find_model("resnet18")(in_channels=3, num_classes=7, image_size=32))
    kinds = [type(layer) for layer in optimize_for_inference(model, (2, 3, 32, 32)).modules()]
    assert kinds.count(FusedConv2d) == 20 and not {nn.BatchNorm2d, nn.ReLU, nn.Conv2d} & set(kinds)


def test_a_folded_layer_is_scale_times_convolution_plus_shift():
    layers = randomize_batch_norm(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=0.1)))
    conv, norm = layers
    scale = norm.weight / (norm.running_var + 0.1).sqrt()
    folded = fold_batch_norm(layers, torch.zeros(1, 2, 8, 8)).get_submodule("_0_")
    assert torch.allclose(folded.weight, conv.weight * scale[:, None, None, None])
    assert torch.allclose(folded.bias, (conv.bias - norm.running_mean) * scale + norm.bias)


class Block(nn.Module):
    """A convolution, and a function of the block and the input that uses it."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.function = function

    def forward(self, x):
        """Apply the function."""
        return self.function(self, x)


def add_in_place(block: Block, x: torch.Tensor) -> torch.Tensor:
    """Add as in ResNets."""
    y = block.conv(x)
    y += x
    return block.relu(y)


@pytest.mark.parametrize(
    "function",
    [
        lambda b, x: b.relu(b.conv(x) + x),
        lambda b, x: b.relu(x + b.conv(x)),
        add_in_place,
        lambda b, x: b.conv(x) + x,
        lambda b, x: torch.add(b.conv(x), x, alpha=2).relu(),
        lambda b, x: (b.conv(x) + x).sigmoid(),
        lambda b, x: b.relu(b.conv(x) + x.mean((2, 3), keepdim=True)),
        lambda b, x: b.conv(x) + 1,
        lambda b, x: (lambda y: y + y)(b.conv(x)),
        lambda b, x: (lambda y: torch.cat([b.norm(y), y.relu()], 1))(b.conv(x)),
        lambda b, x: b.norm(b.conv(b.conv(x))),
        lambda b, x: b.norm(b.norm(b.conv(x))),
        lambda b, x: torch.tanh(b.conv(x)) * nn.functional.hardswish(b.conv(x)),
        lambda b, x: nn.functional.silu(b.norm(b.conv(nn.functional.dropout(x, training=b.training)))),
    ],
)
def test_every_use_of_a_convolution_keeps_its_outputs(function):
    block = randomize_batch_norm(Block(function))
    x = torch.randn(2, 4, 9, 9)
    for optimize in (fold_batch_norm, fuse_activations):
        assert_same_outputs(optimize(block, x), block, 3, 4, 9, 9)
    assert optimize_for_inference(block, (2, 4, 9, 9)) is not block


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (1, 5), stride=(2, 1), padding=(0, 2), bias=False),
        nn.Conv2d(4, 8, 3, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 4, 3),
    ],
)
def test_every_kind_of_convolution_keeps_its_outputs(layer):
    assert_same_outputs(optimize_for_inference(layer, (2, 4, 12, 12)), layer, 3, 4, 12, 12)


def test_a_model_that_branches_on_values_is_returned_unchanged():
    block = randomize_batch_norm(Block(lambda b, x: b.conv(x) if x.sum() > 0 else b.relu(b.conv(x))))
    assert optimize_for_inference(block, (2, 4, 9, 9)) is block


def test_evaluation_mode_is_optimized_and_the_mode_is_restored():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    model[1].eval()
    optimized = optimize_for_inference(model, (2, 3, 8, 8))
    assert [layer.training for layer in model.modules()] == [True, True, False, True] and optimized is not model
    assert_same_outputs(optimized, model.eval(), 2, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_kept(dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).to(dtype).eval()
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    optimized = optimize_for_inference(model, (2, 3, 8, 8))
    with torch.inference_mode():
        assert (optimized(x) - model(x)).abs().max() <= TOLERANCE * model(x).abs().max()


def test_a_model_that_raises_is_returned_unchanged():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 3))
    assert optimize_for_inference(model, (2, 3, 8, 8)) is model and model.training
    without_parameters = nn.Flatten()
    assert optimize_for_inference(without_parameters, (2, 3, 8, 8)) is without_parameters


@pytest.mark.parametrize("fault", ["raises", "other outputs", "NaN"])
def test_a_faulty_onednn_call_is_not_used(monkeypatch, fault):
    def init_faulty(self, conv, shape, activation):
        nn.Module.__init__(self)
        self.plain = conv.weight

    def run_faulty(self, x, addend=None):
        if fault == "raises":
            raise AttributeError("no such call")
        return nn.functional.conv2d(x, self.plain, padding=1) * (1.01 if fault == "other outputs" else torch.nan)

    monkeypatch.setattr(FusedConv2d, "__init__", init_faulty)
    monkeypatch.setattr(FusedConv2d, "forward", run_faulty)
    block = randomize_batch_norm(Block(lambda b, x: b.norm(b.conv(x))))
    optimized = optimize_for_inference(block, (2, 4, 9, 9))
    assert optimized is not block and not any(isinstance(layer, FusedConv2d) for layer in optimized.modules())
    assert_same_outputs(optimized, block, 3, 4, 9, 9)


def test_photographs_get_their_published_probabilities(real_data):
    model = registry.find_model("squeezenet1_1")(in_channels=3, num_classes=1000)
    model.load_state_dict(load_file(real_data / "weights" / "squeezenet1_1-fp16.safetensors"))
    names = (real_data / "weights" / "imagenet_synset_words.txt").read_text(encoding="utf-8").splitlines()
    expected = {
        "samoyed.jpg": ("Samoyed", 0.928),
        "coffee.png": ("espresso", 0.840),
        "cat.png": ("Egyptian cat", 0.686),
        "elephants.jpg": ("African elephant", 0.778),
    }
    images_BHWC = np.stack([decode_image(real_data / "photos" / file, 3, 224, resize=256) for file in expected])
    spec = InputSpec(["all"], 3, [224, 224], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    optimized = optimize_for_inference(model, (4, 3, 224, 224))
    with torch.inference_mode():
        top = optimized(to_normalized_float(torch.from_numpy(images_BHWC), spec)).softmax(1).max(1)
    for probability, index, (name, published) in zip(top.values, top.indices, expected.values(), strict=True):
        assert name in names[index] and abs(float(probability) - published) < 0.002
