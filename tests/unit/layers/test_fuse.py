"""What is made quick answers as before; what cannot be, stays as it was."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from thalweg import registry
from thalweg.data.images.image_decoding import decode_image
from thalweg.data.images.preprocess import to_normalized_float
from thalweg.layers import fuse as inference
from thalweg.layers.fuse import FusedConv2d, fold_batch_norm, fuse_activations, optimize_for_inference

#: model -> size of pictures, arguments
NETWORKS = {
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
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def used(network: nn.Module) -> nn.Module:
    """As after training: statistics and scales of normalisation are not what they begin with."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return network.eval()


def same(made: nn.Module, network: nn.Module, *shape: int) -> None:
    x = torch.randn(*shape)
    with torch.inference_mode():
        expected, answer = network(x), made(x)
    assert (answer - expected).abs().max() <= inference.TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_made_quick_and_answers_as_before(name):
    size, arguments = NETWORKS[name]
    network = used(registry.find_model(name)(in_channels=3, num_classes=7, image_size=size, **arguments))
    made = optimize_for_inference(network, (4, 3, size, size))
    assert made is not network
    for batch in (1, 4, 5):
        same(made, network, batch, 3, size, size)


def test_a_network_is_left_as_it_was():
    network = used(registry.find_model("resnet18")(in_channels=3, num_classes=7, image_size=32))
    before, x = {name: value.clone() for name, value in network.state_dict().items()}, torch.randn(2, 3, 32, 32)
    expected = network(x).detach()
    made = optimize_for_inference(network, (2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(x), expected) and network(x).requires_grad
    nn.init.zeros_(network.conv1.weight)
    assert torch.allclose(made(x), expected, atol=1e-4)


def test_normalisation_sums_and_activations_are_in_the_convolutions():
    network = used(registry.find_model("resnet18")(in_channels=3, num_classes=7, image_size=32))
    kinds = [type(layer) for layer in optimize_for_inference(network, (2, 3, 32, 32)).modules()]
    assert kinds.count(FusedConv2d) == 20 and not {nn.BatchNorm2d, nn.ReLU, nn.Conv2d} & set(kinds)


def test_a_folded_layer_is_scale_times_convolution_plus_shift():
    layers = used(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=0.1)))
    convolution, norm = layers
    scale = norm.weight / (norm.running_var + 0.1).sqrt()
    one = fold_batch_norm(layers, torch.zeros(1, 2, 8, 8)).get_submodule("_0_")
    assert torch.allclose(one.weight, convolution.weight * scale[:, None, None, None])
    assert torch.allclose(one.bias, (convolution.bias - norm.running_mean) * scale + norm.bias)


class Block(nn.Module):
    """One convolution, and something done with what it gives."""

    def __init__(self, what, inputs: int = 4):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.what = what

    def forward(self, x):
        """`what` decides."""
        return self.what(self, x)


def sum_in_place(block: Block, x: torch.Tensor) -> torch.Tensor:
    """As in ResNets."""
    y = block.conv(x)
    y += x
    return block.relu(y)


@pytest.mark.parametrize(
    "what",
    [
        lambda b, x: b.relu(b.conv(x) + x),
        lambda b, x: b.relu(x + b.conv(x)),
        sum_in_place,
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
def test_whatever_is_done_with_a_convolution_is_still_done(what):
    block = used(Block(what))
    x = torch.randn(2, 4, 9, 9)
    for make in (fold_batch_norm, fuse_activations):
        same(make(block, x), block, 3, 4, 9, 9)
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
def test_convolutions_of_every_kind(layer):
    same(optimize_for_inference(layer, (2, 4, 12, 12)), layer, 3, 4, 12, 12)


def test_a_network_that_decides_by_values_comes_back_itself():
    block = used(Block(lambda b, x: b.conv(x) if x.sum() > 0 else b.relu(b.conv(x))))
    assert optimize_for_inference(block, (2, 4, 9, 9)) is block


def test_a_network_is_taken_as_it_evaluates_and_stays_in_its_mode():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    network[1].eval()
    made = optimize_for_inference(network, (2, 3, 8, 8))
    assert [layer.training for layer in network.modules()] == [True, True, False, True] and made is not network
    same(made, network.eval(), 2, 3, 8, 8)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_answered_in_it(kind):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).to(kind).eval()
    x, made = torch.randn(2, 3, 8, 8, dtype=kind), optimize_for_inference(network, (2, 3, 8, 8))
    with torch.inference_mode():
        assert (made(x) - network(x)).abs().max() <= inference.TOLERANCE * network(x).abs().max()


def test_a_network_that_fails_comes_back_itself():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 3))
    assert optimize_for_inference(network, (2, 3, 8, 8)) is network and network.training
    assert optimize_for_inference(broken := nn.Flatten(), (2, 3, 8, 8)) is broken, "no parameter says in what precision"


@pytest.mark.parametrize("fault", ["raises", "answers otherwise", "is not a number"])
def test_a_call_of_onednn_that_cannot_be_trusted_is_not_used(monkeypatch, fault):
    def broken(self, x, added=None):
        if fault == "raises":
            raise AttributeError("no such call")
        return nn.functional.conv2d(x, self.plain, padding=1) * (1.01 if fault == "answers otherwise" else torch.nan)

    def remember(self, layer, shape, activation):
        nn.Module.__init__(self)
        self.plain = layer.weight

    monkeypatch.setattr(FusedConv2d, "__init__", remember)
    monkeypatch.setattr(FusedConv2d, "forward", broken)
    block = used(Block(lambda b, x: b.norm(b.conv(x))))
    made = optimize_for_inference(block, (2, 4, 9, 9))
    assert made is not block and not any(isinstance(layer, FusedConv2d) for layer in made.modules())
    same(made, block, 3, 4, 9, 9)


def test_photographs_are_recognised_as_published(real_data):
    network = registry.find_model("squeezenet1_1")(in_channels=3, num_classes=1000)
    network.load_state_dict(load_file(real_data / "weights" / "squeezenet1_1-fp16.safetensors"))
    names = (real_data / "weights" / "imagenet_synset_words.txt").read_text(encoding="utf-8").splitlines()
    known = {"samoyed.jpg": ("Samoyed", 0.928), "coffee.png": ("espresso", 0.840), "cat.png": ("Egyptian cat", 0.686)}
    known["elephants.jpg"] = ("African elephant", 0.778)
    seen = np.stack([decode_image(real_data / "photos" / file, 3, 224, resize=256) for file in known])
    facts = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    with torch.inference_mode():
        best = (
            optimize_for_inference(network, (4, 3, 224, 224))(to_normalized_float(torch.from_numpy(seen), facts))
            .softmax(1)
            .max(1)
        )
    for probability, index, (name, published) in zip(best.values, best.indices, known.values(), strict=True):
        assert name in names[index] and abs(float(probability) - published) < 0.002
