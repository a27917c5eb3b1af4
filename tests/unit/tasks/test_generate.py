"""The task generate: it learns, its metrics are repeatable, and a sample depends on its seed alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.style_generator import build_style_model
from thalweg import registry
from thalweg.config.json_record import FieldError, from_json, to_json
from thalweg.config.options import TrainOptions
from thalweg.config.parsing import parse_options
from thalweg.data.base import DataRequest
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import DataError, OptionError
from thalweg.inference.load import load
from thalweg.objectives.adversarial import AdversarialSettings
from thalweg.predictions.image import ImageGrid
from thalweg.tasks.base import Context
from thalweg.tasks.generate import Generate, GenerateSpec, GenerateTrainOptions
from thalweg.tasks.generate_metrics import compare_images, count_validation_samples, load_feature_network
from thalweg.tasks.generate_sampling import generate_images, to_bytes
from thalweg.tasks.generate_support import CollapseWatch, build_transform, suggest_next, to_signed_float
from thalweg.tasks.generate_training import build_objective

TASK = Generate()
OPTIONS = GenerateTrainOptions(num_eval_samples=200)
CPU = Context(torch.device("cpu"), seed=3, load=load)
DATA = TASK.toy_dataset()
SPEC = TASK.data_spec(DATA, OPTIONS)


def build(spec: GenerateSpec = SPEC, **kwargs) -> torch.nn.Module:
    torch.manual_seed(0)
    kwargs = {"width": 16, "latent_dim": 16, **kwargs}
    return registry.get_models("generate")["dcgan"](**TASK.model_kwargs(spec), **kwargs).eval()


def build_trainer(model: torch.nn.Module, steps: int, options: GenerateTrainOptions = OPTIONS) -> Trainer:
    setup = TASK.setup(model, DATA, SPEC, options, 16, CPU)
    config = TrainConfig(steps, lr=2e-3, momentum=0.5, schedule="constant", ema_decay=0.999, report_every=5)
    return Trainer(setup.objective, setup.batches, config, setup.transform)


def train(steps: int, options: GenerateTrainOptions = OPTIONS) -> Trainer:
    trainer = build_trainer(build(), steps, options)
    for _ in trainer:
        pass
    return trainer


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    return train(150).model.eval()


# --- training and evaluation ------------------------------------------------------------------------------------------


def test_it_learns(trained):
    before = TASK.evaluate(build(), DATA.test, SPEC, OPTIONS, CPU).metrics
    after = TASK.evaluate(trained, DATA.test, SPEC, OPTIONS, CPU).metrics
    assert list(after) == [metric.name for metric in TASK.metrics]
    assert after["frechet_distance"] < before["frechet_distance"] / 2
    assert TASK.metrics[0].is_better(after["frechet_distance"], before["frechet_distance"])
    assert 0 <= after["precision"] <= 1 and 0 <= after["recall"] <= 1


def test_real_images_are_better_than_generated_ones(trained):
    network = load_feature_network(CPU, 1)
    real = DATA.test.images
    others = DATA.train.images[: len(real)]
    scores = compare_images(network, real, others)
    generated = compare_images(network, real, generate_images(trained, 0, len(real)))
    assert scores["frechet_distance"] < generated["frechet_distance"] and scores["recall"] > generated["recall"]


def test_evaluation_is_repeatable_and_says_what_it_compared(trained):
    result = TASK.evaluate(trained, DATA.train, SPEC, OPTIONS, CPU)
    again = TASK.evaluate(trained, DATA.train, SPEC, OPTIONS, CPU)
    assert again.metrics == result.metrics
    expected = {
        "feature_network": "digits-lenet",
        "real_images": len(DATA.train.spread(200)),
        "generated_images": 200,
        "precision_recall_images": min(200, len(DATA.train)),
    }
    assert {name: result.details[name] for name in expected} == expected
    classes = result.details["classes"]
    assert classes["classifier"] == "digits-lenet" and list(classes["generated"]) == list("0123456789")
    assert sum(classes["generated"].values()) == pytest.approx(1) == pytest.approx(sum(classes["real"].values()))
    assert classes["smallest"] == min(classes["generated"].values()) <= 0.1 <= classes["largest"]
    (grid,) = result.samples
    assert isinstance(grid, ImageGrid) and len(grid.images_NHWC) == 64
    np.testing.assert_array_equal(grid.images_NHWC, again.samples[0].images_NHWC)


@pytest.mark.parametrize(
    ("num_real", "max_samples", "expected"), [(6000, 10_000, 1000), (150, 10_000, 300), (5, 10_000, 64), (6000, 70, 70)]
)
def test_validation_makes_fewer_images_than_the_test(num_real, max_samples, expected):
    assert count_validation_samples(num_real, max_samples) == expected
    options = replace(OPTIONS, num_eval_samples=70)
    setup = TASK.setup(build(), DATA, SPEC, options, 16, CPU)
    result = setup.validate(build())
    assert result.details["generated_images"] == count_validation_samples(len(DATA.val), 70)


def test_training_images_are_a_floor_of_the_metrics(trained):
    result = TASK.evaluate(trained, DATA.test, SPEC, OPTIONS, CPU)
    details = TASK.final_details(trained, DATA, SPEC, OPTIONS, result)
    assert details["training_images"]["frechet_distance"] < result.metrics["frechet_distance"]
    assert details["validation_real_images"] == len(DATA.val)
    assert 0 <= details["memorization"]["memorization"] <= 1
    assert details["memorization"]["test_images"] == len(DATA.test)


def test_colors_have_a_network_of_their_own():
    spec = GenerateSpec(3, 16)
    images = DATA.test.images.repeat(3, axis=3)
    split = replace(DATA.test, images=images)
    result = TASK.evaluate(build(spec), split, spec, OPTIONS, CPU)
    assert result.details["feature_network"] == "cifar10-fast" and result.metrics["frechet_distance"] > 0


def test_metrics_are_undefined_without_images_or_a_feature_network():
    empty = DATA.test.take(np.zeros(0, np.int64))
    assert set(TASK.evaluate(build(), empty, SPEC, OPTIONS, CPU).metrics.values()) == {None}
    result = TASK.evaluate(build(), DATA.test, SPEC, OPTIONS, replace(CPU, load=None))
    assert set(result.metrics.values()) == {None} and result.details["feature_network"] is None
    one = TASK.evaluate(build(), DATA.test.take(np.zeros(1, np.int64)), SPEC, OPTIONS, CPU)
    assert set(one.metrics.values()) == {None}


def test_evaluation_leaves_the_weights(trained):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    TASK.evaluate(trained, DATA.test, SPEC, OPTIONS, CPU)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("cut", [7, 16])
def test_a_resumed_training_ends_with_equal_bits(cut):
    options = replace(OPTIONS, mirror=True, penalty_interval=4)
    expected = train(20, options).state_dict()
    first = build_trainer(build(), 20, options)
    for report in first:
        if report.step >= cut:
            break
    second = build_trainer(build(), 20, options)
    second.load_state_dict(first.state_dict())
    for _ in second:
        pass
    for part in ("objective", "ema_model"):
        for name, value in second.state_dict()[part].items():
            assert torch.equal(value, expected[part][name]), name


# --- options, specs and messages --------------------------------------------------------------------------------------


def test_bytes_survive_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(4, 8, 8, 1)
    floats = to_signed_float(levels)
    assert floats.shape == (4, 1, 8, 8) and floats.min() == -1 and floats.max() == 1
    np.testing.assert_array_equal(to_bytes(floats), levels.numpy())
    assert to_bytes(torch.tensor([-3.0, 3.0]).reshape(2, 1, 1, 1)).flatten().tolist() == [0, 255]


def test_half_of_the_images_are_mirrored():
    images = torch.from_numpy(DATA.train.images[:64].copy())
    plain = build_transform(False)({"image": images})["image"]
    mirrored = build_transform(True)({"image": images})["image"]
    is_same = (mirrored == plain).flatten(1).all(1)
    assert ((mirrored == plain.flip(3)).flatten(1).all(1) | is_same).all()
    assert 10 < int(is_same.sum()) < 54


def test_the_spec_survives_json_and_names_a_damaged_field():
    assert from_json(to_json(SPEC), GenerateSpec) == SPEC == GenerateSpec(1, 16)
    for field, values in (("channels", [0, 2, "1", None]), ("image_size", [4, 24, 1.5, None])):
        for value in values:
            with pytest.raises(FieldError) as error:
                from_json({**asdict(SPEC), field: value}, GenerateSpec)
            assert error.value.field == field


def test_fewer_images_than_a_batch_are_refused_with_counts():
    count = len(DATA.train)
    with pytest.raises(DataError) as error:
        TASK.setup(build(), DATA, SPEC, OPTIONS, count + 1, CPU)
    assert error.value.value == count and error.value.allowed == [count + 1]


@pytest.mark.parametrize(
    ("name", "value"), [("freeze", True), ("unfreeze_groups", 0), ("unfreeze_every", 1.0), ("layer_decay", 0.5)]
)
def test_layers_cannot_be_frozen(name, value):
    context = replace(CPU, options=TrainOptions(**{name: value}))
    with pytest.raises(OptionError) as error:
        TASK.setup(build(), DATA, SPEC, OPTIONS, 16, context)
    assert error.value.option == name and error.value.value == value
    TASK.setup(build(), DATA, SPEC, OPTIONS, 16, replace(CPU, options=TrainOptions()))


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (20, 16), (32, 32), (60_000, 32)])
def test_the_default_batch_fits_the_data(count, batch_size):
    dataset = SimpleNamespace(train=range(count))
    values = TASK.default_options(dataset, SPEC, OPTIONS, TrainOptions())
    assert values["batch_size"] == batch_size and values["epochs"] >= 3
    assert "lr" in values
    assert "lr" not in TASK.default_options(dataset, SPEC, OPTIONS, TrainOptions(optimizer="sgd"))


def test_averages_forget_by_images():
    for batch_size, expected in ((32, 0.999), (64, 0.998), (320, 0.99)):
        common = TrainOptions(batch_size=batch_size)
        decay = TASK.default_options(DATA, SPEC, OPTIONS, common)["ema_decay"]
        assert decay == pytest.approx(expected, abs=1e-4)


# --- how a model is trained -------------------------------------------------------------------------------------------


def test_options_override_what_the_model_is_trained_with():
    settings = build_objective(build(), OPTIONS, CPU).settings
    assert settings == AdversarialSettings(**vars(build().training_values))
    options = replace(OPTIONS, loss="hinge", r1=0.0, gradient_penalty=5.0, penalty_interval=1, augment="ada")
    settings = build_objective(build(), options, replace(CPU, world_size=2)).settings
    assert settings == AdversarialSettings("hinge", 0.0, 0.0, 1, 5.0, augment="ada", num_ranks=2)


@pytest.mark.parametrize(("name", "value"), [("mixing", 0.5), ("growth_images", 100)])
def test_options_that_mean_nothing_to_a_model_are_refused(name, value):
    with pytest.raises(OptionError) as error:
        TASK.setup(build(), DATA, SPEC, replace(OPTIONS, **{name: value}), 16, CPU)
    assert error.value.option == name and error.value.value == value
    TASK.setup(build(), DATA, SPEC, replace(OPTIONS, mixing=0.0), 16, CPU)


@pytest.mark.parametrize("loss", ["hinge", "least_squares", "wasserstein", "relativistic"])
def test_every_loss_trains(loss):
    options = replace(OPTIONS, loss=loss, drift=1e-3, augment="diff", path_length=0.1, penalty_interval=2)
    (*_, report) = build_trainer(build(), 5, options)
    assert {"discriminator", "penalty", "path_length", "generator"} <= report.losses.keys()
    assert all(np.isfinite(value) for value in report.losses.values())


# --- classes ----------------------------------------------------------------------------------------------------------


def test_classes_are_part_of_the_spec_and_of_batches_on_demand():
    assert SPEC.classes == [] and TASK.model_kwargs(SPEC) == {"in_channels": 1, "image_size": 16}
    options = replace(OPTIONS, conditional=True)
    spec = TASK.data_spec(DATA, options)
    assert spec.classes == ["disc", "square"] and TASK.model_kwargs(spec)["num_classes"] == 2
    setup = TASK.setup(build(), DATA, spec, options, 16, CPU)
    batch = setup.transform(next(iter(setup.batches)))
    rows = setup.batches.batch_indices(0)
    np.testing.assert_array_equal(batch["label"], DATA.train.labels[rows])
    assert "label" not in next(iter(TASK.setup(build(), DATA, SPEC, OPTIONS, 16, CPU).batches))


def test_a_model_without_classes_does_not_become_conditional():
    new = replace(SPEC, classes=["disc", "square"])
    assert TASK.spec_for_transfer(SPEC, SPEC) == TASK.spec_for_transfer(SPEC, SPEC) == SPEC
    assert TASK.spec_for_transfer(new, SPEC) == new
    with pytest.raises(OptionError) as error:
        TASK.spec_for_transfer(SPEC, new)
    assert error.value.option == "conditional"


def test_data_is_read_with_the_classes_of_the_model():
    spec = GenerateSpec(1, 16, ["3", "5"])
    dataset = TASK.load_data(DataRequest("digits:3,5"), OPTIONS, CPU, spec)
    assert dataset.classes == ("3", "5")
    with pytest.raises(DataError) as error:
        TASK.load_data(DataRequest("digits:3,6"), OPTIONS, CPU, spec)
    assert error.value.value == ["3", "6"]
    assert TASK.load_data(DataRequest("digits"), OPTIONS, CPU, SPEC).classes == ()


# --- what is noticed --------------------------------------------------------------------------------------------------


def test_a_validation_tells_that_the_discriminator_wins():
    setup = TASK.setup(build(), DATA, SPEC, replace(OPTIONS, num_eval_samples=64), 16, CPU)
    setup.objective.accuracy.fill_(1.0)
    assert len(setup.validate(build()).warnings) == 1
    assert not setup.validate(build()).warnings, "said once"


def test_a_critic_that_tells_all_images_apart_is_no_warning():
    setup = TASK.setup(build(), DATA, SPEC, replace(OPTIONS, num_eval_samples=64, gradient_penalty=10.0), 16, CPU)
    setup.objective.accuracy.fill_(1.0)
    assert not setup.validate(build()).warnings
    row = {"split": "train", "discriminator/accuracy": 0.999}
    assert suggest_next([row])
    for key in ("discriminator/gradient_penalty", "penalty/gradient_penalty"):
        assert not suggest_next([{**row, key: 0.1}])


# --- further options --------------------------------------------------------------------------------------------------


def test_options_have_ranges():
    assert parse_options({"r1": "0"}, GenerateTrainOptions).r1 == 0
    for name, value in (("r1", -1), ("penalty_interval", 0), ("num_eval_samples", 1)):
        with pytest.raises(OptionError) as error:
            parse_options({name: value}, GenerateTrainOptions)
        assert str(error.value.option).replace("-", "_") == name
    assert [
        phase.name for phase in TASK.setup(build(), DATA, SPEC, replace(OPTIONS, r1=0.0), 8, CPU).objective.phases()
    ] == [
        "discriminator",
        "generator",
    ]


def test_it_is_not_exported():
    with pytest.raises(OptionError):
        TASK.export_spec(build(), SPEC, None)


def test_advice_names_a_collapse():
    good = [{"split": "train", "discriminator/accuracy": 0.8}, {"split": "val", "recall": 0.6}]
    assert suggest_next(good) == []
    assert len(suggest_next([*good, {"split": "train", "discriminator/accuracy": 0.999}])) == 1
    assert len(suggest_next([*good, {"split": "val", "recall": 0.0}])) == 1
    assert suggest_next([]) == []


def test_a_collapse_and_a_divergence_are_said_once_as_they_happen():
    watch = CollapseWatch()
    histories = [(20.0, 0.0), (9.0, 0.5), (8.0, 0.6), (9.0, 0.1), (40.0, 0.05), (8.0, 0.5), (8.0, 0.0), (None, None)]
    counts = [len(watch.check({"frechet_distance": distance, "recall": recall}, 0.8)) for distance, recall in histories]
    assert counts == [0, 0, 0, 1, 1, 0, 1, 0]


def test_real_images_are_shown_before_training():
    examples = TASK.setup(build(), DATA, SPEC, OPTIONS, 16, CPU).examples
    np.testing.assert_array_equal(examples["real"].images_NHWC, DATA.train.spread(64).images)


def test_the_report_shows_samples_real_images_and_neighbors(trained):
    result = TASK.evaluate(trained, DATA.test, SPEC, OPTIONS, CPU)
    plots = TASK.plots(trained, DATA, SPEC, OPTIONS, result, [])
    assert [plot.name for plot in plots] == ["samples", "real", "nearest", "interpolation"]
    assert "recall" in plots[0].caption and "digits-lenet" in plots[0].caption
    assert all(plot.image is not None and plot.caption for plot in plots)
    card = TASK.card_text(SPEC, {}, {})
    assert "16x16" in card.summary and "digits-lenet" in card.limitations[1]
    assert "runs/mine" in TASK.card_text(SPEC, {}, {"feature_network": "runs/mine"}).limitations[1]


def test_the_report_of_a_style_model_shows_truncation_and_mixed_styles():
    model = build_style_model()
    result = TASK.evaluate(model, DATA.test, SPEC, replace(OPTIONS, num_eval_samples=64), CPU)
    plots = {plot.name: plot for plot in TASK.plots(model, DATA, SPEC, OPTIONS, result, [])}
    assert {"truncation", "mixing"} < set(plots) and plots["mixing"].image is not None
