"""Runs in the environment that has torchvision: compares its classification networks with ours, or tells facts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.library import Library

from thalweg import registry

# Operators of torchvision's compiled part, which does not load beside a torch without CUDA; importing the rest of it
# looks for them. Declared, they are found; the classification networks call none of them, so the signature is any.
OPERATORS = "nms qnms roi_align roi_pool ps_roi_align ps_roi_pool qroi_align deform_conv2d".split()
declared = Library("torchvision", "DEF")
for operator in [*OPERATORS, *(f"_{name}_backward" for name in OPERATORS)]:
    declared.define(f"{operator}(Tensor x) -> Tensor")

import torchvision  # noqa: E402 - the operators come first

TARGET = 1e-5
NETWORKS = [
    *["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"],
    *["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "inception_v3"],
    *["squeezenet1_0", "squeezenet1_1", "mobilenet_v3_small", "mobilenet_v3_large"],
]
#: arguments that both sides know; networks are compared without any, too
VARIANTS = {"inception_v3": [{"transform_input": True}]}
#: network, size of the pictures, training or not, arguments: those of the test of our networks
ANSWERS = [
    ("vgg11", 32, False, {}),
    ("vgg11_bn", 32, False, {}),
    ("resnet18", 40, False, {}),
    ("resnet50", 40, False, {}),
    ("inception_v3", 75, False, {"transform_input": True}),
    ("inception_v3", 299, True, {"dropout": 0.0}),
    ("squeezenet1_0", 40, False, {}),
    ("squeezenet1_1", 40, False, {}),
    ("mobilenet_v3_small", 40, False, {}),
    ("mobilenet_v3_large", 40, False, {}),
]


def theirs(name: str, classes: int = 1000, **more) -> nn.Module:
    """torchvision's network with its first weights; quick ones in place of Inception's truncated normals."""
    quick = {"init_weights": False} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **quick, **more)


def ours(name: str, classes: int = 1000, **more) -> nn.Module:
    """The network of the same name in this package."""
    return registry.find_model(name)(in_channels=3, num_classes=classes, **more)


def stir(network: nn.Module) -> None:
    """Batch normalisation as if trained: scales and variances in 0.5..1.5, shifts and means near zero."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.normal_(tensor, std=0.1)


@torch.no_grad()
def answers(network: nn.Module, x: Tensor, training: bool) -> list[Tensor]:
    """All logits of a network, the generator set alike for its dropout."""
    network.train(training)
    torch.manual_seed(1)
    found = network(x)
    return [found] if isinstance(found, Tensor) else list(found)


def apart(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest absolute difference."""
    return max(float((one - other).abs().max()) for one, other in zip(a, b, strict=True))


def outputs(names: list[str], batch: int) -> Iterator[tuple[str, float]]:
    """Prints a row for each network, and yields its name and largest difference."""
    print(f"torchvision {torchvision.__version__}, torch {torch.__version__}, {batch} pictures, {TARGET:g} allowed\n")
    print("| network | weights | pixels | largest logit | eval | train | statistics after |\n|---|" + "---:|" * 6)
    for name, more in [(n, more) for n in names for more in [{}, *VARIANTS.get(n, [])]]:
        torch.manual_seed(0)
        reference, network = theirs(name, **more), ours(name, **more)
        stir(reference)
        network.load_state_dict(reference.state_dict(), strict=True)
        size = registry.find_model(name).parameters["image_size"].default
        x = torch.randn(batch, 3, size, size)
        expected = answers(reference, x, training=False)
        still = apart(expected, answers(network, x, training=False))
        moving = apart(answers(reference, x, training=True), answers(network, x, training=True))
        after = apart(list(reference.state_dict().values()), list(network.state_dict().values()))
        told = f"{name} {' '.join(more)}".strip()
        count, largest = sum(w.numel() for w in network.parameters()), float(expected[0].abs().max())
        print(f"| {told} | {count:,} | {size} | {largest:.3g} | {still:.1e} | {moving:.1e} | {after:.1e} |", flush=True)
        yield told, max(still, moving, after)


def numbered(network: nn.Module) -> nn.Module:
    """Weights that follow from their names and shapes; tests/unit/models/test_published_networks.py has them too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(network.state_dict().items()):
            if tensor.is_floating_point():
                spread = (6 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5
                middle = 1.0 if tensor.ndim == 1 and name.endswith(("weight", "var")) else 0.0
                tensor.copy_((2 * torch.rand(tensor.shape, generator=generator) - 1) * spread + middle)
    return network


def published_answers() -> None:
    """Prints what torchvision's networks answer with numbered weights: last set of logits, first picture, 4 classes.

    In double precision, as in single precision the order of sums, another on each processor, moves Inception's by 1e-3.
    """
    for name, size, training, more in ANSWERS:
        reference = theirs(name, classes=10, **more)
        if name.startswith("vgg"):
            for index, shape in {0: (512 * 49, 8), 3: (8, 8), 6: (8, 10)}.items():
                reference.classifier[index] = nn.Linear(*shape)
        x = torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size).sin()
        found = answers(numbered(reference).double(), torch.cat([x, x.flip(-1)]).double(), training)[-1]
        print(name, size, training, [float(f"{value:.9g}") for value in found[0, :4]])


def weights(names: list[str]) -> None:
    """Prints as JSON what torchvision publishes: address, metrics, preprocessing."""
    table = {}
    for name in names:
        for entry in torchvision.models.get_model_weights(name):
            preset = entry.transforms()
            facts = {key: value for key, value in entry.meta.items() if key != "categories"}
            facts |= {"url": entry.url, "resize": preset.resize_size, "crop": preset.crop_size}
            facts |= {"interpolation": preset.interpolation.value, "mean": preset.mean, "std": preset.std}
            table[f"{name}/{entry.name}"] = facts
    print(json.dumps(table, indent=1))


def main() -> int:
    """0, or 1 if a network differs by more than is allowed."""
    parser = argparse.ArgumentParser(prog="benchmarks/parity/run.py")
    parser.add_argument("what", nargs="?", default="outputs", choices=["outputs", "answers", "weights"])
    parser.add_argument("--only", default="", help="networks with this in their name")
    parser.add_argument("--batch", type=int, default=2, help="pictures")
    options = parser.parse_args()
    names = [name for name in NETWORKS if options.only in name]
    if not names:
        parser.error(f"no network has '{options.only}' in its name; there are {', '.join(NETWORKS)}")
    torch.set_num_threads(1)
    if options.what == "answers":
        published_answers()
    elif options.what == "weights":
        weights(names)
    else:
        wrong = [name for name, difference in outputs(names, options.batch) if difference > TARGET]
        print(f"\n{', '.join(wrong) or 'None'} differ by more than {TARGET:g}.")
        return int(bool(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
