"""Networks layer by layer against published figures, figures by hand, and gradients that are measured."""

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


def tabled(name, side, channels=3, classes=1000, **arguments):
    return summarize_layers(meta_builder(find_model(name), arguments)(side, channels, classes), (channels, side, side))


#: multiply-adds in billions as torchvision's documentation has them (GFLOPS of each set of weights)
BILLIONS = {
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


@pytest.mark.parametrize("name", BILLIONS)
def test_totals_are_the_published_ones(name):
    published = CATALOG[name, "imagenet"]
    found = sum_rows(tabled(name, published.size).rows, "all")
    assert found.parameters == published.parameters
    assert found.multiply_adds / 1e9 == pytest.approx(BILLIONS[name], abs=0.006)
    assert found.shape == (1000,)


def test_the_totals_that_everyone_quotes():
    assert [sum_rows(tabled(name, 224).rows, "").parameters for name in ("resnet50", "vgg16", "resnet18")] == [
        25_557_032,
        138_357_544,
        11_689_512,
    ]


def test_lenet_by_hand():
    """28 pixels, 5x5, 24, pooled to 12, 5x5, 8, pooled to 4: 50 * 4 * 4 = 800 inputs of the dense layer."""
    rows = main_layers(tabled("lenet", 28, channels=1, classes=10).rows)
    told = [(row.kind, row.shape, row.parameters, row.multiply_adds, row.field) for row in rows]
    assert told == [
        ("Conv2d", (20, 24, 24), 20 * 25 + 20, 24 * 24 * 20 * 25, 5),
        ("MaxPool2d", (20, 12, 12), 0, 0, 6),
        ("Conv2d", (50, 8, 8), 50 * 20 * 25 + 50, 8 * 8 * 50 * 20 * 25, 6 + 4 * 2),
        ("MaxPool2d", (50, 4, 4), 0, 0, 14 + 2),
        ("Linear", (500,), 800 * 500 + 500, 800 * 500, 28),
        ("Linear", (10,), 500 * 10 + 10, 500 * 10, 28),
    ]


def test_answers_count_what_takes_memory_of_its_own():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Tanh(), nn.Flatten(), nn.Dropout())
    rows = summarize_layers(network, (1, 5, 4)).rows
    assert [row.answers for row in rows] == [2 * 3 * 2, 0, 2 * 3 * 2, 0, 0]


#: behind the last convolution or pooling: VGG-16 and Inception v3 as Araujo et al. 2019 (their Table 1) have them; the
#: ResNets by hand, as ours take the step in the 3x3 convolution of the first block of a stage
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
def test_receptive_fields_are_those_by_hand_and_in_print(name, layer, field):
    assert tabled(name, 299).modules[layer][2] == field


class Forked(nn.Module):
    """Branches of different kernels, joined; then a gate that has looked everywhere."""

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


def measured(network, layer, shape):
    """Height and width of what changes one neuron in the middle of a map: weights are positive, so nothing cancels."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):  # the mean has a slope at every place
                ceil = child.ceil_mode
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, ceil))
            elif isinstance(child, nn.ReLU):
                child.inplace = False
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.abs() + 0.01)
    kept = []
    network.eval().get_submodule(layer).register_forward_hook(lambda *told: kept.append(told[2]))
    x = torch.ones(1, *shape, requires_grad=True)
    network(x)
    map_HW = kept[-1][0].sum(0)  # branches that were joined see more or less
    map_HW[map_HW.shape[0] // 2, map_HW.shape[1] // 2].backward()
    seen_HW = x.grad[0].abs().sum(0) > 0
    return max(int(seen_HW.any(1).sum()), int(seen_HW.any(0).sum()))


@pytest.mark.parametrize(
    ("name", "layer", "side"),
    [
        ("lenet", "features.4", 40),
        ("convnet", "features.9", 64),
        ("airbench", "features.3", 64),
        ("squeezenet1_1", "features.5", 120),
        ("resnet18", "layer1", 96),
        ("mobilenet_v3_large", "features.3", 64),
    ],
)
def test_receptive_fields_are_what_a_gradient_measures(name, layer, side):
    channels = 1 if name in ("lenet", "convnet") else 3
    with torch.random.fork_rng():
        network = find_model(name)(channels=channels, classes=10, size=side)
    field = summarize_layers(network, (channels, side, side)).modules[layer][2]
    assert field < side and measured(network, layer, (channels, side, side)) == field


def test_branches_dilation_and_gates_are_followed():
    table = summarize_layers(Forked(), (1, 64, 64))
    assert {row.name: row.field for row in table.rows} == {
        "small": 1, "large": 7, "dilated": 7 + 2 * 3, "pool": 13 + 2 * 2, "end": 17 + 2 * 4
    }  # fmt: skip
    assert measured(Forked(), "end", (1, 64, 64)) == 25
    gated = summarize_layers(Forked(gated=True), (1, 64, 64))
    assert gated.modules["pool"][2] >= 64 and measured(Forked(gated=True), "end", (1, 64, 64)) == 64


def test_attention_is_counted_and_what_it_sees_is_not_guessed():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.attend = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
            self.begin = nn.Parameter(torch.zeros(1, 1, 8))

        def forward(self, x):
            tokens = torch.cat([self.begin, self.patches(x).flatten(2).transpose(1, 2)], 1)
            return self.attend(tokens, tokens, tokens)[0][:, 0]

    rows = summarize_layers(Attends(), (3, 16, 16)).rows
    found = sum_rows(rows, "all")
    assert found.parameters == sum(weight.numel() for weight in Attends().parameters())
    tokens = 17
    by_hand = 16 * 8 * 48 + tokens * 8 * 24 + 2 * tokens * tokens * 8 + tokens * 8 * 8
    assert found.multiply_adds == by_hand
    assert rows[0].field == 4 and next(row for row in rows if row.kind == "MultiheadAttention").field is None


def test_shared_weights_count_once_and_unasked_layers_stand_last():
    class Shares(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.never, self.again = nn.Linear(4, 4), nn.Linear(4, 9), nn.Linear(4, 4)
            self.again.weight = self.first.weight

        def forward(self, x):
            return self.again(self.first(self.first(x.flatten(1))))

    rows = summarize_layers(Shares(), (1, 2, 2)).rows
    assert [(row.name, row.parameters, row.multiply_adds) for row in rows] == [
        ("first", 20, 32), ("again", 4, 16), ("never", 45, 0)
    ]  # fmt: skip
    assert rows[-1].shape is None and sum_rows(rows, "all").shape == (4,)


def test_parts_are_as_deep_as_fits_and_lose_nothing():
    table = tabled("resnet50", 224)
    glance = group_by_module(table, 26)
    assert [row.name for row in glance[:5]] == ["conv1", "bn1", "maxpool", "layer1.0", "layer1.1"]
    assert glance[3].kind == "Bottleneck" and glance[3].shape == (256, 56, 56) and glance[3].field == 19
    assert [row.name for row in group_by_module(table, 5)] == [
        "conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"
    ]  # fmt: skip
    for most in (5, 26, 1000):
        assert sum_rows(group_by_module(table, most), "").parameters == 25_557_032
    assert group_by_module(table, 1000) == main_layers(table.rows)


def test_the_network_is_left_as_it_was():
    network = find_model("lenet")(channels=1, classes=10).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    summarize_layers(network, (1, 28, 28))
    assert network.training and not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_pictures_that_it_cannot_read_are_refused():
    with pytest.raises(OptionError, match="LeNet reads no pictures of 3 x 28 x 28"):
        summarize_layers(find_model("lenet")(channels=1, classes=10), (3, 28, 28))


def test_the_command_line_shows_layers_and_parts(capsys):
    assert cli.invoke(["models", "lenet"]) == 0
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines()]
    assert lines[0] == ["layer", "kind", "answer", "parameters", "multiply_adds", "sees"]
    assert lines[1] == ["features.0", "Conv2d", "20,24,24", "520", "288000", "5"]
    end = lines.index([])
    assert lines[end - 1] == ["all", "10", "431080", "2293000", "28"] and "28 x 28 pixels" in told.err
    assert lines[end + 1] == ["part", "layers", "parameters", "unfreeze"]
    assert sum(int(line[-2]) for line in lines[end + 2 :]) == 431_080
    assert cli.invoke(["models", "resnet18", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["parameters"] == 11_689_512 == sum(row["parameters"] for row in found["layers"])
    assert found["picture"] == [3, 224, 224] and found["classes"] == 1000
    assert found["parts"] == api.list_layer_groups("resnet18")
    assert sum(part["parameters"] for part in found["parts"]) == 11_689_512


def test_layers_of_no_model_are_refused(capsys):
    assert cli.invoke(["models", "lenett"]) == 2
    assert "'lenet'" in capsys.readouterr().err
