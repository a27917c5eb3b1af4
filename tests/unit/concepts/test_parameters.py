"""Parameters, multiply-adds and memory over the image size against counts by hand, and the inputs of the concept."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from thalweg.attribution.layer_summary import sum_rows, summarize_layers
from thalweg.cli import main as cli
from thalweg.concepts.parameters.compute import ParameterSettings, parameters
from thalweg.errors import ModelFileError, NotFoundError, OptionError
from thalweg.inference.inputs import network


def explain(name="lenet", **values):
    """Run the concept for a model by name."""
    chosen = ParameterSettings(**values)
    return parameters(chosen, **network.load_input([name], chosen, None, True))


def scaling_curves(name="lenet", **values):
    """The numbers of the concept, and its curves: dense network, convolutional network, model."""
    numbers = explain(name, **values).numbers
    return numbers, *numbers["scaling"]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(8, 300), min_size=2, max_size=4, unique=True),
    st.sampled_from([1, 3]),
    st.lists(st.integers(1, 200), min_size=1, max_size=3),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(1, 64),
)
def test_costs_match_counts_by_hand(sizes, channels, mlp_widths, convnet_widths, batch_size):
    numbers, dense, convolutional, _ = scaling_curves(
        image_sizes=sizes,
        channels=channels,
        mlp_widths=mlp_widths,
        convnet_widths=convnet_widths,
        batch_size=batch_size,
        classes=10,
    )
    assert numbers["image_sizes"] == sorted(sizes)
    for i, size in enumerate(sorted(sizes)):
        widths = [size * size * channels, *mlp_widths, 10]
        multiply_adds = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
        count = multiply_adds + sum(widths[1:])
        activations = 2 * sum(mlp_widths) + 10  # pre-activations, and ReLU of them
        assert dense["parameters"][i] == count
        assert dense["multiply_adds"][i] == multiply_adds
        assert dense["training_bytes"][i] == 16 * count + 4 * batch_size * activations
        in_channels = channels
        extent = size
        count = 0
        multiply_adds = 0
        for stage, width in enumerate(convnet_widths):
            # the first stage has one more convolution; batch norm has two parameters per channel
            for _ in range(2 if stage == 0 else 1):
                count += 9 * in_channels * width + 2 * width
                multiply_adds += extent**2 * 9 * in_channels * width
                in_channels = width
            if stage < len(convnet_widths) - 1 and extent >= 4:
                extent //= 2
        assert convolutional["parameters"][i] == count + 10 * convnet_widths[-1] + 10
        assert convolutional["multiply_adds"][i] == multiply_adds + 10 * convnet_widths[-1]


def test_convolutions_keep_their_parameters_and_dense_layers_grow_with_the_square():
    _, dense, convolutional, resnet50 = scaling_curves("resnet50", image_sizes=[64, 128, 256])
    assert len(set(convolutional["parameters"])) == 1
    assert set(resnet50["parameters"]) == {25_557_032}  # as for 224 pixels, also at small sizes
    first, second, third = dense["parameters"]
    assert third - second == 4 * (second - first) == 128 * 3 * (256**2 - 128**2)
    multiply_adds = resnet50["multiply_adds"]
    assert multiply_adds[2] / multiply_adds[1] == pytest.approx(4, rel=0.01) == multiply_adds[1] / multiply_adds[0]


def test_key_numbers_and_captions_match_published_numbers():
    result = explain("vgg16")
    assert result.key_numbers["parameters"].startswith("138,357,544, 553.4 MB")
    assert result.key_numbers["multiply-adds"].startswith("15,470,264,320")
    vgg16 = result.numbers["scaling"][2]
    assert vgg16["name"] == "vgg16" and vgg16["parameters"][0] is None
    assert any("vgg16" in note and "28 pixels" in note for note in result.notes)
    caption = result.frames[3].caption
    assert "classifier.0 (Linear)" in caption and "74%" in caption
    fields = result.numbers["receptive_fields"]
    assert fields[-1] == {"name": "classifier.0", "receptive_field": 404} and len(fields) == 8


def test_axes_have_enough_ticks_that_do_not_overlap():
    frame = explain(image_sizes=[8, 9]).frames[2]
    for axes in frame.plot.figure(*frame.args).axes[:3]:
        low, high = axes.get_ylim()
        assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3
    frame = explain(image_sizes=[32, 64, 100, 128, 224, 256, 512, 1024]).frames[2]
    ticks = frame.plot.figure(*frame.args).axes[0].get_xticks()
    assert list(ticks) == [32, 64, 100, 224, 512, 1024]


def test_a_deep_model_has_an_overview_and_pages_of_layers():
    result = explain("resnet152", image_sizes=[32, 64])
    pages = result.numbers["pages"]
    assert [row["name"] for row in pages[0]][3:7] == ["layer1", "layer2", "layer3", "layer4"]
    assert sum(row["parameters"] for row in pages[0]) == 60_192_808
    assert sum(row["parameters"] for page in pages[1:] for row in page) == 60_192_808
    assert result.frames[-1].caption.startswith("resnet152") and str(len(pages) - 1) in result.frames[-1].caption
    assert len(result.frames) == 3 + len(pages) <= 40
    assert len({frame.draw().size for frame in (result.frames[0], result.frames[3], result.frames[-1])}) == 1


def test_input_shape_is_the_own_one_or_that_of_the_settings():
    assert explain().numbers["total"]["parameters"] == 431_080
    numbers = explain(image_size=32, channels=3, classes=7).numbers
    by_hand = (20 * 75 + 20) + (50 * 500 + 50) + (50 * 5 * 5 * 500 + 500) + 7 * 501
    assert numbers["total"]["parameters"] == by_hand and numbers["image_size"] == 32


def test_a_run_is_counted_as_it_was_built(tmp_path, capsys):
    run = thalweg.train(
        "classify",
        "digits",
        model="convnet",
        model_kwargs={"widths": [6, 9]},
        steps=2,
        cpu_threads=1,
        out=tmp_path / "run",
        report=False,
    )
    count = sum(parameter.numel() for parameter in run.model.parameters())
    assert cli.invoke(["explain", "parameters", str(run.path), "--save", str(tmp_path / "a.json")]) == 0
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert saved["numbers"]["total"]["parameters"] == count and saved["numbers"]["classes"] == 10
    assert saved["command"] == f"thalweg explain parameters {run.path}"
    assert f"{count:,}" in capsys.readouterr().out
    total = thalweg.explain("parameters", run).result.numbers["total"]
    rows = summarize_layers(run.model, (run.spec.channels, *run.spec.size)).rows
    assert total == asdict(sum_rows(rows, "all")) and total["shape"] == (10,)


def test_bundled_models_are_named_like_runs():
    inputs = network.load_input(["digits-lenet"], None, None, True)
    assert inputs["form"] == (28, 1, 10) and inputs["title"] == "digits-lenet"
    assert network.load_input([], None, None, True)["title"] == "lenet"
    assert network.load_input(["vgg16"], None, None, True)["form"] == (224, 3, 1000)
    assert network.load_input(["airbench"], None, None, True)["form"] == (32, 3, 10)


def test_unknown_models_and_broken_runs_are_rejected(tmp_path):
    with pytest.raises(NotFoundError) as error:
        network.load_input(["resnet5"], None, None, True)
    assert error.value.value == "resnet5" and "resnet50" in error.value.allowed
    with pytest.raises(ModelFileError) as error:
        network.load_input([str(tmp_path)], None, None, True)
    assert "run.json" in error.value.message
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    assert cli.invoke(["explain", "parameters", str(tmp_path)]) == 4
    with pytest.raises(OptionError):
        network.load_input([7], None, None, True)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["resnet5"], 2, "'resnet50'"),
        (["."], 4, "run.json"),
        (["lenet", "vgg16"], 2, "vgg16"),
        (["lenet", "--weights", "imagenet"], 2, "--weights"),
        (["vgg16", "--set", "image_size=20"], 2, "32"),
        (["lenet", "--set", "image_sizes=28"], 2, "2 to 8"),
        (["lenet", "--set", "image_sizes=28,1000000"], 2, "8 to 4096"),
        (["lenet", "--set", "image_size=small"], 2, "image"),
    ],
)
def test_invalid_inputs_and_settings_are_rejected(words, code, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "parameters", *words]) == code
    assert expected in capsys.readouterr().err


def test_too_many_image_sizes_are_rejected():
    with pytest.raises(OptionError) as error:
        explain(image_sizes=list(range(8, 17)))
    assert error.value.option == "image_sizes" and error.value.value == list(range(8, 17))
