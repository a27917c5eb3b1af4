"""Features against what a network answers when it is asked directly, a search through all pictures, and arithmetic."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import thalweg
from thalweg import load, registry
from thalweg.attribution import unit_activations as units
from thalweg.attribution.hooks import CapturedLayer
from thalweg.cli import main as cli
from thalweg.concepts.features import plot as draw
from thalweg.concepts.features.compute import MAX_MAP_SIZE, FeatureSettings, features
from thalweg.data.images.dataset import Split
from thalweg.errors import DataError, NonFiniteError, NotFoundError, OptionError


@pytest.fixture(scope="module")
def shipped():
    """Without words: the network and the digits that come along."""
    return thalweg.explain("features", pictures=120, units=3, top=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "run"
    return thalweg.train("classify", "digits", model="lenet", steps=40, threads=1, out=out, report=False)


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "horse.png"
    rows = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(rows).save(path)
    return path


def asked(network, channels=1, size=12, count=30, classes="abc", images=None, **given):
    """The concept on pictures of noise."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (count + 1, size, size, channels), np.uint8) if images is None else images
    training = Split(images[1:], random.integers(0, len(classes), len(images) - 1), [f"p{n}" for n in range(count)])
    likely = np.full(len(classes), 1 / len(classes), np.float32)
    x_1CHW = prepared(images[:1])
    found = features(
        FeatureSettings(**given),
        network.eval(),
        x_1CHW,
        images[0],
        list(classes),
        likely,
        training,
        prepared,
        at_once=7,
    )
    return found, x_1CHW, training


def prepared(images):
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 128 - 1


def hooked(network, name, x_BCHW):
    """What the layer answers, by a hook of our own."""
    kept = []
    handle = network.get_submodule(name).register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    with torch.no_grad():
        network(x_BCHW)
    handle.remove()
    return kept[-1]


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*(layer() for layer in layers)).eval()


# --- what is shown is what the network answers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def digit():
    """The digit that is shown where none is given, as the network reads it."""
    trained = load("digits-lenet")
    pictures = trained.read("digits").train.images
    row = int(np.random.default_rng(0).permutation(len(pictures))[0])
    return trained.task.prepared(pictures[row][None], trained.facts, "cpu")


def test_maps_are_those_of_a_hook_strongest_first(shipped, digit):
    network, x = load("digits-lenet").model, digit
    found = shipped.result.numbers
    assert [one["name"] for one in found["layers"]] == ["features.2", "features.5", "features.8", "head"]
    for one in found["layers"]:
        answer_C = (
            hooked(network, one["name"], x)[0].flatten(1)
            if one["size"]
            else hooked(network, one["name"], x)[0, :, None]
        )
        strength_C = answer_C.square().mean(1).sqrt() if one["size"] else answer_C[:, 0]
        order = strength_C.argsort(descending=True, stable=True)[:16]
        assert one["strongest"] == order.tolist() and one["units"] == len(answer_C)
        np.testing.assert_allclose(one["strength"], strength_C[order], rtol=1e-3, atol=1e-3)
        assert one["silent"] == int((answer_C == 0).all(1).sum())
        assert one["zero"] == pytest.approx(float((answer_C == 0).float().mean()))
        if one["size"]:
            np.testing.assert_allclose(np.reshape(one["maps"], (16, -1)), answer_C[order], atol=1e-3)
    assert found["layers"][-1]["classes"][0] == found["answers"][0]["class"]
    assert found["answers"][0]["probability"] == pytest.approx(float(network(x).detach().softmax(1).max()), abs=1e-5)


def test_filters_are_the_weights_and_below_them_is_the_convolution(shipped, digit):
    network, found = load("digits-lenet").model, shipped.result.numbers["filters"]
    assert sorted(found["units"]) == list(range(20)) and found["layer"] == "features.0"
    np.testing.assert_allclose(found["weights"], network.features[0].weight[found["units"]].detach(), atol=1e-4)
    answer_CHW = network.features[0](digit)[0].detach()
    np.testing.assert_allclose(found["maps"], answer_CHW[found["units"]], atol=1e-3)
    strength = answer_CHW[found["units"]].square().mean((1, 2)).tolist()
    assert strength == sorted(strength, reverse=True)


def test_filters_of_a_dense_layer_have_the_form_of_the_picture_and_a_sum_each():
    network = net(nn.Flatten, lambda: nn.Linear(75, 6), nn.ReLU, lambda: nn.Linear(6, 3))
    found, x, _ = asked(network, channels=3, size=5)
    filters = found.numbers["filters"]
    np.testing.assert_allclose(
        np.reshape(filters["weights"], (6, 75)), network[1].weight[filters["units"]].detach(), atol=1e-4
    )
    assert filters["maps"] is None and filters["size"] == [3, 5, 5]
    np.testing.assert_allclose(filters["sums"], network[1](x.flatten(1))[0, filters["units"]].detach(), atol=1e-4)
    assert filters["sums"] == sorted(filters["sums"], reverse=True)


def test_large_maps_are_shown_as_means_over_areas():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    ).eval()
    found, x, _ = asked(network, size=2 * MAX_MAP_SIZE, count=3, top=2)
    layer = found.numbers["layers"][0]
    answer_CHW = network[1](network[0](x))[0].detach()
    means = answer_CHW.unflatten(2, (MAX_MAP_SIZE, 2)).unflatten(1, (MAX_MAP_SIZE, 2)).mean((2, 4))
    assert layer["size"] == [2 * MAX_MAP_SIZE, 2 * MAX_MAP_SIZE]
    np.testing.assert_allclose(layer["maps"], means[layer["strongest"]], atol=1e-3)


def test_what_a_later_layer_writes_into_the_same_memory_is_not_shown():
    network = net(
        lambda: nn.Conv2d(1, 4, 3), lambda: nn.BatchNorm2d(4), lambda: nn.ReLU(inplace=True), nn.Flatten,
        lambda: nn.Linear(400, 3),
    )  # fmt: skip
    found, x, _ = asked(network, layer="1")
    one = next(one for one in found.numbers["layers"] if one["name"] == "1")
    expected_CHW = network[1](network[0](x))[0].detach()
    assert np.min(one["maps"]) < 0
    np.testing.assert_allclose(one["maps"], expected_CHW[one["strongest"]], atol=1e-3)
    (shown,) = found.numbers["units"]
    unit = shown["units"][0]
    assert unit["answer"] == pytest.approx(float(expected_CHW[unit["unit"]].max()), abs=1e-5)


# --- the best pictures -----------------------------------------------------------------------------------------------


def test_the_best_pictures_are_those_of_a_search_through_all():
    network = net(
        lambda: nn.Conv2d(3, 5, 3), nn.Tanh, lambda: nn.Conv2d(5, 4, 3), nn.Tanh, nn.Flatten, lambda: nn.Linear(256, 3)
    )
    found, x, training = asked(network, channels=3, units=4, top=6)
    assert [shown["layer"] for shown in found.numbers["units"]] == ["1", "3"]
    for shown in found.numbers["units"]:
        here = hooked(network, shown["layer"], x)[0].flatten(1).amax(1)
        assert [unit["unit"] for unit in shown["units"]] == here.argsort(descending=True)[:4].tolist()
        for unit in shown["units"]:
            every = []
            for row, image in enumerate(training.images):
                answer = hooked(network, shown["layer"], prepared(image[None]))[0, unit["unit"]]
                every.append((-float(answer.max()), row))
            best = sorted(every)[:6]
            assert [place["row"] for place in unit["pictures"]] == [row for _, row in best]
            np.testing.assert_allclose(
                [place["answer"] for place in unit["pictures"]], [-a for a, _ in best], atol=1e-5
            )
            assert [place["class"] for place in unit["pictures"]] == ["abc"[training.labels[row]] for _, row in best]
            assert [place["source"] for place in unit["pictures"]] == [f"p{row}" for _, row in best]
            assert unit["above"] == sum(-a < unit["answer"] for a, _ in every) / 30


def test_an_answer_of_zero_is_none():
    assert units.top_images(np.array([0.0, 2, 0, 3, 2]), 4).tolist() == [3, 1, 4]
    assert units.top_images(np.zeros(5), 4).tolist() == []
    assert units.top_images(np.array([-1.0, -3, -2]), 2).tolist() == [0, 2]


def test_units_that_never_answer_have_no_best_pictures_and_all_can_be_drawn():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 3))
    nn.init.zeros_(network[0].weight)
    network[0].bias.data = torch.tensor([-1.0, -1, -1])
    found, _, _ = asked(network)
    assert found.numbers["units"][0]["units"] == [] and found.numbers["layers"][0]["silent"] == 3
    assert found.numbers["layers"][0]["purity"]["mean"] is None
    assert "no unit answers" in found.frames[found.key_frame].caption
    for frame in found.frames:
        frame.draw()
    with pytest.raises(OptionError, match="No layer"):
        asked(nn.Sequential(nn.Flatten()), classes="a" * 144)


# --- the patch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [((5, 2, 2), (3, 1, 1)), ((3, 1, 0), (4, 3, 0)), ((2, 2, 1), (3, 1, 0))])
def test_the_patch_is_the_receptive_field_of_two_convolutions(first, second):
    """(kernel, step, border) of each; a row of the second reads rows of the first, and these rows of the picture."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, first[0], first[1], first[2]), nn.Tanh(), nn.Conv2d(6, 5, second[0], second[1], second[2])
    )
    x = torch.randn(40, 1, 17, 13)
    unit = torch.arange(40) % 5
    with torch.no_grad():
        answer, between = network(x), network[:2](x).shape[2:]

    def field(place, side, middle):
        low = max(place * second[1] - second[2], 0)
        high = min(place * second[1] - second[2] + second[0] - 1, middle - 1)
        return max(low * first[1] - first[2], 0), min(high * first[1] - first[2] + first[0], side)

    found = units.receptive_patches(network, x, network[2], unit.tolist())
    for row, patch in enumerate(found):
        y, x_ = divmod(int(answer[row, unit[row]].argmax()), answer.shape[3])
        (top, bottom), (left, right) = field(y, 17, between[0]), field(x_, 13, between[1])
        assert patch == (left, top, right, bottom)
    assert len(set(found)) > 10


def test_behind_poolings_it_lies_within_the_receptive_field_and_of_neurons_it_is_all(shipped):
    for shown, side in zip(shipped.result.numbers["units"], (6, 16, 28), strict=True):
        sizes = [
            (place["patch"][2] - place["patch"][0], place["patch"][3] - place["patch"][1])
            for unit in shown["units"]
            for place in unit["pictures"]
        ]
        assert sizes and all(1 <= wide <= side and 1 <= high <= side for wide, high in sizes)
        assert max(sizes) >= (side - 2, side - 2)


def test_outside_of_the_patch_a_picture_may_be_anything(shipped):
    """Small changes there leave the answer as it is."""
    trained = load("digits-lenet")
    digits = trained.read("digits")
    rows = np.sort(np.random.default_rng(0).permutation(len(digits.train))[1:121])
    shown = shipped.result.numbers["units"][1]
    for unit in shown["units"]:
        for place in unit["pictures"]:
            x = trained.task.prepared(digits.train.images[rows[place["row"]]][None], trained.facts, "cpu")
            left, top, right, bottom = place["patch"]
            answer = hooked(trained.model, shown["layer"], x)[0, unit["unit"]]
            assert float(answer.max()) == pytest.approx(place["answer"], abs=1e-4)
            changed = x + 1e-3
            changed[..., top:bottom, left:right] = x[..., top:bottom, left:right]
            again = hooked(trained.model, shown["layer"], changed)[0, unit["unit"]]
            at = int(answer.argmax())
            assert float(again.flatten()[at]) == pytest.approx(float(answer.max()), abs=1e-5)


def test_behind_a_step_there_is_no_patch():
    network = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=16, activation="step")
    found, _, _ = asked(network, size=16)
    assert all(
        place["patch"] is None
        for shown in found.numbers["units"]
        for unit in shown["units"]
        for place in unit["pictures"]
    )
    assert any(unit["pictures"] for shown in found.numbers["units"] for unit in shown["units"])
    found.frames[found.key_frame].draw()


# --- purity ----------------------------------------------------------------------------------------------------------


def test_purity_is_the_share_of_the_commonest_class_of_units_that_answer_often_enough():
    label = np.array([0, 0, 1, 1, 2])
    peaks = np.array([[5.0, 0, 1], [4, 0, 5], [3, 2, 4], [2, 1, 3], [1, 0, 2]])
    assert units.purity(peaks, label, 2).tolist() == [1.0, 1.0, 0.5]
    assert units.purity(peaks, label, 3) == pytest.approx([2 / 3, 2 / 3])
    assert units.purity(np.zeros((5, 2)), label, 2).tolist() == []


def test_chance_is_what_counting_all_draws_gives():
    """Of 4 a and 6 b, two drawn: alike with (4 · 3 + 6 · 5) / 90, and then the share is 1, else 1/2."""
    label = np.array([0] * 4 + [1] * 6)
    alike = (4 * 3 + 6 * 5) / 90
    assert units.chance_purity(label, 2, seed=0) == pytest.approx(alike + (1 - alike) / 2, abs=0.03)
    assert units.chance_purity(label, 10, seed=0) == pytest.approx(0.6)
    assert units.chance_purity(label, 3, seed=5) == units.chance_purity(label, 3, seed=5)


def test_the_last_layer_of_a_trained_network_is_made_of_class_detectors_the_first_is_not(run):
    found = thalweg.explain("features", run, pictures=400).result.numbers
    means = [layer["purity"]["mean"] for layer in found["layers"]]
    assert means == sorted(means) and means[-1] > 0.85 > 0.65 > means[0] > found["training"]["chance"]
    for layer in found["layers"]:
        share = np.dot(layer["purity"]["of"], np.arange(9)) / 8 / layer["purity"]["units"]
        assert share == pytest.approx(layer["purity"]["mean"])


# --- every network ---------------------------------------------------------------------------------------------------

FAMILIES = [
    ("perceptron", 12, 1, {}),
    ("mlp", 12, 3, {}),
    ("lenet", 28, 1, {"variant": 1998}),
    ("airbench", 16, 3, {"widths": (8, 8)}),
    ("convnet", 16, 3, {"widths": (8, 8)}),
    ("resnet18", 32, 3, {"stem": "imagenet"}),
    ("squeezenet1_1", 33, 3, {}),
    ("mobilenet_v3_small", 33, 3, {}),
    ("vgg11_bn", 32, 1, {"hidden": 8}),
]


@pytest.mark.parametrize(("name", "size", "channels", "more"), FAMILIES, ids=[family[0] for family in FAMILIES])
def test_every_family_can_be_looked_at(name, size, channels, more):
    torch.manual_seed(0)
    network = registry.find_model(name)(in_channels=channels, num_classes=4, image_size=size, **more)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found, _, _ = asked(network, channels, size, count=6, classes="abcd", units=2, top=2)
    assert len(found.frames) <= 17 and len({frame.draw().size for frame in (found.frames[0], found.frames[-2])}) == 1
    assert found.numbers["layers"][-1]["classes"] is not None and len(found.numbers["units"]) in (1, 2, 3)
    json.dumps(found.numbers, allow_nan=False)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_at_most_five_layers_of_maps_and_three_of_neurons_are_on_the_way():
    maps = [CapturedLayer(f"m{n}", nn.Conv2d(1, 1, 1), (4, 5, 5), None) for n in range(9)]
    dense = [CapturedLayer(f"d{n}", nn.Linear(1, 1), (4, 1, 1), None) for n in range(5)]
    assert [one.name for one in units.representative_layers([*maps, *dense])] == [
        "m0",
        "m2",
        "m4",
        "m6",
        "m8",
        "d0",
        "d2",
        "d4",
    ]


# --- the user's own --------------------------------------------------------------------------------------------------


def test_a_run_and_a_picture(run, png):
    found = thalweg.explain("features", str(run.path), str(png), pictures=60, layer="features.0", units=2, top=3)
    assert found.result.numbers["told"].endswith("horse.png") and not found.result.notes
    assert [shown["layer"] for shown in found.result.numbers["units"]] == ["features.0"]
    assert found.result.numbers["training"]["pictures"] == 60
    row = found.result.numbers["units"][0]["units"][0]["pictures"][0]
    assert row["source"].startswith("digits[")
    assert "layer=features.0" in found.command


def test_a_run_alone_takes_a_picture_of_its_test_set_by_the_seed(run):
    first, again, other = (thalweg.explain("features", run, pictures=20, seed=seed) for seed in (1, 1, 2))
    assert first.json() == again.json() != other.json()
    named = first.result.numbers["told"].split(", ")[1]
    assert named in [run.read().test.sources[row] for row in range(len(run.read().test))]


def test_data_may_be_named_and_what_has_no_training_pictures_says_so(run, png, tmp_path):
    for label in "01":
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(4):
            rows = np.random.default_rng(number + 10 * int(label)).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(rows).save(tmp_path / "own" / label / f"{number}.png")
    found = thalweg.explain("features", run, str(png), str(tmp_path / "own"), top=3)
    assert found.result.numbers["training"]["pictures"] == 8
    sources = {place["source"] for shown in found.result.numbers["units"] for unit in shown["units"]
               for place in unit["pictures"]}  # fmt: skip
    assert sources and all(source.endswith(".png") for source in sources)
    broken = shutil.copytree(run.path, tmp_path / "run")
    content = json.loads((broken / "run.json").read_text(encoding="utf-8"))
    content["options"]["data"] = str(tmp_path / "gone")
    (broken / "run.json").write_text(json.dumps(content), encoding="utf-8")
    left = thalweg.explain("features", str(broken), np.eye(8, dtype=np.float32))
    assert left.result.numbers["training"] is None and "gone" in left.result.notes[0]
    left.draw()


def test_a_model_needs_a_picture_and_comes_without_training_pictures(run, png, capsys):
    weights = str(run.path)
    found = thalweg.explain("features", "lenet", str(png), weights=weights)
    assert found.result.numbers["training"] is None and "Name DATA" in found.result.notes[0]
    assert found.result.key_frame == 1
    assert cli.invoke(["explain", "features", "lenet", "--weights", weights]) == 2
    assert "without a test set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["{run}", "{text}"], 3, "notes.png"),
        (["{run}", "nowhere.png"], 3, "nowhere.png"),
        (["{run}", "{png}", "nowhere"], 2, "nowhere"),
        (["nothing"], 2, "There is no run or network named 'nothing'"),
        (["{run}", "--set", "layer=features.1O"], 2, "Did you mean"),
        (["{run}", "--set", "layer=zzz"], 2, "There is no layer named 'zzz'"),
        (["{run}", "--set", "units=11"], 2, "units: 11 is not from 1 to 10"),
        (["{broken}"], 4, "broken"),
        (["{run}", "{png}", "digits", "more"], 2, "more is one word too many"),
    ],
)
def test_what_is_refused(words, code, told, run, png, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.png").write_text("no picture", encoding="utf-8")
    broken = tmp_path / "broken"
    shutil.copytree(run.path, broken)
    (broken / "weights.safetensors").write_bytes(b"nothing")
    named = {"run": run.path, "text": "notes.png", "png": png, "broken": broken}
    assert cli.invoke(["explain", "features", *(word.format(**named) for word in words)]) == code
    assert told in capsys.readouterr().err and not (tmp_path / "explained").exists()


def test_python_raises_the_same(run, tmp_path):
    with pytest.raises(NotFoundError, match="layer"):
        thalweg.explain("features", run, layer="nothing")
    with pytest.raises(DataError):
        thalweg.explain("features", run, str(tmp_path / "nothing.png"))
    network = net(nn.Flatten, lambda: nn.Linear(144, 3))
    with pytest.raises(NonFiniteError, match="not a number"):
        features(
            FeatureSettings(),
            network,
            torch.zeros(1, 1, 12, 12),
            np.zeros((12, 12, 1), np.uint8),
            "abc",
            np.full(3, np.nan),
        )


def test_drawings_have_room_for_the_largest_settings_and_the_longest_names():
    network = net(lambda: nn.Conv2d(1, 10, 3), nn.Tanh, nn.Flatten, lambda: nn.Linear(1000, 3))
    found, _, _ = asked(network, units=10, top=16, classes=["a very long name of a class " * 9, "b", "$c$"])
    assert all(len(frame.caption) <= 300 for frame in found.frames)
    sizes = {frame.draw().size for frame in found.frames}
    assert len(sizes) == 1 and sizes.pop()[1] <= 2400


def test_uneven_filters_are_each_on_their_own_scale():
    weights = np.ones((8, 1, 2, 2)) * np.geomspace(0.001, 1, 8)[:, None, None, None]
    assert draw._has_uneven_scale(weights) and not draw._has_uneven_scale(np.ones((8, 1, 2, 2)))
    images = draw._filters_to_images(weights)
    assert np.allclose(images[0], images[-1])
