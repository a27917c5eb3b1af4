"""Sampling: a sample depends on its seed alone, paths begin and end at seeds, mixed styles have pure ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.style_generator import build_style_model
from thalweg import registry
from thalweg.errors import NonFiniteError, OptionError
from thalweg.predictions.image import ImageAnimation, ImageGrid, ImagePrediction
from thalweg.tasks.generate_sampling import (
    GenerateSampleOptions,
    Sampler,
    choose_labels,
    draw_latents,
    find_crossover,
    generate_images,
    sample,
    slerp,
    to_bytes,
)

PLAIN = SimpleNamespace(channels=1, image_size=16, classes=[])
NAMED = SimpleNamespace(channels=1, image_size=16, classes=["zero", "one", "two"])


def build_dcgan() -> torch.nn.Module:
    torch.manual_seed(0)
    return registry.get_models("generate")["dcgan"](in_channels=1, image_size=16, width=16, latent_dim=16).eval()


MODELS = {
    "dcgan": (build_dcgan(), PLAIN),
    "style": (build_style_model(), PLAIN),
    "classes": (build_style_model(num_classes=3), NAMED),
    "classes without layers": (build_style_model(num_styles=1, num_classes=3), NAMED),
}


@pytest.fixture(params=MODELS)
def case(request):
    return MODELS[request.param]


def make(case, **options) -> list:
    return list(sample(*case, GenerateSampleOptions(**options)))


def image_of(case, seed: int, **options) -> np.ndarray:
    (prediction,) = make(case, seed=seed, count=1, **options)
    return prediction.image_HWC


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", [1.0, 0.7])
def test_a_sample_depends_on_its_seed_alone(case, truncation):
    many = make(case, count=9, seed=4, truncation=truncation)
    for prediction in many:
        assert isinstance(prediction, ImagePrediction)
        alone = image_of(case, prediction.seed, truncation=truncation)
        np.testing.assert_array_equal(prediction.image_HWC, alone)
    assert [prediction.seed for prediction in many] == list(range(4, 13))
    assert len({prediction.image_HWC.tobytes() for prediction in many}) == 9
    (grid,) = make(case, count=9, seed=4, way="grid", truncation=truncation)
    assert isinstance(grid, ImageGrid)
    np.testing.assert_array_equal(grid.images_NHWC, np.stack([prediction.image_HWC for prediction in many]))


def test_batches_make_the_same_images_within_a_level(case):
    ones = np.stack([image_of(case, seed) for seed in range(10)])
    batch = generate_images(case[0], 0, 10, batch_size=4).astype(int)
    assert np.abs(batch - ones).max() <= 1


def test_latents_are_standard_normal_and_depend_on_their_seed():
    latents = draw_latents(7, 400, 50)
    assert latents.mean().item() == pytest.approx(0, abs=0.03) and latents.std().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(draw_latents(9, 1, 50)[0], latents[2])


def test_bytes_are_rounded_and_nan_makes_none():
    assert to_bytes(torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1, 1)).flatten().tolist() == [0, 128, 255]
    model = build_dcgan()
    with torch.no_grad():
        model.network.layers[0].weight.fill_(float("nan"))
    for way in ("single", "interpolate"):
        with pytest.raises(NonFiniteError):
            make((model, PLAIN), count=2, way=way)


# --- classes ----------------------------------------------------------------------------------------------------------


def test_classes_follow_one_another_or_one_is_asked_for():
    case = MODELS["classes"]
    assert choose_labels(4, 4, 3).tolist() == [1, 2, 0, 1] and choose_labels(0, 5, 0) is None
    for number, name in enumerate(NAMED.classes):
        assert image_of(case, 3 + number).tobytes() == image_of(case, 3 + number, class_name=name).tobytes()
    assert image_of(case, 3).tobytes() != image_of(case, 3, class_name="two").tobytes()


@pytest.mark.parametrize(("name", "allowed"), [("dcgan", []), ("classes", NAMED.classes)])
def test_a_class_that_there_is_not_is_refused(name, allowed):
    with pytest.raises(OptionError) as error:
        make(MODELS[name], class_name="three")
    assert (error.value.option, error.value.value, error.value.allowed) == ("class_name", "three", allowed)


# --- truncation -------------------------------------------------------------------------------------------------------


def test_truncation_0_is_the_mean_image():
    for name in ("dcgan", "style"):
        model, spec = MODELS[name]
        generator = model.network
        expected = to_bytes(generator.synthesize(generator.repeat_style(generator.mean_style[None])).detach())[0]
        images = [image_of((model, spec), seed, truncation=0.0) for seed in range(3)]
        assert all((image == expected).all() for image in images), name
    for name in ("classes", "classes without layers"):  # a mean image of each class
        images = [image_of(MODELS[name], seed, truncation=0.0).tobytes() for seed in range(6)]
        assert images[:3] == images[3:] and len(set(images)) == 3, name


def test_truncation_scales_the_distance_from_the_center(case):
    model = case[0]
    plain = Sampler(model)
    label = plain.label_of(5)
    center = plain.center(label)
    half = Sampler(model, truncation=0.5).style(5)
    torch.testing.assert_close(half - center, (plain.style(5) - center) / 2)


def test_the_center_of_a_class_is_the_mean_of_its_styles():
    generator = MODELS["classes"][0].network
    with torch.no_grad():
        styles = generator.map_latent(torch.randn(20_000, 8), torch.full((20_000,), 1))
    torch.testing.assert_close(Sampler(MODELS["classes"][0]).center(1)[0], styles.mean(0), atol=0.02, rtol=0)


# --- interpolation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["z", "w", None])
def test_each_part_of_a_path_begins_at_its_seed_and_the_loop_closes(case, space):
    (animation,) = make(case, way="interpolate", count=3, seed=2, frames=4, space=space)
    assert isinstance(animation, ImageAnimation) and len(animation.frames_THWC) == 12
    for k in range(3):
        np.testing.assert_array_equal(animation.frames_THWC[4 * k], image_of(case, 2 + k))
    steps = [
        np.abs(animation.frames_THWC[i].astype(int) - animation.frames_THWC[i - 1]).mean() for i in range(12)
    ]  # the first one is that from the last frame to the first
    assert steps[0] < 2 * max(steps[1:]) and min(steps) > 0


def test_slerp_keeps_the_length_and_the_pace():
    a, b = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))
    a, b = a / a.norm(), 3 * b / b.norm()
    assert torch.equal(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    path = [slerp(a, b / 3, t / 10) for t in range(11)]
    for one, other in zip(path, path[1:], strict=False):
        assert one.norm().item() == pytest.approx(1, abs=1e-5)
        assert (one - other).norm().item() == pytest.approx((path[0] - path[1]).norm().item(), rel=1e-3)
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)


def test_styles_move_on_a_straight_line():
    case = MODELS["style"]
    sampler = Sampler(case[0])
    middle = sampler.draw((sampler.style(0) + sampler.style(1)) / 2)
    (animation,) = make(case, way="interpolate", count=2, frames=2, space="w")
    np.testing.assert_allclose(animation.frames_THWC[1].astype(int), middle.astype(int), atol=1)


# --- mixed styles -----------------------------------------------------------------------------------------------------


def mix(crossover: str | None) -> np.ndarray:
    (grid,) = make(MODELS["style"], way="mix", count=2, seed=10, crossover=crossover)
    assert isinstance(grid, ImageGrid) and grid.columns == 3
    return grid.images_NHWC.reshape(3, 3, 16, 16, 1)


def test_a_crossover_at_either_end_is_a_pure_source():
    sources = [image_of(MODELS["style"], seed) for seed in range(10, 14)]
    columns = mix("0")
    rows = mix("6")
    for grid in (columns, rows, mix(None)):
        assert (grid[0, 0] == 255).all()
        np.testing.assert_array_equal(grid[1:, 0], sources[:2])
        np.testing.assert_array_equal(grid[0, 1:], sources[2:])
    for i in range(2):
        for j in range(2):
            np.testing.assert_array_equal(columns[1 + i, 1 + j], sources[2 + j])
            np.testing.assert_array_equal(rows[1 + i, 1 + j], sources[i])


def test_layers_of_the_column_have_its_style():
    model, spec = MODELS["style"]
    sampler = Sampler(model)
    style = model.network.repeat_style(sampler.style(10)).clone()
    style[:, :4] = sampler.style(12)
    np.testing.assert_array_equal(mix("coarse")[1, 1], sampler.draw_layers(style))


@pytest.mark.parametrize(
    ("crossover", "num_styles", "expected"),
    [
        ("coarse", 6, (0, 4)),
        ("middle", 6, (4, 6)),
        ("middle", 18, (4, 8)),
        ("fine", 18, (8, 18)),
        ("5", 18, (5, 18)),
        (None, 18, (4, 8)),
        (None, 4, (2, 4)),
    ],
)
def test_groups_of_layers_are_those_of_map_sizes(crossover, num_styles, expected):
    layers = find_crossover(crossover, num_styles)
    assert (layers.start, layers.stop) == expected


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "option", "value"),
    [
        ("style", {"way": "mix", "crossover": "fine"}, "crossover", "fine"),
        ("style", {"way": "mix", "crossover": "7"}, "crossover", "7"),
        ("style", {"way": "mix", "crossover": "-1"}, "crossover", "-1"),
        ("dcgan", {"way": "mix"}, "way", "mix"),
        ("dcgan", {"way": "interpolate", "count": 1}, "count", 1),
        ("dcgan", {"frames": 3}, "frames", 3),
        ("dcgan", {"way": "grid", "space": "z"}, "space", "z"),
        ("dcgan", {"video": True}, "video", True),
        ("style", {"way": "interpolate", "crossover": "coarse"}, "crossover", "coarse"),
    ],
)
def test_what_does_nothing_is_refused_by_name(name, options, option, value):
    with pytest.raises(OptionError) as error:
        make(MODELS[name], **options)
    assert error.value.option == option and error.value.value == value and error.value.allowed
