"""One picture, every method: what comes out, what is left out and why, and that a dog is found where it sits."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from thalweg import load, registry
from thalweg.attribution.explain_image import METHODS, TTA_NOTE, Explanation, explain_image, first_layer_filters
from thalweg.attribution.integrated_gradients import integrated_gradients
from thalweg.attribution.occlusion import occlusion
from thalweg.data.images.preprocess import TTAModel, predict_proba
from thalweg.errors import NonFiniteError, NotFoundError, OptionError
from thalweg.plots import attribution as attention

DIGITS = [str(d) for d in range(10)]


def one() -> tuple[torch.Tensor, np.ndarray]:
    """A stroke as a one is written: what a network of digits reads, and its pixels."""
    picture_HWC = np.zeros((28, 28, 1), np.uint8)
    picture_HWC[4:24, 13:16] = 255
    x = torch.from_numpy(picture_HWC).permute(2, 0, 1)[None].float() / 255
    return (x - 0.1307) / 0.3081, picture_HWC


def explained(name: str = "digits-lenet", *asked, **more) -> Explanation:
    return explain_image(load(name).model, *one(), DIGITS, *asked, **more)


def test_every_method_says_something_of_every_pixel():
    found = explained()
    assert (found.target, found.label) == (1, "1") and found.notes == {}
    assert tuple(found.heats) == METHODS[:3]
    for heat in found.heats.values():
        assert heat.heat_HW.shape == (28, 28) and heat.heat_HW.dtype == np.float32 and heat.heat_HW.any()
        assert heat.caption
    assert [layer.name for layer in found.layers] == ["features.2", "features.5"]
    assert found.filters.shape == (20, 1, 5, 5)


def test_the_answers_are_the_networks():
    with torch.no_grad():
        share_K = load("digits-lenet").model(one()[0]).softmax(1)[0]
    found = explained()
    assert found.predictions[0] == ("1", pytest.approx(float(share_K[1]), abs=1e-6)) and len(found.predictions) == 5
    assert found.probability == found.predictions[0][1]
    assert [share for _, share in found.predictions] == sorted((float(s) for s in share_K), reverse=True)[:5]


def test_any_class_may_be_asked_about_by_number_or_by_name():
    by_number, by_name = explained(target=7), explained(target="7")
    assert by_number.label == by_name.label == "7" and by_number.json() == by_name.json()
    assert by_number.probability < 0.5 < by_number.predictions[0][1]


def test_only_the_methods_asked_for_are_used():
    found = explained("digits-lenet", ("occlusion",))
    assert tuple(found.heats) == ("occlusion",) and found.layers == [] and found.filters is None
    assert set(found.json()["methods"]) == {"occlusion"} and set(found.images()) == {"looked-at"}


def test_what_a_network_is_not_capable_of_is_left_out_with_the_reason():
    found = explained("digits-mlp")
    assert tuple(found.heats) == ("integrated-gradients", "occlusion")
    assert set(found.notes) == {"grad-cam", "feature-maps"}
    assert found.notes["grad-cam"].endswith("so Grad-CAM has nothing to show.")
    assert found.filters.shape == (128, 1, 28, 28)
    assert set(found.images()) == {"looked-at", "filters"}


def test_an_integral_that_does_not_add_up_is_noted():
    """A step of this height has no slope on either side, so nothing is found of it."""

    class Cliff(nn.Module):
        def forward(self, x_BCHW):
            high = x_BCHW.mean((1, 2, 3))
            return torch.stack([0 * high, high + 100 * (high > 0)], 1)

    x, picture_HWC = torch.ones(1, 1, 8, 8), np.zeros((8, 8, 1), np.uint8)
    found = explain_image(Cliff(), x, picture_HWC, ["low", "high"], black_1CHW=-x)
    assert found.notes["integrated-gradients"] == "The pixels add up to 2, not to the 102 that they should."


def test_what_is_not_to_be_trusted_is_said_on_the_picture(monkeypatch):
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[4].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    ones = torch.ones(1, 1, 6, 6), np.ones((6, 6, 1), np.uint8), ["for", "against"]
    found = explain_image(network, *ones, ("grad-cam", "occlusion"), target="against")
    assert found.notes == {"grad-cam": "Nothing in the last maps speaks for this class."}
    drawn = []
    monkeypatch.setattr(attention, "plot_attribution_panels", lambda _, panels, *more: drawn.extend(panels))
    found.draw()
    assert [panel.caption for panel in drawn] == [found.notes["grad-cam"], found.heats["occlusion"].caption]


def test_what_covering_changes_is_said_with_its_sign():
    """The mean of one channel against nothing: to cover what is bright lowers the one, what is dark raises it."""

    class Mean(nn.Module):
        def forward(self, x_BCHW):
            return torch.stack([4 * x_BCHW.mean((1, 2, 3)), torch.zeros(len(x_BCHW))], 1)

    x = torch.cat([torch.ones(1, 1, 12, 6), -torch.ones(1, 1, 12, 6)], 3)
    found = explain_image(Mean(), x, np.zeros((12, 12, 1), np.uint8), ["a", "b"], ("occlusion",), "a")
    share = 4 / 144  # of a square of 2 x 2 pixels
    fall = 1 / 2 - 1 / (1 + np.exp(4 * share))
    told = f"covering 2 x 2 pixels changes the probability by {-fall:+.2g} to {fall:+.2g}"
    assert found.heats["occlusion"].caption == told


def test_a_class_that_is_not_among_the_likeliest_is_shown_after_them():
    with torch.no_grad():
        least = explained(target=int(load("digits-lenet").model(one()[0]).argmin()))
    assert len(least.predictions) == 6 and least.predictions[5] == (least.label, least.probability)
    assert least.predictions[:5] == explained().predictions and len(explained(target="1").predictions) == 5


def test_the_answer_is_that_of_the_average_over_views_where_one_is_taken():
    """Target, probabilities, covering and the integral are those of the mean; maps say that they are not."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 100, 3)).eval()
    x, picture_HWC = torch.randn(1, 3, 12, 12), np.zeros((12, 12, 3), np.uint8)
    answering = TTAModel(network, "shifted")
    found = explain_image(network, x, picture_HWC, ["a", "b", "c"], answering=answering)
    with torch.no_grad():
        expected_K = predict_proba(network, x, "shifted")[0].numpy()
        drop_HW = occlusion(answering, x, found.target).drop_HW
        change = float((answering(x) - answering(torch.zeros_like(x)))[0, found.target])
    assert found.target == expected_K.argmax() and found.probability == pytest.approx(expected_K.max(), abs=1e-6)
    np.testing.assert_allclose(found.heats["occlusion"].heat_HW, drop_HW, atol=1e-6)
    assert found.json()["methods"]["integrated-gradients"]["change"] == pytest.approx(change, abs=1e-4)
    assert found.notes["grad-cam"] == found.notes["feature-maps"] == TTA_NOTE and len(found.notes) == 2
    assert [layer.name for layer in found.layers] == ["1"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_without_a_warning(value):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 10))
    nn.init.constant_(network[2].bias, value)
    with warnings.catch_warnings(), pytest.raises(NonFiniteError, match="not a number"):
        warnings.simplefilter("error")
        explain_image(network, *one(), DIGITS)


def test_the_numbers_are_json():
    told = json.loads(json.dumps(explained().json(), allow_nan=False))
    assert set(told) == {"target", "label", "probability", "top", "methods", "notes"}
    assert set(told["methods"]) == set(METHODS)
    assert told["methods"]["grad-cam"]["layer"] == "features.5"
    assert np.shape(told["methods"]["grad-cam"]["map"]) == (4, 4)
    numbers = told["methods"]["integrated-gradients"]
    assert numbers["sum"] - numbers["change"] == pytest.approx(numbers["gap"], abs=1e-6)
    assert told["methods"]["occlusion"]["largest"] == np.max(told["methods"]["occlusion"]["map"])


def test_pictures_are_drawn_of_everything():
    drawn = explained().images()
    assert list(drawn) == ["looked-at", "feature-maps", "filters"]
    assert all(isinstance(one, Image.Image) and one.width >= 600 for one in drawn.values())


def test_attributions_of_large_pictures_are_means_over_a_neighbourhood():
    """The sum of what every pixel shows stays that of the shares, as far as the margin allows."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 200 * 200, 2))
    x = torch.zeros(1, 3, 200, 200)
    x[:, :, 100, 50] = 1
    found = explain_image(network, x, np.zeros((200, 200, 3), np.uint8), ["a", "b"], ("integrated-gradients",))
    heat_HW = found.heats["integrated-gradients"].heat_HW
    rows, columns = np.nonzero(heat_HW)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (98, 102, 48, 52)
    assert heat_HW.sum() == pytest.approx(found.json()["methods"]["integrated-gradients"]["sum"], rel=1e-4)


def test_the_first_filters_are_those_of_pixels():
    x = torch.zeros(1, 2, 3, 4)
    assert first_layer_filters(nn.Conv2d(2, 5, 3), x).shape == (5, 2, 3, 3)
    assert first_layer_filters(nn.Linear(24, 5), x).shape == (5, 2, 3, 4)
    assert first_layer_filters(nn.Linear(7, 5), x) is None and first_layer_filters(nn.ReLU(), x) is None


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"methods": ("grad_cam",)}, NotFoundError, "no method named 'grad_cam'.*\n.*'grad-cam'"),
        ({"methods": ()}, OptionError, "no method among those to be used.\n  Give some of grad-cam"),
        ({"target": "one"}, NotFoundError, "no class named 'one'"),
        ({"target": 10}, OptionError, "no class number 10.\n  Give 0 to 9"),
        ({"classes": DIGITS[:9]}, OptionError, "9 names for a network of 10 classes"),
        (
            {"picture_HWC": np.zeros((14, 28, 1), np.uint8)},
            OptionError,
            r"\(14, 28\), what the network reads \(28, 28\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(wrong, error, words):
    x, picture_HWC = one()
    asked = {"x_1CHW": x, "picture_HWC": picture_HWC, "classes": DIGITS, **wrong}
    with pytest.raises(error, match=words):
        explain_image(load("digits-lenet").model, **asked)


@pytest.fixture(scope="module")
def samoyed(real_data) -> dict:
    """SqueezeNet 1.1 with its published weights and a photograph: all that `explain_image` must be given."""
    network = registry.find_model("squeezenet1_1")(channels=3, classes=1000, size=224).eval()
    weights = load_file(real_data / "weights" / "squeezenet1_1-fp16.safetensors")
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    names = (real_data / "weights" / "imagenet_synset_words.txt").read_text(encoding="utf-8").splitlines()
    picture = Image.open(real_data / "photos" / "samoyed.jpg").convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize([int(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    picture_HWC = np.asarray(picture.crop((left, top, left + 224, top + 224)))
    mean, std = (torch.tensor(t)[:, None, None] for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def read(pixels_HWC: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None] / 255 - mean) / std

    return {
        "network": network,
        "x_1CHW": read(picture_HWC),
        "picture_HWC": picture_HWC,
        "classes": [name.split(" ", 1)[1] for name in names],
        "black_1CHW": read(np.zeros_like(picture_HWC)),
    }


def test_the_samoyed_is_seen_where_it_sits(samoyed):
    """Its head is at the upper left, bushes are at the upper right."""
    found = explain_image(**samoyed, methods=("grad-cam",))
    assert found.label.startswith("Samoyed") and found.probability == pytest.approx(0.928, abs=0.01)
    covered = occlusion(samoyed["network"], samoyed["x_1CHW"], found.target, patch=56, stride=28)
    for heat_HW in (found.heats["grad-cam"].heat_HW, np.clip(covered.drop_HW, 0, None)):
        assert heat_HW[:80, :80].mean() > 10 * heat_HW[:110, 140:].mean()
        row, column = np.unravel_index(heat_HW.argmax(), heat_HW.shape)
        assert row < 80 and column < 80


def test_the_samoyeds_pixels_add_up_to_its_logit(samoyed):
    """With 16 steps within 5 %; half of the picture, and more of the share, is dog."""
    network, x, black = (samoyed[name] for name in ("network", "x_1CHW", "black_1CHW"))
    shares_CHW, change, gap = integrated_gradients(network, x, 258, black, steps=16)
    assert abs(gap) < 0.05 * change and change > 25
    shares_HW = np.abs(shares_CHW.sum(0))
    assert shares_HW[:80, :80].mean() > 5 * shares_HW[:110, 140:].mean()
