"""Models layer by layer, against published numbers, numbers by hand, and measured gradients."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from thalweg import api
from thalweg.attribution.layer_summary import group_by_module, main_layers, sum_rows, summarize_layers
from thalweg.cli import main as cli
from thalweg.errors import OptionError
from thalweg.inference.inputs.network import meta_builder
from thalweg.registry import find_model
from thalweg.weights.catalog import CATALOG


def summarize(name, size, channels=3, classes=1000):
    return summarize_layers(meta_builder(find_model(name))(size, channels, classes), (channels, size, size))


#: billions of multiply-adds in torchvision's documentation (GFLOPS of each set of weights)
GIGA_MULTIPLY_ADDS = {
    "resnet18": 1.81,
    "resnet34": 3.66,
    "resnet50": 4.09,
    "resnet101": 7.80,
    "resnet152": 11.51,
    "vgg11": 7.61,
    "vgg16": 15.47,
    "vgg19": 19.63,
    "squeezenet1_0": 0.82,
    "squeezenet1_1": 0.35,
    "inception_v3": 5.71,
    "mobilenet_v3_small": 0.06,
    "mobilenet_v3_large": 0.22,
}


@pytest.mark.parametrize("name", GIGA_MULTIPLY_ADDS)
def test_totals_match_published_numbers(name):
    published = CATALOG[name, "imagenet"]
    total = sum_rows(summarize(name, published.size).rows, "all")
    assert total.parameters == published.parameters
    assert total.multiply_adds / 1e9 == pytest.approx(GIGA_MULTIPLY_ADDS[name], abs=0.006)
    assert total.shape == (1000,)


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet50", 25_557_032), ("vgg16", 138_357_544), ("resnet18", 11_689_512)]
)
def test_parameters_match_the_often_cited_numbers(name, parameters):
    assert sum_rows(summarize(name, 224).rows, "").parameters == parameters


def test_lenet_matches_the_numbers_by_hand():
    """28 pixels, 5x5, 24, pooled to 12, 5x5, 8, pooled to 4: 50 * 4 * 4 = 800 inputs of the dense layer."""
    rows = main_layers(summarize("lenet", 28, channels=1, classes=10).rows)
    assert [(row.kind, row.shape, row.parameters, row.multiply_adds, row.receptive_field) for row in rows] == [
        ("Conv2d", (20, 24, 24), 20 * 25 + 20, 24 * 24 * 20 * 25, 5),
        ("MaxPool2d", (20, 12, 12), 0, 0, 6),
        ("Conv2d", (50, 8, 8), 50 * 20 * 25 + 50, 8 * 8 * 50 * 20 * 25, 6 + 4 * 2),
        ("MaxPool2d", (50, 4, 4), 0, 0, 14 + 2),
        ("Linear", (500,), 800 * 500 + 500, 800 * 500, 28),
        ("Linear", (10,), 500 * 10 + 10, 500 * 10, 28),
    ]


def test_only_outputs_with_memory_of_their_own_are_counted():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Tanh(), nn.Flatten(), nn.Dropout())
    rows = summarize_layers(model, (1, 5, 4)).rows
    assert [row.activations for row in rows] == [2 * 3 * 2, 0, 2 * 3 * 2, 0, 0]


#: after the last convolution or pooling: VGG-16 and Inception v3 from Araujo et al. 2019, Table 1; the ResNets by hand,
#: because here the 3x3 convolution of a stage's first block has the stride
FIELDS = [
    ("vgg16", "features.30", 212),
    ("inception_v3", "Mixed_7c", 1311),
    ("resnet18", "maxpool", 11),
    ("resnet18", "layer1", 11 + 4 * 2 * 4),
    ("resnet18", "layer2", 43 + 2 * 4 + 3 * 2 * 8),
    ("resnet18", "layer4", 211 + 2 * 16 + 3 * 2 * 32),
    ("resnet50", "layer1", 11 + 3 * 2 * 4),
    ("resnet50", "layer2", 35 + 2 * 4 + 3 * 2 * 8),
    ("resnet50", "layer3", 91 + 2 * 8 + 5 * 2 * 16),
    ("resnet50", "layer4", 267 + 2 * 16 + 2 * 2 * 32),
]


@pytest.mark.parametrize(("name", "layer", "field"), FIELDS)
def test_receptive_fields_match_published_numbers(name, layer, field):
    assert summarize(name, 299).modules[layer].receptive_field == field


class Forked(nn.Module):
    """Branches of different kernels, concatenated, then a gate that depends on the whole image."""

    def __init__(self, gated=False):
        super().__init__()
        self.small, self.large = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, (3, 7), padding=(1, 3))
        self.dilated = nn.Conv2d(4, 2, 3, stride=2, dilation=3, padding=3)
        self.pool, self.end = nn.AvgPool2d(3, 2), nn.Conv2d(2, 1, 3, padding=1)
        self.gated = gated

    def forward(self, x):
        x = self.dilated(torch.cat([self.small(x), self.large(x)], 1).relu())
        if self.gated:
            x = x * x.mean((2, 3), keepdim=True).sigmoid()
        return self.end(self.pool(x))


def measure_field(model, layer, shape):
    """Return the larger side of the field of a map's middle neuron; weights are positive, so no gradient cancels."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):  # average pooling has a gradient at every pixel
                ceil = child.ceil_mode
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, ceil))
            elif isinstance(child, nn.ReLU):
                child.inplace = False
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.abs() + 0.01)
    outputs = []
    model.eval().get_submodule(layer).register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    x = torch.ones(1, *shape, requires_grad=True)
    model(x)
    map_HW = outputs[-1][0].sum(0)  # over all channels, because concatenated branches have different fields
    map_HW[map_HW.shape[0] // 2, map_HW.shape[1] // 2].backward()
    used_HW = x.grad[0].abs().sum(0) > 0
    return max(int(used_HW.any(1).sum()), int(used_HW.any(0).sum()))


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("lenet", "features.4", 40),
        ("convnet", "features.9", 64),
        ("airbench", "features.3", 64),
        ("squeezenet1_1", "features.5", 120),
        ("resnet18", "layer1", 96),
        ("mobilenet_v3_large", "features.3", 64),
    ],
)
def test_receptive_fields_match_measured_gradients(name, layer, size):
    channels = 1 if name in ("lenet", "convnet") else 3
    with torch.random.fork_rng():
        model = find_model(name)(in_channels=channels, num_classes=10, image_size=size)
    field = summarize_layers(model, (channels, size, size)).modules[layer].receptive_field
    assert field < size and measure_field(model, layer, (channels, size, size)) == field


def test_receptive_fields_of_branches_dilation_and_gates():
    summary = summarize_layers(Forked(), (1, 64, 64))
    assert {row.name: row.receptive_field for row in summary.rows} == {
        "small": 1,
        "large": 7,
        "dilated": 7 + 2 * 3,
        "pool": 13 + 2 * 2,
        "end": 17 + 2 * 4,
    }
    assert measure_field(Forked(), "end", (1, 64, 64)) == 25
    gated = summarize_layers(Forked(gated=True), (1, 64, 64))
    assert gated.modules["pool"].receptive_field >= 64 and measure_field(Forked(gated=True), "end", (1, 64, 64)) == 64


def test_attention_is_counted_and_its_receptive_field_is_unknown():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.attend = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
            self.begin = nn.Parameter(torch.zeros(1, 1, 8))

        def forward(self, x):
            tokens = torch.cat([self.begin, self.patches(x).flatten(2).transpose(1, 2)], 1)
            return self.attend(tokens, tokens, tokens)[0][:, 0]

    rows = summarize_layers(Attends(), (3, 16, 16)).rows
    total = sum_rows(rows, "all")
    assert total.parameters == sum(weight.numel() for weight in Attends().parameters())
    tokens = 17
    by_hand = 16 * 8 * 48 + tokens * 8 * 24 + 2 * tokens * tokens * 8 + tokens * 8 * 8
    assert total.multiply_adds == by_hand
    assert (
        rows[0].receptive_field == 4
        and next(row for row in rows if row.kind == "MultiheadAttention").receptive_field is None
    )


def test_shared_weights_count_once_and_uncalled_layers_come_last():
    class Shares(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.never, self.again = nn.Linear(4, 4), nn.Linear(4, 9), nn.Linear(4, 4)
            self.again.weight = self.first.weight

        def forward(self, x):
            return self.again(self.first(self.first(x.flatten(1))))

    rows = summarize_layers(Shares(), (1, 2, 2)).rows
    assert [(row.name, row.parameters, row.multiply_adds) for row in rows] == [
        ("first", 20, 32),
        ("again", 4, 16),
        ("never", 45, 0),
    ]
    assert rows[-1].shape is None and sum_rows(rows, "all").shape == (4,)


def test_groups_are_as_deep_as_fits_and_keep_all_parameters():
    summary = summarize("resnet50", 224)
    rows = group_by_module(summary, 26)
    assert [row.name for row in rows[:5]] == ["conv1", "bn1", "maxpool", "layer1.0", "layer1.1"]
    assert rows[3].kind == "Bottleneck" and rows[3].shape == (256, 56, 56) and rows[3].receptive_field == 19
    outermost = ["conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    assert [row.name for row in group_by_module(summary, 5)] == outermost
    for max_rows in (5, 26, 1000):
        assert sum_rows(group_by_module(summary, max_rows), "").parameters == 25_557_032
    assert group_by_module(summary, 1000) == main_layers(summary.rows)


def test_the_model_is_left_unchanged():
    model = find_model("lenet")(in_channels=1, num_classes=10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summarize_layers(model, (1, 28, 28))
    assert model.training and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_that_the_model_cannot_read_are_rejected():
    with pytest.raises(OptionError) as error:
        summarize_layers(find_model("lenet")(in_channels=1, num_classes=10), (3, 28, 28))
    assert error.value.value == (3, 28, 28)


@pytest.mark.parametrize("name", ["dcgan", "lstm"])
def test_models_that_do_not_classify_are_rejected(name):
    """Also those that read classes."""
    with pytest.raises(OptionError) as error:
        api.layer_summary(name)
    assert error.value.value == name


def test_the_command_line_prints_layers_and_groups(capsys):
    assert cli.invoke(["models", "lenet"]) == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert lines[0] == ["layer", "kind", "output", "parameters", "multiply_adds", "receptive_field"]
    assert lines[1] == ["features.0", "Conv2d", "20,24,24", "520", "288000", "5"]
    end = lines.index([])
    assert lines[end - 1] == ["all", "10", "431080", "2293000", "28"] and "28 x 28 pixels" in printed.err
    assert lines[end + 1] == ["group", "layers", "parameters", "unfreeze_groups"]
    assert sum(int(line[-2]) for line in lines[end + 2 :]) == 431_080
    assert cli.invoke(["models", "resnet18", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["total"]["parameters"] == 11_689_512 == sum(row["parameters"] for row in printed["layers"])
    assert printed["input"] == [3, 224, 224] and printed["outputs"] == 1000
    assert printed["groups"] == api.list_layer_groups("resnet18")
    assert sum(group["parameters"] for group in printed["groups"]) == 11_689_512


def test_an_unknown_model_is_rejected_with_the_nearest_name(capsys):
    assert cli.invoke(["models", "lenett"]) == 2
    assert "'lenet'" in capsys.readouterr().err
