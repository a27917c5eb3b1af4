"""Every kind of image decodes to the pixels that a person would see; all other files give a reason."""

import io
import struct
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images import image_decoding as images
from thalweg.data.images.image_decoding import ImageReadError, decode_image, read_header
from thalweg.data.images.input_spec import InputSpec, preprocess_image
from thalweg.errors import DataError

RAMP = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (32, 1))


def saved(array: np.ndarray, form: str, mode: str | None = None, **options) -> bytes:
    image = Image.fromarray(array)
    return corpus.encoded(image.convert(mode) if mode else image, form, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(orientation):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :20, 0], upright[:12, 20:, 1], upright[12:, :20, 2] = 255, 255, 255
    # what the camera stored, written out by hand: the inverse of the turn that the orientation asks for
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(np.ascontiguousarray(stored), "PNG", exif=exif)
    assert np.array_equal(decode_image(content), upright)
    assert (read_header(content).width, read_header(content).height) == (40, 24)
    assert decode_image(content, image_size=16).shape == (16, 16, 3)


def test_sixteen_bit_values_are_scaled_not_clipped():
    deep = RAMP.astype(np.uint16) * 257
    for form in ("PNG", "TIFF"):
        assert np.array_equal(decode_image(saved(deep, form))[..., 0], RAMP)
    dark = (RAMP // 4).astype(np.uint16) * 257
    assert decode_image(saved(dark, "PNG")).max() == 63


@pytest.mark.parametrize("values", [RAMP / np.float32(255), RAMP.astype(np.float32), RAMP * np.float32(257)])
def test_floats_are_scaled_by_the_smallest_fitting_white_level(values):
    assert np.abs(decode_image(saved(values.astype(np.float32), "TIFF"))[..., 0].astype(int) - RAMP).max() <= 1


def test_values_that_fit_no_white_level_are_scaled_by_their_range():
    got = decode_image(saved((RAMP.astype(np.float32) - 100) * 1000, "TIFF"))[..., 0]
    assert np.abs(got.astype(int) - RAMP).max() <= 1
    assert np.array_equal(decode_image(saved(RAMP.astype(np.int32) * 100_000, "TIFF"))[..., 0], RAMP)
    assert decode_image(saved(np.full((4, 4), -3.0, np.float32), "TIFF")).max() == 0


def test_values_that_are_not_finite_are_rejected():
    with pytest.raises(ImageReadError, match="not finite"):
        decode_image(saved(np.full((4, 4), np.nan, np.float32), "TIFF"))


@pytest.mark.parametrize("mode, form", [("1", "PNG"), ("P", "PNG"), ("P", "GIF"), ("CMYK", "TIFF"), ("CMYK", "JPEG")])
def test_every_mode_decodes_black_and_white(mode, form):
    half = np.zeros((16, 16, 3), np.uint8)
    half[:, 8:] = 255
    got = decode_image(saved(half, form, mode), channels=3).astype(int)
    assert np.abs(got - half).max() <= 2


def test_palette_colors_are_exact():
    colors = np.zeros((8, 8, 3), np.uint8)
    colors[:, :4], colors[:, 4:] = (200, 30, 60), (10, 220, 130)
    assert np.array_equal(decode_image(corpus.encoded(Image.fromarray(colors).quantize(4), "PNG")), colors)


def transparent(ink: int, mode: str) -> bytes:
    values = np.full((16, 16, 4), ink, np.uint8)
    values[..., 3] = 0
    values[4:12, 4:12, 3] = 255
    return saved(values, "PNG", mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_white(mode):
    got = decode_image(transparent(0, mode))
    assert got.shape == (16, 16, 1) and got[0, 0, 0] == 255 and got[8, 8, 0] == 0


def test_white_strokes_on_transparency_stay_visible():
    got = decode_image(transparent(255, "RGBA"))
    assert got[0, 0, 0] == 0 and got[8, 8, 0] == 255


def test_a_transparent_color_without_alpha_channel_becomes_white():
    values = np.zeros((8, 8), np.uint8)
    values[:, 4:] = 90
    assert set(np.unique(decode_image(saved(values, "PNG", transparency=0)))) == {90, 255}


def test_half_opaque_pixels_are_blended_with_white():
    values = np.zeros((4, 4, 4), np.uint8)
    values[..., 3], values[0, 0, 3] = 128, 0
    assert decode_image(saved(values, "PNG"))[1, 1, 0] == 127


def test_the_first_frame_of_an_animation_is_decoded():
    frames = [Image.new("L", (8, 8), level) for level in (40, 120, 200)]
    content = corpus.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_image(content) == 40).all() and read_header(content).animated


def test_gray_is_detected_by_content_unless_channels_are_requested():
    gray = saved(np.repeat(RAMP[..., None], 3, axis=2), "PNG")
    assert decode_image(gray).shape == (32, 64, 1)
    assert decode_image(gray, channels=3).shape == (32, 64, 3)
    color = corpus.encoded(corpus.random_image(3))
    assert decode_image(color).shape[2] == 3
    expected = np.asarray(corpus.random_image(3).convert("L"))
    assert np.array_equal(decode_image(color, channels=1)[..., 0], expected)


@pytest.mark.parametrize("source_size", [(1, 1), (1, 300), (300, 1), (28, 28), (50, 31)])
def test_every_size_becomes_the_requested_square(source_size):
    content = corpus.encoded(corpus.random_image(1, source_size))
    assert decode_image(content, image_size=28).shape == (28, 28, 3)


def test_the_center_is_kept():
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    assert (decode_image(saved(wide, "PNG"), image_size=20) == 255).all()


def test_shrinking_is_antialiased():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = decode_image(saved(checks, "PNG"), image_size=16).astype(int)[2:-2, 2:-2]
    assert np.abs(small - 127).max() <= 3


def test_a_large_photo_decoded_at_a_fraction_looks_the_same():
    content = corpus.encoded(corpus.random_image(5, (1600, 1200)), "JPEG", quality=95)
    exact = Image.open(io.BytesIO(content)).convert("RGB")
    expected = np.asarray(images.resize_and_crop(exact, 32)).astype(int)
    assert 0 < np.abs(decode_image(content, image_size=32).astype(int) - expected).mean() < 0.5


def with_margin(image: Image.Image, size: int, resize: int) -> np.ndarray:
    """The usual form for ImageNet, in whole steps: all resized across, then down, then the middle of the array."""
    wide, high = (round(Fraction(resize * source_size, min(image.size))) for source_size in image.size)
    left, top = (round(Fraction(source_size - size, 2)) for source_size in (wide, high))
    across = image.resize((wide, image.height), Image.Resampling.BILINEAR)
    whole = np.asarray(across.resize((wide, high), Image.Resampling.BILINEAR))
    return whole[top : top + size, left : left + size]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 48), st.integers(0, 16))
@settings(max_examples=60, deadline=None)
def test_with_resize_the_image_is_resized_and_its_center_cropped(width, height, size, more):
    width, height = min(width, 8 * height), min(height, 8 * width)
    image = corpus.random_image(7, (width, height))
    got = np.asarray(images.resize_and_crop(image, size, size + more))
    assert np.array_equal(got, with_margin(image, size, size + more))


def test_resize_crops_a_margin_on_all_sides():
    framed = np.zeros((64, 96), np.uint8)
    framed[8:56, 24:72] = 255
    assert (decode_image(saved(framed, "PNG"), image_size=48, resize=64) == 255).all()
    assert decode_image(saved(framed, "PNG"), image_size=64, resize=64).min() == 0


@pytest.mark.parametrize("source_size", [(4, 3000), (3000, 4)])
def test_the_center_of_a_strip_equals_resizing_all_of_it(source_size):
    shades = np.broadcast_to(np.linspace(0, 255, 3000).astype(np.uint8)[:, None], (3000, 4))
    strip = Image.fromarray(np.ascontiguousarray(shades if source_size[1] == 3000 else shades.T))
    got = np.asarray(images.resize_and_crop(strip, 24, 28)).astype(int)
    assert np.array_equal(got, with_margin(strip, 24, 28))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("source_size", [(2000, 150), (150, 2000), (900, 99), (97, 3001)])
def test_the_center_of_a_strip_is_exact_to_the_last_level(mode, source_size):
    shape = source_size[::-1] + ((3,) if mode == "RGB" else ())
    strip = Image.fromarray(np.random.default_rng(source_size[0]).integers(0, 256, shape, np.uint8))
    for size, resize in ((224, 256), (75, 85)):
        assert np.array_equal(np.asarray(images.resize_and_crop(strip, size, resize)), with_margin(strip, size, resize))


@pytest.mark.parametrize("resize", [None, 256])
@pytest.mark.parametrize("source_size", [(1, 60_000), (60_000, 1), (900, 60_000)])
def test_resizing_needs_little_more_memory_than_the_image(source_size, resize, monkeypatch):
    taken, plain = [], Image.Image.resize

    def counted(image, size, *arguments, **named):
        taken.append(size[0] * size[1])
        return plain(image, size, *arguments, **named)

    monkeypatch.setattr(Image.Image, "resize", counted)
    image = Image.new("L", source_size)
    tracemalloc.start()
    assert images.resize_and_crop(image, 224, resize).size == (224, 224)
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(taken, default=0) < 300_000 and arrays < 40_000_000


@pytest.mark.parametrize("source_size", [(40, 90), (90, 40), (31, 200), (7, 50)])
@pytest.mark.parametrize("size", [5, 28, 64])
def test_resizing_goes_across_first_and_then_down(source_size, size):
    image = corpus.random_image(9, source_size)
    (width, height), side = source_size, min(source_size)
    left, top = (width - side) / 2, (height - side) / 2
    across = image.resize((size, height), Image.Resampling.BILINEAR, (left, 0, left + side, height))
    whole = across.resize((size, size), Image.Resampling.BILINEAR, (0, top, size, top + side))
    assert np.array_equal(np.asarray(images.resize_and_crop(image, size)), np.asarray(whole))


@pytest.mark.parametrize("source_size, exact", [((380, 284), True), ((403, 301), True), ((1200, 896), False)])
def test_a_photo_is_decoded_at_a_fraction_if_enough_pixels_are_left(source_size, exact):
    content = corpus.encoded(corpus.random_image(5, source_size), "JPEG", quality=92)
    expected = with_margin(Image.open(io.BytesIO(content)).convert("RGB"), 56, 64).astype(int)
    differences = np.abs(decode_image(content, 3, 56, resize=64).astype(int) - expected)
    assert differences.max() == 0 if exact else 0 < differences.mean() < 0.5


def test_without_resize_a_fraction_leaves_sixteen_times_the_pixels():
    for source_size, part in (((1024, 4096), 2), ((1022, 4096), 1), ((2048, 2048), 4), ((2049, 2048), 1)):
        with Image.open(io.BytesIO(corpus.encoded(corpus.random_image(5, source_size), "JPEG"))) as image:
            images._use_jpeg_draft(image, 32, None)
            assert image.size == (source_size[0] // part, source_size[1] // part)


def test_predictions_for_photos_do_not_depend_on_the_decoding_fraction(real_data):
    """48 photos, asked of a model that sees 32 x 32 pixels: as after decoding them whole."""
    found = [*(real_data / "photos").glob("*.jpg"), *sorted((real_data / "coco_subset" / "images").glob("*.jpg"))[:40]]
    from thalweg import load

    run = load("cifar10-fast")
    for before, now in zip(run.predict(map(Image.open, found)), run.predict(found), strict=True):
        assert np.abs(before.probabilities - now.probabilities).max() < 0.01


@pytest.mark.parametrize("resize", [None, 64])
def test_colors_become_gray_before_resizing(resize):
    color = corpus.random_image(3, (203, 151))
    content = corpus.encoded(color, "PNG")
    expected = np.asarray(images.resize_and_crop(color.convert("RGB").convert("L"), 56, resize))[..., None]
    assert np.array_equal(decode_image(content, 1, 56, resize), expected)
    spec = InputSpec(["a", "b"], 1, [56, 56], [0.5], [0.5], resize=resize)
    assert np.array_equal(preprocess_image(color, spec), expected) and np.array_equal(
        preprocess_image(np.asarray(color), spec), expected
    )


def test_a_fraction_keeps_the_aspect_ratio():
    for source_size, part in (((1200, 896), 4), ((1200, 898), 2), ((1201, 896), 1)):
        with Image.open(io.BytesIO(corpus.encoded(corpus.random_image(5, source_size), "JPEG"))) as image:
            images._use_jpeg_draft(image, 56, 64)
            assert image.size == (source_size[0] // part, source_size[1] // part)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_rejected_with_a_reason(form, fraction, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = saved(noise, form)
    path = tmp_path / f"x.{form.lower()}"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ImageReadError) as refused:
        decode_image(path)
    assert len(str(refused.value)) > 10


def test_damaged_checksums_are_detected():
    content = bytearray(saved(RAMP, "PNG"))
    content[-20] ^= 255
    with pytest.raises(ImageReadError, match="damaged"):
        decode_image(bytes(content))


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_files_that_are_not_images_are_rejected(content, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ImageReadError, match="not an image|empty"):
            decode_image(source)
        with pytest.raises(ImageReadError):
            read_header(source)


def test_a_rare_format_is_read_only_under_its_own_extension(tmp_path):
    for name, fine in (("x.png", False), ("x.tif", True)):
        (tmp_path / name).write_bytes(saved(RAMP, "TIFF"))
        if fine:
            assert np.array_equal(decode_image(tmp_path / name)[..., 0], RAMP)
        else:
            with pytest.raises(ImageReadError, match="extension"):
                decode_image(tmp_path / name)


def test_a_common_format_is_read_under_the_extension_of_another(tmp_path):
    (tmp_path / "x.png").write_bytes(saved(RAMP, "JPEG"))
    assert decode_image(tmp_path / "x.png").shape == (32, 64, 1)


def test_a_decompression_bomb_is_rejected_before_decoding(tmp_path):
    content = corpus.bomb(12_000)
    assert len(content) < 40_000
    for refuse in (read_header, decode_image):
        with pytest.raises(ImageReadError, match="pixels"):
            refuse(content)
    with pytest.raises(ImageReadError, match="pixels"):  # beyond Pillow's own limit as well
        read_header(corpus.bomb(20_000))


@pytest.mark.parametrize("size", [(90_000_000, 1), (1, 90_000_000), (1_000_001, 2)])
@pytest.mark.parametrize("is_handwriting", [False, True])
def test_an_extremely_long_image_is_rejected_before_decoding(size, is_handwriting):
    content = corpus.empty_png(*size)
    for read in (read_header, decode_image):
        with pytest.raises(ImageReadError, match="pixels"):
            read(content)
    spec = InputSpec(["a", "b"], 1, [28, 28], [0.5], [0.5], is_handwriting)
    with pytest.raises(DataError, match="pixels"):
        preprocess_image(content, spec)


@pytest.mark.parametrize("is_handwriting", [False, True])
def test_an_image_from_memory_above_the_pixel_limit_is_rejected(is_handwriting, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    spec = InputSpec(["a", "b"], 1, [28, 28], [0.5], [0.5], is_handwriting)
    with pytest.raises(DataError, match="pixels"):
        preprocess_image(Image.new("L", (101, 10)), spec)


@pytest.mark.parametrize("is_handwriting", [False, True])
def test_running_out_of_memory_concerns_one_image_only(is_handwriting, monkeypatch):
    def run_out(*arguments, **options):
        raise MemoryError

    content = corpus.encoded(corpus.random_image(1, (50, 40)))
    monkeypatch.setattr(Image.Image, "resize", run_out)
    spec = InputSpec(["a", "b"], 1, [28, 28], [0.5], [0.5], is_handwriting)
    with pytest.raises(DataError, match="memory"):
        preprocess_image(content, spec)


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(ImageReadError, match="no such file"):
        decode_image(tmp_path / "x.png")


def test_an_image_without_pixels_is_rejected():
    content = bytearray(saved(RAMP, "BMP"))
    content[18:26] = struct.pack("<ii", 0, 0)
    with pytest.raises(ImageReadError):
        decode_image(bytes(content))
