"""One image, every method: the results, what is left out and why, and that the heat of a dog is where it sits."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from thalweg import load, registry
from thalweg.attribution.explain_image import (
    METHODS,
    TTA_NOTE,
    Explanation,
    InputImage,
    explain_image,
    first_layer_filters,
)
from thalweg.attribution.integrated_gradients import integrated_gradients
from thalweg.attribution.occlusion import occlusion
from thalweg.errors import NonFiniteError, NotFoundError, OptionError
from thalweg.layers.tta import TTAModel, predict_proba
from thalweg.plots import attribution as plots

DIGITS = [str(d) for d in range(10)]


def draw_one() -> InputImage:
    """Return the stroke of a handwritten one, as a model of digits reads it and as pixels."""
    image_HWC = np.zeros((28, 28, 1), np.uint8)
    image_HWC[4:24, 13:16] = 255
    x = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].float() / 255
    return InputImage((x - 0.1307) / 0.3081, image_HWC)


def blank(x_1CHW: torch.Tensor, black_1CHW: torch.Tensor | None = None) -> InputImage:
    """Return a tensor with black pixels of its size."""
    _, channels, height, width = x_1CHW.shape
    return InputImage(x_1CHW, np.zeros((height, width, channels), np.uint8), black_1CHW)


def explain_one(name: str = "digits-lenet", *args, **kwargs) -> Explanation:
    return explain_image(load(name).model, draw_one(), DIGITS, *args, **kwargs)


def test_every_method_returns_a_value_for_every_pixel():
    result = explain_one()
    assert (result.target, result.label) == (1, "1") and result.notes == {}
    assert tuple(result.attributions) == METHODS[:3]
    for attribution in result.attributions.values():
        heat_HW = attribution.heat_HW
        assert heat_HW.shape == (28, 28) and heat_HW.dtype == np.float32 and heat_HW.any()
        assert attribution.caption
    assert [layer.name for layer in result.layers] == ["features.2", "features.5"]
    assert result.filters.shape == (20, 1, 5, 5)


def test_the_top_classes_are_those_of_the_model():
    with torch.no_grad():
        probability_K = load("digits-lenet").model(draw_one().x_1CHW).softmax(1)[0]
    result = explain_one()
    assert (
        result.predictions[0] == ("1", pytest.approx(float(probability_K[1]), abs=1e-6))
        and len(result.predictions) == 5
    )
    assert result.probability == result.predictions[0][1]
    assert [probability for _, probability in result.predictions] == sorted(probability_K.tolist(), reverse=True)[:5]


def test_the_target_may_be_an_index_or_a_name():
    by_index = explain_one(target=7)
    by_name = explain_one(target="7")
    assert by_index.label == by_name.label == "7" and by_index.json() == by_name.json()
    assert by_index.probability < 0.5 < by_index.predictions[0][1]


def test_only_the_requested_methods_run():
    result = explain_one("digits-lenet", ("occlusion",))
    assert tuple(result.attributions) == ("occlusion",) and result.layers == [] and result.filters is None
    assert set(result.json()["methods"]) == {"occlusion"} and set(result.images()) == {"attribution"}


def test_methods_that_do_not_work_for_the_model_are_left_out_with_the_reason():
    result = explain_one("digits-mlp")
    assert tuple(result.attributions) == ("integrated-gradients", "occlusion")
    assert set(result.notes) == {"grad-cam", "feature-maps"}
    assert result.filters.shape == (128, 1, 28, 28)
    assert set(result.images()) == {"attribution", "filters"}


def test_integrated_gradients_that_do_not_add_up_are_noted():
    """A jump has no gradient on either side, so the integral misses it."""

    class Cliff(nn.Module):
        def forward(self, x_BCHW):
            high = x_BCHW.mean((1, 2, 3))
            return torch.stack([0 * high, high + 100 * (high > 0)], 1)

    x = torch.ones(1, 1, 8, 8)
    result = explain_image(Cliff(), blank(x, -x), ["low", "high"])
    numbers = result.attributions["integrated-gradients"].numbers
    assert (round(numbers["sum"]), round(numbers["change"])) == (2, 102)
    assert "integrated-gradients" in result.notes


def test_notes_replace_captions_in_the_plot(monkeypatch):
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[4].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    image = blank(torch.ones(1, 1, 6, 6))
    result = explain_image(model, image, ["for", "against"], ("grad-cam", "occlusion"), target="against")
    assert list(result.notes) == ["grad-cam"]
    drawn = []

    def plot(_: np.ndarray, panels: list, *args) -> Image.Image:
        drawn.extend(panels)
        return Image.new("L", (1, 1))

    monkeypatch.setattr(plots, "plot_attribution_panels", plot)
    result.draw()
    assert [panel.caption for panel in drawn] == [result.notes["grad-cam"], result.attributions["occlusion"].caption]


def test_the_caption_of_occlusion_has_signed_changes():
    """The mean of the pixels against 0: covering bright pixels lowers the probability, covering dark ones raises it."""

    class Mean(nn.Module):
        def forward(self, x_BCHW):
            return torch.stack([4 * x_BCHW.mean((1, 2, 3)), torch.zeros(len(x_BCHW))], 1)

    x = torch.cat([torch.ones(1, 1, 12, 6), -torch.ones(1, 1, 12, 6)], 3)
    result = explain_image(Mean(), blank(x), ["a", "b"], ("occlusion",), "a")
    fraction = 4 / 144  # a square of 2 x 2 pixels
    drop = 1 / 2 - 1 / (1 + np.exp(4 * fraction))
    expected = f"covering 2 x 2 pixels changes the probability by {-drop:+.2g} to {drop:+.2g}"
    assert result.attributions["occlusion"].caption == expected


def test_a_target_outside_the_top_five_is_listed_after_them():
    with torch.no_grad():
        target = int(load("digits-lenet").model(draw_one().x_1CHW).argmin())
    result = explain_one(target=target)
    assert len(result.predictions) == 6 and result.predictions[5] == (result.label, result.probability)
    assert result.predictions[:5] == explain_one().predictions and len(explain_one(target="1").predictions) == 5


def test_the_average_over_views_is_explained():
    """Target, probabilities, occlusion and integrated gradients are those of the average; layer maps have a note."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 100, 3)).eval()
    x = torch.randn(1, 3, 12, 12)
    tta_model = TTAModel(model, "flip-shift")
    result = explain_image(model, blank(x), ["a", "b", "c"], tta_model=tta_model)
    with torch.no_grad():
        expected_K = predict_proba(model, x, "flip-shift")[0].numpy()
        drop_HW = occlusion(tta_model, x, result.target).drop_HW
        change = float((tta_model(x) - tta_model(torch.zeros_like(x)))[0, result.target])
    assert result.target == expected_K.argmax() and result.probability == pytest.approx(expected_K.max(), abs=1e-6)
    np.testing.assert_allclose(result.attributions["occlusion"].heat_HW, drop_HW, atol=1e-6)
    assert result.json()["methods"]["integrated-gradients"]["change"] == pytest.approx(change, abs=1e-4)
    assert result.notes["grad-cam"] == result.notes["feature-maps"] == TTA_NOTE and len(result.notes) == 2
    assert [layer.name for layer in result.layers] == ["1"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_rejected_without_a_warning(value):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 10))
    nn.init.constant_(model[2].bias, value)
    with warnings.catch_warnings(), pytest.raises(NonFiniteError):
        warnings.simplefilter("error")
        explain_image(model, draw_one(), DIGITS)


def test_results_are_json():
    parsed = json.loads(json.dumps(explain_one().json(), allow_nan=False))
    assert set(parsed) == {"target", "label", "probability", "top", "methods", "notes"}
    methods = parsed["methods"]
    assert set(methods) == set(METHODS)
    assert methods["grad-cam"]["layer"] == "features.5"
    assert np.shape(methods["grad-cam"]["map"]) == (4, 4)
    numbers = methods["integrated-gradients"]
    assert numbers["sum"] - numbers["change"] == pytest.approx(numbers["gap"], abs=1e-6)
    assert methods["occlusion"]["largest"] == np.max(methods["occlusion"]["map"])


def test_every_result_has_a_plot():
    drawn = explain_one().images()
    assert list(drawn) == ["attribution", "feature-maps", "filters"]
    assert all(isinstance(plot, Image.Image) and plot.width >= 600 for plot in drawn.values())


def test_attributions_of_large_images_are_smoothed():
    """Smoothing keeps the sum of the attributions, up to the edge of the image."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 200 * 200, 2))
    x = torch.zeros(1, 3, 200, 200)
    x[:, :, 100, 50] = 1
    result = explain_image(model, blank(x), ["a", "b"], ("integrated-gradients",))
    heat_HW = result.attributions["integrated-gradients"].heat_HW
    rows, columns = np.nonzero(heat_HW)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (98, 102, 48, 52)
    assert heat_HW.sum() == pytest.approx(result.json()["methods"]["integrated-gradients"]["sum"], rel=1e-4)


def test_filters_of_the_first_layer_have_the_shape_of_pixels():
    x = torch.zeros(1, 2, 3, 4)
    assert first_layer_filters(nn.Conv2d(2, 5, 3), x).shape == (5, 2, 3, 3)
    assert first_layer_filters(nn.Linear(24, 5), x).shape == (5, 2, 3, 4)
    assert first_layer_filters(nn.Linear(7, 5), x) is None and first_layer_filters(nn.ReLU(), x) is None


@pytest.mark.parametrize(
    ("wrong", "error", "value", "allowed"),
    [
        ({"methods": ("grad_cam",)}, NotFoundError, "grad_cam", sorted(METHODS)),
        ({"methods": ()}, OptionError, (), METHODS),
        ({"target": "one"}, NotFoundError, "one", DIGITS),
        ({"target": 10}, OptionError, 10, range(10)),
        ({"classes": DIGITS[:9]}, OptionError, 9, (10,)),
        (
            {"image": InputImage(draw_one().x_1CHW, np.zeros((14, 28, 1), np.uint8))},
            OptionError,
            (14, 28),
            ((28, 28),),
        ),
    ],
)
def test_arguments_that_do_not_fit_are_rejected(wrong, error, value, allowed):
    arguments = {"image": draw_one(), "classes": DIGITS, **wrong}
    with pytest.raises(error) as raised:
        explain_image(load("digits-lenet").model, **arguments)
    assert (raised.value.value, raised.value.allowed) == (value, allowed)


@pytest.fixture(scope="module")
def samoyed(real_data) -> dict:
    """Return SqueezeNet 1.1 with its published weights and a photograph, as arguments of `explain_image`."""
    model = registry.find_model("squeezenet1_1")(in_channels=3, num_classes=1000, image_size=224).eval()
    weights = load_file(real_data / "weights" / "squeezenet1_1-fp16.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    names = (real_data / "weights" / "imagenet_synset_words.txt").read_text(encoding="utf-8").splitlines()
    photo = Image.open(real_data / "photos" / "samoyed.jpg").convert("RGB")
    scale = 256 / min(photo.size)
    photo = photo.resize([int(side * scale) for side in photo.size], Image.Resampling.BILINEAR)
    left = (photo.width - 224) // 2
    top = (photo.height - 224) // 2
    image_HWC = np.asarray(photo.crop((left, top, left + 224, top + 224)))
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]

    def normalize(pixels_HWC: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None] / 255 - mean) / std

    return {
        "model": model,
        "image": InputImage(normalize(image_HWC), image_HWC, normalize(np.zeros_like(image_HWC))),
        "classes": [name.split(" ", 1)[1] for name in names],
    }


def test_the_heat_of_the_samoyed_is_where_it_sits(samoyed):
    """Its head is at the upper left, bushes are at the upper right."""
    result = explain_image(**samoyed, methods=("grad-cam",))
    assert result.label.startswith("Samoyed") and result.probability == pytest.approx(0.928, abs=0.01)
    covered = occlusion(samoyed["model"], samoyed["image"].x_1CHW, result.target, patch=56, stride=28)
    for heat_HW in (result.attributions["grad-cam"].heat_HW, np.clip(covered.drop_HW, 0, None)):
        assert heat_HW[:80, :80].mean() > 10 * heat_HW[:110, 140:].mean()
        row, column = np.unravel_index(heat_HW.argmax(), heat_HW.shape)
        assert row < 80 and column < 80


def test_the_attributions_of_the_samoyed_add_up_to_its_logit(samoyed):
    """With 16 steps within 5 %; half of the image, and a larger part of the attributions, is dog."""
    image = samoyed["image"]
    result = integrated_gradients(samoyed["model"], image.x_1CHW, 258, image.black_1CHW, steps=16)
    assert abs(result.gap) < 0.05 * result.change and result.change > 25
    heat_HW = np.abs(result.attributions_CHW.sum(0))
    assert heat_HW[:80, :80].mean() > 5 * heat_HW[:110, 140:].mean()
