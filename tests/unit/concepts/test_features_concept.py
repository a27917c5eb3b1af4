"""Features against hooks on the model, a search through all images, and receptive-field arithmetic."""

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
from thalweg.concepts.features import plot
from thalweg.concepts.features.compute import MAX_MAP_SIZE, FeatureSettings, features
from thalweg.config.parsing import parse_options
from thalweg.data.images.dataset import ImageSplit
from thalweg.errors import DataError, NonFiniteError, NotFoundError, OptionError


@pytest.fixture(scope="module")
def bundled_result():
    """The result without arguments: the bundled model and the digits."""
    return thalweg.explain("features", images=120, units=3, top_k=5).result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "run"
    return thalweg.train("classify", "digits", model="lenet", steps=40, cpu_threads=1, out=out, report=False)


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "horse.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def explain_noise(model, channels=1, size=12, count=30, classes="abc", **settings):
    """Explain an image of noise; return the result, the preprocessed image, and the training images."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (count + 1, size, size, channels), np.uint8)
    training = ImageSplit(images[1:], random.integers(0, len(classes), count), [f"p{n}" for n in range(count)])
    x_1CHW = preprocess(images[:1])
    result = features(
        FeatureSettings(**settings),
        model=model.eval(),
        x_1CHW=x_1CHW,
        image_HWC=images[0],
        classes=list(classes),
        probability_K=np.full(len(classes), 1 / len(classes), np.float32),
        training=training,
        preprocess=preprocess,
        batch_size=7,
    )
    return result, x_1CHW, training


def preprocess(images):
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 128 - 1


def capture_output(model, name, x_BCHW):
    """Return the output of a layer, captured by a separate hook."""
    outputs = []
    handle = model.get_submodule(name).register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
    with torch.no_grad():
        model(x_BCHW)
    handle.remove()
    return outputs[-1]


def build(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*(layer() for layer in layers)).eval()


def list_units(numbers):
    return [unit for layer in numbers["units"] for unit in layer["units"]]


def list_top_images(numbers):
    return [image for unit in list_units(numbers) for image in unit["images"]]


# --- layers and filters -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digit():
    """The digit that is explained by default, preprocessed."""
    trained = load("digits-lenet")
    images = trained.load_data("digits").train.images
    row = int(np.random.default_rng(0).permutation(len(images))[0])
    return trained.task.to_input(images[row][None], trained.spec)


def test_feature_maps_match_a_hook_strongest_first(bundled_result, digit):
    model = load("digits-lenet").model
    numbers = bundled_result.numbers
    assert [layer["name"] for layer in numbers["layers"]] == ["features.2", "features.5", "features.8", "head"]
    for layer in numbers["layers"]:
        output = capture_output(model, layer["name"], digit)[0]
        if layer["size"]:
            output_CP = output.flatten(1)
            strength_C = output_CP.square().mean(1).sqrt()
        else:
            output_CP = output[:, None]
            strength_C = output_CP[:, 0]
        order = strength_C.argsort(descending=True, stable=True)[:16]
        assert layer["strongest"] == order.tolist()
        assert layer["units"] == len(output_CP)
        np.testing.assert_allclose(layer["strength"], strength_C[order], rtol=1e-3, atol=1e-3)
        assert layer["inactive"] == int((output_CP == 0).all(1).sum())
        assert layer["zero_fraction"] == pytest.approx(float((output_CP == 0).float().mean()))
        if layer["size"]:
            np.testing.assert_allclose(np.reshape(layer["maps"], (16, -1)), output_CP[order], atol=1e-3)


def test_the_last_layer_and_the_prediction_agree(bundled_result, digit):
    numbers = bundled_result.numbers
    prediction = numbers["predictions"][0]
    assert numbers["layers"][-1]["classes"][0] == prediction["name"]
    probability_K = load("digits-lenet").model(digit).detach().softmax(1)
    assert prediction["probability"] == pytest.approx(float(probability_K.max()), abs=1e-5)


def test_filters_are_the_weights_with_their_convolutions(bundled_result, digit):
    model = load("digits-lenet").model
    filters = bundled_result.numbers["filters"]
    order = filters["units"]
    assert sorted(order) == list(range(20)) and filters["layer"] == "features.0"
    np.testing.assert_allclose(filters["weights"], model.features[0].weight[order].detach(), atol=1e-4)
    output_CHW = model.features[0](digit)[0].detach()
    np.testing.assert_allclose(filters["maps"], output_CHW[order], atol=1e-3)
    strength = output_CHW[order].square().mean((1, 2)).tolist()
    assert strength == sorted(strength, reverse=True)


def test_filters_of_a_dense_layer_have_the_shape_of_the_image():
    model = build(nn.Flatten, lambda: nn.Linear(75, 6), nn.ReLU, lambda: nn.Linear(6, 3))
    result, x_1CHW, _ = explain_noise(model, channels=3, size=5)
    filters = result.numbers["filters"]
    order = filters["units"]
    np.testing.assert_allclose(np.reshape(filters["weights"], (6, 75)), model[1].weight[order].detach(), atol=1e-4)
    assert filters["maps"] is None and filters["size"] == [3, 5, 5]
    expected = model[1](x_1CHW.flatten(1))[0, order].detach()
    np.testing.assert_allclose(filters["pre_activations"], expected, atol=1e-4)
    assert filters["pre_activations"] == sorted(filters["pre_activations"], reverse=True)


def test_large_maps_are_downsampled_by_averaging():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).eval()
    result, x_1CHW, _ = explain_noise(model, size=2 * MAX_MAP_SIZE, count=3, top_k=2)
    layer = result.numbers["layers"][0]
    output_CHW = model[1](model[0](x_1CHW))[0].detach()
    mean_CHW = output_CHW.unflatten(2, (MAX_MAP_SIZE, 2)).unflatten(1, (MAX_MAP_SIZE, 2)).mean((2, 4))
    assert layer["size"] == [2 * MAX_MAP_SIZE, 2 * MAX_MAP_SIZE]
    np.testing.assert_allclose(layer["maps"], mean_CHW[layer["strongest"]], atol=1e-3)


def test_outputs_are_captured_before_an_inplace_layer_changes_them():
    model = build(
        lambda: nn.Conv2d(1, 4, 3),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.ReLU(inplace=True),
        nn.Flatten,
        lambda: nn.Linear(400, 3),
    )
    result, x_1CHW, _ = explain_noise(model, layer="1")
    layer = next(layer for layer in result.numbers["layers"] if layer["name"] == "1")
    expected_CHW = model[1](model[0](x_1CHW))[0].detach()
    assert np.min(layer["maps"]) < 0
    np.testing.assert_allclose(layer["maps"], expected_CHW[layer["strongest"]], atol=1e-3)
    (layer_units,) = result.numbers["units"]
    unit = layer_units["units"][0]
    assert unit["activation"] == pytest.approx(float(expected_CHW[unit["unit"]].max()), abs=1e-5)


# --- top images -------------------------------------------------------------------------------------------------------


def test_top_images_match_a_search_through_all_images():
    model = build(
        lambda: nn.Conv2d(3, 5, 3), nn.Tanh, lambda: nn.Conv2d(5, 4, 3), nn.Tanh, nn.Flatten, lambda: nn.Linear(256, 3)
    )
    result, x_1CHW, training = explain_noise(model, channels=3, units=4, top_k=6)
    assert [layer["layer"] for layer in result.numbers["units"]] == ["1", "3"]
    for layer in result.numbers["units"]:
        peak_C = capture_output(model, layer["layer"], x_1CHW)[0].flatten(1).amax(1)
        assert [unit["unit"] for unit in layer["units"]] == peak_C.argsort(descending=True)[:4].tolist()
        peak_NC = torch.stack(
            [
                capture_output(model, layer["layer"], preprocess(image[None]))[0].flatten(1).amax(1)
                for image in training.images
            ]
        )
        for unit in layer["units"]:
            peak_N = peak_NC[:, unit["unit"]].tolist()
            top = sorted(range(30), key=lambda index: (-peak_N[index], index))[:6]
            assert [image["index"] for image in unit["images"]] == top
            activations = [image["activation"] for image in unit["images"]]
            np.testing.assert_allclose(activations, [peak_N[index] for index in top], atol=1e-5)
            assert [image["label"] for image in unit["images"]] == ["abc"[training.labels[index]] for index in top]
            assert [image["source"] for image in unit["images"]] == [f"p{index}" for index in top]
            assert unit["percentile"] == sum(peak < unit["activation"] for peak in peak_N) / 30


def test_images_without_activation_are_not_top_images():
    assert units.top_images(np.array([0.0, 2, 0, 3, 2]), 4).tolist() == [3, 1, 4]
    assert units.top_images(np.zeros(5), 4).tolist() == []
    assert units.top_images(np.array([-1.0, -3, -2]), 2).tolist() == [0, 2]


def test_inactive_units_have_no_top_images_and_can_be_plotted():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 3))
    nn.init.zeros_(model[0].weight)
    model[0].bias.data = torch.tensor([-1.0, -1, -1])
    result, _, _ = explain_noise(model)
    layer = result.numbers["layers"][0]
    assert result.numbers["units"][0]["units"] == []
    assert layer["inactive"] == 3
    assert layer["purity"]["mean"] is None
    for frame in result.frames:
        frame.draw()


def test_a_model_without_layers_to_show_is_rejected():
    with pytest.raises(OptionError) as error:
        explain_noise(nn.Sequential(nn.Flatten()), classes="a" * 144)
    assert error.value.option == "layer"


# --- patches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [((5, 2, 2), (3, 1, 1)), ((3, 1, 0), (4, 3, 0)), ((2, 2, 1), (3, 1, 0))])
def test_the_patch_is_the_receptive_field_of_two_convolutions(first, second):
    """(kernel size, stride, padding) of each convolution."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, *first), nn.Tanh(), nn.Conv2d(6, 5, *second))
    x_BCHW = torch.randn(40, 1, 17, 13)
    unit_B = torch.arange(40) % 5
    with torch.no_grad():
        output_BCHW = model(x_BCHW)
        hidden_shape = model[:2](x_BCHW).shape[2:]

    def receptive_field(position, size, hidden_size):
        kernel_size, stride, padding = first
        low = max(position * second[1] - second[2], 0)
        high = min(position * second[1] - second[2] + second[0] - 1, hidden_size - 1)
        return max(low * stride - padding, 0), min(high * stride - padding + kernel_size, size)

    patches = units.receptive_patches(model, x_BCHW, model[2], unit_B.tolist())
    for row, patch in enumerate(patches):
        y, x = divmod(int(output_BCHW[row, unit_B[row]].argmax()), output_BCHW.shape[3])
        top, bottom = receptive_field(y, 17, hidden_shape[0])
        left, right = receptive_field(x, 13, hidden_shape[1])
        assert patch == (left, top, right, bottom)
    assert len(set(patches)) > 10


def test_patches_after_pooling_lie_within_the_receptive_field(bundled_result):
    for layer, side in zip(bundled_result.numbers["units"], (6, 16, 28), strict=True):
        sizes = []
        for image in list_top_images({"units": [layer]}):
            left, top, right, bottom = image["patch"]
            sizes.append((right - left, bottom - top))
        assert sizes and all(1 <= width <= side and 1 <= height <= side for width, height in sizes)
        assert max(sizes) >= (side - 2, side - 2)


def test_small_changes_outside_the_patch_do_not_change_the_activation(bundled_result):
    trained = load("digits-lenet")
    digits = trained.load_data("digits")
    rows = np.sort(np.random.default_rng(0).permutation(len(digits.train))[1:121])
    layer = bundled_result.numbers["units"][1]
    for unit in layer["units"]:
        for image in unit["images"]:
            x_1CHW = trained.task.to_input(digits.train.images[rows[image["index"]]][None], trained.spec)
            left, top, right, bottom = image["patch"]
            output_HW = capture_output(trained.model, layer["layer"], x_1CHW)[0, unit["unit"]]
            assert float(output_HW.max()) == pytest.approx(image["activation"], abs=1e-4)
            changed_1CHW = x_1CHW + 1e-3
            changed_1CHW[..., top:bottom, left:right] = x_1CHW[..., top:bottom, left:right]
            changed_HW = capture_output(trained.model, layer["layer"], changed_1CHW)[0, unit["unit"]]
            peak = int(output_HW.argmax())
            assert float(changed_HW.flatten()[peak]) == pytest.approx(float(output_HW.max()), abs=1e-5)


def test_step_activations_have_no_patch():
    model = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=16, activation="step")
    result, _, _ = explain_noise(model, size=16)
    images = list_top_images(result.numbers)
    assert images and all(image["patch"] is None for image in images)
    result.frames[result.key_frame].draw()


# --- purity -----------------------------------------------------------------------------------------------------------


def test_purity_is_the_fraction_of_the_majority_class_of_active_units():
    label_N = np.array([0, 0, 1, 1, 2])
    peak_NC = np.array([[5.0, 0, 1], [4, 0, 5], [3, 2, 4], [2, 1, 3], [1, 0, 2]])
    assert units.purity(peak_NC, label_N, 2).tolist() == [1.0, 1.0, 0.5]
    assert units.purity(peak_NC, label_N, 3) == pytest.approx([2 / 3, 2 / 3])
    assert units.purity(np.zeros((5, 2)), label_N, 2).tolist() == []


def test_chance_purity_matches_counting_all_draws():
    """Two of 4 a and 6 b are alike with probability (4 · 3 + 6 · 5) / 90; the purity is then 1, else 1/2."""
    label_N = np.array([0] * 4 + [1] * 6)
    alike = (4 * 3 + 6 * 5) / 90
    assert units.chance_purity(label_N, 2, seed=0) == pytest.approx(alike + (1 - alike) / 2, abs=0.03)
    assert units.chance_purity(label_N, 10, seed=0) == pytest.approx(0.6)
    assert units.chance_purity(label_N, 3, seed=5) == units.chance_purity(label_N, 3, seed=5)


def test_purity_grows_with_depth_in_a_trained_model(run):
    numbers = thalweg.explain("features", run, images=400).result.numbers
    means = [layer["purity"]["mean"] for layer in numbers["layers"]]
    assert means == sorted(means)
    assert means[-1] > 0.85 > 0.65 > means[0] > numbers["training"]["chance_purity"]
    for layer in numbers["layers"]:
        purity = layer["purity"]
        mean = np.dot(purity["histogram"], np.arange(9)) / 8 / purity["units"]
        assert mean == pytest.approx(purity["mean"])


# --- every model ------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(("name", "size", "channels", "kwargs"), FAMILIES, ids=[family[0] for family in FAMILIES])
def test_every_model_family_can_be_explained_and_stays_unchanged(name, size, channels, kwargs):
    torch.manual_seed(0)
    model = registry.find_model(name)(in_channels=channels, num_classes=4, image_size=size, **kwargs)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result, _, _ = explain_noise(model, channels, size, count=6, classes="abcd", units=2, top_k=2)
    assert len(result.frames) <= 17
    assert len({frame.draw().size for frame in (result.frames[0], result.frames[-2])}) == 1
    assert result.numbers["layers"][-1]["classes"] is not None
    assert len(result.numbers["units"]) in (1, 2, 3)
    json.dumps(result.numbers, allow_nan=False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.modules())


def test_at_most_five_convolutional_and_three_dense_layers_are_shown():
    maps = [CapturedLayer(f"m{n}", nn.Conv2d(1, 1, 1), (4, 5, 5), None) for n in range(9)]
    dense = [CapturedLayer(f"d{n}", nn.Linear(1, 1), (4, 1, 1), None) for n in range(5)]
    names = [layer.name for layer in units.representative_layers([*maps, *dense])]
    assert names == ["m0", "m2", "m4", "m6", "m8", "d0", "d2", "d4"]


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_a_run_and_an_image_can_be_explained(run, png):
    rendered = thalweg.explain("features", str(run.path), str(png), images=60, layer="features.0", units=2, top_k=3)
    numbers = rendered.result.numbers
    assert numbers["title"].endswith("horse.png")
    assert not rendered.result.notes
    assert [layer["layer"] for layer in numbers["units"]] == ["features.0"]
    assert numbers["training"]["images"] == 60
    assert list_top_images(numbers)[0]["source"].startswith("digits[")
    assert "layer=features.0" in rendered.command


def test_the_seed_selects_the_test_image(run):
    first, again, other = (thalweg.explain("features", run, images=20, seed=seed) for seed in (1, 1, 2))
    assert first.json() == again.json() != other.json()
    source = first.result.numbers["title"].split(", ")[1]
    assert source in list(run.load_data().test.sources)


def test_top_images_can_come_from_other_data(run, png, tmp_path):
    for label in "01":
        (tmp_path / label).mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number + 10 * int(label)).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    numbers = thalweg.explain("features", run, str(png), str(tmp_path), top_k=3).result.numbers
    assert numbers["training"]["images"] == 8
    sources = [image["source"] for image in list_top_images(numbers)]
    assert sources and all(source.endswith(".png") for source in sources)


def test_missing_training_data_is_noted(run, tmp_path):
    path = shutil.copytree(run.path, tmp_path / "run")
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    record["options"]["data"] = str(tmp_path / "gone")
    (path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (path / "checksums.sha256").unlink()
    rendered = thalweg.explain("features", str(path), np.eye(8, dtype=np.float32))
    assert rendered.result.numbers["training"] is None
    assert "gone" in rendered.result.notes[0]
    rendered.draw()


def test_a_model_name_needs_an_image_and_has_no_training_images(run, png, capsys):
    weights = str(run.path)
    result = thalweg.explain("features", "lenet", str(png), weights=weights).result
    assert result.numbers["training"] is None
    assert len(result.notes) == 1
    assert result.key_frame == 1
    assert cli.invoke(["explain", "features", "lenet", "--weights", weights]) == 2
    assert "lenet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["{run}", "{text}"], 3, "notes.png"),
        (["{run}", "nowhere.png"], 3, "nowhere.png"),
        (["{run}", "{png}", "nowhere"], 2, "nowhere"),
        (["nothing"], 2, "'nothing'"),
        (["{run}", "--set", "layer=features.1O"], 2, "'features.1O'"),
        (["{run}", "--set", "units=11"], 2, "units"),
        (["{broken}"], 4, "broken"),
        (["{run}", "{png}", "digits", "more"], 2, "more"),
    ],
)
def test_invalid_arguments_are_rejected(words, code, text, run, png, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.png").write_text("no image", encoding="utf-8")
    broken = tmp_path / "broken"
    shutil.copytree(run.path, broken)
    (broken / "weights.safetensors").write_bytes(b"nothing")
    paths = {"run": run.path, "text": "notes.png", "png": png, "broken": broken}
    assert cli.invoke(["explain", "features", *(word.format(**paths) for word in words)]) == code
    assert text in capsys.readouterr().err
    assert not (tmp_path / "explained").exists()


@pytest.mark.parametrize("name", ["zzz", "features.1O"])
def test_an_unknown_layer_is_rejected(run, name):
    with pytest.raises(NotFoundError) as error:
        thalweg.explain("features", run, layer=name)
    assert error.value.value == name
    assert "features.0" in error.value.allowed


def test_settings_out_of_range_are_rejected():
    with pytest.raises(OptionError):
        parse_options({"units": 11}, FeatureSettings)


def test_a_missing_image_is_rejected(run, tmp_path):
    with pytest.raises(DataError):
        thalweg.explain("features", run, str(tmp_path / "nothing.png"))


def test_a_prediction_of_nan_is_rejected():
    with pytest.raises(NonFiniteError):
        features(
            FeatureSettings(),
            model=build(nn.Flatten, lambda: nn.Linear(144, 3)),
            x_1CHW=torch.zeros(1, 1, 12, 12),
            image_HWC=np.zeros((12, 12, 1), np.uint8),
            classes="abc",
            probability_K=np.full(3, np.nan),
        )


# --- plots ------------------------------------------------------------------------------------------------------------


def test_plots_have_room_for_the_largest_settings_and_the_longest_names():
    model = build(lambda: nn.Conv2d(1, 10, 3), nn.Tanh, nn.Flatten, lambda: nn.Linear(1000, 3))
    classes = ["a very long name of a class " * 9, "b", "$c$"]
    result, _, _ = explain_noise(model, units=10, top_k=16, classes=classes)
    assert all(len(frame.caption) <= 300 for frame in result.frames)
    sizes = {frame.draw().size for frame in result.frames}
    assert len(sizes) == 1
    assert sizes.pop()[1] <= 2400


def test_uneven_filters_are_scaled_individually():
    weights = np.ones((8, 1, 2, 2)) * np.geomspace(0.001, 1, 8)[:, None, None, None]
    assert plot._has_uneven_scale(weights)
    assert not plot._has_uneven_scale(np.ones((8, 1, 2, 2)))
    images = plot._filters_to_images(weights)
    assert np.allclose(images[0], images[-1])
