"""Compare torchvision's classification models with ours; run by run.py in the environment that has torchvision."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.library import Library

from thalweg import registry

# torchvision looks for the operators of its compiled part, which does not load beside a torch without CUDA. Declaring
# them is enough: the classification models call none of them.
OPERATORS = "nms qnms roi_align roi_pool ps_roi_align ps_roi_pool qroi_align deform_conv2d".split()
library = Library("torchvision", "DEF")
for operator in [*OPERATORS, *(f"_{name}_backward" for name in OPERATORS)]:
    library.define(f"{operator}(Tensor x) -> Tensor")

import torchvision  # noqa: E402 - the operators come first

TARGET = 1e-5
MODELS = [
    *["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"],
    *["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "inception_v3"],
    *["squeezenet1_0", "squeezenet1_1", "mobilenet_v3_small", "mobilenet_v3_large"],
]
#: arguments that both sides have; models are also compared without any
VARIANTS = {"inception_v3": [{"transform_input": True}]}
#: model, image size, training mode, arguments: those of the test of our models
REFERENCE_CASES = [
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


def build_theirs(name: str, num_classes: int = 1000, **kwargs) -> nn.Module:
    """Build torchvision's model with random weights, without Inception's slow truncated normals."""
    fast = {"init_weights": False} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **fast, **kwargs)


def build_ours(name: str, num_classes: int = 1000, **kwargs) -> nn.Module:
    """Build the model of the same name in this package."""
    return registry.find_model(name)(in_channels=3, num_classes=num_classes, **kwargs)


def randomize_batch_norm(model: nn.Module) -> None:
    """Set batch normalization as if trained: scales and variances in 0.5..1.5, shifts and means near zero."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.normal_(tensor, std=0.1)


@torch.no_grad()
def compute_logits(model: nn.Module, x: Tensor, training: bool) -> list[Tensor]:
    """Return all logits of a model, with the same seed for its dropout."""
    model.train(training)
    torch.manual_seed(1)
    output = model(x)
    return [output] if isinstance(output, Tensor) else list(output)


def max_difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Return the largest absolute difference."""
    return max(float((one - other).abs().max()) for one, other in zip(a, b, strict=True))


def compare_outputs(names: list[str], batch: int) -> Iterator[tuple[str, float]]:
    """Print a row for each model, and yield its name and largest difference."""
    print(f"torchvision {torchvision.__version__}, torch {torch.__version__}, {batch} images, {TARGET:g} allowed\n")
    print("| model | weights | pixels | largest logit | eval | train | statistics after |\n|---|" + "---:|" * 6)
    cases = [(name, kwargs) for name in names for kwargs in [{}, *VARIANTS.get(name, [])]]
    for name, kwargs in cases:
        torch.manual_seed(0)
        reference = build_theirs(name, **kwargs)
        model = build_ours(name, **kwargs)
        randomize_batch_norm(reference)
        model.load_state_dict(reference.state_dict(), strict=True)
        size = registry.find_model(name).parameters["image_size"].default
        x = torch.randn(batch, 3, size, size)
        expected = compute_logits(reference, x, training=False)
        in_eval = max_difference(expected, compute_logits(model, x, training=False))
        expected_in_training = compute_logits(reference, x, training=True)
        in_training = max_difference(expected_in_training, compute_logits(model, x, training=True))
        after = max_difference(list(reference.state_dict().values()), list(model.state_dict().values()))
        label = f"{name} {' '.join(kwargs)}".strip()
        count = sum(param.numel() for param in model.parameters())
        largest = float(expected[0].abs().max())
        print(
            f"| {label} | {count:,} | {size} | {largest:.3g} | {in_eval:.1e} | {in_training:.1e} | {after:.1e} |",
            flush=True,
        )
        yield label, max(in_eval, in_training, after)


def fill_weights(model: nn.Module) -> nn.Module:
    """Set weights that depend only on their names and shapes, as tests/unit/models/test_published_models.py does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if tensor.is_floating_point():
                limit = (6 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5
                center = 1.0 if tensor.ndim == 1 and name.endswith(("weight", "var")) else 0.0
                tensor.copy_((2 * torch.rand(tensor.shape, generator=generator) - 1) * limit + center)
    return model


def print_reference_logits() -> None:
    """Print the logits of torchvision's models with these weights: last set of logits, first image, 4 classes.

    In double precision, because in single precision the order of summation moves Inception's logits by 1e-3.
    """
    for name, size, training, kwargs in REFERENCE_CASES:
        reference = build_theirs(name, num_classes=10, **kwargs)
        if name.startswith("vgg"):
            for index, shape in {0: (512 * 49, 8), 3: (8, 8), 6: (8, 10)}.items():
                reference.classifier[index] = nn.Linear(*shape)
        x = torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size).sin()
        logits = compute_logits(fill_weights(reference).double(), torch.cat([x, x.flip(-1)]).double(), training)[-1]
        print(name, size, training, [float(f"{value:.9g}") for value in logits[0, :4]])


def print_weights(names: list[str]) -> None:
    """Print as JSON what torchvision publishes: URLs, metrics, preprocessing."""
    table = {}
    for name in names:
        for entry in torchvision.models.get_model_weights(name):
            preset = entry.transforms()
            fields = {key: value for key, value in entry.meta.items() if key != "categories"}
            fields |= {"url": entry.url, "resize": preset.resize_size, "crop": preset.crop_size}
            fields |= {"interpolation": preset.interpolation.value, "mean": preset.mean, "std": preset.std}
            table[f"{name}/{entry.name}"] = fields
    print(json.dumps(table, indent=1))


def main() -> int:
    """Return 0, or 1 if a model differs by more than is allowed."""
    parser = argparse.ArgumentParser(prog="benchmarks/parity/run.py")
    parser.add_argument("what", nargs="?", default="outputs", choices=["outputs", "logits", "weights"])
    parser.add_argument("--only", default="", help="models with this in their name")
    parser.add_argument("--batch-size", type=int, default=2)
    options = parser.parse_args()
    names = [name for name in MODELS if options.only in name]
    if not names:
        parser.error(f"no model has '{options.only}' in its name; known: {', '.join(MODELS)}")
    torch.set_num_threads(1)
    if options.what == "logits":
        print_reference_logits()
    elif options.what == "weights":
        print_weights(names)
    else:
        wrong = [name for name, difference in compare_outputs(names, options.batch_size) if difference > TARGET]
        print(f"\n{', '.join(wrong) or 'None'} differ by more than {TARGET:g}.")
        return int(bool(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
