"""The task edit: what samples show, figures against direct measurement, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.helpers.toy_tasks import plan_toy, train_toy
from thalweg import api
from thalweg.api import Run
from thalweg.cli.main import invoke
from thalweg.errors import OptionError
from thalweg.tasks.edit_support import make_toy_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """An editor of the toy generator; its axes are named brightness, width and height."""
    trained = train_toy("edit", tmp_path_factory.mktemp("edit") / "run", steps=60, lr=0.03, report=False)
    return Run(trained.run_dir)


def test_no_change_gives_the_image_of_the_generator(run):
    dataset = make_toy_dataset()
    plain = next(run.sample(count=1, seed=4))
    zero = next(run.sample(count=1, seed=4, set={"width": 0}))
    assert (plain.image_HWC == zero.image_HWC).all()
    latent = torch.randn(6, generator=torch.Generator().manual_seed(4))[None]
    image = dataset.source.generator(latent)[0, 0]
    assert np.abs((image.numpy() + 1) * 127.5 - plain.image_HWC[..., 0]).max() <= 0.51


def test_brightness_follows_the_request_by_one_deviation(run):
    levels = []
    for change in (-1, 0, 1):
        images = [sample.image_HWC for sample in run.sample(count=40, set={"brightness": change})]
        levels.append(np.mean(images) / 255)
    scale = run.spec.scales[0]
    assert (levels[1] - levels[0]) / scale == pytest.approx(1, abs=0.4)
    assert (levels[2] - levels[1]) / scale == pytest.approx(1, abs=0.4)


def test_training_calibrates_the_effect_and_keeps_what_it_began_with(run):
    metrics = run.results["test"]
    assert metrics["effect"] == pytest.approx(1, abs=0.25) and metrics["monotonicity"] > 0.9
    for figures in run.results["details"]["axes"].values():
        assert {"leakage_before_training", "leakage_before_orthogonalization"} <= figures.keys()


def test_strips_and_sweeps_have_a_row_each(run):
    (strip,) = run.sample(way="strip", attribute="height", count=3, seed=1)
    assert strip.json()["rows"] == ["seed 1", "seed 2", "seed 3"] and strip.images_RTHWC.shape[:2] == (3, 7)
    sweeps = list(run.sample(way="sweep", count=2, seed=1))
    assert [sweep.json()["rows"] for sweep in sweeps] == [["brightness", "width", "height"]] * 2
    plain = next(run.sample(count=1, seed=1)).image_HWC
    assert (strip.images_RTHWC[0, 3] == plain).all() and (sweeps[0].images_RTHWC[2, 3] == plain).all()
    assert (strip.images_RTHWC[0] == sweeps[0].images_RTHWC[2]).mean() > 0.99
    assert strip.files()[".png"].startswith(b"\x89PNG")


def test_unknown_attributes_and_large_changes_are_refused(run):
    for options, option, value in (
        ({"set": {"smile": 1}}, "set", "smile"),
        ({"set": {"width": 1e3}}, "set", 1e3),
        ({"way": "strip", "attribute": "smile"}, "attribute", "smile"),
        ({"set": {"width": "fat"}}, "set", {"width": "fat"}),
    ):
        with pytest.raises(OptionError) as error:
            list(run.sample(**options))
        assert (error.value.option, error.value.value) == (option, value) and error.value.allowed


def test_set_is_repeatable_on_the_command_line(run, tmp_path, capsys):
    words = ["sample", str(run.path), "--count", "1", "--seed", "3", "--save", str(tmp_path), "--json"]
    assert invoke([*words, "--set", "brightness=+2", "--set", "width=-1"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 3
    (expected,) = run.sample(count=1, seed=3, set={"brightness": 2, "width": -1})
    assert (tmp_path / "sample_1.png").read_bytes() == expected.files()[".png"]
    for bad in (["--set", "width"], ["--set", "width=1", "--set", "width=2"]):
        assert invoke([*words, *bad]) == 2


@pytest.mark.parametrize("axes", ["pca", "sefa"])
def test_axes_without_attributes_are_named_by_what_they_move(axes, tmp_path):
    training = train_toy("edit", tmp_path / "run", axes=axes, num_axes=2, steps=2, report=False)
    spec = training.parts.spec
    for index, name in enumerate(spec.axes):
        assert name == f"{axes}{index + 1}-{spec.attributes[spec.targets[index]]}"
    assert all(figures["effect"] > 0 for figures in training.record.results.details["axes"].values())
    assert torch.equal(
        training.parts.model.direction_KW,
        plan_toy("edit", tmp_path / "new", axes=axes, num_axes=2).parts.model.direction_KW,
    )


def test_local_axes_leak_less(tmp_path):
    linear = train_toy("edit", tmp_path / "linear", steps=40, report=False)
    local = train_toy("edit", tmp_path / "local", model="local_axes", steps=40, report=False)
    assert local.record.results.test["leakage"] < linear.record.results.test["leakage"]


def test_what_is_no_generator_or_classifier_is_refused(tmp_path):
    for options, option, value in (
        ({"generator": "digits-mlp"}, "generator", "classify"),
        ({"classifier": "digits-dcgan"}, "classifier", "generate"),
        ({"classifier": "cifar10-fast"}, "classifier", 3),
        ({"measure": ["smile"]}, "measure", "smile"),
    ):
        with pytest.raises(OptionError) as error:
            api.plan_training("edit", None, out=tmp_path / "run", **options)
        assert (error.value.option, error.value.value) == (option, value) and error.value.allowed
    with pytest.raises(OptionError) as error:
        plan_toy("edit", tmp_path / "run", generator="digits-dcgan")
    assert error.value.option == "generator"
    assert not (tmp_path / "run").exists()
