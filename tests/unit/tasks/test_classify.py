"""The classifier: its spec, class weights, losses of logits, features and auxiliary heads, metrics, and advice."""

from __future__ import annotations

import shlex
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from thalweg import registry
from thalweg.config.options import TrainOptions
from thalweg.data.images.dataset import ImageDataset, channel_mean_std
from thalweg.data.images.input_spec import InputSpec
from thalweg.data.images.synthetic import make_bars
from thalweg.data.images.transfer import adapt_to_model, transfer_spec
from thalweg.errors import DataError, OptionError
from thalweg.tasks import classify as classify_module
from thalweg.tasks.base import Context, EvalResult
from thalweg.tasks.classify import Classify, ClassifyOptions, Evidence
from thalweg.tasks.classify_support import (
    SMALL_PHOTO_SET,
    build_criterion,
    build_transform,
    choose_defaults,
    class_weights,
    is_small_photo_set,
    resolve_augment,
    suggest_next,
)

TASK = Classify()
CPU = torch.device("cpu")
CONTEXT = Context(CPU, options=TrainOptions(freeze=True))
SPEC = InputSpec(["a", "b", "c"], 1, [4, 4], [0.5], [0.5], class_counts=[6, 3, 1])
BARS = make_bars(count=48)


# --- the spec of images ----------------------------------------------------------------------------------------------


@given(arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3]))))
@settings(max_examples=60, deadline=None)
def test_mean_and_std_are_those_of_the_pixels(images):
    pixels = images.reshape(-1, images.shape[3]) / 255
    mean_C, std_C = channel_mean_std(images)
    np.testing.assert_allclose(mean_C, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(std_C, pixels.std(0), atol=1e-12)


def test_mean_and_std_of_many_images_take_little_memory():
    images = np.zeros((2000, 32, 32, 3), np.uint8)
    tracemalloc.start()
    channel_mean_std(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes


def test_the_spec_describes_the_training_split():
    spec = TASK.data_spec(BARS, ClassifyOptions(tta="flip"))
    assert (spec.classes, spec.channels, spec.size, spec.tta) == (list(BARS.classes), 1, [16, 16], "flip")
    assert spec.class_counts == np.bincount(BARS.train.labels).tolist() and not spec.handwriting
    assert TASK.model_kwargs(spec) == {"in_channels": 1, "num_classes": 4, "image_size": 16}
    images = torch.from_numpy(BARS.train.images)
    x_BCHW = TASK.to_input(images.numpy(), spec)
    assert x_BCHW.mean().item() == pytest.approx(0, abs=1e-4) and x_BCHW.std().item() == pytest.approx(1, abs=1e-4)


def test_constant_images_have_a_positive_std():
    black = {name: replace(split, images=np.zeros_like(split.images)) for name, split in BARS.splits.items()}
    assert TASK.data_spec(replace(BARS, splits=black), ClassifyOptions()).std == [0.001]


def test_transfer_keeps_the_normalization_of_the_weights():
    old = InputSpec(["x"], 1, [32, 32], [0.1], [0.2], handwriting=True, resize=40)
    spec = transfer_spec(old, replace(SPEC, tta="flip"))
    assert spec == replace(SPEC, mean=[0.1], std=[0.2], handwriting=True, resize=5, tta="flip")
    with pytest.raises(DataError) as error:
        transfer_spec(replace(old, channels=3, mean=[0, 0, 0], std=[1, 1, 1]), SPEC)
    assert (error.value.value, error.value.allowed) == (1, [3])


@pytest.mark.parametrize(
    ("old", "is_reset"), [(["a", "b", "c"], False), (["a", "c", "b"], True), (["a", "b"], True), ([], False)], ids=str
)
def test_other_classes_reset_the_head(old, is_reset):
    assert TASK.reset_on_transfer(replace(SPEC, classes=old), SPEC) is is_reset


def test_other_data_gets_the_labels_of_the_model():
    spec = TASK.data_spec(BARS, ClassifyOptions())
    spec = replace(spec, classes=["more", *reversed(spec.classes)])
    adapted = adapt_to_model(BARS, spec)
    assert list(adapted.classes) == spec.classes
    names = [spec.classes[label] for label in adapted.test.labels]
    assert names == [BARS.classes[label] for label in BARS.test.labels]
    for wrong in (replace(spec, classes=["lying"]), replace(spec, size=[8, 8])):
        with pytest.raises(DataError) as error:
            adapt_to_model(BARS, wrong)
        assert error.value.value in (["standing", "falling", "rising"], [16, 16, 1])


# --- class weights ---------------------------------------------------------------------------------------------------


def test_the_weight_of_a_class_is_the_mean_count_over_its_own():
    assert class_weights([6, 3, 1]).tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert class_weights([4, 4]).tolist() == [1, 1]
    assert class_weights([2, 0, 6]).tolist() == pytest.approx([2, 0, 2 / 3])


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_class_counts_as_much_as_any_other_and_all_as_before(counts):
    total_K = class_weights(counts).double() * torch.tensor(counts)
    torch.testing.assert_close(total_K, torch.full_like(total_K, sum(counts) / len(counts)))


# --- losses ----------------------------------------------------------------------------------------------------------


class Echo(nn.Module):
    """Returns its input as logits; in training mode, with auxiliary logits of the other sign if asked to."""

    def __init__(self, auxiliary: bool = False):
        super().__init__()
        self.head = nn.Linear(3, 3)
        self.auxiliary = auxiliary

    def forward(self, x: Tensor):
        return (x, -x) if self.auxiliary and self.training else x


LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, -1.0, 1.0]])
LABELS = torch.tensor([0, 1, 2, 2])
BATCH = {"image": LOGITS, "label": LABELS}


def compute_loss(model: nn.Module, batch: dict, **options):
    return build_criterion(SPEC, ClassifyOptions(**options), CPU)(model, batch)


@pytest.mark.parametrize("kind", ["cross-entropy", "squared-error"])
def test_balanced_losses_weigh_each_example_by_its_class(kind):
    loss_B = F.cross_entropy(LOGITS, LABELS, reduction="none")
    if kind == "squared-error":
        loss_B = (LOGITS - torch.eye(3)[LABELS]).square().sum(1)
    assert compute_loss(Echo(), BATCH, loss=kind).mean.item() == pytest.approx(loss_B.mean().item())
    expected = (loss_B * torch.tensor([10 / 18, 10 / 9, 10 / 3, 10 / 3])).mean().item()
    assert compute_loss(Echo(), BATCH, loss=kind, balance_classes=True).mean.item() == pytest.approx(expected)


def test_an_epoch_of_balanced_losses_counts_every_class_alike():
    """The gradients of a bias for equal logits: those of a rare class weigh as much as those of a frequent one."""
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.zeros(10, 3, requires_grad=True)
    compute_loss(Echo(), {"image": logits, "label": labels}, balance_classes=True).mean.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("balance", [True, False])
def test_auxiliary_logits_count_four_tenths_in_training(balance):
    main = compute_loss(Echo(), BATCH, balance_classes=balance).mean.item()
    auxiliary = compute_loss(Echo(), {**BATCH, "image": -LOGITS}, balance_classes=balance).mean.item()
    model = Echo(auxiliary=True)
    training = compute_loss(model.train(), BATCH, balance_classes=balance).mean.item()
    assert training == pytest.approx(main + 0.4 * auxiliary)
    assert compute_loss(model.eval(), BATCH, balance_classes=balance).mean.item() == pytest.approx(main)


def test_the_accuracy_of_a_batch_is_that_of_the_main_logits():
    loss = compute_loss(Echo(auxiliary=True).train(), BATCH)
    assert loss.metrics["accuracy"].item() == 0.5 and loss.count == 4


def test_features_go_through_the_head_alone():
    model = Echo()
    loss = compute_loss(model, {"features": LOGITS, "label": LABELS}).mean.item()
    assert loss == pytest.approx(F.cross_entropy(model.head(LOGITS), LABELS).item())


MIXED = {**BATCH, "other_label": LABELS.roll(1), "mix": torch.tensor([0.0, 0.3, 0.7, 1.0])}


@pytest.mark.parametrize("options", [{}, {"balance_classes": True}, {"label_smoothing": 0.2, "balance_classes": True}])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared-error"])
def test_the_loss_of_mixed_images_is_the_mixture_of_their_losses(kind, options):
    expected = 0.0
    for row, mix in enumerate(MIXED["mix"].tolist()):
        for label, weight in ((MIXED["label"][row], 1 - mix), (MIXED["other_label"][row], mix)):
            single = {"image": LOGITS[row : row + 1], "label": label[None]}
            expected += weight * compute_loss(Echo(), single, loss=kind, **options).mean.item() / 4
    model = Echo(auxiliary=True)
    loss = compute_loss(model.eval(), MIXED, loss=kind, **options)
    assert loss.mean.item() == pytest.approx(expected, rel=1e-5)
    negative = compute_loss(model, {**MIXED, "image": -LOGITS}, loss=kind, **options).mean.item()
    assert compute_loss(model.train(), MIXED, loss=kind, **options).mean.item() == pytest.approx(
        expected + 0.4 * negative, rel=1e-5
    )


def test_the_accuracy_of_mixed_images_is_that_of_the_dominating_label():
    labels = torch.tensor([0, 1, 1, 2])  # the label itself twice, then the other one twice
    logits = 5 * torch.eye(3)[labels]
    assert compute_loss(Echo(), {**MIXED, "image": logits}).metrics["accuracy"].item() == 1
    assert compute_loss(Echo(), {**MIXED, "image": logits.roll(1, 1)}).metrics["accuracy"].item() == 0


def test_a_transform_that_mixes_brings_both_labels():
    spec = replace(SPEC, mean=[0.0], std=[1.0])
    image = torch.tensor([0, 255, 51, 102], dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 1)
    batch = build_transform("cutmix", spec)({"image": image, "label": LABELS})
    own_B = image[:, 0, 0, 0] / 255
    mean_B = torch.lerp(own_B, own_B.roll(1), batch["mix"])
    torch.testing.assert_close(batch["image"].mean((1, 2, 3)), mean_B)
    assert torch.equal(batch["other_label"], LABELS.roll(1)) and torch.equal(batch["label"], LABELS)
    assert {"mix", "other_label"}.isdisjoint(build_transform("crop,flip", spec)({"image": image, "label": LABELS}))


def test_views_of_mixed_images_are_not_cached():
    with pytest.raises(OptionError) as error:
        TASK.setup(Echo(), BARS, SPEC, ClassifyOptions(augment="mixup", feature_views=2), 16, CONTEXT)
    assert (error.value.option, error.value.value) == ("augment", "mixup")


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_metrics_of_cached_features_are_those_of_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    spec = TASK.data_spec(BARS, ClassifyOptions())
    model = registry.find_model("lenet")(in_channels=1, num_classes=4, image_size=16, hidden=8).eval()
    setup = TASK.setup(model, BARS, spec, ClassifyOptions(), 16, CONTEXT)
    assert setup.validate is not None and setup.record == {"cached_features": True, "storage": "memory"}
    result = TASK.evaluate(model, BARS.val, spec, ClassifyOptions(), CONTEXT)
    assert setup.validate(model).metrics == pytest.approx(result.metrics, abs=1e-5)
    assert result.evidence.split is BARS.val
    assert np.array(result.details["confusion"]).sum() == len(BARS.val) == result.metrics["examples"]


def test_an_empty_split_has_no_accuracy():
    spec = TASK.data_spec(BARS, ClassifyOptions())
    model = registry.find_model("mlp")(in_channels=1, num_classes=4, image_size=16)
    result = TASK.evaluate(model, BARS.val.take(np.array([], np.int64)), spec, ClassifyOptions(), CONTEXT)
    assert result.metrics["examples"] == 0 and result.metrics["accuracy"] is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], {"examples": 0, "accuracy_without": 0.5}),
        ([1, 2], {"examples": 2, "accuracy_without": 1.0}),
        ([0, 1, 2, 3], {"examples": 4, "accuracy_without": None}),
    ],
    ids=str,
)
def test_the_accuracy_without_near_duplicates(monkeypatch, rows, expected):
    monkeypatch.setattr(classify_module, "leaked_test_rows", lambda train, test: np.array(rows, np.int64))
    split = replace(BARS.test.take(np.arange(4)), labels=LABELS.numpy())
    dataset = replace(BARS, splits={**BARS.splits, "test": split})
    probabilities = torch.eye(3)[torch.tensor([0, 2, 0, 2])].numpy()
    result = EvalResult({}, evidence=Evidence(split, probabilities, None, np.arange(4)))
    model = nn.Identity()
    assert TASK.final_details(model, dataset, SPEC, ClassifyOptions(), result) == {}
    details = TASK.final_details(model, dataset, SPEC, ClassifyOptions(check_leakage=True), result)
    assert details == {"near_duplicates": expected}


# --- small photo sets, and advice ------------------------------------------------------------------------------------


def photos(side: int = 32, channels: int = 3, count: int = 100, sizes: bool = True) -> tuple[ImageDataset, InputSpec]:
    """Return a set of image files, and its spec."""
    images = np.broadcast_to(np.zeros((1, side, side, channels), np.uint8), (count, side, side, channels))
    split = replace(BARS.train, images=images, labels=np.zeros(count, np.int64))
    found = {(640, 480): count} if sizes else {}
    spec = InputSpec(["a"], channels, [side, side], [0.5] * channels, [0.5] * channels, class_counts=[count])
    return replace(BARS, splits={**BARS.splits, "train": split}, sizes=found), spec


@pytest.mark.parametrize(
    ("settings", "augment"),
    [
        ({}, "crop,flip,trivial"),
        ({"side": 224}, "crop,flip,trivial"),
        ({"side": 16}, "none"),
        ({"channels": 1}, "none"),
        ({"sizes": False}, "none"),
        ({"count": SMALL_PHOTO_SET}, "none"),
        ({"count": SMALL_PHOTO_SET - 1}, "crop,flip,trivial"),
    ],
    ids=str,
)
def test_small_sets_of_photos_are_augmented_by_default(settings, augment):
    dataset, spec = photos(**settings)
    assert resolve_augment(ClassifyOptions(), dataset, spec) == augment
    assert is_small_photo_set(dataset, spec) is (augment != "none")
    assert resolve_augment(ClassifyOptions(augment="none"), dataset, spec) == "none"
    assert resolve_augment(ClassifyOptions(augment="rotate"), dataset, spec) == "rotate"


@pytest.mark.parametrize(
    ("settings", "options", "epochs"),
    [
        ({"count": 540}, {}, 120.0),
        ({"count": 1000}, {}, 65.0),
        ({"count": 3000}, {}, None),
        ({"count": 540}, {"weights": "imagenet"}, None),
        ({"count": 540, "sizes": False}, {}, None),
    ],
)
def test_few_photos_are_trained_for_longer(settings, options, epochs):
    defaults = choose_defaults(*photos(**settings), ClassifyOptions(), TrainOptions(**options))
    assert defaults.get("epochs") == epochs


@pytest.mark.parametrize(
    ("augment", "tta", "expected", "resize"),
    [
        ("auto", "auto", "zoom", None),
        ("crop=0.5,color", "auto", "zoom", None),
        ("flip,shift=2", "auto", "none", None),
        ("crop", "none", "none", None),
        ("crop", "flip", "flip", None),
        ("crop", "auto", "none", 40),  # the weights' own center crop
    ],
)
def test_models_trained_on_crops_zoom_in(augment, tta, expected, resize):
    dataset, spec = photos()
    options = ClassifyOptions(augment=augment, tta=tta)
    spec = replace(spec, tta="none" if tta == "auto" else tta, resize=resize)
    assert TASK.spec_for_training(spec, dataset, options, TrainOptions()).tta == expected
    options = replace(options, feature_views=2)
    frozen = TASK.spec_for_training(spec, dataset, options, TrainOptions(freeze=True))
    assert frozen.tta == spec.tta  # features are cached, and those of whole images validated


@pytest.mark.parametrize(
    ("settings", "options", "val", "is_suggested"),
    [
        ({}, {}, 0.5, True),
        ({"channels": 1}, {}, 0.5, False),
        ({"count": SMALL_PHOTO_SET}, {}, 0.5, False),
        ({}, {"weights": "imagenet"}, 0.5, False),
        ({}, {}, 0.97, False),
    ],
)
def test_pretrained_weights_are_suggested_for_few_photos(settings, options, val, is_suggested):
    _, spec = photos(**settings)
    common = TrainOptions(data="my photos", **options)
    lines = TASK.advice(make_history(0.6, val), spec, ClassifyOptions(), common)
    assert bool(lines) is is_suggested
    if is_suggested:
        words = shlex.split(lines[0].partition("thalweg ")[2].partition("  (")[0])
        assert words[:3] == ["train", "classify", "my photos"]
        assert parse_flags(words[3:]) == {"--model": "mobilenet_v3_small", "--weights": "imagenet", "--freeze": True}
        assert "10 MB" in lines[0]


def parse_flags(words: list[str]) -> dict:
    flags = {}
    for word in words:
        if word.startswith("--"):
            flags[word] = True
        else:
            flags[list(flags)[-1]] = word
    return flags


def make_history(train: float, val: float) -> list[dict]:
    return [{"split": "train", "accuracy": train}, {"split": "val", "accuracy": val}, {"split": "val", "loss": 1.0}]


@pytest.mark.parametrize(
    ("train", "val", "memorizes"),
    [(1.0, 0.6, True), (0.98, 0.8, True), (0.97, 0.6, False), (1.0, 0.91, False), (1.0, 0.86, False)],
)
def test_a_model_that_memorizes_is_given_advice(train, val, memorizes):
    assert bool(suggest_next(make_history(train, val), "none", TrainOptions())) is memorizes
    assert suggest_next([], "none", TrainOptions()) == []


@pytest.mark.parametrize(
    ("augment", "options", "flags"),
    [
        ("none", {}, ["--augment", "--weights", "--patience"]),
        ("flip", {"patience": 3}, ["--weights"]),
        ("flip", {"patience": 3, "weights": "imagenet"}, []),
    ],
)
def test_advice_names_only_what_was_not_tried(augment, options, flags):
    (advice,) = suggest_next(make_history(1.0, 0.5), augment, TrainOptions(**options))
    assert [flag for flag in ("--augment", "--weights", "--patience") if flag in advice] == flags
