"""Attribution maps and feature maps: colors mean what the legend says, and labels are complete."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tests.helpers.figures import color_fraction, figure_texts, layout_figure
from tests.unit.plots.test_plots import Layer, heat, photo
from thalweg.plots import style
from thalweg.plots.attribution import Panel, overlay_heatmap, plot_attribution_panels
from thalweg.plots.feature_maps import colorize_maps, plot_feature_maps


def test_heat_is_yellow_at_its_maximum_and_leaves_the_image_where_it_is_0():
    heat_HW = np.zeros((4, 4))
    heat_HW[0, 0] = 0.3
    pixels = overlay_heatmap(np.full((4, 4, 3), 100, np.uint8), heat_HW)
    red, green, blue = pixels[0, 0]
    assert min(red, green) > 0.8 > blue and np.ptp(pixels[1:]) == 0
    gray = overlay_heatmap(np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4)))
    np.testing.assert_allclose(gray, pixels[1, 1, 0])


def test_a_signed_map_is_blue_where_positive_and_orange_where_negative():
    pixels = overlay_heatmap(np.full((1, 3, 1), 255, np.uint8), np.array([[1.0, -1.0, 0.0]]))
    np.testing.assert_allclose(pixels[0], [to_rgb(style.BLUE), to_rgb(style.VERMILLION), (1, 1, 1)])


def test_luminance_grows_with_heat():
    """On a gray image, luminance (ITU-R BT.709) never falls as heat grows."""
    pixels = overlay_heatmap(np.full((1, 101, 1), 60, np.uint8), np.linspace(0, 1, 101)[None])
    assert (np.diff(pixels[0] @ [0.2126, 0.7152, 0.0722])[20:] > 0).all()


def test_nan_in_a_map_gives_finite_colors():
    heat_HW = heat(8, 8)
    heat_HW[3, 3] = np.nan
    assert np.isfinite(overlay_heatmap(photo(8, 8), heat_HW)).all()
    assert np.isfinite(overlay_heatmap(photo(8, 8), np.full((8, 8), np.nan))).all()
    assert np.isfinite(colorize_maps(np.full((2, 3, 3), np.nan))).all()


def test_panels_show_titles_captions_and_predictions():
    panel = Panel("Grad-CAM", heat(), "7 x 7 map")
    texts = figure_texts(plot_attribution_panels, photo(), [panel], [("dog", 0.93), ("cat", 0.07)], "dog")
    assert {"Grad-CAM", "7 x 7 map", "dog", "93.0 %", "cat", "7.0 %"} < set(texts)
    assert len(set(texts)) == 11


def test_the_colorbar_of_a_signed_map_has_other_labels():
    unsigned = set(figure_texts(plot_attribution_panels, photo(), [Panel("a", heat())], []))
    signed = set(figure_texts(plot_attribution_panels, photo(), [Panel("a", -heat())], []))
    assert len(signed - unsigned) == len(unsigned - signed) == 2


def test_bars_are_proportional_to_probabilities_and_the_explained_label_is_darker():
    axes = layout_figure(plot_attribution_panels, photo(), [], [("dog", 0.6), ("cat", 0.3)], "cat").axes[0]
    dog, cat = axes.patches
    assert dog.get_width() == pytest.approx(2 * cat.get_width())
    assert (dog.get_facecolor()[:3], cat.get_facecolor()[:3]) == (to_rgb(style.SKY), to_rgb(style.BLUE))


def test_bidirectional_controls_in_names_are_removed():
    name = "\u202edog\u2066 \u05db\u05dc\u05d1\u2069"
    texts = figure_texts(plot_attribution_panels, photo(), [Panel(name, heat(), name)], [(name, 1.0)], name)
    assert "dog \u05db\u05dc\u05d1" in texts
    assert sum("dog \u05db\u05dc\u05d1" in text for text in texts) == 4
    assert not any("\u202e" in text or "\u2066" in text for text in texts)


def test_maps_are_white_at_0_blue_above_and_orange_below():
    maps_NHW = np.zeros((2, 6, 6))
    assert (colorize_maps(maps_NHW) == 1).all()
    maps_NHW[0] = 1
    assert color_fraction(plot_feature_maps([Layer("a", "b", 2, maps_NHW)]), style.BLUE) > 0.01
    assert color_fraction(plot_feature_maps([Layer("a", "b", 2, -maps_NHW)]), style.VERMILLION) > 0.01


def test_maps_of_a_layer_share_one_scale_and_layers_do_not():
    weak = np.full((1, 4, 4), 0.1)
    strong = np.ones((1, 4, 4))
    both = colorize_maps(np.concatenate([weak, strong]))
    assert both[0].min() > both[1].min()
    np.testing.assert_allclose(colorize_maps(weak), colorize_maps(strong))


def test_feature_maps_name_every_layer_and_its_size_and_show_up_to_16_maps():
    layer = Layer("layer1.0", "Basic", 64, np.ones((20, 7, 9)))
    texts = figure_texts(plot_feature_maps, [layer])
    assert "layer1.0  Basic" in texts and any("64" in text and "9 x 7" in text for text in texts)
    assert len(layout_figure(plot_feature_maps, [layer]).axes[0].images) == 16
