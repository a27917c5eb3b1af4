"""Weights, arithmetic and memory over the picture's side against counts by hand, and the subjects that can be named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from thalweg.attribution.layer_summary import sum_rows, summarize_layers
from thalweg.cli import main as cli
from thalweg.concepts.parameters.compute import ParameterSettings, parameters
from thalweg.errors import ModelFileError, NotFoundError, OptionError
from thalweg.inference.inputs import network


def asked(**given):
    """The concept about a network by name, and its numbers."""
    name = given.pop("name", "lenet")
    wanted = ParameterSettings(**given)
    return parameters(wanted, **network.load([name], wanted, None, True))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(8, 300), min_size=2, max_size=4, unique=True),
    st.sampled_from([1, 3]),
    st.lists(st.integers(1, 200), min_size=1, max_size=3),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(1, 64),
)
def test_growth_is_as_counted_by_hand(sides, channels, dense, maps, batch):
    numbers = asked(sides=sides, channels=channels, dense=dense, maps=maps, batch=batch, classes=10).numbers
    assert numbers["sides"] == sorted(sides)
    for place, side in enumerate(sorted(sides)):
        widths = [side * side * channels, *dense, 10]
        pairs = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
        found = {key: values[place] for key, values in numbers["growth"]["dense"].items()}
        weights = pairs + sum(widths[1:])
        answers = 2 * sum(dense) + 10  # sums, and what ReLU makes of them
        assert found == {"parameters": weights, "multiply_adds": pairs, "memory": 16 * weights + 4 * batch * answers}
        inputs, extent, weights, work = channels, side, 0, 0
        for stage, width in enumerate(maps):
            # the first stage begins with a convolution more; normalisation has two numbers for each map
            for _ in range(2 if stage == 0 else 1):
                weights += 9 * inputs * width + 2 * width
                work += extent**2 * 9 * inputs * width
                inputs = width
            extent //= 2 if stage < len(maps) - 1 and extent >= 4 else 1
        found = {key: values[place] for key, values in numbers["growth"]["convolutional"].items()}
        assert found["parameters"] == weights + 10 * maps[-1] + 10
        assert found["multiply_adds"] == work + 10 * maps[-1]


def test_the_weights_of_convolutions_stay_and_those_of_dense_layers_grow_with_the_square():
    growth = asked(sides=[64, 128, 256], name="resnet50").numbers["growth"]
    assert len(set(growth["convolutional"]["parameters"])) == 1
    assert set(growth["resnet50"]["parameters"]) == {25_557_032}  # as for 224 pixels, also where they are few
    first, second, third = growth["dense"]["parameters"]
    assert third - second == 4 * (second - first) == 128 * 3 * (256**2 - 128**2)
    arithmetic = growth["resnet50"]["multiply_adds"]
    assert arithmetic[2] / arithmetic[1] == pytest.approx(4, rel=0.01) == arithmetic[1] / arithmetic[0]


def test_figures_and_captions_tell_the_published_numbers():
    found = asked(name="vgg16")
    assert found.key_numbers["weights"].startswith("138,357,544, 553.4 MB")
    assert found.key_numbers["multiply-adds"].startswith("15,470,264,320")
    assert found.numbers["growth"]["vgg16"]["parameters"][0] is None
    assert any("vgg16 reads no pictures of 28 pixels" in note for note in found.notes)
    assert "74% are in classifier.0 (Linear)" in found.frames[3].caption
    assert found.numbers["fields"][-1] == {"name": "classifier.0", "field": 404} and len(found.numbers["fields"]) == 8


def test_sides_and_sizes_can_be_read_off_the_axes():
    figure = asked(sides=[8, 9]).frames[2]
    for axes in figure.plot.figure(*figure.args).axes[:3]:
        low, high = axes.get_ylim()
        assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3
    near = asked(sides=[32, 64, 100, 128, 224, 256, 512, 1024]).frames[2]
    ticks = near.plot.figure(*near.args).axes[0].get_xticks()
    assert list(ticks) == [32, 64, 100, 224, 512, 1024]


def test_a_deep_network_has_a_page_at_a_glance_and_pages_of_layers():
    found = asked(name="resnet152", sides=[32, 64])
    pages = found.numbers["pages"]
    assert [row["name"] for row in pages[0]][3:7] == ["layer1", "layer2", "layer3", "layer4"]
    assert sum(row["parameters"] for row in pages[0]) == 60_192_808
    assert sum(row["parameters"] for page in pages[1:] for row in page) == 60_192_808
    assert found.frames[-1].caption == f"resnet152, layer by layer, page {len(pages) - 1} of {len(pages) - 1}."
    assert len(found.frames) == 3 + len(pages) <= 40
    assert len({frame.draw().size for frame in (found.frames[0], found.frames[3], found.frames[-1])}) == 1


def test_a_network_of_its_own_size_and_one_that_is_asked_for():
    assert asked().numbers["total"]["parameters"] == 431_080
    numbers = asked(side=32, channels=3, classes=7).numbers
    by_hand = (20 * 75 + 20) + (50 * 500 + 50) + (50 * 5 * 5 * 500 + 500) + 7 * 501
    assert numbers["total"]["parameters"] == by_hand and numbers["side"] == 32


def test_a_run_is_counted_as_it_was_built(tmp_path, capsys):
    run = thalweg.train(
        "classify", "digits", model="convnet", arguments={"widths": [6, 9]}, steps=2, threads=1, out=tmp_path / "run",
        report=False,
    )  # fmt: skip
    count = sum(weight.numel() for weight in run.model.parameters())
    assert cli.invoke(["explain", "parameters", str(run.path), "--save", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found["numbers"]["total"]["parameters"] == count and found["numbers"]["classes"] == 10
    assert found["command"] == f"thalweg explain parameters {run.path}"
    assert f"{count:,}" in capsys.readouterr().out
    shown = thalweg.explain("parameters", run)
    assert shown.result.numbers["total"] == sum_rows(
        summarize_layers(run.model, (run.facts["channels"], *run.facts["size"])).rows, "all"
    )._asdict() | {"shape": (10,)}


def test_models_that_come_along_are_named_like_runs():
    given = network.load(["digits-lenet"], None, None, True)
    assert given["form"] == (28, 1, 10) and given["told"] == "digits-lenet"
    assert network.load([], None, None, True)["told"] == "lenet"
    assert network.load(["vgg16"], None, None, True)["form"] == (224, 3, 1000)
    assert network.load(["airbench"], None, None, True)["form"] == (32, 3, 10)


def test_what_is_neither_model_nor_run_is_refused(tmp_path, capsys):
    with pytest.raises(NotFoundError, match="no model or run named 'resnet5'"):
        network.load(["resnet5"], None, None, True)
    with pytest.raises(ModelFileError, match=r"no run\.json"):
        network.load([str(tmp_path)], None, None, True)
    for words, code, told in (
        (["resnet5"], 2, "'resnet50'"),
        ([str(tmp_path)], 4, "run.json"),
        (["lenet", "vgg16"], 2, "one word too many"),
        (["lenet", "--weights", "imagenet"], 2, "Leave --weights out"),
        (["vgg16", "--set", "side=20"], 2, "at least 32 pixels"),
        (["lenet", "--set", "sides=28"], 2, "Give 2 to 8"),
        (["lenet", "--set", "sides=28,1000000"], 2, "8 to 4096"),
        (["lenet", "--set", "side=small"], 2, "side"),
    ):
        assert cli.invoke(["explain", "parameters", *words]) == code, words
        assert told in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    assert cli.invoke(["explain", "parameters", str(tmp_path)]) == 4
    with pytest.raises(OptionError, match="int is no model's name"):
        network.load([7], None, None, True)
    with pytest.raises(OptionError, match="Give 2 to 8"):
        asked(sides=list(range(8, 17)))
