"""Images are brought to any size, also to one that is no square, by decoders, readers of arrays, and runs."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import thalweg as tw
from thalweg.data.base import DataRequest
from thalweg.data.images.augment import random_affine
from thalweg.data.images.image_decoding import decode_image, resize_and_crop
from thalweg.data.images.input_spec import InputSpec, load_for_model
from thalweg.data.images.transfer import transfer_spec
from thalweg.errors import OptionError
from thalweg.tasks.classify_support import default_batch_size

BILINEAR = Image.Resampling.BILINEAR
SPEC = InputSpec(classes=["a", "b"], channels=3, size=[32, 48], mean=[0.5] * 3, std=[0.25] * 3)


def make_noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def make_waves(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 19), np.sin(y / 23), np.sin((x + y) / 31)]
    return Image.fromarray((np.stack(waves, 2) * 120 + 128).astype(np.uint8))


def save_jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def largest_difference(actual: Image.Image, expected: Image.Image) -> int:
    assert actual.size == expected.size
    return int(np.abs(np.asarray(actual, int) - np.asarray(expected, int)).max())


@pytest.mark.parametrize("side", [1, 17, 64])
def test_squares_have_the_pixels_of_two_plain_passes_over_the_center_square(side):
    for index, (height, width) in enumerate([(40, 60), (61, 40), (97, 33), (9, 64), (64, 64), (1, 7)]):
        image = make_noise(height, width, index)
        short = min(height, width)
        left = (width - short) / 2
        top = (height - short) / 2
        across = image.resize((side, height), BILINEAR, (left, 0, left + short, height))
        expected = across.resize((side, side), BILINEAR, (0, top, side, top + short))
        assert largest_difference(resize_and_crop(image, side), expected) == 0
        enlarged = side + 3
        scaled = (round(enlarged * width / short), round(enlarged * height / short))
        full = image.resize((scaled[0], height), BILINEAR).resize(scaled, BILINEAR)
        left, top = (round((length - side) / 2) for length in scaled)
        expected = full.crop((left, top, left + side, top + side))
        assert largest_difference(resize_and_crop(image, side, enlarged), expected) == 0


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (20, 90), (90, 70)])
def test_other_sizes_show_what_pillow_s_own_fit_shows(size):
    height, width = size
    for image in (make_waves(240, 320), make_waves(320, 240), make_waves(150, 150), make_waves(30, 41)):
        expected = ImageOps.fit(image, (width, height), BILINEAR)
        assert largest_difference(resize_and_crop(image, size), expected) <= 2
        # with a margin: the same enlarged size, of which the center stays
        resize = 2 * min(size)
        fitted = ImageOps.fit(image, (2 * width, 2 * height), BILINEAR)
        left, top = round(width / 2), round(height / 2)
        expected = fitted.crop((left, top, left + width, top + height))
        # half a pixel more or less where the longer side of the image is rounded
        assert largest_difference(resize_and_crop(image, size, resize), expected) <= 9


def test_a_photo_on_its_side_is_decoded_at_the_same_fraction_as_an_upright_one():
    upright = make_noise(512, 2048)
    stored = save_jpeg(upright.transpose(Image.Transpose.ROTATE_90), orientation=6)
    half = Image.open(io.BytesIO(stored))
    half.draft(None, (256, 1024))
    assert half.size == (256, 1024)
    file = io.BytesIO()
    ImageOps.exif_transpose(half).save(file, "PNG")
    at_half = decode_image(file.getvalue(), 3, (16, 64))
    assert np.array_equal(decode_image(stored, 3, (16, 64)), at_half)
    file = io.BytesIO()
    ImageOps.exif_transpose(Image.open(io.BytesIO(stored))).save(file, "PNG")
    assert not np.array_equal(decode_image(file.getvalue(), 3, (16, 64)), at_half)


def test_arrays_are_padded_to_squares_unless_another_size_is_requested():
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 8), np.uint8)
    request = DataRequest((images, np.arange(20) % 2))
    assert load_for_model(request, None, None).shape == (12, 12, 1)
    native = load_for_model(request, "8x12", None)
    assert native.shape == (12, 8, 1) and {image.tobytes() for image in native.all.images} == {
        image.tobytes() for image in images
    }
    assert load_for_model(request, (6, 8), None).shape == (6, 8, 1)
    spec = replace(SPEC, channels=1, size=[12, 8], mean=[0.5], std=[0.5])
    assert load_for_model(request, None, spec).shape == (12, 8, 1)


def test_handwriting_is_refused_at_other_sizes_than_squares():
    digits = replace(SPEC, channels=1, size=[28, 28], mean=[0.1], std=[0.3], handwriting=True)
    with pytest.raises(OptionError) as error:
        transfer_spec(digits, replace(digits, size=[28, 32], handwriting=False))
    assert (error.value.option, error.value.value, error.value.allowed) == ("image_size", "32x28", [28, 32])
    assert transfer_spec(replace(SPEC, resize=40), replace(SPEC, size=[64, 80])).resize == 80


def test_turning_an_image_that_is_no_square_does_not_shear_it():
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(33) - 16.0, torch.arange(65) - 32.0, indexing="ij")
    disc = ((x**2 + y**2).sqrt() < 12).float()[None, None]
    turned = random_affine(disc.expand(8, 1, 33, 65), {"rotate": 60.0})
    assert (turned - disc).abs().mean() < 0.01
    bar = ((x.abs() < 12) & (y.abs() < 2)).float()[None, None]
    turned = random_affine(bar.expand(8, 1, 33, 65), {"rotate": 60.0})[:, 0]
    assert (turned - bar).abs().mean() > 0.02
    length = ((turned * (x**2 + y**2)).sum((1, 2)) / turned.sum((1, 2))).sqrt()
    expected = ((bar[0, 0] * (x**2 + y**2)).sum() / bar.sum()).sqrt()
    torch.testing.assert_close(length, expected.expand(8), rtol=0.03, atol=0.0)


def test_batches_of_large_images_stay_small():
    sizes = [default_batch_size(60_000, side * side) for side in (224, 512, 1024, 4096)]
    assert sizes == [32, 16, 4, 1]


def test_a_run_reads_predicts_and_explains_images_of_its_size(tmp_path):
    for name, level in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            noise = np.asarray(make_noise(60, 80, index)) // 4 + level - 30
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "photos" / name / f"{index}.png")
    options = {"steps": 2, "batch_size": 8, "tta": "flip-shift", "augment": "rotate", "report": False}
    run = tw.train("classify", tmp_path / "photos", model="mlp", image_size="48x32", out=tmp_path / "run", **options)
    assert run.spec.size == [32, 48] and run.record.task_options["image_size"] == "48x32"
    run = tw.load(tmp_path / "run")
    assert run.evaluate(tmp_path / "photos")["metrics"]["examples"] > 0
    photo = tmp_path / "photos" / "dark" / "0.png"
    (prediction,) = run.predict(photo)
    with Image.open(photo) as image:
        expected = resize_and_crop(image, (32, 48))
    assert largest_difference(prediction.input_image, expected) == 0
    explanation = run.explain(photo, methods=["occlusion"])
    assert {result.heat_HW.shape for result in explanation.attributions.values()} == {(32, 48)}


@pytest.mark.parametrize("value", ["320 by 240", "320x240x3", "x240", "0x10", "320x5000"])
def test_sizes_of_other_forms_and_out_of_range_are_refused(value, tmp_path):
    with pytest.raises(OptionError) as error:
        tw.train("classify", tmp_path, image_size=value)
    assert error.value.option == "image_size" and error.value.allowed
