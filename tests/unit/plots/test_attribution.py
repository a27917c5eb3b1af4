"""Laws for the pictures of what a network looked at: legible, nothing cut off, colours that say what they stand for."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from tests.unit.plots.test_plots import HOSTILE, LONG, laid_out, our_style, share, texts, visible_texts
from thalweg.plots import style
from thalweg.plots.attribution import Panel, overlay_heatmap, plot_attribution_panels
from thalweg.plots.feature_maps import colorize_maps, plot_feature_maps

RANDOM = np.random.default_rng(1)


class Layer(NamedTuple):
    name: str
    kind: str
    channels: int
    maps_NHW: np.ndarray


def photo(high: int = 48, wide: int = 48, channels: int = 3) -> np.ndarray:
    return RANDOM.integers(0, 256, (high, wide, channels), dtype=np.uint8)


def heat(high: int = 48, wide: int = 48) -> np.ndarray:
    """From 0 to 1."""
    return np.linspace(0, 1, high * wide).reshape(high, wide)


def panels(count: int, high: int = 48, wide: int = 48) -> list[Panel]:
    shown = [heat(high, wide), RANDOM.normal(size=(high, wide)), photo(high, wide)]
    return [Panel(LONG[n], shown[n % 3], f"{LONG[n]}, with words enough for two lines") for n in range(count)]


def answers(names: list[str]) -> list[tuple[str, float]]:
    return list(zip(names, np.linspace(1, 0, len(names)), strict=True))


def layers(count: int, side: int = 20, maps: int = 16) -> list[Layer]:
    return [Layer(HOSTILE[n % 10], "ReLU", 64, RANDOM.normal(size=(maps, side, side))) for n in range(count)]


CASES = {
    "looked at by nothing": (plot_attribution_panels, photo(), [], answers(["dog"])),
    "looked at once": (plot_attribution_panels, photo(), panels(1), answers(["dog", "cat"]), "dog"),
    "looked at thrice": (plot_attribution_panels, photo(100, 140), panels(3, 100, 140), answers(LONG[:5]), LONG[0]),
    "looked at in two rows": (plot_attribution_panels, photo(60, 40), panels(5, 60, 40), answers(LONG[:5]), "W" * 400),
    "looked at with hostile names": (
        plot_attribution_panels,
        photo(28, 28, 1),
        [Panel(name, heat(28, 28), name) for name in HOSTILE],
        answers(HOSTILE),
        HOSTILE[0],
    ),
    "maps": (plot_feature_maps, layers(12)),
    "maps of one layer": (plot_feature_maps, layers(1, 5, 3), "W" * 400),
    "maps that are wide": (plot_feature_maps, [Layer("a", "b", 1, RANDOM.normal(size=(1, 4, 9)))]),
    "maps of nothing": (plot_feature_maps, []),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """A picture, its figure drawn anew, and what knows where things are in it."""
    function, *arguments = CASES[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = function(*arguments)
    canvas = FigureCanvasAgg(laid_out(function, *arguments))
    with our_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas.draw()
    return image, canvas.figure, canvas.get_renderer()


def test_a_picture_is_rgb_and_at_most_900_units_wide(case):
    image = case[0]
    assert image.mode == "RGB" and image.width <= style.WIDTH * style.PIXELS_PER_UNIT


def test_nothing_is_cut_off(case):
    """The outermost pixels are paper, and every text lies inside."""
    image, figure, renderer = case
    pixels = np.asarray(image)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
    for text in visible_texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= image.width and box.y1 <= image.height, text.get_text()


def test_texts_do_not_overlap(case):
    _, figure, renderer = case
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
    for n, (text, one) in enumerate(boxes):
        inner = one.padded(-1)
        assert not [other for other, box in boxes[n + 1 :] if inner.overlaps(box)], text


def test_texts_are_legible_at_1200_pixels(case):
    """At that width a unit is 4/3 of a pixel: small letters of at least 8 points are 8 pixels high."""
    assert min((text.get_fontsize() for text in visible_texts(case[1])), default=8) >= 8


def test_heat_is_yellow_where_it_is_largest_and_leaves_the_picture_where_it_is_none():
    heat_HW = np.zeros((4, 4))
    heat_HW[0, 0] = 0.3
    shown = overlay_heatmap(np.full((4, 4, 3), 100, np.uint8), heat_HW)
    red, green, blue = shown[0, 0]
    assert min(red, green) > 0.8 > blue and np.ptp(shown[1:]) == 0
    grey = overlay_heatmap(np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4)))
    np.testing.assert_allclose(grey, shown[1, 1, 0])


def test_a_map_of_both_signs_is_blue_for_and_orange_against():
    shown = overlay_heatmap(np.full((1, 3, 1), 255, np.uint8), np.array([[1.0, -1.0, 0.0]]))
    np.testing.assert_allclose(shown[0], [to_rgb(style.BLUE), to_rgb(style.VERMILLION), (1, 1, 1)])


def test_heat_grows_lighter_for_those_who_see_no_hue():
    """On a picture of one grey, luminance (ITU-R BT.709) never falls as heat grows."""
    shown = overlay_heatmap(np.full((1, 101, 1), 60, np.uint8), np.linspace(0, 1, 101)[None])
    assert (np.diff(shown[0] @ [0.2126, 0.7152, 0.0722])[20:] > 0).all()


def test_what_is_no_number_shows_nothing():
    heat_HW = heat(8, 8)
    heat_HW[3, 3] = np.nan
    assert np.isfinite(overlay_heatmap(photo(8, 8), heat_HW)).all()
    assert np.isfinite(overlay_heatmap(photo(8, 8), np.full((8, 8), np.nan))).all()
    assert np.isfinite(colorize_maps(np.full((2, 3, 3), np.nan))).all()


def test_the_sheet_says_what_it_shows():
    found = texts(
        plot_attribution_panels,
        photo(),
        [Panel("Grad-CAM", heat(), "7 x 7 map")],
        [("dog", 0.93), ("cat", 0.07)],
        "dog",
    )
    expected = {"What speaks for dog?", "The picture", "48 x 48, as the network sees it", "Grad-CAM"}
    assert expected | {"7 x 7 map", "little", "much", "dog", "93.0 %", "cat", "7.0 %"} == set(found)
    assert {"against", "for"} < set(texts(plot_attribution_panels, photo(), [Panel("a", -heat())], []))


def test_bars_are_as_long_as_the_answers_are_probable_and_the_one_in_question_is_dark():
    axes = laid_out(plot_attribution_panels, photo(), [], [("dog", 0.6), ("cat", 0.3)], "cat").axes[0]
    dog, cat = axes.patches
    assert dog.get_width() == pytest.approx(2 * cat.get_width())
    assert (dog.get_facecolor()[:3], cat.get_facecolor()[:3]) == (to_rgb(style.SKY), to_rgb(style.BLUE))


def test_a_name_cannot_turn_the_title():
    turned = "\u202edog\u2066 \u05db\u05dc\u05d1\u2069"
    found = texts(plot_attribution_panels, photo(), [Panel(turned, heat(), turned)], [(turned, 1.0)], turned)
    assert {"What speaks for dog \u05db\u05dc\u05d1?", "dog \u05db\u05dc\u05d1"} <= set(found)
    assert not any("\u202e" in text or "\u2066" in text for text in found)


def test_maps_are_white_at_zero_blue_above_and_orange_below():
    maps_NHW = np.zeros((2, 6, 6))
    assert (colorize_maps(maps_NHW) == 1).all()
    maps_NHW[0] = 1
    assert share(plot_feature_maps([Layer("a", "b", 2, maps_NHW)]), style.BLUE) > 0.01
    assert share(plot_feature_maps([Layer("a", "b", 2, -maps_NHW)]), style.VERMILLION) > 0.01


def test_maps_of_a_layer_share_one_scale_and_layers_do_not():
    weak, strong = np.full((1, 4, 4), 0.1), np.ones((1, 4, 4))
    together = colorize_maps(np.concatenate([weak, strong]))
    assert together[0].min() > together[1].min()
    np.testing.assert_allclose(colorize_maps(weak), colorize_maps(strong))


def test_the_sheet_names_every_layer_and_what_it_has():
    found = texts(plot_feature_maps, [Layer("layer1.0", "Basic", 64, np.ones((20, 7, 9)))])
    assert {"layer1.0  Basic", "64 maps of 9 x 7"} < set(found)
    assert len(laid_out(plot_feature_maps, [Layer("a", "b", 64, np.ones((20, 7, 9)))]).axes[0].images) == 16
